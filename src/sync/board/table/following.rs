//! What has changed in a table since the last look.

use std::collections::HashSet;

use super::reader::Attempts;
use super::{CellWord, ReadFault, TableReader};
use crate::sync::board::summary::Seen;
use crate::sync::board::{TableWords, rise};

/// Something that has happened to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// A key has this value, since this version.
    Set { key: &'a [u8], value: &'a [u8], version: u64 },
    /// A key is not there any more.
    Removed { key: &'a [u8] },
}

/// A reader's memory of what it has been told: of each cell its word, and the key of its entry.
#[derive(Debug)]
pub(crate) struct Following {
    seen: Seen,
    words: Vec<u64>,
    keys: Vec<u8>,
    /// Keys that have been told to be there, though no cell has them that has been told of: of another table's entries, or on
    /// their way from one cell to another.
    astray: HashSet<Box<[u8]>>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Following {
    /// Of a table on which everything is news, for somebody who believes that these keys are there.
    pub(crate) fn new<W: TableWords>(reader: &TableReader<W>, believed: HashSet<Box<[u8]>>) -> Self {
        let words = &reader.words;
        let (cells, key_bytes) = (words.members(), words.key_bytes());
        Self {
            seen: Seen::nothing(words),
            words: vec![0; cells],
            keys: vec![0; cells * key_bytes],
            astray: believed,
            key: vec![0; key_bytes],
            value: vec![0; words.value_bytes()],
        }
    }

    /// Whether something is new. One load.
    #[cfg(test)]
    pub(crate) fn has_news<W: TableWords>(&self, reader: &TableReader<W>) -> bool {
        self.seen.has_news(&reader.words)
    }

    /// The keys that, for all that has been told, are there.
    pub(crate) fn into_believed(self) -> HashSet<Box<[u8]>> {
        let Self { words, keys, key, mut astray, .. } = self;
        let cells = words.iter().enumerate().filter(|(_, word)| CellWord(**word).is_there());
        astray.extend(cells.map(|(cell, _)| Box::from(key_of(&keys, cell, key.len()))));
        astray
    }

    /// Tells what has changed since the last call, the newest value of each key. Once nothing changes any more, and
    /// everything has been told, what was told adds up to the table. That a key was removed may be told twice. What a call
    /// that fails has not told comes with the next.
    pub(crate) fn changes<W: TableWords>(
        &mut self,
        reader: &TableReader<W>,
        mut tell: impl FnMut(Change<'_>),
    ) -> Result<(), ReadFault> {
        let Self { seen, words, keys, astray, key, value } = self;
        let key_bytes = key.len();
        let followed = seen.follow(&reader.words, |cells| {
            for cell in cells {
                let last = CellWord(words[cell]);
                if reader.peek(cell) == last.0 {
                    continue;
                }
                let last_key = &mut keys[cell * key_bytes..][..key_bytes];
                let (word, entry) = reader.copy_entry(cell, key, value, &mut Attempts::new())?;
                rise("the version of a cell", last.version(), CellWord(word).version())?;
                words[cell] = word;
                // It may have come back elsewhere: that is told from there, or has been.
                if last.is_there() && (entry.is_none() || *last_key != key[..]) {
                    astray.insert(Box::from(&*last_key));
                }
                if let Some(version) = entry {
                    last_key.copy_from_slice(key);
                    if !astray.is_empty() {
                        astray.remove(&key[..]);
                    }
                    tell(Change::Set { key, value, version });
                }
            }
            Ok(())
        });
        // Even so: then there are never more of them than cells.
        followed.and(self.look_for_astray(reader, tell))
    }

    /// Tells which of those keys are not there. Where one is, in a cell that is still to be told of, the next call decides.
    fn look_for_astray<W: TableWords>(
        &mut self,
        reader: &TableReader<W>,
        mut tell: impl FnMut(Change<'_>),
    ) -> Result<(), ReadFault> {
        let Self { words, keys, astray, key, .. } = self;
        let mut outcome = Ok(());
        astray.retain(|believed| match reader.locate(believed) {
            Ok(None) => {
                tell(Change::Removed { key: believed });
                false
            }
            Ok(Some(cell)) => {
                !(CellWord(words[cell]).is_there() && key_of(keys, cell, key.len()) == &**believed)
            }
            Err(fault) => {
                outcome = Err(fault);
                true
            }
        });
        outcome
    }
}

fn key_of(keys: &[u8], cell: usize, key_bytes: usize) -> &[u8] {
    &keys[cell * key_bytes..][..key_bytes]
}
