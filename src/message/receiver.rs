//! How a subscriber receives, whatever its type: polling its streams in turn, and sleeping when all are empty.

mod patience;
mod waiting;

use std::fmt;
use std::sync::Arc;

use super::error::{ReceiveError, Refused, TopicError};
use super::event::{Counterpart, Event};
use super::inlet::{About, ReceiverOptions, Source, SubscriberShared};
use super::payload::extent_of;
use crate::node::{Channel, EndpointError, EndpointId, Inlet, Node, TypeDescriptor, Violation};
use crate::os::clock::Deadline;
use crate::os::fork::Process;
use crate::segment::SegmentError;
use crate::sync::bell::{Line, Mode, Ticket};
use crate::sync::stream::{self, Extent, Keepsake, Lent, Poll, StreamViolation};
use patience::Patience;
pub(super) use waiting::{Company, EAGER_POLLS, PATIENT_POLLS, TASK_POLLS, Waited};

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
    /// How long to poll before a sleep.
    patience: Patience,
    process: Process,
    /// In a service: whose streams are over, if any have come or gone since that was asked last.
    changes: Option<Vec<EndpointId>>,
    /// What there was no memory for, and whose it was, until it is told.
    shortages: Vec<(Box<Counterpart>, SegmentError)>,
    shared: Arc<SubscriberShared>,
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
        extent_of(&self.source.about.descriptor).fits(self.bytes.len() as u64)
    }
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
            patience: Patience::default(),
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
        let Source { end, about, .. } = self.sources.get_mut(self.current)?;
        let lent = end.take()?;
        if lent.lost() > 0 {
            self.shared.events.push_gap(about.publisher.id, lent.lost());
        }
        Some(Taken { lent, about, shared: &self.shared })
    }

    /// What the last poll found in a state's stream: its version, and who wrote it.
    #[inline]
    pub(super) fn found(&self) -> Option<(u64, EndpointId)> {
        let source = self.sources.get(self.current)?;
        Some((source.base.version(source.end.found_sequence()), source.about.publisher.id))
    }

    /// What the messages of the stream are in which the last poll found one.
    pub(super) fn descriptor_found(&self) -> Option<&TypeDescriptor> {
        self.sources.get(self.current).map(|source| &source.about.descriptor)
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
        let Source { end, about, .. } = self.sources.get_mut(self.current)?;
        let lent = end.take()?;
        let About { publisher, descriptor, .. } = about;
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
        let was_full_turn = self.turn >= TURN_MESSAGES;
        // Streams with nothing that were polled just before the current one.
        let mut passed = 0;
        for _ in 0..self.sources.len() {
            self.current = if self.current + 1 < self.sources.len() { self.current + 1 } else { 0 };
            let Some(source) = self.sources.get_mut(self.current) else { return false };
            match source.end.poll(extent) {
                Ok(Poll::Ready) => {
                    self.turn = 1;
                    self.go_to_predecessor(extent);
                    self.age_before(passed, was_full_turn);
                    return true;
                }
                Ok(Poll::Nothing) => passed += 1,
                Ok(Poll::End) => {
                    passed = 0;
                    _ = self.end_current();
                }
                Err(violation) => {
                    passed = 0;
                    self.expel(violation);
                }
            }
        }
        false
    }

    /// If what was found is passed on by somebody who took over from another, whose stream is not read to its end yet, that comes
    /// first.
    fn go_to_predecessor(&mut self, extent: Option<Extent>) {
        let (before, after) = self.sources.split_at_mut(self.current);
        let Some(current) = after.first() else { return };
        let is_ready = |other: &mut Source| {
            current.end.takes_over_from(&other.end) && matches!(other.end.poll(extent), Ok(Poll::Ready))
        };
        if let Some(predecessor) = before.iter_mut().position(is_ready) {
            self.current = predecessor;
        }
    }

    /// The last streams before the current one had nothing while this one is busy: it may be long before they are polled as
    /// often as it takes to be found idle, and their publishers may be waiting.
    #[inline]
    fn age_before(&mut self, passed: usize, was_full_turn: bool) {
        for back in 1..=passed {
            let count = self.sources.len();
            let source = &mut self.sources[(self.current + count - back) % count];
            source.end.age(was_full_turn);
        }
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
        let Source { about: About { publisher, .. }, end, .. } = self.sources.remove(self.current);
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
        self.sources.iter().any(|source| source.about.publisher.id == from)
    }

    /// What comes from this hub: its messages, and its failures if it has any.
    pub(super) fn types_from(&self, from: EndpointId) -> Option<(&TypeDescriptor, Option<&TypeDescriptor>)> {
        let source = self.sources.iter().find(|source| source.about.publisher.id == from)?;
        Some((&source.about.descriptor, source.about.header.as_ref()))
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
        if let Some(source) = self.sources.iter().find(|source| source.about.publisher.id == to) {
            source.end.put_note(index, value);
        }
    }

    /// What was found last is nothing that a correct peer sends: its stream is dropped, and its connection with it.
    #[cold]
    pub(super) fn accuse(&mut self, reason: &str) {
        if self.current < self.sources.len() {
            let publisher = self.sources.remove(self.current).about.publisher.id;
            self.note_changes([publisher]);
            self.shared.node.shared().accuse(publisher.node(), &Violation(reason.to_owned()));
            self.tell_others();
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
    pub(super) about: &'a About,
    pub(super) shared: &'a SubscriberShared,
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
