//! Pools in segments: where the bytes of a chunk are.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::ChunkAddress;
use crate::layout::pool::{CHUNK_ALIGN, CHUNKS_MAX, CHUNKS_OFFSET};
use crate::segment::{Created, Kind, Proven, Segment, SegmentError};
use crate::sync::copy::copy_out;

/// The chunks of one mapped pool segment.
#[derive(Clone, Debug)]
pub(crate) struct PoolMemory {
    chunks: Proven,
    count: u32,
    chunk_bytes: usize,
}

impl PoolMemory {
    /// A segment of our own for `count` chunks of `class` bytes, and the descriptor to announce.
    pub(crate) fn create(class: usize, count: u32) -> Result<(Self, Created), SegmentError> {
        let bytes = Self::segment_bytes(count, class as u64).ok_or_else(|| too_large(class as u64))?;
        let created = Created::new(Kind::Pool, bytes)?;
        Ok((Self::over(&created.segment, count, class), created))
    }

    /// A peer's segment of the shape that it claims.
    pub(crate) fn receive(memory: impl AsFd, count: u32, chunk_bytes: u64) -> Result<Self, SegmentError> {
        let is_shape = (1..=CHUNKS_MAX).contains(&count) && chunk_bytes > 0;
        let bytes = Self::segment_bytes(count, chunk_bytes)
            .filter(|_| is_shape)
            .ok_or_else(|| too_large(chunk_bytes))?;
        if !chunk_bytes.is_multiple_of(CHUNK_ALIGN as u64) {
            let reason = format!("chunks of {chunk_bytes} B are no multiple of {CHUNK_ALIGN}");
            return Err(SegmentError::Unusable { kind: Kind::Pool.name(), reason });
        }
        let segment = Segment::receive(memory, Kind::Pool, bytes)?;
        Ok(Self::over(&segment, count, chunk_bytes as usize))
    }

    fn segment_bytes(count: u32, chunk_bytes: u64) -> Option<usize> {
        let chunks = chunk_bytes.checked_mul(u64::from(count))?;
        usize::try_from(chunks.checked_add(CHUNKS_OFFSET as u64)?)
            .ok()
            .filter(|&bytes| bytes <= isize::MAX as usize)
    }

    fn over(segment: &Arc<Segment>, count: u32, chunk_bytes: usize) -> Self {
        let chunks = segment.own_range(CHUNKS_OFFSET, count as usize * chunk_bytes, CHUNK_ALIGN);
        Self { chunks, count, chunk_bytes }
    }

    /// Chunks in the segment.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of one chunk.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Copies the first bytes of a chunk; `false` if the segment has not as many. They may be torn if the publisher is not
    /// to be trusted.
    pub(crate) fn copy_payload(&self, chunk: u32, to: &mut [u8]) -> bool {
        if chunk >= self.count || to.len() > self.chunk_bytes {
            return false;
        }
        // SAFETY: in the proven range by the check; chunks are aligned to pages.
        unsafe { copy_out(self.chunks.start().add(chunk as usize * self.chunk_bytes), to) };
        true
    }

    /// The first `length` bytes of a chunk, if the segment has them.
    ///
    /// # Safety
    /// - The slot word of a message in this chunk has been read, and its space is not given back while the slice
    ///   lives, unless it is pinned.
    /// - The publisher is trusted not to write to a chunk that it has sent.
    #[inline]
    pub(crate) unsafe fn payload<'a>(&self, chunk: u32, length: u64) -> Option<&'a [u8]> {
        if chunk >= self.count || length > self.chunk_bytes as u64 {
            return None;
        }
        // SAFETY: `chunk < count` and `length <= chunk_bytes`: in the proven range. Published, as the caller saw
        // the slot word, and not rewritten before it is given back, which the caller rules out.
        unsafe {
            let start = self.chunks.start().add(chunk as usize * self.chunk_bytes);
            Some(std::slice::from_raw_parts(start.as_ptr(), length as usize))
        }
    }
}

/// The writable side: the segments of our own pool, by number.
#[derive(Debug, Default)]
pub(crate) struct OwnChunks {
    segments: Vec<PoolMemory>,
}

impl OwnChunks {
    pub(crate) fn add(&mut self, memory: PoolMemory) {
        assert!(memory.chunks.is_writable(), "chunks are lent from segments of our own");
        self.segments.push(memory);
    }

    /// The first `length` bytes of a chunk, which carries a message, or one that is being written.
    ///
    /// # Panics
    /// If they do not lie in the chunk: an error in this library.
    pub(crate) fn payload(&self, address: ChunkAddress, length: usize) -> &[u8] {
        let memory = &self.segments[address.segment as usize];
        assert!(address.chunk < memory.count && length <= memory.chunk_bytes, "messages lie in their chunk");
        // SAFETY: in the proven range by the assertion; memory of our own, which only `payload_mut` writes, and that
        // borrows these chunks exclusively.
        unsafe {
            let start = memory.chunks.start().add(address.chunk as usize * memory.chunk_bytes);
            std::slice::from_raw_parts(start.as_ptr(), length)
        }
    }

    /// The first `length` bytes of a chunk that has been taken from the pool and carries no message yet.
    ///
    /// # Safety
    /// - The pool that counts these chunks has handed `address` out, and not got it back.
    #[inline]
    pub(crate) unsafe fn payload_mut(&mut self, address: ChunkAddress, length: usize) -> &mut [u8] {
        let memory = &self.segments[address.segment as usize];
        assert!(address.chunk < memory.count && length <= memory.chunk_bytes, "loans lie in their chunk");
        // SAFETY: in the proven range by the assertion; mapped for writing; handed out to the caller alone, and
        // borrowed exclusively; no reader looks at it, as no slot word names it that has not been given back.
        unsafe {
            let start = memory.chunks.start().add(address.chunk as usize * memory.chunk_bytes);
            std::slice::from_raw_parts_mut(start.as_ptr(), length)
        }
    }
}

/// The refusal of a message whose chunk no address space holds.
pub(crate) fn too_large(chunk_bytes: u64) -> SegmentError {
    let reason = format!("chunks of {chunk_bytes} B cannot be addressed");
    SegmentError::Unusable { kind: Kind::Pool.name(), reason }
}
