//! A table and its options: where its writer and its readers are made.

mod error;
mod estate;
mod reader;
#[cfg(test)]
mod tests;
mod told;
mod view;
mod writer;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

pub use error::{TableError, TableReadError, TableWriteError};
pub use reader::{TableChange, TableEntry, TableReader, TableReaderHandle};
pub use writer::{TableWriter, TableWriterHandle};

use super::board::{self, BoardShared, Origin, Watch};
use super::payload::{Message, Payload};
use super::state::Base;
use crate::layout::board::{TABLE_CELLS_MAX, TABLE_KEY_BYTES_MAX, TABLE_VALUE_BYTES_MAX};
use crate::node::claiming;
use crate::node::{Channel, Node, Pattern, Shape, TypeDescriptor};
use crate::sync::board::{self as cells, TableMemory, TableShape};

/// Entries of a table, unless chosen.
const CAPACITY: u32 = 1024;

/// A table of a node: the latest value of each of many keys, which one endpoint of the whole domain writes and any number read
/// in place.
///
/// Keys and values are plain data of a fixed size, and the table has room for a fixed number of entries. Keys are compared
/// byte by byte. A value is always read whole: as it was set, not half of one and half of the next. The entries outlive
/// their writer as long as a reader lives, for readers that come later too.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-table-{}", std::process::id()));
/// # let node = tidepost::Node::builder().directory(&directory).open()?;
/// let mut writer = node.table::<u32, [f64; 2]>("boats").capacity(100).writer()?;
/// let mut reader = node.table::<u32, [f64; 2]>("boats").reader()?;
/// writer.set(&7, &[53.5, 9.9])?;
/// writer.set(&8, &[54.1, 8.2])?;
/// writer.set(&7, &[53.6, 9.8])?;
/// assert_eq!(reader.get(&7)?, Some([53.6, 9.8]));
/// writer.remove(&8)?;
/// assert_eq!(reader.get(&8)?, None);
/// # drop((writer, reader, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a table does nothing until its writer or a reader is made"]
pub struct Table<'a, K, V> {
    node: &'a Node,
    name: &'a str,
    capacity: u32,
    entries: PhantomData<fn(&K, &V)>,
}

// By hand, as a derive would ask the same of keys and values.
impl<K, V> Clone for Table<'_, K, V> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<K, V> fmt::Debug for Table<'_, K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Table");
        fields.field("name", &self.name).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

impl Node {
    /// The table `name`, whose keys are of type `K` and whose values are of type `V`. Nothing happens until an endpoint is
    /// made.
    pub fn table<'a, K: Message, V: Message>(&'a self, name: &'a str) -> Table<'a, K, V> {
        Table { node: self, name, capacity: CAPACITY, entries: PhantomData }
    }
}

impl<K: Message, V: Message> Table<'_, K, V> {
    /// For a writer: how many entries there may be, at most 1,048,576; 1,024 unless chosen. All of the memory is taken when the
    /// writer is made: each entry has room for its key, two values and some 24 bytes, rounded up to 64.
    pub fn capacity(self, entries: u32) -> Self {
        Self { capacity: entries, ..self }
    }

    /// The writer of this table, which is empty at first. Readers go on with what an earlier writer has left until it has
    /// written something. Returns once the readers that are there have been let in, within half a second.
    ///
    /// # Errors
    /// [`TableError::Claimed`] if somebody else is its writer; others if the name, an option or the types cannot be used, or
    /// memory runs out.
    pub fn writer(self) -> Result<TableWriter<K, V>, TableError> {
        self.writer_timeout(Duration::ZERO)
    }

    /// As [`Table::writer`], waiting no longer than `timeout` for another writer to leave or die. It looks every five
    /// milliseconds, and stops at a [`Node::shutdown`].
    ///
    /// # Errors
    /// As [`Table::writer`].
    pub fn writer_timeout(self, timeout: Duration) -> Result<TableWriter<K, V>, TableError> {
        let channel = self.channel()?;
        let table = channel.shared();
        check("capacity", self.capacity.into(), 1, TABLE_CELLS_MAX.into(), &table)?;
        self.check_sizes(&table)?;
        let (key, value) = (size_of::<K>() as u32, size_of::<V>() as u32);
        let shape = TableShape::new(self.capacity, key, value, board::next_place());
        let shape = shape.expect("each number has been checked");
        let claimed = claiming::claim(self.node, &channel, timeout);
        let claim = claimed.map_err(|error| TableError::of_claim(error, &table))?;
        let base = Base::of_writer(claim.epoch());
        let failed = |source| TableError::Segment { table: Arc::clone(&table), source };
        // The last version of all writers before.
        let (memory, created) = TableMemory::create(shape, base.version_after(0)).map_err(failed)?;
        let counted = memory.clone();
        let origin = Origin {
            descriptor: descriptor::<K, V>(),
            members: self.capacity,
            stride: shape.stride() as u32,
            line_offset: shape.line_offset(),
            base,
            memory: created.memory,
            figures: Box::new(move || counted.version() - base.version_after(0)),
        };
        let unable = |source| TableError::Endpoint { table: Arc::clone(&table), source };
        let shared = BoardShared::open(self.node, channel, origin).map_err(unable)?;
        TableWriter::open(self.node, shared, cells::TableWriter::new(memory), claim, base).map_err(unable)
    }

    /// A reader of this table. Returns once it has been let in by the writer, or by readers that keep what an earlier one has
    /// left, within half a second.
    ///
    /// # Errors
    /// [`TableError`] if the name or the types cannot be used, memory runs out, or the writer has other types.
    pub fn reader(self) -> Result<TableReader<K, V>, TableError> {
        let channel = self.channel()?;
        let table = channel.shared();
        self.check_sizes(&table)?;
        let unable = |source| TableError::Endpoint { table: Arc::clone(&table), source };
        let watch = Watch::open(self.node, channel, Some(descriptor::<K, V>())).map_err(unable)?;
        match watch.inlet().refusals().into_iter().next().map(Box::new) {
            None => Ok(TableReader::new(watch)),
            Some(refused) if refused.difference.is_some() => Err(TableError::TypeMismatch { table, refused }),
            Some(refused) => Err(TableError::Refused { table, refused }),
        }
    }

    fn channel(&self) -> Result<Channel, TableError> {
        Ok(Channel::new(Pattern::Table, self.name)?)
    }

    fn check_sizes(&self, table: &Arc<str>) -> Result<(), TableError> {
        check("the size of a key", size_of::<K>() as u64, 0, TABLE_KEY_BYTES_MAX.into(), table)?;
        check("the size of a value", size_of::<V>() as u64, 0, TABLE_VALUE_BYTES_MAX.into(), table)
    }
}

fn check(
    option: &'static str,
    value: u64,
    least: u64,
    most: u64,
    table: &Arc<str>,
) -> Result<(), TableError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(TableError::Option { table: Arc::clone(table), option, value, least, most })
}

/// The fields of an entry in the handshake.
const KEY: &str = "key";
const VALUE: &str = "value";

/// What an entry is in the handshake: its key and its value, each with its fields.
fn descriptor<K: Message, V: Message>() -> TypeDescriptor {
    let of = |descriptor: Option<TypeDescriptor>| descriptor.expect("messages describe themselves");
    let (key, value) = (of(<K as Payload>::descriptor()), of(<V as Payload>::descriptor()));
    let value_offset = (key.size as usize).next_multiple_of(8);
    let mut fields = TypeDescriptor::nested_fields(KEY, 0, &key);
    fields.extend(TypeDescriptor::nested_fields(VALUE, value_offset, &value));
    TypeDescriptor {
        name: "entry".into(),
        size: value_offset as u64 + value.size,
        align: key.align.max(value.align),
        shape: Shape::One,
        fields,
    }
}
