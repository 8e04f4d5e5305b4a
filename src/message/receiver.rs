//! How a subscriber receives, whatever its type: polling its streams in turn, and sleeping when all are empty – on its
//! futex, on a descriptor of its own, or as a future.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll as TaskPoll};
use std::time::Duration;

use rustix::io;

use super::error::{ReceiveError, Refused, TopicError, WaitError};
use super::event::{Counterpart, Event};
use super::inlet::{ReceiverOptions, Source, SubscriberShared};
use super::payload::extent_of;
use super::wait_set::Look;
use crate::node::{Channel, EndpointError, EndpointId, Inlet, Node, TypeDescriptor, Violation};
use crate::os::clock::Deadline;
use crate::os::fork::Process;
use crate::segment::SegmentError;
use crate::sync::bell::{Fencing, Line, Mode, Ticket};
use crate::sync::stream::{self, Extent, Keepsake, Lent, Poll, StreamViolation};

/// Polls at full speed before a receiver that blocks slows down.
pub(super) const EAGER_POLLS: u32 = 2_000;
/// Polls with a pause after each, before it goes to sleep.
pub(super) const PATIENT_POLLS: u32 = 300;
/// Polls after which it is looked whether something else has come that is waited for.
const POLLS_PER_LOOK: u32 = 16;
/// Polls of a task in a row that find news and no message.
pub(super) const TASK_POLLS: u32 = 3;
/// Messages of one publisher in a row while others may have some too.
const TURN_MESSAGES: u32 = 64;

/// A subscriber without its type.
pub(super) struct Receiver {
    sources: Vec<Source>,
    current: usize,
    /// Messages in a row from the current source.
    turn: u32,
    /// A sleep on a descriptor, or as a future, that has been prepared and not been ended.
    armed: Option<(Ticket, Mode)>,
    process: Process,
    /// In a service: whose streams are over, if any have come or gone since that was asked last.
    changes: Option<Vec<EndpointId>>,
    /// What there was no memory for, and whose it was, until it is told.
    shortages: Vec<(Box<Counterpart>, SegmentError)>,
    shared: Arc<SubscriberShared>,
}

/// What else the owner of a receiver waits for while it waits for messages.
pub(super) trait Company {
    /// Whether it has come.
    fn is_over(&mut self) -> bool;
    /// The receiver's line has been armed: whoever brings it is to ring that.
    fn prepare(&mut self);
    /// The sleep is over.
    fn finish(&mut self);
}

/// Nothing else.
struct Nobody;

impl Company for Nobody {
    fn is_over(&mut self) -> bool {
        false
    }
    fn prepare(&mut self) {}
    fn finish(&mut self) {}
}

/// A message that has been found and not been taken.
pub(super) struct Headed<'a> {
    pub(super) source: &'a Source,
    /// The word before it; `None` if that is left out.
    pub(super) head: Option<u64>,
    pub(super) bytes: &'a [u8],
}

impl Headed<'_> {
    /// Whether it is as long as the type says that its sender declared.
    pub(super) fn fits(&self) -> bool {
        extent_of(&self.source.descriptor).fits(self.bytes.len() as u64)
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// A message is there.
    Message,
    /// What the company waits for has come, or a stream is over.
    Company,
    /// The deadline came first.
    Deadline,
}

impl Receiver {
    pub(super) fn open(node: &Node, channel: Channel, options: ReceiverOptions) -> Result<Self, TopicError> {
        let text = channel.shared();
        let unable = |source| TopicError::Endpoint { topic: text.clone(), source };
        let line = Arc::new(node.shared().line().map_err(unable)?);
        let receiver = Self::create(node, channel, options, line);
        node.shared().add_inlet(Arc::clone(&receiver.shared) as Arc<dyn Inlet>).map_err(unable)?;
        receiver.check_refusals(text)?;
        Ok(receiver)
    }

    /// A receiver that has not been introduced, and sleeps on this line.
    pub(super) fn create(node: &Node, channel: Channel, options: ReceiverOptions, line: Arc<Line>) -> Self {
        Self {
            sources: Vec::new(),
            current: 0,
            turn: 0,
            armed: None,
            process: Process::current(),
            changes: None,
            shortages: Vec::new(),
            shared: Arc::new(SubscriberShared::new(node.clone(), channel, options, line)),
        }
    }

    fn check_refusals(&self, topic: Arc<str>) -> Result<(), TopicError> {
        let Some(first) = self.shared.refusals().into_iter().next().map(Box::new) else { return Ok(()) };
        Err(match first.difference {
            Some(_) => TopicError::TypeMismatch { topic, refused: first },
            None => TopicError::Refused { topic, refused: first },
        })
    }

    pub(super) fn shared(&self) -> &Arc<SubscriberShared> {
        &self.shared
    }

    /// Blocks until a message can be taken: `false` if the deadline, which is computed only if there is a wait,
    /// came first. Messages lent before are over.
    #[inline]
    pub(super) fn poll_until(
        &mut self,
        extent: Option<Extent>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<bool, ReceiveError> {
        if self.poll(extent)? { Ok(true) } else { self.wait(extent, deadline()) }
    }

    /// Whether a message is there now. If not, and there is a descriptor to sleep on, it becomes readable with the next one.
    #[inline(always)]
    pub(super) fn poll_once(&mut self, extent: Option<Extent>) -> Result<bool, ReceiveError> {
        Ok(self.poll(extent)? || self.prepare_descriptor(extent)?)
    }

    /// A batch of up to `count` messages from the stream that the last poll found ready.
    #[inline]
    pub(super) fn batch(&mut self, count: usize) -> Option<stream::Batch<'_>> {
        // The poll has counted the first; whether the others are there is not known yet.
        let others = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.turn = self.turn.saturating_add(others);
        self.sources.get_mut(self.current).map(|source| source.end.batch())
    }

    /// Takes the message that the last poll found.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Taken<'_>> {
        let Source { end, publisher, descriptor, prefix, .. } = self.sources.get_mut(self.current)?;
        let lent = end.take()?;
        if lent.lost() > 0 {
            self.shared.events.push_gap(publisher.id, lent.lost());
        }
        Some(Taken {
            lent,
            source: SourceView { publisher, descriptor, prefix: *prefix },
            shared: &self.shared,
        })
    }

    /// What the last poll found in a state's stream: its version, and who wrote it.
    #[inline]
    pub(super) fn found(&self) -> Option<(u64, EndpointId)> {
        let source = self.sources.get(self.current)?;
        Some((source.base.version(source.end.found_sequence()), source.publisher.id))
    }

    /// What the messages of the stream are in which the last poll found one.
    pub(super) fn descriptor_found(&self) -> Option<&TypeDescriptor> {
        self.sources.get(self.current).map(|source| &source.descriptor)
    }

    /// Takes the message that the last poll found, and keeps it; see [`ReceivingEnd::take_into`].
    #[inline]
    pub(super) fn take_into(&mut self, keepsake: &mut Keepsake, may_pin: bool) -> bool {
        self.sources.get_mut(self.current).is_some_and(|source| source.end.take_into(keepsake, may_pin))
    }

    /// The bytes of the message that the last poll found, which is taken: in a lane, where nothing is lost.
    #[inline]
    pub(super) fn take_bytes(&mut self) -> Option<&[u8]> {
        let lent = self.sources.get_mut(self.current)?.end.take()?;
        Some(lent.bytes())
    }

    /// Passes over the message that the last poll found.
    #[inline]
    pub(super) fn pass_over(&mut self) {
        if let Some(source) = self.sources.get_mut(self.current) {
            let _ = source.end.take();
        }
    }

    /// Whether a poll would find nothing, nor have anything else to do: said of one stream, on which nobody sleeps.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        match &self.sources[..] {
            [only] => {
                !self.process.is_parent()
                    && self.armed.is_none()
                    && !self.has_descriptor()
                    && !self.shared.has_incoming()
                    && !only.end.has_news()
            }
            _ => false,
        }
    }

    /// How many polls look at every stream once.
    #[inline]
    pub(super) fn streams(&self) -> usize {
        self.sources.len()
    }

    /// Whether somebody may be waiting for the descriptor.
    #[inline]
    pub(super) fn has_descriptor(&self) -> bool {
        self.shared.is_watched()
    }

    /// The words of the first stream's cursor segment.
    #[cfg(test)]
    pub(super) fn first_words(&self) -> crate::sync::ring::CursorMemory {
        self.sources[0].end.words()
    }

    /// Takes the item of a queue that the last poll found.
    #[inline(always)]
    pub(super) fn take_item(&mut self) -> Option<TakenItem<'_>> {
        let Source { end, publisher, descriptor, .. } = self.sources.get_mut(self.current)?;
        let lent = end.take()?;
        Some(TakenItem { lent, end: lent.end(), publisher, descriptor, shared: &self.shared })
    }

    /// Whether a message is there; `current` is then its stream.
    #[inline(always)]
    fn poll(&mut self, extent: Option<Extent>) -> Result<bool, ReceiveError> {
        if !self.process.is_parent()
            && self.armed.is_none()
            && (self.turn < TURN_MESSAGES || self.sources.len() == 1)
            && let Some(source) = self.sources.get_mut(self.current)
            && let Ok(Poll::Ready) = source.end.poll(extent)
        {
            self.turn = self.turn.wrapping_add(1);
            return Ok(true);
        }
        self.poll_all(extent)
    }

    /// Polls each stream once, from the one after the last that had a message.
    #[inline(never)]
    fn poll_all(&mut self, extent: Option<Extent>) -> Result<bool, ReceiveError> {
        self.check_process()?;
        if self.shared.has_incoming() {
            self.take_over();
        }
        let is_there = self.poll_in_turn(extent);
        // What was found is found again.
        let is_short = !self.shortages.is_empty() && !self.shared.is_service();
        if (is_there || is_short) && self.armed.is_some() {
            self.disarm();
        }
        if is_short { Err(self.shortage()) } else { Ok(is_there) }
    }

    /// What has not been told yet of a publisher whose messages there was no memory for.
    #[cold]
    fn shortage(&mut self) -> ReceiveError {
        let (publisher, source) = self.shortages.remove(0);
        ReceiveError::Segment { channel: self.shared.channel.clone(), publisher, source }
    }

    /// What there was no memory for of what came from this hub.
    pub(super) fn take_shortage(&mut self, from: EndpointId) -> Option<SegmentError> {
        let index = self.shortages.iter().position(|(publisher, _)| publisher.id == from)?;
        Some(self.shortages.remove(index).1)
    }

    /// Takes over the streams that have been admitted since.
    #[cold]
    fn take_over(&mut self) {
        // A sleep that is prepared does not know of them.
        if self.armed.is_some() {
            self.disarm();
        }
        self.sources.append(&mut self.shared.take_incoming());
        self.note_changes(self.shared.take_ended());
        self.tell_others();
    }

    fn poll_in_turn(&mut self, extent: Option<Extent>) -> bool {
        for _ in 0..self.sources.len() {
            self.current = if self.current + 1 < self.sources.len() { self.current + 1 } else { 0 };
            let Some(source) = self.sources.get_mut(self.current) else { return false };
            match source.end.poll(extent) {
                Ok(Poll::Ready) => {
                    self.turn = 1;
                    return true;
                }
                Ok(Poll::Nothing) => {}
                Ok(Poll::End) => _ = self.end_current(),
                Err(violation) => self.expel(violation),
            }
        }
        false
    }

    /// A stream that is read alone may wait a little when it is empty; one among others may not.
    fn tell_others(&mut self) {
        // Whoever reads a state does not ask again and again until there is something.
        let is_alone = self.sources.len() == 1 && !self.shared.is_state();
        self.sources.iter_mut().for_each(|source| source.end.set_alone(is_alone));
    }

    /// A publisher broke the rules: its stream is dropped, and its connection with it. Or its connection was over before a
    /// message could be had: its stream is dropped, which is an event.
    #[cold]
    fn expel(&mut self, violation: StreamViolation) {
        let (publisher, is_short) = self.end_current();
        if !violation.is_cut_off() {
            self.shared.node.shared().accuse(publisher.node(), &Violation(violation.to_string()));
        } else if !is_short {
            self.shared.events.push(Event::Gap { publisher, lost: 1 });
        }
    }

    /// The current stream is over: whose it was, and whether that is for want of memory of ours.
    #[cold]
    fn end_current(&mut self) -> (EndpointId, bool) {
        let Source { publisher, end, .. } = self.sources.remove(self.current);
        let (id, shortage) = (publisher.id, end.shortage().cloned());
        let is_short = shortage.is_some();
        self.shortages.extend(shortage.map(|error| (Box::new(publisher), error)));
        self.note_changes([id]);
        self.tell_others();
        (id, is_short)
    }

    /// Remembers that streams have come, or are over, where somebody asks for that.
    fn note_changes(&mut self, ended: impl IntoIterator<Item = EndpointId>) {
        if self.shared.is_service() {
            self.changes.get_or_insert_default().extend(ended);
        }
    }

    /// Whose streams have been read to their end, or dropped, since this was asked last. What has come since is no news any
    /// more.
    pub(super) fn take_ended(&mut self) -> Vec<EndpointId> {
        self.changes.take().unwrap_or_default()
    }

    /// Whether streams have come or gone since that was asked last.
    #[inline]
    pub(super) fn has_changed(&self) -> bool {
        self.changes.is_some()
    }

    /// Whether there is a stream of this hub, taken over or not.
    pub(super) fn has_source(&mut self, from: EndpointId) -> bool {
        if self.shared.has_incoming() {
            self.take_over();
        }
        self.sources.iter().any(|source| source.publisher.id == from)
    }

    /// What comes from this hub: its messages, and its failures if it has any.
    pub(super) fn types_from(&self, from: EndpointId) -> Option<(&TypeDescriptor, Option<&TypeDescriptor>)> {
        let source = self.sources.iter().find(|source| source.publisher.id == from)?;
        Some((&source.descriptor, source.failure.as_deref()))
    }

    /// The message that the last poll found, with the word before it.
    #[inline]
    pub(super) fn found_headed(&self) -> Option<Headed<'_>> {
        let source = self.sources.get(self.current)?;
        let (before, bytes) = source.end.found()?;
        let head = before.first_chunk().map(|head| u64::from_ne_bytes(*head));
        Some(Headed { source, head, bytes })
    }

    /// Whether a message is there now.
    #[inline(always)]
    pub(super) fn poll_now(&mut self, extent: Option<Extent>) -> Result<bool, ReceiveError> {
        self.poll(extent)
    }

    /// Stores a note for this hub, which may be waiting for it.
    pub(super) fn note(&self, to: EndpointId, index: usize, value: u64) {
        if let Some(source) = self.sources.iter().find(|source| source.publisher.id == to) {
            source.end.put_note(index, value);
        }
    }

    /// What was found last is nothing that a correct peer sends: its stream is dropped, and its connection with it.
    #[cold]
    pub(super) fn accuse(&mut self, reason: &str) {
        if self.current < self.sources.len() {
            let publisher = self.sources.remove(self.current).publisher.id;
            self.note_changes([publisher]);
            self.shared.node.shared().accuse(publisher.node(), &Violation(reason.to_owned()));
            self.tell_others();
        }
    }

    /// Waits for a message: polling, then asleep. `false` if the deadline came first.
    #[cold]
    #[inline(never)]
    fn wait(&mut self, extent: Option<Extent>, deadline: Deadline) -> Result<bool, ReceiveError> {
        Ok(self.wait_with(extent, deadline, &mut Nobody)? == Waited::Message)
    }

    /// Waits for a message or whatever the company waits for: polling, then asleep.
    #[inline(never)]
    pub(super) fn wait_with(
        &mut self,
        extent: Option<Extent>,
        deadline: Deadline,
        company: &mut impl Company,
    ) -> Result<Waited, ReceiveError> {
        loop {
            for round in 0..EAGER_POLLS + PATIENT_POLLS {
                if self.poll_all(extent)? {
                    return Ok(Waited::Message);
                }
                // A look at what else is waited for may take a lock.
                if self.has_changed() || (round % POLLS_PER_LOOK == 0 && company.is_over()) {
                    return Ok(Waited::Company);
                }
                if round >= EAGER_POLLS {
                    std::hint::spin_loop();
                }
            }
            if self.shared.is_closed() {
                return Err(self.closed());
            }
            if deadline.has_passed() {
                if self.prepare_descriptor(extent)? {
                    return Ok(Waited::Message);
                }
                // Looked at again: the descriptor may have been made readable for it before it was prepared.
                let has_come = company.is_over() || self.has_changed();
                return Ok(if has_come { Waited::Company } else { Waited::Deadline });
            }
            self.sleep(deadline, company).map_err(|source| self.failed(source))?;
        }
    }

    /// Waits for what the company waits for, whatever messages come meanwhile; `false` if the deadline came first.
    pub(super) fn wait_beside(
        &mut self,
        deadline: Deadline,
        company: &mut impl Company,
    ) -> Result<bool, ReceiveError> {
        let node = Arc::clone(self.shared.node.shared());
        self.check_process()?;
        loop {
            for _ in 0..EAGER_POLLS {
                if company.is_over() {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            self.check_open()?;
            if deadline.has_passed() {
                return Ok(false);
            }
            let round = node.round();
            if self.armed.is_some() {
                self.disarm();
            }
            // Somebody may be waiting for what we have read. What was found last stays.
            self.sources.iter_mut().for_each(|source| source.end.flush());
            let ticket = self.shared.line.sleeper().arm(self.shared.mode());
            company.prepare();
            let is_over = company.is_over() || self.shared.is_closed();
            let slept = if is_over { Ok(()) } else { self.shared.sleep(ticket, round, deadline) };
            self.shared.line.sleeper().disarm();
            company.finish();
            // Whatever was prepared for the descriptor is over.
            self.stay_awake();
            slept.map_err(|source| self.failed(source))?;
        }
    }

    /// Whether this is a forked child's copy: what is shared is its parent's, and left alone.
    #[inline]
    pub(super) fn is_inherited(&self) -> bool {
        self.process.is_parent()
    }

    /// That this is no forked child's copy.
    #[inline]
    pub(super) fn check_process(&self) -> Result<(), ReceiveError> {
        if self.is_inherited() { Err(self.failed(EndpointError::Forked)) } else { Ok(()) }
    }

    #[cold]
    fn failed(&self, source: EndpointError) -> ReceiveError {
        ReceiveError::Endpoint { channel: self.shared.channel.clone(), source }
    }

    /// Whether it was cancelled, or its node shut down.
    pub(super) fn check_open(&self) -> Result<(), ReceiveError> {
        if self.shared.is_closed() { Err(self.closed()) } else { Ok(()) }
    }

    fn closed(&self) -> ReceiveError {
        ReceiveError::Closed { channel: self.shared.channel.clone() }
    }

    fn sleep(&mut self, deadline: Deadline, company: &mut impl Company) -> Result<(), EndpointError> {
        let round = self.shared.node.shared().round();
        let (ticket, may_sleep) = self.arm(self.shared.mode());
        company.prepare();
        let has_news = self.has_news() || company.is_over();
        let until = if has_news || !may_sleep { Deadline::after(Duration::ZERO) } else { deadline };
        let slept = self.shared.sleep(ticket, round, until);
        self.disarm();
        company.finish();
        slept
    }

    /// Prepares a sleep: whoever has news after this wakes it. The caller then looks for news. `false` if it must not
    /// sleep, because barriers are not to be had any more.
    fn arm(&mut self, mode: Mode) -> (Ticket, bool) {
        // A publisher may be waiting for what we have read.
        self.sources.iter_mut().for_each(|source| source.end.release());
        let ticket = self.shared.line.sleeper().arm(mode);
        self.sources.iter().for_each(|source| source.sleepers.set());
        // Dekker: our bits, fence, their messages against their messages, fence, our bits.
        (ticket, Fencing::of_this_process().of_sleeper())
    }

    fn disarm(&mut self) {
        self.shared.set_armed(None);
        if self.armed.take().is_some() {
            self.shared.keep_readable();
        }
        self.shared.line.sleeper().disarm();
        self.sources.iter().for_each(|source| source.sleepers.clear());
    }

    fn has_news(&self) -> bool {
        self.shared.has_incoming()
            || self.shared.is_closed()
            || self.sources.iter().any(|source| source.end.has_news())
    }

    /// A descriptor that is readable when there may be messages, or events, to be asked for; at first it is.
    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, ReceiveError> {
        self.check_process()?;
        let action = || "make an eventfd".to_owned();
        let made = self.shared.watch_eventfd();
        made.map(|eventfd| eventfd.descriptor().as_fd())
            .map_err(|source| self.failed(EndpointError::System { action: action(), source }))
    }

    /// What a receiving call would find now. Neither takes nor copies anything, and makes no system call.
    #[inline]
    pub(super) fn look(&mut self, extent: Option<Extent>) -> Look {
        // A message that would have to be copied out is only looked at.
        if !self.process.is_parent()
            && self.turn < TURN_MESSAGES
            && self.sources.get(self.current).is_some_and(|source| source.end.has_message_to_copy())
        {
            return Look::Ready;
        }
        match self.poll(extent) {
            Ok(true) | Err(_) => Look::Ready,
            Ok(false) if self.shared.is_closed() => Look::Closed,
            Ok(false) => Look::Nothing,
        }
    }

    /// The descriptor for whoever waits for several endpoints.
    pub(super) fn own_eventfd(&self) -> io::Result<&Arc<OwnedFd>> {
        self.shared.make_eventfd().map(|eventfd| eventfd.descriptor())
    }

    pub(super) fn node(&self) -> &Node {
        &self.shared.node
    }

    /// After a look that found nothing: has the subscriber's own eventfd become readable with the next news. `false` if
    /// there may be some already.
    pub(super) fn prepare_eventfd(&mut self) -> bool {
        self.prepare_sleep(Mode::OwnEvent) && !self.has_news()
    }

    /// Whether what [`Receiver::prepare_eventfd`] prepared still stands, so that there is no news.
    #[inline]
    pub(super) fn is_prepared(&self) -> bool {
        let ticket = match self.armed {
            Some((ticket, Mode::OwnEvent)) => ticket,
            _ => return false,
        };
        !self.process.is_parent() && !self.shared.line.sleeper().is_rung(ticket)
    }

    /// After a poll that found nothing: has the descriptor, if there is one, become readable with the next message. If one
    /// has come meanwhile, it is there, and the answer is `true`.
    #[inline]
    fn prepare_descriptor(&mut self, extent: Option<Extent>) -> Result<bool, ReceiveError> {
        if self.shared.is_watched() { self.prepare_and_poll(extent) } else { Ok(false) }
    }

    #[cold]
    fn prepare_and_poll(&mut self, extent: Option<Extent>) -> Result<bool, ReceiveError> {
        let mut is_quiet = false;
        for _ in 0..TASK_POLLS {
            let is_sure = self.prepare_sleep(Mode::OwnEvent);
            is_quiet = is_sure && !self.has_news();
            if is_quiet {
                break;
            }
            if self.poll(extent)? {
                return Ok(true);
            }
        }
        if !is_quiet || self.shared.events.are_news() {
            self.stay_awake();
        }
        Ok(false)
    }

    /// The descriptor is readable at once, and prepared anew after the next look.
    pub(super) fn stay_awake(&mut self) {
        if let Some(eventfd) = self.shared.own_eventfd() {
            eventfd.signal();
            self.armed = None;
        }
    }

    /// Prepares a sleep that goes on beyond this call, unless one of this kind is prepared and has not been ended by
    /// anybody. `false` if there is none, and everything has to be looked at again.
    fn prepare_sleep(&mut self, mode: Mode) -> bool {
        // Each time: we may have signalled it ourselves, and who rang for a message may do so after that has been taken.
        if let Some(eventfd) = self.shared.own_eventfd() {
            eventfd.drain();
        }
        if let Some((ticket, current)) = self.armed
            && current == mode
            && !self.shared.line.sleeper().is_rung(ticket)
        {
            return true;
        }
        let (ticket, is_sure) = self.arm(mode);
        self.armed = Some((ticket, mode));
        self.shared.set_armed(Some(ticket));
        // Who rings late, for a message that has been taken, may have found the new generation, and our node no sleep yet
        // to end: nobody would ring again.
        let may_sleep = is_sure && !self.shared.line.sleeper().is_rung(ticket);
        if !may_sleep {
            self.disarm();
        }
        may_sleep
    }

    /// As [`Receiver::poll_until`], for a future.
    pub(super) fn poll_task(
        &mut self,
        extent: Option<Extent>,
        context: &mut Context<'_>,
    ) -> TaskPoll<Result<(), ReceiveError>> {
        self.poll_task_with(extent, context, &mut Nobody).map(|waited| waited.map(drop))
    }

    /// As [`Receiver::wait_with`], for a future; what the company has prepared is finished by the next poll.
    pub(super) fn poll_task_with(
        &mut self,
        extent: Option<Extent>,
        context: &mut Context<'_>,
        company: &mut impl Company,
    ) -> TaskPoll<Result<Waited, ReceiveError>> {
        if let Err(error) = self.check_process() {
            return TaskPoll::Ready(Err(error));
        }
        company.finish();
        for _ in 0..TASK_POLLS {
            match self.poll(extent) {
                Ok(true) => return TaskPoll::Ready(Ok(Waited::Message)),
                Err(error) => return TaskPoll::Ready(Err(error)),
                Ok(false) => {}
            }
            if company.is_over() || self.has_changed() {
                return TaskPoll::Ready(Ok(Waited::Company));
            }
            if self.shared.is_closed() {
                return TaskPoll::Ready(Err(self.closed()));
            }
            self.shared.set_waker(context.waker());
            let is_sure = self.prepare_sleep(Mode::Event);
            company.prepare();
            if is_sure && !self.has_news() && !company.is_over() {
                return TaskPoll::Pending;
            }
            company.finish();
        }
        // What is there cannot be taken yet: others get their turn.
        context.waker().wake_by_ref();
        TaskPoll::Pending
    }

    /// Waits for something to happen to the connections; `None` if nothing does in time.
    pub(super) fn wait_for_event(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        let deadline = Deadline::after(timeout);
        if self.process.is_parent() {
            let channel = self.shared.channel.clone();
            return Err(WaitError::Endpoint { channel, source: EndpointError::Forked });
        }
        let outcome = self.wait_for_event_until(deadline);
        // Whatever was prepared for the descriptor is over.
        self.stay_awake();
        outcome
    }

    fn wait_for_event_until(&mut self, deadline: Deadline) -> Result<Option<Event>, WaitError> {
        let node = Arc::clone(self.shared.node.shared());
        loop {
            let round = node.round();
            self.armed = None;
            self.shared.set_armed(None);
            let ticket = self.shared.line.sleeper().arm(self.shared.mode());
            if let Some(event) = self.shared.events.take() {
                return Ok(Some(event));
            }
            let channel = self.shared.channel.clone();
            if self.shared.is_closed() {
                return Err(WaitError::Closed { channel });
            }
            if deadline.has_passed() {
                return Ok(None);
            }
            let waited = self.shared.sleep(ticket, round, deadline);
            self.shared.line.sleeper().disarm();
            waited.map_err(|source| WaitError::Endpoint { channel, source })?;
        }
    }

    /// Who turned this subscriber away, or was turned away by it.
    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.shared.refusals()
    }

    /// Publishers that are connected.
    pub(super) fn publishers(&self) -> usize {
        self.shared.connected()
    }
}

/// An item that has been taken, and whose it is.
pub(super) struct TakenItem<'a> {
    pub(super) lent: Lent<'a>,
    pub(super) end: &'a stream::ReceivingEnd,
    pub(super) publisher: &'a super::event::Counterpart,
    pub(super) descriptor: &'a crate::node::TypeDescriptor,
    pub(super) shared: &'a SubscriberShared,
}

/// A message that has been taken, and whose it is.
pub(super) struct Taken<'a> {
    pub(super) lent: Lent<'a>,
    pub(super) source: SourceView<'a>,
    pub(super) shared: &'a SubscriberShared,
}

/// What a sample knows of its publisher.
#[derive(Clone, Copy)]
pub(super) struct SourceView<'a> {
    pub(super) publisher: &'a super::event::Counterpart,
    pub(super) descriptor: &'a crate::node::TypeDescriptor,
    pub(super) prefix: super::prefix::Prefix,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.is_inherited() {
            return;
        }
        self.shared.node.shared().remove_inlet(self.shared.id());
        // Whoever else knows of us may do so for longer than those who send are to.
        self.shared.leave_all();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Receiver");
        fields
            .field("topic", &self.shared.channel)
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}
