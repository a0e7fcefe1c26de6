//! How long trust outlives the event that takes it back: from the instant the event is sent to the arrival of the last
//! allow, for a caller who asks as fast as the server answers.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cardea::model::{Clock, SystemClock};
use prost::bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use crate::client::{Client, allows, framed, runtime};
use crate::fixture::{ADMIN_TOKEN, ISSUER, Key, Result, World};
use crate::redis::Redis;
use crate::server::Cardea;
use crate::{figure, median, note};

/// How many callers lose their trust, one after the other.
const SUBJECTS: u32 = 50;
/// Calls in flight of the one who asks.
const STREAMS: u32 = 8;
/// How long they ask before the event.
const BEFORE: Duration = Duration::from_millis(50);
/// How long they go on once one call was denied, so that an allow behind it would be seen.
const AFTER: Duration = Duration::from_millis(100);
/// How long an event may take to be felt at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// `revocation_last_allow_ms`: told and asked in one process.
pub(crate) fn local() -> Result<()> {
    let cardea = Cardea::with(|settings| keeps_revocations(settings, "revoked.jsonl"))?;
    let all = last_allows(&cardea, &cardea)?;
    tell("revocation_last_allow_ms", all);
    Ok(())
}

/// `revocation_two_process_ms`: told to one process, asked at another; what they share is Redis.
pub(crate) fn two_processes(redis: Option<&Path>) -> Result<()> {
    let redis = Redis::start(redis)?;
    let world = Rc::new(World::new(100)?);
    let start = |file: &str| {
        Cardea::within(&world, |settings| {
            keeps_revocations(settings, file);
            let url = format!("redis://127.0.0.1:{}", redis.port);
            settings["state"]["redis"]["url"] = json!(url);
        })
    };
    let (told, asked) = (start("told.jsonl")?, start("asked.jsonl")?);
    let all = last_allows(&told, &asked)?;
    let heard = asked.counted("cardea_revocations_total", "source=\"peer\"")?;
    if heard != u64::from(SUBJECTS) + 1 {
        return Err(format!("{heard} of {SUBJECTS} events and one were heard").into());
    }
    tell("revocation_two_process_ms", all);
    Ok(())
}

/// As in production: events are on the disk before they are answered.
fn keeps_revocations(settings: &mut Value, file: &str) {
    let token = settings["admin"]["token"]["file"].as_str();
    let file = token.map(|token| Path::new(token).with_file_name(file));
    settings["identity"]["revocation"]["file"] = json!(file);
}

/// The worst counts; the middle one is for people.
fn tell(name: &str, all: Vec<f64>) {
    let worst = all.iter().copied().fold(f64::NAN, f64::max);
    figure(name, worst, "ms");
    note(&format!(
        "{name}: the worst of {SUBJECTS}; the median is {:.3} ms",
        median(all)
    ));
}

/// For each subject, how long after its event was sent to `told` the last allow came from `asked`, in milliseconds.
fn last_allows(told: &Cardea, asked: &Cardea) -> Result<Vec<f64>> {
    let revoked = || asked.counted("cardea_credential_faults_total", "fault=\"revoked\"");
    let mut denials = 0;
    let all = LocalSet::new().block_on(&runtime()?, async {
        let client = Client::connect(&asked.target).await?;
        // What is done once only (connections, the first event) is done for one who does not count.
        one(told, asked, (&client, "first")).await?;
        denials = revoked()?;
        let mut all = Vec::new();
        let mut seen = 0;
        for number in 0..SUBJECTS {
            let loser = format!("loser-{number}");
            let (last_allow, denied) = one(told, asked, (&client, &loser)).await?;
            all.push(last_allow.as_secs_f64() * 1000.0);
            seen += denied;
        }
        denials = revoked()? - denials;
        if denials != seen {
            return Err(format!("of {seen} denials, {denials} were for a revocation").into());
        }
        Result::Ok(all)
    })?;
    Ok(all)
}

/// What somebody who asks all the time hears.
#[derive(Debug, Default)]
struct Heard {
    allows: Cell<u64>,
    denials: Cell<u64>,
    last_allow: Cell<Option<Instant>>,
    over: Cell<bool>,
}

impl Heard {
    fn note(&self, allowed: bool) {
        if allowed {
            self.allows.set(self.allows.get() + 1);
            self.last_allow.set(Some(SystemClock.monotonic()));
        } else {
            self.denials.set(self.denials.get() + 1);
        }
    }
}

/// One subject: allowed, revoked, denied. From sending the event to the last allow, and how many calls were denied.
async fn one(
    told: &Cardea,
    asked: &Cardea,
    (client, subject): (&Client, &str),
) -> Result<(Duration, u64)> {
    let token = asked.world.token(Key::Es256, subject)?;
    let message = Bytes::from(framed(&asked.world.check(Some(&token))));
    let heard = Rc::new(Heard::default());
    let asking: Vec<_> = (0..STREAMS)
        .map(|_| {
            let (client, message, heard) = (client.clone(), message.clone(), Rc::clone(&heard));
            spawn_local(async move {
                while !heard.over.get() {
                    heard.note(allows(&client.call(message.clone()).await?)?);
                }
                Result::Ok(())
            })
        })
        .collect();
    sleep(BEFORE).await;
    if heard.allows.get() == 0 || heard.denials.get() > 0 {
        return Err("the caller was not trusted before the event".into());
    }
    let mut admin = TcpStream::connect(("127.0.0.1", told.admin)).await?;
    admin.set_nodelay(true)?;
    let call = event(subject);
    let sent = SystemClock.monotonic();
    admin.write_all(call.as_bytes()).await?;
    let mut answer = String::new();
    admin.read_to_string(&mut answer).await?;
    if !answer.starts_with("HTTP/1.1 200 ") || !answer.contains("\"saved\":\"yes\"") {
        return Err(format!("the event was not taken: {answer}").into());
    }
    while heard.denials.get() == 0 {
        if sent.elapsed() > PATIENCE {
            return Err("the event was never felt".into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    sleep(AFTER).await;
    heard.over.set(true);
    for task in asking {
        task.await??;
    }
    let last_allow = heard.last_allow.get().ok_or("there was no allow")?;
    if last_allow.elapsed() < AFTER / 2 {
        return Err("the caller was trusted again behind the event".into());
    }
    Ok((
        last_allow.saturating_duration_since(sent),
        heard.denials.get(),
    ))
}

/// The call that takes trust from a subject.
fn event(subject: &str) -> String {
    let target = json!({ "subject": { "issuer": ISSUER, "subject": subject } });
    let body = json!({ "target": target }).to_string();
    format!(
        "POST /revocations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
