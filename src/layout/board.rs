//! A board segment: memory that one endpoint writes and many read in place, without cursors. It holds the counters of a
//! signal or the cells of a table.
//!
//! The header; the board line, somewhere in the first page; from the second page on the summary, one word for each group of
//! members, if there is more than one group; then, each at a multiple of [`BOARD_SECTION_ALIGN`], the counters of a signal that
//! do not fit into the board line, or the index and the cells of a table.

/// Bytes of a board line; it starts at a multiple of them.
pub const BOARD_LINE_BYTES: usize = 256;
/// The places that a board line may take in its page; the header's line is none of them.
pub const BOARD_PLACES: usize = 15;
/// Bytes from the start of the segment to the summary, or to what comes first without one.
pub const BOARD_SUMMARY_OFFSET: usize = 4096;
/// Members of a group.
pub const BOARD_GROUP: usize = 64;
/// The parts of the segment after the first page start at multiples of this many bytes.
pub const BOARD_SECTION_ALIGN: usize = 128;

/// Signals that fit into the board line.
pub const SIGNALS_IN_LINE: usize = 15;
/// The most ids of one signal.
pub const SIGNAL_IDS_MAX: u32 = 65536;

/// The most cells of a table.
pub const TABLE_CELLS_MAX: u32 = 1 << 20;
/// The longest key in bytes.
pub const TABLE_KEY_BYTES_MAX: u32 = 1024;
/// The longest value in bytes.
pub const TABLE_VALUE_BYTES_MAX: u32 = 1 << 20;
/// Cells start at multiples of this many bytes.
pub const CELL_ALIGN: usize = 64;
/// Bytes from the start of a cell to its key.
pub const CELL_KEY_OFFSET: usize = 8;
/// The bit of a cell's word that says that there is an entry.
pub const CELL_THERE: u64 = 0b01;
/// The bit of a cell's word that says in which of the two buffers its value is.
pub const CELL_BUFFER: u64 = 0b10;
/// Where the version starts in a cell's word.
pub const CELL_VERSION_SHIFT: u32 = 2;
/// Where a key's tag starts in a slot of the index; below it is the number of the cell plus 1.
pub const INDEX_TAG_SHIFT: u32 = 32;
/// Slots of the smallest index.
pub const INDEX_SLOTS_MIN: usize = 8;
/// What the hash of a key starts with.
pub const HASH_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// What the hash is multiplied by at each step.
pub const HASH_PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// The words of a board that change with it.
#[repr(C)]
pub struct BoardLine {
    /// The sum of a signal's counters; the version of a table. Raised after everything else.
    pub whole: u64,
    /// The counters of a signal with so few of them.
    pub counters: [u64; 15],
    /// How often a slot of a table's index has been moved.
    pub moved: u64,
    /// Zero.
    pub reserved: [u64; 15],
}

const _: () = assert!(size_of::<BoardLine>() == BOARD_LINE_BYTES);
const _: () = assert!(std::mem::offset_of!(BoardLine, counters) == 8);
const _: () = assert!(std::mem::offset_of!(BoardLine, moved) == 128);
const _: () = assert!((BOARD_PLACES + 1) * BOARD_LINE_BYTES == BOARD_SUMMARY_OFFSET);
