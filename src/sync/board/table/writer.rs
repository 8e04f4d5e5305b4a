//! The writing end of a table.

use super::{CellWord, SlotEntry, tag_of};
use crate::sync::board::TableWords;
use crate::sync::board::summary::raise;
use crate::sync::door::{Ordering, fence};

/// Every cell of the table has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {capacity} cells are taken")]
pub(crate) struct TableFull {
    pub(crate) capacity: usize,
}

/// The one who writes a table. The index that its readers use is its own, too: nobody else can write it.
#[derive(Debug)]
pub(crate) struct TableWriter<W> {
    words: W,
    /// Cells without entry; the last one is taken next.
    free: Vec<u32>,
}

/// Where the index leads for a key.
enum Place {
    Entry { slot: usize, cell: usize },
    Vacant { slot: usize, tag: u32 },
}

impl<W: TableWords> TableWriter<W> {
    /// Over a table of our own, which is empty.
    pub(crate) fn new(words: W) -> Self {
        let free = (0..words.members() as u32).rev().collect();
        Self { words, free }
    }

    /// Entries in the table.
    pub(crate) fn len(&self) -> usize {
        self.capacity() - self.free.len()
    }

    /// How many entries there may be.
    pub(crate) fn capacity(&self) -> usize {
        self.words.members()
    }

    /// How often the table has been written, on top of the version that it started at.
    pub(crate) fn version(&self) -> u64 {
        self.words.whole().load(Ordering::Relaxed)
    }

    /// Gives a key a value; the version at which it has it. The caller then looks for sleepers.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<u64, TableFull> {
        let version = self.version() + 1;
        let cell = match self.find(key) {
            Place::Entry { cell, .. } => {
                let buffer = 1 - self.word(cell).buffer();
                self.write(cell, buffer, None, value);
                self.publish(cell, CellWord::entry(version, buffer));
                cell
            }
            Place::Vacant { slot, tag } => {
                let cell = self.free.pop().ok_or(TableFull { capacity: self.capacity() })? as usize;
                self.write(cell, 0, Some(key), value);
                // Before the word: who finds the entry among the cells finds it by its key, too.
                self.words.slot(slot).store(SlotEntry::new(tag, cell).0, Ordering::Release);
                self.publish(cell, CellWord::entry(version, 0));
                cell
            }
        };
        raise(&self.words, cell, 1);
        Ok(version)
    }

    /// Removes a key; whether it was there. The caller then looks for sleepers.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Place::Entry { slot, cell } = self.find(key) else { return false };
        // Before the index: from here on it is there for nobody.
        self.publish(cell, CellWord::free(self.version() + 1));
        self.close_gap(slot);
        self.free.push(cell as u32);
        raise(&self.words, cell, 1);
        true
    }

    /// For tests of readers, whom a writer may do anything to.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn words(&self) -> &W {
        &self.words
    }

    fn word(&self, cell: usize) -> CellWord {
        CellWord(self.words.cell(cell).load(Ordering::Relaxed))
    }

    /// Writes a buffer that no word names, and the key of a cell that has none.
    fn write(&self, cell: usize, buffer: usize, key: Option<&[u8]>, value: &[u8]) {
        // Pairs with the reader's Acquire fence between its copy and its second look at the word: who has copied a byte
        // of what follows sees what the word has become since that buffer, or that key, was its own.
        fence(Ordering::Release);
        if let Some(key) = key {
            self.words.put_key(cell, key);
        }
        self.words.put_value(cell, buffer, value);
    }

    /// Says what is in a cell: this one store has an entry come, change or go.
    fn publish(&self, cell: usize, word: CellWord) {
        // Release: pairs with the reader's Acquire, and hands over key, value and slot.
        self.words.cell(cell).store(word.0, Ordering::Release);
    }

    fn slot(&self, slot: usize) -> SlotEntry {
        SlotEntry(self.words.slot(slot).load(Ordering::Relaxed))
    }

    fn find(&self, key: &[u8]) -> Place {
        let (tag, mask) = (tag_of(key), self.words.slots() - 1);
        let mut slot = tag as usize & mask;
        loop {
            let entry = self.slot(slot);
            // There are more slots than cells.
            if entry == SlotEntry::EMPTY {
                return Place::Vacant { slot, tag };
            }
            let cell = entry.cell() as usize;
            if entry.tag() == tag && self.words.has_key(cell, key) {
                return Place::Entry { slot, cell };
            }
            slot = (slot + 1) & mask;
        }
    }

    /// A slot is of no use any more: those after it that may come closer to where they belong do.
    fn close_gap(&self, mut gap: usize) {
        let mask = self.words.slots() - 1;
        let mut slot = (gap + 1) & mask;
        loop {
            let entry = self.slot(slot);
            if entry == SlotEntry::EMPTY {
                break;
            }
            let from_home = slot.wrapping_sub(entry.tag() as usize) & mask;
            if from_home >= slot.wrapping_sub(gap) & mask {
                self.words.slot(gap).store(entry.0, Ordering::Release);
                // After the copy and before its old place is used again: a reader that missed the one, and finds the
                // other gone, sees this.
                let moved = self.words.moved();
                moved.store(moved.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
                gap = slot;
            }
            slot = (slot + 1) & mask;
        }
        self.words.slot(gap).store(SlotEntry::EMPTY.0, Ordering::Release);
    }
}
