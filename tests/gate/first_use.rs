//! Many first uses of one credential at once: whoever finds nothing remembered waits for the first, who does the work.
//!
//! Each test holds back what the work needs until every request has looked for a memory and found none.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::issuer::{AUDIENCE, ISSUER, Key, KeyServer, Reply, claims, jwks};
use crate::world::{Ask, Setup, World, eventually, write};

/// How many requests use one token for the first time at once.
const AT_ONCE: u64 = 1000;
/// Over how many connections, so that nobody waits at the door: each takes 256 calls at a time.
const CONNECTIONS: u64 = 5;

/// Room and time for all of them, and two threads that decide at the same time.
fn patient(setup: &mut Setup) {
    setup.settings["listen"]["workers"] = json!(2);
    setup.settings["identity"]["key_wait"] = json!("10s");
}

/// Sends the token as often as that at once, has `answer` called when all have found nothing, and wants all allowed.
fn use_at_once(world: &World, token: &str, answer: impl FnOnce()) {
    let mut asked = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = world.wait(world.connect());
        asked.extend((0..AT_ONCE / CONNECTIONS).map(|_| {
            let ask = Ask::get("/v1/orders").bearer(token);
            world.spawn(ask.send(client.clone()))
        }));
    }
    eventually("all have found nothing", || {
        world.figures().misses == AT_ONCE
    });
    assert_eq!(world.figures().judged, 0);
    answer();
    for heard in asked {
        world.wait(heard).unwrap().passed();
    }
}

fn assert_verified_once(world: &World) {
    assert_eq!(world.figures().judged, 1);
    let counted = world.metrics().sum("cardea_token_verifications_total", &[]);
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
}

#[test]
fn c3_a_thousand_first_uses_of_a_token_at_once_cost_one_fetch_and_one_verification() {
    let world = World::with(patient);
    let next = Key::es256("k2");
    world.issuer.reply("/jwks", Reply::Hold);
    use_at_once(&world, &next.token(), || {
        let both = jwks(&[&world.key, &next]);
        world.issuer.reply("/jwks", Reply::Text(both));
    });
    assert_eq!(world.issuer.asked(), 2, "one at the start");
    assert_verified_once(&world);
}

/// A secret in a file, and a Cardea that asks `server` about opaque tokens.
fn asking(server: &KeyServer) -> (TempDir, World) {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "secret",
        "a secret of the introspection client",
    );
    let world = World::with(|setup| {
        patient(setup);
        let secret = json!({ "file": folder.path().join("secret") });
        setup.settings["identity"]["introspection"] = json!([{
            "issuer": ISSUER,
            "endpoint": server.url("/introspect"),
            "audiences": [AUDIENCE],
            "client": { "id": "cardea", "auth": { "client_secret_basic": secret } },
            "claims": { "roles": ["roles"] },
            "timeout": "10s",
        }]);
    });
    (folder, world)
}

fn active() -> Value {
    let mut answer = claims();
    answer["active"] = true.into();
    answer["token_type"] = "Bearer".into();
    answer["client_id"] = "web-shop".into();
    answer
}

#[test]
fn c3_a_thousand_first_uses_of_an_opaque_token_at_once_cost_one_introspection() {
    let server = KeyServer::start();
    server.reply("/introspect", Reply::Hold);
    let (_folder, world) = asking(&server);
    use_at_once(&world, "an-opaque-token", || {
        server.reply("/introspect", Reply::Json(active()));
    });
    assert_eq!(server.asked(), 1);
    assert_verified_once(&world);
    let asked = world.metrics().sum("cardea_introspections_total", &[]);
    assert!((asked - 1.0).abs() < f64::EPSILON, "{asked}");
}
