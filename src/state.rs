//! What replicas tell one another, through a Valkey or Redis that all of them reach. Without one, each is on its own.
//!
//! A topic is a set of records by their keys: a record is there, or it was withdrawn. What a record says is its holder's
//! business, not this room's.
//!
//! ```text
//! publish ▶ outbox ▶ MULTI  log += record, now[key] = record, ends[key], ring the bell  EXEC
//!                                     │                                      │
//!             log, from where we were ◀──────────── bell, or every second ◀──┘
//!                     └─▶ holder takes them, in the order of the log
//! ```
//!
//! | in the shared state | holds | is for |
//! |---|---|---|
//! | `<prefix><topic>:log` | a stream, capped: records in the order in which they were told | who was here a moment ago |
//! | `<prefix><topic>:now` | a hash: of each key the last record, withdrawals included | who is new, or was away for long |
//! | `<prefix><topic>:ends` | a sorted set: when a record may be forgotten | sweeping |
//! | `<prefix><topic>` | a channel: a bell, without content | hearing at once |
//!
//! **Order.** The server's order counts: every replica takes the records of the log in that order, its own included, and so
//! all end with the same. The bell only says that there is something to read. Messages of a channel get lost; what was
//! missed is read at the next beat, a second later at most.
//!
//! **Nothing is missed silently.** Reading begins at the last record read, which has to be there still. Where it is not (it
//! was trimmed, the server lost its data, or failed over to one that lacked the end), the whole hash is read. What this
//! replica holds and the hash lacks is told anew; so a server that lost everything learns it from whoever is left.
//!
//! **Withdrawals stay withdrawn, and go no further.** A withdrawal says until when: what was told since then is not withdrawn,
//! in whatever order the two are heard, and is told anew where the withdrawal came last. It stays in the hash for thirty days.
//! What is told anew without anybody having asked for it takes the place of an older withdrawal only: a look and a write under
//! `WATCH` make sure. So a replica that was away cannot bring back what was withdrawn meanwhile, unless it was away for longer.
//!
//! **A replica's own word** about a key is not undone by what others told before it: while a record is on its way there,
//! other records about its key are passed over as far as it undoes them. In the log it comes after them.
//!
//! | file | does |
//! |---|---|
//! | `settings` | where the server is, and how it knows us |
//! | `record` | records as bytes, signed where the settings say so |
//! | `outbox` | own records until they are in the log, bounded |
//! | `connection`, `line` | the way there, with bounds on time and size, and what is said on it |
//! | `link` | keeps it all going: connects, reads, tells, sweeps |
//! | `figures` | what metrics tell |
//!
//! None of this is ever on the road of a request. Whoever can write to the server can tell records and withdraw them, unless
//! they are signed; what does not parse, is too long or of another version is counted and dropped.

mod connection;
mod figures;
mod line;
mod link;
mod outbox;
mod record;
mod settings;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use uuid::Uuid;

use self::connection::Place;
use self::link::{Desk, Link};
use self::record::Pen;
use crate::model::{Clock, Period, Problem};

pub use figures::Figures;
pub use record::Record;
pub use settings::{RedisSettings, Settings};

/// What is done with the records of a topic here.
pub trait Holder: Send + Sync {
    /// Makes changes that were told, in their order. Returns one answer for each. They have to bite by the time this is
    /// ready; the same may come more than once.
    fn take(&self, records: Vec<Record>) -> Pin<Box<dyn Future<Output = Vec<Taken>> + Send + '_>>;

    /// The keys of everything that is there.
    fn keys(&self) -> Vec<String>;

    /// Whether something more could be taken.
    fn has_room(&self) -> bool;

    /// What is there under a key, where that says more than others know: `shared`, or nothing at all.
    fn more_than(&self, key: &str, shared: Option<&Record>) -> Option<Record>;
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is as it says.
    Done,
    /// It is, and what is there says more than it does: others should hear of that.
    KnowsMore,
    /// It could not be taken.
    Refused,
    /// There is no room for it. It is taken once there is, and it is read again: see [`Holder::has_room`].
    NoRoom,
}

/// The way to the shared state.
#[derive(Debug)]
pub struct Shared {
    place: Arc<Place>,
    clock: Arc<dyn Clock>,
    background: Handle,
}

impl Shared {
    /// Prepares the way; `None` where the settings name no shared state. Reads files, so it belongs to the start. Nothing is
    /// connected yet: a server that cannot be reached is no reason not to start.
    ///
    /// # Errors
    /// Every file and secret that cannot be used.
    pub fn prepare(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        background: &Handle,
    ) -> Result<Option<Self>, Vec<Problem>> {
        let Some(redis) = &settings.redis else {
            return Ok(None);
        };
        Ok(Some(Self {
            place: Arc::new(Place::resolve(redis)?),
            clock,
            background: background.clone(),
        }))
    }

    /// How long the start is to wait for what others know.
    #[must_use]
    pub fn catch_up_wait(&self) -> Period {
        self.place.catch_up_wait
    }

    /// Whether what is told is signed.
    #[must_use]
    pub fn signs(&self) -> bool {
        self.place.secret.is_some()
    }

    /// Joins the others of a topic, and stays with them until the topic is dropped.
    #[must_use]
    pub fn join(&self, topic: &'static str, holder: Arc<dyn Holder>) -> Topic {
        let desk = Arc::new(Desk::new(self.place.outbox, Arc::clone(&self.clock)));
        let pen = Pen::new(
            (&self.place.prefix, topic),
            Uuid::now_v7(),
            self.place.secret,
        );
        let link = Link::new(Arc::clone(&self.place), pen, holder, Arc::clone(&desk));
        Topic {
            desk,
            task: self.background.spawn(link.keep()).abort_handle(),
        }
    }
}

/// A topic that this replica takes part in.
#[derive(Debug)]
pub struct Topic {
    desk: Arc<Desk>,
    task: AbortHandle,
}

impl Topic {
    /// Tells others. It never waits: what cannot be told at once is told once they can be reached.
    pub fn publish(&self, record: Record) {
        self.desk.outbox.put(record, &self.desk.counts);
    }

    /// Some of what was done here could not be told: everything that is there is compared with what others know.
    pub fn compare_all(&self) {
        self.desk.outbox.compare_all();
    }

    /// Waits until everything was heard that others told before; `false` where that takes longer than `limit`.
    pub async fn caught_up(&self, limit: Duration) -> bool {
        let mut caught_up = self.desk.caught_up.subscribe();
        let heard = caught_up.wait_for(|caught_up| *caught_up);
        matches!(tokio::time::timeout(limit, heard).await, Ok(Ok(_)))
    }

    /// The figures so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.desk.counts.figures(self.desk.outbox.waiting())
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.task.abort();
    }
}
