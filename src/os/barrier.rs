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

/// A full barrier here and in every registered process. Only where [`register`] said that it works.
pub(crate) fn heavy() {
    let fenced = membarrier(MembarrierCommand::GlobalExpedited);
    debug_assert!(fenced.is_ok(), "the kernel does not forget a command that it had");
}
