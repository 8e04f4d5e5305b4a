//! What a sender that writes no more has left: the newest message in its rings, for those who come after it.
//!
//! Nobody writes there any more, so nothing has to be pinned. That is believed of nobody all the same: a message is copied
//! out, and its slot word looked at again, as everywhere where a sender may be faster.

use std::sync::Arc;

use super::attachment::Attachment;
use super::receiving::Extent;
use crate::layout::ring::INLINE_BYTES_MAX;
use crate::sync::door::Ordering;
use crate::sync::pool::{ChunkAddress, PoolMemory};
use crate::sync::ring::{CursorMemory, Reader, RingMemory, RingWords};
use crate::sync::slot::{Carriage, SlotWord};

/// A message that was left, not copied yet.
pub(crate) struct Relic {
    reader: Reader<RingMemory, CursorMemory>,
    word: SlotWord,
    length: usize,
    chunk: Option<(Arc<PoolMemory>, u32)>,
}

impl Relic {
    /// The newest message, if it can be had, and is as long as `extent` says, with nothing before it. The sender writes no
    /// more.
    pub(crate) fn of(attachment: &Attachment, extent: Extent) -> Option<Self> {
        let rings: Vec<&RingMemory> = attachment.rings().collect();
        // They follow each other, and some may have no message.
        let newest = rings.into_iter().rev().find_map(|ring| Some((ring, newest_in(ring)?)));
        let (ring, (sequence, word)) = newest?;
        let mut segments = Vec::new();
        attachment.list_segments(&mut segments);
        let reader = Reader::new(ring.clone(), attachment.cursor.clone(), ring.geometry(), sequence);
        Self::at(reader, word, extent, &segments)
    }

    fn at(
        reader: Reader<RingMemory, CursorMemory>,
        word: SlotWord,
        extent: Extent,
        segments: &[Arc<PoolMemory>],
    ) -> Option<Self> {
        let claim = reader.header_claim();
        let (length, address) = match word.carriage()? {
            Carriage::Inline(length) => (length as u64, None),
            Carriage::Body => (claim.length, None),
            Carriage::Pooled => (claim.length, Some(claim.address)),
        };
        let is_whole = extent.fits(length) && reader.still_has(word);
        let length = usize::try_from(length).ok().filter(|_| is_whole)?;
        let chunk = match address {
            Some(ChunkAddress { segment, chunk }) => {
                let memory = segments.get(segment as usize)?;
                (chunk < memory.count() && length <= memory.chunk_bytes()).then_some(())?;
                Some((Arc::clone(memory), chunk))
            }
            None if length > reader.capacity() || !is_carried(word, length) => return None,
            None => None,
        };
        Some(Self { reader, word, length, chunk })
    }

    /// Its number.
    pub(crate) fn sequence(&self) -> u64 {
        self.reader.position()
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Copies it to where exactly its bytes have room; `false` if somebody has written over it after all.
    pub(crate) fn copy_to(&self, place: &mut [u8]) -> bool {
        let is_copied = place.len() == self.length
            && match &self.chunk {
                Some((memory, chunk)) => memory.copy_payload(*chunk, place),
                None => self.reader.copy_payload(place),
            };
        is_copied && self.reader.still_has(self.word)
    }
}

/// Whether a slot's word may say that so many bytes are in the slot.
fn is_carried(word: SlotWord, length: usize) -> bool {
    !matches!(word.carriage(), Some(Carriage::Inline(_))) || length <= INLINE_BYTES_MAX
}

/// The newest message whose word stands in a ring.
fn newest_in(ring: &RingMemory) -> Option<(u64, SlotWord)> {
    let geometry = ring.geometry();
    let slots = geometry.slots() as u64;
    let message_at = |index: u64| {
        // Acquire: pairs with the sender's Release of this word; payload and header are visible.
        let word = SlotWord::from_bits(ring.slot(index as usize).load(Ordering::Acquire));
        let lap = word.lap();
        (lap > 0 && word.is_message_of(lap)).then(|| ((lap - 1) * slots + index, word))
    };
    (0..slots).filter_map(message_at).max_by_key(|(sequence, _)| *sequence)
}
