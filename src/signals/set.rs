//! Reading a security event token (RFC 8417) that was believed already: its one shape, and nothing that another kind of
//! token could be taken for.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::events::EventType;

/// The longest `jti`, in bytes.
const MAX_JTI: usize = 512;

/// The most events one token may hold. By the framework it holds one.
const MAX_EVENTS: usize = 16;

/// How long before an event was told it may have happened. What is said to be older counts as just told, which revokes more.
const LONGEST_UNTOLD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A security event token.
#[derive(Debug)]
pub(super) struct Set<'c> {
    /// `jti`
    pub(super) jti: &'c str,
    /// `iat`
    pub(super) issued_at: Timestamp,
    /// Its events, at least one.
    pub(super) events: Vec<Event<'c>>,
}

/// One event.
#[derive(Debug)]
pub(super) struct Event<'c> {
    pub(super) kind: EventType,
    /// Whom or what it is about: `sub_id` of the token, or, as older transmitters write it, `subject` of the event.
    pub(super) subject: Option<&'c Value>,
    /// When it happened, by the event or the token, but not later than the token and not much earlier. Where that is no time of
    /// such, when it was told.
    pub(super) happened_at: Timestamp,
    /// What else it says.
    pub(super) members: &'c Map<String, Value>,
}

impl<'c> Set<'c> {
    /// Reads the claims of a token at `now`, which its issuer's clock may be `ahead` of.
    ///
    /// # Errors
    /// The end of a sentence that quotes nothing.
    pub(super) fn read(
        claims: &'c Map<String, Value>,
        (now, ahead): (Timestamp, Duration),
    ) -> Result<Self, &'static str> {
        // OpenID Shared Signals Framework 1.0, section 4.1: so that no other token passes for an event, nor an event for it.
        if claims.contains_key("exp") {
            return Err("holds `exp`, as no event does");
        }
        if claims.contains_key("sub") {
            return Err("holds `sub`, as no event does");
        }
        let jti = claims.get("jti").and_then(Value::as_str);
        let jti = jti.filter(|jti| (1..=MAX_JTI).contains(&jti.len()));
        let jti = jti.ok_or("holds no `jti` of 1 to 512 bytes")?;
        let issued_at = claims.get("iat").and_then(date);
        let issued_at = issued_at.ok_or("holds no time in `iat`")?;
        let latest = now.saturating_add(ahead).unwrap_or(now);
        if issued_at > latest {
            return Err("was issued in the future");
        }
        let happened_at = happened(claims, "toe", issued_at).unwrap_or(issued_at);
        let told = claims.get("events").and_then(Value::as_object);
        let told = told.filter(|told| (1..=MAX_EVENTS).contains(&told.len()));
        let told = told.ok_or("holds no 1 to 16 events")?;
        let events = told.iter().map(|(uri, members)| {
            let members = members
                .as_object()
                .ok_or("holds an event that is no object")?;
            let own = happened(members, "event_timestamp", issued_at);
            Ok(Event {
                kind: EventType::of(uri),
                subject: subject(claims, members)?,
                happened_at: own.unwrap_or(happened_at),
                members,
            })
        });
        Ok(Self {
            jti,
            issued_at,
            events: events.collect::<Result<_, &str>>()?,
        })
    }
}

/// The one subject of an event.
fn subject<'c>(
    claims: &'c Map<String, Value>,
    event: &'c Map<String, Value>,
) -> Result<Option<&'c Value>, &'static str> {
    match (claims.get("sub_id"), event.get("subject")) {
        (Some(whole), Some(own)) if whole != own => Err("names two different subjects"),
        (whole, own) => Ok(whole.or(own)),
    }
}

/// When something happened that was told at `issued_at`; `None` where nothing is said of it. A strange time (milliseconds, a
/// text, one long ago) is no reason to refuse what happened: it counts as the latest that it can have been.
fn happened(members: &Map<String, Value>, name: &str, issued_at: Timestamp) -> Option<Timestamp> {
    let told = date(members.get(name)?);
    let earliest = issued_at.saturating_sub(LONGEST_UNTOLD);
    let usual = |at: &Timestamp| *at <= issued_at && earliest.is_ok_and(|earliest| *at >= earliest);
    Some(told.filter(usual).unwrap_or(issued_at))
}

/// A `NumericDate` (RFC 7519, section 2), to the whole second before it.
fn date(value: &Value) -> Option<Timestamp> {
    let seconds = match value.as_i64() {
        Some(seconds) => seconds,
        None => whole_seconds(value.as_f64()?)?,
    };
    (seconds >= 0)
        .then(|| Timestamp::from_second(seconds).ok())
        .flatten()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "it lies within the bounds just held against it"
)]
fn whole_seconds(seconds: f64) -> Option<i64> {
    // The year 9999 ends before it.
    (0.0..3e11)
        .contains(&seconds)
        .then_some(seconds.floor() as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::changed;
    use super::*;

    const NOW: i64 = 1_900_000_000;

    fn claims(changes: Value) -> Value {
        let uri = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
        let claims = json!({
            "iss": "i", "jti": "1", "iat": NOW, "aud": "a", "txn": "x",
            "sub_id": { "format": "opaque", "id": "s" },
            "events": { uri: {} },
        });
        changed(claims, changes)
    }

    fn read(claims: &Value) -> Result<Set<'_>, &'static str> {
        let now = Timestamp::from_second(NOW).unwrap();
        Set::read(claims.as_object().unwrap(), (now, Duration::from_secs(60)))
    }

    #[test]
    fn a_token_says_what_happened_to_whom_and_when() {
        let claims = claims(json!({ "toe": NOW - 5 }));
        let set = read(&claims).unwrap();
        assert_eq!((set.jti, set.issued_at.as_second()), ("1", NOW));
        let [event] = set.events.as_slice() else {
            panic!("one event");
        };
        assert_eq!(event.kind.as_str(), "session-revoked");
        assert_eq!(event.happened_at.as_second(), NOW - 5);
        assert_eq!(event.subject, claims.get("sub_id"));
    }

    #[test]
    fn j17_what_looks_like_another_token_is_no_event() {
        for strange in [
            json!({ "exp": NOW + 300 }),
            json!({ "exp": null, "sub": "alice" }),
            json!({ "sub": "alice" }),
            json!({ "sub": "" }),
        ] {
            assert!(
                read(&claims(strange))
                    .unwrap_err()
                    .contains("as no event does")
            );
        }
        let mut null = claims(json!({}));
        null["exp"] = Value::Null;
        assert!(read(&null).is_err());
    }

    #[test]
    fn what_has_not_the_shape_of_an_event_is_refused() {
        let uri = "https://example.com/x";
        for wrong in [
            json!({ "jti": null }),
            json!({ "jti": "" }),
            json!({ "jti": 5 }),
            json!({ "jti": "x".repeat(513) }),
            json!({ "iat": null }),
            json!({ "iat": "1900000000" }),
            json!({ "iat": -1 }),
            json!({ "iat": 1e300 }),
            json!({ "iat": NOW + 61 }),
            json!({ "events": null }),
            json!({ "events": {} }),
            json!({ "events": [uri] }),
            json!({ "events": uri }),
            json!({ "events": { uri: null } }),
            json!({ "events": { uri: [] } }),
            json!({ "events": { uri: { "subject": { "format": "opaque", "id": "other" } } } }),
            json!({ "events": (0..17).map(|n| (n.to_string(), json!({}))).collect::<Map<_, _>>() }),
        ] {
            assert!(read(&claims(wrong.clone())).is_err(), "{wrong}");
        }
        assert!(read(&claims(json!({ "iat": NOW + 60 }))).is_ok());
        assert!(
            read(&claims(json!({ "iat": NOW - 400 * 24 * 3600 }))).is_ok(),
            "late is better than never"
        );
    }

    #[test]
    fn the_subject_may_stand_in_the_event_as_it_once_did() {
        let subject = json!({ "subject_type": "iss-sub", "iss": "i", "sub": "s" });
        let old = claims(json!({ "sub_id": null, "events": { "x": { "subject": subject } } }));
        assert_eq!(read(&old).unwrap().events[0].subject, Some(&subject));
        let none = claims(json!({ "sub_id": null }));
        assert_eq!(read(&none).unwrap().events[0].subject, None);
    }

    #[test]
    fn nothing_happened_later_than_it_was_told_and_strange_times_count_as_that() {
        const MONTH: i64 = 30 * 24 * 60 * 60;
        for (at, expected) in [
            (json!(NOW - 10), NOW - 10),
            (json!(1_899_999_990.5), NOW - 10),
            (json!(NOW - MONTH), NOW - MONTH),
            (json!(NOW - MONTH - 1), NOW),
            (json!(0), NOW),
            (json!(NOW + 1000), NOW),
            // Milliseconds, as some write them.
            (json!(NOW * 1000), NOW),
            (json!(NOW * 1000 / 10), NOW),
            (json!(-5), NOW),
            (json!(i64::MIN), NOW),
            (json!(u64::MAX), NOW),
            (json!(1e300), NOW),
            (json!("then"), NOW),
            (json!("1899999990"), NOW),
            (json!({}), NOW),
        ] {
            let of_event = claims(json!({ "events": { "x": { "event_timestamp": at } } }));
            let of_token = claims(json!({ "toe": at }));
            for claims in [of_event, of_token] {
                let set = read(&claims).unwrap();
                assert_eq!(set.events[0].happened_at.as_second(), expected, "{at}");
            }
            // What is strange in the event is not made up for by the token, which may be about another one.
            let both = json!({ "toe": NOW - 20, "events": { "x": { "event_timestamp": at } } });
            let claims = claims(both);
            let set = read(&claims).unwrap();
            assert_eq!(set.events[0].happened_at.as_second(), expected, "{at}");
        }
    }
}
