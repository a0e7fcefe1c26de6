use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::super::ready::Readiness;
use super::super::settings::{KeyPlace, Settings};
use super::super::testing::{ISSUER, Idp, NOW, Reply, TestKey, arrival, changed, clock, jwks};
use super::testing::status_list;
use super::*;
use crate::model::{ManualClock, Period, Problem, Reason, SecretRef};

/// One issuer's lists, on the issuer's own server, with its keys.
struct Bench {
    clock: Arc<ManualClock>,
    idp: Idp,
    key: TestKey,
    keys: Arc<KeySource>,
    statuses: Arc<Statuses>,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut StatusListSettings)) -> Self {
        crate::identity::install_crypto();
        let key = TestKey::es256("k1");
        let idp = Idp::start(Reply::Status(200, jwks(&[&key]))).await;
        let mut lists = StatusListSettings {
            url_prefixes: vec![format!("{}/lists", idp.url)],
            ..StatusListSettings::default()
        };
        change(&mut lists);
        let issuer = IssuerSettings {
            status_lists: Some(lists),
            ..idp.settings()
        };
        let issuers = [issuer.clone()];
        let clock = clock();
        let dynamic: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let background = Handle::current();
        let surroundings = |_| Surroundings {
            clock: Arc::clone(&dynamic),
            background: background.clone(),
            key_wait: Duration::from_secs(3600),
            ready: Readiness::new([]).slot(0),
        };
        let fetcher = Fetcher::new(&issuer, fetch::client().unwrap()).unwrap();
        let keys = KeySource::new(issuer, fetcher, surroundings(0));
        keys.refresh().await;
        let around = (&dynamic, &background, Duration::from_secs(3600));
        let sources = [Arc::clone(&keys)];
        let started = start((&issuers, &sources), surroundings, around).unwrap();
        Self {
            statuses: Arc::clone(&started.statuses[0]),
            clock,
            idp,
            key,
            keys,
        }
    }

    fn uri(&self, list: &str) -> String {
        format!("{}/lists/{list}", self.idp.url)
    }

    /// What the list of that name has to hold, but for these claims.
    fn claims(&self, list: &str, bytes: &[u8], changes: Value) -> Value {
        let claims = json!({
            "sub": self.uri(list), "iss": ISSUER, "iat": NOW,
            "status_list": status_list(2, bytes),
        });
        changed(claims, changes)
    }

    fn publish(&self, list: &str, bytes: &[u8]) {
        self.publish_with(list, bytes, json!({}));
    }

    fn publish_with(&self, list: &str, bytes: &[u8], changes: Value) {
        let text = signed(&self.key, &self.claims(list, bytes, changes));
        self.reply(list, Reply::Status(200, text));
    }

    fn reply(&self, list: &str, reply: Reply) {
        self.idp.reply(&format!("/lists/{list}"), reply);
    }

    /// Where a token stands that names this list and this place.
    async fn standing(&self, list: &str, index: u64) -> Result<Standing, Reason> {
        let claims = json!({"status": {"status_list": {"idx": index, "uri": self.uri(list)}}});
        let named = self.statuses.read(claims.as_object().unwrap()).unwrap();
        let (_, standing) = named.unwrap().standing(&arrival(&self.clock)).await;
        standing.map_err(|denial| denial.refusal().reason)
    }

    fn check(&self, standing: &Standing) -> Result<(), Reason> {
        let checked = standing.check(&arrival(&self.clock));
        checked.map_err(|denial| denial.refusal().reason)
    }

    async fn ask(&self, list: &str, index: u64) -> Result<(), Reason> {
        let standing = self.standing(list, index).await?;
        self.check(&standing)
    }

    fn lists(&self) -> &Arc<StatusLists> {
        self.statuses.lists().unwrap()
    }

    /// How many lists were asked for: the first question was for the keys.
    fn asked(&self) -> usize {
        self.idp.asked() - 1
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn signed(key: &TestKey, claims: &Value) -> String {
    let header = changed(key.header(), json!({"typ": "statuslist+jwt"}));
    key.sign_parts(&header, claims)
}

fn unavailable() -> Result<(), Reason> {
    Err(Reason::StatusUnavailable)
}

fn refused(fault: Fault) -> Result<(), Reason> {
    Err(Reason::CredentialInvalid(fault))
}

#[tokio::test]
async fn only_valid_passes_and_nothing_beyond_the_end() {
    let bench = Bench::new().await;
    // 3, 2, 1, 0 from the lowest bits on.
    bench.publish("1", &[0b0001_1011]);
    assert_eq!(bench.ask("1", 0).await, refused(Fault::Revoked));
    assert_eq!(bench.ask("1", 1).await, refused(Fault::Revoked));
    assert_eq!(bench.ask("1", 2).await, refused(Fault::Revoked));
    assert_eq!(bench.ask("1", 3).await, Ok(()));
    assert_eq!(bench.ask("1", 4).await, refused(Fault::Claims));
    assert_eq!(bench.ask("1", u64::MAX).await, refused(Fault::Claims));
    assert_eq!(bench.asked(), 1);
    let details: Vec<&str> = [0, 1, 2, 4]
        .map(|index| {
            let uri = bench.uri("1");
            let claims = json!({"status": {"status_list": {"idx": index, "uri": uri}}});
            let named = bench.statuses.read(claims.as_object().unwrap());
            let standing = named.unwrap().unwrap().at_hand(&arrival(&bench.clock));
            match standing.unwrap().check(&arrival(&bench.clock)) {
                Err(Denial::Status(_, status)) => status.detail(),
                other => panic!("{other:?}"),
            }
        })
        .into();
    for (detail, word) in details.iter().zip(["else", "suspended", "invalid", "end"]) {
        assert!(detail.contains(word), "{detail}");
    }
}

#[tokio::test]
async fn c5_a_proof_that_is_kept_follows_the_list_both_ways() {
    let bench = Bench::new().await;
    bench.publish("1", &[0]);
    let standing = bench.standing("1", 0).await.unwrap();
    assert_eq!(bench.check(&standing), Ok(()));
    bench.publish("1", &[2]);
    assert_eq!(bench.check(&standing), Ok(()), "nobody asked yet");
    bench.lists().refresh().await;
    assert_eq!(bench.check(&standing), refused(Fault::Revoked));
    assert!(standing.refuses(&arrival(&bench.clock)));
    bench.publish("1", &[0]);
    bench.lists().refresh().await;
    assert_eq!(bench.check(&standing), Ok(()));
    assert!(!standing.refuses(&arrival(&bench.clock)));
}

#[tokio::test]
async fn many_first_uses_at_once_cost_one_fetch() {
    let bench = Bench::new().await;
    let go = Arc::new(Notify::new());
    let text = signed(&bench.key, &bench.claims("1", &[0], json!({})));
    bench.reply("1", Reply::Held(Arc::clone(&go), text));
    let uses = join_all((0..100).map(|index| bench.ask("1", index % 4)));
    let release = async {
        while bench.asked() == 0 {
            tokio::task::yield_now().await;
        }
        go.notify_one();
    };
    let (answers, ()) = tokio::join!(uses, release);
    assert_eq!(answers, vec![Ok(()); 100]);
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn c8_a_list_that_cannot_be_had_is_asked_for_again_after_a_rest() {
    let bench = Bench::new().await;
    bench.reply("1", Reply::Status(500, String::new()));
    for _ in 0..3 {
        assert_eq!(bench.ask("1", 0).await, unavailable());
    }
    assert_eq!(bench.asked(), 1, "it rests after a failure");
    bench.publish("1", &[0]);
    bench.advance(1);
    assert_eq!(bench.ask("1", 0).await, Ok(()));
    let figures = bench.lists().figures();
    assert_eq!((figures.held, figures.fetch_errors), (1, 1));
}

#[tokio::test]
async fn k1_whatever_the_server_does_nothing_but_the_issuers_list_is_believed() {
    let bench = Bench::with(|lists| lists.max_list_bytes = 1024).await;
    let other = TestKey::es256("k1");
    let good = bench.claims("x", &[0], json!({}));
    let under = |header: Value| {
        let header = changed(bench.key.header(), header);
        Reply::Status(200, bench.key.sign_parts(&header, &good))
    };
    let with = |changes: Value| {
        let claims = bench.claims("x", &[0], changes);
        Reply::Status(200, signed(&bench.key, &claims))
    };
    let whole = signed(&bench.key, &good);
    let cut = whole.get(..whole.len() - 4).unwrap();
    let twice = good.to_string().replacen('{', "{\"iat\":1,", 1);
    let header = changed(bench.key.header(), json!({"typ": "statuslist+jwt"})).to_string();
    let twice = bench.key.sign_texts(&header, &twice);
    let typed = |more: Value| under(changed(json!({"typ": "statuslist+jwt"}), more));
    let replies = [
        (Reply::Closed, "cannot be reached"),
        (Reply::Endless, "longer than"),
        (Reply::Redirect(bench.uri("good")), "status 302"),
        (Reply::Status(304, String::new()), "status 304"),
        (Reply::Status(404, whole.clone()), "status 404"),
        (Reply::Status(200, String::new()), "three parts"),
        (Reply::Status(200, "<html>".into()), "three parts"),
        (Reply::Status(200, good.to_string()), "three parts"),
        (Reply::Status(200, cut.into()), "signature"),
        (Reply::Status(200, signed(&other, &good)), "signature"),
        (Reply::Status(200, twice), "one reading"),
        (Reply::Status(200, bench.key.token("alice")), "another type"),
        (under(json!({"typ": "at+jwt"})), "another type"),
        (under(json!({"typ": "statuslist+cwt"})), "another type"),
        (under(json!({"typ": null})), "another type"),
        (typed(json!({"alg": "none"})), "algorithm"),
        (typed(json!({"alg": "HS256"})), "algorithm"),
        (typed(json!({"alg": "ES384"})), "signature"),
        (typed(json!({"kid": "k2"})), "key"),
        (typed(json!({"jku": bench.uri("good")})), "never accepted"),
        (typed(json!({"x5c": ["MII"]})), "never accepted"),
        (typed(json!({"jwk": other.jwk()})), "never accepted"),
        (typed(json!({"crit": ["exp"]})), "never accepted"),
        (with(json!({"sub": bench.uri("y")})), "another list"),
        (
            with(json!({"iss": "https://other.example"})),
            "another issuer",
        ),
        (with(json!({"exp": NOW - 60})), "expired"),
        (with(json!({"iat": NOW + 60})), "future"),
        (with(json!({"iat": null})), "no `iat`"),
        (with(json!({"iat": NOW - 2 * 24 * 3600})), "max_age"),
        (
            with(json!({"status_list": status_list(1, &[0; 2000])})),
            "max_list_bytes",
        ),
        (with(json!({"status_list": {"bits": 3, "lst": ""}})), "bits"),
    ];
    bench.publish("good", &[0]);
    let claims = json!({"status": {"status_list": {"idx": 0, "uri": bench.uri("x")}}});
    let named = bench.statuses.read(claims.as_object().unwrap()).unwrap();
    let reference = named.unwrap().reference;
    for (reply, what) in replies {
        bench.reply("x", reply);
        let error = bench.lists().source.fetch(&reference).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
    assert_eq!(bench.ask("x", 0).await, unavailable());
    bench.publish("x", &[0]);
    assert!(bench.lists().source.fetch(&reference).await.is_ok());
}

#[tokio::test]
async fn an_older_list_than_the_one_held_is_not_taken() {
    let bench = Bench::new().await;
    bench.publish("1", &[1]);
    let standing = bench.standing("1", 0).await.unwrap();
    assert_eq!(bench.check(&standing), refused(Fault::Revoked));
    bench.publish_with("1", &[0], json!({"iat": NOW - 1}));
    bench.lists().refresh().await;
    assert_eq!(bench.check(&standing), refused(Fault::Revoked));
    assert_eq!(bench.lists().figures().fetch_errors, 1);
    // Of one second, whichever came last counts.
    bench.publish("1", &[0]);
    bench.lists().refresh().await;
    assert_eq!(bench.check(&standing), Ok(()));
}

#[tokio::test]
async fn c8_a_list_serves_until_it_is_stale_and_then_nothing_on_it_passes() {
    let bench = Bench::new().await;
    bench.publish("1", &[0]);
    let standing = bench.standing("1", 0).await.unwrap();
    bench.reply("1", Reply::Closed);
    bench.advance(3599);
    bench.lists().refresh().await;
    assert_eq!(bench.check(&standing), Ok(()));
    bench.advance(1);
    assert!(!standing.tells(&arrival(&bench.clock)));
    assert_eq!(bench.check(&standing), unavailable());
    assert!(!standing.refuses(&arrival(&bench.clock)));
    assert_eq!(bench.ask("1", 0).await, unavailable());
}

#[tokio::test]
async fn c8_a_list_that_is_served_for_ever_counts_no_longer_than_max_age() {
    let bench = Bench::new().await;
    bench.publish("1", &[0]);
    let standing = bench.standing("1", 0).await.unwrap();
    for _ in 0..48 {
        assert_eq!(bench.check(&standing), Ok(()));
        bench.advance(1800);
        bench.lists().refresh().await;
    }
    // A day, and the skew of clocks.
    bench.advance(29);
    assert_eq!(bench.check(&standing), Ok(()));
    bench.advance(1);
    assert_eq!(bench.check(&standing), unavailable());
    bench.lists().refresh().await;
    assert_eq!(
        bench.check(&standing),
        unavailable(),
        "though it was fetched"
    );
    assert_eq!(bench.ask("1", 0).await, unavailable());
    bench.publish_with("1", &[0], json!({"iat": NOW + 24 * 3600}));
    bench.lists().refresh().await;
    assert_eq!(bench.check(&standing), Ok(()));
}

#[tokio::test]
async fn c8_a_list_that_lapsed_or_was_let_go_comes_back_no_older_than_it_was() {
    let bench = Bench::with(|lists| lists.max_lists = 1).await;
    bench.publish_with("1", &[1], json!({"exp": NOW + 60}));
    assert_eq!(bench.ask("1", 0).await, refused(Fault::Revoked));
    bench.publish_with("1", &[0], json!({"iat": NOW - 1}));
    bench.advance(90);
    assert_eq!(bench.ask("1", 0).await, unavailable(), "it has expired");
    // Another takes its place.
    bench.publish("2", &[0]);
    bench.advance(61);
    assert_eq!(bench.ask("2", 0).await, Ok(()));
    bench.advance(61);
    assert_eq!(bench.ask("1", 0).await, unavailable(), "it made room");
    // Nobody uses it.
    bench.advance(3601);
    bench.lists().turn();
    assert_eq!(bench.lists().figures().held, 0);
    assert_eq!(bench.ask("1", 0).await, unavailable(), "it was forgotten");
    bench.advance(1);
    bench.publish("1", &[0]);
    assert_eq!(bench.ask("1", 0).await, Ok(()));
}

#[tokio::test]
async fn a_list_whose_signer_withdraws_the_key_says_nothing_more() {
    let bench = Bench::new().await;
    bench.publish("1", &[0]);
    let standing = bench.standing("1", 0).await.unwrap();
    let new = TestKey::es256("k2");
    bench.idp.publish(&[&new]);
    bench.keys.refresh().await;
    assert_eq!(bench.check(&standing), unavailable());
    let text = signed(&new, &bench.claims("1", &[0], json!({})));
    bench.reply("1", Reply::Status(200, text));
    assert_eq!(bench.ask("1", 0).await, Ok(()));
    assert_eq!(bench.check(&standing), Ok(()), "it is the same list");
}

#[tokio::test]
async fn lists_are_fetched_when_they_are_due_by_their_ttl_within_bounds() {
    let bench = Bench::new().await;
    let source = &bench.lists().source;
    let pause = |seconds: f64| {
        let pause = source.pause(Some(Duration::from_secs_f64(seconds)));
        pause.as_secs_f64()
    };
    assert!((27.0..=30.0).contains(&pause(1.0)), "min_refresh");
    assert!((54.0..=60.0).contains(&pause(60.0)), "ttl");
    assert!((270.0..=300.0).contains(&pause(1e9)), "max_refresh");
    assert!((270.0..=300.0).contains(&source.pause(None).as_secs_f64()));

    bench.publish_with("1", &[0], json!({"ttl": 100}));
    let standing = bench.standing("1", 0).await.unwrap();
    bench.publish_with("1", &[1], json!({"ttl": 100}));
    let pause = bench.lists().turn();
    assert!(pause > Duration::from_secs(80) && pause <= Duration::from_secs(100));
    assert_eq!(bench.asked(), 1, "not due yet");
    bench.clock.advance(pause);
    bench.lists().turn();
    bench.lists().source.landed.notified().await;
    // Of the first fetch and of this one.
    while bench.asked() < 2 || bench.check(&standing).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.check(&standing), refused(Fault::Revoked));
}

#[tokio::test]
async fn lists_are_read_beside_the_runtime_and_no_more_than_four_of_all_issuers_at_once() {
    let bench = Bench::new().await;
    bench.publish("1", &[0]);
    let source = &bench.lists().source;
    let here = std::thread::current().id();
    let there = source.apart(|| std::thread::current().id()).await;
    assert_ne!(there, Ok(here));

    assert_eq!(source.reading.available_permits(), 4);
    let others = source.reading.acquire_many(4).await.unwrap();
    let mut asking = Box::pin(bench.ask("1", 0));
    tokio::select! {
        answer = &mut asking => panic!("nobody could read it: {answer:?}"),
        () = async {
            while bench.asked() == 0 {
                tokio::task::yield_now().await;
            }
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    drop(others);
    assert_eq!(asking.await, Ok(()));
}

#[tokio::test]
async fn all_issuers_lists_share_the_turns_to_be_read() {
    let bench = Bench::new().await;
    let lists = StatusListSettings {
        url_prefixes: vec![format!("{}/lists", bench.idp.url)],
        ..StatusListSettings::default()
    };
    let issuer = IssuerSettings {
        status_lists: Some(lists),
        ..bench.idp.settings()
    };
    let (issuers, keys) = (
        [issuer.clone(), issuer],
        [(); 2].map(|()| Arc::clone(&bench.keys)),
    );
    let clock: Arc<dyn Clock> = Arc::clone(&bench.clock) as _;
    let around = (&clock, &Handle::current(), Duration::from_secs(1));
    let nobody = |_| -> Surroundings { panic!("no keys of its own") };
    let started = start((&issuers, &keys), nobody, around).unwrap();
    let turns: Vec<_> = all(&started.statuses)
        .iter()
        .map(|lists| Arc::clone(&lists.source.reading))
        .collect();
    assert!(Arc::ptr_eq(&turns[0], &turns[1]));
}

#[tokio::test]
async fn pauses_after_failures_double_and_are_never_those_of_everybody_else() {
    let bench = Bench::new().await;
    let source = &bench.lists().source;
    for (failed, whole) in [(1, 0.5), (2, 1.0), (5, 8.0), (7, 30.0), (u32::MAX, 30.0)] {
        let mut rests = BTreeSet::new();
        for _ in 0..64 {
            let rest = source.rest(failed);
            assert!(
                (whole / 2.0..=whole).contains(&rest.as_secs_f64()),
                "{rest:?}"
            );
            rests.insert(rest);
        }
        // Of 256 each: that all 64 are the same one does not happen.
        assert!(rests.len() > 1, "{rests:?}");
    }
}

#[tokio::test]
async fn why_a_list_cannot_be_had_is_told_once_until_that_changes() {
    let bench = Bench::new().await;
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _told_here = tracing::subscriber::set_default(subscriber.finish());
    let told = async |reply: Reply, failures: u64| {
        bench.reply("1", reply);
        for _ in 0..3 {
            assert_eq!(bench.ask("1", 0).await, unavailable());
            bench.advance(30);
        }
        assert_eq!(bench.lists().figures().fetch_errors, failures);
        lines.take("a status list could not be fetched")
    };
    let once = told(Reply::Status(500, String::new()), 3).await;
    assert_eq!(once.len(), 1, "{once:?}");
    assert!(
        once[0].contains("WARN") && once[0].contains("status 500"),
        "{once:?}"
    );
    let once = told(Reply::Status(200, "{}".into()), 6).await;
    assert_eq!(once.len(), 1, "another reason: {once:?}");
    bench.publish("1", &[0]);
    bench.lists().refresh().await;
    let back = lines.take("could be fetched again");
    assert_eq!(back.len(), 1, "{back:?}");
    bench.lists().refresh().await;
    assert_eq!(lines.take("status list").len(), 0);
    bench.reply("1", Reply::Status(500, String::new()));
    bench.lists().refresh().await;
    assert_eq!(lines.take("a status list could not be fetched").len(), 1);
}

/// What was logged, by lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// The lines with this in them. All are forgotten.
    fn take(&self, part: &str) -> Vec<String> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().filter(|line| line.contains(part));
        lines.map(str::to_owned).collect()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn lists_that_nobody_uses_are_forgotten() {
    let bench = Bench::new().await;
    bench.publish("used", &[0]);
    bench.publish("unused", &[0]);
    let used = bench.standing("used", 0).await.unwrap();
    let unused = bench.standing("unused", 0).await.unwrap();
    for _ in 0..3 {
        bench.advance(1800);
        bench.lists().refresh().await;
        assert_eq!(bench.check(&used), Ok(()));
        bench.lists().turn();
    }
    assert_eq!(bench.lists().figures().held, 1);
    assert_eq!(bench.check(&unused), unavailable());
    assert_eq!(bench.ask("unused", 0).await, Ok(()), "it is fetched again");
}

#[tokio::test]
async fn no_more_lists_are_held_than_allowed_and_none_in_use_is_pushed_out() {
    let bench = Bench::with(|lists| lists.max_lists = 2).await;
    for list in ["1", "2", "3"] {
        bench.publish(list, &[0]);
    }
    let first = bench.standing("1", 0).await.unwrap();
    assert_eq!(bench.ask("2", 0).await, Ok(()));
    assert_eq!(bench.ask("3", 0).await, unavailable());
    assert_eq!(bench.asked(), 2, "nothing is fetched for it");
    bench.advance(61);
    assert_eq!(bench.ask("2", 0).await, Ok(()));
    assert_eq!(bench.ask("3", 0).await, Ok(()));
    assert_eq!(bench.lists().figures().held, 2);
    assert_eq!(bench.check(&first), unavailable(), "the oldest made room");
    assert_eq!(bench.ask("1", 0).await, unavailable());
}

#[tokio::test]
async fn waiting_ends_with_the_request_and_the_fetch_goes_on() {
    let bench = Bench::new().await;
    let go = Arc::new(Notify::new());
    let text = signed(&bench.key, &bench.claims("1", &[0], json!({})));
    bench.reply("1", Reply::Held(Arc::clone(&go), text));
    let claims = json!({"status": {"status_list": {"idx": 0, "uri": bench.uri("1")}}});
    let named = bench.statuses.read(claims.as_object().unwrap()).unwrap();
    let mut hurried = arrival(&bench.clock);
    hurried.deadline = Some(hurried.started + Duration::from_millis(1));
    let (waited, standing) = named.unwrap().standing(&hurried).await;
    assert_eq!(waited.unwrap().name, "fetch status list");
    assert_eq!(
        standing.unwrap_err().refusal().reason,
        Reason::StatusUnavailable
    );
    go.notify_one();
    assert_eq!(bench.ask("1", 0).await, Ok(()));
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn lists_may_be_signed_by_somebody_else_than_the_issuer() {
    let signer = TestKey::es256("s1");
    let server = Idp::start(Reply::Status(200, jwks(&[&signer]))).await;
    let bench = Bench::with(|lists| {
        lists.issuer = Some("https://status.example".into());
        lists.keys = Some(KeyPlace::JwksUrl(format!("{}/keys", server.url)));
    })
    .await;
    let by = json!({"iss": "https://status.example"});
    let claims = bench.claims("1", &[0], by.clone());
    bench.reply("1", Reply::Status(200, signed(&signer, &claims)));
    assert_eq!(bench.ask("1", 0).await, Ok(()));
    // Neither the issuer itself, nor the signer in the issuer's name.
    bench.publish_with("2", &[0], by);
    assert_eq!(bench.ask("2", 0).await, unavailable());
    let claims = bench.claims("3", &[0], json!({}));
    bench.reply("3", Reply::Status(200, signed(&signer, &claims)));
    assert_eq!(bench.ask("3", 0).await, unavailable());
}

#[tokio::test]
async fn a_token_without_a_status_passes_unless_it_has_to_have_one() {
    let none = json!({});
    let bench = Bench::new().await;
    let read = bench.statuses.read(none.as_object().unwrap());
    assert!(read.unwrap().is_none());
    let bench = Bench::with(|lists| lists.mode = StatusMode::Required).await;
    let read = bench.statuses.read(none.as_object().unwrap());
    assert_eq!(read.unwrap_err().0, Fault::Claims);
    let elsewhere = json!({"status": {"status_list": {"idx": 0, "uri": "https://evil.example/1"}}});
    let read = bench.statuses.read(elsewhere.as_object().unwrap());
    assert_eq!(read.unwrap_err().0, Fault::Claims);
}

#[test]
fn what_is_not_configured_is_told_once_and_what_is_off_never() {
    let claims = json!({"status": {"anything": 1}});
    let claims = claims.as_object().unwrap();
    let unsaid = Statuses::of(&IssuerSettings::default(), None);
    assert!(unsaid.read(claims).unwrap().is_none());
    let Statuses::Unsaid { told, .. } = &*unsaid else {
        panic!("{unsaid:?}");
    };
    unsaid.mind(&Map::new());
    assert!(!told.load(Ordering::Relaxed));
    unsaid.mind(claims);
    assert!(told.load(Ordering::Relaxed));
    let off = IssuerSettings {
        status_lists: Some(StatusListSettings {
            mode: StatusMode::Off,
            ..StatusListSettings::default()
        }),
        ..IssuerSettings::default()
    };
    let off = Statuses::of(&off, None);
    assert!(matches!(*off, Statuses::Ignored));
    assert!(off.read(claims).unwrap().is_none());
}

#[test]
fn what_proves_us_to_the_issuers_server_is_shown_to_no_server_of_lists() {
    let issuer = IssuerSettings {
        ca_file: Some("/etc/issuer.pem".into()),
        key_token: Some(SecretRef::File("/etc/token".into())),
        ..IssuerSettings::default()
    };
    let lists = StatusListSettings {
        keys: Some(KeyPlace::Discovery),
        ca_file: Some("/etc/lists.pem".into()),
        ..StatusListSettings::default()
    };
    for asked in [lists.server(&issuer), lists.signer(&issuer).unwrap()] {
        assert_eq!(asked.key_token, None);
        assert_eq!(asked.ca_file, lists.ca_file);
    }
}

#[test]
fn every_mistake_in_the_settings_is_named() {
    type Mistake = fn(&mut StatusListSettings);
    let problems = |lists: StatusListSettings| -> Vec<String> {
        let issuer = IssuerSettings {
            status_lists: Some(lists),
            issuer: ISSUER.into(),
            audiences: vec!["orders".into()],
            ..IssuerSettings::default()
        };
        let settings = Settings {
            issuers: vec![issuer],
            ..Settings::default()
        };
        let message = |problem: Problem| problem.message;
        settings.problems().into_iter().map(message).collect()
    };
    let good = || StatusListSettings {
        url_prefixes: vec!["https://idp.example/lists".into()],
        ..StatusListSettings::default()
    };
    assert_eq!(problems(good()), Vec::<String>::new());
    let off = StatusListSettings {
        mode: StatusMode::Off,
        ..StatusListSettings::default()
    };
    assert_eq!(problems(off), Vec::<String>::new());
    let mistakes: [(Mistake, &str); 14] = [
        (|lists| lists.url_prefixes.clear(), "url_prefixes"),
        (
            |lists| lists.url_prefixes.push("http://idp.example/".into()),
            "url_prefixes",
        ),
        (
            |lists| lists.url_prefixes.push("https://idp.example/?a=b".into()),
            "url_prefixes",
        ),
        (
            |lists| lists.url_prefixes.push("lists".into()),
            "url_prefixes",
        ),
        (
            |lists| lists.issuer = Some("https://status.example".into()),
            "issuer",
        ),
        (
            |lists| lists.keys = Some(KeyPlace::JwksUrl("ftp://status.example".into())),
            "keys.jwks_url",
        ),
        (
            |lists| lists.min_refresh = Period::seconds(0),
            "min_refresh",
        ),
        (
            |lists| lists.max_refresh = Period::seconds(10),
            "max_refresh",
        ),
        (|lists| lists.max_stale = Period::seconds(10), "max_stale"),
        (|lists| lists.max_age = Period::seconds(10), "max_age"),
        (|lists| lists.max_age = Period::seconds(31 << 17), "max_age"),
        (|lists| lists.ca_file = Some("".into()), "ca_file"),
        (|lists| lists.max_lists = 0, "max_lists"),
        (|lists| lists.max_list_bytes = 65 << 20, "max_list_bytes"),
    ];
    for (mistake, field) in mistakes {
        let mut lists = good();
        mistake(&mut lists);
        let found = problems(lists);
        let place = format!("`identity.issuers[0].status_lists.{field}`");
        assert_eq!(found.len(), 1, "{field}: {found:?}");
        assert!(found[0].starts_with(&place), "{found:?}");
    }
}
