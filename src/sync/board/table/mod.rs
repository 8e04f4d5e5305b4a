//! The two ends of a table of values by key: cells that one writer writes, and an index that leads to them.

mod following;
mod reader;
mod writer;

pub(crate) use following::{Change, Following};
pub(crate) use reader::{ReadFault, TableReader};
pub(crate) use writer::{TableFull, TableWriter};

use crate::layout::board::{
    CELL_BUFFER, CELL_THERE, CELL_VERSION_SHIFT, HASH_BASIS, HASH_PRIME, INDEX_TAG_SHIFT,
};

/// The words of a key, little-endian, the last one filled up with zeros.
pub(in crate::sync::board) fn words_of(key: &[u8]) -> impl Iterator<Item = u64> {
    key.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

/// What a key is found by: its slot's number is this modulo the number of slots, or one of the next.
pub(in crate::sync::board) fn tag_of(key: &[u8]) -> u32 {
    let hash = words_of(key).fold(HASH_BASIS, |hash, word| {
        let mixed = (hash ^ word).wrapping_mul(HASH_PRIME);
        mixed ^ (mixed >> 32)
    });
    (hash.wrapping_mul(HASH_PRIME) >> 32) as u32
}

/// The value of a cell's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CellWord(u64);

impl CellWord {
    /// An entry that was written at this version, with its value in this buffer.
    fn entry(version: u64, buffer: usize) -> Self {
        Self(version << CELL_VERSION_SHIFT | if buffer == 0 { 0 } else { CELL_BUFFER } | CELL_THERE)
    }

    /// A cell whose entry was removed at this version.
    fn free(version: u64) -> Self {
        Self(version << CELL_VERSION_SHIFT)
    }

    fn is_there(self) -> bool {
        self.0 & CELL_THERE != 0
    }

    fn buffer(self) -> usize {
        usize::from(self.0 & CELL_BUFFER != 0)
    }

    fn version(self) -> u64 {
        self.0 >> CELL_VERSION_SHIFT
    }
}

/// The value of a slot of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotEntry(u64);

impl SlotEntry {
    const EMPTY: Self = Self(0);

    fn new(tag: u32, cell: usize) -> Self {
        Self(u64::from(tag) << INDEX_TAG_SHIFT | (cell as u64 + 1))
    }

    fn tag(self) -> u32 {
        (self.0 >> INDEX_TAG_SHIFT) as u32
    }

    /// The cell; an allegation until compared with the number of cells.
    fn cell(self) -> u64 {
        (self.0 & ((1 << INDEX_TAG_SHIFT) - 1)).wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_these_values() {
        assert_eq!(tag_of(b""), (HASH_BASIS.wrapping_mul(HASH_PRIME) >> 32) as u32);
        assert_eq!(tag_of(b"a"), tag_of(b"a\0\0\0\0\0\0\0"), "keys of one table have one length");
        assert_eq!([tag_of(b"tidepost"), tag_of(&1u64.to_le_bytes()), tag_of(&[7; 20])], GOLDEN);
    }

    /// So that nobody changes the hash, on which readers and writers agree, unnoticed.
    const GOLDEN: [u32; 3] = [2_340_623_759, 1_606_346_407, 664_487_582];

    #[test]
    fn tags_of_like_keys_spread() {
        for shift in [0, 8, 32, 52] {
            let slots: std::collections::HashSet<u32> =
                (0u64..1024).map(|key| tag_of(&(key << shift).to_le_bytes()) & 0xfff).collect();
            // Of 1,024 balls in 4,096 urns about 906 urns have some.
            assert!(slots.len() > 850, "{} slots at shift {shift}", slots.len());
        }
    }

    #[test]
    fn words_give_back_what_was_put_in() {
        let word = CellWord::entry(7, 1);
        assert_eq!((word.0, word.is_there(), word.buffer(), word.version()), (31, true, 1, 7));
        assert_eq!(CellWord::free(7), CellWord(28));
        let slot = SlotEntry::new(9, 4);
        assert_eq!((slot.0, slot.tag(), slot.cell()), (0x9_0000_0005, 9, 4));
        assert_eq!(SlotEntry(0x9_0000_0000).cell(), u64::MAX);
    }
}
