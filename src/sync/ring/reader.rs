//! The reading end of a ring.

use super::RingWords;
use crate::sync::cursor::{self, CursorWords};
use crate::sync::door::{Ordering, fence};
use crate::sync::geometry::Geometry;
use crate::sync::slot::SlotWord;

/// Bytes of messages after which a reader gives space back, whatever the depth of the ring.
const RELEASE_BYTES: usize = 128 << 10;

/// The reading end: a position, and the cursor that follows it.
///
/// The cursor moves only in [`Reader::release`], and never past a message that the caller has not finished with.
#[derive(Debug)]
pub(crate) struct Reader<W, C> {
    pub(super) words: W,
    pub(super) cursor: C,
    pub(super) geometry: Geometry,
    pub(super) position: u64,
    released: u64,
    release_at: u64,
    outside_bytes: usize,
}

impl<W: RingWords, C: CursorWords> Reader<W, C> {
    /// A reader that starts at `start`, with its cursor there.
    pub(crate) fn new(words: W, cursor: C, geometry: Geometry, start: u64) -> Self {
        let mut reader = Self {
            words,
            cursor,
            geometry,
            position: start,
            released: start,
            release_at: 0,
            outside_bytes: 0,
        };
        reader.release_at = start + reader.release_every();
        reader
    }

    /// A quarter of the ring, or less if that would keep much memory.
    fn release_every(&self) -> u64 {
        (self.geometry.slots() / 4).min(RELEASE_BYTES / self.geometry.stride()).max(1) as u64
    }

    /// The sequence number of the next message.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The word of the next message, if it has been published.
    #[inline]
    pub(crate) fn peek(&self) -> Option<SlotWord> {
        let slot = self.words.slot(self.geometry.index(self.position));
        // Acquire: pairs with the writer's Release of this word; payload and header are visible.
        let word = SlotWord::from_bits(slot.load(Ordering::Acquire));
        word.is_of_lap(self.geometry.lap(self.position)).then_some(word)
    }

    /// Goes on to the message after this one. It may be looked at until the next release.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.position += 1;
    }

    /// Whether so much has been read that it is time to give it back.
    #[inline]
    pub(crate) fn is_release_due(&self) -> bool {
        self.position >= self.release_at
    }

    /// Counts bytes that a message keeps outside the ring; many of them make a release due as soon as the
    /// caller has finished with the message at `position`.
    #[inline]
    pub(crate) fn count_outside(&mut self, bytes: usize) {
        self.outside_bytes += bytes;
        if self.outside_bytes >= RELEASE_BYTES {
            self.release_at = self.position;
        }
    }

    /// Whether anything has been read that is not given back yet.
    #[inline]
    pub(crate) fn has_unreleased(&self) -> bool {
        self.released != self.position
    }

    /// Gives everything before `position` back. The caller then asks [`must_ring`].
    pub(crate) fn release(&mut self) {
        cursor::publish(&self.cursor, self.position);
        self.released = self.position;
        self.release_at = self.position + self.release_every();
        self.outside_bytes = 0;
    }

    /// Reads no more. What is pinned stays pinned.
    pub(crate) fn leave(&mut self) {
        cursor::publish_gone(&self.cursor);
    }
}

/// After a store that the writer may be waiting for, of a cursor or a pin: whether it waits, in an epoch in which
/// we have not rung it; `rung` remembers.
pub(crate) fn must_ring(words: &impl RingWords, rung: &mut u64) -> bool {
    let epoch = blocked_epoch(words);
    if epoch == 0 || epoch == *rung {
        return false;
    }
    *rung = epoch;
    true
}

/// The epoch in which the writer waits, or zero; after a full fence.
pub(crate) fn blocked_epoch(words: &impl RingWords) -> u64 {
    // Dekker: our store, fence, `blocked` against `blocked`, fence, cursors and pins.
    fence(Ordering::SeqCst);
    // Acquire: pairs with the writer's Release, so that we see the line it armed before.
    words.blocked().load(Ordering::Acquire)
}
