//! What the nodes of a domain are doing, for those who look: every endpoint, who it is paired with, and how they fare.
//!
//! The figures are read while everybody goes on, so those of one report are not of one instant.

use std::sync::Arc;

use super::descriptor::TypeDescriptor;
use super::domain::{Pattern, Role};
use super::identity::{EndpointId, NodeId};

/// A node of the domain, as [`Node::inspect`](super::Node::inspect) found it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeReport {
    /// The node.
    pub id: NodeId,
    /// The name that it gave itself.
    pub name: Arc<str>,
    /// Its process, in the PID namespace that it runs in. For people.
    pub pid: u32,
    /// Whether it answered in time; if not, it is stopped or busy, and its endpoints are not known.
    pub has_answered: bool,
    /// Its sending endpoints. Clients and servers are among these and among the receiving ones, under one identity.
    pub publishers: Vec<OutletReport>,
    /// Its receiving endpoints.
    pub subscribers: Vec<InletReport>,
}

/// What an endpoint does in its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointRole {
    /// It sends: a publisher, a producer, a writer, a notifier.
    Sender,
    /// It receives: a subscriber, a consumer, a reader, a waiter.
    Receiver,
    /// It is called.
    Server,
    /// It calls.
    Client,
    /// It passes on what the writer of a state or table has left; it belongs to one of the readers.
    Keeper,
}

impl EndpointRole {
    const ALL: [Self; 5] = [Self::Sender, Self::Receiver, Self::Server, Self::Client, Self::Keeper];

    /// The code that stands for it in frames.
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    /// The role with this code.
    pub(super) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl From<Role> for EndpointRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Outlet => Self::Sender,
            Role::Inlet => Self::Receiver,
            Role::Server => Self::Server,
            Role::Client => Self::Client,
        }
    }
}

/// A sending endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutletReport {
    /// The endpoint.
    pub id: EndpointId,
    /// The pattern that it is an endpoint of.
    pub pattern: Pattern,
    /// The name of its topic, service, queue and so on.
    pub name: String,
    /// What it does there.
    pub role: EndpointRole,
    /// What its messages are; `None` for a client that has found no server to tell it.
    pub message_type: Option<TypeDescriptor>,
    /// What it does when it is full.
    pub policy: &'static str,
    /// Messages that it has sent; items of a queue that were delivered again count each time.
    pub sent: u64,
    /// Items of a queue that no consumer has been given yet.
    pub waiting: u64,
    /// Whether it is waiting for room at this moment.
    pub is_blocked: bool,
    /// Messages that it keeps for those who join later, as it was told to.
    pub history: u32,
    /// Those who receive from it.
    pub readers: Vec<ReaderReport>,
}

/// A receiving endpoint, as the one that it receives from sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderReport {
    /// The subscriber.
    pub id: EndpointId,
    /// Whether the publisher waits for it.
    pub is_reliable: bool,
    /// Messages behind the newest, as far as it has said: it says so now and then while it is busy. For a queue's consumer,
    /// the items that it has and has not settled.
    pub lag: u64,
    /// Messages that it has lost.
    pub lost: u64,
    /// Whether the publisher is waiting for it at this moment.
    pub is_blocking: bool,
}

/// A receiving endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InletReport {
    /// The endpoint.
    pub id: EndpointId,
    /// The pattern that it is an endpoint of.
    pub pattern: Pattern,
    /// The name of its topic, service, queue and so on.
    pub name: String,
    /// What it does there.
    pub role: EndpointRole,
    /// What its messages are; `None` if it takes any.
    pub message_type: Option<TypeDescriptor>,
    /// Whether it chose to be waited for by nobody.
    pub is_observer: bool,
    /// Publishers that it is connected to.
    pub publishers: u64,
    /// Messages that it has received, as far as it has said.
    pub received: u64,
    /// Messages that it has lost.
    pub lost: u64,
}

/// One entry of a report on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReportItem {
    Outlet(OutletReport),
    /// A reader of the outlet before it.
    Reader(ReaderReport),
    Inlet(InletReport),
}

impl NodeReport {
    /// A node that has not answered yet.
    pub(super) fn silent(id: NodeId, name: &str, pid: u32) -> Self {
        let (publishers, subscribers) = (Vec::new(), Vec::new());
        Self { id, name: name.into(), pid, has_answered: false, publishers, subscribers }
    }

    /// Adds what has arrived.
    pub(super) fn add(&mut self, item: ReportItem) {
        match item {
            ReportItem::Outlet(outlet) => self.publishers.push(outlet),
            ReportItem::Inlet(inlet) => self.subscribers.push(inlet),
            ReportItem::Reader(reader) => {
                if let Some(outlet) = self.publishers.last_mut() {
                    outlet.readers.push(reader);
                }
            }
        }
    }
}

impl OutletReport {
    /// Adds what one lane of a hub has to say to what the hub has.
    pub(super) fn add_lane(&mut self, lane: Self) {
        self.message_type = self.message_type.take().or(lane.message_type);
        self.sent += lane.sent;
        self.is_blocked |= lane.is_blocked;
        self.readers.extend(lane.readers);
    }

    /// The report in entries, its readers after itself.
    pub(super) fn into_items(mut self) -> impl Iterator<Item = ReportItem> {
        let readers = std::mem::take(&mut self.readers);
        std::iter::once(ReportItem::Outlet(self)).chain(readers.into_iter().map(ReportItem::Reader))
    }
}
