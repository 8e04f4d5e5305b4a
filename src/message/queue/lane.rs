//! A lane: the stream from a producer to one consumer, and what has become of its items.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use super::shared::ProducerShared;
use crate::layout::ring::{TERMS_FENCED, TERMS_RENDEZVOUS};
use crate::message::event::Counterpart;
use crate::message::outlet::PublisherShared;
use crate::node::{
    Admission, Channel, EndpointId, Join, NodeId, Offer, Outlet, OutletReport, Peer, Receipt, Refusal,
};
use crate::segment::SegmentError;
use crate::sync::acks::{self, Acks};
use crate::sync::cursor::CursorViolation;
use crate::sync::door::Ordering;
use crate::sync::rendezvous;
use crate::sync::ring::CursorMemory;
use crate::sync::stream::{GrowError, Marking, Need, PoolLimit, SendingEnd, Warmth};

/// An item that has no lane.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) bytes: Box<[u8]>,
    /// Whether somebody may have had it before.
    pub(super) is_again: bool,
}

/// What a consumer said when it was let in.
pub(super) struct Terms {
    /// The words that it writes.
    pub(super) words: CursorMemory,
    /// Items that it takes before it has settled the first.
    pub(super) credit: u64,
    /// Whether barriers on every processor reach it.
    pub(super) is_fenced: bool,
}

/// A lane that its consumer has not taken up yet.
pub(super) struct NewLane {
    pub(super) inlet: EndpointId,
    pub(super) end: SendingEnd,
    pub(super) outlet: Arc<PublisherShared>,
    pub(super) pool_limit: PoolLimit,
}

/// The producer's end of a lane.
pub(super) struct Lane {
    pub(super) inlet: EndpointId,
    end: SendingEnd,
    outlet: Arc<PublisherShared>,
    pool_limit: PoolLimit,
    words: CursorMemory,
    acks: Acks,
    credit: u64,
    is_fenced: bool,
    is_rendezvous: bool,
    /// How often the consumer had asked at the last look at that.
    asked: u64,
    /// It slept on an offer that went to another then, and has not asked since: it may be stopped.
    is_silent: bool,
    /// A pool segment that is not with the consumer yet.
    announced: Option<Receipt>,
    /// Of the last look.
    returned: Vec<u64>,
}

/// What came of the attempt to put an item into a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Done,
    /// The consumer has no credit, or what it has not settled keeps the memory.
    NotYet,
}

/// How much a consumer wants an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Eagerness {
    /// It does something else.
    None,
    /// It has asked since we looked last.
    Asks,
    /// It sleeps until it gets one.
    Sleeps,
}

/// Why an item fits into no lane, whatever its consumer settles.
#[derive(Debug)]
pub(super) enum Unfit {
    TooLarge,
    Segment(SegmentError),
}

impl Lane {
    /// The lane of a consumer that has been let in.
    pub(super) fn open(lane: NewLane, terms: Terms, is_rendezvous: bool) -> Self {
        let NewLane { inlet, mut end, outlet, pool_limit } = lane;
        let credit = terms.credit.min(outlet.slots() as u64);
        end.restrict(credit);
        let lane = Self {
            inlet,
            acks: Acks::new(outlet.slots()),
            end,
            outlet,
            pool_limit,
            words: terms.words,
            credit,
            is_fenced: terms.is_fenced,
            is_rendezvous,
            asked: 0,
            is_silent: false,
            announced: None,
            returned: Vec::new(),
        };
        lane.tell_terms();
        lane
    }

    fn tell_terms(&self) {
        let fenced = if self.is_fenced { TERMS_FENCED } else { 0 };
        let rendezvous = if self.is_rendezvous { TERMS_RENDEZVOUS } else { 0 };
        self.end.set_terms(fenced | rendezvous);
    }

    /// Whether the consumer relies on barriers of ours.
    pub(super) fn is_fenced(&self) -> bool {
        self.is_fenced
    }

    /// There are no barriers any more: the consumer has to fence itself.
    pub(super) fn fence_no_more(&mut self) {
        self.is_fenced = false;
        self.tell_terms();
    }

    /// Sends a short item if there is credit for it.
    #[inline(always)]
    pub(super) fn try_put(&mut self, bytes: &[u8]) -> bool {
        self.end.try_send_inline(bytes, Marking::Needless)
    }

    /// Wakes the consumer if it sleeps. Dekker: our item, fence, its bit against its bit, fence, our item.
    #[inline(always)]
    pub(super) fn wake(&self) {
        self.outlet.modes().fencing().of_sender();
        if self.outlet.has_sleepers() {
            self.ring();
        }
    }

    #[cold]
    #[inline(never)]
    fn ring(&self) {
        self.outlet.wake_sleepers(&[]);
    }

    /// How much the consumer wants an item, of a queue without depth.
    pub(super) fn eagerness(&self) -> Eagerness {
        let has_asked = self.words.asked().load(Ordering::Acquire) != self.asked;
        match self.outlet.has_sleepers() {
            true if has_asked || !self.is_silent => Eagerness::Sleeps,
            false if has_asked => Eagerness::Asks,
            _ => Eagerness::None,
        }
    }

    /// What the consumer has asked so far is answered, though perhaps not by us.
    pub(super) fn note_asked(&mut self) {
        let asked = self.words.asked().load(Ordering::Acquire);
        self.is_silent &= asked == self.asked;
        self.asked = asked;
    }

    /// The consumer sleeps on its offer, which another wants as much. Before that is withdrawn: who finds it withdrawn asks.
    pub(super) fn pass_over(&mut self) {
        self.note_asked();
        self.is_silent = true;
    }

    /// Whether the consumer has taken an item, of a queue without depth.
    pub(super) fn has_taken(&self, item: u64) -> bool {
        rendezvous::is_taken(self.words.taken(), item)
    }

    /// Withdraws an item of a queue without depth, unless the consumer has taken it; whether it is withdrawn.
    pub(super) fn withdraw(&mut self, item: u64) -> bool {
        let is_withdrawn = self.end.withdraw_untaken(&self.words, item);
        if is_withdrawn {
            self.acks.take_back(item);
        } else {
            self.wake();
        }
        is_withdrawn
    }

    /// Sends an item if there is credit and memory for it. The consumer is woken later.
    pub(super) fn put(&mut self, bytes: &[u8], is_again: bool) -> Result<Put, Unfit> {
        if self.prepare(bytes.len())? == Put::NotYet {
            return Ok(Put::NotYet);
        }
        self.end.loan_mut().copy_from_slice(bytes);
        if is_again {
            self.end.commit_again()
        } else {
            self.end.commit()
        }
        Ok(Put::Done)
    }

    /// Finds room for an item. May make memory, of which the consumer's node is told: not under that lock.
    pub(super) fn prepare(&mut self, length: usize) -> Result<Put, Unfit> {
        match self.end.prepare(length, Warmth::Warm, Marking::Needless) {
            Ok(()) => return Ok(Put::Done),
            Err(Need::Slot) => return Ok(Put::NotYet),
            Err(Need::Chunk(_)) => {}
        }
        self.take_notice();
        if self.end.is_window_short(length) && self.announced.is_none() {
            self.grow(length)?;
        }
        for warmth in [Warmth::Any, Warmth::AnySize] {
            if self.end.prepare(length, warmth, Marking::Needless).is_ok() {
                return Ok(Put::Done);
            }
        }
        if self.announced.is_none() && self.end.is_hopeless(length) {
            return Err(Unfit::TooLarge);
        }
        Ok(Put::NotYet)
    }

    fn grow(&mut self, length: usize) -> Result<(), Unfit> {
        // What the limit allows is not kept from its place for ever by the memory of shorter items.
        let limit = match self.pool_limit {
            PoolLimit::Chosen(bytes)
                if self.end.is_hopeless(length) && !self.end.may_grow(length, self.pool_limit) =>
            {
                PoolLimit::Usual(bytes)
            }
            limit => limit,
        };
        let grown = self.end.grow(length, limit).map_err(|error| match error {
            GrowError::TooLarge => Unfit::TooLarge,
            GrowError::Segment(source) => Unfit::Segment(source),
        })?;
        let Some(new) = grown else { return Ok(()) };
        let segment = self.outlet.segment_of(new);
        self.announced = Some(self.outlet.node.announce(&segment, &[self.inlet]));
        self.take_notice();
        Ok(())
    }

    /// Memory that the consumer knows of by now is used.
    fn take_notice(&mut self) {
        if self.announced.as_ref().is_some_and(Receipt::is_written) {
            self.announced = None;
            self.end.activate();
        }
    }

    /// Room that [`Lane::prepare`] has found.
    pub(super) fn loan_mut(&mut self) -> &mut [u8] {
        self.end.loan_mut()
    }

    /// Sends what lies in that room.
    pub(super) fn commit(&mut self) {
        self.end.commit();
        self.wake();
    }

    /// The number of the next item.
    pub(super) fn tail(&self) -> u64 {
        self.end.tail()
    }

    /// How many items the consumer takes before it has settled the first.
    pub(super) fn credit(&self) -> u64 {
        self.credit
    }

    /// How many more items there is credit for.
    pub(super) fn space(&self) -> u64 {
        self.end.space()
    }

    /// Looks at what the consumer has settled; what it gave back goes behind `back`. Whether there was anything.
    pub(super) fn look(&mut self, back: &mut impl Extend<Entry>) -> Result<bool, CursorViolation> {
        self.returned.clear();
        let has_news = self.acks.look(&self.words, self.end.tail(), &mut self.returned)?;
        if has_news {
            let entries = self.returned.iter().filter_map(|sequence| entry(&self.end, *sequence, true));
            back.extend(entries);
            self.end.release(self.acks.released());
        }
        Ok(has_news)
    }

    /// Whether the consumer takes no more.
    pub(super) fn has_gone(&self) -> bool {
        self.acks.left(&self.words, self.end.tail()).is_some()
    }

    /// What a consumer that takes no more has not seen goes behind `back`.
    pub(super) fn take_back_unseen(&mut self, back: &mut impl Extend<Entry>) {
        let Some(left) = self.acks.left(&self.words, self.end.tail()) else { return };
        let unseen: Vec<u64> = self.acks.open(&self.words, left, self.end.tail()).collect();
        for sequence in unseen {
            self.acks.take_back(sequence);
            back.extend(entry(&self.end, sequence, false));
        }
    }

    /// The lane is over: what the consumer has not settled goes behind `back`. How much it has acknowledged, in turn or not.
    pub(super) fn end(mut self, back: &mut impl Extend<Entry>) -> u64 {
        self.end.tell_taken_back(self.is_fenced);
        // A cursor that breaks the rules settles nothing more.
        let _ = self.look(back);
        self.take_back_unseen(back);
        let open: Vec<u64> = self.acks.open(&self.words, 0, self.end.tail()).collect();
        let acknowledged = self.acks.acknowledged_but(open.len() as u64, self.end.tail());
        back.extend(open.into_iter().filter_map(|sequence| entry(&self.end, sequence, true)));
        acknowledged
    }

    /// Items that are on their way or with the consumer.
    pub(super) fn unsettled(&self) -> u64 {
        self.acks.unsettled(self.end.tail())
    }

    /// Items that the consumer has acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acks.acknowledged()
    }

    /// Says that the producer waits for the consumer to settle something, or with zero that it does not.
    pub(super) fn mark_blocked(&self, epoch: u64) {
        self.end.mark_blocked(epoch);
    }

    /// Says how many items have no lane.
    pub(super) fn tell_unassigned(&self, count: u64) {
        self.end.tell_unassigned(count);
    }
}

/// An item that lies in a lane, whose consumer may have had it, as may others before.
fn entry(end: &SendingEnd, sequence: u64, may_be_seen: bool) -> Option<Entry> {
    let is_again = may_be_seen || end.was_again(sequence);
    end.sent(sequence).map(|bytes| Entry { bytes: bytes.into(), is_again })
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.outlet.node.remove_outlet(self.outlet.id());
    }
}

/// A lane as the control plane sees it: what happens to it its producer learns.
pub(super) struct LaneOutlet {
    pub(super) outlet: Arc<PublisherShared>,
    pub(super) producer: Weak<ProducerShared>,
}

impl LaneOutlet {
    fn tell(&self, what: impl FnOnce(&ProducerShared)) {
        if let Some(producer) = self.producer.upgrade() {
            what(&producer);
        }
    }
}

impl Outlet for LaneOutlet {
    fn id(&self) -> EndpointId {
        self.outlet.id()
    }

    fn channel(&self) -> &Channel {
        self.outlet.channel()
    }

    fn offer(&self) -> Option<Offer> {
        self.outlet.offer()
    }

    fn admit(&self, peer: &Peer, join: Join) -> Result<Admission, Refusal> {
        let unusable = |reason: &str| Err(Refusal::Unusable { reason: reason.to_owned() });
        if join.notes as usize != self.outlet.slots() {
            return unusable("it has another number of notes than the lane has slots");
        }
        if join.is_observer || join.history == 0 {
            return unusable("it takes no items");
        }
        let (inlet, credit, is_fenced) = (join.inlet, join.history.into(), join.fences_for_all);
        let admission = self.outlet.admit(peer, join)?;
        let Some(words) = self.outlet.cursor_of(inlet) else { return unusable("it has gone") };
        let consumer = Counterpart::new(inlet, peer);
        self.tell(|producer| producer.joined(consumer, Terms { words, credit, is_fenced }));
        Ok(admission)
    }

    fn part(&self, inlet: EndpointId) {
        self.outlet.part(inlet);
        self.tell(|producer| producer.left(inlet));
    }

    fn let_go(&self, inlet: EndpointId) {
        // As for a death: what lies in a lane is read by nobody else, and not used again.
        self.part(inlet);
    }

    fn listen(&self, inlet: EndpointId, eventfd: Arc<OwnedFd>) {
        self.outlet.listen(inlet, eventfd);
    }

    fn report(&self) -> OutletReport {
        let mut report = self.outlet.report();
        for reader in &mut report.readers {
            if let Some(words) = self.outlet.cursor_of(reader.id) {
                reader.lag = acks::unsettled_among(&words, self.outlet.slots(), report.sent, reader.lag);
            }
        }
        report
    }

    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal) {
        self.tell(|producer| producer.turned_down(node, node_name, refusal));
    }

    fn progressed(&self) {
        self.tell(ProducerShared::lane_progressed);
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Lane")
            .field("to", &self.inlet)
            .field("acks", &self.acks)
            .finish_non_exhaustive()
    }
}
