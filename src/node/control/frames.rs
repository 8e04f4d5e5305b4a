//! What each frame brings about.

use super::{Control, Pairing};
use crate::node::connection::Stage;
use crate::node::endpoint::{Admission, Join, Offer, Peer, Refusal, Segment, Violation};
use crate::node::identity::EndpointId;
use crate::node::wire::Frame;

impl Control {
    pub(super) fn handle_frame(&mut self, number: u64, frame: Frame) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        match (frame, &connection.stage) {
            (Frame::Hello(hello), _) => self.greet(number, hello),
            (Frame::Taken { count }, _) => connection.taken(count),
            (Frame::Versions { version_min, version }, Stage::Called(node)) => {
                let node = *node;
                self.mismatch(node, &node.to_string(), version_min, version)
            }
            (frame, Stage::Open(peer)) => {
                let peer = peer.clone();
                self.handle_peer_frame(number, &peer, frame)
            }
            _ => Err(Violation("it did not say who it is first".to_owned())),
        }
    }

    fn handle_peer_frame(&mut self, number: u64, peer: &Peer, frame: Frame) -> Result<(), Violation> {
        match frame {
            Frame::Seek { inlet, name } => {
                belongs(inlet, peer)?;
                for offer in self.offers(&name) {
                    self.send(number, &Frame::Offer(offer));
                }
                self.send(number, &Frame::Done { endpoint: inlet });
                Ok(())
            }
            Frame::Offer(offer) => belongs(offer.outlet, peer).map(|()| self.take_up(number, peer, &offer)),
            Frame::Done { endpoint } => {
                self.pending.remove(&(endpoint.number, peer.node));
                Ok(())
            }
            Frame::Join(join) => belongs(join.inlet, peer).and_then(|()| self.let_in(number, peer, join)),
            Frame::Admit(admission) => {
                belongs(admission.outlet, peer).and_then(|()| self.admitted(admission))
            }
            Frame::Refuse { outlet, inlet, refusal } => self.refused(peer, outlet, inlet, refusal),
            Frame::Segment(segment) => belongs(segment.outlet, peer).and_then(|()| self.spread(&segment)),
            Frame::OutletLeft { outlet } => belongs(outlet, peer).map(|()| self.outlet_left(outlet)),
            Frame::PairLeft { outlet, inlet } => belongs(inlet, peer).map(|()| self.part(outlet, inlet)),
            Frame::Hello(_) | Frame::Versions { .. } | Frame::Taken { .. } => {
                Err(Violation("a greeting where none was due".to_owned()))
            }
        }
    }

    /// A peer's outlet offers itself: each inlet of its name that is not paired with it takes it up or refuses.
    fn take_up(&mut self, number: u64, peer: &Peer, offer: &Offer) {
        let fitting = self.inlets.values().filter(|inlet| *inlet.name() == offer.name);
        let fresh: Vec<_> =
            fitting.filter(|inlet| !self.pairs.contains_key(&(offer.outlet, inlet.id()))).cloned().collect();
        for inlet in fresh {
            if !self.connections.contains_key(&number) {
                return;
            }
            let answer = match inlet.join(peer, offer.clone()) {
                Ok(join) => {
                    self.pairs.insert((offer.outlet, inlet.id()), Pairing::Joining);
                    Frame::Join(join)
                }
                Err(refusal) => Frame::Refuse { outlet: offer.outlet, inlet: inlet.id(), refusal },
            };
            self.send(number, &answer);
        }
        self.send(number, &Frame::Done { endpoint: offer.outlet });
    }

    /// A peer's inlet takes our offer up.
    fn let_in(&mut self, number: u64, peer: &Peer, join: Join) -> Result<(), Violation> {
        let (outlet, inlet) = (join.outlet, join.inlet);
        let record = self.outlets.get_mut(&outlet.number).filter(|record| !record.is_closed);
        let Some(record) = record.filter(|_| outlet.node == self.own.node) else {
            self.send(number, &Frame::OutletLeft { outlet });
            return Ok(());
        };
        if record.readers.contains(&inlet) {
            return Err(Violation(format!("{inlet} joins {outlet} a second time")));
        }
        match record.outlet.admit(peer, join) {
            Ok(admission) => {
                record.readers.insert(inlet);
                for segment in &admission.segments {
                    self.send(number, &Frame::Segment(segment.clone()));
                }
                self.send(number, &Frame::Admit(admission));
            }
            Err(refusal) => {
                record.outlet.refused(peer.node, &peer.name, refusal.clone());
                self.send(number, &Frame::Refuse { outlet, inlet, refusal });
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
            if let Some(record) = self.outlets.get(&outlet.number) {
                record.outlet.refused(peer.node, &peer.name, refusal);
            }
            return Ok(());
        }
        belongs(outlet, peer)?;
        self.pairs.remove(&(outlet, inlet));
        if let Some(inlet) = self.inlets.get(&inlet.number) {
            inlet.refused(outlet, &peer.name, refusal);
        }
        Ok(())
    }

    /// A further pool segment, for every inlet of ours that is paired with its outlet.
    fn spread(&self, segment: &Segment) -> Result<(), Violation> {
        self.inlets
            .values()
            .filter(|inlet| self.pairs.contains_key(&(segment.outlet, inlet.id())))
            .try_for_each(|inlet| inlet.segment(segment.clone()))
    }
}

/// Whether an endpoint that a peer speaks for is its own.
fn belongs(endpoint: EndpointId, peer: &Peer) -> Result<(), Violation> {
    if endpoint.node == peer.node {
        return Ok(());
    }
    Err(Violation(format!("it speaks for endpoint {endpoint}, which is not its own")))
}
