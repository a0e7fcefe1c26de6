//! Which key signs, and which are published: a matter of time alone.
//!
//! A key is published for a while before it signs, so that a verifier that keeps the key set has it when it meets the
//! first token. And it stays published until the last token by it has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::key::SigningKey;

/// The keys of one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    /// Those that may sign, by name: the newest is the last.
    pub(super) held: Vec<Held>,
    /// Those that sign no more, and until when they are published.
    pub(super) gone: Vec<(Arc<SigningKey>, Instant)>,
}

/// A key that may sign.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) name: String,
    pub(super) key: Arc<SigningKey>,
    /// When it was first seen, or made.
    pub(super) since: Instant,
    /// Until then it is only published.
    pub(super) signs_from: Instant,
}

impl Ring {
    /// The newest key that was published for long enough. Where none was, the oldest: others are the likelier to know it.
    pub(super) fn signing(&self, now: Instant) -> Option<&Held> {
        let ready = self.held.iter().rev().find(|held| held.signs_from <= now);
        ready.or(self.held.first())
    }

    /// Every key that a token may be by, or soon will be.
    fn published(&self, now: Instant) -> impl Iterator<Item = &Arc<SigningKey>> {
        let gone = self.gone.iter().filter(move |(_, until)| now < *until);
        let held = self.held.iter().map(|held| &held.key);
        held.chain(gone.map(|(key, _)| key))
    }

    /// A JWK set (RFC 7517, section 5).
    pub(super) fn key_set(&self, now: Instant) -> String {
        let keys: Vec<Value> = self.published(now).map(|key| key.jwk()).collect();
        json!({ "keys": keys }).to_string()
    }

    pub(super) fn find(&self, kid: &str) -> Option<&Held> {
        self.held.iter().find(|held| held.key.kid() == kid)
    }

    /// The same with these keys in place of those held. Whichever is not among them signs no more from now on.
    pub(super) fn replaced(&self, held: Vec<Held>, now: Instant, published_for: Duration) -> Self {
        let stays = |kid: &str| held.iter().any(|held| held.key.kid() == kid);
        let earlier = self
            .gone
            .iter()
            .filter(|(key, until)| now < *until && !stays(key.kid()));
        let mut gone: Vec<_> = earlier.cloned().collect();
        for old in self.held.iter().filter(|old| !stays(old.key.kid())) {
            old.key.withdraw();
            gone.push((Arc::clone(&old.key), now + published_for));
        }
        Self { held, gone }
    }

    /// The same without keys whose successor has signed for longer than their tokens live.
    pub(super) fn without_outlived(mut self, now: Instant, life: Duration) -> Self {
        let successor = self
            .held
            .iter()
            .rposition(|held| held.signs_from + life <= now);
        if let Some(first) = successor {
            self.held.drain(..first);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::SigningAlgorithm;
    use super::*;
    use crate::model::{Clock, SystemClock};

    const AHEAD: Duration = Duration::from_secs(600);
    const LIFE: Duration = Duration::from_secs(60);

    fn held(name: &str, since: Instant) -> Held {
        Held {
            name: name.to_owned(),
            key: Arc::new(SigningKey::generate(SigningAlgorithm::EdDSA).unwrap()),
            since,
            signs_from: since + AHEAD,
        }
    }

    fn signing(ring: &Ring, now: Instant) -> &str {
        &ring.signing(now).unwrap().name
    }

    #[test]
    fn the_newest_key_signs_once_it_was_published_for_long_enough() {
        let start = SystemClock.monotonic();
        let ring = Ring {
            held: vec![held("a", start), held("b", start + AHEAD)],
            gone: Vec::new(),
        };
        assert_eq!(signing(&ring, start), "a", "none is ready: the oldest");
        assert_eq!(signing(&ring, start + AHEAD), "a");
        assert_eq!(signing(&ring, start + AHEAD + LIFE), "a");
        assert_eq!(signing(&ring, start + AHEAD * 2), "b");
        assert!(Ring::default().signing(start).is_none());
    }

    #[test]
    fn a_key_that_was_taken_away_stays_published_until_its_last_token_has_ended() {
        let start = SystemClock.monotonic();
        let (a, b) = (held("a", start), held("b", start));
        let (kid_a, kid_b) = (a.key.kid().to_owned(), b.key.kid().to_owned());
        let first = Ring {
            held: vec![a.clone(), b.clone()],
            gone: Vec::new(),
        };
        let ring = first.replaced(vec![b.clone()], start, LIFE);
        assert!(a.key.is_withdrawn() && !b.key.is_withdrawn());
        assert_eq!(signing(&ring, start), "b");
        let has = |ring: &Ring, kid: &str, after| ring.key_set(start + after).contains(kid);
        assert!(has(&ring, &kid_a, LIFE / 2) && has(&ring, &kid_b, LIFE / 2));
        assert!(!has(&ring, &kid_a, LIFE) && has(&ring, &kid_b, LIFE));
        // It may come back, and is then there once.
        let ring = ring.replaced(vec![a, b], start, LIFE);
        assert_eq!(ring.key_set(start).matches(&kid_a).count(), 1);
        assert!(ring.gone.is_empty());
    }

    #[test]
    fn outlived_keys_go_once_no_token_by_them_is_left() {
        let start = SystemClock.monotonic();
        let ring = Ring {
            held: vec![
                held("a", start),
                held("b", start + LIFE),
                held("c", start + AHEAD * 9),
            ],
            gone: Vec::new(),
        };
        let names = |after| -> Vec<String> {
            let ring = ring.clone().without_outlived(start + after, LIFE);
            ring.held.into_iter().map(|held| held.name).collect()
        };
        assert_eq!(names(AHEAD + LIFE), ["a", "b", "c"]);
        assert_eq!(names(AHEAD + LIFE * 2), ["b", "c"]);
    }
}
