//! A pool segment: the header, then chunks of one size from the second page on.

/// Bytes from the start of the segment to the first chunk.
pub const CHUNKS_OFFSET: usize = 4096;
/// Chunk sizes are multiples of this many bytes.
pub const CHUNK_ALIGN: usize = 4096;
/// The most chunks of one segment.
pub const CHUNKS_MAX: u32 = 64;
