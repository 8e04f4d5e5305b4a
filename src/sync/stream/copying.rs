//! Receiving where a message may be overwritten while it is read, or where the sender is not trusted: it is copied out,
//! or – if it lies in the pool – pinned, and its slot word is looked at again before anything is believed.
//!
//! This is the reader's half of a seqlock for each slot (as in Hans Boehm, *Can seqlocks get along with programming
//! language memory models?*, 2012), whose writer marks the slot before it writes.

use std::ptr::NonNull;

use super::attachment::Attachment;
use super::buffer::Buffer;
use super::receiving::{Claim, Extent, Found, Lending, Loss, Place, ReceivingEnd, StreamViolation};
use crate::sync::pool::ChunkAddress;
use crate::sync::ring::Sight;
use crate::sync::slot::{Carriage, SlotWord};

/// How often one poll tries again because the sender was faster.
const ATTEMPTS_MAX: u32 = 64;

/// Copies of messages, and pins on those that are not copied, since the last poll.
pub(super) struct Copies {
    buffers: Vec<Buffer>,
    used: usize,
    pins: Vec<u32>,
    bytes: usize,
}

/// What an attempt at one message came to.
enum Attempt {
    Found,
    /// It cannot be read yet.
    NotYet,
    /// It was overwritten or withdrawn meanwhile.
    Overtaken,
}

impl Copies {
    /// With a buffer for messages of up to `bytes`; longer ones get longer buffers when they come.
    pub(super) fn for_bytes(bytes: usize) -> Self {
        Self { buffers: vec![Buffer::for_bytes(bytes)], used: 0, pins: Vec::with_capacity(8), bytes }
    }

    /// Nothing that was found before is in use any more.
    #[inline]
    pub(super) fn start_over(&mut self, attachment: &Attachment) {
        self.used = 0;
        while let Some(index) = self.pins.pop() {
            attachment.unpin(index);
        }
    }

    /// So many bytes of the next unused buffer; `None` if that is more than `most`, which is as much as can be there.
    #[inline]
    fn next(&mut self, bytes: usize, most: usize) -> Option<&mut [u8]> {
        if bytes > most {
            return None;
        }
        if self.used == self.buffers.len() || self.buffers[self.used].bytes().len() < bytes {
            self.make_room(bytes);
        }
        Some(&mut self.buffers[self.used].bytes_mut()[..bytes])
    }

    /// The pin that was taken last.
    pub(super) fn last_pin(&self) -> Option<u32> {
        self.pins.last().copied()
    }

    /// What is in use: buffers and pins.
    pub(super) fn in_use(&self) -> (usize, usize) {
        (self.used, self.pins.len())
    }

    /// Gives back what has come into use since then.
    pub(super) fn give_back(&mut self, (used, pins): (usize, usize), attachment: &Attachment) {
        self.used = used;
        self.pins.drain(pins..).for_each(|index| attachment.unpin(index));
    }

    /// Exchanges the buffer that was used last for another, whatever its size.
    pub(super) fn swap_last(&mut self, other: &mut Buffer) {
        if let Some(last) = self.used.checked_sub(1) {
            std::mem::swap(&mut self.buffers[last], other);
        }
    }

    #[cold]
    fn make_room(&mut self, bytes: usize) {
        self.bytes = self.bytes.max(bytes);
        let buffer = Buffer::for_bytes(self.bytes);
        if self.used == self.buffers.len() {
            self.buffers.push(buffer)
        } else {
            self.buffers[self.used] = buffer
        }
    }
}

impl std::fmt::Debug for Copies {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Copies")
            .field("used", &self.used)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

impl ReceivingEnd {
    /// Looks for the next message that can be had: whether there is one. What is passed over is counted as lost.
    #[inline(never)]
    pub(super) fn find_copying(&mut self, extent: Option<Extent>) -> Result<bool, StreamViolation> {
        let word = match self.reader.sight() {
            Sight::Nothing => return Ok(false),
            Sight::Message(word) => word,
            Sight::Withdrawn | Sight::Passed(_) => return self.find_any(extent),
        };
        if let Some(Extent::Exact(length)) = extent
            && word.carriage() == Some(Carriage::Inline(length))
            && (self.reading.loss != Loss::AllButNewest || self.reader.newest() == self.reader.position())
            && let Some(copies) = &mut self.copies
            && let Some(place) = copies.next(length, self.reader.capacity())
            && self.reader.copy_payload(place)
            && self.reader.still_has(word)
        {
            let start = NonNull::from(&*place).cast();
            copies.used += 1;
            return Ok(self.note(Found { start, length, prefix: 0, place: Place::Copied }));
        }
        self.find_any(extent)
    }

    #[inline(never)]
    fn find_any(&mut self, extent: Option<Extent>) -> Result<bool, StreamViolation> {
        let mut is_newest = self.reading.loss != Loss::AllButNewest;
        for _ in 0..ATTEMPTS_MAX {
            match self.reader.sight() {
                Sight::Nothing => return Ok(false),
                Sight::Withdrawn => self.lose_until(self.reader.position() + 1)?,
                Sight::Passed(position) => self.lose_until(position)?,
                Sight::Message(_) if !is_newest => {
                    is_newest = true;
                    self.lose_until(self.reader.newest())?;
                }
                Sight::Message(word) => match self.attempt(word, extent)? {
                    Attempt::Found => return Ok(true),
                    Attempt::NotYet => return Ok(false),
                    Attempt::Overtaken => {}
                },
            }
        }
        Ok(false)
    }

    /// Goes on at a later message.
    fn lose_until(&mut self, position: u64) -> Result<(), StreamViolation> {
        if position != self.reader.position() && self.reading.loss == Loss::Nothing {
            return Err(self.violation("it was overwritten before it was released"));
        }
        let passed = self.reader.skip_to(position);
        self.lost.since += passed;
        self.lost.total += passed;
        self.tell_lost();
        Ok(())
    }

    /// Copies or pins the message whose word was seen.
    fn attempt(&mut self, word: SlotWord, extent: Option<Extent>) -> Result<Attempt, StreamViolation> {
        let claim = self.claim(word, extent);
        // Only now is it known that what the header said belongs to this message.
        if !self.reader.still_has(word) {
            return Ok(Attempt::Overtaken);
        }
        let Claim { length, chunk } = claim?;
        match chunk {
            Some(address) => self.attempt_pooled(word, address, length),
            None => self.attempt_copy(word, length),
        }
    }

    fn attempt_copy(&mut self, word: SlotWord, length: usize) -> Result<Attempt, StreamViolation> {
        let Some(copies) = &mut self.copies else { return Ok(Attempt::NotYet) };
        let Some(place) = copies.next(length, self.reader.capacity()) else {
            return Err(self.violation("it is longer than its slot"));
        };
        if !self.reader.copy_payload(place) || !self.reader.still_has(word) {
            return Ok(Attempt::Overtaken);
        }
        let frame = NonNull::from(&*place);
        copies.used += 1;
        self.note_frame(frame, Place::Copied);
        Ok(Attempt::Found)
    }

    fn attempt_pooled(
        &mut self,
        word: SlotWord,
        address: ChunkAddress,
        length: usize,
    ) -> Result<Attempt, StreamViolation> {
        match self.has_segment(address) {
            Ok(true) => {}
            Ok(false) => return Ok(Attempt::NotYet),
            Err(violation) if self.reading.loss == Loss::Nothing || self.shortage().is_some() => {
                return Err(violation);
            }
            // The sender died before the news of its segment reached us, as nobody waits for that on our behalf.
            Err(_) => {
                self.lose_until(self.reader.position() + 1)?;
                return Ok(Attempt::Overtaken);
            }
        }
        let Some(index) = self.attachment.pin_contested(self.reader.position()) else {
            // Every pin is taken, by a batch: it ends here.
            return Ok(Attempt::NotYet);
        };
        if !self.reader.still_has(word) {
            self.attachment.unpin(index);
            return Ok(Attempt::Overtaken);
        }
        if let Some(copies) = &mut self.copies {
            copies.pins.push(index);
        }
        if self.reading.lending == Lending::InCopies {
            return self.copy_pooled(address, length);
        }
        // SAFETY: pinned, and after that still there: the sender does not write to it before the pin is gone, which the
        // next poll does, or the drop of whoever holds it.
        let bytes = unsafe { self.segment(address).payload(address.chunk, length as u64) };
        let bytes = bytes.ok_or_else(|| self.violation("it lies outside its pool segment"))?;
        self.reader.count_outside(length);
        self.note_frame(NonNull::from(bytes), Place::Pinned);
        Ok(Attempt::Found)
    }

    fn copy_pooled(&mut self, address: ChunkAddress, length: usize) -> Result<Attempt, StreamViolation> {
        let Some(mut copies) = self.copies.take() else { return Ok(Attempt::NotYet) };
        let place = copies.next(length, self.segment(address).chunk_bytes());
        let frame = place.and_then(|place| {
            self.segment(address).copy_payload(address.chunk, place).then(|| NonNull::from(&*place))
        });
        copies.used += usize::from(frame.is_some());
        self.copies = Some(copies);
        let frame = frame.ok_or_else(|| self.violation("it lies outside its pool segment"))?;
        self.reader.count_outside(length);
        self.note_frame(frame, Place::Copied);
        Ok(Attempt::Found)
    }
}
