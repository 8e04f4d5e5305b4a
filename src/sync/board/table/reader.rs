//! The reading end of a table.

use super::{CellWord, SlotEntry, tag_of};
use crate::sync::board::{BoardViolation, TableWords};
use crate::sync::door::{Ordering, fence};

/// How often one call tries again because the writer was faster.
const ATTEMPTS_MAX: u32 = if cfg!(loom) { 3 } else { 1_000 };

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadFault {
    /// The writer changed the entry, or moved it, at each of many attempts.
    Busy,
    /// The writer broke the rules.
    Violation(BoardViolation),
}

impl From<BoardViolation> for ReadFault {
    fn from(violation: BoardViolation) -> Self {
        Self::Violation(violation)
    }
}

/// Attempts that are left to a call.
pub(super) struct Attempts(u32);

impl Attempts {
    pub(super) fn new() -> Self {
        Self(ATTEMPTS_MAX)
    }

    /// The last one was in vain.
    pub(super) fn again(&mut self) -> Result<(), ReadFault> {
        self.0 = self.0.checked_sub(1).ok_or(ReadFault::Busy)?;
        std::hint::spin_loop();
        Ok(())
    }
}

/// A reader. It writes nothing, and any number of them share a table.
#[derive(Clone, Debug)]
pub(crate) struct TableReader<W> {
    pub(in crate::sync::board) words: W,
}

impl<W: TableWords> TableReader<W> {
    pub(crate) fn new(words: W) -> Self {
        Self { words }
    }

    /// The version of the table: what was written up to it is there for those who look after this.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.words.whole().load(Ordering::Acquire)
    }

    /// Copies the value of a key, which is `value_bytes` long, and says at which version it was set; `None` if the key is
    /// not there.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], value: &mut [u8]) -> Result<Option<u64>, ReadFault> {
        self.find(key, |words, cell, buffer| words.copy_value(cell, buffer, value))
    }

    /// The cell of a key, if it is there.
    pub(super) fn locate(&self, key: &[u8]) -> Result<Option<usize>, ReadFault> {
        let mut place = 0;
        Ok(self.find(key, |_, cell, _| place = cell)?.map(|_| place))
    }

    fn find(&self, key: &[u8], mut copy: impl FnMut(&W, usize, usize)) -> Result<Option<u64>, ReadFault> {
        let mut attempts = Attempts::new();
        let tag = tag_of(key);
        loop {
            // Acquire: pairs with the writer's Release. An entry that was moved before this is found at its new place.
            let moved = self.words.moved().load(Ordering::Acquire);
            if let Some(version) = self.probe(tag, key, &mut attempts, &mut copy)? {
                return Ok(Some(version));
            }
            // The slots were loaded with Acquire: if one of them has changed since an entry was moved out of it, this
            // sees the move.
            if self.words.moved().load(Ordering::Relaxed) == moved {
                return Ok(None);
            }
            attempts.again()?;
        }
    }

    /// Looks for a key once along the index, each slot at most once.
    fn probe(
        &self,
        tag: u32,
        key: &[u8],
        attempts: &mut Attempts,
        copy: &mut impl FnMut(&W, usize, usize),
    ) -> Result<Option<u64>, ReadFault> {
        let mask = self.words.slots() - 1;
        for step in 0..self.words.slots() {
            let slot = (tag as usize).wrapping_add(step) & mask;
            // Acquire: the cell's word is no older than this, nor is `moved`.
            let entry = SlotEntry(self.words.slot(slot).load(Ordering::Acquire));
            if entry == SlotEntry::EMPTY {
                return Ok(None);
            }
            if entry.tag() == tag
                && let Some(version) = self.look(self.checked(entry)?, key, attempts, copy)?
            {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    fn checked(&self, entry: SlotEntry) -> Result<usize, BoardViolation> {
        let (cell, cells) = (entry.cell(), self.words.members());
        if cell < cells as u64 { Ok(cell as usize) } else { Err(BoardViolation::Cell { cell, cells }) }
    }

    /// Whether a cell has an entry of this key; its value is copied then.
    fn look(
        &self,
        cell: usize,
        key: &[u8],
        attempts: &mut Attempts,
        copy: &mut impl FnMut(&W, usize, usize),
    ) -> Result<Option<u64>, ReadFault> {
        loop {
            let word = self.word(cell);
            if !word.is_there() {
                return Ok(None);
            }
            let is_its = self.words.has_key(cell, key);
            if is_its {
                copy(&self.words, cell, word.buffer());
            }
            if self.still_has(cell, word) {
                return Ok(is_its.then_some(word.version()));
            }
            attempts.again()?;
        }
    }

    /// Copies the entry of a cell, if there is one, with the word that it has then.
    pub(super) fn copy_entry(
        &self,
        cell: usize,
        key: &mut [u8],
        value: &mut [u8],
        attempts: &mut Attempts,
    ) -> Result<(u64, Option<u64>), ReadFault> {
        loop {
            let word = self.word(cell);
            if !word.is_there() {
                return Ok((word.0, None));
            }
            self.words.copy_key(cell, key);
            self.words.copy_value(cell, word.buffer(), value);
            if self.still_has(cell, word) {
                return Ok((word.0, Some(word.version())));
            }
            attempts.again()?;
        }
    }

    /// Tells every entry: key, value, version. Each is whole; they need not have been there at one and the same time.
    pub(crate) fn entries(&self, mut tell: impl FnMut(&[u8], &[u8], u64)) -> Result<(), ReadFault> {
        let (mut key, mut value) = (vec![0; self.words.key_bytes()], vec![0; self.words.value_bytes()]);
        for cell in 0..self.words.members() {
            let mut attempts = Attempts::new();
            if let (_, Some(version)) = self.copy_entry(cell, &mut key, &mut value, &mut attempts)? {
                tell(&key, &value, version);
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn peek(&self, cell: usize) -> u64 {
        self.words.cell(cell).load(Ordering::Relaxed)
    }

    #[inline]
    fn word(&self, cell: usize) -> CellWord {
        // Acquire: pairs with the writer's Release; key and value are visible.
        CellWord(self.words.cell(cell).load(Ordering::Acquire))
    }

    /// Whether a cell still has this word, so that what has been copied since is its entry, whole.
    #[inline]
    fn still_has(&self, cell: usize, word: CellWord) -> bool {
        // Pairs with the writer's Release fence before it writes: if the copy has a byte of something later, the word that
        // came before that is visible here.
        fence(Ordering::Acquire);
        self.words.cell(cell).load(Ordering::Relaxed) == word.0
    }
}
