//! Words that one thread stores one right after the other, in one cache line.
//!
//! A stream is as fast as the processor gets its stores out, and it gets those out together that follow each other into the
//! same line. A producer stores its message, its tail, and that it is inside its core and out again: with a line of its own
//! for each of the two, a push takes twice as long as with one line for both.
//!
//! A word is a home for an atomic, no protocol: who writes and who reads it, and which edge orders that, is said where it is
//! used.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use super::door::{AtomicU64, Mutex, Ordering};

/// Words of a line.
const WORDS: usize = 8;

/// A line of words, each of which somebody has or nobody.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct StoreLine {
    words: [AtomicU64; WORDS],
    /// Which words somebody has.
    taken: Mutex<[bool; WORDS]>,
}

impl StoreLine {
    pub(crate) fn new() -> Arc<Self> {
        let words = [(); WORDS].map(|()| AtomicU64::new(0));
        Arc::new(Self { words, taken: Mutex::new([false; WORDS]) })
    }

    /// A word of this line that nobody has, or else one of another line. It is zero.
    pub(crate) fn word(self: &Arc<Self>) -> StoreWord {
        self.free_word().unwrap_or_else(StoreWord::alone)
    }

    fn free_word(self: &Arc<Self>) -> Option<StoreWord> {
        let mut taken = self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let index = taken.iter().position(|is_taken| !is_taken)?;
        taken[index] = true;
        let word = &self.words[index];
        // Relaxed: whoever had it before gave it back under the mutex.
        word.store(0, Ordering::Relaxed);
        Some(StoreWord {
            place: NonNull::from(word),
            tenure: Arc::new(Tenure { line: Arc::clone(self), index }),
        })
    }
}

/// That somebody has a word.
#[derive(Debug)]
struct Tenure {
    line: Arc<StoreLine>,
    index: usize,
}

impl Drop for Tenure {
    fn drop(&mut self) {
        // Not waited for: in a forked child it may be held for ever, by a thread that only its parent has. A word that is not
        // given back is not used again, and whoever comes later has one elsewhere.
        if let Ok(mut taken) = self.line.taken.try_lock() {
            taken[self.index] = false;
        }
    }
}

/// A word that is the holder's, and its clones'.
#[derive(Clone)]
pub(crate) struct StoreWord {
    /// In the line that the tenure keeps.
    place: NonNull<AtomicU64>,
    tenure: Arc<Tenure>,
}

// SAFETY: an atomic in memory that the tenure keeps, to which any thread may have references.
unsafe impl Send for StoreWord {}
// SAFETY: as above.
unsafe impl Sync for StoreWord {}

impl StoreWord {
    /// A word in a line of its own.
    pub(crate) fn alone() -> Self {
        StoreLine::new().free_word().expect("nobody has a word of a new line")
    }
}

impl Deref for StoreWord {
    type Target = AtomicU64;

    #[inline(always)]
    fn deref(&self) -> &AtomicU64 {
        // SAFETY: it points into the line, which does not move, and lives as long as the tenure; that is borrowed with `self`.
        unsafe { self.place.as_ref() }
    }
}

impl fmt::Debug for StoreWord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("StoreWord").field(&**self).field(&self.tenure.index).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_room_for_eight_and_is_used_again() {
        let line = StoreLine::new();
        let words: Vec<_> = (0..WORDS + 1).map(|_| line.word()).collect();
        let first = |word: &StoreWord| word.place.as_ptr().addr() & !63;
        assert_eq!(size_of_val(&line.words), 64);
        assert!(words[..WORDS].iter().all(|word| first(word) == first(&words[0])));
        assert_ne!(first(&words[WORDS]), first(&words[0]), "the ninth has another line");
        for (index, word) in words.iter().enumerate() {
            word.store(index as u64, Ordering::Relaxed);
        }
        assert!(words.iter().enumerate().all(|(index, word)| word.load(Ordering::Relaxed) == index as u64));
        let (clone, place) = (words[3].clone(), words[3].place);
        drop(words);
        assert!((0..WORDS).all(|_| line.word().place != place), "a clone has it");
        drop(clone);
        let held: Vec<_> = (0..WORDS).map(|_| line.word()).collect();
        assert!(held.iter().any(|word| word.place == place && word.load(Ordering::Relaxed) == 0));
    }
}
