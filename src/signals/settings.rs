//! The section `signals` of the settings: whose security events are received, and what they may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::events::Signal;
use crate::identity::{Algorithm, KeyPlace};
use crate::model::{Period, Problem, SecretRef, remote_url};

/// Whose security events are received (OpenID Shared Signals Framework 1.0).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The transmitters. With none, no event is received.
    pub transmitters: Vec<TransmitterSettings>,
    /// Whether events may be taken although nothing keeps them: with `true`, `identity.revocation.file` need not be set, and
    /// without that file a restart forgets every event, also those that transmitters were told are taken. They do not send
    /// them again.
    pub memory_only: bool,
}

/// One transmitter of security events.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransmitterSettings {
    /// What it is called here: in metrics, in the log, and as the last part of the path that it sends to
    /// (`/ssf/NAME`). 1 to 64 letters, digits, `-` or `_`. Must be set.
    pub name: String,
    /// The exact text of `iss` in its events. Must be set.
    pub issuer: String,
    /// Who Cardea is to it: an event must name one of them in `aud`, to the letter. Must be set.
    pub audiences: Vec<String>,
    /// Where its public keys come from: `discovery`, `{jwks_url: ..}` or `{jwks_file: ..}`. Discovery asks a transmitter
    /// for its `/.well-known/ssf-configuration`, and not for the document of OpenID providers.
    pub keys: KeyPlace,
    /// The signature algorithms accepted. Only asymmetric ones exist here.
    pub algorithms: Vec<Algorithm>,
    /// The certificates (PEM) of the authorities that may vouch for its servers, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The bearer token that Cardea shows where it asks the transmitter for something. It is read anew each time.
    pub token: Option<SecretRef>,
    /// That it sends events to `public.address`, at `/ssf/NAME` (RFC 8935). Without this section, that path is not there.
    pub push: Option<PushSettings>,
    /// That it is asked for events (RFC 8936).
    pub poll: Option<PollSettings>,
    /// That it is asked, from time to time, to show that events arrive.
    pub verification: Option<VerificationSettings>,
    /// The issuers whose subjects it may speak of, by default its own `issuer` and nobody else's. Each must be one whose
    /// credentials `identity` accepts, to the letter (`spiffe://DOMAIN` for a trust domain), or events would revoke nobody.
    pub subject_issuers: Vec<String>,
    /// Issuers that its events call otherwise than tokens do: the name in events, and the name in tokens.
    pub issuer_names: BTreeMap<String, String>,
    /// What identifiers mean that name no issuer: `subject` or `session`, for each of `opaque`, `email`, `phone_number`,
    /// `account`, `did` and `uri`. Those that are not listed mean nobody. They are taken for names that the one issuer in
    /// `subject_issuers` gives, so there must be no more than one.
    pub identifiers: BTreeMap<Identifier, Meaning>,
    /// What the identifier of a device means. Without it, events about a device alone name nobody.
    pub devices: Option<DeviceMeaning>,
    /// What becomes of events, by the last part of their type: `apply` or `ignore`. Those that are not listed are applied, but for `identifier-changed`,
    /// `recovery-activated` and `recovery-information-changed`, which are ignored.
    pub on: BTreeMap<Signal, Action>,
    /// How far its clock may be ahead of ours. At most `5m`. How old an event is does not matter: late is better than never.
    pub clock_skew: Period,
}

impl Default for TransmitterSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            issuer: String::new(),
            audiences: Vec::new(),
            keys: KeyPlace::Discovery,
            algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
            ca_file: None,
            token: None,
            push: None,
            poll: None,
            verification: None,
            subject_issuers: Vec::new(),
            issuer_names: BTreeMap::new(),
            identifiers: BTreeMap::new(),
            devices: None,
            on: BTreeMap::new(),
            clock_skew: Period::seconds(60),
        }
    }
}

/// How events are sent to us.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PushSettings {
    /// The whole value of `Authorization` that the transmitter was told to send. It is read at start. Must be set, unless
    /// `unauthenticated` is.
    pub authorization: Option<SecretRef>,
    /// Whether anybody may send events, where `authorization` is not set: the signature of an event alone says then whose
    /// it is. Strangers can then have signatures checked, two at once at most; whatever comes meanwhile, the transmitter's own
    /// events included, is answered with 503 and has to be sent again.
    pub unauthenticated: bool,
}

/// How events are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PollSettings {
    /// Where: the stream's `delivery.endpoint_url`. `https`, or `http` on a loopback address. Must be set.
    pub url: String,
    /// How long to wait after an answer that held nothing new. `100ms` to `1h`. With `long_poll` at most `1s` is waited: the
    /// transmitter has waited already.
    pub interval: Period,
    /// Whether the transmitter may hold its answer back until there are events. If it does so for longer than `timeout`, that
    /// counts as an answer without events.
    pub long_poll: bool,
    /// How many events to ask for at once. At most 1000.
    pub max_events: u16,
    /// How long one question may take. `100ms` to `5m`. With `long_poll` it should be longer than the transmitter holds its
    /// answers back, and is how long a server that is reached and says nothing goes unnoticed as such: `verification` notices.
    pub timeout: Period,
}

impl Default for PollSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            interval: Period::seconds(5),
            long_poll: false,
            max_events: 100,
            timeout: Period::seconds(30),
        }
    }
}

/// How it is made sure that events arrive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VerificationSettings {
    /// The stream's id at the transmitter. Must be set.
    pub stream_id: String,
    /// Where to ask: `https`, or `http` on a loopback address. Without it, the transmitter's
    /// `/.well-known/ssf-configuration` says (`verification_endpoint`), if that is at the origin of `issuer` or of
    /// `poll.url`: `token` is shown to no other server.
    pub endpoint: Option<String>,
    /// How often to ask. `1s` to `7d`; transmitters may refuse what is more often than their `min_verification_interval`.
    pub interval: Period,
    /// How long the event that was asked for may take to arrive. `100ms` to `1h`.
    pub timeout: Period,
}

impl Default for VerificationSettings {
    fn default() -> Self {
        Self {
            stream_id: String::new(),
            endpoint: None,
            interval: Period::seconds(60 * 60),
            timeout: Period::seconds(60),
        }
    }
}

/// A way to name somebody that names no issuer (RFC 9493, section 3.2).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Identifier {
    /// `opaque`: its `id`.
    Opaque,
    /// `email`: the address, to the letter.
    Email,
    /// `phone_number`: the number, to the letter.
    PhoneNumber,
    /// `account`: the `acct:` URI.
    Account,
    /// `did`: its `url`.
    Did,
    /// `uri`: the URI.
    Uri,
}

/// What an identifier is in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// `sub`
    Subject,
    /// `sid`
    Session,
}

/// What a device's identifier is in credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceMeaning {
    /// `sub`: devices have tokens of their own.
    Subject,
    /// The key that a credential is bound to: the SHA-256 of a certificate in lower-case hex, or a key's thumbprint.
    Key,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It takes effect.
    Apply,
    /// It is taken and counted, and changes nothing.
    Ignore,
}

impl Settings {
    /// Everything that is wrong with these settings. `public`: whether there is an address that events can be sent to.
    #[must_use]
    pub fn problems(&self, public: bool) -> Vec<Problem> {
        let mut found = Found::default();
        let mut names = BTreeSet::new();
        for (index, transmitter) in self.transmitters.iter().enumerate() {
            found.place = format!("signals.transmitters[{index}]");
            transmitter.check(&mut found);
            if !names.insert(&transmitter.name) {
                found.say("name", "is that of another transmitter");
            }
            if transmitter.push.is_some() && !public {
                found.say("push", "needs `public.address`, where events are sent to");
            }
        }
        found.problems
    }
}

impl Settings {
    /// Which events could revoke nobody: `believed` are the issuers of all credentials that may be accepted.
    #[must_use]
    pub fn problems_of_subjects(&self, believed: &[String]) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, transmitter) in self.transmitters.iter().enumerate() {
            let named = transmitter.subject_issuers();
            for issuer in named.iter().filter(|issuer| !believed.contains(issuer)) {
                let message = format!(
                    "`signals.transmitters[{index}]` speaks of subjects of {issuer:?}, whose credentials `identity` does not accept: its events would revoke nobody"
                );
                problems.push(Problem::new(message).hint(
                    "set `subject_issuers` to the issuers that tokens name, to the letter; `issuer_names` translates those that events name",
                ));
            }
        }
        problems
    }
}

impl TransmitterSettings {
    fn check(&self, found: &mut Found) {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(word) {
            found.say("name", "must be 1 to 64 letters, digits, `-` or `_`");
        }
        found.texts("issuer", [&self.issuer]);
        if self.audiences.is_empty() {
            found.say("audiences", "must name at least one");
        }
        found.texts("audiences", &self.audiences);
        self.check_keys(found);
        self.check_subjects(found);
        found.between("clock_skew", self.clock_skew, Duration::ZERO, seconds(300));
        if self.push.is_none() && self.poll.is_none() {
            found.say("push", "or `poll` must be set, or no event arrives");
        }
        if let Some(push) = &self.push
            && push.authorization.is_none()
            && !push.unauthenticated
        {
            let what = "must be set, or `push.unauthenticated` must be true: anybody can then have signatures checked";
            found.say("push.authorization", what);
        }
        if let Some(poll) = &self.poll {
            poll.check(found);
        }
        if let Some(verification) = &self.verification {
            verification.check(found);
        }
    }

    fn check_keys(&self, found: &mut Found) {
        if self.algorithms.is_empty() {
            found.say("algorithms", "must name at least one algorithm");
        }
        match &self.keys {
            KeyPlace::Discovery => found.url("issuer", &self.issuer),
            KeyPlace::JwksUrl(url) => found.url("keys.jwks_url", url),
            KeyPlace::JwksFile(path) if path.as_os_str().is_empty() => {
                found.say("keys.jwks_file", "must name a file");
            }
            KeyPlace::JwksFile(_) => {}
        }
        if matches!(&self.verification, Some(verification) if verification.endpoint.is_none()) {
            found.url("issuer", &self.issuer);
        }
        if self
            .ca_file
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            found.say("ca_file", "must name a file");
        }
    }

    fn check_subjects(&self, found: &mut Found) {
        found.texts("subject_issuers", &self.subject_issuers);
        found.texts("issuer_names", self.issuer_names.keys());
        found.texts("issuer_names", self.issuer_names.values());
        let issuers = self.subject_issuers();
        if self
            .issuer_names
            .values()
            .any(|name| !issuers.contains(name))
        {
            let what = "must give names that are in `subject_issuers`, or the transmitter's own";
            found.say("issuer_names", what);
        }
        if issuers.len() > 1 && !self.identifiers.is_empty() {
            let what =
                "needs one issuer in `subject_issuers`: an identifier does not say whose it is";
            found.say("identifiers", what);
        }
    }

    /// The issuers whose subjects it may speak of.
    pub(super) fn subject_issuers(&self) -> Vec<String> {
        if self.subject_issuers.is_empty() {
            return vec![self.issuer.clone()];
        }
        self.subject_issuers.clone()
    }
}

impl PollSettings {
    fn check(&self, found: &mut Found) {
        found.url("poll.url", &self.url);
        let least = Duration::from_millis(100);
        found.between("poll.interval", self.interval, least, seconds(60 * 60));
        found.between("poll.timeout", self.timeout, least, seconds(5 * 60));
        if !(1..=1000).contains(&self.max_events) {
            found.say("poll.max_events", "must be from 1 to 1000");
        }
    }
}

impl VerificationSettings {
    fn check(&self, found: &mut Found) {
        found.texts("verification.stream_id", [&self.stream_id]);
        if let Some(endpoint) = &self.endpoint {
            found.url("verification.endpoint", endpoint);
        }
        let (least, week) = (Duration::from_millis(100), seconds(7 * 24 * 60 * 60));
        found.between("verification.interval", self.interval, seconds(1), week);
        found.between(
            "verification.timeout",
            self.timeout,
            least,
            seconds(60 * 60),
        );
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What was found wrong so far, and where the check stands.
#[derive(Default)]
struct Found {
    place: String,
    problems: Vec<Problem>,
}

impl Found {
    fn say(&mut self, field: &str, what: &str) {
        let message = format!("`{}.{field}` {what}", self.place);
        self.problems.push(Problem::new(message));
    }

    fn texts<'t>(&mut self, field: &str, texts: impl IntoIterator<Item = &'t String>) {
        let plain =
            |text: &String| (1..=512).contains(&text.len()) && !text.chars().any(char::is_control);
        if !texts.into_iter().all(plain) {
            self.say(field, "must be 1 to 512 bytes without control characters");
        }
    }

    fn url(&mut self, field: &str, url: &str) {
        if remote_url(url).is_none() {
            let what =
                "must be https, or http on a loopback address, without user name and fragment";
            self.say(field, what);
        }
    }

    fn between(&mut self, field: &str, value: Period, least: Duration, most: Duration) {
        let setting = format!("{}.{field}", self.place);
        let bounds = Period(least)..=Period(most);
        self.problems
            .extend(Problem::out_of_bounds(&setting, value, bounds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        serde_saphyr::from_str(text).unwrap()
    }

    fn told(settings: &Settings, public: bool) -> String {
        let problems = settings.problems(public);
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    #[test]
    fn the_smallest_settings_have_no_problem() {
        let settings = settings(
            "transmitters: [{name: idp, issuer: 'https://idp.example', audiences: [a], push: {unauthenticated: true}}]",
        );
        assert_eq!(told(&settings, true), "");
        assert_eq!(
            settings.transmitters[0].subject_issuers(),
            ["https://idp.example"]
        );
        assert_eq!(Settings::default().problems(false), []);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let settings = settings(
            "transmitters:
             - {}
             - name: a/b
               issuer: https://idp.example
               audiences: ['']
               push: {}
               keys: {jwks_url: 'http://idp.example'}
               algorithms: []
               ca_file: ''
               subject_issuers: [a, b]
               issuer_names: {x: c}
               identifiers: {email: subject}
               clock_skew: 1h
               poll: {url: ftp, interval: 1ms, max_events: 0, timeout: 1h}
               verification: {endpoint: x, interval: 1ms, timeout: 1ms}
             - {name: idp, issuer: i, audiences: [a], poll: {url: 'https://idp.example'}, verification: {stream_id: s}}
             - {name: idp, issuer: 'https://idp.example', audiences: [a], keys: {jwks_file: ''}, poll: {url: 'https://idp.example'}}",
        );
        let told = told(&settings, false);
        for part in [
            "[0].name` must be 1 to 64",
            "[0].issuer` must be 1 to 512",
            "[0].audiences` must name",
            "[0].issuer` must be https",
            "[0].push` or `poll` must be set",
            "[1].name` must be",
            "[1].audiences` must be 1",
            "[1].push` needs `public.address`",
            "[1].push.authorization` must be set, or `push.unauthenticated`",
            "[1].keys.jwks_url` must be https",
            "[1].algorithms` must",
            "[1].ca_file` must",
            "[1].issuer_names` must give",
            "[1].identifiers` needs one",
            "[1].clock_skew` is 1h",
            "[1].poll.url` must be https",
            "[1].poll.interval` is",
            "[1].poll.timeout` is",
            "[1].poll.max_events` must",
            "[1].verification.stream_id` must",
            "[1].verification.endpoint` must",
            "[1].verification.interval` is",
            "[1].verification.timeout` is",
            "[2].issuer` must be https",
            "[3].keys.jwks_file` must",
            "[3].name` is that of another",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
    }

    #[test]
    fn what_is_no_event_that_takes_effect_cannot_be_switched() {
        let on = |name: &str| format!("{{transmitters: [{{on: {{{name}: ignore}}}}]}}");
        assert!(serde_saphyr::from_str::<Settings>(&on("risk-level-change")).is_ok());
        for bad in ["session-established", "verification", "risk_level_change"] {
            assert!(
                serde_saphyr::from_str::<Settings>(&on(bad)).is_err(),
                "{bad}"
            );
        }
    }
}
