//! `cardea access`: who can do what.
//!
//! Told from the policies and from what is given of a caller; what is not given is named as a condition and never guessed.

mod report;
mod text;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use super::{ConfigArgument, desk, print};
use crate::model::{
    Clock, IdentityAttributes, Operation, PrincipalKind, Problem, SystemClock, shown,
};
use crate::pipeline::Snapshot;
use crate::policy::Given;
use report::{Report, Stage};

/// The longest line of recorded decisions that is read.
const MAX_LINE: u64 = 1024 * 1024;
/// How many bad lines are told at once.
const MOST_BAD_LINES: usize = 20;
/// Who vouches for a caller whose issuer is not given.
const ANY_ISSUER: &str = "https://issuer.invalid";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cardea access --role order-viewer\n  cardea access --principal client --scope orders:read --json\n  cardea access --operation orders.getOrder\n  cardea access --used decisions.jsonl\n\nExit codes: 0 done; 2 a mistake in arguments, settings, bundle or decisions."
)]
pub(super) struct AccessCommand {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    caller: CallerArguments,
    /// Who can call this operation, and on what conditions
    #[arg(long, value_name = "ID", conflicts_with_all = ["principal", "roles", "groups", "scopes", "audiences", "subject", "issuer", "tenant"])]
    operation: Option<String>,
    /// Recorded decisions (JSON lines, each with `policies`): show the permits none of them names
    #[arg(long, visible_alias = "decisions", value_name = "FILE")]
    used: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What is given of a caller. Scopes, audiences, subject, issuer and tenant that are not given are open.
#[derive(Debug, Default, clap::Args)]
struct CallerArguments {
    /// What kind of caller
    #[arg(long, value_enum, value_name = "KIND")]
    principal: Option<KindArgument>,
    /// A role it has; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A group it is in; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A scope of its token; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// An audience of its token; may be repeated
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// Its name at its issuer (`sub`)
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Who vouches for it (`iss`)
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// Its tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArgument {
    User,
    Client,
    Workload,
    Agent,
    Anonymous,
}

pub(super) fn run(command: &AccessCommand) -> Result<(), Vec<Problem>> {
    let used = command.used.as_deref().map(used_policies).transpose()?;
    let settings = command.config.load_sound()?.bundle;
    let snapshot = desk::snapshot(&settings)?;
    let report = command.report(&snapshot, used.as_ref())?;
    print(&if command.json {
        super::json(&report)?
    } else {
        report.text()
    });
    Ok(())
}

impl AccessCommand {
    fn report(
        &self,
        snapshot: &Snapshot,
        used: Option<&BTreeSet<String>>,
    ) -> Result<Report, Vec<Problem>> {
        let stage = Stage {
            snapshot,
            now: SystemClock.now(),
        };
        let mut report = match &self.operation {
            Some(id) => stage.operation(&find(snapshot, id)?),
            None if self.caller.is_given() || used.is_none() => {
                let caller = self.caller.attributes().map(Arc::new);
                stage.caller(caller.as_deref(), self.caller.given(), self.caller.words())
            }
            None => Report::default(),
        };
        report.unused = used.map(|used| stage.unused(used));
        Ok(report)
    }
}

impl CallerArguments {
    fn is_given(&self) -> bool {
        self.principal.is_some()
            || self.given() != CallerArguments::default().given()
            || !(self.roles.is_empty() && self.groups.is_empty())
    }

    fn given(&self) -> Given {
        Given {
            caller: true,
            issuer: self.issuer.is_some(),
            subject: self.subject.is_some(),
            scopes: !self.scopes.is_empty(),
            audience: !self.audiences.is_empty(),
            tenant: self.tenant.is_some(),
        }
    }

    /// The caller; `None` for nobody in particular.
    fn attributes(&self) -> Option<IdentityAttributes> {
        let kind = match self.principal.unwrap_or(KindArgument::User) {
            KindArgument::User => PrincipalKind::User,
            KindArgument::Client => PrincipalKind::Client,
            KindArgument::Workload => PrincipalKind::Workload,
            KindArgument::Agent => PrincipalKind::Agent,
            KindArgument::Anonymous => return None,
        };
        let issuer = self.issuer.as_deref().unwrap_or(ANY_ISSUER);
        let subject = self.subject.as_deref().unwrap_or("somebody");
        Some(IdentityAttributes {
            audience: self.audiences.clone(),
            scopes: self.scopes.clone(),
            roles: self.roles.clone(),
            groups: self.groups.clone(),
            tenant: self.tenant.clone(),
            ..IdentityAttributes::of(
                kind,
                "bearer_jwt",
                (issuer.into(), subject.to_owned()),
                jiff::Timestamp::MAX,
            )
        })
    }

    /// The caller, in words.
    fn words(&self) -> String {
        let kind = self.principal.unwrap_or(KindArgument::User);
        let kind = match kind {
            KindArgument::User => "a user",
            KindArgument::Client => "a client",
            KindArgument::Workload => "a workload",
            KindArgument::Agent => "an agent",
            KindArgument::Anonymous => return "a caller without credential".to_owned(),
        };
        let mut words = kind.to_owned();
        for (what, values) in [
            ("role", &self.roles),
            ("group", &self.groups),
            ("scope", &self.scopes),
            ("audience", &self.audiences),
        ] {
            for value in values {
                let _ = write!(words, ", {what} `{}`", shown(value, 128));
            }
        }
        for (what, value) in [
            ("subject", &self.subject),
            ("issuer", &self.issuer),
            ("tenant", &self.tenant),
        ] {
            if let Some(value) = value {
                let _ = write!(words, ", {what} `{}`", shown(value, 128));
            }
        }
        words
    }
}

fn find(snapshot: &Snapshot, id: &str) -> Result<Arc<Operation>, Vec<Problem>> {
    let inventory = &snapshot.inventory;
    let mut all = inventory.operations().chain(inventory.generic_operations());
    all.find(|operation| &*operation.id == id)
        .cloned()
        .ok_or_else(|| {
            let message = format!("no document describes an operation `{}`", shown(id, 128));
            vec![Problem::new(message).hint("`cardea access` without arguments lists them all")]
        })
}

/// The policies that recorded decisions name.
fn used_policies(file: &Path) -> Result<BTreeSet<String>, Vec<Problem>> {
    #[derive(serde::Deserialize)]
    struct Recorded {
        policies: Vec<String>,
    }
    let cannot = |error: std::io::Error| {
        vec![Problem::new(format!("cannot read the decisions: {error}")).in_file(file)]
    };
    let mut reader = BufReader::new(std::fs::File::open(file).map_err(cannot)?);
    let mut used = BTreeSet::new();
    let mut problems = Vec::new();
    let mut line = Vec::new();
    let mut number = 0;
    while problems.len() < MOST_BAD_LINES {
        line.clear();
        number += 1;
        let mut bounded = reader.by_ref().take(MAX_LINE);
        if bounded.read_until(b'\n', &mut line).map_err(cannot)? == 0 {
            break;
        }
        let bad = |what: String| Problem::new(what).in_file(file).at(number, 1);
        if u64::try_from(line.len()).is_ok_and(|length| length == MAX_LINE) {
            problems.push(bad(format!("the line is longer than {MAX_LINE} bytes")));
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Recorded>(&line) {
            Ok(recorded) => used.extend(recorded.policies),
            // Cedar's and serde's words could quote what the line holds.
            Err(_) => problems.push(
                bad("the line is no recorded decision".to_owned())
                    .hint("each line is a JSON object with a list `policies`"),
            ),
        }
    }
    if problems.is_empty() {
        Ok(used)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests;
