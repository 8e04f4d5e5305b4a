//! The receiving end of a lane: each message stays where it lies until it is settled, in any order and by any thread.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::compiler_fence;

use super::attachment::Attachment;
use super::receiving::ReceivingEnd;
use crate::layout::ring::{TERMS_FENCED, TERMS_RENDEZVOUS, TERMS_TAKEN_BACK};
use crate::sync::acks::{self, Outcome};
use crate::sync::door::{Ordering, fence};
use crate::sync::rendezvous::{self, Taking};
use crate::sync::ring::RingWords;
use crate::sync::slot::SlotWord;

/// Looks at messages that were withdrawn, or at one that is about to be, before a poll finds nothing.
const OPEN_LOOKS: u32 = 1_000;

/// Messages after which a receiver that never finds nothing says how many it has received.
const MESSAGES_PER_NOTE: u64 = 64;

/// What came of settling a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Its sender knows, or will when it looks.
    Told,
    /// Its sender has taken it back before, and given it to others.
    Late,
    /// This is a forked child's copy: the message is its parent's.
    Inherited,
}

/// A message of a lane that is kept while its receiver goes on. It is settled by whoever has it.
#[derive(Debug)]
pub(crate) struct Delivery {
    bytes: NonNull<[u8]>,
    sequence: u64,
    attachment: Arc<Attachment>,
    is_settled: bool,
}

// SAFETY: the bytes are only read, and the attachment that keeps them mapped is itself `Send` and `Sync`.
unsafe impl Send for Delivery {}
// SAFETY: as above; `&Delivery` gives the bytes for reading.
unsafe impl Sync for Delivery {}

impl Delivery {
    /// The message, which has not been settled.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: published and lent in place, and its sender does not use the memory again before it is settled, which takes
        // the delivery away; the attachment keeps it mapped.
        unsafe { self.bytes.as_ref() }
    }

    /// Its number in its lane.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether somebody may have had it before.
    pub(crate) fn is_again(&self) -> bool {
        self.attachment.is_again(self.sequence)
    }

    /// The message is done with.
    pub(crate) fn acknowledge(mut self) -> Settled {
        self.is_settled = true;
        self.attachment.settle(self.sequence, Outcome::Acknowledged)
    }
}

impl Drop for Delivery {
    /// A message that nobody is done with is to be delivered again.
    fn drop(&mut self) {
        if !self.is_settled {
            // Nobody is told if the sender has taken it back already.
            let _ = self.attachment.settle(self.sequence, Outcome::Returned);
        }
    }
}

impl ReceivingEnd {
    /// The words of the cursor segment.
    #[cfg(test)]
    pub(crate) fn words(&self) -> crate::sync::ring::CursorMemory {
        self.attachment.cursor.clone()
    }

    /// The number of the message that was taken last.
    pub(crate) fn last(&self) -> u64 {
        self.reader.position() - 1
    }

    /// Whether somebody may have had the message before that was taken last, and has not been settled.
    pub(crate) fn is_again(&self) -> bool {
        self.attachment.is_again(self.last())
    }

    /// The thread that took the last message is done with it. It is used no more.
    #[inline]
    pub(crate) fn acknowledge(&self) -> Settled {
        let attachment = &*self.attachment;
        if attachment.is_inherited() {
            return Settled::Inherited;
        }
        self.note_now_and_then();
        let has_notes = attachment.has_notes.load(Ordering::Relaxed);
        acks::acknowledge(&attachment.cursor, attachment.slots(), self.last(), has_notes);
        attachment.ring_if_waiting()
    }

    /// A busy receiver is to be seen to be one.
    #[inline]
    fn note_now_and_then(&self) {
        if self.last().is_multiple_of(MESSAGES_PER_NOTE) {
            self.note_received();
        }
    }

    /// Keeps the message that was taken last beyond the next poll, until it is settled.
    pub(crate) fn deliver(&self) -> Delivery {
        self.note_now_and_then();
        // SAFETY: taken last, so that nobody has polled since, and lent in place until it is settled; the delivery hands out
        // the bytes only as long as it is not, and keeps them mapped.
        let bytes = NonNull::from(unsafe { self.found.bytes() });
        Delivery { bytes, sequence: self.last(), attachment: Arc::clone(&self.attachment), is_settled: false }
    }

    /// The message that was taken last is to be delivered again. It is used no more.
    pub(crate) fn give_back(&self) -> Settled {
        self.attachment.settle(self.last(), Outcome::Returned)
    }
}

impl Attachment {
    #[inline]
    fn slots(&self) -> usize {
        self.ring.geometry().slots()
    }

    fn is_again(&self, sequence: u64) -> bool {
        // Relaxed: the word was seen when the message was taken, and stays until it is settled.
        let word = self.ring.slot(self.ring.geometry().index(sequence)).load(Ordering::Relaxed);
        SlotWord::from_bits(word).is_again()
    }

    fn settle(&self, sequence: u64, outcome: Outcome) -> Settled {
        if self.is_inherited() {
            return Settled::Inherited;
        }
        acks::settle(&self.cursor, self.slots(), sequence, outcome);
        self.has_notes.store(true, Ordering::Relaxed);
        match outcome {
            Outcome::Acknowledged => self.ring_if_waiting(),
            Outcome::Returned => self.ring_always(),
        }
    }

    /// After a message was acknowledged: rings the sender if it waits for that.
    #[inline]
    fn ring_if_waiting(&self) -> Settled {
        // Dekker: our cursor or note, fence, `blocked` against `blocked`, fence, cursor and notes.
        if self.ring.terms().load(Ordering::Relaxed) & TERMS_FENCED == 0 {
            fence(Ordering::SeqCst);
        } else {
            compiler_fence(Ordering::SeqCst);
        }
        if self.ring.blocked().load(Ordering::Acquire) != 0 {
            self.ring_if_blocked();
        }
        self.told()
    }

    /// After a message was given back, or none is taken any more: rings the sender.
    fn ring_always(&self) -> Settled {
        // Dekker: our note, fence, its sleep against its sleep, fence, our note.
        fence(Ordering::SeqCst);
        self.ring_now();
        self.told()
    }

    /// After a fence, which the two above pass.
    #[inline]
    fn told(&self) -> Settled {
        if acks::is_in_time(self.ring.terms()) { Settled::Told } else { Settled::Late }
    }

    /// How many messages the sender, which is gone, had for no lane; none if it is only us that it has let go of.
    pub(crate) fn unassigned(&self) -> u64 {
        let is_alive = self.ring.terms().load(Ordering::Acquire) & TERMS_TAKEN_BACK != 0;
        if is_alive { 0 } else { self.ring.unassigned().load(Ordering::Acquire) }
    }
}

impl ReceivingEnd {
    /// The word of the next message of a lane, once it is ours. What was withdrawn before is passed over.
    pub(super) fn take_in_lane(&mut self) -> Option<SlotWord> {
        for _ in 0..OPEN_LOOKS {
            let position = self.reader.position();
            let (slot, lap) = self.reader.due();
            let taking = match self.reader.peek() {
                Some(word) => {
                    if self.attachment.ring.terms().load(Ordering::Relaxed) & TERMS_RENDEZVOUS == 0 {
                        // The terms were there before the first message was.
                        self.is_plain = true;
                        return Some(word);
                    }
                    let taken = self.attachment.cursor.taken();
                    let taking = rendezvous::take(slot, taken, word, (position, lap));
                    if taking == Taking::Taken {
                        self.attachment.ring_if_waiting();
                        return Some(word);
                    }
                    taking
                }
                None => match SlotWord::from_bits(slot.load(Ordering::Acquire)) {
                    word if word.is_withdrawn(lap) => Taking::Withdrawn,
                    word if word == SlotWord::withdrawing(lap) => Taking::Open,
                    // Or it has just been published: the next poll sees it.
                    _ => {
                        self.ask();
                        return None;
                    }
                },
            };
            if taking == Taking::Withdrawn {
                acks::acknowledge(&self.attachment.cursor, self.attachment.slots(), position, true);
                self.reader.advance();
                self.withdrawn += 1;
                self.attachment.ring_if_waiting();
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Lets the sender know that a message would be welcome, if it gives each to who asks.
    fn ask(&self) {
        if self.attachment.ring.terms().load(Ordering::Relaxed) & TERMS_RENDEZVOUS != 0 {
            let asked = self.attachment.cursor.asked();
            // Nobody else stores it.
            asked.store(asked.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
            self.attachment.ring_if_waiting();
        }
    }

    /// Takes nothing more. What has been taken and is not settled stays with whoever has it.
    pub(super) fn leave_lane(&mut self) {
        acks::leave(&self.attachment.cursor, self.reader.position());
        self.attachment.ring_always();
    }
}
