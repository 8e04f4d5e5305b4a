//! Where the parts of a region lie, and whether a file says so that is said to be one.

use std::os::fd::AsFd;

use rustix::io::{self, Errno};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::RegionMemoryError as Error;
use crate::layout::header::{HEADER_BYTES, Header, KIND_REGION, LAYOUT_VERSION, MAGIC};
use crate::layout::region::{
    IDENTITY_BYTES_MAX, IDENTITY_OFFSET, RECORD_BYTES, REGION_ALIGN, REGION_HEADER_OFFSET, REGION_READY,
    RESERVE_BYTES_MAX, RegionHeader, SEATS_MAX,
};

/// The parts of a region. All follows from the first three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) seats: usize,
    pub(crate) identity_bytes: usize,
    /// Address space of an attachment, in bytes, all parts included.
    pub(crate) reserve_bytes: usize,
    pub(crate) records_offset: usize,
    pub(crate) data_offset: usize,
}

/// What a region's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) shape: Shape,
    pub(super) is_ready: bool,
}

impl Shape {
    /// The shape of a region with so many seats, an identity of so many bytes, and address space for so many bytes of data.
    pub(crate) fn new(seats: usize, identity_bytes: usize, data_reserved: u64) -> Result<Self, Error> {
        let limit = |what, value: u64, limit: u64| Error::Limit { what, value, limit };
        if seats == 0 || seats > SEATS_MAX {
            return Err(limit("seats", seats as u64, SEATS_MAX as u64));
        }
        if identity_bytes > IDENTITY_BYTES_MAX {
            return Err(limit(
                "bytes of its type's description",
                identity_bytes as u64,
                IDENTITY_BYTES_MAX as u64,
            ));
        }
        let records_offset = (IDENTITY_OFFSET + identity_bytes).next_multiple_of(REGION_ALIGN);
        let data_offset = (records_offset + seats * RECORD_BYTES).next_multiple_of(REGION_ALIGN);
        let reserve =
            data_reserved.checked_add(data_offset as u64).filter(|bytes| *bytes <= RESERVE_BYTES_MAX);
        let reserve = reserve.ok_or(limit("bytes of address space", data_reserved, RESERVE_BYTES_MAX))?;
        let reserve_bytes = (reserve as usize).next_multiple_of(REGION_ALIGN);
        Ok(Self { seats, identity_bytes, reserve_bytes, records_offset, data_offset })
    }

    /// The two headers of a region of `bytes` bytes that is not ready yet.
    pub(super) fn headers(&self, bytes: u64) -> [u8; IDENTITY_OFFSET] {
        let header =
            Header { magic: MAGIC, version: LAYOUT_VERSION, kind: KIND_REGION, bytes, reserved: [0; 5] };
        let region = RegionHeader {
            seats: self.seats as u32,
            identity_bytes: self.identity_bytes as u32,
            records_offset: self.records_offset as u64,
            data_offset: self.data_offset as u64,
            reserve_bytes: self.reserve_bytes as u64,
            ..RegionHeader::new_zeroed()
        };
        let mut headers = [0; IDENTITY_OFFSET];
        headers[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        headers[REGION_HEADER_OFFSET..].copy_from_slice(region.as_bytes());
        headers
    }

    /// Reads the headers of a file, and refuses what does not follow from seats and identity. Nothing is mapped for it.
    pub(super) fn read(file: impl AsFd, file_bytes: u64) -> Result<Said, Error> {
        let unusable = |reason: String| Err(Error::Unusable { reason });
        let mut headers = [0; IDENTITY_OFFSET];
        match io::pread(&file, &mut headers[..], 0) {
            Ok(count) if count == headers.len() => {}
            Ok(count) => return unusable(format!("it has {count} B, which is less than a header")),
            Err(source) => return Err(Error::System { action: "read the header of a region", source }),
        }
        let (header, region) = headers.split_at(REGION_HEADER_OFFSET);
        let (Ok(header), Ok(region)) =
            (Header::read_from_bytes(header), RegionHeader::read_from_bytes(region))
        else {
            return Err(Error::System { action: "read the header of a region", source: Errno::INVAL });
        };
        if header.magic != MAGIC {
            return unusable(format!("it starts with {:#018x}, not with a segment's header", header.magic));
        }
        if header.version != LAYOUT_VERSION {
            return unusable(format!("it has layout {}, and we know {LAYOUT_VERSION}", header.version));
        }
        if header.kind != KIND_REGION {
            return unusable(format!("its header says kind {}, and a region is {KIND_REGION}", header.kind));
        }
        let shape = Self::said_by(&region)?;
        if header.bytes < shape.data_offset as u64 || file_bytes < header.bytes {
            let data_offset = shape.data_offset;
            return unusable(format!(
                "it has {file_bytes} B, was made with {}, and its data begin at {data_offset}",
                header.bytes
            ));
        }
        Ok(Said { shape, is_ready: region.ready == REGION_READY })
    }

    fn said_by(region: &RegionHeader) -> Result<Self, Error> {
        let contradiction =
            || Error::Unusable { reason: format!("its header contradicts itself: {region:?}") };
        let data = region.reserve_bytes.checked_sub(region.data_offset).ok_or_else(contradiction)?;
        let shape = Self::new(region.seats as usize, region.identity_bytes as usize, data);
        let shape = shape.map_err(|_| contradiction())?;
        let is_as_said = (region.records_offset, region.data_offset, region.reserve_bytes)
            == (shape.records_offset as u64, shape.data_offset as u64, shape.reserve_bytes as u64);
        if is_as_said { Ok(shape) } else { Err(contradiction()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_are_refused() {
        for (seats, identity, reserve) in [
            (0, 0, 0),
            (SEATS_MAX + 1, 0, 0),
            (1, IDENTITY_BYTES_MAX + 1, 0),
            (1, 0, u64::MAX),
            (1, 0, 1 << 46),
        ] {
            assert!(matches!(Shape::new(seats, identity, reserve), Err(Error::Limit { .. })));
        }
    }

    #[test]
    fn parts_lie_one_after_the_other() {
        let shape = Shape::new(33, 5000, 1).expect("it is possible");
        assert_eq!((shape.records_offset, shape.data_offset, shape.reserve_bytes), (8192, 16384, 20480));
    }
}
