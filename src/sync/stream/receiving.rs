//! The receiving end of a stream: takes message after message, lends each in place, gives space back.

use std::ptr::NonNull;
use std::sync::Arc;

use super::attachment::{Attachment, Pinned};
use crate::layout::ring::INLINE_BYTES_MAX;
use crate::sync::geometry::Geometry;
use crate::sync::pool::{ChunkAddress, PoolMemory};
use crate::sync::ring::{CursorMemory, Reader, RingMemory};
use crate::sync::slot::{Carriage, SlotWord};

/// Empty polls after which space is given back although little has been read.
const IDLE_POLLS: u32 = 64;
/// Messages in a run after which the next empty poll waits a little: a reader that polls at the tail takes the line
/// from the writer once more for each message, and halves the stream.
const RUN_MESSAGES: u64 = 16;
/// How often that wait relaxes the processor.
const RUN_PAUSES: u32 = 48;
/// Empty polls that end a run. A reader in step with the writer has fewer between two messages, one that waits for an
/// answer many more.
const RUN_GAP_POLLS: u32 = 5;

/// The receiving end.
#[derive(Debug)]
pub(crate) struct ReceivingEnd {
    reader: Reader<RingMemory, CursorMemory>,
    attachment: Arc<Attachment>,
    segments: Vec<Arc<PoolMemory>>,
    found: Option<Found>,
    /// Empty polls since the message before `idle_at`.
    idle: u32,
    idle_at: u64,
    run_start: u64,
}

/// The bytes of the message that the last poll found.
#[derive(Clone, Copy, Debug)]
struct Found(NonNull<[u8]>);

// SAFETY: bytes of a shared mapping that the end keeps mapped and that are only read.
unsafe impl Send for Found {}
// SAFETY: as above.
unsafe impl Sync for Found {}

/// What no correct sender puts into its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {sequence} of the ring is damaged: {reason}")]
pub(crate) struct StreamViolation {
    sequence: u64,
    reason: &'static str,
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
    const fn fits(self, length: u64) -> bool {
        match self {
            Self::Exact(bytes) => length == bytes as u64,
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

/// A message in place: it stays while the receiving end is borrowed, or longer if it is pinned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lent<'a> {
    bytes: &'a [u8],
    end: &'a ReceivingEnd,
}

impl<'a> Lent<'a> {
    /// The message.
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Its sequence number: messages of one sender count from 0.
    #[inline]
    pub(crate) fn sequence(self) -> u64 {
        // The end is borrowed, so this is still the message that was taken last.
        self.end.reader.position() - 1
    }

    /// Keeps the message where it is beyond the next poll. `None` at the hold limit.
    pub(crate) fn pin(self) -> Option<Pinned> {
        self.end.attachment.pin(self.sequence(), self.bytes)
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
    pub(crate) fn next(&mut self, extent: Extent) -> Result<Option<&'a [u8]>, StreamViolation> {
        // SAFETY: for `'a` the end is borrowed by this batch alone, which releases nothing.
        let bytes = unsafe { self.end.locate(extent) }?;
        if bytes.is_some() {
            self.end.reader.advance();
        }
        Ok(bytes)
    }
}

impl ReceivingEnd {
    /// An end that starts at `start`, where the sender admitted it.
    pub(crate) fn new(attachment: Arc<Attachment>, geometry: Geometry, start: u64) -> Self {
        let reader = Reader::new(attachment.ring.clone(), attachment.cursor.clone(), geometry, start);
        Self {
            reader,
            attachment,
            segments: Vec::new(),
            found: None,
            idle: 0,
            idle_at: start,
            run_start: start,
        }
    }

    /// Looks for the next message, as long as `extent` says. Messages lent before are over.
    #[inline]
    pub(crate) fn poll(&mut self, extent: Extent) -> Result<Poll, StreamViolation> {
        if self.reader.is_release_due() {
            self.release();
        }
        // SAFETY: the bytes are lent by `take`, tied to a borrow of `self`; before a release, `found` is emptied.
        match unsafe { self.locate(extent) }? {
            Some(bytes) => {
                self.found = Some(Found(NonNull::from(bytes)));
                Ok(Poll::Ready)
            }
            None => Ok(self.nothing()),
        }
    }

    /// Takes the message that the last poll found.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Lent<'_>> {
        let Found(bytes) = self.found.take()?;
        self.reader.advance();
        // SAFETY: found at the position just left, which nothing has released since: `release` empties `found`,
        // and until the next one, which needs `&mut self`, the sender does not write there.
        Some(Lent { bytes: unsafe { bytes.as_ref() }, end: self })
    }

    /// Starts a batch with the message that the last poll found.
    #[inline]
    pub(crate) fn batch(&mut self) -> Batch<'_> {
        self.found = None;
        Batch { end: self }
    }

    /// The bytes of the next message, if it is there.
    ///
    /// # Safety
    /// - `release` is not called, and `self` not dropped, while the slice is in use, unless it is pinned first.
    #[inline]
    unsafe fn locate<'a>(&mut self, extent: Extent) -> Result<Option<&'a [u8]>, StreamViolation> {
        let Some(word) = self.reader.peek() else { return Ok(None) };
        match extent {
            Extent::Exact(length) if word.carriage() == Some(Carriage::Inline(length)) => {
                // SAFETY: the word was seen, and the caller answers for the slice's life.
                let bytes = unsafe { self.reader.payload(length) };
                bytes.map(Some).ok_or_else(|| self.violation("it is longer than its slot"))
            }
            // SAFETY: as above.
            _ => unsafe { self.locate_other(word, extent) },
        }
    }

    /// The message whose word was seen, wherever it lies.
    ///
    /// # Safety
    /// - As for `locate`.
    #[inline(never)]
    unsafe fn locate_other<'a>(
        &mut self,
        word: SlotWord,
        extent: Extent,
    ) -> Result<Option<&'a [u8]>, StreamViolation> {
        let claim = self.reader.header_claim();
        let length = match word.carriage() {
            Some(Carriage::Inline(length)) if length <= INLINE_BYTES_MAX => length as u64,
            Some(Carriage::Body | Carriage::Pooled) => claim.length,
            _ => return Err(self.violation("its kind or its length is unknown")),
        };
        if !extent.fits(length) {
            return Err(self.violation("it is not as long as its type"));
        }
        if word.carriage() == Some(Carriage::Pooled) {
            // SAFETY: the caller's promise.
            return unsafe { self.locate_pooled(claim.address, length) };
        }
        // SAFETY: the word was seen, and the caller answers for the slice's life.
        let bytes = usize::try_from(length).ok().and_then(|length| unsafe { self.reader.payload(length) });
        bytes.map(Some).ok_or_else(|| self.violation("it is longer than its slot"))
    }

    /// The payload in the pool, unless its segment is still on its way.
    ///
    /// # Safety
    /// - As for `locate`.
    unsafe fn locate_pooled<'a>(
        &mut self,
        address: ChunkAddress,
        length: u64,
    ) -> Result<Option<&'a [u8]>, StreamViolation> {
        // Looked at first: what the sender announced before it went is known once we have seen that it went.
        let has_gone = self.attachment.is_closed();
        self.attachment.update_segments(&mut self.segments);
        let Some(memory) = self.segments.get(address.segment as usize) else {
            // The control thread maps a segment before its first message is read, or it is about to.
            return if has_gone { Err(self.violation("its pool segment was never sent")) } else { Ok(None) };
        };
        // SAFETY: the word was seen, and the caller answers for the slice's life.
        let bytes = unsafe { memory.payload(address.chunk, length) };
        let bytes = bytes.ok_or_else(|| self.violation("it lies outside its pool segment"))?;
        self.reader.count_outside(bytes.len());
        Ok(Some(bytes))
    }

    fn violation(&self, reason: &'static str) -> StreamViolation {
        StreamViolation { sequence: self.reader.position(), reason }
    }

    #[cold]
    fn nothing(&mut self) -> Poll {
        let position = self.reader.position();
        if position != self.idle_at {
            (self.idle_at, self.idle) = (position, 0);
            if position - self.run_start >= RUN_MESSAGES {
                (0..RUN_PAUSES).for_each(|_| std::hint::spin_loop());
            }
        }
        // What a sender published before it closed is there once we have seen that it closed.
        if self.attachment.is_closed() && self.reader.peek().is_none() {
            return Poll::End;
        }
        self.idle = self.idle.saturating_add(1);
        if self.idle == RUN_GAP_POLLS {
            self.run_start = position;
        }
        if self.idle == IDLE_POLLS {
            self.release();
        }
        Poll::Nothing
    }

    /// Whether there is a message, or will never be one again.
    pub(crate) fn has_news(&self) -> bool {
        self.has_message() || self.attachment.is_closed()
    }

    /// Whether there is a message.
    pub(crate) fn has_message(&self) -> bool {
        self.reader.peek().is_some()
    }

    /// Gives back everything before the next message, and rings the sender if it waits. Every message lent
    /// before is over.
    #[cold]
    #[inline(never)]
    pub(crate) fn release(&mut self) {
        self.found = None;
        if self.reader.has_unreleased() {
            self.reader.release();
            self.attachment.ring_if_blocked();
        }
    }
}

impl Drop for ReceivingEnd {
    fn drop(&mut self) {
        if self.attachment.is_inherited() {
            return;
        }
        self.reader.leave();
        self.attachment.ring_if_blocked();
    }
}
