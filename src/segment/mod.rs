//! Owners of segments, and the only way to their bytes.
//!
//! A segment is one memfd that exactly one process may write. It is either created here, sealed and handed
//! out, or received from a peer and verified before it is mapped. Offsets that a peer names are *claimed*
//! ranges; only a *proven* range gives access to memory.

mod created;
mod error;
mod range;
mod received;
pub(crate) mod region;

use std::sync::Arc;

use crate::layout::header;
use crate::os::mmap::Mapping;

pub(crate) use created::Created;
pub use error::SegmentError;
pub(crate) use range::{Claimed, Proven};

/// What a segment is for; its header says so too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A publisher's ring of slots.
    Ring,
    /// A publisher's pool of chunks.
    Pool,
    /// A subscriber's cursor and pins.
    Cursor,
    /// A node's wake-up hints: the one kind that peers may write.
    Bell,
    /// The counters of a signal, or the cells of a table.
    Board,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Self::Ring => header::KIND_RING,
            Self::Pool => header::KIND_POOL,
            Self::Cursor => header::KIND_CURSOR,
            Self::Bell => header::KIND_BELL,
            Self::Board => header::KIND_BOARD,
        }
    }

    /// The word for this kind in texts, and in the name of its memfd.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Pool => "pool",
            Self::Cursor => "cursor",
            Self::Bell => "bell",
            Self::Board => "board",
        }
    }
}

/// A mapped segment whose header has been written or verified.
#[derive(Debug)]
pub(crate) struct Segment {
    mapping: Mapping,
}

impl Segment {
    /// Bytes of the segment, header included.
    pub(crate) fn bytes(&self) -> usize {
        self.mapping.bytes()
    }

    /// The range of `bytes` bytes at `offset`, which our own arithmetic, not a peer, came up with.
    ///
    /// # Panics
    /// If the range does not lie in the segment: an error in this library.
    pub(crate) fn own_range(self: &Arc<Self>, offset: usize, bytes: usize, align: usize) -> Proven {
        let claimed = Claimed { offset: offset as u64, bytes: bytes as u64, align };
        claimed.prove(self).expect("ranges of our own making lie in the segment")
    }
}
