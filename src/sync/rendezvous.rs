//! Meeting: a message that its sender may withdraw until its one reader has taken it, and not after.
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | slot word: the message's; *withdrawing*; the message's again or *withdrawn* | sender, `Release`, but *withdrawing* `Relaxed`, before the fence | reader, `Acquire` | below |
//! | `taken` = sequence + 1 | reader, `Release`, rising | sender, `Acquire` | below; the message is the reader's |
//!
//! The protocol is Dekker's:
//!
//! - reader: see the message's word; store `taken`; **full fence**; look at the word again: if it stands, the message is
//!   its own; if it is *withdrawn*, it never was; if it is *withdrawing*, the sender is about to tell;
//! - sender: store *withdrawing*; **full fence**; load `taken`: if the message has been taken, store its word again, else
//!   *withdrawn*.
//!
//! One of the two fences comes first. If the reader's does, the sender sees that the message has been taken; if the sender's
//! does, the reader sees that it is being withdrawn, and waits for what the sender says. Neither needs a read-modify-write.

use super::door::{AtomicU64, Ordering, fence};
use super::slot::SlotWord;

/// What came of taking a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    /// It is ours.
    Taken,
    /// Its sender is about to say whether it is.
    Open,
    /// It is not, and never was.
    Withdrawn,
}

/// Takes the message `sequence` of this `lap`, whose word has been seen in its slot.
pub(crate) fn take(
    slot: &AtomicU64,
    taken: &AtomicU64,
    word: SlotWord,
    (sequence, lap): (u64, u64),
) -> Taking {
    take_with(slot, taken, word, (sequence, lap), || fence(Ordering::SeqCst))
}

/// As [`take`], with another fence, so that the model checker can leave it out.
pub(super) fn take_with(
    slot: &AtomicU64,
    taken: &AtomicU64,
    word: SlotWord,
    (sequence, lap): (u64, u64),
    fence: impl FnOnce(),
) -> Taking {
    taken.store(sequence + 1, Ordering::Release);
    fence();
    match SlotWord::from_bits(slot.load(Ordering::Acquire)) {
        same if same == word => Taking::Taken,
        other if other.is_withdrawn(lap) => Taking::Withdrawn,
        _ => Taking::Open,
    }
}

/// Whether the message `sequence` has been taken.
pub(crate) fn is_taken(taken: &AtomicU64, sequence: u64) -> bool {
    taken.load(Ordering::Acquire) > sequence
}

/// Withdraws the message `sequence` of this `lap`, unless it has been taken: whether it is withdrawn. If not, its reader may
/// be asleep, and is to be woken.
pub(crate) fn withdraw(slot: &AtomicU64, taken: &AtomicU64, (sequence, lap): (u64, u64)) -> bool {
    // Relaxed: nobody else stores it.
    let word = slot.load(Ordering::Relaxed);
    slot.store(SlotWord::withdrawing(lap).bits(), Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let is_taken = is_taken(taken, sequence);
    let outcome = if is_taken { word } else { SlotWord::withdrawn(lap).bits() };
    slot.store(outcome, Ordering::Release);
    !is_taken
}
