//! What the gRPC call itself says: when it came, how long its caller waits, which span it belongs to.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

use crate::model::{Arrival, Clock, TraceParent};

/// The longest `tracestate` that is carried on. Longer ones are dropped (Trace Context, section 3.3.1.5, asks for at
/// least 512).
const MAX_TRACE_STATE: usize = 512;

/// One gRPC call.
#[derive(Debug, Clone)]
pub struct Call {
    at: Timestamp,
    started: Instant,
    timeout: Option<Duration>,
    trace_parent: Option<TraceParent>,
}

impl Call {
    /// Reads a call's metadata. Unlike the headers of the request it asks about, these are Envoy's own words.
    #[must_use]
    pub fn read(metadata: &HeaderMap, clock: &dyn Clock) -> Self {
        let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
        let parent = Some("traceparent").filter(|name| occurs_once(metadata, name));
        Self {
            at: clock.now(),
            started: clock.monotonic(),
            timeout: text("grpc-timeout").and_then(grpc_timeout),
            trace_parent: trace_parent(parent.and_then(text), trace_state(metadata).as_deref()),
        }
    }

    /// How long the caller waits, if it says so.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The circumstances as far as the call tells them: not yet whether the caller behind Envoy speaks gRPC.
    #[must_use]
    pub fn arrival(self) -> Arrival {
        Arrival {
            at: self.at,
            started: self.started,
            deadline: self.timeout.and_then(|wait| self.started.checked_add(wait)),
            trace_parent: self.trace_parent,
            grpc: false,
        }
    }
}

fn occurs_once(metadata: &HeaderMap, name: &str) -> bool {
    metadata.get_all(name).iter().nth(1).is_none()
}

/// `tracestate` may be split over several fields (Trace Context, section 3.3.1).
fn trace_state(metadata: &HeaderMap) -> Option<String> {
    let mut values = metadata.get_all("tracestate").iter();
    let first = values.next()?;
    let mut state = plain(first)?.to_owned();
    for value in values {
        state.push(',');
        state.push_str(plain(value)?);
    }
    Some(state)
}

fn plain(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// A parent span from its two header values.
pub(super) fn trace_parent(parent: Option<&str>, state: Option<&str>) -> Option<TraceParent> {
    let visible = |b: u8| (0x20..0x7f).contains(&b);
    let state = state
        .filter(|state| state.len() <= MAX_TRACE_STATE && state.bytes().all(visible))
        .unwrap_or_default();
    TraceParent::parse(parent?, state)
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.strip_suffix(unit)?;
    let valid = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let amount: u64 = valid.then(|| digits.parse().ok())??;
    match unit {
        'H' => Some(Duration::from_secs(amount * 3600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::model::ManualClock;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn call(metadata: &[(&'static str, &'static str)]) -> Arrival {
        let mut map = HeaderMap::new();
        for (name, value) in metadata {
            map.append(*name, HeaderValue::from_static(value));
        }
        Call::read(&map, &ManualClock::at(Timestamp::UNIX_EPOCH)).arrival()
    }

    #[test]
    fn every_unit_of_grpc_timeout_is_read() {
        for (text, wait) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(grpc_timeout(text), Some(wait), "{text}");
        }
        for text in [
            "",
            "m",
            "1",
            "123456789m",
            "-1m",
            "+1m",
            "1s",
            "1.5S",
            "1 S",
            "1\u{e9}",
        ] {
            assert_eq!(grpc_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn the_deadline_is_measured_on_the_monotonic_clock() {
        let arrival = call(&[("grpc-timeout", "250m")]);
        assert_eq!(
            arrival.deadline.unwrap() - arrival.started,
            Duration::from_millis(250)
        );
        assert_eq!(call(&[]).deadline, None);
    }

    #[test]
    fn the_parent_span_is_the_calls_own_even_with_an_empty_trace_state() {
        let parent = call(&[("traceparent", PARENT), ("tracestate", "")]).trace_parent;
        assert_eq!(parent.unwrap().state, "");
        let parent = call(&[
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
        ]);
        assert_eq!(parent.trace_parent.unwrap().state, "a=1,b=2");
        assert_eq!(call(&[("traceparent", "nonsense")]).trace_parent, None);
        let twice = call(&[("traceparent", PARENT), ("traceparent", PARENT)]);
        assert_eq!(twice.trace_parent, None);
    }

    #[test]
    fn a_trace_state_that_is_too_long_is_dropped_and_the_parent_kept() {
        let parent = trace_parent(Some(PARENT), Some(&"x".repeat(513))).unwrap();
        assert_eq!(parent.state, "");
    }
}
