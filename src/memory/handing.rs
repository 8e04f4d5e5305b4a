//! How a region is handed on: who has it offers it to those who look for it, and whoever gets it offers it in turn.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::node::{
    Admission, Channel, EndpointError, EndpointId, EndpointRole, Form, Inlet, InletReport, Join, Node, Offer,
    Outlet, OutletReport, Peer, Refusal, TypeDescriptor, Violation,
};
use crate::os::clock::Deadline;
use crate::segment::SegmentError;
use crate::segment::region::RegionMemory;
use crate::sync::bell::Line;

/// How long who looks for a region sleeps without asking whether the node shuts down.
const SLICE: Duration = Duration::from_millis(50);

/// Who has a region, and offers it.
pub(super) struct Holder {
    node: Node,
    channel: Channel,
    outlet: EndpointId,
}

impl Holder {
    /// Offers this region from now on, until this is dropped.
    pub(super) fn open(
        node: &Node,
        channel: &Channel,
        descriptor: TypeDescriptor,
        memory: &Arc<RegionMemory>,
    ) -> Result<Self, EndpointError> {
        let offer = Offer {
            outlet: node.shared().next_endpoint(),
            channel: channel.clone(),
            form: Form::Region,
            lane: None,
            descriptor,
            overflow: 0,
            is_stamped: false,
            is_relayed: false,
            header: None,
            slots: 0,
            stride: 0,
            payload_offset: 0,
            sleeper_line: 0,
            generation: 0,
            base: 0,
            ring: Arc::clone(memory.memory()),
        };
        let outlet = offer.outlet;
        node.shared().add_outlet(Arc::new(HolderEnd {
            channel: channel.clone(),
            offer,
            memory: Arc::downgrade(memory),
        }))?;
        Ok(Self { node: node.clone(), channel: channel.clone(), outlet })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.node.shared().remove_outlet(self.outlet);
    }
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Holder").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// What the control plane knows of a holder.
struct HolderEnd {
    channel: Channel,
    offer: Offer,
    /// Not an attachment of its own: that ends when the program's does.
    memory: Weak<RegionMemory>,
}

impl Outlet for HolderEnd {
    fn id(&self) -> EndpointId {
        self.offer.outlet
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    /// `None` once the region's name has been taken away, by whomever.
    fn offer(&self) -> Option<Offer> {
        self.memory.upgrade()?.has_name().then(|| self.offer.clone())
    }

    /// Whoever has taken the offer up has the memory; there is nothing else to be had.
    fn admit(&self, _: &Peer, join: Join) -> Result<Admission, Refusal> {
        Ok(Admission::at_once(&join, (0, 0)))
    }

    fn part(&self, _: EndpointId) {}

    fn let_go(&self, _: EndpointId) {}

    fn listen(&self, _: EndpointId, _: Arc<OwnedFd>) {}

    fn report(&self) -> OutletReport {
        OutletReport {
            id: self.offer.outlet,
            pattern: self.channel.pattern(),
            name: self.channel.name().to_owned(),
            role: EndpointRole::Keeper,
            message_type: Some(self.offer.descriptor.clone()),
            policy: "",
            sent: 0,
            waiting: 0,
            is_blocked: false,
            history: 0,
            readers: Vec::new(),
        }
    }

    fn refused(&self, _: crate::node::NodeId, _: &str, _: Refusal) {}

    fn progressed(&self) {}
}

/// Who looks for a region.
pub(super) struct Seeker {
    node: Node,
    end: Arc<SeekerEnd>,
}

struct SeekerEnd {
    id: EndpointId,
    channel: Channel,
    line: Line,
    found: Mutex<Found>,
}

/// What has come.
#[derive(Default)]
struct Found {
    memory: Option<Arc<OwnedFd>>,
    pairs: Vec<EndpointId>,
    refusals: Vec<Refusal>,
}

impl Seeker {
    /// Asks everybody who has the region.
    pub(super) fn open(node: &Node, channel: &Channel) -> Result<Self, EndpointError> {
        let shared = node.shared();
        let (id, line) = (shared.next_endpoint(), shared.line()?);
        let end = Arc::new(SeekerEnd { id, channel: channel.clone(), line, found: Mutex::default() });
        let seeker = Self { node: node.clone(), end };
        shared.seek(Arc::clone(&seeker.end) as Arc<dyn Inlet>)?;
        Ok(seeker)
    }

    /// The region's memory; `None` if nobody has it. An error of the operating system's, or silence, is neither.
    pub(super) fn find(&self, deadline: Deadline) -> Result<Sought, EndpointError> {
        let shared = self.node.shared();
        loop {
            // Asked first: whatever came before everybody had answered is then there.
            let is_settled = shared.is_settled(self.end.id);
            let mut found = self.end.found();
            if let Some(memory) = found.memory.take() {
                return Ok(Sought::Found(memory));
            }
            if let (true, Some(refusal)) = (is_settled, found.refusals.pop()) {
                return Ok(Sought::Refused(refusal));
            }
            drop(found);
            if is_settled {
                return Ok(Sought::Nowhere);
            }
            if shared.is_shut_down() {
                return Err(EndpointError::ShutDown);
            }
            if deadline.has_passed() {
                return Ok(Sought::Silence);
            }
            // One answer will do: who is stopped keeps nobody waiting where another has it, too.
            let left = deadline.or_after(SLICE).remaining().unwrap_or(SLICE);
            shared.settle_or(self.end.id, left, || self.end.found().memory.is_some())?;
        }
    }
}

/// What looking came to.
pub(super) enum Sought {
    Found(Arc<OwnedFd>),
    /// Somebody has it, and could not hand it on.
    Refused(Refusal),
    /// Nobody has it.
    Nowhere,
    /// Somebody has it who does not answer.
    Silence,
}

impl Drop for Seeker {
    fn drop(&mut self) {
        let shared = self.node.shared();
        for outlet in std::mem::take(&mut self.end.found().pairs) {
            shared.leave_pair(self.end.id, outlet);
        }
        shared.remove_inlet(self.end.id);
    }
}

impl SeekerEnd {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet for SeekerEnd {
    fn id(&self) -> EndpointId {
        self.id
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn join(&self, _: &Peer, offer: Offer) -> Result<Join, Refusal> {
        if offer.form != Form::Region || offer.lane.is_some() || offer.header.is_some() {
            let reason = "it offers something else where a region was due";
            return Err(Refusal::Unusable { reason: reason.to_owned() });
        }
        let mut found = self.found();
        found.pairs.push(offer.outlet);
        // All of them have the same.
        found.memory.get_or_insert(offer.ring);
        Ok(Join {
            outlet: offer.outlet,
            inlet: self.id,
            cursor_offset: 0,
            hold_limit: 0,
            notes: 0,
            sleeper_line: self.line.number(),
            is_observer: true,
            generation: offer.generation,
            history: 0,
            fences_for_all: true,
            cursor: None,
            eventfd: None,
        })
    }

    fn admitted(&self, _: Admission) -> Result<(), Violation> {
        Ok(())
    }

    fn fall_short(&self, _: EndpointId, error: &SegmentError) {
        self.found().refusals.push(Refusal::Unusable { reason: error.to_string() });
    }

    fn detached(&self, _: EndpointId) {}

    fn closed(&self, _: EndpointId) {}

    fn left(&self, _: EndpointId) {}

    fn refused(&self, _: EndpointId, _: &str, refusal: Refusal) {
        self.found().refusals.push(refusal);
    }

    fn progressed(&self) {}

    fn eventfd(&self) -> Option<Arc<OwnedFd>> {
        None
    }

    fn report(&self) -> InletReport {
        InletReport {
            id: self.id,
            pattern: self.channel.pattern(),
            name: self.channel.name().to_owned(),
            role: EndpointRole::Receiver,
            message_type: None,
            is_observer: true,
            publishers: 0,
            received: 0,
            lost: 0,
        }
    }
}
