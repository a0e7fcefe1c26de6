//! `cardea demo`: the whole house on one machine, and a guided tour through it.
//!
//! | part | where | what is real about it |
//! |---|---|---|
//! | Envoy | a child process | the binary and the configuration that users copy (`deploy/envoy/envoy.yaml`) |
//! | Cardea | this process | everything, by [`App::start`] as in `cardea serve` |
//! | issuer | this process | keys, tokens and signatures; the users are made up ([`issuer`]) |
//! | upstream | this process | it answers with what reached it ([`upstream`]) |
//!
//! Everything listens on loopback. Keys are made at start and never leave the process; policies are judged from a copy,
//! so that the tour can edit one.

mod client;
mod envoy;
mod issuer;
mod show;
mod tour;
mod upstream;
mod workspace;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::client::Client;
use self::envoy::{Envoy, Ports};
use self::issuer::{AUDIENCE, ISSUER, Issuer, User};
use self::show::Paint;
use self::tour::Tour;
use self::workspace::Workspace;
use super::{DONE, FAILED, print};
use crate::app::App;
use crate::config::Config;
use crate::envoy::listener::{ListenAddress, Local};
use crate::identity::{Algorithm, ClaimSettings, IssuerSettings, KeyPlace, install_crypto};
use crate::model::{Period, Problem};
use crate::telemetry::logs::{Decisions, Format, Level};

/// How long Cardea may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// What to show, and with which Envoy.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {
    /// The Envoy binary; without a slash it is looked for in PATH
    #[arg(
        long,
        value_name = "PATH",
        env = "CARDEA_ENVOY",
        default_value = "envoy"
    )]
    envoy: PathBuf,
    /// The folder that holds the policies; the demo works on a copy
    #[arg(
        short,
        long,
        value_name = "FOLDER",
        env = "CARDEA_BUNDLE",
        default_value = "policies"
    )]
    bundle: PathBuf,
    /// The port Envoy listens on; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 10000)]
    port: u16,
    /// End after the tour, with exit code 1 if a verdict is not the expected one
    #[arg(long)]
    once: bool,
}

/// Shows the house. The result is the exit code.
pub(super) fn run(arguments: &DemoArguments) -> Result<u8, Vec<Problem>> {
    let runtime = runtime().map_err(|problem| vec![problem])?;
    let shown = runtime.block_on(show(arguments));
    runtime.shutdown_timeout(Duration::from_secs(1));
    shown
}

async fn show(arguments: &DemoArguments) -> Result<u8, Vec<Problem>> {
    let mut signals = Signals::listen().map_err(|problem| vec![problem])?;
    let built = tokio::select! {
        built = House::build(arguments) => built,
        () = signals.any() => return Ok(FAILED),
    };
    let mut house = built?;
    let code = tokio::select! {
        code = house.guide(arguments.once) => code,
        () = signals.any() => Ok(if arguments.once { FAILED } else { DONE }),
    };
    house.close().await;
    code.map_err(|problem| vec![problem])
}

fn runtime() -> Result<Runtime, Problem> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("cardea-demo")
        .enable_all()
        .build()
        .map_err(|error| Problem::new(format!("cannot start the demo's runtime: {error}")))
}

/// Everything that runs. Dropping it ends Envoy and removes the folder.
struct House {
    envoy: Envoy,
    app: App,
    issuer: Arc<Issuer>,
    token_address: SocketAddr,
    upstream: SocketAddr,
    workspace: Workspace,
    paint: Paint,
}

impl House {
    async fn build(arguments: &DemoArguments) -> Result<Self, Vec<Problem>> {
        check_port(arguments.port).map_err(|problem| vec![problem])?;
        install_crypto();
        let workspace = Workspace::create(&arguments.bundle)?;
        let one = |problem| vec![problem];
        let issuer = Arc::new(Issuer::new().map_err(one)?);
        let token_address = issuer::serve(Arc::clone(&issuer)).await.map_err(one)?;
        let upstream = upstream::serve().await.map_err(one)?;
        let app = start_cardea(settings(&workspace, token_address)).await?;
        let Local::Tcp(cardea) = *app.check_address() else {
            return Err(vec![Problem::new("cardea listens on no TCP port")]);
        };
        let ports = Ports {
            gate: arguments.port,
            cardea: cardea.port(),
            upstream: upstream.port(),
        };
        let envoy = Envoy::start(&arguments.envoy, workspace.folder(), &ports)
            .await
            .map_err(one)?;
        Ok(Self {
            envoy,
            app,
            issuer,
            token_address,
            upstream,
            workspace,
            paint: Paint::for_stdout(),
        })
    }

    /// Shows who is there, walks the tour, and stays up unless the tour is all that is wanted.
    async fn guide(&mut self, once: bool) -> Result<u8, Problem> {
        print(&self.inhabitants());
        let mut client = Client::new(self.envoy.gate(), self.envoy.access_log())?;
        client.wait_until_open().await?;
        let mut tour = Tour {
            client,
            issuer: &self.issuer,
            snapshots: &self.app.pipeline().snapshots,
            workspace: &self.workspace,
            paint: self.paint,
        };
        let wrong = tour.walk().await?;
        print(&show::summary(wrong, self.paint));
        if wrong > 0 {
            self.workspace.keep();
            print(&format!(
                "  what happened is in {}\n",
                self.workspace.folder().display()
            ));
        }
        if !once {
            print(&self.invitation());
            std::future::pending::<()>().await;
        }
        Ok(if wrong == 0 { DONE } else { FAILED })
    }

    /// Ends Envoy, then Cardea: calls in flight finish.
    async fn close(self) {
        self.envoy.quit().await;
        let app = self.app;
        // Draining blocks. Should it panic, the process ends all the same.
        let _ = tokio::task::spawn_blocking(move || app.stop()).await;
    }

    fn inhabitants(&self) -> String {
        let admin = self
            .app
            .admin_address()
            .map_or_else(String::new, |address| {
                format!("   http://{address}/metrics")
            });
        format!(
            "Cardea at the door. Each line is a real request through a real Envoy; the milliseconds are the\n\
             whole way there and back, as the client sees it.\n\n  \
             envoy     http://{}   pid {}\n  \
             cardea    {}{admin}\n  \
             issuer    http://{}   signs as {ISSUER}\n  \
             upstream  http://{}   answers with what reached it\n  \
             log       {}\n  \
             policies  {}\n            a copy of the bundle: the tour edits a policy in it\n",
            self.envoy.gate(),
            self.envoy.pid(),
            self.app.check_address(),
            self.token_address,
            self.upstream,
            self.envoy.log().display(),
            self.workspace.policies().display(),
        )
    }

    /// Lines to try. Each asks for a fresh token, so that they work for as long as the demo runs.
    fn invitation(&self) -> String {
        let gate = self.envoy.gate();
        let curl = |user: User, rest: &str| {
            format!(
                "  curl -i -H 'host: api.example.com' http://{gate}{rest} \\\n       \
                 -H \"authorization: Bearer $(curl -s http://{}/token/{})\"\n",
                self.token_address,
                user.name(),
            )
        };
        format!(
            "Try it yourself (users: alice, bob, carol):\n\n{}{}{}\n\
             Edit a policy in {}\nand ask again: it takes effect within half a second. Ctrl-C ends everything.\n",
            curl(User::Alice, "/v1/orders/1001"),
            curl(User::Carol, "/v1/orders -X POST -d '{}'"),
            curl(User::Bob, "/v1/users/alice"),
            self.workspace.policies().display(),
        )
    }
}

/// Envoy shares its port with whoever else allows it (`SO_REUSEPORT`), so a port that is taken would go unnoticed.
fn check_port(port: u16) -> Result<(), Problem> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_or_else(
        |error| {
            let message = format!("port {port} cannot be had: {error}");
            Err(Problem::new(message)
                .hint("choose another with `--port`, or `--port 0` for a free one"))
        },
        |_freed_at_once| Ok(()),
    )
}

/// Starts Cardea and waits until it has the issuer's keys. It blocks, so it happens beside the demo's own servers.
async fn start_cardea(config: Config) -> Result<App, Vec<Problem>> {
    let started = tokio::task::spawn_blocking(move || {
        let app = App::start(&config)?;
        if app.wait_until_ready(READY) {
            Ok(app)
        } else {
            Err(vec![Problem::new(
                "cardea did not get the issuer's keys in time",
            )])
        }
    });
    started.await.unwrap_or_else(|error| {
        Err(vec![Problem::new(format!(
            "starting cardea failed: {error}"
        ))])
    })
}

/// The settings an operator would write for this house. Cardea's own lines stay off: the tour is the output.
fn settings(workspace: &Workspace, tokens: SocketAddr) -> Config {
    let mut config = Config::default();
    config.listen.address = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    config.admin.address = (Ipv4Addr::LOCALHOST, 0).into();
    config.bundle.path = workspace.policies();
    config.bundle.poll = Period::millis(100);
    // The tour edits a policy, which the bundle's own tests would rightly refuse.
    config.bundle.run_tests = false;
    config.identity.issuers = vec![IssuerSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: vec![Algorithm::ES256, Algorithm::EdDSA],
        keys: KeyPlace::JwksUrl(format!("http://{tokens}/jwks")),
        max_token_lifetime: Period::seconds(3600),
        claims: ClaimSettings {
            roles: vec!["roles".to_owned()],
            tenant: Some("tenant".to_owned()),
            ..ClaimSettings::default()
        },
        ..IssuerSettings::default()
    }];
    config.telemetry.log.level = Level::Error;
    config.telemetry.log.format = Format::Text;
    config.telemetry.log.decisions = Decisions::None;
    config
}

/// What ends the demo from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Problem> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Problem::new(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
