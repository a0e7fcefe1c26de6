use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::testing::{TestKey, b64, claims};

const SIGNATURE: &str = "c2ln";

fn with_header(header: &str) -> String {
    format!("{}.{}.{SIGNATURE}", b64(header), b64("{}"))
}

fn fault(text: &str) -> Option<Fault> {
    Token::read(text).err().map(|wrong| wrong.0)
}

#[test]
fn a_good_token_is_read() {
    let key = TestKey::es256("k1");
    let text = key.token("alice");
    let token = Token::read(&text).ok().unwrap();
    assert_eq!(token.algorithm, Algorithm::ES256);
    assert_eq!(token.kid.as_deref(), Some("k1"));
    assert_eq!(token.media_type.as_deref(), Some("at+jwt"));
    assert_eq!(Value::Object(token.claims), claims("alice"));
    assert_eq!(format!("{}.{}", token.signed, token.signature), text);
}

#[test]
fn j1_alg_none_in_any_spelling_is_refused() {
    for alg in [
        r#""none""#,
        r#""None""#,
        r#""nOnE""#,
        r#""""#,
        "null",
        "0",
        r#"["ES256"]"#,
    ] {
        let text = with_header(&format!(r#"{{"alg":{alg}}}"#));
        assert_eq!(fault(&text), Some(Fault::Algorithm), "{alg}");
    }
    assert_eq!(fault(&with_header("{}")), Some(Fault::Algorithm));
    let unsigned = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64("{}"));
    assert_eq!(fault(&unsigned), Some(Fault::NotAToken));
}

#[test]
fn j2_symmetric_algorithms_are_refused() {
    for alg in [
        "HS256", "HS384", "HS512", "hs256", "rs256", "ES256 ", "RSA-OAEP", "dir",
    ] {
        let text = with_header(&json!({ "alg": alg }).to_string());
        assert_eq!(fault(&text), Some(Fault::Algorithm), "{alg}");
    }
}

#[test]
fn j4_j5_j7_j18_headers_that_steer_the_check_are_refused() {
    for (name, value) in [
        ("crit", json!(["x-mfa"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("jku", json!("http://169.254.169.254/")),
        ("jwk", json!({"kty": "RSA"})),
        ("x5u", json!("file:///etc/passwd")),
        ("x5c", json!(["MIIB"])),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("p2c", json!(2_147_483_647)),
    ] {
        let text = with_header(&json!({"alg": "ES256", name: value}).to_string());
        assert_eq!(fault(&text), Some(Fault::Header), "{name}");
    }
}

#[test]
fn j6_a_key_id_is_a_bounded_text_and_nothing_else() {
    for kid in [
        json!(0),
        json!(null),
        json!(""),
        json!(["k"]),
        json!("k".repeat(257)),
    ] {
        let text = with_header(&json!({"alg": "ES256", "kid": kid}).to_string());
        assert_eq!(fault(&text), Some(Fault::Header));
    }
    for kid in ["../../dev/null", "' UNION SELECT 'k", "a\n2026 ALLOW"] {
        let text = with_header(&json!({"alg": "ES256", "kid": kid}).to_string());
        let token = Token::read(&text).ok().unwrap();
        assert_eq!(
            token.kid.as_deref(),
            Some(kid),
            "only ever a name to look up"
        );
    }
}

#[test]
fn j12_a_payload_or_header_that_is_no_object_is_refused() {
    let header = b64(r#"{"alg":"ES256"}"#);
    for payload in ["[1,2]", "\"x\"", "1", "null", "", "{", "{}{}", "\u{feff}{}"] {
        let text = format!("{header}.{}.{SIGNATURE}", b64(payload));
        assert_eq!(fault(&text), Some(Fault::NotAToken), "{payload}");
        let text = format!("{}.{}.{SIGNATURE}", b64(payload), b64("{}"));
        assert_eq!(fault(&text), Some(Fault::NotAToken), "{payload}");
    }
}

#[test]
fn j13_duplicate_members_are_refused() {
    let header = b64(r#"{"alg":"ES256"}"#);
    for payload in [
        r#"{"role":"user","role":"admin"}"#,
        r#"{"role":"user","\u0072ole":"admin"}"#,
        r#"{"a":{"b":1,"b":2}}"#,
    ] {
        let text = format!("{header}.{}.{SIGNATURE}", b64(payload));
        assert_eq!(fault(&text), Some(Fault::NotAToken), "{payload}");
    }
    let text = with_header(r#"{"alg":"ES256","alg":"none"}"#);
    assert_eq!(fault(&text), Some(Fault::NotAToken));
}

#[test]
fn j18_j20_other_forms_than_a_compact_jws_are_refused() {
    let part = b64(r#"{"alg":"ES256"}"#);
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        part.clone(),
        format!("{part}.{part}"),
        format!("{part}..{SIGNATURE}"),
        format!("{part}.{part}."),
        format!(".{part}.{SIGNATURE}"),
        format!("{part}.{part}.{SIGNATURE}.{SIGNATURE}"),
        format!("{part}.{part}.{part}.{part}.{SIGNATURE}"),
        format!(r#"{{"payload":"{part}","signatures":[]}}"#),
    ] {
        assert_eq!(fault(&text), Some(Fault::NotAToken), "{text}");
    }
}

#[test]
fn j19_length_is_looked_at_first() {
    assert_eq!(fault(&".".repeat(1 << 20)), Some(Fault::TooLong));
    assert_eq!(fault(&"A".repeat(MAX_TOKEN + 1)), Some(Fault::TooLong));
    assert_eq!(fault(&"A".repeat(MAX_TOKEN)), Some(Fault::NotAToken));
}

#[test]
fn j21_each_token_has_one_spelling() {
    let key = TestKey::es256("k1");
    let good = key.token("alice");
    assert_eq!(fault(&good), None);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    // The last of 86 characters carries two bits of the 64 bytes: lax readers take sixteen spellings of it for one.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    let twin = alphabet.chars().nth(place + 1).unwrap();
    for text in [
        format!("{signed}.{}{twin}", signature.strip_suffix(last).unwrap()),
        format!("{good}="),
        format!("{good}=="),
        format!("{good} "),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{signed}.+{signature}"),
        format!("{signed}./{signature}"),
        format!("{signed}.{signature}AA="),
        good.replacen('.', "=.", 1),
    ] {
        assert_eq!(fault(&text), Some(Fault::NotAToken), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_the_reader(text in "\\PC*") {
        let _judged = Token::read(&text);
    }

    #[test]
    fn no_three_parts_panic_the_reader(
        header in proptest::collection::vec(any::<u8>(), 0..200),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        signature in "[A-Za-z0-9_=+/-]{0,100}",
    ) {
        let text = format!("{}.{}.{signature}", b64(header), b64(payload));
        let _judged = Token::read(&text);
    }

    #[test]
    fn no_almost_good_token_panics_the_reader(
        name in "(alg|kid|typ|crit|[a-z]{1,3})",
        value in "(\"ES256\"|\"\"|null|-1|1e400|\\[\\]|\\{\\}|\"[ -~]{0,9}\"|[0-9]{1,30})",
    ) {
        let text = with_header(&format!("{{\"alg\":\"ES256\",\"{name}\":{value}}}"));
        let _judged = Token::read(&text);
    }

    #[test]
    fn what_is_read_is_spelled_as_it_was_written(text in "[A-Za-z0-9_-]{1,60}") {
        if let Some(bytes) = base64url(&text) {
            prop_assert_eq!(b64(bytes), text);
        }
    }
}
