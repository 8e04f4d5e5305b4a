//! What happens to an endpoint's connections, for programs that want to know.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Refused;
use crate::node::{EndpointId, Peer};

/// Events that wait to be asked for; the oldest go when there are more.
const EVENTS_MAX: usize = 1024;

/// An endpoint at the other end, of a topic or whatever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counterpart {
    /// The endpoint.
    pub id: EndpointId,
    /// The name of its node.
    pub node_name: Arc<str>,
    /// Its process, as it says itself. For people.
    pub pid: u32,
}

impl Counterpart {
    pub(super) fn new(id: EndpointId, peer: &Peer) -> Self {
        Self { id, node_name: Arc::clone(&peer.name), pid: peer.pid }
    }
}

impl fmt::Display for Counterpart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "node `{}` (process {})", self.node_name, self.pid)
    }
}

/// Something that happened to an endpoint's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An endpoint of the other kind is connected.
    Joined(Counterpart),
    /// It is connected no more: it left, or died, or broke the rules.
    Left(Counterpart),
    /// A publisher, or a producer, has let go of this endpoint. What it had sent until then is still received.
    Detached(Counterpart),
    /// It could not be connected.
    Refused(Refused),
    /// A subscriber lost messages of this publisher, which is reported from the first look at its events on; or a producer is gone
    /// that had given as many items to nobody.
    Gap {
        /// The publisher.
        publisher: EndpointId,
        /// Messages lost.
        lost: u64,
    },
    /// A publisher, or a producer, had to wait, for these subscribers or consumers.
    Blocked {
        /// Those who had not read, or held, what was in the way.
        by: Vec<Counterpart>,
    },
    /// So many events came before this one and nobody asked for them.
    Missed(u64),
}

/// The events of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Events {
    queue: Mutex<Queue>,
    /// Whether anybody has ever asked for one.
    are_wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    missed: u64,
    /// Whether there has been one since somebody asked.
    has_news: bool,
}

impl Events {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, event: Event) {
        let mut queue = self.queue();
        if queue.events.len() == EVENTS_MAX {
            queue.events.pop_front();
            queue.missed += 1;
        }
        queue.events.push_back(event);
        queue.has_news = true;
    }

    /// Messages of a publisher were lost. Gaps that follow each other become one.
    #[cold]
    pub(super) fn push_gap(&self, publisher: EndpointId, lost: u64) {
        if !self.are_wanted.load(Ordering::Relaxed) {
            return;
        }
        if let Some(Event::Gap { publisher: last, lost: sum }) = self.queue().events.back_mut()
            && *last == publisher
        {
            *sum += lost;
            return;
        }
        self.push(Event::Gap { publisher, lost });
    }

    /// The oldest event.
    pub(super) fn take(&self) -> Option<Event> {
        self.are_wanted.store(true, Ordering::Relaxed);
        let mut queue = self.queue();
        match std::mem::take(&mut queue.missed) {
            0 => queue.events.pop_front(),
            missed => Some(Event::Missed(missed)),
        }
    }

    /// Whether there has been an event since this was asked last.
    pub(super) fn are_news(&self) -> bool {
        std::mem::take(&mut self.queue().has_news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeId;

    fn gap(number: u64, lost: u64) -> Event {
        let publisher = EndpointId { node: NodeId::from_bits(1), number };
        Event::Gap { publisher, lost }
    }

    #[test]
    fn what_nobody_asks_for_is_counted() {
        let events = Events::default();
        (0..EVENTS_MAX as u64 + 5).for_each(|number| events.push(gap(number, 1)));
        assert_eq!(events.take(), Some(Event::Missed(5)));
        assert_eq!(events.take(), Some(gap(5, 1)));
    }

    #[test]
    fn gaps_are_told_to_those_who_look_and_put_together() {
        let events = Events::default();
        let Event::Gap { publisher, .. } = gap(1, 0) else { panic!("it is one") };
        events.push_gap(publisher, 3);
        assert_eq!(events.take(), None);
        events.push_gap(publisher, 3);
        events.push_gap(publisher, 4);
        assert_eq!((events.take(), events.take()), (Some(gap(1, 7)), None));
    }
}
