//! Where an endpoint that waits for the news of others sleeps: on the futex of its bell line, on a descriptor of its own, or
//! as a future.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use rustix::io;

use crate::node::{EndpointError, EndpointId, Node, Round};
use crate::os::clock::Deadline;
use crate::os::epoll::Wake;
use crate::sync::bell::{Line, Mode, Ticket};

/// The part of it that whoever wakes the endpoint touches.
pub(super) struct Berth {
    pub(super) node: Node,
    id: EndpointId,
    pub(super) line: Arc<Line>,
    /// The descriptor that it sleeps on, once it was asked for.
    eventfd: OnceLock<Wake>,
    /// Whether the program waits on that descriptor, and each call that finds nothing is to prepare it.
    is_watched: AtomicBool,
    /// The ticket of a sleep on a descriptor, or of a future, plus 2^32; 0 if there is none.
    armed: AtomicU64,
    waker: Mutex<Option<Waker>>,
    is_cancelled: AtomicBool,
}

impl Berth {
    /// For an endpoint of this node, on this line.
    pub(super) fn new(node: Node, id: EndpointId, line: Arc<Line>) -> Self {
        Self {
            node,
            id,
            line,
            eventfd: OnceLock::new(),
            is_watched: AtomicBool::new(false),
            armed: AtomicU64::new(0),
            waker: Mutex::default(),
            is_cancelled: AtomicBool::new(false),
        }
    }

    /// Whether the endpoint was cancelled, or its node shut down.
    pub(super) fn is_closed(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire) || self.node.shared().is_shut_down()
    }

    /// Ends every wait of the endpoint, and those that it would begin. In a forked child there are none: it does nothing.
    pub(super) fn cancel(&self) {
        if self.node.shared().is_inherited() {
            return;
        }
        self.is_cancelled.store(true, Ordering::Release);
        self.wake();
        self.node.shared().nudge();
    }

    /// The descriptor that it sleeps on, if it was asked for.
    pub(super) fn own_eventfd(&self) -> Option<&Wake> {
        self.eventfd.get()
    }

    /// The descriptor that it sleeps on, made if it is not there, and known to all whom it listens to then.
    pub(super) fn make_eventfd(&self) -> io::Result<&Wake> {
        if self.eventfd.get().is_none() && self.eventfd.set(Wake::new()?).is_ok() {
            self.node.shared().lend_eventfd(self.id);
            // Nobody has looked yet: the first look that finds nothing prepares a sleep.
            self.wake_polled();
        }
        self.eventfd.get().ok_or(io::Errno::BADF)
    }

    /// The descriptor that it sleeps on, for the program to wait on.
    pub(super) fn watch_eventfd(&self) -> io::Result<&Wake> {
        let eventfd = self.make_eventfd()?;
        if !self.is_watched.swap(true, Ordering::Relaxed) {
            eventfd.signal();
        }
        Ok(eventfd)
    }

    /// Whether the program waits on the descriptor.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// The endpoint sleeps on a descriptor, or as a future, since it had this ticket; or does not any more.
    pub(super) fn set_armed(&self, ticket: Option<Ticket>) {
        let armed = ticket.map_or(0, |ticket| 1 << 32 | u64::from(ticket.0));
        self.armed.store(armed, Ordering::Relaxed);
        // Before the look for news that follows: whoever served the node earlier and did not see this has sent them.
        fence(Ordering::SeqCst);
    }

    /// Has this waker woken when the node is rung.
    pub(super) fn set_waker(&self, waker: &Waker) {
        let mut current = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.as_ref().is_some_and(|current| current.will_wake(waker)) {
            *current = Some(waker.clone());
        }
    }

    /// Wakes whoever sleeps on the descriptor, or as a future.
    fn wake_polled(&self) {
        if let Some(eventfd) = self.eventfd.get() {
            eventfd.signal();
        }
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Somebody rang the node, and it may have been for us.
    pub(super) fn wake_if_rung(&self) {
        fence(Ordering::SeqCst);
        let armed = self.armed.load(Ordering::Relaxed);
        if armed != 0 && self.line.sleeper().is_rung(Ticket(armed as u32)) {
            self.wake_polled();
        }
    }

    /// Wakes the endpoint, however it sleeps.
    pub(super) fn wake(&self) {
        self.line.wake_own();
        self.wake_polled();
    }

    /// How it sleeps within a call.
    pub(super) fn mode(&self) -> Mode {
        if self.node.shared().has_thread() { Mode::Futex } else { Mode::Event }
    }

    /// Sleeps until it is woken after it had this ticket and this round, or until the deadline.
    pub(super) fn sleep(
        &self,
        ticket: Ticket,
        round: Round,
        deadline: Deadline,
    ) -> Result<(), EndpointError> {
        if !self.node.shared().has_thread() {
            return self.node.shared().wait(round, deadline.instant());
        }
        if !deadline.has_passed() {
            self.line.wait(ticket, deadline);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Berth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Berth").field("line", &self.line.number()).finish_non_exhaustive()
    }
}
