//! Asymmetric fences: the rare side asks the kernel to fence every processor, the frequent side pays nothing.
//!
//! `membarrier(GLOBAL_EXPEDITED)` makes each running thread of each registered process pass a full memory barrier.
//! Between a fast path that stores, then loads, and a slow path that stores, calls [`heavy`], then loads, at least
//! one load sees the other's store: what two full fences would achieve, without the one on the fast path.

use std::sync::OnceLock;

use rustix::thread::{MembarrierCommand, membarrier};

use super::feature::Feature;

/// Registers this process, once, so that the barriers of others reach it; whether that worked, and heavy fences
/// can be called.
pub(crate) fn register() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        !Feature::Membarrier.is_forbidden()
            && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
            && membarrier(MembarrierCommand::GlobalExpedited).is_ok()
    })
}

/// A full barrier here and in every registered process, where [`register`] said that it works. `false` if it failed:
/// a sandbox may have been put up since.
#[must_use]
pub(crate) fn heavy() -> bool {
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
