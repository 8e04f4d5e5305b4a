//! Heirs of our own: inlets that keep what outlets leave, and pass it on to those that come later.
//!
//! A newcomer that finds no outlet looks for other inlets of its channel, if there ever was an outlet. Who is asked offers
//! an outlet that passes on what it keeps; if it has nothing yet, because it has not heard of the end of an outlet, as
//! soon as it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Control, OutletRecord};
use crate::node::domain::{Channel, Role};
use crate::node::endpoint::{Heir, Inlet, Offer, Outlet};
use crate::node::identity::{EndpointId, NodeId};
use crate::node::wire::Frame;

/// Bell lines that the outlet of an heir needs.
const LINES_PER_RELAY: usize = 2;

impl Control {
    /// An inlet that has no outlet, nor waits for anybody's answer, looks for heirs.
    pub(super) fn seek_heirs_if_bereft(&mut self, inlet: &Arc<dyn Inlet>) {
        let Some(heir) = inlet.heir() else { return };
        let id = inlet.id();
        let is_waiting = self.pending.iter().any(|(number, _)| *number == id.number);
        let is_paired = self.pairs.keys().any(|(_, paired)| *paired == id);
        if !is_waiting && !is_paired && heir.lacks_value(None) {
            self.seek_heirs(inlet);
        }
    }

    /// A newcomer looks for heirs beside an outlet that has sent nothing yet, though others have before it.
    pub(super) fn seek_heirs_beside(&mut self, inlet: &Arc<dyn Inlet>, offer: &Offer) {
        if inlet.heir().is_some_and(|heir| heir.lacks_value(Some(offer))) {
            self.seek_heirs(inlet);
        }
    }

    /// Looks for heirs, once until the next outlet ends.
    fn seek_heirs(&mut self, inlet: &Arc<dyn Inlet>) {
        let (id, channel) = (inlet.id(), inlet.channel().clone());
        if !self.membership.domain().was_claimed(&channel) || !self.sought.insert(id.number) {
            return;
        }
        if let Some(relay) = self.make_relay(&channel) {
            self.pair(&relay, inlet);
        }
        let seek = Frame::Seek { inlet: id, role: Role::Inlet, channel: channel.clone() };
        let entries = self.membership.domain().entries(Role::Inlet, &channel).unwrap_or_default();
        let nodes: BTreeSet<NodeId> = entries.into_iter().map(|entry| entry.node).collect();
        for node in nodes.into_iter().filter(|node| *node != self.own.node).collect::<Vec<_>>() {
            // Who cannot be reached has nothing to give.
            if let Ok(Some(number)) = self.reach(node) {
                self.pending.insert((id.number, node));
                self.send(number, &seek);
            }
        }
    }

    /// A peer's inlet looks for outlets: an heir of ours has one, now or later.
    pub(super) fn serve_seeker(&mut self, node: NodeId, channel: &Channel) {
        if self.heirs(channel).next().is_some() {
            self.seekers.entry(channel.clone()).or_default().insert(node);
            self.make_relay(channel);
        }
    }

    fn heirs(&self, channel: &Channel) -> impl Iterator<Item = &Arc<dyn Inlet>> {
        self.inlets.values().filter(move |inlet| inlet.heir().is_some() && inlet.channel() == channel)
    }

    /// The outlet of the heir that keeps the newest message, if any keeps one.
    fn make_relay(&mut self, channel: &Channel) -> Option<Arc<dyn Outlet>> {
        self.ensure_lines(LINES_PER_RELAY).ok()?;
        let version_of = |inlet: &&Arc<dyn Inlet>| inlet.heir().map_or(0, Heir::version_left);
        let heir = self.heirs(channel).max_by_key(version_of)?.clone();
        self.retire_relay(heir.id());
        let relay = heir.heir()?.relay()?;
        self.outlets.entry(relay.id().number).or_insert_with(|| OutletRecord::new(&relay, None));
        Some(relay)
    }

    /// An outlet of this inlet has ended. What it has left is passed on to those who have been looking for it.
    pub(super) fn inherit(&mut self, inlet: &Arc<dyn Inlet>) {
        let Some(heir) = inlet.heir() else { return };
        self.sought.remove(&inlet.id().number);
        self.retire_relay(inlet.id());
        if heir.version_left() > 0 {
            self.pass_on(inlet.channel());
        }
        self.seek_heirs_if_bereft(inlet);
    }

    /// Offers what an heir of ours keeps to those who have been looking for it, and lack it.
    pub(in crate::node) fn pass_on(&mut self, channel: &Channel) {
        let lacks_value = |inlet: &&Arc<dyn Inlet>| inlet.heir().is_some_and(|heir| heir.lacks_value(None));
        let ours: Vec<_> = self.heirs(channel).filter(lacks_value).cloned().collect();
        let theirs: Vec<_> = self.seekers.get(channel).into_iter().flatten().copied().collect();
        if ours.is_empty() && theirs.is_empty() {
            return;
        }
        let Some(relay) = self.make_relay(channel) else { return };
        for inlet in ours
            .iter()
            .filter(|inlet| !self.pairs.contains_key(&(relay.id(), inlet.id())))
            .collect::<Vec<_>>()
        {
            self.pair(&relay, inlet);
        }
        for node in theirs {
            if let Some(&number) = self.by_node.get(&node)
                && let Some(offer) = relay.offer()
            {
                self.send(number, &Frame::Offer(Box::new(offer)));
            }
        }
    }

    /// An heir of ours passes on no more what it does not keep.
    pub(in crate::node) fn retire_relay(&mut self, inlet: EndpointId) {
        let outdated = self.inlets.get(&inlet.number).and_then(|inlet| inlet.heir()?.retire(false));
        if let Some(outlet) = outdated {
            self.remove_outlet(outlet);
        }
    }

    /// An inlet of ours has left; it was the last of its channel perhaps.
    pub(super) fn forget_heir(&mut self, inlet: &Arc<dyn Inlet>) {
        let Some(heir) = inlet.heir() else { return };
        self.sought.remove(&inlet.id().number);
        if let Some(outlet) = heir.retire(true) {
            self.remove_outlet(outlet);
        }
        if self.heirs(inlet.channel()).next().is_none() {
            self.seekers.remove(inlet.channel());
        }
    }
}
