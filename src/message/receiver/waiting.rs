//! How a receiver waits: polling, then asleep on its futex, on a descriptor of its own, or as a future.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll as TaskPoll};
use std::time::{Duration, Instant};

use rustix::io;

use super::{Receiver, TURN_MESSAGES};
use crate::message::error::{ReceiveError, WaitError};
use crate::message::event::Event;
use crate::message::wait_set::Look;
use crate::node::{EndpointError, Node};
use crate::os::clock::Deadline;
use crate::sync::bell::{Fencing, Mode, Ticket};
use crate::sync::stream::Extent;

/// Polls at full speed before a receiver that blocks slows down.
pub(in crate::message) const EAGER_POLLS: u32 = 2_000;
/// Polls with a pause after each, before it goes to sleep.
pub(in crate::message) const PATIENT_POLLS: u32 = 300;
/// Polls after which it is looked whether something else has come that is waited for.
const POLLS_PER_LOOK: u32 = 16;
/// Polls of a task in a row that find news and no message.
pub(in crate::message) const TASK_POLLS: u32 = 3;

/// What else the owner of a receiver waits for while it waits for messages.
pub(in crate::message) trait Company {
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

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::message) enum Waited {
    /// A message is there.
    Message,
    /// What the company waits for has come, or a stream is over.
    Company,
    /// The deadline came first.
    Deadline,
}

impl Receiver {
    /// Waits for a message: polling, then asleep. `false` if the deadline came first.
    #[cold]
    #[inline(never)]
    pub(super) fn wait(&mut self, extent: Option<Extent>, deadline: Deadline) -> Result<bool, ReceiveError> {
        Ok(self.wait_with(extent, deadline, &mut Nobody)? == Waited::Message)
    }

    /// Waits for a message or whatever the company waits for: polling, then asleep.
    #[inline(never)]
    pub(in crate::message) fn wait_with(
        &mut self,
        extent: Option<Extent>,
        deadline: Deadline,
        company: &mut impl Company,
    ) -> Result<Waited, ReceiveError> {
        let usually = self.shared.node.shared().looks_before_sleep(EAGER_POLLS + PATIENT_POLLS);
        let polls = self.patience.polls(usually);
        let mut slept = Duration::ZERO;
        loop {
            for round in 0..polls {
                if self.poll_all(extent)? {
                    self.patience.learn(polls, slept);
                    return Ok(Waited::Message);
                }
                // A look at what else is waited for may take a lock.
                if self.has_changed() || (round % POLLS_PER_LOOK == 0 && company.is_over()) {
                    self.patience.learn(polls, slept);
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
                self.patience.learn_in_vain(slept);
                if self.prepare_descriptor(extent)? {
                    return Ok(Waited::Message);
                }
                // Looked at again: the descriptor may have been made readable for it before it was prepared.
                let has_come = company.is_over() || self.has_changed();
                return Ok(if has_come { Waited::Company } else { Waited::Deadline });
            }
            let start = Instant::now();
            self.sleep(deadline, company).map_err(|source| self.failed(source))?;
            slept += start.elapsed();
        }
    }

    /// Waits for what the company waits for, whatever messages come meanwhile; `false` if the deadline came first.
    pub(in crate::message) fn wait_beside(
        &mut self,
        deadline: Deadline,
        company: &mut impl Company,
    ) -> Result<bool, ReceiveError> {
        let node = Arc::clone(self.shared.node.shared());
        self.check_process()?;
        loop {
            for _ in 0..node.looks_before_sleep(EAGER_POLLS) {
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
        (ticket, self.fencing().of_sleeper())
    }

    /// Who fences for whom: whoever passes messages on does so for itself. What it passes on has come a long way, and its thread and
    /// its engine's are those that a barrier on every processor would hold up.
    fn fencing(&self) -> Fencing {
        let fence_themselves = self.sources.iter().all(|source| source.about.prefix.relayed_at().is_some());
        if fence_themselves { Fencing::Full } else { Fencing::of_this_process() }
    }

    pub(super) fn disarm(&mut self) {
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
    pub(in crate::message) fn descriptor(&self) -> Result<BorrowedFd<'_>, ReceiveError> {
        self.check_process()?;
        let action = || "make an eventfd".to_owned();
        let made = self.shared.watch_eventfd();
        made.map(|eventfd| eventfd.descriptor().as_fd())
            .map_err(|source| self.failed(EndpointError::System { action: action(), source }))
    }

    /// What a receiving call would find now. Neither takes nor copies anything, and makes no system call.
    #[inline]
    pub(in crate::message) fn look(&mut self, extent: Option<Extent>) -> Look {
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
    pub(in crate::message) fn own_eventfd(&self) -> io::Result<&Arc<OwnedFd>> {
        self.shared.make_eventfd().map(|eventfd| eventfd.descriptor())
    }

    pub(in crate::message) fn node(&self) -> &Node {
        &self.shared.node
    }

    /// After a look that found nothing: has the subscriber's own eventfd become readable with the next news. `false` if
    /// there may be some already.
    pub(in crate::message) fn prepare_eventfd(&mut self) -> bool {
        self.prepare_sleep(Mode::OwnEvent) && !self.has_news()
    }

    /// Whether what [`Receiver::prepare_eventfd`] prepared still stands, so that there is no news.
    #[inline]
    pub(in crate::message) fn is_prepared(&self) -> bool {
        let ticket = match self.armed {
            Some((ticket, Mode::OwnEvent)) => ticket,
            _ => return false,
        };
        !self.process.is_parent() && !self.shared.line.sleeper().is_rung(ticket)
    }

    /// After a poll that found nothing: has the descriptor, if there is one, become readable with the next message. If one
    /// has come meanwhile, it is there, and the answer is `true`.
    #[inline]
    pub(super) fn prepare_descriptor(&mut self, extent: Option<Extent>) -> Result<bool, ReceiveError> {
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
    pub(in crate::message) fn stay_awake(&mut self) {
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
    pub(in crate::message) fn poll_task(
        &mut self,
        extent: Option<Extent>,
        context: &mut Context<'_>,
    ) -> TaskPoll<Result<(), ReceiveError>> {
        self.poll_task_with(extent, context, &mut Nobody).map(|waited| waited.map(drop))
    }

    /// As [`Receiver::wait_with`], for a future; what the company has prepared is finished by the next poll.
    pub(in crate::message) fn poll_task_with(
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
    pub(in crate::message) fn wait_for_event(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Event>, WaitError> {
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
}
