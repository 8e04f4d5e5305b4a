//! What a publisher shares with its node's control plane: who reads, where they sleep, who turned it down.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64 as PlainAtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::carriage::Carriage;
use super::error::Refused;
use super::event::{Counterpart, Event, Events};
use super::overflow::Overflow;
use super::refusals::{Refusals, refused};
use super::sleepers::Sleepers;
use super::state::Base;
use crate::node::{
    Admission, Carrier, Carrying, Channel, EndpointId, EndpointRole, Join, NewRing, NodeId, NodeShared,
    Offer, Outlet, OutletReport, Pattern, Peer, ReaderReport, Refusal, Segment, TypeDescriptor, Violation,
    policy_name,
};
use crate::sync::bell::{Fencing, Line, PeerSleeper};
use crate::sync::cursor::CursorWords;
use crate::sync::door::AtomicU64;
use crate::sync::readers::{Readers, Standing};
use crate::sync::ring::CursorMemory;
use crate::sync::store_line::StoreWord;
use crate::sync::stream::{Marking, NewSegment, Retention};

/// One subscriber, as its publisher knows it.
#[derive(Debug)]
pub(super) struct Reader {
    subscriber: Counterpart,
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
    fn lost(&self) -> &AtomicU64 {
        self.cursor.lost()
    }
    fn pin(&self, index: usize) -> &AtomicU64 {
        self.cursor.pin(index)
    }
    fn pins(&self) -> usize {
        self.cursor.pins()
    }
}

/// What a publisher has to mind on each send, in one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Modes(u32);

impl Modes {
    /// Some subscriber cannot fence for us.
    const FENCES: u32 = 1;
    /// Some subscriber may lose messages.
    const MARKS: u32 = 2;
    /// Time, origin or header come before each message.
    const HAS_PREFIX: u32 = 4;
    /// It was cancelled, or its node shut down.
    const CLOSED: u32 = 8;
    /// Somebody asked it to let go of subscribers.
    const DETACHES: u32 = 16;
    /// It is a lane, and its reader has gone.
    const OVER: u32 = 32;
    /// There is somebody who carries what is sent.
    const CARRIED: u32 = 64;
    /// What has to be seen to before a message is sent, but for marking its slot.
    const IN_THE_WAY: u32 = Self::HAS_PREFIX | Self::CLOSED | Self::DETACHES | Self::OVER | Self::CARRIED;

    /// Whether a message may be sent without further ado.
    #[inline]
    pub(super) fn are_plain(self) -> bool {
        self.0 & (Self::MARKS | Self::IN_THE_WAY) == 0
    }

    /// Whether a message may be sent without further ado once its slot has been marked.
    #[inline]
    pub(super) fn only_mark(self) -> bool {
        self.0 & (Self::MARKS | Self::IN_THE_WAY) == Self::MARKS
    }

    /// Whether there are subscribers to let go of.
    #[inline]
    pub(super) fn must_detach(self) -> bool {
        self.0 & Self::DETACHES != 0
    }

    /// Whether somebody carries what is sent.
    #[inline]
    pub(super) fn are_carried(self) -> bool {
        self.0 & Self::CARRIED != 0
    }

    /// How the publisher fences between a message and its look at the sleepers.
    #[inline]
    pub(super) fn fencing(self) -> Fencing {
        if self.0 & Self::FENCES == 0 { Fencing::Asymmetric } else { Fencing::Full }
    }

    /// Whether slots are marked before they are written.
    #[inline]
    pub(super) fn marking(self) -> Marking {
        if self.0 & Self::MARKS == 0 { Marking::Needless } else { Marking::Needed }
    }
}

/// The part of a publisher that its control plane also touches.
#[derive(Debug)]
pub(super) struct PublisherShared {
    pub(super) node: Arc<NodeShared>,
    pub(super) channel: Channel,
    face: Face,
    /// Where the publisher sleeps.
    pub(super) sleeper: Arc<Line>,
    /// Where its subscribers set their bits.
    sleepers: Sleepers,
    modes: AtomicU32,
    tail: StoreWord,
    retention: Retention,
    /// The position, plus 1, that somebody has to pass before the publisher can go on; 0 if it is not waiting.
    blocked_on: PlainAtomicU64,
    /// Whether it is waiting for memory, which those who hold messages keep as well.
    awaits_memory: AtomicBool,
    pub(super) events: Events,
    /// Those who are to carry what is sent, and of whom the publisher does not know yet.
    carriers: Mutex<Carriers>,
    state: Mutex<State>,
}

/// Who is to carry what is sent, and for which subscriber; and subscribers that have gone.
#[derive(Default)]
struct Carriers {
    new: Vec<(EndpointId, Box<dyn Carrying>)>,
    gone: Vec<EndpointId>,
}

impl std::fmt::Debug for Carriers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} new, {} gone", self.new.len(), self.gone.len())
    }
}

/// What of an offer stands as long as its publisher.
#[derive(Debug)]
struct Face {
    outlet: EndpointId,
    /// The hub whose lane it is, if it is one.
    lane_of: Option<EndpointId>,
    descriptor: TypeDescriptor,
    slots: u32,
    overflow: u32,
    base: u64,
}

impl Face {
    fn of(offer: &Offer) -> Self {
        Self {
            outlet: offer.outlet,
            lane_of: offer.lane.as_ref().map(|lane| lane.from),
            descriptor: offer.descriptor.clone(),
            slots: offer.slots,
            overflow: offer.overflow,
            base: offer.base,
        }
    }
}

/// The offer, with the first ring; none once nobody else can take it up.
struct OpenOffer(Option<Offer>);

impl std::fmt::Debug for OpenOffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_some() { "open" } else { "taken up" })
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) readers: Readers<Reader>,
    /// Messages below this number are not there any more, although they were to be kept for joiners.
    pub(super) floor: u64,
    segments: SegmentList,
    offer: OpenOffer,
    /// The ring that is written by now, if it is not the first.
    ring: CurrentRing,
    /// Subscribers that the publisher was asked to let go of, and has not yet.
    to_detach: Vec<EndpointId>,
    refusals: Refusals,
}

/// The ring for those who join.
#[derive(Default)]
struct CurrentRing(Option<NewRing>);

impl std::fmt::Debug for CurrentRing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ring {}", self.0.as_ref().map_or(0, |ring| ring.generation))
    }
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
    /// `sleeper` is the line on which the publisher sleeps, `sleepers` that of its first subscribers.
    pub(super) fn new(
        node: Arc<NodeShared>,
        offer: Offer,
        (sleeper, sleepers): (Arc<Line>, Line),
        tail: StoreWord,
        retention: Retention,
        has_prefix: bool,
    ) -> Self {
        let (channel, face, is_relayed) = (offer.channel.clone(), Face::of(&offer), offer.is_relayed);
        let state = State {
            readers: Readers::new(),
            floor: 0,
            segments: SegmentList::default(),
            offer: OpenOffer(Some(offer)),
            ring: CurrentRing::default(),
            to_detach: Vec::new(),
            refusals: Refusals::default(),
        };
        // Without barriers on every processor, a publisher cannot be told of its first loser while it runs.
        let is_alone = Fencing::of_this_process() == Fencing::Full;
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        // Who passes messages on fences for itself, as its subscribers know.
        let modes = flag(is_alone || is_relayed, Modes::FENCES)
            | flag(is_alone || retention.drops_oldest, Modes::MARKS)
            | flag(has_prefix, Modes::HAS_PREFIX);
        Self {
            node,
            channel,
            face,
            sleeper,
            sleepers: Sleepers::new(sleepers),
            modes: AtomicU32::new(modes),
            tail,
            retention,
            blocked_on: PlainAtomicU64::new(0),
            awaits_memory: AtomicBool::new(false),
            events: Events::default(),
            carriers: Mutex::default(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn descriptor(&self) -> &TypeDescriptor {
        &self.face.descriptor
    }

    /// Slots of the ring.
    pub(super) fn slots(&self) -> usize {
        self.face.slots as usize
    }

    /// The words of a subscriber that has been let in.
    pub(super) fn cursor_of(&self, inlet: EndpointId) -> Option<CursorMemory> {
        let mut state = self.state();
        let reader = state.readers.iter_mut().find(|reader| reader.subscriber.id == inlet);
        reader.map(|reader| reader.cursor.clone())
    }

    /// What has to be minded now.
    #[inline]
    pub(super) fn modes(&self) -> Modes {
        Modes(self.modes.load(Ordering::Relaxed))
    }

    /// Whether the publisher was cancelled, or its node shut down.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.modes.load(Ordering::Relaxed) & Modes::CLOSED != 0
    }

    /// Whether it is for one reader alone.
    pub(super) fn is_lane(&self) -> bool {
        self.face.lane_of.is_some()
    }

    /// Whether it is a lane whose reader has gone. That may be reading still, if it is only its connection that is over, so
    /// nothing comes free any more. Said under the readers' lock: whoever has it, and asks before a look, knows.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.modes.load(Ordering::Relaxed) & Modes::OVER != 0
    }

    /// Under the readers' lock: one of them has gone.
    fn note_gone(&self) {
        if self.is_lane() {
            self.modes.fetch_or(Modes::OVER, Ordering::Relaxed);
        }
    }

    /// Ends every wait of the publisher, and those that it would begin.
    pub(super) fn cancel(&self) {
        if self.node.is_inherited() {
            return;
        }
        self.modes.fetch_or(Modes::CLOSED, Ordering::Relaxed);
        self.wake();
        self.node.nudge();
    }

    fn wake(&self) {
        self.sleeper.wake_own();
    }

    /// From now on the publisher fences itself; it knows before this returns.
    fn fence_from_now_on(&self) {
        if self.modes.fetch_or(Modes::FENCES, Ordering::Relaxed) & Modes::FENCES == 0 {
            // Without it the publisher learns a little later, and who joins does not sleep at once.
            let _ = Fencing::Asymmetric.of_sleeper();
        }
    }

    /// From now on the publisher marks each slot before it writes it; `false` if it could not be told so. But for the one
    /// message that it may be writing, it knows before this returns.
    fn mark_from_now_on(&self) -> bool {
        let was_marking = self.modes.fetch_or(Modes::MARKS, Ordering::Relaxed) & Modes::MARKS != 0;
        let is_told = was_marking || Fencing::Asymmetric.of_sleeper();
        if !is_told {
            self.modes.fetch_and(!Modes::MARKS, Ordering::Relaxed);
        }
        is_told
    }

    /// Whether any subscriber's bit is set. After a message and a full fence.
    #[inline]
    pub(super) fn has_sleepers(&self) -> bool {
        self.sleepers.are_there()
    }

    fn carriers(&self) -> MutexGuard<'_, Carriers> {
        self.carriers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds those who are to carry what is sent from now on, and lets go of those for subscribers that have gone. If there is nobody, it
    /// is not carried any more.
    pub(super) fn find_carriers(&self, carriage: &mut Carriage) {
        let mut carriers = self.carriers();
        let Carriers { new, gone } = std::mem::take(&mut *carriers);
        if !carriage.change(new, &gone) {
            self.modes.fetch_and(!Modes::CARRIED, Ordering::Relaxed);
        }
    }

    /// Nothing is carried for these subscribers any more.
    fn carry_no_more(&self, subscribers: &[EndpointId]) {
        if self.modes().are_carried() {
            let mut carriers = self.carriers();
            carriers.new.retain(|(subscriber, _)| !subscribers.contains(subscriber));
            carriers.gone.extend(subscribers);
        }
    }

    /// Wakes every subscriber whose bit is set, but for these.
    pub(super) fn wake_sleepers(&self, but: &[EndpointId]) {
        for reader in self.state().readers.iter_mut() {
            if self.sleepers.is_set(reader.bit) && !but.contains(&reader.subscriber.id) {
                reader.sleeper.ring();
            }
        }
    }

    /// Takes out the subscribers whose cursors broke the rules, and has their connections dropped.
    pub(super) fn expel_violators(&self) {
        let mut state = self.state();
        let violators: Vec<_> = state.readers.remove_violators().collect();
        violators.iter().for_each(|(reader, _)| self.sleepers.clear(reader.bit));
        if !violators.is_empty() {
            self.note_gone();
        }
        drop(state);
        for (reader, violation) in violators {
            self.node.accuse(reader.subscriber.id.node, &Violation(violation.to_string()));
        }
    }

    /// What readers are told of a further segment.
    pub(super) fn segment_of(&self, new: NewSegment) -> Segment {
        Segment {
            outlet: self.face.outlet,
            index: new.index,
            chunks: new.chunks,
            chunk_bytes: new.chunk_bytes as u64,
            memory: new.created.memory,
        }
    }

    /// Remembers a segment for later joiners. A lane has none once its reader is there.
    pub(super) fn add_segment(&self, segment: Segment) {
        let mut state = self.state();
        if !self.is_lane() || state.readers.attached().next().is_none() {
            state.segments.0.push(segment);
        }
    }

    pub(super) fn refusals(&self) -> Vec<Refused> {
        self.state().refusals.list()
    }

    /// The notes of the only reader of a lane, once it is there.
    pub(super) fn notes(&self) -> Option<CursorMemory> {
        self.state().readers.attached().next().map(|reader| reader.cursor.clone())
    }

    /// How many subscribers read.
    pub(super) fn readers(&self) -> usize {
        self.state().readers.reading()
    }

    /// Those whom the publisher waits for, or would, and who have not read up to `position`.
    pub(super) fn waited_for(&self, position: u64) -> Vec<Counterpart> {
        self.state().readers.waited_for(position).map(|reader| reader.subscriber.clone()).collect()
    }

    /// Asks the publisher to let go of a subscriber; whether there is such a one.
    pub(super) fn detach(&self, inlet: EndpointId) -> bool {
        if self.node.is_inherited() {
            return false;
        }
        let mut state = self.state();
        let is_there = state.readers.attached().any(|reader| reader.subscriber.id == inlet);
        if is_there {
            state.to_detach.push(inlet);
            self.modes.fetch_or(Modes::DETACHES, Ordering::Relaxed);
        }
        drop(state);
        self.wake();
        self.node.nudge();
        is_there
    }

    /// Those that the publisher was asked to let go of, if they are still there.
    pub(super) fn take_detaching(&self) -> Vec<EndpointId> {
        let mut state = self.state();
        self.modes.fetch_and(!Modes::DETACHES, Ordering::Relaxed);
        let wanted = std::mem::take(&mut state.to_detach);
        let there: Vec<_> = state.readers.attached().map(|reader| reader.subscriber.id).collect();
        wanted.into_iter().filter(|inlet| there.contains(inlet)).collect()
    }

    /// The publisher has gone on in this ring; those that are named do not follow.
    pub(super) fn move_on(&self, memory: Arc<OwnedFd>, start: u64, detached: &[EndpointId]) {
        let mut state = self.state();
        let generation = state.ring.0.as_ref().map_or(0, |ring| ring.generation) + 1;
        let ring = NewRing { outlet: self.face.outlet, generation, start, memory };
        state.ring.0 = Some(ring.clone());
        state.floor = start;
        self.carry_no_more(detached);
        let let_go = state.readers.detach(start, |reader| detached.contains(&reader.subscriber.id));
        // One that sleeps is not woken any more, and is not to be looked for with each message.
        let_go.iter().for_each(|reader| self.sleepers.clear(reader.bit));
        let let_go: Vec<_> = let_go.into_iter().map(|reader| reader.subscriber.clone()).collect();
        drop(state);
        let_go.into_iter().for_each(|subscriber| self.events.push(Event::Left(subscriber)));
        self.node.move_on(&ring, detached);
    }

    /// Whether there are subscribers, and none that may lose messages.
    pub(super) fn waits_for_all(&self) -> bool {
        let state = self.state();
        state.readers.reading() > 0 && !state.readers.has_losers()
    }

    /// Those whom the publisher waits for.
    pub(super) fn reliable(&self) -> Vec<EndpointId> {
        let state = self.state();
        let reliable = state.readers.positions().filter(|(_, standing, _)| *standing == Standing::Reliable);
        reliable.map(|(reader, ..)| reader.subscriber.id).collect()
    }

    /// The publisher is waiting for whoever has not read up to a position, or not any more.
    pub(super) fn set_blocked_on(&self, position: Option<u64>) {
        self.blocked_on.store(position.map_or(0, |position| position + 1), Ordering::Relaxed);
        if position.is_none() {
            self.awaits_memory.store(false, Ordering::Relaxed);
        }
    }

    /// As [`PublisherShared::set_blocked_on`], for memory that those who hold messages keep as well.
    pub(super) fn set_short_of_memory(&self, position: u64) {
        self.awaits_memory.store(true, Ordering::Relaxed);
        self.set_blocked_on(Some(position));
    }

    /// Those whom the publisher is waiting for at this moment.
    pub(super) fn blocked_by(&self) -> Vec<Counterpart> {
        match self.blocked_on.load(Ordering::Relaxed) {
            0 => Vec::new(),
            position if self.awaits_memory.load(Ordering::Relaxed) => {
                let state = self.state();
                state.readers.keeping(position - 1).map(|reader| reader.subscriber.clone()).collect()
            }
            position => self.waited_for(position - 1),
        }
    }

    /// The publisher is about to sleep: that is an event.
    pub(super) fn tell_blocked(&self) {
        let by = self.blocked_by();
        if !by.is_empty() {
            self.events.push(Event::Blocked { by });
        }
    }

    fn reader(peer: &Peer, join: &Join, bit: u32) -> Result<Reader, Refusal> {
        let unusable = |reason: String| Refusal::Unusable { reason };
        let none = || unusable("it has no cursor".to_owned());
        let memory = join.cursor.as_ref().ok_or_else(none)?;
        let cursor = CursorMemory::receive(memory, join.cursor_offset, (join.hold_limit, join.notes))
            .map_err(|error| unusable(error.to_string()))?;
        let sleeper = peer.bell.sleeper(join.sleeper_line, join.eventfd.clone());
        let sleeper =
            sleeper.ok_or_else(|| unusable(format!("bell line {} does not exist", join.sleeper_line)))?;
        Ok(Reader { subscriber: Counterpart::new(join.inlet, peer), bit, cursor, sleeper })
    }

    fn standing(&self, join: &Join) -> Standing {
        match (join.is_observer, self.retention.drops_oldest) {
            (true, _) => Standing::Observer,
            (false, true) => Standing::Droppable,
            (false, false) => Standing::Reliable,
        }
    }
}

impl Outlet for PublisherShared {
    fn id(&self) -> EndpointId {
        self.face.outlet
    }

    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn offer(&self) -> Option<Offer> {
        let state = self.state();
        let mut offer = state.offer.0.clone()?;
        if self.channel.pattern() == Pattern::State {
            let sent = self.tail.load(crate::sync::door::Ordering::Relaxed);
            offer.base = Base::from_bits(offer.base).after(sent).bits();
        }
        Some(match state.ring.0.clone() {
            Some(NewRing { generation, memory, .. }) => Offer { generation, ring: memory, ..offer },
            None => offer,
        })
    }

    fn admit(&self, peer: &Peer, join: Join) -> Result<Admission, Refusal> {
        let mut state = self.state();
        let full = || Refusal::Unusable { reason: "there is no bell line for its bit".to_owned() };
        let used = state.readers.iter_mut().map(|reader| reader.bit).collect();
        let bit = self.sleepers.assign(used, self.node.bell()).ok_or_else(full)?;
        let reader = Self::reader(peer, &join, bit)?;
        let subscriber = reader.subscriber.clone();
        let standing = self.standing(&join);
        if standing != Standing::Reliable && !self.mark_from_now_on() {
            let reason = "the publisher's process can have no barriers any more, which observers need";
            return Err(Refusal::Unusable { reason: reason.to_owned() });
        }
        // The publisher computed its limit under this lock, from cursors and a history no higher than the tail it had then:
        // from here on nothing at or above `start` is overwritten before the new cursor has passed it. One that nobody
        // waits for starts above all that is written without a mark, as the tail is read after the barrier.
        let tail = self.tail.load(crate::sync::door::Ordering::Relaxed);
        let history = self.retention.history.min(join.history as usize) as u64;
        let start = tail.saturating_sub(history).max(state.floor).min(tail);
        state.readers.admit(reader, standing, start);
        if !join.fences_for_all {
            self.fence_from_now_on();
        }
        let segments = state.segments.0.clone();
        if self.is_lane() {
            // Their descriptors would be of no use any more.
            state.segments.0.clear();
            state.offer.0 = None;
        }
        // Its offer may be older than the ring. Nothing before `start` concerns it.
        let ring = state.ring.0.clone().filter(|ring| ring.generation > join.generation);
        let ring = ring.map(|ring| NewRing { start, ..ring });
        drop(state);
        self.events.push(Event::Joined(subscriber));
        self.wake();
        let (sleepers_line, sleepers_bit) = self.sleepers.place(bit);
        let (outlet, inlet) = (join.outlet, join.inlet);
        Ok(Admission { outlet, inlet, start, sleepers_line, sleepers_bit, segments, ring })
    }

    fn part(&self, inlet: EndpointId) {
        self.carry_no_more(&[inlet]);
        let mut state = self.state();
        state.to_detach.retain(|id| *id != inlet);
        let gone: Vec<_> = state.readers.remove(|reader| reader.subscriber.id == inlet).collect();
        gone.iter().for_each(|(reader, _)| self.sleepers.clear(reader.bit));
        self.note_gone();
        drop(state);
        // The leaving of one that was detached has been told.
        let leaving = gone.into_iter().filter(|(_, was_detached)| !was_detached);
        leaving.for_each(|(reader, _)| self.events.push(Event::Left(reader.subscriber)));
        self.wake();
    }

    fn let_go(&self, inlet: EndpointId) {
        self.detach(inlet);
    }

    fn listen(&self, inlet: EndpointId, eventfd: Arc<OwnedFd>) {
        let mut state = self.state();
        if let Some(reader) = state.readers.iter_mut().find(|reader| reader.subscriber.id == inlet) {
            reader.sleeper.listen_on(eventfd);
        }
    }

    fn carry(&self, inlet: EndpointId, carrier: &dyn Carrier, next: u64) {
        let may_wait = Overflow::of_code(self.face.overflow) == Some(Overflow::Block);
        let is_bare = self.modes.load(Ordering::Relaxed) & Modes::HAS_PREFIX == 0;
        let is_topic = self.channel.pattern() == Pattern::Topic && !self.is_lane();
        if is_topic && may_wait && is_bare && self.retention.history == 0 {
            let carrying = carrier.begin(self.face.outlet, &self.face.descriptor, next);
            self.carriers().new.push((inlet, carrying));
            self.modes.fetch_or(Modes::CARRIED, Ordering::Relaxed);
        }
    }

    fn report(&self) -> OutletReport {
        let (tail, face) = (self.tail.load(crate::sync::door::Ordering::Relaxed), &self.face);
        let blocked_on = self.blocked_on.load(Ordering::Relaxed);
        let state = self.state();
        let readers = state.readers.positions().map(|(reader, standing, last)| {
            let position = reader.cursor().load(Ordering::Relaxed).max(last).min(tail);
            let is_reliable = standing == Standing::Reliable;
            ReaderReport {
                id: reader.subscriber.id,
                is_reliable,
                lag: tail - position,
                lost: reader.lost().load(Ordering::Relaxed),
                is_blocking: is_reliable && position + 1 < blocked_on,
            }
        });
        OutletReport {
            id: face.lane_of.unwrap_or(face.outlet),
            pattern: self.channel.pattern(),
            name: self.channel.name().to_owned(),
            role: match Base::from_bits(face.base).is_relay() && self.channel.pattern() == Pattern::State {
                true => EndpointRole::Keeper,
                false => EndpointRole::Sender,
            },
            message_type: Some(face.descriptor.clone()),
            policy: policy_name(face.overflow),
            sent: tail,
            waiting: 0,
            is_blocked: blocked_on != 0,
            history: u32::try_from(self.retention.history).unwrap_or(u32::MAX),
            readers: readers.collect(),
        }
    }

    fn refused(&self, node: NodeId, node_name: &str, refusal: Refusal) {
        let refused = refused(node, node_name, refusal);
        self.state().refusals.remember(refused.clone());
        self.events.push(Event::Refused(refused));
        self.wake();
    }

    fn progressed(&self) {
        if self.node.is_shut_down() {
            self.modes.fetch_or(Modes::CLOSED, Ordering::Relaxed);
        }
        self.wake();
    }
}
