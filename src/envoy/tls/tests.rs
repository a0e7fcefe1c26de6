use std::io;
use std::path::PathBuf;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::ListenSettings;
use super::super::testing::{Authority, Issued, Running, check, client_over, code, on_any_port};
use super::*;

/// Certificate files that a test replaces as it goes.
struct Stage {
    folder: TempDir,
    servers: Authority,
    clients: Authority,
}

impl Stage {
    fn new() -> Self {
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
            servers: Authority::new(),
            clients: Authority::new(),
        };
        stage.install(&stage.servers.issue(&["localhost"], &[]));
        stage.write("clients.pem", &stage.clients.pem);
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn install(&self, issued: &Issued) {
        self.write("server.pem", &issued.pem);
        self.write("server.key", &issued.key_pem);
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: None,
            require_client_certificate: true,
            allowed_client_names: Vec::new(),
            reload_interval: Period::seconds(3600),
        }
    }

    fn mutual(&self, names: &[&str]) -> TlsSettings {
        TlsSettings {
            client_ca: Some(self.path("clients.pem")),
            allowed_client_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..self.settings()
        }
    }

    async fn connect(
        &self,
        running: &Running,
        as_client: Option<&Issued>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.servers.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match as_client {
            None => config.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
                config
                    .with_client_auth_cert(vec![issued.der.clone()], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", running.port())).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// Whether a check gets through. With TLS 1.3 a client learns only afterwards that it was turned away.
    async fn is_served(&self, running: &Running, as_client: Option<&Issued>) -> bool {
        let Ok(stream) = self.connect(running, as_client).await else {
            return false;
        };
        let Ok(mut client) = client_over(stream).await else {
            return false;
        };
        match client.check(check(&[("x-do", "allow")])).await {
            Ok(answer) => code(&answer.into_inner()) == 0,
            Err(_) => false,
        }
    }
}

fn serve(tls: TlsSettings) -> Running {
    Running::on(&ListenSettings {
        tls: Some(tls),
        ..on_any_port()
    })
}

async fn presented(stage: &Stage, running: &Running) -> Vec<u8> {
    let stream = stage.connect(running, None).await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
    session.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn r1_a_changed_certificate_is_used_for_new_connections_and_a_broken_one_is_not() {
    let stage = Stage::new();
    let running = serve(stage.settings());
    let tls = running.tls.clone().unwrap();
    assert!(stage.is_served(&running, None).await);
    assert_eq!(tls.reload().await, Reloaded::Same);

    let second = stage.servers.issue(&["localhost"], &[]);
    // Half of a change: the certificate and the key do not belong together.
    stage.write("server.pem", &second.pem);
    assert!(matches!(tls.reload().await, Reloaded::Kept(_)));
    assert_eq!(
        tls.reload().await,
        Reloaded::Same,
        "a broken change is reported once"
    );
    assert_ne!(presented(&stage, &running).await, second.der.to_vec());

    stage.write("server.key", &second.key_pem);
    assert_eq!(tls.reload().await, Reloaded::Swapped);
    assert_eq!(presented(&stage, &running).await, second.der.to_vec());

    std::fs::remove_file(stage.path("server.pem")).unwrap();
    let Reloaded::Kept(problem) = tls.reload().await else {
        panic!("a missing file was not noticed");
    };
    assert!(problem.to_string().contains("server.pem"), "{problem}");
    assert!(stage.is_served(&running, None).await);
    running.stop().await;
}

#[tokio::test]
async fn keep_fresh_picks_up_a_change_and_ends_when_the_server_closes() {
    let stage = Stage::new();
    let settings = TlsSettings {
        reload_interval: Period::millis(5),
        ..stage.settings()
    };
    let tls = Arc::new(Tls::load(&settings).unwrap());
    let before = tls.current();
    let closing = CancellationToken::new();
    let watching = tokio::spawn({
        let (tls, closing) = (Arc::clone(&tls), closing.clone());
        async move { tls.keep_fresh(closing).await }
    });
    stage.install(&stage.servers.issue(&["localhost"], &[]));
    while Arc::ptr_eq(&before, &tls.current()) {
        tokio::task::yield_now().await;
    }
    closing.cancel();
    watching.await.unwrap();
}

#[tokio::test]
async fn g1_with_a_client_ca_only_its_clients_are_served() {
    let stage = Stage::new();
    let running = serve(stage.mutual(&[]));
    let good = stage.clients.issue(&["envoy.example.org"], &[]);
    let foreign = stage.servers.issue(&["envoy.example.org"], &[]);
    assert!(stage.is_served(&running, Some(&good)).await);
    assert!(!stage.is_served(&running, Some(&foreign)).await);
    assert!(!stage.is_served(&running, None).await);
    running.stop().await;
}

#[tokio::test]
async fn g1_with_names_only_clients_of_exactly_these_names_are_served() {
    let stage = Stage::new();
    let running = serve(stage.mutual(&["spiffe://example.org/envoy", "envoy.example.org"]));
    for (dns, uris, served) in [
        (vec![], vec!["spiffe://example.org/envoy"], true),
        (vec!["envoy.example.org"], vec![], true),
        (vec![], vec!["spiffe://example.org/envoy2"], false),
        (vec![], vec!["spiffe://example.org/Envoy"], false),
        (vec!["*.example.org"], vec![], false),
        (vec!["envoy.example.org.evil.example"], vec![], false),
    ] {
        let client = stage.clients.issue(&dns, &uris);
        assert_eq!(
            stage.is_served(&running, Some(&client)).await,
            served,
            "{dns:?} {uris:?}"
        );
    }
    running.stop().await;
}

#[tokio::test]
async fn a_client_may_come_without_a_certificate_only_where_the_settings_say_so() {
    let stage = Stage::new();
    let settings = TlsSettings {
        require_client_certificate: false,
        ..stage.mutual(&[])
    };
    let running = serve(settings);
    assert!(stage.is_served(&running, None).await);
    let foreign = stage.servers.issue(&["envoy.example.org"], &[]);
    assert!(!stage.is_served(&running, Some(&foreign)).await);
    running.stop().await;
}

#[tokio::test]
async fn g3_garbage_and_silence_instead_of_tls_do_not_stop_the_server() {
    let stage = Stage::new();
    let mut listen = on_any_port();
    listen.tls = Some(stage.settings());
    listen.handshake_timeout = Period::millis(50);
    let running = Running::on(&listen);
    let mut garbage = TcpStream::connect(("127.0.0.1", running.port()))
        .await
        .unwrap();
    garbage.write_all(&[0xff; 64]).await.unwrap();
    let mut silent = TcpStream::connect(("127.0.0.1", running.port()))
        .await
        .unwrap();
    assert!(
        stage.is_served(&running, None).await,
        "served while another handshake hangs"
    );
    let mut rest = Vec::new();
    let _ = garbage.read_to_end(&mut rest).await;
    let _ = silent.read_to_end(&mut rest).await;
    assert!(stage.is_served(&running, None).await);
    running.stop().await;
}

#[test]
fn files_that_cannot_be_used_are_problems_that_name_them() {
    let stage = Stage::new();
    let failing = |change: fn(&mut TlsSettings, &Stage)| {
        let mut settings = stage.mutual(&[]);
        change(&mut settings, &stage);
        Tls::load(&settings).unwrap_err()[0].to_string()
    };
    stage.write("empty.pem", "");
    for (text, file) in [
        (
            failing(|settings, stage| settings.certificate = stage.path("missing.pem")),
            "missing.pem",
        ),
        (
            failing(|settings, stage| settings.certificate = stage.path("empty.pem")),
            "empty.pem",
        ),
        (
            failing(|settings, stage| settings.key = stage.path("empty.pem")),
            "empty.pem",
        ),
        (
            failing(|settings, stage| settings.client_ca = Some(stage.path("empty.pem"))),
            "empty.pem",
        ),
    ] {
        assert!(text.contains(file), "{text}");
    }
}

#[test]
fn settings_that_would_let_everybody_in_are_problems() {
    let stage = Stage::new();
    let mut settings = stage.settings();
    settings.allowed_client_names = vec!["envoy.example.org".into()];
    settings.require_client_certificate = false;
    settings.reload_interval = Period::seconds(0);
    assert_eq!(settings.problems().len(), 3);
    assert_eq!(stage.mutual(&["a"]).problems(), []);
}
