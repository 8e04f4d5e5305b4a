//! A counting semaphore in a region.

use std::time::Duration;

use super::nap;
use crate::sync::door::{AtomicU32, Deadline, Ordering, futex, in_one_order};

/// A number of permits that processes take and give.
///
/// All zero bytes are one without permits; [`release`](Self::release) some when the region is made. Permits belong to nobody:
/// who gives one need not be who took it, as between a producer and a consumer, and a process that dies with one takes it
/// along. What has to survive that is guarded by a [`Mutex`](super::Mutex).
///
/// Without waiting, taking and giving are an atomic operation each, and no system call. Waiting is first come, first served as far
/// as the kernel's queue is; who comes while others are woken may be faster.
#[derive(Debug)]
#[repr(C)]
pub struct Semaphore {
    pub(super) permits: AtomicU32,
    /// Those who sleep, or are about to; too many if some have died in that, which costs the others needless wake-ups.
    pub(super) waiters: AtomicU32,
}

impl Semaphore {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { permits: AtomicU32::new(0), waiters: AtomicU32::new(0) }
    }

    /// Takes a permit if there is one. Never waits.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        let less = |permits: u32| permits.checked_sub(1);
        // Acquire: what was done before the permit was given is seen. SeqCst: see `acquire_until`.
        self.permits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    /// Takes a permit, waiting for one as long as it takes.
    pub fn acquire(&self) {
        let is_taken = self.acquire_until(|| Deadline::NEVER);
        debug_assert!(is_taken, "there is no deadline");
    }

    /// Takes a permit, waiting no longer than this; whether there was one.
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        self.acquire_until(|| Deadline::after(timeout))
    }

    fn acquire_until(&self, deadline: impl FnOnce() -> Deadline) -> bool {
        if self.try_acquire() {
            return true;
        }
        let deadline = deadline();
        // Dekker, in the one order of all such operations: this, then the permits; who gives some, those, then this.
        self.waiters.fetch_add(1, Ordering::SeqCst);
        in_one_order();
        let is_taken = loop {
            if self.try_acquire() {
                break true;
            }
            if !nap::while_it_says(&self.permits, 0, deadline) {
                break self.try_acquire();
            }
        };
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        is_taken
    }

    /// Gives permits; `false`, and nothing, if there would be more than 2^32 - 1.
    pub fn release(&self, permits: u32) -> bool {
        let more = |there: u32| there.checked_add(permits);
        let is_given = self.permits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok();
        in_one_order();
        if is_given && self.waiters.load(Ordering::SeqCst) > 0 {
            futex::wake_many(&self.permits, permits);
        }
        is_given
    }

    /// How many there are at this moment.
    pub fn permits(&self) -> u32 {
        self.permits.load(Ordering::Relaxed)
    }
}
