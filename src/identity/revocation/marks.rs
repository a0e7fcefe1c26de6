//! Short names for what can be revoked, to find things by.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};

use super::event::{Kind, Parts, Target, names};
use crate::model::IdentityAttributes;

/// Makes marks. A mark only finds candidates: two things may share one, so whoever finds something by its mark compares
/// names afterwards. They are keyed, so that nobody can make names that share marks.
#[derive(Debug, Clone, Default)]
pub(in crate::identity) struct Marks(RandomState);

impl Marks {
    /// The mark of what is revoked.
    pub(in crate::identity) fn of_target(&self, target: &Target) -> u64 {
        let Parts { kind, issuer, name } = target.parts();
        self.mark(kind, issuer.unwrap_or_default(), name.unwrap_or_default())
    }

    /// The marks under which a credential can be revoked: seven at most where its holder acts for nobody.
    pub(in crate::identity) fn of(&self, holder: &IdentityAttributes) -> impl Iterator<Item = u64> {
        names(holder).map(|(kind, issuer, name)| self.mark(kind, issuer, &name))
    }

    /// Names that mean something without an issuer are marked without one, for targets may leave it out.
    fn mark(&self, kind: Kind, issuer: &str, name: &str) -> u64 {
        let mut hasher = self.0.build_hasher();
        kind.hash(&mut hasher);
        if kind.within_issuer() {
            issuer.hash(&mut hasher);
        }
        name.hash(&mut hasher);
        hasher.finish()
    }
}
