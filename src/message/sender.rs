//! How a publisher sends, whatever its type: room, publication, waking, and what a full ring means.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Refused, SendError, TopicError, WaitError};
use super::outlet::PublisherShared;
use super::overflow::Overflow;
use crate::node::{EndpointError, Name, Node, Offer, Outlet, Receipt, Round, Segment, TypeDescriptor};
use crate::os::clock::Deadline;
use crate::sync::bell::{Mode, Ticket};
use crate::sync::door::{Ordering, fence};
use crate::sync::geometry::Geometry;
use crate::sync::stream::{GrowError, Need, SendingEnd, Warmth};

/// Looks at the cursors before a publisher without room goes to sleep.
const LOOKS_BEFORE_SLEEP: u32 = 2_000;
/// Looks at the cursors before a publisher takes a cold chunk, if its subscribers are moving.
const LOOKS_FOR_WARMTH: u32 = 4_000;
/// Looks after which the clock is asked whether the deadline has passed.
const LOOKS_PER_CLOCK: u32 = 64;
/// Room for pinned sequence numbers that is set aside at creation.
const HELD_EXPECTED: usize = 1024;

/// What a publisher is made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderOptions {
    pub(super) geometry: Geometry,
    pub(super) overflow: Overflow,
    pub(super) pool_limit: usize,
}

/// A publisher without its type.
pub(super) struct Sender {
    end: SendingEnd,
    shared: Arc<PublisherShared>,
    /// Keeps the node open.
    _node: Node,
    options: SenderOptions,
    epoch: u64,
    /// A pool segment that not every subscriber has been told of yet.
    announced: Option<Receipt>,
    /// The subscribers did not move while we waited for a warm chunk, and have not since.
    is_stalled: bool,
}

impl Sender {
    pub(super) fn open(
        node: &Node,
        topic: Name,
        descriptor: TypeDescriptor,
        options: SenderOptions,
    ) -> Result<Self, TopicError> {
        let text = topic.shared();
        let failed = |source| TopicError::Segment { topic: text.clone(), source };
        let limit = |error: crate::sync::bell::BellFull| TopicError::Limit {
            topic: text.clone(),
            reason: error.to_string(),
        };
        let (end, created) = SendingEnd::create(options.geometry, HELD_EXPECTED).map_err(failed)?;
        let bell = node.shared().bell();
        let (sleeper, sleepers) = (bell.line().map_err(limit)?, bell.line().map_err(limit)?);
        sleepers.clear_sleepers();
        let offer = Offer {
            outlet: node.shared().next_endpoint(),
            name: topic,
            descriptor,
            overflow: options.overflow.code(),
            slots: options.geometry.slots() as u32,
            stride: options.geometry.stride() as u32,
            payload_offset: options.geometry.payload_offset() as u32,
            sleepers_line: sleepers.number(),
            sleeper_line: sleeper.number(),
            ring: created.memory,
        };
        let shared =
            PublisherShared::new(Arc::clone(node.shared()), offer, sleeper, sleepers, end.shared_tail());
        let sender = Self {
            end,
            shared: Arc::new(shared),
            _node: node.clone(),
            options,
            epoch: 0,
            announced: None,
            is_stalled: false,
        };
        let introduced = node.shared().add_outlet(Arc::clone(&sender.shared) as Arc<dyn Outlet>);
        introduced.map_err(|source| TopicError::Endpoint { topic: text.clone(), source })?;
        Ok(sender)
    }

    /// Sends one message, waiting without end if the policy says so.
    #[inline(always)]
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if self.end.try_send_inline(bytes) {
            self.wake_sleepers();
            return Ok(());
        }
        self.send_slowly(bytes)
    }

    #[inline(never)]
    fn send_slowly(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.send_until(bytes, || Deadline::NEVER)
    }

    /// Sends one message, waiting no longer than a deadline that is computed when there is no room.
    pub(super) fn send_until(
        &mut self,
        bytes: &[u8],
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<(), SendError> {
        if self.end.prepare(bytes.len(), Warmth::Warm).is_err() {
            self.wait_for_room(bytes.len(), deadline())?;
        }
        self.end.loan_mut().copy_from_slice(bytes);
        self.commit();
        Ok(())
    }

    /// Many messages in a row.
    pub(super) fn burst(&mut self) -> Burst<'_> {
        Burst(self)
    }

    /// Publishes one message of many: sleepers are woken later.
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if self.end.try_send_inline(bytes) {
            return Ok(());
        }
        self.put_slowly(bytes)
    }

    #[inline(never)]
    fn put_slowly(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.make_room(bytes.len())?;
        self.end.loan_mut().copy_from_slice(bytes);
        self.end.commit();
        Ok(())
    }

    /// Finds room for a message that is then written through [`Sender::loan_mut`].
    #[inline]
    pub(super) fn make_room(&mut self, length: usize) -> Result<(), SendError> {
        match self.end.prepare(length, Warmth::Warm) {
            Ok(()) => Ok(()),
            Err(_) => self.wait_for_room(length, Deadline::NEVER),
        }
    }

    /// The room that was made.
    #[inline]
    pub(super) fn loan_mut(&mut self) -> &mut [u8] {
        self.end.loan_mut()
    }

    /// Publishes the room that was made.
    #[inline]
    pub(super) fn commit(&mut self) {
        self.end.commit();
        self.wake_sleepers();
    }

    /// Wakes who sleeps. Dekker: our messages, fence, their bits against their bits, fence, our messages.
    #[inline]
    pub(super) fn wake_sleepers(&mut self) {
        self.shared.fencing().of_sender();
        if self.shared.has_sleepers() {
            self.ring();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring(&self) {
        self.shared.wake_sleepers();
    }

    /// Looks at what the subscribers have released; whether anything has come free.
    fn look(&mut self) -> bool {
        let has_come_free = self.end.look(&mut self.shared.state().readers);
        self.is_stalled &= !has_come_free;
        has_come_free
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, length: usize, deadline: Deadline) -> Result<(), SendError> {
        self.look();
        self.shared.expel_violators();
        let warmth = self.wait_for_warmth(length, deadline);
        if self.end.prepare(length, warmth).is_ok() {
            return Ok(());
        }
        // Whoever is to make room must know of everything that has been published.
        self.wake_sleepers();
        loop {
            let has_come_free = self.look();
            match self.end.prepare(length, Warmth::Any) {
                Ok(()) => return Ok(()),
                Err(Need::Chunk(_)) if self.grow(length)? => continue,
                Err(_) if has_come_free => continue,
                Err(_) => {}
            }
            match self.options.overflow {
                Overflow::Fail => return Err(self.full(length)),
                Overflow::Block => self.wait(deadline, length)?,
            }
        }
    }

    /// Whether a cold chunk will do: after a while of looking for a warm one, or at once if nobody reads.
    fn wait_for_warmth(&mut self, length: usize, deadline: Deadline) -> Warmth {
        if self.end.is_window_short(length) {
            return Warmth::Any;
        }
        let may_wait = self.options.overflow == Overflow::Block && !self.is_stalled && self.readers() > 0;
        for look in 0..if may_wait { LOOKS_FOR_WARMTH } else { 0 } {
            if look % LOOKS_PER_CLOCK == 0 && deadline.has_passed() {
                break;
            }
            match self.end.prepare(length, Warmth::Warm) {
                Ok(()) => return Warmth::Warm,
                Err(Need::Slot) => return Warmth::Any,
                Err(Need::Chunk(_)) => {}
            }
            std::hint::spin_loop();
            self.look();
        }
        self.is_stalled = true;
        Warmth::Any
    }

    /// Adds a segment for messages of this length, if the limit allows; whether there is one now.
    fn grow(&mut self, length: usize) -> Result<bool, SendError> {
        if let Some(receipt) = &self.announced {
            let is_written = receipt.is_written();
            if is_written {
                self.announced = None;
                self.end.activate();
            }
            return Ok(is_written);
        }
        let topic = || self.shared.name.shared();
        let created = self.end.grow(length, self.options.pool_limit).map_err(|error| match error {
            GrowError::TooLarge => SendError::TooLarge { topic: topic(), needed: length },
            GrowError::Segment(source) => SendError::Segment { topic: topic(), source, sent: 0 },
        })?;
        let Some(created) = created else { return Ok(false) };
        let segment = Segment {
            outlet: self.shared.id(),
            index: created.index,
            chunks: created.chunks,
            chunk_bytes: created.chunk_bytes as u64,
            memory: created.created.memory,
        };
        self.shared.add_segment(segment.clone());
        self.announced = Some(self.shared.node.announce(&segment));
        self.grow(length)
    }

    fn full(&self, length: usize) -> SendError {
        SendError::Full {
            topic: self.shared.name.shared(),
            needed: length,
            slots: self.options.geometry.slots(),
            allocated: self.end.allocated_bytes(),
            limit: self.options.pool_limit,
            sent: 0,
        }
    }

    /// Waits until something has come free, or may have: a while looking, then asleep.
    fn wait(&mut self, deadline: Deadline, needed: usize) -> Result<(), SendError> {
        for look in 0..LOOKS_BEFORE_SLEEP {
            if look % LOOKS_PER_CLOCK == 0 && deadline.has_passed() {
                break;
            }
            std::hint::spin_loop();
            if self.look() {
                return Ok(());
            }
        }
        self.epoch += 1;
        let ticket = self.arm();
        self.end.mark_blocked(self.epoch);
        // Dekker: our mark, fence, their cursors and pins against those, fence, our mark.
        fence(Ordering::SeqCst);
        let has_news = self.look() || self.announced.as_ref().is_some_and(Receipt::is_written);
        let waited = if has_news { Ok(()) } else { self.sleep(ticket, deadline) };
        self.end.mark_blocked(0);
        self.shared.sleeper.sleeper().disarm();
        waited.map_err(|source| SendError::Endpoint { topic: self.shared.name.shared(), source, sent: 0 })?;
        self.shared.expel_violators();
        if !has_news && deadline.has_passed() && !self.look() {
            return Err(SendError::Timeout { topic: self.shared.name.shared(), needed, sent: 0 });
        }
        Ok(())
    }

    fn arm(&self) -> (Ticket, Round) {
        let mode = if self.shared.node.has_thread() { Mode::Futex } else { Mode::Event };
        (self.shared.sleeper.sleeper().arm(mode), self.shared.node.round())
    }

    fn sleep(&self, (ticket, round): (Ticket, Round), deadline: Deadline) -> Result<(), EndpointError> {
        if self.shared.node.has_thread() {
            self.shared.sleeper.wait(ticket, deadline);
            return Ok(());
        }
        self.shared.node.wait(round, deadline.instant())
    }

    pub(super) fn wait_for_readers(&mut self, wanted: usize, timeout: Duration) -> Result<(), WaitError> {
        let deadline = Deadline::after(timeout);
        loop {
            let ticket = self.arm();
            let connected = self.readers();
            let is_over = connected >= wanted || deadline.has_passed();
            let waited = if is_over { Ok(()) } else { self.sleep(ticket, deadline) };
            self.shared.sleeper.sleeper().disarm();
            let topic = self.shared.name.shared();
            waited.map_err(|source| WaitError::Endpoint { topic: topic.clone(), source })?;
            if connected >= wanted {
                return Ok(());
            }
            if is_over {
                let refused = self.refusals();
                return Err(WaitError::Timeout { topic, connected, wanted, waited: timeout, refused });
            }
        }
    }

    pub(super) fn readers(&self) -> usize {
        self.shared.state().readers.reading()
    }

    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.shared.refusals()
    }
}

/// Messages that are published one by one, and sleepers that are woken once, at the end, whatever ends it.
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
        self.0.wake_sleepers();
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
        fields.field("topic", &self.shared.name).field("tail", &self.end.tail());
        fields.field("options", &self.options).finish_non_exhaustive()
    }
}
