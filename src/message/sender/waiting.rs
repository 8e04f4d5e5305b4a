//! How a publisher waits: for what comes free, for counterparts, for events, for the last message to be read.

use std::time::Duration;

use super::{LOOKS_PER_CLOCK, Sender};
use crate::message::error::{CloseError, SendError, WaitError};
use crate::message::event::Event;
use crate::node::{EndpointError, Receipt, Round};
use crate::os::clock::Deadline;
use crate::sync::bell::{Mode, Ticket};

/// Looks at the cursors before a publisher without room goes to sleep.
const LOOKS_BEFORE_SLEEP: u32 = 2_000;

impl Sender {
    /// Waits until something has come free, or may have: a while looking, then asleep. `false` if the deadline came first.
    pub(super) fn wait(&mut self, deadline: Deadline) -> Result<bool, SendError> {
        self.wait_for(deadline, Self::look)
    }

    /// As [`Sender::wait`], for what `has_come` looks for in the readers' words.
    fn wait_for(
        &mut self,
        deadline: Deadline,
        mut has_come: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, SendError> {
        for look in 0..LOOKS_BEFORE_SLEEP {
            if look % LOOKS_PER_CLOCK == 0 && deadline.has_passed() {
                break;
            }
            std::hint::spin_loop();
            if has_come(self) {
                return Ok(true);
            }
        }
        if self.shared.is_lane() {
            return self.wait_awake(deadline);
        }
        self.shared.tell_blocked();
        let ticket = self.arm();
        self.begin_wait();
        let has_news = has_come(self)
            || self.shared.is_closed()
            || self.shared.modes().must_detach()
            || self.announced.as_ref().is_some_and(Receipt::is_written);
        let waited = if has_news { Ok(()) } else { self.sleep(ticket, deadline) };
        self.end_wait();
        self.shared.sleeper.sleeper().disarm();
        waited.map_err(|source| SendError::Endpoint {
            channel: self.shared.channel.clone(),
            source,
            sent: 0,
        })?;
        self.shared.expel_violators();
        self.check_open()?;
        Ok(has_news || !deadline.has_passed() || has_come(self))
    }

    /// Whether everybody who is waited for has read everything. What is kept for joiners does not come free by that.
    fn is_drained(&mut self) -> bool {
        self.look();
        self.shared.waited_for(self.end.tail()).is_empty()
    }

    /// A lane's line is its endpoint's, which may have prepared a sleep there: it is left alone for the little while that the
    /// wait is.
    fn wait_awake(&mut self, deadline: Deadline) -> Result<bool, SendError> {
        loop {
            let round = self.shared.node.round();
            self.check_open()?;
            if self.look() || self.announced.as_ref().is_some_and(Receipt::is_written) {
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            if self.shared.node.has_thread() {
                std::thread::yield_now();
                continue;
            }
            let waited = self.shared.node.wait(round, deadline.instant());
            let channel = || self.shared.channel.clone();
            waited.map_err(|source| SendError::Endpoint { channel: channel(), source, sent: 0 })?;
        }
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

    /// Waits until `is_over` says something, or the deadline comes, or the endpoint is closed.
    fn wait_until<R>(
        &mut self,
        deadline: Deadline,
        mut is_over: impl FnMut(&mut Self) -> Option<R>,
    ) -> Result<Option<R>, WaitError> {
        if self.process.is_parent() {
            let channel = self.shared.channel.clone();
            return Err(WaitError::Endpoint { channel, source: EndpointError::Forked });
        }
        loop {
            let ticket = self.arm();
            let outcome = is_over(self);
            let is_closed = self.shared.is_closed();
            let ends = outcome.is_some() || is_closed || deadline.has_passed();
            let waited = if ends { Ok(()) } else { self.sleep(ticket, deadline) };
            self.shared.sleeper.sleeper().disarm();
            let channel = || self.shared.channel.clone();
            waited.map_err(|source| WaitError::Endpoint { channel: channel(), source })?;
            match outcome {
                None if is_closed => return Err(WaitError::Closed { channel: channel() }),
                None if !ends => {}
                outcome => return Ok(outcome),
            }
        }
    }

    pub(in crate::message) fn wait_for_readers(
        &mut self,
        wanted: usize,
        timeout: Duration,
    ) -> Result<(), WaitError> {
        let is_enough = |sender: &mut Self| (sender.readers() >= wanted).then_some(());
        if self.wait_until(Deadline::after(timeout), is_enough)?.is_some() {
            return Ok(());
        }
        let (channel, connected, refused) = (self.shared.channel.clone(), self.readers(), self.refusals());
        Err(WaitError::Timeout { channel, connected, wanted, waited: timeout, refused })
    }

    pub(in crate::message) fn wait_for_event(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Event>, WaitError> {
        self.wait_until(Deadline::after(timeout), |sender| sender.shared.events.take())
    }

    /// Waits until everybody who is waited for has read everything.
    pub(in crate::message) fn drain(&mut self, timeout: Duration) -> Result<(), CloseError> {
        let deadline = Deadline::after(timeout);
        if self.process.is_parent() {
            return Err(CloseError::Send(Box::new(self.unusable())));
        }
        self.wake_everybody();
        loop {
            self.detach_asked().map_err(|source| CloseError::Send(Box::new(source)))?;
            self.take_notice();
            self.look();
            self.shared.expel_violators();
            let unread = self.shared.waited_for(self.end.tail());
            if unread.is_empty() {
                return Ok(());
            }
            let channel = self.shared.channel.clone();
            if deadline.has_passed() {
                return Err(CloseError::Timeout { channel, unread, waited: timeout });
            }
            self.shared.set_blocked_on(Some(self.end.tail()));
            let waited = self.wait_for(deadline, Self::is_drained);
            self.shared.set_blocked_on(None);
            if let Err(source) = waited {
                return Err(CloseError::Send(Box::new(source)));
            }
        }
    }
}
