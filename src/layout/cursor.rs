//! A cursor segment, one for each pair of subscriber and publisher: the header and the cursor line in the first
//! page, the pins from the second page on, and after them the notes.
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
/// The most notes of one cursor segment.
pub const NOTES_MAX: u32 = 65536;
/// The bits of a note of a queue that say what became of a message; above them is its sequence number plus 1.
pub const NOTE_MASK: u64 = 0b11;
/// Where the sequence number starts in such a note.
pub const NOTE_SHIFT: u32 = 2;
/// The message has been acknowledged.
pub const NOTE_ACKNOWLEDGED: u64 = 1;
/// The message has been given back.
pub const NOTE_RETURNED: u64 = 2;
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
    /// Messages that were not received because they were overwritten or withdrawn; for people.
    pub lost: u64,
    /// In a queue: how many messages have been given back.
    pub returned: u64,
    /// In a queue: 1 more than the sequence number of the first message that its consumer will not take, as it leaves;
    /// zero as long as it stays.
    pub left: u64,
    /// In a queue without depth: 1 more than the sequence number of the message that was taken last.
    pub taken: u64,
    /// In a queue without depth: how often its consumer has asked for a message and found none.
    pub asked: u64,
    /// Zero.
    pub reserved: [u64; 9],
}

const _: () = assert!(size_of::<CursorLine>() == CURSOR_LINE_BYTES);
const _: () = assert!(std::mem::offset_of!(CursorLine, pins_used) == 8);
const _: () = assert!(std::mem::offset_of!(CursorLine, lost) == 16);
const _: () = assert!(std::mem::offset_of!(CursorLine, returned) == 24);
const _: () = assert!(std::mem::offset_of!(CursorLine, left) == 32);
const _: () = assert!(std::mem::offset_of!(CursorLine, taken) == 40);
const _: () = assert!(std::mem::offset_of!(CursorLine, asked) == 48);
const _: () = assert!((CURSOR_PLACES + 1) * CURSOR_LINE_BYTES == PINS_OFFSET);
