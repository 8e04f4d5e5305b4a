//! A flag in a region that can be waited for.

use std::time::Duration;

use super::nap;
use crate::sync::door::{AtomicU32, Deadline, Ordering, futex};

const SET: u32 = 1;
/// Somebody sleeps, or is about to.
const WAITERS: u32 = 2;
/// How often it was set is counted from this bit on.
const COUNTED: u32 = 4;

/// A flag that stays set until it is reset, and wakes all who wait for it: a manual-reset event.
///
/// All zero bytes are one that is not set. Without waiting, everything is an atomic operation at most. Whoever waits is woken by
/// [`set`](Self::set) even if [`reset`](Self::reset) comes right after it.
#[derive(Debug)]
#[repr(C)]
pub struct EventFlag {
    /// The flag, whether anybody waits, and in the other thirty bits how often it was set.
    word: AtomicU32,
}

impl EventFlag {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    #[cfg(loom)]
    pub(super) fn is_awaited(&self) -> bool {
        self.word.load(Ordering::Relaxed) & WAITERS != 0
    }

    /// Sets it, and wakes all who wait. What was done before is seen by them.
    pub fn set(&self) {
        let set = |word: u32| Some((word & !WAITERS).wrapping_add(COUNTED) | SET);
        let before = self.word.fetch_update(Ordering::Release, Ordering::Relaxed, set);
        if before.is_ok_and(|word| word & WAITERS != 0) {
            futex::wake(&self.word);
        }
    }

    /// Takes that back.
    pub fn reset(&self) {
        self.word.fetch_and(!SET, Ordering::Relaxed);
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Waits until it is set.
    pub fn wait(&self) {
        let is_set = self.wait_until(Deadline::NEVER);
        debug_assert!(is_set, "there is no deadline");
    }

    /// Waits until it is set, no longer than this; whether it was.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        let first = self.word.load(Ordering::Acquire);
        // Set now, or since we came.
        let was_set = |word: u32| word & SET != 0 || word / COUNTED != first / COUNTED;
        loop {
            let word = self.word.load(Ordering::Acquire);
            if was_set(word) {
                return true;
            }
            let marked = word | WAITERS;
            let is_marked = word == marked
                || self.word.compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if is_marked && !nap::while_it_says(&self.word, marked, deadline) {
                return was_set(self.word.load(Ordering::Acquire));
            }
        }
    }
}
