use std::io::Write as _;

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::identity::fetch;
use crate::identity::ready::Readiness;
use crate::identity::settings::KeyPlace;
use crate::identity::testing::{
    ISSUER, Idp, Reply, TestKey, arrival, clock, issuer_settings, jwks,
};
use crate::model::{ManualClock, Reason};

struct Bench {
    clock: Arc<ManualClock>,
    source: Arc<KeySource>,
}

impl Bench {
    fn new(settings: IssuerSettings) -> Self {
        Self::on(settings, Handle::current())
    }

    fn on(settings: IssuerSettings, background: Handle) -> Self {
        crate::identity::install_crypto();
        let clock = clock();
        let fetcher = Fetcher::new(&settings, fetch::client().unwrap()).unwrap();
        let surroundings = Surroundings {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            background,
            key_wait: Duration::from_secs(3600),
            ready: Readiness::new([false]).slot(0),
        };
        let source = KeySource::new(settings, fetcher, surroundings);
        Self { clock, source }
    }

    async fn key(&self, kid: &str) -> Result<(), Reason> {
        let arrival = arrival(&self.clock);
        let (_, key) = self.source.key(Some(kid), &arrival).await;
        key.map(|_| ()).map_err(|denial| denial.refusal().reason)
    }

    fn last_error(&self) -> String {
        self.source.status().last_error.unwrap_or_default()
    }
}

fn unknown() -> Result<(), Reason> {
    Err(Reason::CredentialInvalid(Fault::UnknownKey))
}

fn unavailable() -> Result<(), Reason> {
    Err(Reason::KeysUnavailable)
}

#[tokio::test]
async fn k1_whatever_the_endpoint_does_the_last_good_keys_serve() {
    let key = TestKey::es256("k");
    let idp = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
    let bench = Bench::new(idp.settings());
    bench.source.refresh().await;
    let canary = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
    for (reply, error) in [
        (Reply::Status(500, String::new()), "answers with status 500"),
        (Reply::Status(304, String::new()), "answers with status 304"),
        (Reply::Status(206, jwks(&[&key])), "answers with status 206"),
        (
            Reply::Status(200, "<html>".into()),
            "is not one JSON object",
        ),
        (
            Reply::Status(200, r#"{"keys":[]}"#.into()),
            "holds no key that can be used",
        ),
        (
            Reply::Redirect(format!("{}/keys", canary.url)),
            "answers with status 302",
        ),
        (
            Reply::Redirect("file:///etc/passwd".into()),
            "answers with status 302",
        ),
        (Reply::Endless, "is longer than 256 KiB"),
        (Reply::Closed, "cannot be reached"),
    ] {
        idp.reply("/keys", reply);
        bench.source.refresh().await;
        assert!(bench.last_error().contains(error), "{}", bench.last_error());
        assert_eq!(bench.key("k").await, Ok(()), "{error}");
        assert!(bench.source.usable());
    }
    assert_eq!(canary.asked(), 0, "no redirect was followed");
    assert_eq!(bench.source.status().fetch_errors, 9);
    idp.publish(&[&key]);
    bench.source.refresh().await;
    assert_eq!(bench.last_error(), "");
}

#[tokio::test]
async fn keys_serve_no_longer_than_max_stale() {
    let key = TestKey::es256("k");
    let idp = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
    let bench = Bench::new(idp.settings());
    bench.source.refresh().await;
    idp.reply("/keys", Reply::Closed);
    bench.clock.advance(Duration::from_secs(3599));
    assert_eq!(bench.key("k").await, Ok(()));
    bench.clock.advance(Duration::from_secs(1));
    assert!(!bench.source.usable());
    assert_eq!(bench.key("k").await, unavailable());
}

#[tokio::test]
async fn c8_keys_that_were_never_loaded_are_unavailable_and_heal() {
    let key = TestKey::es256("k");
    let idp = Idp::start(Reply::Closed).await;
    let bench = Bench::new(idp.settings());
    assert_eq!(bench.key("k").await, unavailable());
    assert_eq!(bench.key("k").await, unavailable());
    idp.publish(&[&key]);
    bench.source.refresh().await;
    assert_eq!(bench.key("k").await, Ok(()));
}

#[tokio::test]
async fn c7_unknown_keys_fetch_once_an_interval_and_a_rotation_is_still_noticed() {
    let (old, new) = (TestKey::es256("old"), TestKey::es256("new"));
    let idp = Idp::start(Reply::Status(200, jwks(&[&old]))).await;
    let bench = Bench::new(idp.settings());
    bench.source.refresh().await;
    for n in 0..500 {
        assert_eq!(bench.key(&format!("random-{n}")).await, unknown());
    }
    assert_eq!(idp.asked(), 2, "the first, and one for all unknown keys");

    idp.publish(&[&old, &new]);
    assert_eq!(bench.key("new").await, unknown(), "within the interval");
    bench.source.refresh().await;
    assert_eq!(
        bench.key("new").await,
        Ok(()),
        "the timer has its own budget"
    );
    assert_eq!(idp.asked(), 3);

    bench.clock.advance(Duration::from_secs(30));
    for n in 0..500 {
        assert_eq!(bench.key(&format!("random-{n}")).await, unknown());
    }
    assert_eq!(idp.asked(), 4);
    assert_eq!(bench.key("old").await, Ok(()), "known keys were kept");
}

#[tokio::test]
async fn c7_a_rotation_is_noticed_by_the_first_token_of_the_new_key() {
    let (old, new) = (TestKey::es256("old"), TestKey::es256("new"));
    let idp = Idp::start(Reply::Status(200, jwks(&[&old]))).await;
    let bench = Bench::new(idp.settings());
    bench.source.refresh().await;
    idp.publish(&[&new]);
    let (waited, key) = bench.source.key(Some("new"), &arrival(&bench.clock)).await;
    assert!(key.is_ok());
    assert_eq!(waited.map(|step| step.name), Some("fetch keys"));
    assert_eq!(bench.key("old").await, unknown());
}

#[tokio::test]
async fn an_empty_or_failing_answer_does_not_disable_the_interval() {
    let idp = Idp::start(Reply::Status(200, r#"{"keys":[]}"#.into())).await;
    let bench = Bench::new(idp.settings());
    for n in 0..100 {
        assert_eq!(bench.key(&format!("random-{n}")).await, unavailable());
    }
    assert_eq!(idp.asked(), 1);
}

#[tokio::test]
async fn many_who_wait_cause_one_fetch() {
    let key = TestKey::es256("k");
    let go = Arc::new(Notify::new());
    let idp = Idp::start(Reply::Held(Arc::clone(&go), jwks(&[&key]))).await;
    let bench = Bench::new(idp.settings());
    let waiting = join_all((0..1000).map(|_| bench.key("k")));
    go.notify_one();
    assert!(waiting.await.iter().all(Result::is_ok));
    assert_eq!(idp.asked(), 1);
}

#[tokio::test]
async fn nobody_waits_beyond_the_deadline() {
    let idp = Idp::start(Reply::Held(Arc::default(), String::new())).await;
    let bench = Bench::new(idp.settings());
    let mut arrival = arrival(&bench.clock);
    arrival.deadline = Some(arrival.started);
    let (waited, key) = bench.source.key(Some("k"), &arrival).await;
    assert_eq!(key.unwrap_err().refusal().reason, Reason::KeysUnavailable);
    assert!(waited.is_some());
    assert!(bench.source.lock().running, "the fetch goes on without it");
}

#[tokio::test]
async fn a_fetch_for_an_unknown_key_that_fails_is_retried_before_the_timer() {
    let (old, new) = (TestKey::es256("old"), TestKey::es256("new"));
    let idp = Idp::start(Reply::Status(200, jwks(&[&old]))).await;
    let bench = Bench::new(idp.settings());
    let mut rounds = bench.source.rounds.subscribe();
    let task = tokio::spawn(keep_fresh(Arc::clone(&bench.source)));
    rounds.wait_for(|rounds| *rounds == 1).await.unwrap();
    idp.reply("/keys", Reply::Closed);
    assert_eq!(bench.key("new").await, unavailable());
    idp.publish(&[&new]);
    let retried = rounds.wait_for(|rounds| *rounds == 3);
    let limit = Duration::from_secs(60);
    assert!(tokio::time::timeout(limit, retried).await.is_ok());
    assert_eq!(bench.key("new").await, Ok(()));
    task.abort();
}

#[tokio::test]
async fn a_waiter_that_gives_up_harms_nobody() {
    let key = TestKey::es256("k");
    let go = Arc::new(Notify::new());
    let idp = Idp::start(Reply::Held(Arc::clone(&go), jwks(&[&key]))).await;
    let bench = Bench::new(idp.settings());
    let mut first = Box::pin(bench.key("k"));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    drop(first);
    go.notify_one();
    assert_eq!(bench.key("k").await, Ok(()));
    assert_eq!(idp.asked(), 1);
}

#[tokio::test]
async fn an_unknown_key_while_the_issuer_cannot_be_asked_is_no_denial() {
    let key = TestKey::es256("k");
    let idp = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
    let bench = Bench::new(idp.settings());
    bench.source.refresh().await;
    idp.reply("/keys", Reply::Status(503, String::new()));
    assert_eq!(bench.key("rotated").await, unavailable());
    assert_eq!(bench.key("rotated").await, unavailable());
    assert_eq!(bench.key("k").await, Ok(()));
}

#[tokio::test]
async fn without_a_background_runtime_nobody_waits_for_ever() {
    let idp = Idp::start(Reply::Closed).await;
    let lost = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let handle = lost.handle().clone();
    lost.shutdown_background();
    let bench = Bench::on(idp.settings(), handle);
    assert_eq!(bench.key("k").await, unavailable());
    assert_eq!(idp.asked(), 0);
}

#[tokio::test]
async fn discovery_finds_the_keys_of_the_very_issuer() {
    let key = TestKey::es256("k");
    let idp = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
    let mut settings = issuer_settings(KeyPlace::Discovery);
    settings.issuer = format!("{}/tenant/", idp.url);
    let bench = Bench::new(settings.clone());
    let document = "/tenant/.well-known/openid-configuration";
    for (body, error) in [
        (
            json!({"issuer": ISSUER, "jwks_uri": format!("{}/keys", idp.url)}),
            "another issuer",
        ),
        (
            json!({"issuer": format!("{}/tenant", idp.url)}),
            "another issuer",
        ),
        (
            json!({"jwks_uri": format!("{}/keys", idp.url)}),
            "another issuer",
        ),
        (
            json!({"issuer": settings.issuer}),
            "no acceptable `jwks_uri`",
        ),
        (
            json!({"issuer": settings.issuer, "jwks_uri": "http://10.0.0.1/"}),
            "no acceptable",
        ),
        (
            json!({"issuer": settings.issuer, "jwks_uri": "file:///etc/passwd"}),
            "no acceptable",
        ),
        (json!([1]), "is not usable"),
    ] {
        idp.reply(document, Reply::Status(200, body.to_string()));
        bench.source.refresh().await;
        assert!(bench.last_error().contains(error), "{}", bench.last_error());
        assert!(!bench.source.usable());
    }
    let good = json!({"issuer": settings.issuer, "jwks_uri": format!("{}/keys", idp.url)});
    idp.reply(document, Reply::Status(200, good.to_string()));
    bench.source.refresh().await;
    assert_eq!(bench.key("k").await, Ok(()));
}

#[tokio::test]
async fn a_file_is_read_again() {
    let (a, b) = (TestKey::es256("a"), TestKey::es256("b"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bench = Bench::new(issuer_settings(KeyPlace::JwksFile(file.path().into())));
    bench.source.refresh().await;
    assert!(!bench.source.usable(), "the file is empty");
    file.write_all(jwks(&[&a]).as_bytes()).unwrap();
    bench.source.refresh().await;
    assert_eq!(bench.key("a").await, Ok(()));
    std::fs::write(file.path(), jwks(&[&b])).unwrap();
    assert_eq!(
        bench.key("b").await,
        Ok(()),
        "an unknown key looks at the file too"
    );
    assert_eq!(bench.key("a").await, unknown());
    file.close().unwrap();
    bench.source.refresh().await;
    assert!(
        bench.last_error().contains("cannot be read"),
        "{}",
        bench.last_error()
    );
    assert_eq!(bench.key("b").await, Ok(()));
}

#[tokio::test]
async fn a_huge_file_is_not_read() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![b' '; 256 * 1024 + 1]).unwrap();
    let bench = Bench::new(issuer_settings(KeyPlace::JwksFile(file.path().into())));
    bench.source.refresh().await;
    assert!(
        bench.last_error().contains("longer than 256 KiB"),
        "{}",
        bench.last_error()
    );
}

#[tokio::test]
async fn the_timer_fetches_again_and_again() {
    let key = TestKey::es256("k");
    let idp = Idp::start(Reply::Closed).await;
    let mut settings = idp.settings();
    settings.refresh_interval = crate::model::Period::millis(5);
    let bench = Bench::new(settings);
    let mut rounds = bench.source.rounds.subscribe();
    let task = tokio::spawn(keep_fresh(Arc::clone(&bench.source)));
    rounds.wait_for(|rounds| *rounds >= 2).await.unwrap();
    assert!(!bench.source.usable());
    idp.publish(&[&key]);
    let so_far = *rounds.borrow();
    rounds
        .wait_for(|rounds| *rounds >= so_far + 3)
        .await
        .unwrap();
    assert_eq!(bench.key("k").await, Ok(()));
    task.abort();
}

#[tokio::test]
async fn pauses_are_the_interval_and_shorter_after_failures() {
    let idp = Idp::start(Reply::Closed).await;
    let bench = Bench::new(idp.settings());
    let about = |pause: Duration, seconds: f64| {
        assert!(
            (pause.as_secs_f64() / seconds - 1.0).abs() < 0.11,
            "{pause:?}"
        );
    };
    about(bench.source.pause(), 300.0);
    bench.source.refresh().await;
    about(bench.source.pause(), 0.5);
    bench.source.refresh().await;
    about(bench.source.pause(), 1.0);
    bench.source.lock().failed_in_a_row = 1000;
    about(bench.source.pause(), 30.0);
}
