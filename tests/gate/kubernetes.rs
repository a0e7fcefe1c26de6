//! Kubernetes service accounts: tokens as the kubelet writes them for pods, believed by the keys of a cluster whose API server
//! speaks TLS by its own authority and wants a token, which is renewed between one fetch and the next.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use cardea::identity::{RevocationSource, Target};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::issuer::{AUDIENCE, Key, changed, jwks, now};
use crate::world::{Ask, Heard, Setup, World, eventually};

const CLUSTER: &str = "https://kubernetes.default.svc.cluster.local";
const KEYS: &str = "/openid/v1/jwks";
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Workloads of the namespace `shop` may read orders, by what the token says and is.
const POLICY: &str = r#"
@id("shop-reads")
permit (principal is Cardea::Workload, action in Cardea::Action::"read", resource in Cardea::Api::"orders")
when {
  principal has namespace && principal.namespace == "shop" &&
  principal has serviceAccount && principal.serviceAccount == "web" &&
  principal in Cardea::Group::"system:serviceaccounts:shop" &&
  context.token.kind == "kubernetes" && context.token.audience.contains("https://api.example.com") &&
  context.token.claims.hasTag("pod.name") && context.token.claims.getTag("pod.name").contains("web-0")
};
"#;

/// An API server, as far as the keys of tokens go.
struct ApiServer {
    address: SocketAddr,
    folder: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Mutex<Arc<ServerConfig>>,
    documents: Mutex<Vec<(&'static str, String)>>,
    /// The one token that is accepted now.
    token: Mutex<String>,
    /// Every request: its path, and what it showed.
    asked: Mutex<Vec<(String, Option<String>)>>,
    closing: AtomicBool,
}

/// An authority in PEM, and a server that it vouches for.
fn papers() -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (authority.pem(), Arc::new(config))
}

impl ApiServer {
    fn start(key: &Key) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (authority, tls) = papers();
        let server = Self {
            address: listener.local_addr().unwrap(),
            folder: tempfile::tempdir().unwrap(),
            shared: Arc::new(Shared {
                tls: Mutex::new(tls),
                documents: Mutex::default(),
                token: Mutex::default(),
                asked: Mutex::default(),
                closing: AtomicBool::new(false),
            }),
        };
        std::fs::write(server.path("ca.crt"), authority).unwrap();
        server.renew_token("canary-token-1");
        server.publish(&[key]);
        let shared = Arc::clone(&server.shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.closing.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that does not trust the server hangs up.
                thread::spawn(move || stream.and_then(|stream| shared.serve(stream)));
            }
        });
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    fn put(&self, path: &'static str, document: String) {
        let mut documents = self.shared.documents.lock().unwrap();
        documents.retain(|(known, _)| *known != path);
        documents.push((path, document));
    }

    fn publish(&self, keys: &[&Key]) {
        self.put(KEYS, jwks(keys));
    }

    /// From now on this token is accepted and no other; the kubelet writes it for the pod.
    fn renew_token(&self, token: &str) {
        *self.shared.token.lock().unwrap() = format!("Bearer {token}");
        std::fs::write(self.path("token"), token).unwrap();
    }

    /// From now on another authority vouches for the server.
    fn renew_authority(&self) {
        let (authority, tls) = papers();
        *self.shared.tls.lock().unwrap() = tls;
        std::fs::write(self.path("ca.crt"), authority).unwrap();
    }

    fn asked(&self) -> Vec<(String, Option<String>)> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// What settings say of this cluster.
    fn settings(&self) -> Value {
        json!({
            "issuer": CLUSTER,
            "audiences": [AUDIENCE],
            "keys": { "jwks_url": self.url(KEYS) },
            "ca_file": self.path("ca.crt"),
            "key_token": { "file": self.path("token") },
        })
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let tls = Arc::clone(&self.tls.lock().unwrap());
        let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let shown = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization")
                .then(|| value.to_owned())
        });
        let known = shown.as_ref() == Some(&*self.token.lock().unwrap());
        self.asked.lock().unwrap().push((path.clone(), shown));
        let documents = self.documents.lock().unwrap().clone();
        let found = documents.iter().find(|(own, _)| *own == path);
        let (status, body) = match found {
            Some((_, body)) if known => (200, body.as_str()),
            Some(_) => (401, ""),
            None => (404, ""),
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        stream.conn.send_close_notify();
        stream.flush()
    }
}

/// The claims that the kubelet's request for a pod comes back with.
fn projected() -> Value {
    json!({
        "iss": CLUSTER, "aud": [AUDIENCE], "sub": "system:serviceaccount:shop:web",
        "iat": now() - 5, "nbf": now() - 5, "exp": now() + 3595, "jti": "0a9e6c8e-0f3e-4e1e-9d5e-4a1f0f1f7f11",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": { "name": "web", "uid": "32e1b9b8-0d5f-4b0e-8a5e-0a0a3c1c2f10" },
            "pod": { "name": "web-0", "uid": "5f0c3a34-7a0b-4c52-9d0e-6f9f5a1c2e01" },
            "node": { "name": "node-1", "uid": "d1a1f4a0-1111-4222-8333-444455556666" },
            "warnafter": now() + 3000,
        },
    })
}

/// A token without `typ`, as clusters sign it.
fn signed(key: &Key, claims: &Value) -> String {
    let header = json!({ "alg": key.algorithm, "kid": key.kid }).to_string();
    key.sign_texts(&header, &claims.to_string())
}

/// One with other members of the claim `kubernetes.io`, and another subject.
fn other(key: &Key, sub: &str, members: Value) -> String {
    let mut claims = changed(projected(), json!({ "sub": sub }));
    claims["kubernetes.io"] = changed(claims["kubernetes.io"].take(), members);
    signed(key, &claims)
}

/// A cluster, its key, and a Cardea that believes it beside the usual issuer.
struct Mesh {
    server: ApiServer,
    key: Key,
    world: World,
}

impl Mesh {
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    fn with(change: impl FnOnce(&mut Value, &ApiServer)) -> Self {
        let key = Key::rs256("cluster-1");
        let server = ApiServer::start(&key);
        let mut cluster = server.settings();
        change(&mut cluster, &server);
        let world = World::with(|setup: &mut Setup| {
            setup.write("shop.cedar", POLICY);
            setup.settings["identity"]["kubernetes"] = json!([cluster]);
        });
        Self { server, key, world }
    }

    fn present(&self, claims: &Value) -> Heard {
        self.world.present(&signed(&self.key, claims))
    }
}

#[test]
fn a_pods_token_is_believed_without_a_call_and_policies_read_its_namespace() {
    let mesh = Mesh::new();
    let fetched = mesh.server.asked().len();
    for lifetime in 0..20 {
        // Each is another token, so none is known from before.
        let claims = changed(projected(), json!({ "jti": format!("t-{lifetime}") }));
        for _ in 0..3 {
            let heard = mesh.present(&claims);
            heard.assert_allowed(&["shop-reads"]);
            let name = format!("Workload::\"{CLUSTER}|system:serviceaccount:shop:web\"");
            assert_eq!(heard.metadata("principal"), json!(name));
        }
    }
    assert_eq!(
        mesh.server.asked().len(),
        fetched,
        "nobody is asked about a request"
    );
    // The usual issuer's tokens go on as before.
    mesh.world.get("/v1/orders").passed();
    for (sub, members) in [
        (
            "system:serviceaccount:other:web",
            json!({ "namespace": "other" }),
        ),
        (
            "system:serviceaccount:shop:job",
            json!({ "serviceaccount": { "name": "job", "uid": "u" } }),
        ),
        (
            "system:serviceaccount:shop:web",
            json!({ "pod": { "name": "web-1", "uid": "u" } }),
        ),
    ] {
        let heard = mesh.world.present(&other(&mesh.key, sub, members));
        heard.assert_refused(403, "not_permitted");
    }
}

#[test]
fn keys_are_fetched_with_the_clusters_authority_and_a_token_that_is_read_each_time() {
    let mesh = Mesh::new();
    let last = || mesh.server.asked().last().cloned().unwrap();
    let shown = |token: &str| (KEYS.to_owned(), Some(format!("Bearer {token}")));
    assert_eq!(last(), shown("canary-token-1"));
    mesh.server.renew_token("canary-token-2");
    let next = Key::rs256("cluster-2");
    mesh.server.publish(&[&mesh.key, &next]);
    mesh.world.refresh();
    assert_eq!(last(), shown("canary-token-2"));
    mesh.world.present(&signed(&next, &projected())).passed();
    // So is the authority.
    mesh.server.renew_authority();
    mesh.server.publish(&[&next]);
    mesh.world.refresh();
    mesh.world.present(&signed(&next, &projected())).passed();
    mesh.present(&projected()).assert_invalid();
}

#[test]
fn without_its_token_or_its_authority_no_keys_are_had_and_nothing_secret_is_told() {
    let mesh = Mesh::with(|cluster, _| {
        cluster["required"] = json!(false);
        cluster["ca_file"] = Value::Null;
    });
    // The system's authorities do not know this one.
    mesh.present(&projected())
        .assert_refused(503, "keys_unavailable");
    assert_eq!(mesh.server.asked(), []);
    let mesh = Mesh::with(|cluster, server| {
        cluster["required"] = json!(false);
        *server.shared.token.lock().unwrap() = "Bearer canary-other".to_owned();
    });
    eventually("it is asked", || !mesh.server.asked().is_empty());
    mesh.world.refresh();
    mesh.present(&projected())
        .assert_refused(503, "keys_unavailable");
    let said = |world: &World| format!("{:?}{}", world.pipeline().identity, world.metrics().0);
    let status = format!("{:?}", mesh.world.pipeline().identity.key_sets());
    assert!(status.contains("status 401"), "{status}");
    assert!(!status.contains("canary") && !said(&mesh.world).contains("canary"));
    // A file that is not there is told by its name.
    std::fs::remove_file(mesh.server.path("token")).unwrap();
    mesh.world.refresh();
    let status = format!("{:?}", mesh.world.pipeline().identity.key_sets());
    assert!(
        status.contains("token") && status.contains("cannot be read"),
        "{status}"
    );
}

#[test]
fn j5_a_discovery_document_does_not_carry_the_token_to_another_server() {
    let key = Key::rs256("cluster-1");
    let (server, elsewhere) = (ApiServer::start(&key), ApiServer::start(&key));
    // Both have one authority, so that nothing but the token keeps the keys from being had.
    let tls = Arc::clone(&server.shared.tls.lock().unwrap());
    *elsewhere.shared.tls.lock().unwrap() = tls;
    let issuer = server.url("");
    let document = |place: String| json!({ "issuer": issuer, "jwks_uri": place }).to_string();
    server.put(DISCOVERY, document(elsewhere.url(KEYS)));
    let mut cluster = server.settings();
    cluster["issuer"] = json!(issuer);
    cluster["keys"] = json!("discovery");
    cluster["required"] = json!(false);
    let world = World::with(|setup: &mut Setup| {
        setup.write("shop.cedar", POLICY);
        setup.settings["identity"]["kubernetes"] = json!([cluster]);
    });
    world.refresh();
    let asked = elsewhere.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|(_, shown)| shown.is_none()),
        "{asked:?}"
    );
    let token = signed(&key, &changed(projected(), json!({ "iss": issuer })));
    world
        .present(&token)
        .assert_refused(503, "keys_unavailable");
    // To the server itself it is shown again.
    server.put(DISCOVERY, document(server.url(KEYS)));
    world.refresh();
    world.present(&token).assert_allowed(&["shop-reads"]);
}

#[test]
fn j17_untyped_tokens_are_a_clusters_and_nobody_elses() {
    let mesh = Mesh::new();
    let world = &mesh.world;
    mesh.present(&projected()).passed();
    // The usual issuer's, without a type.
    world
        .present(&world.key.token_under(json!({ "typ": null })))
        .assert_invalid();
    // The cluster's, with one.
    for kind in ["at+jwt", "JWT", "application/at+jwt", "dpop+jwt"] {
        let header = json!({ "alg": mesh.key.algorithm, "kid": mesh.key.kid, "typ": kind });
        let token = mesh
            .key
            .sign_texts(&header.to_string(), &projected().to_string());
        world.present(&token).assert_invalid();
    }
    // What the cluster's key signs for the usual issuer, and the other way round.
    let foreign = signed(&world.key, &projected());
    world.present(&foreign).assert_invalid();
    let foreign = signed(
        &mesh.key,
        &changed(projected(), json!({ "iss": crate::issuer::ISSUER })),
    );
    world.present(&foreign).assert_invalid();
}

#[test]
fn tokens_that_are_not_a_pods_own_for_this_api_are_refused() {
    let mesh = Mesh::with(|cluster, _| cluster["namespaces"] = json!(["shop", "tools"]));
    let web = "system:serviceaccount:shop:web";
    mesh.world
        .present(&other(&mesh.key, web, json!({})))
        .passed();
    for (sub, members) in [
        // `sub` and the claim disagree.
        ("system:serviceaccount:shop:admin", json!({})),
        ("system:serviceaccount:tools:web", json!({})),
        ("alice", json!({})),
        // A namespace that is not accepted.
        (
            "system:serviceaccount:other:web",
            json!({ "namespace": "other" }),
        ),
        // Bound to a Secret, as legacy tokens are, or to nothing.
        (
            web,
            json!({ "pod": null, "node": null, "secret": { "name": "web-token", "uid": "u" } }),
        ),
        (web, json!({ "pod": null, "node": null })),
        (web, json!({ "serviceaccount": { "name": "web" } })),
    ] {
        mesh.world
            .present(&other(&mesh.key, sub, members))
            .assert_invalid();
    }
    for changes in [
        json!({ "aud": [CLUSTER] }),
        json!({ "aud": ["https://kubernetes.default.svc"] }),
        json!({ "aud": null }),
        json!({ "exp": null }),
        json!({ "exp": now() + 365 * 24 * 3600 }),
        json!({ "exp": now() - 60, "iat": now() - 3660, "nbf": null }),
        json!({ "kubernetes.io": null }),
        json!({ "act": { "sub": "bot" } }),
    ] {
        mesh.present(&changed(projected(), changes))
            .assert_invalid();
    }
    // Those for several audiences name this API too.
    mesh.present(&changed(projected(), json!({ "aud": ["vault", AUDIENCE] })))
        .passed();
}

#[test]
fn a_pod_that_is_revoked_is_out_with_all_its_tokens_and_no_other_pod_is() {
    let mesh = Mesh::new();
    let token = |pod: &str, id: &str| {
        let members = json!({ "pod": { "name": "web-0", "uid": pod } });
        let mut claims = changed(projected(), json!({ "jti": id }));
        claims["kubernetes.io"] = changed(claims["kubernetes.io"].take(), members);
        signed(&mesh.key, &claims)
    };
    let (first, again, other) = (
        token("pod-a", "1"),
        token("pod-a", "2"),
        token("pod-b", "3"),
    );
    for token in [&first, &other] {
        mesh.world.present(token).passed();
    }
    let revoke = |target| {
        let revocations = mesh.world.pipeline().identity.revocations();
        let event = revocations.event(target, RevocationSource::Admin);
        mesh.world.wait(revocations.apply(event)).unwrap();
    };
    revoke(Target::Session {
        issuer: CLUSTER.to_owned(),
        session_id: "pod-a".to_owned(),
    });
    for token in [&first, &again] {
        mesh.world
            .present(token)
            .assert_refused(401, "credential_invalid");
    }
    mesh.world.present(&other).passed();
    // And the account, with all its pods.
    revoke(Target::Subject {
        issuer: CLUSTER.to_owned(),
        subject: "system:serviceaccount:shop:web".to_owned(),
    });
    mesh.world
        .present(&other)
        .assert_refused(401, "credential_invalid");
}

#[test]
fn an_issuer_of_any_kind_may_have_an_authority_of_its_own_and_want_a_token() {
    let key = Key::es256("k1");
    let server = ApiServer::start(&key);
    let world = World::with(|setup: &mut Setup| {
        let issuer = setup.first_issuer();
        for name in ["keys", "ca_file", "key_token"] {
            issuer[name] = server.settings()[name].take();
        }
    });
    world.present(&key.token()).passed();
    world
        .ask(Ask::get("/v1/orders").bearer(&signed(&key, &projected())))
        .assert_invalid();
}
