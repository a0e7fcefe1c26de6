//! Rows of the catalogue of attacks (docs/security/attacks.md), for proofs: what is tried on tokens is tried on them too.

use aws_lc_rs::hmac;

use super::*;

/// None of them is believed, and none uses up the id of a good proof, which they all share.
#[track_caller]
fn assert_none_is_believed(key: &TestKey, proofs: impl IntoIterator<Item = String>) {
    let dpop = dpop();
    let mut tried = 0;
    for proof in proofs {
        assert_eq!(prove(&dpop, key, &proof), refused(Fault::Proof), "{proof}");
        tried += 1;
    }
    assert!(tried > 0);
    assert_eq!(prove(&dpop, key, &good(key)), Ok(None));
}

/// Header and payload of a good proof, but for these header members.
fn unsigned(key: &TestKey, changes: Value) -> String {
    let header = changed(header(key), changes);
    format!(
        "{}.{}",
        b64(header.to_string()),
        b64(claims(TOKEN).to_string())
    )
}

fn mac(signed: &str, secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{signed}.{}", b64(hmac::sign(&key, signed.as_bytes())))
}

#[test]
fn j1_a_proof_without_a_signature_is_none() {
    let key = TestKey::es256("k");
    let good = good(&key);
    let (_, signature) = good.rsplit_once('.').unwrap();
    let unsigned = ["none", "None", "nOnE", "NONE", "", " none"]
        .iter()
        .flat_map(|name| {
            let signed = unsigned(&key, json!({ "alg": name }));
            ["", "AAAA", signature].map(|signature| format!("{signed}.{signature}"))
        });
    let odd =
        [json!(null), json!(["ES256"]), json!(7)].map(|name| headed(&key, json!({ "alg": name })));
    assert_none_is_believed(&key, unsigned.chain(odd));
}

#[test]
fn j2_the_public_key_of_a_proof_is_no_shared_secret() {
    let key = TestKey::es256("k");
    let jwk = public(&key).to_string();
    let proofs = ["HS256", "HS384", "HS512"].iter().flat_map(|name| {
        let signed = unsigned(&key, json!({ "alg": name }));
        [
            jwk.clone(),
            format!("\n{jwk}"),
            format!("# the key\n{jwk}"),
            String::new(),
        ]
        .map(|secret| mac(&signed, secret.as_bytes()))
    });
    assert_none_is_believed(&key, proofs);
}

#[test]
fn j3_a_proof_brings_no_shared_key() {
    let key = TestKey::es256("k");
    let proofs = ["", "AA", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"].map(|shared| {
        let jwk = json!({"kty": "oct", "k": shared});
        let signed = unsigned(&key, json!({"alg": "HS256", "jwk": jwk}));
        mac(&signed, &crate::identity::token::base64url(shared).unwrap())
    });
    assert_none_is_believed(&key, proofs);
}

#[test]
fn j4_j5_the_key_of_a_proof_is_the_tokens_and_comes_from_nowhere_else() {
    let (key, thief) = (TestKey::es256("k"), TestKey::es256("thief"));
    let elsewhere = [
        json!({"jku": "http://169.254.169.254/"}),
        json!({"jku": "file:///etc/passwd"}),
        json!({"x5u": "https://attacker.example/chain", "jwk": null}),
        json!({"x5c": ["AAAA"]}),
        json!({"jwk": changed(public(&key), json!({"d": "AQAB"}))}),
        json!({"jwk": public(&thief)}),
        json!({"jwk": [public(&key)]}),
        json!({"jwk": {"keys": [public(&key)]}}),
    ];
    let mut proofs: Vec<String> = elsewhere
        .into_iter()
        .map(|changes| headed(&key, changes))
        .collect();
    // A key of the thief's own, and one that is not the thief's.
    proofs.push(self::good(&thief));
    proofs.push(thief.sign_parts(&header(&key), &claims(TOKEN)));
    proofs.push(thief.sign_parts(
        &changed(header(&thief), json!({"kid": "k"})),
        &claims(TOKEN),
    ));
    assert_none_is_believed(&key, proofs);
}

#[test]
fn j6_a_key_id_in_a_proof_is_bounded_and_names_nothing() {
    let key = TestKey::es256("k");
    let bad = [
        json!(""),
        json!(0),
        json!(["k"]),
        json!({}),
        json!("k".repeat(257)),
        json!("k".repeat(65_536)),
    ];
    assert_none_is_believed(&key, bad.map(|kid| headed(&key, json!({ "kid": kid }))));
    let dpop = dpop();
    for (number, kid) in ["../../dev/null", "' UNION SELECT 'k", "a\n2026 ALLOW"]
        .iter()
        .enumerate()
    {
        let claims = changed(claims(TOKEN), json!({ "jti": number.to_string() }));
        let proof = key.sign_parts(&changed(header(&key), json!({ "kid": kid })), &claims);
        assert_eq!(
            prove(&dpop, &key, &proof),
            Ok(None),
            "nothing is looked up by it"
        );
    }
}

#[test]
fn j7_a_proof_with_extensions_is_refused() {
    let key = TestKey::es256("k");
    let headers = [
        json!({"crit": ["x-mfa"], "x-mfa": "1"}),
        json!({"crit": []}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"b64": false}),
        json!({"b64": true}),
    ];
    assert_none_is_believed(&key, headers.map(|changes| headed(&key, changes)));
}

#[test]
fn j8_signatures_of_proofs_at_the_edges_are_none() {
    let key = TestKey::es256("k");
    let good = good(&key);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = crate::identity::token::base64url(signature).unwrap();
    let zero = [0; 32];
    let signatures = [
        vec![0; 64],
        [&bytes[..32], &zero[..]].concat(),
        [&zero[..], &bytes[32..]].concat(),
        bytes[..63].to_vec(),
        [&bytes[..], &[0]].concat(),
        [&bytes[32..], &bytes[..32]].concat(),
        vec![0xff; 64],
        // The same two numbers as ASN.1 writes them.
        [
            &[0x30, 0x44, 2, 32][..],
            &bytes[..32],
            &[2, 32],
            &bytes[32..],
        ]
        .concat(),
    ];
    let mut proofs: Vec<String> = signatures
        .iter()
        .map(|bytes| format!("{signed}.{}", b64(bytes)))
        .collect();
    let p384 = TestKey::es384("p384");
    proofs.push(p384.sign_parts(
        &changed(header(&p384), json!({"alg": "ES256"})),
        &claims(TOKEN),
    ));
    proofs.push(headed(&key, json!({"alg": "ES384"})));
    assert_none_is_believed(&key, proofs);
}

#[test]
fn j9_a_weak_or_misused_key_proves_nothing() {
    let dpop = dpop_with(|settings| settings.algorithms = Algorithm::ALL.to_vec());
    let (key, rsa) = (TestKey::es256("k"), TestKey::rsa("r", 0, Algorithm::RS256));
    let modulus = |bytes: usize| b64([vec![0xc1; bytes - 1], vec![1]].concat());
    let changes = [
        (&key, json!({"use": "enc"})),
        (&key, json!({"key_ops": ["encrypt"]})),
        (&rsa, json!({"n": modulus(64)})),
        (&rsa, json!({"n": modulus(128)})),
        (&rsa, json!({"n": modulus(2048)})),
        (&rsa, json!({"e": "AQ"})),
        (&rsa, json!({"e": "Ag"})),
    ];
    for (signer, change) in changes {
        let jwk = changed(public(signer), change);
        let proof = headed(signer, json!({ "jwk": jwk }));
        let bound = Bound {
            thumbprint: &thumbprint(signer),
            token: TOKEN,
            request: &carrying(&[proof.as_bytes()]),
            at: at(NOW),
        };
        let refusal = dpop.prove(&bound).unwrap_err();
        assert_eq!(
            refusal.detail, "the proof brings a key that is not accepted",
            "{jwk}"
        );
    }
}

#[test]
fn j10_j11_the_times_of_a_proof_are_whole_seconds_within_its_window() {
    let key = TestKey::es256("k");
    let texts = [
        "\"9999999999\"",
        "null",
        "true",
        "[1]",
        "{}",
        "-1",
        "0",
        "1e300",
        "1e9",
        "1900000000.5",
    ];
    let huge = ["18446744073709551615", "18446744073709551616", "4102444800"];
    let without = |name: &str| changed(claims(TOKEN), json!({ name: null })).to_string();
    let mut proofs = vec![saying(&key, json!({"iat": null}))];
    for value in texts.iter().chain(&huge) {
        let claims = without("iat").replacen('{', &format!("{{\"iat\":{value},"), 1);
        proofs.push(key.sign_texts(&header(&key).to_string(), &claims));
    }
    // What a proof says of its own end may only narrow it.
    for value in texts {
        let claims = without("exp").replacen('{', &format!("{{\"exp\":{value},"), 1);
        proofs.push(key.sign_texts(&header(&key).to_string(), &claims));
    }
    for changes in [
        json!({"iat": NOW - 61}),
        json!({"iat": NOW + 6}),
        json!({"exp": NOW}),
        json!({"nbf": NOW + 6}),
    ] {
        proofs.push(saying(&key, changes));
    }
    assert_none_is_believed(&key, proofs);
}

#[test]
fn j12_j13_a_proof_is_one_object_with_one_reading() {
    let key = TestKey::es256("k");
    let (header, claims) = (header(&key).to_string(), claims(TOKEN).to_string());
    let inner = claims
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap();
    let payloads = [
        "[1,2]".to_owned(),
        "\"x\"".to_owned(),
        "null".to_owned(),
        String::new(),
        format!("[{claims}]"),
        format!("{{{inner},\"htm\":\"POST\"}}"),
        format!("{{\"\\u0068tm\":\"POST\",{inner}}}"),
        format!("{claims}{claims}"),
        format!("\u{feff}{claims}"),
        format!("{{{inner},\"x\":{}1{}}}", "[".repeat(500), "]".repeat(500)),
    ];
    let mut proofs: Vec<String> = payloads
        .iter()
        .map(|payload| key.sign_texts(&header, payload))
        .collect();
    let other = public(&TestKey::es256("o"));
    for twice in [
        format!("{{\"jwk\":{other},"),
        "{\"alg\":\"none\",".to_owned(),
        "{\"typ\":\"JWT\",".to_owned(),
    ] {
        proofs.push(key.sign_texts(&header.replacen('{', &twice, 1), &claims));
    }
    assert_none_is_believed(&key, proofs);
}

#[test]
fn j18_j19_j20_other_forms_and_sizes_of_a_proof_are_refused_unread() {
    let key = TestKey::es256("k");
    let good = good(&key);
    let parts: Vec<&str> = good.split('.').collect();
    let encrypted = b64(
        r#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AA","zip":"DEF"}"#,
    );
    let general = json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]});
    assert_none_is_believed(
        &key,
        [
            format!("{encrypted}.a.b.c.d"),
            format!("{good}.a.b"),
            format!("{good}."),
            format!(".{good}"),
            format!("{}..{}", parts[0], parts[2]),
            "..".to_owned(),
            ".".repeat(8000),
            ".".repeat(1 << 20),
            "A".repeat(8193),
            format!("{}.{}.{}", parts[0], parts[1], "A".repeat(21_830)),
            headed(&key, json!({"zip": "DEF"})),
            headed(&key, json!({"enc": "A128GCM"})),
            headed(&key, json!({"p2c": 2_147_483_647})),
            general.to_string(),
            general.to_string().replace(',', " "),
            b64(general.to_string()),
        ],
    );
}

#[test]
fn j21_a_proof_has_one_spelling() {
    let key = TestKey::es256("k");
    let good = good(&key);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // The last character of 64 bytes holds four bits that mean nothing.
    let (rest, last) = signature.split_at(signature.len() - 1);
    let at = alphabet.find(last).unwrap();
    let mut proofs: Vec<String> = (1..16)
        .map(|bits| {
            format!(
                "{signed}.{rest}{}",
                char::from(alphabet.as_bytes()[at ^ bits])
            )
        })
        .collect();
    proofs.extend([
        format!("{good}="),
        format!("{good}=="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.+{signature}"),
        format!("{header}.{payload}./{signature}"),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{header}. {payload}.{signature}"),
    ]);
    assert_none_is_believed(&key, proofs);
}
