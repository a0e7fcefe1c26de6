//! In process: what one decision costs, and what its steps cost. See `benches/README.md`.
//!
//! `cargo bench --bench decide` prints the distribution of single decisions as figures, then runs criterion.
//! Every answer is asserted before it is timed.
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

#[expect(
    dead_code,
    reason = "not every credential of the fixture is measured here"
)]
mod fixture;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use cardea::app::App;
use cardea::config::Config;
use cardea::envoy::proto::auth::CheckRequest;
use cardea::envoy::request::{self, Call};
use cardea::envoy::response::{self, Answers};
use cardea::model::{Asked, Clock, Decision, DecisionCache, SystemClock};
use cardea::pipeline::Pipeline;
use criterion::{BatchSize, Criterion};
use hdrhistogram::Histogram;
use prost::Message;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use fixture::{Key, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many policies the bundles hold.
const SIZES: [usize; 3] = [10, 100, 1000];
/// How many single decisions make a distribution.
const DECISIONS: u64 = 200_000;
/// How many callers take turns.
const CALLERS: usize = 64;

/// Cardea as `cardea serve` starts it: metrics counted, no collector, denials logged. Its own workers stay idle.
struct House {
    world: World,
    config: Config,
    pipeline: Arc<Pipeline>,
    answers: Answers,
    deciding: Runtime,
    _app: App,
}

impl House {
    fn build(policies: usize, change: impl FnOnce(&mut Value)) -> Self {
        let world = World::new(policies).expect("the bundle can be written");
        let mut settings = world.settings("127.0.0.1:0", "127.0.0.1:0");
        change(&mut settings);
        let config = Config::parse(&settings.to_string()).expect("the settings are good");
        let app = App::start(&config).expect("the settings and the bundle are good");
        assert!(
            app.wait_until_ready(Duration::from_secs(30)),
            "the keys are loaded"
        );
        let pipeline = Arc::clone(app.pipeline());
        let snapshot = pipeline.snapshots.current().expect("a bundle is in force");
        assert_eq!(snapshot.policies.len(), policies);
        let deciding = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        Self {
            world,
            pipeline,
            answers: config.answers().expect("the settings are good"),
            config,
            deciding,
            _app: app,
        }
    }

    fn check(&self, key: Key, caller: usize) -> CheckRequest {
        let token = self.world.token(key, &format!("user-{caller}"));
        self.world.check(Some(&token.expect("a token is signed")))
    }

    /// The checks of several callers, their tokens verified and cached.
    fn warm_checks(&self) -> Vec<CheckRequest> {
        let checks: Vec<_> = (0..CALLERS)
            .map(|caller| self.check(Key::Es256, caller))
            .collect();
        for check in &checks {
            self.assert_allowed(check, Some(false));
            self.assert_allowed(check, Some(true));
        }
        checks
    }

    fn ask(&self, check: CheckRequest) -> Asked {
        let call = Call::read(&http::HeaderMap::new(), &*self.pipeline.clock);
        request::read(check, call, &self.config.request)
    }

    fn decide(&self, check: &CheckRequest) -> Decision {
        let asked = self.ask(check.clone());
        self.deciding.block_on(self.pipeline.decide(asked))
    }

    fn assert_allowed(&self, check: &CheckRequest, cache_hit: Option<bool>) {
        let decision = self.decide(check);
        assert_eq!(decision.reason_code(), "permitted");
        assert_eq!(decision.trail.cache_hit, cache_hit);
    }

    /// The distribution of single warm decisions, in nanoseconds: from the request in its one reading to the recorded
    /// decision. Callers take turns, as they do.
    fn distribution(
        &self,
        checks: impl Iterator<Item = CheckRequest>,
        way: DecisionCache,
    ) -> Histogram<u64> {
        let mut times = Histogram::new_with_bounds(1, 1_000_000_000, 3).expect("bounds are good");
        self.deciding.block_on(async {
            for check in checks.take(as_usize(DECISIONS)) {
                let asked = self.ask(check);
                let began = SystemClock.monotonic();
                let decision = self.pipeline.decide(asked).await;
                let took = SystemClock.monotonic() - began;
                assert!(decision.allowed());
                assert_eq!(decision.trail.decision_cache, Some(way));
                times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
        });
        times
    }
}

fn as_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of one decision are few"
)]
fn micros(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .without_plots()
        .configure_from_args();
    for size in SIZES {
        let house = House::build(size, forget);
        let checks = house.warm_checks();
        let times = house.distribution(checks.iter().cycle().cloned(), DecisionCache::Bypass);
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let value = micros(&times, quantile);
            println!("figure decide_warm_{size}_{name}_us {value:.2} us");
        }
        bench_warm(&mut criterion, &house, &checks, size);
        if size == 100 {
            bench_anonymous(&mut criterion, &house);
            bench_steps(&mut criterion, &house);
        }
    }
    minted(&mut criterion);
    remembered();
    // Nothing is remembered: every decision verifies its token.
    let forgetful = House::build(100, |settings| {
        forget(settings);
        settings["identity"]["cache"]["ttl"] = json!("0s");
    });
    for key in Key::USUAL {
        bench_cold(&mut criterion, &forgetful, key);
    }
    criterion.final_summary();
}

/// What a token for the upstream costs: where it is remembered, and where each request is signed for.
fn minted(criterion: &mut Criterion) {
    for (name, entries) in [("warm", 10_000), ("cold", 0)] {
        for algorithm in ["ES256", "EdDSA"] {
            let house = House::build(100, |settings| {
                forget(settings);
                settings["public"]["address"] = json!("127.0.0.1:0");
                settings["mint"] = json!({
                    "issuer": "cardea",
                    "cache_entries": entries,
                    "keys": { "algorithm": algorithm },
                });
            });
            let checks = house.warm_checks();
            let minted = |check| house.decide(check).trail.minted.is_some();
            assert!(checks.iter().all(minted));
            let mut turn = checks.iter().cycle();
            let name = format!("decide/minted/{name}/{algorithm}");
            bench_decide(criterion, &house, &name, || {
                turn.next().cloned().unwrap_or_default()
            });
        }
    }
}

/// Policies are asked for every request.
fn forget(settings: &mut Value) {
    settings["decisions"]["cache"]["entries"] = json!(0);
}

/// What remembering judgements saves where they are found, and costs where none ever is: each request is about an object
/// of its own.
fn remembered() {
    let house = House::build(100, |_| {});
    let checks = house.warm_checks();
    let again = checks.iter().cycle().cloned();
    let hits = house.distribution(again.clone(), DecisionCache::Hit);
    let others = again
        .zip(0..)
        .map(|(check, number)| about_object(check, number));
    let misses = house.distribution(others, DecisionCache::Miss);
    for (name, times) in [("hit", hits), ("miss", misses)] {
        for (quantile_name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let value = micros(&times, quantile);
            println!("figure decide_memo_{name}_100_{quantile_name}_us {value:.2} us");
        }
    }
}

/// The same check about another object.
fn about_object(mut check: CheckRequest, number: i32) -> CheckRequest {
    let http = check
        .attributes
        .as_mut()
        .and_then(|attributes| attributes.request.as_mut()?.http.as_mut())
        .expect("a check is about a request");
    http.path = http
        .path
        .replace(fixture::ITEM, &format!("object-{number}"));
    http.headers.insert(":path".to_owned(), http.path.clone());
    check
}

fn bench_warm(criterion: &mut Criterion, house: &House, checks: &[CheckRequest], size: usize) {
    let mut turn = checks.iter().cycle();
    bench_decide(criterion, house, &format!("decide/warm/{size}"), || {
        turn.next().cloned().unwrap_or_default()
    });
}

fn bench_anonymous(criterion: &mut Criterion, house: &House) {
    let check = house.world.check(None);
    assert_eq!(house.decide(&check).reason_code(), "credential_missing");
    bench_decide(criterion, house, "decide/anonymous/100", || check.clone());
}

fn bench_cold(criterion: &mut Criterion, house: &House, key: Key) {
    let check = house.check(key, 0);
    house.assert_allowed(&check, Some(false));
    house.assert_allowed(&check, Some(false));
    let name = format!("decide/cold/{}", key.name());
    bench_decide(criterion, house, &name, || check.clone());
}

fn bench_decide(
    criterion: &mut Criterion,
    house: &House,
    name: &str,
    mut next: impl FnMut() -> CheckRequest,
) {
    criterion.bench_function(name, |bencher| {
        bencher.iter_batched(
            || house.ask(next()),
            |asked| house.deciding.block_on(house.pipeline.decide(asked)),
            BatchSize::SmallInput,
        );
    });
}

/// What comes before and after deciding.
fn bench_steps(criterion: &mut Criterion, house: &House) {
    let check = house.check(Key::Es256, 0);
    let decision = house.decide(&check);
    assert!(decision.allowed());
    let bytes = check.encode_to_vec();
    assert_eq!(CheckRequest::decode(&*bytes).as_ref(), Ok(&check));

    criterion.bench_function("step/decode", |bencher| {
        bencher.iter(|| CheckRequest::decode(black_box(&*bytes)));
    });
    criterion.bench_function("step/read", |bencher| {
        bencher.iter_batched(
            || check.clone(),
            |check| house.ask(check),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("step/record", |bencher| {
        bencher.iter(|| house.pipeline.telemetry.record(black_box(&decision)));
    });
    criterion.bench_function("step/answer", |bencher| {
        bencher.iter(|| response::answer(black_box(&decision), &house.answers));
    });
    let answer = response::answer(&decision, &house.answers);
    criterion.bench_function("step/encode", |bencher| {
        bencher.iter(|| black_box(&answer).wire().encode_to_vec());
    });
}
