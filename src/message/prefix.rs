//! What may come before each message: the time at which it was sent, and a header of the user's.

use std::any::TypeId;
use std::time::{Duration, SystemTime};

use super::payload::Message;
use super::relayed::Relayed;
use crate::node::TypeDescriptor;

const STAMP_BYTES: usize = 8;
/// Bytes of the word before a request or an answer.
pub(super) const HEAD_BYTES: usize = 8;

/// Where time and header lie before a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefix {
    is_stamped: bool,
    header_at: usize,
    header_bytes: usize,
    /// Whether the header is [`Relayed`].
    is_relayed: bool,
    bytes: usize,
}

/// The type of the user's header.
#[derive(Clone, Debug)]
pub(super) struct HeaderType {
    pub(super) id: TypeId,
    pub(super) descriptor: TypeDescriptor,
}

impl HeaderType {
    pub(super) fn of<H: Message>() -> Self {
        let (size, align) = (size_of::<H>() as u64, align_of::<H>() as u64);
        Self { id: TypeId::of::<H>(), descriptor: TypeDescriptor { size, align, ..H::descriptor() } }
    }
}

impl Prefix {
    /// The longest header, in bytes.
    pub(super) const HEADER_BYTES_MAX: u64 = 256;

    /// The prefix of messages with this alignment.
    pub(super) fn new(is_stamped: bool, header: Option<&TypeDescriptor>, align: usize) -> Self {
        let stamp_bytes = if is_stamped { STAMP_BYTES } else { 0 };
        let (header_bytes, header_align) =
            header.map_or((0, 1), |header| (header.size as usize, header.align as usize));
        let header_at = stamp_bytes.next_multiple_of(header_align.max(1));
        let align = Self::align(header, align).max(STAMP_BYTES);
        let bytes = (header_at + header_bytes).next_multiple_of(align);
        let is_relayed = header.is_some_and(|header| *header == Relayed::descriptor());
        Self { is_stamped, header_at, header_bytes, is_relayed, bytes }
    }

    /// What comes before a request or an answer: a word, and what is lacking to the message's alignment.
    pub(super) fn of_call(align: usize) -> Self {
        Self { bytes: align.max(HEAD_BYTES), ..Self::default() }
    }

    /// Whether time or header come before each message: what who sends one is not asked for. The word of a call is.
    pub(super) fn is_filled_in(self) -> bool {
        self.is_stamped || self.header_bytes > 0
    }

    /// The alignment that a slot's payload needs.
    pub(super) fn align(header: Option<&TypeDescriptor>, align: usize) -> usize {
        header.map_or(align, |header| align.max(header.align as usize))
    }

    /// Bytes before each message.
    #[inline]
    pub(super) fn bytes(self) -> usize {
        self.bytes
    }

    /// Where a message says whose it was before its sender passed it on.
    pub(super) fn relayed_at(self) -> Option<usize> {
        self.is_relayed.then_some(self.header_at)
    }

    /// Writes the time and the header, or zeros for one that is not given.
    pub(super) fn write(self, header: Option<&[u8]>, place: &mut [u8]) {
        let place = &mut place[..self.bytes];
        place.fill(0);
        if let Some(header) = header {
            place[self.header_at..self.header_at + self.header_bytes].copy_from_slice(header);
        }
        self.stamp(place);
    }

    /// Writes the time.
    pub(super) fn stamp(self, place: &mut [u8]) {
        if self.is_stamped {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
            place[..STAMP_BYTES].copy_from_slice(&now_ns.to_ne_bytes());
        }
    }

    /// The time in a prefix, if there is one.
    pub(super) fn time(self, prefix: &[u8]) -> Option<SystemTime> {
        let stamp = prefix.first_chunk().filter(|_| self.is_stamped)?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(u64::from_ne_bytes(*stamp)))
    }

    /// The header in a prefix, if there is one.
    pub(super) fn header(self, prefix: &[u8]) -> Option<&[u8]> {
        prefix.get(self.header_at..self.header_at + self.header_bytes).filter(|header| !header.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(size: u64, align: u64) -> TypeDescriptor {
        TypeDescriptor { size, align, ..TypeDescriptor::of_primitive::<u8>("h") }
    }

    #[test]
    fn nothing_takes_no_room() {
        let nothing = Prefix::new(false, None, 64);
        assert_eq!((nothing.bytes(), nothing.is_filled_in()), (0, false));
        assert!(Prefix::new(true, None, 1).is_filled_in());
        assert!(Prefix::new(false, Some(&header(4, 4)), 4).is_filled_in());
        assert!(!Prefix::of_call(8).is_filled_in(), "the word of a call comes with it");
    }

    #[test]
    fn header_and_message_are_aligned() {
        let prefix = Prefix::new(true, Some(&header(12, 4)), 8);
        assert_eq!((prefix.header_at, prefix.bytes()), (8, 24));
        let prefix = Prefix::new(true, Some(&header(32, 16)), 8);
        assert_eq!((prefix.header_at, prefix.bytes()), (16, 48));
        assert_eq!(Prefix::align(Some(&header(32, 16)), 8), 16);
    }

    #[test]
    fn what_was_written_is_read() {
        let prefix = Prefix::new(true, Some(&header(2, 1)), 1);
        let mut place = vec![7; prefix.bytes()];
        prefix.write(Some(&[1, 2]), &mut place);
        assert_eq!(prefix.header(&place), Some(&[1, 2][..]));
        let age = prefix.time(&place).expect("it is stamped").elapsed().expect("time goes on");
        assert!(age < Duration::from_secs(60));
        assert_eq!((prefix.time(&[]), prefix.header(&[])), (None, None));
    }
}
