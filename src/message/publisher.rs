//! The sending end of a topic.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::error::{Refused, SendError, WaitError};
use super::loan::Loan;
use super::payload::{Message, Payload};
use super::sender::Sender;
use crate::os::clock::Deadline;

/// Publishes messages of type `T` on a topic, made by [`Topic::publisher`](super::Topic::publisher).
///
/// One thread sends; `&mut self` says so. On the way of a message there are only loads, stores and at most one fence:
/// no system call unless a subscriber sleeps, no lock, no allocation.
///
/// With no subscriber a message is published and read by nobody. A subscriber that dies holds nobody back.
pub struct Publisher<T: ?Sized> {
    sender: Sender,
    messages: PhantomData<fn(&T)>,
}

impl<T: Payload + ?Sized> Publisher<T> {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, messages: PhantomData }
    }

    /// Copies `message` into shared memory and publishes it. Under [`Overflow::Block`](super::Overflow::Block)
    /// it waits for room as long as it takes.
    ///
    /// # Errors
    /// [`SendError::Full`] under `Fail`; [`SendError::Segment`] if a large message finds no memory.
    #[inline]
    pub fn send(&mut self, message: &T) -> Result<(), SendError> {
        self.sender.send(message.as_bytes())
    }

    /// As [`Publisher::send`], waiting for room no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Publisher::send`], and [`SendError::Timeout`].
    pub fn send_timeout(&mut self, message: &T, timeout: Duration) -> Result<(), SendError> {
        self.sender.send_until(message.as_bytes(), || Deadline::after(timeout))
    }

    /// Publishes many messages, and looks for sleeping subscribers once. What was published before it has to
    /// wait for room, or fails, is on its way.
    ///
    /// # Errors
    /// As [`Publisher::send`]; the error says how many of this call were sent.
    #[inline]
    pub fn send_many<'m>(&mut self, messages: impl IntoIterator<Item = &'m T>) -> Result<(), SendError> {
        let mut burst = self.sender.burst();
        let mut sent = 0;
        messages.into_iter().try_for_each(|message| {
            burst.put(message.as_bytes()).map(|()| sent += 1).map_err(|error| error.after(sent))
        })
    }

    /// Waits until `count` subscribers have been let in, no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`], which also names those that turned this publisher down.
    pub fn wait_for_subscribers(&mut self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        self.sender.wait_for_readers(count, timeout)
    }

    /// How many subscribers read from this publisher.
    pub fn subscribers(&self) -> usize {
        self.sender.readers()
    }

    /// Who turned this publisher down so far, and why; the last 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.sender.refusals()
    }
}

impl<T: Message> Publisher<T> {
    /// Lends memory for one message, to be written in place and then sent. It holds the bytes of some earlier
    /// message, or zeros. Waits for room like [`Publisher::send`].
    ///
    /// # Errors
    /// As [`Publisher::send`].
    #[inline]
    pub fn loan(&mut self) -> Result<Loan<'_, T>, SendError> {
        Loan::new(&mut self.sender, size_of::<T>())
    }
}

impl<T: Message> Publisher<[T]> {
    /// Lends memory for one message of `length` elements, to be written in place and then sent. It holds the
    /// bytes of some earlier message, or zeros. Waits for room like [`Publisher::send`].
    ///
    /// # Errors
    /// As [`Publisher::send`]; [`SendError::TooLarge`] if no address space holds as much.
    #[inline]
    pub fn loan(&mut self, length: usize) -> Result<Loan<'_, [T]>, SendError> {
        // A product that overflows is asked for as such, and refused as too large.
        let bytes = length.saturating_mul(size_of::<T>());
        Loan::new(&mut self.sender, bytes)
    }
}

impl<T: ?Sized> fmt::Debug for Publisher<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Publisher").field("sender", &self.sender).finish()
    }
}
