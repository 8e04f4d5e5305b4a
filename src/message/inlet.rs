//! What a subscriber shares with its node's control plane: the streams that are joining, joined, or closed.

use std::collections::HashMap;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::berth::Berth;
use super::error::Refused;
use super::event::{Counterpart, Event, Events};
use super::overflow::Overflow;
use super::payload;
use super::prefix::{HeaderType, Prefix};
use super::refusals::{Refusals, refused};
use super::state::{Base, Legacy};
use crate::node::{
    Admission, Carrier, Channel, Difference, EndpointId, EndpointRole, Form, Heir, Host, Inlet, InletReport,
    Join, NewRing, Node, Offer, Pattern, Peer, Refusal, Segment, Setback, Shape, TypeDescriptor, Violation,
};
use crate::segment::SegmentError;
use crate::sync::bell::{Fencing, Line, PeerBell, PeerSleepers};
use crate::sync::geometry::Geometry;
use crate::sync::pool::PoolMemory;
use crate::sync::ring::{CursorMemory, RingMemory};
use crate::sync::stream::{Attachment, Lending, Loss, Origins, Reading, ReceivingEnd, Relaying, Totals};

/// The last sequence number that a stream may start at: beyond what any stream reaches in a lifetime.
const START_MAX: u64 = 1 << 50;

/// The part of a subscriber that its control plane also touches.
pub(super) struct SubscriberShared {
    pub(super) channel: Channel,
    id: EndpointId,
    pub(super) options: ReceiverOptions,
    /// Where it sleeps.
    berth: Berth,
    has_incoming: AtomicBool,
    cursors_made: AtomicU64,
    pub(super) events: Events,
    /// Of the streams that are over.
    totals: Arc<Totals>,
    /// Whose messages are passed on to it.
    origins: Arc<Origins>,
    /// What writers have left, if this is the reader of a state.
    pub(super) legacy: Legacy,
    state: Mutex<State>,
}

/// What a subscriber is made with.
#[derive(Clone, Debug)]
pub(super) struct ReceiverOptions {
    /// The type of its messages; `None` if it takes any.
    pub(super) descriptor: Option<TypeDescriptor>,
    pub(super) header: Option<HeaderType>,
    pub(super) hold_limit: u32,
    /// Earlier messages that it wants at most.
    pub(super) history: u32,
    pub(super) is_observer: bool,
    pub(super) lending: Lending,
    /// Words for each outlet, which mean what the pattern says.
    pub(super) notes: u32,
    /// What else the other end has to agree with, if it is a hub.
    pub(super) pair: Option<PairTypes>,
    /// Who carries what publishers of this node send, if somebody does.
    pub(super) carrier: Option<(Host, Arc<dyn Carrier>)>,
}

/// The other types of a service.
#[derive(Clone, Debug)]
pub(super) struct PairTypes {
    /// What failures are, in the stream that comes in.
    pub(super) failure: Option<TypeDescriptor>,
    /// What goes out in the other direction.
    pub(super) returned: Option<TypeDescriptor>,
}

#[derive(Default)]
struct State {
    joining: HashMap<EndpointId, Joining>,
    /// The ties of all pairs that are joining, joined, or over but not left yet: none of them may be joined again.
    attached: HashMap<EndpointId, Weak<Attachment>>,
    /// Publishers that are connected.
    publishers: HashMap<EndpointId, Counterpart>,
    incoming: Vec<Source>,
    /// Whose streams were over, with nothing in them, before they were taken over.
    ended: Vec<EndpointId>,
    refusals: Refusals,
}

/// A stream that has been offered and taken up, but not admitted yet.
struct Joining {
    peer: Peer,
    offer: Offered,
    attachment: Arc<Attachment>,
}

/// What is needed of an offer once it has been taken up.
struct Offered {
    geometry: Geometry,
    overflow: Overflow,
    prefix: Prefix,
    descriptor: TypeDescriptor,
    base: Base,
    header: Option<TypeDescriptor>,
    /// The hub whose lane it is, or the outlet itself.
    from: EndpointId,
}

/// What is known of a stream's messages.
#[derive(Debug)]
pub(super) struct About {
    /// Whose it is: the publisher, or the hub whose lane it is.
    pub(super) publisher: Counterpart,
    /// What its messages are.
    pub(super) descriptor: TypeDescriptor,
    /// What its headers are, or its failures if it is a server's.
    pub(super) header: Option<TypeDescriptor>,
    pub(super) prefix: Prefix,
}

/// A stream that the subscriber reads.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) about: About,
    outlet: EndpointId,
    /// What its numbers count on from, if it is a state's.
    pub(super) base: Base,
    pub(super) end: ReceivingEnd,
    /// Our bit at the publisher.
    pub(super) sleepers: PeerSleepers,
    /// The bell that the bit lies in stays mapped with it.
    _bell: Arc<PeerBell>,
}

/// Tells the publisher that this pair is over, when the last held sample has gone.
pub(super) struct LeaveOnDrop {
    pub(super) node: Node,
    pub(super) inlet: EndpointId,
    pub(super) outlet: EndpointId,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.node.shared().leave_pair(self.inlet, self.outlet);
    }
}

impl SubscriberShared {
    pub(super) fn new(node: Node, channel: Channel, options: ReceiverOptions, line: Arc<Line>) -> Self {
        let id = node.shared().next_endpoint();
        Self {
            id,
            channel,
            options,
            berth: Berth::new(node, id, line),
            events: Events::default(),
            totals: Arc::default(),
            origins: Arc::default(),
            legacy: Legacy::default(),
            has_incoming: AtomicBool::new(false),
            cursors_made: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was prepared for the descriptor has come to its end with something that the program may not have been after: for
    /// a service the descriptor is readable until it is prepared anew.
    pub(super) fn keep_readable(&self) {
        if self.is_service()
            && self.berth.is_watched()
            && let Some(eventfd) = self.berth.own_eventfd()
        {
            eventfd.signal();
        }
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

    /// Leaves the streams that have not been taken over, nor ever will be.
    pub(super) fn leave_all(&self) {
        let mut state = self.state();
        let left = (std::mem::take(&mut state.incoming), std::mem::take(&mut state.joining));
        drop(state);
        drop(left);
    }

    /// Whose streams were over before they were taken over, since that was asked last.
    pub(super) fn take_ended(&self) -> Vec<EndpointId> {
        std::mem::take(&mut self.state().ended)
    }

    /// Streams admitted, taken over or not, whose publishers are there.
    pub(super) fn connected(&self) -> usize {
        self.state().publishers.len()
    }

    /// Who turned us away, or was turned away; the last of them.
    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.state().refusals.list()
    }

    fn remember(&self, refused: Refused) {
        self.state().refusals.remember(refused.clone());
        self.events.push(Event::Refused(refused));
    }

    fn attach(&self, peer: &Peer, offer: &Offer, geometry: Geometry) -> Result<(Attachment, Join), Refusal> {
        let unusable = |reason: String| Refusal::Unusable { reason };
        let ring = RingMemory::receive(&offer.ring, geometry).map_err(|error| unusable(error.to_string()))?;
        let place = self.cursors_made.fetch_add(1, Ordering::Relaxed) + self.id.number;
        // One pin more than the program may hold, for the message that is lent.
        let pins = self.options.hold_limit + 1;
        // In a queue, one for each item that may be on its way.
        let notes = if self.is_queue() { offer.slots } else { self.options.notes };
        let (cursor, created, cursor_offset) =
            CursorMemory::create((pins, notes), place).map_err(|error| unusable(error.to_string()))?;
        let publisher = peer.bell.sleeper(offer.sleeper_line, None);
        let publisher =
            publisher.ok_or_else(|| unusable(format!("bell line {} does not exist", offer.sleeper_line)))?;
        let last = LeaveOnDrop { node: self.node.clone(), inlet: self.id, outlet: offer.outlet };
        let totals = Arc::clone(&self.totals);
        let attachment = Attachment::new(
            (ring, offer.generation),
            cursor,
            publisher,
            self.options.hold_limit,
            totals,
            Box::new(last),
        );
        let join = Join {
            outlet: offer.outlet,
            inlet: self.id,
            cursor_offset,
            hold_limit: pins,
            sleeper_line: self.line.number(),
            is_observer: self.options.is_observer,
            generation: offer.generation,
            history: self.options.history,
            eventfd: self.own_eventfd().map(|eventfd| Arc::clone(eventfd.descriptor())),
            fences_for_all: Fencing::of_this_process() == Fencing::Asymmetric,
            notes,
            cursor: Some(created.memory),
        };
        Ok((attachment, join))
    }

    fn check(&self, offer: &Offer) -> Result<Offered, Refusal> {
        if self.state().attached.contains_key(&offer.outlet) {
            let reason = "messages of the connection before are still held, or not read yet";
            return Err(Refusal::Unusable { reason: reason.to_owned() });
        }
        if offer.form != Form::Ring {
            return Err(Refusal::Unusable { reason: "it offers a board where a ring was due".to_owned() });
        }
        let unusable = |reason: String| Refusal::Unusable { reason };
        let overflow = Overflow::of_code(offer.overflow);
        let overflow = overflow.ok_or_else(|| unusable(format!("policy {} is unknown", offer.overflow)))?;
        if (self.is_queue() || self.is_service()) && (offer.lane.is_none() || overflow.drops()) {
            let reason = "it offers a ring that loses messages, or is for everybody, where a lane was due";
            return Err(unusable(reason.to_owned()));
        }
        if let Some(difference) = self.difference(offer) {
            return Err(Refusal::Type(difference));
        }
        let geometry = Geometry::claimed(offer.slots, offer.stride, offer.payload_offset);
        let geometry = geometry.map_err(|error| unusable(error.to_string()))?;
        let descriptors = std::iter::once(&offer.descriptor).chain(&offer.header);
        for TypeDescriptor { align, size, .. } in descriptors.clone() {
            if !align.is_power_of_two() || *align > TypeDescriptor::ALIGN_MAX || *size > isize::MAX as u64 {
                return Err(unusable(format!("a type of {size} B aligned to {align} B is none")));
            }
            if !(geometry.payload_offset() as u64).is_multiple_of(*align) {
                return Err(unusable(format!("its slots are not aligned to {align} B")));
            }
        }
        let is_too_long = |header: &TypeDescriptor| header.size > Prefix::HEADER_BYTES_MAX;
        if !self.is_service() && offer.header.as_ref().is_some_and(is_too_long) {
            return Err(unusable(format!("its header has more than {} B", Prefix::HEADER_BYTES_MAX)));
        }
        if !self.is_service() && offer.header.as_ref().is_some_and(|header| header.shape != Shape::One) {
            return Err(unusable("its header is a slice".to_owned()));
        }
        let align = descriptors.map(|descriptor| descriptor.align as usize).max().unwrap_or(1);
        let prefix = if self.is_service() {
            Prefix::of_call(align)
        } else {
            let said = (offer.is_stamped, offer.is_relayed);
            Prefix::new(said, offer.header.as_ref(), offer.descriptor.align as usize)
        };
        if self.is_queue() && prefix != Prefix::default() {
            return Err(unusable("something comes before each of its items".to_owned()));
        }
        if self.is_state() && (overflow != Overflow::Latest || prefix != Prefix::default()) {
            return Err(unusable("it is none of a state's writer".to_owned()));
        }
        let (descriptor, header) = (offer.descriptor.clone(), offer.header.clone());
        let base = Base::from_bits(offer.base);
        let from = offer.lane.as_ref().map_or(offer.outlet, |lane| lane.from);
        Ok(Offered { geometry, overflow, prefix, descriptor, base, header, from })
    }

    /// Whether this is the reader of a state.
    pub(super) fn is_state(&self) -> bool {
        self.channel.pattern() == Pattern::State
    }

    /// The first point in which what is offered is not what we receive.
    fn difference(&self, offer: &Offer) -> Option<Difference> {
        let ReceiverOptions { descriptor, header, pair, .. } = &self.options;
        let accepts = offer.lane.as_ref().and_then(|lane| lane.accepts.as_ref());
        let header = header.as_ref().map(|header| &header.descriptor);
        let failure = pair.as_ref().and_then(|pair| pair.failure.as_ref());
        let returned = pair.as_ref().and_then(|pair| pair.returned.as_ref());
        let differs = descriptor.as_ref().and_then(|ours| ours.first_difference(&offer.descriptor));
        differs
            .or_else(|| difference_of("header", header, offer.header.as_ref()))
            .or_else(|| difference_of("failure", failure, offer.header.as_ref()))
            .or_else(|| difference_of("the other direction", returned, accepts))
    }

    /// How a stream with this offer is read.
    fn reading(&self, offer: &Offered) -> Reading {
        let loss = match (offer.overflow, self.options.is_observer) {
            (Overflow::Latest, _) => Loss::AllButNewest,
            (Overflow::DropOldest, _) | (_, true) => Loss::Oldest,
            (Overflow::Block | Overflow::Fail, false) => Loss::Nothing,
        };
        let extent = payload::extent_of(&offer.descriptor);
        let may_be_bare = self.is_service();
        let (lending, prefix) = (self.options.lending, offer.prefix.bytes());
        Reading { loss, lending, extent, prefix, may_be_bare, is_settling: self.is_queue() }
    }

    /// Has what is sent there carried from message `next` on, if that is one whose messages are.
    fn have_carried(&self, outlet: EndpointId, next: u64) {
        if let Some((host, carrier)) = &self.options.carrier
            && let Some(outlet) = host.outlet(outlet)
        {
            outlet.carry(self.id, &**carrier, next);
        }
    }

    /// Whether this is an end of a service: what comes in has its word before it, and who sends it is told of streams that
    /// come and go.
    pub(super) fn is_service(&self) -> bool {
        self.channel.pattern() == Pattern::Service
    }

    /// Whether messages are settled one by one, and each publisher lends some at once.
    fn is_queue(&self) -> bool {
        self.channel.pattern() == Pattern::Queue
    }
}

/// Who sleeps, and is woken, does so in its berth.
impl Deref for SubscriberShared {
    type Target = Berth;

    #[inline]
    fn deref(&self) -> &Berth {
        &self.berth
    }
}

/// The first point in which a further type, if we have one, is not the other end's.
fn difference_of(
    which: &str,
    ours: Option<&TypeDescriptor>,
    theirs: Option<&TypeDescriptor>,
) -> Option<Difference> {
    let none = TypeDescriptor::of_primitive::<[u8; 0]>("none");
    let Difference { what, ours, theirs } = ours?.first_difference(theirs.unwrap_or(&none))?;
    Some(Difference { what: format!("{which}: {what}"), ours, theirs })
}

impl Inlet for SubscriberShared {
    fn id(&self) -> EndpointId {
        self.id
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn join(&self, peer: &Peer, offer: Offer) -> Result<Join, Refusal> {
        if self.is_state() && !self.legacy.wants(&offer) {
            return Err(Refusal::Unusable { reason: "the value is known here".to_owned() });
        }
        let joined = self.check(&offer).and_then(|offered| {
            let attached = self.attach(peer, &offer, offered.geometry)?;
            Ok((offered, attached))
        });
        match joined {
            Ok((offered, (attachment, join))) => {
                let attachment = Arc::new(attachment);
                if self.is_state() {
                    self.legacy.joined(&offer);
                }
                let mut state = self.state();
                state.attached.insert(offer.outlet, Arc::downgrade(&attachment));
                state
                    .joining
                    .insert(offer.outlet, Joining { peer: peer.clone(), offer: offered, attachment });
                Ok(join)
            }
            Err(refusal) => {
                self.remember(refused(peer.node, &peer.name, refusal.clone()));
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
        let Joining { peer, offer, attachment } = joining;
        let sleepers = peer.bell.sleepers(admission.sleepers_line, admission.sleepers_bit);
        let sleepers =
            sleepers.ok_or_else(|| Violation("an admission with a bell line that is none".to_owned()))?;
        if self.is_state() {
            self.legacy.admitted(admission.outlet, &attachment);
        }
        let is_short = attachment.shortage().is_some();
        let relayed_at = offer.prefix.relayed_at();
        let relaying = relayed_at.map(|at| Relaying::new(at, Arc::clone(&self.origins)));
        let reading = self.reading(&offer);
        let end = ReceivingEnd::new(attachment, offer.geometry, admission.start, reading, relaying);
        let publisher = Counterpart::new(offer.from, &peer);
        state.incoming.push(Source {
            about: About {
                publisher: publisher.clone(),
                descriptor: offer.descriptor,
                header: offer.header,
                prefix: offer.prefix,
            },
            outlet: admission.outlet,
            base: offer.base,
            end,
            sleepers,
            _bell: peer.bell,
        });
        // Who only passes a value on is nobody to be told of; for whom there is no memory, that has been told.
        let is_publisher = !(is_short || self.is_state() && offer.base.is_relay());
        if is_publisher {
            state.publishers.insert(admission.outlet, publisher.clone());
        }
        drop(state);
        self.has_incoming.store(true, Ordering::Release);
        self.have_carried(admission.outlet, admission.start);
        if is_publisher {
            self.events.push(Event::Joined(publisher));
        }
        self.wake();
        Ok(())
    }

    fn segment(&self, segment: Segment) -> Result<(), Setback> {
        let state = self.state();
        let attachment = state.attached.get(&segment.outlet).and_then(Weak::upgrade);
        // Before we are let in, what is news for others of our node may come in between; our admission brings all.
        let is_joining = state.joining.contains_key(&segment.outlet);
        drop(state);
        let Some(attachment) = attachment.filter(|attachment| attachment.shortage().is_none()) else {
            // Nobody reads on, or not as far as this.
            return Ok(());
        };
        let memory = PoolMemory::receive(&segment.memory, segment.chunks, segment.chunk_bytes);
        let is_in_order = attachment.add_segment(segment.index, memory.map_err(Setback::of)?) || is_joining;
        self.wake();
        if is_in_order { Ok(()) } else { Err(Violation("a pool segment out of order".to_owned()).into()) }
    }

    fn ring(&self, ring: NewRing) -> Result<(), Setback> {
        let attached = self.state().attached.get(&ring.outlet).and_then(Weak::upgrade);
        if let Some(attachment) = attached.filter(|attachment| attachment.shortage().is_none()) {
            let followed = attachment.follow_into(ring.memory, ring.generation, ring.start);
            followed.map_err(Setback::of)?;
            self.wake();
        }
        Ok(())
    }

    fn fall_short(&self, outlet: EndpointId, error: &SegmentError) {
        let mut state = self.state();
        let attachment = state.attached.get(&outlet).and_then(Weak::upgrade);
        let publisher = state.publishers.remove(&outlet);
        let joining = state.joining.get(&outlet).map(|joining| Arc::clone(&joining.peer.name));
        drop(state);
        // If it has been told that already, there is nothing new to be told.
        if attachment.is_none_or(|attachment| !attachment.fall_short(error.clone())) {
            return;
        }
        let name = publisher.as_ref().map(|publisher| Arc::clone(&publisher.node_name)).or(joining);
        let refusal = Refusal::Unusable { reason: error.to_string() };
        self.remember(refused(outlet.node, &name.unwrap_or_default(), refusal));
        if let Some(publisher) = publisher {
            self.events.push(Event::Left(publisher));
        }
        self.wake();
    }

    fn detached(&self, outlet: EndpointId) {
        if let Some(publisher) = self.state().publishers.get(&outlet).cloned() {
            self.events.push(Event::Detached(publisher));
        }
        self.closed(outlet);
    }

    fn closed(&self, outlet: EndpointId) {
        let mut state = self.state();
        let joining = state.joining.remove(&outlet);
        let attached = state.attached.get(&outlet).and_then(Weak::upgrade);
        let mut unassigned = 0;
        if let Some(attachment) = &attached {
            attachment.close();
            if self.is_queue() {
                unassigned = attachment.unassigned();
                attachment.tell_lost(unassigned);
            }
        }
        if self.is_state() {
            self.legacy.closed(outlet, attached.as_ref());
        }
        // A stream that the subscriber has not taken over yet, with nothing in it, need not wait for that.
        let is_over = |source: &mut Source| {
            source.outlet == outlet && source.end.is_at_its_end() && source.end.shortage().is_none()
        };
        let over: Vec<Source> = state.incoming.extract_if(.., is_over).collect();
        state.ended.extend(over.iter().map(|source| source.about.publisher.id));
        if !state.ended.is_empty() {
            self.has_incoming.store(true, Ordering::Release);
        }
        let publisher = state.publishers.remove(&outlet);
        drop(state);
        if let Some(publisher) = publisher {
            let id = publisher.id;
            self.events.push(Event::Left(publisher));
            if unassigned > 0 {
                self.events.push(Event::Gap { publisher: id, lost: unassigned });
            }
        }
        drop((joining, attached, over));
        self.wake();
    }

    fn left(&self, outlet: EndpointId) {
        self.state().attached.remove(&outlet);
        if self.is_state() {
            // If we have left by ourselves, what it writes is not known here any more.
            self.legacy.closed(outlet, None);
        }
    }

    fn refused(&self, outlet: EndpointId, node_name: &str, refusal: Refusal) {
        let mut state = self.state();
        let joining = state.joining.remove(&outlet);
        drop(state);
        drop(joining);
        if self.is_state() {
            self.legacy.closed(outlet, None);
        }
        self.remember(refused(outlet.node, node_name, refusal));
        self.wake();
    }

    fn progressed(&self) {
        if self.node.shared().is_shut_down() {
            self.wake();
        }
        self.wake_if_rung();
    }

    fn eventfd(&self) -> Option<Arc<OwnedFd>> {
        self.own_eventfd().map(|eventfd| Arc::clone(eventfd.descriptor()))
    }

    fn heir(&self) -> Option<&dyn Heir> {
        self.is_state().then_some(self as &dyn Heir)
    }

    fn report(&self) -> InletReport {
        let state = self.state();
        let attached: Vec<_> = state.attached.values().filter_map(Weak::upgrade).collect();
        let publishers = state.publishers.len() as u64;
        drop(state);
        let mut figures = self.totals.figures();
        for (received, lost) in attached.iter().map(|attachment| attachment.figures()) {
            // What is lost a peer may have made up.
            figures = (figures.0.saturating_add(received), figures.1.saturating_add(lost));
        }
        let (received, lost) = figures;
        InletReport {
            id: self.id,
            pattern: self.channel.pattern(),
            name: self.channel.name().to_owned(),
            role: EndpointRole::Receiver,
            message_type: self.options.descriptor.clone(),
            is_observer: self.options.is_observer,
            publishers,
            received,
            lost,
        }
    }
}
