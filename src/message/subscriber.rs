//! The receiving end of a topic.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::error::{ReceiveError, Refused};
use super::payload::{self, Payload};
use super::receiver::Receiver;
use super::sample::{Batch, Sample};
use crate::os::clock::Deadline;

/// Receives messages of type `T` from the publishers of a topic, made by
/// [`Topic::subscriber`](super::Topic::subscriber).
///
/// Messages are lent where their publisher wrote them, in the order in which it sent them, and given back at the
/// next call that receives. What a publisher had sent when it left or died is still received.
pub struct Subscriber<T: ?Sized> {
    receiver: Receiver,
    messages: PhantomData<fn() -> Box<T>>,
}

impl<T: Payload + ?Sized> Subscriber<T> {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self { receiver, messages: PhantomData }
    }

    /// The next message, if one is there. Never blocks, and makes no system call.
    ///
    /// # Errors
    /// None at present: what a publisher does wrong ends its connection, and is counted by its node.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Sample<'_, T>>, ReceiveError> {
        Ok(if self.receiver.poll(payload::extent::<T>()) { self.sample() } else { None })
    }

    /// The next message. Blocks until there is one: polls briefly, then sleeps until a publisher wakes it. Publishers may
    /// come and go meanwhile: [`Subscriber::publishers`] says how many are there, [`Subscriber::recv_timeout`] has an end.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] if the node has no control thread and its control plane failed.
    #[inline]
    pub fn recv(&mut self) -> Result<Sample<'_, T>, ReceiveError> {
        while !self.receiver.poll_until(payload::extent::<T>(), || Deadline::NEVER)? {}
        Ok(self.sample().expect("the poll found a message"))
    }

    /// The next message, or `None` if there is none within `timeout`.
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
        Ok(Batch::new(self.receiver.batch(), count))
    }

    /// As [`Subscriber::recv_many`], without blocking: the batch may be empty.
    ///
    /// # Errors
    /// As [`Subscriber::try_recv`].
    #[inline]
    pub fn try_recv_many(&mut self, count: usize) -> Result<Batch<'_, T>, ReceiveError> {
        let is_ready = self.receiver.poll(payload::extent::<T>());
        Ok(Batch::new(if is_ready { self.receiver.batch() } else { None }, count))
    }

    /// How many publishers are connected. Those that left do not count, even if messages of theirs are left.
    pub fn publishers(&self) -> usize {
        self.receiver.publishers()
    }

    /// The publishers that came later and could not be joined, because of another type for instance, and why; the last
    /// 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.receiver.refusals()
    }

    #[inline]
    fn sample(&mut self) -> Option<Sample<'_, T>> {
        let (lent, shared) = self.receiver.take()?;
        Some(Sample::new(lent, shared))
    }
}

impl<T: ?Sized> fmt::Debug for Subscriber<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Subscriber").field("receiver", &self.receiver).finish()
    }
}
