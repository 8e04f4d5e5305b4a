//! Segments of a peer: the kernel's word on size and seals first, then the mapping, then the header.
//!
//! The order matters: an unsealed file could shrink under the mapping, and the access would be a SIGBUS.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::{Kind, Segment, SegmentError};
use crate::layout::header::{HEADER_BYTES, Header, LAYOUT_VERSION, MAGIC};
use crate::os::memfd::{self, Inspection};
use crate::os::mmap::{Access, Mapping};

impl Segment {
    /// Verifies and maps a segment that a peer sent, which must be of this kind and size. Read-only, but for
    /// bells.
    pub(crate) fn receive(memory: impl AsFd, kind: Kind, bytes: usize) -> Result<Arc<Self>, SegmentError> {
        check_file(memory.as_fd(), kind, bytes)?;
        let access = if kind == Kind::Bell { Access::ReadWrite } else { Access::Read };
        let mapping = Mapping::new(memory, bytes, access).map_err(|source| SegmentError::Map {
            kind: kind.name(),
            bytes: bytes as u64,
            source,
        })?;
        let segment = Arc::new(Self { mapping });
        check_header(&segment, kind)?;
        Ok(segment)
    }
}

fn check_file(memory: impl AsFd, kind: Kind, bytes: usize) -> Result<(), SegmentError> {
    let unusable = |reason| SegmentError::Unusable { kind: kind.name(), reason };
    let inspection =
        memfd::inspect(memory).map_err(|error| unusable(format!("it is not a memory file ({error})")))?;
    let seals = if kind == Kind::Bell { memfd::SEALS_FIXED_SIZE } else { memfd::SEALS_ONE_WRITER };
    if !inspection.seals.contains(seals) {
        return Err(unusable(format!("its seals are {:?}, not {seals:?}", inspection.seals)));
    }
    if bytes < HEADER_BYTES || inspection.size != bytes as u64 {
        return Err(unusable(format!("it has {} B, not {bytes}", inspection.size)));
    }
    // Mapping what is not there would have us pay for it.
    if inspection.allocated < inspection.size {
        let Inspection { allocated, size, .. } = inspection;
        return Err(unusable(format!("only {allocated} B of its {size} B are allocated")));
    }
    Ok(())
}

fn check_header(segment: &Arc<Segment>, kind: Kind) -> Result<(), SegmentError> {
    let place = segment.own_range(0, HEADER_BYTES, align_of::<Header>()).start().cast::<Header>();
    // SAFETY: the range is mapped and aligned, and every bit pattern is a header. The peer may be writing it
    // while we read; a volatile read makes that an odd value, which the checks below turn into an error.
    let header = unsafe { place.as_ptr().read_volatile() };
    let unusable = |reason| Err(SegmentError::Unusable { kind: kind.name(), reason });
    if header.magic != MAGIC {
        return unusable(format!("it starts with {:#018x}, not with a segment's header", header.magic));
    }
    if header.version != LAYOUT_VERSION {
        return unusable(format!("it has layout {}, and we know {LAYOUT_VERSION}", header.version));
    }
    if header.kind != kind.number() || header.bytes != segment.bytes() as u64 {
        return unusable(format!("its header says kind {}, {} B", header.kind, header.bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Created;

    fn reason(result: Result<Arc<Segment>, SegmentError>) -> String {
        result.expect_err("the segment must be refused").to_string()
    }

    #[test]
    fn a_created_segment_is_received() {
        let created = Created::new(Kind::Cursor, 8192).expect("8 KiB are available");
        let received = Segment::receive(&created.memory, Kind::Cursor, 8192).expect("it is sound");
        assert_eq!(received.bytes(), 8192);
    }

    #[test]
    fn another_kind_or_size_is_refused() {
        let created = Created::new(Kind::Cursor, 8192).expect("8 KiB are available");
        assert!(reason(Segment::receive(&created.memory, Kind::Ring, 8192)).contains("kind 3"));
        assert!(reason(Segment::receive(&created.memory, Kind::Cursor, 4096)).contains("8192 B, not 4096"));
        assert!(reason(Segment::receive(&created.memory, Kind::Cursor, 0)).contains("not 0"));
    }

    #[test]
    fn an_unsealed_file_is_refused_before_it_is_mapped() {
        let memory = memfd::create("tidepost-test", 8192).expect("8 KiB are available");
        assert!(reason(Segment::receive(&memory, Kind::Cursor, 8192)).contains("seals"));
        memfd::seal(&memory, memfd::SEALS_FIXED_SIZE).expect("a new memfd can be sealed");
        assert!(reason(Segment::receive(&memory, Kind::Cursor, 8192)).contains("seals"));
    }

    #[test]
    fn a_file_without_pages_is_refused_before_it_is_mapped() {
        let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("tidepost-test", flags).expect("memory files can be made");
        rustix::fs::ftruncate(&memory, 1 << 40).expect("a hole costs nothing");
        memfd::seal(&memory, memfd::SEALS_ONE_WRITER).expect("a new memfd can be sealed");
        let reason = reason(Segment::receive(&memory, Kind::Pool, 1 << 40));
        assert!(reason.contains("only 0 B of its 1099511627776 B are allocated"), "{reason}");
    }

    #[test]
    fn a_sealed_file_without_a_header_is_refused() {
        let memory = memfd::create("tidepost-test", 8192).expect("8 KiB are available");
        memfd::seal(&memory, memfd::SEALS_ONE_WRITER).expect("a new memfd can be sealed");
        assert!(reason(Segment::receive(&memory, Kind::Cursor, 8192)).contains("header"));
    }

    #[test]
    fn a_peer_cannot_map_our_segment_for_writing() {
        let created = Created::new(Kind::Ring, 8192).expect("8 KiB are available");
        let denied = Mapping::new(&created.memory, 8192, Access::ReadWrite).expect_err("the seal forbids it");
        assert_eq!(denied, rustix::io::Errno::PERM);
    }

    #[test]
    fn a_pipe_is_refused() {
        let (reader, _writer) = rustix::pipe::pipe().expect("pipes are available");
        assert!(reason(Segment::receive(&reader, Kind::Ring, 8192)).contains("memory file"));
    }
}
