//! The sending end of a signal.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::{NotifyError, SignalError};
use crate::message::board::BoardShared;
use crate::message::error::{Refused, WaitError};
use crate::message::event::Event;
use crate::node::{EndpointError, EndpointId, Node, Outlet};
use crate::sync::board::{Notifying, SignalMemory};

/// Notifies the waiters of a signal, made by [`Signal::notifier`](super::Signal::notifier).
///
/// A notification is two or three stores and a look at who sleeps: no system call unless somebody does, no lock, no
/// allocation, whatever the number of waiters. One thread notifies; several each have a notifier of their own, which
/// [`Notifier::try_clone`] makes.
///
/// What a notifier had said when it left or died is still told.
pub struct Notifier {
    notifying: Notifying<SignalMemory>,
    ids: u32,
    shared: Arc<BoardShared>,
    /// Keeps the node open.
    node: Node,
}

impl Notifier {
    pub(super) fn open(
        node: &Node,
        shared: BoardShared,
        notifying: Notifying<SignalMemory>,
        ids: u32,
    ) -> Result<Self, EndpointError> {
        let notifier = Self { notifying, ids, shared: Arc::new(shared), node: node.clone() };
        node.shared().add_outlet(Arc::clone(&notifier.shared) as Arc<dyn Outlet>)?;
        Ok(notifier)
    }

    /// Notifies once.
    ///
    /// # Errors
    /// As [`Notifier::notify_many`].
    #[inline]
    pub fn notify(&mut self, id: u32) -> Result<(), NotifyError> {
        self.notify_many(id, 1)
    }

    /// Notifies so often, at the cost of once. With a `count` of 0 nobody is told anything.
    ///
    /// # Errors
    /// [`NotifyError::Id`] for an id that there is not; [`NotifyError::Closed`] after a `cancel` or `shutdown`;
    /// [`NotifyError::Endpoint`] in a forked child.
    #[inline]
    pub fn notify_many(&mut self, id: u32, count: u32) -> Result<(), NotifyError> {
        if id >= self.ids || !self.shared.is_open() {
            return Err(self.unable(id));
        }
        if count > 0 {
            self.notifying.notify(id as usize, count);
            self.shared.wake_sleepers();
        }
        Ok(())
    }

    #[cold]
    fn unable(&self, id: u32) -> NotifyError {
        let signal = self.shared.channel().shared();
        if id >= self.ids {
            return NotifyError::Id { signal, id, ids: self.ids };
        }
        if self.shared.is_inherited() {
            return NotifyError::Endpoint { signal, source: EndpointError::Forked };
        }
        NotifyError::Closed { signal }
    }

    /// Another notifier of the same signal, for another thread. Returns once the waiters that are there have let it in.
    ///
    /// # Errors
    /// As [`Signal::notifier`](super::Signal::notifier).
    pub fn try_clone(&self) -> Result<Self, SignalError> {
        self.node.signal(self.shared.channel().name()).ids(self.ids).notifier()
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.shared.id()
    }

    /// How many ids there are.
    pub fn ids(&self) -> u32 {
        self.ids
    }

    /// How many waiters are connected.
    pub fn waiters(&self) -> usize {
        self.shared.readers()
    }

    /// Waits until at least `count` waiters are connected.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] if that takes longer than `timeout`; [`WaitError::Closed`].
    pub fn wait_for_waiters(&mut self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        self.shared.wait_for_readers(count, timeout)
    }

    /// The waiters that turned the signal down, because of another number of ids for instance, and why; the last 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.shared.refusals()
    }

    /// The next event that has not been asked for: waiters that join, leave or turn the signal down. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.shared.events.take()
    }

    /// As [`Notifier::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.shared.wait_for_event(timeout)
    }

    /// A handle for other threads.
    pub fn handle(&self) -> NotifierHandle {
        NotifierHandle { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.shared.node().remove_outlet(self.shared.id());
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Notifier");
        fields.field("signal", self.shared.channel()).field("ids", &self.ids).finish_non_exhaustive()
    }
}

/// A notifier seen from other threads, made by [`Notifier::handle`].
#[derive(Clone)]
pub struct NotifierHandle {
    shared: Arc<BoardShared>,
}

impl NotifierHandle {
    /// Ends the notifier's waits with `Closed`, the one it may be in and any that it would begin. It notifies no more.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// How many waiters are connected.
    pub fn waiters(&self) -> usize {
        self.shared.readers()
    }
}

impl fmt::Debug for NotifierHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NotifierHandle")
            .field("signal", self.shared.channel())
            .finish_non_exhaustive()
    }
}
