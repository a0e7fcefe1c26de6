//! How a caller may prove who it is, as far as an answer has to say so.

use std::sync::Arc;

/// One way to prove who one is, where a request was refused for want of it (RFC 9110, section 11.6.1), and where its
/// credential stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A token in `Authorization` (RFC 6750).
    Bearer,
    /// A token in `Authorization` that is bound to a key, and a proof of that key in `DPoP` (RFC 9449, section 7.1).
    Dpop {
        /// The algorithms that proofs may be signed with, separated by spaces.
        algorithms: Arc<str>,
    },
    /// An API key in a header of its own.
    ApiKey {
        /// The header's name, in lower case.
        header: Arc<str>,
    },
    /// User name and password in `Authorization` (RFC 7617).
    Basic,
}
