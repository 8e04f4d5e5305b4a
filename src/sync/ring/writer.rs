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
///
/// The tail has one home, which the control thread reads too: a stream is as fast as the processor's queue of stores
/// is long, and a second copy would take a place in it for each message.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    pub(super) words: W,
    pub(super) geometry: Geometry,
    tail: Arc<AtomicU64>,
    limit: u64,
}

impl<W: RingWords> Writer<W> {
    /// A writer of a fresh, zeroed ring.
    pub(crate) fn new(words: W, geometry: Geometry) -> Self {
        let limit = geometry.slots() as u64;
        Self { words, geometry, tail: Arc::new(AtomicU64::new(0)), limit }
    }

    /// The next sequence number to write.
    #[inline]
    pub(crate) fn tail(&self) -> u64 {
        // Relaxed: nobody else stores it.
        self.tail.load(Ordering::Relaxed)
    }

    /// The tail for the control thread of the same process: never ahead of what is published, and under the
    /// readers' lock never behind the tail of the last look.
    pub(crate) fn shared_tail(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.tail)
    }

    /// Whether the next slot may be written.
    #[inline]
    pub(crate) fn has_space(&self) -> bool {
        self.tail() < self.limit
    }

    /// Everyone has read what lies below `released`.
    pub(crate) fn raise_limit(&mut self, released: u64) {
        debug_assert!(released <= self.tail(), "nobody has read what is not written");
        self.limit = self.limit.max(released + self.geometry.slots() as u64);
    }

    /// The sequence number before which it may write.
    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Publishes the next slot, whose payload and header are in place.
    #[inline]
    pub(crate) fn publish(&mut self, carriage: Carriage) {
        debug_assert!(self.has_space(), "a slot is published only after it was free");
        let tail = self.tail();
        let word = SlotWord::new(self.geometry.lap(tail), carriage);
        // Release: pairs with the reader's Acquire of this word, and hands over payload and header.
        self.words.slot(self.geometry.index(tail)).store(word.bits(), Ordering::Release);
        self.tail.store(tail + 1, Ordering::Relaxed);
    }

    /// The mark that tells readers that the writer waits; zero takes it back. A full fence and another look at
    /// the cursors follow.
    pub(crate) fn mark_blocked(&self, epoch: u64) {
        self.words.blocked().store(epoch, Ordering::Release);
    }
}
