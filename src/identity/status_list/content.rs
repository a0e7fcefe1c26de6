//! What a list says, once it was believed (draft-ietf-oauth-status-list, sections 5.1 and 8.3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::super::ground::Ground;
use super::super::statement::Statement;
use super::bits::Bits;
use crate::model::Arrival;

/// Why a list is not used: the end of a sentence for operators, which quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusable(pub(super) &'static str);

/// What a list has to meet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// Where it was fetched from: the exact text in tokens.
    pub(super) uri: &'a str,
    /// Who signs lists, where a list says so.
    pub(super) issuer: &'a str,
    /// How far the signer's clock and ours may differ.
    pub(super) skew: SignedDuration,
    /// How long it serves without a newer one.
    pub(super) max_stale: Duration,
    /// How old it may be by its own `iat`, however often it is fetched.
    pub(super) max_age: SignedDuration,
    /// How long it may be, unpacked.
    pub(super) most: usize,
}

/// A list that was believed, as it was at one fetch.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bits: Bits,
    /// When it was made, by its signer's clock.
    pub(super) issued_at: Timestamp,
    /// For how long its signer would have it kept.
    pub(super) ttl: Option<Duration>,
    pub(super) fetched: Instant,
    stale_from: Instant,
    /// `exp`, or the age at which no list counts any more, and the skew.
    expires_at: Timestamp,
    ground: Arc<Ground>,
}

impl Content {
    /// Reads what was signed; `now` is the time by both clocks. It computes for as long as unpacking takes.
    ///
    /// # Errors
    /// What keeps it from being used.
    pub(super) fn read(
        statement: &Statement,
        terms: Terms<'_>,
        now: (Timestamp, Instant),
    ) -> Result<Self, Unusable> {
        let claims = &statement.claims;
        if claims.get("sub").and_then(Value::as_str) != Some(terms.uri) {
            return Err(Unusable("is another list: its `sub` is not its URL"));
        }
        if claims.get("iss").is_some_and(|iss| *iss != *terms.issuer) {
            return Err(Unusable("is another issuer's"));
        }
        let horizon = now.0.saturating_add(terms.skew).unwrap_or(now.0);
        let issued_at = time(claims, "iat")?.ok_or(Unusable("has no `iat`"))?;
        if issued_at > horizon || time(claims, "nbf")?.is_some_and(|from| from > horizon) {
            return Err(Unusable("has an `iat` or `nbf` that lies in the future"));
        }
        let skewed = |at: Timestamp| at.saturating_add(terms.skew).unwrap_or(at);
        let expires_at = time(claims, "exp")?.map_or(Timestamp::MAX, skewed);
        if now.0 >= expires_at {
            return Err(Unusable("has expired"));
        }
        // Whoever serves the list could serve one that has no `exp` for ever.
        let too_old_from = issued_at.saturating_add(terms.max_age);
        let too_old_from = skewed(too_old_from.unwrap_or(issued_at));
        if now.0 >= too_old_from {
            return Err(Unusable("has an `iat` that lies longer ago than `max_age`"));
        }
        Ok(Self {
            ttl: ttl(claims)?,
            bits: Bits::read(claims.get("status_list"), terms.most)?,
            issued_at,
            fetched: now.1,
            stale_from: now.1 + terms.max_stale,
            expires_at: expires_at.min(too_old_from),
            ground: Arc::clone(&statement.ground),
        })
    }

    /// Whether it may still be used: it is not stale, neither expired nor too old, and its signer's key was not withdrawn.
    pub(super) fn holds(&self, arrival: &Arrival) -> bool {
        arrival.started < self.stale_from
            && arrival.at < self.expires_at
            && self.ground.holds(arrival.started)
    }
}

/// A time: whole seconds.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Unusable> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_i64().filter(|seconds| *seconds > 0);
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(Some).ok_or(Unusable(
        "has a time that is no whole number of seconds in range",
    ))
}

/// A positive number of seconds. What is too long for a clock is as good as no limit: ours is shorter.
fn ttl(claims: &Map<String, Value>) -> Result<Option<Duration>, Unusable> {
    let Some(value) = claims.get("ttl") else {
        return Ok(None);
    };
    let seconds = value.as_f64().filter(|seconds| *seconds > 0.0);
    let seconds = seconds.ok_or(Unusable("has a `ttl` that is no positive number"))?;
    Ok(Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::ground::Lease;
    use super::super::testing::status_list;
    use super::*;
    use crate::identity::testing::{NOW, arrival, changed, clock};
    use crate::model::{Clock, ManualClock};

    const URI: &str = "https://idp.example/lists/1";

    struct Bench {
        clock: std::sync::Arc<ManualClock>,
        ground: Arc<Ground>,
    }

    impl Bench {
        fn new() -> Self {
            let clock = clock();
            let lease = Lease::endless(clock.monotonic());
            Self {
                ground: Ground::under(&lease),
                clock,
            }
        }

        fn read(&self, changes: Value) -> Result<Content, Unusable> {
            let claims = json!({
                "sub": URI, "iat": NOW, "exp": NOW + 600, "ttl": 60,
                "status_list": status_list(1, &[0]),
            });
            let statement = Statement {
                claims: changed(claims, changes).as_object().unwrap().clone(),
                ground: Arc::clone(&self.ground),
            };
            let terms = Terms {
                uri: URI,
                issuer: "https://idp.example",
                skew: SignedDuration::from_secs(30),
                max_stale: Duration::from_secs(3600),
                max_age: SignedDuration::from_secs(7200),
                most: 1024,
            };
            Content::read(
                &statement,
                terms,
                (self.clock.now(), self.clock.monotonic()),
            )
        }

        fn holds(&self, content: &Content) -> bool {
            content.holds(&arrival(&self.clock))
        }
    }

    #[test]
    fn what_a_list_must_say_and_may_leave_out() {
        let bench = Bench::new();
        for good in [
            json!({}),
            json!({"exp": null, "ttl": null}),
            json!({"iss": "https://idp.example", "nbf": NOW, "more": {"a": [1]}}),
            json!({"iat": NOW + 30, "exp": NOW - 29}),
            json!({"iat": NOW - 7229, "exp": null}),
            json!({"ttl": 0.5}),
        ] {
            assert!(bench.read(good.clone()).is_ok(), "{good}");
        }
        for (bad, what) in [
            (json!({"sub": null}), "another list"),
            (json!({"sub": format!("{URI}/")}), "another list"),
            (json!({"sub": [URI]}), "another list"),
            (json!({"iss": "https://other.example"}), "another issuer"),
            (json!({"iss": 7}), "another issuer"),
            (json!({"iat": null}), "no `iat`"),
            (json!({"iat": NOW + 31}), "future"),
            (json!({"iat": "now"}), "whole number"),
            (json!({"iat": 1.5}), "whole number"),
            (json!({"nbf": NOW + 31}), "future"),
            (json!({"iat": NOW - 7230}), "max_age"),
            (json!({"iat": 1, "exp": null}), "max_age"),
            (json!({"exp": NOW - 30}), "expired"),
            (json!({"exp": "soon"}), "whole number"),
            (json!({"ttl": 0}), "positive"),
            (json!({"ttl": -1}), "positive"),
            (json!({"ttl": "60"}), "positive"),
            (json!({"status_list": null}), "status_list"),
            (
                json!({"status_list": status_list(1, &[0; 1025])}),
                "max_list_bytes",
            ),
        ] {
            let error = bench.read(bad.clone()).unwrap_err();
            assert!(error.0.contains(what), "{bad}: {}", error.0);
        }
    }

    #[test]
    fn a_ttl_is_seconds_of_any_length() {
        let bench = Bench::new();
        let ttl = |value: Value| bench.read(json!({"ttl": value})).unwrap().ttl;
        assert_eq!(ttl(json!(60)), Some(Duration::from_secs(60)));
        assert_eq!(ttl(json!(1.5)), Some(Duration::from_millis(1500)));
        assert_eq!(ttl(json!(1e300)), None);
        assert_eq!(ttl(Value::Null), None);
    }

    #[test]
    fn a_list_ends_with_its_exp_its_key_or_for_want_of_a_newer_one() {
        let bench = Bench::new();
        let (expiring, lasting) = (bench.read(json!({})), bench.read(json!({"exp": null})));
        let (expiring, lasting) = (expiring.unwrap(), lasting.unwrap());
        bench.clock.advance(Duration::from_secs(629));
        assert!(bench.holds(&expiring) && bench.holds(&lasting));
        bench.clock.advance(Duration::from_secs(1));
        assert!(!bench.holds(&expiring) && bench.holds(&lasting));
        bench.clock.advance(Duration::from_secs(3600 - 631));
        assert!(bench.holds(&lasting));
        bench.clock.advance(Duration::from_secs(1));
        assert!(!bench.holds(&lasting));
        let last = bench.read(json!({"exp": null})).unwrap();
        assert!(bench.holds(&last));
        bench.clock.advance(Duration::from_secs(3600 + 29));
        let last = bench.read(json!({"exp": null})).unwrap();
        assert!(bench.holds(&last), "fetched just now");
        bench.clock.advance(Duration::from_secs(1));
        assert!(!bench.holds(&last), "too old, whenever it was fetched");
        let last = bench.read(json!({"iat": NOW + 7230, "exp": null})).unwrap();
        assert!(bench.holds(&last));
        bench.ground.withdraw();
        assert!(!bench.holds(&last));
    }
}
