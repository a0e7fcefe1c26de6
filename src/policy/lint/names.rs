//! Roles and groups that nothing but a policy names: mostly a slip of the pen, which makes a permit useless and a forbid
//! dangerous.

use std::collections::BTreeSet;

use cedar_policy_core::ast::{EntityUID, ExprKind, Literal};
use cedar_policy_core::parser::Loc;

use super::{Ground, Judged, Rule, Warning};
use crate::policy::nearest::nearest;
use crate::policy::slice::Place;
use crate::policy::value::Kind;

/// One kind of name, and who may know it.
struct Known<'a> {
    rule: Rule,
    kind: Kind,
    what: &'static str,
    names: BTreeSet<&'a str>,
    /// What issuers put before such names.
    prefixes: &'a [String],
}

impl Ground<'_> {
    /// Names that entity files do not know, where entity files name any of their kind.
    pub(super) fn names(&self, warnings: &mut Vec<Warning>) {
        let surroundings = self.surroundings;
        let owners = self
            .operations
            .iter()
            .filter_map(|(o, _)| o.route.api.owner.as_deref());
        let mut groups = self.listed(Kind::Group);
        if !groups.is_empty() {
            groups.extend(owners);
        }
        let kinds = [
            Known {
                rule: Rule::UnknownRole,
                kind: Kind::Role,
                what: "role",
                names: self.listed(Kind::Role),
                prefixes: &surroundings.role_prefixes,
            },
            Known {
                rule: Rule::UnknownGroup,
                kind: Kind::Group,
                what: "group",
                names: groups,
                prefixes: &surroundings.group_prefixes,
            },
        ];
        for known in kinds.iter().filter(|known| !known.names.is_empty()) {
            for judged in &self.judged {
                warnings.extend(judged.unknown(known));
            }
        }
    }

    /// The names of a kind in the entity files: what they describe, and what they put others into.
    fn listed(&self, kind: Kind) -> BTreeSet<&str> {
        let all = self.policies.statics.all();
        all.flat_map(|entity| std::iter::once(entity.uid()).chain(entity.ancestors()))
            .filter(|uid| uid.entity_type() == kind.entity_type())
            .map(|uid| uid.eid().as_ref())
            .collect()
    }
}

impl Known<'_> {
    fn knows(&self, name: &str) -> bool {
        let issued = |prefix: &String| !prefix.is_empty() && name.starts_with(prefix.as_str());
        self.names.contains(name) || self.prefixes.iter().any(issued)
    }

    /// The name that is most like it, if one is close.
    fn meant(&self, name: &str) -> Option<&str> {
        nearest(name, self.names.iter().copied())
    }
}

impl Judged<'_> {
    fn unknown(&self, known: &Known<'_>) -> Vec<Warning> {
        let mut told = BTreeSet::new();
        self.entities()
            .filter(|(uid, _)| uid.entity_type() == known.kind.entity_type())
            .map(|(uid, loc)| (AsRef::<str>::as_ref(uid.eid()), loc))
            .filter(|(name, _)| !known.knows(name) && told.insert((*name).to_owned()))
            .map(|(name, loc)| {
                let (id, what) = (&self.compiled.id, known.what);
                let hint = match known.meant(name) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!(
                        "describe it in the entity files, or set the issuer's `claims.{what}_prefix` if a token brings it"
                    ),
                };
                let message = format!("the policy `{id}` names the {what} `{name}`, which no entity file knows");
                self.warning_at(loc, known.rule, message, hint)
            })
            .collect()
    }

    /// The entities a policy names, in its scope and its conditions.
    fn entities(&self) -> impl Iterator<Item = (&EntityUID, Option<&Loc>)> {
        let scope = [&self.compiled.principal, &self.compiled.resource];
        let scope = scope.into_iter().filter_map(|scope| match &scope.place {
            Place::Anywhere => None,
            Place::Exactly(uid) | Place::In(uid) => Some((uid, uid.loc())),
        });
        let conditions = self
            .expressions()
            .filter_map(|expr| match expr.expr_kind() {
                ExprKind::Lit(Literal::EntityUID(uid)) => Some((&**uid, expr.source_loc())),
                _ => None,
            });
        scope.chain(conditions)
    }
}
