//! What a decision costs when there are many policies or many entities, and what loading them costs. See
//! `benches/README.md`.
//!
//! `cargo bench --bench scale` prints figures, then runs criterion, whose samples `scripts/plot-scale.py` draws. Every
//! answer is asserted before it is timed.
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

#[path = "scale/bundle.rs"]
mod bundle;
#[expect(
    dead_code,
    reason = "the bundle of the other benchmarks is not measured here"
)]
mod fixture;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cardea::app::App;
use cardea::config::Config;
use cardea::envoy::proto::auth::CheckRequest;
use cardea::envoy::request::{self, Call};
use cardea::model::{
    AccessRequest, Asked, CanonicalPath, Clock, Decision, Facts, Host, IdentityAttributes, Matched,
    Method, Moment, PathRules, PrincipalKind, SystemClock,
};
use cardea::pipeline::{Pipeline, Snapshot};
use cardea::policy::{Policies, Principal, Question};
use criterion::Criterion;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::runtime::Runtime;

use fixture::{Key, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many policies the bundles hold.
const POLICIES: [usize; 4] = [10, 100, 1000, 10_000];
/// How many entities the bundles name.
const ENTITIES: [usize; 4] = [100, 1000, 10_000, 100_000];
/// How many callers take turns.
const CALLERS: usize = 16;
/// How often two bundles are measured in turns.
const ROUNDS: usize = 60;
/// How many decisions are one turn.
const TURN: usize = 3000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--load-bundle") {
        return load(&PathBuf::from(arguments.next().expect("a folder")));
    }
    let few = House::build(POLICIES[0], ENTITIES[0]);
    figures(&few);
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args();
    for policies in POLICIES {
        curve(
            &mut criterion,
            "policies",
            policies,
            (policies, ENTITIES[0]),
        );
    }
    for entities in ENTITIES {
        curve(
            &mut criterion,
            "entities",
            entities,
            (POLICIES[0], entities),
        );
    }
    criterion.final_summary();
}

fn figures(few: &House) {
    let many = House::build(POLICIES[3], ENTITIES[0]);
    let ratio = ratio(&many, few);
    println!("figure decide_10000_over_10 {ratio:.3} times");
    let again = self::ratio(few, few);
    println!("figure decide_10_over_itself {again:.3} times");
    in_own_process("bundle_10000", &many.world);
    drop(many);
    let many = House::build(POLICIES[0], ENTITIES[3]);
    let ratio = self::ratio(&many, few);
    println!("figure entities_100k_over_100 {ratio:.3} times");
    in_own_process("entities_100k", &many.world);
}

/// Loads a bundle, and says how long that took and how much memory is resident more than before: what the kernel counts
/// (`VmRSS`), with whatever the allocator keeps of what loading gave back.
fn load(folder: &Path) {
    let before = rss_mib();
    let began = SystemClock.monotonic();
    let snapshot = Snapshot::load(folder, &SystemClock).expect("the bundle is good");
    let took = SystemClock.monotonic() - began;
    println!("{} {} {}", took.as_secs_f64(), cpu_s(), rss_mib() - before);
    drop(snapshot);
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.expect("the kernel tells resident memory") / 1024.0
}

/// Time this process spent on a CPU, in seconds: what a load takes where nothing else runs.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("the kernel tells");
    // The name in parentheses may hold anything; utime and stime, in ticks of 10 ms, are the 12th and 13th field behind it.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks = ticks.filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// The quickest of three loads, each in a process of its own: what else the machine does can only make one longer.
fn in_own_process(name: &str, world: &World) {
    let mut runs: Vec<[f64; 3]> = (0..3)
        .map(|_| {
            let program = std::env::current_exe().expect("this program");
            let output = Command::new(program)
                .arg("--load-bundle")
                .arg(world.folder().join("bundle"))
                .output()
                .expect("a process starts");
            let text = String::from_utf8(output.stdout).expect("numbers");
            let mut numbers = text.split_whitespace().map(str::parse::<f64>);
            let mut next = || numbers.next().expect("a number").expect("a number");
            [next(), next(), next()]
        })
        .collect();
    runs.sort_by(|[one, ..], [other, ..]| one.total_cmp(other));
    let [seconds, cpu, rss] = runs.first().expect("three runs");
    println!("figure {name}_load_s {seconds:.2} s");
    println!("figure {name}_load_cpu_s {cpu:.2} s");
    println!("figure {name}_rss_mib {rss:.1} MiB");
}

/// What a decision costs in one house over what it costs in another: turns of both within one run, and the median of the
/// turns' ratios, so that whatever else the machine does meets both.
fn ratio(one: &House, other: &House) -> f64 {
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            if round % 2 == 0 {
                let first = one.turn();
                first / other.turn()
            } else {
                let second = other.turn();
                one.turn() / second
            }
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    *ratios.get(ROUNDS / 2).expect("rounds")
}

/// One point of the curves: a whole decision, its judgement with slices, and the same by Cedar's own authorizer over all
/// policies and entities.
fn curve(criterion: &mut Criterion, axis: &str, at: usize, (policies, entities): (usize, usize)) {
    let house = House::build(policies, entities);
    let mut turn = house.checks.iter().cycle();
    criterion.bench_function(&format!("{axis}/decision/{at}"), |bencher| {
        bencher.iter_batched(
            || house.ask(turn.next().cloned().unwrap_or_default()),
            |asked| house.deciding.block_on(house.pipeline.decide(asked)),
            criterion::BatchSize::SmallInput,
        );
    });
    let snapshot = house.pipeline.snapshots.current().expect("a bundle");
    let case = Case::new(&snapshot);
    let judgement = snapshot.policies.judge(case.question());
    assert!(judgement.verdict.permitted(), "{judgement:?}");
    criterion.bench_function(&format!("{axis}/sliced/{at}"), |bencher| {
        bencher.iter(|| snapshot.policies.judge(case.question()));
    });
    let whole = snapshot.policies.whole(case.question());
    let whole = whole.expect("the question can be put");
    assert!(whole.allows());
    criterion.bench_function(&format!("{axis}/whole/{at}"), |bencher| {
        bencher.iter(|| whole.allows());
    });
}

/// The measured request, past everything that comes before the judgement.
struct Case {
    principal: Principal,
    request: AccessRequest,
    matched: Matched,
    facts: Facts,
}

impl Case {
    fn new(snapshot: &Snapshot) -> Self {
        let service = format!("service{:03}", bundle::SERVICES / 2);
        let path = format!("/v1/{service}/items/{}", fixture::ITEM);
        let host = Host::parse("api.example.com").expect("a host");
        let path = CanonicalPath::parse(&path, PathRules::default()).expect("a path");
        let matched = snapshot.inventory.find(Method::Get, &host, &path);
        assert_eq!(&*matched.operation.id, format!("{service}.getItem"));
        let now = SystemClock.now();
        Self {
            principal: caller(&snapshot.policies, &service, now),
            request: AccessRequest {
                method: Method::Get,
                ..AccessRequest::bare(host, path)
            },
            matched,
            facts: Facts {
                moment: Moment {
                    now,
                    local_time: SignedDuration::from_hours(12),
                    weekday: 3,
                },
                ..Facts::default()
            },
        }
    }

    fn question(&self) -> Question<'_> {
        Question {
            principal: &self.principal,
            request: &self.request,
            matched: &self.matched,
            facts: &self.facts,
        }
    }
}

fn caller(policies: &Policies, service: &str, now: Timestamp) -> Principal {
    let texts = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let issuer = ("https://login.example.com".into(), "user-7".to_owned());
    let expires_at = now + SignedDuration::from_hours(1);
    policies.supposed(&IdentityAttributes {
        audience: texts(&["https://api.example.com"]),
        scopes: texts(&["openid", "profile", &format!("{service}:read")]),
        assurance: 1,
        roles: texts(&[&format!("{service}-viewer"), "employee", "on-call"]),
        ..IdentityAttributes::of(PrincipalKind::User, "bearer_jwt", issuer, expires_at)
    })
}

/// Cardea as `cardea serve` starts it, with tokens that are in its cache.
struct House {
    world: World,
    config: Config,
    pipeline: Arc<Pipeline>,
    deciding: Runtime,
    checks: Vec<CheckRequest>,
    _app: App,
}

impl House {
    fn build(policies: usize, entities: usize) -> Self {
        let world = World::of(|folder| bundle::write(folder, policies, entities))
            .expect("the bundle can be written");
        // Nothing is remembered: what is measured is judging.
        let mut settings = world.settings("127.0.0.1:0", "127.0.0.1:0");
        settings["decisions"]["cache"]["entries"] = json!(0);
        let config = Config::parse(&settings.to_string()).expect("the settings are good");
        let app = App::start(&config).expect("the settings and the bundle are good");
        assert!(
            app.wait_until_ready(Duration::from_secs(30)),
            "the keys are loaded"
        );
        let pipeline = Arc::clone(app.pipeline());
        let snapshot = pipeline.snapshots.current().expect("a bundle is in force");
        assert_eq!(snapshot.policies.len(), policies);
        assert_eq!(snapshot.policies.entities(), entities);
        assert_eq!(snapshot.inventory.operations().count(), 500);
        let deciding = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let check = |caller: usize| {
            let token = world.token(Key::Es256, &format!("user-{caller}"));
            world.check(Some(&token.expect("a token is signed")))
        };
        let house = Self {
            checks: (0..CALLERS).map(check).collect(),
            world,
            pipeline,
            config,
            deciding,
            _app: app,
        };
        for check in &house.checks {
            assert!(house.decide(check).allowed());
            assert_eq!(house.decide(check).trail.cache_hit, Some(true));
        }
        house
    }

    fn ask(&self, check: CheckRequest) -> Asked {
        let call = Call::read(&http::HeaderMap::new(), &*self.pipeline.clock);
        request::read(check, call, &self.config.request)
    }

    fn decide(&self, check: &CheckRequest) -> Decision {
        let asked = self.ask(check.clone());
        self.deciding.block_on(self.pipeline.decide(asked))
    }

    /// How long a number of decisions take, in seconds. Only deciding is timed, each answer asserted.
    fn turn(&self) -> f64 {
        let mut took = Duration::ZERO;
        self.deciding.block_on(async {
            for check in self.checks.iter().cycle().take(TURN) {
                let asked = self.ask(check.clone());
                let began = SystemClock.monotonic();
                let decision = self.pipeline.decide(asked).await;
                took += SystemClock.monotonic() - began;
                assert!(decision.allowed());
            }
        });
        took.as_secs_f64()
    }
}
