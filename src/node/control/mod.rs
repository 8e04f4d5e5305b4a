//! The state of the control plane: who is connected, which endpoints there are, which of them are paired.
//!
//! Everything here happens under one lock, at once, without blocking: sockets are non-blocking, and what cannot be
//! sent waits in its connection. Endpoints are told of what concerns them under that lock, and never call back.

mod endpoints;
mod frames;
mod heirs;
mod inspection;
mod lanes;
mod orphans;
mod owed;
mod peers;
mod shortage;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io;

use super::connection::{Arrived, Connection};
use super::domain::{Channel, Domain, Membership, Name};
use super::endpoint::{Hub, Inlet, Outlet, Peer, Violation};
use super::identity::{EndpointId, NodeId};
use super::wire::{FRAME_BYTES_MAX, Frame, Hello, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use crate::os::epoll::{Epoll, Interest, Timer, Wake};
use crate::segment::SegmentError;
use crate::sync::bell::Bell;
use inspection::Inspection;
use orphans::Orphans;
use owed::Owed;

/// The token of the socket that accepts connections.
const LISTENER: u64 = 0;
/// The token of the eventfd that wakes whoever drives the control plane.
const WAKE: u64 = 1;
/// The token of the timer for silent peers.
const TIMER: u64 = 2;
/// The first token of a connection, which has two: its socket's, and its pidfd's.
const CONNECTIONS: u64 = 4;
/// Frames of one connection that are handled before the others get a turn.
const FRAMES_AT_ONCE: usize = 256;

/// What a node says of itself to every peer.
pub(super) struct Introduction {
    pub(super) name: Name,
    pub(super) pid: u32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) bell: Arc<Bell>,
}

/// An outlet of ours, and who reads from it.
struct OutletRecord {
    outlet: Arc<dyn Outlet>,
    /// Its owner has dropped it; it stays until its last reader has left, so that its bell lines are not reused.
    is_closed: bool,
    readers: HashSet<EndpointId>,
    lane: Option<LaneRecord>,
}

/// What is known of an outlet that is a lane.
#[derive(Clone, Copy)]
struct LaneRecord {
    /// The number of its hub, which may have gone: a lane that a silent peer still reads does not keep it.
    hub: u64,
    /// The inlet that it is for.
    inlet: EndpointId,
}

/// How far an inlet of ours has come with an outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pairing {
    Joining,
    Joined,
}

/// The state of the control plane.
pub(super) struct Control {
    own: Peer,
    introduction: Introduction,
    membership: Membership,
    epoll: Arc<Epoll>,
    wake: Wake,
    timer: Timer,
    connections: HashMap<u64, Connection>,
    by_node: HashMap<NodeId, u64>,
    next_connection: u64,
    /// When the listener is watched again: there were no descriptors left for callers.
    accepts_again: Option<Instant>,
    outlets: HashMap<u64, OutletRecord>,
    inlets: HashMap<u64, Arc<dyn Inlet>>,
    hubs: HashMap<u64, Arc<dyn Hub>>,
    /// What lanes that are over had sent, by the number of their hub.
    past_sent: HashMap<u64, u64>,
    /// Nodes that have looked for outlets where we have heirs.
    seekers: HashMap<Channel, HashSet<NodeId>>,
    /// Our inlets, by number, that have looked for heirs since an outlet of theirs ended.
    sought: HashSet<u64>,
    /// By outlet, then inlet; the inlets are ours.
    pairs: HashMap<(EndpointId, EndpointId), Pairing>,
    /// Endpoints of ours, by number, that a node has not answered yet.
    pending: HashSet<(u64, NodeId)>,
    owed: Owed,
    inspection: Option<Inspection>,
    /// By the number of the connection that is over.
    orphans: HashMap<u64, Orphans>,
    violations: u64,
    last_violation: Option<String>,
    buffer: Box<[u8; FRAME_BYTES_MAX]>,
}

impl Control {
    pub(super) fn new(
        own: Peer,
        introduction: Introduction,
        membership: Membership,
        epoll: Arc<Epoll>,
        wake: Wake,
    ) -> io::Result<Self> {
        let timer = Timer::new()?;
        epoll.add(membership.listener().descriptor()?, LISTENER, Interest::Read)?;
        epoll.add(wake.descriptor().as_fd(), WAKE, Interest::Read)?;
        epoll.add(timer.as_fd(), TIMER, Interest::Read)?;
        Ok(Self {
            own,
            introduction,
            membership,
            epoll,
            wake,
            timer,
            connections: HashMap::new(),
            by_node: HashMap::new(),
            next_connection: 0,
            accepts_again: None,
            outlets: HashMap::new(),
            inlets: HashMap::new(),
            hubs: HashMap::new(),
            past_sent: HashMap::new(),
            seekers: HashMap::new(),
            sought: HashSet::new(),
            pairs: HashMap::new(),
            pending: HashSet::new(),
            owed: Owed::default(),
            inspection: None,
            orphans: HashMap::new(),
            violations: 0,
            last_violation: None,
            buffer: Box::new([0; FRAME_BYTES_MAX]),
        })
    }

    /// Handles what `epoll` found ready.
    pub(super) fn handle(&mut self, tokens: &[u64]) {
        for &token in tokens {
            match token {
                LISTENER => self.accept_all(),
                WAKE => self.wake_up(),
                TIMER => {
                    self.timer.acknowledge();
                    self.accept_again();
                    self.let_go();
                }
                _ => self.handle_connection((token - CONNECTIONS) / 2, token % 2 == 1),
            }
        }
        self.drop_silent();
        self.set_timer();
    }

    /// Somebody rang the node as a whole: an endpoint that sleeps on its eventfd, or on a descriptor that the ringer does
    /// not have yet, may have been meant.
    fn wake_up(&mut self) {
        self.wake.drain();
        self.inlets.values().for_each(|inlet| inlet.progressed());
        self.hubs.values().for_each(|hub| hub.progressed());
    }

    /// Wakes everybody who waits at an endpoint of ours.
    pub(super) fn wake_all(&self) {
        self.outlets.values().for_each(|record| record.outlet.progressed());
        self.inlets.values().for_each(|inlet| inlet.progressed());
        self.hubs.values().for_each(|hub| hub.progressed());
    }

    /// Sees to it that so many bell lines can be had, telling peers of the memory they are in before anything else.
    pub(super) fn ensure_lines(&mut self, count: usize) -> Result<(), SegmentError> {
        while !self.introduction.bell.has_lines(count) {
            let (index, memory) = self.introduction.bell.grow(&self.own.bell)?;
            let open: Vec<u64> = self.by_node.values().copied().collect();
            for number in open {
                if self.connections.get(&number).is_some_and(|connection| connection.peer().is_some()) {
                    self.send(number, &Frame::Bell { index, memory: Arc::clone(&memory) });
                }
            }
        }
        Ok(())
    }

    /// Has the timer fire when the next peer will have been silent for too long, or callers may be accepted again.
    fn set_timer(&mut self) {
        let deadlines = self.connections.values().filter_map(Connection::deadline);
        // A timer that cannot be set leaves a silent peer connected, which harms nobody else.
        let _ = self.timer.set(deadlines.chain(self.accepts_again).chain(self.next_orphans()).min());
    }

    fn handle_connection(&mut self, number: u64, has_died: bool) {
        self.serve(number);
        if has_died && self.connections.contains_key(&number) {
            self.lose(number);
        } else if has_died {
            self.bury(number);
        }
    }

    /// Handles the frames that have arrived on a connection.
    fn serve(&mut self, number: u64) {
        for _ in 0..FRAMES_AT_ONCE {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let handled = match connection.receive(&mut self.buffer, self.wake.descriptor()) {
                Ok(Arrived::Frame(frame)) => self.handle_frame(number, *frame),
                Ok(Arrived::Bereft(frame)) => self.handle_bereft(number, *frame),
                Ok(Arrived::Nothing) => break,
                Ok(Arrived::HungUp) => return self.lose(number),
                Err(violation) => Err(violation),
            };
            if let Err(violation) = handled {
                return self.expel(number, &violation);
            }
        }
        self.flush(number);
    }

    /// Sends a frame, now or when the peer has room.
    fn send(&mut self, number: u64, frame: &Frame) {
        self.send_with_receipt(number, frame, None);
    }

    fn send_with_receipt(&mut self, number: u64, frame: &Frame, receipt: Option<Arc<()>>) {
        if let Some(connection) = self.connections.get_mut(&number) {
            let is_sendable = connection.put(frame, receipt);
            debug_assert!(is_sendable, "only descriptions can be too long, and those are checked before");
            self.flush(number);
        }
    }

    fn flush(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match connection.flush(&self.epoll, socket_token(number)) {
            Err(violation) => self.expel(number, &violation),
            Ok(sent) if sent.has_receipts => {
                self.outlets.values().for_each(|record| record.outlet.progressed());
            }
            Ok(_) => {}
        }
        self.set_timer();
    }

    /// Whether nothing waits to be sent any more.
    pub(super) fn is_drained(&self) -> bool {
        self.connections.values().filter(|connection| connection.peer().is_some()).all(Connection::is_drained)
    }

    /// Forgets everybody: what is left of other objects' shares in us is dropped.
    pub(super) fn clear(&mut self) {
        self.connections.clear();
        self.outlets.clear();
        self.inlets.clear();
        self.hubs.clear();
        self.orphans.clear();
    }

    pub(super) fn domain(&self) -> &Arc<Domain> {
        self.membership.domain()
    }

    /// How often peers broke the rules, and what the last of them did.
    pub(super) fn violations(&self) -> (u64, Option<String>) {
        (self.violations, self.last_violation.clone())
    }

    /// The nodes that are connected.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.connections.values().filter_map(Connection::peer)
    }

    /// Whether our endpoints and this peer's do not meet.
    pub(super) fn avoids(&self, peer: &Peer) -> bool {
        self.own.is_gateway && peer.is_gateway
    }

    fn hello(&self) -> Frame {
        Frame::Hello(Hello {
            version_min: PROTOCOL_VERSION_MIN,
            version: PROTOCOL_VERSION,
            node: self.own.node,
            name: self.introduction.name.as_str().to_owned(),
            pid: self.introduction.pid,
            is_gateway: self.own.is_gateway,
            pidfd: Arc::clone(&self.introduction.pidfd),
            bell: self.introduction.bell.memories().swap_remove(0),
            eventfd: Arc::clone(self.wake.descriptor()),
        })
    }

    fn drop_silent(&mut self) {
        let now = Instant::now();
        let is_late = |connection: &Connection| connection.deadline().is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| is_late(connection))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            self.expel(number, &Violation("it keeps silent".to_owned()));
        }
    }
}

fn socket_token(connection: u64) -> u64 {
    CONNECTIONS + 2 * connection
}

fn pidfd_token(connection: u64) -> u64 {
    socket_token(connection) + 1
}
