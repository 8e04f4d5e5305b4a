//! Sleeping on a 32-bit word that processes share, and waking who sleeps there.
//!
//! Never the private kind of futex: the words lie in memory that several processes map.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use rustix::time::Timespec;

use super::clock::Deadline;

/// What can be slept on: a word of 32 bits, or the lower half of one of 64.
pub(crate) trait Word {
    /// What it says.
    fn low(&self) -> u32;
    /// What the kernel looks at.
    fn half(&self) -> &AtomicU32;
}

impl Word for AtomicU32 {
    #[inline]
    fn low(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn half(&self) -> &AtomicU32 {
        self
    }
}

impl Word for AtomicU64 {
    #[inline]
    fn low(&self) -> u32 {
        self.load(Ordering::Acquire) as u32
    }

    fn half(&self) -> &AtomicU32 {
        const { assert!(cfg!(target_endian = "little"), "the lower half comes first") };
        // SAFETY: four aligned bytes of the word, for as long as it is borrowed. Nobody but the kernel looks at them as such, which
        // does so in one piece.
        unsafe { AtomicU32::from_ptr(std::ptr::from_ref(self).cast_mut().cast()) }
    }
}

/// Sleeps until `word` is woken, unless it no longer holds `expected`; returns as well at the deadline, on a
/// signal, and now and then for no reason: the caller looks again.
pub(crate) fn wait(word: &impl Word, expected: u32, deadline: Deadline) {
    let timeout = deadline.remaining().map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    match futex::wait(word.half(), Flags::empty(), expected, timeout.as_ref()) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
        // A kernel that refuses to wait at all turns the wait into polling: slower, and still right.
        Err(_) => std::thread::yield_now(),
    }
}

/// Wakes so many who sleep on `word`, in any process: those who have slept longest.
pub(crate) fn wake_many(word: &impl Word, count: u32) {
    // As below.
    let _ = futex::wake(word.half(), Flags::empty(), count.min(i32::MAX as u32));
}

/// Wakes everyone who sleeps on `word`, in any process.
pub(crate) fn wake(word: &impl Word) {
    // Waking can fail only for an address that is not mapped, and a reference is always mapped.
    let _ = futex::wake(word.half(), Flags::empty(), i32::MAX as u32);
}
