//! What the writer of a board shares with its node's control plane: who looks, where they sleep, who turned it down.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::message::error::{Refused, WaitError};
use crate::message::event::{Counterpart, Event, Events};
use crate::message::overflow::Overflow;
use crate::message::refusals::{Refusals, refused};
use crate::message::sleepers::Sleepers;
use crate::message::state::Base;
use crate::node::{
    Admission, Channel, EndpointError, EndpointId, EndpointRole, Form, Join, Node, NodeId, NodeShared, Offer,
    Outlet, OutletReport, Pattern, Peer, ReaderReport, Refusal, TypeDescriptor, policy_name,
};
use crate::os::clock::Deadline;
use crate::os::fork::Process;
use crate::sync::bell::{Fencing, Line, Mode, PeerSleeper};

/// Some reader cannot fence for us.
const FENCES: u32 = 1;
/// The endpoint was cancelled, or its node shut down.
const CLOSED: u32 = 2;

/// How often a board has been written.
type Figures = Box<dyn Fn() -> u64 + Send + Sync>;

/// A board that is to be offered.
pub(in crate::message) struct Origin {
    pub(in crate::message) descriptor: TypeDescriptor,
    /// Counters or cells.
    pub(in crate::message) members: u32,
    /// Bytes of a cell.
    pub(in crate::message) stride: u32,
    pub(in crate::message) line_offset: u32,
    pub(in crate::message) base: Base,
    pub(in crate::message) memory: Arc<OwnedFd>,
    pub(in crate::message) figures: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// One reader, as the writer knows it.
#[derive(Debug)]
struct Reader {
    counterpart: Counterpart,
    bit: u32,
    sleeper: PeerSleeper,
}

/// The part of a board's writer that its control plane also touches.
pub(in crate::message) struct BoardShared {
    node: Arc<NodeShared>,
    channel: Channel,
    offer: Offer,
    figures: Figures,
    /// Where the writer itself sleeps.
    line: Line,
    sleepers: Sleepers,
    modes: AtomicU32,
    process: Process,
    pub(in crate::message) events: Events,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    readers: Vec<Reader>,
    refusals: Refusals,
}

impl BoardShared {
    /// A writer of this board, not introduced yet.
    pub(in crate::message) fn open(
        node: &Node,
        channel: Channel,
        origin: Origin,
    ) -> Result<Self, EndpointError> {
        let node = node.shared();
        Ok(Self::new(node, channel, origin, (node.line()?, node.line()?)))
    }

    /// With these lines: one on which it sleeps, and one for the first of its readers.
    pub(in crate::message) fn new(
        node: &Arc<NodeShared>,
        channel: Channel,
        origin: Origin,
        (line, sleepers): (Line, Line),
    ) -> Self {
        let node = Arc::clone(node);
        let offer = Offer {
            outlet: node.next_endpoint(),
            channel: channel.clone(),
            form: Form::Board,
            lane: None,
            descriptor: origin.descriptor,
            overflow: Overflow::Latest.code(),
            is_stamped: false,
            is_relayed: false,
            header: None,
            slots: origin.members,
            stride: origin.stride,
            payload_offset: origin.line_offset,
            sleeper_line: line.number(),
            generation: 0,
            base: origin.base.bits(),
            ring: origin.memory,
        };
        let is_alone = Fencing::of_this_process() == Fencing::Full;
        Self {
            node,
            channel,
            offer,
            figures: origin.figures,
            line,
            sleepers: Sleepers::new(sleepers),
            modes: AtomicU32::new(if is_alone { FENCES } else { 0 }),
            process: Process::current(),
            events: Events::default(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::message) fn node(&self) -> &Arc<NodeShared> {
        &self.node
    }

    /// Whether the board may be written, here.
    #[inline]
    pub(in crate::message) fn is_open(&self) -> bool {
        !self.process.is_parent() && self.modes.load(Ordering::Relaxed) & CLOSED == 0
    }

    /// Whether this is a forked child's copy.
    pub(in crate::message) fn is_inherited(&self) -> bool {
        self.process.is_parent()
    }

    /// The board has been written: wakes who sleeps. Dekker: the board, fence, their bits against their bits, fence, the board.
    #[inline]
    pub(in crate::message) fn wake_sleepers(&self) {
        let fences = self.modes.load(Ordering::Relaxed) & FENCES != 0;
        if fences { Fencing::Full } else { Fencing::Asymmetric }.of_sender();
        if self.sleepers.are_there() {
            self.ring();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring(&self) {
        for reader in &mut self.state().readers {
            if self.sleepers.is_set(reader.bit) {
                reader.sleeper.ring();
            }
        }
    }

    /// Ends every wait of the writer, and its writing.
    pub(in crate::message) fn cancel(&self) {
        if self.is_inherited() {
            return;
        }
        self.modes.fetch_or(CLOSED, Ordering::Relaxed);
        self.line.wake_own();
        self.node.nudge();
    }

    /// How many look.
    pub(in crate::message) fn readers(&self) -> usize {
        self.state().readers.len()
    }

    pub(in crate::message) fn refusals(&self) -> Vec<Refused> {
        self.state().refusals.list()
    }

    /// Waits until so many look.
    pub(in crate::message) fn wait_for_readers(
        &self,
        wanted: usize,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let deadline = Deadline::after(timeout);
        let is_enough = || (self.readers() >= wanted).then_some(());
        if self.wait_until(deadline, is_enough)?.is_some() {
            return Ok(());
        }
        let (channel, connected) = (self.channel.clone(), self.readers());
        Err(WaitError::Timeout { channel, connected, wanted, waited: timeout, refused: self.refusals() })
    }

    /// Waits for something to happen to the connections; `None` if nothing does in time.
    pub(in crate::message) fn wait_for_event(&self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.wait_until(Deadline::after(timeout), || self.events.take())
    }

    /// Waits until `is_over` says something, or the deadline comes, or the endpoint is closed. Only one thread at a time.
    fn wait_until<R>(
        &self,
        deadline: Deadline,
        mut is_over: impl FnMut() -> Option<R>,
    ) -> Result<Option<R>, WaitError> {
        let channel = || self.channel.clone();
        if self.process.is_parent() {
            return Err(WaitError::Endpoint { channel: channel(), source: EndpointError::Forked });
        }
        let has_thread = self.node.has_thread();
        loop {
            let mode = if has_thread { Mode::Futex } else { Mode::Event };
            let (ticket, round) = (self.line.sleeper().arm(mode), self.node.round());
            let outcome = is_over();
            let is_closed = !self.is_open();
            let ends = outcome.is_some() || is_closed || deadline.has_passed();
            let waited = match (ends, has_thread) {
                (true, _) => Ok(()),
                (false, true) => {
                    self.line.wait(ticket, deadline);
                    Ok(())
                }
                (false, false) => self.node.wait(round, deadline.instant()),
            };
            self.line.sleeper().disarm();
            waited.map_err(|source| WaitError::Endpoint { channel: channel(), source })?;
            match outcome {
                None if is_closed => return Err(WaitError::Closed { channel: channel() }),
                None if !ends => {}
                outcome => return Ok(outcome),
            }
        }
    }
}

impl Outlet for BoardShared {
    fn id(&self) -> EndpointId {
        self.offer.outlet
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn offer(&self) -> Option<Offer> {
        let base = match self.channel.pattern() {
            Pattern::Table => Base::from_bits(self.offer.base).after((self.figures)()).bits(),
            _ => self.offer.base,
        };
        Some(Offer { base, ..self.offer.clone() })
    }

    fn admit(&self, peer: &Peer, join: Join) -> Result<Admission, Refusal> {
        let unusable = |reason: String| Refusal::Unusable { reason };
        let none = || unusable(format!("bell line {} does not exist", join.sleeper_line));
        let sleeper = peer.bell.sleeper(join.sleeper_line, join.eventfd.clone()).ok_or_else(none)?;
        let counterpart = Counterpart::new(join.inlet, peer);
        let mut state = self.state();
        let used = state.readers.iter().map(|reader| reader.bit).collect();
        let bit = self.sleepers.assign(used, self.node.bell());
        let bit = bit.ok_or_else(|| unusable("there is no bell line for its bit".to_owned()))?;
        state.readers.push(Reader { counterpart: counterpart.clone(), bit, sleeper });
        drop(state);
        if !join.fences_for_all && self.modes.fetch_or(FENCES, Ordering::Relaxed) & FENCES == 0 {
            // From now on the writer fences itself; without the barrier it learns that a little later.
            let _ = Fencing::Asymmetric.of_sleeper();
        }
        self.events.push(Event::Joined(counterpart));
        self.line.wake_own();
        Ok(Admission::at_once(&join, self.sleepers.place(bit)))
    }

    fn part(&self, inlet: EndpointId) {
        let mut state = self.state();
        let gone: Vec<_> = state.readers.extract_if(.., |reader| reader.counterpart.id == inlet).collect();
        gone.iter().for_each(|reader| self.sleepers.clear(reader.bit));
        drop(state);
        gone.into_iter().for_each(|reader| self.events.push(Event::Left(reader.counterpart)));
        self.line.wake_own();
    }

    fn let_go(&self, inlet: EndpointId) {
        // It may go on looking: nobody waits for it, and what is written it may see.
        self.part(inlet);
    }

    fn listen(&self, inlet: EndpointId, eventfd: Arc<OwnedFd>) {
        if let Some(reader) = self.state().readers.iter_mut().find(|reader| reader.counterpart.id == inlet) {
            reader.sleeper.listen_on(eventfd);
        }
    }

    fn report(&self) -> OutletReport {
        let look = |reader: &Reader| ReaderReport {
            id: reader.counterpart.id,
            is_reliable: false,
            lag: 0,
            lost: 0,
            is_blocking: false,
        };
        OutletReport {
            id: self.offer.outlet,
            pattern: self.channel.pattern(),
            name: self.channel.name().to_owned(),
            role: match self.channel.pattern() == Pattern::Table
                && Base::from_bits(self.offer.base).is_relay()
            {
                true => EndpointRole::Keeper,
                false => EndpointRole::Sender,
            },
            message_type: Some(self.offer.descriptor.clone()),
            policy: policy_name(self.offer.overflow),
            sent: (self.figures)(),
            waiting: 0,
            is_blocked: false,
            history: 0,
            readers: self.state().readers.iter().map(look).collect(),
        }
    }

    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal) {
        let refused = refused(node, node_name, refusal);
        self.state().refusals.remember(refused.clone());
        self.events.push(Event::Refused(refused));
        self.line.wake_own();
    }

    fn progressed(&self) {
        if self.node.is_shut_down() {
            self.modes.fetch_or(CLOSED, Ordering::Relaxed);
        }
        self.line.wake_own();
    }
}

impl std::fmt::Debug for BoardShared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BoardShared").field("channel", &self.channel).finish_non_exhaustive()
    }
}
