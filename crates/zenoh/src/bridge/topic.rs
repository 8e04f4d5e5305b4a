//! Topics across the network.
//!
//! What goes out carries its publisher and its number, so that what is lost on the way – for want of room here, or on the network – is
//! missing in the numbers, and is told to subscribers on the other side as any loss is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidepost::{
    Copied, EndpointId, Overflow, Publisher, Relayed, SendError, Subscriber, TypeDescriptor, Untyped,
};

use super::census::{Endpoint, Local};
use super::context::{Context, sender_of};
use super::port::{Counters, Counts, Port, PortError};
use super::worker::{Stop, Worker};
use crate::envelope::{DomainId, Envelope, Sender, now_ns};
use crate::link::{Frame, Quality, Received, Sent, Sink, Source};
use crate::types;

/// How long a wait may last before it is looked whether it is to end.
const SLICE: Duration = Duration::from_millis(200);
/// How long a topic goes on to be read here when nobody receives it there any more: whoever was cut off, and comes back within this
/// time, gets what is kept.
const LINGER: Duration = Duration::from_secs(30);
/// Publishers of one topic on other machines that are told apart.
const PUBLISHERS_MAX: usize = 256;

/// What publishers of a topic do when they are full.
type Policies = Arc<Mutex<HashMap<EndpointId, Overflow>>>;

/// The policy of a publisher of this name.
pub(super) fn overflow_of(policy: &str) -> Overflow {
    match policy {
        "fail" => Overflow::Fail,
        "drop-oldest" => Overflow::DropOldest,
        "latest" => Overflow::Latest,
        _ => Overflow::Block,
    }
}

/// A topic that goes out, as long as somebody receives it there.
#[derive(Debug)]
pub(super) struct TopicOut {
    context: Arc<Context>,
    name: String,
    sink: Arc<dyn Sink>,
    worker: Option<Worker>,
    /// When somebody received it last.
    received_at: Instant,
    counters: Arc<Counters>,
    /// What publishers do when they are full.
    policies: Policies,
    /// Publishers that were there at the last look, and those that were gone at it.
    here: Vec<Endpoint>,
    leaving: Vec<Endpoint>,
}

impl TopicOut {
    pub(super) fn open(context: &Arc<Context>, name: &str, local: &Local) -> Result<Self, PortError> {
        let key = context.key(tidepost::Pattern::Topic, name)?;
        let is_lossy = |policy| matches!(overflow_of(policy), Overflow::DropOldest | Overflow::Latest);
        let quality = if local.senders.iter().all(|sender| is_lossy(sender.policy)) {
            Quality::Lossy
        } else {
            Quality::Reliable { cache: context.options.cache }
        };
        let sink = context.link.sink(&key, quality, context.options.room_bytes)?;
        let (context, name) = (Arc::clone(context), name.to_owned());
        let (here, leaving, counters, policies) = Default::default();
        let received_at = Instant::now();
        let mut port =
            Self { context, name, sink, worker: None, received_at, counters, policies, here, leaving };
        port.move_on(local)?;
        Ok(port)
    }

    fn start(&self) -> Result<Worker, PortError> {
        let topic = self.context.node.topic_dyn(&self.name).copied();
        let subscriber = topic.subscriber()?;
        let mut passing = Passing {
            context: Arc::clone(&self.context),
            sink: Arc::clone(&self.sink),
            counters: Arc::clone(&self.counters),
            policies: Arc::clone(&self.policies),
            senders: HashMap::new(),
        };
        let handle = subscriber.handle();
        Worker::start(move || handle.cancel(), move |stop| passing.pass_all(subscriber, stop))
    }

    /// Tells the other side which publishers have gone, a look after they went: what they sent last has been passed on by then.
    fn say_farewell(&mut self, local: &Local) {
        let is_gone = |endpoint: &Endpoint| local.senders.iter().all(|sender| sender.id != endpoint.id);
        for gone in std::mem::take(&mut self.leaving) {
            let sender = sender_of(gone.id);
            let envelope = envelope_of(&self.context, sender, overflow_of(gone.policy), u64::MAX);
            let attachment = envelope.to_bytes().to_vec();
            self.sink.try_send(Frame { attachment, is_farewell: true, ..Frame::default() });
        }
        self.leaving = self.here.extract_if(.., |endpoint| is_gone(endpoint)).collect();
        self.here = local.senders.clone();
    }
}

fn envelope_of(context: &Context, sender: Sender, overflow: Overflow, sequence: u64) -> Envelope {
    Envelope { overflow, domain: context.domain, sender, sequence, passed_on_ns: now_ns() }
}

impl Port for TopicOut {
    fn move_on(&mut self, local: &Local) -> Result<(), PortError> {
        self.say_farewell(local);
        let policies = local.senders.iter().map(|sender| (sender.id, overflow_of(sender.policy)));
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner) = policies.collect();
        let has_receivers = self.sink.has_receivers();
        if has_receivers {
            self.received_at = Instant::now();
        }
        let is_over = self.worker.as_ref().is_some_and(Worker::is_over);
        if is_over || !has_receivers && self.received_at.elapsed() > LINGER {
            self.worker = None;
        } else if self.worker.is_none() && has_receivers {
            self.worker = Some(self.start()?);
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        self.counters.counts()
    }

    fn stop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.stop();
        }
    }
}

/// The thread that passes a topic on.
struct Passing {
    context: Arc<Context>,
    sink: Arc<dyn Sink>,
    counters: Arc<Counters>,
    policies: Policies,
    /// What messages of each publisher are, and what it does when it is full.
    senders: HashMap<EndpointId, (String, Overflow)>,
}

impl Passing {
    fn pass_all(&mut self, mut subscriber: Subscriber<Untyped, Copied>, stop: &Stop) {
        while !stop.is_set() {
            let frame = match subscriber.recv() {
                Ok(sample) => {
                    let (publisher, sequence) = (sample.publisher(), sample.sequence());
                    self.frame(publisher, sequence, sample.message_type(), &sample)
                }
                Err(tidepost::ReceiveError::Closed { .. }) => return,
                Err(error) => return self.context.note(error.to_string()),
            };
            match frame.map(|frame| self.sink.try_send(frame)) {
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

    fn frame(
        &mut self,
        publisher: EndpointId,
        sequence: u64,
        message_type: &TypeDescriptor,
        message: &[u8],
    ) -> Result<Frame, PortError> {
        let (encoding, overflow) = match self.senders.get(&publisher) {
            Some((encoding, overflow)) => (encoding.clone(), *overflow),
            None => {
                let encoding = self.context.tell_type(message_type)?;
                let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
                // Of whom the census does not know yet: he is asked for again.
                let Some(overflow) = policies.get(&publisher).copied() else {
                    return Ok(self.wrap(publisher, sequence, encoding, Overflow::Block, message));
                };
                drop(policies);
                self.senders.insert(publisher, (encoding.clone(), overflow));
                (encoding, overflow)
            }
        };
        Ok(self.wrap(publisher, sequence, encoding, overflow, message))
    }

    fn wrap(
        &self,
        publisher: EndpointId,
        sequence: u64,
        encoding: String,
        overflow: Overflow,
        message: &[u8],
    ) -> Frame {
        let envelope = envelope_of(&self.context, sender_of(publisher), overflow, sequence);
        let attachment = envelope.to_bytes().to_vec();
        Frame { payload: message.to_vec(), encoding, attachment, is_farewell: false }
    }
}

/// A topic that comes in.
#[derive(Debug)]
pub(super) struct TopicIn {
    worker: Worker,
    counters: Arc<Counters>,
}

impl TopicIn {
    pub(super) fn open(context: &Arc<Context>, name: &str) -> Result<Self, PortError> {
        let key = context.key(tidepost::Pattern::Topic, name)?;
        let quality = Quality::Reliable { cache: context.options.cache };
        let source = context.link.source(&key, quality, context.options.room_bytes)?;
        let counters = Arc::<Counters>::default();
        let publishing = Publishing {
            context: Arc::clone(context),
            name: name.to_owned(),
            counters: Arc::clone(&counters),
            publishers: HashMap::new(),
            absent: HashMap::new(),
            refused: HashSet::new(),
            departures: context.remotes.departures(),
            dropped: 0,
        };
        let closed = Arc::clone(&source);
        let worker =
            Worker::start(move || closed.close(), move |stop| publishing.publish_all(&*source, stop))?;
        Ok(Self { worker, counters })
    }
}

impl Port for TopicIn {
    fn move_on(&mut self, _local: &Local) -> Result<(), PortError> {
        if self.worker.is_over() { Err("its thread has ended".into()) } else { Ok(()) }
    }

    fn counts(&self) -> Counts {
        self.counters.counts()
    }

    fn stop(&mut self) {
        self.worker.stop();
    }
}

/// Who publishes here what a publisher on another machine has sent.
struct Standin {
    publisher: Publisher<Untyped>,
    message_type: TypeDescriptor,
    encoding: String,
    domain: Option<DomainId>,
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

/// The thread that publishes a topic here.
struct Publishing {
    context: Arc<Context>,
    name: String,
    counters: Arc<Counters>,
    publishers: HashMap<Origin, Standin>,
    /// What was due of those whose machines have gone: they may come back.
    absent: HashMap<Origin, Due>,
    /// Those whose messages cannot be published, and their encodings: told once.
    refused: HashSet<(Origin, String)>,
    departures: u64,
    /// Frames that found no room, of which nobody has been told.
    dropped: u64,
}

impl Publishing {
    fn publish_all(mut self, source: &dyn Source, stop: &Stop) {
        loop {
            match source.receive(SLICE) {
                Received::Frame(_, frame) => {
                    self.dropped = self.dropped.saturating_add(source.take_dropped());
                    if let Err(error) = self.publish(frame, stop) {
                        Counters::add(&self.counters.refused, 1);
                        self.context.note(format!("topic `{}`: {error}", self.name));
                    }
                }
                Received::Nothing => self.part(),
                Received::Closed => return,
            }
        }
    }

    /// Lets go of those whose machine is gone.
    fn part(&mut self) {
        let departures = self.context.remotes.departures();
        if departures != self.departures {
            self.departures = departures;
            let remotes = &self.context.remotes;
            let gone = self.publishers.extract_if(|_, standin| !remotes.is_there(standin.domain));
            self.absent.extend(gone.map(|(origin, standin)| (origin, standin.due)));
            if self.absent.len() > PUBLISHERS_MAX {
                // Whoever was gone that long has gone.
                self.absent.clear();
            }
        }
    }

    fn publish(&mut self, frame: Frame, stop: &Stop) -> Result<(), PortError> {
        let envelope = Envelope::of(&frame)?;
        let origin = envelope.map(|envelope| (envelope.domain, envelope.sender));
        if envelope.is_some_and(|envelope| envelope.domain == self.context.domain) {
            // It began its way here, and has been received here without us.
            return Ok(());
        }
        if frame.is_farewell {
            self.publishers.remove(&origin);
            self.absent.remove(&origin);
            self.refused.retain(|(refused, _)| *refused != origin);
            return Ok(());
        }
        let known = self.publishers.get(&origin).is_some_and(|standin| standin.encoding == frame.encoding);
        if !known {
            if self.refused.contains(&(origin, frame.encoding.clone())) {
                Counters::add(&self.counters.refused, 1);
                return Ok(());
            }
            let before = self.publishers.remove(&origin).map(|standin| standin.due);
            let due = before.or_else(|| self.absent.remove(&origin)).unwrap_or_default();
            match self.standin(&frame, envelope, due) {
                Ok(standin) => _ = self.publishers.insert(origin, standin),
                Err(error) => {
                    if self.refused.len() >= PUBLISHERS_MAX {
                        // They are told of once more.
                        self.refused.clear();
                    }
                    self.refused.insert((origin, frame.encoding));
                    return Err(error);
                }
            }
        }
        let Some(standin) = self.publishers.get_mut(&origin) else { return Ok(()) };
        let dropped = std::mem::take(&mut self.dropped);
        if envelope.is_none() {
            // What has no number is missed by nobody else.
            standin.due.lost = standin.due.lost.saturating_add(dropped);
            Counters::add(&self.counters.lost, dropped);
        }
        standin.publish(&frame.payload, envelope.map(|envelope| envelope.sequence), &self.counters, stop)
    }

    /// Who publishes here for the one that has sent this, and counts on from what was there before.
    fn standin(&self, frame: &Frame, envelope: Option<Envelope>, due: Due) -> Result<Standin, PortError> {
        if self.publishers.len() >= PUBLISHERS_MAX {
            return Err(
                format!("it has {PUBLISHERS_MAX} publishers on other machines, which is the limit").into()
            );
        }
        let message_type = self.context.type_of(&frame.encoding)?;
        // Before memory is made for messages as long as somebody says.
        check_length(&message_type, frame.payload.len())?;
        let domain = envelope.map(|envelope| envelope.domain);
        let node = self.context.remotes.node(domain)?;
        let overflow = envelope.map_or(Overflow::DropOldest, |envelope| envelope.overflow);
        let topic = node.topic_dyn(&self.name).message_type(message_type.clone()).header::<Relayed>();
        let publisher = topic.publisher(overflow)?;
        if let Some(refused) = publisher.refusals().into_iter().next() {
            self.context.note(format!("topic `{}`: {refused}", self.name));
        }
        Ok(Standin { publisher, message_type, encoding: frame.encoding.clone(), domain, due })
    }
}

fn check_length(message_type: &TypeDescriptor, given: usize) -> Result<(), PortError> {
    if types::fits(message_type, given) {
        return Ok(());
    }
    Err(format!("a message of {given} B is none of the type {message_type}").into())
}

impl Standin {
    fn publish(
        &mut self,
        message: &[u8],
        sequence: Option<u64>,
        counters: &Counters,
        stop: &Stop,
    ) -> Result<(), PortError> {
        check_length(&self.message_type, message.len())?;
        if let Some(sequence) = sequence {
            let due = self.due.next.unwrap_or(sequence);
            let Some(missing) = sequence.checked_sub(due) else {
                // It has come before.
                return Ok(());
            };
            self.due.lost = self.due.lost.saturating_add(missing);
            Counters::add(&counters.lost, missing);
            self.due.next = Some(sequence.saturating_add(1));
        }
        let header = Relayed { lost: self.due.lost };
        while !stop.is_set() {
            match self.publisher.send_with_timeout(&header, Untyped::new(message), SLICE) {
                Ok(()) => {
                    self.due.lost = 0;
                    Counters::add(&counters.crossed, 1);
                    return Ok(());
                }
                Err(SendError::Timeout { .. }) => {}
                Err(SendError::Full { .. }) => {
                    self.due.lost = self.due.lost.saturating_add(1);
                    Counters::add(&counters.lost, 1);
                    return Ok(());
                }
                Err(error) => {
                    self.due.lost = self.due.lost.saturating_add(1);
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }
}
