//! The end of a queue that gives.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::core::QueueCounts;
use super::error::{DrainError, PushError, QueueError};
use super::loan::ItemLoan;
use super::outbox::{Outbox, Patience};
use super::shared::ProducerShared;
use crate::message::error::Refused;
use crate::message::error::WaitError;
use crate::message::event::{Counterpart, Event};
use crate::message::payload::{Message, Payload, Untyped, extent_of};
use crate::node::{EndpointId, Hub};

/// Pushes items of type `T` into a queue, made by [`Queue::producer`](super::Queue::producer).
///
/// One thread pushes; `&mut self` says so. An item for which a consumer has credit is written where that consumer reads it:
/// loads and stores, no system call unless the consumer sleeps, no lock, no allocation. What finds no credit lies in the
/// producer's own memory until a consumer has some; the node sees to that even while the producer's thread does something
/// else. Several threads each have a producer of their own, which [`Producer::try_clone`] makes.
///
/// Dropping a producer loses what no consumer has been given; [`Producer::close`] waits until everything has been acknowledged.
pub struct Producer<T: ?Sized> {
    outbox: Outbox,
    items: PhantomData<fn(&T)>,
}

impl<T: Payload + ?Sized> Producer<T> {
    pub(super) fn new(outbox: Outbox) -> Self {
        Self { outbox, items: PhantomData }
    }

    /// Gives the item to a consumer with credit, or puts it behind those that wait for one. If as many wait as the depth says,
    /// the policy decides: [`Block`](crate::Overflow::Block) waits as long as it takes, [`Fail`](crate::Overflow::Fail) fails,
    /// [`DropOldest`](crate::Overflow::DropOldest) drops the one that waits longest,
    /// [`Latest`](crate::Overflow::Latest) all that wait. In a queue of depth 0 there is `Block`, which waits until a consumer has
    /// taken the item, and `Fail`, which gives one that asks at this moment two milliseconds to take it. An item that a consumer
    /// sleeps on for as long goes to another that wants it.
    ///
    /// # Errors
    /// [`PushError::Full`] where the policy is not to wait; [`PushError::TooLarge`] and [`PushError::Segment`] if a large item
    /// finds no memory; [`PushError::Closed`].
    #[inline(always)]
    pub fn push(&mut self, item: &T) -> Result<(), PushError> {
        self.check_length(item)?;
        self.outbox.push(item.as_bytes(), Patience::Policy)
    }

    /// As [`Producer::push`], but waits for no room. In a queue of depth 0 a consumer that asks at this moment has two
    /// milliseconds to take the item, and nothing else is waited for.
    ///
    /// # Errors
    /// As [`Producer::push`]; [`PushError::Full`] whatever the policy, unless that makes room.
    #[inline]
    pub fn try_push(&mut self, item: &T) -> Result<(), PushError> {
        self.check_length(item)?;
        self.outbox.push(item.as_bytes(), Patience::None)
    }

    /// As [`Producer::push`], waiting no longer than `timeout` where the policy is to wait.
    ///
    /// # Errors
    /// As [`Producer::push`], and [`PushError::Timeout`].
    #[inline]
    pub fn push_timeout(&mut self, item: &T, timeout: Duration) -> Result<(), PushError> {
        self.check_length(item)?;
        self.outbox.push(item.as_bytes(), Patience::Until(timeout))
    }

    /// Pushes many items, one after the other.
    ///
    /// # Errors
    /// As [`Producer::push`]; the error says how many of this call were pushed.
    #[inline]
    pub fn push_many<'i>(&mut self, items: impl IntoIterator<Item = &'i T>) -> Result<(), PushError> {
        let mut pushed = 0;
        items
            .into_iter()
            .try_for_each(|item| self.push(item).map(|()| pushed += 1).map_err(|error| error.after(pushed)))
    }

    /// Types that are known when the program is built need no check, and this is nothing.
    #[inline(always)]
    fn check_length(&self, item: &T) -> Result<(), PushError> {
        if T::IS_TYPED { Ok(()) } else { check_untyped(self.outbox.shared(), item.as_bytes().len()) }
    }

    /// Another producer of the same queue with the same options, for another thread. Consumers see it as a producer of its own,
    /// with its own order and its own share of their credit.
    ///
    /// # Errors
    /// As [`Queue::producer`](super::Queue::producer).
    pub fn try_clone(&self) -> Result<Self, QueueError> {
        Ok(Self::new(self.outbox.another()?))
    }

    /// Its identity, which items name as their producer's.
    pub fn id(&self) -> EndpointId {
        self.outbox.shared().id()
    }

    /// Waits until `count` consumers have been let in, no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`], which also names those that turned this producer down; [`WaitError::Closed`].
    pub fn wait_for_consumers(&mut self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        self.outbox.wait_for_consumers(count, timeout)
    }

    /// How many consumers take items from this producer.
    pub fn consumers(&self) -> usize {
        self.outbox.shared().consumers()
    }

    /// Items that no consumer has been given yet.
    pub fn pending(&self) -> u64 {
        self.outbox.shared().backlog()
    }

    /// What has become of the items so far.
    pub fn counts(&mut self) -> QueueCounts {
        self.outbox.counts()
    }

    /// Who turned this producer down so far, and why; the last 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.outbox.shared().refusals()
    }

    /// The next event that has not been asked for: consumers that join, leave or cannot be connected, and waits for room. The
    /// last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.outbox.shared().events.take()
    }

    /// As [`Producer::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.outbox.wait_for_event(timeout)
    }

    /// A handle for other threads, to end this producer's waits and to let go of consumers.
    pub fn handle(&self) -> ProducerHandle {
        ProducerHandle { shared: Arc::clone(self.outbox.shared()) }
    }

    /// What the thread that serves its node sees of it.
    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<ProducerShared> {
        Arc::clone(self.outbox.shared())
    }

    /// Waits until consumers have acknowledged every item, no longer than `timeout`, and drops the producer.
    ///
    /// # Errors
    /// [`DrainError::Timeout`], which says how many items nobody has been given and how many were not acknowledged.
    pub fn close(mut self, timeout: Duration) -> Result<(), DrainError> {
        self.outbox.drain(timeout)
    }
}

#[cold]
fn check_untyped(shared: &ProducerShared, given: usize) -> Result<(), PushError> {
    if extent_of(&shared.descriptor).fits(given as u64) {
        return Ok(());
    }
    Err(PushError::Length { queue: shared.channel.shared(), given, item_type: shared.descriptor.to_string() })
}

impl<T: Message> Producer<T> {
    /// Lends memory for one item, to be written in place and then pushed: where a consumer with credit will read it, or else
    /// the producer's own. It holds the bytes of some earlier item, or zeros. Waits for room like [`Producer::push`].
    ///
    /// # Errors
    /// As [`Producer::push`].
    pub fn loan(&mut self) -> Result<ItemLoan<'_, T>, PushError> {
        ItemLoan::new(&mut self.outbox, size_of::<T>())
    }
}

impl<T: Message> Producer<[T]> {
    /// Lends memory for one item of `length` elements, to be written in place and then pushed. It holds the bytes of some
    /// earlier item, or zeros. Waits for room like [`Producer::push`].
    ///
    /// # Errors
    /// As [`Producer::push`].
    pub fn loan(&mut self, length: usize) -> Result<ItemLoan<'_, [T]>, PushError> {
        // A product that overflows is asked for as such, and refused as too large.
        ItemLoan::new(&mut self.outbox, length.saturating_mul(size_of::<T>()))
    }
}

impl Producer<Untyped> {
    /// Lends memory for one item of `length` bytes, to be written in place and then pushed.
    ///
    /// # Errors
    /// As [`Producer::push`], and [`PushError::Length`].
    pub fn loan(&mut self, length: usize) -> Result<ItemLoan<'_, Untyped>, PushError> {
        check_untyped(self.outbox.shared(), length)?;
        ItemLoan::new(&mut self.outbox, length)
    }
}

impl<T: ?Sized> fmt::Debug for Producer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outbox.fmt(formatter)
    }
}

/// A producer seen from other threads, made by [`Producer::handle`]. It does not keep the producer alive.
#[derive(Clone, Debug)]
pub struct ProducerHandle {
    shared: Arc<ProducerShared>,
}

impl ProducerHandle {
    /// Ends the producer's waits with `Closed`, the one it may be in and any that it would begin. It pushes no more.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// How many consumers take items from the producer.
    pub fn consumers(&self) -> usize {
        self.shared.consumers()
    }

    /// The consumers that are connected.
    pub fn connected(&self) -> Vec<Counterpart> {
        self.shared.counterparts()
    }

    /// Items that no consumer has been given yet.
    pub fn pending(&self) -> u64 {
        self.shared.backlog()
    }

    /// Lets go of a consumer, one that is stopped for instance and keeps its items: what it has not acknowledged is delivered
    /// again, to others, and it is given nothing more. `false` if there is no such consumer.
    pub fn detach(&self, consumer: EndpointId) -> bool {
        self.shared.detach(consumer)
    }
}
