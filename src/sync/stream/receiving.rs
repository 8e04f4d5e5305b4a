//! The receiving end of a stream: takes message after message, lends each, gives space back.
//!
//! Where the sender waits for this end and is trusted, messages are lent in place. Otherwise they are copied out first, and
//! the slot word is looked at again, or – large ones – pinned: `copying.rs`.

use std::ptr::NonNull;
use std::sync::Arc;

use super::attachment::{Attachment, FurtherRing, Pinned};
use super::copying::Copies;
use super::relaying::Relaying;
use crate::layout::ring::INLINE_BYTES_MAX;
use crate::segment::SegmentError;
use crate::sync::geometry::Geometry;
use crate::sync::pool::{ChunkAddress, PoolMemory};
use crate::sync::ring::{CursorMemory, Reader, RingMemory, Sight};
use crate::sync::slot::{Carriage, SlotWord};

/// Messages that have come before, after which a poll finds nothing; there is still one to look at.
const REPEATED_MAX: u32 = 1024;
/// Empty polls after which space is given back although little has been read.
const IDLE_POLLS: u32 = 64;
/// What an empty poll counts for while another stream is busy.
const IDLE_POLLS_PASSED: u32 = 16;
/// Messages in a run after which the next empty poll waits a little: a reader that polls at the tail takes the line
/// from the writer once more for each message, and halves the stream.
const RUN_MESSAGES: u64 = 16;
/// How often that wait relaxes the processor.
const RUN_PAUSES: u32 = 48;
/// Empty polls that end a run. A reader in step with the writer has fewer between two messages, one that waits for an
/// answer many more.
const RUN_GAP_POLLS: u32 = 4;

/// What an end that is too slow loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing: its sender waits for it.
    Nothing,
    /// What has been overwritten or withdrawn by the time it looks.
    Oldest,
    /// Everything but the newest message.
    AllButNewest,
}

/// Where an end's messages are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lending {
    /// Where the sender wrote them, as far as it cannot change them any more.
    InPlace,
    /// In memory of our own, whatever the sender does.
    InCopies,
}

/// How an end reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) loss: Loss,
    pub(crate) lending: Lending,
    /// How long its messages are.
    pub(crate) extent: Extent,
    /// Bytes before each message that are not part of it.
    pub(crate) prefix: usize,
    /// Whether a message may leave that out, and say so.
    pub(crate) may_be_bare: bool,
    /// Whether each message is settled by whoever takes it, rather than by reading on: in a queue.
    pub(crate) is_settling: bool,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct ReceivingEnd {
    pub(super) reader: Reader<RingMemory, CursorMemory>,
    pub(super) attachment: Arc<Attachment>,
    segments: Vec<Arc<PoolMemory>>,
    /// Further rings that we have entered.
    rings_entered: usize,
    pub(super) reading: Reading,
    /// If messages are not lent in place.
    pub(super) copies: Option<Box<Copies>>,
    /// Whether a message that is seen is there to be lent.
    pub(super) is_plain: bool,
    /// If its messages are passed on for somebody else.
    relaying: Option<Box<Relaying>>,
    /// Whether messages can be missing before one.
    may_lose: bool,
    /// Messages that were withdrawn before they were taken, or had come before by another way.
    pub(super) withdrawn: u64,
    /// Whether `found` is a message that has not been taken yet.
    has_found: bool,
    pub(super) found: Found,
    start: u64,
    /// Messages lost since the one that was lent last, and before that one.
    pub(super) lost: Lost,
    /// Empty polls since the message before `idle_at`.
    idle: u32,
    idle_at: u64,
    run_start: u64,
    /// Whether whoever polls this end polls no other.
    is_alone: bool,
}

/// How many messages were lost, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    /// Since the message that was lent last.
    pub(super) since: u64,
    /// Between that one and the one before it.
    pub(super) before: u64,
    pub(super) total: u64,
    /// Those that never came to the sender, which are none of its own.
    elsewhere: u64,
}

/// A message that a poll found. Whole words, written and read one by one: what is copied in other pieces than it was written
/// in waits for the writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The frame: the prefix, and after it the message.
    pub(super) start: NonNull<u8>,
    pub(super) prefix: usize,
    /// Bytes of the message.
    pub(super) length: usize,
    pub(super) place: Place,
}

impl Found {
    const NOTHING: Self = Self { start: NonNull::dangling(), length: 0, prefix: 0, place: Place::Copied };

    /// The message.
    ///
    /// # Safety
    /// - The bytes that were found stay as they are for `'a`.
    #[inline]
    pub(super) unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: whoever found the frame had it as a slice of prefix and message; the caller answers for its life.
        unsafe { std::slice::from_raw_parts(self.start.add(self.prefix).as_ptr(), self.length) }
    }

    /// What comes before it.
    ///
    /// # Safety
    /// - As for `bytes`.
    #[inline]
    unsafe fn before<'a>(self) -> &'a [u8] {
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.prefix) }
    }
}

// SAFETY: bytes of a shared mapping that the end keeps mapped, or of a buffer of its own, that are only read.
unsafe impl Send for Found {}
// SAFETY: as above.
unsafe impl Sync for Found {}

/// Where a message lies, and so what it takes to hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Place {
    /// Where it was sent, not released yet.
    Unreleased,
    /// Where it was sent, under the pin taken last.
    Pinned,
    /// In a buffer of ours.
    Copied,
}

/// What no correct sender puts into its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {sequence} of the ring is damaged: {reason}")]
pub(crate) struct StreamViolation {
    sequence: u64,
    reason: &'static str,
    is_cut_off: bool,
}

impl StreamViolation {
    /// Whether it is nobody's fault: the connection was over before all that was needed had come.
    pub(crate) fn is_cut_off(self) -> bool {
        self.is_cut_off
    }
}

/// How long a message of some type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// So many bytes.
    Exact(usize),
    /// Any number of elements of so many bytes, at least one byte.
    Multiple(usize),
}

impl Extent {
    #[inline]
    pub(crate) const fn fits(self, length: u64) -> bool {
        match self {
            Self::Exact(bytes) => length == bytes as u64,
            // Any number of bytes: without a division.
            Self::Multiple(1) => true,
            Self::Multiple(bytes) => length.is_multiple_of(bytes as u64),
        }
    }
}

/// The outcome of one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// The next message is there, to be taken.
    Ready,
    /// Nothing yet.
    Nothing,
    /// Nothing, and never again: the sender is gone.
    End,
}

/// A message, lent: it stays while the receiving end is borrowed, or longer if it is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lent<'a> {
    bytes: &'a [u8],
    prefix: &'a [u8],
    place: Place,
    end: &'a ReceivingEnd,
}

/// What it takes to keep a lent message.
pub(crate) enum Keeping {
    /// It has to be copied: it is short, or lies in memory that is used again.
    Copy,
    /// It stays where it is.
    Pinned(Pinned),
    /// As many are held as may be.
    Limit,
    /// This is a forked child's copy: what it would pin is its parent's.
    Inherited,
}

impl<'a> Lent<'a> {
    /// The message.
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes before the message that are not part of it.
    pub(crate) fn prefix(self) -> &'a [u8] {
        self.prefix
    }

    /// Its sequence number: messages of one sender count from 0.
    #[inline]
    pub(crate) fn sequence(self) -> u64 {
        // The end is borrowed, so this is still the message that was taken last.
        self.end.reader.position() - 1
    }

    /// Messages that were lost between the one before and this one.
    pub(crate) fn lost(self) -> u64 {
        self.end.lost.before
    }

    /// Where it lies.
    pub(super) fn place(self) -> Place {
        self.place
    }

    /// Keeps the message, which is pinned, beyond the next poll; `None` at the limit.
    pub(super) fn pin_again(self) -> Option<Pinned> {
        let index = self.end.copies.as_ref()?.last_pin()?;
        self.end.attachment.pin_again(index, self.bytes)
    }

    /// The end that took it.
    #[inline]
    pub(crate) fn end(&self) -> &'a ReceivingEnd {
        self.end
    }

    /// Keeps the message beyond the next poll.
    pub(crate) fn keep(self) -> Keeping {
        if self.bytes.len() <= INLINE_BYTES_MAX {
            return Keeping::Copy;
        }
        if self.end.attachment.is_inherited() {
            return Keeping::Inherited;
        }
        let pinned = match self.place {
            Place::Copied => return Keeping::Copy,
            Place::Unreleased => self.end.attachment.pin(self.sequence(), self.bytes),
            Place::Pinned => self.pin_again(),
        };
        pinned.map_or(Keeping::Limit, Keeping::Pinned)
    }
}

/// Messages taken one after the other from one stream; all of them stay until the batch's borrow ends.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    end: &'a mut ReceivingEnd,
}

impl<'a> Batch<'a> {
    /// The next message of the batch, if it is there.
    #[inline]
    pub(crate) fn next(&mut self, extent: Option<Extent>) -> Result<Option<&'a [u8]>, StreamViolation> {
        // SAFETY: for `'a` the end is borrowed by this batch alone, which releases nothing and reuses no buffer.
        if !self.end.has_found && !unsafe { self.end.find(extent) }? {
            return Ok(None);
        }
        self.end.count_taken();
        // SAFETY: as above.
        Ok(Some(unsafe { self.end.found.bytes() }))
    }
}

impl ReceivingEnd {
    /// An end that starts at `start`, where the sender admitted it.
    pub(crate) fn new(
        attachment: Arc<Attachment>,
        geometry: Geometry,
        start: u64,
        reading: Reading,
        relaying: Option<Relaying>,
    ) -> Self {
        let mut reader = Reader::new(attachment.ring.clone(), attachment.cursor.clone(), geometry, start);
        if reading.is_settling {
            reader.never_release();
        }
        let is_in_place = reading.loss == Loss::Nothing && reading.lending == Lending::InPlace;
        Self {
            reader,
            attachment,
            segments: Vec::new(),
            rings_entered: 0,
            reading,
            copies: (!is_in_place).then(|| Box::new(Copies::for_bytes(geometry.capacity()))),
            // Whether a lane's messages may be withdrawn is known with the first.
            is_plain: is_in_place && !reading.is_settling && relaying.is_none(),
            may_lose: !is_in_place || relaying.is_some(),
            relaying: relaying.map(Box::new),
            withdrawn: 0,
            has_found: false,
            found: Found::NOTHING,
            start,
            lost: Lost::default(),
            idle: 0,
            idle_at: start,
            run_start: start,
            is_alone: true,
        }
    }

    /// Looks for the next message, as long as `extent` says, or its own descriptor. Messages lent before are over.
    #[inline(always)]
    pub(crate) fn poll(&mut self, extent: Option<Extent>) -> Result<Poll, StreamViolation> {
        if self.reader.is_release_due() {
            self.release();
        }
        if let Some(copies) = &mut self.copies {
            copies.start_over(&self.attachment);
        }
        self.has_found = false;
        // SAFETY: the bytes are lent by `take`, tied to a borrow of `self`; before a release, what was found is forgotten, and
        // before buffers are used again too, by the poll that does it.
        if unsafe { self.find(extent) }? { Ok(Poll::Ready) } else { Ok(self.nothing()) }
    }

    /// Takes the message that the last poll found.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Lent<'_>> {
        if !self.has_found {
            return None;
        }
        self.count_taken();
        let found = self.found;
        // SAFETY: found at the position just left, which nothing has released since: `release` forgets what was found,
        // and until the next one, which needs `&mut self`, the sender does not write there, nor we into a buffer.
        let (bytes, prefix) = unsafe { (found.bytes(), found.before()) };
        Some(Lent { bytes, prefix, place: found.place, end: self })
    }

    /// The message that the last poll found, after what comes before it.
    #[inline]
    pub(crate) fn found(&self) -> Option<(&[u8], &[u8])> {
        // SAFETY: found at the position, which has not been left, so nothing of it has been released, nor will be while `self`
        // is borrowed.
        self.has_found.then(|| unsafe { (self.found.before(), self.found.bytes()) })
    }

    /// The sequence number of the message that the last poll found.
    #[inline]
    pub(crate) fn found_sequence(&self) -> u64 {
        self.reader.position()
    }

    /// Stores a note for the sender, who may be waiting for it.
    pub(crate) fn put_note(&self, index: usize, value: u64) {
        if !self.attachment.is_inherited() {
            self.attachment.note(index, value);
        }
    }

    #[inline]
    fn count_taken(&mut self) {
        self.has_found = false;
        self.reader.advance();
        if self.may_lose {
            (self.lost.before, self.lost.since) = (self.lost.since, 0);
            if self.relaying.is_some() {
                self.count_lost_elsewhere();
            }
        }
    }

    /// Counts what was lost before the message that was taken came to its sender.
    fn count_lost_elsewhere(&mut self) {
        let Some(relaying) = &mut self.relaying else { return };
        // SAFETY: just found and taken, so that nothing of it has been released; the bytes are used here alone.
        let lost = relaying.take(unsafe { self.found.before() }, self.lost.before);
        self.lost.before = self.lost.before.saturating_add(lost);
        self.lost.elsewhere = self.lost.elsewhere.saturating_add(lost);
        self.tell_lost();
    }

    /// Whether the message that was found has been taken already, from somebody else who passed it on.
    fn has_come_before(&mut self) -> bool {
        // SAFETY: just found, so that nothing of it has been released; the bytes are used here alone.
        let found = unsafe { self.found.before() };
        self.relaying.as_mut().is_some_and(|relaying| relaying.has_come_before(found))
    }

    /// Whether nothing has been taken here yet, and what was found was sent first by whoever sent what the other end has: it is to
    /// come after that.
    pub(crate) fn takes_over_from(&self, other: &Self) -> bool {
        let both = self.relaying.as_ref().zip(other.relaying.as_ref());
        let has_taken_none = self.reader.position() - self.start == self.lost.total + self.withdrawn;
        has_taken_none && both.is_some_and(|(ours, theirs)| ours.is_same_as(theirs))
    }

    /// Says how many messages are missing.
    pub(super) fn tell_lost(&self) {
        self.attachment.tell_lost(self.lost.total.saturating_add(self.lost.elsewhere));
    }

    /// Starts a batch with the message that the last poll found.
    #[inline]
    pub(crate) fn batch(&mut self) -> Batch<'_> {
        Batch { end: self }
    }

    /// Looks for the next message: whether it was found.
    ///
    /// # Safety
    /// - `release` is not called, buffers are not used again, and `self` is not dropped, while the bytes are in use, unless
    ///   the message is held first.
    #[inline(always)]
    unsafe fn find(&mut self, extent: Option<Extent>) -> Result<bool, StreamViolation> {
        if !self.is_plain {
            // SAFETY: the caller answers for the same.
            return unsafe { self.find_otherwise(extent) };
        }
        let Some(word) = self.reader.peek() else { return Ok(false) };
        // SAFETY: the word was seen, and the caller answers for the rest.
        unsafe { self.find_seen(word, extent) }
    }

    /// As `find`, where a message is not just lent.
    ///
    /// # Safety
    /// - As for `find`.
    #[inline(never)]
    unsafe fn find_otherwise(&mut self, extent: Option<Extent>) -> Result<bool, StreamViolation> {
        for _ in 0..REPEATED_MAX {
            let in_use = self.copies.as_ref().map(|copies| copies.in_use());
            let is_found = if self.copies.is_some() {
                self.find_copying(extent)?
            } else {
                let word = if self.reading.is_settling { self.take_in_lane() } else { self.reader.peek() };
                match word {
                    // SAFETY: the word was seen, and the caller answers for the rest.
                    Some(word) => unsafe { self.find_seen(word, extent) }?,
                    None => false,
                }
            };
            if !(is_found && self.has_come_before()) {
                return Ok(is_found);
            }
            self.has_found = false;
            self.reader.advance();
            self.withdrawn += 1;
            if let Some((copies, in_use)) = self.copies.as_mut().zip(in_use) {
                copies.give_back(in_use, &self.attachment);
            }
        }
        Ok(false)
    }

    /// The message whose word was seen, wherever it lies.
    ///
    /// # Safety
    /// - As for `find`.
    #[inline(always)]
    unsafe fn find_seen(&mut self, word: SlotWord, extent: Option<Extent>) -> Result<bool, StreamViolation> {
        match extent {
            Some(Extent::Exact(length)) if word.carriage() == Some(Carriage::Inline(length)) => {
                // SAFETY: the word was seen, and the caller answers for the slice's life.
                let bytes = unsafe { self.reader.payload(length) };
                let bytes = bytes.ok_or_else(|| self.violation("it is longer than its slot"))?;
                let (start, length) = (NonNull::from(bytes).cast(), bytes.len());
                Ok(self.note(Found { start, length, prefix: 0, place: Place::Unreleased }))
            }
            Some(extent) if word.is_bare() && self.reading.may_be_bare => {
                let Some(Carriage::Inline(length)) = word.carriage() else {
                    return Err(self.violation("it is bare and not short"));
                };
                // SAFETY: as above.
                let bytes = unsafe { self.reader.payload(length) };
                let bytes = bytes.filter(|_| extent.fits(length as u64) && length <= INLINE_BYTES_MAX);
                let bytes = bytes
                    .ok_or_else(|| self.violation("it is not as long as its slot and its type allow"))?;
                let (start, length) = (NonNull::from(bytes).cast(), bytes.len());
                Ok(self.note(Found { start, length, prefix: 0, place: Place::Unreleased }))
            }
            // SAFETY: as above.
            _ => unsafe { self.find_other(word, extent) },
        }
    }

    /// The message whose word was seen, wherever it lies.
    ///
    /// # Safety
    /// - As for `find`.
    #[inline(never)]
    unsafe fn find_other(&mut self, word: SlotWord, extent: Option<Extent>) -> Result<bool, StreamViolation> {
        let Claim { length, chunk } = self.claim(word, extent)?;
        let bytes = match chunk {
            Some(address) => {
                if !self.has_segment(address)? {
                    return Ok(false);
                }
                // SAFETY: the word was seen, and the caller answers for the slice's life.
                unsafe { self.segment(address).payload(address.chunk, length as u64) }
            }
            // SAFETY: as above.
            None => unsafe { self.reader.payload(length) },
        };
        let bytes = bytes.ok_or_else(|| self.violation("it lies outside its slot or chunk"))?;
        if chunk.is_some() {
            self.reader.count_outside(length);
        }
        Ok(self.note_frame(NonNull::from(bytes), Place::Unreleased))
    }

    /// A message was found.
    #[inline]
    pub(super) fn note(&mut self, found: Found) -> bool {
        self.found = found;
        self.has_found = true;
        true
    }

    /// A frame was found: the message in it comes after the prefix.
    pub(super) fn note_frame(&mut self, frame: NonNull<[u8]>, place: Place) -> bool {
        // A claim was checked to be as long as its prefix at least.
        let prefix = self.reading.prefix.min(frame.len());
        self.note(Found { start: frame.cast(), length: frame.len() - prefix, prefix, place })
    }

    /// What word and header say of the message at the position: its length, checked against its type, and its chunk,
    /// which is not checked yet.
    pub(super) fn claim(&self, word: SlotWord, extent: Option<Extent>) -> Result<Claim, StreamViolation> {
        let claim = self.reader.header_claim();
        let (length, chunk) = match word.carriage() {
            Some(Carriage::Inline(length)) if length <= INLINE_BYTES_MAX => (length as u64, None),
            Some(Carriage::Body) => (claim.length, None),
            Some(Carriage::Pooled) => (claim.length, Some(claim.address)),
            _ => return Err(self.violation("its kind or its length is unknown")),
        };
        let message = length.checked_sub(self.reading.prefix as u64);
        if !message.is_some_and(|message| extent.unwrap_or(self.reading.extent).fits(message)) {
            return Err(self.violation("it is not as long as its type"));
        }
        let length = usize::try_from(length).map_err(|_| self.violation("it is longer than any memory"))?;
        Ok(Claim { length, chunk })
    }

    /// Whether the segment of a pooled payload is there, and not still on its way.
    pub(super) fn has_segment(&mut self, address: ChunkAddress) -> Result<bool, StreamViolation> {
        // Looked at first: what the sender announced before it went is known once we have seen that it went.
        let has_gone = self.attachment.is_closed();
        self.attachment.update_segments(&mut self.segments);
        let is_known = (address.segment as usize) < self.segments.len();
        if !is_known && has_gone {
            let reason = "the connection was over before its pool segment came";
            return Err(StreamViolation { is_cut_off: true, ..self.violation(reason) });
        }
        // The control thread maps a segment before its first message is read, or it is about to.
        Ok(is_known)
    }

    /// A segment that is there.
    pub(super) fn segment(&self, address: ChunkAddress) -> &PoolMemory {
        &self.segments[address.segment as usize]
    }

    pub(super) fn violation(&self, reason: &'static str) -> StreamViolation {
        StreamViolation { sequence: self.reader.position(), reason, is_cut_off: false }
    }

    #[cold]
    fn nothing(&mut self) -> Poll {
        let position = self.reader.position();
        if position != self.idle_at {
            (self.idle_at, self.idle) = (position, 0);
            if self.is_alone && position - self.run_start >= RUN_MESSAGES {
                (0..RUN_PAUSES).for_each(|_| std::hint::spin_loop());
            }
        }
        if self.follow() {
            return Poll::Nothing;
        }
        // What a sender published before it closed is there once we have seen that it closed.
        if self.attachment.is_closed() && !self.has_message() && !self.follow() {
            return Poll::End;
        }
        if self.idle + 1 == RUN_GAP_POLLS {
            self.run_start = position;
        }
        self.idle_for(1);
        Poll::Nothing
    }

    /// Another stream is busy, which has just had a full turn or a shorter one, while there was nothing here.
    #[inline]
    pub(crate) fn age(&mut self, was_full_turn: bool) {
        self.idle_for(if was_full_turn { IDLE_POLLS } else { IDLE_POLLS_PASSED });
    }

    /// So many more empty polls, or what comes to the same.
    #[inline]
    fn idle_for(&mut self, polls: u32) {
        let was_idle = self.idle >= IDLE_POLLS;
        self.idle = self.idle.saturating_add(polls).min(IDLE_POLLS);
        if self.idle == IDLE_POLLS && !was_idle {
            self.release();
        }
    }

    /// Enters the ring in which the sender goes on after the message before this position, if there is one; of several
    /// without a message in between, the last.
    fn follow(&mut self) -> bool {
        let before = self.rings_entered;
        while let Some(further) = self.next_ring() {
            let ring = further.ring.clone();
            self.reader.move_to(ring);
            self.rings_entered += 1;
        }
        self.rings_entered > before
    }

    /// The ring that comes after this one, if the next message is in it.
    fn next_ring(&self) -> Option<&FurtherRing> {
        let next = self.attachment.further_rings().nth(self.rings_entered);
        next.filter(|further| further.start <= self.reader.position())
    }

    /// What there was no memory for here, nor descriptors, so that the stream is not read on.
    pub(crate) fn shortage(&self) -> Option<&SegmentError> {
        self.attachment.shortage()
    }

    /// Whether there is nothing left to be read, nor will be if the sender is gone.
    pub(crate) fn is_at_its_end(&self) -> bool {
        !self.has_message() && self.next_ring().is_none()
    }

    /// Whether there is a message, or will never be one again.
    pub(crate) fn has_news(&self) -> bool {
        self.has_message() || self.attachment.is_closed() || self.next_ring().is_some()
    }

    /// Whether there is a message, or one that was lost.
    pub(crate) fn has_message(&self) -> bool {
        match self.copies {
            // What was withdrawn from a lane has others behind it.
            None => {
                self.reader.peek().is_some()
                    || (self.reading.is_settling && self.reader.sight() == Sight::Withdrawn)
            }
            Some(_) => self.reader.sight() != Sight::Nothing,
        }
    }

    /// Whether a message is there that a poll would have to copy out, or pin.
    #[inline]
    pub(crate) fn has_message_to_copy(&self) -> bool {
        self.copies.is_some() && matches!(self.reader.sight(), Sight::Message(_))
    }

    pub(super) fn note_received(&self) {
        let passed = self.reader.position() - self.start;
        self.attachment.note_received(passed - self.lost.total - self.withdrawn);
    }

    /// Whether whoever polls this end polls no other, so that a wait here keeps nobody else waiting.
    pub(crate) fn set_alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    /// Gives back everything before the next message, and rings the sender if it waits. Every message lent
    /// before is over.
    #[cold]
    #[inline(never)]
    pub(crate) fn release(&mut self) {
        self.has_found = false;
        if self.reading.is_settling {
            // Space is given back by whoever settles what lies there.
            self.reader.never_release();
            self.note_received();
        } else {
            self.flush();
        }
    }

    /// As [`ReceivingEnd::release`], where nothing is settled one by one; what the last poll found stays to be taken.
    pub(crate) fn flush(&mut self) {
        if self.reader.has_unreleased() {
            self.note_received();
            self.reader.release();
            self.attachment.ring_if_blocked();
        }
    }
}

/// What a message's word and header say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// Bytes of the frame, prefix included.
    pub(super) length: usize,
    pub(super) chunk: Option<ChunkAddress>,
}

impl Drop for ReceivingEnd {
    fn drop(&mut self) {
        if self.attachment.is_inherited() {
            return;
        }
        if let Some(copies) = &mut self.copies {
            copies.start_over(&self.attachment);
        }
        self.note_received();
        if self.reading.is_settling {
            return self.leave_lane();
        }
        self.reader.leave();
        self.attachment.ring_if_blocked();
    }
}
