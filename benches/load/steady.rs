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

/// One call of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) client: Client,
    pub(crate) message: Bytes,
    /// Whether it must be allowed; else it must be denied. Only calls that are allowed are timed.
    pub(crate) good: bool,
}

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
        let turns = |seconds: u32| {
            let turns = messages.iter().cycle().cloned();
            turns.take(as_usize(RATE * seconds)).map(|message| {
                Ok(Call {
                    client: client.clone(),
                    message,
                    good: true,
                })
            })
        };
        at_rate(RATE, turns(WARM_UP_SECONDS)).await?;
        at_rate(RATE, turns(SECONDS)).await
    })?;
    if times.len() != u64::from(RATE * SECONDS) || cardea.denied()? > 0 {
        return Err("not every answer was an allow".into());
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        figure(
            &format!("grpc_warm_{name}_us"),
            micros(&times, quantile),
            "us",
        );
    }
    note(&format!("latency at {RATE} requests/s for {SECONDS} s"));
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of one call are few"
)]
pub(crate) fn micros(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

pub(crate) fn as_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Makes the calls, so many a second. The times of those that were to be allowed, in nanoseconds from when each was due.
pub(crate) async fn at_rate(
    rate: u32,
    calls: impl Iterator<Item = Result<Call>>,
) -> Result<Histogram<u64>> {
    let times = Rc::new(RefCell::new(Histogram::new_with_bounds(
        1,
        60_000_000_000,
        3,
    )?));
    let gap = Duration::from_secs(1) / rate;
    let began = SystemClock.monotonic();
    let mut under_way = Vec::new();
    for (number, call) in (0..).zip(calls) {
        let Call {
            client,
            message,
            good,
        } = call?;
        let due = began + gap * number;
        // Timers are exact to a millisecond only. Spinning takes a core, and the server has the other one.
        while SystemClock.monotonic() < due {
            yield_now().await;
        }
        let times = Rc::clone(&times);
        under_way.push(tokio::task::spawn_local(async move {
            let answer = client.call(message).await?;
            let took = SystemClock.monotonic() - due;
            if allows(&answer)? != good {
                return Err("a call was answered with the wrong verdict".into());
            }
            if good {
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                times.borrow_mut().saturating_record(nanos);
            }
            Result::Ok(())
        }));
    }
    for call in under_way {
        call.await??;
    }
    Ok(times.borrow().clone())
}
