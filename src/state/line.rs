//! What is said on the way: two connections, one to ask and to tell, one to hear the bell.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{
    AsyncConnectionConfig, ErrorKind, FromRedisValue, Msg, Pipeline, RedisError, Value, cmd,
};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::connection::{Allowance, Place};
use super::figures::{Counts, Dropped};
use super::record::{Pen, Written};

/// How long one answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// How many records are read at once.
pub(super) const READ: usize = 256;

/// How many ended records are swept at once.
const SWEEP: usize = 256;

/// Why others are not reached: in words for operators, without anything the server said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing}: {why}")]
pub(super) struct Lost {
    doing: &'static str,
    why: String,
}

impl Lost {
    pub(super) fn new(doing: &'static str, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { doing, why }
    }

    fn said(doing: &'static str, error: &RedisError) -> Self {
        let code = error.code().filter(|code| is_code(code));
        let why = match (error.kind(), code) {
            (ErrorKind::AuthenticationFailed, _) => "the user name or the password is wrong".into(),
            (_, Some(code)) => format!("the server says {code}"),
            _ if error.is_timeout() => "no answer in time".into(),
            _ if error.is_io_error() => "the connection broke".into(),
            _ => "the answer cannot be understood".to_owned(),
        };
        Self { doing, why }
    }
}

/// Whether a text is a code as servers write them, such as `NOPERM`. Everything else they say stays out of the log.
fn is_code(code: &str) -> bool {
    (1..=32).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// An entry of the log: its id, and the record if there is one.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) text: Option<Vec<u8>>,
}

/// Both connections, for one topic.
pub(super) struct Line {
    names: Names,
    longest: u32,
    asking: MultiplexedConnection,
    driver: AbortHandle,
    asked: Allowance,
    hearing: PubSubSink,
    bells: PubSubStream,
    rung: Allowance,
}

/// What is called how in the shared state.
struct Names {
    log: String,
    now: String,
    ends: String,
    channel: String,
    bell: String,
}

impl Names {
    fn new(prefix: &str, pen: &Pen) -> Self {
        let topic = format!("{prefix}{}", pen.topic());
        Self {
            log: format!("{topic}:log"),
            now: format!("{topic}:now"),
            ends: format!("{topic}:ends"),
            channel: topic,
            bell: pen.bell(),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Line {
    /// Connects, and listens for the bell.
    pub(super) async fn connect(place: &Place, pen: &Pen) -> Result<Self, Lost> {
        let limit = place.connect_timeout.0;
        timeout(limit, Self::open(place, pen))
            .await
            .unwrap_or_else(|_| {
                Err(Lost::new(
                    "connect",
                    format!("it took longer than {}", place.connect_timeout),
                ))
            })
    }

    async fn open(place: &Place, pen: &Pen) -> Result<Self, Lost> {
        let login = |error: RedisError| Lost::said("log in", &error);
        let names = Names::new(&place.prefix, pen);
        let way = place.reach().await?;
        let asked = way.allowance();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let opened = MultiplexedConnection::new_with_config(&place.login, way, config).await;
        let (asking, driver) = opened.map_err(login)?;
        let driver = tokio::spawn(driver).abort_handle();
        let way = place.reach().await?;
        let rung = way.allowance();
        let hearing = PubSub::new(&place.login, way).await.map_err(login);
        let subscribed = async {
            let mut hearing = hearing?;
            let subscribed = hearing.subscribe(&names.channel).await;
            subscribed.map_err(|error| Lost::said("listen", &error))?;
            Ok(hearing.split())
        };
        match subscribed.await {
            Err(lost) => {
                driver.abort();
                Err(lost)
            }
            Ok((hearing, bells)) => Ok(Self {
                names,
                longest: place.stream_length,
                asking,
                driver,
                asked,
                hearing,
                bells,
                rung,
            }),
        }
    }

    /// Waits until somebody else rings the bell.
    pub(super) async fn rung(&mut self, pen: &Pen, counts: &Counts) -> Result<(), Lost> {
        loop {
            let Some(message) = self.bells.next().await else {
                return Err(Lost::new("listen", "the connection broke"));
            };
            let mut others = judge(&message, pen, counts);
            // Many rings are one.
            while let Some(message) = self.waiting().await {
                others |= judge(&message, pen, counts);
            }
            self.rung.renew();
            if others {
                return Ok(());
            }
        }
    }

    /// The next message, if it is there already.
    async fn waiting(&mut self) -> Option<Msg> {
        poll_fn(
            |context| match Pin::new(&mut self.bells).poll_next(context) {
                Poll::Ready(message) => Poll::Ready(message),
                Poll::Pending => Poll::Ready(None),
            },
        )
        .await
    }

    /// Makes sure that the connection that hears the bell is alive. The other one is asked all the time.
    pub(super) async fn ping(&mut self) -> Result<(), Lost> {
        self.rung.renew();
        match timeout(ANSWER, self.hearing.ping::<Value>()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Lost::said("listen", &error)),
            Err(_) => Err(Lost::new("listen", "no answer in time")),
        }
    }

    /// Puts records into the log, and rings.
    pub(super) async fn tell(&mut self, records: &[Written]) -> Result<(), Lost> {
        let told = self.telling(records);
        self.ask("tell others", &told).await
    }

    /// The same, unless the records that [`Line::look`] found have changed since. Returns whether they were told.
    pub(super) async fn tell_if_unchanged(&mut self, records: &[Written]) -> Result<bool, Lost> {
        if records.is_empty() {
            let () = self.ask_one("look", cmd("UNWATCH")).await?;
            return Ok(true);
        }
        let told = self.telling(records);
        let told: Option<Vec<Value>> = self.ask("tell others", &told).await?;
        Ok(told.is_some())
    }

    fn telling(&self, records: &[Written]) -> Pipeline {
        let mut told = redis::pipe();
        told.atomic();
        let Names {
            log,
            now,
            ends,
            channel,
            bell,
        } = &self.names;
        for Written {
            key,
            ends: end,
            text,
        } in records
        {
            let added = told.cmd("XADD").arg(log).arg("MAXLEN").arg("~");
            added.arg(self.longest).arg("*").arg("record").arg(text);
            told.cmd("HSET").arg(now).arg(key).arg(text);
            told.cmd("ZADD").arg(ends).arg(*end).arg(key);
        }
        told.cmd("PUBLISH").arg(channel).arg(bell);
        told
    }

    /// The last records of these keys. What is told next by [`Line::tell_if_unchanged`] is told only if no record changed
    /// in between.
    pub(super) async fn look(&mut self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Lost> {
        let mut watch = cmd("WATCH");
        watch.arg(&self.names.now);
        let () = self.ask_one("look", watch).await?;
        let mut look = cmd("HMGET");
        look.arg(&self.names.now).arg(keys);
        self.ask_one("look", look).await
    }

    /// The entries of the log from one id on, which is among them if it is still there.
    pub(super) async fn log_from(&mut self, id: &str) -> Result<Vec<Entry>, Lost> {
        let mut read = cmd("XRANGE");
        read.arg(&self.names.log).arg(id).arg("+");
        read.arg("COUNT").arg(READ);
        self.entries(read).await
    }

    /// The id of the last entry of the log. Where there is none, one is made, which says nothing: so there is always a place
    /// to go on from.
    pub(super) async fn end_of_log(&mut self) -> Result<String, Lost> {
        let mut last = cmd("XREVRANGE");
        last.arg(&self.names.log).arg("+").arg("-");
        last.arg("COUNT").arg(1);
        if let Some(entry) = self.entries(last).await?.pop() {
            return Ok(entry.id);
        }
        let mut mark = cmd("XADD");
        mark.arg(&self.names.log).arg("*").arg("mark").arg(1);
        self.ask_one("read", mark).await
    }

    async fn entries(&mut self, read: redis::Cmd) -> Result<Vec<Entry>, Lost> {
        type Fields = Vec<(Vec<u8>, Vec<u8>)>;
        let entries: Vec<(String, Fields)> = self.ask_one("read", read).await?;
        let entry = |(id, fields): (String, Fields)| {
            let mut fields = fields.into_iter();
            let record = fields.find(|(name, _)| name != b"mark");
            Entry {
                id,
                // Another name than `record` is no record of ours, and is read and dropped like one.
                text: record.map(|(name, text)| if name == b"record" { text } else { name }),
            }
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    /// Some of the last records of all keys, with their keys, and where to go on: 0 where that was all.
    pub(super) async fn scan(&mut self, from: u64) -> Result<(u64, Vec<(Vec<u8>, Vec<u8>)>), Lost> {
        let mut scan = cmd("HSCAN");
        scan.arg(&self.names.now).arg(from).arg("COUNT").arg(READ);
        self.ask_one("read", scan).await
    }

    /// Forgets records that ended before a time, in milliseconds since 1970. Returns whether there may be more.
    pub(super) async fn sweep(&mut self, before: i64) -> Result<bool, Lost> {
        let mut watch = cmd("WATCH");
        watch.arg(&self.names.now);
        let () = self.ask_one("sweep", watch).await?;
        let mut ended = cmd("ZRANGEBYSCORE");
        ended.arg(&self.names.ends).arg("-inf").arg(before);
        ended.arg("LIMIT").arg(0).arg(SWEEP);
        let ended: Vec<Vec<u8>> = self.ask_one("sweep", ended).await?;
        if ended.is_empty() {
            let () = self.ask_one("sweep", cmd("UNWATCH")).await?;
            return Ok(false);
        }
        let mut swept = redis::pipe();
        swept.atomic();
        swept.cmd("HDEL").arg(&self.names.now).arg(&ended);
        swept.cmd("ZREM").arg(&self.names.ends).arg(&ended);
        let swept: Option<Vec<Value>> = self.ask("sweep", &swept).await?;
        Ok(swept.is_some() && ended.len() == SWEEP)
    }

    async fn ask_one<T: FromRedisValue>(
        &mut self,
        doing: &'static str,
        question: redis::Cmd,
    ) -> Result<T, Lost> {
        self.asked.renew();
        let answer = question.query_async(&mut self.asking).await;
        answer.map_err(|error| Lost::said(doing, &error))
    }

    async fn ask<T: FromRedisValue>(
        &mut self,
        doing: &'static str,
        questions: &Pipeline,
    ) -> Result<T, Lost> {
        self.asked.renew();
        let answer = questions.query_async(&mut self.asking).await;
        answer.map_err(|error| Lost::said(doing, &error))
    }
}

/// Whether somebody else rings.
fn judge(message: &Msg, pen: &Pen, counts: &Counts) -> bool {
    let heard = pen.hears(message.get_payload_bytes());
    if heard.is_none() {
        counts.dropped(Dropped::Unreadable);
    }
    heard.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_stays_out_of_the_log() {
        let error = redis::make_extension_error("NOPERM".into(), Some("canary".into()));
        let text = Lost::said("read", &error).to_string();
        assert_eq!(text, "cannot read: the server says NOPERM");
        for code in ["canary", "CANARY\n", "", &"A".repeat(33)] {
            let error = redis::make_extension_error(code.to_owned(), Some("canary".into()));
            let text = Lost::said("read", &error).to_string();
            assert_eq!(text, "cannot read: the answer cannot be understood");
        }
    }
}
