//! Who owns a lock: a seat, and which of its takers.

use std::num::NonZeroU64;

/// One taker of one seat: bits 0 to 15 the seat's number plus one, bits 32 to 63 the generation. All others are zero, and
/// belong to the locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(NonZeroU64);

impl Owner {
    const SEAT_MASK: u64 = 0xffff;

    /// The taker of this seat, in this generation of it.
    pub(crate) fn new(seat: u16, generation: u32) -> Self {
        Self(NonZeroU64::MIN.saturating_add(u64::from(generation) << 32 | u64::from(seat)))
    }

    /// The owner in a lock's word, whatever its other bits say; `None` if there is none.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let owner = NonZeroU64::new(bits & (Self::SEAT_MASK | u64::from(u32::MAX) << 32))?;
        (bits & Self::SEAT_MASK != 0).then_some(Self(owner))
    }

    /// The word of a lock that it owns.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }

    /// The seat's number.
    pub(crate) fn seat(self) -> usize {
        (self.bits() & Self::SEAT_MASK) as usize - 1
    }

    /// Which of the seat's takers.
    pub(crate) fn generation(self) -> u32 {
        (self.bits() >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_told_from_a_locks_other_bits() {
        for (seat, generation) in [(0, 1), (65_534, u32::MAX), (12, 0)] {
            let owner = Owner::new(seat, generation);
            assert_eq!((owner.seat(), owner.generation()), (usize::from(seat), generation));
            assert_eq!(Owner::from_bits(owner.bits() | 0xffff_0000), Some(owner));
        }
        assert_eq!(Owner::from_bits(0xffff_ffff_ffff_0000), None);
    }
}
