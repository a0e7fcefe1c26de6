//! What operators can do about revocations, in the admin endpoint's words.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::admin::{Changed, Outcome, RevocationCalls};
use crate::identity::{Applied, NotApplied, RevocationSource, Revocations, Saved};
use crate::model::Problem;
use crate::telemetry::RevocationsSeen;

/// The most events that a list shows: the latest. Their number is told beside it.
const MOST_LISTED: usize = 1000;

/// The calls for these revocations.
pub(super) fn calls(revocations: &Arc<Revocations>) -> RevocationCalls {
    let [listed, applied, lifted] = [0; 3].map(|_| Arc::clone(revocations));
    RevocationCalls {
        list: Arc::new(move || list(&listed)),
        apply: Arc::new(move |body| {
            let revocations = Arc::clone(&applied);
            Box::pin(async move { apply(&revocations, &body).await })
        }),
        lift: Arc::new(move |id| {
            let revocations = Arc::clone(&lifted);
            Box::pin(async move { lift(&revocations, &id).await })
        }),
    }
}

/// What metrics tell of them.
pub(super) fn seen(revocations: &Revocations) -> RevocationsSeen {
    let figures = revocations.figures();
    let applied = figures.applied.into_iter();
    RevocationsSeen {
        applied: applied
            .map(|(target, source, count)| (target.as_str(), source.as_str(), count))
            .collect(),
        entries: figures.entries,
        evicted: figures.evicted,
        refused: figures.refused,
        unsaved: figures.unsaved,
    }
}

fn list(revocations: &Revocations) -> Value {
    let events = revocations.snapshot();
    let latest: Vec<_> = events.iter().rev().take(MOST_LISTED).collect();
    json!({ "total": events.len(), "revocations": latest })
}

async fn apply(revocations: &Revocations, body: &[u8]) -> Changed {
    let event = match revocations.read(body) {
        Ok(event) => event,
        Err(problems) => return mistaken(&problems),
    };
    match revocations.apply(event).await {
        Ok(applied) => answer(&applied),
        Err(NotApplied::Invalid(problems)) => mistaken(&problems),
        Err(error @ NotApplied::Full(_)) => (Outcome::Full, failed(&error)),
        Err(error @ NotApplied::Conflict) => (Outcome::Conflict, failed(&error)),
    }
}

async fn lift(revocations: &Revocations, id: &str) -> Changed {
    match revocations.lift(id, RevocationSource::Admin).await {
        None => (
            Outcome::Unknown,
            json!({ "error": "there is no such revocation" }),
        ),
        Some(saved) => (outcome(saved), json!({ "id": id, "saved": word(saved) })),
    }
}

fn answer(applied: &Applied) -> Changed {
    let body = json!({
        "id": applied.id,
        "evicted": applied.evicted,
        "known_already": applied.known_already,
        "saved": word(applied.saved),
    });
    (outcome(applied.saved), body)
}

fn outcome(saved: Saved) -> Outcome {
    match saved {
        Saved::Yes | Saved::MemoryOnly => Outcome::Done,
        Saved::No => Outcome::Unsaved,
    }
}

fn word(saved: Saved) -> &'static str {
    match saved {
        Saved::Yes => "yes",
        Saved::MemoryOnly => "memory_only",
        Saved::No => "no",
    }
}

fn mistaken(problems: &[Problem]) -> Changed {
    let mistakes: Vec<&str> = problems.iter().map(|one| one.message.as_str()).collect();
    let body = json!({ "error": "the revocation is not in force", "mistakes": mistakes });
    (Outcome::Mistaken, body)
}

fn failed(error: &NotApplied) -> Value {
    json!({ "error": format!("the revocation is not in force: {error}") })
}
