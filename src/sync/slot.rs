//! The slot word: what is published, in one store.
//!
//! | bits | meaning |
//! |---|---|
//! | 63–16 | lap, from 1: how often the ring has come round to this slot |
//! | 15–14 | kind: empty, inline, body, pooled |
//! | 13–0 | length of an inline payload in bytes |
//!
//! The publisher alone writes it, with `Release`, after payload and header; each subscriber reads it with
//! `Acquire`. A lap is written once, so a word that carries the lap that is due carries its whole message.

use crate::layout::ring::{KIND_MASK, KIND_SHIFT, LAP_SHIFT, LENGTH_MASK};
use crate::layout::ring::{SLOT_BODY, SLOT_INLINE, SLOT_POOLED};

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

    /// Whether the message of this lap is there.
    #[inline]
    pub(crate) const fn is_of_lap(self, lap: u64) -> bool {
        self.0 >> LAP_SHIFT == lap
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
            assert!(word.is_of_lap(7) && !word.is_of_lap(8));
        }
    }

    #[test]
    fn zeroed_memory_is_no_message() {
        let word = SlotWord::from_bits(0);
        assert_eq!(word.carriage(), None);
        assert!(!word.is_of_lap(1));
    }
}
