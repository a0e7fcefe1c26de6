//! In process: what it costs to tell who asks, by scheme where the credential is remembered, by signature algorithm where
//! it is not. See `benches/README.md`.
//!
//! `cargo bench --bench identity` runs criterion and prints the first decile of its samples as a figure each. Every answer is
//! asserted, and so is whether it was remembered.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up ends")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark may wait, and reads the real clock"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "settings are JSON, whose members come into being when they are named"
)]
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

#[expect(dead_code, reason = "nobody is kept waiting here")]
#[path = "fixture/asked.rs"]
mod asked;
#[path = "identity/credentials.rs"]
mod credentials;
mod fixture;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use cardea::app::App;
use cardea::config::Config;
use cardea::envoy::proto::auth::CheckRequest;
use cardea::envoy::request::{self, Call};
use cardea::identity::{Identified, Who};
use cardea::model::{AccessRequest, Arrival, Clock, SystemClock};
use cardea::pipeline::{Pipeline, Snapshot};
use cardea::policy::Principal;
use criterion::Criterion;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use tokio::runtime::Runtime;

use credentials::{Credential, Credentials};
use fixture::{Key, Result, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many callers take turns.
const CALLERS: usize = 16;
/// How many samples criterion takes.
const SAMPLES: usize = 100;
/// How many requests are made ready at a time where each needs a proof of its own.
const AHEAD: u64 = 256;
/// What is asked for: no setting of these says anything of a single operation.
const OPERATION: &str = "service.getItem";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .sample_size(SAMPLES)
        .without_plots()
        .configure_from_args();
    warm(&mut criterion).expect("every scheme can be measured");
    cold(&mut criterion).expect("every algorithm can be measured");
    criterion.final_summary();
}

/// A request in its one reading, and when it came.
type Came = (AccessRequest, Arrival);

/// Cardea as `cardea serve` starts it, of which only the identity room is asked.
struct House {
    pipeline: Arc<Pipeline>,
    snapshot: Arc<Snapshot>,
    config: Config,
    asking: Runtime,
    _app: App,
}

impl House {
    fn open(settings: &Value) -> Self {
        let config = Config::parse(&settings.to_string()).expect("the settings are good");
        let app = App::start(&config).expect("the settings and the bundle are good");
        assert!(
            app.wait_until_ready(Duration::from_secs(30)),
            "the keys are loaded"
        );
        let pipeline = Arc::clone(app.pipeline());
        Self {
            snapshot: pipeline.snapshots.current().expect("a bundle is in force"),
            pipeline,
            config,
            asking: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts"),
            _app: app,
        }
    }

    fn read(&self, check: CheckRequest) -> Came {
        let call = Call::read(&http::HeaderMap::new(), &SystemClock);
        let asked = request::read(check, call, &self.config.request);
        let request = asked.request.expect("a check has one reading");
        (request, asked.arrival)
    }

    async fn identify(&self, (request, arrival): &Came) -> Identified<Principal> {
        let policies = &self.snapshot.policies;
        let identity = &self.pipeline.identity;
        identity
            .identify((request, OPERATION), arrival, &self.snapshot.id, |holder| {
                policies.principal(holder)
            })
            .await
    }

    /// Tells who asks, once for each request. The time of all, and every answer must be somebody, remembered or not.
    fn time(&self, requests: &[Came], times: u64, remembered: bool) -> Duration {
        let turns = requests.iter().cycle().take(as_usize(times));
        self.asking.block_on(async {
            let began = SystemClock.monotonic();
            for came in turns {
                let identified = black_box(self.identify(black_box(came)).await);
                assert!(matches!(identified.who, Ok(Who::Verified(_))));
                assert_eq!(identified.cache_hit, Some(remembered));
            }
            SystemClock.monotonic() - began
        })
    }

    /// Which scheme a request's caller is proven by.
    fn proven_by(&self, came: &Came) -> String {
        let identified = self.asking.block_on(self.identify(came));
        match identified.who {
            Ok(Who::Verified(known)) => known.identity().scheme.to_string(),
            other => format!("nobody: {other:?}"),
        }
    }
}

/// What it costs to recognise somebody, scheme by scheme.
fn warm(criterion: &mut Criterion) -> Result<()> {
    let credentials = Credentials::new(World::new(100)?)?;
    let house = House::open(&credentials.settings());
    for credential in Credential::ALL {
        let requests = || -> Result<Vec<Came>> {
            let checks = (0..CALLERS).map(|caller| credentials.check(credential, caller));
            checks.map(|check| Ok(house.read(check?))).collect()
        };
        for came in &requests()? {
            assert_eq!(house.proven_by(came), credential.scheme(), "{credential:?}");
        }
        let name = credential.name();
        if credential.is_for_one_request() {
            let ahead = requests_ahead(&house, &credentials, credential);
            measure(criterion, &format!("warm_{name}"), |times| {
                let mut took = Duration::ZERO;
                let mut left = times;
                while left > 0 {
                    let now = left.min(AHEAD);
                    took += house.time(&ahead(now), now, true);
                    left -= now;
                }
                took
            });
        } else {
            let requests = requests()?;
            measure(criterion, &format!("warm_{name}"), |times| {
                house.time(&requests, times, true)
            });
        }
    }
    assert_eq!(
        credentials.introspections(),
        u64::try_from(CALLERS)?,
        "opaque tokens were asked about once each"
    );
    Ok(())
}

/// Makes requests of which each can be used once.
fn requests_ahead(
    house: &House,
    credentials: &Credentials,
    credential: Credential,
) -> impl Fn(u64) -> Vec<Came> {
    move |count| {
        let callers = (0..CALLERS).cycle().take(as_usize(count));
        let checks = callers.map(|caller| credentials.check(credential, caller));
        checks
            .map(|check| house.read(check.expect("a proof is signed")))
            .collect()
    }
}

/// What it costs to verify a token that nobody remembers, whole and for its signature alone, by algorithm.
fn cold(criterion: &mut Criterion) -> Result<()> {
    let credentials = Credentials::new(World::new(100)?)?;
    let mut settings = credentials.settings();
    settings["identity"]["cache"]["ttl"] = "0s".into();
    let house = House::open(&settings);
    let world = &credentials.world;
    for key in Key::ALL {
        let name = key.name().to_ascii_lowercase();
        let token = world.token(key, "user-0")?;
        let requests = [house.read(world.check(Some(&token)))];
        let judged = || house.pipeline.identity.figures().judged;
        measure(criterion, &format!("cold_{name}"), |times| {
            let before = judged();
            let took = house.time(&requests, times, false);
            assert_eq!(judged() - before, times, "each was verified");
            took
        });
        let (signed, signature) = token.rsplit_once('.').ok_or("a token has three parts")?;
        let jwk: Jwk = serde_json::from_value(world.issuer.jwk(key))?;
        let (public, algorithm) = (DecodingKey::from_jwk(&jwk)?, key.name().parse()?);
        let verifies = |signed: &str| verifies(&public, algorithm, (signed, signature));
        assert!(verifies(signed) && !verifies("another text"));
        measure(criterion, &format!("signature_{name}"), |times| {
            let began = SystemClock.monotonic();
            for _ in 0..times {
                assert!(verifies(black_box(signed)));
            }
            SystemClock.monotonic() - began
        });
    }
    Ok(())
}

/// What the identity room calls for a signature.
fn verifies(key: &DecodingKey, algorithm: Algorithm, (signed, signature): (&str, &str)) -> bool {
    jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, algorithm).unwrap_or(false)
}

/// Has criterion measure something that can be done any number of times, and prints the first decile of its samples: other
/// load only lengthens them.
fn measure(criterion: &mut Criterion, name: &str, mut time: impl FnMut(u64) -> Duration) {
    let mut samples = Vec::new();
    criterion.bench_function(&format!("identity/{name}"), |bencher| {
        bencher.iter_custom(|times| {
            let took = time(times);
            samples.push(micros(took, times));
            took
        });
    });
    // What came before is how criterion warmed up.
    let warming = samples.len().saturating_sub(SAMPLES);
    let mut samples = samples.split_off(warming);
    samples.sort_by(f64::total_cmp);
    if let Some(decile) = samples.get(samples.len() / 10) {
        println!("figure {name}_us {decile:.3} us");
    }
}

#[expect(clippy::cast_precision_loss, reason = "repetitions are few")]
fn micros(took: Duration, times: u64) -> f64 {
    took.as_secs_f64() * 1e6 / times as f64
}

fn as_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
