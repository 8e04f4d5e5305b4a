//! States across the network: the latest value, for those who come later too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidepost::{Copied, Overflow, Pattern, ReceiveError, StateReader, StateWriter, TypeDescriptor, Untyped};

use super::census::Local;
use super::context::Context;
use super::doubt::Doubt;
use super::intake::{self, Intake};
use super::port::{Counters, Port, PortError};
use super::worker::{Running, Stop, Worker};
use crate::envelope::{DomainId, Envelope, Sender};
use crate::link::{Frame, Kept, Quality, Sent, Sink};
use crate::types;

/// How long a reader waits for a change; it is woken when it is to end.
const CHANGE_WAIT: Duration = Duration::from_secs(3600);

/// The value as it was passed on last.
type Newest = Arc<Mutex<Option<Frame>>>;

/// A state that goes out, whose writer is here.
#[derive(Debug)]
pub(super) struct StateOut {
    context: Arc<Context>,
    name: String,
    counters: Arc<Counters>,
    doubt: Doubt,
    told: Option<Told>,
}

/// What passes a state's values on.
#[derive(Debug)]
struct Told {
    worker: Worker,
    sink: Arc<dyn Sink>,
    /// What answers whoever asks for the latest.
    _served: Kept,
}

impl StateOut {
    pub(super) fn open(context: &Arc<Context>, name: &str) -> Result<Self, PortError> {
        let counters = Arc::default();
        let told = Some(tell(context, name, &counters)?);
        let (context, name, doubt) = (Arc::clone(context), name.to_owned(), Doubt::of(Pattern::State));
        Ok(Self { context, name, counters, doubt, told })
    }
}

impl Port for StateOut {
    fn move_on(&mut self, _local: &Local) -> Result<(), PortError> {
        let Self { context, name, counters, doubt, told } = self;
        let has_receivers = told.as_ref().is_some_and(|told| told.sink.has_receivers());
        doubt.move_on(context, name, has_receivers, counters.counts().crossed)?;
        match told {
            // Nobody reads what is denied, which its writer sees.
            _ if doubt.is_denied() => *told = None,
            Some(told) if told.worker.is_over() => return Err("its thread has ended".into()),
            Some(_) => {}
            None => *told = Some(tell(context, name, counters)?),
        }
        Ok(())
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn stop(&mut self) {
        if let Some(told) = &self.told {
            told.worker.stop();
        }
    }
}

/// Begins to pass a state's values on.
fn tell(context: &Arc<Context>, name: &str, counters: &Arc<Counters>) -> Result<Told, PortError> {
    let key = context.key(Pattern::State, name)?;
    let reader = context.node.state_dyn(name).copied().reader()?;
    let sink = context.link.sink(&key, Quality::Newest, context.options.room_bytes)?;
    let newest = Newest::default();
    let asked = Arc::clone(&newest);
    let served = context.link.serve(
        &key,
        Box::new(move |question| {
            if let Some(frame) = asked.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                question.answer(frame);
            }
        }),
    )?;
    let handle = reader.handle();
    let (context, counters) = (Arc::clone(context), Arc::clone(counters));
    let telling = Telling { context, sink: Arc::clone(&sink), newest, counters };
    let worker = Worker::start(move || handle.cancel(), move |stop| telling.tell_all(reader, stop))?;
    Ok(Told { worker, sink, _served: served })
}

/// The thread that passes a state's values on.
struct Telling {
    context: Arc<Context>,
    sink: Arc<dyn Sink>,
    newest: Newest,
    counters: Arc<Counters>,
}

impl Telling {
    fn tell_all(&self, mut reader: StateReader<Untyped, Copied>, stop: &Stop) {
        while !stop.is_set() {
            match reader.changed(CHANGE_WAIT) {
                Ok(Some(value)) => {
                    let (version, message_type) = (value.version(), value.value_type().cloned());
                    let told = message_type.ok_or_else(|| "its writer has told no type".into());
                    let told = told.and_then(|message_type| self.tell(version, &message_type, &value));
                    if let Err(error) = told {
                        Counters::add(&self.counters.refused, 1);
                        self.context.note(error.to_string());
                    }
                }
                Ok(None) => {}
                Err(ReceiveError::Closed { .. }) => break,
                Err(error) => return self.context.note(error.to_string()),
            }
        }
        self.sink.try_send(self.envelope(0).into_farewell());
    }

    fn tell(&self, version: u64, message_type: &TypeDescriptor, value: &[u8]) -> Result<(), PortError> {
        let encoding = self.context.tell_type(message_type)?;
        let frame = self.envelope(version).wrap(value, encoding);
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame.clone());
        match self.sink.try_send(frame) {
            Sent::Full => Counters::add(&self.counters.lost, 1),
            _ => Counters::add(&self.counters.crossed, 1),
        }
        Ok(())
    }

    /// A state has one writer, whoever it is: its domain is enough to know it by.
    fn envelope(&self, version: u64) -> Envelope {
        let sender = Sender { node: self.context.domain.0, number: 0 };
        self.context.envelope(sender, Overflow::Latest, version)
    }
}

/// Opens the port by which a state comes in whose writer is on another machine.
pub(super) fn open_in(context: &Arc<Context>, name: &str) -> Result<Running, PortError> {
    let counters = Arc::<Counters>::default();
    let writing = Writing {
        context: Arc::clone(context),
        name: name.to_owned(),
        counters: Arc::clone(&counters),
        standin: None,
    };
    intake::open(context, (Pattern::State, name), Quality::Newest, &counters, writing)
}

/// Who writes here what the writer on another machine has written.
struct Standin {
    writer: StateWriter<Untyped>,
    value_type: TypeDescriptor,
    encoding: Arc<str>,
    domain: Option<DomainId>,
    version: u64,
}

/// Writes a state here.
struct Writing {
    context: Arc<Context>,
    name: String,
    counters: Arc<Counters>,
    standin: Option<Standin>,
}

impl Intake for Writing {
    fn take(&mut self, frame: Frame, envelope: Option<Envelope>, _stop: &Stop) -> Result<(), PortError> {
        let domain = envelope.map(|envelope| envelope.domain);
        if self.standin.as_ref().is_some_and(|standin| standin.domain != domain) {
            return Err(
                "another machine has a writer, too: of two, the one that was there first is heard".into()
            );
        }
        if frame.is_farewell {
            self.standin = None;
            return Ok(());
        }
        let is_known = self.standin.as_ref().is_some_and(|standin| standin.encoding == frame.encoding);
        if !is_known {
            // There is one writer at a time, here too.
            self.standin = None;
            self.standin = Some(self.standin(&frame, domain)?);
        }
        let Some(standin) = &mut self.standin else { return Ok(()) };
        let version = envelope.map(|envelope| envelope.sequence);
        if version.is_some_and(|version| version <= standin.version) {
            return Ok(());
        }
        types::check_length(&standin.value_type, frame.payload.len())?;
        standin.writer.set(Untyped::new(&frame.payload))?;
        standin.version = version.unwrap_or(standin.version);
        Counters::add(&self.counters.crossed, 1);
        Ok(())
    }

    fn miss(&mut self, frames: u64) {
        // A later value is as good.
        Counters::add(&self.counters.lost, frames);
    }

    fn part(&mut self) {
        let remotes = &self.context.remotes;
        // The value stays with its readers, who see that nobody writes it any more.
        self.standin.take_if(|standin| !remotes.is_there(standin.domain));
    }
}

impl Writing {
    fn standin(&self, frame: &Frame, domain: Option<DomainId>) -> Result<Standin, PortError> {
        let value_type = self.context.type_of(&frame.encoding)?;
        // Before memory is made for values as long as somebody says.
        types::check_length(&value_type, frame.payload.len())?;
        let node = self.context.remotes.node(domain)?;
        let writer = node.state_dyn(&self.name).value_type(value_type.clone()).writer()?;
        Ok(Standin { writer, value_type, encoding: Arc::clone(&frame.encoding), domain, version: 0 })
    }
}
