//! What must never be told: words planted in every credential and every secret, and looked for wherever Cardea speaks.
//!
//! | part | is |
//! |---|---|
//! | [`Planted`] | the planted words, and the search for them in every spelling they could take |
//! | [`Sinks`] | where Cardea speaks; each has a plain word of its own that must be found, or nobody listened |
//! | [`House`] | settings with every kind of credential and secret, and requests with good and bad ones |

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cardea::config::Config;
use cardea::envoy::proto::auth::CheckRequest;
use cardea::envoy::request::{self, Call};
use cardea::identity::{FreshKey, HashKey, KeyFile};
use cardea::model::{DecisionId, SystemClock};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use prost::Message;
use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::api_keys::keys;
use crate::child::{Child, run};
use crate::collector::Collector;
use crate::issuer::{AUDIENCE, ISSUER, Key, KeyServer, Reply, b64, changed, claims, now};
use crate::redis::Redis;
use crate::transmitter::{CAEP, Push, STREAM, Transmitter};
use crate::world::{Ask, Heard, Setup, eventually, http_get};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// The plain word: the subject of good tokens, the owner of keys, the name of users.
const MARKER: &str = "marker-subject";
const OPAQUE_ISSUER: &str = "https://opaque.marker.example";
const TRANSACTIONS: &str = "https://transactions.marker.example";
const CLUSTER: &str = "https://cluster.marker.example";
const CARDEA: &str = "https://cardea.marker.example";
/// The header in which upstreams get the minted token.
const MINTED: &str = "x-cardea-identity";

/// Words that no sink may hold.
#[derive(Default)]
struct Planted {
    words: Vec<(String, String)>,
}

impl Planted {
    /// A new word for this place. It is plain in every spelling of every protocol.
    fn word(&mut self, place: &str) -> String {
        let letters = place.replace(|c: char| !c.is_ascii_lowercase(), "");
        let word = format!("c4nary{:02}{letters}", self.words.len());
        self.secret(place, &word);
        word
    }

    /// A word that something else made.
    fn secret(&mut self, place: &str, word: &str) {
        assert!(word.len() >= 8, "{place}: too short to be looked for");
        if !self.words.iter().any(|(_, known)| known == word) {
            self.words.push((place.to_owned(), word.to_owned()));
        }
    }

    /// A token: what it says, and its signature.
    fn token(&mut self, place: &str, token: &str) -> String {
        let (signed, signature) = token.rsplit_once('.').unwrap_or(("", token));
        let (_, payload) = signed.split_once('.').unwrap_or(("", signed));
        for (what, part) in [("payload", payload), ("signature", signature)] {
            if part.len() >= 8 {
                self.secret(&format!("{what} of {place}"), part);
            }
        }
        token.to_owned()
    }

    /// Where a text holds a planted word, in whatever spelling.
    fn found(&self, text: &str) -> Vec<String> {
        let lower = text.to_lowercase();
        let all = self.words.iter().filter_map(|(place, word)| {
            let plain = lower.contains(&word.to_lowercase()).then_some("as it is");
            let spelled = spellings(word)
                .into_iter()
                .find_map(|(name, spelling)| text.contains(&spelling).then_some(name));
            plain.or(spelled).map(|how| format!("{place}, {how}"))
        });
        all.collect()
    }
}

/// How a word may be written by somebody who does not write it as it is.
fn spellings(word: &str) -> Vec<(&'static str, String)> {
    let bytes = word.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    let percent: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let mut all = vec![
        ("in upper-case hex", hex.to_uppercase()),
        ("in hex", hex),
        ("as a list of bytes", list.join(", ")),
        ("as a list of bytes", list.join(",")),
        ("percent-encoded", percent),
        ("backwards", word.chars().rev().collect()),
    ];
    // Base64 of a text that holds the word, wherever it begins there.
    for (before, cut) in [(0, 0), (1, 2), (2, 3)] {
        let padded = [&vec![0; before][..], bytes].concat();
        for text in [
            STANDARD_NO_PAD.encode(&padded),
            URL_SAFE_NO_PAD.encode(&padded),
        ] {
            let whole = text.len() - usize::from(padded.len() % 3 != 0);
            all.push(("in base64", text[cut..whole].to_owned()));
        }
    }
    all
}

/// Where Cardea speaks, and what it said there.
#[derive(Default)]
struct Sinks {
    all: Vec<(String, String)>,
}

impl Sinks {
    /// Something Cardea said. `plain` is a word that has to be in it.
    #[track_caller]
    fn add(&mut self, name: &str, said: impl Into<String>, plain: &str) {
        let said = said.into();
        assert!(
            !plain.is_empty(),
            "{name}: it is shown nowhere that this speaks"
        );
        assert!(
            said.contains(plain),
            "{name}: nobody said `{plain}` here: {said}"
        );
        self.all.push((name.to_owned(), said));
    }

    fn debug(&mut self, name: &str, value: &impl Debug, plain: &str) {
        self.add(name, format!("{value:?}"), plain);
    }

    /// What was done by a program, on both of its outputs.
    #[track_caller]
    fn program(&mut self, name: &str, output: &Output, plain: &str) {
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        self.add(name, format!("{out}{err}"), plain);
    }

    #[track_caller]
    fn assert_hold_none_of(&self, planted: &Planted) {
        assert!(self.all.len() > 2 && planted.words.len() > 20);
        let leaks: Vec<String> = self
            .all
            .iter()
            .flat_map(|(name, said)| {
                planted
                    .found(said)
                    .into_iter()
                    .map(move |what| format!("{name}: {what}"))
            })
            .collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

/// A Cardea with every kind of credential and secret.
struct House {
    setup: Setup,
    opaque: KeyServer,
    folder: TempDir,
    planted: Planted,
    holder: Key,
    transactions: Key,
    cluster: Key,
    transmitter: Transmitter,
    redis: Redis,
    /// Where the list of statuses is.
    list: String,
    /// What the transmitter shows where it pushes.
    authorization: String,
    api_key: String,
    password: String,
    /// Where opaque tokens are asked about.
    ask_about: String,
    environment: Vec<(&'static str, String)>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut planted = Planted::default();
        keys(folder.path(), "init", &[]);
        let more = [
            "--owner",
            MARKER,
            "--scope",
            "orders:read",
            "--role",
            "order-viewer",
        ];
        let api_key = keys(folder.path(), "create", &more).trim().to_owned();
        let (_, secret) = api_key.rsplit_once('_').unwrap();
        planted.secret("secret of an API key", secret);
        let hash_key = std::fs::read_to_string(folder.path().join("hash-key")).unwrap();
        planted.secret("hash key of API keys", hash_key.trim());
        let password = planted.word("password");
        let server = format!("{}0123456789abcdef", planted.word("password of the state"));
        let redis = Redis::with(|_, port| {
            let port = port.to_string();
            vec![
                "--port".into(),
                port,
                "--requirepass".into(),
                server.clone(),
            ]
        });
        std::fs::write(folder.path().join("state-password"), &server).unwrap();
        let mut house = Self {
            setup: Setup::new(),
            opaque: KeyServer::start(),
            folder,
            planted,
            holder: Key::es256("holder"),
            transactions: Key::es256("t1"),
            cluster: Key::es256("cluster-1"),
            transmitter: Transmitter::start(),
            redis,
            list: String::new(),
            authorization: String::new(),
            api_key,
            password,
            ask_about: String::new(),
            environment: Vec::new(),
        };
        house.plant_hashes();
        house.furnish();
        house.furnish_keys();
        house.furnish_events();
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with a planted secret.
    fn secret_file(&mut self, name: &str) -> Value {
        let word = format!(
            "{}{}",
            self.planted.word(name),
            "0123456789abcdef0123456789abcdef"
        );
        std::fs::write(self.path(name), word).unwrap();
        json!({ "file": self.path(name) })
    }

    /// An environment variable with a planted secret.
    fn secret_variable(&mut self, name: &'static str) -> Value {
        let word = self.planted.word(&name.to_lowercase());
        self.environment.push((name, word));
        json!({ "env": name })
    }

    /// What stands for keys and passwords in the stores.
    fn plant_hashes(&mut self) {
        let stored: Value =
            serde_json::from_str(&std::fs::read_to_string(self.path("keys.json")).unwrap())
                .unwrap();
        self.planted.secret(
            "hash of an API key",
            stored["keys"][0]["hash"].as_str().unwrap(),
        );
        let hash = fed(&["keys", "hash-password"], &self.password).stdout;
        let hash = String::from_utf8(hash).unwrap().trim().to_owned();
        self.planted
            .secret("hash of a password", hash.rsplit('$').next().unwrap());
        let users = json!({ "version": 1, "users": { MARKER: {
            "hash": hash, "roles": ["order-viewer"], "scopes": ["orders:read"],
        } } });
        std::fs::write(self.path("users.yaml"), users.to_string()).unwrap();
    }

    fn furnish(&mut self) {
        let key = self.planted.word("query of the keys' URL");
        let jwks = format!("/jwks?key={key}");
        self.setup
            .issuer
            .reply(&jwks, Reply::Text(crate::issuer::jwks(&[&self.setup.key])));
        self.setup.issuer.reply(
            "/transactions",
            Reply::Text(crate::issuer::jwks(&[&self.transactions])),
        );
        let jwks = self.setup.issuer.url(&jwks);
        let transactions = self.setup.issuer.url("/transactions");
        let (client_secret, nonce) = (
            self.secret_file("client-secret"),
            self.secret_file("nonce-secret"),
        );
        let admin = self.secret_file("admin-token");
        let usual = self.setup.first_issuer();
        usual["keys"] = json!({ "jwks_url": jwks });
        usual["claims"]["expose"] = json!(["email", "reset_token"]);
        let issuer = json!({
            "issuer": TRANSACTIONS, "audiences": [AUDIENCE], "carrier": "transaction_token",
            "token_types": ["txntoken+jwt"], "keys": { "jwks_url": transactions }, "claims": { "roles": ["roles"] },
        });
        self.ask_about = format!(
            "/introspect?key={}",
            self.planted.word("query of the introspection")
        );
        let endpoint = self.opaque.url(&self.ask_about);
        let (keys_file, hash_key) = (self.path("keys.json"), self.path("hash-key"));
        let (users, revoked) = (self.path("users.yaml"), self.path("revoked.jsonl"));
        let identity = &mut self.setup.settings["identity"];
        identity["issuers"].as_array_mut().unwrap().push(issuer);
        identity["introspection"] = json!([{
            "issuer": OPAQUE_ISSUER, "endpoint": endpoint, "audiences": [AUDIENCE], "timeout": "10s",
            "client": { "id": "cardea", "auth": { "client_secret_post": client_secret } },
        }]);
        identity["api_keys"] = json!({ "file": keys_file, "hash_key": { "file": hash_key } });
        identity["basic"] = json!({ "file": users, "wait": "10s" });
        identity["dpop"] = json!({ "nonce": "required", "nonce_secret": nonce });
        identity["certificates"] = json!({
            "validated_elsewhere": true,
            "names": [{ "from": "common_name", "issuer": "staff", "principal": "user" }],
            "forwarded": { "header": "client-cert", "from": ["10.0.0.0/8"] },
        });
        identity["revocation"] = json!({ "file": revoked });
        self.setup.settings["admin"]["token"] = admin;
        self.setup.write(
            "canaries.cedar",
            r#"@id("nothing-at-night") @mode("shadow") forbid (principal, action, resource);
               @id("reads-a-claim") permit (principal, action == Cardea::Action::"orders.createOrder", resource)
               when { context.token.claims.hasTag("reset_token") && context.token.claims.getTag("reset_token").contains("x") };"#,
        );
        self.answer_opaque(true);
    }

    /// Secrets that are shown to servers of keys, a cluster, a list of statuses, and keys to sign with.
    fn furnish_keys(&mut self) {
        let issuer = &self.setup.issuer;
        issuer.reply(
            "/cluster",
            Reply::Text(crate::issuer::jwks(&[&self.cluster])),
        );
        let cluster = issuer.url("/cluster");
        let lists = issuer.url("/lists");
        let query = self.planted.word("query of the list of statuses");
        self.list = format!("/lists/1?key={query}");
        self.publish_statuses();
        let [of_issuer, of_cluster] =
            ["token for the keys", "token for the cluster"].map(|name| self.secret_file(name));
        let usual = self.setup.first_issuer();
        usual["key_token"] = of_issuer;
        usual["status_lists"] = json!({ "url_prefixes": [lists] });
        self.setup.settings["identity"]["kubernetes"] = json!([{
            "issuer": CLUSTER, "audiences": [AUDIENCE], "keys": { "jwks_url": cluster }, "key_token": of_cluster,
        }]);
        self.setup.settings["public"] = json!({ "address": "127.0.0.1:0" });
        let directory = self.path("minting");
        let made = run(&[
            "mint",
            "create-key",
            "--directory",
            directory.to_str().unwrap(),
        ]);
        assert!(made.status.success(), "{made:?}");
        let told = String::from_utf8(made.stdout).unwrap();
        let (made, _) = told.split_once('\n').unwrap();
        std::fs::rename(made, self.path("minting/key.pem")).unwrap();
        self.plant_minting_key();
        self.setup.settings["mint"] =
            json!({ "issuer": CARDEA, "keys": { "directory": directory } });
    }

    /// The private part of the key that signs, as it is in the file and as others would write it.
    fn plant_minting_key(&mut self) {
        let pem = std::fs::read_to_string(self.path("minting/key.pem")).unwrap();
        let body: Vec<&str> = pem.lines().filter(|line| !line.contains("---")).collect();
        for line in &body {
            self.planted.secret("a line of the minting key", line);
        }
        // RFC 5915 within RFC 5208: what comes before the 32 bytes of a P-256 key is always the same.
        let der = STANDARD.decode(body.concat()).unwrap();
        assert_eq!(der[33..36], [1, 4, 32], "a private key of 32 bytes");
        let private = &der[36..68];
        let list: Vec<String> = private.iter().map(ToString::to_string).collect();
        for text in [
            STANDARD_NO_PAD.encode(private),
            URL_SAFE_NO_PAD.encode(private),
            private.iter().map(|byte| format!("{byte:02x}")).collect(),
            list.join(", "),
            list.join(","),
        ] {
            self.planted.secret("the minting key", &text);
        }
    }

    /// Transmitters of events, and what replicas share.
    fn furnish_events(&mut self) {
        let authorization = self.secret_file("push-authorization");
        self.authorization = std::fs::read_to_string(self.path("push-authorization")).unwrap();
        let token = self.secret_file("transmitter-token");
        let verification =
            json!({ "stream_id": STREAM, "endpoint": self.transmitter.url("/verify") });
        let changes = json!({
            "push": { "authorization": authorization }, "token": token, "verification": verification,
        });
        let transmitter = changed(self.transmitter.settings("idp"), changes);
        let secret = self.secret_file("state-secret");
        let password = self.path("state-password");
        let settings = &mut self.setup.settings;
        settings["signals"] = json!({ "transmitters": [transmitter] });
        settings["state"]["redis"] = json!({
            "url": self.redis.url(), "password": { "file": password }, "secret": secret,
        });
    }

    /// A list in which the first token is good and the second is not.
    fn publish_statuses(&mut self) {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&[0, 1]).unwrap();
        let list = json!({
            "sub": self.setup.issuer.url(&self.list), "iat": now(), "exp": now() + 300, "ttl": 60,
            "status_list": { "bits": 8, "lst": b64(encoder.finish().unwrap()) },
        });
        let key = &self.setup.key;
        let header = changed(key.header(), json!({ "typ": "statuslist+jwt" }));
        let list = key.sign_texts(&header.to_string(), &list.to_string());
        let list = self.planted.token("a list of statuses", &list);
        self.setup.issuer.reply(&self.list, Reply::Text(list));
    }

    /// A token at this place of the list that is at this path.
    fn listed(&mut self, place: &str, index: u64, path: &str) -> String {
        let uri = self.setup.issuer.url(path);
        let status = json!({ "status": { "status_list": { "idx": index, "uri": uri } } });
        self.token(place, None, status)
    }

    /// The token of a pod, for these audiences.
    fn pod(&mut self, place: &str, audience: &str) -> String {
        let claims = json!({
            "iss": CLUSTER, "aud": [audience], "sub": "system:serviceaccount:shop:web",
            "iat": now() - 5, "nbf": now() - 5, "exp": now() + 300, "jti": self.planted.word(&format!("jti of {place}")),
            "kubernetes.io": {
                "namespace": "shop",
                "serviceaccount": { "name": "web", "uid": "32e1b9b8" },
                "pod": { "name": "web-0", "uid": "5f0c3a34" },
            },
        });
        let header = json!({ "alg": self.cluster.algorithm, "kid": self.cluster.kid });
        let token = self
            .cluster
            .sign_texts(&header.to_string(), &claims.to_string());
        self.planted.token(place, &token)
    }

    /// An event that takes trust back from somebody, who is logged by name; its id and its reason are planted.
    fn event(&mut self, place: &str, changes: Value) -> String {
        let reason = self.planted.word(&format!("reason of {place}"));
        let planted = json!({
            "jti": self.planted.word(&format!("jti of {place}")),
            "sub_id": { "format": "iss_sub", "iss": ISSUER, "sub": "marker-signalled" },
        });
        let event = json!({ "reason_admin": { "en": reason } });
        let claims = self
            .transmitter
            .claims(&format!("{CAEP}session-revoked"), event, planted);
        let set = self.transmitter.sign(&changed(claims, changes));
        self.planted.token(place, &set)
    }

    /// Plants the tokens that were minted with these answers, and takes them out: they are for upstreams alone, and say
    /// nothing that nobody may know.
    fn plant_minted(&mut self, heard: &mut [Heard]) {
        let mut minted = BTreeSet::new();
        for heard in heard.iter_mut().filter(|heard| heard.allowed()) {
            minted.extend(heard.header(MINTED).map(str::to_owned));
            heard.remove_header(MINTED);
        }
        assert!(minted.len() > 5, "{} tokens were minted", minted.len());
        for token in &minted {
            assert_eq!(self.planted.found(token), [""; 0], "a minted token");
        }
        for token in &minted {
            self.planted.token("a minted token", token);
        }
    }

    /// Has the introspection server call every opaque token good, or not.
    fn answer_opaque(&mut self, active: bool) {
        let (id, name) = (
            self.planted.word("jti of an answer"),
            self.planted.word("member of an answer"),
        );
        let reply = json!({
            "active": active, "sub": MARKER, "aud": AUDIENCE, "token_type": "Bearer", "exp": now() + 300,
            "jti": id, "username": name, "scope": "orders:read",
        });
        self.opaque.reply(&self.ask_about, Reply::Json(reply));
    }

    /// A token of the usual issuer, or of another one; its id and a private claim are planted.
    fn token(&mut self, place: &str, key: Option<&Key>, more: Value) -> String {
        let planted = json!({
            "sub": MARKER,
            "jti": self.planted.word(&format!("jti of {place}")),
            "note": self.planted.word(&format!("private claim of {place}")),
            "email": format!("{}@example.com", self.planted.word(&format!("email of {place}"))),
            "reset_token": self.planted.word(&format!("secret claim of {place}")),
        });
        let claims = changed(changed(claims(), planted), more);
        let key = key.unwrap_or(&self.setup.key);
        let token = key.sign_texts(&key.header().to_string(), &claims.to_string());
        self.planted.token(place, &token)
    }

    /// A token that is bound to the holder's key, and a proof of it with this nonce.
    fn bound(&mut self, place: &str, nonce: Option<&str>) -> (String, String) {
        let jwk = self.holder.jwk();
        let members = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk["x"], jwk["y"]
        );
        let thumbprint = b64(digest(&SHA256, members.as_bytes()));
        let token = self.token(place, None, json!({ "cnf": { "jkt": thumbprint } }));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": jwk["x"], "y": jwk["y"] });
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        let id = format!(
            "{}{}",
            self.planted.word(&format!("jti of the proof for {place}")),
            DecisionId::fresh()
        );
        let mut claims = json!({
            "jti": id, "htm": "GET", "htu": "https://api.example.com/v1/orders", "iat": now(),
            "ath": b64(digest(&SHA256, token.as_bytes())),
            "note": self.planted.word(&format!("claim of the proof for {place}")),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        let proof = self
            .holder
            .sign_texts(&header.to_string(), &claims.to_string());
        self.planted
            .token(&format!("the proof for {place}"), &proof);
        (token, proof)
    }

    fn transaction(&mut self, place: &str, typ: &str) -> String {
        let claims = changed(
            claims(),
            json!({
                "iss": TRANSACTIONS, "sub": MARKER, "jti": self.planted.word(&format!("jti of {place}")),
                "tctx": { "card": self.planted.word(&format!("context of {place}")) },
            }),
        );
        let header = changed(self.transactions.header(), json!({ "typ": typ }));
        let token = self
            .transactions
            .sign_texts(&header.to_string(), &claims.to_string());
        self.planted.token(place, &token)
    }

    /// A certificate of somebody: what stands between the armour, and the whole as Envoy encodes it.
    fn certificate(&mut self, name: &str) -> (String, String) {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        let mail = format!(
            "{}@example.com",
            self.planted.word(&format!("mail of {name}"))
        );
        parameters.subject_alt_names = vec![SanType::Rfc822Name(mail.as_str().try_into().unwrap())];
        let serial = self.planted.word(&format!("serial of {name}"));
        parameters.serial_number = Some(SerialNumber::from_slice(&serial.as_bytes()[..16]));
        let certificate = parameters
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap();
        let der = STANDARD.encode(certificate.der());
        self.planted
            .secret("a piece of a certificate", &der[200..260]);
        let pem = certificate.pem();
        (
            der,
            pem.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        )
    }

    /// Every kind of credential, good: each is let in.
    fn good(&mut self) -> Vec<Ask> {
        let ask = || Ask::get("/v1/orders");
        let bearer = self.token("a good token", None, json!({}));
        let opaque = self.planted.word("opaque token");
        let transaction = self.transaction("a good transaction token", "txntoken+jwt");
        let basic = STANDARD.encode(format!("{MARKER}:{}", self.password));
        let (_, pem) = self.certificate(MARKER);
        let (der, _) = self.certificate("marker-forwarded");
        let pod = self.pod("a good token of a pod", AUDIENCE);
        let path = self.list.clone();
        let listed = self.listed("a listed token", 0, &path);
        let status = || Ask::get("/v1/status");
        let mut connected = status();
        connected.attributes().source.as_mut().unwrap().certificate = pem;
        let mut forwarded = status().header("client-cert", &format!(":{der}:"));
        forwarded.attributes().source = Some(crate::world::peer("10.1.2.3"));
        vec![
            ask().bearer(&bearer),
            status().bearer(&opaque),
            status().header("txn-token", &transaction),
            status().header("x-api-key", &self.api_key),
            status().header("authorization", &format!("Basic {basic}")),
            connected,
            forwarded,
            status().bearer(&pod),
            ask().bearer(&listed),
        ]
    }

    /// Credentials that are refused, and requests that are.
    fn bad(&mut self) -> Vec<Ask> {
        let mut asks = self.bad_tokens();
        asks.extend(self.bad_others());
        asks.extend(self.bad_requests());
        asks
    }

    fn bad_tokens(&mut self) -> Vec<Ask> {
        let stranger = Key::es256("stranger");
        let word = self.planted.word("member of a header");
        let mut tokens = vec![
            self.token("an expired token", None, json!({ "exp": 1, "iat": 0 })),
            self.token("a token of a stranger", Some(&stranger), json!({})),
            self.token("a token for nobody", None, json!({ "sub": [word] })),
        ];
        for (name, place) in [
            ("aud", "audience"),
            ("iss", "issuer"),
            ("exp", "end"),
            ("scope", "scope"),
        ] {
            let word = format!("https://{}.example", self.planted.word(place));
            tokens.push(self.token(place, None, json!({ name: [word] })));
        }
        for name in ["kid", "typ", "alg", "jku", "crit"] {
            let word = self.planted.word(&format!("header {name}"));
            let token = self.setup.key.token_under(json!({ name: word }));
            tokens.push(self.planted.token(name, &token));
        }
        let word = self.planted.word("text that is no token");
        tokens.extend([
            format!("{word}.{word}.{word}"),
            format!("{word}{}", "x".repeat(9000)),
            format!("{{{word}}}"),
            format!("{word}\u{e9}"),
        ]);
        let path = self.list.clone();
        let away = format!(
            "/lists/2?key={}",
            self.planted.word("query of a list that is away")
        );
        tokens.extend([
            self.listed("a listed token that is not good", 1, &path),
            self.listed("a listed token whose list is away", 0, &away),
            self.pod(
                "a token of a pod for somebody else",
                "https://other.example",
            ),
        ]);
        let mut asks: Vec<Ask> = tokens
            .iter()
            .map(|token| Ask::get("/v1/orders").bearer(token))
            .collect();
        let good = self.token("one of two tokens", None, json!({}));
        let other = self.token("the other of two tokens", None, json!({ "sub": "bob" }));
        asks.push(
            Ask::get("/v1/orders")
                .header("authorization", &format!("Bearer {good}, Bearer {other}")),
        );
        asks.push(Ask::get("/v1/orders").header("authorization", &format!("Token {good}")));
        asks.push(Ask::get(&format!("/v1/orders?access_token={good}")));
        asks.push(Ask::get(&format!("/v1/orders?access_token={good}")).bearer(&other));
        asks.push(Ask::get("/v1/orders").header("cookie", &format!("token={good}")));
        asks.push(Ask::get("/v1/orders").header("proxy-authorization", &format!("Bearer {good}")));
        // Good, and not enough: policies are asked, and one of them reads a claim.
        asks.push(Ask::new("POST", "/v1/orders").bearer(&self.token(
            "a token without rights",
            None,
            json!({ "scope": "" }),
        )));
        let typ = self.transaction("a transaction token of another type", "at+jwt");
        asks.push(Ask::get("/v1/orders").header("txn-token", &typ));
        let transaction = self.transaction("a transaction token of somebody else", "txntoken+jwt");
        asks.push(
            Ask::get("/v1/orders")
                .bearer(&other)
                .header("txn-token", &transaction),
        );
        asks
    }

    fn bad_others(&mut self) -> Vec<Ask> {
        let status = || Ask::get("/v1/status");
        let forged = FreshKey::generate("cardea")
            .unwrap()
            .text
            .expose_secret()
            .to_owned();
        self.planted
            .secret("a key that nobody has", forged.rsplit('_').next().unwrap());
        let (bad_key, guess) = (
            self.planted.word("text that is no key"),
            self.planted.word("wrong password"),
        );
        let bad_basic = STANDARD.encode(format!("{MARKER}:{guess}"));
        let nobody = STANDARD.encode(format!("{}:{guess}", self.planted.word("unknown user")));
        let nameless = STANDARD.encode(self.planted.word("text without a colon"));
        let (bound, proof) = self.bound("a bound token", None);
        let (other, _) = self.bound("a bound token without a proof", None);
        let bad_proof = self.planted.word("text that is no proof");
        let certificate = self.planted.word("text that is no certificate");
        let xfcc = self.planted.word("a forwarded certificate");
        let mut broken = status();
        broken.attributes().source.as_mut().unwrap().certificate = certificate;
        let mut principal = status();
        principal.attributes().source.as_mut().unwrap().principal =
            format!("{}\u{1}", self.planted.word("a bad principal"));
        let mut hop = status().header(
            "client-cert",
            &format!(":{}", self.planted.word("a bad client-cert")),
        );
        hop.attributes().source = Some(crate::world::peer("10.1.2.3"));
        vec![
            status().header("x-api-key", &forged),
            status().header("x-api-key", &bad_key),
            status().header("x-api-key", &format!("{}x", self.api_key)),
            Ask::get(&format!("/v1/status?api_key={}", self.api_key)),
            status().header("authorization", &format!("Basic {bad_basic}")),
            status().header("authorization", &format!("Basic {nobody}")),
            status().header("authorization", &format!("Basic {nameless}")),
            status()
                .header("authorization", &format!("DPoP {bound}"))
                .header("dpop", &proof),
            status()
                .header("authorization", &format!("Bearer {bound}"))
                .header("dpop", &proof),
            status()
                .header("authorization", &format!("DPoP {other}"))
                .header("dpop", &bad_proof),
            status().header("authorization", &format!("DPoP {other}")),
            status().header(
                "x-forwarded-client-cert",
                &format!("Hash={xfcc};URI=spiffe://{xfcc}/a"),
            ),
            broken,
            principal,
            hop,
        ]
    }

    /// Requests that are no better for what they carry.
    fn bad_requests(&mut self) -> Vec<Ask> {
        let mut word = |place: &str| self.planted.word(place);
        let ask = Ask::get;
        vec![
            ask(&format!("/v1/orders?cursor={}&limit=7", word("query"))),
            ask(&format!("/v1/orders?limit={}&limit=2", word("query twice"))),
            ask(&format!("/v1/orders?x={}%zz", word("broken query"))),
            ask("/v1/status").header("cookie", &format!("session={}", word("cookie"))),
            ask("/v1/status").header("x-free", &word("header")),
            ask("/v1/status").header("x-cardea-subject", &word("forged header")),
            ask("/v1/status").header("x", &format!("{}\r\n", word("header with a line end"))),
            ask("/v1/status").header(&format!("{} x", word("bad name of a header")), "x"),
            ask("/v1/status").host(&format!("{}@api.example.com", word("user in the host"))),
            Ask::new(&word("method").to_uppercase(), "/v1/status"),
            Ask::new("POST", "/v1/orders").body(&format!("{{\"password\":\"{}\"}}", word("body"))),
            ask("/v1/status")
                .header("content-type", "application/grpc")
                .header(
                    "authorization",
                    &format!("Bearer {}", word("token of a gRPC call")),
                ),
        ]
    }
}

/// Runs the program with something on its standard input.
fn fed(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cardea"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeding = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // A program that ends early need not have read it all.
    let _written = feeding.join().unwrap();
    output
}

/// Everything of an answer but the names of removed headers, which repeat what the client sent, to Envoy alone.
fn said(heard: &[Heard]) -> String {
    let all = heard
        .iter()
        .map(|heard| format!("{:?}", heard.clone().without_removed_names()));
    all.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_search_finds_a_word_in_every_spelling() {
    let mut planted = Planted::default();
    let word = planted.word("somewhere");
    assert_eq!(planted.found("nothing of it: c4nary, 00somewhere"), [""; 0]);
    for text in [
        format!("..{word}.."),
        word.to_uppercase(),
        format!("{:?}", word.as_bytes()),
        STANDARD.encode(format!("user:{word}")),
        STANDARD.encode(format!("us:{word}:x")),
        URL_SAFE_NO_PAD.encode(format!("u:{word}")),
        word.bytes().map(|byte| format!("{byte:02x}")).collect(),
        word.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        json!({ "a": [word] }).to_string(),
    ] {
        assert_eq!(planted.found(&text).len(), 1, "{text}");
    }
}

/// A collector on a runtime of its own: its port.
fn collect(collector: &Collector) -> (u16, Runtime) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    (runtime.block_on(collector.serve()), runtime)
}

#[test]
fn a3_h3_nothing_that_a_running_cardea_says_holds_a_planted_word() {
    let mut house = House::new();
    let collector = Collector::default();
    let (port, _runtime) = collect(&collector);
    let header = house.secret_variable("GATE_COLLECTOR_KEY");
    house.setup.settings["telemetry"] = json!({
        "log": { "level": "trace", "decisions": "all" },
        "traces": { "delay": "10ms" }, "metrics": { "interval": "1s" },
        "otlp": { "endpoint": format!("http://127.0.0.1:{port}"), "headers": { "x-key": header } },
    });
    let environment: Vec<(&str, &str)> = house
        .environment
        .iter()
        .map(|(name, word)| (*name, &**word))
        .collect();
    let child = Child::serve(&house.setup.settings, &environment);
    let line = child.line();
    let mut heard = Vec::new();
    for ask in house.good() {
        // Cold and warm.
        for _ in 0..2 {
            let answer = line.ask_within(TRACE, ask.clone());
            assert!(answer.allowed(), "{ask:?} {answer:?}");
            heard.push(answer);
        }
    }
    // A proof with the nonce that the first attempt is told.
    let (token, proof) = house.bound("a bound token with a nonce", None);
    let send = |token: &str, proof: &str| {
        let ask = Ask::get("/v1/orders").header("authorization", &format!("DPoP {token}"));
        line.ask_within(TRACE, ask.header("dpop", proof))
    };
    let asked = send(&token, &proof);
    let nonce = asked.header("dpop-nonce").unwrap().to_owned();
    let (token, proof) = house.bound("a bound token with its nonce", Some(&nonce));
    let passed = send(&token, &proof);
    passed.passed();
    heard.extend([asked, passed, send(&token, &proof)]);
    house.answer_opaque(false);
    let mut bad = house.bad();
    let opaque = house.planted.word("an opaque token that is not good");
    bad.push(Ask::get("/v1/orders").bearer(&opaque));
    heard.extend(bad.into_iter().map(|ask| line.ask_within(TRACE, ask)));
    let refused = heard.iter().filter(|heard| !heard.allowed()).count();
    assert!(refused > 40, "{refused}");
    // Servers that fail, and say things that are nobody's business.
    let word = house.planted.word("body of a broken answer");
    house
        .opaque
        .reply(&house.ask_about, Reply::Text(format!("{{\"{word}\": [}}")));
    let opaque = house.planted.word("an opaque token nobody can judge");
    let unknown = line.ask_within(TRACE, Ask::get("/v1/orders").bearer(&opaque));
    unknown.assert_refused(503, "introspection_unavailable");
    heard.push(unknown);
    assert!(
        house.opaque.heard().contains(&opaque),
        "the server was asked about it"
    );
    assert_shown(&house, &child);

    house.plant_minted(&mut heard);
    let mut sinks = Sinks::default();
    sinks.add("answers", said(&heard), MARKER);
    ask_admin(&mut house, &child, &mut sinks);
    ask_public(&mut house, &child, &mut sinks);
    sinks.add(
        "metrics at the end",
        http_get(child.admin, "/metrics").1,
        "cardea_signals_total",
    );
    eventually("spans and metrics arrive", || {
        let heard = collector.heard();
        heard.contains(MARKER) && heard.contains("cardea.decisions")
    });
    sinks.add("collector", collector.heard(), "Authorization/Check");
    child.terminate();
    let (status, output) = child.end();
    assert_eq!(status.code(), Some(0));
    // Every decision has its line, with the id that callers were told.
    for heard in &heard {
        let id = heard.metadata("decision");
        assert!(output.contains(id.as_str().unwrap()), "no line for {id}");
    }
    sinks.add("log", output, MARKER);
    sinks.assert_hold_none_of(&house.planted);
}

/// The secrets that Cardea has to show to others were shown: they were there to be told.
fn assert_shown(house: &House, child: &Child) {
    for name in ["token for the keys", "token for the cluster"] {
        let shown = std::fs::read_to_string(house.path(name)).unwrap();
        assert!(house.setup.issuer.heard().contains(&shown), "{name}");
    }
    let shown = std::fs::read_to_string(house.path("transmitter-token")).unwrap();
    eventually("the password opens the shared state", || {
        let metrics = http_get(child.admin, "/metrics").1;
        metrics.contains("cardea_shared_state_connected 1")
    });
    eventually("the transmitter is shown its token", || {
        house.transmitter.authorization() == Some(format!("Bearer {shown}"))
    });
}

/// Everything the admin endpoint has to say, and the commands and files that go with it.
fn ask_admin(house: &mut House, child: &Child, sinks: &mut Sinks) {
    let (wrong, revoked) = (
        house.planted.word("wrong admin token"),
        house.planted.word("revoked session"),
    );
    eventually("the shadow policies have been asked", || {
        http_get(child.admin, "/shadow")
            .1
            .contains("nothing-at-night")
    });
    for (path, plain) in [
        ("/", "/revocations"),
        ("/live", "live"),
        ("/ready", "ready"),
        ("/metrics", TRANSACTIONS),
        ("/shadow", "nothing-at-night"),
        ("/version", "cardea"),
        ("/revocations", "401"),
        ("/nothing", "404"),
    ] {
        let (status, body) = http_get(child.admin, path);
        sinks.add(path, format!("{status} {body}"), plain);
    }
    let admin = format!("http://{}", child.admin);
    let secret = house.path("admin-token");
    let other = house.path("wrong-token");
    std::fs::write(&other, &wrong).unwrap();
    let revoke = |file: &Path, more: &[&str]| {
        let file = file.to_str().unwrap();
        let places = ["--admin", &admin, "--token-file", file];
        run(&[&["revoke"], more, &places].concat())
    };
    let somebody = [
        "--subject",
        "marker-revoked",
        "--issuer",
        ISSUER,
        "--id",
        "marker-event",
    ];
    sinks.program("revoke", &revoke(&secret, &somebody), "marker-event");
    sinks.program(
        "revoke list",
        &revoke(&secret, &["list", "--format", "json"]),
        "marker-revoked",
    );
    sinks.program(
        "revoke with a wrong secret",
        &revoke(&other, &somebody),
        "401",
    );
    sinks.program(
        "revoke without a server",
        &run(&[
            "revoke",
            "list",
            "--admin",
            "http://127.0.0.1:1",
            "--token-file",
            secret.to_str().unwrap(),
        ]),
        "cannot be asked",
    );
    let shown = std::fs::read_to_string(&secret).unwrap();
    let all = get(
        child.admin,
        "/revocations",
        &format!("authorization: Bearer {shown}\r\n"),
    );
    sinks.add("/revocations with the secret", all, "marker-revoked");
    let journal = std::fs::read_to_string(house.path("revoked.jsonl")).unwrap();
    sinks.add("the file of revocations", journal, "marker-revoked");
    // The file holds what was revoked, by name; nobody else does.
    let session = ["--session", &revoked, "--issuer", ISSUER];
    sinks.program("revoke a session", &revoke(&secret, &session), "in force");
    sinks.program("keys list", &list_keys(house, "json"), MARKER);
    sinks.program("keys list as text", &list_keys(house, "text"), MARKER);
}

/// Everything the public endpoint has to say.
fn ask_public(house: &mut House, child: &Child, sinks: &mut Sinks) {
    let address = child.public();
    eventually("the keys of the transmitter are there", || {
        let metrics = http_get(child.admin, "/metrics").1;
        metrics.contains("cardea_signals_keys_age_seconds{")
    });
    sinks.add(
        "keys",
        get(address, "/.well-known/jwks.json", ""),
        "\"kty\"",
    );
    let shown = house.authorization.clone();
    let push = |name: &str, shown: &str, set: &str| {
        let push = Push {
            to: address,
            name,
            content_type: "application/secevent+jwt",
            authorization: Some(shown),
        };
        push.exchange(set)
    };
    let wrong = house.planted.word("wrong authorization of a push");
    let name = house.planted.word("unknown transmitter");
    let good = house.event("a good event", json!({}));
    sinks.add(
        "an unknown transmitter",
        push(&name, &shown, &good),
        " 404 ",
    );
    sinks.add("a push by somebody", push("idp", &wrong, &good), " 401 ");
    sinks.add("a good push", push("idp", &shown, &good), " 202 ");
    sinks.add("the same again", push("idp", &shown, &good), " 202 ");
    let session = house.planted.word("session of an event");
    let session = json!({ "session": { "format": "opaque", "id": session } });
    let session = house.event("an event about a session", json!({ "sub_id": session }));
    sinks.add(
        "a push about a session",
        push("idp", &shown, &session),
        " 202 ",
    );
    let mail = format!("{}@example.com", house.planted.word("mail in an event"));
    let mail = json!({ "sub_id": { "format": "email", "email": mail } });
    let mail = house.event("an event about nobody", mail);
    sinks.add("a push about nobody", push("idp", &shown, &mail), " 202 ");
    for (claim, code) in [("iss", "invalid_issuer"), ("aud", "invalid_audience")] {
        let other = format!("https://{}.example", house.planted.word(claim));
        let set = house.event(
            &format!("an event of another {claim}"),
            json!({ claim: other }),
        );
        sinks.add(claim, push("idp", &shown, &set), code);
    }
    let (signed, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", b64([7; 64]));
    sinks.add(
        "a forged push",
        push("idp", &shown, &forged),
        "authentication_failed",
    );
    let garbage = house.planted.word("text that is no event");
    sinks.add("garbage", push("idp", &shown, &garbage), "invalid_request");
    let path = format!("/{}", house.planted.word("path of the public endpoint"));
    sinks.add("an unknown path", get(address, &path, ""), " 404 ");
}

/// The whole answer to a question with these further header lines.
fn get(address: SocketAddr, path: &str, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn list_keys(house: &House, format: &str) -> Output {
    let [file, secret] = ["keys.json", "hash-key"].map(|name| house.path(name));
    let (file, secret) = (file.to_str().unwrap(), secret.to_str().unwrap());
    run(&[
        "keys",
        "list",
        "--file",
        file,
        "--hash-key-file",
        secret,
        "--format",
        format,
    ])
}

#[test]
fn a3_no_debug_text_holds_a_planted_word() {
    let mut house = House::new();
    let (good, bad) = (house.good(), house.bad());
    let config = Config::parse(&house.setup.settings.to_string()).unwrap();
    let hash_key = std::fs::read_to_string(house.path("hash-key")).unwrap();
    let hash_key = HashKey::parse(&hash_key.trim().into()).unwrap();
    let fresh = FreshKey::generate("cardea").unwrap();
    house
        .planted
        .secret("a fresh key", fresh.text.expose_secret());
    let text = std::fs::read_to_string(house.path("keys.json")).unwrap();
    let file: Result<KeyFile, _> = serde_json::from_str(&text);
    let House {
        setup,
        mut planted,
        opaque,
        folder,
        ..
    } = house;
    let world = setup.start();
    assert!(world.app().wait_until_ready(crate::world::PATIENCE));
    let mut sinks = Sinks::default();
    let (mut asked, mut decided, mut minted) = (Vec::new(), Vec::new(), 0);
    for ask in good.into_iter().chain(bad) {
        let call = Call::read(&http::HeaderMap::new(), &SystemClock);
        let check = CheckRequest::decode(&*ask.check.encode_to_vec()).unwrap();
        let one = request::read(check, call, &config.request);
        asked.push(format!("{one:?}"));
        let decision = world.wait(world.pipeline().decide(one));
        if let Some(token) = &decision.trail.minted {
            planted.token("a minted token", token.expose());
            minted += 1;
        }
        decided.push(format!("{decision:?}"));
    }
    assert!(minted > 5, "{minted} tokens were minted");
    sinks.add("requests", asked.join("\n"), "api.example.com");
    sinks.add("decisions", decided.join("\n"), MARKER);
    sinks.debug("settings", &config, TRANSACTIONS);
    sinks.debug("pipeline", world.pipeline(), "Identity");
    sinks.debug("app", world.app(), "App");
    sinks.debug("identity", &world.pipeline().identity, "Introspection");
    sinks.debug("key sets", &world.pipeline().identity.key_sets(), ISSUER);
    sinks.debug(
        "revocations",
        world.pipeline().identity.revocations(),
        "Revocations",
    );
    sinks.debug("figures", &world.figures(), "Figures");
    sinks.debug("hash key", &hash_key, "HashKey");
    sinks.debug("fresh key", &fresh, "FreshKey");
    sinks.debug("file of keys", &file, "KeyFile");
    sinks.assert_hold_none_of(&planted);
    drop((opaque, folder));
}

/// A check as protobuf JSON.
fn as_json(mut ask: Ask) -> String {
    let source = ask.attributes().source.clone().unwrap();
    let http = ask.http();
    let text = |text: &str| text.to_owned();
    let check = json!({ "attributes": {
        "source": { "certificate": source.certificate },
        "request": { "http": {
            "id": text(&http.id), "method": text(&http.method), "path": text(&http.path), "host": text(&http.host),
            "scheme": text(&http.scheme), "headers": http.headers, "body": text(&http.body),
        } },
    } });
    check.to_string()
}

#[test]
fn a3_no_record_answer_or_explanation_holds_a_planted_word() {
    let mut house = House::new();
    let mut asks = house.good();
    asks.extend(house.bad());
    // What policies may read of a caller is recorded, and so is the id of a token, by which it can be revoked: personal
    // data, and no secrets.
    let facts = ["email of", "mail of", "serial of", "jti of", "scope"];
    let fact =
        |place: &str| facts.iter().any(|fact| place.starts_with(fact)) && !place.contains("proof");
    house.planted.words.retain(|(place, _)| !fact(place));
    let input: Vec<String> = asks.into_iter().map(as_json).collect();
    let settings = house.path("cardea.yaml");
    std::fs::write(&settings, house.setup.settings.to_string()).unwrap();
    let (settings, record) = (settings, house.path("decisions.jsonl"));
    let (settings, record) = (settings.to_str().unwrap(), record.to_str().unwrap());
    let mut sinks = Sinks::default();
    let decided = fed(
        &["decide", "--config", settings, "--record", record],
        &input.join("\n"),
    );
    assert_eq!(decided.status.code(), Some(0), "{decided:?}");
    sinks.program("decide", &decided, "permitted");
    let text = std::fs::read_to_string(record).unwrap();
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), input.len());
    sinks.add("records", text.clone(), MARKER);
    assert!(text.contains("masked"), "a claim was masked");
    for number in [0, 1, 3, 5, records.len() / 2, records.len() - 1] {
        let id = records[number]["id"].as_str().unwrap();
        for more in [&[][..], &["--json"]] {
            let arguments = [
                &["explain", id, "--decisions", record, "--config", settings],
                more,
            ]
            .concat();
            sinks.program("explain", &run(&arguments), id);
        }
    }
    sinks.program(
        "replay",
        &run(&["replay", record, "--config", settings, "--format", "json"]),
        "changes",
    );
    sinks.program(
        "access",
        &run(&["access", "--config", settings, "--decisions", record]),
        "orders",
    );
    sinks.program("check", &run(&["check", "--config", settings]), "policies");
    sinks.assert_hold_none_of(&house.planted);
}

#[test]
fn a3_a_secret_that_will_not_do_is_not_repeated() {
    let mut house = House::new();
    let word = house.planted.word("short");
    for name in [
        "client-secret",
        "nonce-secret",
        "admin-token",
        "hash-key",
        "users.yaml",
        "keys.json",
        "minting/key.pem",
    ] {
        let path = house.path(name);
        let before = std::fs::read(&path).unwrap();
        for text in [
            format!("{word}\n{word} \u{7f}"),
            format!("{{{word}"),
            format!("\u{e9}{word}"),
        ] {
            std::fs::write(&path, text).unwrap();
            if let Err(problems) = crate::world::start(&house.setup.settings) {
                let told = format!(
                    "{problems:?} {:?}",
                    problems.iter().map(ToString::to_string).collect::<Vec<_>>()
                );
                assert!(told.contains("Problem"));
                assert_eq!(house.planted.found(&told), [""; 0], "{name}: {told}");
            } else {
                assert_eq!(name, "client-secret", "{name}: anything will do");
            }
        }
        std::fs::write(&path, before).unwrap();
    }
}

#[test]
fn a3_settings_with_a_secret_in_the_wrong_place_are_refused_without_repeating_it() {
    let (issuer, bundle) = (KeyServer::start(), crate::world::shipped_bundle());
    let mut planted = Planted::default();
    let word = planted.word("settings");
    for (section, value) in [
        (
            "telemetry",
            json!({ "otlp": { "endpoint": format!("https://user:{word}@collector.example:4317") } }),
        ),
        (
            "telemetry",
            json!({ "otlp": { "endpoint": "http://far.example:4317", "headers": { "x": { "env": "PATH" } } } }),
        ),
        (
            "telemetry",
            json!({ "otlp": { "endpoint": "http://127.0.0.1:1", "headers": { "x": word } } }),
        ),
        ("admin", json!({ "token": word })),
    ] {
        let mut settings = crate::world::settings(&issuer, bundle.path());
        settings[section] = value;
        let problems = crate::world::start(&settings).expect_err("refused");
        assert_eq!(
            planted.found(&format!("{problems:?}")),
            [""; 0],
            "{problems:?}"
        );
    }
}

#[test]
fn a3_trouble_with_a_key_server_is_told_without_what_it_said_or_was_asked() {
    let mut planted = Planted::default();
    let (query, body) = (planted.word("query"), planted.word("body"));
    let mut setup = Setup::new();
    let path = format!("/jwks?key={query}");
    setup.first_issuer()["keys"] = json!({ "jwks_url": setup.issuer.url(&path) });
    setup.settings["telemetry"] = json!({ "log": { "level": "debug" } });
    setup
        .issuer
        .reply(&path, Reply::Text(format!("{{\"{body}\": [}}")));
    let child = Child::serve(&setup.settings, &[]);
    eventually("the failure is told", || {
        child.output().contains("keys could not be fetched")
    });
    let (status, ready) = http_get(child.admin, "/ready");
    assert_eq!(status, 503);
    assert!(ready.contains(ISSUER), "{ready}");
    let told = format!(
        "{}{ready}{}",
        child.output(),
        http_get(child.admin, "/metrics").1
    );
    assert_eq!(planted.found(&told), [""; 0], "{told}");
}

#[test]
fn a1_what_callers_say_of_themselves_stays_in_its_own_line() {
    let mut setup = Setup::new();
    setup.settings["telemetry"] = json!({ "log": { "level": "trace", "decisions": "all" } });
    let child = Child::serve(&setup.settings, &[]);
    let line = child.line();
    let token = setup
        .key
        .token_with(json!({ "sub": "mallory[2J\"}\u{202e}" }));
    let kid = setup
        .key
        .token_under(json!({ "kid": "a\n2026 ALLOW\u{1b}[2J" }));
    let heard = [
        line.ask(Ask::get("/v1/orders/%22%7D%E2%80%AE").bearer(&token)),
        line.ask(Ask::get("/v1/orders").bearer(&kid)),
    ];
    child.terminate();
    let (status, output) = child.end();
    assert_eq!(status.code(), Some(0));
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for heard in &heard {
        let id = heard.metadata("decision");
        assert_eq!(
            lines.iter().filter(|line| line["decision"] == id).count(),
            1
        );
    }
    for hidden in ['\u{1b}', '\u{202e}'] {
        assert!(!output.contains(hidden), "a control character is printed");
    }
    assert!(!output.contains("2026 ALLOW"));
}

/// The test runs itself as a process of its own, whose panics are told as the program's are.
#[test]
fn a3_what_a_panic_quotes_is_not_told() {
    const WORD: &str = "c4narypanic";
    const INSIDE: &str = "GATE_PANICS";
    if std::env::var_os(INSIDE).is_some() {
        cardea::telemetry::panics::tell_only_where();
        let thread = std::thread::Builder::new().name("worker".to_owned());
        let panicked = thread.spawn(|| {
            let token = format!("{WORD}\u{e9}");
            // What a library does that cuts a text within a character.
            let cut = token.len() - 1;
            token[..cut].len()
        });
        assert!(panicked.unwrap().join().is_err());
        return;
    }
    let name = "canaries::a3_what_a_panic_quotes_is_not_told";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut sinks = String::from_utf8(output.stdout).unwrap();
    sinks.push_str(&String::from_utf8(output.stderr).unwrap());
    let line = sinks
        .lines()
        .find(|line| line.contains("a part of cardea panicked"));
    let told: Value = serde_json::from_str(line.expect("it is told")).unwrap();
    assert_eq!(told["thread"], "worker");
    assert!(
        told["place"].as_str().unwrap().contains("canaries.rs"),
        "{told}"
    );
    assert!(!sinks.contains(WORD), "{sinks}");
}
