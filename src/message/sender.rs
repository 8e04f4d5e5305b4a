//! How a publisher sends, whatever its type: room, publication, waking, and what a full ring means.

mod room;
mod waiting;

use std::fmt;
use std::sync::Arc;

use super::carriage::Carriage;
use super::error::{Refused, SendError, TopicError};
use super::outlet::PublisherShared;
use super::overflow::Overflow;
use super::prefix::{HEAD_BYTES, Prefix, Said};
use crate::node::{
    Channel, EndpointError, Form, Lane, Node, NodeShared, Offer, Outlet, Receipt, TypeDescriptor,
};
use crate::os::clock::Deadline;
use crate::os::fork::Process;
use crate::segment::SegmentError;
use crate::sync::bell::Line;
use crate::sync::door::{Ordering, fence};
use crate::sync::geometry::Geometry;
use crate::sync::pool::class_of;
use crate::sync::store_line::StoreWord;
use crate::sync::stream::{Marking, PoolLimit, Retention, SendingEnd, Warmth};

/// Looks after which the clock is asked whether the deadline has passed.
const LOOKS_PER_CLOCK: u32 = 64;
/// Room for pinned sequence numbers that is set aside at creation.
const HELD_EXPECTED: usize = 1024;
/// The same for a lane.
const HELD_BY_ONE: usize = 64;

/// What a publisher is made with.
#[derive(Clone, Debug)]
pub(super) struct SenderOptions {
    pub(super) geometry: Geometry,
    pub(super) overflow: Overflow,
    pub(super) pool_limit: PoolLimit,
    pub(super) history: usize,
    pub(super) prefix: Prefix,
    pub(super) is_stamped: bool,
    pub(super) is_relayed: bool,
    pub(super) header: Option<TypeDescriptor>,
    /// What is added to sequence numbers where they count on from an earlier sender's.
    pub(super) base: u64,
}

/// How a message with a word before it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// With the word.
    Headed,
    /// Without it.
    Bare,
    /// Not at all: there is no room now.
    NoRoom,
}

/// A publisher without its type.
pub(super) struct Sender {
    end: SendingEnd,
    shared: Arc<PublisherShared>,
    /// Keeps the node open.
    node: Node,
    process: Process,
    options: SenderOptions,
    epoch: u64,
    /// A pool segment that not every subscriber has been told of yet.
    announced: Option<Receipt>,
    /// The subscribers did not move while we waited for a warm chunk, and have not since.
    is_stalled: bool,
    /// Something has come free since there was no room for a message with a word before it.
    has_come_free: bool,
    /// Who carries what is sent, if anybody does.
    carriage: Carriage,
}

impl Sender {
    pub(super) fn open(
        node: &Node,
        channel: Channel,
        descriptor: TypeDescriptor,
        options: SenderOptions,
    ) -> Result<Self, TopicError> {
        let text = channel.shared();
        let failed = |source| TopicError::Segment { topic: text.clone(), source };
        let unable = |source| TopicError::Endpoint { topic: text.clone(), source };
        let lines = (Arc::new(node.shared().line().map_err(unable)?), node.shared().line().map_err(unable)?);
        let sender = Self::create(node, channel, descriptor, options, lines, None).map_err(failed)?;
        let introduced = node.shared().add_outlet(Arc::clone(&sender.shared) as Arc<dyn Outlet>);
        introduced.map_err(unable)?;
        Ok(sender)
    }

    /// A sender that has not been introduced: it sleeps on the first line, and its readers set their bits in the second.
    pub(super) fn create(
        node: &Node,
        channel: Channel,
        descriptor: TypeDescriptor,
        options: SenderOptions,
        (sleeper, sleepers): (Arc<Line>, Line),
        lane: Option<Lane>,
    ) -> Result<Self, SegmentError> {
        let lines = (sleeper, sleepers);
        let (end, shared) =
            assemble(node.shared(), channel, descriptor, &options, lines, (lane, StoreWord::alone()))?;
        Ok(Self {
            end,
            shared: Arc::new(shared),
            node: node.clone(),
            process: Process::current(),
            options,
            epoch: 0,
            announced: None,
            is_stalled: false,
            has_come_free: false,
            carriage: Carriage::default(),
        })
    }

    /// Another publisher of the same topic with the same options.
    pub(super) fn another(&self) -> Result<Self, TopicError> {
        let descriptor = self.shared.descriptor().clone();
        Self::open(&self.node, self.shared.channel.clone(), descriptor, self.options.clone())
    }

    pub(super) fn shared(&self) -> &Arc<PublisherShared> {
        &self.shared
    }

    pub(super) fn prefix(&self) -> Prefix {
        self.options.prefix
    }

    /// Publishes a short message, if nothing stands against that. Whole and lean, as it goes into each caller's loop: each
    /// store more than a message's own costs a stream some of its speed.
    #[inline(always)]
    fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.shared.modes().are_plain()
            && !self.process.is_parent()
            && self.end.try_send_inline(bytes, Marking::Needless)
    }

    /// Sends one message, waiting without end if the policy says so.
    #[inline(always)]
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if self.try_send(bytes) {
            self.wake_sleepers();
            return Ok(());
        }
        self.send_slowly(bytes)
    }

    #[inline(never)]
    fn send_slowly(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.put_slowly(bytes)?;
        self.wake_sleepers();
        Ok(())
    }

    /// Sends one message, in pieces, waiting no longer than a deadline that is computed when there is no room.
    pub(super) fn send_until(
        &mut self,
        said: Option<Said<'_>>,
        pieces: &[&[u8]],
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), SendError> {
        self.write(said, pieces, deadline)?;
        self.commit();
        Ok(())
    }

    fn write(
        &mut self,
        said: Option<Said<'_>>,
        pieces: &[&[u8]],
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), SendError> {
        let prefix = self.options.prefix;
        let bytes = length_of(pieces);
        self.make_room_until(bytes.saturating_add(prefix.bytes()), deadline)?;
        let place = self.end.loan_mut();
        if prefix.bytes() > 0 {
            prefix.write(said, place);
        }
        let mut rest = &mut place[prefix.bytes()..];
        for piece in pieces {
            let (place, behind) = rest.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            rest = behind;
        }
        Ok(())
    }

    /// Publishes a message with this word before it, unless there is no room now. The word is left out if the reader can do
    /// without it and the message is short.
    #[inline(always)]
    pub(super) fn send_headed(
        &mut self,
        head: u64,
        needs_head: bool,
        bytes: &[u8],
    ) -> Result<Sent, SendError> {
        if self.shared.modes().are_plain() && !self.process.is_parent() {
            let sent = if needs_head { Sent::Headed } else { Sent::Bare };
            let is_sent = match sent {
                Sent::Bare => self.end.try_send_bare(bytes),
                _ => self.options.prefix.bytes() == HEAD_BYTES && self.end.try_send_headed(head, bytes),
            };
            if is_sent {
                self.wake_sleepers();
                return Ok(sent);
            }
        }
        self.send_headed_slowly(head, bytes)
    }

    #[inline(never)]
    fn send_headed_slowly(&mut self, head: u64, bytes: &[u8]) -> Result<Sent, SendError> {
        if !self.make_headed_room(head, bytes.len())? {
            return Ok(Sent::NoRoom);
        }
        self.headed_loan_mut().copy_from_slice(bytes);
        self.commit();
        Ok(Sent::Headed)
    }

    /// Finds room for a message of `length` bytes with this word before it, if there is any now. Where the reader has gone, there
    /// is none; whoever the lane belongs to is about to hear of that.
    pub(super) fn make_headed_room(&mut self, head: u64, length: usize) -> Result<bool, SendError> {
        self.has_come_free = false;
        if self.shared.is_over() && !self.process.is_parent() {
            return Ok(false);
        }
        match self.make_room(length) {
            Ok(()) => {
                self.set_head(head);
                Ok(true)
            }
            Err(SendError::Full { .. }) if !self.is_hopeless(length) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes another word before the message that there is room for.
    pub(super) fn set_head(&mut self, head: u64) {
        self.end.loan_mut()[..HEAD_BYTES].copy_from_slice(&head.to_ne_bytes());
    }

    /// The room that was made, after what comes before a message.
    pub(super) fn headed_loan_mut(&mut self) -> &mut [u8] {
        &mut self.end.loan_mut()[self.options.prefix.bytes()..]
    }

    /// As [`Sender::headed_loan_mut`], to read what has been written.
    pub(super) fn headed_loan(&self) -> &[u8] {
        &self.end.loan()[self.options.prefix.bytes()..]
    }

    /// The sequence number of the next message: how many have been sent.
    #[inline(always)]
    pub(super) fn tail(&self) -> u64 {
        self.end.tail()
    }

    /// That a message of `length` bytes is not beyond every limit, room or not.
    pub(super) fn check_fits(&self, length: usize) -> Result<(), SendError> {
        if self.never_fits(length) {
            return Err(self.full(length));
        }
        match class_of(length.saturating_add(self.options.prefix.bytes())) {
            Some(_) => Ok(()),
            None => Err(SendError::TooLarge { channel: self.shared.channel.clone(), needed: length }),
        }
    }

    /// Whether a message of `length` bytes is beyond what the pool may grow to.
    fn never_fits(&self, length: usize) -> bool {
        let length = length.saturating_add(self.options.prefix.bytes());
        matches!(self.options.pool_limit, PoolLimit::Chosen(limit) if length > limit)
            && length > self.options.geometry.capacity()
    }

    /// Whether nothing that the reader does makes room for a message of `length` bytes: it is beyond the pool's limit, or other
    /// chunks, which are all too short, have used that up.
    fn is_hopeless(&self, length: usize) -> bool {
        let framed = length.saturating_add(self.options.prefix.bytes());
        let has_no_chunk = || self.announced.is_none() && self.end.is_hopeless(framed);
        self.never_fits(length) || (has_no_chunk() && !self.end.may_grow(framed, self.options.pool_limit))
    }

    /// The sender is about to sleep for want of room, on its line that somebody has armed.
    pub(super) fn begin_wait(&mut self) {
        self.epoch += 1;
        self.end.mark_blocked(self.epoch);
        // Dekker: our mark, fence, their cursors and pins against those, fence, our mark.
        fence(Ordering::SeqCst);
    }

    /// It does not sleep any more.
    pub(super) fn end_wait(&mut self) {
        self.end.mark_blocked(0);
    }

    /// Whether anything has come free since there was no room.
    pub(super) fn has_come_free(&mut self) -> bool {
        self.has_come_free |= self.look() || self.announced.as_ref().is_some_and(Receipt::is_written);
        self.has_come_free
    }

    /// Takes out a reader whose cursor broke the rules.
    pub(super) fn expel_violators(&self) {
        self.shared.expel_violators();
    }

    /// Many messages in a row.
    pub(super) fn burst(&mut self) -> Burst<'_> {
        Burst(self)
    }

    /// Publishes one message of many: sleepers are woken later.
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if self.try_send(bytes) { Ok(()) } else { self.put_slowly(bytes) }
    }

    #[inline(never)]
    fn put_slowly(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if self.shared.modes().only_mark()
            && !self.process.is_parent()
            && self.end.try_send_inline(bytes, Marking::Needed)
        {
            return Ok(());
        }
        self.write(None, &[bytes], || Deadline::NEVER)?;
        if self.shared.modes().are_carried() {
            self.commit_carried()
        } else {
            self.end.commit()
        }
        Ok(())
    }

    /// Finds room for a message, and what comes before it, that is then written through [`Sender::loan_mut`].
    #[inline]
    pub(super) fn make_room(&mut self, length: usize) -> Result<(), SendError> {
        self.make_room_until(length.saturating_add(self.options.prefix.bytes()), || Deadline::NEVER)
    }

    #[inline]
    fn make_room_until(
        &mut self,
        length: usize,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), SendError> {
        self.check_open()?;
        self.detach_asked()?;
        match self.end.prepare(length, Warmth::Warm, self.shared.modes().marking()) {
            Ok(()) => Ok(()),
            Err(_) => self.wait_for_room(length, deadline()),
        }
    }

    /// Lets go of the subscribers that somebody asked to be let go of: from the next message on, everybody else reads in
    /// another ring, and what those may be reading is not touched.
    #[inline]
    fn detach_asked(&mut self) -> Result<(), SendError> {
        if self.shared.modes().must_detach() { self.detach() } else { Ok(()) }
    }

    /// Whether the endpoint may still be used, here.
    #[inline]
    fn check_open(&self) -> Result<(), SendError> {
        if !self.process.is_parent() && !self.shared.is_closed() { Ok(()) } else { Err(self.unusable()) }
    }

    #[cold]
    fn unusable(&self) -> SendError {
        let channel = self.shared.channel.clone();
        if self.process.is_parent() {
            return SendError::Endpoint { channel, source: EndpointError::Forked, sent: 0 };
        }
        SendError::Closed { channel, sent: 0 }
    }

    /// The room that was made.
    #[inline]
    pub(super) fn loan_mut(&mut self) -> &mut [u8] {
        self.end.loan_mut()
    }

    /// Publishes the room that was made.
    #[inline]
    pub(super) fn commit(&mut self) {
        // A child that was forked while a message was being written has a copy of the loan; the memory is its parent's.
        if !self.process.is_parent() {
            if self.shared.modes().are_carried() {
                return self.commit_carried();
            }
            self.end.commit();
            self.wake_sleepers();
        }
    }

    /// As [`Sender::commit`], where somebody carries what is sent.
    #[cold]
    #[inline(never)]
    fn commit_carried(&mut self) {
        self.shared.find_carriers(&mut self.carriage);
        self.carriage.load(self.end.tail(), self.end.loan(), self.shared.slots());
        self.end.commit();
        self.wake_sleepers();
        self.carriage.carry();
    }

    /// Wakes who sleeps. Dekker: our messages, fence, their bits against their bits, fence, our messages.
    #[inline]
    pub(super) fn wake_sleepers(&mut self) {
        self.shared.modes().fencing().of_sender();
        if self.shared.has_sleepers() {
            self.ring();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring(&self) {
        self.shared.wake_sleepers(self.carriage.settled());
    }

    /// Wakes who sleeps, also for what has been carried.
    fn wake_everybody(&mut self) {
        self.carriage.wake_all();
        self.wake_sleepers();
    }

    pub(super) fn readers(&self) -> usize {
        self.shared.readers()
    }

    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.shared.refusals()
    }
}

/// How long a message in these pieces is.
pub(super) fn length_of(pieces: &[&[u8]]) -> usize {
    pieces.iter().fold(0, |length, piece| length.saturating_add(piece.len()))
}

/// The end of a sender, and what it shares. Neither has been introduced. `tail` is where its thread counts what it has sent.
pub(super) fn assemble(
    node: &Arc<NodeShared>,
    channel: Channel,
    descriptor: TypeDescriptor,
    options: &SenderOptions,
    (sleeper, sleepers): (Arc<Line>, Line),
    (lane, tail): (Option<Lane>, StoreWord),
) -> Result<(SendingEnd, PublisherShared), SegmentError> {
    let retention = Retention { drops_oldest: options.overflow.drops(), history: options.history };
    let held = if lane.is_some() { HELD_BY_ONE } else { HELD_EXPECTED };
    let (end, created) = SendingEnd::create(options.geometry, retention, held, tail)?;
    let offer = Offer {
        outlet: node.next_endpoint(),
        channel,
        form: Form::Ring,
        lane,
        descriptor,
        overflow: options.overflow.code(),
        is_stamped: options.is_stamped,
        is_relayed: options.is_relayed,
        header: options.header.clone(),
        slots: options.geometry.slots() as u32,
        stride: options.geometry.stride() as u32,
        payload_offset: options.geometry.payload_offset() as u32,
        sleeper_line: sleeper.number(),
        generation: 0,
        base: options.base,
        ring: created.memory,
    };
    let shared = PublisherShared::new(
        Arc::clone(node),
        offer,
        (sleeper, sleepers),
        end.shared_tail(),
        retention,
        options.prefix.is_filled_in(),
    );
    Ok((end, shared))
}

/// Messages that are published one by one, and sleepers that are woken once, at the end, whatever ends it; where they are carried, with
/// each.
pub(super) struct Burst<'a>(&'a mut Sender);

impl Burst<'_> {
    /// Publishes one of them.
    #[inline(always)]
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.0.put(bytes)
    }
}

impl Drop for Burst<'_> {
    fn drop(&mut self) {
        if !self.0.process.is_parent() {
            self.0.wake_sleepers();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.node.remove_outlet(self.shared.id());
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Sender");
        fields.field("topic", &self.shared.channel).field("tail", &self.end.tail());
        fields.field("options", &self.options).finish_non_exhaustive()
    }
}
