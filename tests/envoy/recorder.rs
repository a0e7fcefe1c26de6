//! In Cardea's place: it keeps what Envoy handed over, as Cardea reads it, and refuses everything.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cardea::envoy::check::Decide;
use cardea::envoy::health::HealthService;
use cardea::envoy::listener::{ListenAddress, Local};
use cardea::envoy::{AnswerSettings, Bound, CheckService, ListenSettings, RequestSettings};
use cardea::model::{AccessRequest, Decision, Outcome, Reason, Refusal, SystemClock, Trail};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Default)]
pub(crate) struct Recorder {
    asked: Arc<Mutex<Vec<Result<AccessRequest, Refusal>>>>,
}

impl Decide for Recorder {
    async fn decide(&self, asked: Result<AccessRequest, Refusal>, trail: &mut Trail) -> Decision {
        self.asked.lock().unwrap().push(asked);
        Decision {
            outcome: Outcome::Refused(Refusal::new(Reason::NotPermitted, "recorded")),
            trail: trail.take(),
            took: Duration::ZERO,
        }
    }

    fn answered(&self, _: Decision) {}

    fn overruled(&self, _: &Decision) {}
}

impl Recorder {
    /// Serves on a free port, and says which.
    pub(crate) fn serve(&self) -> u16 {
        let listen = ListenSettings {
            address: ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..ListenSettings::default()
        };
        let bound = Bound::bind(&listen).unwrap();
        let Local::Tcp(address) = *bound.local_address() else {
            panic!("not a TCP address");
        };
        let settings = (
            RequestSettings::default(),
            AnswerSettings::default().resolve().unwrap(),
        );
        let check = CheckService::new(
            Arc::new(self.clone()),
            Arc::new(SystemClock),
            settings,
            listen.max_message_bytes,
        );
        let closing = CancellationToken::new();
        for door in bound.into_doors() {
            let (_, ready) = watch::channel(true);
            let health = HealthService::new(ready, closing.clone());
            tokio::spawn(door.serve(check.clone(), health, closing.clone()));
        }
        address.port()
    }

    /// Looks at the request with this value of `x-test`, which must have been read.
    pub(crate) fn with<T>(&self, test: &str, look: impl FnOnce(&AccessRequest) -> T) -> T {
        let asked = self.asked.lock().unwrap();
        let mut read = asked.iter().filter_map(|asked| asked.as_ref().ok());
        let ours = read.find(|request| {
            request
                .headers
                .values("x-test")
                .any(|v| v == test.as_bytes())
        });
        look(ours.expect("the request was handed over"))
    }
}
