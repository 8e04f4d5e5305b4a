//! An outlet with which a reader passes on the value that a writer has left. It has one message, written when the first
//! newcomer joins, and never another. A long one is written before, beside everything else that the node does: the outlet is
//! offered when that is done.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::legacy::{Body, Left};
use super::version::Base;
use crate::message::outlet::PublisherShared;
use crate::message::overflow::Overflow;
use crate::message::payload;
use crate::node::{
    Admission, Channel, EndpointId, Form, Join, NodeId, NodeShared, Offer, Outlet, OutletReport, Peer,
    Refusal, Segment,
};
use crate::sync::geometry::Geometry;
use crate::sync::store_line::StoreWord;
use crate::sync::stream::{Marking, PoolLimit, Relic, Retention, SendingEnd, Warmth};

/// Bytes up to which a value travels in its slot: the ring is made although nobody may join.
const SLOT_BYTES_MAX: usize = 248;
/// Slots of its ring, of which one is used.
const SLOTS: usize = 1;

/// Bytes up to which a value is written while a newcomer is let in, and everybody else waits for that.
const WRITTEN_AT_ONCE_BYTES_MAX: usize = 1 << 20;

/// Such an outlet.
pub(super) struct Relay {
    version: u64,
    node: Arc<NodeShared>,
    shared: PublisherShared,
    filling: Mutex<Filling>,
    /// Whether nothing long is to be written any more.
    is_ready: AtomicBool,
    /// Whether that has been begun.
    is_begun: AtomicBool,
}

/// The sending end, and what it has still to send.
struct Filling {
    end: SendingEnd,
    left: Option<Left>,
}

impl Relay {
    /// An outlet for what was left; two bell lines are there for it. `None` if there is no memory.
    pub(super) fn new(node: &Arc<NodeShared>, channel: &Channel, left: Left) -> Option<Self> {
        let retention = Retention { drops_oldest: true, history: 1 };
        let align = usize::try_from(left.descriptor.align).ok()?;
        let in_slot = match &left.body {
            Body::Copied(bytes) if bytes.len() <= SLOT_BYTES_MAX => bytes.len(),
            _ => 0,
        };
        let geometry = Geometry::for_payload(in_slot, align, Some(SLOTS));
        let (end, created) = SendingEnd::create(geometry, retention, 0, StoreWord::alone()).ok()?;
        let (sleeper, sleepers) = (Arc::new(node.bell().line().ok()?), node.bell().line().ok()?);
        let offer = Offer {
            outlet: node.next_endpoint(),
            channel: channel.clone(),
            form: Form::Ring,
            lane: None,
            descriptor: left.descriptor.clone(),
            overflow: Overflow::Latest.code(),
            is_stamped: false,
            is_relayed: false,
            header: None,
            slots: geometry.slots() as u32,
            stride: geometry.stride() as u32,
            payload_offset: geometry.payload_offset() as u32,
            sleeper_line: sleeper.number(),
            generation: 0,
            base: Base::of_relay(left.version).bits(),
            ring: created.memory,
        };
        let tail = end.shared_tail();
        let shared =
            PublisherShared::new(Arc::clone(node), offer, (sleeper, sleepers), tail, retention, false);
        let version = left.version;
        // Without a control thread it is written by whoever waits, as is done with everything.
        let is_ready = left.length <= WRITTEN_AT_ONCE_BYTES_MAX || !node.has_thread();
        Some(Self {
            version,
            node: Arc::clone(node),
            shared,
            filling: Mutex::new(Filling { end, left: Some(left) }),
            is_ready: AtomicBool::new(is_ready),
            is_begun: AtomicBool::new(false),
        })
    }

    /// Whether it can be offered. If not, it will be: then a thread writes its value, and has it offered to whoever lacks
    /// it.
    pub(super) fn is_ready(self: &Arc<Self>) -> bool {
        if self.is_ready.load(Ordering::Acquire) {
            return true;
        }
        if self.is_begun.swap(true, Ordering::Relaxed) {
            return false;
        }
        let relay = Arc::clone(self);
        let thread = thread::Builder::new().name("tidepost-relay".to_owned());
        let started = thread.spawn(move || {
            // One that cannot be written is refused to those who join, as a short one is.
            let _ = relay.fill();
            relay.is_ready.store(true, Ordering::Release);
            relay.node.pass_on(relay.channel());
        });
        started.is_err()
    }

    /// The version of what it passes on.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Writes the value, unless that has been done.
    fn fill(&self) -> Option<()> {
        let Filling { end, left } = &mut *self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Left { descriptor, body, length, .. }) = &left else { return Some(()) };
        match body {
            Body::Copied(bytes) => {
                self.make_room(end, *length)?;
                end.loan_mut().copy_from_slice(bytes);
            }
            Body::Lies(attachment) => {
                let relic = Relic::of(attachment, payload::extent_of(descriptor))?;
                self.make_room(end, *length)?;
                relic.copy_to(end.loan_mut()).then_some(())?;
            }
        }
        end.commit();
        *left = None;
        Some(())
    }

    fn make_room(&self, end: &mut SendingEnd, length: usize) -> Option<()> {
        if end.prepare(length, Warmth::Any, Marking::Needed).is_ok() {
            return Some(());
        }
        let created = end.grow(length, PoolLimit::Chosen(length)).ok()??;
        self.shared.add_segment(Segment {
            outlet: self.shared.id(),
            index: created.index,
            chunks: created.chunks,
            chunk_bytes: created.chunk_bytes as u64,
            memory: created.created.memory,
        });
        end.activate();
        end.prepare(length, Warmth::Any, Marking::Needed).ok()
    }
}

impl Outlet for Relay {
    fn id(&self) -> EndpointId {
        self.shared.id()
    }

    fn channel(&self) -> &Channel {
        self.shared.channel()
    }

    fn offer(&self) -> Option<Offer> {
        self.shared.offer()
    }

    fn admit(&self, peer: &Peer, join: Join) -> Result<Admission, Refusal> {
        let gone = || Refusal::Unusable { reason: "there is no memory to pass the value on".to_owned() };
        self.fill().ok_or_else(gone)?;
        self.shared.admit(peer, join)
    }

    fn part(&self, inlet: EndpointId) {
        self.shared.part(inlet);
    }

    fn let_go(&self, _: EndpointId) {
        // Nothing is ever written again that somebody may be reading.
    }

    fn listen(&self, inlet: EndpointId, eventfd: Arc<OwnedFd>) {
        self.shared.listen(inlet, eventfd);
    }

    fn report(&self) -> OutletReport {
        self.shared.report()
    }

    fn refused(&self, _: NodeId, _: &str, _: Refusal) {
        // Who has the value already says no.
    }

    fn progressed(&self) {}
}
