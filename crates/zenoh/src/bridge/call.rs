//! What goes along with a question, behind its envelope.
//!
//! | Bytes | |
//! |---|---|
//! | 64 | what is wanted: 0 one answer, 1 none, 2 any number |
//! | 65–71 | 0 |
//! | 72–79 | how long the answer is waited for, in nanoseconds |
//! | 80–87 | the question's number, of those of the envelope's sender |
//!
//! An answer has one byte: 1 if it is one, 2 if it only says that there are no more. A client of the engine gives none of these.

use std::time::Duration;

use crate::envelope::{Envelope, Sender};
use crate::link::Frame;

/// Where this begins.
const BEGIN: usize = 64;
const BYTES: usize = 24;
/// How long somebody is waited for who does not say how long he waits.
const USUAL: Duration = Duration::from_secs(10);
/// The encoding of what a gateway, and no server, says of a question: text.
pub(super) const ERROR: &str = "application/x-tidepost-error";
/// The attachment of an answer.
pub(super) const ANSWER: &[u8] = &[1];
/// The attachment of what only says that there are no more.
pub(super) const NO_MORE: &[u8] = &[2];

/// What somebody wants who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Answer,
    Nothing,
    Parts,
}

/// A question, told from all others.
pub(super) type CallId = (Sender, u64);

/// What goes along with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallHead {
    pub(super) want: Want,
    pub(super) patience: Duration,
    pub(super) number: u64,
}

impl CallHead {
    /// The attachment of a question.
    pub(super) fn attach(self, envelope: Envelope) -> Vec<u8> {
        let mut bytes = envelope.to_bytes().to_vec();
        bytes.extend([self.want as u8, 0, 0, 0, 0, 0, 0, 0]);
        let patience_ns = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
        bytes.extend(patience_ns.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes
    }

    /// What goes along with a question that has come in, and who asks if he says so.
    pub(super) fn of(attachment: &[u8]) -> Result<(Self, Option<CallId>), String> {
        let usual = Self { want: Want::Answer, patience: USUAL, number: 0 };
        let Some(envelope) = Envelope::of(attachment).map_err(|error| error.to_string())? else {
            return Ok((usual, None));
        };
        let bytes = attachment.get(BEGIN..BEGIN + BYTES).ok_or("it says not what is wanted")?;
        let want = match bytes[0] {
            0 => Want::Answer,
            1 => Want::Nothing,
            2 => Want::Parts,
            other => return Err(format!("it wants {other}, which is nothing")),
        };
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("there are 24"));
        let head = Self { want, patience: Duration::from_nanos(word(8)), number: word(16) };
        Ok((head, Some((envelope.sender, head.number))))
    }
}

/// What a gateway says of a question that no server has answered.
pub(super) fn error(text: impl Into<String>) -> Frame {
    Frame { payload: text.into().into_bytes(), encoding: ERROR.into(), ..Frame::default() }
}

#[cfg(test)]
mod tests {
    use tidepost::Overflow;

    use super::*;
    use crate::envelope::DomainId;

    #[test]
    fn a_head_comes_back_from_its_bytes() {
        let sender = Sender { node: [3; 16], number: 4 };
        let envelope = Envelope {
            overflow: Overflow::Block,
            history: 0,
            is_again: false,
            domain: DomainId([1; 16]),
            sender,
            sequence: 0,
            passed_on_ns: 0,
        };
        let head = CallHead { want: Want::Parts, patience: Duration::from_millis(1500), number: 9 };
        let mut frame = Frame { attachment: head.attach(envelope), ..Frame::default() };
        assert_eq!(CallHead::of(&frame.attachment), Ok((head, Some((sender, 9)))));
        frame.attachment[64] = 3;
        assert!(CallHead::of(&frame.attachment).is_err());
        frame.attachment.truncate(80);
        assert!(CallHead::of(&frame.attachment).is_err());
    }

    #[test]
    fn who_says_nothing_wants_one_answer() {
        let (head, who) = CallHead::of(&[]).expect("that is allowed");
        assert_eq!((head.want, who), (Want::Answer, None));
    }
}
