//! The one who writes a state.

use std::fmt;
use std::time::Duration;

use super::version::{self, Base};
use crate::message::error::{Refused, SendError, WaitError};
use crate::message::event::Event;
use crate::message::loan::Loan;
use crate::message::payload::{Message, Payload, Untyped};
use crate::message::publisher::Publisher;
use crate::node::{Claim, EndpointId};

/// Writes the value of a state, made by [`State::writer`](super::State::writer): the only one in the domain, until it is
/// dropped or its process ends.
///
/// Writing waits for nobody: a reader takes what is there when it looks. A writer that is killed while it writes leaves the
/// value before. A forked child does not keep its parent's writer alive.
pub struct StateWriter<T: ?Sized> {
    // Before the claim: it leaves first.
    publisher: Publisher<T>,
    claim: Claim,
    base: Base,
}

impl<T: Payload + ?Sized> StateWriter<T> {
    pub(super) fn new(publisher: Publisher<T>, claim: Claim, base: Base) -> Self {
        Self { publisher, claim, base }
    }

    /// Writes the value. Costs what publishing a message does, and never blocks.
    ///
    /// # Errors
    /// [`SendError::Segment`] if a large value finds no memory; [`SendError::Closed`] after a `shutdown`;
    /// [`SendError::Endpoint`] in a forked child. Readers have the value before then.
    #[inline(always)]
    pub fn set(&mut self, value: &T) -> Result<(), SendError> {
        self.publisher.send(value)?;
        self.note_set();
        Ok(())
    }

    #[inline(always)]
    fn note_set(&mut self) {
        if version::is_look_due(self.publisher.sent()) {
            self.reserve();
        }
    }

    /// Epochs do not last for ever: takes the next one along in time, so that who comes after us starts above it.
    #[cold]
    fn reserve(&mut self) {
        let epoch = version::epoch_to_reserve(self.base, self.publisher.sent());
        // What cannot be written now is tried again, after 2^39 values more.
        let _ = self.claim.raise_to(epoch);
    }

    /// The version of the value that was written last. Versions rise with every value, from writer to writer. Before the
    /// first it is one that no value has, above those of all writers before.
    pub fn version(&self) -> u64 {
        self.base.version_after(self.publisher.sent())
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.publisher.id()
    }

    /// How many readers are connected.
    pub fn readers(&self) -> usize {
        self.publisher.subscribers()
    }

    /// Waits until `count` readers have been let in, no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`], which also names those that turned this writer down; [`WaitError::Closed`].
    pub fn wait_for_readers(&mut self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        self.publisher.wait_for_subscribers(count, timeout)
    }

    /// The readers that turned this writer down, because of another type for instance, and why; the last 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.publisher.refusals()
    }

    /// The next event that has not been asked for: readers that join, leave or cannot be connected. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.publisher.try_event()
    }

    /// As [`StateWriter::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.publisher.event_timeout(timeout)
    }
}

impl<T: Message> StateWriter<T> {
    /// Lends memory for a value, to be written in place and then sent with [`Loan::send`]. It holds the bytes of some
    /// earlier value, or zeros.
    ///
    /// # Errors
    /// As [`StateWriter::set`].
    #[inline]
    pub fn loan(&mut self) -> Result<Loan<'_, T>, SendError> {
        self.note_set();
        self.publisher.loan()
    }
}

impl<T: Message> StateWriter<[T]> {
    /// Lends memory for a value of `length` elements, to be written in place and then sent with [`Loan::send`]. It holds the
    /// bytes of some earlier value, or zeros.
    ///
    /// # Errors
    /// As [`StateWriter::set`]; [`SendError::TooLarge`] if no address space holds as much.
    #[inline]
    pub fn loan(&mut self, length: usize) -> Result<Loan<'_, [T]>, SendError> {
        self.note_set();
        self.publisher.loan(length)
    }
}

impl StateWriter<Untyped> {
    /// Lends memory for a value of `length` bytes, to be written in place and then sent with [`Loan::send`].
    ///
    /// # Errors
    /// As [`StateWriter::set`], and [`SendError::Length`].
    pub fn loan(&mut self, length: usize) -> Result<Loan<'_, Untyped>, SendError> {
        self.note_set();
        self.publisher.loan(length)
    }
}

impl<T: ?Sized> fmt::Debug for StateWriter<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("StateWriter");
        fields.field("publisher", &self.publisher).field("claim", &self.claim).finish()
    }
}
