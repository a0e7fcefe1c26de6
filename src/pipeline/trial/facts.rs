//! In which circumstances: each section says what policies read below `context`, by the same names.
//!
//! Names are written as the settings write them (`in_office`) or as the schema does (`inOffice`).

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::scalar::{Names, When, Words};
use crate::identity::SUPPOSED_ISSUER;
use crate::model::{Delegation, Device, Emergency, Facts, Geo, Risk, Signals};

/// `context.device`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub struct DeviceForm {
    pub known: bool,
    pub managed: bool,
    pub compliant: bool,
    pub id: Option<String>,
    pub platform: Option<String>,
    #[serde(alias = "assessedAt")]
    pub assessed_at: Option<When>,
}

/// `context.geo`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact that policies read"
)]
pub struct GeoForm {
    pub known: bool,
    pub country: String,
    pub asn: i64,
    #[serde(alias = "inOffice")]
    pub in_office: bool,
    pub anonymizer: bool,
    #[serde(alias = "impossibleTravel")]
    pub impossible_travel: bool,
}

/// `context.network`, where it is not to follow from the request and the settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub struct NetworkForm {
    pub ip: Option<IpAddr>,
    #[serde(alias = "ipTrusted")]
    pub ip_trusted: Option<bool>,
}

/// `context.risk`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub struct RiskForm {
    pub score: i64,
    pub level: Option<String>,
    pub reasons: Names,
    pub model: String,
}

/// `context.signals`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub struct SignalsForm {
    pub quarantined: bool,
    #[serde(alias = "baselineReady")]
    pub baseline_ready: bool,
    #[serde(alias = "distinctObjects")]
    pub distinct_objects: i64,
    #[serde(alias = "distinctObjectsLimit")]
    pub distinct_objects_limit: i64,
    #[serde(alias = "sequentialRun")]
    pub sequential_run: i64,
    #[serde(alias = "rateRatioPct")]
    pub rate_ratio_pct: i64,
    #[serde(alias = "authFailPct")]
    pub auth_fail_pct: i64,
    #[serde(alias = "newOperation")]
    pub new_operation: bool,
}

/// `context.delegation`. Entities are named by their ids (`<issuer>|<subject>`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub struct DelegationForm {
    /// Default: `https://issuer.test|somebody`.
    pub subject: Option<String>,
    pub agent: Option<String>,
    pub client: Option<String>,
    pub workload: Option<String>,
    /// Default: 1.
    pub depth: Option<i64>,
    pub scopes: Words,
    pub purpose: Option<String>,
    #[serde(alias = "humanApproved")]
    pub human_approved: bool,
}

/// `context.emergency`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmergencyForm {
    /// Default: `incident`.
    pub ticket: Option<String>,
    /// Default: `https://issuer.test|approver`.
    pub approver: Option<String>,
    /// Default: an hour later.
    #[serde(alias = "expiresAt")]
    pub expires_at: Option<When>,
}

/// An entity's id: `<issuer>|<subject>`.
fn entity(given: Option<String>, subject: &str) -> String {
    given.unwrap_or_else(|| format!("{SUPPOSED_ISSUER}|{subject}"))
}

impl From<DeviceForm> for Device {
    fn from(form: DeviceForm) -> Self {
        Self {
            known: form.known,
            managed: form.managed,
            compliant: form.compliant,
            id: form.id,
            platform: form.platform,
            assessed_at: form.assessed_at.map(|at| at.0),
        }
    }
}

impl From<GeoForm> for Geo {
    fn from(form: GeoForm) -> Self {
        Self {
            known: form.known,
            country: form.country,
            asn: form.asn,
            in_office: form.in_office,
            anonymizer: form.anonymizer,
            impossible_travel: form.impossible_travel,
        }
    }
}

impl From<RiskForm> for Risk {
    fn from(form: RiskForm) -> Self {
        Self {
            score: form.score,
            level: form.level.unwrap_or_else(|| Self::default().level),
            reasons: form.reasons.0,
            model: form.model,
        }
    }
}

impl From<SignalsForm> for Signals {
    fn from(form: SignalsForm) -> Self {
        Self {
            quarantined: form.quarantined,
            baseline_ready: form.baseline_ready,
            distinct_objects: form.distinct_objects,
            distinct_objects_limit: form.distinct_objects_limit,
            sequential_run: form.sequential_run,
            rate_ratio_pct: form.rate_ratio_pct,
            auth_fail_pct: form.auth_fail_pct,
            new_operation: form.new_operation,
        }
    }
}

impl From<DelegationForm> for Delegation {
    fn from(form: DelegationForm) -> Self {
        Self {
            subject: entity(form.subject, "somebody"),
            agent: form.agent,
            client: form.client,
            workload: form.workload,
            depth: form.depth.unwrap_or(1),
            scopes: form.scopes.0,
            purpose: form.purpose,
            human_approved: form.human_approved,
        }
    }
}

impl EmergencyForm {
    /// The emergency, as of `now`.
    pub(super) fn emergency(self, now: Timestamp) -> Emergency {
        let later = || now.saturating_add(SignedDuration::from_hours(1));
        Emergency {
            ticket: self.ticket.unwrap_or_else(|| "incident".to_owned()),
            approver: entity(self.approver, "approver"),
            expires_at: match self.expires_at {
                Some(at) => at.0,
                None => later().unwrap_or(now),
            },
        }
    }
}

impl NetworkForm {
    /// Puts what is said in place of what was gathered.
    pub(super) fn overlay(&self, facts: &mut Facts) {
        if let Some(ip) = self.ip {
            facts.network.ip = Some(ip.to_canonical());
        }
        if let Some(trusted) = self.ip_trusted {
            facts.network.ip_trusted = trusted;
        }
    }
}
