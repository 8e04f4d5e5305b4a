//! Endpoints of our own: introducing, pairing and withdrawing them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::orphans::Survivor;
use super::{Control, OutletRecord, Pairing};
use crate::node::domain::{Channel, Role};
use crate::node::endpoint::{
    Admission, Inlet, Join, NewRing, Offer, Outlet, Peer, Refusal, Segment, Violation,
};
use crate::node::error::EndpointError;
use crate::node::identity::{EndpointId, NodeId};
use crate::node::wire::{FRAME_BYTES_MAX, Frame};

impl Control {
    /// Introduces an outlet to every inlet of its channel. It is settled when all have answered.
    pub(in crate::node) fn add_outlet(&mut self, outlet: Arc<dyn Outlet>) -> Result<(), EndpointError> {
        let (id, channel) = (outlet.id(), outlet.channel().clone());
        // One that offers nothing any more is known to nobody.
        let Some(offer) = outlet.offer() else { return Ok(()) };
        let is_sendable = offer.descriptor.is_sendable();
        let offer = Frame::Offer(Box::new(offer));
        if !is_sendable || offer.encode().is_none() {
            let name = channel.name().to_owned();
            return Err(EndpointError::DescriptorTooLong { name, limit: FRAME_BYTES_MAX });
        }
        self.enter(Role::Outlet, &channel, id)?;
        self.outlets.insert(id.number, OutletRecord::new(&outlet, None));
        let inlets: Vec<_> =
            self.inlets.values().filter(|inlet| *inlet.channel() == channel).cloned().collect();
        for inlet in inlets {
            self.pair(&outlet, &inlet);
        }
        self.introduce(Role::Outlet, &channel, id, &offer)
    }

    /// Introduces an inlet to every outlet and hub of its channel. It is settled when all have let it in or refused.
    pub(in crate::node) fn add_inlet(&mut self, inlet: Arc<dyn Inlet>) -> Result<(), EndpointError> {
        let (id, channel) = (inlet.id(), inlet.channel().clone());
        self.enter(Role::Inlet, &channel, id)?;
        self.inlets.insert(id.number, Arc::clone(&inlet));
        let open =
            self.outlets.values().filter(|record| !record.is_closed && *record.outlet.channel() == channel);
        let common = open.filter(|record| record.lane.is_none());
        let outlets: Vec<_> = common.map(|record| Arc::clone(&record.outlet)).collect();
        for outlet in outlets {
            self.pair(&outlet, &inlet);
            if let Some(offer) = outlet.offer() {
                self.seek_heirs_beside(&inlet, &offer);
            }
        }
        for hub in self.hubs_for(Role::Inlet, &channel) {
            self.open_own_lane(&hub, id);
        }
        let seek = Frame::Seek { inlet: id, role: Role::Inlet, channel: channel.clone() };
        self.introduce(Role::Inlet, &channel, id, &seek)?;
        self.seek_heirs_if_bereft(&inlet);
        Ok(())
    }

    pub(super) fn enter(&self, role: Role, channel: &Channel, id: EndpointId) -> Result<(), EndpointError> {
        let failed = |source| EndpointError::of_directory(format!("write the entry of {channel}"), source);
        self.membership.enter(role, channel, id.number).map_err(failed)
    }

    /// Sends a newcomer's first frame to every node that has an endpoint in the opposite role.
    pub(super) fn introduce(
        &mut self,
        role: Role,
        channel: &Channel,
        id: EndpointId,
        frame: &Frame,
    ) -> Result<(), EndpointError> {
        let entries = self.counterparts(role, channel)?;
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

    /// The endpoints that an endpoint in this role looks for, dead or alive.
    pub(super) fn counterparts(
        &self,
        role: Role,
        channel: &Channel,
    ) -> Result<Vec<EndpointId>, EndpointError> {
        let failed = |source| EndpointError::of_directory(format!("list the entries of {channel}"), source);
        self.membership.domain().entries(role.opposite(), channel).map_err(failed)
    }

    /// Whether everybody has answered an endpoint's introduction, and those of its lanes.
    pub(in crate::node) fn is_settled(&self, id: EndpointId) -> bool {
        let is_joining = |((_, inlet), pairing): (&(_, EndpointId), &Pairing)| {
            *inlet == id && *pairing == Pairing::Joining
        };
        let is_introducing =
            |(number, _): &(u64, NodeId)| *number == id.number || self.is_lane_of(*number, id);
        !self.pending.iter().any(is_introducing) && !self.pairs.iter().any(is_joining)
    }

    /// Pairs two endpoints of this node, without a socket; whether they agree.
    pub(super) fn pair(&mut self, outlet: &Arc<dyn Outlet>, inlet: &Arc<dyn Inlet>) -> bool {
        let own = self.own.clone();
        let Some(offer) = outlet.offer() else { return false };
        let join = match inlet.join(&own, offer) {
            Ok(join) => join,
            Err(refusal) => {
                self.turned_down((outlet.id(), inlet.id()), &own, refusal.turned());
                return false;
            }
        };
        match self.admit(&**outlet, &own, join) {
            Ok(admission) => {
                if let Some(record) = self.outlets.get_mut(&outlet.id().number) {
                    record.readers.insert(inlet.id());
                }
                self.pairs.insert((outlet.id(), inlet.id()), Pairing::Joined);
                let memory = admission.segments.iter().map(|segment| inlet.segment(segment.clone()));
                let mut memory = memory.chain(admission.ring.clone().map(|ring| inlet.ring(ring)));
                let paired = memory
                    .try_for_each(|followed| self.heed(outlet.id(), inlet, followed))
                    .and_then(|()| inlet.admitted(admission));
                if let Err(error) = &paired {
                    self.part_own(outlet.id(), inlet, error);
                }
                paired.is_ok()
            }
            Err(refusal) => {
                inlet.refused(outlet.id(), &own.name, refusal);
                self.drop_lane(outlet.id(), inlet.id());
                false
            }
        }
    }

    /// Lets an inlet in, once there is a bell line for its bit.
    pub(super) fn admit(
        &mut self,
        outlet: &dyn Outlet,
        peer: &Peer,
        join: Join,
    ) -> Result<Admission, Refusal> {
        self.ensure_lines(1).map_err(|error| Refusal::Unusable { reason: error.to_string() })?;
        let admission = outlet.admit(peer, join)?;
        if let Some(hub) = self.outlets.get(&outlet.id().number).and_then(|record| self.hub_of(record)) {
            hub.joined();
        }
        Ok(admission)
    }

    /// An inlet of ours sleeps on a descriptor of its own from now on: those whom it listens to are told.
    pub(in crate::node) fn lend_eventfd(&mut self, id: EndpointId) {
        let Some(eventfd) = self.inlets.get(&id.number).and_then(|inlet| inlet.eventfd()) else { return };
        let outlets: Vec<_> =
            self.pairs.keys().filter(|(_, inlet)| *inlet == id).map(|(outlet, _)| *outlet).collect();
        for outlet in outlets {
            if outlet.node == self.own.node {
                if let Some(record) = self.outlets.get(&outlet.number) {
                    record.outlet.listen(id, Arc::clone(&eventfd));
                }
            } else if let Some(&number) = self.by_node.get(&outlet.node) {
                self.send(number, &Frame::Listen { outlet, inlet: id, eventfd: Arc::clone(&eventfd) });
            }
        }
    }

    /// Two endpoints of ours cannot stay together: one of them broke the rules.
    fn part_own(&mut self, outlet: EndpointId, inlet: &Arc<dyn Inlet>, error: &Violation) {
        self.note_violation(&error.0);
        self.pairs.remove(&(outlet, inlet.id()));
        inlet.closed(outlet);
        self.part(outlet, inlet.id());
    }

    /// The offers of our outlets of this channel that are for everybody.
    pub(super) fn offers(&self, channel: &Channel) -> Vec<Offer> {
        let is_open = |record: &&OutletRecord| {
            !record.is_closed && record.lane.is_none() && record.outlet.channel() == channel
        };
        let open = self.outlets.values().filter(is_open);
        open.filter_map(|record| record.outlet.offer()).collect()
    }

    /// Sends a further pool segment to every reader; the receipt stands until each of those who are waited for has it on its
    /// way.
    pub(in crate::node) fn announce(
        &mut self,
        segment: &Segment,
        waited_for: &[EndpointId],
        receipt: &Arc<()>,
    ) {
        let Some(record) = self.outlets.get(&segment.outlet.number) else { return };
        let (ours, theirs): (Vec<_>, Vec<_>) =
            record.readers.iter().copied().partition(|reader| reader.node == self.own.node);
        let ours: Vec<_> =
            ours.iter().filter_map(|reader| self.inlets.get(&reader.number)).map(Arc::clone).collect();
        for inlet in ours {
            if let Err(error) = self.heed(segment.outlet, &inlet, inlet.segment(segment.clone())) {
                self.part_own(segment.outlet, &inlet, &error);
            }
        }
        let nodes: BTreeSet<NodeId> = theirs.iter().map(|reader| reader.node).collect();
        for node in nodes {
            if let Some(&number) = self.by_node.get(&node) {
                let is_waited_for = waited_for.iter().any(|reader| reader.node == node);
                let receipt = is_waited_for.then(|| Arc::clone(receipt));
                self.send_with_receipt(number, &Frame::Segment(segment.clone()), receipt);
            }
        }
    }

    /// An outlet of ours goes on in another ring, and has let go of some of its readers.
    pub(in crate::node) fn move_on(&mut self, ring: &NewRing, detached: &[EndpointId]) {
        let outlet = ring.outlet;
        for inlet in detached {
            if inlet.node == self.own.node {
                self.detached(outlet, *inlet);
            } else if let Some(&number) = self.by_node.get(&inlet.node) {
                self.send(number, &Frame::Detached { outlet, inlet: *inlet });
            }
        }
        let Some(record) = self.outlets.get(&outlet.number) else { return };
        let following = record.readers.iter().copied().filter(|reader| !detached.contains(reader));
        let (ours, theirs): (Vec<_>, Vec<_>) = following.partition(|reader| reader.node == self.own.node);
        let ours: Vec<_> =
            ours.iter().filter_map(|reader| self.inlets.get(&reader.number)).cloned().collect();
        for inlet in ours {
            if let Err(error) = self.heed(outlet, &inlet, inlet.ring(ring.clone())) {
                self.part_own(outlet, &inlet, &error);
            }
        }
        let nodes: BTreeSet<NodeId> = theirs.iter().map(|reader| reader.node).collect();
        for node in nodes {
            if let Some(&number) = self.by_node.get(&node) {
                self.send(number, &Frame::Ring(ring.clone()));
            }
        }
    }

    /// An outlet has let go of an inlet of ours.
    pub(super) fn detached(&mut self, outlet: EndpointId, inlet: EndpointId) {
        if self.pairs.remove(&(outlet, inlet)).is_some()
            && let Some(inlet) = self.inlets.get(&inlet.number)
        {
            inlet.detached(outlet);
        }
    }

    /// An outlet of ours has been dropped: its readers are told, and it stays until they have left.
    pub(in crate::node) fn remove_outlet(&mut self, id: EndpointId) {
        let Some(record) = self.outlets.get_mut(&id.number) else { return };
        record.is_closed = true;
        if record.lane.is_none() {
            self.membership.withdraw(Role::Outlet, record.outlet.channel(), id.number);
        }
        let nodes: BTreeSet<NodeId> = record.readers.iter().map(|reader| reader.node).collect();
        if record.readers.is_empty() {
            self.forget_outlet(id.number);
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
            self.membership.withdraw(Role::Inlet, inlet.channel(), id.number);
            self.forget_heir(&inlet);
            self.ask_no_more(&inlet);
        }
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
        self.reclaim(outlet, inlet);
        let record = self.outlets.get_mut(&outlet.number).filter(|record| record.outlet.id() == outlet);
        let Some(record) = record else { return };
        if record.readers.remove(&inlet) {
            record.outlet.part(inlet);
        }
        if record.is_closed && record.readers.is_empty() {
            self.forget_outlet(outlet.number);
        }
        self.drop_lane(outlet, inlet);
    }

    /// An outlet that inlets of ours read from has gone.
    pub(super) fn outlet_left(&mut self, outlet: EndpointId) {
        let paired: Vec<_> =
            self.pairs.keys().filter(|(of, _)| *of == outlet).map(|(_, inlet)| *inlet).collect();
        for id in paired {
            self.pairs.remove(&(outlet, id));
            if let Some(inlet) = self.inlets.get(&id.number).cloned() {
                inlet.closed(outlet);
                self.inherit(&inlet);
            }
        }
    }

    /// A node has gone, with all its endpoints. If its process may still be alive, `survivor` says how its end is seen: until
    /// then, what it has been lent stays as it is.
    pub(super) fn forget_node(&mut self, node: NodeId, survivor: Option<Survivor>) {
        let unanswered: Vec<_> = self.pending.extract_if(|(_, of)| *of == node).collect();
        self.owed.forget(node);
        self.inspect_no_more(node);
        for nodes in self.seekers.values_mut() {
            nodes.remove(&node);
        }
        let outlets: HashSet<_> =
            self.pairs.keys().map(|(outlet, _)| *outlet).filter(|id| id.node == node).collect();
        outlets.into_iter().for_each(|outlet| self.outlet_left(outlet));
        let readers = self
            .outlets
            .values()
            .flat_map(|record| record.readers.iter().map(|id| (record.outlet.id(), *id)));
        let gone: Vec<_> = readers.filter(|(_, inlet)| inlet.node == node).collect();
        // What lies in a lane is read by nobody else, and not used again.
        let (lanes, gone): (Vec<_>, Vec<_>) = gone.into_iter().partition(|(outlet, _)| self.is_lane(*outlet));
        lanes.into_iter().for_each(|(outlet, inlet)| self.part(outlet, inlet));
        self.drop_lanes_to(node);
        match survivor {
            Some(survivor) => self.orphan(survivor, &gone),
            None => gone.into_iter().for_each(|(outlet, inlet)| self.part(outlet, inlet)),
        }
        self.outlets.values().for_each(|record| record.outlet.progressed());
        for (number, _) in unanswered {
            if let Some(inlet) = self.inlets.get(&number).cloned() {
                self.seek_heirs_if_bereft(&inlet);
            }
        }
    }

    /// A node cannot be talked to: each endpoint of ours that it has a counterpart for is refused.
    pub(super) fn refuse_all(&mut self, node: NodeId, node_name: &str, refusal: &Refusal) {
        let entries =
            |role, channel: &Channel| self.membership.domain().entries(role, channel).unwrap_or_default();
        for inlet in self.inlets.values() {
            for outlet in entries(Role::Outlet, inlet.channel()).into_iter().filter(|id| id.node == node) {
                inlet.refused(outlet, node_name, refusal.clone());
            }
        }
        for record in self.outlets.values().filter(|record| record.lane.is_none()) {
            if entries(Role::Inlet, record.outlet.channel()).iter().any(|id| id.node == node) {
                record.outlet.refused(node, node_name, refusal.clone());
            }
        }
        for hub in self.hubs.values() {
            if entries(hub.role().opposite(), hub.channel()).iter().any(|id| id.node == node) {
                hub.refused(node, node_name, refusal.clone());
            }
        }
    }
}
