//! Opaque tokens of a real OpenID provider, which Cardea asks about them.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::provider::{CARDEA, OPAQUE, Provider, SERVICE, resource};
use crate::world::{Ask, Setup, World, eventually};

/// How many requests use one token for the first time at once.
const AT_ONCE: u64 = 200;

/// A provider, and the secret that its clients share, in a file.
struct Issuer {
    provider: Provider,
    folder: TempDir,
}

impl Issuer {
    fn start() -> Self {
        let issuer = Self {
            provider: Provider::start(),
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(issuer.path("secret"), &issuer.provider.secret).unwrap();
        std::fs::write(issuer.path("key.pem"), &issuer.provider.key).unwrap();
        issuer
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// A Cardea that asks as `client`, after a change of the server's settings.
    fn world(&self, (client, auth): (&str, Value), change: impl FnOnce(&mut Value)) -> World {
        World::with(|setup: &mut Setup| {
            self.provider.asked_by(setup, (client, &auth));
            change(&mut setup.settings["identity"]["introspection"][0]);
        })
    }

    fn by_secret(&self) -> (&'static str, Value) {
        let secret = json!({ "file": self.path("secret") });
        (CARDEA, json!({ "client_secret_basic": secret }))
    }

    fn token(&self, world: &World) -> String {
        self.provider.token(world, (SERVICE, OPAQUE), &[])
    }
}

fn outcomes(world: &World, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    world
        .metrics()
        .sum("cardea_introspections_total", &[&label])
}

#[test]
fn an_opaque_token_of_a_real_provider_is_believed_with_its_roles_and_asked_about_once() {
    let issuer = Issuer::start();
    let world = issuer.world(issuer.by_secret(), |_| {});
    let token = issuer.token(&world);
    for _ in 0..3 {
        let heard = world.present(&token);
        heard.assert_allowed(&["viewers"]);
        let principal = heard.metadata("principal");
        let name = principal.as_str().unwrap();
        assert!(name.contains("Client") && name.contains(SERVICE), "{name}");
    }
    assert_eq!(issuer.provider.counted(&world).introspections, 1);
    // One for another audience, one that was invented, and one that another issuer of this Cardea signed.
    let other = issuer
        .provider
        .token(&world, (SERVICE, "https://other.resource.test"), &[]);
    world.present(&other).assert_invalid();
    world.present("invented").assert_invalid();
    world.present("invented").assert_invalid();
    assert_eq!(issuer.provider.counted(&world).introspections, 3);
    let jwt = issuer
        .provider
        .token(&world, (SERVICE, &resource("ES256")), &[]);
    world.present(&jwt).assert_invalid();
    assert!(
        world.get("/v1/orders").allowed(),
        "JWTs of the configured issuer still serve"
    );
    assert_eq!(issuer.provider.counted(&world).introspections, 3);
    assert_eq!(
        (outcomes(&world, "active"), outcomes(&world, "inactive")),
        (2.0, 1.0)
    );
    let timed = world
        .metrics()
        .sum("cardea_introspection_duration_seconds_count", &[]);
    assert!((timed - 3.0).abs() < f64::EPSILON, "{timed}");
}

#[test]
fn a_token_that_is_taken_back_ends_within_the_cap() {
    let issuer = Issuer::start();
    let world = issuer.world(issuer.by_secret(), |server| server["cap"] = json!("1s"));

    let token = issuer.token(&world);
    world.present(&token).assert_allowed(&["viewers"]);
    issuer.provider.revoke(&world, &token);
    eventually("the token ends", || !world.present(&token).allowed());
    world.present(&token).assert_invalid();
}

#[test]
fn many_first_uses_of_one_token_at_once_cost_one_introspection() {
    let issuer = Issuer::start();
    let world = issuer.world(issuer.by_secret(), |_| {});
    let token = issuer.token(&world);
    let uses: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let ask = Ask::get("/v1/orders").bearer(&token);
            world.spawn(ask.send(world.client()))
        })
        .collect();
    for heard in uses {
        world.wait(heard).unwrap().assert_allowed(&["viewers"]);
    }
    assert_eq!(issuer.provider.counted(&world).introspections, 1);
}

#[test]
fn a_private_key_proves_cardea_to_the_provider() {
    let issuer = Issuer::start();
    let auth = json!({ "private_key_jwt": {
        "private_key_file": issuer.path("key.pem"), "algorithm": "ES256", "key_id": "assertion",
    } });
    let world = issuer.world(("cardea-assertion", auth), |_| {});
    for _ in 0..2 {
        let token = issuer.token(&world);
        world.present(&token).assert_allowed(&["viewers"]);
    }
}

#[test]
fn signed_answers_of_a_real_provider_are_believed_and_plain_ones_refused_where_they_are_required() {
    let issuer = Issuer::start();
    let required = |server: &mut Value| {
        server["signed_answers"] = json!("required");
        server["algorithms"] = json!(["ES256"]);
    };
    let (_, auth) = issuer.by_secret();
    let world = issuer.world(("cardea-signed", auth), required);
    let token = issuer.token(&world);
    world.present(&token).assert_allowed(&["viewers"]);

    // The provider signs nothing for this client.
    let world = issuer.world(issuer.by_secret(), required);
    world
        .present(&token)
        .assert_refused(503, "introspection_unavailable");
}

#[test]
fn c8_wrong_credentials_of_ours_or_no_provider_at_all_allow_nothing() {
    let issuer = Issuer::start();
    std::fs::write(issuer.path("wrong"), "wrong").unwrap();
    let wrong = json!({ "client_secret_basic": { "file": issuer.path("wrong") } });
    let world = issuer.world((CARDEA, wrong), |_| {});
    let token = issuer.token(&world);
    for _ in 0..2 {
        world
            .present(&token)
            .assert_refused(503, "introspection_unavailable");
    }
    assert_eq!(issuer.provider.counted(&world).introspections, 2);

    let world = issuer.world(issuer.by_secret(), |_| {});
    let known = issuer.token(&world);
    world.present(&known).passed();
    drop(issuer);
    world
        .present(&token)
        .assert_refused(503, "introspection_unavailable");
    // What the provider said stands for its time.
    world.present(&known).passed();
}
