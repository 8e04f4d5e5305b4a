//! What goes along with each message: who sent it first, and how many before.
//!
//! The attachment is little-endian, whatever the machines are:
//!
//! | Bytes | |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | what the sender does when it is full: 0 `Block`, 1 `Fail`, 2 `DropOldest`, 3 `Latest` |
//! | 2–3 | messages that the sender keeps for those who join later |
//! | 4–5 | bytes of the header that its sender sent with it |
//! | 6 | 1 if it says when it was sent, 0 otherwise |
//! | 7 | 1 if it is sent again as somebody lacks it, 0 otherwise |
//! | 8–23 | the domain that it comes from |
//! | 24–39 | the sender's node |
//! | 40–47 | the sender's number in its node |
//! | 48–55 | the message's number: those of one sender count from 0, and the word that it has gone has the greatest |
//! | 56–63 | when it was passed on, in nanoseconds since 1970 |
//!
//! Then, of a message of a topic, 8 bytes of time if it says when it was sent (nanoseconds since 1970), and the header. Whatever follows is of
//! later versions, in which the rest means the same. A message without an attachment comes from a client of the engine that is no program
//! of ours.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidepost::Overflow;

use crate::link::Frame;

/// The version that we write.
const VERSION: u8 = 1;
/// Bytes of an envelope.
const BYTES: usize = 64;
/// The number of the word that a sender has gone.
const FAREWELL: u64 = u64::MAX;
/// Where an envelope says that it goes along with what is sent again.
const AGAIN_AT: usize = 7;
/// Bytes of the time when a message was sent.
const STAMP_BYTES: usize = 8;

/// A domain: one directory on one machine since its last start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DomainId(pub(crate) [u8; 16]);

impl fmt::Display for DomainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for DomainId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u128::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes()))
    }
}

/// Who sent a message first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sender {
    /// Its node.
    pub(crate) node: [u8; 16],
    /// Its number in the node.
    pub(crate) number: u64,
}

/// What goes along with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) overflow: Overflow,
    pub(crate) history: u16,
    /// Whether it is sent again for somebody who lacks it.
    pub(crate) is_again: bool,
    pub(crate) domain: DomainId,
    pub(crate) sender: Sender,
    pub(crate) sequence: u64,
    pub(crate) passed_on_ns: u64,
}

/// Why an attachment is no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error("its envelope has {0} B, and 64 is the least")]
    TooShort(usize),
    #[error(
        "its envelope is of version {0}, and this gateway knows version 1 and what follows it compatibly; update it"
    )]
    Version(u8),
    #[error("its envelope names an overflow policy {0}, which is none")]
    Policy(u8),
    #[error("its envelope has {given} B, and with time and header {due} are the least")]
    Beside { given: usize, due: usize },
}

/// What comes with a message of a topic, other than whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside<'a> {
    /// When it was sent, if it says so, in nanoseconds since 1970.
    pub(crate) sent_at_ns: Option<u64>,
    /// Its header; empty if it has none.
    pub(crate) header: &'a [u8],
}

impl<'a> Beside<'a> {
    /// What comes with the message with this attachment.
    pub(crate) fn of(attachment: &'a [u8]) -> Result<Self, EnvelopeError> {
        let Some(envelope) = attachment.first_chunk::<BYTES>() else { return Ok(Self::default()) };
        let header_bytes = usize::from(u16::from_le_bytes(array(envelope, 4)));
        let is_stamped = envelope[6] == 1;
        let header_at = BYTES + if is_stamped { STAMP_BYTES } else { 0 };
        let (given, due) = (attachment.len(), header_at + header_bytes);
        let header = attachment.get(header_at..due).ok_or(EnvelopeError::Beside { given, due })?;
        let sent_at_ns = is_stamped.then(|| u64::from_le_bytes(array(attachment, BYTES)));
        Ok(Self { sent_at_ns, header })
    }

    /// The envelope, and this behind it.
    fn attach(self, envelope: Envelope) -> Vec<u8> {
        let mut bytes = envelope.to_bytes();
        // A header has 256 bytes at most.
        let header_bytes = u16::try_from(self.header.len()).unwrap_or(u16::MAX);
        bytes[4..6].copy_from_slice(&header_bytes.to_le_bytes());
        bytes[6] = u8::from(self.sent_at_ns.is_some());
        let mut attachment = Vec::with_capacity(BYTES + STAMP_BYTES + self.header.len());
        attachment.extend_from_slice(&bytes);
        attachment.extend(self.sent_at_ns.iter().flat_map(|ns| ns.to_le_bytes()));
        attachment.extend_from_slice(&self.header[..header_bytes.into()]);
        attachment
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    ns_of(SystemTime::now())
}

/// A time in nanoseconds since 1970.
pub(crate) fn ns_of(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Envelope {
    /// Bytes of one.
    pub(crate) const BYTES: usize = BYTES;

    /// A message in this envelope.
    pub(crate) fn wrap(self, payload: &[u8], encoding: Arc<str>) -> Frame {
        self.wrap_with(payload, Beside::default(), encoding)
    }

    /// A message in this envelope, and what comes with it.
    pub(crate) fn wrap_with(self, payload: &[u8], beside: Beside<'_>, encoding: Arc<str>) -> Frame {
        Frame { payload: payload.to_vec(), encoding, attachment: beside.attach(self), is_farewell: false }
    }

    /// The word that the sender has gone, in place of a message.
    pub(crate) fn into_farewell(self) -> Frame {
        let farewell = Self { sequence: FAREWELL, ..self };
        Frame { attachment: farewell.to_bytes().to_vec(), is_farewell: true, ..Frame::default() }
    }

    /// Whether it goes along with that word, which the engine has as a message when it is sent once more.
    pub(crate) fn is_farewell(&self) -> bool {
        self.sequence == FAREWELL
    }

    /// Says in an envelope as it travels that what it goes along with is sent again.
    pub(crate) fn mark_again(attachment: &mut [u8]) {
        if let Some(again) = attachment.get_mut(AGAIN_AT) {
            *again = 1;
        }
    }

    /// The envelope as it travels.
    pub(crate) fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1] = match self.overflow {
            Overflow::Fail => 1,
            Overflow::DropOldest => 2,
            Overflow::Latest => 3,
            // Whatever else there will be is taken for what loses nothing.
            _ => 0,
        };
        bytes[2..4].copy_from_slice(&self.history.to_le_bytes());
        bytes[AGAIN_AT] = u8::from(self.is_again);
        bytes[8..24].copy_from_slice(&self.domain.0);
        bytes[24..40].copy_from_slice(&self.sender.node);
        bytes[40..48].copy_from_slice(&self.sender.number.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.passed_on_ns.to_le_bytes());
        bytes
    }

    /// The envelope that goes along with a frame; none if it comes from a client of the engine.
    pub(crate) fn of(attachment: &[u8]) -> Result<Option<Self>, EnvelopeError> {
        if attachment.is_empty() { Ok(None) } else { Self::from_bytes(attachment).map(Some) }
    }

    /// The envelope that has arrived.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        match bytes.first() {
            Some(0) => return Err(EnvelopeError::Version(0)),
            Some(_) if bytes.len() >= BYTES => {}
            _ => return Err(EnvelopeError::TooShort(bytes.len())),
        }
        let overflow = match bytes[1] {
            0 => Overflow::Block,
            1 => Overflow::Fail,
            2 => Overflow::DropOldest,
            3 => Overflow::Latest,
            other => return Err(EnvelopeError::Policy(other)),
        };
        let word = |at: usize| u64::from_le_bytes(array(bytes, at));
        let sender = Sender { node: array(bytes, 24), number: word(40) };
        let (history, is_again) = (u16::from_le_bytes(array(bytes, 2)), bytes[AGAIN_AT] == 1);
        let (domain, sequence, passed_on_ns) = (DomainId(array(bytes, 8)), word(48), word(56));
        Ok(Self { overflow, history, is_again, domain, sender, sequence, passed_on_ns })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the length was checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let sender = Sender { node: [7; 16], number: 0x0102_0304 };
        Envelope {
            overflow: Overflow::Latest,
            history: 0x0201,
            is_again: false,
            domain: DomainId([9; 16]),
            sender,
            sequence: 258,
            passed_on_ns: 1,
        }
    }

    #[test]
    fn a_domain_comes_back_from_its_text() {
        let domain = DomainId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(domain.to_string().parse(), Ok(domain));
        assert!("*".parse::<DomainId>().is_err());
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = envelope().to_bytes();
        assert_eq!(bytes[..8], [1, 3, 1, 2, 0, 0, 0, 0]);
        assert_eq!(
            (bytes[8], bytes[24], &bytes[40..44], &bytes[48..50]),
            (9, 7, &[4, 3, 2, 1][..], &[2, 1][..])
        );
        let mut again = bytes;
        Envelope::mark_again(&mut again);
        assert_eq!(Envelope::from_bytes(&again), Ok(Envelope { is_again: true, ..envelope() }));
        Envelope::mark_again(&mut []);
    }

    #[test]
    fn a_farewell_is_known_by_its_envelope() {
        let farewell = envelope().into_farewell();
        let envelope_of =
            |frame: &Frame| Envelope::of(&frame.attachment).expect("it is one").expect("it is there");
        assert!(farewell.is_farewell && envelope_of(&farewell).is_farewell());
        assert!(!envelope_of(&envelope().wrap(&[], "x".into())).is_farewell());
    }

    #[test]
    fn what_is_none_is_refused() {
        let mut bytes = envelope().to_bytes();
        assert_eq!(Envelope::from_bytes(&bytes[..63]), Err(EnvelopeError::TooShort(63)));
        assert_eq!(Envelope::from_bytes(&[]), Err(EnvelopeError::TooShort(0)));
        bytes[1] = 4;
        assert_eq!(Envelope::from_bytes(&bytes), Err(EnvelopeError::Policy(4)));
        bytes[0] = 0;
        assert_eq!(Envelope::from_bytes(&bytes), Err(EnvelopeError::Version(0)));
    }

    #[test]
    fn a_later_version_is_understood_as_far_as_it_is_known() {
        let mut bytes = envelope().to_bytes().to_vec();
        (bytes[0], bytes[7]) = (2, 200);
        bytes.extend([1, 2, 3]);
        assert_eq!(Envelope::from_bytes(&bytes), Ok(envelope()));
    }

    #[test]
    fn what_comes_with_a_message_comes_back_from_its_bytes() {
        for (sent_at_ns, header) in
            [(None, &[][..]), (Some(7), &[][..]), (None, &[1, 2, 3][..]), (Some(u64::MAX), &[4; 256][..])]
        {
            let beside = Beside { sent_at_ns, header };
            let mut attachment = beside.attach(envelope());
            assert_eq!(Envelope::from_bytes(&attachment), Ok(envelope()));
            assert_eq!(Beside::of(&attachment), Ok(beside));
            let due = attachment.len();
            attachment.push(9);
            assert_eq!(Beside::of(&attachment), Ok(beside), "a later version may say more");
            if due > BYTES {
                let cut = &attachment[..due - 1];
                assert_eq!(Beside::of(cut), Err(EnvelopeError::Beside { given: due - 1, due }));
            }
        }
        assert_eq!(Beside::of(&[]), Ok(Beside::default()));
    }

    #[test]
    fn any_bytes_are_an_envelope_or_an_error() {
        for (at, value) in (0..BYTES).flat_map(|at| (0..=255).map(move |value| (at, value))) {
            let mut bytes = envelope().to_bytes();
            bytes[at] = value;
            // Neither panics.
            let _ = Beside::of(&bytes);
            if let Ok(envelope) = Envelope::from_bytes(&bytes) {
                assert_eq!(Envelope::from_bytes(&envelope.to_bytes()), Ok(envelope));
            }
        }
    }
}
