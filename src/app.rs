//! The composition root: builds every part from its own settings and runs them.
//!
//! Deciding runs on `listen.workers` threads, each a runtime of its own with its own socket. Everything else (the admin
//! endpoint, key fetches, reloads, exports) runs on one background runtime, so that none of it can delay a decision.

mod minted;
mod replication;
mod revocations;
mod signals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::minted::unknown_apis;
use self::replication::Replication;
use crate::admin::{Admin, Readiness, Views};
use crate::config::Config;
use crate::context::Context;
use crate::envoy::check::{CheckService, Decide};
use crate::envoy::health::HealthService;
use crate::envoy::listener::{Bound, Door, Local};
use crate::envoy::response;
use crate::identity::{ClaimReader, Identity};
use crate::model::{AccessRequest, Clock, Decision, Problem, Refusal, SystemClock, Trail};
use crate::pipeline::trial::Staging;
use crate::pipeline::{Pipeline, Shadow, Snapshots};
use crate::policy::{Memory, Principal};
use crate::public::{Public, Services};
use crate::signals::Signals;
use crate::telemetry::{BundleInForce, IssuerKeys, Observation, StatusListsSeen, Telemetry, logs};

/// How long telemetry may take to send what it holds when the program ends.
const FLUSH: Duration = Duration::from_secs(3);

/// A running Cardea. Dropping it stops everything without waiting; [`App::stop`] drains.
#[derive(Debug)]
pub struct App {
    background: Option<Runtime>,
    workers: Vec<JoinHandle<()>>,
    closing: CancellationToken,
    pipeline: Arc<Pipeline>,
    /// It stops with the application, and is shared with what serves and observes.
    _signals: Arc<Signals>,
    check_address: Local,
    admin_address: Option<SocketAddr>,
    public_address: Option<SocketAddr>,
    ready: watch::Receiver<bool>,
    _replication: Option<Replication>,
}

impl Decide for Pipeline {
    fn decide(
        &self,
        asked: Result<AccessRequest, Refusal>,
        trail: &mut Trail,
    ) -> impl Future<Output = Decision> + Send {
        Pipeline::decide_along(self, asked, trail)
    }

    fn answered(&self, decision: Decision) {
        Pipeline::answered(self, decision);
    }

    fn overruled(&self, denial: &Decision) {
        Pipeline::overruled(self, denial);
    }

    fn abandoned(&self) {
        Pipeline::abandoned(self);
    }
}

impl App {
    /// Builds and starts everything. Once it returns, checks are answered, if only with 503 until the issuers' keys are
    /// there.
    ///
    /// # Errors
    /// Everything that is wrong with the settings or the bundle, or the first address that cannot be bound.
    pub fn start(config: &Config) -> Result<Self, Vec<Problem>> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        logs::init(&config.telemetry.log);
        let background = background_runtime()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let staging = Arc::new(staging(config, Arc::clone(&clock))?);
        let bundle = |settings| {
            Snapshots::new(settings, Arc::clone(&clock), Arc::clone(&staging)).map(Arc::new)
        };
        let snapshots = bundle(config.bundle.clone())?;
        snapshots.begin()?;
        let candidate = config.bundle.candidate().map(bundle).transpose()?;
        if let Some(candidate) = &candidate {
            // A candidate that does not load decides nothing and says why: no reason not to start.
            candidate.load_or_tell("the candidate bundle is refused");
        }
        let bound = Bound::bind(&config.listen)?;
        let pipeline = Arc::new(Pipeline {
            identity: Identity::start(&config.identity, Arc::clone(&clock), background.handle())?,
            context: Context::new(&config.context)?,
            memory: Memory::new(&config.decisions.cache),
            telemetry: Telemetry::start(&config.telemetry, background.handle())?,
            shadow: Shadow::start(candidate.clone(), background.handle()),
            snapshots,
            mint: minted::start(config.mint.as_ref(), &clock, background.handle())?,
            clock,
        });
        let replication = Replication::start(
            &config.state,
            pipeline.identity.revocations(),
            &pipeline.clock,
            background.handle(),
        )?;
        let closing = CancellationToken::new();
        let signals = signals::start(config, &pipeline, background.handle())?;
        minted::tell_unknown_apis(config, &pipeline, &background);
        observe(&pipeline, replication.as_ref(), &signals);
        watch_introspections(&pipeline);
        let services = Services {
            events: signals::taker(&signals),
            key_set: pipeline.mint.as_ref().map(minted::key_set),
        };
        let offered = (views(&pipeline), services);
        let (admin_address, public_address) = endpoints(config, offered, &background, &closing)?;
        for bundle in [Some(Arc::clone(&pipeline.snapshots)), candidate]
            .into_iter()
            .flatten()
        {
            background.spawn(bundle.keep_fresh(closing.clone()));
        }
        if let Some(tls) = bound.tls() {
            let closing = closing.clone();
            background.spawn(async move { tls.keep_fresh(closing).await });
        }
        let ready = ready(&pipeline, &background, &closing);
        let check_address = bound.local_address().clone();
        let workers =
            Worker::all(config, &pipeline, &ready, &closing)?.start(bound.into_doors())?;
        tracing::info!(
            address = %check_address,
            admin = ?admin_address,
            public = ?public_address,
            workers = workers.len(),
            version = env!("CARGO_PKG_VERSION"),
            "cardea answers checks"
        );
        Ok(Self {
            background: Some(background),
            workers,
            closing,
            pipeline,
            _signals: signals,
            check_address,
            admin_address,
            public_address,
            ready,
            _replication: replication,
        })
    }

    /// Where checks are answered.
    #[must_use]
    pub fn check_address(&self) -> &Local {
        &self.check_address
    }

    /// Where operators look in.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Where other services reach it, if they do.
    #[must_use]
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.public_address
    }

    /// The road of requests, for embedding and for tests.
    #[must_use]
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Waits until a bundle and every required issuer's keys are loaded; `false` if that takes longer than `limit`.
    #[must_use]
    pub fn wait_until_ready(&self, limit: Duration) -> bool {
        let mut ready = self.ready.clone();
        let Some(background) = &self.background else {
            return false;
        };
        background.block_on(async {
            let ready = ready.wait_for(|ready| *ready);
            matches!(tokio::time::timeout(limit, ready).await, Ok(Ok(_)))
        })
    }

    /// Runs until SIGTERM or SIGINT, then drains.
    ///
    /// # Errors
    /// Where the signals cannot be listened for, or a worker ended by itself: a Cardea that answers with less than it
    /// was told to is not left running.
    pub fn run(mut self) -> Result<(), Problem> {
        let Some(background) = &self.background else {
            return Ok(());
        };
        let ended = background.block_on(async {
            tokio::select! {
                signalled = signalled() => signalled
                    .map_err(|error| Problem::new(format!("cannot listen for signals: {error}"))),
                // Nobody else cancels it while this runs: a worker ended by itself.
                () = self.closing.cancelled() => Err(Problem::new("a worker ended by itself")
                    .hint("the log says why; whoever supervises the process should start it again")),
            }
        });
        tracing::info!("draining: no new connections, calls in flight finish");
        self.drain();
        ended
    }

    /// Stops: no new connections, calls in flight finish within `listen.drain`, telemetry is sent.
    pub fn stop(mut self) {
        self.drain();
    }

    fn drain(&mut self) {
        self.closing.cancel();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker thread panicked; this is a fault in cardea");
            }
        }
        if let Some(background) = self.background.take() {
            background.block_on(self.pipeline.telemetry.shutdown(FLUSH));
            background.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(background) = self.background.take() {
            background.shutdown_background();
        }
    }
}

/// What supposed requests are read and judged with under these settings.
///
/// # Errors
/// Everything that is wrong with the section `context`.
pub fn staging(config: &Config, clock: Arc<dyn Clock>) -> Result<Staging, Vec<Problem>> {
    Ok(Staging {
        paths: config.request.path,
        context: Context::new(&config.context)?,
        claims: ClaimReader::new(&config.identity),
        status: response::http_status,
        clock,
    })
}

fn background_runtime() -> Result<Runtime, Vec<Problem>> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("cardea-background")
        .enable_all()
        .build()
        .map_err(|error| {
            vec![Problem::new(format!(
                "cannot start the background runtime: {error}"
            ))]
        })
}

/// What every worker is made from.
struct Worker {
    check: CheckService<Pipeline>,
    health: HealthService,
    closing: CancellationToken,
}

impl Worker {
    fn all(
        config: &Config,
        pipeline: &Arc<Pipeline>,
        ready: &watch::Receiver<bool>,
        closing: &CancellationToken,
    ) -> Result<Self, Vec<Problem>> {
        let settings = (config.request.clone(), config.answers()?);
        let clock = Arc::clone(&pipeline.clock);
        let limit = config.listen.max_message_bytes;
        Ok(Self {
            check: CheckService::new(Arc::clone(pipeline), clock, settings, limit),
            health: HealthService::new(ready.clone(), closing.clone()),
            closing: closing.clone(),
        })
    }

    fn start(&self, doors: Vec<Door>) -> Result<Vec<JoinHandle<()>>, Vec<Problem>> {
        let started = doors.into_iter().enumerate().map(|(number, door)| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (check, health) = (self.check.clone(), self.health.clone());
            let closing = self.closing.clone();
            std::thread::Builder::new()
                .name(format!("cardea-worker-{number}"))
                .spawn(move || {
                    // Dropped however the worker ends, a panic included, so that the others do not go on alone.
                    let _ending = closing.clone().drop_guard();
                    if let Err(problem) = runtime.block_on(door.serve(check, health, closing)) {
                        tracing::error!(%problem, "a worker ended");
                    }
                })
        });
        started.collect::<std::io::Result<_>>().map_err(|error| {
            self.closing.cancel();
            vec![Problem::new(format!(
                "cannot start a worker thread: {error}"
            ))]
        })
    }
}

/// Opens the endpoints that are not Envoy's, and tells where they are: the operators' one, and the public one if there is
/// to be one.
fn endpoints(
    config: &Config,
    (views, services): (Views, Services),
    background: &Runtime,
    closing: &CancellationToken,
) -> Result<(Option<SocketAddr>, Option<SocketAddr>), Vec<Problem>> {
    let admin = background.block_on(Admin::bind(&config.admin, views))?;
    let public = background.block_on(Public::bind(&config.public, services))?;
    let addresses = (
        admin.local_addr().ok(),
        public.as_ref().and_then(|public| public.local_addr().ok()),
    );
    background.spawn(admin.serve(closing.clone()));
    if let Some(public) = public {
        background.spawn(public.serve(closing.clone()));
    }
    Ok(addresses)
}

/// What the admin endpoint shows.
fn views(pipeline: &Arc<Pipeline>) -> Views {
    let (asked, shown, shadowed) = (
        Arc::clone(pipeline),
        Arc::clone(pipeline),
        Arc::clone(pipeline),
    );
    Views {
        readiness: Arc::new(move || readiness(&asked)),
        metrics: Arc::new(move || shown.telemetry.render()),
        shadow: Arc::new(move || shadowed.shadow.report()),
        revocations: revocations::calls(pipeline.identity.revocations()),
    }
}

/// Whether checks can be decided: a bundle is in force, and every required issuer's keys are there.
fn ready(
    pipeline: &Pipeline,
    background: &Runtime,
    closing: &CancellationToken,
) -> watch::Receiver<bool> {
    let (mut keys, mut bundle) = (pipeline.identity.readiness(), pipeline.snapshots.loaded());
    let both = |keys: &mut watch::Receiver<bool>, bundle: &mut watch::Receiver<bool>| {
        let keys = *keys.borrow_and_update();
        keys && *bundle.borrow_and_update()
    };
    let (tell, ready) = watch::channel(both(&mut keys, &mut bundle));
    let closing = closing.clone();
    background.spawn(async move {
        loop {
            let changed = tokio::select! {
                changed = keys.changed() => changed,
                changed = bundle.changed() => changed,
                () = closing.cancelled() => return,
            };
            if changed.is_err() {
                return;
            }
            let now = both(&mut keys, &mut bundle);
            tell.send_if_modified(|known| std::mem::replace(known, now) != now);
        }
    });
    ready
}

fn readiness(pipeline: &Pipeline) -> Readiness {
    let mut missing = Vec::new();
    if pipeline.snapshots.current().is_none() {
        missing.push("no bundle is loaded".to_owned());
    }
    let key_sets = pipeline.identity.key_sets();
    for set in key_sets.iter().filter(|set| set.required && !set.usable) {
        let why = set.last_error.as_deref().unwrap_or("not fetched yet");
        missing.push(format!("no keys of the issuer `{}`: {why}", set.issuer));
    }
    if missing.is_empty() {
        Readiness::Ready
    } else {
        Readiness::NotReady(missing)
    }
}

/// Tells telemetry what to look at when metrics are read.
fn observe(pipeline: &Arc<Pipeline>, replication: Option<&Replication>, signals: &Arc<Signals>) {
    let seen: std::sync::Weak<Pipeline> = Arc::downgrade(pipeline);
    let shared = replication.map(Replication::seen);
    let signals = Arc::downgrade(signals);
    pipeline.telemetry.observe(move || {
        let (Some(pipeline), Some(signals)) = (seen.upgrade(), signals.upgrade()) else {
            return Observation::default();
        };
        Observation {
            shared: shared.as_ref().and_then(|shared| shared()),
            signals: signals::seen(&signals),
            ..observation(&pipeline)
        }
    });
}

/// Has telemetry told of questions about opaque tokens.
fn watch_introspections(pipeline: &Arc<Pipeline>) {
    let told = Arc::downgrade(pipeline);
    pipeline.identity.on_introspection(move |outcome, took| {
        if let Some(pipeline) = told.upgrade() {
            pipeline.telemetry.introspected(outcome, took);
        }
    });
}

fn observation(pipeline: &Pipeline) -> Observation {
    let identity: &Identity<Principal> = &pipeline.identity;
    let snapshots = &pipeline.snapshots;
    let figures = identity.figures();
    let keys = identity.key_sets().into_iter().map(|set| IssuerKeys {
        issuer: set.issuer.into(),
        age: set.age,
        failures: set.fetch_errors,
        left_out: u64::try_from(set.left_out.len()).unwrap_or(u64::MAX),
    });
    let lists = identity.status_lists().into_iter();
    let lists = lists.map(|lists| StatusListsSeen {
        issuer: lists.issuer.into(),
        held: u64::try_from(lists.held).unwrap_or(u64::MAX),
        oldest: lists.oldest,
        failures: lists.fetch_errors,
    });
    Observation {
        ready: snapshots.current().is_some() && identity.ready(),
        keys: keys.collect(),
        bundle: snapshots.current().map(|snapshot| BundleInForce {
            digest: snapshot.id.clone(),
            age: pipeline
                .clock
                .monotonic()
                .saturating_duration_since(snapshot.since),
        }),
        bundle_stale: snapshots.stale(),
        reload_failures: snapshots.failures(),
        cached_tokens: figures.entries,
        judged_tokens: figures.judged,
        revocations: revocations::seen(identity.revocations()),
        minted: pipeline.mint.as_deref().map(minted::seen),
        status_lists: lists.collect(),
        remembered_judgements: pipeline.memory.entries(),
        shadow_disagreements: pipeline.shadow.disagreements(),
        shadow_dropped: pipeline.shadow.dropped(),
        observed_operations: snapshots.current().map_or(0, |snapshot| {
            u64::try_from(snapshot.inventory.observed().count()).unwrap_or(u64::MAX)
        }),
        ..Observation::default()
    }
}

async fn signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
