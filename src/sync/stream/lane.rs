//! The sending end of a lane: one reader, which settles each message, and is lent it where it lies until then.

use super::sending::SendingEnd;
use crate::sync::acks;
use crate::sync::bell::Fencing;
use crate::sync::door::Ordering;
use crate::sync::rendezvous;
use crate::sync::ring::CursorMemory;
use crate::sync::slot::{Carriage, SlotWord};

impl SendingEnd {
    /// The reader takes so many messages at once, from the first on.
    pub(crate) fn restrict(&mut self, window: u64) {
        self.writer.restrict(window);
    }

    /// Everything below `released` has been settled.
    pub(crate) fn release(&mut self, released: u64) {
        self.writer.raise_limit(released);
        if self.pool.in_flight() > 0 {
            self.pool.expire(released, usize::MAX, |_| false, |_| ());
            self.pool.sweep(|_| false);
        }
    }

    /// How many more messages may be sent.
    pub(crate) fn space(&self) -> u64 {
        self.writer.limit().saturating_sub(self.writer.tail())
    }

    /// As [`SendingEnd::commit`], for a message that somebody may have had before.
    pub(crate) fn commit_again(&mut self) {
        let carriage = self.complete();
        self.writer.publish_again(carriage);
    }

    /// A message that was sent and has not been released since; `None` if it was withdrawn.
    pub(crate) fn sent(&self, sequence: u64) -> Option<&[u8]> {
        let (carriage, header) = self.writer.sent(sequence)?;
        Some(match carriage {
            Carriage::Inline(length) => self.writer.sent_payload(sequence, length),
            Carriage::Body => self.writer.sent_payload(sequence, header.length as usize),
            Carriage::Pooled => self.chunks.payload(header.address, header.length as usize),
        })
    }

    /// Whether a message that was sent and has not been released since is one that somebody may have had before.
    pub(crate) fn was_again(&self, sequence: u64) -> bool {
        // Relaxed: nobody else stores it.
        SlotWord::from_bits(self.writer.word_of(sequence).0.load(Ordering::Relaxed)).is_again()
    }

    /// Withdraws a message that its reader, whose words these are, has not taken: whether it is withdrawn. If not, its reader is
    /// to be woken.
    pub(crate) fn withdraw_untaken(&self, words: &CursorMemory, sequence: u64) -> bool {
        let (slot, lap) = self.writer.word_of(sequence);
        rendezvous::withdraw(slot, words.taken(), (sequence, lap))
    }

    /// Says what the reader has to know: bits of the `TERMS_` constants.
    pub(crate) fn set_terms(&self, terms: u64) {
        self.writer.memory().terms().store(terms, Ordering::Release);
    }

    /// Says that what the reader has not settled is given to others, before the last look at what it has. If it leaves its
    /// fence to us, and the kernel refuses that since, it may in this moment believe that it has settled what comes again.
    pub(crate) fn tell_taken_back(&self, is_reader_fenced: bool) {
        let fencing = if is_reader_fenced { Fencing::Asymmetric } else { Fencing::Full };
        acks::tell_taken_back(self.writer.memory().terms(), || _ = fencing.of_sleeper());
    }

    /// Says how many messages there are that no reader has been sent yet.
    pub(crate) fn tell_unassigned(&self, count: u64) {
        self.writer.memory().unassigned().store(count, Ordering::Release);
    }
}
