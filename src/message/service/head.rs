//! The word before each request and each answer.
//!
//! | Word | Bits | Meaning |
//! |---|---|---|
//! | before a request | 3–0 | what is wanted: an answer, nothing, parts |
//! | | 19–4 | which of the client's notes is the call's |
//! | | 63–20 | the deadline, in milliseconds of the machine's monotonic clock; 0 if there is none |
//! | before an answer | 7–0 | what it is: an answer, a failure, a part, the end of the parts, nothing any more |
//! | | 63–8 | the request's number in its stream |
//!
//! A short message goes without its word, and says so in its slot word: a request for an answer by the deadline that the last
//! word before it told, whose note is the one that the low bits of its number say; or an answer to the request after the one
//! that the message before it was for.
//!
//! | Word | Bits | Meaning |
//! |---|---|---|
//! | a note of the client, one for each call that may be in flight | 63 | whether the client wants no answer any more |
//! | | 62–0 | then: the request's number |
//! | | 62–32, 31–0 | else: the low bits of the number, and how many parts the client has taken |

use std::time::{Duration, Instant};

use crate::os::clock;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Answer,
    Nothing,
    Parts,
}

/// The word before a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    pub(super) want: Want,
    /// Which note is the call's.
    pub(super) note: u16,
    /// See the module; 0 if there is none.
    pub(super) deadline_ms: u64,
}

/// Where a request's note lies.
const NOTE_SHIFT: u32 = 4;
/// Where its deadline lies.
const DEADLINE_SHIFT: u32 = 20;
/// Beyond this a deadline is none: more than a hundred years, whatever is added to tell it.
const DEADLINE_BITS: u32 = 63 - DEADLINE_SHIFT;

impl RequestHead {
    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.deadline_ms << DEADLINE_SHIFT | u64::from(self.note) << NOTE_SHIFT | self.want as u64
    }

    #[inline]
    pub(super) fn of_bits(bits: u64) -> Option<Self> {
        let want = match bits & 0xf {
            0 => Want::Answer,
            1 => Want::Nothing,
            2 => Want::Parts,
            _ => return None,
        };
        Some(Self { want, note: (bits >> NOTE_SHIFT) as u16, deadline_ms: bits >> DEADLINE_SHIFT })
    }
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The answer.
    Answer = 1,
    /// The server's own error.
    Failure = 2,
    /// One of many answers.
    Part = 3,
    /// There are no more parts.
    End = 4,
    /// The server let go of the request without an answer.
    Nothing = 5,
    /// Who passes requests on reached nobody who answers.
    Unreachable = 6,
}

impl Reply {
    /// Whether it is all that comes back for one answer.
    #[inline]
    pub(super) const fn is_whole(self) -> bool {
        !matches!(self, Self::Part | Self::End)
    }

    /// Whether no more parts come after it.
    pub(super) const fn ends_parts(self) -> bool {
        !matches!(self, Self::Part | Self::Answer)
    }
}

/// The word before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerHead {
    pub(super) reply: Reply,
    /// The request's number.
    pub(super) number: u64,
}

impl AnswerHead {
    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.number << 8 | self.reply as u64
    }

    #[inline]
    pub(super) fn of_bits(bits: u64) -> Option<Self> {
        let reply = match bits & 0xff {
            1 => Reply::Answer,
            2 => Reply::Failure,
            3 => Reply::Part,
            4 => Reply::End,
            5 => Reply::Nothing,
            6 => Reply::Unreachable,
            _ => return None,
        };
        Some(Self { reply, number: bits >> 8 })
    }
}

/// The bit of a note whose call has been given up.
const GIVEN_UP: u64 = 1 << 63;
/// Where the number starts in a note that counts parts.
const NUMBER_SHIFT: u32 = 32;
/// What is left of it there.
const LOW_NUMBER: u64 = (1 << 31) - 1;

/// The note of a client that has taken so many parts; the first one, of none, when the call starts.
pub(super) fn taken_note(number: u64, parts: u32) -> u64 {
    (number << NUMBER_SHIFT) & !GIVEN_UP | u64::from(parts)
}

/// The note of a client that wants no answer any more.
pub(super) fn given_up_note(number: u64) -> u64 {
    number | GIVEN_UP
}

/// Whether a note says that the client has given the call up.
pub(super) fn is_given_up(note: u64, number: u64) -> bool {
    note == given_up_note(number)
}

/// Whether a note says that a call is over for the client: it gave it up, or a later one has the note.
pub(super) fn is_over(note: u64, number: u64) -> bool {
    if note & GIVEN_UP != 0 {
        return note & !GIVEN_UP >= number;
    }
    // Of the number only the low bits are known. A note that was never written is of none.
    let ahead = (note >> NUMBER_SHIFT).wrapping_sub(number) & LOW_NUMBER;
    note != 0 && (1..=LOW_NUMBER / 2).contains(&ahead)
}

/// How many parts a note says that the client has taken.
pub(super) fn parts_taken(note: u64, number: u64) -> u32 {
    if note & !u64::from(u32::MAX) == taken_note(number, 0) { note as u32 } else { 0 }
}

/// How much later than the client's own the deadline is that a server sees, at least, in milliseconds: the clock that both read
/// is coarse.
const SLACK_MS: u64 = 10;
/// How much later it is beyond that, at most: so long, one deadline stands for those of the calls that follow.
const SHARED_MS: u64 = 10;

/// The deadline of a call that starts now.
#[inline]
pub(super) fn deadline_ms(timeout: Duration) -> u64 {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let deadline_ms = clock::coarse_ms().saturating_add(timeout_ms).saturating_add(SLACK_MS);
    if deadline_ms >> DEADLINE_BITS == 0 { deadline_ms } else { 0 }
}

/// Whether a server that was told `told` before need not be told this deadline.
#[inline]
pub(super) fn is_shared(deadline_ms: u64, told_ms: u64) -> bool {
    told_ms.wrapping_sub(deadline_ms) <= SHARED_MS && (told_ms == 0) == (deadline_ms == 0)
}

/// The deadline that is told for this one.
#[inline]
pub(super) fn to_be_told(deadline_ms: u64) -> u64 {
    if deadline_ms == 0 { 0 } else { deadline_ms + SHARED_MS }
}

/// Whether a deadline has passed.
#[inline]
pub(super) fn has_passed(deadline_ms: u64) -> bool {
    deadline_ms != 0 && clock::coarse_ms() > deadline_ms
}

/// A deadline as the program's own clock sees it.
pub(super) fn instant_of(deadline_ms: u64) -> Option<Instant> {
    if deadline_ms == 0 {
        return None;
    }
    // In this order: whatever comes in between makes it later, and not earlier.
    let now_ms = clock::coarse_ms();
    let now = Instant::now();
    match deadline_ms.checked_sub(now_ms) {
        Some(left_ms) => now.checked_add(Duration::from_millis(left_ms)),
        None => now.checked_sub(Duration::from_millis(now_ms - deadline_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_what_was_put_in() {
        for want in [Want::Answer, Want::Nothing, Want::Parts] {
            let head = RequestHead { want, note: u16::MAX - 1, deadline_ms: (1 << 44) - 1 };
            assert_eq!(RequestHead::of_bits(head.bits()), Some(head));
        }
        for reply in
            [Reply::Answer, Reply::Failure, Reply::Part, Reply::End, Reply::Nothing, Reply::Unreachable]
        {
            let head = AnswerHead { reply, number: (1 << 56) - 1 };
            assert_eq!(AnswerHead::of_bits(head.bits()), Some(head));
        }
        assert_eq!((RequestHead::of_bits(3), AnswerHead::of_bits(0)), (None, None));
    }

    #[test]
    fn a_note_is_about_one_call() {
        assert!(is_given_up(given_up_note(7), 7) && !is_given_up(given_up_note(7), 8));
        assert_eq!((parts_taken(taken_note(7, 3), 7), parts_taken(taken_note(7, 3), 8)), (3, 0));
        assert!(!is_given_up(taken_note(7, u32::MAX), 7) && parts_taken(given_up_note(7), 7) == 0);
        assert!(!is_given_up(given_up_note(7), 7 + (1 << 32)), "a number never comes again");
    }

    #[test]
    fn a_call_whose_note_is_a_later_ones_is_over() {
        for number in [0, 7, 1 << 31, (1 << 40) + 5] {
            assert!(is_over(given_up_note(number), number) && is_over(given_up_note(number + 64), number));
            assert!(is_over(taken_note(number + 64, 3), number));
            assert!(!is_over(taken_note(number, 3), number) && !is_over(0, number));
        }
        assert!(!is_over(given_up_note(6), 7) && !is_over(taken_note(6, 3), 7));
    }

    #[test]
    fn a_time_out_beyond_the_clock_is_no_deadline() {
        assert_eq!(deadline_ms(Duration::MAX), 0);
        assert_eq!(deadline_ms(Duration::from_millis(1 << 43)), 0);
        let late = to_be_told(deadline_ms(Duration::from_millis((1 << 43) - (1 << 42))));
        let head = RequestHead { want: Want::Answer, note: 0, deadline_ms: late };
        assert_eq!(RequestHead::of_bits(head.bits()), Some(head));
        assert!(!has_passed(0) && instant_of(0).is_none());
        assert!(is_shared(0, 0) && !is_shared(5, 0) && !is_shared(0, 5));
        let told = to_be_told(100);
        assert!(
            is_shared(100, told)
                && is_shared(told, told)
                && !is_shared(99, told)
                && !is_shared(told + 1, told)
        );
        let soon = deadline_ms(Duration::from_secs(5));
        assert!(!has_passed(soon) && instant_of(soon).is_some_and(|instant| instant > Instant::now()));
    }
}
