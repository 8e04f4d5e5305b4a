//! The pool: where messages lie that are too long for a slot.
//!
//! The publisher alone decides which chunk carries which message, so allocation is private and plain: a list of
//! free chunks for each size class. A chunk comes back in two steps: [`Pool::expire`] says up to where messages need not
//! be there any more, and [`Pool::sweep`], after a scan of the pins, which of them are still held.
//!
//! A stream goes round in a **window** of chunks, those that came back last, however many there are besides: few
//! enough to stay in the cache that the processors share, and enough for a chunk to have left the writer's own cache
//! before a reader asks for it, and the reader's before it is written again. Handing a line that one core has just
//! written straight to another costs more than both getting it from the shared cache.

#[cfg(not(loom))]
mod memory;

use std::collections::VecDeque;

use crate::layout::pool::{CHUNK_ALIGN, CHUNKS_MAX};
#[cfg(not(loom))]
pub(crate) use memory::{OwnChunks, PoolMemory};

/// Where a chunk is: its segment, and its place in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkAddress {
    pub(crate) segment: u32,
    pub(crate) chunk: u32,
}

/// The chunk size for a message of `bytes`: four sizes in each doubling, so that at most a fifth is wasted;
/// `None` beyond what can be addressed.
pub(crate) fn class_of(bytes: usize) -> Option<usize> {
    let step = bytes.checked_next_power_of_two()? / 8;
    bytes.max(1).checked_next_multiple_of(step.max(CHUNK_ALIGN))
}

/// Chunks of a window whose bytes fit into the share of the cache.
const WINDOW_CHUNKS: usize = 9;
/// Bytes up to which a window may have more chunks, whatever the cache.
const WINDOW_BYTES_LEAST: usize = 1 << 20;
/// The part of the last-level cache that one window may fill.
const CACHE_SHARE: usize = 3;

/// In how many chunks of this class a stream goes round, with a last-level cache of so many bytes.
pub(crate) fn window_of(class: usize, cache_bytes: usize) -> usize {
    let bytes = class.saturating_mul(WINDOW_CHUNKS).min(cache_bytes / CACHE_SHARE).max(WINDOW_BYTES_LEAST);
    (bytes / class).max(2)
}

/// How many chunks of this class one segment gets: its window, or as many as `bytes_max` has room for, but `least`.
pub(crate) fn chunks_per_segment(class: usize, window: usize, bytes_max: usize, least: usize) -> u32 {
    let count = window.min(bytes_max / class).max(least);
    u32::try_from(count).unwrap_or(CHUNKS_MAX).min(CHUNKS_MAX)
}

/// Room for expired messages that is set aside at creation.
const HELD_EXPECTED: usize = 256;

/// A message on its way, with the chunk that carries it.
#[derive(Clone, Copy, Debug)]
struct Flight {
    sequence: u64,
    chunk: ChunkAddress,
}

/// The chunks of one size.
#[derive(Debug)]
struct Class {
    chunk_bytes: usize,
    window: usize,
    /// All of them, wherever they are.
    chunks: usize,
    in_flight: usize,
    /// In the order in which they came back.
    free: VecDeque<ChunkAddress>,
}

/// The chunks of one publisher: free, in flight, or held.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    classes: Vec<Class>,
    /// The place among the classes of each segment's own.
    segments: Vec<usize>,
    in_flight: VecDeque<Flight>,
    /// Slots of the ring.
    slots: usize,
    /// Expired, and not yet known to be held by nobody.
    held: Vec<Flight>,
    /// As good as expired, but for somebody who was let go of and has still to read them.
    parked: Vec<Flight>,
    allocated_bytes: usize,
}

/// Room for all messages that a ring has on their way, with its pages there from the start: a send must not be the first to
/// touch one. Most publishers never have a chunk, and so none of this.
fn flights_for(slots: usize) -> VecDeque<Flight> {
    let nowhere = Flight { sequence: u64::MAX, chunk: ChunkAddress { segment: u32::MAX, chunk: u32::MAX } };
    let mut flights = VecDeque::from(vec![nowhere; slots + 1]);
    flights.clear();
    flights
}

impl Pool {
    /// An empty pool for a ring of `slots`, which never have more messages on their way.
    pub(crate) fn for_ring(slots: usize) -> Self {
        Self { slots, held: Vec::with_capacity(HELD_EXPECTED), ..Self::default() }
    }

    /// The free chunk of this class whose turn it is: the oldest of the window.
    pub(crate) fn take(&mut self, chunk_bytes: usize) -> Option<ChunkAddress> {
        let class = self.class_mut(chunk_bytes)?;
        let newer = class.window.saturating_sub(class.in_flight).max(1);
        let oldest = class.free.len().saturating_sub(newer);
        class.free.remove(oldest)
    }

    /// As [`Pool::take`], or else a chunk of the next larger class that has one.
    pub(crate) fn take_any(&mut self, chunk_bytes: usize) -> Option<ChunkAddress> {
        let own = self.take(chunk_bytes);
        own.or_else(|| {
            let larger = self.classes.iter_mut().filter(|class| class.chunk_bytes > chunk_bytes);
            let next = larger.filter(|class| !class.free.is_empty()).min_by_key(|class| class.chunk_bytes)?;
            next.free.pop_back()
        })
    }

    /// Puts back a chunk that carries no message.
    pub(crate) fn put_back(&mut self, chunk: ChunkAddress) {
        self.class_of(chunk).free.push_back(chunk);
    }

    /// The chunk now carries the message `sequence`.
    pub(crate) fn send(&mut self, chunk: ChunkAddress, sequence: u64) {
        debug_assert!(
            self.in_flight.back().is_none_or(|last| last.sequence < sequence),
            "sequences only rise"
        );
        self.class_of(chunk).in_flight += 1;
        self.in_flight.push_back(Flight { sequence, chunk });
    }

    /// Messages below `bound` are on their way no more, and `withdraw` is told of each; their chunks come free with a
    /// sweep. At most `most` of them, the oldest first; how many. Those that `is_unread` names by number are put aside until it
    /// names them no more.
    pub(crate) fn expire(
        &mut self,
        bound: u64,
        most: usize,
        is_unread: impl Fn(u64) -> bool,
        mut withdraw: impl FnMut(u64),
    ) -> usize {
        for flight in self.parked.extract_if(.., |flight| !is_unread(flight.sequence)) {
            withdraw(flight.sequence);
            self.held.push(flight);
        }
        let mut count = 0;
        while count < most
            && self.in_flight.front().is_some_and(|flight| flight.sequence < bound)
            && let Some(flight) = self.in_flight.pop_front()
        {
            self.class_of(flight.chunk).in_flight -= 1;
            if is_unread(flight.sequence) {
                self.parked.push(flight);
            } else {
                withdraw(flight.sequence);
                self.held.push(flight);
            }
            count += 1;
        }
        count
    }

    /// Frees what has expired, but for what is held.
    pub(crate) fn sweep(&mut self, is_held: impl Fn(u64) -> bool) {
        let mut expired = std::mem::take(&mut self.held);
        expired.retain(|flight| {
            let is_held = is_held(flight.sequence);
            if !is_held {
                self.put_back(flight.chunk);
            }
            is_held
        });
        self.held = expired;
    }

    /// Bytes of the chunks that have expired and are held by somebody whom `is_excluded` names by its message.
    pub(crate) fn held_bytes(&self, is_excluded: impl Fn(u64) -> bool) -> usize {
        let excluded = self.held.iter().filter(|flight| is_excluded(flight.sequence));
        excluded
            .chain(&self.parked)
            .map(|flight| self.classes[self.segments[flight.chunk.segment as usize]].chunk_bytes)
            .sum()
    }

    /// Chunks that are free.
    pub(crate) fn free(&self) -> usize {
        self.classes.iter().map(|class| class.free.len()).sum()
    }

    /// Messages on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The oldest message whose chunk is not free again.
    pub(crate) fn oldest_kept(&self) -> Option<u64> {
        let kept = self.held.iter().chain(&self.parked).chain(self.in_flight.front());
        kept.map(|flight| flight.sequence).min()
    }

    /// The oldest message on its way.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.in_flight.front().map(|flight| flight.sequence)
    }

    /// Whether the message lies in a chunk, on its way or held.
    pub(crate) fn carries(&self, sequence: u64) -> bool {
        self.in_flight.binary_search_by_key(&sequence, |flight| flight.sequence).is_ok()
            || self.held.iter().chain(&self.parked).any(|flight| flight.sequence == sequence)
    }

    /// Whether as many messages of this class are on their way as its window has chunks: one more would leave it.
    pub(crate) fn is_window_full(&self, chunk_bytes: usize) -> bool {
        self.class(chunk_bytes).is_some_and(|class| class.in_flight >= class.window)
    }

    /// Whether this class has all the chunks of its window.
    pub(crate) fn is_window_complete(&self, chunk_bytes: usize) -> bool {
        self.class(chunk_bytes).is_some_and(|class| class.chunks >= class.window)
    }

    /// Whether any chunk is of this class.
    pub(crate) fn has_class(&self, chunk_bytes: usize) -> bool {
        self.class(chunk_bytes).is_some()
    }

    /// Whether a message below `bound` is on its way in a chunk of so many bytes at least.
    pub(crate) fn is_in_flight(&self, chunk_bytes: usize, bound: u64) -> bool {
        let mut below = self.in_flight.iter().take_while(|flight| flight.sequence < bound);
        below.any(|flight| {
            self.classes[self.segments[flight.chunk.segment as usize]].chunk_bytes >= chunk_bytes
        })
    }

    /// Whether a chunk is free that has so many bytes at least.
    pub(crate) fn has_free(&self, chunk_bytes: usize) -> bool {
        self.classes.iter().any(|class| class.chunk_bytes >= chunk_bytes && !class.free.is_empty())
    }

    /// Whether any chunk has so many bytes at least.
    pub(crate) fn has_room_for(&self, chunk_bytes: usize) -> bool {
        self.classes.iter().any(|class| class.chunk_bytes >= chunk_bytes)
    }

    /// Bytes of all chunks.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.allocated_bytes
    }

    /// The number that the next segment gets.
    pub(crate) fn next_segment(&self) -> u32 {
        self.segments.len() as u32
    }

    /// Adds a segment of so many free chunks of a class that goes round in this window.
    pub(crate) fn add_segment(&mut self, chunk_bytes: usize, window: usize, chunks: u32) {
        if self.segments.is_empty() {
            self.in_flight = flights_for(self.slots);
        }
        let segment = self.next_segment();
        let place = self.place(chunk_bytes).unwrap_or_else(|| {
            self.classes.push(Class { chunk_bytes, window, chunks: 0, in_flight: 0, free: VecDeque::new() });
            self.classes.len() - 1
        });
        self.segments.push(place);
        self.allocated_bytes += chunk_bytes * chunks as usize;
        let class = &mut self.classes[place];
        class.chunks += chunks as usize;
        class.free.extend((0..chunks).map(|chunk| ChunkAddress { segment, chunk }));
        // All of them may come back at once, and a send must not be what makes room for that.
        class.free.reserve(class.chunks - class.free.len());
    }

    fn place(&self, chunk_bytes: usize) -> Option<usize> {
        self.classes.iter().position(|class| class.chunk_bytes == chunk_bytes)
    }

    fn class(&self, chunk_bytes: usize) -> Option<&Class> {
        self.place(chunk_bytes).map(|place| &self.classes[place])
    }

    fn class_mut(&mut self, chunk_bytes: usize) -> Option<&mut Class> {
        self.place(chunk_bytes).map(|place| &mut self.classes[place])
    }

    fn class_of(&mut self, chunk: ChunkAddress) -> &mut Class {
        &mut self.classes[self.segments[chunk.segment as usize]]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(chunks: u32) -> Pool {
        let mut pool = Pool::default();
        pool.add_segment(4096, 2, chunks);
        pool
    }

    #[test]
    fn a_stream_goes_round_in_its_window() {
        let mut pool = pool(9);
        let mut used: Vec<ChunkAddress> = Vec::new();
        for sequence in 0..20 {
            let chunk = pool.take(4096).expect("nine are free");
            used.push(chunk);
            pool.send(chunk, sequence);
            pool.expire(sequence + 1, usize::MAX, |_| false, |_| ());
            pool.sweep(|_| false);
        }
        used.sort_by_key(|chunk| chunk.chunk);
        used.dedup();
        assert_eq!(used.len(), 2);
    }

    #[test]
    fn a_window_fits_into_its_share_of_the_cache() {
        assert_eq!(window_of(1 << 20, 32 << 20), 9);
        assert_eq!(window_of(1 << 20, 8 << 20), 2);
        assert_eq!(window_of(64 << 20, 32 << 20), 2);
        assert_eq!(window_of(128 << 10, 0), 8);
        assert_eq!(window_of(4096, 32 << 20), 256);
    }

    #[test]
    fn a_segment_keeps_to_the_limit_but_has_two_chunks() {
        assert_eq!(chunks_per_segment(1 << 20, 8, 64 << 20, 2), 8);
        assert_eq!(chunks_per_segment(1 << 20, 8, 3 << 20, 2), 3);
        assert_eq!(chunks_per_segment(1 << 20, 8, 0, 2), 2);
        assert_eq!(chunks_per_segment(4096, 256, 64 << 20, 1), CHUNKS_MAX);
    }

    #[test]
    fn a_held_chunk_stays_out_until_it_is_let_go() {
        let mut pool = pool(1);
        let chunk = pool.take(4096).expect("one is free");
        pool.send(chunk, 5);
        assert_eq!(pool.expire(6, usize::MAX, |_| false, |_| ()), 1);
        pool.sweep(|sequence| sequence == 5);
        assert_eq!(pool.take(4096), None);
        assert_eq!(pool.held_bytes(|sequence| sequence == 5), 4096);
        pool.sweep(|_| false);
        assert_eq!(pool.take(4096), Some(chunk));
    }

    #[test]
    fn classes_waste_at_most_a_fifth_and_are_pages() {
        assert_eq!(class_of(0), Some(4096));
        assert_eq!(class_of(1 << 20), Some(1 << 20));
        assert_eq!(class_of((1 << 20) + 1), Some(5 << 18));
        assert_eq!(class_of(usize::MAX), None);
    }

    #[test]
    fn what_is_in_flight_is_told_apart_by_size_and_age() {
        let mut pool = pool(1);
        pool.add_segment(8192, 2, 1);
        let chunk = pool.take(4096).expect("one is free");
        pool.send(chunk, 5);
        assert!(pool.is_in_flight(4096, 6));
        assert!(!pool.is_in_flight(4096, 5) && !pool.is_in_flight(8192, 6) && !pool.is_in_flight(12288, 6));
        assert!(pool.has_room_for(8192) && !pool.has_room_for(12288));
    }

    #[test]
    fn a_larger_chunk_will_do_if_there_is_no_other() {
        let mut pool = pool(1);
        pool.add_segment(8192, 2, 1);
        let (own, larger) = (pool.take_any(4096), pool.take_any(4096));
        assert_eq!((own.map(|chunk| chunk.segment), larger.map(|chunk| chunk.segment)), (Some(0), Some(1)));
        assert_eq!((pool.take_any(4096), pool.take_any(8192)), (None, None));
        pool.put_back(larger.expect("it was taken"));
        assert_eq!(pool.take(4096), None);
        assert_eq!(pool.take(8192), larger);
    }

    proptest! {
        #[test]
        fn no_chunk_is_handed_out_twice_nor_lost(steps in proptest::collection::vec((0u8..3, 0u64..4), 1..200)) {
            const CHUNKS: u32 = 8;
            let mut pool = pool(CHUNKS);
            let (mut sequence, mut released) = (0, 0);
            let mut out: Vec<(u64, ChunkAddress)> = Vec::new();
            let mut held: Vec<u64> = Vec::new();
            for (step, amount) in steps {
                match step {
                    0 => if let Some(chunk) = pool.take(4096) {
                        prop_assert!(out.iter().all(|(_, other)| *other != chunk));
                        out.push((sequence, chunk));
                        pool.send(chunk, sequence);
                        sequence += 1;
                    },
                    1 => { released = (released + amount).min(sequence); }
                    _ => if amount == 0 { held.clear(); } else {
                        held.extend((released..sequence).take(1).filter(|s| !held.contains(s)).collect::<Vec<_>>());
                        held.sort_unstable();
                    },
                }
                pool.expire(released, usize::MAX, |_| false, |_| ());
                pool.sweep(|sequence| held.binary_search(&sequence).is_ok());
                out.retain(|(sequence, _)| *sequence >= released || held.contains(sequence));
                let free = pool.class(4096).map_or(0, |class| class.free.len());
                prop_assert_eq!(free + out.len(), CHUNKS as usize);
            }
        }
    }
}
