//! Bells in segments: a node's own bell with its lines, and a peer's bell to ring.

use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Mode, SleeperWords, Ticket, clear_bit, set_bit};
use crate::layout::bell::{
    BELL_BYTES, BELL_LINE_BYTES, BELL_LINES, SLEEPERS_MAX, SLEEPERS_WORDS, SleeperLine,
};
use crate::os::clock::Deadline;
use crate::os::{eventfd, futex};
use crate::segment::{Created, Kind, Proven, Segment, SegmentError};
use crate::sync::door::{AtomicU64, Ordering};

/// Segments of one bell that a peer is believed: a line for each of eight million endpoints.
const PARTS_MAX: u32 = 4096;

/// The bell of this node, which its trusted peers may write: one segment, and further ones when its lines run out.
#[derive(Debug)]
pub(crate) struct Bell {
    lines: Mutex<Lines>,
}

/// Which lines are free: those never used before those that came back, oldest first.
#[derive(Debug)]
struct Lines {
    parts: Vec<Created>,
    returned: std::collections::VecDeque<u32>,
    unused: u32,
}

/// Every line of the bell is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has no bell line left")]
pub(crate) struct BellFull;

impl Lines {
    /// The next line that was never used, if there is one. The first line of each part is its header.
    fn take_unused(&mut self) -> Option<u32> {
        if self.unused.is_multiple_of(BELL_LINES) {
            self.unused += 1;
        }
        let has_part = self.unused < self.parts.len() as u32 * BELL_LINES;
        has_part.then(|| {
            self.unused += 1;
            self.unused - 1
        })
    }
}

impl Bell {
    pub(crate) fn create() -> Result<Self, SegmentError> {
        let parts = vec![Created::new(Kind::Bell, BELL_BYTES)?];
        let lines = Lines { parts, returned: std::collections::VecDeque::new(), unused: 0 };
        Ok(Self { lines: Mutex::new(lines) })
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptors that peers get, the first of them in the greeting.
    pub(crate) fn memories(&self) -> Vec<Arc<OwnedFd>> {
        self.lines().parts.iter().map(|part| Arc::clone(&part.memory)).collect()
    }

    /// This bell as a peer sees it, for endpoints of the same node.
    pub(crate) fn as_peer(&self, eventfd: Arc<OwnedFd>) -> PeerBell {
        let parts = self.lines().parts.iter().map(|part| Arc::clone(&part.segment)).collect();
        PeerBell { parts: Mutex::new(parts), eventfd }
    }

    /// A line that nobody else uses, until it is dropped.
    pub(crate) fn line(self: &Arc<Self>) -> Result<Line, BellFull> {
        let mut lines = self.lines();
        let number = lines.take_unused().or_else(|| lines.returned.pop_front()).ok_or(BellFull)?;
        let place = line_of(&lines.parts[(number / BELL_LINES) as usize].segment, number % BELL_LINES);
        drop(lines);
        Ok(Line { place, number, bell: Arc::clone(self) })
    }

    /// Whether so many lines can be had without a further segment.
    pub(crate) fn has_lines(&self, count: usize) -> bool {
        let lines = self.lines();
        let fresh = (lines.parts.len() as u32 * BELL_LINES).saturating_sub(lines.unused);
        fresh as usize + lines.returned.len() >= count
    }

    /// Adds a segment, for `peer`, which is this bell as our own endpoints see it, too. Other peers are to be told before
    /// a line of it is: its number and its memory.
    pub(crate) fn grow(&self, peer: &PeerBell) -> Result<(u32, Arc<OwnedFd>), SegmentError> {
        let part = Created::new(Kind::Bell, BELL_BYTES)?;
        let mut lines = self.lines();
        let (index, memory) = (lines.parts.len() as u32, Arc::clone(&part.memory));
        peer.parts().push(Arc::clone(&part.segment));
        lines.parts.push(part);
        Ok((index, memory))
    }
}

fn line_of(segment: &Arc<Segment>, number: u32) -> Proven {
    segment.own_range(number as usize * BELL_LINE_BYTES, BELL_LINE_BYTES, BELL_LINE_BYTES)
}

fn sleeper_of(line: &Proven) -> SleeperWords<'_> {
    SleeperWords {
        counter: line.word32(offset_of!(SleeperLine, counter)),
        armed: line.word(offset_of!(SleeperLine, armed)),
    }
}

/// A line of our own bell: an endpoint sleeps on it, or its sleepers set their bits in it.
#[derive(Debug)]
pub(crate) struct Line {
    place: Proven,
    number: u32,
    bell: Arc<Bell>,
}

impl Line {
    /// The number under which peers know it.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The words of a line to sleep on.
    pub(crate) fn sleeper(&self) -> SleeperWords<'_> {
        sleeper_of(&self.place)
    }

    /// Sleeps until rung or until the deadline.
    pub(crate) fn wait(&self, ticket: Ticket, deadline: Deadline) {
        futex::wait(self.sleeper().counter, ticket.0, deadline);
    }

    /// Wakes the endpoint of our own process that sleeps here on its futex, whatever its generation.
    pub(crate) fn wake_own(&self) {
        self.sleeper().counter.fetch_add(1, Ordering::Release);
        futex::wake(self.sleeper().counter);
    }

    /// A word of a line of sleepers bits.
    #[inline]
    pub(crate) fn sleepers(&self, word: usize) -> &AtomicU64 {
        self.place.word(word * 8)
    }

    /// Clears every bit of a line that will be a sleepers line.
    pub(crate) fn clear_sleepers(&self) {
        for word in 0..SLEEPERS_WORDS {
            self.sleepers(word).store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bell.lines().returned.push_back(self.number);
    }
}

/// The bell of a peer.
#[derive(Debug)]
pub(crate) struct PeerBell {
    parts: Mutex<Vec<Arc<Segment>>>,
    eventfd: Arc<OwnedFd>,
}

impl PeerBell {
    /// A bell that a trusted peer sent, with the eventfd of its node.
    pub(crate) fn receive(memory: impl AsFd, eventfd: Arc<OwnedFd>) -> Result<Self, SegmentError> {
        let segment = Segment::receive(memory, Kind::Bell, BELL_BYTES)?;
        Ok(Self { parts: Mutex::new(vec![segment]), eventfd })
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Arc<Segment>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer has a further segment, the `index`-th.
    pub(crate) fn add(&self, index: u32, memory: impl AsFd) -> Result<(), SegmentError> {
        let mut parts = self.parts();
        if index as usize != parts.len() || index >= PARTS_MAX {
            let reason = format!("it is number {index}, and {} is due", parts.len());
            return Err(SegmentError::Unusable { kind: Kind::Bell.name(), reason });
        }
        parts.push(Segment::receive(memory, Kind::Bell, BELL_BYTES)?);
        Ok(())
    }

    /// The line on which an endpoint of the peer sleeps, and the descriptor of its own if it has one.
    pub(crate) fn sleeper(&self, number: u32, own: Option<Arc<OwnedFd>>) -> Option<PeerSleeper> {
        let place = self.peer_line(number)?;
        Some(PeerSleeper { place, node: Arc::clone(&self.eventfd), own, woken: 0 })
    }

    /// Our bit in the line of a sending endpoint of the peer.
    pub(crate) fn sleepers(&self, number: u32, bit: u32) -> Option<PeerSleepers> {
        (bit < SLEEPERS_MAX).then_some(PeerSleepers { place: self.peer_line(number)?, bit })
    }

    fn peer_line(&self, number: u32) -> Option<Proven> {
        let (part, line) = ((number / BELL_LINES) as usize, number % BELL_LINES);
        let parts = self.parts();
        parts.get(part).filter(|_| line > 0).map(|segment| line_of(segment, line))
    }
}

/// An endpoint of a peer that we wake.
#[derive(Debug)]
pub(crate) struct PeerSleeper {
    place: Proven,
    /// The eventfd of its node.
    node: Arc<OwnedFd>,
    /// An eventfd of its own, if it has one and we know it.
    own: Option<Arc<OwnedFd>>,
    woken: u64,
}

impl PeerSleeper {
    /// Wakes it if it sleeps and we have not woken this sleep already. After the news and a full fence.
    pub(crate) fn ring(&mut self) {
        match sleeper_of(&self.place).raise(&mut self.woken) {
            None => {}
            Some(Mode::Futex) => futex::wake(sleeper_of(&self.place).counter),
            Some(Mode::Event) => eventfd::signal(&self.node),
            // Its node passes it on if we do not know the descriptor yet.
            Some(Mode::OwnEvent) => eventfd::signal(self.own.as_ref().unwrap_or(&self.node)),
        }
    }

    /// It sleeps on a descriptor of its own from now on.
    pub(crate) fn listen_on(&mut self, eventfd: Arc<OwnedFd>) {
        self.own = Some(eventfd);
    }
}

/// Our bit in the sleepers line of a sender.
#[derive(Debug)]
pub(crate) struct PeerSleepers {
    place: Proven,
    bit: u32,
}

impl PeerSleepers {
    /// Asks the sender to wake us.
    pub(crate) fn set(&self) {
        set_bit(self.word(), self.bit);
    }

    /// Takes that back.
    pub(crate) fn clear(&self) {
        clear_bit(self.word(), self.bit);
    }

    fn word(&self) -> &AtomicU64 {
        self.place.word(self.bit as usize / 64 * 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bell() -> (Arc<Bell>, PeerBell) {
        let bell = Arc::new(Bell::create().expect("a bell fits into memory"));
        let eventfd = Arc::clone(crate::os::epoll::Wake::new().expect("eventfds are left").descriptor());
        let peer = bell.as_peer(eventfd);
        (bell, peer)
    }

    #[test]
    fn a_sleeper_is_woken_once_a_generation() {
        let (bell, peer) = bell();
        let line = bell.line().expect("lines are free");
        let mut peer = peer.sleeper(line.number(), None).expect("the line exists");
        let count = || line.sleeper().counter.load(Ordering::Relaxed);
        peer.ring();
        assert_eq!(count(), 0, "nobody sleeps");
        line.sleeper().arm(Mode::Futex);
        peer.ring();
        peer.ring();
        assert_eq!(count(), 1);
        line.sleeper().arm(Mode::Futex);
        peer.ring();
        assert_eq!(count(), 2);
    }

    #[test]
    fn lines_run_out_and_come_back_or_grow() {
        let (bell, peer) = bell();
        let mut lines: Vec<_> = (1..BELL_LINES).map(|_| bell.line().expect("lines are free")).collect();
        assert_eq!(bell.line().expect_err("all are taken"), BellFull);
        assert!(!bell.has_lines(1));
        lines.pop();
        assert!(bell.has_lines(1) && !bell.has_lines(2));
        lines.push(bell.line().expect("one came back"));
        let (index, memory) = bell.grow(&peer).expect("it fits into memory");
        let further = bell.line().expect("there are more");
        assert_eq!((index, further.number()), (1, BELL_LINES + 1));
        assert!(peer.sleeper(further.number(), None).is_some());
        assert!(peer.add(1, &memory).is_err() && peer.add(2, &memory).is_ok());
    }

    #[test]
    fn lines_that_do_not_exist_are_refused() {
        let (_, peer) = bell();
        assert!(peer.sleeper(0, None).is_none() && peer.sleeper(BELL_LINES, None).is_none());
        assert!(peer.sleepers(1, SLEEPERS_MAX).is_none());
    }
}
