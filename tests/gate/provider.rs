//! A real OpenID provider in a process of its own, and what Cardea makes of the tokens it gives out.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::{Setup, World, eventually};

/// A client that gets plain tokens, and one whose tokens are bound to a key.
pub(crate) const SERVICE: &str = "service";
pub(crate) const BOUND_SERVICE: &str = "bound-service";
/// The client that Cardea itself is towards the provider.
pub(crate) const CARDEA: &str = "cardea";

/// A resource whose tokens only the provider can read.
pub(crate) const OPAQUE: &str = "https://opaque.resource.test";

/// The shipped policies ask for another audience.
const VIEWERS: &str = r#"@id("viewers")
permit (principal in Cardea::Role::"order-viewer", action in Cardea::Action::"read", resource in Cardea::Api::"orders");"#;

/// The provider. It ends when this does, or when the test process does.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(crate) secret: String,
    /// The private key (PEM) of the client that proves itself by assertions.
    pub(crate) key: String,
    http: Client,
    process: Child,
}

/// What it says of itself when it is up.
#[derive(Deserialize)]
struct Greeting {
    issuer: String,
    secret: String,
    key: String,
}

/// What it has been asked.
#[derive(Debug, Deserialize)]
pub(crate) struct Counted {
    pub(crate) keys: u64,
    pub(crate) introspections: u64,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(folder().join("node"))
            .arg("provider.mjs")
            .current_dir(folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("node cannot be run: {error}"));
        let mut line = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let greeting: Greeting = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the provider did not start: {error}"));
        cardea::identity::install_crypto();
        Self {
            issuer: greeting.issuer,
            secret: greeting.secret,
            key: greeting.key,
            http: Client::builder().no_proxy().build().unwrap(),
            process,
        }
    }

    /// Has `setup` believe this provider, found by discovery, for tokens for `resource`.
    pub(crate) fn believed_by(&self, setup: &mut Setup, resource: &str) {
        let issuer = json!({
            "issuer": self.issuer,
            "audiences": [resource],
            "refresh_interval": "1h",
            "unknown_kid_interval": "1s",
            "claims": { "roles": ["roles"], "tenant": "tenant" },
            "principal": "user",
        });
        setup.settings["identity"]["issuers"] = json!([issuer]);
        setup.write("provider.cedar", VIEWERS);
    }

    /// A token for `resource`, by client credentials; `headers` may hold a proof.
    pub(crate) fn token(
        &self,
        world: &World,
        (client, resource): (&str, &str),
        headers: &[(&str, &str)],
    ) -> String {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", "orders:read orders:write"),
            ("resource", resource),
        ];
        let answer = self.post(world, ("/token", client), &form, headers);
        let token = answer["access_token"].as_str();
        token.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Posts a form as this client, and gives the answer.
    pub(crate) fn post(
        &self,
        world: &World,
        (path, client): (&str, &str),
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Value {
        let text = self.send(world, (path, client), form, headers);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
    }

    fn send(
        &self,
        world: &World,
        (path, client): (&str, &str),
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> String {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let encoded = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let credentials = format!("{}:{}", encoded(client), encoded(&self.secret));
        let mut request = self
            .http
            .post(format!("{}{path}", self.issuer))
            .header("content-type", "application/x-www-form-urlencoded")
            .header(
                "authorization",
                format!("Basic {}", STANDARD.encode(credentials)),
            )
            .body(body.finish());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        world.wait(async { request.send().await.unwrap().text().await.unwrap() })
    }

    /// Has `setup` ask this provider, found by discovery, about tokens for [`OPAQUE`]: as the client `id`, which proves
    /// itself by `auth`.
    pub(crate) fn asked_by(&self, setup: &mut Setup, (id, auth): (&str, &Value)) {
        let server = json!({
            "issuer": self.issuer,
            "audiences": [OPAQUE],
            "client": { "id": id, "auth": auth },
            "claims": { "roles": ["roles"], "tenant": "tenant" },
            "timeout": "10s",
        });
        setup.settings["identity"]["introspection"] = json!([server]);
        setup.write("provider.cedar", VIEWERS);
    }

    /// Takes a token back.
    pub(crate) fn revoke(&self, world: &World, token: &str) {
        let answer = self.send(
            world,
            ("/token/revocation", SERVICE),
            &[("token", token)],
            &[],
        );
        assert_eq!(answer, "");
    }

    /// Signs with new keys from now on; the old ones stay published.
    pub(crate) fn rotate(&self, world: &World) -> Vec<String> {
        let answer = self.post(world, ("/test/rotate", SERVICE), &[], &[]);
        serde_json::from_value(answer).unwrap()
    }

    /// Publishes the newest keys only.
    pub(crate) fn withdraw_old_keys(&self, world: &World) {
        self.post(world, ("/test/withdraw", SERVICE), &[], &[]);
    }

    /// How often it was asked for keys and for tokens.
    pub(crate) fn counted(&self, world: &World) -> Counted {
        let request = self.http.get(format!("{}/test/counted", self.issuer));
        let text = world.wait(async { request.send().await.unwrap().text().await.unwrap() });
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _status = self.process.wait();
    }
}

/// Where `make test` installs the provider.
pub(crate) fn folder() -> PathBuf {
    let named = std::env::var_os("CARDEA_PROVIDER").map(PathBuf::from);
    let beside =
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/provider-node-22.20.0");
    let folder = named.unwrap_or_else(beside);
    assert!(
        folder.join("node").exists(),
        "{} is missing: run `make test`, which installs it",
        folder.display()
    );
    folder
}

/// A resource whose tokens are JWTs signed with this algorithm.
pub(crate) fn resource(algorithm: &str) -> String {
    format!("https://{}.resource.test", algorithm.to_lowercase())
}

#[test]
fn tokens_of_a_real_provider_are_believed_whatever_they_are_signed_with() {
    let provider = Provider::start();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let resource = resource(algorithm);
        let world = World::with(|setup| provider.believed_by(setup, &resource));
        let token = provider.token(&world, (SERVICE, &resource), &[]);
        world.present(&token).assert_allowed(&["viewers"]);
        // The same token is for another resource as little as one of another client's.
        let other = provider.token(&world, (SERVICE, "https://es384.resource.test"), &[]);
        world.present(&other).assert_invalid();
    }
}

#[test]
fn a_rotation_at_a_real_provider_is_followed_and_withdrawn_keys_end_their_tokens() {
    let provider = Provider::start();
    let resource = resource("ES256");
    let world = World::with(|setup| provider.believed_by(setup, &resource));
    let before = provider.token(&world, (SERVICE, &resource), &[]);
    world.present(&before).passed();

    let asked = provider.counted(&world).keys;
    let kids = provider.rotate(&world);
    let after = provider.token(&world, (SERVICE, &resource), &[]);
    assert!(kids.contains(&kid(&after)), "{kids:?}");
    // The unknown key has the set fetched, and the token waits for it.
    world.present(&after).passed();
    world.present(&before).passed();
    assert_eq!(provider.counted(&world).keys, asked + 1);

    provider.withdraw_old_keys(&world);
    world.refresh();
    world.present(&after).passed();
    eventually("the old token ends", || !world.present(&before).allowed());
    world.present(&before).assert_invalid();
}

/// The key id in a token's header.
fn kid(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .unwrap();
    let header: BTreeMap<String, Value> = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}
