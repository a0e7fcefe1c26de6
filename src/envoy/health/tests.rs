use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::super::testing::{Running, on_any_port};
use super::*;

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn health_follows_readiness_under_both_names() {
    let running = Running::on(&on_any_port());
    let mut client = HealthClient::new(running.channel().await);
    for (ready, expected) in [
        (true, ServingStatus::Serving),
        (false, ServingStatus::NotServing),
        (true, ServingStatus::Serving),
    ] {
        running.ready.send(ready).unwrap();
        for name in ["", SERVICE_NAME] {
            let answer = client.check(about(name)).await.unwrap().into_inner();
            assert_eq!(answer.status(), expected, "{name}");
        }
    }
    let error = client.check(about("other")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test]
async fn a_watcher_hears_each_change_and_the_end() {
    let running = Running::on(&on_any_port());
    let mut client = HealthClient::new(running.channel().await);
    let mut states = client.watch(about("")).await.unwrap().into_inner();
    let mut next = async || states.message().await.unwrap().map(|state| state.status());
    assert_eq!(next().await, Some(ServingStatus::Serving));
    running.ready.send(false).unwrap();
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    running.ready.send(true).unwrap();
    assert_eq!(next().await, Some(ServingStatus::Serving));
    running.closing.cancel();
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_watcher_of_an_unknown_service_hears_so() {
    let running = Running::on(&on_any_port());
    let mut client = HealthClient::new(running.channel().await);
    let mut states = client.watch(about("other")).await.unwrap().into_inner();
    let first = states.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
}

#[tokio::test]
async fn nothing_is_served_once_nobody_can_speak_for_it() {
    let (ready, readiness) = watch::channel(true);
    let health = HealthService::new(readiness, CancellationToken::new());
    assert_eq!(health.status(), ServingStatus::Serving);
    drop(ready);
    assert_eq!(health.status(), ServingStatus::NotServing);
}
