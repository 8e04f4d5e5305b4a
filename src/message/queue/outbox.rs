//! How a producer pushes, whatever its type: at once, through the backlog, or not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Pushed, QueueCounts};
use super::error::{DrainError, PushError, QueueError};
use super::lane::{Lane, Unfit};
use super::shared::ProducerShared;
use crate::message::error::WaitError;
use crate::message::event::Event;
use crate::message::overflow::Overflow;
use crate::message::sender::SenderOptions;
use crate::node::{Channel, EndpointError, Hub, Node, TypeDescriptor, is_offerable};
use crate::os::clock::Deadline;
use crate::os::fork::Process;
use crate::sync::bell::Mode;
use crate::sync::biased::{Biased, Owner};
use crate::sync::stream::{Buffer, PoolLimit};

/// Looks at the consumers before a producer without room goes to sleep.
const LOOKS_BEFORE_SLEEP: u32 = 1_000;
/// Looks after which the clock is asked whether the deadline has passed.
const LOOKS_PER_CLOCK: u32 = 64;
/// How long a push that does not wait gives a consumer that has asked for an item.
const NOTICE: Duration = Duration::from_millis(2);
/// Items of up to so many bytes stay in registers.
const COPIED_BYTES_MAX: usize = 64;
/// The longest descriptor that fits into a frame, for the error.
const DESCRIPTOR_BYTES_MAX: usize = 64 << 10;

/// A producer without its type.
pub(super) struct Outbox {
    owner: Owner<Core>,
    shared: Arc<ProducerShared>,
    /// Keeps the node open.
    node: Node,
    process: Process,
    overflow: Overflow,
    depth: usize,
    loan: Option<Room>,
}

/// Room for an item that is being written.
#[allow(clippy::large_enum_variant, reason = "a loan in a lane must not allocate")]
enum Room {
    /// In the lane of its consumer, which nobody else uses meanwhile.
    Lane(Lane),
    /// In memory of our own, with so many bytes.
    Own(Buffer, usize),
}

/// Whether a push waits for room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// As the policy says.
    Policy,
    /// Not at all.
    None,
    /// No longer than this, where the policy is to wait.
    Until(Duration),
}

/// Why a wait ended.
enum Ended {
    Closed,
    Endpoint(EndpointError),
}

impl Outbox {
    pub(super) fn open(
        node: &Node,
        channel: Channel,
        descriptor: TypeDescriptor,
        options: SenderOptions,
        (overflow, depth): (Overflow, usize),
    ) -> Result<Self, QueueError> {
        let unable = |source| QueueError::Endpoint { queue: channel.shared(), source };
        if !is_offerable([&descriptor]) {
            let (name, limit) = (channel.name().to_owned(), DESCRIPTOR_BYTES_MAX);
            return Err(unable(EndpointError::DescriptorTooLong { name, limit }));
        }
        let line = Arc::new(node.shared().line().map_err(unable)?);
        let shared =
            ProducerShared::new(node.shared(), channel.clone(), descriptor, (options, overflow), line);
        let (owner, core) = Biased::new(Core::new(overflow, depth));
        shared.set_core(core);
        let mut outbox = Self {
            owner,
            shared: Arc::clone(&shared),
            node: node.clone(),
            process: Process::current(),
            overflow,
            depth,
            loan: None,
        };
        outbox.owner.enter().rearm(&shared);
        node.shared().add_hub(&(shared as Arc<dyn Hub>), None).map_err(unable)?;
        let mut core = outbox.owner.enter();
        core.attend(&outbox.shared);
        core.rearm(&outbox.shared);
        drop(core);
        Ok(outbox)
    }

    /// Another producer of the same queue with the same options.
    pub(super) fn another(&self) -> Result<Self, QueueError> {
        let ProducerShared { channel, descriptor, options, .. } = &*self.shared;
        let policy = (self.overflow, self.depth);
        Self::open(&self.node, channel.clone(), descriptor.clone(), options.clone(), policy)
    }

    pub(super) fn shared(&self) -> &Arc<ProducerShared> {
        &self.shared
    }

    /// Pushes one item.
    #[inline(always)]
    pub(super) fn push(&mut self, bytes: &[u8], patience: Patience) -> Result<(), PushError> {
        if self.shared.is_plain() && !self.process.is_parent() && self.owner.enter().try_put(bytes) {
            return Ok(());
        }
        if bytes.len() > COPIED_BYTES_MAX {
            return self.push_slowly(bytes, patience);
        }
        // The slow way has a copy made for it, here. If it had the caller's own, that would have to be in memory before each push:
        // stores that the fast way, which reads it from registers, would have to wait for.
        let mut copy = [0; COPIED_BYTES_MAX];
        copy[..bytes.len()].copy_from_slice(bytes);
        self.push_slowly(&copy[..bytes.len()], patience)
    }

    #[cold]
    #[inline(never)]
    fn push_slowly(&mut self, bytes: &[u8], patience: Patience) -> Result<(), PushError> {
        self.check_open()?;
        self.check_length(bytes.len())?;
        if self.depth == 0 {
            return self.meet(bytes, patience);
        }
        let pushed = self.owner.enter().push(bytes, &self.shared);
        if pushed.map_err(|unfit| self.unfit(unfit, bytes.len()))? == Pushed::Done {
            return Ok(());
        }
        self.wait_for_room(patience)?;
        self.owner.enter().append(bytes, &self.shared);
        Ok(())
    }

    /// Waits until a consumer has taken the item, if it may; if it has to end before that, nobody gets the item.
    fn meet(&mut self, bytes: &[u8], patience: Patience) -> Result<(), PushError> {
        let deadline = match (patience, self.overflow) {
            (Patience::Policy, Overflow::Block) => Deadline::NEVER,
            (Patience::Until(timeout), Overflow::Block) => Deadline::after(timeout),
            _ => {
                let shared = Arc::clone(&self.shared);
                let mut core = self.owner.enter();
                core.attend(&shared);
                let is_wanted = core.is_wanted();
                core.rearm(&shared);
                drop(core);
                if !is_wanted {
                    return Err(self.full());
                }
                // Who asks at this moment is given the time to take it.
                Deadline::after(NOTICE)
            }
        };
        self.shared.set_blocked(true);
        let met = self.wait_until(deadline, |core, _| match core.offer(bytes) {
            Ok(is_taken) => is_taken.then_some(Ok(())),
            Err(unfit) => Some(Err(unfit)),
        });
        self.shared.set_blocked(false);
        let is_withdrawn = self.process.is_parent() || self.owner.enter().withdraw_offer();
        let queue = self.shared.channel.shared();
        match met {
            Ok(Some(Ok(()))) => Ok(()),
            _ if !is_withdrawn => Ok(()),
            Ok(Some(Err(unfit))) => Err(self.unfit(unfit, bytes.len())),
            Ok(None) if matches!(patience, Patience::None) || self.overflow != Overflow::Block => {
                Err(self.full())
            }
            Ok(None) => Err(PushError::Timeout { queue, consumers: self.shared.consumers(), pushed: 0 }),
            Err(Ended::Closed) => Err(PushError::Closed { queue, pushed: 0 }),
            Err(Ended::Endpoint(source)) => Err(PushError::Endpoint { queue, source, pushed: 0 }),
        }
    }

    /// Waits until the backlog has room, if it may.
    fn wait_for_room(&mut self, patience: Patience) -> Result<(), PushError> {
        let deadline = match patience {
            Patience::None => return Err(self.full()),
            _ if self.overflow != Overflow::Block => return Err(self.full()),
            Patience::Policy => Deadline::NEVER,
            Patience::Until(timeout) => Deadline::after(timeout),
        };
        let mut is_told = false;
        self.shared.set_blocked(true);
        let has_room = self.wait_until(deadline, |core, shared| {
            let has_room = core.has_room();
            if !has_room && !std::mem::replace(&mut is_told, true) {
                shared.events.push(Event::Blocked { by: shared.counterparts() });
            }
            has_room.then_some(())
        });
        self.shared.set_blocked(false);
        let queue = self.shared.channel.shared();
        match has_room {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(PushError::Timeout { queue, consumers: self.shared.consumers(), pushed: 0 }),
            Err(Ended::Closed) => Err(PushError::Closed { queue, pushed: 0 }),
            Err(Ended::Endpoint(source)) => Err(PushError::Endpoint { queue, source, pushed: 0 }),
        }
    }

    #[cold]
    fn full(&self) -> PushError {
        let (queue, consumers) = (self.shared.channel.shared(), self.shared.consumers());
        PushError::Full { queue, consumers, depth: self.depth, pushed: 0 }
    }

    #[cold]
    fn unfit(&self, unfit: Unfit, needed: usize) -> PushError {
        let queue = self.shared.channel.shared();
        match unfit {
            Unfit::TooLarge => {
                PushError::TooLarge { queue, needed, limit: self.shared.options.pool_limit.bytes() }
            }
            Unfit::Segment(source) => PushError::Segment { queue, source, pushed: 0 },
        }
    }

    fn check_open(&self) -> Result<(), PushError> {
        let queue = || self.shared.channel.shared();
        if self.process.is_parent() {
            return Err(PushError::Endpoint { queue: queue(), source: EndpointError::Forked, pushed: 0 });
        }
        if self.shared.is_closed() {
            return Err(PushError::Closed { queue: queue(), pushed: 0 });
        }
        Ok(())
    }

    /// An item that no lane may carry must not wait for one: those behind it would wait for ever.
    fn check_length(&self, length: usize) -> Result<(), PushError> {
        let SenderOptions { geometry, pool_limit, .. } = &self.shared.options;
        let is_too_long =
            matches!(pool_limit, PoolLimit::Chosen(limit) if length > *limit) && length > geometry.capacity();
        if is_too_long || length > isize::MAX as usize {
            return Err(self.unfit(Unfit::TooLarge, length));
        }
        Ok(())
    }

    /// Finds room for an item that is then written through [`Outbox::loan_mut`].
    pub(super) fn make_room(&mut self, length: usize) -> Result<(), PushError> {
        self.check_open()?;
        self.check_length(length)?;
        self.give_up();
        if self.depth == 0 {
            self.loan = Some(Room::Own(Buffer::for_bytes(length), length));
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let mut core = self.owner.enter();
        core.attend(&shared);
        let taken = core.take_out(length);
        let has_room = core.will_have_room();
        drop(core);
        if let Some(lane) = taken.map_err(|unfit| self.unfit(unfit, length))? {
            self.loan = Some(Room::Lane(lane));
            return Ok(());
        }
        if !has_room {
            self.wait_for_room(Patience::Policy)?;
        }
        self.loan = Some(Room::Own(Buffer::for_bytes(length), length));
        Ok(())
    }

    /// The room that was made.
    ///
    /// # Panics
    /// If there is none: an error in this library.
    pub(super) fn loan_mut(&mut self) -> &mut [u8] {
        match self.loan.as_mut().expect("a loan is looked at after it was made") {
            Room::Lane(lane) => lane.loan_mut(),
            Room::Own(buffer, length) => &mut buffer.bytes_mut()[..*length],
        }
    }

    /// Pushes what lies in the room that was made. It fails only where somebody has to take it first.
    pub(super) fn commit(&mut self) -> Result<(), PushError> {
        // A child that was forked meanwhile has a copy of the loan; the memory is its parent's.
        if self.process.is_parent() {
            return self.check_open();
        }
        let shared = Arc::clone(&self.shared);
        match self.loan.take() {
            Some(Room::Lane(mut lane)) => {
                lane.commit();
                self.owner.enter().put_in(lane, &shared);
            }
            Some(Room::Own(buffer, length)) if self.depth == 0 => {
                return self.meet(&buffer.bytes()[..length], Patience::Policy);
            }
            Some(Room::Own(buffer, length)) => {
                self.owner.enter().append(&buffer.bytes()[..length], &shared);
            }
            None => {}
        }
        Ok(())
    }

    /// A room that was made is not used.
    pub(super) fn give_up(&mut self) {
        if self.process.is_parent() {
            // Its lane is the parent's, and so is the lock that its end would take.
            return std::mem::forget(self.loan.take());
        }
        if let Some(Room::Lane(lane)) = self.loan.take() {
            let shared = Arc::clone(&self.shared);
            self.owner.enter().put_in(lane, &shared);
        }
    }

    /// Waits until `is_over` says something: a while looking, then asleep. `None` if the deadline came first.
    fn wait_until<R>(
        &mut self,
        deadline: Deadline,
        mut is_over: impl FnMut(&mut Core, &ProducerShared) -> Option<R>,
    ) -> Result<Option<R>, Ended> {
        if self.process.is_parent() {
            return Err(Ended::Endpoint(EndpointError::Forked));
        }
        let shared = Arc::clone(&self.shared);
        for look in 0..LOOKS_BEFORE_SLEEP {
            let mut core = self.owner.enter();
            core.attend(&shared);
            if let Some(outcome) = is_over(&mut core, &shared) {
                core.rearm(&shared);
                return Ok(Some(outcome));
            }
            drop(core);
            if look % LOOKS_PER_CLOCK == 0 && (deadline.has_passed() || shared.is_closed()) {
                break;
            }
            std::hint::spin_loop();
        }
        loop {
            let round = shared.node.round();
            let has_thread = shared.node.has_thread();
            let mut core = self.owner.enter();
            let (ticket, is_sure) =
                core.arm(if has_thread { Mode::Futex } else { Mode::Event }, true, &shared);
            core.is_waiting = true;
            let has_changed = core.attend(&shared);
            let outcome = is_over(&mut core, &shared);
            let ends = outcome.is_some() || shared.is_closed() || deadline.has_passed();
            let until = deadline.or_at(core.moves_at());
            drop(core);
            let mut slept = Ok(());
            if !ends && !has_changed && is_sure {
                if has_thread {
                    shared.line.wait(ticket, until);
                } else {
                    slept = shared.node.wait(round, until.instant());
                }
            }
            let mut core = self.owner.enter();
            core.is_waiting = false;
            if ends || slept.is_err() {
                core.attend(&shared);
                core.rearm(&shared);
            }
            drop(core);
            slept.map_err(Ended::Endpoint)?;
            match outcome {
                None if shared.is_closed() && ends => return Err(Ended::Closed),
                None if !ends => {}
                outcome => return Ok(outcome),
            }
        }
    }

    fn ended(&self, ended: Ended) -> WaitError {
        let channel = self.shared.channel.clone();
        match ended {
            Ended::Closed => WaitError::Closed { channel },
            Ended::Endpoint(source) => WaitError::Endpoint { channel, source },
        }
    }

    pub(super) fn wait_for_consumers(&mut self, wanted: usize, timeout: Duration) -> Result<(), WaitError> {
        let is_enough = |core: &mut Core, _: &ProducerShared| (core.consumers() >= wanted).then_some(());
        let waited = self.wait_until(Deadline::after(timeout), is_enough);
        if waited.map_err(|ended| self.ended(ended))?.is_some() {
            return Ok(());
        }
        let (channel, connected) = (self.shared.channel.clone(), self.shared.consumers());
        let refused = self.shared.refusals();
        Err(WaitError::Timeout { channel, connected, wanted, waited: timeout, refused })
    }

    pub(super) fn wait_for_event(&mut self, timeout: Duration) -> Result<Option<Event>, WaitError> {
        let take = |_: &mut Core, shared: &ProducerShared| shared.events.take();
        self.wait_until(Deadline::after(timeout), take).map_err(|ended| self.ended(ended))
    }

    /// What has become of the items so far.
    pub(super) fn counts(&mut self) -> QueueCounts {
        if self.process.is_parent() {
            return QueueCounts::default();
        }
        let shared = Arc::clone(&self.shared);
        let mut core = self.owner.enter();
        core.attend(&shared);
        core.rearm(&shared);
        core.counts()
    }

    /// Waits until every item has been acknowledged.
    pub(super) fn drain(&mut self, timeout: Duration) -> Result<(), DrainError> {
        let is_done =
            |core: &mut Core, _: &ProducerShared| (core.is_clear() && core.unsettled() == 0).then_some(());
        let drained = self.wait_until(Deadline::after(timeout), is_done);
        let drained = drained.map_err(|ended| DrainError::Wait(Box::new(self.ended(ended))))?;
        if drained.is_some() {
            return Ok(());
        }
        let counts = self.counts();
        Err(DrainError::Timeout {
            queue: self.shared.channel.shared(),
            unassigned: counts.backlog,
            unacknowledged: counts.unacknowledged,
            waited: timeout,
        })
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        if self.process.is_parent() {
            return std::mem::forget(self.loan.take());
        }
        self.give_up();
        self.shared.end();
        self.node.shared().remove_hub(self.shared.as_ref().id());
        let lanes = self.owner.enter().close(&self.shared);
        drop(lanes);
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(formatter)
    }
}
