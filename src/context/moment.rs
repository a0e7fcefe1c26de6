//! When: the instant, and what the clock on the wall shows in the configured time zone.

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use crate::model::{Arrival, Moment, Problem, shown};

/// The time zone whose wall clock counts.
#[derive(Debug)]
pub(super) struct Zone(TimeZone);

impl Zone {
    pub(super) fn new(name: &str) -> Result<Self, Problem> {
        TimeZone::get(name).map(Self).map_err(|_| {
            let name = shown(name, 64);
            Problem::new(format!("time zone `{name}` is not known"))
                .hint("name it as IANA does, such as `Europe/Berlin` or `UTC`")
        })
    }

    /// The moment of arrival. On the day a clock is set forward or back the local time jumps or repeats with it: it is
    /// what the wall clock shows, not what has passed since midnight.
    pub(super) fn moment(&self, arrival: &Arrival) -> Moment {
        let local = self.0.to_datetime(arrival.at);
        let time = local.time();
        let seconds = i64::from(time.hour()) * 3600
            + i64::from(time.minute()) * 60
            + i64::from(time.second());
        Moment {
            now: arrival.at,
            local_time: SignedDuration::new(seconds, time.subsec_nanosecond()),
            weekday: i64::from(local.weekday().to_monday_one_offset()),
        }
    }
}
