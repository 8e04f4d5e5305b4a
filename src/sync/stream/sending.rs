//! The sending end of a stream: finds room for a message, lends it, publishes it.

use crate::layout::ring::INLINE_BYTES_MAX;
use crate::os::cache;
use crate::segment::{Created, SegmentError};
use crate::sync::cursor::CursorWords;
use crate::sync::door::{Ordering, fence};
use crate::sync::geometry::Geometry;
use crate::sync::pool::{self, ChunkAddress, OwnChunks, Pool, PoolMemory};
use crate::sync::readers::{Pins, Readers};
use crate::sync::ring::{Marking, RingMemory, Writer};
use crate::sync::slot::Carriage;
use crate::sync::store_line::StoreWord;

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
    /// Any chunk of its size.
    Any,
    /// Any chunk that is long enough.
    AnySize,
}

/// What a stream keeps, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Whether the oldest messages make room for the newest, rather than wait for readers.
    pub(crate) drops_oldest: bool,
    /// Messages that are kept for those who join later.
    pub(crate) history: usize,
}

/// How much a pool may grow to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolLimit {
    /// So many bytes, but two chunks of each class in any case.
    Usual(usize),
    /// So many bytes of messages, whatever their size.
    Chosen(usize),
    /// As `Usual`, but as many chunks more as it takes for no message of the history to make room for another. Whoever holds
    /// some says how many, by what each may hold.
    Keeping(usize),
}

impl PoolLimit {
    /// The limit in bytes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Usual(bytes) | Self::Chosen(bytes) | Self::Keeping(bytes) => bytes,
        }
    }
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
    pub(super) writer: Writer<RingMemory>,
    geometry: Geometry,
    pub(super) pool: Pool,
    pub(super) chunks: OwnChunks,
    pins: Pins,
    retention: Retention,
    /// Messages below this have been dropped although they were to be kept for joiners.
    floor: u64,
    loan: Option<(Room, usize)>,
    /// Created and announced, but not yet with every reader; with the window of its class.
    awaited: Option<(PoolMemory, usize)>,
}

impl SendingEnd {
    /// A fresh stream of this shape, which keeps its tail in this word, and its ring segment to offer.
    pub(crate) fn create(
        geometry: Geometry,
        retention: Retention,
        held_max: usize,
        tail: StoreWord,
    ) -> Result<(Self, Created), SegmentError> {
        let (memory, created) = RingMemory::create(geometry)?;
        let mut writer = Writer::with_tail(memory, geometry, tail);
        if retention.drops_oldest {
            writer.lift_limit();
        }
        let end = Self {
            writer,
            geometry,
            pool: Pool::for_ring(geometry.slots()),
            chunks: OwnChunks::default(),
            pins: Pins::with_capacity(held_max),
            retention,
            floor: 0,
            loan: None,
            awaited: None,
        };
        Ok((end, created))
    }

    /// The tail for the control thread.
    pub(crate) fn shared_tail(&self) -> StoreWord {
        self.writer.shared_tail()
    }

    /// The sequence number of the next message.
    #[inline]
    pub(crate) fn tail(&self) -> u64 {
        self.writer.tail()
    }

    /// See [`Writer::try_send_inline`].
    #[inline(always)]
    pub(crate) fn try_send_inline(&mut self, payload: &[u8], marking: Marking) -> bool {
        self.writer.try_send_inline(payload, marking)
    }

    /// See [`Writer::try_send_bare`].
    #[inline(always)]
    pub(crate) fn try_send_bare(&mut self, payload: &[u8]) -> bool {
        self.writer.try_send_bare(payload)
    }

    /// See [`Writer::try_send_headed`].
    #[inline(always)]
    pub(crate) fn try_send_headed(&mut self, head: u64, payload: &[u8]) -> bool {
        self.writer.try_send_headed(head, payload)
    }

    /// Finds room for a message of `length` bytes. A room that was not published is given up.
    #[inline]
    pub(crate) fn prepare(&mut self, length: usize, warmth: Warmth, marking: Marking) -> Result<(), Need> {
        self.give_up();
        if !self.writer.has_space() {
            return Err(Need::Slot);
        }
        let room = if length <= self.geometry.capacity() && !self.is_slot_pinned() {
            Room::Slot(if length <= INLINE_BYTES_MAX { Carriage::Inline(length) } else { Carriage::Body })
        } else {
            Room::Chunk(self.take_chunk(length, warmth)?)
        };
        if marking == Marking::Needed {
            self.writer.mark_writing();
        }
        self.loan = Some((room, length));
        Ok(())
    }

    /// Whether somebody holds a body that lies in the next slot, from whichever lap: later ones went round it. What lies in
    /// the pool is not in the way.
    fn is_slot_pinned(&self) -> bool {
        let slot = self.geometry.index(self.writer.tail());
        let in_this_ring = self.pins.counted.iter().filter(|sequence| **sequence >= self.writer.start());
        let is_there = |sequence: u64| self.geometry.index(sequence) == slot && !self.pool.carries(sequence);
        in_this_ring.copied().any(is_there)
    }

    fn take_chunk(&mut self, length: usize, warmth: Warmth) -> Result<ChunkAddress, Need> {
        let need = Need::Chunk(length);
        let class = pool::class_of(length).ok_or(need)?;
        if warmth == Warmth::Warm && self.pool.is_window_full(class) {
            return Err(need);
        }
        let taken = match warmth {
            Warmth::Warm | Warmth::Any => self.pool.take(class),
            Warmth::AnySize => self.pool.take_any(class),
        };
        taken.ok_or(need)
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

    /// As [`SendingEnd::loan_mut`], to read what has been written.
    ///
    /// # Panics
    /// As for `loan_mut`.
    pub(crate) fn loan(&self) -> &[u8] {
        let (room, length) = self.loan.expect("a loan is looked at after it was prepared");
        match room {
            Room::Slot(_) => self.writer.payload(length),
            Room::Chunk(address) => self.chunks.payload(address, length),
        }
    }

    /// Publishes the room that was prepared last.
    #[inline]
    pub(crate) fn commit(&mut self) {
        let carriage = self.complete();
        self.writer.publish(carriage);
    }

    /// What comes before the word of the room that was prepared last.
    #[inline]
    pub(super) fn complete(&mut self) -> Carriage {
        let (room, length) = self.loan.take().expect("a loan is published after it was prepared");
        match room {
            Room::Slot(carriage) => {
                if carriage == Carriage::Body {
                    self.writer.put_body_header(length);
                }
                carriage
            }
            Room::Chunk(address) => {
                self.writer.put_pooled_header(address, length);
                self.pool.send(address, self.writer.tail());
                Carriage::Pooled
            }
        }
    }

    #[inline]
    pub(super) fn give_up(&mut self) {
        if let Some((Room::Chunk(address), _)) = self.loan.take() {
            self.pool.put_back(address);
        }
    }

    /// Looks at what the readers have released. Whether anything has come free since the last look.
    pub(crate) fn look<R: CursorWords>(&mut self, readers: &mut Readers<R>) -> bool {
        let before = (self.writer.limit(), self.pool.free());
        let tail = self.writer.tail();
        let progress = readers.look(tail);
        let kept = tail.saturating_sub(self.retention.history as u64);
        self.writer.raise_limit(progress.released.min(kept));
        let bound = if readers.has_losers() {
            // What lies a whole ring back has been overwritten.
            progress.read.min(kept).max(tail.saturating_sub(self.geometry.slots() as u64))
        } else {
            progress.released.min(kept)
        };
        self.expire(readers, bound, usize::MAX);
        // A message whose chunk has not come back may have to be withdrawn in the ring that it is in.
        let oldest = self.pool.oldest_kept().unwrap_or(u64::MAX);
        self.writer.forget_left(|end| readers.need_ring(end) || oldest < end);
        before != (self.writer.limit(), self.pool.free())
    }

    /// Drops the oldest messages in the pool that nobody is waited for to read, a quarter of what is on its way there at
    /// once, even those that were kept for joiners, to make room for one of `length` bytes. Whether there were any.
    pub(crate) fn drop_oldest<R: CursorWords>(&mut self, readers: &mut Readers<R>, length: usize) -> bool {
        let released = readers.look(self.writer.tail()).released;
        // Only a chunk that is long enough is of use: without one, the others would be lost for nothing.
        if !pool::class_of(length).is_some_and(|class| self.pool.is_in_flight(class, released)) {
            return false;
        }
        let count = self.expire(readers, released, (self.pool.in_flight() / 4).max(1));
        if count > 0 {
            self.floor = self.pool.oldest().unwrap_or(released).max(self.floor);
        }
        count > 0
    }

    /// Messages in the pool below `bound` need not be there any more: their chunks come free, unless they are held.
    fn expire<R: CursorWords>(&mut self, readers: &Readers<R>, bound: u64, most: usize) -> usize {
        let Self { writer, pool, pins, .. } = self;
        let has_losers = readers.has_losers();
        readers.note_unread(pins);
        let withdraw = |sequence| {
            if has_losers {
                writer.withdraw(sequence);
            }
        };
        let count = pool.expire(bound, most, |sequence| pins.is_unread(sequence), withdraw);
        if has_losers {
            // Dekker: the slot words that were overwritten, fence, pins against pins, fence, slot word.
            fence(Ordering::SeqCst);
        }
        readers.scan(pins);
        pool.sweep(|sequence| pins.hold(sequence));
        count
    }

    /// Messages below this number have been dropped although they were to be kept for joiners.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Goes on in a fresh ring of the same shape, which the answer is to be sent to everybody who is to follow. Whatever is
    /// in the ring so far stays as it is, for those who are not.
    pub(crate) fn move_on(&mut self) -> Result<Created, SegmentError> {
        let (memory, created) = RingMemory::create(self.geometry)?;
        self.give_up();
        self.writer.move_to(memory);
        self.floor = self.writer.tail();
        Ok(created)
    }

    /// The position that everybody who is waited for has to pass before the next slot is free.
    pub(crate) fn blocking_slot(&self) -> u64 {
        (self.tail() + 1).saturating_sub(self.geometry.slots() as u64)
    }

    /// See [`Writer::mark_blocked`].
    pub(crate) fn mark_blocked(&self, epoch: u64) {
        self.writer.mark_blocked(epoch);
    }

    /// Whether waiting for a chunk of the window is of no use: the window has fewer than it should.
    pub(crate) fn is_window_short(&self, length: usize) -> bool {
        pool::class_of(length).is_some_and(|class| !self.pool.is_window_complete(class))
    }

    /// Whether no release makes room for a message of `length` bytes, unless the pool grows: it fits into no slot, and into no
    /// chunk.
    pub(crate) fn is_hopeless(&self, length: usize) -> bool {
        length > self.geometry.capacity()
            && !pool::class_of(length).is_some_and(|class| self.pool.has_room_for(class))
    }

    /// The chunks of a further segment for messages of `length` that together with what there is keeps to the limit, if
    /// so many do; `None` if no address space holds as much. What only observers hold is not counted.
    fn growth(&self, length: usize, limit: PoolLimit) -> Option<Growth> {
        let chunk_bytes = pool::class_of(length)?;
        let window = pool::window_of(chunk_bytes, cache::last_level_bytes().unwrap_or(CACHE_BYTES_UNKNOWN));
        let window = window.saturating_add(self.retention.history);
        let observed = self.pool.held_bytes(|sequence| !self.pins.counts(sequence));
        let left = limit.bytes().saturating_add(observed).saturating_sub(self.pool.allocated_bytes());
        let (least, counted_bytes) = match limit {
            PoolLimit::Usual(_) | PoolLimit::Keeping(_) => (2, chunk_bytes),
            PoolLimit::Chosen(_) => (1, length),
        };
        let count = pool::chunks_per_segment(chunk_bytes, window, left, least);
        let is_within_limit = counted_bytes.checked_mul(count as usize)? <= left;
        chunk_bytes.checked_mul(count as usize)?;
        let is_granted = is_within_limit
            || match limit {
                PoolLimit::Chosen(_) => false,
                PoolLimit::Usual(_) => !self.pool.has_class(chunk_bytes),
                PoolLimit::Keeping(_) => self.has_only_history_for(chunk_bytes),
            };
        Some(Growth { chunk_bytes, window, count, is_granted })
    }

    /// Whether a further segment for messages of `length` bytes keeps to the limit.
    pub(crate) fn may_grow(&self, length: usize, limit: PoolLimit) -> bool {
        self.growth(length, limit).is_some_and(|growth| growth.is_granted)
    }

    /// Whether no chunk is free that is long enough, and none carries a message that may be dropped.
    fn has_only_history_for(&self, chunk_bytes: usize) -> bool {
        let kept = self.tail().saturating_sub(self.retention.history as u64);
        !self.pool.has_free(chunk_bytes) && !self.pool.is_in_flight(chunk_bytes, kept)
    }

    /// Bytes of all chunks.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.pool.allocated_bytes()
    }

    /// Creates a further pool segment for messages of `length` bytes, unless the limit forbids it. The segment is used
    /// once [`SendingEnd::activate`] says that every reader knows of it.
    pub(crate) fn grow(&mut self, length: usize, limit: PoolLimit) -> Result<Option<NewSegment>, GrowError> {
        let growth = self.growth(length, limit).ok_or(GrowError::TooLarge)?;
        if !growth.is_granted {
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
    is_granted: bool,
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
