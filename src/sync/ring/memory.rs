//! Rings and cursors in segments: where the words and the payloads are.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Marking, Reader, RingWords, Writer};
use crate::layout::cursor::{CURSOR_LINE_BYTES, CURSOR_PLACES, NOTES_MAX, PINS_MAX, PINS_OFFSET};
use crate::layout::ring::{
    BLOCKED_OFFSET, BODY_PAYLOAD_OFFSET, SLOTS_OFFSET, STRIDE_ALIGN, SlotHeader, TERMS_OFFSET,
    UNASSIGNED_OFFSET,
};
use crate::segment::{Created, Kind, Proven, Segment, SegmentError};
use crate::sync::acks::AckWords;
use crate::sync::copy::copy_out;
use crate::sync::cursor::CursorWords;
use crate::sync::door::{AtomicU64, Ordering};
use crate::sync::geometry::Geometry;
use crate::sync::pool::ChunkAddress;
use crate::sync::slot::{Carriage, SlotWord};

/// Payloads in bytes up to which [`Writer::try_send_inline`] copies word by word.
const WORDWISE_BYTES_MAX: usize = 128;

/// A mapped ring segment.
#[derive(Clone, Debug)]
pub(crate) struct RingMemory {
    slots: Proven,
    /// The words of the first page, from `blocked` on.
    words: Proven,
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

    /// Its shape.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn over(segment: &Arc<Segment>, geometry: Geometry) -> Self {
        let slots = segment.own_range(SLOTS_OFFSET, geometry.slots() * geometry.stride(), STRIDE_ALIGN);
        let words = segment.own_range(BLOCKED_OFFSET, UNASSIGNED_OFFSET + 8 - BLOCKED_OFFSET, 8);
        Self { slots, words, geometry }
    }

    /// What the reader of a lane has to know, on the line of the `blocked` word.
    #[inline]
    pub(crate) fn terms(&self) -> &AtomicU64 {
        self.words.word(TERMS_OFFSET - BLOCKED_OFFSET)
    }

    /// How many messages the sender of a lane has for no lane yet.
    pub(crate) fn unassigned(&self) -> &AtomicU64 {
        self.words.word(UNASSIGNED_OFFSET - BLOCKED_OFFSET)
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

    /// What the header of the slot at `index` says.
    #[inline]
    fn header_claim(&self, index: usize) -> HeaderClaim {
        let header = self.header(index).as_ptr();
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

impl RingWords for RingMemory {
    #[inline]
    fn slot(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the first eight bytes of a slot, aligned to 64, are its word; every process touches them with
        // atomics only; the mapping lives as long as `self`.
        unsafe { AtomicU64::from_ptr(self.slot_start(index).as_ptr().cast()) }
    }

    fn blocked(&self) -> &AtomicU64 {
        self.words.word(0)
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

    /// As [`Writer::payload_mut`], to read what has been written.
    ///
    /// # Panics
    /// As for `payload_mut`.
    pub(crate) fn payload(&self, length: usize) -> &[u8] {
        assert!(
            self.has_space() && length <= self.geometry.capacity(),
            "only free slots are written, within bounds"
        );
        let start = self.words.payload_start(self.geometry.index(self.tail()));
        // SAFETY: as for `payload_mut`, and nobody writes while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// Writes and publishes a message, if it belongs into a slot, whoever holds what, and there is one. `length` is a
    /// constant wherever the type is, and the copy is then a few moves.
    ///
    /// Short ones go word by word: a message is mostly written right before it is sent, in words, and a wider load
    /// from stores that are still on their way to the cache waits for them.
    #[inline(always)]
    pub(crate) fn try_send_inline(&mut self, payload: &[u8], marking: Marking) -> bool {
        let tail = self.tail();
        if payload.len() >= self.inline_end || tail >= self.limit {
            return false;
        }
        if marking == Marking::Needed {
            self.mark_writing();
        }
        let place = self.words.payload_start(self.geometry.index(tail));
        // SAFETY: as for `payload_mut`: a free slot of ours, which the check above says is long enough.
        unsafe { put(payload, place) };
        self.publish(Carriage::Inline(payload.len()));
        true
    }

    /// As [`Writer::try_send_inline`], where nobody loses messages, with the word left out that others have before them.
    #[inline(always)]
    pub(crate) fn try_send_bare(&mut self, payload: &[u8]) -> bool {
        let tail = self.tail();
        if payload.len() >= self.inline_end || tail >= self.limit {
            return false;
        }
        let place = self.words.payload_start(self.geometry.index(tail));
        // SAFETY: as for `payload_mut`: a free slot of ours, which the check above says is long enough.
        unsafe { put(payload, place) };
        self.publish_word(SlotWord::new(self.geometry.lap(tail), Carriage::Inline(payload.len())).bare());
        true
    }

    /// The words of the first page.
    pub(crate) fn memory(&self) -> &RingMemory {
        &self.words
    }

    /// Where the message `sequence` lies, which has been published and whose slot has not been used again.
    pub(crate) fn sent(&self, sequence: u64) -> Option<(Carriage, HeaderClaim)> {
        let index = self.geometry.index(sequence);
        // Relaxed: nobody else stores it.
        let word = SlotWord::from_bits(self.words.slot(index).load(Ordering::Relaxed));
        let is_there = word.is_message_of(self.geometry.lap(sequence));
        word.carriage().filter(|_| is_there).map(|carriage| (carriage, self.words.header_claim(index)))
    }

    /// The first `length` bytes of the payload of a message that lies in its slot.
    ///
    /// # Panics
    /// If no slot holds as much: an error in this library.
    pub(crate) fn sent_payload(&self, sequence: u64, length: usize) -> &[u8] {
        assert!(length <= self.geometry.capacity(), "only what fits is sent in a slot");
        let start = self.words.payload_start(self.geometry.index(sequence));
        // SAFETY: in bounds by the assertion; our own ring, which this writer alone writes, and it is borrowed.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// As [`Writer::try_send_inline`], where nobody loses messages, with a word before the payload.
    #[inline(always)]
    pub(crate) fn try_send_headed(&mut self, head: u64, payload: &[u8]) -> bool {
        const HEAD_BYTES: usize = size_of::<u64>();
        let tail = self.tail();
        if payload.len().saturating_add(HEAD_BYTES) >= self.inline_end || tail >= self.limit {
            return false;
        }
        let place = self.words.payload_start(self.geometry.index(tail));
        // SAFETY: as for `payload_mut`: a free slot of ours, which the check above says is long enough for both; payloads start
        // at multiples of eight bytes.
        unsafe {
            place.cast::<u64>().write_volatile(head);
            put(payload, place.add(HEAD_BYTES));
        }
        self.publish(Carriage::Inline(HEAD_BYTES + payload.len()));
        true
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

/// Copies a payload into a slot.
///
/// # Safety
/// - `place` is aligned to eight bytes, and as many bytes from it on as the payload has are the caller's to write.
#[inline(always)]
unsafe fn put(payload: &[u8], place: NonNull<u8>) {
    if payload.len() > WORDWISE_BYTES_MAX {
        // SAFETY: the caller's.
        unsafe { place.copy_from_nonoverlapping(NonNull::from(payload).cast(), payload.len()) };
        return;
    }
    let (words, rest) = payload.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // SAFETY: the caller's. Volatile, so that neighbours are not merged into one wide copy.
        unsafe { place.cast::<u64>().add(index).write_volatile(u64::from_ne_bytes(*word)) };
    }
    // SAFETY: the caller's; the bytes after the words.
    unsafe {
        let place = place.add(words.len() * 8);
        place.copy_from_nonoverlapping(NonNull::from(rest).cast(), rest.len());
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

    /// Copies the payload of the message at `position`, as long as `to`; it may be torn. `false` if no slot holds as
    /// much.
    #[inline]
    pub(crate) fn copy_payload(&self, to: &mut [u8]) -> bool {
        if to.len() > self.geometry.capacity() {
            return false;
        }
        let start = self.words.payload_start(self.geometry.index(self.position));
        // SAFETY: in bounds, mapped while the reader lives; payloads start at multiples of eight.
        unsafe { copy_out(start, to) };
        true
    }

    /// The header of the message at `position`, whose word [`Reader::peek`] has returned.
    #[inline]
    pub(crate) fn header_claim(&self) -> HeaderClaim {
        self.words.header_claim(self.geometry.index(self.position))
    }
}

/// A mapped cursor segment.
#[derive(Clone, Debug)]
pub(crate) struct CursorMemory {
    line: Proven,
    pins: Proven,
    notes: Proven,
}

impl CursorMemory {
    /// A cursor of our own with room for so many pins and notes, standing at zero; `place` staggers its line. With it come
    /// the segment to hand out and the line's offset.
    pub(crate) fn create(
        (pins, notes): (u32, u32),
        place: u64,
    ) -> Result<(Self, Created, u32), SegmentError> {
        let created = Created::new(Kind::Cursor, Self::segment_bytes(pins, notes))?;
        let offset = (1 + (place % CURSOR_PLACES as u64) as usize) * CURSOR_LINE_BYTES;
        let memory = Self::over(&created.segment, offset as u32, (pins, notes))?;
        Ok((memory, created, offset as u32))
    }

    /// A peer's cursor with so many pins and notes, with its line where it claims.
    pub(crate) fn receive(
        memory: impl AsFd,
        offset: u32,
        (pins, notes): (u32, u32),
    ) -> Result<Self, SegmentError> {
        if pins > PINS_MAX {
            return Err(unusable(format!("{pins} pins are more than {PINS_MAX}")));
        }
        if notes > NOTES_MAX {
            return Err(unusable(format!("{notes} notes are more than {NOTES_MAX}")));
        }
        let segment = Segment::receive(memory, Kind::Cursor, Self::segment_bytes(pins, notes))?;
        Self::over(&segment, offset, (pins, notes))
    }

    fn segment_bytes(pins: u32, notes: u32) -> usize {
        PINS_OFFSET + ((pins as usize + notes as usize) * 8).next_multiple_of(PINS_OFFSET)
    }

    fn over(segment: &Arc<Segment>, offset: u32, (pins, notes): (u32, u32)) -> Result<Self, SegmentError> {
        let offset = offset as usize;
        if offset < CURSOR_LINE_BYTES || offset + CURSOR_LINE_BYTES > PINS_OFFSET || !offset.is_multiple_of(8)
        {
            return Err(unusable(format!("its cursor line is said to be at {offset}")));
        }
        let (pins_bytes, notes_bytes) = (pins as usize * 8, notes as usize * 8);
        Ok(Self {
            line: segment.own_range(offset, CURSOR_LINE_BYTES, 8),
            pins: segment.own_range(PINS_OFFSET, pins_bytes, 8),
            notes: segment.own_range(PINS_OFFSET + pins_bytes, notes_bytes, 8),
        })
    }

    /// The note at `index`, which is below their number: a word of the inlet's for its outlet, which means what the pattern
    /// says.
    pub(crate) fn note(&self, index: usize) -> &AtomicU64 {
        self.notes.word(index * 8)
    }

    /// The item of a queue without depth, plus 1, that was taken last.
    pub(crate) fn taken(&self) -> &AtomicU64 {
        self.line.word(std::mem::offset_of!(crate::layout::cursor::CursorLine, taken))
    }

    /// How often the consumer of a queue without depth has found nothing.
    pub(crate) fn asked(&self) -> &AtomicU64 {
        self.line.word(std::mem::offset_of!(crate::layout::cursor::CursorLine, asked))
    }

    /// How many notes there are.
    pub(crate) fn notes(&self) -> usize {
        self.notes.bytes() / 8
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

    fn lost(&self) -> &AtomicU64 {
        self.line.word(std::mem::offset_of!(crate::layout::cursor::CursorLine, lost))
    }

    fn pin(&self, index: usize) -> &AtomicU64 {
        self.pins.word(index * 8)
    }

    fn pins(&self) -> usize {
        self.pins.bytes() / 8
    }
}

impl AckWords for CursorMemory {
    #[inline]
    fn note(&self, index: usize) -> &AtomicU64 {
        CursorMemory::note(self, index)
    }

    #[inline]
    fn returned(&self) -> &AtomicU64 {
        self.line.word(std::mem::offset_of!(crate::layout::cursor::CursorLine, returned))
    }

    fn left(&self) -> &AtomicU64 {
        self.line.word(std::mem::offset_of!(crate::layout::cursor::CursorLine, left))
    }
}
