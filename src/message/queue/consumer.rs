//! The end of a queue that takes.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::item::Item;
use crate::message::error::{ReceiveError, Refused, WaitError};
use crate::message::event::Event;
use crate::message::inlet::SubscriberShared;
use crate::message::payload::{self, Payload};
use crate::message::receiver::Receiver;
use crate::message::wait_set::waitable;
use crate::node::{EndpointId, Inlet};
use crate::os::clock::Deadline;

/// Takes items of type `T` from the producers of a queue, made by [`Queue::consumer`](super::Queue::consumer).
///
/// Producers give it items as long as it has credit, also ahead of its asking. Those of one producer come in the order in which
/// it gave them. With several producers, each that has items gets its turn after at most 64 of another. Dropping a consumer
/// gives back what it has not seen, and what it has seen and not settled.
pub struct Consumer<T: ?Sized> {
    receiver: Receiver,
    items: PhantomData<fn() -> Box<T>>,
}

impl<T: Payload + ?Sized> Consumer<T> {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self { receiver, items: PhantomData }
    }

    /// The next item, if one is there. Never blocks, and makes no system call unless [`Consumer::as_fd`] is used, or, in a queue
    /// of depth 0, a producer sleeps until somebody asks, which this wakes.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] in a forked child. What a producer does wrong ends its connection, and is counted by its node.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Item<'_, T>>, ReceiveError> {
        Ok(if self.receiver.poll_once(payload::extent::<T>())? { self.item() } else { None })
    }

    /// The next item. Blocks until there is one: polls briefly, then sleeps until a producer wakes it.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`] when it would have to wait after a `cancel` or `shutdown`; [`ReceiveError::Endpoint`] if the node has
    /// no control thread, and driving it failed, or in a forked child.
    #[inline]
    pub fn recv(&mut self) -> Result<Item<'_, T>, ReceiveError> {
        // A wait without deadline ends with an item; what it finds is there to be taken.
        while !self.receiver.poll_until(payload::extent::<T>(), || Deadline::NEVER)? {}
        Ok(self.item().expect("the poll has just found it"))
    }

    /// As [`Consumer::recv`], waiting no longer than `timeout`: `None` if nothing came.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Item<'_, T>>, ReceiveError> {
        let is_ready = self.receiver.poll_until(payload::extent::<T>(), || Deadline::after(timeout))?;
        Ok(if is_ready { self.item() } else { None })
    }

    /// As [`Consumer::recv`], for a task: pending until there is an item. It works on any runtime, as the node's control thread
    /// wakes it; a node without one has to be dispatched. Dropping it before it is ready loses nothing.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub async fn recv_async(&mut self) -> Result<Item<'_, T>, ReceiveError> {
        poll_fn(|context| self.receiver.poll_task(payload::extent::<T>(), context)).await?;
        Ok(self.item().expect("the poll has just found it"))
    }

    /// A descriptor for somebody else's poll or epoll loop, to be used as that of a
    /// [subscriber](crate::Subscriber::as_fd): readable when items or events may be there, and at first; a loop that it wakes
    /// calls [`Consumer::try_recv`] until that finds nothing.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] if there is no descriptor left.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, ReceiveError> {
        self.receiver.descriptor()
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.receiver.shared().id()
    }

    /// How many producers are connected. Those that left do not count, even if items of theirs are left.
    pub fn producers(&self) -> usize {
        self.receiver.publishers()
    }

    /// Items that are lost because producers died, or were dropped, before they had given them to anybody. Each consumer of
    /// such a producer counts all of them. What was being given to somebody in the very moment of a death may be counted too.
    pub fn lost(&self) -> u64 {
        self.receiver.shared().report().lost
    }

    /// The producers that came later and could not be joined, because of another type for instance, and why; the last 64 of
    /// them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.receiver.refusals()
    }

    /// The next event that has not been asked for: producers that join, leave or cannot be connected, and
    /// [`Gap`](Event::Gap)s, the items that a producer had given to nobody. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.receiver.shared().events.take()
    }

    /// As [`Consumer::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.receiver.wait_for_event(timeout)
    }

    /// A handle for other threads, to end the consumer's waits.
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle { shared: Arc::clone(self.receiver.shared()) }
    }

    /// The words in which it answers its first producer.
    #[cfg(test)]
    pub(super) fn words(&self) -> crate::sync::ring::CursorMemory {
        self.receiver.first_words()
    }

    #[inline]
    fn item(&mut self) -> Option<Item<'_, T>> {
        self.receiver.take_item().map(Item::new)
    }
}

impl<T: ?Sized> fmt::Debug for Consumer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Consumer").field("receiver", &self.receiver).finish()
    }
}

waitable!([T: Payload + ?Sized] Consumer<T>, receiver, |consumer: &mut Self| {
    consumer.receiver.look(payload::extent::<T>())
});

/// A consumer seen from other threads, made by [`Consumer::handle`].
#[derive(Clone)]
pub struct ConsumerHandle {
    shared: Arc<SubscriberShared>,
}

impl ConsumerHandle {
    /// Ends the consumer's waits with `Closed`, the one it may be in and any that it would begin. What has arrived can still be
    /// received.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// How many producers are connected.
    pub fn producers(&self) -> usize {
        self.shared.connected()
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConsumerHandle").field("queue", &self.shared.channel).finish_non_exhaustive()
    }
}
