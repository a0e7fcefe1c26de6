//! Who writes revocations down and forgets the expired ones, on the background runtime.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::Revocations;
use super::journal::{Change, Journal};

/// How many changes may wait to be written. Whoever brings more waits.
pub(super) const QUEUE: usize = 1024;

/// How many changes are written, and synced, at once.
const BATCH: usize = 256;

/// How often what has expired is forgotten, and a file that could not be written is tried again.
const ROUND: Duration = Duration::from_secs(10);

/// Something to be written down.
#[derive(Debug)]
pub(super) struct Order {
    /// The change; `None` only asks whether everything before is safe.
    pub(super) change: Option<Change>,
    /// Hears whether it is on the disk.
    pub(super) done: oneshot::Sender<bool>,
}

/// Writes until nobody has the table any more.
pub(super) async fn keep(
    table: Weak<Revocations>,
    mut orders: mpsc::Receiver<Order>,
    journal: Option<Journal>,
) {
    let keeper = Keeper {
        table,
        journal: journal.map(|journal| Arc::new(Mutex::new(journal))),
    };
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            taken = orders.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    return;
                }
                keeper.write(std::mem::take(&mut batch)).await;
            }
            _ = rounds.tick() => {
                let Some(table) = keeper.table.upgrade() else { return };
                table.sweep();
                if table.unsaved() {
                    keeper.write(Vec::new()).await;
                }
            }
        }
    }
}

struct Keeper {
    table: Weak<Revocations>,
    journal: Option<Arc<Mutex<Journal>>>,
}

impl Keeper {
    async fn write(&self, batch: Vec<Order>) {
        let (changes, waiting): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|order| (order.change, order.done))
            .unzip();
        let changes = changes.into_iter().flatten().collect();
        let saved = self.save(changes).await;
        for done in waiting {
            // Whoever asked may have gone away.
            let _ = done.send(saved);
        }
    }

    async fn save(&self, changes: Vec<Change>) -> bool {
        let Some(journal) = self.journal.clone() else {
            return false;
        };
        let table = self.table.upgrade();
        let told = table.as_ref().map(|table| Missing {
            table: Arc::clone(table),
            anew: table.unsaved(),
            events: table.missing(),
        });
        let work = move || write(&journal, &changes, told.as_ref());
        let outcome = match tokio::task::spawn_blocking(work).await {
            Ok(written) => written,
            Err(_) => Err(std::io::Error::other("the write did not end")),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "revocations are in force and not saved: a restart would forget them");
            if let Some(table) = table {
                table.note_unsaved();
            }
        }
        outcome.is_ok()
    }
}

/// What the file has to be written anew from, and whether it has to be.
struct Missing {
    table: Arc<Revocations>,
    anew: bool,
    events: u64,
}

/// Appends, or writes the file anew where something is missing in it, it is large, or appending fails. Where nobody has the
/// table any more, what was ordered before is still written.
fn write(
    journal: &Mutex<Journal>,
    changes: &[Change],
    told: Option<&Missing>,
) -> std::io::Result<()> {
    let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(told) = told else {
        return journal.append(changes);
    };
    let table = &told.table;
    if !told.anew && journal.append(changes).is_ok() && !journal.is_large(table.len()) {
        return Ok(());
    }
    // Each change was made before it was ordered to be written, so the table holds them all.
    let entries = table.entries();
    journal.rewrite(entries.iter().map(|entry| &entry.event))?;
    table.note_mended(told.events);
    Ok(())
}
