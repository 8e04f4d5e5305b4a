//! What a reader of boards shares with its node's control plane: the boards that are joining, joined, or left by their writers.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::message::berth::Berth;
use crate::message::error::Refused;
use crate::message::event::{Counterpart, Event, Events};
use crate::message::inlet::LeaveOnDrop;
use crate::message::refusals::{Refusals, refused};
use crate::node::{
    Admission, Channel, EndpointId, EndpointRole, Form, Heir, Inlet, InletReport, Join, Node, Offer, Peer,
    Refusal, TypeDescriptor, Violation,
};
use crate::segment::SegmentError;
use crate::sync::bell::{Fencing, Line, PeerBell, PeerSleepers};
use crate::sync::board::BoardViolation;

/// What a pattern sees of one board.
pub(in crate::message) trait View: Send + Sized + 'static {
    /// What it keeps for those who come later.
    type Keeper: Keeper<Self>;
    /// Maps a board whose type fits.
    fn receive(offer: &Offer) -> Result<Self, Refusal>;
    /// Whether something on it has not been looked at.
    fn has_news(&self) -> bool;
    /// Whether it is another's work than whose it is offered by.
    fn is_passed_on(&self) -> bool {
        false
    }
}

/// What a pattern keeps of the boards of writers that go, for readers that come later: nothing, unless it says so.
pub(in crate::message) trait Keeper<V: View>: Default + Send + Sync + 'static {
    /// Whether an offer says anything new.
    fn wants(&self, _: &Offer) -> bool {
        true
    }
    /// Whether an offer comes from whoever writes, not from one who passes on what another has left.
    fn is_of_writer(&self, _: &Offer) -> bool {
        true
    }
    /// An offer has been taken up.
    fn joined(&self, _: &Offer, _: &V) {}
    /// Whoever offered it has let us in.
    fn admitted(&self, _: EndpointId) {}
    /// It has gone.
    fn closed(&self, _: EndpointId) {}
    /// It has turned us down, or broken the rules: nothing of it is to be kept.
    fn disowned(&self, _: EndpointId) {}
    /// The reader is done with its board.
    fn left(&self, _: EndpointId) {}
    /// The reader as an heir, if it is one.
    fn heir(_: &BoardInlet<V>) -> Option<&dyn Heir> {
        None
    }
}

impl<V: View> Keeper<V> for () {}

/// The part of a reader of boards that its control plane also touches.
pub(in crate::message) struct BoardInlet<V: View> {
    id: EndpointId,
    channel: Channel,
    /// What the boards have to be; `None` if it takes any.
    descriptor: Option<TypeDescriptor>,
    pub(in crate::message) berth: Berth,
    pub(in crate::message) events: Events,
    pub(in crate::message) keeper: V::Keeper,
    /// What has been received; for people.
    pub(in crate::message) received: AtomicU64,
    has_incoming: AtomicBool,
    state: Mutex<State<V>>,
}

struct State<V> {
    joining: HashMap<EndpointId, Joining<V>>,
    /// The ties of all pairs that are joining, joined, or over but not left yet: none of them may be joined again.
    attached: HashMap<EndpointId, Weak<Tie>>,
    /// Writers that are connected.
    writers: HashMap<EndpointId, Counterpart>,
    incoming: Vec<Source<V>>,
    refusals: Refusals,
}

/// A board that has been offered and taken up, but whose writer has not let us in yet.
struct Joining<V> {
    peer: Peer,
    is_of_writer: bool,
    view: V,
    tie: Arc<Tie>,
}

/// A reader's tie to one board: it tells the writer, when it goes, that this pair is over.
struct Tie {
    is_closed: AtomicBool,
    _leave: LeaveOnDrop,
}

impl Tie {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

/// A board that is looked at.
pub(in crate::message) struct Source<V> {
    writer: EndpointId,
    view: V,
    /// Our bit at the writer.
    sleepers: PeerSleepers,
    /// The bell that the bit lies in stays mapped with it.
    _bell: Arc<PeerBell>,
    tie: Arc<Tie>,
}

/// The boards that are looked at.
pub(in crate::message) struct Sources<V> {
    list: Vec<Source<V>>,
}

impl<V: View> BoardInlet<V> {
    /// A reader on this line, not introduced yet.
    pub(in crate::message) fn new(
        node: &Node,
        channel: Channel,
        descriptor: Option<TypeDescriptor>,
        line: Arc<Line>,
    ) -> Self {
        let id = node.shared().next_endpoint();
        let state = State {
            joining: HashMap::new(),
            attached: HashMap::new(),
            writers: HashMap::new(),
            incoming: Vec::new(),
            refusals: Refusals::default(),
        };
        Self {
            id,
            channel,
            descriptor,
            berth: Berth::new(node.clone(), id, line),
            events: Events::default(),
            keeper: V::Keeper::default(),
            received: AtomicU64::new(0),
            has_incoming: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether boards have come that have not been taken over yet.
    #[inline]
    pub(super) fn has_incoming(&self) -> bool {
        self.has_incoming.load(Ordering::Acquire)
    }

    /// Writers that are connected.
    pub(in crate::message) fn connected(&self) -> usize {
        self.state().writers.len()
    }

    /// Who turned us away, or was turned away; the last of them.
    pub(in crate::message) fn refusals(&self) -> Vec<Refused> {
        self.state().refusals.list()
    }

    fn remember(&self, refused: Refused) {
        self.state().refusals.remember(refused.clone());
        self.events.push(Event::Refused(refused));
    }

    /// A board breaks the rules: it is nobody's any more, nor passed on, and whoever wrote it loses its connection. Who only
    /// passes it on has done nothing wrong.
    #[cold]
    pub(in crate::message) fn accuse(&self, outlet: EndpointId, view: &V, violation: &BoardViolation) {
        let (node, what) = (self.berth.node.shared(), Violation(violation.to_string()));
        self.keeper.disowned(outlet);
        node.retire_relay(self.id);
        if view.is_passed_on() { node.note_violation(&what) } else { node.accuse(outlet.node(), &what) }
    }

    /// Leaves the boards that have not been taken over, nor ever will be, and lets go of what is known of the others.
    pub(super) fn leave_all(&self) {
        let mut state = self.state();
        let left = (std::mem::take(&mut state.incoming), std::mem::take(&mut state.joining));
        let attached: Vec<EndpointId> = state.attached.keys().copied().collect();
        drop(state);
        attached.into_iter().for_each(|outlet| self.keeper.left(outlet));
        drop(left);
    }

    fn view_of(&self, offer: &Offer) -> Result<V, Refusal> {
        let unusable = |reason: &str| Err(Refusal::Unusable { reason: reason.to_owned() });
        if self.state().attached.contains_key(&offer.outlet) {
            return unusable("the board of the connection before is still looked at");
        }
        if offer.form != Form::Board || offer.lane.is_some() || offer.header.is_some() {
            return unusable("it offers something else where a board was due");
        }
        let differs = self.descriptor.as_ref().and_then(|ours| ours.first_difference(&offer.descriptor));
        differs.map_or(Ok(()), |difference| Err(Refusal::Type(difference)))?;
        V::receive(offer)
    }

    fn joins(&self, peer: &Peer, offer: &Offer) -> Result<Join, Refusal> {
        let view = self.view_of(offer)?;
        let node = self.berth.node.clone();
        let leave = LeaveOnDrop { node, inlet: self.id, outlet: offer.outlet };
        let tie = Arc::new(Tie { is_closed: AtomicBool::new(false), _leave: leave });
        self.keeper.joined(offer, &view);
        let is_of_writer = self.keeper.is_of_writer(offer);
        let mut state = self.state();
        state.attached.insert(offer.outlet, Arc::downgrade(&tie));
        state.joining.insert(offer.outlet, Joining { peer: peer.clone(), is_of_writer, view, tie });
        drop(state);
        Ok(Join {
            outlet: offer.outlet,
            inlet: self.id,
            cursor_offset: 0,
            hold_limit: 0,
            notes: 0,
            sleeper_line: self.berth.line.number(),
            is_observer: true,
            generation: offer.generation,
            history: 0,
            fences_for_all: Fencing::of_this_process() == Fencing::Asymmetric,
            cursor: None,
            eventfd: self.eventfd(),
        })
    }
}

impl<V: View> Inlet for BoardInlet<V> {
    fn id(&self) -> EndpointId {
        self.id
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn join(&self, peer: &Peer, offer: Offer) -> Result<Join, Refusal> {
        if !self.keeper.wants(&offer) {
            return Err(Refusal::Unusable { reason: "what is on it is known here".to_owned() });
        }
        self.joins(peer, &offer)
            .inspect_err(|refusal| self.remember(refused(peer.node, &peer.name, refusal.clone())))
    }

    fn admitted(&self, admission: Admission) -> Result<(), Violation> {
        let mut state = self.state();
        let joining = state.joining.remove(&admission.outlet);
        let joining = joining.ok_or_else(|| Violation("an admission to what was not joined".to_owned()))?;
        let Joining { peer, is_of_writer, view, tie } = joining;
        let sleepers = peer.bell.sleepers(admission.sleepers_line, admission.sleepers_bit);
        let sleepers =
            sleepers.ok_or_else(|| Violation("an admission with a bell line that is none".to_owned()))?;
        let counterpart = Counterpart::new(admission.outlet, &peer);
        let writer = admission.outlet;
        state.incoming.push(Source { writer, view, sleepers, _bell: peer.bell, tie });
        if is_of_writer {
            state.writers.insert(writer, counterpart.clone());
        }
        drop(state);
        self.keeper.admitted(writer);
        self.has_incoming.store(true, Ordering::Release);
        if is_of_writer {
            self.events.push(Event::Joined(counterpart));
        }
        self.berth.wake();
        Ok(())
    }

    /// Its board is here in whole, but nobody can say any more what becomes of it.
    fn fall_short(&self, outlet: EndpointId, error: &SegmentError) {
        let name = self.state().writers.get(&outlet).map(|writer| Arc::clone(&writer.node_name));
        let refusal = Refusal::Unusable { reason: error.to_string() };
        self.remember(refused(outlet.node, &name.unwrap_or_default(), refusal));
        self.closed(outlet);
    }

    fn detached(&self, outlet: EndpointId) {
        self.closed(outlet);
    }

    fn closed(&self, outlet: EndpointId) {
        let mut state = self.state();
        let joining = state.joining.remove(&outlet);
        let tie = state.attached.get(&outlet).and_then(Weak::upgrade);
        if let Some(tie) = &tie {
            tie.is_closed.store(true, Ordering::Release);
        }
        // A board that has not been taken over yet, with nothing on it, need not wait for that.
        let is_over = |source: &mut Source<V>| source.writer == outlet && !source.view.has_news();
        let over: Vec<_> = state.incoming.extract_if(.., is_over).collect();
        let writer = state.writers.remove(&outlet);
        drop(state);
        self.keeper.closed(outlet);
        if let Some(writer) = writer {
            self.events.push(Event::Left(writer));
        }
        drop((joining, tie, over));
        self.berth.wake();
    }

    fn left(&self, outlet: EndpointId) {
        self.state().attached.remove(&outlet);
        self.keeper.left(outlet);
    }

    fn refused(&self, outlet: EndpointId, node_name: &str, refusal: Refusal) {
        let joining = self.state().joining.remove(&outlet);
        drop(joining);
        self.keeper.disowned(outlet);
        self.remember(refused(outlet.node, node_name, refusal));
        self.berth.wake();
    }

    fn progressed(&self) {
        if self.berth.node.shared().is_shut_down() {
            self.berth.wake();
        }
        self.berth.wake_if_rung();
    }

    fn eventfd(&self) -> Option<Arc<OwnedFd>> {
        self.berth.own_eventfd().map(|eventfd| Arc::clone(eventfd.descriptor()))
    }

    fn heir(&self) -> Option<&dyn Heir> {
        V::Keeper::heir(self)
    }

    fn report(&self) -> InletReport {
        InletReport {
            id: self.id,
            pattern: self.channel.pattern(),
            name: self.channel.name().to_owned(),
            role: EndpointRole::Receiver,
            message_type: self.descriptor.clone(),
            is_observer: true,
            publishers: self.connected() as u64,
            received: self.received.load(Ordering::Relaxed),
            lost: 0,
        }
    }
}

impl<V: View> Sources<V> {
    pub(super) fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Takes over the boards that have come since.
    #[cold]
    pub(super) fn take_over(&mut self, inlet: &BoardInlet<V>) {
        inlet.has_incoming.store(false, Ordering::Relaxed);
        self.list.append(&mut inlet.state().incoming);
    }

    /// Asks every writer to wake us.
    pub(super) fn set_bits(&self) {
        self.list.iter().for_each(|source| source.sleepers.set());
    }

    /// Takes that back.
    pub(super) fn clear_bits(&self) {
        self.list.iter().for_each(|source| source.sleepers.clear());
    }

    /// Whether a look would find anything, if only that a writer has gone.
    pub(super) fn have_news(&self) -> bool {
        self.list.iter().any(|source| source.view.has_news() || source.tie.is_closed())
    }

    /// The boards.
    pub(in crate::message) fn views(&mut self) -> impl Iterator<Item = &mut V> {
        self.list.iter_mut().map(|source| &mut source.view)
    }

    /// How many there are.
    #[inline]
    pub(in crate::message) fn len(&self) -> usize {
        self.list.len()
    }

    /// Looks at every board. Those of writers that have gone are looked at a last time; `keep` gets them, with whose they
    /// were. Who breaks the rules is gone as well, and its connection with it.
    #[inline]
    pub(in crate::message) fn visit(
        &mut self,
        inlet: &BoardInlet<V>,
        mut look: impl FnMut(EndpointId, &mut V) -> Result<(), BoardViolation>,
        mut keep: impl FnMut(EndpointId, V),
    ) {
        let mut index = 0;
        while let Some(source) = self.list.get_mut(index) {
            // Before the look: what was written before the end is seen by it.
            let is_closed = source.tie.is_closed();
            let looked = look(source.writer, &mut source.view);
            if looked.is_ok() && !is_closed {
                index += 1;
                continue;
            }
            let Source { writer, view, .. } = self.list.remove(index);
            match looked {
                Ok(()) => keep(writer, view),
                Err(violation) => inlet.accuse(writer, &view, &violation),
            }
        }
    }

    /// Looks no more at those boards of which `is_needed` does not say that they are.
    pub(in crate::message) fn retain(&mut self, is_needed: impl Fn(EndpointId, &V) -> bool) {
        self.list.retain(|source| is_needed(source.writer, &source.view));
    }
}
