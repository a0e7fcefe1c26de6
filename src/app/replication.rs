//! Revocations travel: what is told here reaches other replicas, and what they were told is in force here.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::AbortHandle;

use crate::identity::{Applied, Change, Event, NotApplied, Revocations};
use crate::model::{Clock, Problem};
use crate::state::{Holder, Record, Settings, Shared, Taken, Topic};
use crate::telemetry::SharedSeen;

/// What the topic is called in the shared state.
const TOPIC: &str = "revocations";

/// How long others remember that an event was lifted. A replica that was away for longer, and kept the event in its file,
/// tells it anew.
const LIFTED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The longest id that an event is given here, in bytes: as long as any.
const MAX_ID: usize = 128;

/// Revocations on their way between replicas.
#[derive(Debug)]
pub(super) struct Replication {
    topic: Arc<Topic>,
    telling: AbortHandle,
}

impl Replication {
    /// Joins other replicas, where the settings say how, and waits a while to hear what they know: so that nobody is
    /// trusted from here who is not trusted there.
    ///
    /// # Errors
    /// Every file and secret that cannot be used.
    pub(super) fn start(
        settings: &Settings,
        revocations: &Arc<Revocations>,
        clock: &Arc<dyn Clock>,
        background: &Handle,
    ) -> Result<Option<Self>, Vec<Problem>> {
        let Some(shared) = Shared::prepare(settings, Arc::clone(clock), background)? else {
            return Ok(None);
        };
        // Before others are heard: what is told in between is not lost.
        let told = revocations.subscribe();
        let trust = Arc::new(Trust {
            revocations: Arc::clone(revocations),
            clock: Arc::clone(clock),
        });
        let topic = Arc::new(shared.join(TOPIC, trust));
        let telling = background.spawn(tell(told, Arc::clone(&topic), Arc::clone(clock)));
        if !shared.signs() {
            tracing::warn!(
                "what replicas tell one another is not signed: whoever can write to the shared state can lift revocations, unless `state.redis.secret` is set"
            );
        }
        let wait = shared.catch_up_wait();
        if !background.block_on(topic.caught_up(wait.0)) {
            tracing::warn!(
                waited = %wait,
                "what other replicas revoked is not known yet: until it is, this replica decides by what it knows"
            );
        }
        Ok(Some(Self {
            topic,
            telling: telling.abort_handle(),
        }))
    }

    /// What metrics tell of it.
    pub(super) fn seen(&self) -> impl Fn() -> Option<SharedSeen> + Send + Sync + use<> {
        let topic: Weak<Topic> = Arc::downgrade(&self.topic);
        move || {
            let figures = topic.upgrade()?.figures();
            Some(SharedSeen {
                connected: figures.connected,
                age: figures.age,
                waiting: figures.waiting,
                sent: figures.sent,
                received: figures.received,
                dropped: figures.dropped,
            })
        }
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

/// Tells others of each change made here.
async fn tell(mut told: Receiver<Change>, topic: Arc<Topic>, clock: Arc<dyn Clock>) {
    loop {
        match told.recv().await {
            Ok(Change::Revoke(event)) => topic.publish(record(&event)),
            Ok(Change::Lift { id, told_before }) => topic.publish(Record {
                key: id,
                ends: later(clock.now(), LIFTED),
                told: told_before,
                body: None,
            }),
            Err(RecvError::Lagged(missed)) => {
                tracing::error!(
                    missed,
                    "changes came too fast to be told to other replicas: everything in force is compared with theirs, and what was lifted has to be lifted there too"
                );
                topic.compare_all();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// An event as others are told of it.
fn record(event: &Event) -> Record {
    Record {
        key: event.id.clone(),
        ends: event.expires_at,
        told: event.at,
        body: serde_json::to_value(event).ok(),
    }
}

/// The event in a record.
fn event(record: &Record) -> Option<Event> {
    let event: Event = serde_json::from_value(record.body.clone()?).ok()?;
    (event.id == record.key).then_some(event)
}

/// What is no longer trusted here.
struct Trust {
    revocations: Arc<Revocations>,
    clock: Arc<dyn Clock>,
}

/// A change that is in force and waits to be written to the disk.
type Saving<'t> = Pin<Box<dyn Future<Output = Result<Applied, NotApplied>> + Send + 't>>;

impl Trust {
    /// Makes a change. What is left to do then is only to save it.
    async fn begin<'t>(&'t self, record: &Record, saving: &mut Vec<Saving<'t>>) -> Taken {
        if record.body.is_none() {
            return self.lift(record, saving).await;
        }
        let Some(event) = event(record) else {
            return Taken::Refused;
        };
        if event.expires_at <= self.clock.now() {
            return Taken::Done;
        }
        let revoked = Change::Revoke(event.clone());
        let applied = self.revocations.apply_remote(revoked);
        let taken = self.apply(Box::pin(applied), saving).await;
        let own = self.revocations.find(&event.id);
        match own {
            Some(own) if own.target != event.target => self.beside(event, saving).await,
            Some(own) if says_more(&own, &event) => Taken::KnowsMore,
            _ => taken,
        }
    }

    /// Takes back what was told before the record says. What was told since then stays, and others should hear of it.
    async fn lift<'t>(&'t self, record: &Record, saving: &mut Vec<Saving<'t>>) -> Taken {
        let lifted = Change::Lift {
            id: record.key.clone(),
            told_before: record.told,
        };
        let applied = self.revocations.apply_remote(lifted);
        let taken = self.apply(Box::pin(applied), saving).await;
        match self.revocations.find(&record.key) {
            Some(_) => Taken::KnowsMore,
            None => taken,
        }
    }

    /// Two replicas were told events of the same id about different things. Both count: the other one's under an id of its
    /// own, which every replica makes up alike.
    async fn beside<'t>(&'t self, event: Event, saving: &mut Vec<Saving<'t>>) -> Taken {
        let Ok(target) = serde_json::to_vec(&event.target) else {
            return Taken::Refused;
        };
        let digest = blake3::hash(&target).to_hex();
        let ending = format!(":{}", digest.get(..16).unwrap_or_default());
        let kept = MAX_ID.saturating_sub(ending.len());
        let id: String = event.id.chars().take(kept).chain(ending.chars()).collect();
        tracing::warn!(
            id = event.id,
            beside = id,
            "another replica was told a revocation of the same id about something else: it is in force beside"
        );
        let event = Event { id, ..event };
        self.apply(Box::pin(self.revocations.apply(event)), saving)
            .await
    }

    async fn apply<'t>(&self, mut change: Saving<'t>, saving: &mut Vec<Saving<'t>>) -> Taken {
        // It bites as soon as it is asked for the first time; the disk may take its time.
        match poll_fn(|context| Poll::Ready(change.as_mut().poll(context))).await {
            Poll::Ready(Ok(_)) => Taken::Done,
            Poll::Ready(Err(NotApplied::Full(_))) => Taken::NoRoom,
            Poll::Ready(Err(_)) => Taken::Refused,
            Poll::Pending => {
                saving.push(change);
                Taken::Done
            }
        }
    }
}

impl Holder for Trust {
    fn take(&self, records: Vec<Record>) -> Pin<Box<dyn Future<Output = Vec<Taken>> + Send + '_>> {
        Box::pin(async move {
            let mut taken = Vec::with_capacity(records.len());
            let mut saving = Vec::new();
            for record in &records {
                taken.push(self.begin(record, &mut saving).await);
            }
            for saved in saving {
                // What could not be saved is told, and tried again, by whoever keeps the file.
                let _ = saved.await;
            }
            taken
        })
    }

    fn keys(&self) -> Vec<String> {
        let events = self.revocations.snapshot().into_iter();
        events.map(|event| event.id).collect()
    }

    fn has_room(&self) -> bool {
        self.revocations.has_room()
    }

    fn more_than(&self, key: &str, shared: Option<&Record>) -> Option<Record> {
        let own = self.revocations.find(key)?;
        let more = match shared {
            Some(lifted) if lifted.body.is_none() => own.at >= lifted.told,
            _ => shared
                .and_then(event)
                .is_none_or(|told| own.target == told.target && says_more(&own, &told)),
        };
        more.then(|| record(&own))
    }
}

/// Whether an event covers more than another about the same thing, or for longer, or is lifted by less.
fn says_more(own: &Event, told: &Event) -> bool {
    own.issued_before > told.issued_before
        || own.expires_at > told.expires_at
        || own.is_liftable() && own.at > told.at
}
