//! The door to atomics and locks: the real ones, or loom's when the algorithms are model-checked.
//!
//! Everything in `sync` that orders memory takes its words through here, so that the files that ship are the
//! files that were checked.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// In a spin loop of a model: another thread has to run.
#[cfg(loom)]
pub(crate) fn relax() {
    loom::thread::yield_now();
}
