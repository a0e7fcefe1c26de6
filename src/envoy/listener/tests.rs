use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::Period;

use super::super::RequestSettings;
use super::super::testing::{Running, ask, check, client_over, code, on_any_port};
use super::accept::{Accept, Acceptor, Limits};
use super::connection::Io;
use super::{Bound, ListenSettings, Local};

fn on_socket(path: &Path) -> ListenSettings {
    ListenSettings {
        address: format!("unix:{}", path.display()).parse().unwrap(),
        ..ListenSettings::default()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path)
        .unwrap()
        .permissions()
        .mode()
        & 0o777
}

fn problem(settings: &ListenSettings) -> String {
    Bound::bind(settings).unwrap_err()[0].to_string()
}

#[tokio::test]
async fn a_unix_socket_serves_with_its_mode_and_is_gone_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardea.sock");
    let mut settings = on_socket(&path);
    settings.workers = 2;
    let running = Running::on(&settings);
    assert_eq!(running.local, Local::Unix(path.clone()));
    assert_eq!(mode(&path), 0o600);
    let stream = UnixStream::connect(&path).await.unwrap();
    let mut client = client_over(stream).await.unwrap();
    let answer = ask(&mut client, &[("x-do", "allow")]).await;
    assert_eq!(code(&answer), 0);
    drop(client);
    running.stop().await;
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_stale_unix_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardea.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let first = Bound::bind(&on_socket(&path)).unwrap();
    let text = problem(&on_socket(&path));
    assert!(text.contains("another program listens"), "{text}");
    drop(first);
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    let text = problem(&on_socket(&path));
    assert!(text.contains("is no socket"), "{text}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8);

    let link = folder.path().join("link.sock");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(problem(&on_socket(&link)).contains("is no socket"));
}

#[tokio::test]
async fn a_socket_that_somebody_else_took_over_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardea.sock");
    let bound = Bound::bind(&on_socket(&path)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(bound);
    assert!(path.exists());
}

#[tokio::test]
async fn a_port_in_use_is_an_error_at_start_even_for_shared_sockets() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    for workers in [1, 2] {
        let settings = ListenSettings {
            address: address.to_string().parse().unwrap(),
            workers,
            ..ListenSettings::default()
        };
        let text = problem(&settings);
        assert!(
            text.contains(&format!("cannot listen on `{address}`")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn every_worker_has_a_socket_on_the_same_port() {
    let settings = ListenSettings {
        workers: 3,
        ..on_any_port()
    };
    let running = Running::on(&settings);
    assert_eq!(running.workers.len(), 3);
    for _ in 0..8 {
        let stream = TcpStream::connect(("127.0.0.1", running.port()))
            .await
            .unwrap();
        let mut client = client_over(stream).await.unwrap();
        let answer = ask(&mut client, &[("x-do", "allow")]).await;
        assert_eq!(code(&answer), 0);
    }
    running.stop().await;
}

#[tokio::test]
async fn g3_garbage_and_silence_are_cut_off_and_others_are_served() {
    let settings = ListenSettings {
        handshake_timeout: Period::millis(20),
        ..on_any_port()
    };
    let running = Running::on(&settings);
    let mut garbage = TcpStream::connect(("127.0.0.1", running.port()))
        .await
        .unwrap();
    garbage
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut silent = TcpStream::connect(("127.0.0.1", running.port()))
        .await
        .unwrap();
    silent.write_all(b"PRI * HTTP").await.unwrap();
    // Both end without a test of how long that takes: a connection that stayed open would hang here.
    let mut rest = Vec::new();
    let _ = garbage.read_to_end(&mut rest).await;
    let _ = silent.read_to_end(&mut rest).await;
    let mut client = running.client().await;
    let answer = ask(&mut client, &[("x-do", "allow")]).await;
    assert_eq!(code(&answer), 0);
}

#[tokio::test]
async fn g3_connections_beyond_the_limit_wait_for_a_slot() {
    let settings = ListenSettings {
        max_connections: 1,
        ..on_any_port()
    };
    let running = Running::on(&settings);
    let mut first = running.client().await;
    first.check(check(&[])).await.unwrap();
    let stream = TcpStream::connect(("127.0.0.1", running.port()))
        .await
        .unwrap();
    let second = tokio::spawn(async move {
        let mut client = client_over(stream).await.unwrap();
        ask(&mut client, &[("x-do", "allow")]).await
    });
    first.check(check(&[])).await.unwrap();
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(code(&second.await.unwrap()), 0);
}

#[tokio::test]
async fn calls_in_flight_finish_when_the_server_closes_and_no_more_are_accepted() {
    let request = RequestSettings {
        // The server must answer long before the client gives up.
        deadline_margin: Period::millis(59_900),
        ..RequestSettings::default()
    };
    let running = Running::with(&on_any_port(), request);
    let port = running.port();
    let mut client = running.client().await;
    client.check(check(&[])).await.unwrap();
    let mut hanging = tonic::Request::new(check(&[("x-do", "hang")]));
    hanging.set_timeout(std::time::Duration::from_secs(60));
    let decider = Arc::clone(&running.decider);
    let closing = running.closing.clone();
    let call = tokio::spawn(async move { client.check(hanging).await });
    // The hanging check has arrived once two were asked.
    while decider.asked.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    closing.cancel();
    let answer = call.await.unwrap().unwrap().into_inner();
    assert_eq!(code(&answer), 14);
    running.stop().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn a_drain_that_takes_too_long_ends() {
    let settings = ListenSettings {
        drain: Period::millis(10),
        ..on_any_port()
    };
    let running = Running::on(&settings);
    let decider = Arc::clone(&running.decider);
    let mut client = running.client().await;
    let call = tokio::spawn(async move { client.check(check(&[("x-do", "hang")])).await });
    while decider.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    running.stop().await;
    assert!(!call.is_finished(), "the call outlives the drain");
    call.abort();
}

#[tokio::test]
async fn g4_what_a_client_adds_to_the_calls_metadata_cannot_turn_an_answer_into_an_error() {
    let state = format!("a={}", "x".repeat(60 * 1024));
    let narrow = ListenSettings {
        max_header_list_bytes: 16 * 1024,
        ..on_any_port()
    };
    for (settings, answered) in [(narrow, false), (on_any_port(), true)] {
        let running = Running::on(&settings);
        let mut client = running.client().await;
        let mut call = tonic::Request::new(check(&[]));
        call.metadata_mut()
            .insert("tracestate", state.parse().unwrap());
        let answer = client.check(call).await;
        assert_eq!(answer.is_ok(), answered);
        assert!(answer.is_err() || code(&answer.unwrap().into_inner()) != 0);
        drop(client);
        running.stop().await;
    }
}

/// Accepts what it was given, errors included.
struct Scripted {
    results: VecDeque<io::Result<DuplexStream>>,
}

impl Accept for Scripted {
    async fn accept(&mut self) -> io::Result<Box<dyn Io>> {
        match self.results.pop_front() {
            Some(result) => result.map(|stream| Box::new(stream) as Box<dyn Io>),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn g3_the_accept_loop_survives_every_error() {
    let (stream, _other_end) = duplex(64);
    let results = VecDeque::from([
        Err(io::ErrorKind::ConnectionAborted.into()),
        Err(io::Error::from_raw_os_error(24)),
        Err(io::Error::from_raw_os_error(12)),
        Err(io::ErrorKind::InvalidInput.into()),
        Ok(stream),
    ]);
    let (sender, mut receiver) = mpsc::channel(1);
    let limits = Limits::new(&ListenSettings::default());
    let closing = CancellationToken::new();
    let acceptor = Acceptor::new(Scripted { results }, None, limits, sender);
    let running = tokio::spawn(acceptor.run(closing.clone()));
    assert!(receiver.recv().await.is_some());
    closing.cancel();
    running.await.unwrap();
}

#[test]
fn all_mistakes_in_the_settings_are_told_at_once() {
    let settings = ListenSettings {
        workers: 0,
        max_connections: 0,
        max_concurrent_streams: 0,
        max_header_list_bytes: 1,
        max_message_bytes: usize::MAX,
        keepalive_interval: Period::seconds(0),
        ..ListenSettings::default()
    };
    assert_eq!(Bound::bind(&settings).unwrap_err().len(), 6);
    assert_eq!(ListenSettings::default().problems(), []);
}

#[test]
fn settings_are_read_from_yaml_and_unknown_ones_refused() {
    let text = "address: unix:/run/cardea.sock\nunix_mode: \"660\"\nworkers: 2\ntls:\n  certificate: a.pem\n  key: b.pem\n";
    let settings: ListenSettings = serde_saphyr::from_str(text).unwrap();
    assert_eq!(settings.unix_mode.bits(), 0o660);
    let tls = settings.tls.unwrap();
    assert!(tls.require_client_certificate);
    for bad in [
        "address: nowhere\n",
        "unix_mode: \"666\"\n",
        "port: 1\n",
        "tls:\n  certificate: a\n",
    ] {
        assert!(
            serde_saphyr::from_str::<ListenSettings>(bad).is_err(),
            "{bad}"
        );
    }
}
