//! The shapes of boards: where in a segment their words are.

use super::summary::groups;
use crate::layout::board::*;

/// Why some numbers are not the shape of a board.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {value}, and must be {due}")]
pub(crate) struct ShapeError {
    what: &'static str,
    value: u64,
    due: String,
}

fn check(what: &'static str, value: u32, least: u32, most: u32) -> Result<(), ShapeError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ShapeError { what, value: value.into(), due: format!("in {least}..={most}") })
}

/// Where the board line is. Its place varies from board to board: at one and the same page offset, the lines of many boards
/// would compete for one cache set of whoever looks at all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LineOffset(u32);

impl LineOffset {
    fn at_place(place: u64) -> Self {
        Self((1 + (place % BOARD_PLACES as u64) as u32) * BOARD_LINE_BYTES as u32)
    }

    fn claimed(offset: u32) -> Result<Self, ShapeError> {
        let places = BOARD_LINE_BYTES as u32..BOARD_SUMMARY_OFFSET as u32;
        if places.contains(&offset) && (offset as usize).is_multiple_of(BOARD_LINE_BYTES) {
            return Ok(Self(offset));
        }
        let due = format!("a multiple of {BOARD_LINE_BYTES} in the first page");
        Err(ShapeError { what: "the offset of the board line", value: offset.into(), due })
    }
}

fn end_of_summary(members: usize) -> usize {
    (BOARD_SUMMARY_OFFSET + groups(members) * 8).next_multiple_of(BOARD_SECTION_ALIGN)
}

fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(BOARD_SUMMARY_OFFSET)
}

/// The shape of a signal's counters, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalShape {
    ids: u32,
    line: LineOffset,
}

impl SignalShape {
    /// Counters for so many ids; `place` staggers the board line.
    pub(crate) fn new(ids: u32, place: u64) -> Result<Self, ShapeError> {
        check("the number of ids", ids, 1, SIGNAL_IDS_MAX)?;
        Ok(Self { ids, line: LineOffset::at_place(place) })
    }

    /// The shape that a peer claims.
    pub(crate) fn claimed(ids: u32, line_offset: u32) -> Result<Self, ShapeError> {
        check("the number of ids", ids, 1, SIGNAL_IDS_MAX)?;
        Ok(Self { ids, line: LineOffset::claimed(line_offset)? })
    }

    /// How many ids there are.
    pub(crate) fn ids(self) -> usize {
        self.ids as usize
    }

    /// Bytes from the start of the segment to the board line.
    pub(crate) fn line_offset(self) -> u32 {
        self.line.0
    }

    /// Bytes from the start of the segment to the first counter.
    pub(crate) fn counters_offset(self) -> usize {
        if self.ids() <= SIGNALS_IN_LINE {
            self.line.0 as usize + std::mem::offset_of!(BoardLine, counters)
        } else {
            end_of_summary(self.ids())
        }
    }

    /// Bytes of the segment.
    pub(crate) fn segment_bytes(self) -> usize {
        whole_pages((self.counters_offset() + self.ids() * 8).max(BOARD_SUMMARY_OFFSET))
    }
}

/// The shape of a table, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableShape {
    cells: u32,
    key_bytes: u32,
    value_bytes: u32,
    line: LineOffset,
}

impl TableShape {
    /// A table for so many entries; `place` staggers the board line.
    pub(crate) fn new(cells: u32, key_bytes: u32, value_bytes: u32, place: u64) -> Result<Self, ShapeError> {
        let shape = Self { cells, key_bytes, value_bytes, line: LineOffset::at_place(place) };
        shape.checked()
    }

    /// The shape that a peer claims.
    pub(crate) fn claimed(
        cells: u32,
        key_bytes: u32,
        value_bytes: u32,
        line_offset: u32,
    ) -> Result<Self, ShapeError> {
        let shape = Self { cells, key_bytes, value_bytes, line: LineOffset::claimed(line_offset)? };
        shape.checked()
    }

    fn checked(self) -> Result<Self, ShapeError> {
        check("the number of cells", self.cells, 1, TABLE_CELLS_MAX)?;
        check("the length of a key", self.key_bytes, 0, TABLE_KEY_BYTES_MAX)?;
        check("the length of a value", self.value_bytes, 0, TABLE_VALUE_BYTES_MAX)?;
        Ok(self)
    }

    /// How many entries there may be.
    pub(crate) fn cells(self) -> usize {
        self.cells as usize
    }

    /// Bytes of a key.
    pub(crate) fn key_bytes(self) -> usize {
        self.key_bytes as usize
    }

    /// Bytes of a value.
    pub(crate) fn value_bytes(self) -> usize {
        self.value_bytes as usize
    }

    /// Slots of the index, a power of two.
    pub(crate) fn slots(self) -> usize {
        (self.cells() + self.cells() / 2).next_power_of_two().max(INDEX_SLOTS_MIN)
    }

    /// Bytes from the start of a cell to one of its buffers.
    pub(crate) fn buffer_offset(self, buffer: usize) -> usize {
        let values = CELL_KEY_OFFSET + self.key_bytes().next_multiple_of(8);
        values + buffer * self.value_bytes().next_multiple_of(8)
    }

    /// Bytes from one cell to the next.
    pub(crate) fn stride(self) -> usize {
        self.buffer_offset(2).next_multiple_of(CELL_ALIGN)
    }

    /// Bytes from the start of the segment to the board line.
    pub(crate) fn line_offset(self) -> u32 {
        self.line.0
    }

    /// Bytes from the start of the segment to the index.
    pub(crate) fn index_offset(self) -> usize {
        end_of_summary(self.cells())
    }

    /// Bytes from the start of the segment to the first cell.
    pub(crate) fn cells_offset(self) -> usize {
        (self.index_offset() + self.slots() * 8).next_multiple_of(BOARD_SECTION_ALIGN)
    }

    /// Bytes of the segment.
    pub(crate) fn segment_bytes(self) -> usize {
        whole_pages(self.cells_offset() + self.cells() * self.stride())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_signals_lie_in_the_board_line() {
        let shape = SignalShape::new(15, 0).expect("it is one");
        assert_eq!((shape.line_offset(), shape.counters_offset(), shape.segment_bytes()), (256, 264, 4096));
        let shape = SignalShape::new(16, 0).expect("it is one");
        assert_eq!((shape.counters_offset(), shape.segment_bytes()), (4096, 8192));
        let shape = SignalShape::new(65, 0).expect("it is one");
        assert_eq!(shape.counters_offset(), 4096 + 128);
    }

    #[test]
    fn a_small_entry_is_one_cache_line() {
        let shape = TableShape::new(1000, 8, 16, 0).expect("it is one");
        assert_eq!((shape.buffer_offset(0), shape.buffer_offset(1), shape.stride()), (16, 32, 64));
        assert_eq!(shape.slots(), 2048);
    }

    #[test]
    fn claims_that_are_no_board_are_refused() {
        for (ids, line) in [(0, 256), (65537, 256), (1, 0), (1, 4096), (1, 257), (1, u32::MAX)] {
            assert!(SignalShape::claimed(ids, line).is_err(), "{ids} ids at {line}");
        }
        for (cells, key, value, line) in [
            (0, 8, 8, 256),
            ((1 << 20) + 1, 8, 8, 256),
            (8, 1025, 8, 256),
            (8, 8, (1 << 20) + 1, 256),
            (8, 8, 8, 8),
        ] {
            assert!(TableShape::claimed(cells, key, value, line).is_err(), "{cells} of {key} and {value}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_board_do_not_overlap(
            cells in 1u32..2000, key in 0u32..100, value in 0u32..1000, place: u64,
        ) {
            let shape = TableShape::new(cells, key, value, place).expect("it is one");
            prop_assert_eq!(TableShape::claimed(cells, key, value, shape.line_offset()), Ok(shape));
            let summary = BOARD_SUMMARY_OFFSET + groups(shape.cells()) * 8;
            prop_assert!(summary <= shape.index_offset());
            prop_assert!(shape.slots() > shape.cells());
            prop_assert!(shape.index_offset() + shape.slots() * 8 <= shape.cells_offset());
            prop_assert!(shape.cells_offset() + shape.cells() * shape.stride() <= shape.segment_bytes());
            prop_assert!(shape.buffer_offset(0) >= CELL_KEY_OFFSET + key as usize);
            prop_assert!(shape.buffer_offset(1) >= shape.buffer_offset(0) + value as usize);
            prop_assert!(shape.buffer_offset(1) + value as usize <= shape.stride());
        }

        #[test]
        fn counters_lie_in_their_segment(ids in 1u32..=SIGNAL_IDS_MAX, place: u64) {
            let shape = SignalShape::new(ids, place).expect("it is one");
            prop_assert_eq!(SignalShape::claimed(ids, shape.line_offset()), Ok(shape));
            let end = shape.counters_offset() + ids as usize * 8;
            prop_assert!(end <= shape.segment_bytes());
            let is_in_line = end <= shape.line_offset() as usize + 128;
            let is_behind = shape.counters_offset() >= BOARD_SUMMARY_OFFSET + groups(ids as usize) * 8;
            prop_assert!(is_in_line || is_behind);
        }
    }
}
