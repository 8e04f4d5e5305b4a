//! One receiving end's tie to its stream: what its thread, its held samples and its control thread share.

use std::any::Any;
use std::fmt;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::holding::Holdings;
use crate::os::fork::Process;
use crate::segment::SegmentError;
use crate::sync::bell::PeerSleeper;
use crate::sync::cursor::{self, CursorWords};
use crate::sync::feed::Feed;
use crate::sync::pool::PoolMemory;
use crate::sync::ring::{CursorMemory, RingMemory, blocked_epoch, must_ring};

/// The tie itself. Everything that a held sample needs stays mapped while it lives.
pub(crate) struct Attachment {
    pub(super) ring: RingMemory,
    pub(super) cursor: CursorMemory,
    state: Mutex<State>,
    holdings: Holdings,
    segments: Feed<Arc<PoolMemory>>,
    /// Rings in which the sender goes on.
    further_rings: OnceLock<Box<FurtherRing>>,
    closed: AtomicBool,
    /// What there was no memory for, nor descriptors; set before it is closed.
    shortage: OnceLock<SegmentError>,
    /// Whether a message has ever been settled by a note.
    pub(super) has_notes: AtomicBool,
    received: AtomicU64,
    totals: Arc<Totals>,
    process: Process,
    /// Dropped with the last held sample: it tells the other end that this pair is over.
    _last: Box<dyn Any + Send + Sync>,
}

/// What a subscriber has received and lost, all its streams together, those that are over included.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    received: AtomicU64,
    lost: AtomicU64,
}

impl Totals {
    fn add(&self, received: u64, lost: u64) {
        let add = |total: &AtomicU64, figure: u64| {
            let add = |total: u64| Some(total.saturating_add(figure));
            _ = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        };
        add(&self.received, received);
        add(&self.lost, lost);
    }

    /// Messages received and lost in the streams that are over.
    pub(crate) fn figures(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

/// A ring in which the sender goes on, and the next one after it: a list that one thread adds to and all look at.
pub(super) struct FurtherRing {
    pub(super) ring: RingMemory,
    /// The first message in it.
    pub(super) start: u64,
    next: OnceLock<Box<Self>>,
}

struct State {
    publisher: PeerSleeper,
    rung: u64,
    /// Of the last ring that we know of.
    generation: u32,
}

impl Attachment {
    /// Ties a mapped ring of this generation to a cursor of our own. `publisher` is where the sender sleeps when its ring
    /// is full; the program may hold `hold_limit` samples; `totals` gets the figures at the end; `last` is dropped when
    /// neither the receiver nor a held sample is left.
    pub(crate) fn new(
        (ring, generation): (RingMemory, u32),
        cursor: CursorMemory,
        publisher: PeerSleeper,
        hold_limit: u32,
        totals: Arc<Totals>,
        last: Box<dyn Any + Send + Sync>,
    ) -> Self {
        let holdings = Holdings::new(cursor.pins(), hold_limit);
        let state = State { publisher, rung: 0, generation };
        Self {
            ring,
            cursor,
            state: Mutex::new(state),
            holdings,
            segments: Feed::new(),
            further_rings: OnceLock::new(),
            closed: AtomicBool::new(false),
            shortage: OnceLock::new(),
            has_notes: AtomicBool::new(false),
            received: AtomicU64::new(0),
            totals,
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
        self.segments.add(index as usize, Arc::new(memory))
    }

    /// The sender goes on in another ring of the same shape, from the message `start` on; one that is known is passed over.
    pub(crate) fn follow_into(
        &self,
        memory: impl AsFd,
        generation: u32,
        start: u64,
    ) -> Result<(), SegmentError> {
        let ring = RingMemory::receive(memory, self.ring.geometry())?;
        let mut state = self.state();
        if generation > state.generation {
            state.generation = generation;
            let mut end = &self.further_rings;
            while let Some(further) = end.get() {
                end = &further.next;
            }
            // We hold the lock under which rings are added, so that this is still the end.
            let _ = end.set(Box::new(FurtherRing { ring, start, next: OnceLock::new() }));
        }
        Ok(())
    }

    /// The rings in which the sender goes on, in order.
    pub(super) fn further_rings(&self) -> impl Iterator<Item = &FurtherRing> {
        std::iter::successors(self.further_rings.get(), |further| further.next.get())
            .map(|further| &**further)
    }

    /// Brings the receiver's own list of pool segments up to date.
    pub(super) fn update_segments(&self, known: &mut Vec<Arc<PoolMemory>>) {
        self.segments.follow(known);
    }

    /// All pool segments that are known, apart from what the receiver has listed.
    pub(super) fn list_segments(&self, all: &mut Vec<Arc<PoolMemory>>) {
        self.segments.list(all);
    }

    /// The sender left or died: what it has published is still read.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// What the sender sent cannot be had here: what has come already is still read. Whether that is news.
    pub(crate) fn fall_short(&self, error: SegmentError) -> bool {
        let is_news = !self.is_closed() && self.shortage.set(error).is_ok();
        self.close();
        is_news
    }

    /// Why not all of the stream can be read, if it is for want of something here.
    pub(crate) fn shortage(&self) -> Option<&SegmentError> {
        self.shortage.get()
    }

    /// Whether the sender is gone. A message that is not there after this will never be.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Pins the message `sequence`, which has not been released and whose bytes these are, until the result is dropped.
    /// `None` at the limit.
    pub(super) fn pin(self: &Arc<Self>, sequence: u64, bytes: &[u8]) -> Option<Pinned> {
        self.hold(bytes, |holdings| {
            let index = holdings.take()?;
            cursor::pin(&self.cursor, index as usize, sequence);
            Some(index)
        })
    }

    /// Pins the message `sequence`, which its sender may be withdrawing, for the receiver itself. The pin counts if the
    /// slot word, looked at after this, still is the message's. `None` if every pin is taken.
    pub(super) fn pin_contested(&self, sequence: u64) -> Option<u32> {
        let index = self.holdings.take()?;
        cursor::pin_contested(&self.cursor, index as usize, sequence);
        Some(index)
    }

    /// Holds on to what is pinned at `index`, whose bytes these are, until the result is dropped. `None` at the limit.
    pub(super) fn pin_again(self: &Arc<Self>, index: u32, bytes: &[u8]) -> Option<Pinned> {
        self.hold(bytes, |holdings| {
            holdings.share(index);
            Some(index)
        })
    }

    fn hold(self: &Arc<Self>, bytes: &[u8], take: impl FnOnce(&Holdings) -> Option<u32>) -> Option<Pinned> {
        if !self.holdings.count_one() {
            return None;
        }
        let Some(index) = take(&self.holdings) else {
            self.holdings.count_off();
            return None;
        };
        Some(Pinned { bytes: NonNull::from(bytes), index, attachment: Arc::clone(self) })
    }

    /// Stores a note for the sender, who may be waiting for it.
    pub(super) fn note(&self, index: usize, value: u64) {
        // Release: what was done before is seen by who sees the note.
        self.cursor.note(index).store(value, crate::sync::door::Ordering::Release);
        self.ring_if_blocked();
    }

    /// Messages received, as of the last release, and lost.
    pub(crate) fn figures(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.cursor.lost().load(Ordering::Relaxed))
    }

    /// Notes how many messages have been received.
    pub(super) fn note_received(&self, received: u64) {
        self.received.store(received, Ordering::Relaxed);
    }

    /// Says how many messages have been lost.
    pub(crate) fn tell_lost(&self, lost: u64) {
        self.cursor.lost().store(lost, Ordering::Relaxed);
    }

    /// Whether this is a forked child's copy: the words in shared memory are its parent's.
    pub(super) fn is_inherited(&self) -> bool {
        self.process.is_parent()
    }

    /// Lets go of a pin.
    pub(super) fn unpin(&self, index: u32) {
        if !self.is_inherited() {
            self.holdings.give_back(index, || {
                cursor::unpin(&self.cursor, index as usize);
                self.ring_if_blocked();
            });
        }
    }

    /// After a store that the sender may be waiting for, of the cursor or a pin: rings it if it waits.
    pub(super) fn ring_if_blocked(&self) {
        if self.rings().any(|ring| blocked_epoch(ring) != 0) {
            self.ring();
        }
    }

    /// Rings the sender if it sleeps, whatever for. After a full fence.
    #[cold]
    pub(super) fn ring_now(&self) {
        self.state().publisher.ring();
    }

    #[cold]
    fn ring(&self) {
        let State { publisher, rung, .. } = &mut *self.state();
        // The mark has the same epoch in all rings.
        if self.rings().any(|ring| must_ring(ring, rung)) {
            publisher.ring();
        }
    }

    /// All rings of the sender, in order.
    pub(super) fn rings(&self) -> impl Iterator<Item = &RingMemory> {
        std::iter::once(&self.ring).chain(self.further_rings().map(|further| &further.ring))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let (received, lost) = self.figures();
        self.totals.add(received, lost);
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
        self.attachment.holdings.count_off();
    }
}
