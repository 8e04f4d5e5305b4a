//! Rings and cursors in segments: where the words and the payloads are.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Reader, RingWords, Writer};
use crate::layout::cursor::{CURSOR_LINE_BYTES, CURSOR_PLACES, PINS_MAX, PINS_OFFSET};
use crate::layout::ring::{BLOCKED_OFFSET, BODY_PAYLOAD_OFFSET, SLOTS_OFFSET, STRIDE_ALIGN, SlotHeader};
use crate::segment::{Created, Kind, Proven, Segment, SegmentError};
use crate::sync::cursor::CursorWords;
use crate::sync::door::AtomicU64;
use crate::sync::geometry::Geometry;
use crate::sync::pool::ChunkAddress;

/// Payloads in bytes up to which [`Writer::put_payload`] copies word by word.
const WORDWISE_BYTES_MAX: usize = 128;

/// A mapped ring segment.
#[derive(Clone, Debug)]
pub(crate) struct RingMemory {
    slots: Proven,
    blocked: Proven,
    geometry: Geometry,
}

impl RingMemory {
    /// A fresh ring of our own, and the segment to offer.
    pub(crate) fn create(geometry: Geometry) -> Result<(Self, Created), SegmentError> {
        let created = Created::new(Kind::Ring, geometry.segment_bytes())?;
        Ok((Self::over(&created.segment, geometry), created))
    }

    /// A peer's ring of the shape that it claims.
    pub(crate) fn receive(memory: impl AsFd, geometry: Geometry) -> Result<Self, SegmentError> {
        let segment = Segment::receive(memory, Kind::Ring, geometry.segment_bytes())?;
        Ok(Self::over(&segment, geometry))
    }

    fn over(segment: &Arc<Segment>, geometry: Geometry) -> Self {
        let slots = segment.own_range(SLOTS_OFFSET, geometry.slots() * geometry.stride(), STRIDE_ALIGN);
        Self { slots, blocked: segment.own_range(BLOCKED_OFFSET, 8, 8), geometry }
    }

    #[inline]
    fn slot_start(&self, index: usize) -> NonNull<u8> {
        debug_assert!(index < self.geometry.slots());
        // SAFETY: `index` is below the number of slots, as every caller computes it by `Geometry::index`, and
        // the proven range has `slots × stride` bytes.
        unsafe { self.slots.start().add(index * self.geometry.stride()) }
    }

    #[inline]
    fn payload_start(&self, index: usize) -> NonNull<u8> {
        // SAFETY: the payload offset is at most the stride, so this lies in the slot or at its end.
        unsafe { self.slot_start(index).add(self.geometry.payload_offset()) }
    }

    #[inline]
    fn header(&self, index: usize) -> NonNull<SlotHeader> {
        self.slot_start(index).cast()
    }
}

impl RingWords for RingMemory {
    #[inline]
    fn slot(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the first eight bytes of a slot, aligned to 64, are its word; every process touches them with
        // atomics only; the mapping lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.slot_start(index).as_ptr().cast()) }
    }

    fn blocked(&self) -> &AtomicU64 {
        self.blocked.word(0)
    }
}

impl Writer<RingMemory> {
    /// The payload of the next slot, `length` bytes of it. It holds what an earlier message left there.
    ///
    /// # Panics
    /// If there is no space, or a slot cannot hold as much: errors in this library.
    #[inline]
    pub(crate) fn payload_mut(&mut self, length: usize) -> &mut [u8] {
        assert!(
            self.has_space() && length <= self.geometry.capacity(),
            "only free slots are written, within bounds"
        );
        let start = self.words.payload_start(self.geometry.index(self.tail()));
        // SAFETY: in bounds by the assertion; the ring is our own, mapped for writing, and this is its only
        // writer, borrowed exclusively. No reader looks at the slot: its word carries an older lap, and the
        // messages of that lap have been released by all (`has_space`); whoever pinned one of them, or of an earlier lap, is asked
        // about before (`SendingEnd::is_slot_pinned`), or had copied it.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), length) }
    }

    /// Copies a payload into the next slot.
    ///
    /// Short ones go word by word: a message is mostly written right before it is sent, in words, and a wider load
    /// from stores that are still on their way to the cache waits for them.
    ///
    /// # Panics
    /// As [`Writer::payload_mut`].
    #[inline]
    pub(crate) fn put_payload(&mut self, payload: &[u8]) {
        let place = self.payload_mut(payload.len());
        if payload.len() > WORDWISE_BYTES_MAX {
            return place.copy_from_slice(payload);
        }
        let (words, rest) = payload.as_chunks::<8>();
        let (places, rest_places) = place.split_at_mut(words.len() * 8);
        let places = places.as_mut_ptr().cast::<u64>();
        for (index, word) in words.iter().enumerate() {
            // SAFETY: within `places`, borrowed exclusively; payloads start at multiples of eight bytes. Volatile, so
            // that neighbours are not merged into one wide copy.
            unsafe { places.add(index).write_volatile(u64::from_ne_bytes(*word)) };
        }
        rest_places.copy_from_slice(rest);
    }

    /// Writes the length of a body into the header of the next slot.
    #[inline]
    pub(crate) fn put_body_header(&mut self, length: usize) {
        assert!(
            self.has_space() && self.geometry.payload_offset() >= BODY_PAYLOAD_OFFSET,
            "bodies have headers"
        );
        let header = self.words.header(self.geometry.index(self.tail())).as_ptr();
        // SAFETY: as for `payload_mut`: a free slot of ours, with room for a header before the payload.
        unsafe { (&raw mut (*header).length).write(length as u64) };
    }

    /// Writes into the header of the next slot where in the pool its payload lies.
    #[inline]
    pub(crate) fn put_pooled_header(&mut self, address: ChunkAddress, length: usize) {
        assert!(self.has_space(), "only free slots are written");
        let header = self.words.header(self.geometry.index(self.tail())).as_ptr();
        // SAFETY: as for `payload_mut`: a free slot of ours; a slot has at least 64 bytes. If a sample of its
        // body is pinned, that body begins behind the header.
        unsafe {
            (&raw mut (*header).segment).write(address.segment);
            (&raw mut (*header).chunk).write(address.chunk);
            (&raw mut (*header).length).write(length as u64);
        }
    }
}

/// What a slot header says of a message, read once. An allegation until checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderClaim {
    pub(crate) address: ChunkAddress,
    pub(crate) length: u64,
}

impl<C: CursorWords> Reader<RingMemory, C> {
    /// The payload of the message at `position`, `length` bytes of it; `None` if no slot holds as much.
    ///
    /// # Safety
    /// - [`Reader::peek`] has returned the word of this position, and [`Reader::release`] is not called while
    ///   the slice lives, unless the position is pinned or the slice is not used after.
    /// - The publisher is trusted not to write to a slot that it has published.
    #[inline]
    pub(crate) unsafe fn payload<'a>(&self, length: usize) -> Option<&'a [u8]> {
        if length > self.geometry.capacity() {
            return None;
        }
        let start = self.words.payload_start(self.geometry.index(self.position));
        // SAFETY: in bounds; published, as the caller saw the word with Acquire; not written again before it is
        // released, which the caller rules out; mapped while the reader lives, which the caller's borrow or its
        // share of the ring sees to.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), length) })
    }

    /// The header of the message at `position`, whose word [`Reader::peek`] has returned.
    #[inline]
    pub(crate) fn header_claim(&self) -> HeaderClaim {
        let header = self.words.header(self.geometry.index(self.position)).as_ptr();
        // SAFETY: a slot has at least 64 bytes, aligned; volatile, so that each field is read exactly once.
        unsafe {
            HeaderClaim {
                address: ChunkAddress {
                    segment: (&raw const (*header).segment).read_volatile(),
                    chunk: (&raw const (*header).chunk).read_volatile(),
                },
                length: (&raw const (*header).length).read_volatile(),
            }
        }
    }
}

/// A mapped cursor segment.
#[derive(Clone, Debug)]
pub(crate) struct CursorMemory {
    line: Proven,
    pins: Proven,
}

impl CursorMemory {
    /// A cursor of our own with room for `hold_limit` pins, standing at zero; `place` staggers its line. With
    /// it come the segment to hand out and the line's offset.
    pub(crate) fn create(hold_limit: u32, place: u64) -> Result<(Self, Created, u32), SegmentError> {
        let created = Created::new(Kind::Cursor, Self::segment_bytes(hold_limit))?;
        let offset = (1 + (place % CURSOR_PLACES as u64) as usize) * CURSOR_LINE_BYTES;
        let memory = Self::over(&created.segment, offset as u32, hold_limit)?;
        Ok((memory, created, offset as u32))
    }

    /// A peer's cursor, with its line where it claims.
    pub(crate) fn receive(memory: impl AsFd, offset: u32, hold_limit: u32) -> Result<Self, SegmentError> {
        if hold_limit > PINS_MAX {
            return Err(unusable(format!("{hold_limit} pins are more than {PINS_MAX}")));
        }
        let segment = Segment::receive(memory, Kind::Cursor, Self::segment_bytes(hold_limit))?;
        Self::over(&segment, offset, hold_limit)
    }

    fn segment_bytes(hold_limit: u32) -> usize {
        PINS_OFFSET + (hold_limit as usize * 8).next_multiple_of(PINS_OFFSET)
    }

    fn over(segment: &Arc<Segment>, offset: u32, hold_limit: u32) -> Result<Self, SegmentError> {
        let offset = offset as usize;
        if offset < CURSOR_LINE_BYTES || offset + CURSOR_LINE_BYTES > PINS_OFFSET || !offset.is_multiple_of(8)
        {
            return Err(unusable(format!("its cursor line is said to be at {offset}")));
        }
        let line = segment.own_range(offset, CURSOR_LINE_BYTES, 8);
        Ok(Self { line, pins: segment.own_range(PINS_OFFSET, hold_limit as usize * 8, 8) })
    }
}

fn unusable(reason: String) -> SegmentError {
    SegmentError::Unusable { kind: Kind::Cursor.name(), reason }
}

impl CursorWords for CursorMemory {
    #[inline]
    fn cursor(&self) -> &AtomicU64 {
        self.line.word(std::mem::offset_of!(crate::layout::cursor::CursorLine, cursor))
    }

    fn pins_used(&self) -> &AtomicU64 {
        self.line.word(std::mem::offset_of!(crate::layout::cursor::CursorLine, pins_used))
    }

    fn pin(&self, index: usize) -> &AtomicU64 {
        self.pins.word(index * 8)
    }

    fn pins(&self) -> usize {
        self.pins.bytes() / 8
    }
}
