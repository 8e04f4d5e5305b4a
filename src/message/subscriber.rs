//! The receiving end of a topic.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::error::{ReceiveError, Refused, WaitError};
use super::event::Event;
use super::inlet::SubscriberShared;
use super::payload::{self, Payload};
use super::receiver::Receiver;
use super::sample::{Batch, Sample};
use super::trust::{Borrowed, Trust};
use super::wait_set::waitable;
use crate::node::{EndpointId, Inlet};
use crate::os::clock::Deadline;

/// Receives messages of type `T` from the publishers of a topic, made by
/// [`Topic::subscriber`](super::Topic::subscriber).
///
/// Messages are lent in the order in which each publisher sent them, and given back at the next call that receives. Where
/// the publisher waits for this subscriber they are lent where it wrote them; otherwise small ones are copied out first. What
/// a publisher had sent when it left or died is still received. With several publishers, each that has messages gets its
/// turn after at most 64 of another, but batches are not divided.
///
/// `B` says how far publishers are trusted: [`Borrowed`], or [`Copied`](super::Copied).
pub struct Subscriber<T: ?Sized, B = Borrowed> {
    receiver: Receiver,
    messages: PhantomData<fn() -> Box<T>>,
    trust: PhantomData<B>,
}

impl<T: Payload + ?Sized, B: Trust> Subscriber<T, B> {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self { receiver, messages: PhantomData, trust: PhantomData }
    }

    /// The next message, if one is there. Never blocks, and makes no system call unless [`Subscriber::as_fd`] is used, or a
    /// publisher sleeps that waits for what this gives back, which wakes it.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] in a forked child. What a publisher does wrong ends its connection, and is counted by its
    /// node.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Sample<'_, T>>, ReceiveError> {
        Ok(if self.receiver.poll_once(payload::extent::<T>())? { self.sample() } else { None })
    }

    /// The next message. Blocks until there is one: polls briefly, then sleeps until a publisher wakes it. Publishers may
    /// come and go meanwhile: [`Subscriber::publishers`] says how many are there, [`Subscriber::recv_timeout`] has an end.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`] when it would have to wait after a `cancel` or `shutdown`; [`ReceiveError::Endpoint`] if the
    /// node has no control thread, and driving it failed, or in a forked child.
    #[inline]
    pub fn recv(&mut self) -> Result<Sample<'_, T>, ReceiveError> {
        loop {
            // A wait without deadline ends with a message; what it finds is there to be taken.
            if self.receiver.poll_until(payload::extent::<T>(), || Deadline::NEVER)? {
                break;
            }
        }
        Ok(self.sample().expect("the poll has just found it"))
    }

    /// As [`Subscriber::recv`], for a task: pending until there is a message. It works on any runtime, as the node's control
    /// thread wakes it; a node without one has to be dispatched. Dropping it before it is ready loses nothing.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = std::env::temp_dir().join(format!("tidepost-doc-future-{}", std::process::id()));
    /// # let node = tidepost::Node::builder().directory(&directory).open()?;
    /// let mut publisher = node.topic::<u64>("depth").publisher(tidepost::Overflow::Block)?;
    /// let mut subscriber = node.topic::<u64>("depth").subscriber()?;
    /// let sending = std::thread::spawn(move || publisher.send(&12));
    /// let depth = futures_lite::future::block_on(async { subscriber.recv_async().await.map(|depth| *depth) })?;
    /// assert_eq!(depth, 12);
    /// # sending.join().expect("it does not panic")?;
    /// # drop((subscriber, node));
    /// # std::fs::remove_dir_all(directory)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Subscriber::recv`].
    pub async fn recv_async(&mut self) -> Result<Sample<'_, T>, ReceiveError> {
        poll_fn(|context| self.receiver.poll_task(payload::extent::<T>(), context)).await?;
        Ok(self.sample().expect("the poll has just found it"))
    }

    /// As [`Subscriber::recv`], waiting no longer than `timeout`: `None` if nothing came.
    ///
    /// # Errors
    /// As [`Subscriber::recv`].
    #[inline]
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Sample<'_, T>>, ReceiveError> {
        let is_ready = self.receiver.poll_until(payload::extent::<T>(), || Deadline::after(timeout))?;
        Ok(if is_ready { self.sample() } else { None })
    }

    /// Up to `count` messages that are there, at least one: blocks like [`Subscriber::recv`] for the first. They
    /// come from one publisher, and all of them stay until the batch is dropped.
    ///
    /// # Errors
    /// As [`Subscriber::recv`].
    #[inline]
    pub fn recv_many(&mut self, count: usize) -> Result<Batch<'_, T>, ReceiveError> {
        while !self.receiver.poll_until(payload::extent::<T>(), || Deadline::NEVER)? {}
        Ok(Batch::new(self.receiver.batch(count), count))
    }

    /// As [`Subscriber::recv_many`], without blocking: the batch may be empty.
    ///
    /// # Errors
    /// As [`Subscriber::try_recv`].
    #[inline]
    pub fn try_recv_many(&mut self, count: usize) -> Result<Batch<'_, T>, ReceiveError> {
        let is_ready = self.receiver.poll_once(payload::extent::<T>())?;
        Ok(Batch::new(if is_ready { self.receiver.batch(count) } else { None }, count))
    }

    /// A descriptor for somebody else's poll or epoll loop: readable when messages or events may be there, and at first. It says
    /// so after a receiving call that found nothing; so a loop that it wakes calls [`Subscriber::try_recv`] until that finds
    /// nothing, and only then waits again, and one that also wants events calls [`Subscriber::try_event`] as often. It stays the
    /// same, must only be waited for, and is closed with the subscriber.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = std::env::temp_dir().join(format!("tidepost-doc-descriptor-{}", std::process::id()));
    /// # let node = tidepost::Node::builder().directory(&directory).open()?;
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// let mut publisher = node.topic::<u64>("depth").publisher(tidepost::Overflow::Block)?;
    /// let mut subscriber = node.topic::<u64>("depth").subscriber()?;
    /// let sending = std::thread::spawn(move || publisher.send_many(&[1, 2, 3]));
    /// let mut sum = 0;
    /// while sum < 6 {
    ///     poll(&mut [PollFd::from_borrowed_fd(subscriber.as_fd()?, PollFlags::IN)], None)?;
    ///     while let Some(depth) = subscriber.try_recv()? {
    ///         sum += *depth;
    ///     }
    /// }
    /// # sending.join().expect("it does not panic")?;
    /// # drop((subscriber, node));
    /// # std::fs::remove_dir_all(directory)?;
    /// # Ok(())
    /// # }
    /// ```
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

    /// How many publishers are connected. Those that left do not count, even if messages of theirs are left.
    pub fn publishers(&self) -> usize {
        self.receiver.publishers()
    }

    /// Messages that were lost so far, of all publishers together.
    pub fn lost(&self) -> u64 {
        self.receiver.shared().report().lost
    }

    /// The publishers that came later and could not be joined, because of another type for instance, and why; the last
    /// 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.receiver.refusals()
    }

    /// The next event that has not been asked for: publishers that join, leave or cannot be connected, and – from the first
    /// call on – gaps. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.receiver.shared().events.take()
    }

    /// As [`Subscriber::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.receiver.wait_for_event(timeout)
    }

    /// A handle for other threads, to end the subscriber's waits.
    pub fn handle(&self) -> SubscriberHandle {
        SubscriberHandle { shared: Arc::clone(self.receiver.shared()) }
    }

    #[inline]
    fn sample(&mut self) -> Option<Sample<'_, T>> {
        self.receiver.take().map(Sample::new)
    }
}

impl<T: ?Sized, B> fmt::Debug for Subscriber<T, B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Subscriber").field("receiver", &self.receiver).finish()
    }
}

waitable!([T: Payload + ?Sized, B: Trust] Subscriber<T, B>, receiver, |subscriber: &mut Self| {
    subscriber.receiver.look(payload::extent::<T>())
});

/// A subscriber seen from other threads, made by [`Subscriber::handle`].
#[derive(Clone)]
pub struct SubscriberHandle {
    shared: Arc<SubscriberShared>,
}

impl SubscriberHandle {
    /// Ends the subscriber's waits with `Closed`, the one it may be in and any that it would begin. What has arrived can
    /// still be received.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// How many publishers are connected.
    pub fn publishers(&self) -> usize {
        self.shared.connected()
    }
}

impl fmt::Debug for SubscriberHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SubscriberHandle")
            .field("topic", &self.shared.channel)
            .finish_non_exhaustive()
    }
}
