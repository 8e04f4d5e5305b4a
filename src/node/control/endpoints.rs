//! Endpoints of our own: introducing, pairing and withdrawing them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::{Control, OutletRecord, Pairing};
use crate::node::domain::{Name, Role};
use crate::node::endpoint::{Inlet, Offer, Outlet, Refusal, Segment, Violation};
use crate::node::error::EndpointError;
use crate::node::identity::{EndpointId, NodeId};
use crate::node::wire::{FRAME_BYTES_MAX, Frame};

impl Control {
    /// Introduces an outlet to every inlet of its name. It is settled when all have answered.
    pub(in crate::node) fn add_outlet(&mut self, outlet: Arc<dyn Outlet>) -> Result<(), EndpointError> {
        let (id, name) = (outlet.id(), outlet.name().clone());
        let offer = outlet.offer();
        let is_sendable = offer.descriptor.is_sendable();
        let offer = Frame::Offer(offer);
        if !is_sendable || offer.encode().is_none() {
            let name = name.as_str().to_owned();
            return Err(EndpointError::DescriptorTooLong { name, limit: FRAME_BYTES_MAX });
        }
        self.enter(Role::Outlet, &name, id)?;
        let record = OutletRecord { outlet: Arc::clone(&outlet), is_closed: false, readers: HashSet::new() };
        self.outlets.insert(id.number, record);
        let inlets: Vec<_> = self.inlets.values().filter(|inlet| *inlet.name() == name).cloned().collect();
        inlets.iter().for_each(|inlet| self.pair(&outlet, inlet));
        self.introduce(Role::Outlet, &name, id, &offer)
    }

    /// Introduces an inlet to every outlet of its name. It is settled when all have let it in or refused.
    pub(in crate::node) fn add_inlet(&mut self, inlet: Arc<dyn Inlet>) -> Result<(), EndpointError> {
        let (id, name) = (inlet.id(), inlet.name().clone());
        self.enter(Role::Inlet, &name, id)?;
        self.inlets.insert(id.number, Arc::clone(&inlet));
        let open = self.outlets.values().filter(|record| !record.is_closed && *record.outlet.name() == name);
        let outlets: Vec<_> = open.map(|record| Arc::clone(&record.outlet)).collect();
        outlets.iter().for_each(|outlet| self.pair(outlet, &inlet));
        let seek = Frame::Seek { inlet: id, name: name.clone() };
        self.introduce(Role::Inlet, &name, id, &seek)
    }

    fn enter(&self, role: Role, name: &Name, id: EndpointId) -> Result<(), EndpointError> {
        let failed =
            |source| EndpointError::Directory { action: format!("write the entry of `{name}`"), source };
        self.membership.enter(role, name, id.number).map_err(failed)
    }

    /// Sends a newcomer's first frame to every node that has an endpoint in the opposite role.
    fn introduce(
        &mut self,
        role: Role,
        name: &Name,
        id: EndpointId,
        frame: &Frame,
    ) -> Result<(), EndpointError> {
        let failed =
            |source| EndpointError::Directory { action: format!("list the entries of `{name}`"), source };
        let entries = self.membership.domain().entries(role.opposite(), name).map_err(failed)?;
        let nodes: BTreeSet<NodeId> = entries.into_iter().map(|entry| entry.node).collect();
        for node in nodes {
            if node != self.own.node
                && let Some(number) = self.reach(node)?
            {
                self.pending.insert((id.number, node));
                self.send(number, frame);
            }
        }
        Ok(())
    }

    /// Whether everybody has answered an endpoint's introduction.
    pub(in crate::node) fn is_settled(&self, id: EndpointId) -> bool {
        let is_joining = |((_, inlet), pairing): (&(_, EndpointId), &Pairing)| {
            *inlet == id && *pairing == Pairing::Joining
        };
        !self.pending.iter().any(|(number, _)| *number == id.number) && !self.pairs.iter().any(is_joining)
    }

    /// Pairs two endpoints of this node, without a socket.
    fn pair(&mut self, outlet: &Arc<dyn Outlet>, inlet: &Arc<dyn Inlet>) {
        let own = self.own.clone();
        let join = match inlet.join(&own, outlet.offer()) {
            Ok(join) => join,
            Err(refusal) => return outlet.refused(own.node, &own.name, refusal.turned()),
        };
        match outlet.admit(&own, join) {
            Ok(admission) => {
                if let Some(record) = self.outlets.get_mut(&outlet.id().number) {
                    record.readers.insert(inlet.id());
                }
                self.pairs.insert((outlet.id(), inlet.id()), Pairing::Joined);
                let paired = admission.segments.iter().try_for_each(|segment| inlet.segment(segment.clone()));
                if let Err(error) = paired.and_then(|()| inlet.admitted(admission)) {
                    self.part_own(outlet.id(), inlet, &error);
                }
            }
            Err(refusal) => inlet.refused(outlet.id(), &own.name, refusal),
        }
    }

    /// Two endpoints of ours cannot stay together: there is no memory to map the other's.
    fn part_own(&mut self, outlet: EndpointId, inlet: &Arc<dyn Inlet>, error: &Violation) {
        self.note_violation(&error.0);
        self.pairs.remove(&(outlet, inlet.id()));
        inlet.closed(outlet);
        self.part(outlet, inlet.id());
    }

    /// The offers of our outlets of this name.
    pub(super) fn offers(&self, name: &Name) -> Vec<Offer> {
        let open = self.outlets.values().filter(|record| !record.is_closed && record.outlet.name() == name);
        open.map(|record| record.outlet.offer()).collect()
    }

    /// Sends a further pool segment to every reader; the receipt stands until each has it on its way.
    pub(in crate::node) fn announce(&mut self, segment: &Segment, receipt: &Arc<()>) {
        let Some(record) = self.outlets.get(&segment.outlet.number) else { return };
        let (ours, theirs): (Vec<_>, Vec<_>) =
            record.readers.iter().copied().partition(|reader| reader.node == self.own.node);
        let ours: Vec<_> =
            ours.iter().filter_map(|reader| self.inlets.get(&reader.number)).map(Arc::clone).collect();
        for inlet in ours {
            if let Err(error) = inlet.segment(segment.clone()) {
                self.part_own(segment.outlet, &inlet, &error);
            }
        }
        let nodes: BTreeSet<NodeId> = theirs.iter().map(|reader| reader.node).collect();
        for node in nodes {
            if let Some(&number) = self.by_node.get(&node) {
                self.send_with_receipt(number, &Frame::Segment(segment.clone()), Some(Arc::clone(receipt)));
            }
        }
    }

    /// An outlet of ours has been dropped: its readers are told, and it stays until they have left.
    pub(in crate::node) fn remove_outlet(&mut self, id: EndpointId) {
        let Some(record) = self.outlets.get_mut(&id.number) else { return };
        record.is_closed = true;
        self.membership.withdraw(Role::Outlet, record.outlet.name(), id.number);
        let nodes: BTreeSet<NodeId> = record.readers.iter().map(|reader| reader.node).collect();
        if record.readers.is_empty() {
            self.outlets.remove(&id.number);
        }
        for node in nodes {
            match self.by_node.get(&node) {
                Some(&number) => self.send(number, &Frame::OutletLeft { outlet: id }),
                None => self.outlet_left(id),
            }
        }
        self.pending.retain(|(number, _)| *number != id.number);
    }

    /// An inlet of ours has been dropped. Its pairs leave one by one, with their last held sample.
    pub(in crate::node) fn remove_inlet(&mut self, id: EndpointId) {
        if let Some(inlet) = self.inlets.remove(&id.number) {
            self.membership.withdraw(Role::Inlet, inlet.name(), id.number);
        }
        self.pending.retain(|(number, _)| *number != id.number);
    }

    /// An inlet of ours is done with an outlet.
    pub(in crate::node) fn leave_pair(&mut self, inlet: EndpointId, outlet: EndpointId) {
        self.pairs.remove(&(outlet, inlet));
        if let Some(inlet) = self.inlets.get(&inlet.number) {
            inlet.left(outlet);
        }
        if outlet.node == self.own.node {
            self.part(outlet, inlet);
        } else if let Some(&number) = self.by_node.get(&outlet.node) {
            self.send(number, &Frame::PairLeft { outlet, inlet });
        }
    }

    /// An inlet is done with an outlet of ours.
    pub(super) fn part(&mut self, outlet: EndpointId, inlet: EndpointId) {
        let Some(record) = self.outlets.get_mut(&outlet.number) else { return };
        if record.readers.remove(&inlet) {
            record.outlet.part(inlet);
        }
        if record.is_closed && record.readers.is_empty() {
            self.outlets.remove(&outlet.number);
        }
    }

    /// An outlet that inlets of ours read from has gone.
    pub(super) fn outlet_left(&mut self, outlet: EndpointId) {
        let paired: Vec<_> =
            self.pairs.keys().filter(|(of, _)| *of == outlet).map(|(_, inlet)| *inlet).collect();
        for id in paired {
            self.pairs.remove(&(outlet, id));
            if let Some(inlet) = self.inlets.get(&id.number) {
                inlet.closed(outlet);
            }
        }
    }

    /// A node has gone, with all its endpoints.
    pub(super) fn forget_node(&mut self, node: NodeId) {
        self.pending.retain(|(_, of)| *of != node);
        let outlets: HashSet<_> =
            self.pairs.keys().map(|(outlet, _)| *outlet).filter(|id| id.node == node).collect();
        outlets.into_iter().for_each(|outlet| self.outlet_left(outlet));
        let readers = self
            .outlets
            .values()
            .flat_map(|record| record.readers.iter().map(|id| (record.outlet.id(), *id)));
        let gone: Vec<_> = readers.filter(|(_, inlet)| inlet.node == node).collect();
        gone.into_iter().for_each(|(outlet, inlet)| self.part(outlet, inlet));
        self.outlets.values().for_each(|record| record.outlet.progressed());
    }

    /// A node cannot be talked to: each endpoint of ours that it has a counterpart for is refused.
    pub(super) fn refuse_all(&mut self, node: NodeId, node_name: &str, refusal: &Refusal) {
        let entries = |role, name: &Name| self.membership.domain().entries(role, name).unwrap_or_default();
        for inlet in self.inlets.values() {
            for outlet in entries(Role::Outlet, inlet.name()).into_iter().filter(|id| id.node == node) {
                inlet.refused(outlet, node_name, refusal.clone());
            }
        }
        for record in self.outlets.values() {
            if entries(Role::Inlet, record.outlet.name()).iter().any(|id| id.node == node) {
                record.outlet.refused(node, node_name, refusal.clone());
            }
        }
    }
}
