//! The one who writes a table.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::error::TableWriteError;
use crate::message::board::BoardShared;
use crate::message::error::{Refused, WaitError};
use crate::message::event::Event;
use crate::message::payload::Message;
use crate::message::state::{Base, epoch_to_reserve, is_look_due};
use crate::node::{Claim, EndpointError, EndpointId, Node, Outlet};
use crate::sync::board::{self as cells, TableFull, TableMemory};

/// Writes the entries of a table, made by [`Table::writer`](super::Table::writer): the only one in the domain, until it is
/// dropped or its process ends.
///
/// Writing waits for nobody, and costs the same whatever the number of readers: a few stores and copies, no system call
/// unless a reader sleeps, no lock, no allocation. A writer that is killed while it writes leaves each value as it was set
/// before. A forked child does not keep its parent's writer alive.
pub struct TableWriter<K, V> {
    pub(super) cells: cells::TableWriter<TableMemory>,
    base: Base,
    shared: Arc<BoardShared>,
    /// Keeps the node open.
    _node: Node,
    // After the endpoint has left.
    claim: Claim,
    entries: PhantomData<fn(&K, &V)>,
}

impl<K: Message, V: Message> TableWriter<K, V> {
    pub(super) fn open(
        node: &Node,
        shared: BoardShared,
        cells: cells::TableWriter<TableMemory>,
        claim: Claim,
        base: Base,
    ) -> Result<Self, EndpointError> {
        let shared = Arc::new(shared);
        let writer = Self { cells, base, shared, _node: node.clone(), claim, entries: PhantomData };
        node.shared().add_outlet(Arc::clone(&writer.shared) as Arc<dyn Outlet>)?;
        Ok(writer)
    }

    /// Gives a key a value, in place of the one that it has, if it has one.
    ///
    /// # Errors
    /// [`TableWriteError::Full`] if the key is new and all entries are taken; [`TableWriteError::Closed`] after a `cancel` or
    /// `shutdown`; [`TableWriteError::Endpoint`] in a forked child.
    #[inline]
    pub fn set(&mut self, key: &K, value: &V) -> Result<(), TableWriteError> {
        self.check_open()?;
        let written = self.cells.set(key.as_bytes(), value.as_bytes());
        written.map_err(|TableFull { capacity }| TableWriteError::Full { table: self.table(), capacity })?;
        self.note_written();
        Ok(())
    }

    /// Removes a key with its value; whether it was there.
    ///
    /// # Errors
    /// [`TableWriteError::Closed`] and [`TableWriteError::Endpoint`].
    pub fn remove(&mut self, key: &K) -> Result<bool, TableWriteError> {
        self.check_open()?;
        let was_there = self.cells.remove(key.as_bytes());
        if was_there {
            self.note_written();
        }
        Ok(was_there)
    }

    #[inline]
    fn check_open(&self) -> Result<(), TableWriteError> {
        if self.shared.is_open() { Ok(()) } else { Err(self.unusable()) }
    }

    #[cold]
    fn unusable(&self) -> TableWriteError {
        let table = self.table();
        if self.shared.is_inherited() {
            return TableWriteError::Endpoint { table, source: EndpointError::Forked };
        }
        TableWriteError::Closed { table }
    }

    fn table(&self) -> Arc<str> {
        self.shared.channel().shared()
    }

    #[inline]
    fn note_written(&mut self) {
        self.shared.wake_sleepers();
        if is_look_due(self.written()) {
            self.reserve();
        }
    }

    /// How often it has been written.
    #[inline]
    fn written(&self) -> u64 {
        self.cells.version() - self.base.version_after(0)
    }

    /// Epochs do not last for ever: takes the next one along in time, so that who comes after us starts above it.
    #[cold]
    fn reserve(&mut self) {
        // What cannot be written now is tried again, after 2^39 writes more.
        let _ = self.claim.raise_to(epoch_to_reserve(self.base, self.written()));
    }

    /// The version of the table: it rises with every write, from writer to writer. Before the first it is one that no write
    /// has, above those of all writers before.
    pub fn version(&self) -> u64 {
        self.cells.version()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries there may be.
    pub fn capacity(&self) -> usize {
        self.cells.capacity()
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.shared.id()
    }

    /// How many readers are connected.
    pub fn readers(&self) -> usize {
        self.shared.readers()
    }

    /// Waits until `count` readers have been let in, no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] if that takes longer; [`WaitError::Closed`].
    pub fn wait_for_readers(&mut self, count: usize, timeout: Duration) -> Result<(), WaitError> {
        self.shared.wait_for_readers(count, timeout)
    }

    /// The readers that turned the table down, because of other types for instance, and why; the last 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.shared.refusals()
    }

    /// The next event that has not been asked for: readers that join, leave or turn the table down. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.shared.events.take()
    }

    /// As [`TableWriter::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.shared.wait_for_event(timeout)
    }

    /// A handle for other threads.
    pub fn handle(&self) -> TableWriterHandle {
        TableWriterHandle { shared: Arc::clone(&self.shared) }
    }
}

impl<K, V> Drop for TableWriter<K, V> {
    fn drop(&mut self) {
        self.shared.node().remove_outlet(self.shared.id());
    }
}

impl<K, V> fmt::Debug for TableWriter<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("TableWriter");
        fields.field("table", self.shared.channel()).field("len", &self.cells.len()).finish_non_exhaustive()
    }
}

/// A writer seen from other threads, made by [`TableWriter::handle`].
#[derive(Clone)]
pub struct TableWriterHandle {
    shared: Arc<BoardShared>,
}

impl TableWriterHandle {
    /// Ends the writer's waits with `Closed`, the one it may be in and any that it would begin. It writes no more.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// How many readers are connected.
    pub fn readers(&self) -> usize {
        self.shared.readers()
    }
}

impl fmt::Debug for TableWriterHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TableWriterHandle")
            .field("table", self.shared.channel())
            .finish_non_exhaustive()
    }
}
