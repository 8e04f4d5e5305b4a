//! The publisher's list of its subscribers' cursors, and the look that says what may be reused.

use super::cursor::{self, CursorViolation, CursorWords};
use crate::layout::cursor::CURSOR_GONE;

/// What a publisher owes to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is waited for, and loses nothing.
    Reliable,
    /// It loses what it is too slow for, by the publisher's policy.
    Droppable,
    /// It loses what it is too slow for, by its own choice; not even what it holds counts against the publisher.
    Observer,
}

/// The subscribers of one publisher.
#[derive(Debug)]
pub(crate) struct Readers<R> {
    entries: Vec<Entry<R>>,
}

/// One subscriber: whatever the caller keeps of it, and where its cursor stood at the last look.
#[derive(Debug)]
struct Entry<R> {
    reader: R,
    standing: Standing,
    cursor: u64,
    violation: Option<CursorViolation>,
    start: u64,
    /// Nothing from this message on concerns it: it was detached, and may still be reading what came before.
    detached_at: Option<u64>,
}

/// How far the subscribers had come at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Below this, everybody who is waited for has read everything.
    pub(crate) released: u64,
    /// Below this, everybody has.
    pub(crate) read: u64,
}

/// The messages that subscribers hold, in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// Held by those whose holding counts.
    pub(crate) counted: Vec<u64>,
    /// Held by observers, and by those who were detached.
    pub(crate) observed: Vec<u64>,
    /// What those who were detached have not read: from the first number on, before the second.
    unread: Vec<(u64, u64)>,
}

impl Pins {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let (counted, observed) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Self { counted, observed, unread: Vec::new() }
    }

    /// Whether anybody holds this message.
    pub(crate) fn hold(&self, sequence: u64) -> bool {
        self.counts(sequence) || self.observed.binary_search(&sequence).is_ok()
    }

    /// Whether somebody who was detached may be reading this message, or has still to read it.
    pub(crate) fn is_unread(&self, sequence: u64) -> bool {
        self.unread.iter().any(|(from, to)| (*from..*to).contains(&sequence))
    }

    /// Whether anybody holds it whose holding counts.
    pub(crate) fn counts(&self, sequence: u64) -> bool {
        self.counted.binary_search(&sequence).is_ok()
    }
}

impl<R: CursorWords> Readers<R> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a subscriber that reads from `start` on, and has the ring that this is in.
    pub(crate) fn admit(&mut self, reader: R, standing: Standing, start: u64) {
        let (violation, detached_at) = (None, None);
        self.entries.push(Entry { reader, standing, cursor: start, violation, start, detached_at });
    }

    /// The subscribers that `is_meant` names hold nobody up from the message `tail` on, nor do they get it. Those that
    /// were not detached before.
    pub(crate) fn detach(&mut self, tail: u64, is_meant: impl Fn(&R) -> bool) -> Vec<&R> {
        let fresh = self.entries.iter_mut().filter(|entry| entry.is_attached() && is_meant(&entry.reader));
        fresh
            .map(|entry| {
                entry.detached_at = Some(tail);
                &entry.reader
            })
            .collect()
    }

    /// Whether somebody who was not detached joined in a ring before this end, and has not been seen beyond it.
    pub(crate) fn need_ring(&self, end: u64) -> bool {
        let mut following = self.entries.iter().filter(|entry| entry.detached_at.is_none());
        following.any(|entry| entry.start < end && entry.cursor <= end)
    }

    /// Takes out the subscribers that `is_leaving` names, each with whether it had been detached.
    pub(crate) fn remove(
        &mut self,
        mut is_leaving: impl FnMut(&R) -> bool,
    ) -> impl Iterator<Item = (R, bool)> {
        let leaving = self.entries.extract_if(.., move |entry| is_leaving(&entry.reader));
        leaving.map(|entry| (entry.reader, entry.detached_at.is_some()))
    }

    /// Takes out the subscribers whose cursor broke the rules, each with what it did.
    pub(crate) fn remove_violators(&mut self) -> impl Iterator<Item = (R, CursorViolation)> {
        let is_violator = |entry: &mut Entry<R>| entry.violation.is_some();
        self.entries.extract_if(.., is_violator).filter_map(|entry| Some((entry.reader, entry.violation?)))
    }

    /// Subscribers that still read.
    pub(crate) fn reading(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_reading()).count()
    }

    /// Whether some subscriber may lose messages: slots are then marked before they are written.
    pub(crate) fn has_losers(&self) -> bool {
        self.entries.iter().any(|entry| entry.standing != Standing::Reliable)
    }

    /// The subscribers, the gone ones with held samples included.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.entries.iter_mut().map(|entry| &mut entry.reader)
    }

    /// Those who are waited for and have not read up to `position`, as of the last look.
    pub(crate) fn waited_for(&self, position: u64) -> impl Iterator<Item = &R> {
        let is_behind = move |entry: &&Entry<R>| {
            entry.is_reading() && entry.standing == Standing::Reliable && entry.cursor < position
        };
        self.entries.iter().filter(is_behind).map(|entry| &entry.reader)
    }

    /// Those whose reading or holding is in the way of a message that finds no memory, as of the last look.
    pub(crate) fn keeping(&self, position: u64) -> impl Iterator<Item = &R> {
        let is_keeping = move |entry: &&Entry<R>| {
            let is_reliable = entry.standing == Standing::Reliable && entry.violation.is_none();
            is_reliable && (entry.cursor < position || cursor::has_pins(&entry.reader))
        };
        self.entries.iter().filter(is_keeping).map(|entry| &entry.reader)
    }

    /// The subscribers that have not been detached, those included that only hold something.
    pub(crate) fn attached(&self) -> impl Iterator<Item = &R> {
        self.entries.iter().filter(|entry| entry.is_attached()).map(|entry| &entry.reader)
    }

    /// Each subscriber that reads, with its standing and where its cursor stood at the last look.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (&R, Standing, u64)> {
        let reading = self.entries.iter().filter(|entry| entry.is_reading());
        reading.map(|entry| (&entry.reader, entry.standing, entry.cursor))
    }

    /// Looks at all cursors. Each value is checked; a cursor that broke the rules counts no longer. Without a reader,
    /// everything up to `tail` has been read.
    pub(crate) fn look(&mut self, tail: u64) -> Progress {
        let mut progress = Progress { released: tail, read: tail };
        for entry in &mut self.entries {
            let position = entry.look(tail);
            if entry.detached_at.is_some() {
                continue;
            }
            progress.read = progress.read.min(position);
            if entry.standing == Standing::Reliable {
                progress.released = progress.released.min(position);
            }
        }
        progress
    }

    /// Notes what those who were waited for until they were detached have not read, as of the last look.
    pub(crate) fn note_unread(&self, pins: &mut Pins) {
        let waited_for = self.entries.iter().filter(|entry| entry.standing == Standing::Reliable);
        pins.unread.clear();
        pins.unread.extend(waited_for.filter_map(|entry| Some((entry.cursor, entry.detached_at?))));
    }

    /// Looks at all pins. The answer is exact for messages below a [`Progress::released`] that was found before, where
    /// nobody can lose messages, and for those that were withdrawn before a full fence.
    pub(crate) fn scan(&self, pins: &mut Pins) {
        pins.counted.clear();
        pins.observed.clear();
        for entry in self.entries.iter().filter(|entry| entry.violation.is_none()) {
            let counts = entry.standing != Standing::Observer && entry.detached_at.is_none();
            cursor::scan_pins(&entry.reader, if counts { &mut pins.counted } else { &mut pins.observed });
        }
        pins.counted.sort_unstable();
        pins.observed.sort_unstable();
    }
}

impl<R: CursorWords> Entry<R> {
    /// Whether it reads, or has read everything and may still hold something.
    fn is_attached(&self) -> bool {
        self.violation.is_none() && self.detached_at.is_none()
    }

    fn is_reading(&self) -> bool {
        self.cursor != CURSOR_GONE && self.is_attached()
    }

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
