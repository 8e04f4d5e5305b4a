//! A reader of a table.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::error::TableReadError;
use super::told::Told;
use super::view::TableView;
use crate::message::board::{BoardInlet, Sources, Watch};
use crate::message::error::{ReceiveError, Refused, WaitError};
use crate::message::event::Event;
use crate::message::payload::Message;
use crate::message::wait_set::waitable;
use crate::node::{EndpointError, EndpointId, Inlet};
use crate::os::clock::Deadline;
use crate::sync::board::{Change, ReadFault};

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableEntry<K, V> {
    /// The key.
    pub key: K,
    /// Its value.
    pub value: V,
    /// The version of the table at which the key got this value.
    pub version: u64,
}

/// Something that has happened to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableChange<K, V> {
    /// A key has another value, or the same again.
    Set(TableEntry<K, V>),
    /// A key is not there any more.
    Removed(K),
}

/// Reads the entries of a table, made by [`Table::reader`](super::Table::reader).
///
/// Values are copied out where the writer has them, without a system call, a lock or an allocation, and without the
/// writer's noticing. When the writer has left or died, its entries stay until another one has written something.
pub struct TableReader<K, V> {
    pub(super) watch: Watch<TableView>,
    boards: Boards,
    /// What has been told of changes.
    told: Option<Told>,
    entries: PhantomData<fn() -> (K, V)>,
}

/// Which of the boards is read.
struct Boards {
    /// The memory of a writer that is no more.
    kept: Option<TableView>,
    /// The version that the last look found.
    version: u64,
    /// That which the program was last told of.
    seen: u64,
}

impl Boards {
    /// Brings everything up to date; whether the program has not been told of the version that there is then.
    fn gather(&mut self, sources: &mut Sources<TableView>, inlet: &BoardInlet<TableView>) -> bool {
        self.settle(sources, inlet);
        sources.views().for_each(|view| view.seen = view.reader.version());
        self.version = self.best(sources).map_or(0, |view| view.version());
        self.version > self.seen
    }

    /// Notes which writers have gone, and lets go of what they have left once another has written something.
    #[inline]
    fn settle(&mut self, sources: &mut Sources<TableView>, inlet: &BoardInlet<TableView>) {
        let kept = &mut self.kept;
        let keep = |_, view: TableView| {
            if kept.as_ref().is_none_or(|kept| kept.version() < view.version()) {
                *kept = Some(view);
            }
        };
        sources.visit(inlet, |_, _| Ok(()), keep);
        if self.kept.is_some() || sources.len() > 1 || inlet.keeper.is_held() {
            self.supersede(sources, inlet);
        }
    }

    #[cold]
    fn supersede(&mut self, sources: &mut Sources<TableView>, inlet: &BoardInlet<TableView>) {
        let writers = sources.views().filter(|view| !view.is_relayed);
        let newest = writers.map(|view| view.version()).max().unwrap_or(0);
        if newest == 0 {
            return;
        }
        self.kept.take_if(|kept| kept.version() < newest);
        sources.retain(|_, view| !view.is_relayed || view.version() > newest);
        if inlet.keeper.is_superseded(newest) {
            inlet.berth.node.shared().retire_relay(inlet.id());
        }
    }

    /// The board with the newest version.
    #[inline]
    fn best<'a>(&'a mut self, sources: &'a mut Sources<TableView>) -> Option<&'a mut TableView> {
        if self.kept.is_none() && sources.len() == 1 {
            return sources.views().next();
        }
        sources.views().chain(&mut self.kept).max_by_key(|view| view.version())
    }

    /// Nothing of this writer's is read any more.
    fn disown(&mut self, sources: &mut Sources<TableView>, writer: EndpointId) {
        sources.retain(|of, _| of != writer);
        self.kept.take_if(|kept| kept.writer == writer);
    }
}

impl<K: Message, V: Message> TableReader<K, V> {
    pub(super) fn new(watch: Watch<TableView>) -> Self {
        let boards = Boards { kept: None, version: 0, seen: 0 };
        Self { watch, boards, told: None, entries: PhantomData }
    }

    /// The value of a key; `None` if the key is not there. Never blocks.
    ///
    /// # Errors
    /// [`TableReadError::Busy`] if the writer changes the entry without pause: a thousand attempts in a row were overtaken;
    /// [`TableReadError::Endpoint`] in a forked child.
    #[inline]
    pub fn get(&mut self, key: &K) -> Result<Option<V>, TableReadError> {
        let mut value = V::new_zeroed();
        Ok(self.get_into(key, &mut value)?.map(|_| value))
    }

    /// As [`TableReader::get`], into memory of the program's: the version at which the key got this value, or `None` if the key
    /// is not there. What is then in `value` is no value.
    ///
    /// # Errors
    /// As [`TableReader::get`].
    #[inline]
    pub fn get_into(&mut self, key: &K, value: &mut V) -> Result<Option<u64>, TableReadError> {
        let found = self.read(|view, _| view.reader.get(key.as_bytes(), value.as_mut_bytes()))?;
        Ok(found.flatten())
    }

    /// All entries, in no order. Each is whole; where the writer goes on meanwhile, they need not all have been there at one and
    /// the same time, but a key that was there all the while is among them, once.
    ///
    /// # Errors
    /// As [`TableReader::get`].
    pub fn entries(&mut self) -> Result<Vec<TableEntry<K, V>>, TableReadError> {
        let all = self.read(|view, _| {
            let mut all = Vec::new();
            view.reader.entries(|key, value, version| all.extend(entry(key, value, version)))?;
            Ok(all)
        })?;
        Ok(all.unwrap_or_default())
    }

    /// As [`TableReader::entries`], one by one, with the version at which each key got its value: for values that are large, as no
    /// more than one of them lies in memory of the reader's.
    ///
    /// # Errors
    /// As [`TableReader::get`]; some entries have been told by then.
    pub fn for_each(&mut self, mut tell: impl FnMut(&K, &V, u64)) -> Result<(), TableReadError> {
        let mut key = K::new_zeroed();
        let Ok(mut value) = V::new_box_zeroed() else {
            return Err(self.failed(EndpointError::System {
                action: format!("allocate {} B for a value", size_of::<V>()),
                source: Errno::NOMEM,
            }));
        };
        let told = self.read(|view, _| {
            view.reader.entries(|key_bytes, value_bytes, version| {
                key.as_mut_bytes().copy_from_slice(key_bytes);
                value.as_mut_bytes().copy_from_slice(value_bytes);
                tell(&key, &value, version);
            })
        });
        told.map(|_| ())
    }

    /// What has changed since the last call, at first all entries: of each key the newest value, or that it is not there any
    /// more. Who applies them all has the table, as it was when nothing was changing. Several changes of one key are one; that a
    /// key was removed may be told again. Costs a look at those groups of 64 entries in which something has changed.
    ///
    /// The first call makes memory for the keys of all entries that there may be.
    ///
    /// # Errors
    /// As [`TableReader::get`]. Nothing is lost by that: the next call goes on.
    pub fn changes(&mut self) -> Result<Vec<TableChange<K, V>>, TableReadError> {
        let seen = self.boards.seen;
        // As a look: what comes after it makes the descriptor readable.
        self.poll_once().map_err(|source| self.failed(source))?;
        let mut changes = Vec::new();
        let outcome = self.read(|view, told| {
            let told = Told::of(told, view);
            told.follow(view, |change| match change {
                Change::Set { key, value, version } => {
                    changes.extend(entry(key, value, version).map(TableChange::Set));
                }
                Change::Removed { key } => {
                    changes.extend(K::read_from_bytes(key).ok().map(TableChange::Removed));
                }
            })
        });
        if outcome.is_err() {
            // There is more to be told.
            self.boards.seen = seen;
        }
        match outcome {
            // What has been told before it came to that is not told again.
            Err(TableReadError::Busy { .. }) if !changes.is_empty() => Ok(changes),
            outcome => outcome.map(|_| changes),
        }
    }

    /// Does this with the board that is read, and with what has been told of changes. `None` if there is none. Whose rules are
    /// broken is read no more.
    #[inline]
    fn read<R>(
        &mut self,
        mut act: impl FnMut(&mut TableView, &mut Option<Told>) -> Result<R, ReadFault>,
    ) -> Result<Option<R>, TableReadError> {
        let Self { watch, boards, told, .. } = self;
        let mut outcome = Ok(None);
        let mut look = |sources: &mut Sources<TableView>, inlet: &BoardInlet<TableView>| {
            boards.settle(sources, inlet);
            while let Some(view) = boards.best(sources) {
                match act(view, told) {
                    Ok(found) => outcome = Ok(Some(found)),
                    Err(ReadFault::Busy) => {
                        outcome = Err(TableReadError::Busy { table: inlet.channel().shared() });
                    }
                    Err(ReadFault::Violation(violation)) => {
                        let writer = view.writer;
                        inlet.accuse(writer, view, &violation);
                        boards.disown(sources, writer);
                        continue;
                    }
                }
                break;
            }
            false
        };
        match watch.poll(&mut look) {
            Ok(_) => outcome,
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: EndpointError) -> TableReadError {
        TableReadError::Endpoint { table: self.watch.inlet().channel().shared(), source }
    }

    /// The version of the table, which rises with every write, whoever writes; 0 if nothing was ever written. What was
    /// written up to it is found by those who look after this.
    ///
    /// # Errors
    /// [`TableReadError::Endpoint`] in a forked child.
    pub fn version(&mut self) -> Result<u64, TableReadError> {
        Ok(self.read(|view, _| Ok(view.version()))?.unwrap_or(0))
    }

    /// Whether the table has a version that neither this call, nor [`TableReader::changed`] or [`TableReader::changes`], has
    /// told of. Never blocks, and makes no system call unless [`TableReader::as_fd`] is used.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] in a forked child.
    pub fn try_changed(&mut self) -> Result<bool, ReceiveError> {
        self.poll_once().map_err(|source| self.watch.failed(source))
    }

    fn poll_once(&mut self) -> Result<bool, EndpointError> {
        let Self { watch, boards, .. } = self;
        let is_there = watch.poll_once(&mut |sources: &mut _, inlet: &_| boards.gather(sources, inlet))?;
        Ok(self.tell(is_there))
    }

    /// Waits until the table has a version that has not been told of, no longer than `timeout`; whether it has. Looks briefly,
    /// then sleeps until the writer wakes it.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`] when it would have to wait after a `cancel` or `shutdown`; [`ReceiveError::Endpoint`] if the
    /// node has no control thread, and driving it failed, or in a forked child.
    pub fn changed(&mut self, timeout: Duration) -> Result<bool, ReceiveError> {
        let Self { watch, boards, .. } = self;
        let deadline = || Deadline::after(timeout);
        let mut look = |sources: &mut _, inlet: &_| boards.gather(sources, inlet);
        let is_there = watch.poll_until(&mut look, deadline)?;
        Ok(self.tell(is_there))
    }

    /// As [`TableReader::changed`], for a task: pending until there is such a version. It works on any runtime, as the node's
    /// control thread wakes it; a node without one has to be dispatched.
    ///
    /// # Errors
    /// As [`TableReader::changed`].
    pub async fn changed_async(&mut self) -> Result<(), ReceiveError> {
        let Self { watch, boards, .. } = self;
        let mut look = |sources: &mut _, inlet: &_| boards.gather(sources, inlet);
        poll_fn(|context| watch.poll_task(&mut look, context)).await?;
        self.tell(true);
        Ok(())
    }

    fn tell(&mut self, is_there: bool) -> bool {
        if is_there {
            self.boards.seen = self.boards.version;
        }
        is_there
    }

    /// A descriptor for somebody else's poll or epoll loop: readable when the table may have changed, or there may be events,
    /// and at first. A loop that it wakes calls [`TableReader::changes`] or [`TableReader::try_changed`] until there is nothing,
    /// and [`TableReader::try_event`] if it wants events, before it waits again. It stays the same, must only be waited for, and
    /// is closed with the reader.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] if there is no descriptor left.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, ReceiveError> {
        self.watch.descriptor()
    }

    /// Whether there are entries, or were, and no writer: it has left, or died, and none has come since.
    pub fn is_orphaned(&self) -> bool {
        !self.has_writer() && self.watch.inlet().keeper.newest() > 0
    }

    /// Whether a writer is connected.
    pub fn has_writer(&self) -> bool {
        self.watch.inlet().connected() > 0
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.watch.inlet().id()
    }

    /// The writers that came later and could not be joined, because of other types for instance, and why; the last 64 of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.watch.inlet().refusals()
    }

    /// The next event that has not been asked for: writers that come, go or cannot be connected. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.watch.inlet().events.take()
    }

    /// As [`TableReader::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.watch.wait_for_event(timeout)
    }

    /// A handle for other threads, to end the reader's waits.
    pub fn handle(&self) -> TableReaderHandle {
        TableReaderHandle { inlet: Arc::clone(self.watch.inlet()) }
    }
}

/// An entry of these bytes, which have the lengths of their types.
fn entry<K: Message, V: Message>(key: &[u8], value: &[u8], version: u64) -> Option<TableEntry<K, V>> {
    let (key, value) = (K::read_from_bytes(key).ok()?, V::read_from_bytes(value).ok()?);
    Some(TableEntry { key, value, version })
}

impl<K, V> fmt::Debug for TableReader<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TableReader").field("watch", &self.watch).finish_non_exhaustive()
    }
}

// A reader is ready when the table has a version that it has not told of.
waitable!([K: Message, V: Message] TableReader<K, V>, watch, |reader: &mut Self| {
    let Self { watch, boards, .. } = reader;
    watch.look(&mut |sources: &mut _, inlet: &_| boards.gather(sources, inlet))
});

/// A reader seen from other threads, made by [`TableReader::handle`].
#[derive(Clone)]
pub struct TableReaderHandle {
    inlet: Arc<BoardInlet<TableView>>,
}

impl TableReaderHandle {
    /// Ends the reader's waits with `Closed`, the one it may be in and any that it would begin. What is there can still be
    /// read.
    pub fn cancel(&self) {
        self.inlet.berth.cancel();
    }
}

impl fmt::Debug for TableReaderHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TableReaderHandle")
            .field("table", self.inlet.channel())
            .finish_non_exhaustive()
    }
}
