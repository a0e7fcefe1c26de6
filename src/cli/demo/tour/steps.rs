//! What is asked on the tour, and what must come of it.

use super::super::client::Seen;
use super::super::issuer::{Flaw, User};

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller {
    Nobody,
    User(User, Flaw),
}

/// What is done to the policies before a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edit {
    None,
    Add(&'static str),
    TakeBack,
}

/// What must come of a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    /// The upstream answers, by this policy, and hears this of the header named.
    Passes {
        policy: &'static str,
        upstream: (&'static str, Option<&'static str>),
    },
    /// Cardea refuses with this status and reason, and by this policy where one decides.
    Refused(u16, &'static str, Option<&'static str>),
    /// Envoy refuses by itself.
    NotAsked(u16),
}

/// One request of the tour.
pub(super) struct Step {
    /// Stands above it, where a new part of the tour begins.
    pub(super) heading: Option<&'static str>,
    pub(super) edit: Edit,
    pub(super) method: &'static str,
    pub(super) target: &'static str,
    pub(super) who: &'static str,
    pub(super) caller: Caller,
    pub(super) header: Option<(&'static str, &'static str)>,
    pub(super) expected: Expected,
    /// What it shows, in one sentence.
    pub(super) shows: &'static str,
}

impl Step {
    /// What is not as expected: verdict, policy, what the upstream heard, or an id that is told in two ways.
    pub(super) fn fault(&self, seen: &Seen) -> Option<String> {
        let (status, reason, policy) = match self.expected {
            Expected::Passes { policy, .. } => (200, Some("permitted"), Some(policy)),
            Expected::Refused(status, reason, policy) => (status, Some(reason), policy),
            Expected::NotAsked(status) => (status, None, None),
        };
        let authz = seen.authz.as_ref();
        if seen.status != status {
            return Some(format!("the status should be {status}"));
        }
        if authz.map(|authz| authz.reason.as_str()) != reason {
            return Some(format!(
                "the reason should be {}",
                reason.unwrap_or("envoy's own")
            ));
        }
        if let (Some(policy), Some(authz)) = (policy, authz)
            && !authz.policies.iter().any(|named| named == policy)
        {
            return Some(format!("{policy} should have decided"));
        }
        if authz.map(|authz| &authz.decision) != seen.told.as_ref() {
            return Some(
                "the decision's id differs between envoy and whoever was told it".to_owned(),
            );
        }
        self.upstream_fault(seen)
    }

    fn upstream_fault(&self, seen: &Seen) -> Option<String> {
        let Expected::Passes {
            upstream: (name, value),
            ..
        } = self.expected
        else {
            return (!seen.upstream.is_empty())
                .then(|| "the request reached the upstream".to_owned());
        };
        let heard = seen.upstream.get(name).map(String::as_str);
        (heard != value).then(|| {
            format!(
                "the upstream should hear {name}: {}",
                value.unwrap_or("nothing")
            )
        })
    }
}

const ALICE: Caller = Caller::User(User::Alice, Flaw::Nothing);
const CAROL: Caller = Caller::User(User::Carol, Flaw::Nothing);

/// The rule that the tour adds.
const CLOSED: &str = "\n// Added by the tour.\n@id(\"tour-no-new-orders\")\n\
    forbid (principal, action == Cardea::Action::\"orders.createOrder\", resource);\n";

/// A step with a token or without one, and nothing else about it.
const fn step(
    (method, target): (&'static str, &'static str),
    (who, caller): (&'static str, Caller),
    expected: Expected,
    shows: &'static str,
) -> Step {
    Step {
        heading: None,
        edit: Edit::None,
        method,
        target,
        who,
        caller,
        header: None,
        expected,
        shows,
    }
}

const fn passes(policy: &'static str, subject: Option<&'static str>) -> Expected {
    Expected::Passes {
        policy,
        upstream: ("x-cardea-subject", subject),
    }
}

/// The whole tour.
pub(super) fn all() -> Vec<Step> {
    let parts = [
        ("Who is calling?", callers()),
        ("May they?", rights()),
        ("Is this a door at all?", doors()),
        ("A policy is edited while requests come in", edits()),
    ];
    let mut all = Vec::new();
    for (heading, mut steps) in parts {
        if let Some(first) = steps.first_mut() {
            first.heading = Some(heading);
        }
        all.append(&mut steps);
    }
    all
}

fn callers() -> Vec<Step> {
    let order = ("GET", "/v1/orders/1001");
    let flawed = |flaw| Caller::User(User::Alice, flaw);
    let invalid = Expected::Refused(401, "credential_invalid", None);
    vec![
        step(
            ("GET", "/v1/status"),
            ("nobody", Caller::Nobody),
            passes("status-is-public", None),
            "A policy opens this route to everybody; nothing is open by itself.",
        ),
        Step {
            header: Some(("x-cardea-subject", "root")),
            ..step(
                ("GET", "/v1/status"),
                ("nobody, who claims to be root", Caller::Nobody),
                passes("status-is-public", None),
                "The claim is gone before any filter runs: the upstream hears of no root.",
            )
        },
        step(
            order,
            ("nobody", Caller::Nobody),
            Expected::Refused(401, "credential_missing", None),
            "Without a token: a challenge that says what is needed.",
        ),
        step(
            order,
            ("alice", ALICE),
            passes("orders-read-by-role", Some("alice")),
            "Role, scope and audience fit; the upstream hears who is calling.",
        ),
        step(
            order,
            ("alice, token expired", flawed(Flaw::Expired)),
            invalid,
            "A good token once. The answer does not say what is wrong with it now.",
        ),
        step(
            order,
            ("alice, token for another API", flawed(Flaw::OtherAudience)),
            invalid,
            "Right issuer, right signature, meant for somebody else.",
        ),
        step(
            order,
            ("alice, token forged", flawed(Flaw::ForgedSignature)),
            invalid,
            "The same claims under the same key id, signed by a stranger.",
        ),
    ]
}

fn rights() -> Vec<Step> {
    vec![
        step(
            ("POST", "/v1/orders"),
            ("carol, who may only look", CAROL),
            Expected::Refused(403, "not_permitted", None),
            "The scope would do, the role does not: no policy permits it.",
        ),
        step(
            ("DELETE", "/v1/orders/1001"),
            ("alice", ALICE),
            passes("owner-cancels-order", Some("alice")),
            "Order 1001 is hers.",
        ),
        step(
            ("DELETE", "/v1/orders/1002"),
            ("alice", ALICE),
            Expected::Refused(403, "not_permitted", None),
            "Order 1002 is bob's: same role, same scope, another owner.",
        ),
        step(
            ("GET", "/v1/users/bob"),
            ("alice", ALICE),
            Expected::Refused(403, "forbidden", Some("profile-of-others")),
            "Somebody else's profile: a forbid outweighs every permit.",
        ),
        step(
            ("GET", "/v1/orders/2001"),
            ("alice", ALICE),
            Expected::Refused(403, "forbidden", Some("tenant-isolation")),
            "Order 2001 belongs to another tenant; no role in her own reaches across.",
        ),
    ]
}

fn doors() -> Vec<Step> {
    vec![
        step(
            ("GET", "/v1/debug"),
            ("alice", ALICE),
            Expected::Refused(403, "forbidden", Some("undocumented-operation")),
            "No API document describes it, so nobody gets in, whatever is deployed there.",
        ),
        step(
            ("GET", "/v0/orders"),
            ("alice", ALICE),
            Expected::Refused(410, "retired", Some("retired-api")),
            "The document says this version is out of service, and so does the answer.",
        ),
        step(
            ("GET", "/v1/orders/1001;v=2"),
            ("alice", ALICE),
            Expected::Refused(400, "ambiguous_path", None),
            "Some servers cut a path at `;`, some do not. Cardea does not guess.",
        ),
        step(
            ("GET", "/v1/orders/..%2f..%2fadmin"),
            ("alice", ALICE),
            Expected::NotAsked(400),
            "This one the hardened Envoy refuses by itself, before it asks.",
        ),
    ]
}

fn edits() -> Vec<Step> {
    let order = ("POST", "/v1/orders");
    vec![
        step(
            order,
            ("alice", ALICE),
            passes("orders-create", Some("alice")),
            "Alice may place orders.",
        ),
        Step {
            edit: Edit::Add(CLOSED),
            ..step(
                order,
                ("alice", ALICE),
                Expected::Refused(403, "forbidden", Some("tour-no-new-orders")),
                "A rule was added to examples/orders.cedar: in force at once, nothing was restarted.",
            )
        },
        Step {
            edit: Edit::TakeBack,
            ..step(
                order,
                ("alice", ALICE),
                passes("orders-create", Some("alice")),
                "The rule was taken back.",
            )
        },
    ]
}
