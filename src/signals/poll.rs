//! Fetching events (RFC 8936): ask, take, and say with the next question what was taken.
//!
//! An event is acknowledged once it is in force and saved; one that is refused is named with why; one that should be sent
//! again is not named at all. Whatever answers is taken for hostile: bounded in time, size and number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use url::Url;

use super::backoff::{Backoff, spread};
use super::receiver::{Refused, Taken, Transmitter};
use super::settings::PollSettings;
use crate::identity::NoAnswer;
use crate::model::{json, remote_url};

/// The longest event, in bytes.
const LONGEST_EVENT: usize = 64 * 1024;

/// The longest answer, in bytes.
const LONGEST: usize = 8 * 1024 * 1024;

/// The pause after an empty answer where the transmitter may hold its answers back: it should have done so.
const LONG_POLL_PAUSE: Duration = Duration::from_secs(1);

/// How asking went.
#[derive(Debug, Default)]
pub(super) struct Polls {
    last: Mutex<Option<Instant>>,
    failures: AtomicU64,
}

impl Polls {
    pub(super) fn figures(&self) -> (Option<Instant>, u64) {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last, self.failures.load(Ordering::Relaxed))
    }

    fn note(&self, outcome: Result<Instant, ()>) {
        match outcome {
            Ok(now) => {
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            }
            Err(()) => _ = self.failures.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// What the next question says of events that came with earlier answers.
#[derive(Debug, Default)]
struct Said {
    acknowledged: Vec<String>,
    refused: BTreeMap<String, Refused>,
}

/// What an answer holds.
#[derive(Debug, PartialEq)]
struct Told {
    sets: Map<String, Value>,
    more: bool,
}

/// Asks again and again, until it is aborted.
pub(super) async fn keep_polling(transmitter: Arc<Transmitter>, settings: PollSettings) {
    let Some(url) = remote_url(&settings.url) else {
        return;
    };
    let mut backoff = Backoff::new(Duration::from_secs(60));
    let mut said = Said::default();
    let mut failing = false;
    loop {
        let asked = ask(&transmitter, (&settings, &url), &said).await;
        let now = transmitter.now().1;
        transmitter
            .polls()
            .note(asked.as_ref().map(|_| now).map_err(|_| ()));
        let pause = match asked {
            Ok(told) => {
                backoff.reset();
                if std::mem::replace(&mut failing, false) {
                    tracing::info!(
                        transmitter = transmitter.name(),
                        "security events are fetched again"
                    );
                }
                let at_once = match told {
                    Some(told) => heard(&transmitter, told, (&settings, &mut said)).await,
                    // Nobody knows whether it heard what was said: it is said again.
                    None => false,
                };
                if at_once {
                    Duration::ZERO
                } else {
                    spread(rest(&settings))
                }
            }
            Err(why) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(transmitter = transmitter.name(), error = %why, "security events cannot be fetched");
                }
                backoff.next()
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Takes what an answer holds, and notes what to say of it. Whether to ask again at once: what was taken is to be said, and
/// what is left fetched; but not for ever in a circle.
async fn heard(
    transmitter: &Arc<Transmitter>,
    told: Told,
    (settings, said): (&PollSettings, &mut Said),
) -> bool {
    let more = told.more;
    let news = take(transmitter, told.sets, usize::from(settings.max_events)).await;
    let at_once = news.fresh && (more || !news.said.is_empty());
    *said = news.said;
    at_once
}

fn rest(settings: &PollSettings) -> Duration {
    let usual = settings.interval.0;
    if settings.long_poll {
        usual.min(LONG_POLL_PAUSE)
    } else {
        usual
    }
}

impl Said {
    fn is_empty(&self) -> bool {
        self.acknowledged.is_empty() && self.refused.is_empty()
    }

    fn question(&self, settings: &PollSettings) -> Value {
        let mut question = Map::new();
        question.insert("maxEvents".into(), settings.max_events.into());
        question.insert("returnImmediately".into(), (!settings.long_poll).into());
        if !self.acknowledged.is_empty() {
            question.insert("ack".into(), self.acknowledged.clone().into());
        }
        if !self.refused.is_empty() {
            let refused = self.refused.iter().map(|(jti, refused)| {
                let why = json!({ "err": refused.code, "description": refused.description });
                (jti.clone(), why)
            });
            let refused: Map<_, _> = refused.collect();
            question.insert("setErrs".into(), refused.into());
        }
        question.into()
    }
}

/// What it answers; `None` where it held its answer back until it was no longer waited for.
async fn ask(
    transmitter: &Transmitter,
    (settings, url): (&PollSettings, &Url),
    said: &Said,
) -> Result<Option<Told>, String> {
    let limits = (settings.timeout.0, LONGEST);
    let question = said.question(settings);
    let answer = match transmitter.ask(url, &question, limits).await {
        Ok(answer) => answer,
        // It may hold its answer back for longer than it is waited for.
        Err(NoAnswer::Silent(_)) if settings.long_poll => return Ok(None),
        Err(why) => return Err(why.to_string()),
    };
    if answer.status != 200 {
        return Err(format!(
            "the question for events is answered with status {}",
            answer.status
        ));
    }
    let told = read(&answer.body);
    told.map(Some)
        .map_err(|why| format!("the answer to the question for events {why}"))
}

fn read(body: &[u8]) -> Result<Told, String> {
    let mut members =
        json::parse_object(body).map_err(|error| format!("is not usable: {error}"))?;
    let more = match members.get("moreAvailable") {
        None => false,
        Some(Value::Bool(more)) => *more,
        Some(_) => return Err("holds a `moreAvailable` that is no boolean".to_owned()),
    };
    match members.remove("sets") {
        Some(Value::Object(sets)) => Ok(Told { sets, more }),
        _ => Err("holds no object `sets`".to_owned()),
    }
}

/// What came of one answer.
#[derive(Debug, Default)]
struct News {
    said: Said,
    /// Whether anything in it was not known before.
    fresh: bool,
}

/// Takes the events of an answer, all at a time, so that they are written down together. Those beyond the number that was
/// asked for come again: nothing is said of them.
async fn take(transmitter: &Arc<Transmitter>, sets: Map<String, Value>, most: usize) -> News {
    let before = transmitter.fresh();
    let mut under_way = JoinSet::new();
    for (jti, set) in sets.into_iter().take(most) {
        let transmitter = Arc::clone(transmitter);
        under_way.spawn(async move {
            let taken = match set.as_str() {
                Some(text) if text.len() <= LONGEST_EVENT => {
                    transmitter.take(text.as_bytes(), Some(&jti)).await
                }
                Some(_) => transmitter.malformed("is longer than 64 KiB"),
                None => transmitter.malformed("is no text"),
            };
            (jti, taken)
        });
    }
    let mut news = News::default();
    while let Some(ended) = under_way.join_next().await {
        // One that panicked is not acknowledged, and comes again.
        let Ok((jti, taken)) = ended else {
            continue;
        };
        match taken {
            Taken::Done => news.said.acknowledged.push(jti),
            Taken::Refused(refused) => _ = news.said.refused.insert(jti, refused),
            Taken::Later => {}
        }
    }
    news.fresh = transmitter.fresh() != before;
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_what_was_taken_and_what_was_refused() {
        let settings = PollSettings::default();
        let nothing = Said::default();
        assert_eq!(
            nothing.question(&settings),
            json!({ "maxEvents": 100, "returnImmediately": true })
        );
        let code = "invalid_audience";
        let description = "is for somebody else";
        let said = Said {
            acknowledged: vec!["1".into(), "2".into()],
            refused: [("3".to_owned(), Refused { code, description })].into(),
        };
        let long = PollSettings {
            long_poll: true,
            ..PollSettings::default()
        };
        assert_eq!(
            said.question(&long),
            json!({
                "maxEvents": 100,
                "returnImmediately": false,
                "ack": ["1", "2"],
                "setErrs": { "3": { "err": code, "description": description } },
            })
        );
    }

    #[test]
    fn an_answer_has_one_reading_or_none() {
        let told = read(br#"{"sets":{"1":"a.b.c"},"moreAvailable":true,"x":1}"#).unwrap();
        assert_eq!((told.sets.len(), told.more), (1, true));
        assert_eq!(read(br#"{"sets":{}}"#).unwrap().sets.len(), 0);
        for bad in [
            "",
            "[]",
            "{}",
            "<html>",
            r#"{"sets":[]}"#,
            r#"{"sets":null}"#,
            r#"{"sets":{},"moreAvailable":"no"}"#,
            r#"{"sets":{"1":"a","1":"b"}}"#,
            r#"{"sets":{},"sets":{}}"#,
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_transmitter_that_does_not_hold_its_answers_back_is_not_asked_without_end() {
        let plain = PollSettings::default();
        assert_eq!(rest(&plain), Duration::from_secs(5));
        let long = PollSettings {
            long_poll: true,
            ..plain
        };
        assert_eq!(rest(&long), Duration::from_secs(1));
    }
}
