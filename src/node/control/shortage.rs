//! What this process has no memory for, or no descriptors: the pair that needed it goes on no further, which both ends
//! learn, and nobody else is disturbed.

use std::sync::Arc;

use super::Control;
use super::frames::belongs;
use crate::node::endpoint::{Inlet, Offer, Peer, Refusal, Setback, Violation};
use crate::node::identity::{EndpointId, NodeId};
use crate::node::wire::Frame;
use crate::segment::{Kind, SegmentError};

impl Control {
    /// A frame has come for whose descriptors there was no room.
    pub(super) fn handle_bereft(&mut self, number: u64, frame: Frame) -> Result<(), Violation> {
        let lacking = |kind: Kind| SegmentError::Descriptor { kind: kind.name() };
        let peer = self.connections.get(&number).and_then(|connection| connection.peer()).cloned();
        match (frame, peer) {
            (Frame::Hello(hello), None) => self.lack_peer(hello.node, &hello.name, &lacking(Kind::Bell)),
            (Frame::Bell { .. }, Some(peer)) => self.lack_bell(&peer, &lacking(Kind::Bell)),
            (Frame::Segment(segment), Some(peer)) => self.lack(&peer, segment.outlet, &lacking(Kind::Pool)),
            (Frame::Ring(ring), Some(peer)) => self.lack(&peer, ring.outlet, &lacking(Kind::Ring)),
            (Frame::Offer(offer), Some(peer)) => self.decline(number, &peer, &offer),
            (Frame::Join(join), Some(peer)) => {
                belongs(join.inlet, &peer)?;
                let refusal = refusal(&lacking(Kind::Cursor));
                let (outlet, inlet) = (join.outlet, join.inlet);
                self.send(number, &Frame::Refuse { outlet, inlet, refusal: refusal.clone() });
                self.turned_down((outlet, inlet), &peer, refusal);
                Ok(())
            }
            // Its node passes on to it what rings for it.
            (Frame::Listen { .. }, Some(_)) => Ok(()),
            _ => Err(Violation("descriptors with a frame that has none, or out of turn".to_owned())),
        }
    }

    /// What an inlet of ours made of something new of its outlet's.
    pub(super) fn heed(
        &mut self,
        outlet: EndpointId,
        inlet: &Arc<dyn Inlet>,
        followed: Result<(), Setback>,
    ) -> Result<(), Violation> {
        match followed {
            Ok(()) => Ok(()),
            Err(Setback::Violation(violation)) => Err(violation),
            Err(Setback::Shortage(error)) => {
                self.fall_short(outlet, inlet, &error);
                Ok(())
            }
        }
    }

    /// An inlet of ours cannot have what its outlet sent: it reads on as far as it can, and both ends are told.
    fn fall_short(&mut self, outlet: EndpointId, inlet: &Arc<dyn Inlet>, error: &SegmentError) {
        inlet.fall_short(outlet, error);
        let (refusal, own) = (refusal(error), self.own.clone());
        let number = self.by_node.get(&outlet.node).copied();
        let peer = number.and_then(|number| self.connections.get(&number)?.peer()).unwrap_or(&own);
        if let Some(hub) = self.hubs.get(&inlet.id().number) {
            hub.refused(outlet.node, &peer.name, refusal.clone());
        }
        if outlet.node == own.node {
            self.turned_down((outlet, inlet.id()), &own, refusal);
        } else if let Some(number) = number {
            self.send(number, &Frame::Refuse { outlet, inlet: inlet.id(), refusal });
        }
    }

    /// Memory of a peer's outlet cannot be had.
    fn lack(&mut self, peer: &Peer, outlet: EndpointId, error: &SegmentError) -> Result<(), Violation> {
        belongs(outlet, peer)?;
        for inlet in self.paired_with(outlet) {
            self.fall_short(outlet, &inlet, error);
        }
        Ok(())
    }

    /// The ring of an outlet that offers itself cannot be had.
    fn decline(&mut self, number: u64, peer: &Peer, offer: &Offer) -> Result<(), Violation> {
        belongs(offer.outlet, peer)?;
        let outlet = offer.outlet;
        let refusal = refusal(&SegmentError::Descriptor { kind: Kind::Ring.name() });
        let is_meant = |inlet: &&Arc<dyn Inlet>| {
            self.is_for(offer, peer.node, inlet)
                && offer.lane.as_ref().is_none_or(|lane| lane.to == inlet.id())
        };
        let meant: Vec<_> = self.inlets.values().filter(is_meant).cloned().collect();
        for inlet in meant {
            inlet.refused(outlet, &peer.name, refusal.clone());
            self.send(number, &Frame::Refuse { outlet, inlet: inlet.id(), refusal: refusal.clone() });
        }
        self.send(number, &Frame::Done { endpoint: outlet });
        Ok(())
    }

    /// A peer's further bell lines cannot be had, or are none: without them nothing that is new of it can be followed.
    pub(super) fn lack_bell(&mut self, peer: &Peer, error: &SegmentError) -> Result<(), Violation> {
        let theirs = self.pairs.keys().filter(|(outlet, _)| outlet.node == peer.node && error.is_shortage());
        for (outlet, inlet) in theirs.copied().collect::<Vec<_>>() {
            if let Some(inlet) = self.inlets.get(&inlet.number).cloned() {
                self.fall_short(outlet, &inlet, error);
            }
        }
        Err(Violation(error.to_string()))
    }

    /// A node that greets cannot be talked to: whoever waits for it is told.
    pub(super) fn lack_peer(
        &mut self,
        node: NodeId,
        name: &str,
        error: &SegmentError,
    ) -> Result<(), Violation> {
        self.refuse_all(node, name, &refusal(error));
        Err(Violation(error.to_string()))
    }
}

fn refusal(error: &SegmentError) -> Refusal {
    Refusal::Unusable { reason: error.to_string() }
}
