//! The reading end of a ring.

use super::RingWords;
use crate::sync::cursor::{self, CursorWords};
use crate::sync::door::{AtomicU64, Ordering, fence};
use crate::sync::geometry::Geometry;
use crate::sync::slot::SlotWord;

/// Bytes of messages after which a reader gives space back, whatever the depth of the ring.
const RELEASE_BYTES: usize = 128 << 10;

/// What a reader that nobody waits for finds at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Nothing yet.
    Nothing,
    /// The message, as long as its slot has this word.
    Message(SlotWord),
    /// The message was withdrawn.
    Withdrawn,
    /// The writer has come round and taken the slot: go on here.
    Passed(u64),
}

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

    /// The longest payload of a slot, in bytes.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.geometry.capacity()
    }

    /// The sequence number of the next message.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The word of the next message, if it has been published.
    #[inline]
    pub(crate) fn peek(&self) -> Option<SlotWord> {
        // Acquire: pairs with the writer's Release of this word; payload and header are visible.
        let word = SlotWord::from_bits(self.slot().load(Ordering::Acquire));
        word.is_message_of(self.geometry.lap(self.position)).then_some(word)
    }

    /// What is at `position`, for a reader that nobody waits for.
    #[inline]
    pub(crate) fn sight(&self) -> Sight {
        // Acquire: as in `peek`.
        let word = SlotWord::from_bits(self.slot().load(Ordering::Acquire));
        let due = self.geometry.lap(self.position);
        if word.is_message_of(due) {
            Sight::Message(word)
        } else if word.lap() > due {
            Sight::Passed(self.beyond(word.lap() - due))
        } else if word.is_withdrawn(due) {
            Sight::Withdrawn
        } else {
            Sight::Nothing
        }
    }

    /// Where to go on if the writer is so many laps ahead: a quarter ring after the oldest message that is left, so that
    /// the next ones are not overtaken at once.
    #[cold]
    fn beyond(&self, laps: u64) -> u64 {
        let slots = self.geometry.slots() as u64;
        self.position + (laps - 1) * slots + 1 + slots / 4
    }

    /// Whether the slot still has this word, so that what has been copied since it was seen is its message, whole.
    #[inline]
    pub(crate) fn still_has(&self, word: SlotWord) -> bool {
        // Pairs with the writer's Release fence in `mark_writing`: if the copy has a byte of a later message, the mark that
        // came before it is visible here.
        fence(Ordering::Acquire);
        self.slot().load(Ordering::Relaxed) == word.bits()
    }

    /// The newest message that is there, given that the one at `position` is or was.
    pub(crate) fn newest(&self) -> u64 {
        let is_there = |ahead: u64| {
            let sequence = self.position + ahead;
            let slot = self.words.slot(self.geometry.index(sequence));
            let (word, lap) =
                (SlotWord::from_bits(slot.load(Ordering::Relaxed)), self.geometry.lap(sequence));
            word.is_message_of(lap) || word.is_withdrawn(lap) || word.lap() > lap
        };
        let last = self.geometry.slots() as u64 - 1;
        let (mut known, mut step) = (0, 1);
        while known < last && is_there((known + step).min(last)) {
            known = (known + step).min(last);
            step *= 2;
        }
        // Somewhere between `known`, which is there, and `known + step`, which is not.
        while step > 1 {
            step /= 2;
            if known + step <= last && is_there(known + step) {
                known += step;
            }
        }
        self.position + known
    }

    /// Goes on in another ring of the same shape.
    pub(crate) fn move_to(&mut self, words: W) {
        self.words = words;
    }

    /// Goes on at a later message; how many are passed over.
    pub(crate) fn skip_to(&mut self, position: u64) -> u64 {
        let passed = position.saturating_sub(self.position);
        self.position += passed;
        passed
    }

    /// The word of the slot at `position`, and the lap that is due there.
    pub(crate) fn due(&self) -> (&AtomicU64, u64) {
        (self.slot(), self.geometry.lap(self.position))
    }

    #[inline]
    fn slot(&self) -> &AtomicU64 {
        self.words.slot(self.geometry.index(self.position))
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

    /// What has been read is given back by others, one by one.
    pub(crate) fn never_release(&mut self) {
        self.release_at = u64::MAX;
        self.outside_bytes = 0;
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
