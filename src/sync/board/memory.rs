//! Boards in segments: where the words, keys and values are.

use std::mem::offset_of;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;

use super::summary::groups;
use super::table::words_of;
use super::{BoardWords, SignalShape, SignalWords, TableShape, TableWords};
use crate::layout::board::{
    BOARD_LINE_BYTES, BOARD_SECTION_ALIGN, BOARD_SUMMARY_OFFSET, BoardLine, CELL_ALIGN, CELL_KEY_OFFSET,
};
use crate::segment::{Created, Kind, Proven, Segment, SegmentError};
use crate::sync::copy::copy_out;
use crate::sync::door::{AtomicU64, Ordering};

/// Values in bytes up to which they are written word by word: a value is mostly made right before it is set.
const WORDWISE_BYTES_MAX: usize = 128;

/// The line and the summary of a mapped board.
#[derive(Clone, Debug)]
struct Front {
    line: Proven,
    groups: Proven,
}

impl Front {
    fn over(segment: &Arc<Segment>, line_offset: u32, members: usize) -> Self {
        let line = segment.own_range(line_offset as usize, BOARD_LINE_BYTES, BOARD_LINE_BYTES);
        // Those without a summary may end before it would begin.
        let (offset, bytes) = match groups(members) {
            0 => (0, 0),
            groups => (BOARD_SUMMARY_OFFSET, groups * 8),
        };
        Self { line, groups: segment.own_range(offset, bytes, 8) }
    }

    #[inline]
    fn whole(&self) -> &AtomicU64 {
        self.line.word(offset_of!(BoardLine, whole))
    }
}

/// The counters of a mapped signal.
#[derive(Clone, Debug)]
pub(crate) struct SignalMemory {
    front: Front,
    counters: Proven,
    ids: usize,
}

impl SignalMemory {
    /// Fresh counters of our own, all zero, and the segment to offer.
    pub(crate) fn create(shape: SignalShape) -> Result<(Self, Created), SegmentError> {
        let created = Created::new(Kind::Board, shape.segment_bytes())?;
        Ok((Self::over(&created.segment, shape), created))
    }

    /// A peer's counters of the shape that it claims.
    pub(crate) fn receive(memory: impl AsFd, shape: SignalShape) -> Result<Self, SegmentError> {
        Ok(Self::over(&Segment::receive(memory, Kind::Board, shape.segment_bytes())?, shape))
    }

    /// The sum of all counters; for people.
    pub(crate) fn total(&self) -> u64 {
        self.whole().load(Ordering::Relaxed)
    }

    fn over(segment: &Arc<Segment>, shape: SignalShape) -> Self {
        let counters = segment.own_range(shape.counters_offset(), shape.ids() * 8, 8);
        Self { front: Front::over(segment, shape.line_offset(), shape.ids()), counters, ids: shape.ids() }
    }
}

impl BoardWords for SignalMemory {
    #[inline]
    fn whole(&self) -> &AtomicU64 {
        self.front.whole()
    }

    #[inline]
    fn group(&self, index: usize) -> &AtomicU64 {
        self.front.groups.word(index * 8)
    }

    #[inline]
    fn members(&self) -> usize {
        self.ids
    }
}

impl SignalWords for SignalMemory {
    #[inline]
    fn counter(&self, id: usize) -> &AtomicU64 {
        self.counters.word(id * 8)
    }
}

/// A mapped table.
#[derive(Clone, Debug)]
pub(crate) struct TableMemory {
    front: Front,
    index: Proven,
    cells: Proven,
    shape: TableShape,
}

impl TableMemory {
    /// A fresh table of our own, empty and at version `base`, and the segment to offer.
    pub(crate) fn create(shape: TableShape, base: u64) -> Result<(Self, Created), SegmentError> {
        let created = Created::new(Kind::Board, shape.segment_bytes())?;
        let memory = Self::over(&created.segment, shape);
        // Nobody else knows of it yet.
        memory.whole().store(base, Ordering::Relaxed);
        Ok((memory, created))
    }

    /// A peer's table of the shape that it claims.
    pub(crate) fn receive(memory: impl AsFd, shape: TableShape) -> Result<Self, SegmentError> {
        Ok(Self::over(&Segment::receive(memory, Kind::Board, shape.segment_bytes())?, shape))
    }

    fn over(segment: &Arc<Segment>, shape: TableShape) -> Self {
        let cells = segment.own_range(shape.cells_offset(), shape.cells() * shape.stride(), CELL_ALIGN);
        let index = segment.own_range(shape.index_offset(), shape.slots() * 8, BOARD_SECTION_ALIGN);
        Self { front: Front::over(segment, shape.line_offset(), shape.cells()), index, cells, shape }
    }

    /// Its version; for people.
    pub(crate) fn version(&self) -> u64 {
        self.whole().load(Ordering::Relaxed)
    }

    /// The start of a buffer of `value_bytes`, at a multiple of eight.
    #[inline]
    fn buffer(&self, cell: usize, buffer: usize) -> NonNull<u8> {
        assert!(cell < self.shape.cells() && buffer < 2, "cells of our own making lie in the table");
        let offset = cell * self.shape.stride() + self.shape.buffer_offset(buffer);
        // SAFETY: the cell is one, as just asserted, the proven range has `cells × stride` bytes, and both buffers lie
        // within the stride.
        unsafe { self.cells.start().add(offset) }
    }

    #[inline]
    fn key_word(&self, cell: usize, word: usize) -> &AtomicU64 {
        self.cells.word(cell * self.shape.stride() + CELL_KEY_OFFSET + word * 8)
    }
}

impl BoardWords for TableMemory {
    #[inline]
    fn whole(&self) -> &AtomicU64 {
        self.front.whole()
    }

    #[inline]
    fn group(&self, index: usize) -> &AtomicU64 {
        self.front.groups.word(index * 8)
    }

    #[inline]
    fn members(&self) -> usize {
        self.shape.cells()
    }
}

impl TableWords for TableMemory {
    #[inline]
    fn cell(&self, cell: usize) -> &AtomicU64 {
        self.cells.word(cell * self.shape.stride())
    }

    fn moved(&self) -> &AtomicU64 {
        self.front.line.word(offset_of!(BoardLine, moved))
    }

    #[inline]
    fn slot(&self, slot: usize) -> &AtomicU64 {
        self.index.word(slot * 8)
    }

    fn slots(&self) -> usize {
        self.shape.slots()
    }

    fn key_bytes(&self) -> usize {
        self.shape.key_bytes()
    }

    fn value_bytes(&self) -> usize {
        self.shape.value_bytes()
    }

    #[inline]
    fn has_key(&self, cell: usize, key: &[u8]) -> bool {
        let mut words = words_of(key).enumerate();
        words.all(|(index, word)| self.key_word(cell, index).load(Ordering::Relaxed) == word)
    }

    fn copy_key(&self, cell: usize, to: &mut [u8]) {
        assert!(to.len() <= self.shape.key_bytes(), "keys have one length");
        for (index, place) in to.chunks_mut(8).enumerate() {
            let word = self.key_word(cell, index).load(Ordering::Relaxed).to_le_bytes();
            place.copy_from_slice(&word[..place.len()]);
        }
    }

    #[inline]
    fn copy_value(&self, cell: usize, buffer: usize, to: &mut [u8]) {
        assert!(to.len() <= self.shape.value_bytes(), "values have one length");
        // SAFETY: the buffer has `value_bytes`, is mapped while `self` lives, and starts at a multiple of eight.
        unsafe { copy_out(self.buffer(cell, buffer), to) };
    }

    fn put_key(&self, cell: usize, key: &[u8]) {
        assert!(
            key.len() == self.shape.key_bytes() && self.cells.is_writable(),
            "keys of ours have one length"
        );
        for (index, word) in words_of(key).enumerate() {
            self.key_word(cell, index).store(word, Ordering::Relaxed);
        }
    }

    #[inline]
    fn put_value(&self, cell: usize, buffer: usize, value: &[u8]) {
        assert!(
            value.len() == self.shape.value_bytes() && self.cells.is_writable(),
            "values have one length"
        );
        let place = self.buffer(cell, buffer);
        if value.len() > WORDWISE_BYTES_MAX {
            // SAFETY: as many bytes of a buffer of a segment of our own, mapped for writing, which this endpoint alone
            // writes. Readers load it with instructions of their own, and do not believe what they load while this goes on.
            unsafe { place.copy_from_nonoverlapping(NonNull::from(value).cast(), value.len()) };
            return;
        }
        let (words, rest) = value.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: as above; buffers start at multiples of eight. Volatile, so that neighbours are not merged into one
            // wide copy, which would wait for what has just been stored in words.
            unsafe { place.cast::<u64>().add(index).write_volatile(u64::from_ne_bytes(*word)) };
        }
        // SAFETY: as above; the bytes after the words.
        unsafe {
            let place = place.add(words.len() * 8);
            place.copy_from_nonoverlapping(NonNull::from(rest).cast(), rest.len());
        }
    }
}
