//! A client of the API: requests to the byte over HTTP/1.1, gRPC calls over HTTP/2.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderValue;
use serde_json::Value;

use crate::house::{PATIENCE, house};

/// Tells requests apart in the access log.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// A request to be made.
pub(crate) struct Ask {
    method: &'static str,
    target: Vec<u8>,
    host: String,
    connection: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    chunks: Vec<u8>,
    test: String,
}

/// What came of it.
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// The value of `x-test` it was made with.
    pub(crate) test: String,
}

impl Ask {
    fn new(method: &'static str, target: impl AsRef<[u8]>) -> Self {
        Self {
            method,
            target: target.as_ref().to_vec(),
            host: "api.example.com".to_owned(),
            connection: "close".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            chunks: Vec::new(),
            test: format!("test-{}", ASKED.fetch_add(1, Ordering::Relaxed)),
        }
    }

    pub(crate) fn get(target: impl AsRef<[u8]>) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn post(target: impl AsRef<[u8]>) -> Self {
        Self::new("POST", target)
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Names headers in `Connection` beside `close`.
    pub(crate) fn hop_by_hop(mut self, names: &str) -> Self {
        self.connection = format!("close, {names}");
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// With a good token.
    pub(crate) fn user(self, name: &str) -> Self {
        let token = house().issuer.token(name);
        self.bearer(&token)
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// A body that brings its own framing.
    pub(crate) fn chunks(mut self, chunks: impl AsRef<[u8]>) -> Self {
        self.chunks = chunks.as_ref().to_vec();
        self
    }

    /// Asks over HTTP/1.1, byte for byte as written.
    pub(crate) fn at(self, listener: &str) -> Heard {
        let mut stream = TcpStream::connect(house().address(listener)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&self.bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole answer");
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Heard {
            status,
            headers: headers.collect(),
            body: body.to_owned(),
            test: self.test,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.method.as_bytes(), b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        let own = [
            ("host", self.host.as_bytes()),
            ("connection", self.connection.as_bytes()),
            ("x-test", self.test.as_bytes()),
        ];
        let given = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        let length = self.body.len().to_string();
        let length = (!self.body.is_empty()).then_some(("content-length", length.as_bytes()));
        for (name, value) in own.into_iter().chain(given).chain(length) {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes.extend_from_slice(&self.chunks);
        bytes
    }

    /// Asks over HTTP/2 with the content type of a gRPC call.
    pub(crate) fn grpc_at(self, listener: &str) -> Heard {
        let client = reqwest::Client::builder()
            .no_proxy()
            .http2_prior_knowledge()
            .resolve(&self.host, house().address(listener));
        let request = self.request(&client.build().unwrap(), "http", listener);
        let request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            // One gRPC message without content: not compressed, zero bytes.
            .body(vec![0_u8; 5])
            .timeout(PATIENCE);
        hear(request, self.test)
    }

    /// Asks over TLS as the client that holds a certificate.
    pub(crate) fn over_tls_at(self, listener: &str) -> Heard {
        self.over_tls_as("client", listener)
    }

    /// Asks over TLS with somebody's certificate.
    pub(crate) fn over_tls_as(self, whose: &str, listener: &str) -> Heard {
        let client = house().tls_client(whose, &self.host, listener);
        let request = self.request(&client, "https", listener);
        hear(request, self.test)
    }

    /// The same, as another client makes it. The name in its address leads to the listener.
    fn request(
        &self,
        client: &reqwest::Client,
        scheme: &str,
        listener: &str,
    ) -> reqwest::RequestBuilder {
        let target = String::from_utf8(self.target.clone()).unwrap();
        let port = house().address(listener).port();
        let url = format!("{scheme}://{}:{port}{target}", self.host);
        let method = reqwest::Method::from_bytes(self.method.as_bytes()).unwrap();
        let request = client.request(method, url).header("x-test", &self.test);
        self.headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value.as_slice())
        })
    }
}

fn hear(request: reqwest::RequestBuilder, test: String) -> Heard {
    house().run(async {
        let answer = request.send().await.unwrap();
        let plain = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = answer.headers().iter();
        Heard {
            status: answer.status().as_u16(),
            headers: headers
                .map(|(name, value)| (name.to_string(), plain(value)))
                .collect(),
            body: answer.text().await.unwrap(),
            test,
        }
    })
}

impl Heard {
    /// Every value of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let ours = self.headers.iter().filter(|(key, _)| key == name);
        ours.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {} {:?}", self.status, self.body))
    }

    /// Every value of a header as it reached the upstream.
    pub(crate) fn upstream(&self, name: &str) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", self.body);
        let all = self.json()["headers"].as_array().unwrap().clone();
        let ours = all.into_iter().filter(|field| field[0] == name);
        ours.map(|field| field[1].as_str().unwrap().to_owned())
            .collect()
    }

    /// The names of all headers that reached the upstream.
    pub(crate) fn upstream_names(&self) -> Vec<String> {
        let all = self.json()["headers"].as_array().unwrap().clone();
        all.into_iter()
            .map(|field| field[0].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn reached_the_upstream(&self) -> bool {
        self.body.contains("\"upstream\"")
    }

    /// Envoy's line about it.
    pub(crate) fn line(&self) -> Value {
        house().line(&self.test)
    }

    /// Refused by Cardea with this status and reason, and nobody else heard of it.
    pub(crate) fn assert_refused(&self, status: u16, reason: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(!self.reached_the_upstream());
        assert_eq!(self.json()["reason"], reason, "{}", self.body);
    }
}
