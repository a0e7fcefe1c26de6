//! Gauges: what other rooms know of themselves, asked when metrics are read.
//!
//! The application hands in one function. So telemetry imports no room, and no room imports telemetry.

mod minted;
mod revocations;
mod shared;
mod signals;
mod status_lists;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::model::SnapshotId;

pub use minted::MintSeen;
pub use revocations::RevocationsSeen;
pub use shared::SharedSeen;
pub use signals::StreamSeen;
pub use status_lists::StatusListsSeen;

/// The most issuers that get a series of their own.
const MOST_ISSUERS: usize = 100;

/// The state of the application at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Whether checks are answered by policies.
    pub ready: bool,
    /// The keys of each issuer.
    pub keys: Vec<IssuerKeys>,
    /// The bundle in force.
    pub bundle: Option<BundleInForce>,
    /// Whether a newer bundle was found and refused, so that an older one stays in force.
    pub bundle_stale: bool,
    /// How many reloads of the bundle failed since the start.
    pub reload_failures: u64,
    /// How many verified tokens are cached.
    pub cached_tokens: u64,
    /// How many credentials were judged since the start, because nothing was remembered of them.
    pub judged_tokens: u64,
    /// What is no longer trusted.
    pub revocations: RevocationsSeen,
    /// What other replicas tell; `None` where there is no shared state.
    pub shared: Option<SharedSeen>,
    /// The transmitters of security events.
    pub signals: Vec<StreamSeen>,
    /// What is signed for upstreams, where something is.
    pub minted: Option<MintSeen>,
    /// The status lists of each issuer's tokens, where they are honoured.
    pub status_lists: Vec<StatusListsSeen>,
    /// How many judgements are remembered.
    pub remembered_judgements: u64,
    /// How many decisions shadow policies or a candidate bundle would have made otherwise, since the start.
    pub shadow_disagreements: u64,
    /// How many decisions they were not asked about, because they were too slow, since the start.
    pub shadow_dropped: u64,
    /// How many operations of the bundle in force are observed: what policies refuse passes there.
    pub observed_operations: u64,
}

/// The keys of one issuer.
#[derive(Debug, Clone)]
pub struct IssuerKeys {
    /// The issuer, as in the settings.
    pub issuer: Arc<str>,
    /// How long ago its keys were fetched; `None` where they never were.
    pub age: Option<Duration>,
    /// How many fetches failed since the start.
    pub failures: u64,
    /// How many keys of the set cannot be used and were left out.
    pub left_out: u64,
}

/// The bundle decisions are made from.
#[derive(Debug, Clone)]
pub struct BundleInForce {
    /// Its digest.
    pub digest: SnapshotId,
    /// How long it has been in force.
    pub age: Duration,
}

/// Where the application's function is kept once there is one. Until then gauges are silent.
#[derive(Default)]
pub(super) struct Observer {
    look: OnceLock<Box<dyn Fn() -> Observation + Send + Sync>>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer")
            .field("set", &self.look.get().is_some())
            .finish()
    }
}

impl Observer {
    /// Sets the function, once. Returns whether it is the one in use.
    pub(super) fn set(&self, look: impl Fn() -> Observation + Send + Sync + 'static) -> bool {
        self.look.set(Box::new(look)).is_ok()
    }

    /// Asks. A panic in there would end the SDK's export thread for good, so it counts as "nothing known".
    fn look(&self) -> Option<Observation> {
        let look = self.look.get()?;
        catch_unwind(AssertUnwindSafe(look)).ok()
    }
}

/// Registers the gauges.
pub(super) fn register(meter: &Meter, observer: &Arc<Observer>) {
    register_numbers(meter, observer);
    register_counts(meter, observer);
    register_keys(meter, observer);
    register_bundle(meter, observer);
    revocations::register(meter, observer);
    shared::register(meter, observer);
    signals::register(meter, observer);
    minted::register(meter, observer);
    status_lists::register(meter, observer);
}

fn register_numbers(meter: &Meter, observer: &Arc<Observer>) {
    type Number = (&'static str, &'static str, fn(&Observation) -> u64);
    let numbers: [Number; 5] = [
        ("cardea.ready", "1 where policies answer checks.", |seen| {
            u64::from(seen.ready)
        }),
        (
            "cardea.bundle.stale",
            "1 where a newer bundle was refused and an older one stays.",
            |seen| u64::from(seen.bundle_stale),
        ),
        (
            "cardea.token.cache.entries",
            "Verified tokens in the cache.",
            |seen| seen.cached_tokens,
        ),
        (
            "cardea.decision.cache.entries",
            "Judgements that are remembered.",
            |seen| seen.remembered_judgements,
        ),
        (
            "cardea.observed.operations",
            "Operations of the bundle in force that are observed: what policies refuse passes there.",
            |seen| seen.observed_operations,
        ),
    ];
    for (name, description, number) in numbers {
        let observer = Arc::clone(observer);
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |gauge| {
                if let Some(seen) = observer.look() {
                    gauge.observe(number(&seen), &[]);
                }
            })
            .build();
    }
}

fn register_counts(meter: &Meter, observer: &Arc<Observer>) {
    type Count = (&'static str, &'static str, fn(&Observation) -> u64);
    let counts: [Count; 4] = [
        (
            "cardea.token.verifications",
            "Credentials that were verified, because nothing was remembered of them.",
            |seen| seen.judged_tokens,
        ),
        (
            "cardea.bundle.reload.failures",
            "Reloads of the bundle that failed.",
            |seen| seen.reload_failures,
        ),
        (
            "cardea.shadow.disagreements",
            "Decisions that shadow policies or the candidate bundle would have made otherwise.",
            |seen| seen.shadow_disagreements,
        ),
        (
            "cardea.shadow.dropped",
            "Decisions that shadow policies and the candidate bundle were not asked about: they were too slow.",
            |seen| seen.shadow_dropped,
        ),
    ];
    for (name, description, count) in counts {
        let observer = Arc::clone(observer);
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |counter| {
                if let Some(seen) = observer.look() {
                    counter.observe(count(&seen), &[]);
                }
            })
            .build();
    }
}

fn register_keys(meter: &Meter, observer: &Arc<Observer>) {
    let label = |keys: &IssuerKeys| [KeyValue::new("issuer", Arc::clone(&keys.issuer))];
    let watched = Arc::clone(observer);
    meter
        .u64_observable_gauge("cardea.keys.left_out")
        .with_description(
            "Keys of an issuer's set that cannot be used: too weak, of another use, twins.",
        )
        .with_unit("{key}")
        .with_callback(move |gauge| {
            if let Some(seen) = watched.look() {
                for keys in seen.keys.iter().take(MOST_ISSUERS) {
                    gauge.observe(keys.left_out, &label(keys));
                }
            }
        })
        .build();
    let ages = Arc::clone(observer);
    meter
        .f64_observable_gauge("cardea.keys.age")
        .with_description("Time since an issuer's keys were fetched.")
        .with_unit("s")
        .with_callback(move |gauge| {
            let seen = ages.look().unwrap_or_default();
            for keys in seen.keys.iter().take(MOST_ISSUERS) {
                if let Some(age) = keys.age {
                    gauge.observe(age.as_secs_f64(), &label(keys));
                }
            }
        })
        .build();
    let failures = Arc::clone(observer);
    meter
        .u64_observable_counter("cardea.keys.fetch.failures")
        .with_description("Fetches of an issuer's keys that failed.")
        .with_callback(move |counter| {
            let seen = failures.look().unwrap_or_default();
            for keys in seen.keys.iter().take(MOST_ISSUERS) {
                counter.observe(keys.failures, &label(keys));
            }
        })
        .build();
}

fn register_bundle(meter: &Meter, observer: &Arc<Observer>) {
    let info = Arc::clone(observer);
    meter
        .u64_observable_gauge("cardea.bundle.info")
        .with_description("1, with the digest of the bundle in force.")
        .with_callback(move |gauge| {
            if let Some(bundle) = info.look().and_then(|seen| seen.bundle) {
                let digest = bundle.digest.as_str().to_owned();
                gauge.observe(1, &[KeyValue::new("digest", digest)]);
            }
        })
        .build();
    let age = Arc::clone(observer);
    meter
        .f64_observable_gauge("cardea.bundle.age")
        .with_description("How long the bundle has been in force.")
        .with_unit("s")
        .with_callback(move |gauge| {
            if let Some(bundle) = age.look().and_then(|seen| seen.bundle) {
                gauge.observe(bundle.age.as_secs_f64(), &[]);
            }
        })
        .build();
}
