//! What must never be told: tokens, keys, bodies, query values, header values.

use serde_json::json;

use crate::child::Child;
use crate::issuer::{Key, KeyServer, Reply, b64};
use crate::world::{Ask, Heard, Setup, World, eventually, http_get};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use tokio::runtime::Builder;
use tonic::transport::Channel;

/// Every planted word holds this.
const CANARY: &str = "canary";

/// Requests that carry planted words in every place, good and bad.
fn planted(key: &Key) -> Vec<Ask> {
    let good = key.token_with(
        json!({ "jti": "canary-jti", "email": "canary@example.com", "note": "canary-claim" }),
    );
    let stranger = Key::es256("canary-kid");
    let tokens = [
        good,
        key.token_with(json!({ "exp": 1, "note": "canary-expired" })),
        key.token_with(json!({ "aud": "canary-audience" })),
        key.token_with(json!({ "iss": "https://canary-issuer.example" })),
        key.token_with(json!({ "sub": ["canary-subject"] })),
        key.token_under(json!({ "typ": "canary-type" })),
        key.token_under(json!({ "alg": "canary-alg" })),
        key.token_under(json!({ "crit": ["canary-crit"], "canary-crit": 1 })),
        key.token_under(json!({ "jku": "https://canary-jku.example" })),
        stranger.token(),
        "canary.canary.canary".to_owned(),
        format!("canary{}", "x".repeat(9000)),
    ];
    let mut asks: Vec<Ask> = tokens
        .iter()
        .map(|token| {
            Ask::get("/v1/orders?cursor=canary-query&limit=7")
                .bearer(token)
                .header("cookie", "session=canary-cookie")
                .header("x-api-key", "canary-api-key")
                .header("x-cardea-subject", "canary-forged")
                .header("x-canary-free", "canary-header")
                .body("{\"password\":\"canary-body\"}")
        })
        .collect();
    let (token, ask) = (&tokens[0], Ask::get);
    asks.extend([
        ask("/v1/orders?limit=canary-one&limit=canary-two").bearer(token),
        ask("/v1/orders?access_token=canary-in-query").bearer(token),
        ask("/v1/orders?api_key=canary-key-in-query"),
        ask("/v1/orders?x=canary%zz"),
        ask("/v1/status").header("authorization", "Basic Y2FuYXJ5OmNhbmFyeQcanary"),
        ask("/v1/status").header("authorization", "canary"),
        ask("/v1/status").header("authorization", "Bearer canary,Bearer canary"),
        ask("/v1/status").header("canary header", "canary"),
        ask("/v1/status").header("x", "canary\r\ncanary"),
        ask("/v1/status").host("canary@api.example.com"),
        Ask::new("CANARY", "/v1/status"),
        Ask::new("POST", "/v1/orders")
            .bearer(token)
            .body("{\"sku\":\"canary-body\"}"),
        ask("/v1/status")
            .header("content-type", "application/grpc")
            .header("authorization", "Bearer canary"),
    ]);
    asks
}

/// Places where part of a token or a planted word shows.
fn leaks(text: &str, keys: &[&Key], asks: &mut [Ask]) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut found: Vec<String> = lower
        .match_indices(CANARY)
        .map(|(at, _)| {
            let from = at.saturating_sub(60);
            let around =
                String::from_utf8_lossy(&lower.as_bytes()[from..(at + 40).min(lower.len())]);
            format!("a planted word in: ..{around}..")
        })
        .collect();
    for ask in asks {
        let Some(field) = ask.http().headers.get("authorization").cloned() else {
            continue;
        };
        let parts = field.split([' ', '.', ',']).filter(|part| part.len() > 20);
        found.extend(
            parts
                .filter(|part| text.contains(*part))
                .map(|part| format!("part of a token: {part}")),
        );
    }
    for key in keys {
        let jwk = key.jwk();
        let parts = ["x", "y"].map(|name| jwk[name].as_str().unwrap().to_owned());
        found.extend(
            parts
                .into_iter()
                .filter(|part| text.contains(part))
                .map(|part| format!("a key: {part}")),
        );
    }
    found
}

#[test]
fn a3_no_answer_metric_or_debug_text_holds_what_was_planted() {
    let world = World::new();
    let mut asks = planted(&world.key);
    let mut told: Vec<String> = asks
        .iter()
        .map(|ask| format!("{:?}", world.ask(ask.clone()).without_removed_names()))
        .collect();
    told.push(world.metrics().0);
    told.push(world.admin("/ready").1);
    told.push(format!("{:?} {:?}", world.pipeline(), world.app()));
    let told = told.join("\n");
    let found = leaks(&told, &[&world.key], &mut asks);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a3_a1_no_log_line_holds_what_was_planted_and_each_is_one_line() {
    let mut setup = Setup::new();
    setup.settings["telemetry"] = json!({
        "log": { "level": "trace", "decisions": "all" },
        "otlp": {
            "endpoint": "http://127.0.0.1:9",
            "headers": { "x-key": { "env": "GATE_SECRET" } },
        },
    });
    let child = Child::serve(&setup.settings, &[("GATE_SECRET", "canary-secret")]);
    eventually("it is ready", || http_get(child.admin, "/ready").0 == 200);
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(async {
        let url = format!("http://{}", child.check);
        AuthorizationClient::new(Channel::from_shared(url).unwrap().connect().await.unwrap())
    });
    let mut asks = planted(&setup.key);
    let hostile = "\u{1b}[2J\"}\u{202e}";
    let ids: Vec<Heard> = asks
        .iter()
        .map(|ask| runtime.block_on(ask.clone().send(client.clone())))
        .collect();
    let sub = format!("mallory{hostile}").replace('\u{1b}', "");
    let token = setup.key.token_with(json!({ "sub": sub }));
    let path = "/v1/orders/%22%7D%E2%80%AE";
    let strange = runtime.block_on(Ask::get(path).bearer(&token).send(client.clone()));
    // A key server with a word in its way, too.
    setup
        .issuer
        .reply("/jwks", Reply::Text("canary-keys".to_owned()));
    let metrics = http_get(child.admin, "/metrics").1;
    child.terminate();
    let (status, output) = child.end();
    assert_eq!(status.code(), Some(0));
    let lines: Vec<serde_json::Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    // Every decision has its line, with the id that callers were told.
    for heard in ids.iter().chain([&strange]) {
        let id = heard.metadata("decision");
        assert_eq!(
            lines.iter().filter(|line| line["decision"] == id).count(),
            1
        );
    }
    for hidden in ['\u{1b}', '\u{202e}'] {
        assert!(!output.contains(hidden), "a control character is printed");
    }
    let found = leaks(&format!("{output}{metrics}"), &[&setup.key], &mut asks);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a3_trouble_with_a_key_server_is_told_without_what_it_said_or_was_asked() {
    let setup = {
        let mut setup = Setup::new();
        let secret = setup.issuer.url("/jwks?key=canary-query");
        setup.first_issuer()["keys"] = json!({ "jwks_url": secret });
        setup.settings["telemetry"] = json!({ "log": { "level": "debug" } });
        setup.issuer.reply(
            "/jwks?key=canary-query",
            Reply::Text("{\"canary-body\": [}".to_owned()),
        );
        setup
    };
    let child = Child::serve(&setup.settings, &[]);
    eventually("the failure is told", || {
        child.output().contains("keys could not be fetched")
    });
    let (status, ready) = http_get(child.admin, "/ready");
    assert_eq!(status, 503);
    let told = format!(
        "{}{ready}{}",
        child.output(),
        http_get(child.admin, "/metrics").1
    );
    assert!(!told.to_lowercase().contains(CANARY), "{told}");
}

#[test]
fn a3_settings_with_a_secret_in_the_wrong_place_are_refused_without_repeating_it() {
    let issuer = KeyServer::start();
    let bundle = crate::world::shipped_bundle();
    for (section, value) in [
        (
            "telemetry",
            json!({ "otlp": { "endpoint": "https://user:canary@collector.example:4317" } }),
        ),
        (
            "telemetry",
            json!({ "otlp": { "endpoint": "http://far.example:4317", "headers": { "x": { "env": "PATH" } } } }),
        ),
    ] {
        let mut settings = crate::world::settings(&issuer, bundle.path());
        settings[section] = value;
        let problems = crate::world::start(&settings).expect_err("refused");
        assert!(!format!("{problems:?}").contains(CANARY), "{problems:?}");
    }
    // What stands for a token in memory is no token.
    assert!(!b64("x").contains(CANARY));
}
