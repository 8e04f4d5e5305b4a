//! The bare lock of futexes: free, taken, or taken with somebody asleep, and nothing else. U. Drepper, *Futexes Are Tricky* (2011),
//! mutex 2.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::thread::futex::{self, Flags};

use super::memory::Shared;

/// Bytes of memory that a lock and what it guards take.
pub const BYTES: usize = 128;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const CONTENDED: u32 = 2;

/// A lock around a number, in memory that processes map.
pub struct BareLock {
    base: *mut u8,
}

impl BareLock {
    /// The lock at the start of this memory, which is zeroed at first, and outlives it.
    pub fn over(shared: &Shared) -> Self {
        Self { base: shared.at(0) }
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the first four bytes of a page that is mapped, and used as such by both processes.
        unsafe { AtomicU32::from_ptr(self.base.cast()) }
    }

    fn value(&self) -> &AtomicU64 {
        // SAFETY: eight aligned bytes of the same page.
        unsafe { AtomicU64::from_ptr(self.base.add(8).cast()) }
    }

    /// Changes the number under the lock.
    #[inline]
    pub fn with(&self, change: impl FnOnce(u64) -> u64) {
        let word = self.word();
        let taken = word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            while word.swap(CONTENDED, Ordering::Acquire) != FREE {
                let _ = futex::wait(word, Flags::empty(), CONTENDED, None);
            }
        }
        let value = self.value();
        value.store(change(value.load(Ordering::Relaxed)), Ordering::Relaxed);
        if word.swap(FREE, Ordering::Release) == CONTENDED {
            let _ = futex::wake(word, Flags::empty(), 1);
        }
    }
}
