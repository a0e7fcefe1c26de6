//! The facts of a request as Cedar's `context`: one visible table, one line a fact.
//!
//! A slice builds only the lines that some policy of it can read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{Context, Value};
use jiff::{SignedDuration, Timestamp};
use smol_str::SmolStr;

use super::entities::PrincipalParts;
use super::reads::ReadSet;
use super::value::{Kind, datetime, duration, ip, record, strings};
use crate::model::{AccessRequest, Delegation, Facts, Matched, Moment};

/// Everything the context of one request is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) principal: &'a PrincipalParts,
    pub(super) request: &'a AccessRequest,
    pub(super) matched: &'a Matched,
    pub(super) facts: &'a Facts,
}

type Make = fn(&Evidence<'_>) -> Option<Value>;

/// How one group of the context is made: as a whole, or field by field.
enum Group {
    Whole(Make),
    Fields(&'static [(&'static str, Make)]),
}

/// The context, in the order of the schema. A line that gives `None` is an optional attribute that is absent.
static CONTEXT: &[(&str, Group)] = &[
    ("token", Group::Whole(|e| Some(e.principal.token.clone()))),
    ("device", Group::Fields(DEVICE)),
    ("geo", Group::Fields(GEO)),
    ("network", Group::Fields(NETWORK)),
    ("time", Group::Whole(|e| moment(&e.facts.moment))),
    ("risk", Group::Fields(RISK)),
    ("signals", Group::Fields(SIGNALS)),
    ("request", Group::Fields(REQUEST)),
    ("tls", Group::Fields(TLS)),
    (
        "delegation",
        Group::Whole(|e| e.facts.delegation.as_ref().map(delegation)),
    ),
    ("emergency", Group::Whole(emergency)),
];

static DEVICE: &[(&str, Make)] = &[
    ("known", |e| Some(e.facts.device.known.into())),
    ("managed", |e| Some(e.facts.device.managed.into())),
    ("compliant", |e| Some(e.facts.device.compliant.into())),
    ("id", |e| e.facts.device.id.as_deref().map(Value::from)),
    ("platform", |e| {
        e.facts.device.platform.as_deref().map(Value::from)
    }),
    ("assessedAt", |e| {
        e.facts.device.assessed_at.and_then(datetime)
    }),
];

static GEO: &[(&str, Make)] = &[
    ("known", |e| Some(e.facts.geo.known.into())),
    ("country", |e| Some(e.facts.geo.country.as_str().into())),
    ("asn", |e| Some(e.facts.geo.asn.into())),
    ("inOffice", |e| Some(e.facts.geo.in_office.into())),
    ("anonymizer", |e| Some(e.facts.geo.anonymizer.into())),
    ("impossibleTravel", |e| {
        Some(e.facts.geo.impossible_travel.into())
    }),
];

static NETWORK: &[(&str, Make)] = &[
    ("ip", |e| ip(e.facts.network.ip)),
    ("ipTrusted", |e| Some(e.facts.network.ip_trusted.into())),
];

static RISK: &[(&str, Make)] = &[
    ("score", |e| Some(e.facts.risk.score.into())),
    ("level", |e| Some(e.facts.risk.level.as_str().into())),
    ("reasons", |e| {
        Some(strings(e.facts.risk.reasons.iter().map(String::as_str)))
    }),
    ("model", |e| Some(e.facts.risk.model.as_str().into())),
];

static SIGNALS: &[(&str, Make)] = &[
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

static REQUEST: &[(&str, Make)] = &[
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
    ("schemaErrors", |_| Some(strings([]))),
    ("undeclaredFields", |_| Some(strings([]))),
    ("findings", |_| Some(strings([]))),
    ("params", |_| Some(Kind::Params.uid("params").into())),
    ("numbers", |_| Some(Kind::Numbers.uid("numbers").into())),
];

static TLS: &[(&str, Make)] = &[
    ("mutual", |e| Some(e.facts.tls.mutual.into())),
    ("sni", |e| e.facts.tls.sni.as_deref().map(Value::from)),
    ("peer", |e| {
        let peer = e.facts.tls.peer.as_ref()?.attributes()?;
        Some(Kind::Workload.uid(&peer.principal_id()).into())
    }),
];

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
enum GroupPlan {
    Whole(Make),
    Fields(Vec<(SmolStr, Make)>),
}

impl Plan {
    /// The lines that `reads` asks for.
    pub(super) fn for_reads(reads: &ReadSet) -> Self {
        let groups = CONTEXT.iter().filter(|(name, _)| reads.wants_group(name));
        let groups = groups.map(|(name, group)| {
            let plan = match group {
                Group::Whole(make) => GroupPlan::Whole(*make),
                Group::Fields(fields) => GroupPlan::Fields(
                    fields
                        .iter()
                        .filter(|(field, _)| reads.wants_field(name, field))
                        .map(|(field, make)| (SmolStr::new_static(field), *make))
                        .collect(),
                ),
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
        let groups = self.groups.iter().filter_map(|(name, group)| {
            let value = match group {
                GroupPlan::Whole(make) => make(evidence)?,
                GroupPlan::Fields(fields) => {
                    let fields: BTreeMap<SmolStr, Value> = fields
                        .iter()
                        .filter_map(|(field, make)| Some((field.clone(), make(evidence)?)))
                        .collect();
                    Value::record_arc(Arc::new(fields), None)
                }
            };
            Some((name.clone(), value))
        });
        Context::Value(Arc::new(groups.collect()))
    }
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

fn delegation(delegation: &Delegation) -> Value {
    let entity = |kind: Kind, id: &Option<String>| id.as_ref().map(|id| kind.uid(id).into());
    record([
        ("subject", Some(Kind::User.uid(&delegation.subject).into())),
        ("agent", entity(Kind::Agent, &delegation.agent)),
        ("client", entity(Kind::Client, &delegation.client)),
        ("workload", entity(Kind::Workload, &delegation.workload)),
        ("depth", Some(delegation.depth.into())),
        (
            "scopes",
            Some(strings(delegation.scopes.iter().map(String::as_str))),
        ),
        ("purpose", delegation.purpose.as_deref().map(Value::from)),
        ("humanApproved", Some(delegation.human_approved.into())),
    ])
}

fn emergency(evidence: &Evidence<'_>) -> Option<Value> {
    let emergency = evidence.facts.emergency.as_ref()?;
    Some(record([
        ("ticket", Some(emergency.ticket.as_str().into())),
        ("approver", Some(Kind::User.uid(&emergency.approver).into())),
        ("expiresAt", datetime(emergency.expires_at)),
    ]))
}
