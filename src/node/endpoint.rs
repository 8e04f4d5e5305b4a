//! What the control plane knows of an endpoint: enough to introduce it to its peers, nothing of its messages.
//!
//! An **outlet** is the sending end of a stream (a publisher), an **inlet** the receiving end (a subscriber). A **hub** has
//! an outlet of its own for each inlet on the other side, a **lane**, which nobody else may join: the producer of a queue,
//! the client of a service, its server.
//!
//! The control plane carries their words – offer, join, admission, segment – between processes, and hands the
//! same values over directly when both ends live in one process. Every method returns at once.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::carrier::Carrier;
use super::descriptor::{Difference, TypeDescriptor};
use super::domain::{Channel, Role};
use super::identity::{EndpointId, NodeId};
use super::report::{InletReport, OutletReport};
use crate::segment::SegmentError;
use crate::sync::bell::PeerBell;

/// The process at the other end, as both ends of a stream need it.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) name: Arc<str>,
    /// For people.
    pub(crate) pid: u32,
    /// Whether it passes on what it receives.
    pub(crate) is_gateway: bool,
    pub(crate) bell: Arc<PeerBell>,
}

/// An outlet introduces itself: its type and its ring.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) outlet: EndpointId,
    pub(crate) channel: Channel,
    /// What its segment holds.
    pub(crate) form: Form,
    /// Whom it is for, if it is not for every inlet of its channel.
    pub(crate) lane: Option<Lane>,
    pub(crate) descriptor: TypeDescriptor,
    /// The overflow policy, as `docs/protocol.md` codes it.
    pub(crate) overflow: u32,
    /// Whether each message is preceded by the time at which it was sent.
    pub(crate) is_stamped: bool,
    /// Whether each message is preceded by whose it was before the outlet passed it on.
    pub(crate) is_relayed: bool,
    /// The type of the user's header before each message, if there is one.
    pub(crate) header: Option<TypeDescriptor>,
    /// Slots in the ring, a power of two.
    pub(crate) slots: u32,
    /// Bytes from one slot to the next.
    pub(crate) stride: u32,
    /// Bytes from a slot's word to its payload.
    pub(crate) payload_offset: u32,
    /// The line of the outlet's node's bell on which the outlet itself sleeps when its ring is full.
    pub(crate) sleeper_line: u32,
    /// How many rings there were before this one.
    pub(crate) generation: u32,
    /// What is added to sequence numbers where they count on from an earlier outlet's.
    pub(crate) base: u64,
    pub(crate) ring: Arc<OwnedFd>,
}

/// What the segment of an outlet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A ring: messages, one after the other, and inlets with cursors.
    Ring,
    /// A board: cells that are written again and again, and inlets that only look.
    Board,
    /// A region: memory that everybody who has it may write, and hands on.
    Region,
}

/// An outlet for one inlet alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    /// The inlet that it is for.
    pub(crate) to: EndpointId,
    /// The hub whose lane it is.
    pub(crate) from: EndpointId,
    /// What the hub takes in the other direction, if it takes anything.
    pub(crate) accepts: Option<TypeDescriptor>,
}

/// An outlet goes on in another ring of the same shape.
#[derive(Clone)]
pub(crate) struct NewRing {
    pub(crate) outlet: EndpointId,
    /// How many rings there were before this one.
    pub(crate) generation: u32,
    /// The first message in it.
    pub(crate) start: u64,
    pub(crate) memory: Arc<OwnedFd>,
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
    /// Words after the pins that mean what the channel's pattern says.
    pub(crate) notes: u32,
    /// The line of the inlet's node's bell on which the inlet sleeps.
    pub(crate) sleeper_line: u32,
    /// Whether the outlet need not wait for the inlet.
    pub(crate) is_observer: bool,
    /// The generation of the ring that the inlet was offered.
    pub(crate) generation: u32,
    /// Earlier messages that the inlet wants at most; in a queue, how many it takes before it has settled the first.
    pub(crate) history: u32,
    /// Whether the inlet has every processor fence before it sleeps, so that the outlet need not.
    pub(crate) fences_for_all: bool,
    /// Nobody waits for the readers of a board: they have none.
    pub(crate) cursor: Option<Arc<OwnedFd>>,
    /// Where the inlet sleeps when it sleeps on a descriptor of its own.
    pub(crate) eventfd: Option<Arc<OwnedFd>>,
}

/// The outlet lets the inlet in.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(crate) outlet: EndpointId,
    pub(crate) inlet: EndpointId,
    /// The sequence number of the first message that the inlet reads.
    pub(crate) start: u64,
    /// The line of the outlet's node's bell in which the inlet sets its bit.
    pub(crate) sleepers_line: u32,
    /// The inlet's bit in that line.
    pub(crate) sleepers_bit: u32,
    /// Pool segments that exist already; sent as `Segment` frames before the admission itself.
    pub(crate) segments: Vec<Segment>,
    /// The ring in which the outlet has gone on since its offer; sent as a frame before the admission itself.
    pub(crate) ring: Option<NewRing>,
}

impl Admission {
    /// To what has neither pool nor rings, and begins with what is there.
    pub(crate) fn at_once(join: &Join, (sleepers_line, sleepers_bit): (u32, u32)) -> Self {
        let (outlet, inlet) = (join.outlet, join.inlet);
        Self { outlet, inlet, start: 0, sleepers_line, sleepers_bit, segments: Vec::new(), ring: None }
    }
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

/// Why an inlet cannot go on with its outlet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// The outlet broke the rules.
    Violation(Violation),
    /// There is no memory here for what it sent, or no descriptor.
    Shortage(SegmentError),
}

impl Setback {
    /// What an error about a peer's segment comes down to.
    pub(crate) fn of(error: SegmentError) -> Self {
        if error.is_shortage() { Self::Shortage(error) } else { Violation(error.to_string()).into() }
    }
}

impl From<Violation> for Setback {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// The sending end of a stream, as the control plane sees it.
pub(crate) trait Outlet: Send + Sync {
    fn id(&self) -> EndpointId;
    fn channel(&self) -> &Channel;
    /// Its offer; `None` for a lane that has been joined, as nobody else can.
    fn offer(&self) -> Option<Offer>;
    /// Lets an inlet in, or turns it away.
    fn admit(&self, peer: &Peer, join: Join) -> Result<Admission, Refusal>;
    /// The inlet left, or its process died.
    fn part(&self, inlet: EndpointId);
    /// The inlet's connection is over, though its process lives: nobody is to wait for it, nor to touch what it may be reading.
    fn let_go(&self, inlet: EndpointId);
    /// An inlet that was let in sleeps on a descriptor of its own from now on.
    fn listen(&self, inlet: EndpointId, eventfd: Arc<OwnedFd>);
    /// What it has done so far, for those who look.
    fn report(&self) -> OutletReport;
    /// An inlet of this node turned our offer down.
    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal);
    /// From now on what is sent is carried by this one, on behalf of an inlet that receives it from message `next` on, if it is of a kind
    /// that can be.
    fn carry(&self, _inlet: EndpointId, _carrier: &dyn Carrier, _next: u64) {}
    /// The frames of an announced segment have all been written; or anything else that may end a wait happened.
    fn progressed(&self);
}

/// The receiving end of a stream, as the control plane sees it.
pub(crate) trait Inlet: Send + Sync {
    fn id(&self) -> EndpointId;
    fn channel(&self) -> &Channel;
    /// Takes an offer up, or turns it down.
    fn join(&self, peer: &Peer, offer: Offer) -> Result<Join, Refusal>;
    /// The outlet let us in.
    fn admitted(&self, admission: Admission) -> Result<(), Violation>;
    /// The outlet has a further pool segment; known indices are passed over.
    fn segment(&self, _: Segment) -> Result<(), Setback> {
        Err(Violation("a pool segment of what has no pool".to_owned()).into())
    }
    /// The outlet goes on in another ring; known ones are passed over.
    fn ring(&self, _: NewRing) -> Result<(), Setback> {
        Err(Violation("a further ring of what has none".to_owned()).into())
    }
    /// Something of the outlet's cannot be had here. What has come already is still read; then whoever reads is told.
    fn fall_short(&self, outlet: EndpointId, error: &SegmentError);
    /// The outlet has let go of us: what it had sent until then is still read.
    fn detached(&self, outlet: EndpointId);
    /// The outlet left, or its process died: what it had sent is still read.
    fn closed(&self, outlet: EndpointId);
    /// The pair with this outlet is over, held samples included, and the outlet has been told: it may be joined again.
    fn left(&self, outlet: EndpointId);
    /// The outlet, or its node, which has this name, turned us down.
    fn refused(&self, outlet: EndpointId, node_name: &str, refusal: Refusal);
    /// Something that may end a wait happened: somebody rang the node's own eventfd, or the node shuts down.
    fn progressed(&self);
    /// Where it sleeps when it sleeps on a descriptor of its own.
    fn eventfd(&self) -> Option<Arc<OwnedFd>>;
    /// What it has done so far, for those who look.
    fn report(&self) -> InletReport;
    /// As one that keeps what outlets leave, if it does.
    fn heir(&self) -> Option<&dyn Heir> {
        None
    }
}

/// An inlet that keeps the newest message that outlets have left, and passes it on to inlets that come later.
pub(crate) trait Heir {
    /// Whether it has nothing, and there is nobody to get anything from but other heirs; or only this outlet.
    fn lacks_value(&self, offer: Option<&Offer>) -> bool;
    /// The version of what it keeps; 0 if there is none.
    fn version_left(&self) -> u64;
    /// The outlet with which it passes that on, made now if there is none; two bell lines are there for it. `None` as long as
    /// it is not ready: it is passed on when it is.
    fn relay(&self) -> Option<Arc<dyn Outlet>>;
    /// Gives up the outlet if it passes on what is not kept any more, or in any case if the inlet leaves; which it was.
    fn retire(&self, leaves: bool) -> Option<EndpointId>;
}

/// An endpoint with a lane to each inlet on the other side, as the control plane sees it.
pub(crate) trait Hub: Send + Sync {
    /// Its identity; that of its inlet, if it has one.
    fn id(&self) -> EndpointId;
    fn channel(&self) -> &Channel;
    fn role(&self) -> Role;
    /// A fresh lane to an inlet, which takes this, if its own hub has said so; `None` if there is one. Two bell lines are there
    /// for it.
    fn lane(
        &self,
        inlet: EndpointId,
        accepts: Option<&TypeDescriptor>,
    ) -> Result<Option<Arc<dyn Outlet>>, Refusal>;
    /// One of its lanes is read from now on.
    fn joined(&self) {}
    /// The lane to this inlet is over: the inlet left, its process died, one end turned the other away, or the hub has let go of it.
    fn parted(&self, inlet: EndpointId);
    /// The inlet's node, which has this name, or we turned the other away before there was a lane.
    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal);
    /// Something that may end a wait happened: somebody rang the node's own eventfd, or the node shuts down.
    fn progressed(&self);
    /// What it has done so far, for those who look; what its lanes have sent, and who reads them, is added.
    fn report(&self) -> OutletReport;
    /// It asked for this with `NodeShared::attend`: a call without any lock, by the thread that serves the node.
    fn attend(&self) {}
}
