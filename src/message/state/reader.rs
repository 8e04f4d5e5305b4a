//! A reader of a state: it has the newest value, whenever it looks, and keeps the last when there is no writer any more.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::message::error::{ReceiveError, Refused, WaitError};
use crate::message::event::Event;
use crate::message::inlet::SubscriberShared;
use crate::message::payload::{self, Payload, Untyped};
use crate::message::receiver::Receiver;
use crate::message::trust::{Borrowed, Trust};
use crate::message::wait_set::{Look, waitable};
use crate::node::{EndpointId, Inlet, TypeDescriptor};
use crate::os::clock::Deadline;
use crate::sync::stream::Keepsake;

/// Looks in a row that find something, and nothing newer than what is kept.
const LOOKS_MAX: u32 = 3;

/// Reads the value of a state, made by [`State::reader`](super::State::reader).
///
/// It holds nobody up, neither the writer nor other readers, however long it looks at a value or does not look at all. What
/// it hands out stays as it is until the next call that looks. When the writer leaves or dies the last value stays, and
/// readers that come later get it from those that are there.
///
/// `B` says how far writers are trusted: [`Borrowed`], or [`Copied`](crate::Copied).
pub struct StateReader<T: ?Sized, B = Borrowed> {
    receiver: Receiver,
    kept: Keepsake,
    /// 0 if nothing is kept.
    kept_version: u64,
    /// Of what was handed out last.
    version: u64,
    /// Who wrote what is kept, or passed it on.
    publisher: Option<EndpointId>,
    descriptor: Option<TypeDescriptor>,
    values: PhantomData<fn() -> Box<T>>,
    trust: PhantomData<B>,
}

impl<T: Payload + ?Sized, B: Trust> StateReader<T, B> {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            kept: Keepsake::new(),
            kept_version: 0,
            version: 0,
            publisher: None,
            descriptor: None,
            values: PhantomData,
            trust: PhantomData,
        }
    }

    /// The newest value, seen before or not; `None` if none has been written yet. It is copied out, so that it takes none of
    /// the writer's memory. Never blocks, and makes no system call unless [`StateReader::as_fd`] is used.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] in a forked child. What a writer does wrong ends its connection, and is counted by its node.
    #[inline]
    pub fn read(&mut self) -> Result<Option<Value<'_, T>>, ReceiveError> {
        self.look(false)?;
        Ok(self.value())
    }

    /// As [`StateReader::read`], waiting no longer than `timeout` for a first value if none has been written yet: `None` if none
    /// came.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`] when it would have to wait after a `cancel` or `shutdown`; [`ReceiveError::Endpoint`] if the
    /// node has no control thread, and driving it failed, or in a forked child.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Value<'_, T>>, ReceiveError> {
        if !self.has_newer_than(0, timeout)? {
            return Ok(None);
        }
        Ok(self.value())
    }

    /// The newest value if this reader has not handed it out yet, waiting no longer than `timeout` for one: `None` if none
    /// came. Values in between are passed over.
    ///
    /// # Errors
    /// As [`StateReader::wait`].
    pub fn changed(&mut self, timeout: Duration) -> Result<Option<Value<'_, T>>, ReceiveError> {
        if !self.has_newer_than(self.version, timeout)? {
            return Ok(None);
        }
        Ok(self.value())
    }

    /// As [`StateReader::wait`], for a task: pending until there is a value. It works on any runtime, as the node's control
    /// thread wakes it; a node without one has to be dispatched. Dropping it before it is ready loses nothing.
    ///
    /// # Errors
    /// As [`StateReader::wait`].
    pub async fn wait_async(&mut self) -> Result<Value<'_, T>, ReceiveError> {
        self.newer_than(0).await?;
        Ok(self.value().expect("the look has just found it"))
    }

    /// As [`StateReader::changed`], for a task: pending until there is a value that this reader has not handed out yet.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = std::env::temp_dir().join(format!("tidepost-doc-state-task-{}", std::process::id()));
    /// # let node = tidepost::Node::builder().directory(&directory).open()?;
    /// let mut writer = node.state::<u64>("depth").writer()?;
    /// let mut reader = node.state::<u64>("depth").reader()?;
    /// let writing = std::thread::spawn(move || writer.set(&12));
    /// let depth = futures_lite::future::block_on(async { reader.changed_async().await.map(|depth| *depth) })?;
    /// assert_eq!(depth, 12);
    /// # writing.join().expect("it does not panic")?;
    /// # drop((reader, node));
    /// # std::fs::remove_dir_all(directory)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`StateReader::wait`].
    pub async fn changed_async(&mut self) -> Result<Value<'_, T>, ReceiveError> {
        self.newer_than(self.version).await?;
        Ok(self.value().expect("the look has just found it"))
    }

    /// A descriptor for somebody else's poll or epoll loop: readable when there may be a value that has not been handed out, or
    /// an event, and at first. A loop that it wakes calls [`StateReader::read`] and, if it also wants events,
    /// [`StateReader::try_event`] until that finds none, before it waits again. It stays the same, must only be waited for, and
    /// is closed with the reader.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] if there is no descriptor left.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, ReceiveError> {
        self.receiver.descriptor()
    }

    /// The version of the value that was handed out last, 0 if none has been. Versions never fall, whoever writes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether there is a value and no writer: it has left, or died, and none has come since.
    pub fn is_orphaned(&self) -> bool {
        self.kept_version > 0 && self.receiver.publishers() == 0
    }

    /// Whether a writer is connected.
    pub fn has_writer(&self) -> bool {
        self.receiver.publishers() > 0
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.receiver.shared().id()
    }

    /// The writers that came later and could not be joined, because of another type for instance, and why; the last 64 of
    /// them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.receiver.refusals()
    }

    /// The next event that has not been asked for: writers that come, go or cannot be connected. The last 1,024 are kept.
    pub fn try_event(&mut self) -> Option<Event> {
        self.receiver.shared().events.take()
    }

    /// As [`StateReader::try_event`], waiting for one no longer than `timeout`.
    ///
    /// # Errors
    /// [`WaitError::Closed`].
    pub fn event_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        self.receiver.wait_for_event(timeout)
    }

    /// A handle for other threads, to end the reader's waits.
    pub fn handle(&self) -> StateReaderHandle {
        StateReaderHandle { shared: Arc::clone(self.receiver.shared()) }
    }

    /// What is kept, handed out.
    #[inline]
    fn value(&mut self) -> Option<Value<'_, T>> {
        if self.kept_version == 0 {
            return None;
        }
        self.version = self.kept_version;
        let value = payload::message_of(self.kept.bytes());
        Some(Value { value, version: self.kept_version, descriptor: self.descriptor.as_ref() })
    }

    /// Takes what is newer than what is kept.
    #[inline]
    fn look(&mut self, may_pin: bool) -> Result<(), ReceiveError> {
        if !self.receiver.is_quiet() {
            self.look_closely(may_pin)?;
        }
        if !may_pin {
            self.kept.detach();
        }
        Ok(())
    }

    /// Each stream is looked at once, and none of them can keep us here.
    fn look_closely(&mut self, may_pin: bool) -> Result<(), ReceiveError> {
        let mut is_there = self.receiver.poll_once(payload::extent::<T>())?;
        let mut looks = 0;
        while is_there {
            self.adopt(may_pin);
            looks += 1;
            if looks >= self.receiver.streams() && !self.receiver.has_descriptor() {
                break;
            }
            if looks > self.receiver.streams() {
                self.receiver.stay_awake();
                break;
            }
            is_there = self.receiver.poll_once(payload::extent::<T>())?;
        }
        Ok(())
    }

    /// Takes the message that the last poll found, if it is newer than what is kept.
    fn adopt(&mut self, may_pin: bool) {
        let Some((version, publisher)) = self.receiver.found() else { return };
        if version <= self.kept_version {
            return self.receiver.pass_over();
        }
        if !T::IS_TYPED && self.publisher != Some(publisher) {
            self.descriptor = self.receiver.descriptor_found().cloned();
        }
        if !self.receiver.take_into(&mut self.kept, may_pin) {
            return;
        }
        self.kept_version = version;
        self.publisher = Some(publisher);
        let shared = self.receiver.shared();
        if shared.legacy.taken(version, publisher) {
            shared.node.shared().retire_relay(shared.id());
        }
    }

    /// Whether there is a value newer than `version`, in time.
    fn has_newer_than(&mut self, version: u64, timeout: Duration) -> Result<bool, ReceiveError> {
        let mut deadline = None;
        loop {
            self.look(false)?;
            if self.kept_version > version {
                return Ok(true);
            }
            let end = || *deadline.get_or_insert_with(|| Deadline::after(timeout));
            if !self.receiver.poll_until(payload::extent::<T>(), end)? {
                return Ok(false);
            }
            self.adopt(false);
        }
    }

    async fn newer_than(&mut self, version: u64) -> Result<(), ReceiveError> {
        loop {
            self.look(false)?;
            if self.kept_version > version {
                return Ok(());
            }
            poll_fn(|context| self.receiver.poll_task(payload::extent::<T>(), context)).await?;
            self.adopt(false);
        }
    }
}

impl<T: Payload + ?Sized> StateReader<T, Borrowed> {
    /// As [`StateReader::read`], without a copy of what is too long for a slot: that is lent where it was written, and its
    /// memory is not used again before the next call that looks.
    ///
    /// # Errors
    /// As [`StateReader::read`].
    #[inline]
    pub fn borrow(&mut self) -> Result<Option<Value<'_, T>>, ReceiveError> {
        self.look(true)?;
        Ok(self.value())
    }
}

impl<T: ?Sized, B> fmt::Debug for StateReader<T, B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("StateReader");
        fields.field("receiver", &self.receiver).field("version", &self.kept_version).finish_non_exhaustive()
    }
}

/// The value of a state, lent until its reader looks again.
pub struct Value<'a, T: ?Sized> {
    value: &'a T,
    version: u64,
    descriptor: Option<&'a TypeDescriptor>,
}

impl<T: ?Sized> Value<'_, T> {
    /// Its version: every later value has a higher one, whoever writes it.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl<'a> Value<'a, Untyped> {
    /// Its type, as its writer declared it.
    pub fn value_type(&self) -> Option<&'a TypeDescriptor> {
        self.descriptor
    }
}

impl<T: ?Sized> Deref for Value<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Value<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Value").field(&self.value).finish()
    }
}

// It is ready as long as there is a value that it has not handed out.
waitable!([T: Payload + ?Sized, B: Trust] StateReader<T, B>, receiver, |reader: &mut Self| {
    for _ in 0..LOOKS_MAX {
        if reader.kept_version > reader.version {
            return Look::Ready;
        }
        match reader.receiver.look(payload::extent::<T>()) {
            Look::Ready if reader.look_closely(true).is_err() => return Look::Ready,
            Look::Ready => {}
            other => return other,
        }
    }
    Look::Nothing
});

/// A reader seen from other threads, made by [`StateReader::handle`].
#[derive(Clone)]
pub struct StateReaderHandle {
    shared: Arc<SubscriberShared>,
}

impl StateReaderHandle {
    /// Ends the reader's waits with `Closed`, the one it may be in and any that it would begin. It can still be asked for the
    /// value.
    pub fn cancel(&self) {
        self.shared.cancel();
    }
}

impl fmt::Debug for StateReaderHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StateReaderHandle")
            .field("state", &self.shared.channel)
            .finish_non_exhaustive()
    }
}
