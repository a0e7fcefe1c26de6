//! How a caller may prove who it is, as far as an answer has to say so.

use std::sync::Arc;

/// One way to prove who one is, where a request was refused for want of it (RFC 9110, section 11.6.1), and where its
/// credential stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A token in `Authorization` (RFC 6750).
    Bearer,
    /// An API key in a header of its own.
    ApiKey {
        /// The header's name, in lower case.
        header: Arc<str>,
    },
    /// User name and password in `Authorization` (RFC 7617).
    Basic,
}
