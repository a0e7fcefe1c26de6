//! The keys as requests are held against them.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::digest::Ready;
use super::super::ground::{Ground, Lease};
use super::file::{KeyEntry, KeyFile, KeyState};
use super::key::KeyHash;
use crate::model::{IdentityAttributes, PrincipalKind};

/// All keys of one file. One look into a table whose places are keyed hashes: how long it takes says nothing of any key.
#[derive(Debug)]
pub(super) struct Store {
    keys: HashMap<KeyHash, Arc<Key>, Ready>,
    /// What "there is no such key" stands on: it ends with this file.
    pub(super) ground: Arc<Ground>,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) entry: KeyEntry,
    /// What proofs by this key stand on: it ends where the key's entry changes or goes.
    pub(super) ground: Arc<Ground>,
}

impl Store {
    /// The keys of a file. What did not change since `old` stays as it is, and all proofs by it.
    pub(super) fn new(file: &KeyFile, lease: &Arc<Lease>, old: Option<&Self>) -> Self {
        let keys = file.keys().iter().filter_map(|entry| {
            let hash = entry.key_hash()?;
            let kept = old.and_then(|old| old.keys.get(&hash));
            let kept = kept.filter(|kept| kept.entry == *entry);
            let fresh = || {
                Arc::new(Key {
                    entry: entry.clone(),
                    ground: Ground::under(lease),
                })
            };
            Some((hash, kept.map_or_else(fresh, Arc::clone)))
        });
        Self {
            keys: keys.collect(),
            ground: Ground::under(lease),
        }
    }

    /// The key of that hash.
    pub(super) fn find(&self, hash: &KeyHash) -> Option<&Arc<Key>> {
        self.keys.get(hash)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Ends every proof by a key that `new` does not hold just so, and every refusal of a key that was unknown.
    pub(super) fn withdraw_all_but(&self, new: &Self) {
        for (hash, key) in &self.keys {
            let same = new
                .keys
                .get(hash)
                .is_some_and(|kept| Arc::ptr_eq(kept, key));
            if !same {
                key.ground.withdraw();
            }
        }
        self.ground.withdraw();
    }
}

impl Key {
    /// Whether it was taken back.
    pub(super) fn revoked(&self) -> bool {
        self.entry.state == KeyState::Revoked
    }

    /// Whether its time has come to an end.
    pub(super) fn expired(&self, now: Timestamp) -> bool {
        now >= self.entry.expires_at
    }

    /// Who its bearer is.
    pub(super) fn attributes(&self, issuer: &Arc<str>) -> IdentityAttributes {
        let KeyEntry { id, owner, .. } = &self.entry;
        let own = owner.issuer.as_deref().map(Arc::from);
        let client = owner.kind == PrincipalKind::Client;
        IdentityAttributes {
            client_id: client.then(|| owner.subject.clone()),
            scopes: owner.scopes.clone(),
            roles: owner.roles.clone(),
            groups: owner.groups.clone(),
            tenant: owner.tenant.clone(),
            issued_at: Some(self.entry.created_at),
            key_id: Some(id.clone()),
            ..IdentityAttributes::of(
                owner.kind,
                "api_key",
                (
                    own.unwrap_or_else(|| Arc::clone(issuer)),
                    owner.subject.clone(),
                ),
                self.entry.expires_at,
            )
        }
    }
}
