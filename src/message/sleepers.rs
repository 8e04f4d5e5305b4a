//! Where those who listen to a sending endpoint say that they sleep: a bit for each, in bell lines of the endpoint's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::layout::bell::{SLEEPERS_MAX, SLEEPERS_WORDS};
use crate::sync::bell::{Bell, Line, clear_bit};

/// The bits of all who listen to one endpoint.
#[derive(Debug)]
pub(super) struct Sleepers {
    first: Line,
    /// Words of all lines that have a bit assigned.
    words: AtomicUsize,
    /// Lines for those that the first has no room for.
    further: Mutex<Vec<Line>>,
}

impl Sleepers {
    /// With this line for the first of them.
    pub(super) fn new(first: Line) -> Self {
        first.clear_sleepers();
        Self { first, words: AtomicUsize::new(0), further: Mutex::default() }
    }

    fn further(&self) -> MutexGuard<'_, Vec<Line>> {
        self.further.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any bit is set. After the news and a full fence.
    #[inline]
    pub(super) fn are_there(&self) -> bool {
        // Relaxed: who sets a bit was admitted before, and its fence orders the count with the bit.
        let words = self.words.load(Ordering::Relaxed);
        let first = words.min(SLEEPERS_WORDS);
        (0..first).any(|word| self.first.sleepers(word).load(Ordering::Relaxed) != 0)
            || (words > SLEEPERS_WORDS && self.are_beyond())
    }

    #[cold]
    fn are_beyond(&self) -> bool {
        let is_set =
            |line: &Line| (0..SLEEPERS_WORDS).any(|word| line.sleepers(word).load(Ordering::Relaxed) != 0);
        self.further().iter().any(is_set)
    }

    /// Whether this bit is set.
    pub(super) fn is_set(&self, bit: u32) -> bool {
        self.at(bit, |line, word| line.sleepers(word).load(Ordering::Relaxed) & 1 << (bit % 64) != 0)
    }

    /// Its sleeper is not to be looked for any more.
    pub(super) fn clear(&self, bit: u32) {
        self.at(bit, |line, word| clear_bit(line.sleepers(word), bit));
    }

    /// The number of a bit's line, and the bit in it.
    pub(super) fn place(&self, bit: u32) -> (u32, u32) {
        (self.at(bit, |line, _| line.number()), bit % SLEEPERS_MAX)
    }

    /// Does something with a bit's line and the number of its word there.
    fn at<R>(&self, bit: u32, act: impl FnOnce(&Line, usize) -> R) -> R {
        let word = (bit % SLEEPERS_MAX) as usize / 64;
        match bit / SLEEPERS_MAX {
            0 => act(&self.first, word),
            line => act(&self.further()[line as usize - 1], word),
        }
    }

    /// The lowest bit that is none of these, with a line for it; `None` if there is no line left.
    pub(super) fn assign(&self, mut used: Vec<u32>, bell: &Arc<Bell>) -> Option<u32> {
        used.sort_unstable();
        let gap = used.iter().zip(0..).find(|(bit, index)| **bit != *index).map(|(_, index)| index);
        let bit = gap.unwrap_or(used.len() as u32);
        let mut further = self.further();
        if (bit / SLEEPERS_MAX) as usize > further.len() {
            let line = bell.line().ok()?;
            line.clear_sleepers();
            further.push(line);
        }
        // Only ever by who holds the lock.
        let words = (bit as usize / 64 + 1).max(self.words.load(Ordering::Relaxed));
        self.words.store(words, Ordering::Relaxed);
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::bell::set_bit;

    #[test]
    fn each_sleeper_has_a_bit_of_its_own_and_is_seen() {
        let bell = Arc::new(Bell::create().expect("a bell fits into memory"));
        let sleepers = Sleepers::new(bell.line().expect("lines are free"));
        let mut used = Vec::new();
        for expected in 0..SLEEPERS_MAX + 65 {
            let bit = sleepers.assign(used.clone(), &bell).expect("lines are free");
            assert_eq!(bit, expected);
            used.push(bit);
        }
        for bit in [0, 63, 64, SLEEPERS_MAX - 1, SLEEPERS_MAX, SLEEPERS_MAX + 64] {
            assert!(!sleepers.are_there());
            sleepers.at(bit, |line, word| set_bit(line.sleepers(word), bit));
            assert!(sleepers.are_there() && sleepers.is_set(bit));
            assert!(!sleepers.is_set(bit ^ 1));
            sleepers.clear(bit);
        }
        used.retain(|bit| *bit != 7);
        assert_eq!(sleepers.assign(used, &bell), Some(7), "the lowest that is free");
        assert_ne!(sleepers.place(0).0, sleepers.place(SLEEPERS_MAX).0);
        assert_eq!(sleepers.place(SLEEPERS_MAX + 3).1, 3);
    }
}
