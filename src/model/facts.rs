//! What the circumstances of a request are: the evidence that stages gather and Cedar judges.
//!
//! Everything is always present; what no source could tell stands on the unsafe side (a device that nobody vouches for
//! is not managed). So a rule never meets a gap, and a missing source can only make decisions stricter.
//!
//! All of it is serialised by these names in recorded decisions, so a name here is a part of that form.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Caller, IdentityAttributes, PrincipalKind};

/// All evidence about one request beside who asks and for what.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// The client's network.
    pub network: Network,
    /// When.
    #[serde(rename = "time")]
    pub moment: Moment,
    /// The connection between client and Envoy.
    pub tls: TlsFacts,
    /// The client's device. No source fills it yet: unknown.
    pub device: Device,
    /// The client's place. No source fills it yet: unknown.
    pub geo: Geo,
    /// Risk. No source fills it yet: unknown.
    pub risk: Risk,
    /// Behaviour. No source fills it yet: no baseline.
    pub signals: Signals,
    /// On whose behalf, where the caller acts for somebody.
    pub delegation: Option<Delegation>,
    /// Break-glass, where it was invoked. No source fills it yet.
    pub emergency: Option<Emergency>,
}

/// The client's network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The client's address by the configured rule.
    pub ip: Option<IpAddr>,
    /// Whether that address lies in a trusted network.
    pub ip_trusted: bool,
}

/// When a request came, in the configured time zone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Moment {
    /// The instant.
    pub now: Timestamp,
    /// Time since local midnight, by the wall clock.
    pub local_time: SignedDuration,
    /// 1 (Monday) to 7 (Sunday).
    pub weekday: i64,
}

/// The connection between client and Envoy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFacts {
    /// Whether the client proved itself with a certificate that Envoy validated.
    pub mutual: bool,
    /// The server name it asked for.
    pub sni: Option<String>,
    /// The workload whose certificate was proven: the caller itself, or somebody beside it. A record holds it as it holds
    /// callers.
    #[serde(skip)]
    pub peer: Option<Caller>,
}

impl TlsFacts {
    /// Notes whose certificate was proven. Only a workload is a peer that policies can name.
    pub fn prove(&mut self, holder: Caller) {
        self.mutual = true;
        let kind = holder.attributes().map(|attributes| attributes.kind);
        self.peer = (kind == Some(PrincipalKind::Workload)).then_some(holder);
    }
}

/// The client's device.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub struct Device {
    pub known: bool,
    pub managed: bool,
    pub compliant: bool,
    pub id: Option<String>,
    pub platform: Option<String>,
    pub assessed_at: Option<Timestamp>,
}

/// The client's place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact that policies read"
)]
pub struct Geo {
    pub known: bool,
    pub country: String,
    pub asn: i64,
    pub in_office: bool,
    pub anonymizer: bool,
    pub impossible_travel: bool,
}

/// How risky the request looks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Risk {
    /// 0 to 100.
    pub score: i64,
    /// `unknown`, `low`, `medium` or `high`.
    pub level: String,
    /// What moved the score.
    pub reasons: Vec<String>,
    /// Which model computed it; empty where none did.
    pub model: String,
}

impl Default for Risk {
    fn default() -> Self {
        Self {
            score: 0,
            level: "unknown".to_owned(),
            reasons: Vec::new(),
            model: String::new(),
        }
    }
}

/// How the caller has been behaving.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub struct Signals {
    pub quarantined: bool,
    pub baseline_ready: bool,
    pub distinct_objects: i64,
    pub distinct_objects_limit: i64,
    pub sequential_run: i64,
    pub rate_ratio_pct: i64,
    pub auth_fail_pct: i64,
    pub new_operation: bool,
}

/// On whose behalf a caller acts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// Entity id of the user.
    pub subject: String,
    /// Entity id of the agent that acts now.
    pub agent: Option<String>,
    /// Entity id of the client.
    pub client: Option<String>,
    /// Entity id of the workload.
    pub workload: Option<String>,
    /// How many actors stand in the chain.
    pub depth: i64,
    /// What was delegated.
    pub scopes: Vec<String>,
    /// What for.
    pub purpose: Option<String>,
    /// Whether a person approved this action.
    pub human_approved: bool,
}

impl Delegation {
    /// What a caller's credential says of whom they act for; `None` for who acts for themselves.
    #[must_use]
    pub fn of(caller: &IdentityAttributes) -> Option<Self> {
        let on_behalf = caller.on_behalf.as_ref()?;
        let subject = &on_behalf.subject;
        let depth = 1 + on_behalf.earlier.len();
        Some(Self {
            subject: subject.principal_id(),
            agent: Some(caller.principal_id()),
            client: subject
                .client_id
                .as_ref()
                .map(|client| format!("{}|{client}", subject.issuer)),
            workload: None,
            depth: i64::try_from(depth).unwrap_or(i64::MAX),
            scopes: caller.scopes.clone(),
            purpose: on_behalf.purpose.clone(),
            human_approved: on_behalf.human_approved,
        })
    }
}

/// Break-glass.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emergency {
    /// The incident.
    pub ticket: String,
    /// Entity id of the user who approved it.
    pub approver: String,
    /// When it ends.
    pub expires_at: Timestamp,
}
