//! The writing end of a ring.

use std::sync::Arc;

use super::RingWords;
use crate::sync::door::{AtomicU64, Ordering};
use crate::sync::geometry::Geometry;
use crate::sync::slot::{Carriage, SlotWord};

/// The writing end: it alone stores slot words.
///
/// It may write the sequence number `tail` while `tail < limit`; [`Writer::raise_limit`] is told how much has
/// been released.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    pub(super) words: W,
    pub(super) geometry: Geometry,
    pub(super) tail: u64,
    limit: u64,
    mirror: Arc<AtomicU64>,
}

impl<W: RingWords> Writer<W> {
    /// A writer of a fresh, zeroed ring.
    pub(crate) fn new(words: W, geometry: Geometry) -> Self {
        let limit = geometry.slots() as u64;
        Self { words, geometry, tail: 0, limit, mirror: Arc::new(AtomicU64::new(0)) }
    }

    /// The next sequence number to write.
    #[inline]
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// The tail for the control thread of the same process: never ahead of what is published, and under the
    /// readers' lock never behind the tail of the last look.
    pub(crate) fn mirror(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.mirror)
    }

    /// Whether the next slot may be written.
    #[inline]
    pub(crate) fn has_space(&self) -> bool {
        self.tail < self.limit
    }

    /// Everyone has read what lies below `released`.
    pub(crate) fn raise_limit(&mut self, released: u64) {
        debug_assert!(released <= self.tail, "nobody has read what is not written");
        self.limit = self.limit.max(released + self.geometry.slots() as u64);
    }

    /// The sequence number before which it may write.
    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The sequence number that last used the slot which comes next, if any.
    #[inline]
    pub(crate) fn previous_of_slot(&self) -> Option<u64> {
        self.tail.checked_sub(self.geometry.slots() as u64)
    }

    /// Publishes the next slot, whose payload and header are in place.
    #[inline]
    pub(crate) fn publish(&mut self, carriage: Carriage) {
        debug_assert!(self.has_space(), "a slot is published only after it was free");
        let word = SlotWord::new(self.geometry.lap(self.tail), carriage);
        // Release: pairs with the reader's Acquire of this word, and hands over payload and header.
        self.words.slot(self.geometry.index(self.tail)).store(word.bits(), Ordering::Release);
        self.tail += 1;
        self.mirror.store(self.tail, Ordering::Relaxed);
    }

    /// The mark that tells readers that the writer waits; zero takes it back. A full fence and another look at
    /// the cursors follow.
    pub(crate) fn mark_blocked(&self, epoch: u64) {
        self.words.blocked().store(epoch, Ordering::Release);
    }
}
