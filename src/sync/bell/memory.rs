//! Bells in segments: a node's own bell with its lines, and a peer's bell to ring.

use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Mode, SleeperWords, Ticket, clear_bit, set_bit};
use crate::layout::bell::{
    BELL_BYTES, BELL_LINE_BYTES, BELL_LINES, SLEEPERS_MAX, SLEEPERS_WORDS, SleeperLine,
};
use crate::os::clock::Deadline;
use crate::os::{eventfd, futex};
use crate::segment::{Created, Kind, Proven, Segment, SegmentError};
use crate::sync::door::{AtomicU64, Ordering};

/// The bell of this node, which its trusted peers may write.
#[derive(Debug)]
pub(crate) struct Bell {
    created: Created,
    lines: Mutex<Lines>,
}

/// Which lines are free: those that came back, oldest first, before those never used.
#[derive(Debug)]
struct Lines {
    returned: std::collections::VecDeque<u32>,
    unused: u32,
}

/// Every line of the bell is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node has no bell line left of {BELL_LINES}; close endpoints, or open a second node")]
pub(crate) struct BellFull;

impl Bell {
    pub(crate) fn create() -> Result<Self, SegmentError> {
        let created = Created::new(Kind::Bell, BELL_BYTES)?;
        let lines = Lines { returned: std::collections::VecDeque::new(), unused: 1 };
        Ok(Self { created, lines: Mutex::new(lines) })
    }

    /// The descriptor that peers get.
    pub(crate) fn memory(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.created.memory)
    }

    /// This bell as a peer sees it, for endpoints of the same node.
    pub(crate) fn as_peer(&self, eventfd: Option<Arc<OwnedFd>>) -> Arc<PeerBell> {
        Arc::new(PeerBell { segment: Arc::clone(&self.created.segment), eventfd })
    }

    /// A line that nobody else uses, until it is dropped.
    pub(crate) fn line(self: &Arc<Self>) -> Result<Line, BellFull> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let number = if lines.unused < BELL_LINES {
            lines.unused += 1;
            lines.unused - 1
        } else {
            lines.returned.pop_front().ok_or(BellFull)?
        };
        drop(lines);
        Ok(Line { place: line_of(&self.created.segment, number), number, bell: Arc::clone(self) })
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
        self.bell.lines.lock().unwrap_or_else(PoisonError::into_inner).returned.push_back(self.number);
    }
}

/// The bell of a peer.
#[derive(Debug)]
pub(crate) struct PeerBell {
    segment: Arc<Segment>,
    eventfd: Option<Arc<OwnedFd>>,
}

impl PeerBell {
    /// A bell that a trusted peer sent; the eventfd comes with it if the peer has no control thread.
    pub(crate) fn receive(memory: impl AsFd, eventfd: Option<Arc<OwnedFd>>) -> Result<Self, SegmentError> {
        let segment = Segment::receive(memory, Kind::Bell, BELL_BYTES)?;
        Ok(Self { segment, eventfd })
    }

    /// The line on which an endpoint of the peer sleeps.
    pub(crate) fn sleeper(&self, number: u32) -> Option<PeerSleeper> {
        let place = self.peer_line(number)?;
        Some(PeerSleeper { place, eventfd: self.eventfd.clone(), woken: 0 })
    }

    /// Our bit in the line of a sending endpoint of the peer.
    pub(crate) fn sleepers(&self, number: u32, bit: u32) -> Option<PeerSleepers> {
        (bit < SLEEPERS_MAX).then_some(PeerSleepers { place: self.peer_line(number)?, bit })
    }

    fn peer_line(&self, number: u32) -> Option<Proven> {
        (1..BELL_LINES).contains(&number).then(|| line_of(&self.segment, number))
    }
}

/// An endpoint of a peer that we wake.
#[derive(Debug)]
pub(crate) struct PeerSleeper {
    place: Proven,
    eventfd: Option<Arc<OwnedFd>>,
    woken: u64,
}

impl PeerSleeper {
    /// Wakes it if it sleeps and we have not woken this sleep already. After the news and a full fence.
    pub(crate) fn ring(&mut self) {
        match sleeper_of(&self.place).raise(&mut self.woken) {
            None => {}
            Some(Mode::Futex) => futex::wake(sleeper_of(&self.place).counter),
            Some(Mode::Event) => {
                if let Some(eventfd) = &self.eventfd {
                    eventfd::signal(eventfd);
                }
            }
        }
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

    #[test]
    fn a_sleeper_is_woken_once_a_generation() {
        let bell = Arc::new(Bell::create().expect("a bell fits into memory"));
        let line = bell.line().expect("lines are free");
        let mut peer = bell.as_peer(None).sleeper(line.number()).expect("the line exists");
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
    fn lines_run_out_and_come_back() {
        let bell = Arc::new(Bell::create().expect("a bell fits into memory"));
        let mut lines: Vec<_> = (1..BELL_LINES).map(|_| bell.line().expect("lines are free")).collect();
        assert_eq!(bell.line().expect_err("all are taken"), BellFull);
        lines.pop();
        assert!(bell.line().is_ok());
    }

    #[test]
    fn lines_that_do_not_exist_are_refused() {
        let peer = Bell::create().expect("a bell fits into memory").as_peer(None);
        assert!(peer.sleeper(0).is_none() && peer.sleeper(BELL_LINES).is_none());
        assert!(peer.sleepers(1, SLEEPERS_MAX).is_none());
    }
}
