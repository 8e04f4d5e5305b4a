//! What the control plane knows of an endpoint: enough to introduce it to its peers, nothing of its messages.
//!
//! An **outlet** is the sending end of a stream (a publisher), an **inlet** the receiving end (a subscriber).
//! The control plane carries their words – offer, join, admission, segment – between processes, and hands the
//! same values over directly when both ends live in one process. Every method returns at once.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::descriptor::{Difference, TypeDescriptor};
use super::domain::Name;
use super::identity::{EndpointId, NodeId};
use crate::sync::bell::PeerBell;

/// The process at the other end, as both ends of a stream need it.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) name: Arc<str>,
    pub(crate) bell: Arc<PeerBell>,
}

/// An outlet introduces itself: its type and its ring.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) outlet: EndpointId,
    pub(crate) name: Name,
    pub(crate) descriptor: TypeDescriptor,
    /// The overflow policy, as `layout` codes it.
    pub(crate) overflow: u32,
    /// Slots in the ring, a power of two.
    pub(crate) slots: u32,
    /// Bytes from one slot to the next.
    pub(crate) stride: u32,
    /// Bytes from a slot's word to its payload.
    pub(crate) payload_offset: u32,
    /// The line of the outlet's node's bell in which inlets set their sleepers bits.
    pub(crate) sleepers_line: u32,
    /// The line on which the outlet itself sleeps when its ring is full.
    pub(crate) sleeper_line: u32,
    pub(crate) ring: Arc<OwnedFd>,
}

/// An inlet takes an offer up: its cursor, and where it sleeps.
#[derive(Clone)]
pub(crate) struct Join {
    pub(crate) outlet: EndpointId,
    pub(crate) inlet: EndpointId,
    /// Bytes from the start of the cursor segment to the cursor word.
    pub(crate) cursor_offset: u32,
    /// Pin slots in the cursor segment.
    pub(crate) hold_limit: u32,
    /// The line of the inlet's node's bell on which the inlet sleeps.
    pub(crate) sleeper_line: u32,
    /// Whether the inlet has every processor fence before it sleeps, so that the outlet need not.
    pub(crate) fences_for_all: bool,
    pub(crate) cursor: Arc<OwnedFd>,
}

/// The outlet lets the inlet in.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(crate) outlet: EndpointId,
    pub(crate) inlet: EndpointId,
    /// The sequence number of the first message that the inlet reads.
    pub(crate) start: u64,
    /// The inlet's bit in the outlet's sleepers line.
    pub(crate) sleepers_bit: u32,
    /// Pool segments that exist already; sent as `Segment` frames before the admission itself.
    pub(crate) segments: Vec<Segment>,
}

/// A further pool segment of an outlet.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) outlet: EndpointId,
    /// Segments of one outlet are numbered from 0.
    pub(crate) index: u32,
    /// Chunks in the segment.
    pub(crate) chunks: u32,
    /// Bytes of one chunk.
    pub(crate) chunk_bytes: u64,
    pub(crate) memory: Arc<OwnedFd>,
}

/// Why one end turned the other away. Both ends learn it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The message types differ.
    Type(Difference),
    /// A limit of the refusing end is reached.
    Limit { what: String, limit: u64 },
    /// What the other end sent cannot be used.
    Unusable { reason: String },
}

impl Refusal {
    /// The refusal as the other side sees it.
    pub(crate) fn turned(self) -> Self {
        match self {
            Self::Type(Difference { what, ours, theirs }) => {
                Self::Type(Difference { what, ours: theirs, theirs: ours })
            }
            other => other,
        }
    }
}

/// What a peer did that no correct peer does. The connection is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) String);

/// The sending end of a stream, as the control plane sees it.
pub(crate) trait Outlet: Send + Sync {
    fn id(&self) -> EndpointId;
    fn name(&self) -> &Name;
    fn offer(&self) -> Offer;
    /// Lets an inlet in, or turns it away.
    fn admit(&self, peer: &Peer, join: Join) -> Result<Admission, Refusal>;
    /// The inlet left, or its process died.
    fn part(&self, inlet: EndpointId);
    /// An inlet of this node turned our offer down.
    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal);
    /// The frames of an announced segment have all been written; or anything else that may end a wait happened.
    fn progressed(&self);
}

/// The receiving end of a stream, as the control plane sees it.
pub(crate) trait Inlet: Send + Sync {
    fn id(&self) -> EndpointId;
    fn name(&self) -> &Name;
    /// Takes an offer up, or turns it down.
    fn join(&self, peer: &Peer, offer: Offer) -> Result<Join, Refusal>;
    /// The outlet let us in.
    fn admitted(&self, admission: Admission) -> Result<(), Violation>;
    /// The outlet has a further pool segment; known indices are passed over.
    fn segment(&self, segment: Segment) -> Result<(), Violation>;
    /// The outlet left, or its process died: what it had sent is still read.
    fn closed(&self, outlet: EndpointId);
    /// The pair with this outlet is over, held samples included, and the outlet has been told: it may be joined again.
    fn left(&self, outlet: EndpointId);
    /// The outlet, or its node, which has this name, turned us down.
    fn refused(&self, outlet: EndpointId, node_name: &str, refusal: Refusal);
}
