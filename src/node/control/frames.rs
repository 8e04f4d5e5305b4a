//! What each frame brings about.

use std::sync::Arc;

use super::{Control, OutletRecord, Pairing};
use crate::node::connection::Stage;
use crate::node::endpoint::{Admission, Inlet, Join, NewRing, Offer, Peer, Refusal, Segment, Violation};
use crate::node::identity::EndpointId;
use crate::node::wire::Frame;

impl Control {
    pub(super) fn handle_frame(&mut self, number: u64, frame: Frame) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        match (frame, &connection.stage) {
            (Frame::Hello(hello), _) => self.greet(number, hello),
            (Frame::Stranger(stranger), _) => self.dismiss(number, &stranger),
            (Frame::Taken { count }, _) => connection.taken(count),
            (Frame::Versions { version_min, version }, Stage::Called(node)) => {
                let node = *node;
                self.mismatch(node, &node.to_string(), version_min, version)
            }
            (frame, Stage::Open(peer)) => {
                let peer = peer.clone();
                self.hear_peer(number, &peer, frame)
            }
            _ => Err(Violation("it did not say who it is first".to_owned())),
        }
    }

    pub(super) fn hear_peer(&mut self, number: u64, peer: &Peer, frame: Frame) -> Result<(), Violation> {
        match frame {
            Frame::Seek { inlet, role, channel } => {
                belongs(inlet, peer)?;
                if self.avoids(peer) {
                    self.send(number, &Frame::Done { endpoint: inlet });
                    return Ok(());
                }
                self.serve_seeker(peer.node, &channel);
                for offer in self.offers(&channel) {
                    self.send(number, &Frame::Offer(Box::new(offer)));
                }
                for hub in self.hubs_for(role, &channel) {
                    self.open_lane(&hub, inlet, None, (number, &peer.name));
                }
                self.send(number, &Frame::Done { endpoint: inlet });
                Ok(())
            }
            Frame::Offer(offer) => {
                belongs(offer.outlet, peer)?;
                if let Some(lane) = offer.lane.clone() {
                    belongs(lane.from, peer)?;
                    self.take_up_lane(number, peer, &offer, &lane);
                } else {
                    self.take_up(number, peer, &offer);
                }
                Ok(())
            }
            Frame::Done { endpoint } => {
                self.note_answered(peer.node, endpoint.number);
                Ok(())
            }
            Frame::Join(join) => belongs(join.inlet, peer).and_then(|()| self.let_in(number, peer, join)),
            Frame::Admit(admission) => {
                belongs(admission.outlet, peer).and_then(|()| self.admitted(admission))
            }
            Frame::Refuse { outlet, inlet, refusal } => self.refused(peer, outlet, inlet, refusal),
            Frame::Segment(segment) => belongs(segment.outlet, peer).and_then(|()| self.spread(&segment)),
            Frame::Listen { outlet, inlet, eventfd } => {
                belongs(inlet, peer)?;
                if let Some(record) =
                    self.outlets.get(&outlet.number).filter(|_| outlet.node == self.own.node)
                {
                    record.outlet.listen(inlet, eventfd);
                }
                Ok(())
            }
            Frame::Bell { index, memory } => {
                peer.bell.add(index, &memory).or_else(|error| self.lack_bell(peer, &error))
            }
            Frame::Inspect => {
                self.report_to(number);
                Ok(())
            }
            Frame::Report { is_last, items } => {
                self.reported(peer, is_last, items);
                Ok(())
            }
            Frame::Ring(ring) => belongs(ring.outlet, peer).and_then(|()| self.follow(&ring)),
            Frame::Detached { outlet, inlet } => belongs(outlet, peer).map(|()| self.detached(outlet, inlet)),
            Frame::OutletLeft { outlet } => belongs(outlet, peer).map(|()| self.outlet_left(outlet)),
            Frame::PairLeft { outlet, inlet } => belongs(inlet, peer).map(|()| self.part(outlet, inlet)),
            Frame::Hello(_) | Frame::Stranger(_) | Frame::Versions { .. } | Frame::Taken { .. } => {
                Err(Violation("a greeting where none was due".to_owned()))
            }
        }
    }

    /// A peer's outlet offers itself: each inlet that it is for takes it up or refuses.
    fn take_up(&mut self, number: u64, peer: &Peer, offer: &Offer) {
        let is_for_us = !self.avoids(peer);
        let fresh = self.inlets.values().filter(|inlet| is_for_us && self.is_for(offer, peer.node, inlet));
        let fresh: Vec<_> = fresh.cloned().collect();
        for inlet in fresh {
            if !self.connections.contains_key(&number) {
                return;
            }
            self.join(number, peer, offer, &inlet);
            if self.pending.contains(&(inlet.id().number, peer.node)) {
                self.seek_heirs_beside(&inlet, offer);
            }
        }
        self.send(number, &Frame::Done { endpoint: offer.outlet });
    }

    /// An inlet of ours takes an offer up or refuses; whether it took it up.
    pub(super) fn join(&mut self, number: u64, peer: &Peer, offer: &Offer, inlet: &Arc<dyn Inlet>) -> bool {
        let joined = inlet.join(peer, offer.clone());
        let has_joined = joined.is_ok();
        let answer = match joined {
            Ok(join) => {
                self.pairs.insert((offer.outlet, inlet.id()), Pairing::Joining);
                Frame::Join(join)
            }
            Err(refusal) => Frame::Refuse { outlet: offer.outlet, inlet: inlet.id(), refusal },
        };
        self.send(number, &answer);
        has_joined
    }

    /// A peer's inlet takes our offer up.
    fn let_in(&mut self, number: u64, peer: &Peer, join: Join) -> Result<(), Violation> {
        let (outlet, inlet) = (join.outlet, join.inlet);
        self.reclaim(outlet, inlet);
        let record = self.outlets.get_mut(&outlet.number).filter(|record| !record.is_closed);
        let is_for = |record: &&mut OutletRecord| record.lane.is_none_or(|lane| lane.inlet == inlet);
        let Some(record) = record.filter(|_| outlet.node == self.own.node).filter(is_for) else {
            self.send(number, &Frame::OutletLeft { outlet });
            return Ok(());
        };
        if record.readers.contains(&inlet) {
            return Err(Violation(format!("{inlet} joins {outlet} a second time")));
        }
        let sender = Arc::clone(&record.outlet);
        match self.admit(&*sender, peer, join) {
            Ok(admission) => {
                if let Some(record) = self.outlets.get_mut(&outlet.number) {
                    record.readers.insert(inlet);
                }
                for segment in &admission.segments {
                    self.send(number, &Frame::Segment(segment.clone()));
                }
                if let Some(ring) = admission.ring.clone() {
                    self.send(number, &Frame::Ring(ring));
                }
                self.send(number, &Frame::Admit(admission));
            }
            Err(refusal) => {
                self.send(number, &Frame::Refuse { outlet, inlet, refusal: refusal.clone() });
                self.turned_down((outlet, inlet), peer, refusal);
            }
        }
        Ok(())
    }

    /// A peer's outlet lets our inlet in, which may have gone meanwhile.
    fn admitted(&mut self, admission: Admission) -> Result<(), Violation> {
        let pair = (admission.outlet, admission.inlet);
        let Some(inlet) = self.inlets.get(&admission.inlet.number) else { return Ok(()) };
        match self.pairs.get_mut(&pair) {
            Some(pairing) if *pairing == Pairing::Joining => *pairing = Pairing::Joined,
            _ => return Err(Violation("an admission to what was not joined".to_owned())),
        }
        inlet.admitted(admission)
    }

    fn refused(
        &mut self,
        peer: &Peer,
        outlet: EndpointId,
        inlet: EndpointId,
        refusal: Refusal,
    ) -> Result<(), Violation> {
        if outlet.node == self.own.node {
            belongs(inlet, peer)?;
            self.turned_down((outlet, inlet), peer, refusal);
            return Ok(());
        }
        belongs(outlet, peer)?;
        self.pairs.remove(&(outlet, inlet));
        if let Some(inlet) = self.inlets.get(&inlet.number) {
            inlet.refused(outlet, &peer.name, refusal);
        }
        Ok(())
    }

    /// A further ring, for every inlet of ours that is paired with its outlet.
    fn follow(&mut self, ring: &NewRing) -> Result<(), Violation> {
        self.paired_with(ring.outlet)
            .iter()
            .try_for_each(|inlet| self.heed(ring.outlet, inlet, inlet.ring(ring.clone())))
    }

    /// A further pool segment, for every inlet of ours that is paired with its outlet.
    fn spread(&mut self, segment: &Segment) -> Result<(), Violation> {
        self.paired_with(segment.outlet)
            .iter()
            .try_for_each(|inlet| self.heed(segment.outlet, inlet, inlet.segment(segment.clone())))
    }

    /// The inlets of ours that are paired with an outlet.
    pub(super) fn paired_with(&self, outlet: EndpointId) -> Vec<Arc<dyn Inlet>> {
        let paired = |inlet: &&Arc<dyn Inlet>| self.pairs.contains_key(&(outlet, inlet.id()));
        self.inlets.values().filter(paired).cloned().collect()
    }
}

/// Whether an endpoint that a peer speaks for is its own.
pub(super) fn belongs(endpoint: EndpointId, peer: &Peer) -> Result<(), Violation> {
    if endpoint.node == peer.node {
        return Ok(());
    }
    Err(Violation(format!("it speaks for endpoint {endpoint}, which is not its own")))
}
