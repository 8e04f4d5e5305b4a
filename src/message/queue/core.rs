//! The heart of a producer: its lanes, and the items that have none. Whoever has news for it enters: mostly the thread that
//! pushes, and the one that serves the node.
//!
//! **Order of locks**: the core may be entered, and then the node's lock be taken, to tell a consumer of new memory or to drop
//! a lane; never the other way round. What happens under the node's lock is only noted, and heard by who enters next.

use std::collections::VecDeque;

use super::lane::{Entry, Lane, NewLane, Put, Unfit};
use super::meeting::Offered;
use super::shared::{News, ProducerShared};
use crate::layout::ring::SLOTS_MAX;
use crate::message::overflow::Overflow;
use crate::node::{EndpointId, Violation};
use crate::sync::bell::{Fencing, Mode, Ticket};

/// Looks at consumers that are settling items, before an item goes into the backlog instead.
const LOOKS_FOR_CREDIT: u32 = 400;
/// Looks after the first that found credit.
const LOOKS_FOR_MORE: u32 = 40;
/// Of that many parts of the credit one is enough: each look takes the line of the cursor from the consumer.
const CREDIT_PARTS: u64 = 2;
/// How often the processor is relaxed between two of them.
const PAUSES_PER_LOOK: u32 = 8;
/// Rounds after which the node's thread lets others enter, though there is more to do.
const ROUNDS_MAX: u32 = 64;

/// What a producer has done so far. The figures are exact as of the last look at its consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCounts {
    /// Items that no consumer has been given yet.
    pub backlog: u64,
    /// Items that consumers have been given, those that were delivered again counted each time.
    pub assigned: u64,
    /// Items that consumers have and have not acknowledged. One that was acknowledged before an earlier one of the same
    /// consumer is counted here until that one is settled, or its consumer gone.
    pub unacknowledged: u64,
    /// Items that consumers have acknowledged.
    pub acknowledged: u64,
    /// Items that were delivered again, because a consumer gave them back or died.
    pub redelivered: u64,
    /// Items that made room for newer ones, by policy.
    pub dropped: u64,
}

/// The core itself.
pub(super) struct Core {
    /// Of consumers that take items.
    pub(super) lanes: Vec<Lane>,
    /// Of consumers that take none any more, and have not settled all.
    leaving: Vec<Lane>,
    /// Of consumers that have not been let in yet.
    made: Vec<NewLane>,
    /// The lane that is due.
    pub(super) current: usize,
    /// Items that had a lane; they come first.
    again: VecDeque<Entry>,
    /// Items that never had one.
    fresh: VecDeque<Entry>,
    overflow: Overflow,
    depth: usize,
    /// Whether items need not line up.
    is_direct: bool,
    /// What the consumers have been told of items without a lane.
    told_unassigned: u64,
    /// Consumers did not settle anything while we looked, and have not since.
    is_stalled: bool,
    epoch: u64,
    /// The sleep that consumers end.
    armed: Option<(Ticket, Mode)>,
    /// Whether the consumers have been told that we wait for them to settle something.
    is_marked: bool,
    /// The producer's own thread waits, and sees to everything when it is woken.
    pub(super) is_waiting: bool,
    /// The item of a queue without depth that waits to be taken.
    pub(super) offered: Option<Offered>,
    taken_out: Option<TakenOut>,
    /// Of lanes that are over.
    past: QueueCounts,
}

/// A lane has been taken out, to be written to.
struct TakenOut {
    consumer: EndpointId,
    /// Its consumer has gone since.
    has_gone: bool,
    /// The other lanes have been looked at since, or marked: whatever its consumer rang for has still to be heard.
    is_behind: bool,
}

impl NewLane {
    fn give_up(self) {
        self.outlet.node.remove_outlet(crate::node::Outlet::id(&*self.outlet));
    }
}

/// What came of an item that was to be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Done,
    /// The backlog is full, and by policy nothing makes room.
    Full,
}

impl Core {
    pub(super) fn new(overflow: Overflow, depth: usize) -> Self {
        Self {
            lanes: Vec::new(),
            leaving: Vec::new(),
            made: Vec::new(),
            current: 0,
            again: VecDeque::new(),
            fresh: VecDeque::with_capacity(depth.min(SLOTS_MAX)),
            overflow,
            depth,
            is_direct: depth > 0,
            told_unassigned: 0,
            is_stalled: false,
            epoch: 0,
            armed: None,
            is_marked: false,
            is_waiting: false,
            offered: None,
            taken_out: None,
            past: QueueCounts::default(),
        }
    }

    /// Sends a short item to the consumer that is due, if nothing stands against that. Lean, as it goes into each caller's
    /// loop.
    #[inline(always)]
    pub(super) fn try_put(&mut self, bytes: &[u8]) -> bool {
        if !self.is_direct {
            return false;
        }
        let Some(lane) = self.lanes.get_mut(self.current) else { return false };
        if !lane.try_put(bytes) {
            return false;
        }
        lane.wake();
        // With one consumer it is a store less for each item.
        if self.lanes.len() > 1 {
            self.turn();
        }
        true
    }

    #[inline(always)]
    pub(super) fn turn(&mut self) {
        self.current += 1;
        if self.current >= self.lanes.len() {
            self.current = 0;
        }
    }

    /// Whether every item has a lane.
    pub(super) fn is_clear(&self) -> bool {
        self.again.is_empty() && self.fresh.is_empty()
    }

    /// Items without a lane.
    pub(super) fn backlog(&self) -> u64 {
        (self.again.len() + self.fresh.len()) as u64
    }

    /// Items that consumers have not settled.
    pub(super) fn unsettled(&self) -> u64 {
        self.lanes.iter().chain(&self.leaving).map(|lane| lane.unsettled()).sum()
    }

    /// Consumers that take items.
    pub(super) fn consumers(&self) -> usize {
        self.lanes.len() + usize::from(self.taken_out.as_ref().is_some_and(|out| !out.has_gone))
    }

    pub(super) fn counts(&self) -> QueueCounts {
        let lanes = || self.lanes.iter().chain(&self.leaving);
        QueueCounts {
            backlog: self.backlog(),
            assigned: self.past.assigned + lanes().map(|lane| lane.tail()).sum::<u64>(),
            unacknowledged: self.unsettled(),
            acknowledged: self.past.acknowledged + lanes().map(|lane| lane.acknowledged()).sum::<u64>(),
            ..self.past
        }
    }

    /// Hears what has happened, looks at what consumers have settled, and assigns what there is credit for. Whether anything
    /// has changed.
    pub(super) fn attend(&mut self, shared: &ProducerShared) -> bool {
        let mut has_changed = false;
        for news in shared.take_news() {
            self.hear(news, shared);
            has_changed = true;
        }
        has_changed |= self.look(shared);
        let before = self.backlog();
        self.pump();
        self.settle(shared);
        has_changed || self.backlog() != before
    }

    fn hear(&mut self, news: News, shared: &ProducerShared) {
        match news {
            News::Made(lane) => self.made.push(*lane),
            News::Joined(inlet, terms) => {
                let Some(place) = self.made.iter().position(|lane| lane.inlet == inlet) else { return };
                let lane = Lane::open(self.made.swap_remove(place), terms, self.depth == 0);
                lane.tell_unassigned(self.told_unassigned);
                if self.is_marked {
                    lane.mark_blocked(self.epoch);
                }
                self.lanes.push(lane);
            }
            News::Parted(inlet) => self.part(inlet),
        }
        shared.set_consumers(self.consumers());
    }

    /// A consumer has gone, or is to go: what it has not settled is for others.
    fn part(&mut self, inlet: EndpointId) {
        let is_its = |lane: &mut Lane| lane.inlet == inlet;
        let over = self.lanes.extract_if(.., is_its).chain(self.leaving.extract_if(.., is_its));
        let over: Vec<_> = over.collect();
        over.into_iter().for_each(|lane| self.end(lane));
        self.made.extract_if(.., |lane| lane.inlet == inlet).for_each(NewLane::give_up);
        if let Some(out) = self.taken_out.as_mut().filter(|out| out.consumer == inlet) {
            out.has_gone = true;
        }
        self.current = 0;
    }

    fn end(&mut self, mut lane: Lane) {
        self.end_offer(&mut lane);
        self.past.assigned += lane.tail();
        self.past.acknowledged += lane.end(&mut self.again);
    }

    /// Looks at what consumers have settled. Whether there was anything.
    fn look(&mut self, shared: &ProducerShared) -> bool {
        let (mut has_news, mut violators) = (false, Vec::new());
        self.taken_out.iter_mut().for_each(|out| out.is_behind = true);
        for lane in self.lanes.iter_mut().chain(&mut self.leaving) {
            match lane.look(&mut self.again) {
                Ok(is_news) => has_news |= is_news,
                Err(violation) => violators.push((lane.inlet, violation)),
            }
        }
        let left: Vec<_> = self.lanes.extract_if(.., |lane| lane.has_gone()).collect();
        let has_left = !left.is_empty();
        for mut lane in left {
            // Before what it has not seen is taken back: the offer is not to be among that.
            self.end_offer(&mut lane);
            lane.take_back_unseen(&mut self.again);
            self.leaving.push(lane);
        }
        for (inlet, violation) in &violators {
            self.part(*inlet);
            shared.node.accuse(inlet.node(), &Violation(violation.to_string()));
        }
        if has_left || !violators.is_empty() {
            self.current = 0;
            shared.set_consumers(self.consumers());
        }
        self.is_stalled &= !has_news;
        has_news || has_left || !violators.is_empty()
    }

    /// Assigns what there is credit for, in order.
    fn pump(&mut self) {
        let before = self.backlog();
        loop {
            let is_fresh = self.again.is_empty();
            let queue = if is_fresh { &mut self.fresh } else { &mut self.again };
            let Some(entry) = queue.pop_front() else { break };
            // One that fits nowhere waits for a consumer for whom there is memory.
            if !matches!(self.assign(&entry.bytes, entry.is_again), Ok(Put::Done)) {
                if is_fresh { &mut self.fresh } else { &mut self.again }.push_front(entry);
                break;
            }
        }
        if self.backlog() != before {
            self.wake();
        }
    }

    /// Wakes the consumers that sleep and have been given something.
    fn wake(&self) {
        self.lanes.iter().for_each(|lane| lane.wake());
    }

    /// Gives an item to the next consumer that has credit. It is woken later.
    fn assign(&mut self, bytes: &[u8], is_again: bool) -> Result<Put, Unfit> {
        let mut unfit = None;
        for _ in 0..self.lanes.len() {
            let put = self.lanes[self.current].put(bytes, is_again);
            self.turn();
            match put {
                Ok(Put::Done) => {
                    self.past.redelivered += u64::from(is_again);
                    return Ok(Put::Done);
                }
                Ok(Put::NotYet) => {}
                Err(error) => unfit = Some(error),
            }
        }
        unfit.map_or(Ok(Put::NotYet), Err)
    }

    /// Takes an item that could not be sent at once, if there is room for it.
    pub(super) fn push(&mut self, bytes: &[u8], shared: &ProducerShared) -> Result<Pushed, Unfit> {
        self.attend(shared);
        if self.is_clear() && self.assign_patiently(bytes, shared)? == Put::Done {
            return Ok(Pushed::Done);
        }
        if !self.make_room() {
            return Ok(Pushed::Full);
        }
        self.fresh.push_back(Entry { bytes: bytes.into(), is_again: false });
        self.settle(shared);
        self.rearm(shared);
        Ok(Pushed::Done)
    }

    /// Takes an item for which there was room, or for which older ones make some.
    pub(super) fn append(&mut self, bytes: &[u8], shared: &ProducerShared) {
        self.attend(shared);
        self.make_room();
        self.fresh.push_back(Entry { bytes: bytes.into(), is_again: false });
        self.attend(shared);
        self.rearm(shared);
    }

    /// Gives an item to a consumer, or waits a little for credit where consumers are settling what they have: an item that
    /// goes through the backlog costs more.
    fn assign_patiently(&mut self, bytes: &[u8], shared: &ProducerShared) -> Result<Put, Unfit> {
        let may_wait = self.overflow == Overflow::Block && !self.is_stalled;
        let (mut look, mut until) =
            (0, if may_wait && !self.lanes.is_empty() { LOOKS_FOR_CREDIT } else { 0 });
        while look < until && !self.has_much_credit() {
            (0..PAUSES_PER_LOOK).for_each(|_| std::hint::spin_loop());
            look += 1;
            if self.look(shared) {
                // What has come free may be little: where a consumer keeps pace, there is more in a moment.
                until = until.min(look + LOOKS_FOR_MORE);
            }
        }
        if !self.is_clear() {
            return Ok(Put::NotYet);
        }
        let put = self.assign(bytes, false)?;
        if put == Put::Done {
            self.wake();
        } else {
            self.is_stalled |= may_wait;
        }
        Ok(put)
    }

    /// Whether some consumer has a good part of its credit.
    fn has_much_credit(&self) -> bool {
        self.lanes.iter().any(|lane| lane.space() >= lane.credit().div_ceil(CREDIT_PARTS))
    }

    /// Whether the backlog has room for another item; by policy, older ones make some.
    fn make_room(&mut self) -> bool {
        match self.overflow {
            Overflow::Latest => {
                self.past.dropped += self.fresh.len() as u64;
                self.fresh.clear();
                true
            }
            _ if self.fresh.len() < self.depth => true,
            Overflow::DropOldest => {
                self.past.dropped += u64::from(self.fresh.pop_front().is_some());
                true
            }
            _ => false,
        }
    }

    /// Whether the backlog has room.
    pub(super) fn has_room(&self) -> bool {
        self.fresh.len() < self.depth
    }

    /// Whether an item will find room, be it that older ones have to make some then.
    pub(super) fn will_have_room(&self) -> bool {
        matches!(self.overflow, Overflow::DropOldest | Overflow::Latest) || self.has_room()
    }

    /// Has everybody know how many items have no lane.
    fn settle(&mut self, shared: &ProducerShared) {
        let backlog = self.backlog();
        self.is_direct = backlog == 0 && self.depth > 0;
        if backlog != self.told_unassigned {
            self.told_unassigned = backlog;
            shared.set_backlog(backlog);
            self.lanes.iter().chain(&self.leaving).for_each(|lane| lane.tell_unassigned(backlog));
        }
        if backlog == 0 && self.is_marked && !self.is_waiting {
            self.mark(0);
        }
    }

    fn mark(&mut self, epoch: u64) {
        self.is_marked = epoch != 0;
        self.lanes.iter().chain(&self.leaving).for_each(|lane| lane.mark_blocked(epoch));
    }

    /// Has consumers ring the node: when one settles something while items have no lane, and when one gives something back.
    pub(super) fn rearm(&mut self, shared: &ProducerShared) {
        for _ in 0..ROUNDS_MAX {
            let is_armed = self
                .armed
                .is_some_and(|(ticket, mode)| mode == Mode::Event && !shared.line.sleeper().is_rung(ticket));
            if is_armed && (self.is_marked || self.is_clear()) {
                return;
            }
            let is_sure = self.arm(Mode::Event, !self.is_clear(), shared).1;
            if !self.attend(shared) && is_sure {
                return;
            }
        }
        shared.call();
    }

    /// Prepares a sleep that consumers end. The caller then attends once more. `false` if somebody may not see it yet.
    pub(super) fn arm(&mut self, mode: Mode, is_blocked: bool, shared: &ProducerShared) -> (Ticket, bool) {
        self.taken_out.iter_mut().for_each(|out| out.is_behind = true);
        let ticket = shared.line.sleeper().arm(mode);
        self.armed = Some((ticket, mode));
        shared.set_armed(ticket);
        if is_blocked {
            self.epoch += 1;
            self.mark(self.epoch);
        } else if self.is_marked {
            self.mark(0);
        }
        (ticket, self.fence(is_blocked))
    }

    /// Dekker: our mark and our sleep, fence, what they have settled against that, fence, our mark.
    fn fence(&mut self, is_blocked: bool) -> bool {
        let mut lanes = self.lanes.iter_mut().chain(&mut self.leaving).filter(|lane| lane.is_fenced());
        let fencing = match lanes.next() {
            Some(_) if is_blocked => Fencing::Asymmetric,
            // Who gives something back fences itself.
            _ => Fencing::Full,
        };
        let is_sure = fencing.of_sleeper();
        if !is_sure {
            let lanes = self.lanes.iter_mut().chain(&mut self.leaving);
            lanes.for_each(|lane| lane.fence_no_more());
        }
        is_sure
    }

    /// Takes out a lane with room for an item of `length` bytes, which is to be written there, if every item has a lane.
    pub(super) fn take_out(&mut self, length: usize) -> Result<Option<Lane>, Unfit> {
        if !self.is_clear() || self.depth == 0 {
            return Ok(None);
        }
        let mut unfit = None;
        for _ in 0..self.lanes.len() {
            match self.lanes[self.current].prepare(length) {
                Ok(Put::Done) => {
                    let lane = self.lanes.remove(self.current);
                    self.current = self.current.min(self.lanes.len().saturating_sub(1));
                    let consumer = lane.inlet;
                    self.taken_out = Some(TakenOut { consumer, has_gone: false, is_behind: false });
                    return Ok(Some(lane));
                }
                Ok(Put::NotYet) => {}
                Err(error) => unfit = Some(error),
            }
            self.turn();
        }
        unfit.map_or(Ok(None), Err)
    }

    /// A lane that was taken out comes back.
    pub(super) fn put_in(&mut self, lane: Lane, shared: &ProducerShared) {
        let out = self.taken_out.take();
        let is_behind = out.as_ref().is_some_and(|out| out.is_behind);
        if out.is_some_and(|out| out.has_gone) {
            self.end(lane);
            self.attend(shared);
            self.rearm(shared);
            return;
        }
        lane.tell_unassigned(self.told_unassigned);
        lane.mark_blocked(if self.is_marked { self.epoch } else { 0 });
        self.lanes.push(lane);
        if self.lanes.len() > 1 {
            self.current = 0;
        }
        if is_behind {
            // The sleep that there is knows nothing of this lane: the next one has a fence between mark and look.
            self.armed = None;
        }
        if is_behind || !self.is_clear() {
            self.attend(shared);
            self.rearm(shared);
        }
    }

    /// The producer is dropped. What has no lane is lost; what lies in a lane is still received.
    pub(super) fn close(&mut self, shared: &ProducerShared) -> Vec<Lane> {
        for news in shared.take_news() {
            if let News::Made(lane) = news {
                lane.give_up();
            }
        }
        self.made.drain(..).for_each(NewLane::give_up);
        self.again.clear();
        self.fresh.clear();
        self.lanes.drain(..).chain(self.leaving.drain(..)).collect()
    }
}
