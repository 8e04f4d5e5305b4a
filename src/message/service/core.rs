//! A client without its types: which server a call goes to, which calls wait, and what has come for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll as TaskPoll};

use super::head::{self, AnswerHead, Reply, RequestHead, Want};
use super::hub::{News, ServiceHub};
pub use super::lane::Call;
pub(super) use super::lane::Outcome;
use super::lane::{ServerLane, Slot};
use crate::message::error::{ReceiveError, SendError};
use crate::message::payload::extent_of;
use crate::message::receiver::{Company, Receiver, Taken, Waited};
use crate::message::sample::HeldBytes;
use crate::message::sender::{Sender, Sent};
use crate::message::wait_set::Look;
use crate::node::{EndpointId, Hub, TypeDescriptor};
use crate::os::clock::Deadline;
use crate::sync::stream::Extent;

/// Any number of bytes: what kind of answer it is says how many they must be.
pub(super) const ANY: Option<Extent> = Some(Extent::Multiple(1));
/// Parts of one call that a server may send ahead of the client's taking them.
pub(super) const PARTS_AHEAD: u32 = 64;
/// Parts after which the server is told how many have been taken.
const PARTS_PER_NOTE: u32 = PARTS_AHEAD / 4;

/// A request was not sent: whether that is for want of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LacksRoom(bool);

/// Why no request was sent.
pub(super) enum StartError {
    NoServer,
    InFlight,
    Timeout,
    Send(SendError),
    Receive(ReceiveError),
}

impl From<ReceiveError> for StartError {
    fn from(error: ReceiveError) -> Self {
        Self::Receive(error)
    }
}

/// What there is to see of an answer that has been found.
struct Looked {
    /// Where its server is in the list.
    index: Option<usize>,
    head: Option<AnswerHead>,
    /// Whether it is as long as its type.
    fits: bool,
}

/// Where the answer to a call is.
pub(super) enum Found<'a> {
    /// Just come, where its server wrote it.
    Lent(Reply, Taken<'a>),
    Kept(Outcome),
}

/// What a server takes and gives: see [`Client::server_types`](super::Client::server_types).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceTypes {
    /// What it is asked with.
    pub request: TypeDescriptor,
    /// What it answers.
    pub answer: TypeDescriptor,
    /// What it answers if it cannot do what it is asked for.
    pub failure: TypeDescriptor,
}

impl ServiceTypes {
    /// These three.
    pub fn new(request: TypeDescriptor, answer: TypeDescriptor, failure: TypeDescriptor) -> Self {
        Self { request, answer, failure }
    }
}

/// A client without its types.
pub(super) struct ClientCore {
    pub(super) receiver: Receiver,
    pub(super) hub: Arc<ServiceHub>,
    pub(super) lanes: Vec<ServerLane>,
    /// Where the last request went.
    current: usize,
    /// Calls whose server is gone.
    orphaned: HashMap<Call, Slot>,
    in_flight: u32,
    is_sticky: bool,
    /// Whether only the server's own type says how long a request is.
    pub(super) is_untyped: bool,
    /// How long answers and failures are, if that is known when the program is built.
    pub(super) extents: (Option<Extent>, Option<Extent>),
    /// Answers that came for calls that were over.
    pub(super) late: u64,
}

/// What a client waits for besides answers: servers that come or go, and room for a request.
struct Others<'a> {
    hub: &'a ServiceHub,
    lanes: &'a mut [ServerLane],
    /// Whether a request waits for room.
    lacks_room: bool,
}

impl Others<'_> {
    fn full(&mut self) -> impl Iterator<Item = &mut Sender> {
        let lacks_room = self.lacks_room;
        let full = self.lanes.iter_mut().filter(move |lane| lacks_room && lane.lacks_room);
        full.map(|lane| &mut lane.sender)
    }
}

impl Company for Others<'_> {
    fn is_over(&mut self) -> bool {
        self.hub.has_news() || self.full().any(Sender::has_come_free)
    }
    fn prepare(&mut self) {
        self.full().for_each(Sender::begin_wait);
    }
    fn finish(&mut self) {
        self.full().for_each(Sender::end_wait);
    }
}

/// What has been waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The answer has been found, and not been taken yet.
    Found,
    /// The outcome was there before, or nothing is to be waited for any more.
    Kept,
    /// The deadline came first.
    Nothing,
}

impl ClientCore {
    pub(super) fn new(
        receiver: Receiver,
        hub: Arc<ServiceHub>,
        (in_flight, is_sticky, is_untyped): (u32, bool, bool),
        extents: (Option<Extent>, Option<Extent>),
    ) -> Self {
        let (lanes, orphaned, current, late) = (Vec::new(), HashMap::new(), 0, 0);
        let mut core =
            Self { receiver, hub, lanes, current, orphaned, in_flight, is_sticky, is_untyped, extents, late };
        core.refresh();
        core
    }

    pub(super) fn service(&self) -> Arc<str> {
        self.hub.channel().shared()
    }

    pub(super) fn in_flight_limit(&self) -> u32 {
        self.in_flight
    }

    /// Servers that are connected.
    pub(super) fn servers(&mut self) -> usize {
        self.refresh();
        self.lanes.iter().filter(|lane| lane.is_up).count()
    }

    /// Calls that wait for their answers.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting).sum()
    }

    /// Takes note of servers that have come or gone.
    #[cold]
    pub(super) fn refresh(&mut self) {
        if self.receiver.is_inherited() {
            return;
        }
        self.receiver.take_ended().into_iter().for_each(|server| self.lose_once_read(server));
        let notes = self.in_flight.next_power_of_two();
        for news in self.hub.take_news() {
            match news {
                News::Made(server, sender) => self.lanes.push(ServerLane::new(server, *sender, notes)),
                News::Parted(server) => self.lose_once_read(server),
            }
        }
        for lane in &mut self.lanes {
            lane.is_up = lane.sender.readers() > 0 && self.receiver.has_source(lane.server);
        }
    }

    /// A server has gone. What it had answered before is taken first.
    fn lose_once_read(&mut self, server: EndpointId) {
        if !self.receiver.has_source(server) {
            self.lose(server);
        }
    }

    /// A server has gone, and its answers have been read.
    fn lose(&mut self, server: EndpointId) {
        let current = self.lanes.get(self.current).map(|lane| lane.server);
        let shortage = self.receiver.take_shortage(server);
        let lost = || shortage.clone().map_or(Outcome::Lost, Outcome::Short);
        for mut lane in self.lanes.extract_if(.., |lane| lane.server == server) {
            for (number, slot) in lane.calls.drain() {
                let slot = match slot {
                    Slot::Over => continue,
                    Slot::Waiting => Slot::Given(lost()),
                    Slot::Given(outcome) => Slot::Given(outcome),
                    Slot::Parts(mut parts) => {
                        parts.end.get_or_insert_with(lost);
                        Slot::Parts(parts)
                    }
                };
                self.orphaned.insert(Call { server, number }, slot);
            }
        }
        // Whoever else was asked last keeps its place in the turn.
        let place = self.lanes.iter().position(|lane| Some(lane.server) == current);
        self.current = place.unwrap_or(0);
    }

    /// The server for the next call.
    pub(super) fn choose(&mut self) -> Option<usize> {
        if let [only] = &self.lanes[..] {
            return only.is_up.then_some(0);
        }
        if self.is_sticky && self.lanes.get(self.current).is_some_and(|lane| lane.is_up) {
            return Some(self.current);
        }
        let count = self.lanes.len();
        let in_turn = (1..=count).map(|step| (self.current + step) % count);
        let burden = |index: &usize| (self.has_most(*index), self.lanes[*index].waiting);
        let chosen = in_turn.filter(|index| self.lanes[*index].is_up).min_by_key(burden);
        self.current = chosen?;
        chosen
    }

    /// Whether as many calls to this server as may are not over.
    fn has_most(&self, index: usize) -> bool {
        self.lanes[index].calls.live() >= self.in_flight as usize
    }

    /// What the server of the next call takes and gives, if there is one.
    pub(super) fn types(&mut self) -> Option<ServiceTypes> {
        self.refresh();
        let index = self.choose()?;
        let lane = &self.lanes[index];
        let (answer, failure) = self.receiver.types_from(lane.server)?;
        let request = lane.sender.shared().descriptor().clone();
        Some(ServiceTypes { request, answer: answer.clone(), failure: failure?.clone() })
    }

    /// Finds room for a request of `bytes` bytes that is written in place, waiting for it until the deadline. Where its server
    /// is in the list, until anything else is asked of the client.
    pub(super) fn make_room(&mut self, bytes: usize, deadline: Deadline) -> Result<usize, StartError> {
        self.receiver.check_process()?;
        loop {
            self.refresh();
            let chosen = self.choose();
            if let Some(index) = chosen {
                if self.has_most(index) {
                    return Err(StartError::InFlight);
                }
                let lane = &mut self.lanes[index];
                if self.is_untyped {
                    lane.check_length(bytes).map_err(StartError::Send)?;
                }
                if lane.sender.make_headed_room(0, bytes).map_err(StartError::Send)? {
                    return Ok(index);
                }
                (0..).zip(&mut self.lanes).for_each(|(place, lane)| lane.lacks_room = place == index);
            } else if self.lanes.is_empty() {
                return Err(StartError::NoServer);
            }
            match self.wait(chosen.is_some(), deadline)? {
                Waited::Message => self.absorb(),
                Waited::Company => {}
                Waited::Deadline => return Err(StartError::Timeout),
            }
        }
    }

    /// The request of `bytes` bytes that is being written for this server.
    pub(super) fn loaned(&self, index: usize, bytes: usize) -> &[u8] {
        &self.lanes[index].sender.headed_loan()[..bytes]
    }

    pub(super) fn loaned_mut(&mut self, index: usize, bytes: usize) -> &mut [u8] {
        &mut self.lanes[index].sender.headed_loan_mut()[..bytes]
    }

    /// Sends the request that has been written for this server, for one answer by this deadline.
    pub(super) fn commit(&mut self, index: usize, deadline_ms: u64) -> Call {
        let lane = &mut self.lanes[index];
        let number = lane.sender.tail();
        let other_note = lane.calls.note_for(number);
        let note = other_note.unwrap_or(number as u16);
        let told_ms = head::to_be_told(deadline_ms);
        // A child that was forked meanwhile has a copy of the loan; the memory is its parent's.
        if !self.receiver.is_inherited() {
            lane.sender.set_head(RequestHead { want: Want::Answer, note, deadline_ms: told_ms }.bits());
            lane.sender.commit();
        }
        lane.told_ms = Some(told_ms);
        lane.calls.begin(Slot::Waiting, other_note);
        lane.waiting += 1;
        Call { server: lane.server, number }
    }

    /// Sends a request, waiting for room until the deadline, which is computed only if there is a wait.
    #[inline]
    pub(super) fn start(
        &mut self,
        head: RequestHead,
        bytes: &[u8],
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<Call, StartError> {
        match self.try_start(head, bytes)? {
            Ok(call) => Ok(call),
            Err(_) => self.start_slowly(head, bytes, deadline()),
        }
    }

    /// Sends a request if that can be done now; otherwise whether it is room that is lacking, or a server.
    #[inline]
    pub(super) fn try_start(
        &mut self,
        head: RequestHead,
        bytes: &[u8],
    ) -> Result<Result<Call, LacksRoom>, StartError> {
        if self.hub.has_news() || self.receiver.has_changed() {
            self.refresh();
        }
        let Some(index) = self.choose() else { return Ok(Err(LacksRoom(false))) };
        match self.try_start_at(index, head, bytes)? {
            Some(call) => Ok(Ok(call)),
            None => self.try_start_elsewhere(index, head, bytes),
        }
    }

    /// Sends a request to this server, if there is room now.
    #[inline]
    fn try_start_at(
        &mut self,
        index: usize,
        head: RequestHead,
        bytes: &[u8],
    ) -> Result<Option<Call>, StartError> {
        if self.has_most(index) {
            return Err(StartError::InFlight);
        }
        let lane = &mut self.lanes[index];
        if self.is_untyped {
            lane.check_length(bytes.len()).map_err(StartError::Send)?;
        }
        let number = lane.sender.tail();
        let other_note = lane.calls.note_for(number);
        let note = other_note.unwrap_or(number as u16);
        if head.want == Want::Parts {
            let place = lane.calls.place_of(note);
            self.receiver.note(lane.server, place, head::taken_note(number, 0));
        }
        let sent = lane.send(RequestHead { note, ..head }, other_note.is_some(), bytes);
        if sent.map_err(StartError::Send)? == Sent::NoRoom {
            return Ok(None);
        }
        let call = Call { server: lane.server, number };
        match head.want {
            Want::Answer => lane.calls.begin(Slot::Waiting, other_note),
            Want::Parts => lane.calls.begin(Slot::Parts(Box::default()), other_note),
            Want::Nothing => {
                lane.calls.skip();
                return Ok(Some(call));
            }
        }
        lane.waiting += 1;
        Ok(Some(call))
    }

    /// The server that was chosen has no room: another one may have some, unless the client is to stay with that one.
    #[cold]
    fn try_start_elsewhere(
        &mut self,
        chosen: usize,
        head: RequestHead,
        bytes: &[u8],
    ) -> Result<Result<Call, LacksRoom>, StartError> {
        self.lanes.iter_mut().for_each(|lane| lane.lacks_room = false);
        self.lanes[chosen].lacks_room = true;
        let is_other = |index: &usize| {
            !self.is_sticky && *index != chosen && self.lanes[*index].is_up && !self.has_most(*index)
        };
        let mut others: Vec<usize> = (0..self.lanes.len()).filter(is_other).collect();
        others.sort_by_key(|index| self.lanes[*index].waiting);
        for index in others {
            if let Some(call) = self.try_start_at(index, head, bytes)? {
                self.current = index;
                return Ok(Ok(call));
            }
            self.lanes[index].lacks_room = true;
        }
        Ok(Err(LacksRoom(true)))
    }

    #[cold]
    fn start_slowly(
        &mut self,
        head: RequestHead,
        bytes: &[u8],
        deadline: Deadline,
    ) -> Result<Call, StartError> {
        self.receiver.check_process()?;
        // Whoever has come or gone meanwhile is known now.
        self.refresh();
        loop {
            let LacksRoom(lacks_room) = match self.try_start(head, bytes)? {
                Ok(call) => return Ok(call),
                Err(_) if self.lanes.is_empty() => return Err(StartError::NoServer),
                Err(lacks_room) => lacks_room,
            };
            match self.wait(lacks_room, deadline)? {
                Waited::Message => self.absorb(),
                Waited::Company => self.refresh(),
                Waited::Deadline => return Err(StartError::Timeout),
            }
        }
    }

    /// Waits for messages, for servers that come or go, and for room if that is lacking.
    fn wait(&mut self, lacks_room: bool, deadline: Deadline) -> Result<Waited, ReceiveError> {
        let Self { receiver, hub, lanes, .. } = self;
        let waited = receiver.wait_with(ANY, deadline, &mut Others { hub, lanes, lacks_room })?;
        if lacks_room {
            self.lanes.iter().for_each(|lane| lane.sender.expel_violators());
        }
        Ok(waited)
    }

    /// Puts a message that has been found to the call that it is for.
    fn absorb(&mut self) {
        let Some(Looked { index: Some(index), head: Some(head), fits: true }) = self.look_at_found() else {
            return self.receiver.accuse("an answer that is none");
        };
        let lane = &mut self.lanes[index];
        if head.number >= lane.sender.tail() {
            return self.receiver.accuse("an answer to what was not asked");
        }
        if head.reply == Reply::Part && lane.has_parts_ahead(head.number) {
            return self.receiver.accuse("more parts than have been taken allow");
        }
        lane.note_answered(head);
        let Some(taken) = self.receiver.take() else { return };
        let keep = || HeldBytes::of(taken.lent);
        match (lane.calls.get_mut(head.number), head.reply) {
            (Some(slot @ Slot::Waiting), reply) if reply.is_whole() => {
                *slot = Slot::Given(outcome_of(head.reply, keep));
                lane.waiting -= 1;
            }
            (Some(Slot::Parts(parts)), Reply::Part) if parts.end.is_none() => parts.come.push_back(keep()),
            (Some(Slot::Parts(parts)), reply) if reply.ends_parts() && parts.end.is_none() => {
                parts.end = Some(outcome_of(head.reply, keep));
                lane.waiting -= 1;
            }
            _ => self.late += 1,
        }
    }

    /// Looks at the message that has been found; `None` if there is none.
    #[inline]
    fn look_at_found(&self) -> Option<Looked> {
        let found = self.receiver.found_headed()?;
        let server = found.source.about.publisher.id;
        let index = self.lanes.iter().position(|lane| lane.server == server);
        let head = match found.head {
            Some(bits) => AnswerHead::of_bits(bits),
            None => index
                .map(|index| AnswerHead { reply: Reply::Answer, number: self.lanes[index].next_answered }),
        };
        let length = found.bytes.len() as u64;
        let fits = match head.map(|head| head.reply) {
            Some(Reply::Answer | Reply::Part) => {
                self.extents.0.unwrap_or_else(|| extent_of(&found.source.about.descriptor)).fits(length)
            }
            Some(Reply::Failure) => self.extents.1.or(ANY).is_some_and(|extent| extent.fits(length)),
            Some(Reply::End | Reply::Nothing | Reply::Unreachable) => length == 0,
            None => false,
        };
        Some(Looked { index, head, fits })
    }

    /// Waits until the answer to a call can be taken, at most until the deadline, which is computed only if there is a wait.
    #[inline]
    pub(super) fn await_answer(
        &mut self,
        call: Call,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<Awaited, ReceiveError> {
        if self.receiver.poll_now(ANY)? {
            if self.is_for(call) {
                return Ok(Awaited::Found);
            }
            self.absorb();
        }
        self.await_slowly(call, deadline())
    }

    #[inline(never)]
    fn await_slowly(&mut self, call: Call, deadline: Deadline) -> Result<Awaited, ReceiveError> {
        loop {
            if self.has_outcome(call) {
                return Ok(Awaited::Kept);
            }
            match self.wait(false, deadline)? {
                Waited::Message if self.is_for(call) => return Ok(Awaited::Found),
                Waited::Message => self.absorb(),
                Waited::Company => self.refresh(),
                Waited::Deadline => return Ok(Awaited::Nothing),
            }
        }
    }

    /// Takes the answer that has been waited for.
    #[inline]
    pub(super) fn take_awaited(&mut self, call: Call, awaited: Awaited) -> Option<Found<'_>> {
        if awaited != Awaited::Found {
            return self.take_outcome(call).map(Found::Kept);
        }
        let reply = match self.receiver.found_headed()?.head {
            Some(bits) => AnswerHead::of_bits(bits)?.reply,
            None => Reply::Answer,
        };
        Some(Found::Lent(reply, self.receiver.take()?))
    }

    /// Whether the message that has been found is the one and only answer to this call, which is then over.
    #[inline]
    fn is_for(&mut self, call: Call) -> bool {
        let Some(Looked { index: Some(index), head: Some(head), fits: true }) = self.look_at_found() else {
            return false;
        };
        let lane = &mut self.lanes[index];
        if lane.server != call.server || head.number != call.number || !head.reply.is_whole() {
            return false;
        }
        let is_waiting = matches!(lane.calls.get_mut(call.number), Some(Slot::Waiting));
        if is_waiting {
            lane.note_answered(head);
            lane.waiting -= 1;
            lane.calls.end(call.number);
        }
        is_waiting
    }

    fn has_outcome(&mut self, call: Call) -> bool {
        let slot = match self.lanes.iter_mut().find(|lane| lane.server == call.server) {
            Some(lane) => lane.calls.get_mut(call.number),
            None => self.orphaned.get_mut(&call),
        };
        // What is not there any more is not waited for.
        slot.is_none_or(|slot| matches!(slot, Slot::Given(_) | Slot::Over))
    }

    /// The outcome of a call, if it has come.
    pub(super) fn take_outcome(&mut self, call: Call) -> Option<Outcome> {
        let lane = self.lanes.iter_mut().find(|lane| lane.server == call.server);
        let Some(lane) = lane else {
            if matches!(self.orphaned.get(&call)?, Slot::Given(_))
                && let Some(Slot::Given(outcome)) = self.orphaned.remove(&call)
            {
                return Some(outcome);
            }
            return None;
        };
        let slot = lane.calls.get_mut(call.number).filter(|slot| matches!(slot, Slot::Given(_)))?;
        // Something has to stand there until the call ends.
        let Slot::Given(outcome) = std::mem::replace(slot, Slot::Waiting) else { return None };
        lane.calls.end(call.number);
        Some(outcome)
    }

    /// Whether there is anything to be taken, or that has to be looked at.
    pub(super) fn look(&mut self) -> Look {
        if self.hub.has_news() || self.receiver.has_changed() {
            self.refresh();
        }
        if self.any_outcome().is_some() || self.has_parts() {
            return Look::Ready;
        }
        match self.receiver.look(ANY) {
            // A stream may just have been found to be over, and its calls lost.
            Look::Nothing if self.receiver.has_changed() => self.look(),
            look => look,
        }
    }

    /// Has the eventfd become readable with the next answer.
    pub(super) fn prepare(&mut self) -> bool {
        self.receiver.prepare_eventfd() && !self.hub.has_news() && !self.receiver.has_changed()
    }

    /// Whether a part, or the end of the parts, of some call has come.
    fn has_parts(&self) -> bool {
        let has_some =
            |slot: &Slot| matches!(slot, Slot::Parts(parts) if !parts.come.is_empty() || parts.end.is_some());
        self.orphaned.values().any(has_some)
            || self.lanes.iter().any(|lane| lane.calls.iter().any(|(_, slot)| has_some(slot)))
    }

    /// A call whose outcome has come, whichever.
    pub(super) fn any_outcome(&self) -> Option<Call> {
        let orphaned = self.orphaned.iter().find(|(_, slot)| matches!(slot, Slot::Given(_)));
        orphaned.map(|(call, _)| *call).or_else(|| {
            self.lanes.iter().find_map(|lane| {
                let (number, _) = lane.calls.iter().find(|(_, slot)| matches!(slot, Slot::Given(_)))?;
                Some(Call { server: lane.server, number })
            })
        })
    }

    /// What is known of a call: whether it is one for parts, if there is such a call.
    pub(super) fn wants_parts(&mut self, call: Call) -> Option<bool> {
        let slot = match self.lanes.iter_mut().find(|lane| lane.server == call.server) {
            Some(lane) => lane.calls.get_mut(call.number)?,
            None => self.orphaned.get_mut(&call)?,
        };
        match slot {
            Slot::Over => None,
            Slot::Waiting | Slot::Given(_) => Some(false),
            Slot::Parts(_) => Some(true),
        }
    }

    /// The next part of a call, or its end, if it has come.
    pub(super) fn take_part(&mut self, call: Call) -> Option<Result<HeldBytes, Outcome>> {
        let lane = self.lanes.iter_mut().find(|lane| lane.server == call.server);
        let (slot, is_there) = match lane {
            Some(lane) => (lane.calls.get_mut(call.number)?, true),
            None => (self.orphaned.get_mut(&call)?, false),
        };
        let Slot::Parts(parts) = slot else { return None };
        if let Some(part) = parts.come.pop_front() {
            parts.taken = parts.taken.wrapping_add(1);
            let taken = parts.taken;
            if is_there && taken.wrapping_sub(parts.told) >= PARTS_PER_NOTE {
                parts.told = taken;
                self.note(call, head::taken_note(call.number, taken));
            }
            return Some(Ok(part));
        }
        let end = parts.end.take()?;
        self.forget(call);
        Some(Err(end))
    }

    /// Waits for messages or for servers to come or go, and takes them in; `false` if the deadline came first.
    pub(super) fn take_in(&mut self, deadline: Deadline) -> Result<bool, ReceiveError> {
        match self.wait(false, deadline)? {
            Waited::Message => self.absorb(),
            Waited::Company => self.refresh(),
            Waited::Deadline => return Ok(false),
        }
        Ok(true)
    }

    /// Takes in what is there now. If there is a descriptor to sleep on, it becomes readable with what comes next.
    pub(super) fn take_in_all(&mut self) -> Result<(), ReceiveError> {
        loop {
            if self.hub.has_news() || self.receiver.has_changed() {
                self.refresh();
            }
            if self.receiver.poll_once(ANY)? {
                self.absorb();
            } else if !self.hub.has_news() && !self.receiver.has_changed() {
                // Looked at again, as what has come since the first look may have been rung for already.
                return self.receiver.check_open();
            }
        }
    }

    /// As [`ClientCore::take_in`], for a future; `lacks_room` as [`ClientCore::try_start`] said it.
    pub(super) fn poll_take_in(
        &mut self,
        LacksRoom(lacks_room): LacksRoom,
        context: &mut Context<'_>,
    ) -> TaskPoll<Result<(), ReceiveError>> {
        let Self { receiver, hub, lanes, .. } = self;
        let polled = receiver.poll_task_with(ANY, context, &mut Others { hub, lanes, lacks_room });
        if lacks_room && !self.receiver.is_inherited() {
            self.lanes.iter().for_each(|lane| lane.sender.expel_violators());
        }
        polled.map_ok(|waited| match waited {
            Waited::Message => self.absorb(),
            Waited::Company | Waited::Deadline => self.refresh(),
        })
    }

    /// As [`ClientCore::poll_take_in`], for answers alone.
    pub(super) fn poll_answers(&mut self, context: &mut Context<'_>) -> TaskPoll<Result<(), ReceiveError>> {
        self.poll_take_in(LacksRoom(false), context)
    }

    /// Nobody is left to be called, as far as is known.
    pub(super) fn has_nobody(&mut self) -> bool {
        self.refresh();
        self.lanes.is_empty()
    }

    fn note(&self, call: Call, note: u64) {
        if let Some(lane) = self.lanes.iter().find(|lane| lane.server == call.server) {
            self.receiver.note(call.server, lane.calls.note_of(call.number), note);
        }
    }

    /// The caller wants no answer any more: the server can see that. Whether the call was still to be taken.
    pub(super) fn cancel(&mut self, call: Call) -> bool {
        let is_waiting = match self.lanes.iter_mut().find(|lane| lane.server == call.server) {
            None => return self.orphaned.remove(&call).is_some(),
            Some(lane) => match lane.calls.get_mut(call.number) {
                None | Some(Slot::Over) => return false,
                Some(Slot::Waiting) => true,
                Some(Slot::Parts(parts)) => parts.end.is_none(),
                Some(Slot::Given(_)) => false,
            },
        };
        if is_waiting {
            self.note(call, head::given_up_note(call.number));
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.server == call.server) {
                lane.waiting -= 1;
            }
        }
        self.forget(call);
        true
    }

    fn forget(&mut self, call: Call) {
        self.orphaned.remove(&call);
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.server == call.server) {
            lane.calls.end(call.number);
        }
    }
}

/// What an answer that ends a call says.
fn outcome_of(reply: Reply, keep: impl FnOnce() -> HeldBytes) -> Outcome {
    match reply {
        Reply::Failure => Outcome::Failure(keep()),
        Reply::End => Outcome::End,
        Reply::Nothing => Outcome::Unanswered,
        Reply::Unreachable => Outcome::Unreachable,
        Reply::Answer | Reply::Part => Outcome::Answer(keep()),
    }
}

#[cfg(test)]
impl ClientCore {
    /// Sends what no client sends.
    pub(super) fn send_garbled(&mut self, head: u64, bytes: &[u8]) {
        let sent = self.lanes[0].sender.send_headed(head, true, bytes).map_err(|error| error.to_string());
        assert_eq!(sent, Ok(Sent::Headed));
    }
}

impl Drop for ClientCore {
    fn drop(&mut self) {
        if self.receiver.is_inherited() {
            return;
        }
        self.receiver.shared().node.shared().remove_hub(self.hub.id());
        // Lanes take the control plane's lock when they go, so they are not left to it.
        drop(self.hub.take_news());
    }
}
