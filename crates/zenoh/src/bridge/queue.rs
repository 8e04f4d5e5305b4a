//! Queues across the network: an item is acknowledged here when a consumer elsewhere has received it, and given to somebody else if
//! none has, or if that is not known. So each item is delivered at least once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidepost::{
    Consumer, EndpointId, HeldItem, Overflow, Pattern, Producer, ProducerHandle, ReceiveError,
    TypeDescriptor, Untyped,
};

use super::call::{self, NO_MORE};
use super::census::Local;
use super::context::{Context, sender_of};
use super::ends::{self, Ends};
use super::jobs::{Crew, Job};
use super::port::{Counters, Port, PortError};
use super::worker::{OnDemand, SLICE, Stop, Worker};
use crate::envelope::Envelope;
use crate::link::{Answer, Frame, Kept, Question, Whom};
use crate::types;

/// Items that are on their way at once.
const CREDIT: u32 = 64;
/// How long an item may take until a consumer elsewhere has received it.
const DELIVERY: Duration = Duration::from_secs(2);
/// What the network may take beyond that.
const SLACK: Duration = Duration::from_millis(500);
/// How long is waited after an item was not taken, before another is offered.
const PAUSE: Duration = Duration::from_millis(100);
/// Items from elsewhere that wait for consumers here at once.
const PUSHES_MAX: usize = 16;

/// A queue whose producers are here.
#[derive(Debug)]
pub(super) struct QueueOut {
    context: Arc<Context>,
    name: String,
    ends: Arc<Ends>,
    handing: OnDemand,
    counters: Arc<Counters>,
}

impl QueueOut {
    pub(super) fn open(context: &Arc<Context>, name: &str) -> Result<Self, PortError> {
        let ends = Arc::new(Ends::of(context, Pattern::Queue, name)?);
        let (context, name) = (Arc::clone(context), name.to_owned());
        // Nothing is taken that nobody is there to be given.
        let handing = OnDemand::new(Duration::ZERO);
        Ok(Self { context, name, ends, handing, counters: Arc::default() })
    }
}

impl Port for QueueOut {
    fn move_on(&mut self, _local: &Local) -> Result<(), PortError> {
        let Self { context, name, ends, counters, .. } = self;
        self.handing.tend(ends.are_there(), || {
            let consumer = context.node.queue_dyn(name).credit(CREDIT).consumer()?;
            let handle = consumer.handle();
            let handing = Handing {
                context: Arc::clone(context),
                ends: Arc::clone(ends),
                counters: Arc::clone(counters),
                refusals: Arc::default(),
            };
            Worker::start(move || handle.cancel(), move |stop| handing.hand_all(consumer, stop))
        })
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn stop(&mut self) {
        self.handing.stop();
    }
}

/// The thread that hands items over.
struct Handing {
    context: Arc<Context>,
    ends: Arc<Ends>,
    counters: Arc<Counters>,
    /// Items that were not taken since the last pause.
    refusals: Arc<AtomicUsize>,
}

impl Handing {
    fn hand_all(&self, mut consumer: Consumer<Untyped>, stop: &Stop) {
        while !stop.is_set() {
            if self.refusals.swap(0, Ordering::Relaxed) > 0 {
                std::thread::sleep(PAUSE);
            }
            match consumer.recv_timeout(SLICE) {
                Ok(Some(item)) => {
                    let (producer, item_type) = (item.producer(), item.item_type().clone());
                    if let Err(error) = self.hand(producer, &item_type, item.hold()) {
                        Counters::add(&self.counters.refused, 1);
                        self.context.note(error.to_string());
                        self.refusals.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(None) => {}
                Err(ReceiveError::Closed { .. }) => return,
                Err(error) => return self.context.note(error.to_string()),
            }
        }
    }

    fn hand(
        &self,
        producer: EndpointId,
        item_type: &TypeDescriptor,
        item: HeldItem<Untyped>,
    ) -> Result<(), PortError> {
        let encoding = self.context.tell_type(item_type)?;
        let envelope = self.context.envelope(sender_of(producer), Overflow::Block, 0);
        let frame = envelope.wrap(&item, encoding);
        let mut held = Some(item);
        let (counters, refusals, context) =
            (Arc::clone(&self.counters), Arc::clone(&self.refusals), Arc::clone(&self.context));
        let on_answer = Box::new(move |answer| {
            let Some(item) = held.take() else { return };
            match answer {
                Answer::Frame(frame) if frame.attachment == NO_MORE || frame.attachment.is_empty() => {
                    Counters::add(&counters.crossed, 1);
                    if let Err(error) = item.ack() {
                        context.note(error.to_string());
                    }
                }
                _ => {
                    refusals.fetch_add(1, Ordering::Relaxed);
                    item.give_back();
                }
            }
        });
        // If it is not even asked, the item goes with what was to be called, and so back.
        Ok(self.context.link.ask(Whom::One, &self.ends.next_key(), frame, DELIVERY + SLACK, on_answer)?)
    }
}

/// A queue whose consumers are here.
#[derive(Debug)]
pub(super) struct QueueIn {
    context: Arc<Context>,
    name: String,
    crew: Crew,
    counters: Arc<Counters>,
    _served: Vec<Kept>,
}

impl QueueIn {
    pub(super) fn open(context: &Arc<Context>, name: &str) -> Result<Self, PortError> {
        let crew = Crew::new(PUSHES_MAX, context.options.room_bytes);
        let served = ends::serve(context, Pattern::Queue, name, || crew.taker())?;
        let (context, name, counters) = (Arc::clone(context), name.to_owned(), Arc::default());
        let mut port = Self { context, name, crew, counters, _served: served };
        port.grow()?;
        Ok(port)
    }

    fn grow(&mut self) -> Result<(), PortError> {
        let (context, name, counters) =
            (Arc::clone(&self.context), self.name.clone(), Arc::clone(&self.counters));
        let waiting = Waiting::default();
        let ended = Arc::clone(&waiting);
        let begin = move || {
            let (context, name, counters) = (Arc::clone(&context), name.clone(), Arc::clone(&counters));
            let mut pushing =
                Pushing { context, name, counters, producer: None, waiting: Arc::clone(&waiting) };
            move |job: Job, _: &Stop| pushing.answer(&job)
        };
        self.crew.grow(begin, move || {
            if let Some(handle) = &*ended.lock().unwrap_or_else(PoisonError::into_inner) {
                handle.cancel();
            }
        })
    }
}

impl Port for QueueIn {
    fn move_on(&mut self, _local: &Local) -> Result<(), PortError> {
        self.grow()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn stop(&mut self) {
        self.crew.stop();
    }
}

/// How the wait of a thread is ended.
type Waiting = Arc<Mutex<Option<ProducerHandle>>>;

/// A thread that gives items to consumers here.
struct Pushing {
    context: Arc<Context>,
    name: String,
    counters: Arc<Counters>,
    /// Who gives items of this encoding.
    producer: Option<(Arc<str>, Producer<Untyped>)>,
    waiting: Waiting,
}

impl Pushing {
    fn answer(&mut self, job: &Job) {
        let question = &*job.question;
        match self.push(question, DELIVERY.saturating_sub(job.since.elapsed())) {
            Ok(()) => {
                question.answer(Frame { attachment: NO_MORE.to_vec(), ..Frame::default() });
                Counters::add(&self.counters.crossed, 1);
            }
            Err(error) => {
                question.fail(call::error(error.to_string()));
                Counters::add(&self.counters.refused, 1);
            }
        }
    }

    fn push(&mut self, question: &dyn Question, patience: Duration) -> Result<(), PortError> {
        let frame = question.frame();
        let envelope = Envelope::of(&frame.attachment)?;
        let item_type = self.context.type_of(&frame.encoding)?;
        types::check_length(&item_type, frame.payload.len())?;
        let is_known = self.producer.as_ref().is_some_and(|(encoding, _)| *encoding == frame.encoding);
        if !is_known {
            let node = self.context.remotes.node(envelope.map(|envelope| envelope.domain))?;
            // Nothing waits here: an item that finds no consumer is its own producer's again.
            let producer =
                node.queue_dyn(&self.name).item_type(item_type).depth(0).producer(Overflow::Block)?;
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(producer.handle());
            self.producer = Some((Arc::clone(&frame.encoding), producer));
        }
        let Some((_, producer)) = &mut self.producer else { return Ok(()) };
        Ok(producer.push_timeout(Untyped::new(&frame.payload), patience)?)
    }
}
