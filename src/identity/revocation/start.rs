//! How revocations begin: what a file says is in force again, before anything is checked.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, RwLock};

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};

use super::super::settings::Settings;
use super::journal::{self, Change, Journal};
use super::request::Lives;
use super::table::{NotInserted, Table};
use super::{BEHIND, Counts, Revocations, keeper};
use crate::model::{Clock, Problem};

/// What is done with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::identity) enum Access {
    /// It is this process's: read at start, then written.
    Own,
    /// It is only read, and may be another process's.
    Read,
}

impl Revocations {
    /// Reads the file, if there is one, and starts to keep it on the `background` runtime. Blocks, so it belongs to the start.
    ///
    /// # Errors
    /// A file that cannot be read in full, written, or is another process's; and more events than there may be.
    pub(in crate::identity) fn start(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        background: &Handle,
        access: Access,
    ) -> Result<Arc<Self>, Problem> {
        let most = usize::try_from(settings.revocation.entries).unwrap_or(usize::MAX);
        let mut table = Table::new(most);
        let file = settings.revocation.file.as_deref();
        let own = file.filter(|_| access == Access::Own);
        let mut journal = own.map(Journal::open).transpose()?;
        if let Some(path) = file {
            replay(&mut table, path, clock.now())?;
        } else if access == Access::Own {
            tracing::warn!(
                "revocations are kept in memory only: a restart forgets them, unless `identity.revocation.file` is set"
            );
        }
        if let Some(journal) = &mut journal {
            let entries = table.entries();
            let written = journal.rewrite(entries.iter().map(|entry| &entry.event));
            written.map_err(|error| {
                let problem = Problem::new(format!("the revocations cannot be written: {error}"));
                problem.in_file(own.unwrap_or(Path::new("")))
            })?;
            tracing::info!(revocations = table.len(), "revocations are kept in a file");
        }
        let (orders, taken) = mpsc::channel(keeper::QUEUE);
        let started = Arc::new(Self {
            generation: AtomicU64::new(1),
            table: RwLock::new(table),
            evict: OnceLock::new(),
            changes: broadcast::channel(BEHIND).0,
            orders: journal.is_some().then_some(orders.clone()),
            lives: Lives::new(settings),
            clock,
            counts: Counts::default(),
            task: OnceLock::new(),
        });
        let table = Arc::downgrade(&started);
        // The sender lives as long as the task where there is no file, so that it goes on sweeping.
        let work = async move {
            let _orders = journal.is_none().then_some(orders);
            keeper::keep(table, taken, journal).await;
        };
        let _ = started.task.set(background.spawn(work).abort_handle());
        Ok(started)
    }
}

/// Makes the changes of a file once more.
fn replay(table: &mut Table, path: &Path, now: Timestamp) -> Result<(), Problem> {
    for (line, change) in journal::read(path)? {
        let event = match change {
            Change::Revoke(event) if event.expires_at > now => event,
            Change::Revoke(_) => continue,
            Change::Lift { id, told_before } => {
                table.remove_told_before(&id, told_before);
                continue;
            }
        };
        let what = match table.restore(event, now) {
            Ok(_) => continue,
            Err(NotInserted::Conflict) => "two revocations have the same id".to_owned(),
            Err(NotInserted::Full(most)) => {
                format!("there are more than `identity.revocation.entries` allows ({most})")
            }
        };
        return Err(journal::corrupt(path, (line, 1), &what));
    }
    Ok(())
}
