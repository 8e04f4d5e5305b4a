//! Locks in memory that processes share, which survive the death of whoever has them.
//!
//! The algorithm is in [`raw`], and knows of threads only as [`Party`]: who it is, who else is there, and how to sleep. What the
//! program uses is built on top.

mod barrier;
#[cfg(not(loom))]
mod condvar;
#[cfg(not(loom))]
mod counter;
#[cfg(not(loom))]
mod error;
mod event;
mod latch;
#[cfg(all(loom, test))]
mod model;
#[cfg(not(loom))]
mod mutex;
mod nap;
#[cfg(not(loom))]
mod once;
#[cfg(not(loom))]
mod owner;
#[cfg(not(loom))]
mod party;
#[cfg(not(loom))]
mod placeable;
mod raw;
mod raw_once;
#[cfg(not(loom))]
mod rwlock;
mod semaphore;
#[cfg(not(loom))]
mod seqlock;
mod shared_raw;
mod turns;

pub use barrier::{Barrier, Passed};
#[cfg(not(loom))]
pub use condvar::Condvar;
#[cfg(not(loom))]
pub use counter::Counter;
#[cfg(not(loom))]
pub use error::LockError;
pub use event::EventFlag;
#[cfg(not(loom))]
pub use mutex::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub use once::Once;
#[cfg(not(loom))]
pub use owner::LockOwner;
#[cfg(not(loom))]
pub(crate) use owner::{owner_at, readers};
pub(crate) use raw::{RawLock, Slept};
#[cfg(not(loom))]
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::Semaphore;
#[cfg(not(loom))]
pub use seqlock::SeqLock;

use crate::layout::owner::Owner;
use crate::sync::door::{AtomicU32, AtomicU64};
use shared_raw::RawShared;

/// One thread, as locks see it.
pub(crate) trait Party {
    /// Who it is.
    fn owner(&self) -> Owner;
    /// Whether another is there. One that is stopped is there.
    fn is_alive(&self, other: Owner) -> bool;
    /// Whether another's thread has ended without giving back what it has, so that there is no use in waiting.
    fn has_left(&self, other: Owner) -> bool;
    /// It waits for this lock, in line from now on.
    fn line_up(&self, lock: &RawLock, ticket: u64);
    /// It waits no more.
    fn step_out(&self, lock: &RawLock);
    /// Whether another is in line for this lock.
    fn is_in_line(&self, lock: &RawLock, other: Owner) -> bool;
    /// Who has been in line for this lock for longest, and is there.
    fn first_in_line(&self, lock: &RawLock) -> Option<Owner>;
    /// Sleeps while the word says this, for a slice at most.
    fn sleep(&self, word: &AtomicU64, seen: u64) -> Slept;
    /// Wakes one that sleeps on the word, or all.
    fn wake(&self, word: &AtomicU64, all: bool);
    /// Nanoseconds of the machine's clock.
    fn now(&self) -> u64;
}

/// One thread, as locks see it that many can share.
pub(crate) trait Sharing: Party {
    /// Adds a share; whether it had one already. `None` if it has as many shares as it can.
    fn enter(&self, lock: &RawShared) -> Option<bool>;
    /// Takes a share back.
    fn leave(&self, lock: &RawShared);
    /// Whether it has a share.
    fn has_share(&self, lock: &RawShared) -> bool;
    /// Another that has a share, and is there.
    fn reader(&self, lock: &RawShared) -> Option<Owner>;
    /// Sleeps while the word says this, for a slice at most.
    fn rest(&self, word: &AtomicU32, seen: u32) -> Slept;
    /// Wakes all who sleep on the word.
    fn wake_all(&self, word: &AtomicU32);
}
