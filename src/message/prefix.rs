//! What may come before each message: the time at which it was sent, whose it was before it was passed on, and a header of the
//! user's.

use std::any::TypeId;
use std::time::{Duration, SystemTime};

use super::payload::Message;
use super::relayed::Relayed;
use crate::node::TypeDescriptor;

const STAMP_BYTES: usize = 8;
/// Bytes of the word before a request or an answer.
pub(super) const HEAD_BYTES: usize = 8;

/// Where time, origin and header lie before a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefix {
    is_stamped: bool,
    is_relayed: bool,
    header_at: usize,
    header_bytes: usize,
    bytes: usize,
}

/// The type of the user's header.
#[derive(Clone, Debug)]
pub(super) struct HeaderType {
    /// What it is in this program, if that was known when the program was built.
    pub(super) id: Option<TypeId>,
    pub(super) descriptor: TypeDescriptor,
}

/// What a sender says before a message, other than the time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said<'a> {
    /// The user's header.
    Header(&'a [u8]),
    /// What somebody else has sent, and his header with it.
    Relayed(&'a Relayed<'a>),
}

impl HeaderType {
    pub(super) fn of<H: Message>() -> Self {
        let (size, align) = (size_of::<H>() as u64, align_of::<H>() as u64);
        let descriptor = TypeDescriptor { size, align, ..H::descriptor() };
        Self { id: Some(TypeId::of::<H>()), descriptor }
    }

    /// Whether it is this type of the program's.
    pub(super) fn is<H: Message>(&self) -> bool {
        self.id == Some(TypeId::of::<H>())
    }
}

impl Prefix {
    /// The longest header, in bytes.
    pub(super) const HEADER_BYTES_MAX: u64 = 256;

    /// The prefix of messages with this alignment.
    pub(super) fn new(
        (is_stamped, is_relayed): (bool, bool),
        header: Option<&TypeDescriptor>,
        align: usize,
    ) -> Self {
        let prefix = Self { is_stamped, is_relayed, ..Self::default() };
        let (header_bytes, header_align) =
            header.map_or((0, 1), |header| (header.size as usize, header.align as usize));
        let own_bytes = prefix.relayed_at().map_or(prefix.stamp_bytes(), |at| at + Relayed::BYTES);
        let header_at = own_bytes.next_multiple_of(header_align.max(1));
        let align = Self::align(header, align).max(STAMP_BYTES);
        Self { header_at, header_bytes, bytes: (header_at + header_bytes).next_multiple_of(align), ..prefix }
    }

    fn stamp_bytes(self) -> usize {
        if self.is_stamped { STAMP_BYTES } else { 0 }
    }

    /// What comes before a request or an answer: a word, and what is lacking to the message's alignment.
    pub(super) fn of_call(align: usize) -> Self {
        Self { bytes: align.max(HEAD_BYTES), ..Self::default() }
    }

    /// Whether time, origin or header come before each message: what who sends one is not asked for. The word of a call is.
    pub(super) fn is_filled_in(self) -> bool {
        self.is_stamped || self.is_relayed || self.header_bytes > 0
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
        self.is_relayed.then(|| self.stamp_bytes())
    }

    /// Writes the time and what is said, or zeros for a header that is not given.
    pub(super) fn write(self, said: Option<Said<'_>>, place: &mut [u8]) {
        let place = &mut place[..self.bytes];
        place.fill(0);
        let (header, relayed) = match said {
            Some(Said::Header(header)) => (Some(header), None),
            Some(Said::Relayed(relayed)) => (relayed.header, Some(relayed)),
            None => (None, None),
        };
        if let Some(header) = header {
            place[self.header_at..self.header_at + self.header_bytes].copy_from_slice(header);
        }
        if let Some(at) = self.relayed_at() {
            relayed.unwrap_or(&Relayed::NOBODY).write(&mut place[at..at + Relayed::BYTES]);
        }
        match relayed.and_then(|relayed| relayed.sent_at) {
            Some(sent_at) => self.stamp_at(sent_at, place),
            None => self.stamp(place),
        }
    }

    /// Writes the time.
    pub(super) fn stamp(self, place: &mut [u8]) {
        if self.is_stamped {
            self.stamp_at(SystemTime::now(), place);
        }
    }

    fn stamp_at(self, time: SystemTime, place: &mut [u8]) {
        if self.is_stamped {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            place[..STAMP_BYTES].copy_from_slice(&ns.to_ne_bytes());
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
        let nothing = Prefix::new((false, false), None, 64);
        assert_eq!((nothing.bytes(), nothing.is_filled_in()), (0, false));
        assert!(Prefix::new((true, false), None, 1).is_filled_in());
        assert!(Prefix::new((false, true), None, 1).is_filled_in());
        assert!(Prefix::new((false, false), Some(&header(4, 4)), 4).is_filled_in());
        assert!(!Prefix::of_call(8).is_filled_in(), "the word of a call comes with it");
    }

    #[test]
    fn header_and_message_are_aligned() {
        let prefix = Prefix::new((true, false), Some(&header(12, 4)), 8);
        assert_eq!((prefix.header_at, prefix.bytes()), (8, 24));
        let prefix = Prefix::new((true, false), Some(&header(32, 16)), 8);
        assert_eq!((prefix.header_at, prefix.bytes()), (16, 48));
        let prefix = Prefix::new((true, true), Some(&header(32, 32)), 8);
        assert_eq!((prefix.relayed_at(), prefix.header_at, prefix.bytes()), (Some(8), 64, 96));
        assert_eq!(Prefix::align(Some(&header(32, 16)), 8), 16);
    }

    #[test]
    fn what_was_written_is_read() {
        let prefix = Prefix::new((true, false), Some(&header(2, 1)), 1);
        let mut place = vec![7; prefix.bytes()];
        prefix.write(Some(Said::Header(&[1, 2])), &mut place);
        assert_eq!(prefix.header(&place), Some(&[1, 2][..]));
        let age = prefix.time(&place).expect("it is stamped").elapsed().expect("time goes on");
        assert!(age < Duration::from_secs(60));
        assert_eq!((prefix.time(&[]), prefix.header(&[])), (None, None));
    }

    #[test]
    fn what_is_passed_on_keeps_its_time_and_its_header() {
        let prefix = Prefix::new((true, true), Some(&header(2, 1)), 1);
        let mut place = vec![7; prefix.bytes()];
        let sent_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(17);
        let relayed =
            Relayed { origin: [1, 2, 3], number: 4, lost: 5, sent_at: Some(sent_at), header: Some(&[6, 7]) };
        prefix.write(Some(Said::Relayed(&relayed)), &mut place);
        assert_eq!((prefix.time(&place), prefix.header(&place)), (Some(sent_at), Some(&[6, 7][..])));
        let words: Vec<u8> = [1_u64, 2, 3, 4, 5].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(place[8..48], words);
        // What is sent otherwise has no number there, or it would count as having come before.
        prefix.write(None, &mut place);
        assert_eq!(place[32..40], u64::MAX.to_ne_bytes());
    }
}
