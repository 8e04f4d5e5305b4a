//! Claimed and proven ranges: a peer's offset is an allegation until it has been checked against the mapping.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::Segment;
use crate::os::mmap::Access;

/// A range that somebody says lies in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimed {
    /// Bytes from the start of the segment.
    pub(crate) offset: u64,
    /// Bytes of the range.
    pub(crate) bytes: u64,
    /// The alignment that the first byte must have; a power of two.
    pub(crate) align: usize,
}

/// A range that lies in a mapped segment, which it keeps mapped.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    start: NonNull<u8>,
    bytes: usize,
    segment: Arc<Segment>,
}

// SAFETY: a proven range is an address, a length and a shared owner of plain memory; whoever reads or writes
// through it proves its own right to do so.
unsafe impl Send for Proven {}
// SAFETY: as above; `&Proven` gives no more than `Proven` does.
unsafe impl Sync for Proven {}

/// Why a claimed range is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} B at offset {offset}, aligned to {align}, do not lie in a segment of {segment_bytes} B")]
pub(crate) struct RangeError {
    offset: u64,
    bytes: u64,
    align: usize,
    segment_bytes: usize,
}

impl Claimed {
    /// Checks the claim against what is mapped.
    pub(crate) fn prove(self, segment: &Arc<Segment>) -> Result<Proven, RangeError> {
        let Self { offset, bytes, align } = self;
        let segment_bytes = segment.bytes();
        let refused = RangeError { offset, bytes, align, segment_bytes };
        let end = offset.checked_add(bytes).ok_or(refused)?;
        if end > segment_bytes as u64 {
            return Err(refused);
        }
        // SAFETY: `offset <= end <= segment_bytes`, so the result lies in the mapping or just past its end.
        let start = unsafe { segment.mapping.base().add(offset as usize) };
        if !start.cast::<u8>().as_ptr().addr().is_multiple_of(align) {
            return Err(refused);
        }
        Ok(Proven { start, bytes: bytes as usize, segment: Arc::clone(segment) })
    }
}

impl Proven {
    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes of the range.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this process may store into the range.
    pub(crate) fn is_writable(&self) -> bool {
        self.segment.mapping.access() == Access::ReadWrite
    }

    /// The 64-bit word at `offset` bytes into the range. In a range that is not writable it must only be loaded.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.bytes, "words of our layouts lie in their range");
        let word = self.start.as_ptr().wrapping_add(offset).cast::<u64>();
        assert!(word.is_aligned(), "words of our layouts are aligned");
        // SAFETY: in bounds and aligned as just asserted; mapped as long as `self`, and the segment lives at
        // least as long; every process touches this word with atomics only.
        unsafe { AtomicU64::from_ptr(word) }
    }

    /// The 32-bit word at `offset` bytes into the range, under the same conditions.
    #[inline]
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.bytes, "words of our layouts lie in their range");
        let word = self.start.as_ptr().wrapping_add(offset).cast::<u32>();
        assert!(word.is_aligned(), "words of our layouts are aligned");
        // SAFETY: as for `word`, with four bytes.
        unsafe { AtomicU32::from_ptr(word) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Created, Kind};
    use proptest::prelude::*;

    fn segment() -> Arc<Segment> {
        Created::new(Kind::Ring, 8192).expect("8 KiB are available").segment
    }

    #[test]
    fn claims_outside_or_out_of_line_are_refused() {
        let segment = segment();
        for (offset, bytes, align) in
            [(8185, 8, 1), (u64::MAX, 1, 1), (8192, 1, 1), (u64::MAX, u64::MAX, 1), (4, 8, 8)]
        {
            assert!(Claimed { offset, bytes, align }.prove(&segment).is_err(), "{bytes} B at {offset}");
        }
    }

    #[test]
    fn the_whole_segment_and_its_empty_end_are_ranges() {
        let segment = segment();
        for (offset, bytes) in [(0, 8192), (8192, 0)] {
            assert!(Claimed { offset, bytes, align: 1 }.prove(&segment).is_ok(), "{bytes} B at {offset}");
        }
    }

    proptest! {
        #[test]
        fn a_proven_range_lies_in_its_segment(offset: u64, bytes: u64) {
            let segment = segment();
            if let Ok(proven) = (Claimed { offset, bytes, align: 8 }).prove(&segment) {
                prop_assert!(offset + proven.bytes() as u64 <= 8192);
                prop_assert!(offset.is_multiple_of(8));
            }
        }
    }
}
