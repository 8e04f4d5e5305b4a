//! The writing end of a ring.

use super::RingWords;
use crate::layout::ring::INLINE_BYTES_MAX;
use crate::sync::door::{AtomicU64, Ordering, fence};
use crate::sync::geometry::Geometry;
use crate::sync::slot::{Carriage, SlotWord};
use crate::sync::store_line::StoreWord;

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
    tail: StoreWord,
    pub(super) limit: u64,
    /// How far it may go beyond what has been released: the whole ring, unless its readers take less.
    window: u64,
    /// Messages shorter than this always go into their slot.
    pub(super) inline_end: usize,
    /// Rings that were left, in order.
    left: Vec<Left<W>>,
    /// The first message in this ring.
    start: u64,
}

/// A ring that was left.
#[derive(Debug)]
struct Left<W> {
    words: W,
    /// The first message in it, and the first that is not any more.
    start: u64,
    end: u64,
}

/// Whether a slot is marked before it is written, for those who may be reading what it had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marking {
    /// Everybody has released what it had.
    Needless,
    /// Somebody may lose messages.
    Needed,
}

impl<W: RingWords> Writer<W> {
    /// A writer of a fresh, zeroed ring.
    #[cfg(all(loom, test))]
    pub(crate) fn new(words: W, geometry: Geometry) -> Self {
        Self::with_tail(words, geometry, StoreWord::alone())
    }

    /// A writer of a fresh, zeroed ring that keeps its tail in this word, which is zero.
    pub(crate) fn with_tail(words: W, geometry: Geometry, tail: StoreWord) -> Self {
        let (limit, capacity) = (geometry.slots() as u64, geometry.capacity());
        let inline_end = if capacity <= INLINE_BYTES_MAX { capacity + 1 } else { 0 };
        Self { words, geometry, tail, limit, window: limit, inline_end, left: Vec::new(), start: 0 }
    }

    /// The next sequence number to write.
    #[inline]
    pub(crate) fn tail(&self) -> u64 {
        // Relaxed: nobody else stores it.
        self.tail.load(Ordering::Relaxed)
    }

    /// The tail for the control thread of the same process: never ahead of what is published, and under the
    /// readers' lock never behind the tail of the last look.
    pub(crate) fn shared_tail(&self) -> StoreWord {
        self.tail.clone()
    }

    /// Whether the next slot may be written.
    #[inline]
    pub(crate) fn has_space(&self) -> bool {
        self.tail() < self.limit
    }

    /// Everyone has read what lies below `released`.
    pub(crate) fn raise_limit(&mut self, released: u64) {
        debug_assert!(released <= self.tail(), "nobody has read what is not written");
        self.limit = self.limit.max(released.saturating_add(self.window));
    }

    /// From the next message on, goes no further than so many messages beyond what has been released. For a ring in which
    /// nothing has been written yet.
    pub(crate) fn restrict(&mut self, window: u64) {
        debug_assert!(self.tail() == 0, "a window is chosen before the first message");
        self.window = window.min(self.geometry.slots() as u64);
        self.limit = self.window;
    }

    /// The sequence number before which it may write.
    #[inline]
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Publishes the next slot, whose payload and header are in place.
    #[inline]
    pub(crate) fn publish(&mut self, carriage: Carriage) {
        self.publish_word(SlotWord::new(self.geometry.lap(self.tail()), carriage));
    }

    /// As [`Writer::publish`], for a message that somebody may have had before.
    pub(crate) fn publish_again(&mut self, carriage: Carriage) {
        self.publish_word(SlotWord::new(self.geometry.lap(self.tail()), carriage).again());
    }

    #[inline]
    pub(super) fn publish_word(&mut self, word: SlotWord) {
        debug_assert!(self.has_space(), "a slot is published only after it was free");
        let tail = self.tail();
        // Release: pairs with the reader's Acquire of this word, and hands over payload and header.
        self.words.slot(self.geometry.index(tail)).store(word.bits(), Ordering::Release);
        self.tail.store(tail + 1, Ordering::Relaxed);
    }

    /// Marks the next slot as being written, before a byte of it is: whoever still reads the message of the lap before
    /// sees that, if it sees any of what follows.
    #[inline]
    pub(crate) fn mark_writing(&self) {
        let tail = self.tail();
        let word = SlotWord::writing(self.geometry.lap(tail));
        self.words.slot(self.geometry.index(tail)).store(word.bits(), Ordering::Relaxed);
        // Pairs with the reader's Acquire fence between its copy and its second look at the word.
        fence(Ordering::Release);
    }

    /// Says that a message is there no more, unless its slot has another by now. A full fence and a look at the pins
    /// follow.
    pub(crate) fn withdraw(&self, sequence: u64) {
        debug_assert!(sequence < self.tail(), "only what has been published is withdrawn");
        let left = self.left.iter().find(|left| (left.start..left.end).contains(&sequence));
        let (words, end) = match left {
            Some(left) => (&left.words, left.end),
            None if sequence >= self.start => (&self.words, self.tail()),
            // Nobody reads in its ring any more.
            None => return,
        };
        if sequence + self.geometry.slots() as u64 >= end {
            let word = SlotWord::withdrawn(self.geometry.lap(sequence));
            words.slot(self.geometry.index(sequence)).store(word.bits(), Ordering::Relaxed);
        }
    }

    /// The word of the slot of a message, and its lap.
    pub(crate) fn word_of(&self, sequence: u64) -> (&AtomicU64, u64) {
        (self.words.slot(self.geometry.index(sequence)), self.geometry.lap(sequence))
    }

    /// The first message in this ring.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Goes on in another ring of the same shape, from the next message on. What is in this one stays there.
    pub(crate) fn move_to(&mut self, words: W) {
        let (words, end) = (std::mem::replace(&mut self.words, words), self.tail());
        self.left.push(Left { words, start: self.start, end });
        self.start = end;
    }

    /// Forgets the rings of which `is_needed` says, by their end, that nobody needs them.
    pub(crate) fn forget_left(&mut self, is_needed: impl Fn(u64) -> bool) {
        self.left.retain(|left| {
            let is_needed = is_needed(left.end);
            if !is_needed {
                // Whoever still has it need not think that somebody waits.
                left.words.blocked().store(0, Ordering::Release);
            }
            is_needed
        });
    }

    /// No reader is waited for: every slot may be written.
    pub(crate) fn lift_limit(&mut self) {
        self.limit = u64::MAX;
    }

    /// The mark that tells readers that the writer waits; zero takes it back. A full fence and another look at
    /// the cursors follow.
    pub(crate) fn mark_blocked(&self, epoch: u64) {
        // Who may not know of this ring yet looks at the mark in the one before.
        let all = self.left.iter().map(|left| &left.words).chain([&self.words]);
        all.for_each(|words| words.blocked().store(epoch, Ordering::Release));
    }
}
