//! The slot word: what is published, in one store.
//!
//! | bits | meaning |
//! |---|---|
//! | 63–16 | lap, from 1: how often the ring has come round to this slot |
//! | 15–14 | kind: unreadable, inline, body, pooled |
//! | 13 | somebody may have had the message before: an item of a queue that is delivered again |
//! | 12 | in a service: the word before requests and answers is left out |
//! | 11–0 | length of an inline payload in bytes; of an unreadable slot, why: being written, withdrawn, about to be |
//!
//! The publisher alone writes it, with `Release`, after payload and header; each subscriber reads it with
//! `Acquire`. Each lap goes through at most three words: *being written*, which is left out where nobody may lose
//! messages; the message's own; *withdrawn*, if its chunk was needed before the ring came round. A word of the lap that
//! is due with a readable kind carries its whole message, and as long as it stands, nothing of that has been reused.

use crate::layout::ring::{KIND_MASK, KIND_SHIFT, LAP_SHIFT, LENGTH_MASK};
use crate::layout::ring::{LENGTH_WITHDRAWING, LENGTH_WITHDRAWN, LENGTH_WRITING};
use crate::layout::ring::{SLOT_AGAIN, SLOT_BARE, SLOT_BODY, SLOT_INLINE, SLOT_POOLED, SLOT_UNREADABLE};

/// Where the payload of a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// In the slot, this many bytes.
    Inline(usize),
    /// In the slot, behind the header that has its length.
    Body,
    /// In the pool, where the header says.
    Pooled,
}

/// The value of a slot word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotWord(u64);

impl SlotWord {
    /// The word that publishes a message on its `lap`.
    #[inline]
    pub(crate) const fn new(lap: u64, carriage: Carriage) -> Self {
        let (kind, length) = match carriage {
            Carriage::Inline(length) => (SLOT_INLINE, length as u64),
            Carriage::Body => (SLOT_BODY, 0),
            Carriage::Pooled => (SLOT_POOLED, 0),
        };
        debug_assert!(length <= LENGTH_MASK);
        Self(lap << LAP_SHIFT | kind << KIND_SHIFT | length)
    }

    /// The word of a slot whose message of this `lap` is being written.
    #[inline]
    pub(crate) const fn writing(lap: u64) -> Self {
        Self(lap << LAP_SHIFT | SLOT_UNREADABLE << KIND_SHIFT | LENGTH_WRITING)
    }

    /// The word of a slot whose message of this `lap` has been withdrawn.
    pub(crate) const fn withdrawn(lap: u64) -> Self {
        Self(lap << LAP_SHIFT | SLOT_UNREADABLE << KIND_SHIFT | LENGTH_WITHDRAWN)
    }

    /// The word of the same message, with nothing before its payload.
    #[inline]
    pub(crate) const fn bare(self) -> Self {
        Self(self.0 | SLOT_BARE)
    }

    /// Whether nothing comes before the payload.
    #[inline]
    pub(crate) const fn is_bare(self) -> bool {
        self.0 & SLOT_BARE != 0
    }

    /// The word of a slot whose message of this `lap` is withdrawn unless its reader has taken it.
    pub(crate) const fn withdrawing(lap: u64) -> Self {
        Self(lap << LAP_SHIFT | SLOT_UNREADABLE << KIND_SHIFT | LENGTH_WITHDRAWING)
    }

    /// The word of the same message, which somebody may have had before.
    pub(crate) const fn again(self) -> Self {
        Self(self.0 | SLOT_AGAIN)
    }

    /// Whether somebody may have had the message before.
    pub(crate) const fn is_again(self) -> bool {
        self.0 & SLOT_AGAIN != 0
    }

    /// A word as it was loaded.
    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word as it is stored.
    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the message of this lap is there to be read.
    #[inline]
    pub(crate) const fn is_message_of(self, lap: u64) -> bool {
        // The least word of the lap that is readable is its inline message of no bytes.
        let least = lap << LAP_SHIFT | SLOT_INLINE << KIND_SHIFT;
        self.0.wrapping_sub(least) < (1 << LAP_SHIFT) - (SLOT_INLINE << KIND_SHIFT)
    }

    /// Whether the message of this lap has been withdrawn.
    #[inline]
    pub(crate) const fn is_withdrawn(self, lap: u64) -> bool {
        self.0 == Self::withdrawn(lap).0
    }

    /// The lap that the slot is in; 0 before its first.
    #[inline]
    pub(crate) const fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    /// Where the payload lies; `None` if no publisher of ours would write such a word.
    #[inline]
    pub(crate) const fn carriage(self) -> Option<Carriage> {
        match (self.0 >> KIND_SHIFT) & KIND_MASK {
            SLOT_INLINE => Some(Carriage::Inline((self.0 & LENGTH_MASK) as usize)),
            SLOT_BODY => Some(Carriage::Body),
            SLOT_POOLED => Some(Carriage::Pooled),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_words_have_these_bits() {
        assert_eq!(SlotWord::new(1, Carriage::Inline(56)).bits(), 0x0001_4038);
        assert_eq!(SlotWord::new(0xffff_ffff_ffff, Carriage::Pooled).bits(), 0xffff_ffff_ffff_c000);
        assert_eq!(SlotWord::new(2, Carriage::Body).bits(), 0x0002_8000);
    }

    #[test]
    fn a_word_gives_back_what_was_put_in() {
        for carriage in [Carriage::Inline(0), Carriage::Inline(1024), Carriage::Body, Carriage::Pooled] {
            let word = SlotWord::from_bits(SlotWord::new(7, carriage).bits());
            assert_eq!(word.carriage(), Some(carriage));
            assert!(word.is_message_of(7) && !word.is_message_of(8) && !word.is_message_of(6));
            assert!(word.lap() == 7 && !word.is_withdrawn(7));
        }
    }

    #[test]
    fn what_is_being_written_or_withdrawn_is_no_message() {
        for word in [SlotWord::writing(7), SlotWord::withdrawn(7), SlotWord::withdrawing(7)] {
            assert!((6..9).all(|lap| !word.is_message_of(lap)));
            assert_eq!((word.lap(), word.carriage()), (7, None));
        }
        assert!(SlotWord::withdrawn(7).is_withdrawn(7) && !SlotWord::writing(7).is_withdrawn(7));
    }

    #[test]
    fn a_bare_message_is_one() {
        let word = SlotWord::new(7, Carriage::Inline(1024));
        assert!(word.bare().is_bare() && !word.is_bare() && word.bare().is_message_of(7));
        assert_eq!(word.bare().carriage(), word.carriage());
    }

    #[test]
    fn a_message_that_comes_again_is_the_same_message() {
        let word = SlotWord::new(7, Carriage::Inline(1024));
        let again = word.again();
        assert!(again.is_again() && !word.is_again() && again.is_message_of(7));
        assert_eq!(again.carriage(), word.carriage());
    }

    #[test]
    fn zeroed_memory_is_no_message() {
        let word = SlotWord::from_bits(0);
        assert_eq!(word.carriage(), None);
        assert!(!word.is_message_of(1) && word.lap() == 0);
    }
}
