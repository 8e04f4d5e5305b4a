//! A server, as one of its clients sees it: the stream to it, and the calls that it has been asked.
//!
//! Calls lie in the order of their numbers, from the oldest that is not over. One that waits so long that others are all around
//! is set apart, so that those that are over need no room. Each has a note in the client's cursor segment, by its number; where
//! one that was set apart has that note already, it has another.

use std::collections::{HashMap, HashSet, VecDeque};

use super::core::PARTS_AHEAD;
use super::head::{self, AnswerHead, RequestHead, Want};
use crate::message::error::SendError;
use crate::message::payload::extent_of;
use crate::message::sample::HeldBytes;
use crate::message::sender::{Sender, Sent};
use crate::node::EndpointId;
use crate::segment::SegmentError;

/// A call that waits for its answer, or whose answer has not been taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub(super) server: EndpointId,
    pub(super) number: u64,
}

/// How a call has come out.
pub(super) enum Outcome {
    Answer(HeldBytes),
    Failure(HeldBytes),
    End,
    Unanswered,
    /// Who passes requests on reached nobody.
    Unreachable,
    Lost,
    /// There is no memory here for the answer.
    Short(SegmentError),
}

/// What there is of one call.
pub(super) enum Slot {
    /// Nobody waits for anything any more.
    Over,
    Waiting,
    Given(Outcome),
    Parts(Box<PartsSlot>),
}

/// A call for parts.
#[derive(Default)]
pub(super) struct PartsSlot {
    pub(super) come: VecDeque<HeldBytes>,
    pub(super) taken: u32,
    pub(super) told: u32,
    pub(super) end: Option<Outcome>,
}

/// A call that is not among the others.
struct Apart {
    slot: Slot,
    note: u16,
}

/// The calls to one server, by their numbers.
pub(super) struct Calls {
    /// The number of the first of `slots`.
    first: u64,
    slots: VecDeque<Slot>,
    apart: HashMap<u64, Apart>,
    /// How many of all are not over.
    live: usize,
    /// One less than the notes that there are, which are a power of two.
    mask: u64,
}

impl Calls {
    /// None yet; the first has this number. There are so many notes, a power of two.
    pub(super) fn new(first: u64, notes: u32) -> Self {
        Self { first, slots: VecDeque::new(), apart: HashMap::new(), live: 0, mask: u64::from(notes) - 1 }
    }

    /// How many are not over.
    #[inline]
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// The note of a call that begins now, if its number does not say which.
    #[inline]
    pub(super) fn note_for(&self, number: u64) -> Option<u16> {
        if self.apart.is_empty() && self.slots.len() as u64 <= self.mask {
            None
        } else {
            self.other_note(number)
        }
    }

    #[cold]
    fn other_note(&self, number: u64) -> Option<u16> {
        let mut used: HashSet<u16> = self.apart.values().map(|apart| apart.note).collect();
        if self.slots.len() as u64 > self.mask {
            // The first, which is about to be set apart, has it.
            used.insert(self.own_note(self.first));
        }
        if !used.contains(&self.own_note(number)) {
            return None;
        }
        let live = (self.first..).zip(&self.slots).filter(|(_, slot)| !matches!(slot, Slot::Over));
        used.extend(live.map(|(number, _)| self.own_note(number)));
        (0..=self.mask as u16).find(|note| !used.contains(note))
    }

    /// The note that a call's number says.
    fn own_note(&self, number: u64) -> u16 {
        (number & self.mask) as u16
    }

    /// Where the note of a call is.
    pub(super) fn note_of(&self, number: u64) -> usize {
        self.apart.get(&number).map_or(self.own_note(number), |apart| apart.note).into()
    }

    /// Where the note is that a request names.
    pub(super) fn place_of(&self, note: u16) -> usize {
        (u64::from(note) & self.mask) as usize
    }

    /// The next call begins; `note` as [`Calls::note_for`] said.
    #[inline]
    pub(super) fn begin(&mut self, slot: Slot, note: Option<u16>) {
        self.live += 1;
        match note {
            None => self.slots.push_back(slot),
            Some(note) => {
                self.apart.insert(self.first + self.slots.len() as u64, Apart { slot, note });
                self.slots.push_back(Slot::Over);
            }
        }
        if self.slots.len() as u64 > self.mask + 1 {
            self.set_apart();
        }
    }

    /// The number of the next call, if there is none now: it has the note that its number says.
    #[inline]
    pub(super) fn next_alone(&self) -> Option<u64> {
        (self.slots.is_empty() && self.apart.is_empty()).then_some(self.first)
    }

    /// The next call has begun and is over, where there is no other.
    #[inline]
    pub(super) fn pass_alone(&mut self) {
        debug_assert!(self.slots.is_empty(), "there is no other call");
        self.first += 1;
    }

    /// The next number is of no call.
    pub(super) fn skip(&mut self) {
        self.slots.push_back(Slot::Over);
        self.trim();
        if self.slots.len() as u64 > self.mask + 1 {
            self.set_apart();
        }
    }

    /// Sets the first one apart: as many have begun since as there are notes.
    #[cold]
    fn set_apart(&mut self) {
        let (number, note) = (self.first, self.own_note(self.first));
        if let Some(slot) = self.slots.pop_front().filter(|slot| !matches!(slot, Slot::Over)) {
            self.apart.insert(number, Apart { slot, note });
        }
        self.first += 1;
        self.trim();
    }

    fn trim(&mut self) {
        while matches!(self.slots.front(), Some(Slot::Over)) {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Slot> {
        if !self.apart.is_empty() && self.apart.contains_key(&number) {
            return self.apart.get_mut(&number).map(|apart| &mut apart.slot);
        }
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }

    /// Nothing is left to be said about a call.
    #[inline]
    pub(super) fn end(&mut self, number: u64) {
        match self.get_mut(number) {
            None | Some(Slot::Over) => return,
            Some(slot) => *slot = Slot::Over,
        }
        self.live -= 1;
        if !self.apart.is_empty() {
            self.apart.remove(&number);
        }
        self.trim();
    }

    /// All that are not over.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> {
        let apart = self.apart.iter().map(|(number, apart)| (*number, &apart.slot));
        let slots = (self.first..).zip(&self.slots).filter(|(_, slot)| !matches!(slot, Slot::Over));
        apart.chain(slots)
    }

    /// All that are not over, taken out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, Slot)> {
        let apart = std::mem::take(&mut self.apart).into_iter().map(|(number, apart)| (number, apart.slot));
        let slots = (self.first..).zip(std::mem::take(&mut self.slots));
        self.live = 0;
        apart.chain(slots.filter(|(_, slot)| !matches!(slot, Slot::Over)))
    }
}

/// A server, as one of its clients sees it.
pub(super) struct ServerLane {
    pub(super) server: EndpointId,
    pub(super) sender: Sender,
    /// Whether requests reach it, and its answers us.
    pub(super) is_up: bool,
    /// Whether there was no room when a request was to be sent that is still to be.
    pub(super) lacks_room: bool,
    pub(super) calls: Calls,
    /// How many of them wait.
    pub(super) waiting: usize,
    /// The deadline that it was told last; `None` if it was told nothing yet.
    pub(super) told_ms: Option<u64>,
    /// The request that its next bare answer is for.
    pub(super) next_answered: u64,
}

impl ServerLane {
    pub(super) fn new(server: EndpointId, sender: Sender, notes: u32) -> Self {
        let calls = Calls::new(sender.tail(), notes);
        Self {
            server,
            sender,
            is_up: false,
            lacks_room: false,
            calls,
            waiting: 0,
            told_ms: None,
            next_answered: 0,
        }
    }

    /// Sends a request, if there is room now: without the word before it if the server can do without, as it is to take the note
    /// that the number says, and has been told a deadline that will do.
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        head: RequestHead,
        needs_head: bool,
        bytes: &[u8],
    ) -> Result<Sent, SendError> {
        let is_told = head.want == Want::Answer
            && !needs_head
            && self.told_ms.is_some_and(|told_ms| head::is_shared(head.deadline_ms, told_ms));
        let told_ms = head::to_be_told(head.deadline_ms);
        let bits = RequestHead { deadline_ms: told_ms, ..head }.bits();
        let sent = self.sender.send_headed(bits, !is_told, bytes)?;
        if sent == Sent::Headed {
            self.told_ms = Some(told_ms);
        }
        Ok(sent)
    }

    /// That a request is as long as the server's type.
    #[cold]
    pub(super) fn check_length(&self, given: usize) -> Result<(), SendError> {
        let shared = self.sender.shared();
        if extent_of(shared.descriptor()).fits(given as u64) {
            return Ok(());
        }
        let message_type = shared.descriptor().to_string();
        Err(SendError::Length { channel: shared.channel.clone(), given, message_type })
    }

    /// Whether as many parts of a call have come as may before some are taken.
    pub(super) fn has_parts_ahead(&mut self, number: u64) -> bool {
        let slot = self.calls.get_mut(number);
        matches!(slot, Some(Slot::Parts(parts)) if parts.come.len() >= PARTS_AHEAD as usize)
    }

    /// An answer has come; the next bare one is for the request after this.
    #[inline]
    pub(super) fn note_answered(&mut self, head: AnswerHead) {
        self.next_answered = head.number + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calls' numbers and where their notes are, oldest first.
    fn all(calls: &Calls) -> Vec<(u64, usize)> {
        let mut all: Vec<_> = calls.iter().map(|(number, _)| (number, calls.note_of(number))).collect();
        all.sort_unstable();
        all
    }

    fn begin(calls: &mut Calls, number: u64) {
        let note = calls.note_for(number);
        calls.begin(Slot::Waiting, note);
        assert!(matches!(calls.get_mut(number), Some(Slot::Waiting)), "call {number}");
    }

    #[test]
    fn calls_end_in_any_order() {
        let mut calls = Calls::new(10, 8);
        (10..15).for_each(|number| begin(&mut calls, number));
        for number in [12, 10, 14, 11, 13] {
            calls.end(number);
            calls.end(number);
            assert!(matches!(calls.get_mut(number), None | Some(Slot::Over)));
        }
        assert_eq!((calls.live(), calls.slots.len(), calls.first), (0, 0, 15));
        assert!(calls.get_mut(9).is_none() && calls.get_mut(15).is_none());
    }

    #[test]
    fn those_that_wait_long_take_no_room_of_others_and_keep_their_notes() {
        let mut calls = Calls::new(0, 4);
        (0..3).for_each(|number| begin(&mut calls, number));
        for number in 3..1000 {
            begin(&mut calls, number);
            let notes: HashSet<usize> = all(&calls).into_iter().map(|(_, note)| note).collect();
            assert_eq!((calls.live(), notes.len()), (4, 4), "no two have the same note");
            assert!(calls.slots.len() <= 4 && (0..3).all(|old| calls.note_of(old) == old as usize));
            calls.end(number);
        }
        (0..3).for_each(|number| calls.end(number));
        calls.skip();
        assert_eq!((calls.live(), calls.slots.len(), calls.apart.len(), calls.first), (0, 0, 0, 1001));
    }

    #[test]
    fn a_call_that_is_alone_is_passed_without_a_trace() {
        let mut calls = Calls::new(5, 2);
        assert_eq!(calls.next_alone(), Some(5));
        calls.pass_alone();
        assert_eq!((calls.next_alone(), calls.live()), (Some(6), 0));
        (6..9).for_each(|number| {
            begin(&mut calls, number);
            assert_eq!(calls.next_alone(), None);
            if number > 6 {
                calls.end(number);
            }
        });
        assert_eq!((calls.next_alone(), calls.slots.len()), (None, 0), "one is set apart");
        calls.end(6);
        assert_eq!(calls.next_alone(), Some(9));
    }

    #[test]
    fn whatever_comes_and_goes_no_two_share_a_note() {
        let (mut calls, mut random) = (Calls::new(0, 8), 1u64);
        for number in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if random >> 60 == 0 {
                calls.skip();
                continue;
            }
            begin(&mut calls, number);
            let there = all(&calls);
            let notes: HashSet<usize> = there.iter().map(|(_, note)| *note).collect();
            assert!(notes.len() == there.len() && there.len() == calls.live() && calls.slots.len() <= 8);
            if calls.live() == 8 || random >> 63 == 0 {
                calls.end(there[(random >> 32) as usize % there.len()].0);
            }
        }
        let live = calls.live();
        assert_eq!((calls.drain().count(), calls.live(), calls.iter().count()), (live, 0, 0));
    }
}
