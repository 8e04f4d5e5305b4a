//! How a reader of boards waits: looking at them in turn, and sleeping when nothing on them is new – on its futex, on a
//! descriptor of its own, or as a future.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io;

use super::inlet::{BoardInlet, Sources, View};
use crate::message::error::{ReceiveError, WaitError};
use crate::message::event::Event;
use crate::message::receiver::{EAGER_POLLS, PATIENT_POLLS, TASK_POLLS};
use crate::message::wait_set::Look;
use crate::node::{Channel, EndpointError, Inlet, Node, TypeDescriptor};
use crate::os::clock::Deadline;
use crate::os::fork::Process;
use crate::sync::bell::{Fencing, Mode, Ticket};

/// What a pattern does with its boards at each look, and whether that ends the wait.
pub(in crate::message) trait Gather<V: View> {
    fn gather(&mut self, sources: &mut Sources<V>, inlet: &BoardInlet<V>) -> bool;
}

impl<V: View, G: FnMut(&mut Sources<V>, &BoardInlet<V>) -> bool> Gather<V> for G {
    #[inline]
    fn gather(&mut self, sources: &mut Sources<V>, inlet: &BoardInlet<V>) -> bool {
        self(sources, inlet)
    }
}

/// A reader of boards, whatever is on them.
pub(in crate::message) struct Watch<V: View> {
    sources: Sources<V>,
    /// A sleep on a descriptor, or as a future, that has been prepared and not been ended.
    armed: Option<(Ticket, Mode)>,
    process: Process,
    inlet: Arc<BoardInlet<V>>,
}

impl<V: View> Watch<V> {
    /// Introduces a reader. Returns once the writers that are there have let it in or turned it away, within half a second.
    pub(in crate::message) fn open(
        node: &Node,
        channel: Channel,
        descriptor: Option<TypeDescriptor>,
    ) -> Result<Self, EndpointError> {
        let line = Arc::new(node.shared().line()?);
        let inlet = Arc::new(BoardInlet::new(node, channel, descriptor, line));
        let process = Process::current();
        let watch = Self { sources: Sources::new(), armed: None, process, inlet };
        node.shared().add_inlet(Arc::clone(&watch.inlet) as Arc<dyn Inlet>)?;
        Ok(watch)
    }

    pub(in crate::message) fn inlet(&self) -> &Arc<BoardInlet<V>> {
        &self.inlet
    }

    pub(in crate::message) fn failed(&self, source: EndpointError) -> ReceiveError {
        ReceiveError::Endpoint { channel: self.inlet.channel().clone(), source }
    }

    fn closed(&self) -> ReceiveError {
        ReceiveError::Closed { channel: self.inlet.channel().clone() }
    }

    /// Looks once.
    #[inline]
    pub(in crate::message) fn poll(&mut self, look: &mut impl Gather<V>) -> Result<bool, EndpointError> {
        if self.process.is_parent() {
            return Err(EndpointError::Forked);
        }
        if self.inlet.has_incoming() {
            self.take_over();
        }
        let is_over = look.gather(&mut self.sources, &self.inlet);
        if is_over && self.armed.is_some() {
            self.disarm();
        }
        Ok(is_over)
    }

    #[cold]
    fn take_over(&mut self) {
        // A sleep that is prepared does not know of them.
        if self.armed.is_some() {
            self.disarm();
        }
        self.sources.take_over(&self.inlet);
    }

    /// Looks once. If the program waits on the descriptor, and nothing is there, that becomes readable with the next news.
    #[inline]
    pub(in crate::message) fn poll_once(&mut self, look: &mut impl Gather<V>) -> Result<bool, EndpointError> {
        if self.poll(look)? { Ok(true) } else { self.prepare_descriptor(look) }
    }

    /// Looks until there is something: polling, then asleep. `false` if the deadline, which is computed only if there is a
    /// wait, came first.
    #[inline]
    pub(in crate::message) fn poll_until(
        &mut self,
        look: &mut impl Gather<V>,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<bool, ReceiveError> {
        if self.poll(look).map_err(|source| self.failed(source))? {
            return Ok(true);
        }
        self.wait(look, deadline())
    }

    #[cold]
    #[inline(never)]
    fn wait(&mut self, look: &mut impl Gather<V>, deadline: Deadline) -> Result<bool, ReceiveError> {
        let polls = self.inlet.berth.node.shared().looks_before_sleep(EAGER_POLLS + PATIENT_POLLS);
        loop {
            for round in 0..polls {
                if self.poll(look).map_err(|source| self.failed(source))? {
                    return Ok(true);
                }
                if round >= EAGER_POLLS {
                    std::hint::spin_loop();
                }
            }
            if self.inlet.berth.is_closed() {
                return Err(self.closed());
            }
            if deadline.has_passed() {
                return self.prepare_descriptor(look).map_err(|source| self.failed(source));
            }
            self.sleep(deadline).map_err(|source| self.failed(source))?;
        }
    }

    fn sleep(&mut self, deadline: Deadline) -> Result<(), EndpointError> {
        let round = self.inlet.berth.node.shared().round();
        let (ticket, may_sleep) = self.arm(self.inlet.berth.mode());
        let until = if self.has_news() || !may_sleep { Deadline::after(Duration::ZERO) } else { deadline };
        let slept = self.inlet.berth.sleep(ticket, round, until);
        self.disarm();
        slept
    }

    /// Prepares a sleep: whoever has news after this wakes it. The caller then looks for news. `false` if it must not
    /// sleep, because barriers are not to be had any more.
    fn arm(&self, mode: Mode) -> (Ticket, bool) {
        let ticket = self.inlet.berth.line.sleeper().arm(mode);
        self.sources.set_bits();
        // Dekker: our bits, fence, their boards against their boards, fence, our bits.
        (ticket, Fencing::of_this_process().of_sleeper())
    }

    fn disarm(&mut self) {
        self.inlet.berth.set_armed(None);
        self.armed = None;
        self.inlet.berth.line.sleeper().disarm();
        self.sources.clear_bits();
    }

    fn has_news(&self) -> bool {
        self.inlet.has_incoming() || self.inlet.berth.is_closed() || self.sources.have_news()
    }

    /// A descriptor that is readable when there may be news, or events, to be asked for; at first it is.
    pub(in crate::message) fn descriptor(&self) -> Result<BorrowedFd<'_>, ReceiveError> {
        if self.process.is_parent() {
            return Err(self.failed(EndpointError::Forked));
        }
        let action = || "make an eventfd".to_owned();
        let made = self.inlet.berth.watch_eventfd();
        made.map(|eventfd| eventfd.descriptor().as_fd())
            .map_err(|source| self.failed(EndpointError::System { action: action(), source }))
    }

    /// The descriptor for whoever waits for several endpoints.
    pub(in crate::message) fn own_eventfd(&self) -> io::Result<&Arc<OwnedFd>> {
        self.inlet.berth.make_eventfd().map(|eventfd| eventfd.descriptor())
    }

    pub(in crate::message) fn node(&self) -> &Node {
        &self.inlet.berth.node
    }

    /// What a call that asks for news would find now. Makes no system call.
    pub(in crate::message) fn look(&mut self, look: &mut impl Gather<V>) -> Look {
        match self.poll(look) {
            Ok(true) | Err(_) => Look::Ready,
            Ok(false) if self.inlet.berth.is_closed() => Look::Closed,
            Ok(false) => Look::Nothing,
        }
    }

    /// After a look that found nothing: has that descriptor become readable with the next news. `false` if there may be some
    /// already.
    pub(in crate::message) fn prepare_eventfd(&mut self) -> bool {
        self.prepare_sleep(Mode::OwnEvent) && !self.has_news()
    }

    /// Whether what [`Watch::prepare_eventfd`] prepared still stands.
    pub(in crate::message) fn is_prepared(&self) -> bool {
        let ticket = match self.armed {
            Some((ticket, Mode::OwnEvent)) => ticket,
            _ => return false,
        };
        !self.process.is_parent() && !self.inlet.berth.line.sleeper().is_rung(ticket)
    }

    #[inline]
    fn prepare_descriptor(&mut self, look: &mut impl Gather<V>) -> Result<bool, EndpointError> {
        if self.inlet.berth.is_watched() { self.prepare_and_poll(look) } else { Ok(false) }
    }

    #[cold]
    fn prepare_and_poll(&mut self, look: &mut impl Gather<V>) -> Result<bool, EndpointError> {
        let mut is_quiet = false;
        for _ in 0..TASK_POLLS {
            is_quiet = self.prepare_eventfd();
            if is_quiet {
                break;
            }
            if self.poll(look)? {
                return Ok(true);
            }
        }
        if !is_quiet || self.inlet.events.are_news() {
            self.stay_awake();
        }
        Ok(false)
    }

    /// The descriptor is readable at once, and prepared anew after the next look.
    fn stay_awake(&mut self) {
        if let Some(eventfd) = self.inlet.berth.own_eventfd() {
            eventfd.signal();
            self.armed = None;
        }
    }

    /// Prepares a sleep that goes on beyond this call, unless one of this kind is prepared and has not been ended by
    /// anybody. `false` if there is none, and everything has to be looked at again.
    fn prepare_sleep(&mut self, mode: Mode) -> bool {
        // Each time: we may have signalled it ourselves, and who rang for news may do so after they have been taken.
        if let Some(eventfd) = self.inlet.berth.own_eventfd() {
            eventfd.drain();
        }
        if let Some((ticket, current)) = self.armed
            && current == mode
            && !self.inlet.berth.line.sleeper().is_rung(ticket)
        {
            return true;
        }
        let (ticket, is_sure) = self.arm(mode);
        self.armed = Some((ticket, mode));
        self.inlet.berth.set_armed(Some(ticket));
        // Who rings late, for news that have been taken, may have found the new generation, and our node no sleep yet to
        // end: nobody would ring again.
        let may_sleep = is_sure && !self.inlet.berth.line.sleeper().is_rung(ticket);
        if !may_sleep {
            self.disarm();
        }
        may_sleep
    }

    /// As [`Watch::poll_until`], for a future.
    pub(in crate::message) fn poll_task(
        &mut self,
        look: &mut impl Gather<V>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ReceiveError>> {
        for _ in 0..TASK_POLLS {
            match self.poll(look) {
                Ok(true) => return Poll::Ready(Ok(())),
                Err(source) => return Poll::Ready(Err(self.failed(source))),
                Ok(false) => {}
            }
            if self.inlet.berth.is_closed() {
                return Poll::Ready(Err(self.closed()));
            }
            self.inlet.berth.set_waker(context.waker());
            let is_sure = self.prepare_sleep(Mode::Event);
            if is_sure && !self.has_news() {
                return Poll::Pending;
            }
        }
        // What is there cannot be taken yet: others get their turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits for something to happen to the connections; `None` if nothing does in time.
    pub(in crate::message) fn wait_for_event(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Event>, WaitError> {
        let channel = self.inlet.channel().clone();
        if self.process.is_parent() {
            return Err(WaitError::Endpoint { channel, source: EndpointError::Forked });
        }
        let outcome = self.wait_for_event_until(Deadline::after(timeout));
        // Whatever was prepared for the descriptor is over.
        self.stay_awake();
        outcome
    }

    fn wait_for_event_until(&mut self, deadline: Deadline) -> Result<Option<Event>, WaitError> {
        let inlet = Arc::clone(&self.inlet);
        let channel = || inlet.channel().clone();
        if self.armed.is_some() {
            self.disarm();
        }
        loop {
            let round = inlet.berth.node.shared().round();
            let ticket = inlet.berth.line.sleeper().arm(inlet.berth.mode());
            if let Some(event) = inlet.events.take() {
                return Ok(Some(event));
            }
            if inlet.berth.is_closed() {
                return Err(WaitError::Closed { channel: channel() });
            }
            if deadline.has_passed() {
                return Ok(None);
            }
            let waited = inlet.berth.sleep(ticket, round, deadline);
            inlet.berth.line.sleeper().disarm();
            waited.map_err(|source| WaitError::Endpoint { channel: channel(), source })?;
        }
    }
}

impl<V: View> Drop for Watch<V> {
    fn drop(&mut self) {
        self.inlet.berth.node.shared().remove_inlet(self.inlet.id());
        // Whoever else knows of us may do so for longer than those who write are to.
        self.inlet.leave_all();
    }
}

impl<V: View> std::fmt::Debug for Watch<V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_struct("Watch");
        fields.field("channel", self.inlet.channel()).finish_non_exhaustive()
    }
}
