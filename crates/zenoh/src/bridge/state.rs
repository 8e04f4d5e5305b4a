//! States across the network: the latest value, for those who come later too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidepost::{Copied, Overflow, Pattern, ReceiveError, StateReader, StateWriter, Untyped};

use super::census::Local;
use super::context::Context;
use super::port::{Counters, Counts, Port, PortError};
use super::worker::{Stop, Worker};
use crate::envelope::{DomainId, Envelope, Sender, now_ns};
use crate::link::{Frame, Kept, Quality, Received, Sent, Sink, Source};
use crate::types;

/// How long a wait may last before it is looked whether it is to end.
const SLICE: Duration = Duration::from_millis(200);
/// How long a reader waits for a change; it is woken when it is to end.
const CHANGE_WAIT: Duration = Duration::from_secs(3600);

/// A state whose writer is here.
#[derive(Debug)]
pub(super) struct StateOut {
    worker: Worker,
    counters: Arc<Counters>,
    /// Answers whoever asks for the value.
    _served: Kept,
}

/// The value as it was passed on last.
type Newest = Arc<Mutex<Option<Frame>>>;

impl StateOut {
    pub(super) fn open(context: &Arc<Context>, name: &str) -> Result<Self, PortError> {
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
        let (handle, counters) = (reader.handle(), Arc::<Counters>::default());
        let telling = Telling { context: Arc::clone(context), sink, newest, counters: Arc::clone(&counters) };
        let worker = Worker::start(move || handle.cancel(), move |stop| telling.tell_all(reader, stop))?;
        Ok(Self { worker, counters, _served: served })
    }
}

impl Port for StateOut {
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
        let attachment = self.envelope(u64::MAX).to_bytes().to_vec();
        self.sink.try_send(Frame { attachment, is_farewell: true, ..Frame::default() });
    }

    fn tell(
        &self,
        version: u64,
        message_type: &tidepost::TypeDescriptor,
        value: &[u8],
    ) -> Result<(), PortError> {
        let encoding = self.context.tell_type(message_type)?;
        let attachment = self.envelope(version).to_bytes().to_vec();
        let frame = Frame { payload: value.to_vec(), encoding, attachment, is_farewell: false };
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
        let (overflow, domain) = (Overflow::Latest, self.context.domain);
        Envelope { overflow, domain, sender, sequence: version, passed_on_ns: now_ns() }
    }
}

/// A state whose writer is on another machine.
#[derive(Debug)]
pub(super) struct StateIn {
    worker: Worker,
    counters: Arc<Counters>,
}

impl StateIn {
    pub(super) fn open(context: &Arc<Context>, name: &str) -> Result<Self, PortError> {
        let key = context.key(Pattern::State, name)?;
        let source = context.link.source(&key, Quality::Newest, context.options.room_bytes)?;
        let counters = Arc::<Counters>::default();
        let mut writing = Writing {
            context: Arc::clone(context),
            name: name.to_owned(),
            counters: Arc::clone(&counters),
            standin: None,
        };
        let closed = Arc::clone(&source);
        let worker = Worker::start(move || closed.close(), move |_| writing.write_all(&*source))?;
        Ok(Self { worker, counters })
    }
}

impl Port for StateIn {
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

/// Who writes here what the writer on another machine has written.
struct Standin {
    writer: StateWriter<Untyped>,
    value_type: tidepost::TypeDescriptor,
    encoding: String,
    domain: Option<DomainId>,
    version: u64,
}

/// The thread that writes a state here.
struct Writing {
    context: Arc<Context>,
    name: String,
    counters: Arc<Counters>,
    standin: Option<Standin>,
}

impl Writing {
    fn write_all(&mut self, source: &dyn Source) {
        loop {
            match source.receive(SLICE) {
                Received::Frame(_, frame) => {
                    if let Err(error) = self.write(frame) {
                        Counters::add(&self.counters.refused, 1);
                        self.context.note(format!("state `{}`: {error}", self.name));
                    }
                }
                Received::Nothing => {
                    let remotes = &self.context.remotes;
                    // The value stays with its readers, who see that nobody writes it any more.
                    self.standin.take_if(|standin| !remotes.is_there(standin.domain));
                }
                Received::Closed => return,
            }
        }
    }

    fn write(&mut self, frame: Frame) -> Result<(), PortError> {
        let envelope = Envelope::of(&frame)?;
        let domain = envelope.map(|envelope| envelope.domain);
        if domain == Some(self.context.domain) {
            return Ok(());
        }
        let is_other = self.standin.as_ref().is_some_and(|standin| standin.domain != domain);
        if is_other {
            return Err(
                "another machine has a writer, too: of two, the one that was there first is heard".into()
            );
        }
        if frame.is_farewell {
            self.standin = None;
            return Ok(());
        }
        let version = envelope.map_or(0, |envelope| envelope.sequence);
        let is_known = self.standin.as_ref().is_some_and(|standin| standin.encoding == frame.encoding);
        if !is_known {
            // There is one writer at a time, here too.
            self.standin = None;
            let value_type = self.context.type_of(&frame.encoding)?;
            let node = self.context.remotes.node(domain)?;
            let writer = node.state_dyn(&self.name).value_type(value_type.clone()).writer()?;
            let encoding = frame.encoding.clone();
            self.standin = Some(Standin { writer, value_type, encoding, domain, version: 0 });
        }
        let Some(standin) = &mut self.standin else { return Ok(()) };
        if envelope.is_some() && version <= standin.version {
            return Ok(());
        }
        if !types::fits(&standin.value_type, frame.payload.len()) {
            let (given, value_type) = (frame.payload.len(), &standin.value_type);
            return Err(format!("a value of {given} B is none of the type {value_type}").into());
        }
        standin.writer.set(Untyped::new(&frame.payload))?;
        standin.version = version;
        Counters::add(&self.counters.crossed, 1);
        Ok(())
    }
}
