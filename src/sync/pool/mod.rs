//! The pool: where messages lie that are too long for a slot.
//!
//! The publisher alone decides which chunk carries which message, so allocation is private and plain: a list of
//! free chunks for each size class, last in, first out, because the chunk that came back last is still in the
//! cache. What its readers say – cursors and pins – comes in through [`Pool::reclaim`].

#[cfg(not(loom))]
mod memory;

use std::collections::VecDeque;

use crate::layout::pool::{CHUNK_ALIGN, CHUNKS_MAX, SEGMENT_BYTES_TARGET};
#[cfg(not(loom))]
pub(crate) use memory::{OwnChunks, PoolMemory, too_large};

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

/// How many chunks of this class one segment gets.
pub(crate) fn chunks_per_segment(class: usize) -> u32 {
    u32::try_from(SEGMENT_BYTES_TARGET / class).unwrap_or(CHUNKS_MAX).clamp(1, CHUNKS_MAX)
}

/// A message on its way, with the chunk that carries it.
#[derive(Clone, Copy, Debug)]
struct Flight {
    sequence: u64,
    chunk: ChunkAddress,
}

/// The chunks of one publisher: free, in flight, or held.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// The class of each segment.
    segments: Vec<usize>,
    /// The free chunks of each class.
    free: Vec<(usize, Vec<ChunkAddress>)>,
    in_flight: VecDeque<Flight>,
    held: Vec<Flight>,
    in_flight_bytes: usize,
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

    /// A free chunk of this class, the one that came back last.
    pub(crate) fn take(&mut self, class: usize) -> Option<ChunkAddress> {
        self.free_of(class).pop()
    }

    /// Puts back a chunk that carries no message.
    pub(crate) fn put_back(&mut self, chunk: ChunkAddress) {
        let class = self.class(chunk);
        self.free_of(class).push(chunk);
    }

    /// The chunk now carries the message `sequence`.
    pub(crate) fn send(&mut self, chunk: ChunkAddress, sequence: u64) {
        debug_assert!(
            self.in_flight.back().is_none_or(|last| last.sequence < sequence),
            "sequences only rise"
        );
        self.in_flight_bytes += self.class(chunk);
        self.in_flight.push_back(Flight { sequence, chunk });
    }

    /// Frees what lies below `released`, but for what is in `held`, which ascends.
    pub(crate) fn reclaim(&mut self, released: u64, held: &[u64]) {
        let is_held = |sequence: u64| held.binary_search(&sequence).is_ok();
        while self.in_flight.front().is_some_and(|flight| flight.sequence < released)
            && let Some(flight) = self.in_flight.pop_front()
        {
            self.in_flight_bytes -= self.class(flight.chunk);
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

    /// Bytes of the chunks whose messages have not been read by all.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Whether any chunk is of this class.
    pub(crate) fn has_class(&self, class: usize) -> bool {
        self.segments.contains(&class)
    }

    /// Bytes of all chunks.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.allocated_bytes
    }

    /// The number that the next segment gets.
    pub(crate) fn next_segment(&self) -> u32 {
        self.segments.len() as u32
    }

    /// Adds a segment of this many free chunks.
    pub(crate) fn add_segment(&mut self, class: usize, chunks: u32) {
        let segment = self.next_segment();
        self.segments.push(class);
        self.allocated_bytes += class * chunks as usize;
        let added = (0..chunks).rev().map(|chunk| ChunkAddress { segment, chunk });
        self.free_of(class).extend(added);
    }

    fn class(&self, chunk: ChunkAddress) -> usize {
        self.segments[chunk.segment as usize]
    }

    fn free_of(&mut self, class: usize) -> &mut Vec<ChunkAddress> {
        let index = self.free.iter().position(|(of, _)| *of == class).unwrap_or_else(|| {
            self.free.push((class, Vec::new()));
            self.free.len() - 1
        });
        &mut self.free[index].1
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(chunks: u32) -> Pool {
        let mut pool = Pool::default();
        pool.add_segment(4096, chunks);
        pool
    }

    #[test]
    fn the_chunk_that_came_back_last_goes_out_first() {
        let mut pool = pool(3);
        let first = pool.take(4096).expect("three are free");
        pool.send(first, 0);
        pool.reclaim(1, &[]);
        assert_eq!(pool.take(4096), Some(first));
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
                let free = pool.free_of(4096).len();
                prop_assert_eq!(free + out.len(), CHUNKS as usize);
            }
        }
    }
}
