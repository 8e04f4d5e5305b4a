//! Segments of our own: allocated, mapped for writing, headed, and only then sealed.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Kind, Segment, SegmentError};
use crate::layout::header::{HEADER_BYTES, Header, LAYOUT_VERSION, MAGIC};
use crate::os::memfd;
use crate::os::mmap::{Access, Mapping};

/// A segment that this process writes, with the descriptor that its peers get.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub(crate) segment: Arc<Segment>,
    pub(crate) memory: Arc<OwnedFd>,
}

impl Created {
    /// A zeroed segment of `bytes` bytes, all allocated. Once sealed, nobody else can write it; a bell stays
    /// writable for those who get its descriptor. Does not block beyond the kernel's allocation.
    pub(crate) fn new(kind: Kind, bytes: usize) -> Result<Self, SegmentError> {
        assert!(bytes >= HEADER_BYTES, "a segment holds at least its header");
        let failed = |source| SegmentError::Create { kind: kind.name(), bytes: bytes as u64, source };
        let memory = memfd::create(&format!("tidepost-{}", kind.name()), bytes as u64).map_err(failed)?;
        let mapping = Mapping::new(&memory, bytes, Access::ReadWrite)
            .map_err(|source| SegmentError::Map { kind: kind.name(), bytes: bytes as u64, source })?;
        let segment = Arc::new(Segment { mapping });
        write_header(&segment, kind);
        let seals = if kind == Kind::Bell { memfd::SEALS_FIXED_SIZE } else { memfd::SEALS_ONE_WRITER };
        memfd::seal(&memory, seals).map_err(failed)?;
        Ok(Self { segment, memory: Arc::new(memory) })
    }
}

fn write_header(segment: &Arc<Segment>, kind: Kind) {
    let bytes = segment.bytes() as u64;
    let header =
        Header { magic: MAGIC, version: LAYOUT_VERSION, kind: kind.number(), bytes, reserved: [0; 5] };
    let place = segment.own_range(0, HEADER_BYTES, align_of::<Header>());
    // SAFETY: the range lies in a writable mapping, and nobody else knows of the segment yet.
    unsafe { place.start().cast::<Header>().write(header) };
}
