//! The door to atomics, locks and sleep: the real ones, or loom's when the algorithms are model-checked.
//!
//! Everything in `sync` that orders memory takes its words through here, so that the files that ship are the
//! files that were checked.

#[cfg(loom)]
pub(crate) mod kernel;
#[cfg(loom)]
mod words;

#[cfg(not(loom))]
pub(crate) use crate::os::{clock::Deadline, futex};
#[cfg(loom)]
pub(crate) use kernel::{Deadline, futex};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::fence;
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use words::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Between two `SeqCst` operations on different words, which are in one order for everybody. Loom takes each for `AcqRel` alone, and
/// has to be told.
#[inline]
pub(crate) fn in_one_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// In a spin loop of a model: another thread has to run.
#[cfg(loom)]
pub(crate) fn relax() {
    loom::thread::yield_now();
}
