//! Latency at a fixed rate, open loop: calls begin when they are due, however long earlier ones take, and a call's time
//! runs from when it was due. So a server that stalls is charged for everybody it kept waiting.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use cardea::model::{Clock, SystemClock};
use hdrhistogram::Histogram;
use prost::bytes::Bytes;
use tokio::task::{LocalSet, yield_now};

use crate::client::{Client, allows, runtime};
use crate::fixture::Result;
use crate::server::Cardea;
use crate::{figure, note};

/// Calls a second.
const RATE: u32 = 2_000;
const SECONDS: u32 = 10;
/// The same before it counts.
const WARM_UP_SECONDS: u32 = 2;
/// How many callers take turns.
const CALLERS: usize = 64;

/// `grpc_warm_p50_us`, `grpc_warm_p99_us`, and the tail.
pub(crate) fn latency() -> Result<()> {
    let cardea = Cardea::on_tcp()?;
    let messages: Vec<Bytes> = cardea
        .warm_checks(CALLERS)?
        .into_iter()
        .map(Bytes::from)
        .collect();
    let times = LocalSet::new().block_on(&runtime()?, async {
        let client = Client::connect(&cardea.target).await?;
        at_rate(&client, &messages, WARM_UP_SECONDS).await?;
        at_rate(&client, &messages, SECONDS).await
    })?;
    if times.len() != u64::from(RATE * SECONDS) || cardea.denied()? > 0 {
        return Err("not every answer was an allow".into());
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        #[expect(
            clippy::cast_precision_loss,
            reason = "nanoseconds of one call are few"
        )]
        let value = times.value_at_quantile(quantile) as f64 / 1000.0;
        figure(&format!("grpc_warm_{name}_us"), value, "us");
    }
    note(&format!("latency at {RATE} requests/s for {SECONDS} s"));
    Ok(())
}

/// Calls that were answered with an allow, in nanoseconds from when each was due.
async fn at_rate(client: &Client, messages: &[Bytes], seconds: u32) -> Result<Histogram<u64>> {
    let times = Rc::new(RefCell::new(Histogram::new_with_bounds(
        1,
        60_000_000_000,
        3,
    )?));
    let gap = Duration::from_secs(1) / RATE;
    let began = SystemClock.monotonic();
    let mut calls = Vec::new();
    for (number, message) in (0..RATE * seconds).zip(messages.iter().cycle()) {
        let due = began + gap * number;
        // Timers are exact to a millisecond only. Spinning takes a core, and the server has the other one.
        while SystemClock.monotonic() < due {
            yield_now().await;
        }
        let (client, message, times) = (client.clone(), message.clone(), Rc::clone(&times));
        calls.push(tokio::task::spawn_local(async move {
            let answer = client.call(message).await?;
            let took = SystemClock.monotonic() - due;
            if allows(&answer)? {
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                times.borrow_mut().saturating_record(nanos);
            }
            Result::Ok(())
        }));
    }
    for call in calls {
        call.await??;
    }
    Ok(times.borrow().clone())
}
