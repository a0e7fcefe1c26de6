//! Whether it says that it can decide exactly while it can, and how it ends.

use std::net::TcpStream;

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use serde_json::json;
use tokio::runtime::Builder;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::child::Child;
use crate::issuer::Reply;
use crate::world::{Ask, PATIENCE, Setup, World, eventually, http_get};

const AUTHORIZATION: &str = "envoy.service.auth.v3.Authorization";

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn health(client: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    let answer = client.check(about(service)).await.unwrap();
    answer.into_inner().status()
}

#[test]
fn health_and_readiness_follow_the_keys() {
    let setup = Setup::new();
    setup.issuer.reply("/jwks", Reply::Status(500));
    let world = setup.start();
    let mut client = world.wait(async { HealthClient::new(world.channel().await) });
    let mut watches = Vec::new();
    for service in ["", AUTHORIZATION] {
        assert_eq!(
            world.wait(health(&mut client, service)),
            ServingStatus::NotServing
        );
        let mut watch = world
            .wait(client.watch(about(service)))
            .unwrap()
            .into_inner();
        let first = world.wait(watch.message()).unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::NotServing);
        watches.push(watch);
    }
    assert_eq!(world.admin("/ready").0, 503);
    assert_eq!(world.admin("/live").0, 200);
    assert!(world.metrics().sum("cardea_ready", &[]).abs() < 0.1);

    world.issuer.publish(&[&world.key]);
    for watch in &mut watches {
        let next = world.wait(watch.message()).unwrap().unwrap();
        assert_eq!(next.status(), ServingStatus::Serving);
    }
    assert_eq!(world.wait(health(&mut client, "")), ServingStatus::Serving);
    assert_eq!(
        world.wait(health(&mut client, AUTHORIZATION)),
        ServingStatus::Serving
    );
    assert_eq!(world.admin("/ready").0, 200);
    assert!((world.metrics().sum("cardea_ready", &[]) - 1.0).abs() < 0.1);

    let unknown = world.wait(client.check(about("nonsense"))).unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut unknown = world
        .wait(client.watch(about("nonsense")))
        .unwrap()
        .into_inner();
    let first = world.wait(unknown.message()).unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
}

#[test]
fn an_issuer_that_is_not_required_holds_up_nothing() {
    let world = World::with(|setup| {
        setup.first_issuer()["required"] = false.into();
        setup.issuer.reply("/jwks", Reply::Status(500));
    });
    assert_eq!(world.admin("/ready").0, 200);
    let mut client = world.wait(async { HealthClient::new(world.channel().await) });
    assert_eq!(world.wait(health(&mut client, "")), ServingStatus::Serving);
}

#[test]
fn a_watcher_hears_the_end_and_holds_up_nothing() {
    let world = World::new();
    let mut watch = world.wait(async {
        let mut client = HealthClient::new(world.channel().await);
        client.watch(about("")).await.unwrap().into_inner()
    });
    assert_eq!(
        world.wait(watch.message()).unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let heard = world.spawn(async move {
        let next = watch.message().await.unwrap().map(|answer| answer.status());
        (next, watch.message().await.unwrap().is_none())
    });
    let heard = world.stop_and(heard);
    assert_eq!(heard.unwrap(), (Some(ServingStatus::NotServing), true));
}

#[test]
fn g3_health_takes_no_long_message() {
    let world = World::new();
    let long = about(&"x".repeat(10_000));
    let refused = world.wait(async { HealthClient::new(world.channel().await).check(long).await });
    assert!(refused.is_err());
    world.get("/v1/orders").passed();
}

#[test]
fn sigterm_lets_calls_in_flight_finish_and_ends_with_code_0() {
    let mut setup = Setup::new();
    setup.settings["identity"]["key_wait"] = "10s".into();
    setup.settings["telemetry"] = json!({ "log": { "level": "info", "decisions": "all" } });
    setup.issuer.reply("/jwks", Reply::Hold);
    let child = Child::serve(&setup.settings, &[]);
    eventually("keys are asked for", || setup.issuer.hanging() == 1);
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let channel = runtime.block_on(async {
        let url = format!("http://{}", child.check);
        Channel::from_shared(url).unwrap().connect().await.unwrap()
    });
    let client = AuthorizationClient::new(channel);
    let token = setup.key.token();
    let waiting = Ask::get("/v1/orders").bearer(&token).send(client.clone());
    let ending = async {
        // On one connection calls arrive in their order: once this one is answered, the other is in flight.
        Ask::get("/v1/status").send(client.clone()).await.passed();
        child.terminate();
        eventually("the admin endpoint closes", || {
            TcpStream::connect(child.admin).is_err()
        });
        setup.issuer.publish(&[&setup.key]);
    };
    let (heard, ()) = runtime.block_on(async { tokio::join!(waiting, ending) });
    heard.assert_allowed(&["orders-read-by-role"]);
    let (status, output) = child.end();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains("draining"), "{output}");
    let decisions = output
        .lines()
        .filter(|line| line.contains("cardea::decision"))
        .count();
    assert_eq!(decisions, 2, "every decision is told: {output}");
}

#[test]
fn sigint_ends_it_too() {
    let setup = Setup::new();
    let child = Child::serve(&setup.settings, &[]);
    eventually("it is ready", || http_get(child.admin, "/ready").0 == 200);
    let check = child.check;
    child.interrupt();
    let (status, output) = child.end();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(TcpStream::connect(check).is_err());
}

#[test]
fn g3_a_dead_or_silent_connection_keeps_nobody_else_out() {
    use std::io::Write;
    let world = World::with(|setup| setup.settings["listen"]["handshake_timeout"] = "200ms".into());
    let address = match world.app().check_address() {
        cardea::envoy::listener::Local::Tcp(address) => *address,
        cardea::envoy::listener::Local::Unix(_) => panic!("it listens on TCP"),
    };
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0x16, 3, 1, 2, 0],
        &[0; 100],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxx",
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        // It may be hung up on while it speaks.
        let _refused = stream.write_all(garbage);
    }
    for _ in 0..20 {
        world.ask(Ask::get("/v1/status")).passed();
    }
    world.wait(async { AuthorizationClient::new(world.channel().await) });
    // The silent ones are hung up on, by and by.
    for stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = stream;
        let ended = std::io::Read::read(&mut stream, &mut [0; 100]);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "{ended:?}"
        );
    }
    world.ask(Ask::get("/v1/status")).passed();
}
