//! Who turned an endpoint down, or was turned down by it.

use std::collections::VecDeque;

use super::error::Refused;
use crate::node::{NodeId, Refusal};

/// How many are remembered.
const REFUSALS_MAX: usize = 64;

/// The last of them, in order.
#[derive(Debug, Default)]
pub(super) struct Refusals(VecDeque<Refused>);

impl Refusals {
    pub(super) fn remember(&mut self, refused: Refused) {
        if self.0.len() == REFUSALS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(refused);
    }

    pub(super) fn list(&self) -> Vec<Refused> {
        self.0.iter().cloned().collect()
    }
}

/// A refusal in the words that users see.
pub(super) fn refused(node: NodeId, node_name: &str, refusal: Refusal) -> Refused {
    let (reason, difference) = match refusal {
        Refusal::Type(difference) => (difference.to_string(), Some(difference)),
        Refusal::Limit { what, limit } => (format!("{what} has reached its limit of {limit}"), None),
        Refusal::Unusable { reason } => (reason, None),
    };
    Refused { node, node_name: node_name.into(), reason, difference }
}
