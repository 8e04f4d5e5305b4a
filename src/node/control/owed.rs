//! Answers that are still to come to those of ours who have gone.
//!
//! An offer does not say whose question it answers. Who looks for a region is content with the first answer, and goes; an answer that
//! comes later would be taken for one to whoever looks next, although the name may have been taken away, or the region be gone, since.
//! Where others look, who offers something withdraws it as well.

use std::collections::HashMap;
use std::sync::Arc;

use super::Control;
use crate::node::domain::{Channel, Pattern};
use crate::node::endpoint::{Inlet, Offer};
use crate::node::identity::NodeId;

/// By node and region, the number of the last inlet that has gone before it was answered. One at a time asks for a region, which its
/// claim sees to.
#[derive(Debug, Default)]
pub(super) struct Owed(HashMap<(NodeId, Channel), u64>);

impl Owed {
    /// An inlet goes that this node has not answered.
    fn note(&mut self, node: NodeId, channel: &Channel, number: u64) {
        if channel.pattern() == Pattern::Region {
            self.0.insert((node, channel.clone()), number);
        }
    }

    fn has(&self, node: NodeId, channel: &Channel) -> bool {
        self.0.contains_key(&(node, channel.clone()))
    }

    /// A node has answered this endpoint.
    fn answered(&mut self, node: NodeId, number: u64) {
        self.0.retain(|(of, _), last| *of != node || *last != number);
    }

    /// A node has gone.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.0.retain(|(of, _), _| *of != node);
    }
}

impl Control {
    /// An inlet of ours has gone, answered by everybody or not.
    pub(super) fn ask_no_more(&mut self, inlet: &Arc<dyn Inlet>) {
        let number = inlet.id().number;
        for (_, node) in self.pending.extract_if(|(of, _)| *of == number) {
            self.owed.note(node, inlet.channel(), number);
        }
    }

    /// A node has answered the introduction of this endpoint of ours.
    pub(super) fn note_answered(&mut self, by: NodeId, endpoint: u64) {
        self.pending.remove(&(endpoint, by));
        self.owed.answered(by, endpoint);
        if let Some(inlet) = self.inlets.get(&endpoint).cloned() {
            self.seek_heirs_if_bereft(&inlet);
        }
    }

    /// Whether an offer of a node's is for this inlet, which is not paired with it yet. One of a region is for whoever has asked for it.
    pub(super) fn is_for(&self, offer: &Offer, by: NodeId, inlet: &Arc<dyn Inlet>) -> bool {
        let channel = &offer.channel;
        let is_asked_for = || self.pending.contains(&(inlet.id().number, by)) && !self.owed.has(by, channel);
        inlet.channel() == channel
            && !self.pairs.contains_key(&(offer.outlet, inlet.id()))
            && (channel.pattern() != Pattern::Region || is_asked_for())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_so_until_the_last_who_asked_is_answered() {
        let [first, second] = [8, 9].map(NodeId::from_bits);
        let channel = |pattern| Channel::new(pattern, "t").expect("it is a name");
        let (region, topic) = (channel(Pattern::Region), channel(Pattern::Topic));
        let mut owed = Owed::default();
        owed.note(first, &topic, 4);
        assert!(!owed.has(first, &topic), "who offers a topic withdraws it as well");
        owed.note(first, &region, 5);
        owed.note(first, &region, 7);
        owed.note(second, &region, 7);
        for number in [4, 5] {
            owed.answered(first, number);
            assert!(owed.has(first, &region));
        }
        owed.answered(first, 7);
        assert!(!owed.has(first, &region) && owed.has(second, &region));
        owed.forget(second);
        assert!(owed.0.is_empty());
    }
}
