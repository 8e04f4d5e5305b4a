//! The two ends of a signal: counters that one notifier raises, and what a waiter has seen of them.

use super::summary::{Seen, raise};
use super::{BoardViolation, SignalWords, rise};
use crate::sync::door::Ordering;

/// The notifier's end.
#[derive(Debug)]
pub(crate) struct Notifying<W> {
    words: W,
}

impl<W: SignalWords> Notifying<W> {
    /// Over counters that nobody else writes.
    pub(crate) fn new(words: W) -> Self {
        Self { words }
    }

    /// Raises the counter of an id, which is below their number. The caller then looks for sleepers.
    #[inline]
    pub(crate) fn notify(&mut self, id: usize, count: u32) {
        let counter = self.words.counter(id);
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(u64::from(count)), Ordering::Relaxed);
        raise(&self.words, id, u64::from(count));
    }
}

/// A waiter's end: what it has seen of one notifier's counters.
#[derive(Debug)]
pub(crate) struct Watching<W> {
    words: W,
    seen: Seen,
    counts: Vec<u64>,
}

impl<W: SignalWords> Watching<W> {
    /// A waiter for whom only what comes after this is news.
    pub(crate) fn new(words: W) -> Self {
        let (seen, counts) = (Seen::nothing(&words), vec![0; words.members()]);
        let mut watching = Self { words, seen, counts };
        watching.seen.start(&watching.words);
        for (id, count) in watching.counts.iter_mut().enumerate() {
            *count = watching.words.counter(id).load(Ordering::Relaxed);
        }
        watching
    }

    /// How many ids there are.
    #[cfg(all(loom, test))]
    pub(super) fn ids(&self) -> usize {
        self.counts.len()
    }

    /// Whether some counter has been raised. One load.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.seen.has_news(&self.words)
    }

    /// Tells each id that has been notified since the last call, and how often.
    pub(crate) fn changes(&mut self, mut tell: impl FnMut(usize, u64)) -> Result<(), BoardViolation> {
        let Self { words, seen, counts } = self;
        seen.follow(words, |ids| {
            for id in ids {
                // After the group's word, or the whole's: at least what that says.
                let count = words.counter(id).load(Ordering::Relaxed);
                let new = rise("a counter", counts[id], count)?;
                if new > 0 {
                    counts[id] = count;
                    tell(id, new);
                }
            }
            Ok(())
        })
    }
}
