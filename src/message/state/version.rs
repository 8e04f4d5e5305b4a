//! Versions of a state's values: they never fall, whoever writes.
//!
//! Each writer has an epoch, which its claim gives it, higher than that of every writer before. An epoch covers 2^40
//! values; a writer that comes near the end of its own takes the next one along. The base that an outlet offers says what
//! its first message comes after:
//!
//! | bits | meaning |
//! |---|---|
//! | 63 | the outlet is no writer, but passes on what one has left |
//! | 62 | the writer has written nothing yet |
//! | 61–40 | the writer's epoch |
//! | 39–0 | of an outlet that passes a value on: that value's number, from 0; otherwise 0 |

use crate::node::EPOCH_MAX;

const RELAYED: u64 = 1 << 63;
const UNWRITTEN: u64 = 1 << 62;
const EPOCH_SHIFT: u32 = 40;
/// Values after which a writer looks whether its epochs last for as many again.
const VALUES_PER_LOOK: u64 = 1 << (EPOCH_SHIFT - 1);

const _: () = assert!(EPOCH_MAX < UNWRITTEN >> EPOCH_SHIFT);

/// What comes before an outlet's first value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::message) struct Base(u64);

impl Base {
    /// That of a writer.
    pub(in crate::message) fn of_writer(epoch: u64) -> Self {
        Self(epoch << EPOCH_SHIFT)
    }

    /// That of an outlet whose only message is the value of this version.
    pub(in crate::message) fn of_relay(version: u64) -> Self {
        Self(RELAYED | (version.saturating_sub(1) & !(RELAYED | UNWRITTEN)))
    }

    /// As it was offered.
    pub(in crate::message) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// As it is offered by an outlet that has sent so many messages.
    pub(in crate::message) fn after(self, sent: u64) -> Self {
        if sent == 0 && !self.is_relay() { Self(self.0 | UNWRITTEN) } else { self }
    }

    pub(in crate::message) fn bits(self) -> u64 {
        self.0
    }

    /// Whether the outlet passes on what a writer has left.
    pub(in crate::message) fn is_relay(self) -> bool {
        self.0 & RELAYED != 0
    }

    /// Whether the outlet had sent nothing when it was offered, though others may have before it.
    pub(in crate::message) fn follows_others(self) -> bool {
        self.0 & UNWRITTEN != 0 && self.first() >> EPOCH_SHIFT > 1
    }

    fn first(self) -> u64 {
        self.0 & !(RELAYED | UNWRITTEN)
    }

    /// The version of the message with this number, from 1.
    #[inline]
    pub(in crate::message) fn version(self, sequence: u64) -> u64 {
        self.first().wrapping_add(sequence).wrapping_add(1)
    }

    /// The version of the last of so many messages.
    #[inline]
    pub(in crate::message) fn version_after(self, sent: u64) -> u64 {
        self.first().wrapping_add(sent)
    }
}

/// Whether so many messages have been sent that [`epoch_to_reserve`] is to be asked.
#[inline(always)]
pub(in crate::message) fn is_look_due(sent: u64) -> bool {
    sent & (VALUES_PER_LOOK - 1) == 0
}

/// The last epoch that a writer needs for what it has sent and as much as it may send before the next look.
pub(in crate::message) fn epoch_to_reserve(base: Base, sent: u64) -> u64 {
    base.version_after(sent).saturating_add(VALUES_PER_LOOK) >> EPOCH_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_rise_from_writer_to_writer() {
        let (first, second) = (Base::of_writer(1), Base::of_writer(2));
        assert_eq!(first.version(0), (1 << 40) + 1);
        assert_eq!(first.version(9), first.version_after(10));
        assert!(first.version((1 << 40) - 1) < second.version(0));
    }

    #[test]
    fn a_value_that_is_passed_on_keeps_its_version() {
        for version in [Base::of_writer(1).version(0), Base::of_writer(EPOCH_MAX).version(12_345)] {
            let relay = Base::from_bits(Base::of_relay(version).after(0).bits());
            assert!(relay.is_relay() && !relay.follows_others());
            assert_eq!(relay.version(0), version);
        }
    }

    #[test]
    fn who_has_written_nothing_says_so() {
        let writer = Base::of_writer(2);
        assert!(writer.after(0).follows_others() && !writer.after(1).follows_others());
        assert!(!Base::of_writer(1).after(0).follows_others(), "there were no others");
        assert_eq!(writer.after(0).version(0), writer.version(0));
    }

    #[test]
    fn epochs_are_reserved_before_they_are_entered() {
        let base = Base::of_writer(7);
        let mut reserved = 7;
        for sent in (0..20).map(|look| look << 39) {
            assert!(is_look_due(sent) && !is_look_due(sent + 1));
            // Up to the next look everything lies in what was reserved, and the next epoch comes after it.
            reserved = reserved.max(epoch_to_reserve(base, sent));
            let last = base.version_after(sent + (1 << 39));
            assert!(last < Base::of_writer(reserved + 1).version(0), "{sent}");
        }
        assert_eq!(epoch_to_reserve(base, 1), 7);
    }
}
