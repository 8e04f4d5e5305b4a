//! The board: memory that one endpoint writes and many read in place, without cursors. Nobody waits for its readers, and
//! what they have not looked at is overwritten: a signal's counters, a table's cells.
//!
//! | Word | Writer | Readers | Edge |
//! |---|---|---|---|
//! | `whole`: a signal's sum, a table's version | the writer, `Release`, after everything else | everybody, `Acquire` | who sees it sees what was written before; one load says that nothing is new |
//! | a group's word | the writer, `Release`, after the member | everybody, `Acquire`, after `whole` and before the members | a member that is raised after its group was read raises the group again |
//! | a counter | the notifier, `Relaxed`, before its group | waiters, `Relaxed`, after its group | covered by the group, or by `whole` where there is only one |
//! | a cell's word | the table's writer, `Release`, after key and value | readers: `Acquire`, key and value, `Acquire` fence, the word again | a seqlock of two buffers, below |
//! | key and value of a cell | the table's writer, after a `Release` fence that follows the word's last change | readers, in between | a reader that sees a byte of what comes next sees the word before it changed |
//! | a slot of the index | the table's writer, `Release`: before the word of an entry that comes, after that of one that goes | readers, `Acquire` | who sees an entry finds its slot; who finds another slot than before sees `moved` |
//! | `moved` | the table's writer, `Release`, between a slot's copy and the reuse of its old place | readers, `Acquire`, before they probe, and again if they find nothing | who misses an entry because it was moved sees that, and looks again |
//!
//! **A cell** has one word, one key and two buffers for its value. The word says whether there is an entry, in which
//! buffer its value is, and at which version it was written. A new value goes into the other buffer, and then the word
//! changes: that one store is what has an entry come, change or go. A writer that dies at any point leaves what was there
//! before it, whole. A reader copies, and believes the copy if
//! the word has not changed; it is disturbed only by a change of the very cell, and tries again a limited number of times.
//! A key is written only while its cell is free.
//!
//! **The index** leads from keys to cells, which stay where they are as long as their entries live. It is probed linearly.
//! When an entry is removed, the slots after it that may come closer to where they belong do (Donald Knuth, *The Art of
//! Computer Programming*, 6.4, algorithm R), so that what was removed leaves nothing behind.
//!
//! Everything that a reader loads is an allegation: it bounds every loop by the shape that was agreed upon, and indices
//! by a check.

#[cfg(not(loom))]
mod memory;
#[cfg(all(loom, test))]
mod model;
mod shape;
mod signal;
mod summary;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

use super::door::AtomicU64;
#[cfg(not(loom))]
pub(crate) use memory::{SignalMemory, TableMemory};
pub(crate) use shape::{SignalShape, TableShape};
pub(crate) use signal::{Notifying, Watching};
pub(crate) use table::{Change, Following, ReadFault, TableFull, TableReader, TableWriter};

/// The words of a board that say where something is new.
pub(crate) trait BoardWords {
    /// Changes with everything.
    fn whole(&self) -> &AtomicU64;
    /// Changes with the members of a group. Boards of one group have none.
    fn group(&self, index: usize) -> &AtomicU64;
    /// Counters or cells.
    fn members(&self) -> usize;
}

/// The words of a signal.
pub(crate) trait SignalWords: BoardWords {
    /// How often an id, which is below the number of members, has been notified.
    fn counter(&self, id: usize) -> &AtomicU64;
}

/// The words of a table. Cells and slots are below their numbers.
pub(crate) trait TableWords: BoardWords {
    fn cell(&self, cell: usize) -> &AtomicU64;
    fn moved(&self) -> &AtomicU64;
    fn slot(&self, slot: usize) -> &AtomicU64;
    /// Slots of the index, a power of two.
    fn slots(&self) -> usize;
    fn key_bytes(&self) -> usize;
    fn value_bytes(&self) -> usize;
    /// Whether a cell has this key. It may be changing.
    fn has_key(&self, cell: usize, key: &[u8]) -> bool;
    /// Copies a cell's key, which may be changing.
    fn copy_key(&self, cell: usize, to: &mut [u8]);
    /// Copies a buffer, which may be changing.
    fn copy_value(&self, cell: usize, buffer: usize, to: &mut [u8]);
    /// Writes the key of a cell of our own.
    fn put_key(&self, cell: usize, key: &[u8]);
    /// Writes a buffer of a cell of our own.
    fn put_value(&self, cell: usize, buffer: usize, value: &[u8]);
}

/// What no correct writer leaves on a board.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BoardViolation {
    /// A word that only rises fell.
    #[error("{what} fell from {from} to {to}")]
    Fell { what: &'static str, from: u64, to: u64 },
    /// The index leads out of the table.
    #[error("the index names cell {cell} of {cells}")]
    Cell { cell: u64, cells: usize },
}

/// By how much a word that only rises has risen. It may come round, but not by half of its range between two looks.
fn rise(what: &'static str, from: u64, to: u64) -> Result<u64, BoardViolation> {
    let rise = to.wrapping_sub(from);
    if rise <= i64::MAX as u64 { Ok(rise) } else { Err(BoardViolation::Fell { what, from, to }) }
}
