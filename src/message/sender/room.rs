//! What a full ring means: who is waited for, who loses what, when the pool grows, and what is said if nothing helps.

use std::time::Duration;

use super::{LOOKS_PER_CLOCK, Sender};
use crate::message::error::SendError;
use crate::message::overflow::Overflow;
use crate::node::Receipt;
use crate::os::clock::Deadline;
use crate::sync::stream::{GrowError, Marking, Need, Warmth};

/// Looks at the cursors before a publisher takes a cold chunk, if its subscribers are moving.
const LOOKS_FOR_WARMTH: u32 = 4_000;
/// How long a publisher that does not wait for readers waits for them to take note of new memory.
const NOTICE: Duration = Duration::from_millis(2);

impl Sender {
    #[cold]
    pub(super) fn detach(&mut self) -> Result<(), SendError> {
        let detached = self.shared.take_detaching();
        if detached.is_empty() {
            return Ok(());
        }
        let channel = || self.shared.channel.clone();
        let created = self.end.move_on().map_err(|source| {
            for inlet in &detached {
                self.shared.detach(*inlet);
            }
            SendError::Segment { channel: channel(), source, sent: 0 }
        })?;
        // Nobody waits for this to arrive: who has not got the ring yet waits at the end of the one before.
        self.shared.move_on(created.memory, self.end.tail(), &detached);
        // Nor for those who have not got a segment yet: they may be the very ones that we have let go of.
        if self.announced.take().is_some() {
            self.end.activate();
        }
        self.wake_sleepers();
        self.look();
        Ok(())
    }

    /// Looks at what the subscribers have released; whether anything has come free.
    pub(super) fn look(&mut self) -> bool {
        let mut state = self.shared.state();
        let has_come_free = !self.shared.is_over() && self.end.look(&mut state.readers);
        drop(state);
        self.is_stalled &= !has_come_free;
        has_come_free
    }

    /// Drops the oldest messages that nobody is waited for to read, to make room for one of `length` bytes; whether there
    /// were any.
    fn drop_oldest(&mut self, length: usize) -> bool {
        let mut state = self.shared.state();
        if self.shared.is_over() {
            return false;
        }
        let has_dropped = self.end.drop_oldest(&mut state.readers, length);
        state.floor = self.end.floor();
        has_dropped
    }

    #[cold]
    #[inline(never)]
    pub(super) fn wait_for_room(&mut self, length: usize, deadline: Deadline) -> Result<(), SendError> {
        if self.never_fits(length - self.options.prefix.bytes()) {
            return Err(self.full(length));
        }
        self.look();
        self.shared.expel_violators();
        let marking = self.shared.modes().marking();
        let warmth = self.wait_for_warmth(length, deadline, marking);
        if self.end.prepare(length, warmth, marking).is_ok() {
            return Ok(());
        }
        // Whoever is to make room must know of everything that has been published.
        self.wake_everybody();
        loop {
            self.detach_asked()?;
            self.take_notice();
            let has_come_free = self.look();
            let marking = self.shared.modes().marking();
            match self.end.prepare(length, Warmth::Any, marking) {
                Ok(()) => return Ok(()),
                Err(Need::Chunk(_)) if self.grow(length)? => continue,
                Err(Need::Chunk(_)) if self.end.prepare(length, Warmth::AnySize, marking).is_ok() => {
                    return Ok(());
                }
                Err(Need::Chunk(_)) if self.drop_oldest(length) => continue,
                Err(_) if has_come_free => continue,
                Err(Need::Chunk(_)) if self.announced.is_none() && self.end.is_hopeless(length) => {
                    return Err(self.full(length));
                }
                Err(need) => self.wait_or_fail(deadline, length, need)?,
            }
        }
    }

    /// Waits for whoever keeps what is needed, if that is the policy.
    fn wait_or_fail(&mut self, deadline: Deadline, length: usize, need: Need) -> Result<(), SendError> {
        let may_wait = self.options.overflow == Overflow::Block;
        // A policy not to wait is about readers that are slow; that they take note of new memory is waited for a little.
        let deadline = match self.announced {
            _ if may_wait => deadline,
            Some(_) => Deadline::after(NOTICE),
            None => return Err(self.full(length)),
        };
        match need {
            Need::Slot => self.shared.set_blocked_on(Some(self.end.blocking_slot())),
            Need::Chunk(_) => self.shared.set_short_of_memory(self.end.tail()),
        }
        let waited = self.wait(deadline);
        self.shared.set_blocked_on(None);
        match waited {
            Ok(true) => Ok(()),
            Ok(false) if !may_wait => Err(self.full(length)),
            Ok(false) => {
                Err(SendError::Timeout { channel: self.shared.channel.clone(), needed: length, sent: 0 })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a cold chunk will do: after a while of looking for a warm one, or at once if nobody reads.
    fn wait_for_warmth(&mut self, length: usize, deadline: Deadline, marking: Marking) -> Warmth {
        if self.end.is_window_short(length) {
            return Warmth::Any;
        }
        // Where somebody may lose messages, its unread ones stay in the window, and waiting does not free them.
        let may_wait =
            self.options.overflow == Overflow::Block && !self.is_stalled && self.shared.waits_for_all();
        for look in 0..if may_wait { LOOKS_FOR_WARMTH } else { 0 } {
            if look % LOOKS_PER_CLOCK == 0 && deadline.has_passed() {
                break;
            }
            match self.end.prepare(length, Warmth::Warm, marking) {
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

    /// A segment that everybody knows of by now is used, whatever it was made for.
    pub(super) fn take_notice(&mut self) {
        if self.announced.as_ref().is_some_and(Receipt::is_written) {
            self.announced = None;
            self.end.activate();
        }
    }

    /// Adds a segment for messages of this length, if the limit allows; whether there is one now.
    fn grow(&mut self, length: usize) -> Result<bool, SendError> {
        if self.announced.is_some() {
            self.take_notice();
            return Ok(self.announced.is_none());
        }
        let channel = || self.shared.channel.clone();
        let created = self.end.grow(length, self.options.pool_limit).map_err(|error| match error {
            GrowError::TooLarge => SendError::TooLarge { channel: channel(), needed: length },
            GrowError::Segment(source) => SendError::Segment { channel: channel(), source, sent: 0 },
        })?;
        let Some(created) = created else { return Ok(false) };
        let segment = self.shared.segment_of(created);
        self.shared.add_segment(segment.clone());
        self.announced = Some(self.shared.node.announce(&segment, &self.shared.reliable()));
        self.grow(length)
    }

    #[cold]
    pub(super) fn full(&self, length: usize) -> SendError {
        SendError::Full {
            channel: self.shared.channel.clone(),
            needed: length,
            slots: self.options.geometry.slots(),
            allocated: self.end.allocated_bytes(),
            limit: self.options.pool_limit.bytes(),
            sent: 0,
        }
    }
}
