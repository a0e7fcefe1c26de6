mod rows;

use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;
use serde_json::json;
use tokio::runtime::Handle;

use super::super::settings::Settings;
use super::super::testing::{
    Idp, NOW, OPERATION, Reply, TestKey, arrival, b64, changed, clock, jwks, request, snapshot,
};
use super::super::{Identified, Identity, Who, install_crypto};
use super::*;
use crate::model::{Clock, Headers, ManualClock, Method, Period};

const TOKEN: &str = "header.payload.signature";
const URL: &str = "https://api.example/orders";

fn dpop_with(change: impl FnOnce(&mut DpopSettings)) -> Dpop {
    install_crypto();
    let mut settings = DpopSettings::default();
    change(&mut settings);
    Dpop::start(&settings).unwrap()
}

fn dpop() -> Dpop {
    dpop_with(|_| {})
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The public half with nothing but what makes the key.
fn public(key: &TestKey) -> Value {
    changed(key.jwk(), json!({"kid": null, "alg": null, "use": null}))
}

fn thumbprint(key: &TestKey) -> String {
    let key = BroughtKey::read(&public(key), &Algorithm::ALL).unwrap();
    b64(key.thumbprint().unwrap())
}

fn header(key: &TestKey) -> Value {
    json!({"typ": "dpop+jwt", "alg": key.algorithm.as_str(), "jwk": public(key)})
}

/// The claims of a good proof for `token`.
fn claims(token: &str) -> Value {
    let ath = b64(digest(&SHA256, token.as_bytes()));
    json!({"jti": "1", "htm": "GET", "htu": URL, "iat": NOW, "ath": ath})
}

fn good(key: &TestKey) -> String {
    key.sign_parts(&header(key), &claims(TOKEN))
}

fn saying(key: &TestKey, changes: Value) -> String {
    key.sign_parts(&header(key), &changed(claims(TOKEN), changes))
}

fn headed(key: &TestKey, changes: Value) -> String {
    key.sign_parts(&changed(header(key), changes), &claims(TOKEN))
}

fn carrying(proofs: &[&[u8]]) -> AccessRequest {
    let fields = proofs
        .iter()
        .map(|proof| ("dpop".to_owned(), proof.to_vec()));
    AccessRequest {
        headers: Headers::new(fields.collect()),
        ..request(&[], "")
    }
}

fn prove_at(
    dpop: &Dpop,
    key: &TestKey,
    proof: &str,
    at: Timestamp,
) -> Result<Option<String>, Reason> {
    let bound = Bound {
        thumbprint: &thumbprint(key),
        token: TOKEN,
        request: &carrying(&[proof.as_bytes()]),
        at,
    };
    dpop.prove(&bound).map_err(|refusal| refusal.reason)
}

fn prove(dpop: &Dpop, key: &TestKey, proof: &str) -> Result<Option<String>, Reason> {
    prove_at(dpop, key, proof, at(NOW))
}

fn refused(fault: Fault) -> Result<Option<String>, Reason> {
    Err(Reason::CredentialInvalid(fault))
}

#[test]
fn a_good_proof_is_believed_whatever_key_the_token_is_bound_to() {
    let dpop = dpop_with(|settings| settings.algorithms = Algorithm::ALL.to_vec());
    for key in [
        TestKey::es256("k"),
        TestKey::es384("k"),
        TestKey::ed25519("k"),
        TestKey::rsa("k", 0, Algorithm::RS256),
        TestKey::rsa("k", 1, Algorithm::PS512),
    ] {
        assert_eq!(
            prove(&dpop, &key, &good(&key)),
            Ok(None),
            "{:?}",
            key.algorithm
        );
    }
}

#[test]
fn a_proof_that_is_wrong_in_one_way_is_refused_and_uses_up_nothing() {
    let (dpop, key, other) = (dpop(), TestKey::es256("k"), TestKey::es256("o"));
    let ath = |token: &str| b64(digest(&SHA256, token.as_bytes()));
    let said = [
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 1}),
        json!({"jti": "x".repeat(257)}),
        json!({"htm": null}),
        json!({"htm": "POST"}),
        json!({"htm": "get"}),
        json!({"htm": ["GET"]}),
        json!({"htu": null}),
        json!({"htu": "https://api.example/other"}),
        json!({"htu": "http://api.example/orders"}),
        json!({"htu": "https://other.example/orders"}),
        json!({"iat": null}),
        json!({"iat": NOW - 61}),
        json!({"iat": NOW + 6}),
        json!({"iat": NOW.to_string()}),
        json!({"iat": 1_900_000_000.5}),
        json!({"iat": -1}),
        json!({"exp": NOW}),
        json!({"nbf": NOW + 6}),
        json!({"exp": "soon"}),
        json!({"ath": null}),
        json!({"ath": ath("another")}),
        json!({"ath": ath(TOKEN) + "="}),
        json!({"ath": ""}),
    ];
    let heads = [
        json!({"typ": null}),
        json!({"typ": "at+jwt"}),
        json!({"typ": "JWT"}),
        json!({"typ": "dpop+jwt "}),
        json!({"alg": null}),
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "ES384"}),
        json!({"alg": "EdDSA"}),
        json!({"jwk": null}),
        json!({"jwk": []}),
        json!({"jwk": "key"}),
        json!({"jwk": public(&other)}),
        json!({"jwk": changed(public(&key), json!({"d": "AQAB"}))}),
        json!({"jwk": {"kty": "oct", "k": "AQAB"}}),
        json!({"jwk": changed(public(&key), json!({"x": b64([1; 32])}))}),
        json!({"jku": "https://attacker.example/keys"}),
        json!({"x5u": "https://attacker.example/chain"}),
        json!({"x5c": []}),
        json!({"crit": ["b64"], "b64": false}),
    ];
    let good = good(&key);
    let (signed, _) = good.rsplit_once('.').unwrap();
    let twice = key.sign_texts(
        &header(&key).to_string(),
        &claims(TOKEN)
            .to_string()
            .replacen('{', "{\"jti\":\"2\",", 1),
    );
    let mut proofs = vec![
        String::new(),
        "proof".to_owned(),
        format!("{signed}."),
        format!("{good}."),
        format!("{good}="),
        format!(" {good}"),
        format!("{signed}.{}", b64([0; 64])),
        twice,
        // Signed by another key, and by another key that it brings.
        other.sign_parts(&header(&key), &claims(TOKEN)),
        self::good(&other),
        saying(&key, json!({ "filler": "x".repeat(8 * 1024) })),
    ];
    proofs.extend(said.into_iter().map(|changes| saying(&key, changes)));
    proofs.extend(heads.into_iter().map(|changes| headed(&key, changes)));
    for proof in &proofs {
        assert_eq!(prove(&dpop, &key, proof), refused(Fault::Proof), "{proof}");
    }
    assert_eq!(prove(&dpop, &key, &good), Ok(None));
}

#[test]
fn there_has_to_be_exactly_one_proof() {
    let (dpop, key) = (dpop(), TestKey::es256("k"));
    let good = good(&key);
    let joined = format!("{good},{good}");
    let sent: [&[&[u8]]; 4] = [
        &[],
        &[good.as_bytes(), good.as_bytes()],
        &[joined.as_bytes()],
        &[b"\xff\xfe"],
    ];
    for proofs in sent {
        let bound = Bound {
            thumbprint: &thumbprint(&key),
            token: TOKEN,
            request: &carrying(proofs),
            at: at(NOW),
        };
        let refusal = dpop.prove(&bound).unwrap_err();
        assert_eq!(refusal.reason, Reason::CredentialInvalid(Fault::Proof));
    }
}

#[test]
fn an_algorithm_that_is_not_accepted_is_refused() {
    let (dpop, key) = (dpop(), TestKey::rsa("k", 0, Algorithm::RS256));
    assert_eq!(prove(&dpop, &key, &good(&key)), refused(Fault::Proof));
}

#[test]
fn both_ends_of_the_window_are_within_it() {
    let (dpop, key) = (dpop(), TestKey::es256("k"));
    for (id, iat) in [("a", NOW - 60), ("b", NOW + 5)] {
        let proof = saying(&key, json!({ "jti": id, "iat": iat }));
        assert_eq!(prove(&dpop, &key, &proof), Ok(None), "{id}");
    }
}

#[test]
fn a_proof_is_good_once() {
    let (dpop, key) = (dpop(), TestKey::es256("k"));
    let proof = good(&key);
    assert_eq!(prove(&dpop, &key, &proof), Ok(None));
    for later in [0, 1, 60] {
        let again = prove_at(&dpop, &key, &proof, at(NOW + later));
        assert_eq!(again, refused(Fault::Proof), "{later}");
    }
    // Neither is another proof with the same id.
    let proof = saying(&key, json!({ "iat": NOW - 1 }));
    assert_eq!(prove(&dpop, &key, &proof), refused(Fault::Proof));
}

#[test]
fn of_one_proof_sent_many_times_at_once_one_passes() {
    let (dpop, key) = (dpop(), TestKey::es256("k"));
    let proof = good(&key);
    let barrier = Barrier::new(8);
    let passed = thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            prove(&dpop, &key, &proof).is_ok()
        };
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asked
            .into_iter()
            .filter_map(|one| one.join().ok())
            .filter(|passed| *passed)
            .count()
    });
    assert_eq!(passed, 1);
}

#[test]
fn where_no_more_proofs_can_be_remembered_none_is_believed() {
    let dpop = dpop_with(|settings| settings.replay_capacity = 1);
    let key = TestKey::es256("k");
    assert_eq!(prove(&dpop, &key, &good(&key)), Ok(None));
    let second = saying(&key, json!({ "jti": "2" }));
    assert_eq!(prove(&dpop, &key, &second), Err(Reason::TooManyRequests));
    assert_eq!(prove(&dpop, &key, &good(&key)), refused(Fault::Proof));
}

#[test]
fn a_required_nonce_is_told_and_then_expected() {
    let dpop = dpop_with(|settings| settings.nonce = NonceSetting::Required);
    let key = TestKey::es256("k");
    for nonce in [json!(null), json!(7), json!(""), json!("mine")] {
        let proof = saying(&key, json!({ "nonce": nonce }));
        assert_eq!(prove(&dpop, &key, &proof), refused(Fault::Nonce));
    }
    let nonce = dpop.nonce(at(NOW)).unwrap();
    let proof = saying(&key, json!({ "nonce": nonce }));
    assert_eq!(prove(&dpop, &key, &proof), Ok(None));
    assert_eq!(prove(&dpop, &key, &proof), refused(Fault::Proof));

    let later = NOW + 300;
    let ageing = saying(&key, json!({"nonce": nonce, "iat": later}));
    let renewed = prove_at(&dpop, &key, &ageing, at(later)).unwrap();
    assert_eq!(renewed, dpop.nonce(at(later)));
    assert!(renewed.is_some_and(|renewed| renewed != nonce));

    let gone = NOW + 600;
    let proof = saying(&key, json!({"nonce": nonce, "iat": gone}));
    assert_eq!(
        prove_at(&dpop, &key, &proof, at(gone)),
        refused(Fault::Nonce)
    );
}

#[test]
fn replicas_that_share_a_secret_accept_one_anothers_nonces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonce-secret");
    std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    let replica = || {
        dpop_with(|settings| {
            settings.nonce = NonceSetting::Required;
            settings.nonce_secret = Some(SecretRef::File(path.clone()));
        })
    };
    assert_eq!(replica().nonce(at(NOW)), replica().nonce(at(NOW)));
    let alone = || dpop_with(|settings| settings.nonce = NonceSetting::Required);
    assert_ne!(alone().nonce(at(NOW)), alone().nonce(at(NOW)));

    std::fs::write(&path, "short").unwrap();
    let settings = DpopSettings {
        nonce: NonceSetting::Required,
        nonce_secret: Some(SecretRef::File(path)),
        ..DpopSettings::default()
    };
    let problem = Dpop::start(&settings).unwrap_err().to_string();
    assert!(problem.contains("identity.dpop.nonce_secret"), "{problem}");
    assert!(!problem.contains("short\""));
}

#[test]
fn nothing_secret_shows() {
    let dpop = dpop_with(|settings| settings.nonce = NonceSetting::Required);
    let shown = format!("{dpop:?}");
    assert!(shown.contains("ES256"));
    assert!(
        !shown.contains("secret") && !shown.contains("key:"),
        "{shown}"
    );
}

proptest! {
    /// Whatever one byte of a good proof is turned into, it is refused: there is one spelling.
    #[test]
    fn a_proof_with_a_changed_byte_is_refused(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (dpop, key) = (dpop(), TestKey::ed25519("k"));
        let good = good(&key).into_bytes();
        let mut proof = good.clone();
        let place = place.index(proof.len());
        proof[place] = byte;
        prop_assume!(proof != good);
        let bound = Bound {
            thumbprint: &thumbprint(&key),
            token: TOKEN,
            request: &carrying(&[&proof]),
            at: at(NOW),
        };
        let refusal = dpop.prove(&bound).unwrap_err();
        prop_assert_eq!(refusal.reason, Reason::CredentialInvalid(Fault::Proof));
    }
}

/// An identity room that knows proofs, an issuer's key, and the key of a token's holder.
struct Room {
    clock: Arc<ManualClock>,
    issuer: TestKey,
    holder: TestKey,
    identity: Arc<Identity<String>>,
    _idp: Idp,
}

impl Room {
    async fn with(change: impl FnOnce(&mut DpopSettings)) -> Self {
        let issuer = TestKey::es256("k1");
        let idp = Idp::start(Reply::Status(200, jwks(&[&issuer]))).await;
        let mut dpop = DpopSettings::default();
        change(&mut dpop);
        let settings = Settings {
            issuers: vec![idp.settings()],
            dpop: Some(dpop),
            ..Settings::default()
        };
        let clock = clock();
        let dynamic: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let identity = Identity::start(&settings, dynamic, &Handle::current()).unwrap();
        identity.readiness().wait_for(|ready| *ready).await.unwrap();
        Self {
            clock,
            issuer,
            holder: TestKey::es256("holder"),
            identity,
            _idp: idp,
        }
    }

    /// A token that is bound to the holder's key.
    fn bound(&self) -> String {
        let cnf = json!({ "jkt": thumbprint(&self.holder) });
        self.issuer.token_with(json!({ "cnf": cnf }))
    }

    fn proof(&self, token: &str, changes: Value) -> String {
        let claims = changed(claims(token), changes);
        self.holder.sign_parts(&header(&self.holder), &claims)
    }

    async fn ask(&self, authorization: &str, proof: Option<&str>) -> Identified<String> {
        let mut fields = vec![("authorization".to_owned(), authorization.into())];
        fields.extend(proof.map(|proof| ("dpop".to_owned(), proof.into())));
        let request = AccessRequest {
            headers: Headers::new(fields),
            ..request(&[], "")
        };
        let asked = (&request, OPERATION);
        let finish = |identity: &crate::model::VerifiedIdentity| {
            assert!(identity.sender_constrained() || identity.binding.is_none());
            identity.subject.clone()
        };
        self.identity
            .identify(asked, &arrival(&self.clock), &snapshot(), finish)
            .await
    }
}

fn told(identified: &Identified<String>) -> Result<String, Reason> {
    match &identified.who {
        Ok(Who::Anonymous) => Ok("nobody".to_owned()),
        Ok(Who::Verified(known)) => Ok(known.principal().clone()),
        Err(refusal) => Err(refusal.reason.clone()),
    }
}

fn invalid_by(fault: Fault) -> Result<String, Reason> {
    Err(Reason::CredentialInvalid(fault))
}

#[tokio::test]
async fn a_bound_token_needs_a_proof_of_its_own_on_every_request_warm_and_cold() {
    let room = Room::with(|_| {}).await;
    let token = room.bound();
    let sent = format!("DPoP {token}");
    for id in ["a", "b"] {
        let proof = room.proof(&token, json!({ "jti": id }));
        let first = room.ask(&sent, Some(&proof)).await;
        assert_eq!(told(&first), Ok("alice".to_owned()));
        let again = room.ask(&sent, Some(&proof)).await;
        assert_eq!(again.cache_hit, Some(true));
        assert_eq!(told(&again), invalid_by(Fault::Proof));
        assert_eq!(told(&room.ask(&sent, None).await), invalid_by(Fault::Proof));
    }
    let posted = room.proof(&token, json!({"jti": "c", "htm": Method::Post.as_str()}));
    assert_eq!(
        told(&room.ask(&sent, Some(&posted)).await),
        invalid_by(Fault::Proof)
    );
}

#[tokio::test]
async fn a_bound_token_sent_as_bearer_is_refused_even_with_its_proof() {
    let room = Room::with(|_| {}).await;
    let token = room.bound();
    let proof = room.proof(&token, json!({}));
    let heard = room.ask(&format!("Bearer {token}"), Some(&proof)).await;
    assert_eq!(told(&heard), invalid_by(Fault::Possession));
    // That used up nothing.
    let heard = room.ask(&format!("dpop {token}"), Some(&proof)).await;
    assert_eq!(told(&heard), Ok("alice".to_owned()));
}

#[tokio::test]
async fn an_unbound_token_is_no_bound_one_whatever_stands_beside_it() {
    let room = Room::with(|_| {}).await;
    let token = room.issuer.token("alice");
    let proof = room.proof(&token, json!({}));
    let heard = room.ask(&format!("DPoP {token}"), Some(&proof)).await;
    assert_eq!(told(&heard), invalid_by(Fault::Possession));
    for beside in [&*proof, "no proof, at all"] {
        let heard = room.ask(&format!("Bearer {token}"), Some(beside)).await;
        assert_eq!(told(&heard), Ok("alice".to_owned()), "it is ignored");
    }
}

#[tokio::test]
async fn j17_a_proof_is_no_access_token_and_an_access_token_is_no_proof() {
    let room = Room::with(|_| {}).await;
    let token = room.bound();
    let proof = room.proof(&token, json!({}));
    for scheme in ["Bearer", "DPoP"] {
        let heard = room.ask(&format!("{scheme} {proof}"), None).await;
        assert!(told(&heard).is_err(), "{scheme}");
        // Nor is one that the issuer signed, with all that a token has.
        let typed = room.issuer.token_under(json!({ "typ": "dpop+jwt" }));
        let heard = room.ask(&format!("{scheme} {typed}"), Some(&proof)).await;
        assert_eq!(told(&heard), invalid_by(Fault::Type));
    }
    let heard = room.ask(&format!("DPoP {token}"), Some(&token)).await;
    assert_eq!(told(&heard), invalid_by(Fault::Proof));
}

#[tokio::test]
async fn a_nonce_is_told_with_the_refusal_that_asks_for_it() {
    let room = Room::with(|settings| settings.nonce = NonceSetting::Required).await;
    let token = room.bound();
    let sent = format!("DPoP {token}");
    let asked = room.ask(&sent, Some(&room.proof(&token, json!({})))).await;
    assert_eq!(told(&asked), invalid_by(Fault::Nonce));
    let nonce = asked.proof_nonce.unwrap();
    let proof = room.proof(&token, json!({ "nonce": nonce }));
    let heard = room.ask(&sent, Some(&proof)).await;
    assert_eq!(
        (told(&heard), heard.proof_nonce),
        (Ok("alice".to_owned()), None)
    );

    room.clock.advance(Period::seconds(280).0);
    let token = room.issuer.token_with(json!({
        "exp": NOW + 900, "cnf": { "jkt": thumbprint(&room.holder) },
    }));
    room.clock.advance(Period::seconds(20).0);
    let proof = room.proof(&token, json!({"nonce": nonce, "iat": NOW + 300}));
    let heard = room.ask(&format!("DPoP {token}"), Some(&proof)).await;
    assert_eq!(told(&heard), Ok("alice".to_owned()));
    assert!(heard.proof_nonce.is_some_and(|next| next != nonce));
}
