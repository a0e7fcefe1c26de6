//! Envoy's side: what it asks, and how it hears the answer.
//!
//! ```text
//! listener ▸ tls ▸ check (the service) ▸ codec ▸ request ▸ [ Decide ] ▸ response ▸ codec
//! ```
//!
//! | file | knows |
//! |---|---|
//! | [`listener`] | sockets: TCP, Unix, connections, HTTP/2 limits, draining |
//! | [`tls`] | certificates, and how they are replaced while serving |
//! | [`check`] | the gRPC service: time limits and the panic guard; every way out of it is an explicit answer |
//! | [`health`] | `grpc.health.v1` |
//! | [`request`] | Envoy's attributes: the only file that reads them |
//! | [`response`] | HTTP status codes: the only file that knows them |
//! | [`proto`] | the generated wire contract |
//!
//! Two facts about Envoy shape this room. An empty answer means ALLOW, so [`Answer`] has no empty
//! state. And a gRPC error is not a denial (Envoy lets the request pass where it is set to fail open), so no call of
//! the check service ends in one.

pub mod check;
pub mod health;
pub mod listener;
pub mod proto;
pub mod request;
pub mod response;
pub mod tls;

mod codec;

#[cfg(test)]
mod testing;

pub use check::{CheckService, Decide};
pub use listener::{Bound, ListenSettings};
pub use request::RequestSettings;
pub use response::{Answer, AnswerSettings, Answers};

use crate::model::Problem;

/// What is wrong between sections of this room that are well by themselves.
#[must_use]
pub fn problems_between(request: &RequestSettings, listen: &ListenSettings) -> Vec<Problem> {
    // Headers, addresses, certificates and metadata travel beside the body.
    const BESIDE_THE_BODY: usize = 256 * 1024;
    let needed = request
        .max_body_bytes
        .saturating_add(request.max_header_bytes)
        .saturating_add(request.max_target_bytes)
        .saturating_add(BESIDE_THE_BODY);
    if listen.max_message_bytes >= needed {
        return Vec::new();
    }
    vec![
        Problem::new(format!(
            "`listen.max_message_bytes` is {}, less than a check with a body of `request.max_body_bytes` can take",
            listen.max_message_bytes
        ))
        .hint(format!("set it to at least {needed}, or lower `request.max_body_bytes`")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_agree_with_each_other() {
        let problems = problems_between(&RequestSettings::default(), &ListenSettings::default());
        assert_eq!(problems, []);
    }

    #[test]
    fn g3_a_message_limit_below_the_body_limit_is_a_problem() {
        let listen = ListenSettings {
            max_message_bytes: 1024 * 1024,
            ..ListenSettings::default()
        };
        let problems = problems_between(&RequestSettings::default(), &listen);
        assert!(problems[0].message.contains("`listen.max_message_bytes`"));
    }
}
