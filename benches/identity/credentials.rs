//! One credential of every kind for each caller, and the settings that accept them all.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cardea::envoy::proto::auth::CheckRequest;
use cardea::envoy::proto::auth::attribute_context::{HttpRequest, Peer};
use cardea::identity::{FreshKey, HashKey, KeyFile, Owner, hash_password};
use cardea::model::{Clock, DecisionId, PrincipalKind, SystemClock};
use jiff::SignedDuration;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::CALLERS;
use crate::asked::Asked;
use crate::fixture::issuer::b64;
use crate::fixture::{AUDIENCE, ISSUER, Key, Result, World, now};

const TRANSACTIONS: &str = "https://transactions.example.com";
const INTROSPECTION: &str = "/introspect";
const PASSWORD: &str = "correct horse battery staple";
const TRUST_DOMAIN: &str = "example.com";
/// What proofs are signed with.
const PROOF: Key = Key::Es256;

/// A kind of credential.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credential {
    Jwt,
    Introspection,
    TransactionToken,
    Certificate,
    ApiKey,
    Basic,
    /// A JWT that is bound to a key, and the proof of it that each request needs.
    Dpop,
}

impl Credential {
    pub(crate) const ALL: [Self; 7] = [
        Self::Jwt,
        Self::Introspection,
        Self::TransactionToken,
        Self::Certificate,
        Self::ApiKey,
        Self::Basic,
        Self::Dpop,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Introspection => "introspection",
            Self::TransactionToken => "transaction_token",
            Self::Certificate => "certificate",
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
            Self::Dpop => "dpop",
        }
    }

    /// The scheme that proves whoever has it, as policies see it.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Self::Jwt | Self::Dpop => "bearer_jwt",
            other => other.name(),
        }
    }

    /// Whether it holds a part that is good for one request only.
    pub(crate) fn is_for_one_request(self) -> bool {
        matches!(self, Self::Dpop)
    }
}

/// Everything that all callers have.
pub(crate) struct Credentials {
    pub(crate) world: World,
    server: Asked,
    jwts: Vec<String>,
    bound: Vec<String>,
    transactions: Vec<String>,
    keys: Vec<String>,
    /// Percent-encoded PEM, as Envoy writes it.
    certificates: Vec<String>,
}

impl Credentials {
    pub(crate) fn new(world: World) -> Result<Self> {
        cardea::identity::install_crypto();
        fs::write(
            world.folder().join("jwks.json"),
            world.issuer.jwks(&Key::ALL),
        )?;
        let server = Asked::start()?;
        let mut holder = world.claims("opaque-user")?;
        holder["active"] = json!(true);
        holder["token_type"] = json!("Bearer");
        server.tell(INTROSPECTION, holder.to_string());
        write_users(&world)?;
        let thumbprint = thumbprint(&world.issuer.jwk(PROOF));
        let each = |make: &dyn Fn(&str) -> Result<String>| -> Result<Vec<String>> {
            (0..CALLERS).map(|caller| make(&user(caller))).collect()
        };
        Ok(Self {
            jwts: each(&|subject| world.token(Key::Es256, subject))?,
            bound: each(&|subject| {
                let mut claims = world.claims(subject)?;
                claims["cnf"] = json!({ "jkt": thumbprint });
                world.issuer.signed(Key::Es256, "at+jwt", &claims)
            })?,
            transactions: each(&|subject| {
                let mut claims = world.claims(subject)?;
                claims["iss"] = json!(TRANSACTIONS);
                claims["txn"] = json!(format!("transaction-of-{subject}"));
                world.issuer.signed(Key::Es256, "txntoken+jwt", &claims)
            })?,
            keys: api_keys(&world)?,
            certificates: certificates(&world)?,
            server,
            world,
        })
    }

    /// Settings that accept all of it, and forget none of it while it is measured.
    pub(crate) fn settings(&self) -> Value {
        let file = |name: &str| -> PathBuf { self.world.folder().join(name) };
        let mut settings = self.world.settings("127.0.0.1:0", "127.0.0.1:0");
        let identity = &mut settings["identity"];
        let issuer = &mut identity["issuers"][0];
        let names = Key::ALL.map(Key::name);
        issuer["algorithms"] = json!(names);
        let mut transactions = issuer.clone();
        transactions["issuer"] = json!(TRANSACTIONS);
        transactions["carrier"] = json!("transaction_token");
        transactions["token_types"] = json!(["txntoken+jwt"]);
        if let Some(issuers) = identity["issuers"].as_array_mut() {
            issuers.push(transactions);
        }
        identity["introspection"] = json!([{
            "issuer": ISSUER,
            "endpoint": self.server.url(INTROSPECTION),
            "audiences": [AUDIENCE],
            "client": { "id": "cardea", "auth": { "client_secret_basic": { "file": file("admin-token") } } },
            "cap": "1h",
        }]);
        identity["api_keys"] =
            json!({ "file": file("keys.json"), "hash_key": { "file": file("hash-key") } });
        identity["basic"] = json!({ "file": file("users.json") });
        let domain = json!({ "name": TRUST_DOMAIN, "ca_files": [file("ca.pem")] });
        identity["certificates"] = json!({ "trust_domains": [domain] });
        identity["dpop"] = json!({ "replay_capacity": 1_000_000 });
        identity["cache"]["ttl"] = json!("1h");
        settings
    }

    /// How often somebody asked about an opaque token.
    pub(crate) fn introspections(&self) -> u64 {
        self.server.asked(INTROSPECTION)
    }

    /// The usual request of a caller with this credential, and no other.
    pub(crate) fn check(&self, credential: Credential, caller: usize) -> Result<CheckRequest> {
        let mut check = self.world.check(None);
        let attributes = check.attributes.as_mut().ok_or("a check has attributes")?;
        let own = |all: &'_ [String]| -> Result<String> {
            Ok(all.get(caller).ok_or("there is no such caller")?.clone())
        };
        if let Credential::Certificate = credential {
            let source = attributes.source.get_or_insert_with(Peer::default);
            source.certificate = own(&self.certificates)?;
            source.principal = spiffe_id(&user(caller));
            return Ok(check);
        }
        let request = attributes.request.as_mut();
        let http = request.and_then(|request| request.http.as_mut());
        let http = http.ok_or("a check is about a request")?;
        let (header, value) = match credential {
            Credential::Jwt => ("authorization", format!("Bearer {}", own(&self.jwts)?)),
            Credential::Introspection => ("authorization", format!("Bearer opaque-{caller}")),
            Credential::TransactionToken => ("txn-token", own(&self.transactions)?),
            Credential::ApiKey => ("x-api-key", own(&self.keys)?),
            Credential::Basic => {
                let sent = STANDARD.encode(format!("{}:{PASSWORD}", user(caller)));
                ("authorization", format!("Basic {sent}"))
            }
            Credential::Dpop => {
                let token = own(&self.bound)?;
                let proof = self.proof(http, &token)?;
                http.headers.insert("dpop".to_owned(), proof);
                ("authorization", format!("DPoP {token}"))
            }
            Credential::Certificate => return Ok(check),
        };
        http.headers.insert(header.to_owned(), value);
        Ok(check)
    }

    /// A fresh proof for this request.
    fn proof(&self, http: &HttpRequest, token: &str) -> Result<String> {
        let issuer = &self.world.issuer;
        let path = http.path.split('?').next().unwrap_or_default();
        let header = json!({ "typ": "dpop+jwt", "alg": PROOF.name(), "jwk": issuer.jwk(PROOF) });
        let claims = json!({
            "jti": DecisionId::fresh().to_string(),
            "htm": http.method,
            "htu": format!("{}://{}{path}", http.scheme, http.host),
            "iat": now()?,
            "ath": b64(digest(&SHA256, token.as_bytes())),
        });
        issuer.signed_under(PROOF, &header, &claims)
    }
}

fn user(caller: usize) -> String {
    format!("user-{caller}")
}

fn spiffe_id(user: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/shop/sa/{user}")
}

/// The thumbprint of an EC key (RFC 7638): of its members, in the order of their names.
fn thumbprint(jwk: &Value) -> String {
    let members = ["crv", "kty", "x", "y"].map(|name| format!("\"{name}\":{}", jwk[name]));
    let text = format!("{{{}}}", members.join(","));
    b64(digest(&SHA256, text.as_bytes()))
}

/// All callers have the same password: what is measured is recognising it.
fn write_users(world: &World) -> Result<()> {
    let hash = hash_password(&PASSWORD.into()).map_err(|problem| format!("{problem:?}"))?;
    let users: serde_json::Map<_, _> = (0..CALLERS)
        .map(|caller| {
            (
                user(caller),
                json!({ "hash": hash, "scopes": ["items:read"] }),
            )
        })
        .collect();
    let text = json!({ "version": 1, "users": users }).to_string();
    Ok(fs::write(world.folder().join("users.json"), text)?)
}

/// A key for each caller, and the file that knows them.
fn api_keys(world: &World) -> Result<Vec<String>> {
    let told = |problem| format!("{problem:?}");
    let secret = HashKey::generate().map_err(told)?;
    let hash_key = HashKey::parse(&secret).map_err(told)?;
    let mut file = KeyFile::empty(&hash_key);
    let made = SystemClock.now();
    let mut keys = Vec::new();
    for caller in 0..CALLERS {
        let key = FreshKey::generate("cardea").map_err(told)?;
        let owner = Owner {
            issuer: None,
            subject: user(caller),
            kind: PrincipalKind::Client,
            scopes: vec!["items:read".to_owned()],
            roles: Vec::new(),
            groups: Vec::new(),
            tenant: None,
        };
        let life = (made, made + SignedDuration::from_hours(1));
        file.add((&key, &hash_key), owner, life, None);
        keys.push(key.text.expose_secret().to_owned());
    }
    fs::write(world.folder().join("hash-key"), secret.expose_secret())?;
    fs::write(world.folder().join("keys.json"), file.text().map_err(told)?)?;
    Ok(keys)
}

/// A certificate with a SPIFFE ID for each caller, and the file of the authority behind them.
fn certificates(world: &World) -> Result<Vec<String>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(world.folder().join("ca.pem"), authority.pem())?;
    let issue = |caller| {
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::URI(spiffe_id(&user(caller)).try_into()?)];
        let pem = params.signed_by(&KeyPair::generate()?, &authority)?.pem();
        Ok(utf8_percent_encode(&pem, NON_ALPHANUMERIC).to_string())
    };
    (0..CALLERS).map(issue).collect()
}
