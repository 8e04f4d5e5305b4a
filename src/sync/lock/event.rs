//! A flag in a region that can be waited for.

use std::time::Duration;

use super::nap;
use crate::sync::door::{AtomicU32, Deadline, Ordering, futex};

const SET: u32 = 1;
/// Somebody sleeps, or is about to.
const WAITERS: u32 = 2;

/// A flag that stays set until it is reset, and wakes all who wait for it: a manual-reset event.
///
/// All zero bytes are one that is not set. Without waiting, everything is an atomic operation at most.
#[derive(Debug)]
#[repr(C)]
pub struct EventFlag {
    word: AtomicU32,
}

impl EventFlag {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    /// Sets it, and wakes all who wait. What was done before is seen by them.
    pub fn set(&self) {
        if self.word.swap(SET, Ordering::Release) & WAITERS != 0 {
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
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word & SET != 0 {
                return true;
            }
            let marked = word | WAITERS;
            let is_marked = word == marked
                || self.word.compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if is_marked && !nap::while_it_says(&self.word, marked, deadline) {
                return self.is_set();
            }
        }
    }
}
