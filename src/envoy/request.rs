//! What Envoy asks, in exactly one reading: `CheckRequest` becomes [`Asked`].
//!
//! This is the only file (with its folder) that reads Envoy's attributes. A message comes from Envoy, or from whoever
//! reaches the port: it is hostile, bounded, and refused wherever two of its parts tell different stories.

mod arrival;
mod client;
mod headers;
mod metadata;
mod peer;
mod settings;

pub use arrival::Call;
pub use settings::{ClientAddress, RequestSettings};

use crate::model::{
    AccessRequest, Arrival, Asked, Body, CanonicalPath, Headers, Host, HostError, Method,
    PathError, Query, Reason, Refusal, Scheme,
};

use super::proto::auth::CheckRequest;
use super::proto::auth::attribute_context::HttpRequest;

/// Reads one check. It never fails: what has no single reading is asked as its refusal.
#[must_use]
pub fn read(check: CheckRequest, call: Call, settings: &RequestSettings) -> Asked {
    let http = check
        .attributes
        .as_ref()
        .and_then(|attributes| attributes.request.as_ref()?.http.as_ref());
    let arrival = match http {
        Some(http) => arrival_of(http, call),
        None => call.arrival(),
    };
    Asked {
        arrival,
        request: read_request(check, settings),
    }
}

/// A check that could not even be decoded.
#[must_use]
pub fn unreadable(call: Call, detail: String) -> Asked {
    Asked {
        arrival: call.arrival(),
        request: Err(Refusal::new(Reason::MalformedRequest, detail)),
    }
}

/// Refuses a message that is no HTTP request, or breaks a limit.
fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(Reason::MalformedRequest, detail)
}

fn arrival_of(http: &HttpRequest, call: Call) -> Arrival {
    let mut arrival = call.arrival();
    arrival.grpc = headers::first(http, "content-type").is_some_and(is_grpc);
    if arrival.trace_parent.is_none() {
        arrival.trace_parent = arrival::trace_parent(
            headers::first(http, "traceparent"),
            headers::first(http, "tracestate"),
        );
    }
    arrival
}

/// Envoy's own rule for what is gRPC: `application/grpc`, alone or with a suffix. gRPC-Web is something else.
#[must_use]
pub fn is_grpc(content_type: &str) -> bool {
    content_type
        .strip_prefix("application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

fn read_request(check: CheckRequest, settings: &RequestSettings) -> Result<AccessRequest, Refusal> {
    let attributes = check
        .attributes
        .ok_or_else(|| malformed("the check holds no attributes"))?;
    let mut http = attributes
        .request
        .and_then(|request| request.http)
        .ok_or_else(|| malformed("the check is not about an HTTP request"))?;

    let method = Method::parse(&http.method).ok_or_else(|| {
        Refusal::new(
            Reason::UnknownMethod,
            "the method is none of GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE",
        )
    })?;
    let scheme = read_scheme(&http.scheme)?;
    let (path, query) = read_target(&http, settings)?;
    let host = Host::parse(&http.host)?;
    let headers = headers::read(&mut http, settings)?;
    let body = read_body(&mut http, &headers, settings)?;
    let peer = peer::read(attributes.source)?;
    let client_address = client::address(settings.client_address, &peer, &headers);
    let sni = read_sni(attributes.tls_session.map(|session| session.sni))?;

    Ok(AccessRequest {
        id: request_id(&http, &headers),
        method,
        scheme,
        host,
        port: Host::port(&http.host),
        path,
        query,
        headers,
        body,
        client_address,
        peer,
        sni,
        context_extensions: attributes.context_extensions.into_iter().collect(),
        metadata: metadata::read(attributes.metadata_context)?,
        route_metadata: metadata::read(attributes.route_metadata_context)?,
    })
}

fn read_scheme(scheme: &str) -> Result<Scheme, Refusal> {
    match scheme {
        "http" => Ok(Scheme::Http),
        "https" => Ok(Scheme::Https),
        _ => Err(malformed("the scheme is neither `http` nor `https`")),
    }
}

/// Splits the request target at its first raw `?`. Envoy leaves `query` and `fragment` empty; whoever fills them may
/// only repeat what the target says.
fn read_target(
    http: &HttpRequest,
    settings: &RequestSettings,
) -> Result<(CanonicalPath, Query), Refusal> {
    if http.path.len() > settings.max_target_bytes {
        return Err(malformed(
            "the request target is longer than `request.max_target_bytes`",
        ));
    }
    if !http.fragment.is_empty() {
        return Err(PathError::Fragment.into());
    }
    let (path, query) = http.path.split_once('?').unwrap_or((&http.path, ""));
    if !http.query.is_empty() && http.query != query {
        return Err(malformed("the target's query and `query` differ"));
    }
    Ok((
        CanonicalPath::parse(path, settings.path)?,
        Query::parse(query)?,
    ))
}

fn read_body(
    http: &mut HttpRequest,
    headers: &Headers,
    settings: &RequestSettings,
) -> Result<Body, Refusal> {
    let text = std::mem::take(&mut http.body).into_bytes();
    let raw = std::mem::take(&mut http.raw_body);
    let bytes = match (text.is_empty(), raw.is_empty()) {
        (false, false) => return Err(malformed("both `body` and `raw_body` are filled")),
        (false, true) => text,
        _ => raw,
    };
    if bytes.len() > settings.max_body_bytes {
        return Err(malformed(
            "the body is longer than `request.max_body_bytes`",
        ));
    }
    let arrived = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let announced = announced(http.size, headers);
    let truncated = !bytes.is_empty() && (announced > arrived || is_marked(headers));
    Ok(Body {
        length: if truncated && announced <= arrived {
            u64::MAX
        } else {
            arrived.max(announced)
        },
        truncated,
        bytes,
    })
}

/// Whether Envoy says that the upstream gets more than arrived here. A caller can only add a reason to think so, never
/// take one away: Envoy's own word stands beside any the caller sent.
fn is_marked(headers: &Headers) -> bool {
    headers
        .values("x-envoy-auth-partial-body")
        .any(|value| value != b"false")
}

/// The longest body that anybody announces.
fn announced(size: i64, headers: &Headers) -> u64 {
    let lengths = headers
        .values("content-length")
        .filter_map(|value| std::str::from_utf8(value).ok()?.parse().ok());
    lengths.chain(u64::try_from(size)).max().unwrap_or_default()
}

/// The server name in the spelling hosts have, so that policies can compare the two.
fn read_sni(sni: Option<String>) -> Result<Option<String>, Refusal> {
    let name = sni.filter(|name| !name.is_empty());
    name.map(|name| Host::parse(&name).map(|host| host.as_str().to_owned()))
        .transpose()
        .map_err(|_: HostError| malformed("the TLS server name is no host name"))
}

/// Text for correlation: kept only if it is short and plain.
fn request_id(http: &HttpRequest, headers: &Headers) -> String {
    let plain =
        |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    headers
        .single("x-request-id")
        .filter(plain)
        .or_else(|| Some(http.id.as_str()).filter(plain))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests;
