//! The bytes of a region: what every process that attaches it has to know, who is attached, and the program's data.
//!
//! Header, region header, identity, records of seats, data. All offsets follow from the number of seats and the length of
//! the identity, and who attaches a region refuses one whose header says anything else. How large a region is now is the
//! kernel's word alone.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offset of the region header.
pub const REGION_HEADER_OFFSET: usize = 64;
/// Offset of the identity: what the data are, as whoever made the region encoded it.
pub const IDENTITY_OFFSET: usize = 128;
/// The longest identity in bytes.
pub const IDENTITY_BYTES_MAX: usize = 1 << 16;
/// Records and data begin at a multiple of this.
pub const REGION_ALIGN: usize = 4096;
/// Bytes of a record.
pub const RECORD_BYTES: usize = 128;
/// Seats of a region are at least one, and at most these: an owner's word has so many.
pub const SEATS_MAX: usize = 65_535;
/// Shares in locks that a seat can have at a time.
pub const SHARES: usize = 8;
/// Where the offset of the lock begins in a share; below it, how many it is.
pub const SHARE_PLACE_SHIFT: u32 = 8;
/// The most bytes of address space that a region may ask for.
pub const RESERVE_BYTES_MAX: u64 = 1 << 46;
/// The byte on which those who open a file as a region lock each other out. Seats lock the byte of their number.
pub const OPENING_BYTE: u64 = 1 << 62;

/// [`RegionHeader::ready`] of a region whose data have been initialised.
pub const REGION_READY: u64 = u64::from_le_bytes(*b"READYNOW");

/// [`RegionHeader::removed`] of a region that has no name any more.
pub const REGION_REMOVED: u64 = u64::from_le_bytes(*b"NAMELESS");

/// [`Record::kind`] of a seat that stands for an attachment.
pub const SEAT_PROCESS: u64 = 1;
/// [`Record::kind`] of a thread's seat.
pub const SEAT_THREAD: u64 = 2;
/// [`Record::kind`] of the seat of a thread that has ended, and left a guard or a share that nobody gave back.
pub const SEAT_LEFT: u64 = 3;

/// What a region's maker says of its shape, and never changes but for the last three words in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionHeader {
    /// Records.
    pub seats: u32,
    /// Bytes of the identity.
    pub identity_bytes: u32,
    /// Where the records begin.
    pub records_offset: u64,
    /// Where the data begin.
    pub data_offset: u64,
    /// Bytes of address space that an attachment takes, so that the region can grow without moving.
    pub reserve_bytes: u64,
    /// [`REGION_READY`] from the moment at which the data are there; before, only whoever makes the region knows it.
    pub ready: u64,
    /// Records that were ever used: none of a higher number is.
    pub used: u64,
    /// [`REGION_REMOVED`] once its name has been taken away: whoever has it keeps it, and hands it on to nobody.
    pub removed: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<RegionHeader>() == IDENTITY_OFFSET - REGION_HEADER_OFFSET);
const _: () = assert!(std::mem::offset_of!(RegionHeader, ready) == 32);
const _: () = assert!(std::mem::offset_of!(RegionHeader, used) == 40);
const _: () = assert!(std::mem::offset_of!(RegionHeader, removed) == 48);

/// Offsets of the words of a record.
pub mod record {
    /// How often the seat was taken.
    pub const GENERATION: usize = 0;
    /// Process and thread, for people: the process number in the upper half.
    pub const WHO: usize = 8;
    /// When the seat was taken, in nanoseconds of the machine's monotonic clock.
    pub const SINCE: usize = 16;
    /// What it stands for.
    pub const KIND: usize = 24;
    /// The offset of the lock that its thread waits for; zero if none.
    pub const WAITING: usize = 32;
    /// The place in the order of those who wait for it.
    pub const TICKET: usize = 40;
    /// Shares in locks, each a word.
    pub const SHARES: usize = 64;
}
