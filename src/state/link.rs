//! Keeps a topic in step with others, as long as they can be reached, and tries again where not.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::connection::Place;
use super::figures::{Counts, Dropped};
use super::line::{Line, Lost, READ};
use super::outbox::Outbox;
use super::record::{Heard, Pen, Record, Written};
use super::{Holder, Taken};
use crate::model::Clock;

/// How often the server is asked whether there is more, even though nobody rang.
const BEAT: Duration = Duration::from_secs(1);

/// How many beats lie between two sweeps.
const SWEEP: u32 = 60;

/// How many beats lie between two looks whether there is room now for what found none.
const AGAIN: u32 = 10;

/// How long ended records are kept: replicas' clocks differ.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// How many own records are told at once.
const TELL: usize = 128;

/// How many times in a row that is done before others are heard again.
const ROUNDS: usize = 128;

/// How many records are compared at once.
const COMPARE: usize = 512;

/// The longest pause before some are. Each replica waits a random part of it, so that one tells what all of them know.
const COMPARE_PAUSE: Duration = Duration::from_millis(100);

/// The shortest and the longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The most records of a shared state that are read. It holds no more than replicas told.
const MOST: usize = 1_000_000;

/// What a topic's link shares with whoever uses the topic.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) outbox: Outbox,
    pub(super) counts: Counts,
    pub(super) caught_up: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
}

impl Desk {
    pub(super) fn new(waiting: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            outbox: Outbox::new(waiting),
            counts: Counts::new(Arc::clone(&clock)),
            caught_up: watch::channel(false).0,
            clock,
        }
    }
}

/// What keeps a topic in step.
pub(super) struct Link {
    place: Arc<Place>,
    pen: Pen,
    holder: Arc<dyn Holder>,
    desk: Arc<Desk>,
    /// The entry of the log that was read last.
    last: Option<String>,
    /// Keys under which we may know more than others.
    owed: HashSet<String>,
    /// Something found no room here, since everything was read last.
    no_room: bool,
    beats: u32,
}

impl Link {
    pub(super) fn new(
        place: Arc<Place>,
        pen: Pen,
        holder: Arc<dyn Holder>,
        desk: Arc<Desk>,
    ) -> Self {
        Self {
            place,
            pen,
            holder,
            desk,
            last: None,
            owed: HashSet::new(),
            no_room: false,
            beats: 0,
        }
    }

    /// Goes on for good.
    pub(super) async fn keep(mut self) {
        let mut pause = Pause::new();
        let mut told = None;
        loop {
            let Err(lost) = self.stay(&mut pause, &mut told).await;
            self.desk.counts.set_connected(false);
            // Each reason once: attempts go on for as long as the server is away.
            if told.as_ref() != Some(&lost) {
                tracing::warn!(
                    server = self.place.name(),
                    topic = self.pen.topic(),
                    reason = %lost,
                    "the shared state cannot be reached: this replica decides by what it knows"
                );
                told = Some(lost);
            }
            sleep(pause.next()).await;
        }
    }

    /// Connects and stays until that breaks.
    async fn stay(
        &mut self,
        pause: &mut Pause,
        told: &mut Option<Lost>,
    ) -> Result<Infallible, Lost> {
        let mut line = Line::connect(&self.place, &self.pen).await?;
        let away = self.desk.counts.age();
        // What others wait for first, then what we wait for.
        self.tell(&mut line).await?;
        self.hear(&mut line).await?;
        self.desk.counts.set_connected(true);
        tracing::info!(
            server = self.place.name(),
            topic = self.pen.topic(),
            away_seconds = away.as_secs(),
            "the shared state is reached: what other replicas told is known"
        );
        self.desk.caught_up.send_replace(true);
        *pause = Pause::new();
        *told = None;
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.desk.outbox.rung() => {
                    self.tell(&mut line).await?;
                    self.hear(&mut line).await?;
                }
                rung = line.rung(&self.pen, &self.desk.counts) => {
                    rung?;
                    self.hear(&mut line).await?;
                }
                _ = beat.tick() => {
                    line.ping().await?;
                    self.beats = self.beats.wrapping_add(1);
                    self.try_again();
                    self.hear(&mut line).await?;
                    self.sweep(&mut line).await?;
                }
                () = sleep(part_of(COMPARE_PAUSE)), if !self.owed.is_empty() => {
                    self.compare(&mut line).await?;
                }
            }
        }
    }

    /// Tells what is waiting.
    async fn tell(&mut self, line: &mut Line) -> Result<(), Lost> {
        if self.desk.outbox.take_compare() {
            // Reading all of it finds what others lack.
            self.last = None;
        }
        for _ in 0..ROUNDS {
            let batch = self.desk.outbox.unsent(TELL);
            let Some(last) = batch.last().map(|own| own.n) else {
                return Ok(());
            };
            let written = batch
                .iter()
                .filter_map(|own| self.write(own.n, &own.record));
            let written: Vec<_> = written.collect();
            if !written.is_empty() {
                line.tell(&written).await?;
            }
            self.desk.outbox.sent(last);
            self.desk.counts.sent(written.len());
        }
        self.desk.outbox.ring();
        Ok(())
    }

    fn write(&self, n: u64, record: &Record) -> Option<Written> {
        let written = self.pen.write(n, record);
        if written.is_none() {
            self.desk.counts.dropped(Dropped::TooLong);
            tracing::error!(
                key = record.key,
                "a record is too long to be told to other replicas"
            );
        }
        written
    }

    /// Hears everything that others have told.
    async fn hear(&mut self, line: &mut Line) -> Result<(), Lost> {
        while !self.read_on(line).await? {
            self.read_all(line).await?;
        }
        self.desk.counts.heard_all();
        Ok(())
    }

    /// Reads the log to its end; `false` where the place to go on from is not there (any more).
    async fn read_on(&mut self, line: &mut Line) -> Result<bool, Lost> {
        loop {
            let Some(last) = &self.last else {
                return Ok(false);
            };
            let mut entries = line.log_from(last).await?.into_iter();
            if entries.next().is_none_or(|first| first.id != *last) {
                self.last = None;
                return Ok(false);
            }
            let entries: Vec<_> = entries.collect();
            let Some(end) = entries.last().map(|entry| entry.id.clone()) else {
                return Ok(true);
            };
            let more = entries.len() + 1 == READ;
            let texts = entries.into_iter().filter_map(|entry| entry.text);
            self.take(texts.map(|text| self.pen.read(&text)).collect())
                .await;
            self.last = Some(end);
            if !more {
                return Ok(true);
            }
        }
    }

    /// Reads the last records of all keys, and finds a place in the log to go on from.
    async fn read_all(&mut self, line: &mut Line) -> Result<(), Lost> {
        self.no_room = false;
        // In this order: what is told meanwhile is in the log after its end.
        self.desk.outbox.settle();
        let end = line.end_of_log().await?;
        let mut missing: HashSet<String> = self.holder.keys().into_iter().collect();
        let (mut from, mut read) = (0, 0);
        loop {
            let (next, records) = line.scan(from).await?;
            read += records.len();
            let heard = records.iter().map(|(key, text)| {
                let heard = self.pen.read(text)?;
                let same = heard.record.key.as_bytes() == key;
                same.then_some(heard).ok_or(Dropped::Unreadable)
            });
            let heard: Vec<_> = heard.collect();
            for heard in heard.iter().flatten() {
                missing.remove(&heard.record.key);
            }
            self.take(heard).await;
            from = next;
            if from == 0 {
                break;
            }
            if read > MOST {
                tracing::error!(
                    most = MOST,
                    "the shared state holds more than is read of it"
                );
                break;
            }
        }
        self.owed.extend(missing);
        self.last = Some(end);
        Ok(())
    }

    /// Has the holder take what was heard.
    async fn take(&mut self, heard: Vec<Result<Heard, Dropped>>) {
        let mut records = Vec::with_capacity(heard.len());
        let mut others = 0;
        for heard in heard {
            match heard {
                Err(why) => self.desk.counts.dropped(why),
                Ok(Heard { record, own }) => {
                    match own {
                        Some(n) => self.desk.outbox.read_back(n),
                        None => others += 1,
                    }
                    if !self.desk.outbox.overrules(&record) {
                        records.push(record);
                    }
                }
            }
        }
        self.desk.counts.received(others);
        let keys: Vec<String> = records.iter().map(|record| record.key.clone()).collect();
        let taken = self.holder.take(records).await;
        for (key, taken) in keys.into_iter().zip(taken) {
            match taken {
                Taken::Done => {}
                Taken::KnowsMore => _ = self.owed.insert(key),
                Taken::Refused => self.desk.counts.dropped(Dropped::Refused),
                Taken::NoRoom => {
                    self.desk.counts.dropped(Dropped::Refused);
                    self.no_room = true;
                }
            }
        }
    }

    /// Tells some of what we may know more about than others, where that is so.
    async fn compare(&mut self, line: &mut Line) -> Result<(), Lost> {
        // In no order, and in another at each replica: so they do not all tell the same.
        let keys: Vec<String> = self.owed.iter().take(COMPARE).cloned().collect();
        let shared = line.look(&keys).await?;
        let mut written = Vec::new();
        for (key, text) in keys.iter().zip(shared) {
            let heard = text.and_then(|text| self.pen.read(&text).ok());
            let shared = heard.map(|heard| heard.record);
            let shared = shared.filter(|record| record.key == *key);
            let more = self.holder.more_than(key, shared.as_ref());
            written.extend(more.and_then(|record| self.write(0, &record)));
        }
        // Who comes second looks again.
        if line.tell_if_unchanged(&written).await? {
            self.desk.counts.sent(written.len());
            for key in &keys {
                self.owed.remove(key);
            }
        }
        Ok(())
    }

    /// Has everything read again, now and then, where something found no room before and might now.
    fn try_again(&mut self) {
        if self.no_room && self.beats.is_multiple_of(AGAIN) && self.holder.has_room() {
            self.last = None;
        }
    }

    /// Forgets what ended, now and then.
    async fn sweep(&mut self, line: &mut Line) -> Result<(), Lost> {
        if self.beats % SWEEP != 1 {
            return Ok(());
        }
        let now = self.desk.clock.now();
        let before = now.checked_sub(GRACE).unwrap_or(now).as_millisecond();
        while line.sweep(before).await? {}
        Ok(())
    }
}

/// How long to wait before the next attempt.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(PAUSES.0)
    }

    /// Twice as long each time, and each time less by a random part: replicas do not come back all at once.
    fn next(&mut self) -> Duration {
        let half = self.0 / 2;
        let pause = half.saturating_add(part_of(half));
        self.0 = self.0.saturating_mul(2).min(PAUSES.1);
        pause
    }
}

/// A random part of a time.
fn part_of(time: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random bytes, replicas are in step, which is slower and no worse.
    let _filled = aws_lc_rs::rand::fill(&mut random);
    time.saturating_mul(u32::from(u16::from_le_bytes(random))) / (u32::from(u16::MAX) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_longest() {
        let mut pause = Pause::new();
        for _ in 0..20 {
            let longest = pause.0;
            let next = pause.next();
            assert!((longest / 2..=longest).contains(&next), "{next:?}");
        }
        assert_eq!(pause.0, PAUSES.1);
    }
}
