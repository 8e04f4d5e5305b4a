//! The first 64 bytes of every segment: what it is, so that a file sent by mistake is told from a segment.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first eight bytes of every segment.
pub const MAGIC: u64 = u64::from_le_bytes(*b"TIDEPOST");
/// Raised with every change to this module.
pub const LAYOUT_VERSION: u32 = 3;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;

/// The segment holds a ring of slots.
pub const KIND_RING: u32 = 1;
/// The segment holds the chunks of a pool.
pub const KIND_POOL: u32 = 2;
/// The segment holds a cursor and its pins.
pub const KIND_CURSOR: u32 = 3;
/// The segment holds the lines of a bell.
pub const KIND_BELL: u32 = 4;
/// The segment holds a board.
pub const KIND_BOARD: u32 = 5;
/// The segment is a region, which everybody who attaches it may write.
pub const KIND_REGION: u32 = 6;

/// The header. Its writer fills it before the segment is handed to anyone, and never changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub version: u32,
    /// One of the `KIND_` numbers.
    pub kind: u32,
    /// Bytes of the whole segment, header included.
    pub bytes: u64,
    /// Zero.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(Header, version) == 8);
const _: () = assert!(std::mem::offset_of!(Header, kind) == 12);
const _: () = assert!(std::mem::offset_of!(Header, bytes) == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_these_bytes() {
        let header = Header {
            magic: MAGIC,
            version: LAYOUT_VERSION,
            kind: KIND_CURSOR,
            bytes: 0x2000,
            reserved: [0; 5],
        };
        let mut golden = [0; HEADER_BYTES];
        golden[..18].copy_from_slice(b"TIDEPOST\x03\0\0\0\x03\0\0\0\x00\x20");
        assert_eq!(header.as_bytes(), golden);
    }
}
