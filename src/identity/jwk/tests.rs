use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::install_crypto;
use crate::identity::testing::{TestKey, b64, changed, jwks};
use crate::model::{Clock, SystemClock};

fn lease() -> Arc<Lease> {
    Lease::new(SystemClock.monotonic())
}

fn read(text: &str) -> Result<KeyTable, FetchError> {
    KeyTable::read(text.as_bytes(), &Algorithm::ALL, None, &lease())
}

/// Reads a set of a good key and `entry`, and tells why `entry` was left out.
fn why(entry: &Value) -> Option<&'static str> {
    let good = TestKey::es256("good").jwk();
    let table = read(&json!({"keys": [good, entry]}).to_string()).unwrap();
    assert!(table.find(Some("good")).is_some(), "the good key stands");
    table.left_out.first().copied()
}

#[test]
fn every_algorithm_verifies_what_its_key_signed() {
    install_crypto();
    let rsa = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ];
    let mut keys: Vec<TestKey> = rsa.map(|a| TestKey::rsa("k", 0, a)).into();
    keys.extend([
        TestKey::es256("k"),
        TestKey::es384("k"),
        TestKey::ed25519("k"),
    ]);
    for key in &keys {
        let table = read(&jwks(&[key])).unwrap();
        let public = table.find(Some("k")).unwrap();
        let token = key.token("alice");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        assert!(public.verifies(key.algorithm, signed, signature));
        assert!(!public.verifies(key.algorithm, "other", signature));
        for other in Algorithm::ALL.into_iter().filter(|a| *a != key.algorithm) {
            assert!(!public.verifies(other, signed, signature), "{other:?}");
        }
    }
}

#[test]
fn j8_edge_signatures_match_nothing() {
    install_crypto();
    let key = TestKey::es256("k");
    let table = read(&jwks(&[&key])).unwrap();
    let public = table.find(Some("k")).unwrap();
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let one = [vec![0; 31], vec![1]].concat();
    for signature in [
        vec![0; 64],
        vec![],
        vec![1; 63],
        vec![1; 65],
        vec![0xff; 64],
        [order.to_vec(), order.to_vec()].concat(),
        [order.to_vec(), one.clone()].concat(),
        [one, vec![0; 32]].concat(),
        vec![0x30, 6, 2, 1, 1, 2, 1, 1],
        vec![0x41; 5_000],
    ] {
        assert!(!public.verifies(Algorithm::ES256, "signed", &b64(signature)));
    }
}

#[test]
fn j9_weak_and_wrong_use_keys_are_left_out_and_the_others_kept() {
    let rsa = TestKey::rsa("bad", 0, Algorithm::RS256).jwk();
    let ec = TestKey::es256("bad").jwk();
    let number = |bytes: usize, last: u8| {
        let mut n = vec![0xc5; bytes];
        n[bytes - 1] = last;
        b64(n)
    };
    for (jwk, changes) in [
        (&rsa, json!({"n": number(64, 1)})),
        (&rsa, json!({"n": number(128, 1)})),
        (&rsa, json!({"n": number(255, 1)})),
        (&rsa, json!({"n": number(2048, 1)})),
        (&rsa, json!({"n": number(256, 2)})),
        (
            &rsa,
            json!({"n": b64([[0; 256], [0xc5; 256]].concat()), "e": b64([1])}),
        ),
        (&rsa, json!({"n": ""})),
        (&rsa, json!({"n": null})),
        (&rsa, json!({"n": 5})),
        (&rsa, json!({"n": "AQAB=="})),
        (&rsa, json!({"e": b64([1])})),
        (&rsa, json!({"e": b64([3])})),
        (&rsa, json!({"e": b64([1, 0, 0])})),
        (&rsa, json!({"e": b64([1, 0, 0, 0, 1])})),
        (&rsa, json!({"e": ""})),
        (&rsa, json!({"use": "enc"})),
        (&rsa, json!({"use": 1})),
        (&rsa, json!({"use": null, "key_ops": ["encrypt"]})),
        (&rsa, json!({"key_ops": []})),
        (&rsa, json!({"key_ops": "verify"})),
        (&rsa, json!({"alg": "RSA-OAEP"})),
        (&rsa, json!({"alg": "ES256"})),
        (&rsa, json!({"alg": "HS256"})),
        (&rsa, json!({"alg": ["RS256"]})),
        (&rsa, json!({"d": "AQAB"})),
        (&rsa, json!({"kid": ""})),
        (&rsa, json!({"kid": 1})),
        (&rsa, json!({"kid": "k".repeat(257)})),
        (&rsa, json!({"kty": "oct", "k": "AQAB"})),
        (&rsa, json!({"crv": "P-256"})),
        (&ec, json!({"crv": "P-384"})),
        (&ec, json!({"crv": "secp256k1"})),
        (&ec, json!({"crv": null})),
        (&ec, json!({"alg": "ES384"})),
        (&ec, json!({"x": b64([7; 32])})),
        (&ec, json!({"x": b64([0; 32]), "y": b64([0; 32])})),
        (&ec, json!({"y": null})),
        (
            &ec,
            json!({"kty": "OKP", "crv": "Ed25519", "x": b64([0; 31])}),
        ),
        (&ec, json!({"kty": "OKP", "crv": "X25519"})),
    ] {
        let bad = changed(jwk.clone(), changes.clone());
        assert!(why(&bad).is_some(), "{changes}");
    }
    assert_eq!(why(&json!("key")), Some("is no object"));
    assert_eq!(why(&json!({})), Some("is of a type that is not accepted"));
}

#[test]
fn a_key_says_what_it_is_for_or_leaves_it_to_the_settings() {
    let key = TestKey::rsa("k", 0, Algorithm::RS256);
    let bare = changed(key.jwk(), json!({"alg": null, "use": null}));
    let text = json!({"keys": [bare]}).to_string();
    let configured = [Algorithm::RS256, Algorithm::ES256];
    let table = KeyTable::read(text.as_bytes(), &configured, None, &lease()).unwrap();
    let public = table.find(Some("k")).unwrap();
    assert!(public.serves(Algorithm::RS256));
    assert!(!public.serves(Algorithm::PS256), "not configured");
    assert!(!public.serves(Algorithm::ES256), "not its type");
    let verifying = changed(key.jwk(), json!({"use": null, "key_ops": ["verify"]}));
    assert_eq!(why(&verifying), None);
}

#[test]
fn leading_zeros_of_a_modulus_do_not_matter() {
    let key = TestKey::rsa("k", 0, Algorithm::RS256);
    let jwk = key.jwk();
    let n = base64url(jwk["n"].as_str().unwrap()).unwrap();
    let padded = changed(jwk, json!({"n": b64([vec![0], n].concat())}));
    assert_eq!(why(&padded), None);
}

#[test]
fn k1_keys_that_share_a_kid_are_left_out() {
    let (a, b, c) = (
        TestKey::es256("k"),
        TestKey::es256("k"),
        TestKey::es256("c"),
    );
    let table = read(&jwks(&[&a, &b, &c])).unwrap();
    assert!(table.find(Some("k")).is_none());
    assert!(table.find(Some("c")).is_some());
    assert_eq!(table.left_out, ["shares its kid with another"; 2]);
    let table = read(&jwks(&[&a, &a])).unwrap();
    assert!(
        table.find(Some("k")).is_some(),
        "the same key twice is one key"
    );
}

#[test]
fn a_token_without_kid_finds_the_only_key() {
    let (a, b) = (TestKey::es256("a"), TestKey::es256("b"));
    assert!(read(&jwks(&[&a])).unwrap().find(None).is_some());
    assert!(read(&jwks(&[&a, &b])).unwrap().find(None).is_none());
    let nameless = changed(a.jwk(), json!({"kid": null}));
    let table = read(&json!({"keys": [nameless]}).to_string()).unwrap();
    assert!(table.find(None).is_some());
    assert!(table.find(Some("a")).is_none());
}

#[test]
fn k1_what_is_no_usable_key_set_is_refused_whole() {
    let key = TestKey::es256("k").jwk();
    let many = json!({"keys": vec![key; 65]}).to_string();
    for text in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"AQAB"}]}"#,
        &many,
    ] {
        assert!(matches!(read(text), Err(FetchError::KeySet(_))), "{text}");
    }
}

#[test]
fn c5_a_key_that_is_gone_or_changed_is_withdrawn_and_the_others_stand() {
    let lease = lease();
    let (a, b, other_b) = (
        TestKey::es256("a"),
        TestKey::es256("b"),
        TestKey::es256("b"),
    );
    let table =
        |text: String, old| KeyTable::read(text.as_bytes(), &Algorithm::ALL, old, &lease).unwrap();
    let now = SystemClock.monotonic();
    lease.renew(now + std::time::Duration::from_secs(60));
    let old = table(jwks(&[&a, &b]), None);
    let new = table(jwks(&[&a, &other_b]), Some(&old));
    old.withdraw_all_but(&new);
    assert!(old.find(Some("a")).unwrap().ground().holds(now));
    assert!(!old.find(Some("b")).unwrap().ground().holds(now));
    assert!(new.find(Some("b")).unwrap().ground().holds(now));
}

proptest! {
    #[test]
    fn no_key_set_panics_the_reader(
        kty in "(RSA|EC|OKP|oct|)",
        crv in "(P-256|P-384|Ed25519|)",
        x in "[A-Za-z0-9_-]{0,90}",
        y in "[A-Za-z0-9_-]{0,90}",
    ) {
        let key = json!({"kty": kty, "crv": crv, "x": x, "y": y, "n": y, "e": x});
        let _read = read(&json!({"keys": [key]}).to_string());
        let rsa = json!({"kty": "RSA", "n": y, "e": x});
        let _read = read(&json!({"keys": [rsa]}).to_string());
    }

    #[test]
    fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _read = KeyTable::read(&bytes, &Algorithm::ALL, None, &lease());
    }
}
