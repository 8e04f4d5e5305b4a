//! A server without its types: whose turn it is, and what is kept for whom.

mod ticket;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll as TaskPoll};
use std::time::Instant;

pub(super) use self::ticket::Ticket;
use self::ticket::{Posted, PostedAnswer};
use super::core::{ANY, PARTS_AHEAD};
use super::error::AnswerError;
use super::head::{self, AnswerHead, Reply, RequestHead, Want};
use super::hub::{News, ServiceHub};
use super::soon::SOON_POLLS;
use crate::message::error::{ReceiveError, Refused, SendError};
use crate::message::inlet::SubscriberShared;
use crate::message::receiver::{Company, Receiver, Waited};
use crate::message::sample::HeldBytes;
use crate::message::sender::{Sender, Sent};
use crate::message::wait_set::Look;
use crate::node::{EndpointId, Hub, Violation};
use crate::os::clock::Deadline;
use crate::sync::ring::CursorMemory;

/// A request that is to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) client: EndpointId,
    pub(super) number: u64,
    head: RequestHead,
    /// Where its client is in the list, if it is there.
    index: usize,
}

impl Due {
    pub(super) fn wants_answer(&self) -> bool {
        self.head.want != Want::Nothing
    }

    pub(super) fn wants_parts(&self) -> bool {
        self.head.want == Want::Parts
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        head::instant_of(self.head.deadline_ms)
    }
}

/// A client, as its server sees it.
struct ClientLane {
    client: EndpointId,
    sender: Sender,
    /// The client's notes, once it reads our answers.
    notes: Option<CursorMemory>,
    /// What waits for room: what it is, and the answer.
    kept: VecDeque<Kept>,
    is_gone: Arc<AtomicBool>,
    /// The deadline that the client told last.
    told_ms: u64,
    /// The request that its next bare answer is for.
    next_answered: u64,
}

/// An answer that waits for room.
struct Kept {
    head: AnswerHead,
    /// Which note of the client's is the call's.
    note: u16,
    bytes: Box<[u8]>,
}

impl ClientLane {
    fn new(client: EndpointId, sender: Sender) -> Self {
        let (notes, kept, is_gone) = (None, VecDeque::new(), Arc::default());
        Self { client, sender, notes, kept, is_gone, told_ms: 0, next_answered: 0 }
    }

    /// The client's notes: none before it reads our answers, and if it went before anybody looked.
    fn notes(&mut self) -> Option<&CursorMemory> {
        if self.notes.is_none() {
            self.notes = self.sender.shared().notes();
        }
        self.notes.as_ref()
    }

    /// The client's word about a call.
    fn note(&mut self, note: u16) -> u64 {
        self.notes().map_or(0, |notes| note_of(notes, note))
    }

    /// Sends an answer, if there is room now; whether there was.
    #[inline]
    fn send(&mut self, head: AnswerHead, bytes: &[u8]) -> Result<bool, SendError> {
        let is_next = head.reply == Reply::Answer && head.number == self.next_answered;
        let sent = self.sender.send_headed(head.bits(), !is_next, bytes)?;
        if sent == Sent::NoRoom {
            return Ok(false);
        }
        self.next_answered = head.number + 1;
        Ok(true)
    }

    /// Sends what waits, as far as there is room; nothing is tried before something has come free.
    fn send_kept(&mut self) {
        if self.kept.is_empty() || !self.sender.has_come_free() {
            return;
        }
        while let Some(kept) = self.kept.pop_front() {
            let head = kept.head;
            let sent = self.send(head, &kept.bytes).or_else(|_| {
                // What cannot be sent at all is over its limit: the client learns that there is no answer.
                self.send(AnswerHead { reply: Reply::Nothing, ..head }, &[])
            });
            if matches!(sent, Ok(false)) {
                return self.kept.push_front(kept);
            }
        }
    }

    /// Keeps an answer; `None` if the client has gone, so that nothing comes free any more, and `false` if more are kept than it
    /// may have calls.
    fn keep(&mut self, kept: Kept) -> Option<bool> {
        if self.sender.shared().is_over() {
            return None;
        }
        let most = self.notes()?.notes();
        let Self { kept: waiting, notes: Some(notes), .. } = self else { return None };
        waiting.push_back(kept);
        if waiting.len() > most {
            // Those that nobody waits for any more need not be sent.
            waiting.retain(|kept| !head::is_over(note_of(notes, kept.note), kept.head.number));
        }
        Some(waiting.len() <= most)
    }
}

/// Where the client is whose request this is, if it is in the list.
#[inline]
fn place_of(clients: &[ClientLane], due: &Due) -> Option<usize> {
    match clients.get(due.index) {
        Some(lane) if lane.client == due.client => Some(due.index),
        _ => clients.iter().position(|lane| lane.client == due.client),
    }
}

fn note_of(notes: &CursorMemory, note: u16) -> u64 {
    // As many as there are, they are a power of two, or the client is not to be helped.
    let Some(mask) = notes.notes().checked_sub(1) else { return 0 };
    // Acquire: what the client did before is seen.
    notes.note(usize::from(note) & mask).load(crate::sync::door::Ordering::Acquire)
}

/// A server without its types.
pub(super) struct ServerCore {
    pub(super) receiver: Receiver,
    pub(super) hub: Arc<ServiceHub>,
    clients: Vec<ClientLane>,
    posted: Arc<Posted>,
    /// The request that was found last. It lies here, as it would be copied from hand to hand otherwise.
    due: Due,
    pub(super) passed_over: u64,
}

/// How long a request has been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It has come since the look before.
    New,
    Unknown,
}

/// What a server waits for besides requests: clients that come or go, room for what is kept, answers of other threads.
struct Others<'a> {
    hub: &'a ServiceHub,
    clients: &'a mut [ClientLane],
    posted: &'a Posted,
}

impl Others<'_> {
    fn full(&mut self) -> impl Iterator<Item = &mut ClientLane> {
        self.clients.iter_mut().filter(|client| !client.kept.is_empty())
    }
}

impl Company for Others<'_> {
    fn is_over(&mut self) -> bool {
        self.hub.has_news()
            || self.posted.has_some.load(Ordering::Acquire)
            || self.full().any(|client| client.sender.has_come_free())
    }
    fn prepare(&mut self) {
        self.full().for_each(|client| client.sender.begin_wait());
    }
    fn finish(&mut self) {
        self.full().for_each(|client| client.sender.end_wait());
    }
}

/// What a server that answers in parts waits for: its client.
struct Taking<'a> {
    hub: &'a ServiceHub,
    client: &'a mut ClientLane,
    posted: &'a Posted,
    /// Which note of the client's is the call's.
    note: u16,
    /// What it was.
    word: u64,
    /// Whether it is only room in the stream that a part waits for.
    needs_room: bool,
}

impl Company for Taking<'_> {
    fn is_over(&mut self) -> bool {
        self.client.note(self.note) != self.word
            || self.posted.has_some.load(Ordering::Acquire)
            || (self.hub.has_news() && self.hub.is_parted(self.client.client))
            || (self.needs_room && self.client.sender.has_come_free())
    }
    fn prepare(&mut self) {
        self.client.sender.begin_wait();
    }
    fn finish(&mut self) {
        self.client.sender.end_wait();
    }
}

impl ServerCore {
    pub(super) fn new(receiver: Receiver, hub: Arc<ServiceHub>) -> Self {
        let head = RequestHead { want: Want::Nothing, note: 0, deadline_ms: 0 };
        let due = Due { client: hub.id(), number: 0, head, index: 0 };
        let (clients, posted) = (Vec::new(), Arc::default());
        let mut core = Self { receiver, hub, clients, posted, due, passed_over: 0 };
        core.refresh();
        core
    }

    pub(super) fn service(&self) -> Arc<str> {
        self.hub.channel().shared()
    }

    /// Clients that turned us down, or were turned down.
    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.hub.refusals()
    }

    /// Clients that are connected.
    pub(super) fn clients(&mut self) -> usize {
        self.refresh();
        self.clients.len()
    }

    /// Takes note of clients that have come or gone.
    #[cold]
    fn refresh(&mut self) {
        if self.receiver.is_inherited() {
            return;
        }
        for client in self.receiver.take_ended() {
            // Both have been told: that is no reason for the others' server to stop.
            let _ = self.receiver.take_shortage(client);
            self.lose(client);
        }
        for news in self.hub.take_news() {
            match news {
                News::Made(client, sender) => self.clients.push(ClientLane::new(client, *sender)),
                News::Parted(client) => self.lose(client),
            }
        }
    }

    fn lose(&mut self, client: EndpointId) {
        for lane in self.clients.extract_if(.., |lane| lane.client == client) {
            lane.is_gone.store(true, Ordering::Release);
        }
    }

    /// Sends what waits for that, as far as there is room.
    #[inline]
    fn send_waiting(&mut self) {
        if self.posted.has_some.load(Ordering::Acquire) || self.keeps_some() {
            self.send_all_waiting();
        }
    }

    #[inline]
    fn keeps_some(&self) -> bool {
        self.clients.iter().any(|client| !client.kept.is_empty())
    }

    #[cold]
    fn send_all_waiting(&mut self) {
        if self.receiver.is_inherited() {
            return;
        }
        self.posted.has_some.store(false, Ordering::Relaxed);
        self.clients
            .iter_mut()
            .filter(|client| !client.kept.is_empty())
            .for_each(|client| client.sender.end_wait());
        let posted = std::mem::take(&mut *self.posted.answers.lock().unwrap_or_else(PoisonError::into_inner));
        for PostedAnswer { due, reply, bytes } in posted {
            // Whoever asked is told of every way in which this fails.
            if self.answer(&due, reply, &bytes).is_err() {
                self.leave_unanswered(&due);
            }
        }
        for client in &mut self.clients {
            client.send_kept();
            client.sender.expel_violators();
        }
    }

    /// What a call that takes a request would find.
    pub(super) fn look(&mut self) -> Look {
        self.send_waiting();
        self.refresh_if_due();
        self.receiver.look(ANY)
    }

    fn refresh_if_due(&mut self) {
        if self.hub.has_news() || self.receiver.has_changed() {
            self.refresh();
        }
    }

    /// Has the eventfd become readable with the next request, or with room for what is kept.
    pub(super) fn prepare(&mut self) -> bool {
        let is_quiet = self.receiver.prepare_eventfd();
        !self.listen_to_others() && is_quiet
    }

    /// Waits for a request; `false` if the deadline, which is computed only if there is a wait, came first.
    #[inline]
    pub(super) fn next(&mut self, deadline: impl FnOnce() -> Deadline) -> Result<bool, ReceiveError> {
        self.send_waiting();
        if self.receiver.poll_now(ANY)? && self.is_due(Age::Unknown) {
            return Ok(true);
        }
        self.next_slowly(deadline())
    }

    #[inline(never)]
    fn next_slowly(&mut self, deadline: Deadline) -> Result<bool, ReceiveError> {
        loop {
            self.send_waiting();
            if self.comes_soon()? && self.is_due(Age::New) {
                return Ok(true);
            }
            let Self { receiver, hub, clients, posted, .. } = self;
            match receiver.wait_with(ANY, deadline, &mut Others { hub, clients, posted })? {
                Waited::Message if self.is_due(Age::Unknown) => return Ok(true),
                Waited::Message => {}
                Waited::Company => self.refresh(),
                Waited::Deadline => return Ok(false),
            }
        }
    }

    /// Polls a little: whether there is a request where there was none before.
    #[inline]
    fn comes_soon(&mut self) -> Result<bool, ReceiveError> {
        if self.keeps_some() || self.receiver.poll_now(ANY)? {
            return Ok(false);
        }
        for _ in 0..SOON_POLLS {
            if self.receiver.poll_now(ANY)? {
                return Ok(true);
            }
            if self.posted.has_some.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(false)
    }

    /// Whether there is a request now.
    pub(super) fn try_next(&mut self) -> Result<bool, ReceiveError> {
        self.send_waiting();
        self.refresh_if_due();
        while self.receiver.poll_once(ANY)? {
            if self.is_due(Age::Unknown) {
                return Ok(true);
            }
        }
        self.listen_to_others();
        Ok(false)
    }

    /// What waits to be sent goes out with the next call, for which the descriptor becomes readable when there is room. That it
    /// is so already, or that there is other news, is known only now that the descriptor has been prepared: whether it was.
    fn listen_to_others(&mut self) -> bool {
        let Self { receiver, hub, clients, posted, .. } = self;
        let mut others = Others { hub, clients, posted };
        others.prepare();
        let has_news = others.is_over() || receiver.has_changed();
        if has_news {
            receiver.shared().wake();
        }
        has_news
    }

    /// As [`ServerCore::next`], for a future.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> TaskPoll<Result<(), ReceiveError>> {
        loop {
            self.send_waiting();
            let Self { receiver, hub, clients, posted, .. } = self;
            match receiver.poll_task_with(ANY, context, &mut Others { hub, clients, posted }) {
                TaskPoll::Pending => return TaskPoll::Pending,
                TaskPoll::Ready(Err(error)) => return TaskPoll::Ready(Err(error)),
                TaskPoll::Ready(Ok(Waited::Message)) => {
                    if self.is_due(Age::Unknown) {
                        return TaskPoll::Ready(Ok(()));
                    }
                }
                TaskPoll::Ready(Ok(_)) => self.refresh(),
            }
        }
    }

    /// Whether the request that has been found is due: unless nobody wants it to be answered any more.
    #[inline(always)]
    pub(super) fn is_due(&mut self, age: Age) -> bool {
        let Some(found) = self.receiver.found_headed() else { return false };
        let (client, bits) = (found.source.about.publisher.id, found.head);
        let (number, fits) = (found.source.end.found_sequence(), found.fits());
        let index = match self.clients.iter().position(|lane| lane.client == client) {
            Some(index) => index,
            None => self.find_new(client),
        };
        let head = match bits {
            None => Some(RequestHead {
                want: Want::Answer,
                note: number as u16,
                deadline_ms: self.clients.get(index).map_or(0, |lane| lane.told_ms),
            }),
            Some(bits) => RequestHead::of_bits(bits),
        };
        let (Some(head), true) = (head, fits) else {
            self.receiver.accuse("a request that is none");
            return false;
        };
        self.due = Due { client, number, head, index };
        let Some(lane) = self.clients.get_mut(index) else {
            return head.want == Want::Nothing || self.pass_over();
        };
        lane.told_ms = head.deadline_ms;
        if head.want == Want::Nothing {
            return true;
        }
        if head::is_given_up(lane.note(head.note), number) {
            return self.pass_over();
        }
        // The clock is not read for one that is new: if this process was stopped before it saw it, the client has given it up,
        // or waits all the same.
        age == Age::New || self.is_in_time()
    }

    /// Whether the deadline of the request that has been found has not passed; it is passed over otherwise.
    fn is_in_time(&mut self) -> bool {
        let due = self.due;
        if !head::has_passed(due.head.deadline_ms) {
            return true;
        }
        // The client has not given it up, and may have all the time in the world.
        self.leave_unanswered(&due);
        self.pass_over()
    }

    /// Nobody wants the request to be answered that has been found: it is not due.
    #[cold]
    fn pass_over(&mut self) -> bool {
        self.passed_over += 1;
        self.finish();
        false
    }

    /// The request that was found last.
    #[inline(always)]
    pub(super) fn due(&self) -> Due {
        self.due
    }

    /// Where the client is whose lane we have not taken note of yet; one without a lane has gone.
    #[cold]
    fn find_new(&mut self, client: EndpointId) -> usize {
        self.refresh();
        let index = self.clients.iter().position(|lane| lane.client == client);
        index.unwrap_or(self.clients.len())
    }

    /// The request that is being answered.
    #[inline]
    pub(super) fn request(&self) -> &[u8] {
        self.receiver.found_headed().map_or(&[], |found| found.bytes)
    }

    /// The request has been dealt with.
    #[inline]
    pub(super) fn finish(&mut self) {
        self.receiver.pass_over();
    }

    #[inline]
    fn lane(&mut self, due: &Due) -> Option<&mut ClientLane> {
        place_of(&self.clients, due).map(|place| &mut self.clients[place])
    }

    fn gone(&self) -> AnswerError {
        AnswerError::ClientGone { service: self.service() }
    }

    pub(super) fn is_cancelled(&self, due: &Due) -> bool {
        if due.head.want == Want::Nothing {
            return false;
        }
        let Some(place) = place_of(&self.clients, due) else { return true };
        let lane = &self.clients[place];
        if lane.is_gone.load(Ordering::Acquire) || head::has_passed(due.head.deadline_ms) {
            return true;
        }
        let is_given_up = |notes: &CursorMemory| head::is_given_up(note_of(notes, due.head.note), due.number);
        match &lane.notes {
            Some(notes) => is_given_up(notes),
            None => lane.sender.shared().notes().as_ref().is_some_and(is_given_up),
        }
    }

    /// Sends an answer, or keeps it if there is no room now.
    #[inline]
    pub(super) fn answer(&mut self, due: &Due, reply: Reply, bytes: &[u8]) -> Result<(), AnswerError> {
        match (due.head.want, reply) {
            (Want::Answer, reply) if reply.is_whole() => {}
            (Want::Parts, reply) if reply.ends_parts() => {}
            (Want::Nothing, _) => return Ok(()),
            _ => return Err(self.wrong_kind(due, reply)),
        }
        let Some(lane) = self.lane(due) else { return Err(self.gone()) };
        let head = AnswerHead { reply, number: due.number };
        if !lane.kept.is_empty() {
            lane.sender.check_fits(bytes.len())?;
            return self.keep(due, head, bytes);
        }
        if lane.send(head, bytes)? { Ok(()) } else { self.keep(due, head, bytes) }
    }

    #[cold]
    fn wrong_kind(&self, due: &Due, reply: Reply) -> AnswerError {
        let name = |is_parts| if is_parts { "parts" } else { "an answer" };
        let (wanted, given) = (name(due.wants_parts()), name(matches!(reply, Reply::Part | Reply::End)));
        AnswerError::Kind { service: self.service(), wanted, given }
    }

    /// Keeps an answer until there is room for it.
    #[cold]
    fn keep(&mut self, due: &Due, head: AnswerHead, bytes: &[u8]) -> Result<(), AnswerError> {
        self.receiver.check_process()?;
        let kept = Kept { head, note: due.head.note, bytes: bytes.into() };
        match self.lane(due).and_then(|lane| lane.keep(kept)) {
            Some(true) => return Ok(()),
            Some(false) => {
                let violation = Violation("it asks for more than it takes answers to".to_owned());
                self.receiver.shared().node.shared().accuse(due.client.node(), &violation);
            }
            None => {}
        }
        Err(self.gone())
    }

    /// The request is let go of without an answer.
    #[cold]
    pub(super) fn leave_unanswered(&mut self, due: &Due) {
        // A client that has gone need not be told.
        let _ = self.answer(due, Reply::Nothing, &[]);
    }

    /// Memory for an answer in place: the stream's, or if it has no room now, memory of our own.
    pub(super) fn loan(&mut self, due: &Due, bytes: usize) -> Result<Option<HeldBytes>, AnswerError> {
        if due.wants_parts() {
            return Err(self.wrong_kind(due, Reply::Answer));
        }
        let Some(lane) = self.lane(due) else { return Err(self.gone()) };
        lane.sender.check_fits(bytes)?;
        if !due.wants_answer() {
            return Ok(Some(HeldBytes::zeroed(bytes)));
        }
        let head = AnswerHead { reply: Reply::Answer, number: due.number }.bits();
        let has_room = lane.kept.is_empty() && lane.sender.make_headed_room(head, bytes)?;
        Ok(if has_room { None } else { Some(HeldBytes::zeroed(bytes)) })
    }

    /// The request, and the memory that was lent for its answer.
    pub(super) fn request_and_loan<'a>(
        &'a mut self,
        due: &Due,
        place: Option<&'a mut HeldBytes>,
        bytes: usize,
    ) -> (&'a [u8], &'a mut [u8]) {
        let Self { receiver, clients, .. } = self;
        let request = receiver.found_headed().map_or(&[][..], |found| found.bytes);
        let answer = match place {
            Some(place) => place.bytes_mut(),
            None => {
                let place = place_of(clients, due).expect("lanes go only between requests");
                clients[place].sender.headed_loan_mut()
            }
        };
        (request, &mut answer[..bytes])
    }

    /// The memory that was lent for an answer.
    pub(super) fn loaned<'a>(&'a self, due: &Due, place: Option<&'a HeldBytes>, bytes: usize) -> &'a [u8] {
        let answer = match place {
            Some(place) => place.as_slice(),
            None => {
                let place = place_of(&self.clients, due).expect("lanes go only between requests");
                self.clients[place].sender.headed_loan()
            }
        };
        &answer[..bytes]
    }

    /// Sends the answer that was written in place.
    pub(super) fn commit(&mut self, due: &Due) {
        if let Some(lane) = self.lane(due) {
            lane.sender.commit();
            lane.next_answered = due.number + 1;
        }
    }

    pub(super) fn check_parts(&self, due: &Due) -> Result<(), AnswerError> {
        if due.wants_parts() { Ok(()) } else { Err(self.wrong_kind(due, Reply::Part)) }
    }

    /// Sends a part, waiting until the client has taken enough of those before.
    pub(super) fn send_part(&mut self, due: &Due, sent: u32, bytes: &[u8]) -> Result<(), AnswerError> {
        let deadline = due.deadline().map_or(Deadline::NEVER, Deadline::at);
        let start = Instant::now();
        let head = AnswerHead { reply: Reply::Part, number: due.number };
        loop {
            self.send_waiting();
            if self.is_cancelled(due) {
                return Err(AnswerError::Cancelled { service: self.service() });
            }
            let service = self.service();
            let Some(lane) = self.lane(due) else { return Err(self.gone()) };
            let (note, word) = (due.head.note, lane.note(due.head.note));
            let may_send = sent.wrapping_sub(head::parts_taken(word, due.number)) < PARTS_AHEAD;
            if may_send && lane.kept.is_empty() && lane.send(head, bytes)? {
                return Ok(());
            }
            let client = lane.client;
            let Self { receiver, hub, clients, posted, .. } = self;
            let Some(place) = place_of(clients, due) else { continue };
            let mut taking =
                Taking { hub, client: &mut clients[place], posted, note, word, needs_room: may_send };
            if !receiver.wait_beside(deadline, &mut taking)? {
                return Err(AnswerError::Timeout { service, waited: start.elapsed() });
            }
            taking.client.sender.expel_violators();
            if self.hub.has_news() && self.hub.is_parted(client) {
                return Err(self.gone());
            }
        }
    }

    /// Puts an answer off: whoever has the ticket gives it.
    pub(super) fn defer(&mut self, due: &Due) -> Result<Ticket, AnswerError> {
        if due.wants_parts() {
            return Err(self.wrong_kind(due, Reply::Answer));
        }
        let (posted, shared) = (Arc::clone(&self.posted), Arc::clone(self.receiver.shared()));
        let request = HeldBytes::copied(self.request());
        let Some(lane) = self.lane(due) else { return Err(self.gone()) };
        let _ = lane.note(due.head.note);
        let (notes, is_gone) = (lane.notes.clone(), Arc::clone(&lane.is_gone));
        Ok(Ticket { due: Some(*due), request, notes, is_gone, posted, shared })
    }
}

#[cfg(test)]
impl ServerCore {
    /// The lane to the first client.
    pub(super) fn first_lane(&self) -> &crate::message::outlet::PublisherShared {
        self.clients[0].sender.shared()
    }

    /// Sends something to the first client, whatever has become of it; whether there was room.
    pub(super) fn try_send(&mut self, head: u64, bytes: &[u8]) -> bool {
        let sent = self.clients[0].sender.send_headed(head, true, bytes);
        sent.expect("it is short enough") == Sent::Headed
    }

    /// Sends what no server sends; whether there was room.
    pub(super) fn try_send_garbled(&mut self, head: u64, bytes: &[u8]) -> bool {
        self.refresh();
        self.try_send(head, bytes)
    }

    pub(super) fn send_garbled(&mut self, head: u64, bytes: &[u8]) {
        assert!(self.try_send_garbled(head, bytes));
    }
}

impl Drop for ServerCore {
    fn drop(&mut self) {
        if self.receiver.is_inherited() {
            return;
        }
        // What other threads have answered, as far as there is room.
        self.send_waiting();
        self.receiver.shared().node.shared().remove_hub(self.hub.id());
        // Lanes take the control plane's lock when they go, so they are not left to it.
        drop(self.hub.take_news());
    }
}

/// A server seen from other threads, made by [`Server::handle`](super::Server::handle).
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<SubscriberShared>,
}

impl ServerHandle {
    pub(super) fn new(shared: &Arc<SubscriberShared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// Ends the server's waits with `Closed`, the one it may be in and any that it would begin. Requests that have come can
    /// still be taken.
    pub fn cancel(&self) {
        self.shared.cancel();
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerHandle").finish_non_exhaustive()
    }
}
