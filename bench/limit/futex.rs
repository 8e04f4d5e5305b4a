//! The physical limit of waking somebody: a word, FUTEX_WAIT on one side, FUTEX_WAKE on the other.
//!
//! The message is a time stamp beside the word, so that the receiver knows how long it took.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::thread::futex::{self, Flags};

/// Bytes of memory that a hand-over takes.
pub const BYTES: usize = 128;

/// One end of a hand-over through memory that both processes map.
pub struct Handover {
    base: *mut u8,
    seen: u32,
}

impl Handover {
    /// An end of the hand-over at `base`.
    ///
    /// # Safety
    /// - `base` is mapped for [`BYTES`] bytes, aligned to 64 and zeroed at first, for as long as this lives.
    pub unsafe fn new(base: *mut u8) -> Self {
        Self { base, seen: 0 }
    }

    fn bell(&self) -> &AtomicU32 {
        // SAFETY: the first four bytes of the memory that `new` was promised.
        unsafe { AtomicU32::from_ptr(self.base.cast()) }
    }

    fn stamp(&self) -> &AtomicU64 {
        // SAFETY: eight aligned bytes within the memory that `new` was promised.
        unsafe { AtomicU64::from_ptr(self.base.add(64).cast()) }
    }

    /// Hands a time stamp over and wakes who waits for it.
    pub fn send(&self, stamp: u64) {
        self.stamp().store(stamp, Ordering::Relaxed);
        self.bell().fetch_add(1, Ordering::Release);
        let _ = futex::wake(self.bell(), Flags::empty(), 1);
    }

    /// Sleeps until a time stamp is handed over; one that came while we were late is still counted.
    pub fn receive(&mut self) -> u64 {
        while self.bell().load(Ordering::Acquire) == self.seen {
            let _ = futex::wait(self.bell(), Flags::empty(), self.seen, None);
        }
        self.seen = self.seen.wrapping_add(1);
        self.stamp().load(Ordering::Relaxed)
    }
}
