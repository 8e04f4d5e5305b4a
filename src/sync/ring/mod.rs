//! The ring: one writer, any number of readers, each message in a slot whose word publishes it.
//!
//! The scheme is Lamport's single-producer ring (Leslie Lamport, *Specifying Concurrent Program Modules*, 1983),
//! with a sequence number in each slot instead of a shared head, as in Vyukov's bounded queues, so that payload
//! and publication travel in one cache line; and with cached cursors, as in FastForward and its successors.

#[cfg(not(loom))]
mod memory;
mod reader;
mod writer;

use super::door::AtomicU64;
#[cfg(not(loom))]
pub(crate) use memory::{CursorMemory, RingMemory};
pub(crate) use reader::{Reader, Sight, blocked_epoch, must_ring};
pub(crate) use writer::{Marking, Writer};

/// The words of a ring segment.
pub(crate) trait RingWords {
    /// The word of the slot at `index`, which is below the number of slots.
    fn slot(&self, index: usize) -> &AtomicU64;
    /// The publisher's mark that it waits for space.
    fn blocked(&self) -> &AtomicU64;
}
