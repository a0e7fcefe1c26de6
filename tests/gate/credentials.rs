//! Tokens that must not be believed, and places where none may be looked for.

use std::io::Write;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, ISSUER, Key, KeyServer, Reply, b64, changed, claims, jwks, now};
use crate::world::{Ask, Setup, World};

/// The usual world; with an RSA key and an Ed25519 key beside the usual one.
fn world_of_three() -> (World, Key, Key) {
    let (rsa, ed) = (Key::rs256("rsa"), Key::ed25519("ed"));
    let world = World::with(|setup| setup.issuer.publish(&[&setup.key, &rsa, &ed]));
    (world, rsa, ed)
}

/// Every one of these is refused as invalid, and none has the keys fetched again.
#[track_caller]
fn assert_none_is_believed(world: &World, tokens: impl IntoIterator<Item = String>) {
    let asked = world.issuer.asked();
    for token in tokens {
        world.present(&token).assert_invalid();
        // Again, from the memory of refused tokens where it is in there.
        world.present(&token).assert_invalid();
    }
    assert_eq!(world.issuer.asked(), asked, "keys were fetched");
    world.get("/v1/orders").passed();
}

fn hs256(header: &Value, secret: &[u8]) -> String {
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mac = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", b64(mac.as_ref()))
}

fn pem(der: &[u8], label: &str) -> String {
    let lines: Vec<String> = STANDARD
        .encode(der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[test]
fn tokens_of_every_accepted_kind_are_believed() {
    let (world, rsa, ed) = world_of_three();
    for key in [&world.key, &rsa, &ed] {
        world
            .present(&key.token())
            .assert_allowed(&["orders-read-by-role"]);
    }
}

#[test]
fn j1_alg_none_is_refused_in_every_spelling() {
    let world = World::new();
    let payload = b64(claims().to_string());
    let algorithms = [
        "none", "None", "NONE", "nOnE", "", " none", "HS256", "RS1", "ES256K",
    ];
    let unsigned = algorithms.iter().flat_map(|algorithm| {
        let header = b64(json!({"alg": algorithm, "kid": "k1", "typ": "at+jwt"}).to_string());
        ["", "AAAA"].map(|signature| format!("{header}.{payload}.{signature}"))
    });
    let signed = [json!(null), json!(["ES256"]), json!(7)]
        .into_iter()
        .map(|algorithm| world.key.token_under(json!({ "alg": algorithm })));
    let bare = format!("{}.{payload}", b64(r#"{"alg":"none"}"#));
    let tokens: Vec<String> = unsigned.chain(signed).chain([bare]).collect();
    assert_none_is_believed(&world, tokens);
}

#[test]
fn j2_a_public_key_is_never_a_shared_secret() {
    let (world, rsa, _) = world_of_three();
    let mut tokens = Vec::new();
    for key in [&rsa, &world.key] {
        let der = key.public();
        let pem = pem(&der, "PUBLIC KEY");
        for secret in [
            pem.clone().into_bytes(),
            pem.trim_end().as_bytes().to_vec(),
            format!("\n{pem}").into_bytes(),
            format!("# the key\n{pem}").into_bytes(),
            der,
            key.jwk().to_string().into_bytes(),
        ] {
            for name in ["HS256", "HS384", "HS512"] {
                let header = json!({"alg": name, "kid": key.kid, "typ": "at+jwt"});
                tokens.push(hs256(&header, &secret));
            }
        }
    }
    assert_none_is_believed(&world, tokens);
}

#[test]
fn j2_the_algorithm_is_bound_to_the_key() {
    let (world, rsa, ed) = world_of_three();
    let keys = [&world.key, &rsa, &ed];
    let mut tokens = Vec::new();
    for signer in keys {
        for other in keys.into_iter().filter(|other| other.kid != signer.kid) {
            tokens.push(signer.token_under(json!({ "kid": other.kid })));
            tokens.push(signer.token_under(json!({ "alg": other.algorithm })));
            tokens.push(signer.token_under(json!({ "kid": other.kid, "alg": other.algorithm })));
        }
    }
    tokens.push(rsa.token_under(json!({ "alg": "PS256" })));
    assert_none_is_believed(&world, tokens);
}

#[test]
fn j3_a_key_without_alg_or_an_empty_one_makes_no_mac() {
    let rsa = Key::rs256("rsa");
    let world = World::with(|setup| {
        let mut naked = rsa.jwk();
        naked.as_object_mut().unwrap().remove("alg");
        let shared = json!({"kty": "oct", "kid": "oct", "k": b64("0123456789abcdef0123456789abcdef"), "alg": "HS256"});
        let empty = json!({"kty": "oct", "kid": "empty", "k": "", "alg": "HS256"});
        let keys = json!({"keys": [setup.key.jwk(), naked, shared, empty]});
        setup.issuer.reply("/jwks", Reply::Text(keys.to_string()));
    });
    let header = |kid: &str| json!({"alg": "HS256", "kid": kid, "typ": "at+jwt"});
    assert_none_is_believed(
        &world,
        [hs256(&header("rsa"), b""), hs256(&header("rsa"), b"\0")],
    );
    // The key itself is good for what it is.
    world.present(&rsa.token()).passed();
    // The shared secrets are no keys: these name keys nobody has, which may cost one fetch.
    for kid in ["oct", "empty"] {
        let secrets: [&[u8]; 2] = [b"", b"0123456789abcdef0123456789abcdef"];
        for secret in secrets {
            world.present(&hs256(&header(kid), secret)).assert_invalid();
        }
    }
}

#[test]
fn j4_j5_keys_that_a_token_brings_or_points_to_are_never_looked_at() {
    let world = World::new();
    let (canary, attacker) = (KeyServer::start(), Key::es256("k1"));
    canary.publish(&[&attacker]);
    let place = canary.url("/jwks");
    let mut headers = vec![
        json!({ "jwk": attacker.jwk() }),
        json!({ "jwk": attacker.jwk(), "kid": null }),
        json!({ "x5c": [STANDARD.encode(attacker.public())] }),
        json!({ "x5u": place }),
        json!({ "jku": place, "kid": "other" }),
    ];
    for jku in [
        place.as_str(),
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "//x",
        "",
    ] {
        headers.push(json!({ "jku": jku }));
    }
    let tokens: Vec<String> = headers
        .iter()
        .flat_map(|header| {
            [
                attacker.token_under(header.clone()),
                world.key.token_under(header.clone()),
            ]
        })
        .collect();
    assert_none_is_believed(&world, tokens);
    assert_eq!(canary.asked(), 0, "a token had us ask its own server");
}

#[test]
fn j6_a_key_id_is_a_name_and_nothing_else() {
    let world = World::new();
    let long = "k".repeat(257);
    for kid in [
        json!("../../dev/null"),
        json!("' UNION SELECT 'k"),
        json!("a\n2026 ALLOW"),
        json!("k1\0"),
        json!("K1"),
        json!(""),
        json!(0),
        json!(["k1"]),
        json!({"kid": "k1"}),
        json!(long),
        json!("k".repeat(6000)),
    ] {
        world
            .present(&world.key.token_under(json!({ "kid": kid })))
            .assert_invalid();
    }
    // With one of 64 KiB, the headers are too large for anybody to look at the token.
    world
        .present(&world.key.token_under(json!({ "kid": "k".repeat(65_536) })))
        .assert_refused(400, "malformed_request");
    let null = r#"{"alg":"ES256","typ":"at+jwt","kid":null}"#;
    world
        .present(&world.key.sign_texts(null, &claims().to_string()))
        .assert_invalid();
    // Without a key id, the only key is meant.
    world
        .present(&world.key.token_under(json!({ "kid": null })))
        .passed();
}

#[test]
fn j7_extensions_that_must_be_understood_are_not() {
    let world = World::new();
    let headers = [
        json!({"crit": ["x-mfa"], "x-mfa": "1"}),
        json!({"crit": []}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"b64": false}),
        json!({"b64": true}),
        json!({"crit": "exp"}),
        json!({"crit": {}}),
    ];
    let tokens = headers.map(|header| world.key.token_under(header));
    assert_none_is_believed(&world, tokens);
}

#[test]
fn j8_signatures_at_the_edges_are_no_signatures() {
    let p384 = Key::es384("p384");
    let world = World::with(|setup| {
        setup.issuer.publish(&[&setup.key, &p384]);
        setup.first_issuer()["algorithms"] = json!(["ES256", "ES384"]);
    });
    world.present(&p384.token()).passed();
    let good = world.key.token();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(signature)
        .unwrap();
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&order[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    let signatures = [
        vec![0; 64],
        [&order[..], &bytes[32..]].concat(),
        [&bytes[..32], &[0; 32]].concat(),
        [&[0; 32], &bytes[32..]].concat(),
        [&bytes[..32], &order[..]].concat(),
        bytes[..63].to_vec(),
        [&bytes[..], &[0]].concat(),
        [&[0], &bytes[..]].concat(),
        [&bytes[32..], &bytes[..32]].concat(),
        world.key.sign_asn1(signed.as_bytes()),
        flipped,
        vec![1],
        vec![0xff; 64],
    ];
    let mut tokens: Vec<String> = signatures
        .iter()
        .map(|bytes| format!("{signed}.{}", b64(bytes)))
        .collect();
    tokens.push(p384.token_under(json!({ "alg": "ES256" })));
    tokens.push(world.key.token_under(json!({ "alg": "ES384" })));
    tokens.push(
        world
            .key
            .token_under(json!({ "kid": "p384", "alg": "ES384" })),
    );
    assert_none_is_believed(&world, tokens);
}

#[test]
fn j9_weak_and_misused_keys_are_left_out_and_the_others_stay() {
    let (rsa, encrypting, wrapping, private) = (
        Key::rs256("rsa"),
        Key::es256("enc"),
        Key::es256("ops"),
        Key::es256("d"),
    );
    let with = |key: &Key, member: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk[member] = value;
        jwk
    };
    let n = |bytes: usize| b64([vec![0xc1; bytes - 1], vec![0x01]].concat());
    let weak = |kid: &str, member: &str, value: Value| {
        let mut jwk = with(&rsa, member, value);
        jwk["kid"] = kid.into();
        jwk
    };
    let world = World::with(|setup| {
        let keys = json!({"keys": [
            with(&encrypting, "use", json!("enc")),
            with(&wrapping, "key_ops", json!(["encrypt"])),
            with(&private, "d", json!("AAAA")),
            weak("512", "n", json!(n(64))), weak("1024", "n", json!(n(128))), weak("16384", "n", json!(n(2048))),
            weak("e1", "e", json!("AQ")), weak("e2", "e", json!("Ag")), weak("e3", "e", json!("Aw")),
            7, {"kty": "EC"},
            setup.key.jwk(),
        ]});
        setup.issuer.reply("/jwks", Reply::Text(keys.to_string()));
    });
    let status = &world.pipeline().identity.key_sets()[0];
    assert_eq!((status.keys, status.left_out.len()), (1, 11), "{status:?}");
    let left_out = world.metrics().sum("cardea_keys_left_out", &[ISSUER]);
    assert!((left_out - 11.0).abs() < 0.1, "{left_out}");
    world.get("/v1/orders").passed();
    for key in [&encrypting, &wrapping, &private] {
        world.present(&key.token()).assert_invalid();
    }
    for kid in ["512", "1024", "16384", "e1", "e2", "e3"] {
        world
            .present(&rsa.token_under(json!({ "kid": kid })))
            .assert_invalid();
    }
}

#[test]
fn j10_j11_times_are_whole_seconds_within_bounds() {
    let world = World::with(|setup| setup.first_issuer()["clock_skew"] = "0s".into());
    let mut tokens = Vec::new();
    for name in ["exp", "nbf", "iat", "auth_time"] {
        for value in [
            "\"9999999999\"",
            "null",
            "true",
            "[1]",
            "{}",
            "-1",
            "0",
            "1e300",
            "1e9",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999999999",
            "\"soon\"",
        ] {
            let text = with_raw(name, value);
            tokens.push(world.key.sign_texts(&world.key.header().to_string(), &text));
        }
        let fraction = with_raw(name, &format!("{}.5", now() - 5));
        tokens.push(
            world
                .key
                .sign_texts(&world.key.header().to_string(), &fraction),
        );
    }
    for claims in [
        json!({ "exp": null }),
        json!({ "exp": now() }),
        json!({ "exp": now() - 1 }),
        json!({ "exp": now() - 30 }),
        json!({ "nbf": now() + 60 }),
        json!({ "nbf": now() + 3600 }),
        json!({ "iat": 4_102_444_800_i64 }),
        json!({ "exp": now() + 25 * 3600 }),
        json!({ "exp": now() + 25 * 3600, "iat": null }),
        json!({ "exp": 253_402_300_799_i64 }),
        json!({ "iat": now() - 10, "exp": now() - 10 }),
    ] {
        tokens.push(world.key.token_with(claims));
    }
    assert_none_is_believed(&world, tokens);
    world
        .present(&world.key.token_with(json!({ "iat": null, "nbf": now() })))
        .passed();
}

/// The usual claims, with one written as given.
fn with_raw(name: &str, value: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    let rest = claims.to_string();
    format!("{{\"{name}\":{value},{}", &rest[1..])
}

#[test]
fn j11_skew_counts_on_both_sides_and_no_further() {
    let world = World::with(|setup| setup.first_issuer()["clock_skew"] = "60s".into());
    let ask = |claims| world.present(&world.key.token_with(claims));
    ask(json!({ "exp": now() - 30, "iat": now() - 90 })).passed();
    ask(json!({ "nbf": now() + 30 })).passed();
    ask(json!({ "exp": now() - 61, "iat": now() - 90 })).assert_invalid();
    ask(json!({ "nbf": now() + 90 })).assert_invalid();
}

#[test]
fn j12_j13_a_payload_is_one_object_with_one_reading() {
    let world = World::new();
    let header = world.key.header().to_string();
    let good = claims().to_string();
    let inner = &good[1..good.len() - 1];
    let payloads = [
        "[1,2]".to_owned(),
        "\"x\"".to_owned(),
        "7".to_owned(),
        "null".to_owned(),
        String::new(),
        format!("[{good}]"),
        format!("{{{inner},\"roles\":[\"admin\"]}}"),
        format!("{{{inner},\"sub\":\"bob\"}}"),
        format!("{{\"\\u0072oles\":[\"admin\"],{inner}}}"),
        format!("{{{inner},\"x\":{{\"a\":1,\"a\":2}}}}"),
        format!("{good}{good}"),
        format!("{good} x"),
        format!("\u{feff}{good}"),
        format!("{{{inner},}}"),
        format!("{{{inner},\"x\":NaN}}"),
        format!("{{{inner},\"x\":\"\\ud800\"}}"),
        format!("{{{inner},\"x\":{}1{}}}", "[".repeat(500), "]".repeat(500)),
    ];
    let mut tokens: Vec<String> = payloads
        .iter()
        .map(|payload| world.key.sign_texts(&header, payload))
        .collect();
    let twice = format!("{{\"alg\":\"none\",{}", &header[1..]);
    tokens.push(world.key.sign_texts(&twice, &good));
    let kids = format!("{{\"kid\":\"other\",{}", &header[1..]);
    tokens.push(world.key.sign_texts(&kids, &good));
    assert_none_is_believed(&world, tokens);
}

#[test]
fn j14_only_the_exact_audience_will_do() {
    let world = World::new();
    let upper = AUDIENCE.to_uppercase();
    let audiences = [
        json!(null),
        json!([]),
        json!(["B"]),
        json!(5),
        json!({ AUDIENCE: 1 }),
        json!(upper),
        json!(format!("{AUDIENCE} ")),
        json!(format!("{AUDIENCE}/")),
        json!(format!("{AUDIENCE}.evil")),
        json!("https://api"),
        json!([[AUDIENCE]]),
        json!([AUDIENCE, 5]),
        json!(""),
        json!(true),
    ];
    let tokens = audiences.map(|aud| world.key.token_with(json!({ "aud": aud })));
    assert_none_is_believed(&world, tokens);
    world
        .present(&world.key.token_with(json!({ "aud": ["B", AUDIENCE] })))
        .passed();
}

#[test]
fn j15_only_the_exact_issuer_will_do() {
    let world = World::new();
    let issuers = [
        json!(null),
        json!(1),
        json!(["evil", ISSUER]),
        json!([ISSUER]),
        json!({ "iss": ISSUER }),
        json!(format!("{ISSUER}/")),
        json!("https://login.example"),
        json!(format!("{ISSUER}.evil")),
        json!("https://LOGIN.example.com"),
        json!(format!(" {ISSUER}")),
        json!(""),
        json!("https://evil.example"),
    ];
    let tokens = issuers.map(|iss| world.key.token_with(json!({ "iss": iss })));
    assert_none_is_believed(&world, tokens);
}

#[test]
fn j16_an_issuer_speaks_for_itself_alone() {
    let other = Key::es256("k1");
    let world = World::with(|setup| {
        setup.issuer.reply("/other", Reply::Text(jwks(&[&other])));
        let mut second = setup.first_issuer().clone();
        second["issuer"] = "https://other.example".into();
        second["keys"] = json!({ "jwks_url": setup.issuer.url("/other") });
        let issuers = setup.settings["identity"]["issuers"]
            .as_array_mut()
            .unwrap();
        issuers.push(second);
    });
    let at_other = json!({ "iss": "https://other.example" });
    world
        .present(&world.key.token_with(at_other.clone()))
        .assert_invalid();
    world.present(&other.token()).assert_invalid();
    world.present(&other.token_with(at_other.clone())).passed();
    world.get("/v1/orders").passed();
    // The same subject at another issuer is somebody else: alice owns the order, this alice does not.
    let delete = |token: &str| world.ask(Ask::new("DELETE", "/v1/orders/1001").bearer(token));
    delete(&other.token_with(at_other)).assert_refused(403, "not_permitted");
    delete(&world.key.token()).assert_allowed(&["owner-cancels-order"]);
}

#[test]
fn j17_only_access_tokens_are_access_tokens() {
    let world = World::new();
    let kinds = [
        json!(null),
        json!("JWT"),
        json!("jwt"),
        json!("logout+jwt"),
        json!("dpop+jwt"),
        json!("refresh+jwt"),
        json!("txntoken+jwt"),
        json!("token-introspection+jwt"),
        json!("id_token+jwt"),
        json!("at+jwt "),
        json!(["at+jwt"]),
        json!(""),
        json!("secevent+jwt"),
        json!("text/at+jwt"),
    ];
    let tokens = kinds.map(|typ| world.key.token_under(json!({ "typ": typ })));
    assert_none_is_believed(&world, tokens);
    for typ in ["AT+JWT", "application/at+jwt"] {
        world
            .present(&world.key.token_under(json!({ "typ": typ })))
            .passed();
    }
}

#[test]
fn j18_j19_j20_other_forms_and_sizes_are_refused_unread() {
    let world = World::new();
    let good = world.key.token();
    let parts: Vec<&str> = good.split('.').collect();
    let jwe = b64(r#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AA"}"#);
    let json_form = json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]});
    let tokens = [
        format!("{jwe}.a.b.c.d"),
        format!("{good}.a.b"),
        format!("{good}."),
        format!(".{good}"),
        format!("{}..{}", parts[0], parts[2]),
        format!("..{}", parts[2]),
        "..".to_owned(),
        "a.b.c".to_owned(),
        parts[0].to_owned(),
        world.key.token_under(json!({ "zip": "DEF" })),
        world.key.token_under(json!({ "enc": "A128GCM" })),
        world.key.token_under(json!({ "p2c": 2_147_483_647 })),
        ".".repeat(8000),
        "A".repeat(8193),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(21_830)),
        world.key.token_with(json!({ "x": "y".repeat(9000) })),
        b64(json_form.to_string()),
    ];
    assert_none_is_believed(&world, tokens);
    // Braces and quotes are no token at all, and a megabyte is no header.
    world
        .present(&json_form.to_string().replace(',', ""))
        .assert_invalid();
    world
        .present(&".".repeat(1 << 20))
        .assert_refused(400, "malformed_request");
}

/// A megabyte of one letter, compressed to about a thousandth.
fn bomb() -> Vec<u8> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b'a'; 1 << 20]).unwrap();
    packed.finish().unwrap()
}

#[test]
fn j18_an_encrypted_token_is_refused_before_anything_of_it_is_unpacked_or_derived() {
    let world = World::new();
    let bomb = bomb();
    assert!(bomb.len() * 900 < 1 << 20, "{}", bomb.len());
    let payload = b64(claims().to_string());
    let unsigned = format!("{}.{payload}.", b64(r#"{"alg":"none","typ":"at+jwt"}"#));
    let headers = [
        json!({"alg": "dir", "enc": "A128GCM", "zip": "DEF"}),
        json!({"alg": "dir", "enc": "A128GCM", "cty": "JWT", "kid": "k1"}),
        json!({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": "k1", "typ": "at+jwt"}),
        json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_147_483_647, "p2s": "AA"}),
        json!({"alg": "ES256", "kid": "k1", "typ": "at+jwt"}),
        json!({"alg": "none"}),
    ];
    let mut tokens = Vec::new();
    for header in headers {
        let header = b64(header.to_string());
        for content in [b64(&bomb), b64(&unsigned), payload.clone()] {
            tokens.push(format!("{header}..AAAA.{content}.AAAA"));
            tokens.push(format!("{header}.AAAA.AAAA.{content}.AAAA"));
        }
    }
    // Compressed, and signed by the issuer.
    let header = changed(world.key.header(), json!({ "zip": "DEF" })).to_string();
    let signed = format!("{}.{}", b64(header), b64(&bomb));
    let signature = b64(world.key.sign(signed.as_bytes()));
    tokens.push(format!("{signed}.{signature}"));
    assert_none_is_believed(&world, tokens);
    assert_eq!(world.figures().judged, 1, "the good one, and no other");
}

#[test]
fn j22_names_that_nearly_match_are_somebody_elses() {
    let world = World::with(|setup| {
        setup.write(
            "names.cedar",
            r#"@id("by-name") permit (principal is Cardea::User, action == Cardea::Action::"orders.createOrder", resource)
               when { principal.sub == "cert-manager.io" };
               @id("by-mail") permit (principal is Cardea::User, action == Cardea::Action::"orders.createOrder", resource)
               when { context.token.claims.hasTag("email") && context.token.claims.getTag("email").contains("a@good.example") };"#,
        );
    });
    let ask = |sub: &str, email: &str| {
        let claims = json!({ "sub": sub, "email": email, "scope": "", "roles": [] });
        let token = world.key.token_with(claims);
        world.ask(Ask::new("POST", "/v1/orders").bearer(&token))
    };
    ask("cert-manager.io", "-").assert_allowed(&["by-name"]);
    ask("alice", "a@good.example").assert_allowed(&["by-mail"]);
    for (sub, email) in [
        ("cert-managerXio", "-"),
        ("Cert-Manager.io", "-"),
        ("cert-manager.io.evil", "-"),
        ("x.cert-manager.io", "-"),
        ("cert-manager.io ", "-"),
        ("alice", "a@evil@good.example"),
        ("alice", "b@good.example"),
        ("alice", "a@good.example.evil"),
        ("alice", "A@good.example"),
        ("alice", "a@good\u{2024}example"),
    ] {
        ask(sub, email).assert_refused(403, "not_permitted");
    }
}

#[test]
fn j21_a_token_has_one_spelling() {
    let world = World::new();
    let good = world.key.token();
    world.present(&good).passed();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    // The last character of 64 bytes holds four bits that mean nothing.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    let spelled: Vec<String> = (1..16)
        .map(|bits| {
            let other = alphabet.as_bytes()[at ^ bits] as char;
            format!("{signed}.{}{other}", &signature[..signature.len() - 1])
        })
        .collect();
    let mut tokens = spelled;
    let padded = |part: &str| {
        URL_SAFE.encode(
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(part)
                .unwrap(),
        )
    };
    let (header, payload) = signed.split_once('.').unwrap();
    tokens.push(format!("{signed}.{}", padded(signature)));
    tokens.push(format!("{signed}.{signature}="));
    tokens.push(format!("{}.{payload}.{signature}", padded(header) + "="));
    tokens.push(format!(
        "{header}.{payload}.{}",
        signature.replace('-', "+").replace('_', "/") + "+"
    ));
    assert_none_is_believed(&world, tokens);
    for bad in [
        format!("{good}\n"),
        format!("{good} "),
        format!(" {good}"),
        format!("{header}. {payload}.{signature}"),
    ] {
        let heard = world.present(&bad);
        assert!(!heard.allowed(), "{bad:?}");
        assert!(matches!(heard.http(), 400 | 401), "{heard:?}");
    }
    // The token itself, and the fresh one that showed that good ones still pass.
    assert_eq!(
        world.figures().judged,
        2,
        "another spelling was judged by its signature"
    );
}

#[test]
fn j22_subjects_are_compared_to_the_byte() {
    let world = World::new();
    let profile = |sub: &str, path: &str| {
        let token = world.key.token_with(json!({ "sub": sub }));
        world.ask(Ask::get(path).bearer(&token))
    };
    profile("alice", "/v1/users/alice").assert_allowed(&["profile-of-ones-own"]);
    profile("caf\u{e9}", "/v1/users/caf%C3%A9").assert_allowed(&["profile-of-ones-own"]);
    for (sub, path) in [
        ("Alice", "/v1/users/alice"),
        ("alice", "/v1/users/Alice"),
        ("a@evil@good.com", "/v1/users/a@evil"),
        ("alic", "/v1/users/alice"),
        ("alice ", "/v1/users/alice"),
        ("cafe\u{301}", "/v1/users/caf%C3%A9"),
        ("caf\u{e9}", "/v1/users/cafe%CC%81"),
    ] {
        let heard = profile(sub, path);
        heard.assert_refused(403, "forbidden");
        assert_eq!(heard.metadata("policies"), json!(["profile-of-others"]));
    }
    for sub in [
        json!("alice\0evil"),
        json!(""),
        json!(null),
        json!(7),
        json!(["alice"]),
        json!("a".repeat(513)),
    ] {
        world
            .present(&world.key.token_with(json!({ "sub": sub })))
            .assert_invalid();
    }
}

#[test]
fn h1_a_bearer_credential_is_one_scheme_one_space_one_token() {
    let world = World::new();
    let token = world.key.token();
    for scheme in ["Bearer", "bearer", "bEaReR"] {
        let heard =
            world.ask(Ask::get("/v1/orders").header("authorization", &format!("{scheme} {token}")));
        heard.assert_allowed(&["orders-read-by-role"]);
    }
    for value in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer  ".to_owned(),
        token.clone(),
        format!("Bearer  {token}"),
        format!(" Bearer {token}"),
        format!("Bearer {token} "),
        format!("Bearer\t{token}"),
        format!("bEaReR \t {token}"),
        format!("Bearer: {token}"),
        format!("Bearer \"{token}\""),
        format!("Bearer {token} {token}"),
        format!("Bearer={token}"),
        "Basic YTpi".to_owned(),
        format!("DPoP {token}"),
        "Bearer =".to_owned(),
    ] {
        world
            .ask(Ask::get("/v1/orders").header("authorization", &value))
            .assert_invalid();
    }
}

#[test]
fn h2_several_credentials_are_refused_whichever_is_good() {
    let world = World::new();
    let (good, other) = (
        world.key.token(),
        world.key.token_with(json!({ "sub": "bob" })),
    );
    let assert_ambiguous = |ask: Ask| {
        let heard = world.ask(ask);
        heard.assert_refused(400, "ambiguous_credential");
        let challenge = "Bearer realm=\"cardea\", error=\"invalid_request\"";
        assert_eq!(heard.header("www-authenticate"), Some(challenge));
    };
    for value in [
        format!("Bearer {good},Bearer {other}"),
        format!("Bearer {good}, Bearer x"),
        format!("Basic eDp5, Bearer {good}"),
        format!("Bearer {good},"),
        format!(",Bearer {good}"),
    ] {
        assert_ambiguous(Ask::get("/v1/orders").header("authorization", &value));
    }
    let field = format!("Bearer {good}");
    let twice: [(&str, &[u8]); 2] = [
        ("authorization", field.as_bytes()),
        ("Authorization", field.as_bytes()),
    ];
    assert_ambiguous(Ask::get("/v1/orders").raw_headers(&twice));
    assert_ambiguous(Ask::get(&format!("/v1/orders?access_token={other}")).bearer(&good));
}

#[test]
fn h3_a_token_elsewhere_is_not_read() {
    let world = World::new();
    let token = world.key.token();
    for ask in [
        Ask::get(&format!("/v1/orders?access_token={token}")),
        Ask::get("/v1/orders").header("cookie", &format!("access_token={token}")),
        Ask::get("/v1/orders").header("proxy-authorization", &format!("Bearer {token}")),
        Ask::get("/v1/orders").header("x-authorization", &format!("Bearer {token}")),
        Ask::get("/v1/orders").header("x-forwarded-authorization", &format!("Bearer {token}")),
        Ask::get("/v1/orders")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(&format!("access_token={token}")),
    ] {
        world.ask(ask).assert_refused(401, "credential_missing");
    }
    assert_eq!(world.figures().misses, 0, "a token was looked up");
}

#[test]
fn h4_bytes_that_are_no_text_are_refused_before_any_lookup() {
    let world = World::new();
    world.get("/v1/orders").passed();
    let before = world.figures();
    for value in [
        &b"Bearer \xe9"[..],
        b"Bearer \xff",
        b"Bearer !",
        b"Bearer a\x01b",
        b"Bearer \xc3\xa9",
    ] {
        let heard = world.ask(Ask::get("/v1/orders").raw_headers(&[("authorization", value)]));
        heard.assert_invalid();
    }
    assert_eq!(world.figures(), before);
}

#[test]
fn e3_claims_never_become_entities() {
    let world = World::with(|setup| {
        setup.first_issuer()["claims"]["expose"] = json!(["email", "x", "level"]);
        setup.write(
            "claims.cedar",
            r#"@id("by-claim") permit (principal, action, resource)
               when { context.token.claims.hasTag("x") && context.token.claims.getTag("x").contains("admin") };"#,
        );
    });
    let entity = json!({"__entity": {"type": "Cardea::Role", "id": "support-tier2"}});
    let ask =
        |claims: Value, path: &str| world.ask(Ask::get(path).bearer(&world.key.token_with(claims)));
    // Where roles are read, only strings are roles.
    for roles in [
        entity.clone(),
        json!([entity.clone()]),
        json!([1]),
        json!({"admin": true}),
    ] {
        world
            .present(&world.key.token_with(json!({ "roles": roles })))
            .assert_invalid();
    }
    // Where claims are only shown to policies, what is no plain value is left out.
    for x in [
        entity,
        json!({"__extn": {"fn": "ip", "arg": "127.0.0.1"}}),
        json!(null),
        json!(1.5),
        json!({"a": "admin"}),
    ] {
        ask(json!({ "x": x }), "/v1/orders/1002").assert_allowed(&["orders-read-by-role"]);
    }
    ask(json!({ "x": ["admin"] }), "/v1/orders/1002")
        .assert_allowed(&["by-claim", "orders-read-by-role"]);
}

#[test]
fn j3_settings_with_a_shared_secret_are_refused() {
    for algorithm in ["HS256", "none", "hs256", "ES256K"] {
        let mut setup = Setup::new();
        setup.first_issuer()["algorithms"] = json!([algorithm]);
        let problems = crate::world::start(&setup.settings).expect_err("refused");
        assert!(problems[0].message.contains(algorithm), "{problems:?}");
    }
}
