//! One connection to a peer: what waits to be sent, how many descriptors are on their way, and until when.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::endpoint::{Peer, Violation};
use super::identity::NodeId;
use super::wire::{Encoded, FRAME_BYTES_MAX, Frame, WireError};
use crate::os::epoll::{Epoll, Interest};
use crate::os::socket::{Channel, FRAME_DESCRIPTORS_MAX, Received};

/// Frames that may wait for a peer; one that lets more come together is dropped. There is no limit in time: a peer may
/// be stopped for as long as somebody likes, and what its subscribers hold stays theirs meanwhile.
const WAITING_MAX: usize = 4096;
/// How long a peer may take to say who it is.
pub(super) const GREETING: Duration = Duration::from_secs(2);

/// How far a connection has come.
pub(super) enum Stage {
    /// We connected to this node and said who we are; it has not answered.
    Called(NodeId),
    /// Somebody connected to us and has not said who it is.
    Answered,
    /// Both know each other.
    Open(Peer),
}

/// A frame that waits to be sent.
struct Waiting {
    encoded: Encoded,
    /// Dropped when the frame is on its way: whoever holds the other part learns that.
    receipt: Option<Arc<()>>,
}

/// A connection.
pub(super) struct Connection {
    channel: Channel,
    pub(super) stage: Stage,
    /// Readable when the peer's process has ended.
    pub(super) pidfd: Option<Arc<OwnedFd>>,
    waiting: VecDeque<Waiting>,
    /// Frames for a peer that has not answered yet.
    held_back: Vec<Waiting>,
    descriptors_in_flight: usize,
    deadline: Option<Instant>,
    wants_to_write: bool,
}

/// What sending came to.
pub(super) struct Sent {
    /// Whether a frame with a receipt went out.
    pub(super) has_receipts: bool,
}

impl Connection {
    /// A caller of ours has to say who it is in time; a node that we call may be stopped, and answers when it goes on.
    pub(super) fn new(channel: Channel, stage: Stage) -> Self {
        let deadline = matches!(stage, Stage::Answered).then(|| Instant::now() + GREETING);
        Self {
            channel,
            stage,
            pidfd: None,
            waiting: VecDeque::new(),
            held_back: Vec::new(),
            descriptors_in_flight: 0,
            deadline,
            wants_to_write: false,
        }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The peer, once it is known.
    pub(super) fn peer(&self) -> Option<&Peer> {
        match &self.stage {
            Stage::Open(peer) => Some(peer),
            Stage::Called(_) | Stage::Answered => None,
        }
    }

    /// The node at the other end, as far as it is known.
    pub(super) fn node(&self) -> Option<NodeId> {
        match &self.stage {
            Stage::Open(peer) => Some(peer.node),
            Stage::Called(node) => Some(*node),
            Stage::Answered => None,
        }
    }

    /// When the peer will have been silent for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The peer is known from now on, and what was held back goes out.
    pub(super) fn open(&mut self, peer: Peer, pidfd: Arc<OwnedFd>) {
        self.stage = Stage::Open(peer);
        self.pidfd = Some(pidfd);
        self.deadline = None;
        self.waiting.extend(self.held_back.drain(..));
    }

    /// The frames that have not gone out, for another connection to the same peer.
    pub(super) fn take_over_from(&mut self, other: &mut Self) {
        self.held_back.append(&mut other.held_back);
        if self.peer().is_some() {
            self.waiting.extend(self.held_back.drain(..));
        }
    }

    /// Puts a frame in line. `false` if it is too long to be one.
    pub(super) fn put(&mut self, frame: &Frame, receipt: Option<Arc<()>>) -> bool {
        let Some(encoded) = frame.encode() else { return false };
        let waiting = Waiting { encoded, receipt };
        match (frame, &self.stage) {
            // An acknowledgement must not wait behind what waits for one.
            (Frame::Taken { .. }, _) => self.waiting.push_front(waiting),
            (Frame::Hello(_) | Frame::Versions { .. }, _) | (_, Stage::Open(_)) => {
                self.waiting.push_back(waiting)
            }
            _ => self.held_back.push(waiting),
        }
        true
    }

    /// Puts frames in line before all that are held back.
    pub(super) fn put_first(&mut self, frames: &[Frame]) {
        let encoded = frames.iter().filter_map(Frame::encode);
        let first = encoded.map(|encoded| Waiting { encoded, receipt: None });
        self.held_back.splice(..0, first);
    }

    /// Whether everything has gone out.
    pub(super) fn is_drained(&self) -> bool {
        self.waiting.is_empty() && self.held_back.is_empty()
    }

    /// The peer has taken so many descriptors.
    pub(super) fn taken(&mut self, count: u32) -> Result<(), Violation> {
        let left = self.descriptors_in_flight.checked_sub(count as usize);
        self.descriptors_in_flight = left.ok_or_else(|| {
            Violation(format!("it acknowledged {count} descriptors that were not on their way"))
        })?;
        Ok(())
    }

    /// Sends what can be sent now, and has `epoll` say when there is room for more.
    pub(super) fn flush(&mut self, epoll: &Epoll, token: u64) -> Result<Sent, Violation> {
        let mut sent = Sent { has_receipts: false };
        let mut is_full = false;
        while let Some(next) = self.waiting.front() {
            let descriptors = next.encoded.descriptors.len();
            if descriptors > 0 && self.descriptors_in_flight + descriptors > FRAME_DESCRIPTORS_MAX {
                break;
            }
            match self.channel.send(&next.encoded.bytes, &next.encoded.descriptors) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::TOOMANYREFS) => {
                    is_full = true;
                    break;
                }
                // A hang-up: what the peer had sent is read first, and then it is noticed.
                Err(Errno::PIPE | Errno::CONNRESET) => break,
                Err(error) => return Err(Violation(format!("a frame cannot be sent: {error}"))),
            }
            self.descriptors_in_flight += descriptors;
            sent.has_receipts |= self.waiting.pop_front().is_some_and(|sent| sent.receipt.is_some());
        }
        self.after_flush(epoll, token, is_full)?;
        Ok(sent)
    }

    fn after_flush(&mut self, epoll: &Epoll, token: u64, is_full: bool) -> Result<(), Violation> {
        if self.waiting.len() + self.held_back.len() > WAITING_MAX {
            return Err(Violation(format!("it lets more than {WAITING_MAX} frames wait")));
        }
        if is_full != self.wants_to_write {
            self.wants_to_write = is_full;
            let interest = if is_full { Interest::ReadWrite } else { Interest::Read };
            let changed = epoll.modify(&self.channel, token, interest);
            changed.map_err(|error| Violation(format!("its socket cannot be watched: {error}")))?;
        }
        Ok(())
    }

    /// The next frame that has arrived; `None` at the end of those, which is a hang-up if the flag says so.
    /// `stand_in` stands for descriptors that did not arrive.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8; FRAME_BYTES_MAX],
        stand_in: &Arc<OwnedFd>,
    ) -> Result<Arrived, Violation> {
        let unreadable = |error: WireError| Violation(error.to_string());
        let received = self.channel.receive(buffer).map_err(|error| Violation(error.to_string()))?;
        let (frame, count, is_bereft) = match received {
            Received::Frame(length, descriptors) => {
                let count = descriptors.len() as u32;
                (Frame::decode(&buffer[..length], descriptors).map_err(unreadable)?, count, false)
            }
            Received::Bereft(length, arrived) => {
                let bereft = Frame::decode_bereft(&buffer[..length], arrived, stand_in);
                let (frame, count) = bereft.map_err(unreadable)?;
                (frame, count, true)
            }
            Received::Nothing => return Ok(Arrived::Nothing),
            Received::HungUp => return Ok(Arrived::HungUp),
        };
        if count > 0 {
            self.put(&Frame::Taken { count }, None);
        }
        let frame = Box::new(frame);
        Ok(if is_bereft { Arrived::Bereft(frame) } else { Arrived::Frame(frame) })
    }

    /// Stops watching the peer.
    pub(super) fn forget(&self, epoll: &Epoll) {
        epoll.remove(self.channel.as_fd());
        if let Some(pidfd) = &self.pidfd {
            epoll.remove(pidfd.as_fd());
        }
    }
}

/// What a look at the socket found.
pub(super) enum Arrived {
    Frame(Box<Frame>),
    /// A frame for whose descriptors there was no room here: those in it are stand-ins, and none is to be used.
    Bereft(Box<Frame>),
    Nothing,
    HungUp,
}
