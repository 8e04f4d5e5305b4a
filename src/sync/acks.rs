//! Acknowledgements: what became of each item that a consumer has been sent, in words that it writes and its producer reads.
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | `cursor` | the consumer's thread, `Release` | producer, `Acquire` | all reads below it happen before reuse; all notes below it, and `returned`, are visible |
//! | note of an item = sequence + 1 << 2 \| acknowledged or returned | whoever has the item, `Release`, once | the consumer's thread, the producer, `Acquire` | its reads happen before reuse; `returned` is visible |
//! | `returned` | whoever gives an item back, `Relaxed` add, before the note | producer, `Relaxed`, after `cursor` | by the two above: no returned item below a cursor, or among followed notes, is missed |
//! | `left` | the consumer's thread, `Release`, at its end | producer, `Acquire` | from there on nothing has been read |
//!
//! An item is settled by the cursor that passes it, or by its note. Where the consumer settles one after the other, the
//! cursor alone moves. One that is settled out of turn, or by another thread, gets a note; both ends pass the cursor over
//! notes, the consumer when it settles what comes before, the producer when it looks, so that neither waits for the other.
//! A note names its item, so that one of an earlier lap settles nothing. Its word is used again for the item a lap later,
//! which is not sent before this one has been passed.
//!
//! After a note or the cursor the consumer looks whether its producer waits: that pair is Dekker's, as told in
//! [the cursor's module](super::cursor); where the producer has every processor fence, the consumer's own is left out. What
//! is given back the producer learns without being asked: the consumer always rings.
//!
//! Whether an acknowledgement came in time is a Dekker's pair too: note or cursor, fence, `terms` against *taken back* in
//! `terms`, fence, the producer's last look at cursor and notes. Who does not see *taken back* has been seen.

use super::cursor::{self, CursorViolation, CursorWords};
use super::door::{AtomicU64, Ordering};
use crate::layout::cursor::{
    CURSOR_GONE, CURSOR_UNSET, NOTE_ACKNOWLEDGED, NOTE_MASK, NOTE_RETURNED, NOTE_SHIFT,
};
use crate::layout::ring::TERMS_TAKEN_BACK;

/// The words of a cursor segment of a queue.
pub(crate) trait AckWords: CursorWords {
    /// The note at `index`, which is below the number of slots.
    fn note(&self, index: usize) -> &AtomicU64;
    /// How many items have been given back.
    fn returned(&self) -> &AtomicU64;
    /// Where the consumer has left, plus 1.
    fn left(&self) -> &AtomicU64;
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its consumer is done with it.
    Acknowledged,
    /// Its consumer wants it to be delivered again.
    Returned,
}

fn note_of(words: &impl AckWords, slots: usize, sequence: u64) -> &AtomicU64 {
    words.note(sequence as usize & (slots - 1))
}

/// What the note says of an item; `None` if nothing.
fn noted(words: &impl AckWords, slots: usize, sequence: u64) -> Option<Outcome> {
    // Acquire: pairs with the Release of whoever had the item.
    let note = note_of(words, slots, sequence).load(Ordering::Acquire);
    if note >> NOTE_SHIFT != sequence + 1 {
        return None;
    }
    match note & NOTE_MASK {
        NOTE_ACKNOWLEDGED => Some(Outcome::Acknowledged),
        NOTE_RETURNED => Some(Outcome::Returned),
        _ => None,
    }
}

/// The consumer's thread is done with an item of a ring with so many slots. Unless some items have been settled by notes, it
/// need not look for them; the producer does in any case.
#[inline]
pub(crate) fn acknowledge(words: &impl AckWords, slots: usize, sequence: u64, has_notes: bool) {
    // Relaxed: only this thread stores it. Lanes start at zero.
    let mut cursor = words.cursor().load(Ordering::Relaxed);
    if cursor != sequence {
        cursor = pass(words, slots, cursor, sequence);
        if cursor != sequence {
            return settle(words, slots, sequence, Outcome::Acknowledged);
        }
    }
    let next = if has_notes { pass(words, slots, sequence + 1, u64::MAX) } else { sequence + 1 };
    words.cursor().store(next, Ordering::Release);
}

/// Any thread of the consumer's process is done with an item, or wants it delivered again. After the latter it rings.
pub(crate) fn settle(words: &impl AckWords, slots: usize, sequence: u64, outcome: Outcome) {
    let what = match outcome {
        Outcome::Acknowledged => NOTE_ACKNOWLEDGED,
        Outcome::Returned => {
            // Relaxed: the note's Release comes after it.
            words.returned().fetch_add(1, Ordering::Relaxed);
            NOTE_RETURNED
        }
    };
    note_of(words, slots, sequence).store((sequence + 1) << NOTE_SHIFT | what, Ordering::Release);
}

/// Where the cursor comes to over notes, from a position on, at most to another.
#[inline]
fn pass(words: &impl AckWords, slots: usize, from: u64, to: u64) -> u64 {
    let mut position = from;
    // Each note is one item's, and there are as many as slots.
    while position < to && noted(words, slots, position).is_some() {
        position += 1;
    }
    position
}

/// The consumer takes nothing from `position` on. It rings after that.
pub(crate) fn leave(words: &impl AckWords, position: u64) {
    words.left().store(position + 1, Ordering::Release);
}

/// The producer says in its `terms` that what has not been settled goes to others, and passes a fence. After that it looks
/// for the last time.
pub(crate) fn tell_taken_back(terms: &AtomicU64, fence: impl FnOnce()) {
    // Nobody else stores it.
    terms.store(terms.load(Ordering::Relaxed) | TERMS_TAKEN_BACK, Ordering::Release);
    fence();
}

/// Whether what has just been settled is so for the producer whose `terms` these are, whatever it does next; else it may go
/// to others. After a fence of ours.
#[inline]
pub(crate) fn is_in_time(terms: &AtomicU64) -> bool {
    // Relaxed: nothing else is read after it.
    terms.load(Ordering::Relaxed) & TERMS_TAKEN_BACK == 0
}

/// Of so many items before `tail` that the cursor has not passed, those that have not been settled, for who looks from aside.
pub(crate) fn unsettled_among(words: &impl AckWords, slots: usize, tail: u64, unpassed: u64) -> u64 {
    let unpassed = unpassed.min(slots as u64).min(tail);
    let is_open = |sequence: &u64| noted(words, slots, *sequence).is_none();
    (tail - unpassed..tail).filter(is_open).count() as u64
}

/// What a producer knows of a lane's items.
#[derive(Debug)]
pub(crate) struct Acks {
    slots: usize,
    cursor: u64,
    /// Below this, everything is settled, and may be used again.
    released: u64,
    /// Items that were found to have been given back.
    returned: u64,
    /// Items that were taken back without that.
    withdrawn: u64,
    /// Of both, those that are not below `released`.
    ahead: u64,
    /// For each slot the item, plus 1, that was taken back from it last.
    taken_back: Box<[u64]>,
}

impl Acks {
    pub(crate) fn new(slots: usize) -> Self {
        let taken_back = vec![0; slots].into();
        Self { slots, cursor: 0, released: 0, returned: 0, withdrawn: 0, ahead: 0, taken_back }
    }

    /// Below this, everything is settled, as of the last look.
    #[inline]
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    /// Items that have been acknowledged and passed, as of the last look.
    pub(crate) fn acknowledged(&self) -> u64 {
        let taken_back = self.returned.saturating_add(self.withdrawn).saturating_sub(self.ahead);
        self.released.saturating_sub(taken_back)
    }

    /// Items before `tail` that have been acknowledged, in turn or not, if so many are [open](Self::open).
    pub(crate) fn acknowledged_but(&self, open: u64, tail: u64) -> u64 {
        tail.saturating_sub(self.returned.saturating_add(self.withdrawn)).saturating_sub(open)
    }

    /// Items before `tail` that are on their way or with the consumer, as of the last look.
    pub(crate) fn unsettled(&self, tail: u64) -> u64 {
        (tail - self.released).saturating_sub(self.ahead)
    }

    /// Looks at what has become of the items before `tail`; those that were given back and had not been found before are
    /// added to `returned`. Whether anything has been settled.
    pub(crate) fn look(
        &mut self,
        words: &impl AckWords,
        tail: u64,
        returned: &mut Vec<u64>,
    ) -> Result<bool, CursorViolation> {
        self.cursor = match cursor::look(words, self.cursor, tail)? {
            CURSOR_GONE => return Err(CursorViolation::new(self.cursor, CURSOR_GONE, tail)),
            cursor => cursor,
        };
        let before = (self.released, self.returned);
        if words.returned().load(Ordering::Relaxed) != self.returned {
            (self.released..tail).for_each(|sequence| self.collect(words, sequence, returned));
        }
        let mut released = self.released.max(self.cursor);
        while released < tail && noted(words, self.slots, released).is_some() {
            self.collect(words, released, returned);
            released += 1;
        }
        self.pass_to(released);
        Ok(before != (self.released, self.returned))
    }

    /// Takes note of an item that has been given back, unless it has been.
    fn collect(&mut self, words: &impl AckWords, sequence: u64, returned: &mut Vec<u64>) {
        let place = &mut self.taken_back[sequence as usize & (self.slots - 1)];
        if *place != sequence + 1 && noted(words, self.slots, sequence) == Some(Outcome::Returned) {
            *place = sequence + 1;
            self.returned = self.returned.wrapping_add(1);
            self.ahead += 1;
            returned.push(sequence);
        }
    }

    fn pass_to(&mut self, released: u64) {
        if self.ahead > 0 {
            let passed = (self.released..released).filter(|sequence| self.is_taken_back(*sequence));
            self.ahead = self.ahead.saturating_sub(passed.count() as u64);
        }
        self.released = released;
    }

    fn is_taken_back(&self, sequence: u64) -> bool {
        self.taken_back[sequence as usize & (self.slots - 1)] == sequence + 1
    }

    /// The items from `from` on and before `tail` that have been neither acknowledged nor taken back.
    pub(crate) fn open<'a>(
        &'a self,
        words: &'a impl AckWords,
        from: u64,
        tail: u64,
    ) -> impl Iterator<Item = u64> + 'a {
        let is_open = move |sequence: &u64| {
            let outcome = noted(words, self.slots, *sequence);
            outcome != Some(Outcome::Acknowledged) && !self.is_taken_back(*sequence)
        };
        (self.released.max(from)..tail).filter(is_open)
    }

    /// An item that the consumer never gets is taken back. It stays in its slot until the consumer passes it.
    pub(crate) fn take_back(&mut self, sequence: u64) {
        self.taken_back[sequence as usize & (self.slots - 1)] = sequence + 1;
        self.withdrawn += 1;
        self.ahead += 1;
    }

    /// The first item that the consumer does not take, as it has left; `None` if it stays.
    pub(crate) fn left(&self, words: &impl AckWords, tail: u64) -> Option<u64> {
        // Acquire: pairs with the Release of the consumer's last thread.
        let left = words.left().load(Ordering::Acquire).checked_sub(1)?;
        Some(left.clamp(self.released, tail))
    }
}

const _: () = assert!(CURSOR_UNSET == 0, "a lane's first item has number 0, and its cursor needs no start");
