//! The cursor and the pins: how far a subscriber has read, and what it still holds below that.
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | `cursor` | subscriber, `Release` | publisher, `Acquire` | all reads below it happen before reuse; all pins below it are visible |
//! | `pins_used` | subscriber, `Relaxed`, before the pin | publisher, after `cursor` | covered by the cursor |
//! | pin | subscriber: sequence + 1 `Relaxed` before the cursor passes it, 0 `Release` | publisher, `Acquire` | reads through the held sample happen before reuse |
//! | `lost` | subscriber, `Relaxed` | whoever asks, `Relaxed` | none: a figure for people |
//!
//! Below a cursor that the publisher waits for, pins only disappear. So it loads every cursor, then scans the
//! pins once, and what it does not find is free: neither side needs a fence for that.
//!
//! A subscriber that nobody waits for has no such cursor. It reads the slot word, stores its pin, **fences**, and reads
//! the slot word again; the publisher overwrites the slot word, **fences**, and scans the pins. One of the two sees the
//! other: either the message turns out to be withdrawn, or its pin is found.

use super::door::{AtomicU64, Ordering, fence};
use crate::layout::cursor::{CURSOR_GONE, CURSOR_UNSET, PIN_FREE};

/// The words of one cursor segment.
pub(crate) trait CursorWords {
    fn cursor(&self) -> &AtomicU64;
    fn pins_used(&self) -> &AtomicU64;
    fn lost(&self) -> &AtomicU64;
    fn pin(&self, index: usize) -> &AtomicU64;
    /// Pin slots in the segment.
    fn pins(&self) -> usize;
}

/// Says that everything below `position` has been read.
#[inline]
pub(crate) fn publish(words: &impl CursorWords, position: u64) {
    debug_assert!(position < CURSOR_GONE);
    words.cursor().store(position, Ordering::Release);
}

/// Says that nothing more will be read. Pins stay.
pub(crate) fn publish_gone(words: &impl CursorWords) {
    words.cursor().store(CURSOR_GONE, Ordering::Release);
}

/// Pins `sequence`, which the cursor has not passed yet, at `index`, which is free.
pub(crate) fn pin(words: &impl CursorWords, index: usize, sequence: u64) {
    debug_assert!(words.cursor().load(Ordering::Relaxed) <= sequence, "a released message cannot be pinned");
    store_pin(words, index, sequence);
}

/// Pins `sequence`, which its publisher may be withdrawing at this moment, at `index`, which is free. The pin counts
/// if the slot word, looked at after this, still is the message's.
pub(crate) fn pin_contested(words: &impl CursorWords, index: usize, sequence: u64) {
    store_pin(words, index, sequence);
    // Dekker: our pin, fence, the slot word against the slot word, fence, our pin.
    fence(Ordering::SeqCst);
}

fn store_pin(words: &impl CursorWords, index: usize, sequence: u64) {
    if words.pins_used().load(Ordering::Relaxed) <= index as u64 {
        // Several threads may hold one sample, each with a pin of its own: the number must not fall.
        words.pins_used().fetch_max(index as u64 + 1, Ordering::Relaxed);
    }
    words.pin(index).store(sequence + 1, Ordering::Relaxed);
}

/// Lets go of the pin at `index`. The caller then looks whether the publisher is blocked.
pub(crate) fn unpin(words: &impl CursorWords, index: usize) {
    words.pin(index).store(PIN_FREE, Ordering::Release);
}

/// A cursor that moved where no correct subscriber moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor went from {from} to {to}, and the tail is {tail}")]
pub(crate) struct CursorViolation {
    from: u64,
    to: u64,
    tail: u64,
}

impl CursorViolation {
    /// A cursor that went to a place where its pattern has no cursors.
    pub(crate) fn new(from: u64, to: u64, tail: u64) -> Self {
        Self { from, to, tail }
    }
}

/// The publisher's look at a cursor that stood at `last`, at first the start it assigned; [`CURSOR_GONE`] is a
/// possible answer.
#[inline]
pub(crate) fn look(words: &impl CursorWords, last: u64, tail: u64) -> Result<u64, CursorViolation> {
    let cursor = match words.cursor().load(Ordering::Acquire) {
        CURSOR_UNSET => last,
        cursor => cursor,
    };
    let is_sound = cursor == CURSOR_GONE || (last != CURSOR_GONE && last <= cursor && cursor <= tail);
    if is_sound { Ok(cursor) } else { Err(CursorViolation { from: last, to: cursor, tail }) }
}

/// Whether anything is pinned.
pub(crate) fn has_pins(words: &impl CursorWords) -> bool {
    let used = (words.pins_used().load(Ordering::Relaxed) as usize).min(words.pins());
    (0..used).any(|index| words.pin(index).load(Ordering::Relaxed) != PIN_FREE)
}

/// Appends the pinned sequence numbers to `held`. Exact for those below a cursor that was loaded before, and for those
/// that were withdrawn before a full fence.
pub(crate) fn scan_pins(words: &impl CursorWords, held: &mut Vec<u64>) {
    let used = (words.pins_used().load(Ordering::Relaxed) as usize).min(words.pins());
    for index in 0..used {
        let pin = words.pin(index).load(Ordering::Acquire);
        if pin != PIN_FREE {
            held.push(pin - 1);
        }
    }
}
