//! The publisher's list of its subscribers' cursors, and the one look that says what may be reused.

use super::cursor::{self, CursorViolation, CursorWords};
use crate::layout::cursor::CURSOR_GONE;

/// The subscribers of one publisher.
#[derive(Debug)]
pub(crate) struct Readers<R> {
    entries: Vec<Entry<R>>,
}

/// One subscriber: whatever the caller keeps of it, and where its cursor stood at the last look.
#[derive(Debug)]
struct Entry<R> {
    reader: R,
    cursor: u64,
    violation: Option<CursorViolation>,
}

impl<R: CursorWords> Readers<R> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a subscriber that reads from `start` on.
    pub(crate) fn admit(&mut self, reader: R, start: u64) {
        self.entries.push(Entry { reader, cursor: start, violation: None });
    }

    /// Takes out the subscribers that `is_leaving` names.
    pub(crate) fn remove(&mut self, mut is_leaving: impl FnMut(&R) -> bool) -> impl Iterator<Item = R> {
        self.entries.extract_if(.., move |entry| is_leaving(&entry.reader)).map(|entry| entry.reader)
    }

    /// Takes out the subscribers whose cursor broke the rules, each with what it did.
    pub(crate) fn remove_violators(&mut self) -> impl Iterator<Item = (R, CursorViolation)> {
        let is_violator = |entry: &mut Entry<R>| entry.violation.is_some();
        self.entries.extract_if(.., is_violator).filter_map(|entry| Some((entry.reader, entry.violation?)))
    }

    /// Subscribers that still read.
    pub(crate) fn reading(&self) -> usize {
        self.entries.iter().filter(|entry| entry.cursor != CURSOR_GONE && entry.violation.is_none()).count()
    }

    /// The subscribers, the gone ones with held samples included.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.entries.iter_mut().map(|entry| &mut entry.reader)
    }

    /// Looks at all cursors, then at all pins: below the sequence number that is returned, everything has been
    /// read by everyone, and `held` has those of them that are still pinned, in ascending order. Without a
    /// reader, that is `tail`. Each cursor's value is checked; one that broke the rules counts no longer.
    pub(crate) fn look(&mut self, tail: u64, held: &mut Vec<u64>) -> u64 {
        let released = self.entries.iter_mut().map(|entry| entry.look(tail)).min().unwrap_or(tail);
        held.clear();
        for entry in self.entries.iter().filter(|entry| entry.violation.is_none()) {
            cursor::scan_pins(&entry.reader, held);
        }
        held.retain(|&sequence| sequence < released);
        held.sort_unstable();
        debug_assert!(released <= tail);
        released
    }
}

impl<R: CursorWords> Entry<R> {
    /// Below which number this subscriber has read everything; `tail` if it holds nobody back.
    fn look(&mut self, tail: u64) -> u64 {
        if self.violation.is_some() {
            return tail;
        }
        match cursor::look(&self.reader, self.cursor, tail) {
            Ok(cursor) => self.cursor = cursor,
            Err(violation) => self.violation = Some(violation),
        }
        self.cursor.min(tail)
    }
}
