//! What a producer shares with its node's control plane: consumers that come and go, and who turned it down.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::core::Core;
use super::lane::{LaneOutlet, NewLane, Terms};
use crate::message::error::Refused;
use crate::message::event::{Counterpart, Event, Events};
use crate::message::overflow::Overflow;
use crate::message::refusals::{Refusals, refused};
use crate::message::sender::{self, SenderOptions};
use crate::node::{
    Channel, EndpointId, EndpointRole, Hub, Lane as LaneOf, NodeId, NodeShared, Outlet, OutletReport,
    Refusal, Role, TypeDescriptor, policy_name,
};
use crate::sync::bell::{Line, Ticket};
use crate::sync::biased::Biased;
use crate::sync::store_line::StoreWord;

/// It was cancelled, or its node shut down.
const CLOSED: u32 = 1;
/// There is something that the core has not heard.
const NEWS: u32 = 2;
/// It has been dropped.
const ENDED: u32 = 4;
/// Who serves the node could not enter the core: it is called again when the producer has entered.
const DEFERRED: u32 = 8;

/// Something that the core has to hear.
pub(super) enum News {
    /// A lane for a consumer that showed up.
    Made(Box<NewLane>),
    /// The consumer has been let in.
    Joined(EndpointId, Terms),
    /// The consumer has gone, or is to go.
    Parted(EndpointId),
}

/// The part of a producer that its control plane also touches.
pub(super) struct ProducerShared {
    me: Weak<Self>,
    pub(super) node: Arc<NodeShared>,
    pub(super) channel: Channel,
    id: EndpointId,
    pub(super) descriptor: TypeDescriptor,
    /// Of each lane.
    pub(super) options: SenderOptions,
    /// What the producer does when it is full.
    overflow: Overflow,
    /// Whether it waits for room, or for somebody to take an item.
    is_blocked: AtomicBool,
    /// Where the producer sleeps.
    pub(super) line: Arc<Line>,
    core: OnceLock<Arc<Biased<Core>>>,
    flags: AtomicU32,
    /// Items without a lane.
    backlog: AtomicU64,
    /// The ticket of the sleep that consumers end, plus 2^32; 0 before the first.
    armed: AtomicU64,
    consumers: AtomicUsize,
    pub(super) events: Events,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    news: Vec<News>,
    /// The consumers that have a lane.
    known: HashSet<EndpointId>,
    joined: Vec<Counterpart>,
    refusals: Refusals,
}

impl ProducerShared {
    pub(super) fn new(
        node: &Arc<NodeShared>,
        channel: Channel,
        descriptor: TypeDescriptor,
        (options, overflow): (SenderOptions, Overflow),
        line: Arc<Line>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            node: Arc::clone(node),
            channel,
            id: node.next_endpoint(),
            descriptor,
            options,
            overflow,
            is_blocked: AtomicBool::new(false),
            line,
            core: OnceLock::new(),
            flags: AtomicU32::new(0),
            backlog: AtomicU64::new(0),
            armed: AtomicU64::new(0),
            consumers: AtomicUsize::new(0),
            events: Events::default(),
            state: Mutex::default(),
        })
    }

    /// Where the core is, for who serves the node.
    pub(super) fn set_core(&self, core: Arc<Biased<Core>>) {
        // Set once, before anybody is told of us.
        let _ = self.core.set(core);
    }

    /// A word beside those that the producer's thread stores on each push.
    fn word(&self) -> StoreWord {
        self.core.get().map_or_else(StoreWord::alone, |core| core.line().word())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing has to be seen to before an item is pushed.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.flags.load(Ordering::Relaxed) == 0
    }

    /// Whether the producer was cancelled, or its node shut down.
    pub(super) fn is_closed(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Ends every wait of the producer, and those that it would begin. In a forked child there are none: it does nothing.
    pub(super) fn cancel(&self) {
        if self.node.is_inherited() {
            return;
        }
        self.flags.fetch_or(CLOSED, Ordering::Relaxed);
        self.wake();
        self.node.nudge();
    }

    /// The producer begins to wait for room, or for somebody to take an item, or does so no more.
    pub(super) fn set_blocked(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// Wakes the producer's own thread.
    pub(super) fn wake(&self) {
        self.line.wake_own();
    }

    /// The core has a sleep that began with this ticket.
    pub(super) fn set_armed(&self, ticket: Ticket) {
        self.armed.store(1 << 32 | u64::from(ticket.0), Ordering::Relaxed);
    }

    /// The producer is dropped: there is nothing left to attend to.
    pub(super) fn end(&self) {
        self.flags.fetch_or(CLOSED | ENDED, Ordering::Relaxed);
    }

    /// Has the thread that serves the node attend to the core.
    pub(super) fn call(&self) {
        if self.flags.load(Ordering::Relaxed) & ENDED == 0
            && let Some(me) = self.me.upgrade()
        {
            self.node.attend(me);
        }
    }

    /// Something happened, under whatever lock.
    fn add_news(&self, news: News) {
        self.state().news.push(news);
        self.flags.fetch_or(NEWS, Ordering::Release);
        self.wake();
        self.call();
    }

    /// Whether there is something that the core has not heard.
    fn has_news(&self) -> bool {
        self.flags.load(Ordering::Acquire) & NEWS != 0
    }

    /// What the core has not heard.
    pub(super) fn take_news(&self) -> Vec<News> {
        if self.flags.load(Ordering::Relaxed) & DEFERRED != 0 {
            self.flags.fetch_and(!DEFERRED, Ordering::Relaxed);
            self.call();
        }
        if !self.has_news() {
            return Vec::new();
        }
        let mut state = self.state();
        self.flags.fetch_and(!NEWS, Ordering::Relaxed);
        std::mem::take(&mut state.news)
    }

    pub(super) fn set_consumers(&self, count: usize) {
        self.consumers.store(count, Ordering::Relaxed);
    }

    /// Consumers that take items.
    pub(super) fn consumers(&self) -> usize {
        self.consumers.load(Ordering::Relaxed)
    }

    /// The consumers that are connected.
    pub(super) fn counterparts(&self) -> Vec<Counterpart> {
        self.state().joined.clone()
    }

    /// A consumer has been let in.
    pub(super) fn joined(&self, consumer: Counterpart, terms: Terms) {
        let inlet = consumer.id;
        self.state().joined.push(consumer.clone());
        self.events.push(Event::Joined(consumer));
        self.add_news(News::Joined(inlet, terms));
    }

    /// A consumer has gone.
    pub(super) fn left(&self, inlet: EndpointId) {
        let gone: Vec<_> = self.state().joined.extract_if(.., |consumer| consumer.id == inlet).collect();
        gone.into_iter().for_each(|consumer| self.events.push(Event::Left(consumer)));
    }

    /// Lets go of a consumer; whether there is such a one. In a forked child there is none.
    pub(super) fn detach(&self, inlet: EndpointId) -> bool {
        if self.node.is_inherited() {
            return false;
        }
        let is_there = self.state().joined.iter().any(|consumer| consumer.id == inlet);
        if is_there {
            self.left(inlet);
            self.add_news(News::Parted(inlet));
        }
        is_there
    }

    /// A consumer turned us down, or was turned down.
    pub(super) fn turned_down(&self, node: NodeId, node_name: &str, refusal: Refusal) {
        let refused = refused(node, node_name, refusal);
        self.state().refusals.remember(refused.clone());
        self.events.push(Event::Refused(refused));
        self.wake();
    }

    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.state().refusals.list()
    }

    /// So many items have no lane.
    pub(super) fn set_backlog(&self, count: u64) {
        self.backlog.store(count, Ordering::Relaxed);
    }

    /// Items that no consumer has been given yet.
    pub(super) fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// New memory of a lane is on its way to its consumer, or something else that may end a wait happened.
    pub(super) fn lane_progressed(&self) {
        self.wake();
        if self.backlog() > 0 {
            self.call();
        }
    }
}

impl Hub for ProducerShared {
    fn id(&self) -> EndpointId {
        self.id
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn role(&self) -> Role {
        Role::Outlet
    }

    fn lane(
        &self,
        inlet: EndpointId,
        _accepts: Option<&TypeDescriptor>,
    ) -> Result<Option<Arc<dyn Outlet>>, Refusal> {
        if !self.state().known.insert(inlet) {
            return Ok(None);
        }
        let unusable = |reason: String| {
            self.state().known.remove(&inlet);
            Refusal::Unusable { reason }
        };
        let sleepers = self.node.bell().line().map_err(|error| unusable(error.to_string()))?;
        let lane = LaneOf { to: inlet, from: self.id, accepts: None };
        let lines = (Arc::clone(&self.line), sleepers);
        let assembled = sender::assemble(
            &self.node,
            self.channel.clone(),
            self.descriptor.clone(),
            &self.options,
            lines,
            (Some(lane), self.word()),
        );
        let (mut end, outlet) = assembled.map_err(|error| unusable(error.to_string()))?;
        // Until the consumer is let in, nothing is sent.
        end.restrict(0);
        let outlet = Arc::new(outlet);
        let made = NewLane { inlet, end, outlet: Arc::clone(&outlet), pool_limit: self.options.pool_limit };
        self.add_news(News::Made(Box::new(made)));
        Ok(Some(Arc::new(LaneOutlet { outlet, producer: self.me.clone() })))
    }

    fn parted(&self, inlet: EndpointId) {
        self.left(inlet);
        self.state().known.remove(&inlet);
        self.add_news(News::Parted(inlet));
    }

    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal) {
        self.turned_down(node, node_name, refusal);
    }

    fn progressed(&self) {
        if self.node.is_shut_down() {
            self.flags.fetch_or(CLOSED, Ordering::Relaxed);
            self.wake();
        }
        // After whatever the ringer did, before the look at what it rang for.
        fence(Ordering::SeqCst);
        let armed = self.armed.load(Ordering::Relaxed);
        if self.flags.load(Ordering::Relaxed) & DEFERRED != 0 {
            // To try again and again would keep the node's thread busy until then.
            return;
        }
        if self.has_news() || (armed != 0 && self.line.sleeper().is_rung(Ticket(armed as u32))) {
            self.call();
        }
    }

    fn report(&self) -> OutletReport {
        OutletReport {
            id: self.id,
            pattern: self.channel.pattern(),
            name: self.channel.name().to_owned(),
            role: EndpointRole::Sender,
            message_type: Some(self.descriptor.clone()),
            policy: policy_name(self.overflow.code()),
            sent: 0,
            waiting: self.backlog(),
            is_blocked: self.is_blocked.load(Ordering::Relaxed),
            history: 0,
            readers: Vec::new(),
        }
    }

    fn attend(&self) {
        let Some(core) = self.core.get() else { return };
        let entered = core.lock().or_else(|| {
            // Nobody can tell whether its own thread is inside. That enters by the lock's mutex next, and then finds this;
            // unless it has done so before, and we get in now.
            self.flags.fetch_or(DEFERRED, Ordering::Relaxed);
            core.lock()
        });
        match entered {
            Some(core) if core.is_waiting => self.wake(),
            Some(mut core) => {
                core.attend(self);
                core.rearm(self);
            }
            None => self.wake(),
        }
    }
}

impl fmt::Debug for ProducerShared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Producer");
        fields.field("queue", &self.channel).field("consumers", &self.consumers()).finish_non_exhaustive()
    }
}
