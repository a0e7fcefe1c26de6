//! The vocabulary every room shares: what was asked, who asks, what was decided and why.
//!
//! Nothing here does I/O, waits, or knows tokio, tonic or Cedar. Types are parsed at the edge and cannot be wrong
//! afterwards; proof is a value ([`VerifiedIdentity`], [`Permit`]) with private fields and one constructor each, called
//! `assertion`, so that one search finds every place that claims proof.

mod bytes;
mod challenge;
mod clock;
mod decision;
mod facts;
mod host;
mod identity;
mod operation;
mod path;
mod period;
mod problem;
mod query;
mod reason;
mod remote;
mod request;
mod secret;
mod service_account;
mod spiffe;

pub mod json;
pub mod yaml;

pub use bytes::every_byte;
pub use challenge::Challenge;
pub use clock::{Clock, ManualClock, SystemClock};
pub use decision::{
    ColdStep, Decision, DecisionCache, DecisionId, Effect, Notes, Outcome, Permit, PolicyFault,
    SnapshotId, Trail,
};
pub use facts::{
    Delegation, Device, Emergency, Facts, Geo, Moment, Network, Risk, Signals, TlsFacts,
};
pub use host::{Host, HostError};
pub use identity::{
    Binding, CERTIFICATE, Caller, IdentityAttributes, KUBERNETES, OnBehalf, PrincipalKind,
    VerifiedIdentity,
};
pub use operation::{Api, Lifecycle, Matched, Operation, ResourceRule, Route};
pub use path::{CanonicalPath, PathError, PathRules, TwoReadings};
pub use period::{Period, PeriodError};
pub use problem::{Problem, line_and_column};
pub use query::{Query, QueryError};
pub use reason::{CredentialFault, Reason, Refusal, Severity, StepUp};
pub use remote::{is_loopback, remote_url, without_query};
pub use request::{
    AccessRequest, Arrival, Asked, Body, Headers, Method, Peer, Scheme, TraceParent, shown,
};
pub use secret::{SecretError, SecretRef};
pub use service_account::{SERVICE_ACCOUNTS, ServiceAccount, is_namespace};
pub use spiffe::{SpiffeId, is_trust_domain};
