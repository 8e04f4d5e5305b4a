//! Hubs of our own, and their lanes: a stream for each counterpart, made when it shows up.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::{Control, LaneRecord, OutletRecord};
use crate::node::descriptor::TypeDescriptor;
use crate::node::domain::{Channel, Role};
use crate::node::endpoint::{Hub, Inlet, Lane, Offer, Outlet, Peer, Refusal};
use crate::node::error::EndpointError;
use crate::node::identity::{EndpointId, NodeId};
use crate::node::wire::Frame;

/// Bell lines that a lane needs at most.
const LINES_PER_LANE: usize = 2;

impl OutletRecord {
    pub(super) fn new(outlet: &Arc<dyn Outlet>, lane: Option<LaneRecord>) -> Self {
        Self { outlet: Arc::clone(outlet), is_closed: false, readers: HashSet::new(), lane }
    }
}

impl Control {
    /// Introduces a hub to its counterparts, with the inlet that takes what comes back, if there is one. It is settled when
    /// all of them have answered.
    ///
    /// Producers and servers open a lane to every inlet that they find; clients say that they are there, and open theirs in
    /// return for that of a server, which says what it takes.
    pub(in crate::node) fn add_hub(
        &mut self,
        hub: &Arc<dyn Hub>,
        inlet: Option<Arc<dyn Inlet>>,
    ) -> Result<(), EndpointError> {
        let (id, role, channel) = (hub.id(), hub.role(), hub.channel().clone());
        self.enter(role, &channel, id)?;
        self.hubs.insert(id.number, Arc::clone(hub));
        if let Some(inlet) = inlet {
            self.inlets.insert(id.number, inlet);
        }
        if role != Role::Client {
            return self.open_lanes(hub);
        }
        for server in self.hubs_for(role, &channel) {
            self.open_own_lane(&server, id);
        }
        let seek = Frame::Seek { inlet: id, role, channel: channel.clone() };
        self.introduce(role, &channel, id, &seek)
    }

    /// Opens a lane to each inlet that is there.
    fn open_lanes(&mut self, hub: &Arc<dyn Hub>) -> Result<(), EndpointError> {
        for inlet in self.counterparts(hub.role(), hub.channel())? {
            if inlet.node == self.own.node {
                self.open_own_lane(hub, inlet);
            } else if let Some(number) = self.reach(inlet.node)? {
                self.open_lane(hub, inlet, None, (number, &inlet.node.to_string()));
            }
        }
        Ok(())
    }

    /// A hub of ours has been dropped; its lanes are dropped one by one.
    pub(in crate::node) fn remove_hub(&mut self, id: EndpointId) {
        self.past_sent.remove(&id.number);
        if let Some(hub) = self.hubs.remove(&id.number) {
            self.membership.withdraw(hub.role(), hub.channel(), id.number);
        }
        self.remove_inlet(id);
    }

    /// The hubs that an endpoint of this role and channel looks for.
    pub(super) fn hubs_for(&self, role: Role, channel: &Channel) -> Vec<Arc<dyn Hub>> {
        let wanted = role.opposite();
        self.hubs.values().filter(|hub| hub.role() == wanted && hub.channel() == channel).cloned().collect()
    }

    /// A fresh lane of a hub of ours; `None` if there is one.
    pub(super) fn make_lane(
        &mut self,
        hub: &Arc<dyn Hub>,
        inlet: EndpointId,
        accepts: Option<&TypeDescriptor>,
    ) -> Result<Option<Arc<dyn Outlet>>, Refusal> {
        self.ensure_lines(LINES_PER_LANE).map_err(|error| Refusal::Unusable { reason: error.to_string() })?;
        let lane = hub.lane(inlet, accepts)?;
        if let Some(outlet) = &lane {
            let record = OutletRecord::new(outlet, Some(LaneRecord { hub: hub.id().number, inlet }));
            self.outlets.insert(outlet.id().number, record);
        }
        Ok(lane)
    }

    /// Opens a lane to an inlet of this node, and one in return if that belongs to a hub.
    pub(super) fn open_own_lane(&mut self, hub: &Arc<dyn Hub>, inlet: EndpointId) {
        let Some(inlet) = self.inlets.get(&inlet.number).cloned() else { return };
        let accepts = match self.make_lane(hub, inlet.id(), None) {
            Ok(None) => return,
            Ok(Some(outlet)) => {
                let accepts = outlet.offer().and_then(|offer| offer.lane?.accepts);
                if !self.pair(&outlet, &inlet) {
                    return;
                }
                accepts
            }
            Err(refusal) => return self.refuse_lane(hub, &inlet, refusal),
        };
        let theirs = self.inlets.get(&hub.id().number).cloned();
        let Some((returning, theirs)) = self.hubs.get(&inlet.id().number).cloned().zip(theirs) else {
            return;
        };
        match self.make_lane(&returning, hub.id(), accepts.as_ref()) {
            Ok(Some(outlet)) => _ = self.pair(&outlet, &theirs),
            Ok(None) => {}
            Err(refusal) => self.refuse_lane(&returning, &theirs, refusal),
        }
    }

    fn refuse_lane(&self, hub: &Arc<dyn Hub>, inlet: &Arc<dyn Inlet>, refusal: Refusal) {
        inlet.refused(hub.id(), &self.own.name, refusal.clone());
        hub.refused(self.own.node, &self.own.name, refusal);
    }

    /// Opens a lane to a peer's inlet.
    pub(super) fn open_lane(
        &mut self,
        hub: &Arc<dyn Hub>,
        inlet: EndpointId,
        accepts: Option<&TypeDescriptor>,
        (number, node_name): (u64, &str),
    ) {
        match self.make_lane(hub, inlet, accepts) {
            Ok(Some(outlet)) => {
                self.pending.insert((outlet.id().number, inlet.node));
                if let Some(offer) = outlet.offer() {
                    self.send(number, &Frame::Offer(Box::new(offer)));
                }
                // Whatever was sent before may have ended the connection.
                if !self.connections.contains_key(&number) {
                    self.drop_lane(outlet.id(), inlet);
                }
            }
            Ok(None) => {}
            Err(refusal) => {
                hub.refused(inlet.node, node_name, refusal.clone());
                self.send(number, &Frame::Refuse { outlet: hub.id(), inlet, refusal });
            }
        }
    }

    /// A peer's hub offers a lane to an inlet of ours. If that belongs to a hub itself, that opens one in return.
    pub(super) fn take_up_lane(&mut self, number: u64, peer: &Peer, offer: &Offer, lane: &Lane) {
        let inlet = self.inlets.get(&lane.to.number).filter(|inlet| inlet.id() == lane.to);
        let is_for_us = !self.avoids(peer);
        let inlet = inlet.filter(|inlet| is_for_us && *inlet.channel() == offer.channel).cloned();
        let Some(inlet) = inlet else {
            return self.send(number, &Frame::PairLeft { outlet: offer.outlet, inlet: lane.to });
        };
        let is_fresh = !self.pairs.contains_key(&(offer.outlet, lane.to));
        if is_fresh
            && self.join(number, peer, offer, &inlet)
            && let Some(hub) = self.hubs.get(&lane.to.number).cloned()
        {
            self.open_lane(&hub, lane.from, lane.accepts.as_ref(), (number, &peer.name));
        }
        self.send(number, &Frame::Done { endpoint: offer.outlet });
    }

    /// An inlet has turned an outlet of ours down, or the other way round. A lane that is for it is then over, and its hub is told why.
    pub(super) fn turned_down(
        &mut self,
        (outlet, inlet): (EndpointId, EndpointId),
        peer: &Peer,
        refusal: Refusal,
    ) {
        let Some(record) = self.outlets.get(&outlet.number) else { return };
        if record.lane.is_some_and(|lane| lane.inlet != inlet) {
            return;
        }
        match self.hub_of(record) {
            Some(hub) => hub.refused(peer.node, &peer.name, refusal),
            None => record.outlet.refused(peer.node, &peer.name, refusal),
        }
        self.drop_lane(outlet, inlet);
    }

    /// The hub whose lane this is, if it is one, and the hub is there.
    pub(super) fn hub_of(&self, record: &OutletRecord) -> Option<&Arc<dyn Hub>> {
        self.hubs.get(&record.lane?.hub)
    }

    /// Whether an outlet of ours is a lane.
    pub(super) fn is_lane(&self, outlet: EndpointId) -> bool {
        self.outlets.get(&outlet.number).is_some_and(|record| record.lane.is_some())
    }

    /// Whether the outlet of ours with this number is a lane of this hub.
    pub(super) fn is_lane_of(&self, outlet: u64, hub: EndpointId) -> bool {
        let lane = self.outlets.get(&outlet).and_then(|record| record.lane);
        lane.is_some_and(|lane| lane.hub == hub.number)
    }

    /// An outlet of ours is over. If it is a lane, its hub is told so, and what it has sent is still the hub's.
    pub(super) fn forget_outlet(&mut self, outlet: u64) {
        let Some(record) = self.outlets.remove(&outlet) else { return };
        let OutletRecord { outlet, lane: Some(LaneRecord { hub, inlet }), .. } = record else { return };
        if let Some(of) = self.hubs.get(&hub) {
            *self.past_sent.entry(hub).or_default() += outlet.report().sent;
            of.parted(inlet);
        }
    }

    /// A lane to this inlet that it does not read, nor will, is over.
    pub(super) fn drop_lane(&mut self, outlet: EndpointId, inlet: EndpointId) {
        let is_over = |record: &OutletRecord| {
            record.outlet.id() == outlet
                && record.readers.is_empty()
                && record.lane.is_some_and(|lane| lane.inlet == inlet)
        };
        if self.outlets.get(&outlet.number).is_some_and(is_over) {
            self.forget_outlet(outlet.number);
            self.pending.retain(|(number, _)| *number != outlet.number);
        }
    }

    /// A node has gone: lanes that it has not taken up are over.
    pub(super) fn drop_lanes_to(&mut self, node: NodeId) {
        let ends = |record: &OutletRecord| record.lane.map(|lane| (record.outlet.id(), lane.inlet));
        let lanes = self.outlets.values().filter_map(ends).filter(|(_, inlet)| inlet.node == node);
        let lanes: BTreeSet<_> = lanes.collect();
        lanes.into_iter().for_each(|(outlet, inlet)| self.drop_lane(outlet, inlet));
    }
}
