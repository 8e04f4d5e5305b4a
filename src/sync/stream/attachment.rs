//! One receiving end's tie to its stream: what its thread, its held samples and its control thread share.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::os::fork::Process;
use crate::sync::bell::PeerSleeper;
use crate::sync::cursor::{self, CursorWords};
use crate::sync::pool::PoolMemory;
use crate::sync::ring::{CursorMemory, RingMemory, blocked_epoch, must_ring};

/// The tie itself. Everything that a held sample needs stays mapped while it lives.
pub(crate) struct Attachment {
    pub(super) ring: RingMemory,
    pub(super) cursor: CursorMemory,
    state: Mutex<State>,
    has_new_segments: AtomicBool,
    closed: AtomicBool,
    process: Process,
    /// Dropped with the last held sample: it tells the other end that this pair is over.
    _last: Box<dyn Any + Send + Sync>,
}

struct State {
    publisher: PeerSleeper,
    rung: u64,
    free_pins: Vec<u32>,
    segments: Vec<Arc<PoolMemory>>,
}

impl Attachment {
    /// Ties a mapped ring to a cursor of our own. `publisher` is where the sender sleeps when its ring is full;
    /// `last` is dropped when neither the receiver nor a held sample is left.
    pub(crate) fn new(
        ring: RingMemory,
        cursor: CursorMemory,
        publisher: PeerSleeper,
        last: Box<dyn Any + Send + Sync>,
    ) -> Self {
        let free_pins = (0..cursor.pins() as u32).rev().collect();
        let state = State { publisher, rung: 0, free_pins, segments: Vec::new() };
        Self {
            ring,
            cursor,
            state: Mutex::new(state),
            has_new_segments: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            process: Process::current(),
            _last: last,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sender has a further pool segment, the `index`-th; one that is known is passed over. `false` if the
    /// sender left one out.
    pub(crate) fn add_segment(&self, index: u32, memory: PoolMemory) -> bool {
        let mut state = self.state();
        let next = state.segments.len() as u32;
        if index == next {
            state.segments.push(Arc::new(memory));
            self.has_new_segments.store(true, Ordering::Release);
        }
        index <= next
    }

    /// Brings the receiver's own list of pool segments up to date.
    pub(super) fn update_segments(&self, known: &mut Vec<Arc<PoolMemory>>) {
        if self.has_new_segments.swap(false, Ordering::Acquire) {
            known.extend_from_slice(&self.state().segments[known.len()..]);
        }
    }

    /// The sender left or died: what it has published is still read.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the sender is gone. A message that is not there after this will never be.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Pins the message `sequence`, whose bytes these are, until the result is dropped. `None` at the limit.
    pub(super) fn pin(self: &Arc<Self>, sequence: u64, bytes: &[u8]) -> Option<Pinned> {
        let index = self.state().free_pins.pop()?;
        cursor::pin(&self.cursor, index as usize, sequence);
        Some(Pinned { bytes: NonNull::from(bytes), index, attachment: Arc::clone(self) })
    }

    /// Whether this is a forked child's copy: the words in shared memory are its parent's.
    pub(super) fn is_inherited(&self) -> bool {
        self.process.is_parent()
    }

    fn unpin(&self, index: u32) {
        if self.is_inherited() {
            return;
        }
        cursor::unpin(&self.cursor, index as usize);
        self.state().free_pins.push(index);
        self.ring_if_blocked();
    }

    /// After a store that the sender may be waiting for, of the cursor or a pin: rings it if it waits.
    pub(super) fn ring_if_blocked(&self) {
        if blocked_epoch(&self.ring) != 0 {
            self.ring();
        }
    }

    #[cold]
    fn ring(&self) {
        let state = &mut *self.state();
        if must_ring(&self.ring, &mut state.rung) {
            state.publisher.ring();
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Attachment").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// A message that stays where it is after its receiver has gone on, until this is dropped.
#[derive(Debug)]
pub(crate) struct Pinned {
    bytes: NonNull<[u8]>,
    index: u32,
    attachment: Arc<Attachment>,
}

// SAFETY: the bytes are only read, and the attachment that keeps them mapped is itself `Send` and `Sync`.
unsafe impl Send for Pinned {}
// SAFETY: as above; `&Pinned` gives the bytes for reading.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// The message.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the message was published and lent when it was pinned; its sender does not reuse the memory
        // while the pin stands, and the attachment keeps it mapped.
        unsafe { self.bytes.as_ref() }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.attachment.unpin(self.index);
    }
}
