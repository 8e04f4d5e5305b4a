//! Waiting to be notified: what is below a [`Condvar`](super::Condvar).

use super::nap;
use crate::sync::door::{AtomicU32, Deadline, Ordering, futex, in_one_order};

/// Counts notifications. Zero is one for which nobody waits.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Turns {
    turn: AtomicU32,
    /// Those who wait; too many if some have died in that, which costs the others needless system calls.
    waiters: AtomicU32,
}

impl Turns {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { turn: AtomicU32::new(0), waiters: AtomicU32::new(0) }
    }

    /// From now on every notification is for the caller, who waits for it by what this returns.
    pub(super) fn line_up(&self) -> u32 {
        // Dekker: this, then the turn; who notifies, the turn, then this. Whoever is not seen here sees the new turn, and was
        // notified before it waited.
        self.waiters.fetch_add(1, Ordering::SeqCst);
        in_one_order();
        self.turn.load(Ordering::SeqCst)
    }

    /// Waits for a notification; whether there was one in time.
    pub(super) fn wait(&self, seen: u32, deadline: Deadline) -> bool {
        let is_notified = nap::while_it_says(&self.turn, seen, deadline);
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        is_notified
    }

    /// Wakes so many of those who wait; others may wake as well.
    pub(super) fn notify(&self, count: u32) {
        self.turn.fetch_add(1, Ordering::SeqCst);
        in_one_order();
        if self.waiters.load(Ordering::SeqCst) > 0 {
            futex::wake_many(&self.turn, count);
        }
    }
}
