//! A cursor segment, one for each pair of subscriber and publisher: the header and the cursor line in the first
//! page, the pins from the second page on.
//!
//! The cursor line's place varies from segment to segment: at one and the same page offset, the lines of many
//! subscribers would compete for one cache set of the publisher.

/// Cursor lines start at multiples of this many bytes; lines of different writers never share one.
pub const CURSOR_LINE_BYTES: usize = 128;
/// The places that a cursor line may take in its page; the header's line is none of them.
pub const CURSOR_PLACES: usize = 31;
/// Bytes from the start of the segment to the first pin.
pub const PINS_OFFSET: usize = 4096;
/// The most pins of one cursor segment.
pub const PINS_MAX: u32 = 65536;
/// A pin that holds nothing.
pub const PIN_FREE: u64 = 0;
/// The cursor of a subscriber that has not published one yet: it stands where the publisher let it start.
pub const CURSOR_UNSET: u64 = 0;
/// The cursor of a subscriber that will read no more, though it may still hold samples.
pub const CURSOR_GONE: u64 = u64::MAX;

/// The words that a subscriber publishes to one publisher.
#[repr(C)]
pub struct CursorLine {
    /// Every message with a lower sequence number has been read.
    pub cursor: u64,
    /// Pins at this index and beyond have never been used.
    pub pins_used: u64,
    /// Zero.
    pub reserved: [u64; 14],
}

const _: () = assert!(size_of::<CursorLine>() == CURSOR_LINE_BYTES);
const _: () = assert!(std::mem::offset_of!(CursorLine, pins_used) == 8);
const _: () = assert!((CURSOR_PLACES + 1) * CURSOR_LINE_BYTES == PINS_OFFSET);
