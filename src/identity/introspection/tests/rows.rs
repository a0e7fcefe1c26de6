//! Rows of the catalogue of attacks (docs/security/attacks.md), for signed answers: what is tried on tokens is tried on
//! them too. Whoever can put an answer into a server's mouth still has no key of it.

use aws_lc_rs::hmac;

use super::super::super::token::base64url;
use super::*;

/// A room whose server signs its answers, and what it signs.
struct Signing {
    room: Room,
    key: TestKey,
    header: Value,
    claims: Value,
}

impl Signing {
    async fn new() -> Self {
        let (room, key) = signing(SignedAnswers::Required).await;
        let (header, claims) = (signed_header(&key), signed_claims(&room));
        Self {
            room,
            key,
            header,
            claims,
        }
    }

    fn good(&self) -> String {
        self.key.sign_parts(&self.header, &self.claims)
    }

    fn headed(&self, changes: Value) -> String {
        self.key
            .sign_parts(&changed(self.header.clone(), changes), &self.claims)
    }

    /// Header and payload of a good answer, but for these header members.
    fn unsigned(&self, changes: Value) -> String {
        let header = changed(self.header.clone(), changes);
        format!(
            "{}.{}",
            b64(header.to_string()),
            b64(self.claims.to_string())
        )
    }

    /// None of these answers is one, and the good one is.
    async fn assert_none_is_believed(&self, answers: impl IntoIterator<Item = String>) {
        let mut tried = 0;
        for answer in answers {
            self.room.stub.reply(signed(answer.clone()));
            let told = self.room.fresh().await;
            assert_eq!(
                told.unwrap_err(),
                Reason::IntrospectionUnavailable,
                "{answer}"
            );
            tried += 1;
        }
        assert!(tried > 0);
        self.room.stub.reply(signed(self.good()));
        self.room.fresh().await.unwrap();
    }
}

fn mac(signed: &str, secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{signed}.{}", b64(hmac::sign(&key, signed.as_bytes())))
}

#[tokio::test]
async fn j1_an_answer_without_a_signature_is_not_signed() {
    let room = Signing::new().await;
    let good = room.good();
    let (_, signature) = good.rsplit_once('.').unwrap();
    let names = [
        json!("none"),
        json!("nOnE"),
        json!(""),
        json!(null),
        json!(["ES256"]),
    ];
    let answers: Vec<String> = names
        .into_iter()
        .flat_map(|name| {
            let signed = room.unsigned(json!({ "alg": name }));
            ["", "AAAA", signature].map(|signature| format!("{signed}.{signature}"))
        })
        .collect();
    room.assert_none_is_believed(answers).await;
}

#[tokio::test]
async fn j2_j3_the_servers_public_key_is_no_shared_secret() {
    let room = Signing::new().await;
    let jwk = room.key.jwk().to_string();
    let signed = room.unsigned(json!({"alg": "HS256"}));
    let secrets = [
        jwk.clone(),
        format!("\n{jwk}"),
        jwks(&[&room.key]),
        String::new(),
    ];
    let answers = secrets.map(|secret| mac(&signed, secret.as_bytes()));
    room.assert_none_is_believed(answers).await;
}

#[tokio::test]
async fn j4_j5_j7_j18_headers_that_steer_the_check_are_refused() {
    let room = Signing::new().await;
    let (canary, thief) = (Stub::start(good()).await, TestKey::es256("k1"));
    canary.publish("/keys", jwks(&[&thief]));
    let place = format!("{}/keys", canary.url);
    let headers = [
        json!({"jwk": thief.jwk()}),
        json!({"x5c": ["AAAA"]}),
        json!({"jku": place, "kid": "other"}),
        json!({ "x5u": place }),
        json!({"crit": ["x-mfa"], "x-mfa": "1"}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"zip": "DEF"}),
        json!({"enc": "A128GCM"}),
        json!({"p2c": 2_147_483_647}),
    ];
    let answers: Vec<String> = headers
        .into_iter()
        .flat_map(|changes| {
            let header = changed(room.header.clone(), changes.clone());
            [
                thief.sign_parts(&header, &room.claims),
                room.headed(changes),
            ]
        })
        .collect();
    room.assert_none_is_believed(answers).await;
    assert_eq!(canary.asked(), 0, "an answer had us ask somebody else");
}

#[tokio::test]
async fn j6_a_key_id_in_an_answer_is_a_name_and_nothing_else() {
    let room = Signing::new().await;
    let ids = [
        json!("../../dev/null"),
        json!("' UNION SELECT 'k"),
        json!("a\n2026 ALLOW"),
        json!("K1"),
        json!(""),
        json!(0),
        json!(["k1"]),
        json!("k".repeat(257)),
        json!("k".repeat(60_000)),
    ];
    let answers: Vec<String> = ids
        .into_iter()
        .map(|kid| room.headed(json!({ "kid": kid })))
        .collect();
    room.assert_none_is_believed(answers).await;
}

#[tokio::test]
async fn j8_j21_an_answer_has_one_signature_in_one_spelling() {
    let room = Signing::new().await;
    let good = room.good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = base64url(signature).unwrap();
    let zero = [0; 32];
    let edges = [
        vec![0; 64],
        [&bytes[..32], &zero[..]].concat(),
        [&zero[..], &bytes[32..]].concat(),
        bytes[..63].to_vec(),
        [&bytes[..], &[0]].concat(),
        [&bytes[32..], &bytes[..32]].concat(),
    ];
    let (header, payload) = signed.split_once('.').unwrap();
    let spelled = [
        format!("{good}="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}. {payload}.{signature}"),
        format!("{header}.{payload}.+{signature}"),
    ];
    let edges = edges.iter().map(|bytes| format!("{signed}.{}", b64(bytes)));
    let answers: Vec<String> = edges.chain(spelled).collect();
    room.assert_none_is_believed(answers).await;
}

#[tokio::test]
async fn j12_j13_an_answer_is_one_object_with_one_reading() {
    let room = Signing::new().await;
    let (header, claims) = (room.header.to_string(), room.claims.to_string());
    let inner = claims
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap();
    let payloads = [
        "[1,2]".to_owned(),
        "\"x\"".to_owned(),
        format!("[{claims}]"),
        format!("{{{inner},\"iss\":\"https://stranger.example\"}}"),
        format!("{{{inner},\"\\u0074oken_introspection\":{{\"active\":true}}}}"),
        format!("{{{inner},\"x\":{{\"a\":1,\"a\":2}}}}"),
        format!("{claims}{claims}"),
    ];
    let mut answers: Vec<String> = payloads
        .iter()
        .map(|text| room.key.sign_texts(&header, text))
        .collect();
    // Within the answer itself, too.
    let twice = claims.replacen("\"sub\":", "\"sub\":\"bob\",\"sub\":", 1);
    assert_ne!(twice, claims);
    answers.push(room.key.sign_texts(&header, &twice));
    let algorithms = header.replacen('{', "{\"alg\":\"none\",", 1);
    answers.push(room.key.sign_texts(&algorithms, &claims));
    room.assert_none_is_believed(answers).await;
}

#[tokio::test]
async fn j14_j15_j16_j17_an_answer_is_one_servers_and_for_us() {
    let room = Signing::new().await;
    let stranger = TestKey::es256("k1");
    let mut answers = vec![stranger.sign_parts(&room.header, &room.claims)];
    for typ in [
        json!(null),
        json!("JWT"),
        json!("at+jwt"),
        json!("token-introspection+jwt "),
        json!(7),
    ] {
        answers.push(room.headed(json!({ "typ": typ })));
    }
    let issuers = [
        json!(null),
        json!(1),
        json!([room.room.stub.url]),
        json!(format!("{}/", room.room.stub.url)),
    ];
    let audiences = [
        json!(null),
        json!([]),
        json!(5),
        json!({"cardea api": 1}),
        json!("cardea"),
        json!("CARDEA API"),
    ];
    let said = |name: &str, value: Value| changed(room.claims.clone(), json!({ name: value }));
    answers.extend(issuers.map(|iss| room.key.sign_parts(&room.header, &said("iss", iss))));
    answers.extend(audiences.map(|aud| room.key.sign_parts(&room.header, &said("aud", aud))));
    room.assert_none_is_believed(answers).await;
}

#[tokio::test]
async fn j18_j19_j20_other_forms_and_sizes_of_an_answer_are_refused_unread() {
    let room = Signing::new().await;
    let good = room.good();
    let parts: Vec<&str> = good.split('.').collect();
    let encrypted = b64(
        r#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AA","zip":"DEF"}"#,
    );
    let general = json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]});
    let answers = [
        format!("{encrypted}.a.b.c.d"),
        format!("{good}.a.b"),
        format!("{}..{}", parts[0], parts[2]),
        "..".to_owned(),
        ".".repeat(60_000),
        ".".repeat(1 << 20),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(21_830)),
        general.to_string(),
        String::new(),
    ];
    room.assert_none_is_believed(answers).await;
}
