//! How a subscriber receives, whatever its type: polling its streams in turn, and sleeping when all are empty.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::{ReceiveError, Refused, TopicError};
use super::inlet::{Source, SubscriberShared};
use crate::node::{EndpointError, Inlet, Name, Node, Round, TypeDescriptor, Violation};
use crate::os::clock::Deadline;
use crate::sync::bell::{Fencing, Mode, Ticket};
use crate::sync::stream::{self, Extent, Lent, Poll, StreamViolation};

/// Polls at full speed before a receiver that blocks slows down.
const EAGER_POLLS: u32 = 2_000;
/// Polls with a pause after each, before it goes to sleep.
const PATIENT_POLLS: u32 = 300;

/// A subscriber without its type.
pub(super) struct Receiver {
    sources: Vec<Source>,
    current: usize,
    shared: Arc<SubscriberShared>,
}

impl Receiver {
    pub(super) fn open(
        node: &Node,
        topic: Name,
        descriptor: TypeDescriptor,
        hold_limit: u32,
    ) -> Result<Self, TopicError> {
        let text = topic.shared();
        let limit = |error: crate::sync::bell::BellFull| TopicError::Limit {
            topic: text.clone(),
            reason: error.to_string(),
        };
        let line = node.shared().bell().line().map_err(limit)?;
        let shared = Arc::new(SubscriberShared::new(node.clone(), topic, descriptor, hold_limit, line));
        let receiver = Self { sources: Vec::new(), current: 0, shared: Arc::clone(&shared) };
        let introduced = node.shared().add_inlet(shared as Arc<dyn Inlet>);
        introduced.map_err(|source| TopicError::Endpoint { topic: text.clone(), source })?;
        receiver.check_refusals(text)?;
        Ok(receiver)
    }

    fn check_refusals(&self, topic: Arc<str>) -> Result<(), TopicError> {
        let Some(first) = self.shared.refusals().into_iter().next().map(Box::new) else { return Ok(()) };
        Err(match first.difference {
            Some(_) => TopicError::TypeMismatch { topic, refused: first },
            None => TopicError::Refused { topic, refused: first },
        })
    }

    /// Blocks until a message can be taken: `false` if the deadline, which is computed only if there is a wait,
    /// came first. Messages lent before are over.
    #[inline]
    pub(super) fn poll_until(
        &mut self,
        extent: Extent,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<bool, ReceiveError> {
        if self.poll(extent) { Ok(true) } else { self.wait(extent, deadline()) }
    }

    /// A batch from the stream that the last poll found ready.
    #[inline]
    pub(super) fn batch(&mut self) -> Option<stream::Batch<'_>> {
        self.sources.get_mut(self.current).map(|source| source.end.batch())
    }

    /// Takes the message that the last poll found.
    #[inline]
    pub(super) fn take(&mut self) -> Option<(Lent<'_>, &SubscriberShared)> {
        Some((self.sources.get_mut(self.current)?.end.take()?, &self.shared))
    }

    /// Whether a message is there; `current` is then its stream.
    #[inline]
    pub(super) fn poll(&mut self, extent: Extent) -> bool {
        if let [source] = &mut self.sources[..]
            && let Ok(Poll::Ready) = source.end.poll(extent)
        {
            self.current = 0;
            return true;
        }
        self.poll_all(extent)
    }

    /// Polls each stream once, from the one after the last that had a message.
    #[inline(never)]
    fn poll_all(&mut self, extent: Extent) -> bool {
        if self.shared.has_incoming() {
            self.sources.append(&mut self.shared.take_incoming());
        }
        let count = self.sources.len();
        for _ in 0..count {
            self.current = if self.current + 1 < self.sources.len() { self.current + 1 } else { 0 };
            let Some(source) = self.sources.get_mut(self.current) else { return false };
            match source.end.poll(extent) {
                Ok(Poll::Ready) => return true,
                Ok(Poll::Nothing) => {}
                Ok(Poll::End) => drop(self.sources.remove(self.current)),
                Err(violation) => self.expel(violation),
            }
        }
        false
    }

    /// A publisher broke the rules: its stream is dropped, and its connection with it.
    #[cold]
    fn expel(&mut self, violation: StreamViolation) {
        let peer = self.sources.remove(self.current).outlet.node;
        self.shared.node.shared().accuse(peer, &Violation(violation.to_string()));
    }

    /// Waits for a message: polling, then asleep. `false` if the deadline came first.
    #[cold]
    #[inline(never)]
    fn wait(&mut self, extent: Extent, deadline: Deadline) -> Result<bool, ReceiveError> {
        loop {
            for round in 0..EAGER_POLLS + PATIENT_POLLS {
                if self.poll(extent) {
                    return Ok(true);
                }
                if round >= EAGER_POLLS {
                    std::hint::spin_loop();
                }
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            let slept = self.sleep(deadline);
            slept.map_err(|source| ReceiveError::Endpoint { topic: self.shared.name.shared(), source })?;
        }
    }

    /// Sleeps until a publisher, or the control plane, has news; or until the deadline.
    fn sleep(&mut self, deadline: Deadline) -> Result<(), EndpointError> {
        // A publisher may be waiting for what we have read.
        self.sources.iter_mut().for_each(|source| source.end.release());
        let mode = if self.shared.node.shared().has_thread() { Mode::Futex } else { Mode::Event };
        let (ticket, round) = (self.shared.line.sleeper().arm(mode), self.shared.node.shared().round());
        self.sources.iter().for_each(|source| source.sleepers.set());
        // Dekker: our bits, fence, their messages against their messages, fence, our bits.
        let may_sleep = Fencing::of_this_process().of_sleeper();
        let until = if self.has_news() || !may_sleep { Deadline::after(Duration::ZERO) } else { deadline };
        let slept = self.wait_asleep(ticket, round, until);
        self.shared.line.sleeper().disarm();
        self.sources.iter().for_each(|source| source.sleepers.clear());
        slept
    }

    fn has_news(&self) -> bool {
        self.shared.has_incoming() || self.sources.iter().any(|source| source.end.has_news())
    }

    fn wait_asleep(&self, ticket: Ticket, round: Round, deadline: Deadline) -> Result<(), EndpointError> {
        if !self.shared.node.shared().has_thread() {
            return self.shared.node.shared().wait(round, deadline.instant());
        }
        if !deadline.has_passed() {
            self.shared.line.wait(ticket, deadline);
        }
        Ok(())
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

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.node.shared().remove_inlet(self.shared.id());
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Receiver");
        fields.field("topic", &self.shared.name).field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}
