//! What a subscriber shares with its node's control plane: the streams that are joining, joined, or closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::error::Refused;
use super::refusals::Refusals;
use crate::node::{
    Admission, EndpointId, Inlet, Join, Name, Node, Offer, Peer, Refusal, Segment, TypeDescriptor, Violation,
};
use crate::sync::bell::{Fencing, Line, PeerBell, PeerSleepers};
use crate::sync::geometry::Geometry;
use crate::sync::pool::PoolMemory;
use crate::sync::ring::{CursorMemory, RingMemory};
use crate::sync::stream::{Attachment, ReceivingEnd};

/// The last sequence number that a stream may start at: beyond what any stream reaches in a lifetime.
const START_MAX: u64 = 1 << 50;

/// The part of a subscriber that its control plane also touches.
pub(super) struct SubscriberShared {
    pub(super) node: Node,
    pub(super) name: Name,
    id: EndpointId,
    descriptor: TypeDescriptor,
    hold_limit: u32,
    /// Where the subscriber sleeps.
    pub(super) line: Line,
    has_incoming: AtomicBool,
    cursors_made: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    joining: HashMap<EndpointId, Joining>,
    /// The ties of all pairs that are joining, joined, or over but not left yet: none of them may be joined again.
    attached: HashMap<EndpointId, Weak<Attachment>>,
    incoming: Vec<Source>,
    refusals: Refusals,
}

/// A stream that has been offered and taken up, but not admitted yet.
struct Joining {
    peer: Peer,
    geometry: Geometry,
    sleepers_line: u32,
    attachment: Arc<Attachment>,
}

/// A stream that the subscriber reads.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) outlet: EndpointId,
    pub(super) end: ReceivingEnd,
    /// Our bit at the publisher.
    pub(super) sleepers: PeerSleepers,
    /// The bell that the bit lies in stays mapped with it.
    _bell: Arc<PeerBell>,
}

/// Tells the publisher that this pair is over, when the last held sample has gone.
struct LeaveOnDrop {
    node: Node,
    inlet: EndpointId,
    outlet: EndpointId,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.node.shared().leave_pair(self.inlet, self.outlet);
    }
}

impl SubscriberShared {
    pub(super) fn new(
        node: Node,
        name: Name,
        descriptor: TypeDescriptor,
        hold_limit: u32,
        line: Line,
    ) -> Self {
        Self {
            id: node.shared().next_endpoint(),
            node,
            name,
            descriptor,
            hold_limit,
            line,
            has_incoming: AtomicBool::new(false),
            cursors_made: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold_limit(&self) -> u32 {
        self.hold_limit
    }

    /// Whether streams have been admitted that the subscriber has not taken over yet.
    pub(super) fn has_incoming(&self) -> bool {
        self.has_incoming.load(Ordering::Acquire)
    }

    /// The streams that have been admitted since.
    #[cold]
    pub(super) fn take_incoming(&self) -> Vec<Source> {
        self.has_incoming.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.state().incoming)
    }

    /// Streams admitted, taken over or not, whose publishers are there.
    pub(super) fn connected(&self) -> usize {
        let state = self.state();
        let is_open =
            |attachment: &Weak<Attachment>| attachment.upgrade().is_some_and(|tie| !tie.is_closed());
        let admitted = state.attached.iter().filter(|(outlet, _)| !state.joining.contains_key(outlet));
        admitted.filter(|(_, attachment)| is_open(attachment)).count()
    }

    /// Who turned us away, or was turned away; the last of them.
    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.state().refusals.list()
    }

    fn attach(&self, peer: &Peer, offer: &Offer, geometry: Geometry) -> Result<(Attachment, Join), Refusal> {
        let unusable = |reason: String| Refusal::Unusable { reason };
        let ring = RingMemory::receive(&offer.ring, geometry).map_err(|error| unusable(error.to_string()))?;
        let place = self.cursors_made.fetch_add(1, Ordering::Relaxed) + self.id.number;
        let (cursor, created, cursor_offset) =
            CursorMemory::create(self.hold_limit, place).map_err(|error| unusable(error.to_string()))?;
        let publisher = peer.bell.sleeper(offer.sleeper_line);
        let publisher =
            publisher.ok_or_else(|| unusable(format!("bell line {} does not exist", offer.sleeper_line)))?;
        let last = LeaveOnDrop { node: self.node.clone(), inlet: self.id, outlet: offer.outlet };
        let attachment = Attachment::new(ring, cursor, publisher, Box::new(last));
        let join = Join {
            outlet: offer.outlet,
            inlet: self.id,
            cursor_offset,
            hold_limit: self.hold_limit,
            sleeper_line: self.line.number(),
            fences_for_all: Fencing::of_this_process() == Fencing::Asymmetric,
            cursor: created.memory,
        };
        Ok((attachment, join))
    }

    fn check(&self, offer: &Offer) -> Result<Geometry, Refusal> {
        if self.state().attached.contains_key(&offer.outlet) {
            let reason = "messages of the connection before are still held, or not read yet";
            return Err(Refusal::Unusable { reason: reason.to_owned() });
        }
        if let Some(difference) = self.descriptor.first_difference(&offer.descriptor) {
            return Err(Refusal::Type(difference));
        }
        let unusable = |reason: String| Refusal::Unusable { reason };
        let geometry = Geometry::claimed(offer.slots, offer.stride, offer.payload_offset);
        let geometry = geometry.map_err(|error| unusable(error.to_string()))?;
        if !(geometry.payload_offset() as u64).is_multiple_of(self.descriptor.align) {
            return Err(unusable(format!("its slots are not aligned to {} B", self.descriptor.align)));
        }
        Ok(geometry)
    }

    fn wake(&self) {
        self.line.wake_own();
    }
}

impl Inlet for SubscriberShared {
    fn id(&self) -> EndpointId {
        self.id
    }

    fn name(&self) -> &Name {
        &self.name
    }

    fn join(&self, peer: &Peer, offer: Offer) -> Result<Join, Refusal> {
        let joined =
            self.check(&offer).and_then(|geometry| Ok((geometry, self.attach(peer, &offer, geometry)?)));
        let mut state = self.state();
        match joined {
            Ok((geometry, (attachment, join))) => {
                let attachment = Arc::new(attachment);
                let (peer, sleepers_line) = (peer.clone(), offer.sleepers_line);
                state.attached.insert(offer.outlet, Arc::downgrade(&attachment));
                state.joining.insert(offer.outlet, Joining { peer, geometry, sleepers_line, attachment });
                Ok(join)
            }
            Err(refusal) => {
                state.refusals.remember(peer.node, &peer.name, refusal.clone());
                Err(refusal)
            }
        }
    }

    fn admitted(&self, admission: Admission) -> Result<(), Violation> {
        if admission.start > START_MAX {
            return Err(Violation(format!("an admission at message {}", admission.start)));
        }
        let mut state = self.state();
        let joining = state.joining.remove(&admission.outlet);
        let joining = joining.ok_or_else(|| Violation("an admission to what was not joined".to_owned()))?;
        let bell = joining.peer.bell;
        let sleepers = bell.sleepers(joining.sleepers_line, admission.sleepers_bit);
        let sleepers =
            sleepers.ok_or_else(|| Violation("an admission with a bell line that is none".to_owned()))?;
        let end = ReceivingEnd::new(joining.attachment, joining.geometry, admission.start);
        state.incoming.push(Source { outlet: admission.outlet, end, sleepers, _bell: bell });
        drop(state);
        self.has_incoming.store(true, Ordering::Release);
        self.wake();
        Ok(())
    }

    fn segment(&self, segment: Segment) -> Result<(), Violation> {
        let memory = PoolMemory::receive(&segment.memory, segment.chunks, segment.chunk_bytes);
        let memory = memory.map_err(|error| Violation(error.to_string()))?;
        let state = self.state();
        let attachment = state.attached.get(&segment.outlet).and_then(Weak::upgrade);
        drop(state);
        let is_in_order = attachment.is_none_or(|attachment| attachment.add_segment(segment.index, memory));
        self.wake();
        if is_in_order { Ok(()) } else { Err(Violation("a pool segment out of order".to_owned())) }
    }

    fn closed(&self, outlet: EndpointId) {
        let mut state = self.state();
        let joining = state.joining.remove(&outlet);
        let attached = state.attached.get(&outlet).and_then(Weak::upgrade);
        if let Some(attachment) = &attached {
            attachment.close();
        }
        // A stream that the subscriber has not taken over yet, with nothing in it, need not wait for that.
        let is_over = |source: &mut Source| source.outlet == outlet && !source.end.has_message();
        let over: Vec<Source> = state.incoming.extract_if(.., is_over).collect();
        drop(state);
        drop((joining, attached, over));
        self.wake();
    }

    fn left(&self, outlet: EndpointId) {
        self.state().attached.remove(&outlet);
    }

    fn refused(&self, outlet: EndpointId, node_name: &str, refusal: Refusal) {
        let mut state = self.state();
        let joining = state.joining.remove(&outlet);
        state.refusals.remember(outlet.node, node_name, refusal);
        drop(state);
        drop(joining);
        self.wake();
    }
}
