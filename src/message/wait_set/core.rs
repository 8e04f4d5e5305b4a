//! How a wait set waits: it looks at the endpoints that have been busy in turn, in user space; all others sleep on their own
//! eventfds in its epoll set, with the foreign descriptors. What sleeps costs nothing until it is woken.
//!
//! An endpoint that has its turn may be unprepared: nobody rings for its messages, and only looking finds them. So before the
//! set sleeps, or says that nothing is ready to who waits for its descriptor, each of those is *settled*: its eventfd is
//! drained, its sleep prepared, and its streams looked at once more. Only then does the epoll set speak for all members.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::endpoint::Look;
use super::error::{WaitSetError, unable};
use super::member::{Kind, Listening, Member, Members, Ready, Watched};
use super::timer::Timers;
use super::watcher::Watcher;
use crate::message::receiver::{EAGER_POLLS, PATIENT_POLLS, TASK_POLLS};
use crate::node::Node;
use crate::os::clock::Deadline;
use crate::os::epoll::{self, EVENTS_MAX, Epoll, Interest, Wake};
use crate::os::fork::Process;
use crate::os::poll;

/// As many endpoints, and nothing else that the kernel knows, are looked at all the time.
const FEW: usize = 16;
/// Looks in a row that find nothing, of all endpoints that have their turns together, before one of them is left to the kernel.
const IDLE_LOOKS: usize = 4096;
/// The same of one endpoint at least.
const IDLE_LOOKS_LEAST: usize = 16;
/// Waits that endpoints in user space may end before the kernel is asked for the others …
const WAITS_UNASKED: usize = 64;
/// … and how long they may take.
const TIME_UNASKED: Duration = Duration::from_millis(1);
/// Waits between two looks at the clock, if they end fast: within [`FAST`], all together.
const WAITS_UNTIMED: usize = 8;
const FAST: Duration = Duration::from_micros(100);

/// The token of the set's own eventfd.
const OWN: u64 = u64::MAX;
/// The token of its timer.
const TIMER: u64 = u64::MAX - 1;
/// The first token of a node; below are members, by slot.
const NODES: u64 = 1 << 32;

/// What handles of other threads reach.
pub(super) struct Shared {
    is_cancelled: AtomicBool,
    wake: Wake,
    process: Process,
}

impl Shared {
    /// Ends the set's waits. A forked child's copy is not its parent's to end.
    pub(super) fn cancel(&self) {
        if !self.process.is_parent() {
            self.is_cancelled.store(true, Ordering::Release);
            self.wake.signal();
        }
    }

    #[inline]
    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }
}

/// A node without thread, which the set serves while it waits.
struct Served {
    node: Node,
    /// Endpoints of it in the set.
    endpoints: usize,
}

/// When the clock is looked at, and the kernel asked, although endpoints in user space keep the set busy.
struct Pace {
    /// Waits since the kernel was asked.
    waits: usize,
    /// So many of them, and the clock is looked at.
    timed_at: usize,
    timed: Instant,
    are_slow: bool,
    /// So many of them, and the kernel is asked.
    ask_at: usize,
    asked: Instant,
}

impl Pace {
    fn new() -> Self {
        let now = Instant::now();
        Self { waits: 0, timed_at: 1, timed: now, are_slow: false, ask_at: WAITS_UNASKED, asked: now }
    }

    /// Counts a wait: what the clock says, if it is to be looked at.
    #[inline]
    fn step(&mut self) -> Option<Instant> {
        self.waits += 1;
        if self.waits < self.timed_at { None } else { Some(self.time()) }
    }

    fn time(&mut self) -> Instant {
        let now = Instant::now();
        self.are_slow = now.saturating_duration_since(self.timed) >= FAST;
        self.timed = now;
        self.timed_at = self.waits + if self.are_slow { 1 } else { WAITS_UNTIMED };
        now
    }

    /// Whether the kernel is to be asked.
    fn is_due(&self, now: Instant) -> bool {
        self.waits >= self.ask_at || now.saturating_duration_since(self.asked) >= TIME_UNASKED
    }

    /// It has been asked; `soon` says after how many waits again at the latest.
    fn begin(&mut self, soon: usize) {
        (self.waits, self.ask_at, self.asked) = (0, soon.clamp(1, WAITS_UNASKED), Instant::now());
        self.timed_at = if self.are_slow { 1 } else { WAITS_UNTIMED.min(self.ask_at) };
    }

    /// A deadline that has passed.
    fn at_once(&self) -> Deadline {
        Deadline::at(self.asked)
    }
}

/// A wait set without its types.
pub(super) struct Core {
    pub(super) members: Members,
    timers: Timers,
    endpoints: usize,
    descriptors: usize,
    nodes: Vec<Option<Served>>,
    /// Slots of descriptors that the program may have exchanged.
    touched: Vec<u32>,
    pace: Pace,
    epoll: Arc<Epoll>,
    /// Makes the epoll set readable when the next timer is due, once there has been one.
    alarm: Option<epoll::Timer>,
    watcher: Option<Watcher>,
    /// Whether somebody waits for the set's descriptor, and a call that finds nothing is to settle everything.
    is_watched: AtomicBool,
    pub(super) shared: Arc<Shared>,
}

impl Core {
    pub(super) fn new() -> Result<Self, WaitSetError> {
        let epoll = Epoll::new().map_err(unable("create an epoll set"))?;
        let wake = Wake::new().map_err(unable("create an eventfd"))?;
        let watched = epoll.add(wake.descriptor(), OWN, Interest::Read);
        watched.map_err(unable("watch an eventfd"))?;
        let shared = Shared { is_cancelled: AtomicBool::new(false), wake, process: Process::current() };
        Ok(Self {
            members: Members::default(),
            timers: Timers::default(),
            endpoints: 0,
            descriptors: 0,
            nodes: Vec::new(),
            touched: Vec::new(),
            pace: Pace::new(),
            epoll: Arc::new(epoll),
            alarm: None,
            watcher: None,
            is_watched: AtomicBool::new(false),
            shared: Arc::new(shared),
        })
    }

    /// Whether the set can be used, and waits have not come to an end.
    #[inline]
    fn check(&self) -> Result<(), WaitSetError> {
        self.check_process()?;
        if self.shared.is_cancelled() { Err(WaitSetError::Cancelled) } else { Ok(()) }
    }

    fn check_process(&self) -> Result<(), WaitSetError> {
        if self.shared.process.is_parent() { Err(WaitSetError::Forked) } else { Ok(()) }
    }

    /// The set's descriptor, for somebody else's loop.
    pub(super) fn epoll(&self) -> Result<&Epoll, WaitSetError> {
        self.check_process()?;
        if !self.is_watched.swap(true, Ordering::Relaxed) {
            // Nobody has looked yet: the first look that finds nothing settles everything.
            self.shared.wake.signal();
        }
        Ok(&self.epoll)
    }

    /// Adds a member: its slot and its identity.
    pub(super) fn insert(&mut self, kind: Kind) -> Result<(u32, u64), WaitSetError> {
        self.check_process()?;
        let (slot, id) = self.members.insert(kind);
        let connected = self.connect(slot);
        if connected.is_err() {
            drop(self.members.remove(slot));
        }
        connected.map(|()| (slot, id))
    }

    fn connect(&mut self, slot: u32) -> Result<(), WaitSetError> {
        let Some(member) = self.members.at(slot) else { return Ok(()) };
        match &mut member.kind {
            Kind::Endpoint(listening) => {
                listen(listening, slot, &self.epoll, &mut self.nodes)?;
                self.endpoints += 1;
            }
            Kind::Descriptor(watched) => {
                let added = self.epoll.add(watched.source.descriptor(), slot.into(), watched.interest);
                added.map_err(unable("watch the descriptor"))?;
                self.descriptors += 1;
            }
            Kind::Timer(timer) => {
                let due = timer.due();
                self.make_alarm()?;
                self.timers.insert(due, slot);
            }
        }
        Ok(())
    }

    /// Makes the kernel's timer, which is finer than a time-out, before anybody sleeps, so that nothing is short then.
    fn make_alarm(&mut self) -> Result<(), WaitSetError> {
        if self.alarm.is_none() {
            let alarm = epoll::Timer::new().map_err(unable("create a timer"))?;
            self.epoll.add(&alarm, TIMER, Interest::Read).map_err(unable("watch a timer"))?;
            self.alarm = Some(alarm);
        }
        Ok(())
    }

    /// Takes a member out.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Kind> {
        let is_ours = !self.shared.process.is_parent();
        let mut kind = self.members.remove(slot)?;
        match &mut kind {
            Kind::Endpoint(listening) => {
                self.endpoints -= 1;
                // What a forked child does to the epoll set is done to its parent's.
                if is_ours {
                    ignore(listening, &self.epoll, &mut self.nodes);
                }
            }
            Kind::Descriptor(watched) => {
                self.descriptors -= 1;
                self.touched.retain(|other| *other != slot);
                if is_ours {
                    self.epoll.remove(watched.source.descriptor());
                    if watched.number != watched.source.descriptor().as_raw_fd() {
                        self.forget_number(watched.number);
                    }
                }
            }
            Kind::Timer(timer) => self.timers.remove(timer.due(), slot),
        }
        if self.looks_at_all() {
            self.members.give_all_endpoints_turns();
        }
        Some(kind)
    }

    /// The program may do anything with this member: what the set knows of it is not so any more.
    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        let Some(member) = self.members.at(slot) else { return };
        match &mut member.kind {
            Kind::Endpoint(_) if member.is_in_turn => {}
            Kind::Endpoint(_) => self.members.give_turn(slot),
            Kind::Descriptor(watched) => {
                // It keeps its turn, or others could be said before it each time.
                watched.is_unsure = true;
                if !self.touched.contains(&slot) {
                    self.touched.push(slot);
                }
            }
            Kind::Timer(_) => {}
        }
    }

    /// Whether every member is looked at in user space, but for timers.
    #[inline]
    fn looks_at_all(&self) -> bool {
        self.endpoints <= FEW && self.descriptors == 0 && self.nodes.iter().all(Option::is_none)
    }

    /// What is ready, blocking until the deadline, which is computed only if there is a wait.
    #[inline]
    pub(super) fn wait_until(
        &mut self,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<Option<Ready>, WaitSetError> {
        self.check()?;
        match self.next()? {
            None => self.wait(deadline()),
            found => Ok(found),
        }
    }

    /// What is ready now.
    pub(super) fn try_wait(&mut self) -> Result<Option<Ready>, WaitSetError> {
        self.check()?;
        let found = self.next()?;
        if found.is_some() {
            return Ok(found);
        }
        let looks_at_all = self.looks_at_all();
        if !looks_at_all {
            self.ask(self.pace.at_once())?;
        }
        if !looks_at_all || !self.timers.is_empty() {
            let found = self.look_once()?;
            if found.is_some() {
                return Ok(found);
            }
        }
        self.settle_if_watched()
    }

    /// What is ready, for a task that is woken if nothing is.
    pub(super) fn poll_task(&mut self, context: &mut Context<'_>) -> Poll<Result<Ready, WaitSetError>> {
        match self.find_for_task(context).transpose() {
            None => Poll::Pending,
            Some(outcome) => Poll::Ready(outcome),
        }
    }

    fn find_for_task(&mut self, context: &mut Context<'_>) -> Result<Option<Ready>, WaitSetError> {
        self.check()?;
        let found = self.next()?;
        if found.is_some() {
            return Ok(found);
        }
        let found = self.settle_all()?;
        if found.is_some() {
            return Ok(found);
        }
        let watcher = match self.watcher.take() {
            Some(watcher) => watcher,
            None => Watcher::start(&self.epoll)?,
        };
        let watched = watcher.wake_when_readable(context.waker());
        self.watcher = Some(watcher);
        watched.map_err(unable("watch the wait set")).map(|()| None)
    }

    fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// What is ready, as far as it is known without waiting, or asking the kernel each time.
    #[inline]
    fn next(&mut self) -> Result<Option<Ready>, WaitSetError> {
        if !self.timers.is_empty() || !self.looks_at_all() {
            self.ask_if_due()?;
        }
        Ok(self.look())
    }

    /// Now and then: rings timers that are due, and asks the kernel about those who have no turn.
    fn ask_if_due(&mut self) -> Result<(), WaitSetError> {
        let Some(now) = self.pace.step() else { return Ok(()) };
        self.ring_timers(now);
        if !self.looks_at_all() && self.pace.is_due(now) {
            self.ask(self.pace.at_once())?;
        }
        Ok(())
    }

    fn ring_timers(&mut self, now: Instant) {
        while let Some(slot) = self.timers.take_due(now) {
            self.members.give_turn(slot);
        }
    }

    /// Looks at timers, then once at all that have their turn.
    fn look_once(&mut self) -> Result<Option<Ready>, WaitSetError> {
        self.check()?;
        if !self.timers.is_empty() {
            self.ring_timers(Instant::now());
        }
        Ok(self.look())
    }

    /// Looks at each member that has its turn once, from the one after the last that was ready.
    #[inline]
    fn look(&mut self) -> Option<Ready> {
        let most = if self.looks_at_all() { None } else { Some(self.idle_looks()) };
        for _ in 0..self.members.turns() {
            let (slot, member) = self.members.next_turn()?;
            let id = member.id;
            match &mut member.kind {
                Kind::Endpoint(listening) => match glance(listening) {
                    Look::Nothing => {
                        listening.idle = listening.idle.saturating_add(1);
                        let is_left = most.is_some_and(|most| listening.idle >= most) && settle(listening);
                        if !is_left {
                            self.members.give_turn(slot);
                        }
                    }
                    look => {
                        listening.idle = 0;
                        self.members.give_turn(slot);
                        return Some(Ready { slot, id, is_closed: look == Look::Closed });
                    }
                },
                Kind::Descriptor(watched) => {
                    if is_still_ready(watched) {
                        return Some(Ready { slot, id, is_closed: false });
                    }
                }
                Kind::Timer(_) => return self.tell_timer(slot),
            }
        }
        None
    }

    /// Looks in a row that find nothing, after which an endpoint is left to the kernel.
    fn idle_looks(&self) -> u32 {
        (IDLE_LOOKS / self.members.turns().max(1)).max(IDLE_LOOKS_LEAST) as u32
    }

    /// A timer is said to be ready: it goes on, or is over.
    #[cold]
    fn tell_timer(&mut self, slot: u32) -> Option<Ready> {
        let member = self.members.at(slot)?;
        let ready = Ready { slot, id: member.id, is_closed: false };
        if let Kind::Timer(timer) = &mut member.kind
            && timer.is_periodic()
        {
            timer.go_on(Instant::now());
            self.timers.insert(timer.due(), slot);
        } else {
            drop(self.members.remove(slot));
        }
        Some(ready)
    }

    /// Waits for something to be ready: looking, then asleep. `None` if the deadline came first.
    #[cold]
    #[inline(never)]
    fn wait(&mut self, deadline: Deadline) -> Result<Option<Ready>, WaitSetError> {
        loop {
            if self.members.turns() > 0 && !self.looks_at_all() {
                self.ask(self.pace.at_once())?;
            }
            let found = self.look_for_long()?;
            if found.is_some() {
                return Ok(found);
            }
            if deadline.has_passed() {
                return self.try_wait();
            }
            let until = if self.settle()? { deadline } else { self.pace.at_once() };
            self.set_alarm()?;
            self.ask(until)?;
            let found = self.look_once()?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Looks at those that have their turn for as long as a receiver looks before it sleeps; once if there are none.
    fn look_for_long(&mut self) -> Result<Option<Ready>, WaitSetError> {
        let mut looks = 0;
        loop {
            let found = self.look_once()?;
            let turns = self.members.turns();
            looks += turns as u32;
            if found.is_some() || turns == 0 || looks >= EAGER_POLLS + PATIENT_POLLS {
                return Ok(found);
            }
            if looks >= EAGER_POLLS {
                std::hint::spin_loop();
            }
        }
    }

    /// Settles all endpoints that have their turn. `false` if there may be news: everything has to be looked at again.
    fn settle(&mut self) -> Result<bool, WaitSetError> {
        self.listen_anew()?;
        let looks_at_all = self.looks_at_all();
        let mut is_quiet = true;
        for _ in 0..self.members.turns() {
            let Some((slot, Member { kind, .. })) = self.members.next_turn() else { break };
            let keeps_turn = match kind {
                Kind::Endpoint(listening) => {
                    let is_settled = settle(listening);
                    is_quiet &= is_settled;
                    looks_at_all || !is_settled
                }
                Kind::Descriptor(_) | Kind::Timer(_) => {
                    is_quiet = false;
                    true
                }
            };
            if keeps_turn {
                self.members.give_turn(slot);
            }
        }
        Ok(is_quiet)
    }

    /// The program may have put other endpoints in the places of those that have their turn: first none of the old ones is
    /// listened to any more, as they may be in each other's places.
    fn listen_anew(&mut self) -> Result<(), WaitSetError> {
        let (epoll, nodes) = (&self.epoll, &mut self.nodes);
        let mut is_changed = false;
        self.members.for_each_in_turn(|_, listening| {
            if !is_listened_to(listening) {
                ignore(listening, epoll, nodes);
                is_changed = true;
            }
        });
        let mut outcome = Ok(());
        if is_changed {
            self.members.for_each_in_turn(|slot, listening| {
                if listening.watched.is_none() && outcome.is_ok() {
                    outcome = listen(listening, slot, epoll, nodes);
                }
            });
        }
        outcome
    }

    fn settle_if_watched(&mut self) -> Result<Option<Ready>, WaitSetError> {
        if self.is_watched() { self.settle_all() } else { Ok(None) }
    }

    /// After a look that found nothing: has the epoll set become readable when anything is ready. Something may have become so
    /// meanwhile.
    #[cold]
    fn settle_all(&mut self) -> Result<Option<Ready>, WaitSetError> {
        for _ in 0..TASK_POLLS {
            let is_quiet = self.settle()?;
            self.set_alarm()?;
            let is_silent = self.ask(self.pace.at_once())? == 0;
            let found = self.look_once()?;
            if found.is_some() || is_quiet && is_silent {
                return Ok(found);
            }
        }
        // There is news that cannot be told yet: others get their turn, and then all is looked at again.
        self.shared.wake.signal();
        Ok(None)
    }

    /// Has the kernel's timer fire when the next of ours is due.
    fn set_alarm(&mut self) -> Result<(), WaitSetError> {
        let next = self.timers.next();
        let set = self.alarm.as_mut().map_or(Ok(()), |alarm| alarm.set(next));
        set.map_err(unable("set a timer"))
    }

    /// Asks the kernel who is ready, waiting until the deadline, and gives them their turns: how many it named.
    fn ask(&mut self, deadline: Deadline) -> Result<usize, WaitSetError> {
        self.watch_touched()?;
        let mut tokens = [0; EVENTS_MAX];
        let epoll = Arc::clone(&self.epoll);
        let ready = epoll.wait(&mut tokens, deadline).map_err(unable("wait for the wait set"))?;
        let mut is_news = false;
        for token in ready {
            match *token {
                OWN => self.acknowledge(),
                TIMER => self.alarm.iter_mut().for_each(epoll::Timer::acknowledge),
                token if token >= NODES => self.serve((token - NODES) as usize)?,
                slot => is_news |= self.note_ready(slot as u32),
            }
        }
        // Who has been found ready so gets a turn in each round as long as it stays so.
        self.pace.begin(if is_news { self.members.turns() } else { WAITS_UNASKED });
        Ok(ready.len())
    }

    /// Somebody has woken the set itself.
    fn acknowledge(&self) {
        self.shared.wake.drain();
        if self.shared.is_cancelled() {
            // For good.
            self.shared.wake.signal();
        }
    }

    /// The kernel says that a member is ready: whether that is news.
    fn note_ready(&mut self, slot: u32) -> bool {
        let Some(member) = self.members.at(slot) else { return false };
        let is_news = !member.is_in_turn;
        match &mut member.kind {
            Kind::Endpoint(listening) => {
                // What was prepared has come to its end, if only by mistake.
                listening.is_settled = false;
                // Who has its turn may have been rung long ago.
                listening.idle = if is_news { 0 } else { listening.idle };
            }
            Kind::Descriptor(watched) => watched.is_unsure = false,
            Kind::Timer(_) => {}
        }
        self.members.give_turn(slot);
        is_news
    }

    /// Serves a node without thread.
    fn serve(&mut self, place: usize) -> Result<(), WaitSetError> {
        let Some(Some(Served { node, .. })) = self.nodes.get(place) else { return Ok(()) };
        node.dispatch().map_err(|source| WaitSetError::Node { node: node.name().to_owned(), source })
    }

    /// Descriptors that the program may have exchanged for others, of the same number perhaps, are watched.
    fn watch_touched(&mut self) -> Result<(), WaitSetError> {
        while let Some(slot) = self.touched.pop() {
            let Some(Member { kind: Kind::Descriptor(watched), .. }) = self.members.at(slot) else {
                continue;
            };
            let former = watched.number;
            watch_anew(watched, slot, &self.epoll).map_err(unable("watch the descriptor"))?;
            if former != watched.number {
                self.forget_number(former);
            }
        }
        Ok(())
    }

    /// A member does not have the descriptor of this number any more, which may go on elsewhere.
    fn forget_number(&self, number: RawFd) {
        let own = [Some(self.shared.wake.descriptor().as_fd()), self.alarm.as_ref().map(AsFd::as_fd)];
        let nodes = self.nodes.iter().flatten().map(|served| served.node.as_fd());
        let mut others = own.into_iter().flatten().chain(nodes);
        if !others.any(|other| other.as_raw_fd() == number) && !self.members.use_number(number) {
            self.epoll.remove_number(number);
        }
    }
}

fn watch_anew(watched: &mut Watched, slot: u32, epoll: &Epoll) -> Result<(), Errno> {
    let descriptor = watched.source.descriptor();
    match epoll.modify(descriptor, slot.into(), watched.interest) {
        // It has come in place of another.
        Err(Errno::NOENT) => epoll.add(descriptor, slot.into(), watched.interest)?,
        other => other?,
    }
    watched.number = descriptor.as_raw_fd();
    Ok(())
}

/// Whether a descriptor that has been seen ready is so. One of which the kernel does not say is left to the program.
fn is_still_ready(watched: &mut Watched) -> bool {
    !watched.is_unsure || poll::is_ready(watched.source.descriptor(), watched.interest).unwrap_or(true)
}

/// What a look at an endpoint finds: cheaper where it is asleep.
#[inline]
fn glance(listening: &mut Listening) -> Look {
    let is_asleep = listening.is_settled && listening.endpoint.is_prepared();
    if is_asleep { Look::Nothing } else { listening.endpoint.look() }
}

/// Has an endpoint's eventfd become readable with the next news, unless that is so. `false` if there may be some.
fn settle(listening: &mut Listening) -> bool {
    if !(listening.is_settled && listening.endpoint.is_prepared() && is_listened_to(listening)) {
        listening.is_settled = is_listened_to(listening) && listening.endpoint.prepare();
    }
    listening.is_settled
}

/// Whether the eventfd that is watched is the endpoint's: the program may have put another endpoint in its place.
fn is_listened_to(listening: &Listening) -> bool {
    let eventfd = listening.endpoint.eventfd().ok();
    eventfd.zip(listening.watched.as_ref()).is_some_and(|(eventfd, watched)| Arc::ptr_eq(eventfd, watched))
}

/// Watches an endpoint's eventfd, and its node if nobody else serves that.
fn listen(
    listening: &mut Listening,
    slot: u32,
    epoll: &Epoll,
    nodes: &mut Vec<Option<Served>>,
) -> Result<(), WaitSetError> {
    let eventfd = listening.endpoint.eventfd().map_err(unable("create an eventfd for the endpoint"))?;
    let eventfd = Arc::clone(eventfd);
    let node = listening.endpoint.node();
    let place = if node.shared().has_thread() { None } else { Some(serve_too(node, epoll, nodes)?) };
    listening.node = place;
    let added = epoll.add(&*eventfd, slot.into(), Interest::Read);
    listening.watched = Some(eventfd);
    added.map_err(unable("watch the endpoint's eventfd")).inspect_err(|_| ignore(listening, epoll, nodes))
}

/// The opposite of [`listen`].
fn ignore(listening: &mut Listening, epoll: &Epoll, nodes: &mut [Option<Served>]) {
    if let Some(eventfd) = listening.watched.take() {
        epoll.remove(&*eventfd);
    }
    let Some(place) = listening.node.take().and_then(|place| nodes.get_mut(place)) else { return };
    if let Some(served) = place {
        served.endpoints -= 1;
        if served.endpoints == 0 {
            epoll.remove(served.node.as_fd());
            *place = None;
        }
    }
}

/// Serves this node from now on: its place.
fn serve_too(node: &Node, epoll: &Epoll, nodes: &mut Vec<Option<Served>>) -> Result<usize, WaitSetError> {
    let is_this =
        |served: &Option<Served>| served.as_ref().is_some_and(|served| served.node.id() == node.id());
    if let Some(place) = nodes.iter().position(is_this) {
        nodes[place].iter_mut().for_each(|served| served.endpoints += 1);
        return Ok(place);
    }
    let place = nodes.iter().position(Option::is_none).unwrap_or(nodes.len());
    epoll.add(node, NODES + place as u64, Interest::Read).map_err(unable("watch the node"))?;
    if place == nodes.len() {
        nodes.push(None);
    }
    nodes[place] = Some(Served { node: node.clone(), endpoints: 1 });
    Ok(place)
}
