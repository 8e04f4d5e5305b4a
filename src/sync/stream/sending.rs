//! The sending end of a stream: finds room for a message, lends it, publishes it.

use std::sync::Arc;

use crate::layout::ring::INLINE_BYTES_MAX;
use crate::os::cache;
use crate::segment::{Created, SegmentError};
use crate::sync::cursor::CursorWords;
use crate::sync::door::AtomicU64;
use crate::sync::geometry::Geometry;
use crate::sync::pool::{self, ChunkAddress, OwnChunks, Pool, PoolMemory};
use crate::sync::readers::Readers;
use crate::sync::ring::{RingMemory, Writer};
use crate::sync::slot::Carriage;

/// The last-level cache where the kernel does not say what it is: no share of it is then worth going round in.
const CACHE_BYTES_UNKNOWN: usize = 0;

/// What a message lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A slot of the ring.
    Slot,
    /// A chunk of this many bytes.
    Chunk(usize),
}

/// Whether a chunk out of the cache will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// Only a chunk of the window.
    Warm,
    /// Any chunk.
    Any,
}

/// Room for one message that has not been published yet.
#[derive(Clone, Copy, Debug)]
enum Room {
    Slot(Carriage),
    Chunk(ChunkAddress),
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct SendingEnd {
    writer: Writer<RingMemory>,
    geometry: Geometry,
    /// Messages shorter than this always go into their slot.
    inline_end: usize,
    pool: Pool,
    chunks: OwnChunks,
    held: Vec<u64>,
    loan: Option<(Room, usize)>,
    /// Created and announced, but not yet with every reader; with the window of its class.
    awaited: Option<(PoolMemory, usize)>,
}

impl SendingEnd {
    /// A fresh stream of this shape, and its ring segment to offer.
    pub(crate) fn create(geometry: Geometry, held_max: usize) -> Result<(Self, Created), SegmentError> {
        let (memory, created) = RingMemory::create(geometry)?;
        let capacity = geometry.capacity();
        let end = Self {
            writer: Writer::new(memory, geometry),
            geometry,
            inline_end: if capacity <= INLINE_BYTES_MAX { capacity + 1 } else { 0 },
            pool: Pool::for_ring(geometry.slots()),
            chunks: OwnChunks::default(),
            held: Vec::with_capacity(held_max),
            loan: None,
            awaited: None,
        };
        Ok((end, created))
    }

    /// The tail for the control thread.
    pub(crate) fn shared_tail(&self) -> Arc<AtomicU64> {
        self.writer.shared_tail()
    }

    /// The sequence number of the next message.
    #[inline]
    pub(crate) fn tail(&self) -> u64 {
        self.writer.tail()
    }

    /// Writes and publishes a message, if it belongs into a slot, whoever holds what, and there is one. `length` is a
    /// constant wherever the type is, and the copy is then a few moves.
    #[inline(always)]
    pub(crate) fn try_send_inline(&mut self, payload: &[u8]) -> bool {
        if payload.len() >= self.inline_end || !self.writer.has_space() {
            return false;
        }
        self.writer.put_payload(payload);
        self.writer.publish(Carriage::Inline(payload.len()));
        true
    }

    /// Finds room for a message of `length` bytes. A room that was not published is given up.
    #[inline]
    pub(crate) fn prepare(&mut self, length: usize, warmth: Warmth) -> Result<(), Need> {
        self.give_up();
        if !self.writer.has_space() {
            return Err(Need::Slot);
        }
        let room = if length <= self.geometry.capacity() && !self.is_slot_pinned() {
            Room::Slot(if length <= INLINE_BYTES_MAX { Carriage::Inline(length) } else { Carriage::Body })
        } else {
            Room::Chunk(self.take_chunk(length, warmth)?)
        };
        self.loan = Some((room, length));
        Ok(())
    }

    /// Whether somebody holds a body that lies in the next slot, from whichever lap: later ones went round it.
    fn is_slot_pinned(&self) -> bool {
        let slot = self.geometry.index(self.writer.tail());
        self.held.iter().any(|&sequence| self.geometry.index(sequence) == slot)
    }

    fn take_chunk(&mut self, length: usize, warmth: Warmth) -> Result<ChunkAddress, Need> {
        let need = Need::Chunk(length);
        let class = pool::class_of(length).ok_or(need)?;
        if warmth == Warmth::Warm && self.pool.is_window_full(class) {
            return Err(need);
        }
        self.pool.take(class).ok_or(need)
    }

    /// The bytes of the room that was prepared last.
    ///
    /// # Panics
    /// If there is none: an error in this library.
    #[inline]
    pub(crate) fn loan_mut(&mut self) -> &mut [u8] {
        let (room, length) = self.loan.expect("a loan is looked at after it was prepared");
        match room {
            Room::Slot(_) => self.writer.payload_mut(length),
            // SAFETY: `prepare` took this chunk from the pool, and it goes back or out only with the loan.
            Room::Chunk(address) => unsafe { self.chunks.payload_mut(address, length) },
        }
    }

    /// Publishes the room that was prepared last.
    #[inline]
    pub(crate) fn commit(&mut self) {
        let (room, length) = self.loan.take().expect("a loan is published after it was prepared");
        match room {
            Room::Slot(carriage) => {
                if carriage == Carriage::Body {
                    self.writer.put_body_header(length);
                }
                self.writer.publish(carriage);
            }
            Room::Chunk(address) => {
                self.writer.put_pooled_header(address, length);
                self.pool.send(address, self.writer.tail());
                self.writer.publish(Carriage::Pooled);
            }
        }
    }

    #[inline]
    fn give_up(&mut self) {
        if let Some((Room::Chunk(address), _)) = self.loan.take() {
            self.pool.put_back(address);
        }
    }

    /// Looks at what the readers have released. Whether anything has come free since the last look.
    pub(crate) fn look<R: CursorWords>(&mut self, readers: &mut Readers<R>) -> bool {
        let before = (self.writer.limit(), self.held.len());
        let released = readers.look(self.writer.tail(), &mut self.held);
        self.writer.raise_limit(released);
        self.pool.reclaim(released, &self.held);
        before != (self.writer.limit(), self.held.len())
    }

    /// See [`Writer::mark_blocked`].
    pub(crate) fn mark_blocked(&self, epoch: u64) {
        self.writer.mark_blocked(epoch);
    }

    /// Whether waiting for a chunk of the window is of no use: the window has fewer than it should.
    pub(crate) fn is_window_short(&self, length: usize) -> bool {
        pool::class_of(length).is_some_and(|class| !self.pool.is_window_complete(class))
    }

    /// The chunks of a further segment for messages of `length` that together with what there is keeps to `limit`
    /// bytes, if two do; `None` if no address space holds as much.
    fn growth(&self, length: usize, limit: usize) -> Option<Growth> {
        let chunk_bytes = pool::class_of(length)?;
        let window = pool::window_of(chunk_bytes, cache::last_level_bytes().unwrap_or(CACHE_BYTES_UNKNOWN));
        let left = limit.saturating_sub(self.pool.allocated_bytes());
        let count = pool::chunks_per_segment(chunk_bytes, window, left);
        let is_within_limit = chunk_bytes.checked_mul(count as usize)? <= left;
        Some(Growth { chunk_bytes, window, count, is_within_limit })
    }

    /// Bytes of all chunks.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.pool.allocated_bytes()
    }

    /// Creates a further pool segment for messages of `length` bytes, unless the limit forbids it: two chunks of each
    /// class there may always be. The segment is used once [`SendingEnd::activate`] says that every reader knows of it.
    pub(crate) fn grow(&mut self, length: usize, limit: usize) -> Result<Option<NewSegment>, GrowError> {
        let growth = self.growth(length, limit).ok_or(GrowError::TooLarge)?;
        if !growth.is_within_limit && self.pool.has_class(growth.chunk_bytes) {
            return Ok(None);
        }
        let (memory, created) =
            PoolMemory::create(growth.chunk_bytes, growth.count).map_err(GrowError::Segment)?;
        self.awaited = Some((memory, growth.window));
        let (index, Growth { count, chunk_bytes, .. }) = (self.pool.next_segment(), growth);
        Ok(Some(NewSegment { index, chunks: count, chunk_bytes, created }))
    }

    /// Every reader knows the segment that was created last.
    pub(crate) fn activate(&mut self) {
        let (memory, window) = self.awaited.take().expect("a segment is activated after it was created");
        self.pool.add_segment(memory.chunk_bytes(), window, memory.count());
        self.chunks.add(memory);
    }
}

/// What a further segment would have.
struct Growth {
    chunk_bytes: usize,
    window: usize,
    count: u32,
    is_within_limit: bool,
}

/// Why the pool could not grow.
#[derive(Debug)]
pub(crate) enum GrowError {
    /// No address space holds as much.
    TooLarge,
    /// The memory could not be had.
    Segment(SegmentError),
}

/// A further pool segment, to be announced to every reader.
#[derive(Debug)]
pub(crate) struct NewSegment {
    pub(crate) index: u32,
    pub(crate) chunks: u32,
    pub(crate) chunk_bytes: usize,
    pub(crate) created: Created,
}
