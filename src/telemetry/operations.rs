//! Which operations get a label of their own.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use opentelemetry::Value;

use crate::model::{Matched, shown};

/// The label of a request that was refused before its operation was found.
const UNREAD: &str = "unread";
/// The label of operations beyond the cap.
const OTHER: &str = "other";

/// The first operations seen, up to a cap. Read without a lock; copied when it grows, which ends at the cap.
#[derive(Debug)]
pub(super) struct Operations {
    known: ArcSwap<HashMap<Arc<str>, Arc<str>>>,
    most: usize,
}

impl Operations {
    pub(super) fn new(most: usize) -> Self {
        Self {
            known: ArcSwap::default(),
            most,
        }
    }

    /// The label for an operation.
    pub(super) fn label(&self, matched: Option<&Matched>) -> Value {
        let Some(matched) = matched else {
            return UNREAD.into();
        };
        let id = &matched.operation.id;
        let known = self.known.load();
        if let Some(label) = known.get(id) {
            return Arc::clone(label).into();
        }
        if known.len() >= self.most {
            return OTHER.into();
        }
        drop(known);
        self.admit(id)
    }

    fn admit(&self, id: &Arc<str>) -> Value {
        let label: Arc<str> = shown(id, 128).into();
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            if known.len() < self.most {
                known.insert(Arc::clone(id), Arc::clone(&label));
            }
            known
        });
        match self.known.load().get(id) {
            Some(label) => Arc::clone(label).into(),
            None => OTHER.into(),
        }
    }
}
