//! A counterexample as a document that `cardea decide` reads: an AuthZEN evaluation request.
//!
//! A solver makes requests up: an owner of an object that no entity file names, a Friday whose date is a Monday's. Not all
//! of that can be said in a document. So each is decided before it is shown, by the same judge as a request that arrives,
//! and shown only where the claim breaks there too. Then every fact is left out that the claim breaks without.

mod document;

use std::path::PathBuf;

use serde_json::Value;

use super::{Brief, Loaded};
use crate::model::{Clock as _, SystemClock};
use crate::pipeline::Snapshot;
use crate::pipeline::trial::{Found, Staging};
use crate::policy::proof::{Claim, Refuted, Report};
use crate::policy::{BundleFiles, Document};
use crate::rehearsal::{Asking, Form, Reader};
use document::{drafts, facts, objects, without};

/// What allows everything that no invariant forbids.
const ALLOW_ALL: &str = "permit (principal, action, resource);";

/// Puts a document into every counterexample that can be said in one.
pub(super) fn retell(report: &mut Report, brief: &Brief, staging: &Staging) {
    if report.refuted.is_empty() {
        return;
    }
    let judges = Judges {
        new: &brief.new.snapshot,
        old: brief.old.as_ref().map(|old| &old.snapshot),
        invariants: guarded(&brief.new, &brief.documents),
        objects: objects(&brief.new.files.entities),
        staging,
    };
    for refuted in &mut report.refuted {
        let evaluation = judges.retold(refuted);
        if let Some(counterexample) = &mut refuted.counterexample {
            counterexample.evaluation = evaluation;
        }
    }
}

/// The bundle with its invariants in place of its policies: what they match is refused, and they are named.
fn guarded(bundle: &Loaded, more: &[Document]) -> Option<Snapshot> {
    let all = Document {
        path: PathBuf::from("all.cedar"),
        text: ALLOW_ALL.to_owned(),
    };
    let invariants = bundle.files.invariants.iter().chain(more).cloned();
    let files = BundleFiles {
        policies: std::iter::once(all).chain(invariants).collect(),
        links: Vec::new(),
        tests: Vec::new(),
        invariants: Vec::new(),
        ..bundle.files.clone()
    };
    Snapshot::compile(&files, &bundle.root, &SystemClock).ok()
}

/// Whoever can say whether a document shows what it is to show.
struct Judges<'a> {
    new: &'a Snapshot,
    old: Option<&'a Snapshot>,
    invariants: Option<Snapshot>,
    /// The ids of the objects that the bundle's files know.
    objects: Vec<String>,
    staging: &'a Staging,
}

impl Judges<'_> {
    fn retold(&self, refuted: &Refuted) -> Option<Value> {
        let witness = refuted.counterexample.as_ref()?;
        let inventory = &self.new.inventory;
        let mut operations = inventory.operations().chain(inventory.generic_operations());
        // INVARIANT: an operation's action has its id.
        let id = witness.request.pointer("/action/id")?.as_str()?;
        let operation = operations.find(|operation| &*operation.id == id)?;
        let shows = |draft: &Value| self.show(refuted, id, draft);
        let mut drafts = drafts(witness, operation, inventory.hosts(), &self.objects);
        let draft = drafts.find(shows)?;
        Some(least(draft, &shows))
    }

    /// Whether what is refuted shows in a document.
    fn show(&self, refuted: &Refuted, operation: &str, draft: &Value) -> bool {
        let decide = |snapshot| self.decide(snapshot, draft);
        let Some(found) = decide(self.new).filter(|found| found.operation == operation) else {
            return false;
        };
        let allowed = found.verdict == "allow";
        let guarded = || decide(self.invariants.as_ref()?);
        let id = refuted.topic.id.as_deref();
        let errs = |found: &Found| found.errors.iter().any(|fault| Some(&*fault.policy) == id);
        let named = |found: &Found| found.policies.iter().any(|policy| Some(&**policy) == id);
        match refuted.topic.claim {
            Claim::NeverErrors if errs(&found) => true,
            // It may be an invariant.
            Claim::NeverErrors => guarded().is_some_and(|found| errs(&found)),
            Claim::Invariant => allowed && guarded().is_some_and(|found| named(&found)),
            Claim::NoMoreThanOld => {
                let before = self.old.and_then(decide);
                allowed && before.is_some_and(|found| found.verdict == "deny")
            }
        }
    }

    fn decide(&self, snapshot: &Snapshot, draft: &Value) -> Option<Found> {
        let reader = Reader {
            snapshot,
            staging: self.staging,
            now: SystemClock.now(),
        };
        let text = serde_json::to_vec(draft).ok()?;
        match reader.read(&text, Some(Form::Authzen)).ok()? {
            Asking::Supposed(supposed) => {
                let decision = snapshot.rehearse(*supposed);
                Some(Found::of(&decision, self.staging.status))
            }
            Asking::Check(_) => None,
        }
    }
}

/// A draft without the facts that it shows the same without.
fn least(mut draft: Value, shows: &dyn Fn(&Value) -> bool) -> Value {
    for fact in facts(&draft) {
        let shorter = without(&draft, &fact);
        if shows(&shorter) {
            draft = shorter;
        }
    }
    draft
}
