//! What a publisher shares with its node's control plane: who reads, where they sleep, who turned it down.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Refused;
use super::refusals::Refusals;
use crate::layout::bell::SLEEPERS_MAX;
use crate::node::{
    Admission, EndpointId, Join, Name, NodeId, NodeShared, Offer, Outlet, Peer, Refusal, Segment, Violation,
};
use crate::sync::bell::{Fencing, Line, PeerSleeper, clear_bit};
use crate::sync::cursor::CursorWords;
use crate::sync::door::AtomicU64;
use crate::sync::readers::Readers;
use crate::sync::ring::CursorMemory;

/// One subscriber, as its publisher knows it.
#[derive(Debug)]
pub(super) struct Reader {
    inlet: EndpointId,
    bit: u32,
    cursor: CursorMemory,
    sleeper: PeerSleeper,
}

impl CursorWords for Reader {
    #[inline]
    fn cursor(&self) -> &AtomicU64 {
        self.cursor.cursor()
    }
    fn pins_used(&self) -> &AtomicU64 {
        self.cursor.pins_used()
    }
    fn pin(&self, index: usize) -> &AtomicU64 {
        self.cursor.pin(index)
    }
    fn pins(&self) -> usize {
        self.cursor.pins()
    }
}

/// The part of a publisher that its control plane also touches.
#[derive(Debug)]
pub(super) struct PublisherShared {
    pub(super) node: Arc<NodeShared>,
    pub(super) name: Name,
    offer: OfferParts,
    /// Where the publisher sleeps when its ring is full.
    pub(super) sleeper: Line,
    /// Where its subscribers set their bits before they sleep.
    pub(super) sleepers: Line,
    /// Words of the sleepers line that have a bit assigned.
    sleepers_words: AtomicUsize,
    /// Whether the publisher has to fence because some subscriber cannot.
    must_fence: AtomicBool,
    tail: Arc<AtomicU64>,
    state: Mutex<State>,
}

/// The offer, without what `Debug` has no use for.
struct OfferParts(Offer);

impl std::fmt::Debug for OfferParts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} slots of {} B", self.0.slots, self.0.stride)
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) readers: Readers<Reader>,
    segments: SegmentList,
    refusals: Refusals,
}

/// The pool's segments, for those who join later.
#[derive(Default)]
struct SegmentList(Vec<Segment>);

impl std::fmt::Debug for SegmentList {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} segments", self.0.len())
    }
}

impl PublisherShared {
    pub(super) fn new(
        node: Arc<NodeShared>,
        offer: Offer,
        sleeper: Line,
        sleepers: Line,
        tail: Arc<AtomicU64>,
    ) -> Self {
        let state = State {
            readers: Readers::new(),
            segments: SegmentList::default(),
            refusals: Refusals::default(),
        };
        Self {
            node,
            name: offer.name.clone(),
            offer: OfferParts(offer),
            sleeper,
            sleepers,
            sleepers_words: AtomicUsize::new(0),
            must_fence: AtomicBool::new(Fencing::of_this_process() == Fencing::Full),
            tail,
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the publisher fences between a message and its look at the sleepers.
    #[inline]
    pub(super) fn fencing(&self) -> Fencing {
        if self.must_fence.load(Ordering::Relaxed) { Fencing::Full } else { Fencing::Asymmetric }
    }

    /// From now on the publisher fences itself; it knows before this returns.
    fn fence_from_now_on(&self) {
        if !self.must_fence.swap(true, Ordering::Relaxed) {
            // Without it the publisher learns a little later, and who joins does not sleep at once.
            let _ = Fencing::Asymmetric.of_sleeper();
        }
    }

    /// Whether any subscriber's bit is set. After a message and a full fence.
    #[inline]
    pub(super) fn has_sleepers(&self) -> bool {
        // Relaxed: who sets a bit was admitted before, and its fence orders the count with the bit.
        let words = self.sleepers_words.load(Ordering::Relaxed);
        (0..words).any(|word| self.sleepers.sleepers(word).load(Ordering::Relaxed) != 0)
    }

    /// Wakes every subscriber whose bit is set.
    pub(super) fn wake_sleepers(&self) {
        for reader in self.state().readers.iter_mut() {
            let word = self.sleepers.sleepers(reader.bit as usize / 64);
            if word.load(Ordering::Relaxed) & 1 << (reader.bit % 64) != 0 {
                reader.sleeper.ring();
            }
        }
    }

    /// Takes out the subscribers whose cursors broke the rules, and has their connections dropped.
    pub(super) fn expel_violators(&self) {
        let violators: Vec<_> = self.state().readers.remove_violators().collect();
        for (reader, violation) in violators {
            self.forget(&reader);
            self.node.accuse(reader.inlet.node, &Violation(violation.to_string()));
        }
    }

    /// Remembers a segment for later joiners.
    pub(super) fn add_segment(&self, segment: Segment) {
        self.state().segments.0.push(segment);
    }

    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.state().refusals.list()
    }

    fn forget(&self, reader: &Reader) {
        clear_bit(self.sleepers.sleepers(reader.bit as usize / 64), reader.bit);
    }

    fn free_bit(state: &mut State) -> Option<u32> {
        let mut used: Vec<u32> = state.readers.iter_mut().map(|reader| reader.bit).collect();
        used.sort_unstable();
        let gap = used.iter().zip(0..).find(|(bit, index)| **bit != *index).map(|(_, index)| index);
        Some(gap.unwrap_or(used.len() as u32)).filter(|&bit| bit < SLEEPERS_MAX)
    }

    fn reader(peer: &Peer, join: &Join, bit: u32) -> Result<Reader, Refusal> {
        let unusable = |reason: String| Refusal::Unusable { reason };
        let cursor = CursorMemory::receive(&join.cursor, join.cursor_offset, join.hold_limit)
            .map_err(|error| unusable(error.to_string()))?;
        let sleeper = peer.bell.sleeper(join.sleeper_line);
        let sleeper =
            sleeper.ok_or_else(|| unusable(format!("bell line {} does not exist", join.sleeper_line)))?;
        Ok(Reader { inlet: join.inlet, bit, cursor, sleeper })
    }
}

impl Outlet for PublisherShared {
    fn id(&self) -> EndpointId {
        self.offer.0.outlet
    }

    fn name(&self) -> &Name {
        &self.name
    }

    fn offer(&self) -> Offer {
        self.offer.0.clone()
    }

    fn admit(&self, peer: &Peer, join: Join) -> Result<Admission, Refusal> {
        let mut state = self.state();
        let limit =
            || Refusal::Limit { what: "the number of subscribers".to_owned(), limit: SLEEPERS_MAX.into() };
        let bit = Self::free_bit(&mut state).ok_or_else(limit)?;
        let reader = Self::reader(peer, &join, bit)?;
        let words = (bit as usize / 64 + 1).max(self.sleepers_words.load(Ordering::Relaxed));
        self.sleepers_words.store(words, Ordering::Relaxed);
        // The publisher computed its limit under this lock, from cursors no higher than the tail it had then:
        // from here on nothing at or above `start` is overwritten before the new cursor has passed it.
        let start = self.tail.load(crate::sync::door::Ordering::Relaxed);
        state.readers.admit(reader, start);
        if !join.fences_for_all {
            self.fence_from_now_on();
        }
        let segments = state.segments.0.clone();
        drop(state);
        self.sleeper_wake();
        Ok(Admission { outlet: join.outlet, inlet: join.inlet, start, sleepers_bit: bit, segments })
    }

    fn part(&self, inlet: EndpointId) {
        let mut state = self.state();
        let gone: Vec<_> = state.readers.remove(|reader| reader.inlet == inlet).collect();
        gone.iter().for_each(|reader| self.forget(reader));
        drop(state);
        self.sleeper_wake();
    }

    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal) {
        self.state().refusals.remember(node, node_name, refusal);
        self.sleeper_wake();
    }

    fn progressed(&self) {
        self.sleeper_wake();
    }
}

impl PublisherShared {
    fn sleeper_wake(&self) {
        self.sleeper.wake_own();
    }
}
