//! The tour: requests, and the verdict each must get.

mod steps;

use std::time::Duration;

use tokio::time::{sleep, timeout};

use self::steps::{Caller, Edit, Step};
use super::client::{Client, Seen};
use super::issuer::Issuer;
use super::show::{self, Paint, Told};
use super::workspace::Workspace;
use crate::cli::print;
use crate::model::{Problem, SnapshotId};
use crate::pipeline::Snapshots;

/// How long an edited policy may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(10);

/// A tour through a house that is up.
pub(super) struct Tour<'a> {
    pub(super) client: Client,
    pub(super) issuer: &'a Issuer,
    pub(super) snapshots: &'a Snapshots,
    pub(super) workspace: &'a Workspace,
    pub(super) paint: Paint,
}

impl Tour<'_> {
    /// Walks it, and counts the verdicts that are not the expected ones.
    pub(super) async fn walk(&mut self) -> Result<usize, Problem> {
        let mut wrong = 0;
        let mut length = None;
        for (index, step) in steps::all().iter().enumerate() {
            if let Some(heading) = step.heading {
                print(&show::heading(heading, self.paint));
            }
            match step.edit {
                Edit::None => {}
                Edit::Add(text) => length = Some(self.edit(|place| place.add(text)).await?),
                Edit::TakeBack => {
                    let before = length.take().unwrap_or_default();
                    self.edit(|place| place.cut_back(before)).await?;
                }
            }
            let seen = self.ask(step).await?;
            let fault = step.fault(&seen);
            wrong += usize::from(fault.is_some());
            print(&show::step(
                &told(index + 1, step, &seen, fault),
                self.paint,
            ));
        }
        Ok(wrong)
    }

    async fn ask(&mut self, step: &Step) -> Result<Seen, Problem> {
        let mut headers = vec![];
        if let Caller::User(user, flaw) = step.caller {
            let token = self.issuer.token(user, flaw)?;
            headers.push(("authorization", format!("Bearer {token}")));
        }
        if let Some((name, value)) = step.header {
            headers.push((name, value.to_owned()));
        }
        self.client.ask(step.method, step.target, &headers).await
    }

    /// Edits the policies, and waits until another snapshot is in force.
    async fn edit<T>(
        &self,
        edit: impl FnOnce(&Workspace) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let before = self.in_force();
        let done = edit(self.workspace)?;
        let changed = async {
            while self.in_force() == before {
                sleep(LOOK).await;
            }
        };
        match timeout(IN_FORCE, changed).await {
            Ok(()) => Ok(done),
            Err(_) => Err(self
                .snapshots
                .refused()
                .into_iter()
                .next()
                .unwrap_or_else(|| {
                    Problem::new("the edited policy did not take effect")
                        .in_file(self.workspace.policies())
                })),
        }
    }

    fn in_force(&self) -> Option<SnapshotId> {
        self.snapshots.current().map(|snapshot| snapshot.id.clone())
    }
}

fn told<'a>(number: usize, step: &'a Step, seen: &'a Seen, wrong: Option<String>) -> Told<'a> {
    Told {
        number,
        method: step.method,
        target: step.target,
        caller: step.who,
        shows: step.shows,
        seen,
        wrong,
    }
}
