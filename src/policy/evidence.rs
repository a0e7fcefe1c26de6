//! The facts of a request as Cedar's `context`: one visible table, one line a fact.
//!
//! A slice builds only the lines that some policy of it can read. A line says what is read as a [`Reading`], of which both
//! Cedar's value and the name of a remembered judgement are made: a fact that policies can see cannot be missing in the
//! name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{Context, Value};
use jiff::{SignedDuration, Timestamp};
use smol_str::SmolStr;

use super::entities::PrincipalParts;
use super::reading::{Name, Reading};
use super::reads::ReadSet;
use super::value::{Kind, datetime, duration, record};
use crate::model::{AccessRequest, Delegation, Emergency, Facts, Matched, Moment};

/// Everything the context of one request is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) principal: &'a PrincipalParts,
    pub(super) request: &'a AccessRequest,
    pub(super) matched: &'a Matched,
    pub(super) facts: &'a Facts,
}

type Read = for<'a> fn(&Evidence<'a>) -> Option<Reading<'a>>;
type Lines = &'static [(&'static str, Read)];

/// What is read for one group of the context.
enum Group {
    /// What the caller's credential says: it is made once for the principal.
    Token,
    /// The clock.
    Time,
    /// A record, always there.
    Fields(Lines),
    /// A record that is there where this says so.
    Optional(fn(&Evidence<'_>) -> bool, Lines),
}

/// The clock's group.
pub(super) const TIME: &str = "time";

/// The context, in the order of the schema. A line that gives `None` is an optional attribute that is absent.
static CONTEXT: &[(&str, Group)] = &[
    ("token", Group::Token),
    ("device", Group::Fields(DEVICE)),
    ("geo", Group::Fields(GEO)),
    ("network", Group::Fields(NETWORK)),
    (TIME, Group::Time),
    ("risk", Group::Fields(RISK)),
    ("signals", Group::Fields(SIGNALS)),
    ("request", Group::Fields(REQUEST)),
    ("tls", Group::Fields(TLS)),
    (
        "delegation",
        Group::Optional(|e| e.facts.delegation.is_some(), DELEGATION),
    ),
    (
        "emergency",
        Group::Optional(|e| e.facts.emergency.is_some(), EMERGENCY),
    ),
];

static DEVICE: Lines = &[
    ("known", |e| Some(e.facts.device.known.into())),
    ("managed", |e| Some(e.facts.device.managed.into())),
    ("compliant", |e| Some(e.facts.device.compliant.into())),
    ("id", |e| e.facts.device.id.as_deref().map(Reading::from)),
    ("platform", |e| {
        e.facts.device.platform.as_deref().map(Reading::from)
    }),
    ("assessedAt", |e| {
        e.facts.device.assessed_at.map(Reading::from)
    }),
];

static GEO: Lines = &[
    ("known", |e| Some(e.facts.geo.known.into())),
    ("country", |e| Some(e.facts.geo.country.as_str().into())),
    ("asn", |e| Some(e.facts.geo.asn.into())),
    ("inOffice", |e| Some(e.facts.geo.in_office.into())),
    ("anonymizer", |e| Some(e.facts.geo.anonymizer.into())),
    ("impossibleTravel", |e| {
        Some(e.facts.geo.impossible_travel.into())
    }),
];

static NETWORK: Lines = &[
    ("ip", |e| Some(e.facts.network.ip.into())),
    ("ipTrusted", |e| Some(e.facts.network.ip_trusted.into())),
];

static RISK: Lines = &[
    ("score", |e| Some(e.facts.risk.score.into())),
    ("level", |e| Some(e.facts.risk.level.as_str().into())),
    ("reasons", |e| Some(e.facts.risk.reasons.as_slice().into())),
    ("model", |e| Some(e.facts.risk.model.as_str().into())),
];

static SIGNALS: Lines = &[
    ("quarantined", |e| Some(e.facts.signals.quarantined.into())),
    ("baselineReady", |e| {
        Some(e.facts.signals.baseline_ready.into())
    }),
    ("distinctObjects", |e| {
        Some(e.facts.signals.distinct_objects.into())
    }),
    ("distinctObjectsLimit", |e| {
        Some(e.facts.signals.distinct_objects_limit.into())
    }),
    ("sequentialRun", |e| {
        Some(e.facts.signals.sequential_run.into())
    }),
    ("rateRatioPct", |e| {
        Some(e.facts.signals.rate_ratio_pct.into())
    }),
    ("authFailPct", |e| {
        Some(e.facts.signals.auth_fail_pct.into())
    }),
    ("newOperation", |e| {
        Some(e.facts.signals.new_operation.into())
    }),
];

static REQUEST: Lines = &[
    ("id", |e| Some(e.request.id.as_str().into())),
    ("method", |e| Some(e.request.method.as_str().into())),
    ("host", |e| Some(e.request.host.as_str().into())),
    ("path", |e| Some(e.request.path.as_str().into())),
    ("documented", |e| {
        Some(e.matched.operation.documented.into())
    }),
    ("bodyBytes", |e| {
        let length = i64::try_from(e.request.body.length).unwrap_or(i64::MAX);
        Some(length.into())
    }),
    // No body is held against a contract yet, and none is claimed to be.
    ("bodyInspected", |_| Some(false.into())),
    ("schemaErrors", |_| Some(Reading::Texts(&[]))),
    ("undeclaredFields", |_| Some(Reading::Texts(&[]))),
    ("findings", |_| Some(Reading::Texts(&[]))),
    ("params", |_| Some(Reading::Entity(Kind::Params, "params"))),
    ("numbers", |_| {
        Some(Reading::Entity(Kind::Numbers, "numbers"))
    }),
];

static TLS: Lines = &[
    ("mutual", |e| Some(e.facts.tls.mutual.into())),
    ("sni", |e| e.facts.tls.sni.as_deref().map(Reading::from)),
    ("peer", |e| {
        let peer = e.facts.tls.peer.as_ref()?.attributes()?;
        Some(Reading::Principal(Kind::Workload, peer))
    }),
];

static DELEGATION: Lines = &[
    ("subject", |e| {
        Some(Reading::Entity(Kind::User, &delegation(e)?.subject))
    }),
    ("agent", |e| {
        let id = delegation(e)?.agent.as_deref()?;
        Some(Reading::Entity(Kind::Agent, id))
    }),
    ("client", |e| {
        let id = delegation(e)?.client.as_deref()?;
        Some(Reading::Entity(Kind::Client, id))
    }),
    ("workload", |e| {
        let id = delegation(e)?.workload.as_deref()?;
        Some(Reading::Entity(Kind::Workload, id))
    }),
    ("depth", |e| Some(delegation(e)?.depth.into())),
    ("scopes", |e| Some(delegation(e)?.scopes.as_slice().into())),
    ("purpose", |e| {
        delegation(e)?.purpose.as_deref().map(Reading::from)
    }),
    ("humanApproved", |e| {
        Some(delegation(e)?.human_approved.into())
    }),
];

static EMERGENCY: Lines = &[
    ("ticket", |e| Some(emergency(e)?.ticket.as_str().into())),
    ("approver", |e| {
        Some(Reading::Entity(Kind::User, &emergency(e)?.approver))
    }),
    ("expiresAt", |e| Some(emergency(e)?.expires_at.into())),
];

fn delegation<'a>(evidence: &Evidence<'a>) -> Option<&'a Delegation> {
    evidence.facts.delegation.as_ref()
}

fn emergency<'a>(evidence: &Evidence<'a>) -> Option<&'a Emergency> {
    evidence.facts.emergency.as_ref()
}

/// The lines of the table that one slice needs.
#[derive(Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one entity that policies can follow"
)]
pub(super) struct Plan {
    groups: Vec<(SmolStr, GroupPlan)>,
    /// Whether path parameters can be read.
    pub(super) params: bool,
    /// Whether numbers of the body can be read.
    pub(super) numbers: bool,
    /// Whether claims can be read.
    pub(super) claims: bool,
    /// Whether the workload on the connection can be read.
    pub(super) peer: bool,
}

#[derive(Clone)]
struct GroupPlan {
    group: &'static Group,
    lines: Vec<(SmolStr, Read)>,
}

impl Plan {
    /// The lines that `reads` asks for.
    pub(super) fn for_reads(reads: &ReadSet) -> Self {
        let groups = CONTEXT.iter().filter(|(name, _)| reads.wants_group(name));
        let groups = groups.map(|(name, group)| {
            let all: Lines = match group {
                Group::Token | Group::Time => &[],
                Group::Fields(lines) | Group::Optional(_, lines) => lines,
            };
            let wanted = all
                .iter()
                .filter(|(field, _)| reads.wants_field(name, field));
            let lines = wanted.map(|(field, read)| (SmolStr::new_static(field), *read));
            let plan = GroupPlan {
                group,
                lines: lines.collect(),
            };
            (SmolStr::new_static(name), plan)
        });
        Self {
            groups: groups.collect(),
            params: reads.wants_field("request", "params"),
            numbers: reads.wants_field("request", "numbers"),
            claims: reads.wants_field("token", "claims"),
            peer: reads.wants_field("tls", "peer"),
        }
    }

    /// Every line: for the oracle, and for checking the table against a schema.
    pub(super) fn everything() -> Self {
        Self::for_reads(&ReadSet::everything())
    }

    /// The context of a request.
    pub(super) fn context(&self, evidence: &Evidence<'_>) -> Context {
        let groups = self.groups.iter().filter_map(|(name, plan)| {
            let value = match plan.group {
                Group::Token => evidence.principal.token.clone(),
                Group::Time => moment(&evidence.facts.moment)?,
                Group::Fields(_) => plan.record(evidence),
                Group::Optional(is_there, _) => {
                    is_there(evidence).then(|| plan.record(evidence))?
                }
            };
            Some((name.clone(), value))
        });
        Context::Value(Arc::new(groups.collect()))
    }

    /// Writes what [`Plan::context`] would show into the name of a judgement: all but what the principal brings, which
    /// is named by itself, and the clock, which nothing is remembered of.
    pub(super) fn name(&self, evidence: &Evidence<'_>, name: &mut Name) {
        for (_, plan) in &self.groups {
            match plan.group {
                Group::Token | Group::Time => {}
                Group::Fields(_) => plan.name(evidence, name),
                Group::Optional(is_there, _) => {
                    let there = is_there(evidence);
                    name.truth(there);
                    if there {
                        plan.name(evidence, name);
                    }
                }
            }
        }
        if self.params {
            name.pairs(&evidence.matched.parameters);
        }
    }
}

impl GroupPlan {
    fn record(&self, evidence: &Evidence<'_>) -> Value {
        let fields: BTreeMap<SmolStr, Value> = self
            .lines
            .iter()
            .filter_map(|(field, read)| Some((field.clone(), read(evidence)?.value()?)))
            .collect();
        Value::record_arc(Arc::new(fields), None)
    }

    fn name(&self, evidence: &Evidence<'_>, name: &mut Name) {
        for (_, read) in &self.lines {
            name.reading(read(evidence).as_ref());
        }
    }
}

/// Every line, for tests: `group`, or `group.field`.
#[cfg(test)]
pub(super) fn lines() -> impl Iterator<Item = String> {
    CONTEXT.iter().flat_map(|(name, group)| match group {
        Group::Token | Group::Time => vec![(*name).to_owned()],
        Group::Fields(lines) | Group::Optional(_, lines) => lines
            .iter()
            .map(|(field, _)| format!("{name}.{field}"))
            .collect(),
    })
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.groups.iter().map(|(name, _)| name))
            .finish()
    }
}

/// The clock, to the second: Cedar values of one second serve every request in it on this thread.
fn moment(moment: &Moment) -> Option<Value> {
    type Second = (i64, i64, i64);
    thread_local! {
        static LATEST: RefCell<Option<(Second, Value)>> = const { RefCell::new(None) };
    }
    let second = (
        moment.now.as_second(),
        moment.local_time.as_secs(),
        moment.weekday,
    );
    LATEST.with_borrow_mut(|latest| {
        if let Some((known, value)) = latest
            && *known == second
        {
            return Some(value.clone());
        }
        let value = record([
            (
                "now",
                Some(datetime(Timestamp::from_second(second.0).ok()?)?),
            ),
            (
                "localTime",
                Some(duration(SignedDuration::from_secs(second.1))?),
            ),
            ("weekday", Some(moment.weekday.into())),
        ]);
        *latest = Some((second, value.clone()));
        Some(value)
    })
}
