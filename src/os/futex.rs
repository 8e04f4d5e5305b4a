//! Sleeping on a 32-bit word that processes share, and waking who sleeps there.
//!
//! Never the private kind of futex: the words lie in memory that several processes map.

use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use rustix::time::Timespec;

use super::clock::Deadline;

/// Sleeps until `word` is woken, unless it no longer holds `expected`; returns as well at the deadline, on a
/// signal, and now and then for no reason: the caller looks again.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) {
    let timeout = deadline.remaining().map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    match futex::wait(word, Flags::empty(), expected, timeout.as_ref()) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
        // A kernel that refuses to wait at all turns the wait into polling: slower, and still right.
        Err(_) => std::thread::yield_now(),
    }
}

/// Wakes so many who sleep on `word`, in any process: those who have slept longest.
pub(crate) fn wake_many(word: &AtomicU32, count: u32) {
    // As below.
    let _ = futex::wake(word, Flags::empty(), count.min(i32::MAX as u32));
}

/// Wakes everyone who sleeps on `word`, in any process.
pub(crate) fn wake(word: &AtomicU32) {
    // Waking can fail only for an address that is not mapped, and a reference is always mapped.
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}
