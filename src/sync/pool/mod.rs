//! The pool: where messages lie that are too long for a slot.
//!
//! The publisher alone decides which chunk carries which message, so allocation is private and plain: a list of
//! free chunks for each size class. What its readers say – cursors and pins – comes in through [`Pool::reclaim`].
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

/// How many chunks of this class one segment gets: its window, or as many as `bytes_max` has room for, but two.
pub(crate) fn chunks_per_segment(class: usize, window: usize, bytes_max: usize) -> u32 {
    let count = window.min(bytes_max / class).max(2);
    u32::try_from(count).unwrap_or(CHUNKS_MAX).min(CHUNKS_MAX)
}

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
    held: Vec<Flight>,
    allocated_bytes: usize,
}

impl Pool {
    /// An empty pool for a ring of `slots`, which never have more messages on their way. The list of those has its
    /// pages from the start: a send must not be the first to touch one.
    pub(crate) fn for_ring(slots: usize) -> Self {
        let nowhere =
            Flight { sequence: u64::MAX, chunk: ChunkAddress { segment: u32::MAX, chunk: u32::MAX } };
        let mut in_flight = VecDeque::from(vec![nowhere; slots + 1]);
        in_flight.clear();
        Self { in_flight, ..Self::default() }
    }

    /// The free chunk of this class whose turn it is: the oldest of the window.
    pub(crate) fn take(&mut self, chunk_bytes: usize) -> Option<ChunkAddress> {
        let class = self.class_mut(chunk_bytes)?;
        let newer = class.window.saturating_sub(class.in_flight).max(1);
        let oldest = class.free.len().saturating_sub(newer);
        class.free.remove(oldest)
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

    /// Frees what lies below `released`, but for what is in `held`, which ascends.
    pub(crate) fn reclaim(&mut self, released: u64, held: &[u64]) {
        let is_held = |sequence: u64| held.binary_search(&sequence).is_ok();
        while self.in_flight.front().is_some_and(|flight| flight.sequence < released)
            && let Some(flight) = self.in_flight.pop_front()
        {
            self.class_of(flight.chunk).in_flight -= 1;
            if is_held(flight.sequence) { self.held.push(flight) } else { self.put_back(flight.chunk) }
        }
        let mut index = 0;
        while index < self.held.len() {
            if is_held(self.held[index].sequence) {
                index += 1;
            } else {
                let flight = self.held.swap_remove(index);
                self.put_back(flight.chunk);
            }
        }
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
            pool.reclaim(sequence + 1, &[]);
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
        assert_eq!(chunks_per_segment(1 << 20, 8, 64 << 20), 8);
        assert_eq!(chunks_per_segment(1 << 20, 8, 3 << 20), 3);
        assert_eq!(chunks_per_segment(1 << 20, 8, 0), 2);
        assert_eq!(chunks_per_segment(4096, 256, 64 << 20), CHUNKS_MAX);
    }

    #[test]
    fn a_held_chunk_stays_out_until_it_is_let_go() {
        let mut pool = pool(1);
        let chunk = pool.take(4096).expect("one is free");
        pool.send(chunk, 5);
        pool.reclaim(6, &[5]);
        assert_eq!(pool.take(4096), None);
        pool.reclaim(6, &[]);
        assert_eq!(pool.take(4096), Some(chunk));
    }

    #[test]
    fn classes_waste_at_most_a_fifth_and_are_pages() {
        assert_eq!(class_of(0), Some(4096));
        assert_eq!(class_of(1 << 20), Some(1 << 20));
        assert_eq!(class_of((1 << 20) + 1), Some(5 << 18));
        assert_eq!(class_of(usize::MAX), None);
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
                pool.reclaim(released, &held);
                out.retain(|(sequence, _)| *sequence >= released || held.contains(sequence));
                let free = pool.class(4096).map_or(0, |class| class.free.len());
                prop_assert_eq!(free + out.len(), CHUNKS as usize);
            }
        }
    }
}
