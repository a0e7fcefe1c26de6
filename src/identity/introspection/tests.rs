mod rows;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::super::settings::{
    Algorithm, ClientAuth, ClientSettings, IntrospectionSettings, KeyPlace, Settings, SignedAnswers,
};
use super::super::testing::{
    AUDIENCE, NOW, OPERATION, TestKey, arrival, b64, bearing, changed, clock, jwks, request,
    snapshot,
};
use super::super::{Identified, Identity, Who};
use super::answer::SIGNED;
use super::testing::{Papers, Reply, Stub, active, private_key};
use crate::model::{
    AccessRequest, Binding, Clock, CredentialFault as Fault, IdentityAttributes, ManualClock,
    Period, PrincipalKind, Reason, Refusal, SecretRef, VerifiedIdentity,
};

const TOKEN: &str = "opaque-c4n4ry";

/// An identity room that asks one server.
struct Room {
    clock: Arc<ManualClock>,
    stub: Stub,
    identity: Arc<Identity<IdentityAttributes>>,
    noted: Arc<Mutex<Vec<&'static str>>>,
}

impl Room {
    async fn open(reply: Reply) -> Self {
        Self::with(reply, |_| {}).await
    }

    async fn with(reply: Reply, change: impl FnOnce(&mut IntrospectionSettings)) -> Self {
        let stub = Stub::start(reply).await;
        let mut server = stub.settings();
        change(&mut server);
        Self::over(stub, vec![server])
    }

    fn over(stub: Stub, introspection: Vec<IntrospectionSettings>) -> Self {
        let settings = Settings {
            introspection,
            ..Settings::default()
        };
        let clock = clock();
        let dynamic: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let identity = Identity::start(&settings, dynamic, &Handle::current())
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        let noted: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let notes = Arc::clone(&noted);
        identity.on_introspection(move |outcome, _| notes.lock().unwrap().push(outcome));
        Self {
            clock,
            stub,
            identity,
            noted,
        }
    }

    async fn ask(&self, request: &AccessRequest) -> Identified<IdentityAttributes> {
        let arrival = arrival(&self.clock);
        self.identity
            .identify((request, OPERATION), &arrival, &snapshot(), holder)
            .await
    }

    async fn present(&self, token: &str) -> Result<IdentityAttributes, Refusal> {
        told(self.ask(&bearing(token)).await)
    }

    /// What a token comes to about which the server says this.
    async fn told(&self, body: &Value) -> Result<IdentityAttributes, Reason> {
        self.stub.reply(Reply::json(body));
        self.fresh().await
    }

    /// What a token comes to that was never seen.
    async fn fresh(&self) -> Result<IdentityAttributes, Reason> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let token = format!("token-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        self.present(&token).await.map_err(|refusal| refusal.reason)
    }

    fn noted(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.noted.lock().unwrap())
    }
}

fn holder(identity: &VerifiedIdentity) -> IdentityAttributes {
    IdentityAttributes::clone(identity)
}

fn told(identified: Identified<IdentityAttributes>) -> Result<IdentityAttributes, Refusal> {
    match identified.who {
        Ok(Who::Verified(known)) => Ok(known.principal().clone()),
        Ok(Who::Anonymous) => panic!("nobody"),
        Err(refusal) => Err(refusal),
    }
}

fn fault<T: std::fmt::Debug>(outcome: Result<T, Reason>) -> Fault {
    match outcome {
        Err(Reason::CredentialInvalid(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn inactive() -> Reply {
    Reply::json(&json!({"active": false}))
}

fn good() -> Reply {
    Reply::json(&active())
}

fn with(changes: Value) -> Value {
    changed(active(), changes)
}

#[tokio::test]
async fn a_good_token_is_asked_about_once_and_believed_until_the_cap() {
    let room = Room::open(good()).await;
    let cold = room.ask(&bearing(TOKEN)).await;
    let steps: Vec<&str> = cold.cold.iter().map(|step| step.name).collect();
    assert_eq!(steps, ["introspect token", "verify token"]);
    let alice = told(cold).unwrap();
    assert_eq!((&*alice.subject, alice.scheme), ("alice", "introspection"));
    assert_eq!(*alice.issuer, *room.stub.url);
    assert_eq!(alice.kind, PrincipalKind::User);
    assert_eq!(
        (&alice.scopes[..], &alice.audience[..]),
        (&["orders:read".to_owned()][..], &[AUDIENCE.to_owned()][..])
    );
    assert_eq!(alice.expires_at.as_second(), NOW + 300);
    room.clock.advance(Duration::from_secs(59));
    assert_eq!(room.ask(&bearing(TOKEN)).await.cache_hit, Some(true));
    assert_eq!(room.stub.asked(), 1);
    // Taken back in the meantime: it ends with the cap.
    room.stub.reply(inactive());
    room.clock.advance(Duration::from_secs(1));
    let refusal = room.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CredentialInvalid(Fault::Inactive));
    assert_eq!(room.stub.asked(), 2);
    assert_eq!(room.noted(), ["active", "inactive"]);
}

#[tokio::test]
async fn the_question_names_token_client_and_nothing_else() {
    let room = Room::open(good()).await;
    room.present(TOKEN).await.unwrap();
    let question = room.stub.last();
    assert!(question.head.starts_with("POST /introspect HTTP/1.1\r\n"));
    assert_eq!(question.field("accept"), Some("application/json"));
    let basic = "cardea+api:s3cr3t%3A+%26";
    let expected = format!(
        "Basic {}",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, basic)
    );
    assert_eq!(question.field("authorization"), Some(&*expected));
    let form: Vec<(&str, &str)> = question.form.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(
        form,
        [("token", TOKEN), ("token_type_hint", "access_token")]
    );
}

#[tokio::test]
async fn a_proof_ends_with_the_token_where_that_comes_before_the_cap() {
    let room = Room::open(Reply::json(&with(json!({"exp": NOW + 20})))).await;
    room.present(TOKEN).await.unwrap();
    room.clock.advance(Duration::from_secs(19));
    assert_eq!(room.ask(&bearing(TOKEN)).await.cache_hit, Some(true));
    room.clock.advance(Duration::from_secs(1));
    // The server still says yes, and no skew is granted.
    let refusal = room.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CredentialInvalid(Fault::Expired));
    assert_eq!(room.stub.asked(), 2);
}

#[tokio::test]
async fn without_exp_an_answer_is_believed_until_the_cap() {
    let body = with(json!({"exp": null}));
    let room = Room::with(Reply::json(&body), |server| {
        server.cap = Period::seconds(30);
    })
    .await;
    let alice = room.present(TOKEN).await.unwrap();
    assert_eq!(alice.expires_at.as_second(), NOW + 31);
    room.clock.advance(Duration::from_secs(29));
    assert_eq!(room.ask(&bearing(TOKEN)).await.cache_hit, Some(true));
    room.clock.advance(Duration::from_secs(1));
    assert_eq!(room.ask(&bearing(TOKEN)).await.cache_hit, Some(false));
    assert_eq!(room.stub.asked(), 2);
}

#[tokio::test]
async fn an_answer_goes_to_who_waited_for_it_and_to_nobody_beyond_the_cap() {
    let (go, reply) = good().held();
    let room = Arc::new(Room::with(reply, |server| server.cap = Period::seconds(1)).await);
    let present = |room: &Arc<Room>| {
        let room = Arc::clone(room);
        tokio::spawn(async move { room.present(TOKEN).await })
    };
    let first = present(&room);
    while room.stub.asked() == 0 {
        tokio::task::yield_now().await;
    }
    room.clock.advance(Duration::from_secs(1));
    let late = present(&room);
    tokio::task::yield_now().await;
    go.notify_one();
    first.await.unwrap().unwrap();
    // What was asked a second before this one came may no longer be so.
    let refusal = late.await.unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::IntrospectionUnavailable);
    room.stub.reply(inactive());
    let refusal = room.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CredentialInvalid(Fault::Inactive));
    assert_eq!(room.stub.asked(), 2);
}

#[tokio::test]
async fn a_token_without_subject_is_its_clients_and_no_user() {
    let room = Room::with(good(), |server| {
        server.principal = super::super::settings::PrincipalSetting::User;
    })
    .await;
    let body = with(json!({"sub": null, "client_id": "alice"}));
    let client = room.told(&body).await.unwrap();
    assert_eq!(
        (client.kind, &*client.subject),
        (PrincipalKind::Client, "alice")
    );
    let user = room.told(&active()).await.unwrap();
    assert_eq!((user.kind, &*user.subject), (PrincipalKind::User, "alice"));
    let nobody = with(json!({"sub": null, "client_id": null}));
    assert_eq!(fault(room.told(&nobody).await), Fault::Claims);
}

#[tokio::test]
async fn members_are_mapped_and_judged_as_claims_are() {
    let room = Room::with(good(), |server| {
        server.claims.roles = vec!["realm_access.roles".to_owned()];
        server.claims.role_prefix = "idp:".to_owned();
        server.acr_levels = [("gold".to_owned(), 3)].into();
    })
    .await;
    let body = with(json!({
        "realm_access": {"roles": ["viewer"]}, "acr": "gold", "amr": ["mfa"], "sid": "s", "jti": "j",
        "act": {"sub": "bot"},
    }));
    let agent = room.told(&body).await.unwrap();
    assert_eq!((agent.kind, &*agent.subject), (PrincipalKind::Agent, "bot"));
    assert_eq!(agent.scheme, "introspection");
    let alice = agent.on_behalf.unwrap().subject;
    assert_eq!(
        (&alice.roles[..], alice.assurance, alice.mfa),
        (&["idp:viewer".to_owned()][..], 3, true)
    );
    assert_eq!(alice.scheme, "introspection");
    assert_eq!(
        (agent.session_id.as_deref(), agent.token_id.as_deref()),
        (Some("s"), Some("j"))
    );
}

#[tokio::test]
async fn answers_about_other_tokens_than_ours_are_no_allow() {
    let room = Room::open(good()).await;
    for (changes, expected) in [
        (json!({"iss": "https://stranger.example"}), Fault::Issuer),
        (json!({"iss": 7}), Fault::Issuer),
        (json!({"aud": "invoices"}), Fault::Audience),
        (json!({"aud": null}), Fault::Audience),
        (json!({"aud": []}), Fault::Audience),
        (json!({"exp": NOW}), Fault::Expired),
        (json!({"exp": NOW - 1}), Fault::Expired),
        (json!({"exp": "soon"}), Fault::Lifetime),
        (json!({"exp": 1e3}), Fault::Lifetime),
        (json!({"exp": i64::MAX}), Fault::Lifetime),
        (json!({"nbf": NOW + 31}), Fault::NotYetValid),
        (json!({"iat": NOW + 31}), Fault::NotYetValid),
        (json!({"iat": "x"}), Fault::Lifetime),
        (json!({"sub": 7}), Fault::Claims),
        (json!({"sub": ""}), Fault::Claims),
        (json!({"scope": 7}), Fault::Claims),
        (json!({"cnf": "x"}), Fault::Claims),
        (json!({"cnf": {}}), Fault::Claims),
        (json!({"token_type": null}), Fault::Type),
        (json!({"token_type": "refresh_token"}), Fault::Type),
        (json!({"token_type": "DPoP"}), Fault::Type),
        (json!({"token_type": 7}), Fault::Type),
    ] {
        let body = with(changes);
        assert_eq!(fault(room.told(&body).await), expected, "{body}");
    }
    for changes in [
        json!({"iss": room.stub.url, "nbf": NOW + 30}),
        json!({"exp": 253_370_764_800_i64}),
        json!({"token_type": "bearer", "aud": ["else", AUDIENCE]}),
    ] {
        let body = with(changes);
        assert!(room.told(&body).await.is_ok(), "{body}");
    }
}

#[tokio::test]
async fn audience_and_token_type_are_waived_only_where_the_settings_say_so() {
    let room = Room::with(good(), |server| {
        server.audiences.clear();
        server.any_audience = true;
        server.any_token_type = true;
    })
    .await;
    let body = with(json!({"aud": null, "token_type": null}));
    assert!(room.told(&body).await.is_ok());
    let refresh = with(json!({"token_type": "refresh_token"}));
    assert_eq!(fault(room.told(&refresh).await), Fault::Type);
}

#[tokio::test]
async fn bound_tokens_need_their_proof_on_every_request() {
    let thumbprint = b64([7; 32]);
    let room = Room::open(good()).await;
    let by_key = with(json!({"token_type": "DPoP", "cnf": {"jkt": thumbprint}}));
    assert_eq!(fault(room.told(&by_key).await), Fault::Possession);
    let by_certificate = with(json!({"cnf": {"x5t#S256": thumbprint}}));
    assert_eq!(fault(room.told(&by_certificate).await), Fault::Possession);

    let der = vec![1, 2, 3];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let mine = with(json!({"cnf": {"x5t#S256": b64(digest)}}));
    room.stub.reply(Reply::json(&mine));
    let mut request = bearing(TOKEN);
    request.peer.certificate = Some(der);
    let alice = told(room.ask(&request).await).unwrap();
    assert!(matches!(alice.binding, Some(Binding::Certificate(_))));
    // The cache knows whose token it is, and that does not help whoever stole it.
    let stolen = room.present(TOKEN).await.unwrap_err();
    assert_eq!(stolen.reason, Reason::CredentialInvalid(Fault::Possession));
}

/// Every way in which a server gives no answer, and what it is called.
fn failures() -> Vec<(Reply, &'static str)> {
    let html = "<html>please log in</html>".to_owned();
    let answer = |body: &str| Reply::text(body);
    let typed = |media_type, status| Reply::Answer(status, media_type, active().to_string());
    vec![
        (Reply::Closed, "unreachable"),
        (Reply::Huge, "unreadable"),
        (typed("application/json", 500), "status"),
        (typed("application/json", 401), "status"),
        (typed("application/json", 204), "status"),
        (typed("application/json", 206), "status"),
        (Reply::Answer(200, "text/html", html), "unreadable"),
        (typed("text/plain", 200), "unreadable"),
        (typed("", 200), "unreadable"),
        (typed(SIGNED, 200), "unreadable"),
        (answer(""), "unreadable"),
        (answer("true"), "unreadable"),
        (answer("[]"), "unreadable"),
        (answer("{}"), "unreadable"),
        (answer(r#"{"active":true}{}"#), "unreadable"),
        (answer(r#"{"active":"true"}"#), "unreadable"),
        (answer(r#"{"active":1}"#), "unreadable"),
        (answer(r#"{"active":null}"#), "unreadable"),
        (answer(r#"{"active":false,"active":true}"#), "unreadable"),
        (
            answer(r#"{"active":true,"sub":"a","sub":"b"}"#),
            "unreadable",
        ),
        (answer("\u{feff}{\"active\":true}"), "unreadable"),
    ]
}

#[tokio::test]
async fn c8_a_server_that_gives_no_answer_allows_nothing_and_is_asked_again() {
    let room = Room::open(good()).await;
    for (reply, outcome) in failures() {
        room.stub.reply(reply);
        let refusal = room.present(TOKEN).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::IntrospectionUnavailable);
        assert_eq!(room.noted(), [outcome]);
        assert!(!format!("{refusal:?}").contains(TOKEN));
    }
    let before = room.stub.asked();
    assert_eq!(before, failures().len());
    assert_eq!(room.identity.figures().entries, 0);
    // It recovers, and the very same token is good at once.
    room.stub.reply(good());
    room.present(TOKEN).await.unwrap();
    assert_eq!(room.stub.asked(), before + 1);
}

#[tokio::test]
async fn of_an_endless_answer_only_the_beginning_is_read() {
    let room = Room::open(Reply::Huge).await;
    let refusal = room.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::IntrospectionUnavailable);
    // What the kernel's buffers took beside the 64 KiB is far from 100 MB.
    assert!(room.stub.written() < 20_000_000, "{}", room.stub.written());
}

#[tokio::test]
async fn j5_redirects_are_not_followed_and_the_token_stays_here() {
    let other = Stub::start(good()).await;
    let room = Room::open(Reply::Redirect(format!("{}/introspect", other.url))).await;
    let refusal = room.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::IntrospectionUnavailable);
    assert_eq!((room.stub.asked(), other.asked()), (1, 0));
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_timeout_and_a_request_no_more_than_its_deadline() {
    let room = Room::with(Reply::Hang, |server| server.timeout = Period::millis(50)).await;
    let refusal = room.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::IntrospectionUnavailable);

    let room = Room::open(Reply::Hang).await;
    let mut arrival = arrival(&room.clock);
    arrival.deadline = Some(room.clock.monotonic() + Duration::from_millis(20));
    let (request, snapshot) = (bearing(TOKEN), snapshot());
    let asked = room
        .identity
        .identify((&request, OPERATION), &arrival, &snapshot, holder);
    // The question goes on for ten seconds; this request does not wait for that.
    let ended = tokio::time::timeout(Duration::from_secs(5), asked).await;
    let refusal = told(ended.unwrap()).unwrap_err();
    assert_eq!(refusal.reason, Reason::IntrospectionUnavailable);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_allow() {
    let gone = Stub::start(good())
        .await
        .url
        .replace("127.0.0.1", "127.0.0.2");
    let room = Room::with(good(), |server| {
        server.endpoint = Some(format!("{gone}/introspect"));
    })
    .await;
    assert_eq!(
        room.fresh().await.unwrap_err(),
        Reason::IntrospectionUnavailable
    );
    assert_eq!(room.noted(), ["unreachable"]);
}

#[tokio::test]
async fn that_a_token_is_not_good_is_remembered_for_a_time_of_its_own() {
    let room = Room::with(inactive(), |server| {
        server.negative_ttl = Period::seconds(5);
    })
    .await;
    for _ in 0..3 {
        let refusal = room.present(TOKEN).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::CredentialInvalid(Fault::Inactive));
    }
    assert_eq!(room.stub.asked(), 1);
    room.stub.reply(good());
    room.clock.advance(Duration::from_millis(4_999));
    room.present(TOKEN).await.unwrap_err();
    assert_eq!(room.stub.asked(), 1);
    room.clock.advance(Duration::from_millis(1));
    room.present(TOKEN).await.unwrap();
    assert_eq!(room.stub.asked(), 2);
}

#[tokio::test]
async fn with_no_negative_ttl_every_question_is_asked() {
    let room = Room::with(inactive(), |server| {
        server.negative_ttl = Period::seconds(0);
    })
    .await;
    room.present(TOKEN).await.unwrap_err();
    room.present(TOKEN).await.unwrap_err();
    assert_eq!(room.stub.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c3_a_thousand_first_uses_at_once_cost_one_question_and_one_judgement() {
    let (go, reply) = good().held();
    let room = Arc::new(Room::open(reply).await);
    let begun = Arc::new(AtomicUsize::new(0));
    let uses: Vec<_> = (0..1_000)
        .map(|_| {
            let (room, begun) = (Arc::clone(&room), Arc::clone(&begun));
            tokio::spawn(async move {
                begun.fetch_add(1, Ordering::SeqCst);
                room.present(TOKEN).await.map(|alice| alice.subject)
            })
        })
        .collect();
    while begun.load(Ordering::SeqCst) < 1_000 || room.stub.asked() == 0 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    for outcome in uses {
        assert_eq!(outcome.await.unwrap().unwrap(), "alice");
    }
    assert_eq!(room.stub.asked(), 1);
    assert_eq!(room.identity.figures().judged, 1);
}

#[tokio::test]
async fn whoever_gives_up_waiting_takes_the_answer_from_nobody() {
    let (go, reply) = good().held();
    let room = Arc::new(Room::open(reply).await);
    let present = |room: &Arc<Room>| {
        let room = Arc::clone(room);
        tokio::spawn(async move { room.present(TOKEN).await })
    };
    let first = present(&room);
    while room.stub.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let second = present(&room);
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    go.notify_one();
    assert_eq!(second.await.unwrap().unwrap().subject, "alice");
    assert_eq!(room.stub.asked(), 1);
}

#[tokio::test]
async fn a_failure_is_everybodys_who_waits_and_nobodys_who_comes_later() {
    let (go, reply) = Reply::Closed.held();
    let room = Arc::new(Room::open(reply).await);
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let room = Arc::clone(&room);
            tokio::spawn(async move { room.present(TOKEN).await })
        })
        .collect();
    while room.stub.asked() == 0 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    for outcome in waiting {
        let reason = outcome.await.unwrap().unwrap_err().reason;
        assert_eq!(reason, Reason::IntrospectionUnavailable);
    }
    assert_eq!(room.stub.asked(), 1);
    room.stub.reply(good());
    room.present(TOKEN).await.unwrap();
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_there_are_places() {
    let (go, reply) = good().held();
    let room = Arc::new(Room::with(reply, |server| server.max_concurrent = 1).await);
    let waiting: Vec<_> = (0..17)
        .map(|number| {
            let room = Arc::clone(&room);
            tokio::spawn(async move { room.present(&format!("{TOKEN}-{number}")).await })
        })
        .collect();
    while room.stub.asked() == 0 {
        tokio::task::yield_now().await;
    }
    // One is asked, sixteen wait for their turn, and there is no place for another.
    let refusal = room.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::IntrospectionUnavailable);
    assert_eq!(room.noted(), ["saturated"]);
    assert_eq!(room.stub.asked(), 1);
    room.stub.reply(good());
    go.notify_one();
    for outcome in waiting {
        outcome.await.unwrap().unwrap();
    }
    room.present(TOKEN).await.unwrap();
}

#[tokio::test]
async fn tokens_go_to_the_server_that_their_beginning_names() {
    let (stub, other) = (Stub::start(good()).await, Stub::start(inactive()).await);
    let prefixed = |stub: &Stub, prefix: &str| IntrospectionSettings {
        token_prefix: prefix.to_owned(),
        ..stub.settings()
    };
    let servers = vec![prefixed(&stub, "a_"), prefixed(&other, "a_b_")];
    let room = Room::over(stub, servers);
    room.present("a_1").await.unwrap();
    room.present("a_b_1").await.unwrap_err();
    assert_eq!((room.stub.asked(), other.asked()), (1, 1));
    let nobodys = room.present("c_1").await.unwrap_err();
    assert_eq!(nobodys.reason, Reason::CredentialInvalid(Fault::Issuer));
    assert_eq!((room.stub.asked(), other.asked()), (1, 1));
}

#[tokio::test]
async fn jwts_are_not_asked_about_and_no_token_is_with_no_server() {
    let room = Room::open(good()).await;
    let jwt = TestKey::es256("k").token("alice");
    let refusal = room.present(&jwt).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CredentialInvalid(Fault::Issuer));
    assert_eq!(room.stub.asked(), 0);
    let sent_twice = request(&[b"Bearer a", b"Bearer b"], "");
    let refusal = told(room.ask(&sent_twice).await).unwrap_err();
    assert_eq!(refusal.reason, Reason::AmbiguousCredential);

    let alone = Room::over(Stub::start(good()).await, Vec::new());
    let refusal = alone.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CredentialInvalid(Fault::NotAToken));
}

#[tokio::test]
async fn the_endpoint_is_found_by_discovery_and_looked_for_once() {
    let room = Room::with(good(), |server| server.endpoint = None).await;
    let document = "/.well-known/openid-configuration";
    let place = format!("{}/found", room.stub.url);
    // Until there is a document, nobody is believed.
    assert_eq!(
        room.fresh().await.unwrap_err(),
        Reason::IntrospectionUnavailable
    );
    for wrong in [
        json!({"issuer": "https://stranger.example", "introspection_endpoint": place}),
        json!({"issuer": room.stub.url}),
        json!({"issuer": room.stub.url, "introspection_endpoint": "http://10.0.0.1/x"}),
    ] {
        room.stub.publish(document, wrong.to_string());
        assert_eq!(
            room.fresh().await.unwrap_err(),
            Reason::IntrospectionUnavailable
        );
    }
    let right = json!({"issuer": room.stub.url, "introspection_endpoint": place});
    room.stub.publish(document, right.to_string());
    room.fresh().await.unwrap();
    assert!(room.stub.last().head.starts_with("POST /found "));
    // It stays where it was found, also once the document is gone.
    room.stub.publish(document, "{}".to_owned());
    room.fresh().await.unwrap();
    room.clock.advance(Duration::from_secs(3_601));
    room.stub
        .reply(Reply::json(&with(json!({"exp": NOW + 9_999}))));
    room.fresh().await.unwrap();
}

/// A room whose server signs its answers with the key `k1`, and that key.
async fn signing(signed: SignedAnswers) -> (Room, TestKey) {
    let key = TestKey::es256("k1");
    let stub = Stub::start(inactive()).await;
    stub.publish("/keys", jwks(&[&key]));
    let server = IntrospectionSettings {
        signed_answers: signed,
        keys: KeyPlace::JwksUrl(format!("{}/keys", stub.url)),
        ..stub.settings()
    };
    let room = Room::over(stub, vec![server]);
    let mut ready = room.identity.readiness();
    ready.wait_for(|ready| *ready).await.unwrap();
    room.identity.refresh().await;
    (room, key)
}

fn signed_header(key: &TestKey) -> Value {
    changed(key.header(), json!({"typ": "token-introspection+jwt"}))
}

fn signed_claims(room: &Room) -> Value {
    json!({
        "iss": room.stub.url, "aud": "cardea api", "iat": NOW, "token_introspection": active(),
    })
}

fn signed(text: String) -> Reply {
    Reply::Answer(200, SIGNED, text)
}

#[tokio::test]
async fn a_signed_answer_is_believed_by_the_issuers_key() {
    let (room, key) = signing(SignedAnswers::Required).await;
    assert!(room.identity.key_sets()[0].required);
    let claims = signed_claims(&room);
    room.stub
        .reply(signed(key.sign_parts(&signed_header(&key), &claims)));
    assert_eq!(room.present(TOKEN).await.unwrap().subject, "alice");
    assert_eq!(room.stub.last().field("accept"), Some(SIGNED));
    // A key that is gone takes what stands on it along.
    let other = TestKey::es256("k2");
    room.stub.publish("/keys", jwks(&[&other]));
    room.identity.refresh().await;
    room.stub.reply(Reply::Closed);
    room.clock.advance(Duration::from_secs(1));
    let refusal = room.present(TOKEN).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::IntrospectionUnavailable);
}

#[tokio::test]
async fn signed_answers_that_prove_nothing_are_no_allow() {
    let (room, key) = signing(SignedAnswers::Required).await;
    let (header, claims) = (signed_header(&key), signed_claims(&room));
    let signs = |header: &Value, changes: Value| {
        signed(key.sign_parts(header, &changed(claims.clone(), changes)))
    };
    let stranger = TestKey::es256("k1");
    let typ = |typ: &str| changed(header.clone(), json!({"typ": typ}));
    let bad = [
        ("key", signed(stranger.sign_parts(&header, &claims))),
        (
            "kid",
            signs(&changed(header.clone(), json!({"kid": "k9"})), json!({})),
        ),
        ("type of access tokens", signs(&typ("at+jwt"), json!({}))),
        ("type of ID tokens", signs(&typ("JWT"), json!({}))),
        (
            "no type",
            signs(&changed(header.clone(), json!({"typ": null})), json!({})),
        ),
        (
            "issuer",
            signs(&header, json!({"iss": "https://stranger.example"})),
        ),
        ("no issuer", signs(&header, json!({"iss": null}))),
        ("audience", signs(&header, json!({"aud": "somebody"}))),
        ("audiences", signs(&header, json!({"aud": ["somebody", 7]}))),
        ("no audience", signs(&header, json!({"aud": null}))),
        ("yesterday's", signs(&header, json!({"iat": NOW - 86_400}))),
        ("tomorrow's", signs(&header, json!({"iat": NOW + 86_400}))),
        ("no time", signs(&header, json!({"iat": null}))),
        (
            "no answer",
            signs(&header, json!({"token_introspection": null})),
        ),
        (
            "active beside",
            signs(&header, json!({"token_introspection": [], "active": true})),
        ),
        (
            "not boolean",
            signs(&header, json!({"token_introspection": {"active": "true"}})),
        ),
        (
            "alg none",
            signed(format!(
                "{}.{}.{}",
                b64(r#"{"alg":"none","typ":"token-introspection+jwt"}"#),
                b64(claims.to_string()),
                b64("x")
            )),
        ),
        ("no token", signed("active".to_owned())),
        ("plain", good()),
        ("plain as signed", signed(active().to_string())),
    ];
    for (what, reply) in bad {
        room.stub.reply(reply);
        assert_eq!(
            room.present(TOKEN).await.unwrap_err().reason,
            Reason::IntrospectionUnavailable,
            "{what}"
        );
    }
    room.stub
        .reply(signs(&header, json!({"aud": ["somebody", AUDIENCE]})));
    room.present(TOKEN).await.unwrap();
}

#[tokio::test]
async fn where_both_kinds_of_answers_are_accepted_a_plain_one_serves_too() {
    let (room, key) = signing(SignedAnswers::Accepted).await;
    room.stub.reply(good());
    room.fresh().await.unwrap();
    let claims = signed_claims(&room);
    room.stub
        .reply(signed(key.sign_parts(&signed_header(&key), &claims)));
    room.fresh().await.unwrap();
    let inactive = changed(claims, json!({"token_introspection": {"active": false}}));
    room.stub
        .reply(signed(key.sign_parts(&signed_header(&key), &inactive)));
    assert_eq!(fault(room.fresh().await), Fault::Inactive);
}

#[tokio::test]
async fn an_assertion_is_made_for_each_question() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let public = private_key(&file);
    let room = Room::with(inactive(), |server| {
        server.negative_ttl = Period::seconds(0);
        server.client = ClientSettings {
            id: "cardea".to_owned(),
            auth: Some(ClientAuth::PrivateKeyJwt {
                private_key_file: file,
                algorithm: Algorithm::ES256,
                key_id: Some("c1".to_owned()),
                audience: None,
            }),
        };
    })
    .await;
    let mut ids = HashSet::new();
    for _ in 0..2 {
        room.present(TOKEN).await.unwrap_err();
        let form = room.stub.last().form;
        assert_eq!(room.stub.last().field("authorization"), None);
        assert_eq!(
            form["client_assertion_type"],
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        );
        let mut rules = Validation::new(jsonwebtoken::Algorithm::ES256);
        rules.set_audience(&[&room.stub.url]);
        rules.set_issuer(&["cardea"]);
        rules.sub = Some("cardea".to_owned());
        let key = DecodingKey::from_ec_pem(&public).unwrap();
        let read = jsonwebtoken::decode::<Value>(&form["client_assertion"], &key, &rules).unwrap();
        assert_eq!(read.header.kid.as_deref(), Some("c1"));
        assert_eq!(read.claims["iat"], NOW);
        assert_eq!(read.claims["exp"], NOW + 60);
        ids.insert(read.claims["jti"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 2, "each has an id of its own");
}

#[tokio::test]
async fn a_secret_can_be_posted_and_a_new_one_is_taken_up() {
    let stub = Stub::start(inactive()).await;
    let server = IntrospectionSettings {
        client: ClientSettings {
            id: "cardea".to_owned(),
            auth: Some(ClientAuth::ClientSecretPost(SecretRef::File(stub.secret()))),
        },
        negative_ttl: Period::seconds(0),
        ..stub.settings()
    };
    let credentials = super::client::Credentials::load(&server).unwrap();
    let clock: Arc<dyn Clock> = clock();
    let asker = super::ask::Asker::new(&server, (credentials, "application/json"), clock).unwrap();
    asker.ask(TOKEN).await.unwrap();
    let form = stub.last().form;
    assert_eq!(
        (&*form["client_id"], &*form["client_secret"]),
        ("cardea", "s3cr3t: &")
    );
    std::fs::write(stub.secret(), "n3w").unwrap();
    asker.look_again().await;
    asker.ask(TOKEN).await.unwrap();
    assert_eq!(stub.last().form["client_secret"], "n3w");
    // What cannot be read leaves the old one in force.
    std::fs::write(stub.secret(), "").unwrap();
    asker.look_again().await;
    asker.ask(TOKEN).await.unwrap();
    assert_eq!(stub.last().form["client_secret"], "n3w");
}

#[tokio::test]
async fn a_certificate_is_shown_to_the_server_and_only_a_server_of_ours_is_asked() {
    let (papers, others) = (Papers::new(), Papers::new());
    let open = |ca: &Papers, client: &Papers, stub: &Stub| IntrospectionSettings {
        ca_file: Some(ca.path("ca.pem")),
        client: ClientSettings {
            id: "cardea".to_owned(),
            auth: Some(client.auth()),
        },
        ..stub.settings()
    };
    let stub = Stub::mutual(good(), &papers).await;
    let room = {
        let server = open(&papers, &papers, &stub);
        Room::over(stub, vec![server])
    };
    room.present(TOKEN).await.unwrap();
    assert_eq!(room.stub.last().form["client_id"], "cardea");

    // A certificate of somebody else, and a server that somebody else vouches for.
    for (ca, client) in [(&papers, &others), (&others, &papers)] {
        let stub = Stub::mutual(good(), &papers).await;
        let server = open(ca, client, &stub);
        let room = Room::over(stub, vec![server]);
        assert_eq!(
            room.fresh().await.unwrap_err(),
            Reason::IntrospectionUnavailable
        );
        assert_eq!((room.stub.asked(), room.noted()), (0, vec!["unreachable"]));
    }
}

#[tokio::test]
async fn neither_token_nor_secret_is_in_what_is_shown() {
    let room = Room::open(good()).await;
    let identified = room.ask(&bearing(TOKEN)).await;
    let shown = format!("{:?} {:?}", room.identity, identified);
    assert!(shown.contains("Introspection"), "{shown}");
    for secret in [TOKEN, "s3cr3t", "c2VjcjN0", "someone else"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn settings_that_cannot_be_meant_are_told_all_at_once() {
    let text = "
introspection:
  - issuer: 'https://idp.example|x'
    endpoint: 'http://idp.example/introspect'
    cap: 2h
    negative_ttl: 2m
    timeout: 1ms
    max_concurrent: 0
    acr_levels: {gold: 10}
    signed_answers: off
    client: {id: ''}
  - issuer: https://idp.example
    audiences: [a]
    any_audience: true
    endpoint: 'http://127.0.0.1/x'
    signed_answers: required
    algorithms: []
    ca_file: ''
    client: {id: a, auth: {tls_client_auth: {certificate_file: '', key_file: ''}}}
";
    let settings: Settings = serde_saphyr::from_str(text).unwrap();
    let told: Vec<String> = settings
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    for expected in [
        "[0].issuer` must not hold `|`",
        "[0].audiences`",
        "[0].endpoint` must be https",
        "[0].cap`",
        "[0].negative_ttl`",
        "[0].timeout`",
        "[0].max_concurrent`",
        "[0].acr_levels`",
        "[0].client.id`",
        "[0].client.auth` must be set",
        "[1].any_audience` contradicts",
        "[1].endpoint` must be https for",
        "[1].algorithms`",
        "[1].ca_file`",
        "[1].client.auth.certificate_file`",
        "[1].client.auth.key_file`",
        "[1].token_prefix` is the same as that of introspection[0]",
    ] {
        assert!(
            told.iter().any(|line| line.contains(expected)),
            "{expected} in {told:#?}"
        );
    }
    assert_eq!(told.len(), 17, "{told:#?}");
}

#[tokio::test]
async fn rehearsals_read_claims_as_the_servers_answers_are_read() {
    let stub = Stub::start(good()).await;
    let server = IntrospectionSettings {
        audiences: Vec::new(),
        any_audience: true,
        acr_levels: [("gold".to_owned(), 3)].into(),
        mfa_classes: vec!["gold".to_owned()],
        ..stub.settings()
    };
    let settings = Settings {
        introspection: vec![server],
        ..Settings::default()
    };
    let claims = json!({"iss": stub.url, "sub": "alice", "acr": "gold"});
    let claims = claims.as_object().unwrap().clone();
    let reader = super::super::ClaimReader::new(&settings);
    let alice = reader.read(claims, clock().now()).unwrap();
    assert_eq!(
        (&*alice.subject, alice.assurance, alice.mfa),
        ("alice", 3, true)
    );
}

#[tokio::test]
async fn files_that_do_not_serve_are_told_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, "c4n4ry").unwrap();
    let stub = Stub::start(good()).await;
    let changes: [fn(&std::path::Path, &mut IntrospectionSettings); 4] = [
        |path, server| server.ca_file = Some(path.to_owned()),
        |path, server| server.ca_file = Some(path.with_file_name("none")),
        |path, server| {
            server.client.auth = Some(ClientAuth::PrivateKeyJwt {
                private_key_file: path.to_owned(),
                algorithm: Algorithm::RS256,
                key_id: None,
                audience: None,
            });
        },
        |path, server| {
            server.endpoint = Some("https://idp.example/x".to_owned());
            server.client.auth = Some(ClientAuth::TlsClientAuth {
                certificate_file: path.to_owned(),
                key_file: path.to_owned(),
            });
        },
    ];
    for change in changes {
        let mut server = stub.settings();
        change(&garbage, &mut server);
        let settings = Settings {
            introspection: vec![server],
            ..Settings::default()
        };
        let problems = Identity::<()>::start(&settings, clock(), &Handle::current()).unwrap_err();
        let told = problems[0].to_string();
        assert!(told.contains("`identity.introspection[0]`"), "{told}");
        assert!(!told.contains("c4n4ry"), "{told}");
    }
}
