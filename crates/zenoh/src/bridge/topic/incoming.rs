//! A topic that comes in.
//!
//! Each publisher on another machine has one here that stands for it, so that what is sent here has its policy and its history, and its
//! messages the numbers that they had there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tidepost::{Overflow, Pattern, Publisher, Relayed, SendError, Shape, TypeDescriptor, Untyped};

use crate::bridge::context::{ASK_AGAIN, Context};
use crate::bridge::firsts;
use crate::bridge::intake::{self, Intake};
use crate::bridge::port::{Counters, PortError};
use crate::bridge::worker::{Running, SLICE, Stop};
use crate::envelope::{Beside, DomainId, Envelope, EnvelopeError, Sender};
use crate::link::{Arrived, Frame, Quality};
use crate::types::{self, TypeError};

/// Publishers of one topic on other machines that are told apart.
const PUBLISHERS_MAX: usize = 256;
/// How much later a machine may be known here than it knows of this one.
const SLACK: Duration = Duration::from_millis(100);
/// Messages that a publisher keeps for those who join later, at most.
const HISTORY_MAX: usize = 4096;

/// Opens the port by which a topic comes in.
pub(in crate::bridge) fn open(context: &Arc<Context>, name: &str) -> Result<Running, PortError> {
    let counters = Arc::<Counters>::default();
    let publishing = Publishing {
        context: Arc::clone(context),
        name: name.to_owned(),
        counters: Arc::clone(&counters),
        since: Instant::now(),
        opened: None,
        publishers: HashMap::new(),
        left: VecDeque::new(),
        absent: HashMap::new(),
        refused: Refusals::default(),
        before: HashSet::new(),
        missed: 0,
        wanted: HashMap::new(),
    };
    let quality = Quality::Reliable { cache: context.options.cache };
    intake::open(context, (Pattern::Topic, name), quality, &counters, publishing)
}

/// Who publishes here what a publisher on another machine has sent.
struct Standin {
    publisher: Publisher<Untyped>,
    message_type: TypeDescriptor,
    header_type: Option<TypeDescriptor>,
    encoding: Arc<str>,
    origin: Origin,
    due: Due,
}

/// What is due of a publisher.
#[derive(Clone, Copy)]
struct Due {
    /// The next number, unless messages have none.
    next: Option<u64>,
    /// Messages that were lost since the last that was published here.
    lost: u64,
    /// Whether nothing of it has been published here.
    is_new: bool,
}

/// Who sent a message, as far as it says.
type Origin = Option<(DomainId, Sender)>;

/// Those whose messages cannot be published, and their encodings: told once.
#[derive(Default)]
struct Refusals(HashMap<(Origin, Arc<str>), Option<Instant>>);

impl Refusals {
    /// Refuses these until then, or until their sender says farewell.
    fn add(&mut self, what: (Origin, Arc<str>), until: Option<Instant>) {
        if self.0.len() >= PUBLISHERS_MAX {
            // They are told of once more.
            self.0.clear();
        }
        self.0.insert(what, until);
    }

    fn holds(&self, what: &(Origin, Arc<str>), now: Instant) -> bool {
        self.0.get(what).is_some_and(|until| until.is_none_or(|until| now < until))
    }

    /// Whether messages of this sender are refused, and until when if not for good.
    fn until(&self, origin: Origin, now: Instant) -> Option<Option<Instant>> {
        let of_it = self.0.iter().filter(|((refused, _), _)| *refused == origin).map(|(_, until)| *until);
        of_it.filter(|until| until.is_none_or(|until| now < until)).max()
    }

    fn forget(&mut self, origin: Origin) {
        self.0.retain(|(refused, _), _| *refused != origin);
    }
}

/// How long an error stands in the way of a sender's messages.
enum Lasting {
    /// It is one of this message alone.
    Not,
    /// Its gateway may have been busy, or somebody else has answered, or there was no memory, or too many others.
    AWhile,
    ForGood,
}

impl Lasting {
    fn of(error: &PortError) -> Self {
        match error.downcast_ref() {
            Some(TypeError::Length { .. }) => Self::Not,
            Some(TypeError::Order { .. } | TypeError::Malformed(_)) => Self::ForGood,
            _ if error.is::<EnvelopeError>() => Self::Not,
            _ => Self::AWhile,
        }
    }
}

/// Publishes a topic here.
struct Publishing {
    context: Arc<Context>,
    name: String,
    counters: Arc<Counters>,
    /// Since when it is about to be received, which others may know before it is, and everybody remembered of whom something has come.
    since: Instant,
    /// Since when it is received, and everybody remembered of whom something has come.
    opened: Option<Instant>,
    publishers: HashMap<Origin, Standin>,
    /// What was due of those who said farewell last: what they sent may come once more.
    left: VecDeque<(Origin, Due)>,
    /// What was due of those whose machines have gone: they may come back.
    absent: HashMap<Origin, Due>,
    refused: Refusals,
    /// Those that were known before what is kept was asked for.
    before: HashSet<Origin>,
    /// Frames that found no room, of which nobody has been told.
    missed: u64,
    /// Messages that were said to be lacking, by who sent them.
    wanted: HashMap<Origin, u64>,
}

fn origin_of(envelope: Option<Envelope>) -> Origin {
    envelope.map(|envelope| (envelope.domain, envelope.sender))
}

/// What a sender is called in what goes before its messages here: the same by whatever bridge they come.
fn mark_of(DomainId(domain): DomainId, Sender { node, number }: Sender) -> [u64; 3] {
    let mixed = u128::from_le_bytes(domain) ^ u128::from_le_bytes(node);
    [mixed as u64, (mixed >> 64) as u64, number]
}

impl Intake for Publishing {
    const HAS_HISTORY: bool = true;

    fn take(&mut self, frame: Frame, envelope: Option<Envelope>, stop: &Stop) -> Result<(), PortError> {
        let origin = origin_of(envelope);
        if frame.is_farewell {
            self.refused.forget(origin);
            self.part_with(origin);
            return Ok(());
        }
        if envelope.is_some_and(|envelope| envelope.is_again && !self.is_wanted(envelope)) {
            return Ok(());
        }
        self.wanted.remove(&origin);
        if !self.meet(&frame, envelope)? {
            Counters::add(&self.counters.refused, 1);
            return Ok(());
        }
        let Some(standin) = self.publishers.get_mut(&origin) else { return Ok(()) };
        let missed = std::mem::take(&mut self.missed);
        if envelope.is_none() {
            // What has a number is missed by that.
            standin.due.lost = standin.due.lost.saturating_add(missed);
            Counters::add(&self.counters.lost, missed);
        }
        let sequence = envelope.map(|envelope| envelope.sequence);
        let beside = Beside::of(&frame.attachment)?;
        let message = [&*frame.payload];
        while !stop.is_set() && !standin.publish(&message, beside, sequence, SLICE, &self.counters)? {}
        Ok(())
    }

    fn begin(&mut self) {
        self.opened.get_or_insert_with(Instant::now);
        let known = self.absent.iter().filter(|(_, due)| !due.is_new).map(|(origin, _)| origin);
        self.before = self.publishers.keys().chain(known).copied().collect();
    }

    fn take_kept(&mut self, frame: Frame, envelope: Option<Envelope>, stop: &Stop) -> Result<(), PortError> {
        // What is missed of whoever is known comes again, or is counted, and what waits comes before what is kept.
        if self.before.contains(&origin_of(envelope)) { Ok(()) } else { self.take(frame, envelope, stop) }
    }

    fn take_at_once(&mut self, arrived: &Arrived<'_>, envelope: Option<Envelope>) -> bool {
        let sequence = envelope.map(|envelope| envelope.sequence);
        let is_easy = !arrived.is_farewell && self.missed == 0;
        let is_known = |standin: &&mut Standin| standin.encoding == *arrived.encoding;
        let standin = self.publishers.get_mut(&origin_of(envelope)).filter(is_known);
        let Some(standin) = standin.filter(|_| is_easy) else { return false };
        // What cannot be published at once is published by the thread that may wait, and so is what is to be refused.
        let Ok(beside) = Beside::of(arrived.attachment) else { return false };
        let published = standin.publish(arrived.payload, beside, sequence, Duration::ZERO, &self.counters);
        published.unwrap_or_else(|error| {
            Counters::add(&self.counters.refused, 1);
            self.context.note(format!("topic `{}`: {error}", self.name));
            true
        })
    }

    fn lacks(&mut self, envelopes: &[Envelope], age: Duration) -> Option<bool> {
        let (message, farewells) = envelopes.split_first()?;
        if self.lacks_message(*message, age)? {
            return Some(true);
        }
        let is_here = |farewell: &Envelope| self.publishers.contains_key(&origin_of(Some(*farewell)));
        Some(farewells.iter().any(|farewell| farewell.is_farewell() && is_here(farewell)))
    }

    fn miss(&mut self, frames: u64) {
        self.missed = self.missed.saturating_add(frames);
    }

    fn part(&mut self) {
        let remotes = &self.context.remotes;
        let gone =
            self.publishers.extract_if(|origin, _| !remotes.is_there(origin.map(|(domain, _)| domain)));
        self.absent.extend(gone.map(|(origin, standin)| (origin, standin.due)));
        if self.absent.len() > PUBLISHERS_MAX {
            self.absent.clear();
            self.begin_anew();
        }
    }
}

impl Publishing {
    /// What is due of somebody of whom something has come.
    fn due_of(&self, origin: Origin) -> Option<Due> {
        let here = self.publishers.get(&origin).map(|standin| standin.due);
        let left = || self.left.iter().find(|(left, _)| *left == origin).map(|(_, due)| *due);
        here.or_else(|| self.absent.get(&origin).copied()).or_else(left)
    }

    /// Whether a message, sent so long ago, is due and has not come.
    fn lacks_message(&mut self, envelope: Envelope, age: Duration) -> Option<bool> {
        let origin = origin_of(Some(envelope));
        let is_refused = self.refused.until(origin, Instant::now());
        if matches!(is_refused, Some(Some(_))) {
            // It may be taken then.
            return None;
        }
        let lacks = !envelope.is_farewell()
            && is_refused.is_none()
            && match self.due_of(origin) {
                Some(due) => due.next.is_some_and(|next| next <= envelope.sequence),
                // Who had not come, or did not receive it, when it was sent is not due it.
                None => {
                    let known_for = self.context.remotes.known_for(envelope.domain) + SLACK;
                    age < self.since.elapsed().min(known_for)
                }
            };
        if lacks {
            if self.wanted.len() >= PUBLISHERS_MAX && !self.wanted.contains_key(&origin) {
                // They are asked for again.
                self.wanted.clear();
            }
            self.wanted.insert(origin, envelope.sequence);
        }
        Some(lacks)
    }

    /// Whether something that is sent again is lacking here: it may have come before, or not be due.
    fn is_wanted(&self, envelope: Envelope) -> bool {
        let origin = origin_of(Some(envelope));
        match self.due_of(origin) {
            Some(due) => due.next.is_none_or(|next| next <= envelope.sequence),
            None => self.wanted.get(&origin) == Some(&envelope.sequence),
        }
    }

    /// Somebody says farewell; what it sent may come once more.
    fn part_with(&mut self, origin: Origin) {
        let (here, absent) = (self.publishers.remove(&origin), self.absent.remove(&origin));
        if let Some(due) = here.map(|standin| standin.due).or(absent) {
            self.left.retain(|(left, _)| *left != origin);
            self.left.push_back((origin, due));
            if self.left.len() > PUBLISHERS_MAX {
                self.left.pop_front();
            }
        }
    }

    /// Whoever is not remembered any more is met as if it came now.
    fn begin_anew(&mut self) {
        self.since = Instant::now();
        self.opened = Some(self.since);
    }

    /// Sees to it that somebody publishes here for the one that has sent this: `false` if it is known that nobody can.
    fn meet(&mut self, frame: &Frame, envelope: Option<Envelope>) -> Result<bool, PortError> {
        let origin = origin_of(envelope);
        if self.publishers.get(&origin).is_some_and(|standin| standin.encoding == frame.encoding) {
            return Ok(true);
        }
        let refusal = (origin, Arc::clone(&frame.encoding));
        if self.refused.holds(&refusal, Instant::now()) {
            return Ok(false);
        }
        // Whoever sends another type counts on all the same.
        let due = self.due_of(origin).unwrap_or_else(|| self.first_due(envelope));
        self.publishers.remove(&origin);
        self.absent.remove(&origin);
        match self.standin(frame, envelope, due) {
            Ok(standin) => {
                self.publishers.insert(origin, standin);
                Ok(true)
            }
            Err(error) => {
                // What is refused is missing if others are not.
                if self.absent.len() < PUBLISHERS_MAX {
                    self.absent.insert(origin, due);
                } else {
                    self.begin_anew();
                }
                match Lasting::of(&error) {
                    Lasting::Not => {}
                    Lasting::AWhile => self.refused.add(refusal, Some(Instant::now() + ASK_AGAIN)),
                    Lasting::ForGood => self.refused.add(refusal, None),
                }
                Err(error)
            }
        }
    }

    /// What is due of somebody who sends this, and of whom nothing has come before.
    fn first_due(&self, envelope: Option<Envelope>) -> Due {
        let age = self.opened.map_or(Duration::ZERO, |opened| opened.elapsed());
        let is_room = self.publishers.len() < PUBLISHERS_MAX;
        let ask = |envelope: Envelope| firsts::ask(&self.context, envelope, age);
        let next = envelope.map(|envelope| if is_room { ask(envelope) } else { envelope.sequence });
        Due { next, lost: 0, is_new: true }
    }

    /// How many messages somebody keeps here who keeps as many there: no more than may wait here.
    fn history(&self, message_type: &TypeDescriptor, envelope: Option<Envelope>) -> usize {
        let asked = envelope.map_or(0, |envelope| usize::from(envelope.history));
        let bytes = usize::try_from(message_type.size).unwrap_or(usize::MAX).max(1);
        // A ring has twice as many.
        asked.min(HISTORY_MAX).min((self.context.options.room_bytes / 2 / bytes).max(1))
    }

    fn standin(&self, frame: &Frame, envelope: Option<Envelope>, due: Due) -> Result<Standin, PortError> {
        if self.publishers.len() >= PUBLISHERS_MAX {
            return Err(
                format!("it has {PUBLISHERS_MAX} publishers on other machines, which is the limit").into()
            );
        }
        let (message_type, header_type) = self.context.types_of(&frame.encoding)?;
        // A header is one value, whatever its sender calls it.
        let header_type = header_type.map(|header_type| TypeDescriptor { shape: Shape::One, ..header_type });
        let beside = Beside::of(&frame.attachment)?;
        // Before memory is made for messages as long as somebody says.
        types::check_length(&message_type, frame.payload.len())?;
        let domain = envelope.map(|envelope| envelope.domain);
        let node = self.context.remotes.node(domain)?;
        let overflow = envelope.map_or(Overflow::DropOldest, |envelope| envelope.overflow);
        let mut topic = node.topic_dyn(&self.name).message_type(message_type.clone()).relaying();
        if let Some(header_type) = &header_type {
            topic = topic.header_type(header_type.clone());
        }
        if beside.sent_at_ns.is_some() {
            topic = topic.timestamps();
        }
        let publisher = topic.history(self.history(&message_type, envelope)).publisher(overflow)?;
        if let Some(refused) = publisher.refusals().into_iter().next() {
            self.context.note(format!("topic `{}`: {refused}", self.name));
        }
        let (encoding, origin) = (Arc::clone(&frame.encoding), origin_of(envelope));
        Ok(Standin { publisher, message_type, header_type, encoding, origin, due })
    }
}

impl Standin {
    /// Publishes a message: `false` if there is no room for it within `patience`.
    fn publish(
        &mut self,
        pieces: &[&[u8]],
        beside: Beside<'_>,
        sequence: Option<u64>,
        patience: Duration,
        counters: &Counters,
    ) -> Result<bool, PortError> {
        types::check_length(&self.message_type, pieces.iter().map(|piece| piece.len()).sum())?;
        self.header_type.as_ref().map_or(Ok(()), |due| types::check_length(due, beside.header.len()))?;
        let next = sequence.map(|sequence| self.due.next.unwrap_or(sequence));
        let missing = match sequence.zip(next) {
            Some((sequence, next)) if sequence < next => {
                // It has come before.
                return Ok(true);
            }
            Some((sequence, next)) => sequence - next,
            None => 0,
        };
        let lost = self.due.lost.saturating_add(missing);
        let relayed = Relayed {
            origin: self.origin.map(|(domain, sender)| mark_of(domain, sender)).unwrap_or_default(),
            number: sequence.unwrap_or(Relayed::NO_NUMBER),
            lost,
            sent_at: beside.sent_at_ns.map(|ns| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns)),
            header: self.header_type.as_ref().map(|_| beside.header),
        };
        let sent = match self.publisher.relay_pieces(&relayed, pieces, patience) {
            Err(SendError::Timeout { .. }) => return Ok(false),
            sent => sent,
        };
        Counters::add(&counters.lost, missing);
        self.due.is_new = false;
        self.due.next = sequence.map(|sequence| sequence.saturating_add(1));
        if sent.is_ok() {
            self.due.lost = 0;
            Counters::add(&counters.crossed, 1);
            return Ok(true);
        }
        self.due.lost = lost.saturating_add(1);
        Counters::add(&counters.lost, 1);
        match sent {
            Err(SendError::Full { .. }) | Ok(()) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_for_a_while_is_heard_again() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let origin = |number| Some((DomainId([1; 16]), Sender { node: [2; 16], number }));
        let [for_a_while, for_good] = [1, 2].map(|number| (origin(number), Arc::<str>::from("x")));
        refusals.add(for_a_while.clone(), Some(now + ASK_AGAIN));
        refusals.add(for_good.clone(), None);
        assert!(refusals.holds(&for_a_while, now) && refusals.holds(&for_good, now));
        assert!(!refusals.holds(&(origin(1), "y".into()), now), "another type may be known");
        let later = now + 2 * ASK_AGAIN;
        assert!(!refusals.holds(&for_a_while, later) && refusals.holds(&for_good, later));
        refusals.forget(origin(2));
        assert!(!refusals.holds(&for_good, now));
    }
}
