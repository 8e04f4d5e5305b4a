//! The receiving end of a signal.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::message::board::{BoardInlet, Sources, View, Watch};
use crate::message::error::{ReceiveError, Refused, WaitError};
use crate::message::event::Event;
use crate::message::wait_set::waitable;
use crate::node::{EndpointId, Inlet, Offer, Refusal};
use crate::os::clock::Deadline;
use crate::sync::board::{SignalMemory, SignalShape, Watching};

/// What a waiter sees of one notifier.
pub(super) struct Counters(Watching<SignalMemory>);

impl View for Counters {
    type Keeper = ();

    fn receive(offer: &Offer) -> Result<Self, Refusal> {
        let unusable = |reason: String| Refusal::Unusable { reason };
        let shape = SignalShape::claimed(offer.slots, offer.payload_offset);
        let shape = shape.map_err(|error| unusable(error.to_string()))?;
        // The descriptor, which has been compared, says how many there are.
        if shape.ids() as u64 * size_of::<u64>() as u64 != offer.descriptor.size {
            return Err(unusable(format!("it offers {} counters, and describes others", shape.ids())));
        }
        let memory =
            SignalMemory::receive(&offer.ring, shape).map_err(|error| unusable(error.to_string()))?;
        Ok(Self(Watching::new(memory)))
    }

    #[inline]
    fn has_news(&self) -> bool {
        self.0.has_news()
    }
}

/// An id that has been notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// The id.
    pub id: u32,
    /// How often, by all notifiers together, since the waiter was last told of it.
    pub count: u64,
}

/// What has come and not been handed out.
struct Pending {
    /// Of each id.
    counts: Vec<u64>,
    /// A bit for each that is not zero.
    marks: Vec<u64>,
    /// How many those are.
    marked: usize,
}

impl Pending {
    fn new(ids: u32) -> Self {
        // Touched, so that no page is asked for when it matters.
        let mut pending = Self {
            counts: vec![u64::MAX; ids as usize],
            marks: vec![u64::MAX; ids.div_ceil(u64::BITS) as usize],
            marked: 0,
        };
        pending.counts.fill(0);
        pending.marks.fill(0);
        pending
    }

    /// Collects what is new at every notifier; whether there is anything.
    #[inline]
    fn gather(&mut self, sources: &mut Sources<Counters>, inlet: &BoardInlet<Counters>) -> bool {
        let Self { counts, marks, marked } = self;
        sources.visit(
            inlet,
            |_, counters| {
                counters.0.changes(|id, new| {
                    if counts[id] == 0 {
                        marks[id / 64] |= 1 << (id % 64);
                        *marked += 1;
                    }
                    counts[id] = counts[id].saturating_add(new);
                })
            },
            // What a notifier said before it went has been collected.
            |_, counters| drop(counters),
        );
        *marked > 0
    }

    /// Gives everything away, in the order of the ids.
    fn take(&mut self, mut give: impl FnMut(Notice)) {
        for (index, mark) in self.marks.iter_mut().enumerate() {
            while *mark != 0 {
                let id = index * 64 + mark.trailing_zeros() as usize;
                *mark &= *mark - 1;
                give(Notice { id: id as u32, count: std::mem::take(&mut self.counts[id]) });
            }
        }
        self.marked = 0;
    }
}

/// Waits for the notifiers of a signal, made by [`Signal::waiter`](super::Signal::waiter).
///
/// It is told what came from all notifiers together, each id once. Notifiers may come and go meanwhile.
pub struct Waiter {
    watch: Watch<Counters>,
    pending: Pending,
    /// What was handed out last.
    notices: Vec<Notice>,
}

impl Waiter {
    pub(super) fn new(watch: Watch<Counters>, ids: u32) -> Self {
        // Room for everything, and touched: neither memory nor a page is asked for when it matters.
        let mut notices = vec![Notice { id: u32::MAX, count: u64::MAX }; ids as usize];
        notices.clear();
        Self { watch, pending: Pending::new(ids), notices }
    }

    /// What has come, if anything has. Never blocks, and makes no system call unless [`Waiter::as_fd`] is used.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] in a forked child. What a notifier does wrong ends its connection, and is counted by its
    /// waiter's node.
    #[inline]
    pub fn try_wait(&mut self) -> Result<Option<Notices<'_>>, ReceiveError> {
        let Self { watch, pending, .. } = self;
        let polled = watch.poll_once(&mut |sources: &mut _, inlet: &_| pending.gather(sources, inlet));
        let is_there = polled.map_err(|source| self.watch.failed(source))?;
        Ok(is_there.then(|| self.hand_out()))
    }

    /// What has come, at least one id. Blocks until there is one: looks briefly, then sleeps until a notifier wakes it.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`] when it would have to wait after a `cancel` or `shutdown`; [`ReceiveError::Endpoint`] if the
    /// node has no control thread, and driving it failed, or in a forked child.
    pub fn wait(&mut self) -> Result<Notices<'_>, ReceiveError> {
        while !self.poll_until(|| Deadline::NEVER)? {}
        Ok(self.hand_out())
    }

    /// As [`Waiter::wait`], no longer than `timeout`: `None` if nothing came.
    ///
    /// # Errors
    /// As [`Waiter::wait`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Notices<'_>>, ReceiveError> {
        let is_there = self.poll_until(|| Deadline::after(timeout))?;
        Ok(is_there.then(|| self.hand_out()))
    }

    fn poll_until(&mut self, deadline: impl FnOnce() -> Deadline) -> Result<bool, ReceiveError> {
        let Self { watch, pending, .. } = self;
        watch.poll_until(&mut |sources: &mut _, inlet: &_| pending.gather(sources, inlet), deadline)
    }

    /// As [`Waiter::wait`], for a task: pending until something has come. It works on any runtime, as the node's control
    /// thread wakes it; a node without one has to be dispatched. Dropping it before it is ready loses nothing.
    ///
    /// # Errors
    /// As [`Waiter::wait`].
    pub async fn wait_async(&mut self) -> Result<Notices<'_>, ReceiveError> {
        let Self { watch, pending, .. } = self;
        let mut look = |sources: &mut _, inlet: &_| pending.gather(sources, inlet);
        poll_fn(|context| watch.poll_task(&mut look, context)).await?;
        Ok(self.hand_out())
    }

    /// What has been collected, by id.
    fn hand_out(&mut self) -> Notices<'_> {
        self.notices.clear();
        self.pending.take(|notice| self.notices.push(notice));
        let received = &self.watch.inlet().received;
        let count = self.notices.iter().fold(0u64, |sum, notice| sum.saturating_add(notice.count));
        let before = received.load(Ordering::Relaxed);
        received.store(before.saturating_add(count), Ordering::Relaxed);
        Notices { all: &self.notices }
    }

    /// A descriptor for somebody else's poll or epoll loop: readable when notices or events may be there, and at first. It says
    /// so after a call that found nothing; so a loop that it wakes calls [`Waiter::try_wait`] until that finds nothing, and only
    /// then waits again, and one that also wants events calls [`Waiter::try_event`] as often. It stays the same, must only be
    /// waited for, and is closed with the waiter.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] if there is no descriptor left.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, ReceiveError> {
        self.watch.descriptor()
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.watch.inlet().id()
    }

    /// How many ids there are.
    pub fn ids(&self) -> u32 {
        self.pending.counts.len() as u32
    }

    /// How many notifiers are connected. Those that left do not count, even if there is something of theirs to be told.
    pub fn notifiers(&self) -> usize {
        self.watch.inlet().connected()
    }

    /// The notifiers that came later and could not be joined, because of another number of ids for instance, and why; the last
    /// 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.watch.inlet().refusals()
    }

    /// The next event that has not been asked for: notifiers that join, leave or cannot be connected. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.watch.inlet().events.take()
    }

    /// As [`Waiter::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.watch.wait_for_event(timeout)
    }

    /// A handle for other threads, to end the waiter's waits.
    pub fn handle(&self) -> WaiterHandle {
        WaiterHandle { inlet: Arc::clone(self.watch.inlet()) }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Waiter");
        fields.field("watch", &self.watch).field("ids", &self.ids()).finish_non_exhaustive()
    }
}

/// What a waiter is told: each id that has been notified, once, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Notices<'a> {
    all: &'a [Notice],
}

impl<'a> Notices<'a> {
    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'a, Notice> {
        self.all.iter()
    }

    /// How often there was a notification, of all ids together.
    pub fn total(&self) -> u64 {
        self.all.iter().fold(0, |sum, notice| sum.saturating_add(notice.count))
    }

    /// How often this id was notified, 0 if it was not.
    pub fn count_of(&self, id: u32) -> u64 {
        self.all.binary_search_by_key(&id, |notice| notice.id).map_or(0, |index| self.all[index].count)
    }
}

impl Deref for Notices<'_> {
    type Target = [Notice];

    fn deref(&self) -> &[Notice] {
        self.all
    }
}

impl<'a> IntoIterator for Notices<'a> {
    type Item = &'a Notice;
    type IntoIter = std::slice::Iter<'a, Notice>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

// A waiter is ready when there is something that it has not handed out.
waitable!([] Waiter, watch, |waiter: &mut Self| {
    let Self { watch, pending, .. } = waiter;
    watch.look(&mut |sources: &mut _, inlet: &_| pending.gather(sources, inlet))
});

/// A waiter seen from other threads, made by [`Waiter::handle`].
#[derive(Clone)]
pub struct WaiterHandle {
    inlet: Arc<BoardInlet<Counters>>,
}

impl WaiterHandle {
    /// Ends the waiter's waits with `Closed`, the one it may be in and any that it would begin. What has come can still be
    /// asked for.
    pub fn cancel(&self) {
        self.inlet.berth.cancel();
    }

    /// How many notifiers are connected.
    pub fn notifiers(&self) -> usize {
        self.inlet.connected()
    }
}

impl fmt::Debug for WaiterHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WaiterHandle").field("signal", self.inlet.channel()).finish_non_exhaustive()
    }
}
