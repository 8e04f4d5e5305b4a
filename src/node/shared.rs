//! What a node's handles, its endpoints and its control thread share.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::PeerInfo;
use super::control::{Control, Introduction};
use super::domain::{Channel, Domain, Membership, Name};
use super::endpoint::{Hub, Inlet, NewRing, Outlet, Peer, Segment, Violation};
use super::error::{EndpointError, OpenError};
use super::identity::{EndpointId, NodeId};
use super::network::Joined;
use super::report::NodeReport;
use crate::os::clock::Deadline;
use crate::os::epoll::{EVENTS_MAX, Epoll, Wake};
use crate::os::fork::Process;
use crate::os::process;
use crate::sync::bell::{Bell, Fencing, Line};

/// How long a new endpoint waits for those who are there to answer.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a node that closes waits for its last frames to go out.
const LINGER: Duration = Duration::from_millis(200);

/// The shared part of a node.
pub(crate) struct NodeShared {
    id: NodeId,
    name: Name,
    directory: PathBuf,
    bell: Arc<Bell>,
    epoll: Arc<Epoll>,
    wake: Wake,
    process: Process,
    kind: Kind,
    is_stopping: AtomicBool,
    is_shut_down: AtomicBool,
    /// Held by who looks at the whole domain.
    inspector: Mutex<()>,
    endpoints: AtomicU64,
    control: Mutex<Control>,
    settled: Condvar,
    /// Held by the thread that waits for the node's sockets.
    driver: Mutex<()>,
    /// How often it has come back from that.
    rounds: Mutex<u64>,
    round_over: Condvar,
    /// Pairs that have ended, whoever noticed: inlet, then outlet.
    ended_pairs: Mutex<Vec<(EndpointId, EndpointId)>>,
    /// Hubs that have something to do, outside of all locks.
    to_attend: Mutex<Vec<Arc<dyn Hub>>>,
    /// The outlets, for other nodes of this process, which have locks of their own by then: under it no other is taken.
    outlets: Mutex<HashMap<EndpointId, Weak<dyn Outlet>>>,
}

/// What kind of node it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Whether a thread of its own serves it.
    pub(super) has_thread: bool,
    /// Whether who waits for messages polls for a while.
    pub(super) waits_busily: bool,
    /// Whether it passes on what it receives.
    pub(super) is_gateway: bool,
}

/// A number that rises whenever a node's sockets have been served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round(u64);

/// Stands until an announced segment is on its way to every reader.
#[derive(Debug)]
pub(crate) struct Receipt(Arc<()>);

impl Receipt {
    /// Whether it is on its way to everybody.
    pub(crate) fn is_written(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl NodeShared {
    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// A bell line for an endpoint.
    pub(crate) fn line(&self) -> Result<Line, EndpointError> {
        self.check_process()?;
        loop {
            if let Ok(line) = self.bell.line() {
                return Ok(line);
            }
            self.control().ensure_lines(1).map_err(EndpointError::Bell)?;
        }
    }

    /// Ends every wait of this node's endpoints, now and from now on.
    pub(super) fn shut_down(&self) {
        if self.is_inherited() {
            return;
        }
        self.is_shut_down.store(true, Ordering::Release);
        self.control().wake_all();
        self.wake.signal();
    }

    /// Whether waits have come to an end.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.is_shut_down.load(Ordering::Acquire)
    }

    /// An inlet sleeps on a descriptor of its own from now on.
    pub(crate) fn lend_eventfd(&self, inlet: EndpointId) {
        if !self.is_inherited() {
            self.control().lend_eventfd(inlet);
        }
    }

    /// Wakes whoever waits in [`NodeShared::wait`].
    pub(crate) fn nudge(&self) {
        if !self.is_inherited() {
            self.wake.signal();
        }
    }

    /// What every node of the domain is doing, as far as it says so in time.
    pub(super) fn inspect(&self, timeout: Duration) -> Result<Vec<NodeReport>, EndpointError> {
        self.check_process()?;
        let _only = self.inspector.lock().unwrap_or_else(PoisonError::into_inner);
        self.control().inspect()?;
        self.wait_for(timeout, Control::is_inspected)?;
        Ok(self.control().take_inspection())
    }

    pub(super) fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// How often whoever waits looks before it sleeps, where others do so `usually`.
    pub(crate) fn looks_before_sleep(&self, usually: u32) -> u32 {
        if self.kind.waits_busily { usually } else { 1 }
    }

    /// Whether a thread serves the node; if not, who waits has to do it with [`NodeShared::wait`].
    pub(crate) fn has_thread(&self) -> bool {
        self.kind.has_thread
    }

    /// The identity of a new endpoint.
    pub(crate) fn next_endpoint(&self) -> EndpointId {
        EndpointId { node: self.id, number: self.endpoints.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a forked child's copy of its parent's node. The lock may be held for ever there, and what is
    /// behind it is the parent's: such a copy is left alone.
    pub(crate) fn is_inherited(&self) -> bool {
        self.process.is_parent()
    }

    fn check_process(&self) -> Result<(), EndpointError> {
        if self.is_inherited() { Err(EndpointError::Forked) } else { Ok(()) }
    }

    /// Whether endpoints can be made here.
    fn check_open(&self) -> Result<(), EndpointError> {
        self.check_process()?;
        if self.is_shut_down() { Err(EndpointError::ShutDown) } else { Ok(()) }
    }

    /// Introduces an outlet, and waits a little for those who are there to answer.
    pub(crate) fn add_outlet(&self, outlet: Arc<dyn Outlet>) -> Result<(), EndpointError> {
        self.check_open()?;
        let id = outlet.id();
        self.outlets().insert(id, Arc::downgrade(&outlet));
        let added = self.control().add_outlet(outlet);
        self.wake_waiters();
        let settled = added.and_then(|()| self.settle(id));
        // A shutdown meanwhile may have told everybody but this one.
        settled.and_then(|()| self.check_open()).inspect_err(|_| self.remove_outlet(id))
    }

    fn outlets(&self) -> MutexGuard<'_, HashMap<EndpointId, Weak<dyn Outlet>>> {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the outlets that are for everybody.
    pub(super) fn outlet(&self, id: EndpointId) -> Option<Arc<dyn Outlet>> {
        self.outlets().get(&id).and_then(Weak::upgrade)
    }

    /// Introduces an inlet, and waits for nobody's answer.
    pub(crate) fn seek(&self, inlet: Arc<dyn Inlet>) -> Result<(), EndpointError> {
        self.check_open()?;
        let added = self.control().add_inlet(inlet);
        self.wake_waiters();
        added
    }

    /// Introduces an inlet, and waits a little for those who are there to answer.
    pub(crate) fn add_inlet(&self, inlet: Arc<dyn Inlet>) -> Result<(), EndpointError> {
        let id = inlet.id();
        let settled = self.seek(inlet).and_then(|()| self.settle(id));
        // A shutdown meanwhile may have told everybody but this one.
        settled.and_then(|()| self.check_open()).inspect_err(|_| self.remove_inlet(id))
    }

    /// The domain, for a claim on one of its channels.
    pub(crate) fn domain(&self) -> Result<Arc<Domain>, EndpointError> {
        self.check_open()?;
        Ok(Arc::clone(self.control().domain()))
    }

    /// An inlet may have let go of what outlets had left: it passes that on no more.
    pub(crate) fn retire_relay(&self, inlet: EndpointId) {
        if !self.is_inherited() {
            self.control().retire_relay(inlet);
            self.wake_waiters();
        }
    }

    /// An heir's outlet can be offered now, to those who have been looking for one.
    pub(crate) fn pass_on(&self, channel: &Channel) {
        if !self.is_inherited() {
            self.control().pass_on(channel);
            self.wake_waiters();
        }
    }

    /// Introduces a hub, with the inlet that takes what comes back, and waits a little for those who are there to answer.
    pub(crate) fn add_hub(
        &self,
        hub: &Arc<dyn Hub>,
        inlet: Option<Arc<dyn Inlet>>,
    ) -> Result<(), EndpointError> {
        self.check_open()?;
        let id = hub.id();
        let added = self.control().add_hub(hub, inlet);
        self.wake_waiters();
        let settled = added.and_then(|()| self.settle(id));
        // A shutdown meanwhile may have told everybody but this one.
        settled.and_then(|()| self.check_open()).inspect_err(|_| self.remove_hub(id))
    }

    /// A hub has been dropped, with its inlet.
    pub(crate) fn remove_hub(&self, id: EndpointId) {
        if !self.is_inherited() {
            self.control().remove_hub(id);
            self.wake_waiters();
        }
    }

    /// A peer that stays silent is no error: the endpoint is there, and the peer may come round.
    fn settle(&self, id: EndpointId) -> Result<(), EndpointError> {
        self.wait_for(SETTLE, |control| control.is_settled(id))
    }

    /// Waits until everybody whom a new endpoint has asked has answered, or what it waits for is there, or the time is over.
    /// `is_there` may take locks that the control plane takes below its own.
    pub(crate) fn settle_or(
        &self,
        id: EndpointId,
        timeout: Duration,
        is_there: impl Fn() -> bool,
    ) -> Result<(), EndpointError> {
        self.wait_for(timeout, |control| control.is_settled(id) || is_there())
    }

    /// Whether everybody whom a new endpoint has asked has answered, or ended.
    pub(crate) fn is_settled(&self, id: EndpointId) -> bool {
        !self.is_inherited() && self.control().is_settled(id)
    }

    /// Waits until the control plane has come so far, or the time is over.
    fn wait_for(
        &self,
        timeout: Duration,
        mut is_done: impl FnMut(&Control) -> bool,
    ) -> Result<(), EndpointError> {
        if !self.kind.has_thread {
            let deadline = Deadline::after(timeout);
            loop {
                let round = self.round();
                if is_done(&self.control()) || deadline.has_passed() {
                    return Ok(());
                }
                self.wait(round, deadline.instant())?;
            }
        }
        let is_waiting = |control: &mut Control| !is_done(control);
        drop(self.settled.wait_timeout_while(self.control(), timeout, is_waiting));
        Ok(())
    }

    pub(crate) fn remove_outlet(&self, id: EndpointId) {
        if !self.is_inherited() {
            self.outlets().remove(&id);
            self.control().remove_outlet(id);
            self.wake_waiters();
        }
    }

    pub(crate) fn remove_inlet(&self, id: EndpointId) {
        if !self.is_inherited() {
            self.control().remove_inlet(id);
            self.wake_waiters();
        }
    }

    /// An inlet is done with an outlet. May be called under any lock: it is noted, and done soon.
    pub(crate) fn leave_pair(&self, inlet: EndpointId, outlet: EndpointId) {
        if !self.is_inherited() {
            self.ended_pairs.lock().unwrap_or_else(PoisonError::into_inner).push((inlet, outlet));
            self.wake.signal();
        }
    }

    /// Has a hub's [`Hub::attend`] called soon. May be called under any lock.
    pub(crate) fn attend(&self, hub: Arc<dyn Hub>) {
        if !self.is_inherited() {
            let mut waiting = self.to_attend.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.iter().any(|other| other.id() == hub.id()) {
                waiting.push(hub);
                self.wake.signal();
            }
        }
    }

    fn attend_all(&self) {
        let waiting = std::mem::take(&mut *self.to_attend.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(|hub| hub.attend());
    }

    /// Sends a further pool segment to every reader of its outlet, some of whom are waited for.
    pub(crate) fn announce(&self, segment: &Segment, waited_for: &[EndpointId]) -> Receipt {
        let receipt = Arc::new(());
        self.control().announce(segment, waited_for, &receipt);
        self.wake_waiters();
        Receipt(receipt)
    }

    /// An outlet goes on in another ring, without some of its readers.
    pub(crate) fn move_on(&self, ring: &NewRing, detached: &[EndpointId]) {
        self.control().move_on(ring, detached);
        self.wake_waiters();
    }

    /// A peer's shared memory broke the rules: its connection is dropped.
    pub(crate) fn accuse(&self, peer: NodeId, violation: &Violation) {
        if !self.is_inherited() {
            self.control().accuse(peer, violation);
            self.wake_waiters();
        }
    }

    /// Counts that something broke the rules that no peer can be blamed for.
    pub(crate) fn note_violation(&self, violation: &Violation) {
        if !self.is_inherited() {
            self.control().note_violation(&violation.0);
        }
    }

    /// What has just been done may be news for an endpoint of this node. Its futex has been woken; who waits in
    /// [`NodeShared::wait`] is woken here.
    fn wake_waiters(&self) {
        if !self.kind.has_thread {
            self.wake.signal();
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        if self.is_inherited() {
            return Vec::new();
        }
        self.control().peers().map(|peer| PeerInfo { id: peer.node, name: Arc::clone(&peer.name) }).collect()
    }

    pub(super) fn violations(&self) -> (u64, Option<String>) {
        if self.is_inherited() { (0, None) } else { self.control().violations() }
    }

    /// How often the node's sockets have been served; to be asked before the look that comes before a wait.
    pub(crate) fn round(&self) -> Round {
        Round(*self.rounds())
    }

    fn rounds(&self) -> MutexGuard<'_, u64> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is ready or the instant has come, then does it; returns at once if something has been
    /// done since `seen`. Of several threads one waits in the kernel and does it, the others wait for that, and each of
    /// them then looks for its own news.
    pub(crate) fn wait(&self, seen: Round, until: Option<Instant>) -> Result<(), EndpointError> {
        self.check_process()?;
        let driver = match self.driver.try_lock() {
            Ok(driver) => driver,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.wait_for_driver(seen, until);
                return Ok(());
            }
        };
        let round = EndOfRound { shared: self, driver: Some(driver) };
        let served = if self.round() == seen { self.drive(until) } else { Ok(()) };
        drop(round);
        served
    }

    fn drive(&self, until: Option<Instant>) -> Result<(), EndpointError> {
        let deadline = until.map_or(Deadline::NEVER, Deadline::at);
        let failed = |source: Errno| EndpointError::System {
            action: "wait for the node's sockets".to_owned(),
            source,
        };
        let mut tokens = [0; EVENTS_MAX];
        let ready = self.epoll.wait(&mut tokens, deadline).map_err(failed)?;
        self.leave_ended_pairs();
        self.control().handle(ready);
        self.leave_ended_pairs();
        self.attend_all();
        Ok(())
    }

    /// Waits until the thread that drives the node has done something, or drives it no more.
    fn wait_for_driver(&self, seen: Round, until: Option<Instant>) {
        let rounds = self.rounds();
        if !matches!(self.driver.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        let is_same = |current: &mut u64| Round(*current) == seen;
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(left) => drop(self.round_over.wait_timeout_while(rounds, left, is_same)),
            None => drop(self.round_over.wait_while(rounds, is_same)),
        }
    }

    fn leave_ended_pairs(&self) {
        let ended = std::mem::take(&mut *self.ended_pairs.lock().unwrap_or_else(PoisonError::into_inner));
        if !ended.is_empty() {
            let mut control = self.control();
            ended.into_iter().for_each(|(inlet, outlet)| control.leave_pair(inlet, outlet));
        }
    }

    /// What the control thread does.
    fn serve(&self) {
        while !self.is_stopping.load(Ordering::Acquire) {
            if self.wait(self.round(), None).is_err() {
                // The epoll set itself is broken, which nothing here can mend; who waits for peers times out.
                return;
            }
        }
        self.close();
    }

    /// Sends what waits, bounded, and forgets everybody.
    fn close(&self) {
        let deadline = Instant::now() + LINGER;
        self.leave_ended_pairs();
        while !self.control().is_drained()
            && Instant::now() < deadline
            && self.wait(self.round(), Some(deadline)).is_ok()
        {}
        self.control().clear();
        // Whoever is in there has a share in us.
        drop(std::mem::take(&mut *self.to_attend.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// Ends a round, whatever ends it: the number rises before the driver's place is free, and under one lock with that, so
/// that whoever finds the place taken sees this round end, and whoever gets it sees that it has ended.
struct EndOfRound<'a> {
    shared: &'a NodeShared,
    driver: Option<MutexGuard<'a, ()>>,
}

impl Drop for EndOfRound<'_> {
    fn drop(&mut self) {
        let mut rounds = self.shared.rounds();
        *rounds += 1;
        drop(self.driver.take());
        drop(rounds);
        self.shared.round_over.notify_all();
        self.shared.settled.notify_all();
    }
}

impl fmt::Debug for NodeShared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Node").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// As long as this lives, the node does.
pub(super) struct Life {
    shared: Arc<NodeShared>,
    thread: Option<JoinHandle<()>>,
    /// The network that was joined with the node.
    network: OnceLock<Joined>,
}

impl Life {
    /// Joins the domain and starts to serve.
    pub(super) fn begin(name: Name, domain: Domain, kind: Kind) -> Result<Arc<Self>, OpenError> {
        // Whoever sleeps on our publishers may rely on barriers reaching us.
        let _ = Fencing::of_this_process();
        let shared = Arc::new(assemble(name, domain, kind)?);
        let thread = if kind.has_thread { Some(start_thread(&shared)?) } else { None };
        Ok(Arc::new(Self { shared, thread, network: OnceLock::new() }))
    }

    pub(super) fn shared(&self) -> &Arc<NodeShared> {
        &self.shared
    }

    /// Keeps the network that was joined as long as the node lives.
    pub(super) fn keep(&self, network: Joined) {
        let is_first = self.network.set(network).is_ok();
        debug_assert!(is_first, "a node joins when it is opened");
    }
}

fn assemble(name: Name, domain: Domain, kind: Kind) -> Result<NodeShared, OpenError> {
    let system = |action: &str| {
        let action = action.to_owned();
        move |source| OpenError::System { action, source }
    };
    let id = NodeId::random().map_err(system("get random bits for the node's identity"))?;
    let directory = domain.path().to_owned();
    let epoll = Arc::new(Epoll::new().map_err(system("create an epoll set"))?);
    let wake = Wake::new().map_err(system("create an eventfd"))?;
    let pidfd = process::own_pidfd().map_err(system("open a pidfd of this process"))?;
    let bell = Arc::new(Bell::create()?);
    let pid = process::pid();
    let introduction =
        Introduction { name: name.clone(), pid, pidfd: Arc::new(pidfd), bell: Arc::clone(&bell) };
    let own_bell = Arc::new(bell.as_peer(Arc::clone(wake.descriptor())));
    let own = Peer { node: id, name: name.shared(), pid, is_gateway: kind.is_gateway, bell: own_bell };
    let membership = Membership::new(domain, id, &name)?;
    let control = Control::new(own, introduction, membership, Arc::clone(&epoll), wake.clone())
        .map_err(system("watch the node's socket"))?;
    Ok(NodeShared {
        id,
        name,
        directory,
        bell,
        epoll,
        wake,
        process: Process::current(),
        kind,
        is_stopping: AtomicBool::new(false),
        is_shut_down: AtomicBool::new(false),
        inspector: Mutex::default(),
        endpoints: AtomicU64::new(0),
        control: Mutex::new(control),
        settled: Condvar::new(),
        driver: Mutex::default(),
        rounds: Mutex::default(),
        round_over: Condvar::new(),
        ended_pairs: Mutex::default(),
        to_attend: Mutex::default(),
        outlets: Mutex::default(),
    })
}

fn start_thread(shared: &Arc<NodeShared>) -> Result<JoinHandle<()>, OpenError> {
    let served = Arc::clone(shared);
    let thread =
        std::thread::Builder::new().name("tidepost-control".to_owned()).spawn(move || served.serve());
    thread.map_err(|error| OpenError::Thread { reason: error.to_string() })
}

impl Drop for Life {
    fn drop(&mut self) {
        if self.shared.is_inherited() {
            // The thread is the parent's: there is nobody here to join, and nothing to close.
            std::mem::forget(self.network.take());
            return std::mem::forget(self.thread.take());
        }
        drop(self.network.take());
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.wake.signal();
        match self.thread.take() {
            None => self.shared.close(),
            // The last handle may go on the control thread itself, with a pair that ends there.
            Some(thread) if thread.thread().id() == std::thread::current().id() => {}
            // It panics only on an error in this library, which has been reported by then.
            Some(thread) => drop(thread.join()),
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(formatter)
    }
}
