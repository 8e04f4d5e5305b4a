//! Topics across the network.
//!
//! What goes out carries its publisher and its number, so that what is lost on the way – for want of room here, or on the network – is
//! missing in the numbers, and is told to subscribers on the other side as any loss is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidepost::{
    Copied, EndpointId, Overflow, Pattern, Publisher, ReceiveError, Relayed, Sample, SendError, Subscriber,
    TypeDescriptor, Untyped,
};

use super::census::{Endpoint, Local};
use super::context::{Context, sender_of};
use super::intake::{self, Intake};
use super::outlet::Outlet;
use super::port::{Counters, Port, PortError};
use super::worker::{OnDemand, Running, SLICE, Stop, Worker};
use crate::envelope::{DomainId, Envelope, Sender};
use crate::link::{Frame, Quality, Sent};
use crate::types;

/// How long a topic goes on to be read here when nobody receives it there any more: whoever was cut off, and comes back within this
/// time, gets what is kept.
pub(super) const LINGER: Duration = Duration::from_secs(30);
/// Publishers of one topic on other machines that are told apart.
const PUBLISHERS_MAX: usize = 256;
/// Bytes of a message that is published on the engine's thread at most: a longer one takes it too long.
const AT_ONCE_BYTES_MAX: usize = 4096;

/// What publishers of a topic do when they are full.
type Policies = Arc<Mutex<HashMap<EndpointId, Overflow>>>;

/// The policy of this name, as reports have it.
fn overflow_of(policy: &str) -> Overflow {
    match policy {
        "fail" => Overflow::Fail,
        "drop-oldest" => Overflow::DropOldest,
        "latest" => Overflow::Latest,
        _ => Overflow::Block,
    }
}

/// Whether nothing of these publishers need arrive.
fn may_all_lose(senders: &[Endpoint]) -> bool {
    let may_lose =
        |sender: &Endpoint| matches!(overflow_of(sender.policy), Overflow::DropOldest | Overflow::Latest);
    senders.iter().all(may_lose)
}

/// A topic that goes out, as long as somebody receives it there.
#[derive(Debug)]
pub(super) struct TopicOut {
    context: Arc<Context>,
    name: String,
    outlet: Arc<Outlet>,
    reading: OnDemand,
    counters: Arc<Counters>,
    policies: Policies,
    /// Publishers that were there at the last look, and those that were gone at it.
    here: Vec<Endpoint>,
    leaving: Vec<Endpoint>,
}

impl TopicOut {
    pub(super) fn open(context: &Arc<Context>, name: &str, local: &Local) -> Result<Self, PortError> {
        let key = context.key(Pattern::Topic, name)?;
        let outlet = Arc::new(Outlet::open(context, key, may_all_lose(&local.senders))?);
        let (context, name) = (Arc::clone(context), name.to_owned());
        let (here, leaving, counters, policies) = Default::default();
        let reading = OnDemand::new(LINGER);
        let mut port = Self { context, name, outlet, reading, counters, policies, here, leaving };
        port.move_on(local)?;
        Ok(port)
    }

    /// Tells the other side which publishers have gone, a look after they went: what they sent last has been passed on by then.
    fn say_farewell(&mut self, local: &Local) -> Result<(), PortError> {
        let is_gone = |endpoint: &Endpoint| local.senders.iter().all(|sender| sender.id != endpoint.id);
        for gone in std::mem::take(&mut self.leaving) {
            let envelope = self.context.envelope(sender_of(gone.id), overflow_of(gone.policy), u64::MAX);
            self.outlet.try_send(envelope.into_farewell())?;
        }
        self.leaving = self.here.extract_if(.., |endpoint| is_gone(endpoint)).collect();
        self.here.clone_from(&local.senders);
        Ok(())
    }
}

impl Port for TopicOut {
    fn move_on(&mut self, local: &Local) -> Result<(), PortError> {
        self.say_farewell(local)?;
        let policies = local.senders.iter().map(|sender| (sender.id, overflow_of(sender.policy)));
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner) = policies.collect();
        if !may_all_lose(&local.senders) {
            self.outlet.be_reliable()?;
        }
        let Self { context, name, outlet, counters, policies, .. } = self;
        self.reading.tend(outlet.has_receivers(), || start(context, name, outlet, counters, policies))
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn stop(&mut self) {
        self.reading.stop();
    }
}

/// Starts to read a topic, and to pass it on.
fn start(
    context: &Arc<Context>,
    name: &str,
    outlet: &Arc<Outlet>,
    counters: &Arc<Counters>,
    policies: &Policies,
) -> Result<Worker, PortError> {
    let subscriber = context.node.topic_dyn(name).copied().subscriber()?;
    let mut passing = Passing {
        context: Arc::clone(context),
        outlet: Arc::clone(outlet),
        counters: Arc::clone(counters),
        policies: Arc::clone(policies),
        senders: HashMap::new(),
    };
    let handle = subscriber.handle();
    Worker::start(move || handle.cancel(), move |stop| passing.pass_all(subscriber, stop))
}

/// The thread that passes a topic on.
struct Passing {
    context: Arc<Context>,
    outlet: Arc<Outlet>,
    counters: Arc<Counters>,
    policies: Policies,
    /// What messages of each publisher are, and what it does when it is full.
    senders: HashMap<EndpointId, (Arc<str>, Overflow)>,
}

impl Passing {
    fn pass_all(&mut self, mut subscriber: Subscriber<Untyped, Copied>, stop: &Stop) {
        while !stop.is_set() {
            let passed = match subscriber.recv() {
                Ok(sample) => self.pass(&sample),
                Err(ReceiveError::Closed { .. }) => return,
                Err(error) => return self.context.note(error.to_string()),
            };
            match passed {
                Ok(Sent::Sent) => Counters::add(&self.counters.crossed, 1),
                // Whoever receives misses its number.
                Ok(Sent::Full) => Counters::add(&self.counters.lost, 1),
                Ok(Sent::NotConnected) => {}
                Ok(Sent::Closed) => return,
                Err(error) => {
                    Counters::add(&self.counters.refused, 1);
                    self.context.note(error.to_string());
                }
            }
        }
    }

    fn pass(&mut self, sample: &Sample<'_, Untyped>) -> Result<Sent, PortError> {
        let publisher = sample.publisher();
        let (encoding, overflow) = match self.senders.get(&publisher) {
            Some((encoding, overflow)) => (Arc::clone(encoding), *overflow),
            None => self.meet(publisher, sample.message_type())?,
        };
        let envelope = self.context.envelope(sender_of(publisher), overflow, sample.sequence());
        Ok(self.outlet.try_send(envelope.wrap(sample, encoding))?)
    }

    fn meet(
        &mut self,
        publisher: EndpointId,
        message_type: &TypeDescriptor,
    ) -> Result<(Arc<str>, Overflow), PortError> {
        let encoding = self.context.tell_type(message_type)?;
        let known = self.policies.lock().unwrap_or_else(PoisonError::into_inner).get(&publisher).copied();
        if let Some(overflow) = known {
            self.senders.insert(publisher, (Arc::clone(&encoding), overflow));
        }
        // Of whom the census does not know yet: with his next message he is asked for again.
        Ok((encoding, known.unwrap_or(Overflow::Block)))
    }
}

/// Opens the port by which a topic comes in.
pub(super) fn open_in(context: &Arc<Context>, name: &str) -> Result<Running, PortError> {
    let counters = Arc::<Counters>::default();
    let publishing = Publishing {
        context: Arc::clone(context),
        name: name.to_owned(),
        counters: Arc::clone(&counters),
        publishers: HashMap::new(),
        absent: HashMap::new(),
        refused: HashSet::new(),
        missed: 0,
    };
    let quality = Quality::Reliable { cache: context.options.cache };
    intake::open(context, (Pattern::Topic, name), quality, &counters, publishing)
}

/// Who publishes here what a publisher on another machine has sent.
struct Standin {
    publisher: Publisher<Untyped>,
    message_type: TypeDescriptor,
    encoding: Arc<str>,
    origin: Origin,
    due: Due,
}

/// What is due of a publisher.
#[derive(Clone, Copy, Default)]
struct Due {
    /// The next number, once there has been one.
    next: Option<u64>,
    /// Messages that were lost since the last that was published here.
    lost: u64,
}

/// Who sent a message, as far as it says.
type Origin = Option<(DomainId, Sender)>;

/// Publishes a topic here.
struct Publishing {
    context: Arc<Context>,
    name: String,
    counters: Arc<Counters>,
    publishers: HashMap<Origin, Standin>,
    /// What was due of those whose machines have gone: they may come back.
    absent: HashMap<Origin, Due>,
    /// Those whose messages cannot be published, and their encodings: told once.
    refused: HashSet<(Origin, Arc<str>)>,
    /// Frames that found no room, of which nobody has been told.
    missed: u64,
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
    fn take(&mut self, frame: Frame, envelope: Option<Envelope>, stop: &Stop) -> Result<(), PortError> {
        let origin = origin_of(envelope);
        if frame.is_farewell {
            self.publishers.remove(&origin);
            self.absent.remove(&origin);
            self.refused.retain(|(refused, _)| *refused != origin);
            return Ok(());
        }
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
        while !stop.is_set() && !standin.publish(&frame.payload, sequence, SLICE, &self.counters)? {}
        Ok(())
    }

    fn take_at_once(&mut self, frame: Frame, envelope: Option<Envelope>) -> Option<Frame> {
        let sequence = envelope.map(|envelope| envelope.sequence);
        let is_known = |standin: &&mut Standin| standin.encoding == frame.encoding;
        let standin = self.publishers.get_mut(&origin_of(envelope)).filter(is_known);
        let is_easy = !frame.is_farewell && frame.payload.len() <= AT_ONCE_BYTES_MAX && self.missed == 0;
        match standin.filter(|_| is_easy) {
            Some(standin) => {
                match standin.publish(&frame.payload, sequence, Duration::ZERO, &self.counters) {
                    Ok(true) => None,
                    Ok(false) | Err(_) => Some(frame),
                }
            }
            None => Some(frame),
        }
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
            // Whoever was gone that long has gone.
            self.absent.clear();
        }
    }
}

impl Publishing {
    /// Sees to it that somebody publishes here for the one that has sent this: `false` if it is known that nobody can.
    fn meet(&mut self, frame: &Frame, envelope: Option<Envelope>) -> Result<bool, PortError> {
        let origin = origin_of(envelope);
        if self.publishers.get(&origin).is_some_and(|standin| standin.encoding == frame.encoding) {
            return Ok(true);
        }
        let refusal = (origin, Arc::clone(&frame.encoding));
        if self.refused.contains(&refusal) {
            return Ok(false);
        }
        // Whoever sends another type counts on all the same.
        let before = self.publishers.remove(&origin).map(|standin| standin.due);
        let due = before.or_else(|| self.absent.remove(&origin)).unwrap_or_default();
        match self.standin(frame, envelope, due) {
            Ok(standin) => {
                self.publishers.insert(origin, standin);
                Ok(true)
            }
            Err(error) => {
                if self.refused.len() >= PUBLISHERS_MAX {
                    // They are told of once more.
                    self.refused.clear();
                }
                self.refused.insert(refusal);
                Err(error)
            }
        }
    }

    fn standin(&self, frame: &Frame, envelope: Option<Envelope>, due: Due) -> Result<Standin, PortError> {
        if self.publishers.len() >= PUBLISHERS_MAX {
            return Err(
                format!("it has {PUBLISHERS_MAX} publishers on other machines, which is the limit").into()
            );
        }
        let message_type = self.context.type_of(&frame.encoding)?;
        // Before memory is made for messages as long as somebody says.
        types::check_length(&message_type, frame.payload.len())?;
        let domain = envelope.map(|envelope| envelope.domain);
        let node = self.context.remotes.node(domain)?;
        let overflow = envelope.map_or(Overflow::DropOldest, |envelope| envelope.overflow);
        let topic = node.topic_dyn(&self.name).message_type(message_type.clone()).header::<Relayed>();
        let publisher = topic.publisher(overflow)?;
        if let Some(refused) = publisher.refusals().into_iter().next() {
            self.context.note(format!("topic `{}`: {refused}", self.name));
        }
        let (encoding, origin) = (Arc::clone(&frame.encoding), origin_of(envelope));
        Ok(Standin { publisher, message_type, encoding, origin, due })
    }
}

impl Standin {
    /// Publishes a message: `false` if there is no room for it within `patience`.
    fn publish(
        &mut self,
        message: &[u8],
        sequence: Option<u64>,
        patience: Duration,
        counters: &Counters,
    ) -> Result<bool, PortError> {
        types::check_length(&self.message_type, message.len())?;
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
        let header = Relayed {
            origin: self.origin.map(|(domain, sender)| mark_of(domain, sender)).unwrap_or_default(),
            number: sequence.unwrap_or(Relayed::NO_NUMBER),
            lost,
        };
        let sent = match self.publisher.send_with_timeout(&header, Untyped::new(message), patience) {
            Err(SendError::Timeout { .. }) => return Ok(false),
            sent => sent,
        };
        Counters::add(&counters.lost, missing);
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
