//! A service whose servers are on other machines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tidepost::{
    AnswerError, Overflow, Pattern, ReceiveError, Request, Server, ServiceTypes, Ticket, TypeDescriptor,
    Untyped,
};

use super::{cancel_key, text, types_key, types_of};
use crate::bridge::call::{ANSWER, CallHead, ERROR, NO_MORE, Want};
use crate::bridge::census::Local;
use crate::bridge::context::Context;
use crate::bridge::ends::Ends;
use crate::bridge::port::{Counters, Counts, Port, PortError};
use crate::bridge::worker::{Stop, Worker};
use crate::envelope::{Envelope, Sender, now_ns};
use crate::link::{Answer, Frame, Quality, Sink};
use crate::types;

/// Servers that stand for those elsewhere: so many clients are given parts at once.
const SERVERS: usize = 4;
/// How often it is looked whether a call was given up.
const LOOK: Duration = Duration::from_millis(20);
/// How long a wait may last before it is looked whether it is to end.
const SLICE: Duration = Duration::from_millis(200);
/// How long is waited for a gateway to say what a service's types are.
const TYPES_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is waited for if its client does not say.
const USUAL: Duration = Duration::from_secs(60);
/// What the network may take beyond what the client waits.
const SLACK: Duration = Duration::from_millis(500);

/// A service whose servers are on other machines.
#[derive(Debug)]
pub(in crate::bridge) struct ServiceIn {
    context: Arc<Context>,
    name: String,
    ends: Arc<Ends>,
    cancelling: Arc<dyn Sink>,
    workers: Vec<Worker>,
    counters: Arc<Counters>,
}

impl ServiceIn {
    pub(in crate::bridge) fn open(context: &Arc<Context>, name: &str) -> Result<Self, PortError> {
        let ends = Arc::new(Ends::of(context, Pattern::Service, name)?);
        let room = context.options.room_bytes;
        let cancelling = context.link.sink(&cancel_key(context, name), Quality::Lossy, room)?;
        let (context, name) = (Arc::clone(context), name.to_owned());
        Ok(Self { context, name, ends, cancelling, workers: Vec::new(), counters: Arc::default() })
    }

    /// The types of the service, as its gateway says them, or as the clients here have them.
    fn types(&self, local: &Local) -> Result<ServiceTypes, PortError> {
        let (answered, answers) = mpsc::channel();
        let on_answer = Box::new(move |answer| {
            // Whoever asked may have given up.
            let _ = answered.send(answer);
        });
        self.context.link.ask(
            &types_key(&self.context, &self.name),
            Frame::default(),
            TYPES_TIMEOUT,
            on_answer,
        )?;
        if let Ok(Answer::Frame(frame)) = answers.recv_timeout(TYPES_TIMEOUT + SLACK) {
            return types_of(&self.context, &frame.payload);
        }
        let declared = local.clients.iter().find_map(|client| {
            Some(ServiceTypes::new(client.message_type.clone()?, client.answer_type.clone()?, text()))
        });
        Ok(declared.ok_or("neither its servers nor its clients say what its types are")?)
    }

    fn start(&mut self, local: &Local) -> Result<(), PortError> {
        let types = self.types(local)?;
        let encoding = self.context.tell_type(&types.request)?;
        let node = self.context.remotes.node(None)?;
        for number in 0..SERVERS as u64 {
            let server = node.service_dyn(&self.name).types(types.clone()).server()?;
            let handle = server.handle();
            let mut standing = Standing {
                context: Arc::clone(&self.context),
                name: self.name.clone(),
                ends: Arc::clone(&self.ends),
                types: types.clone(),
                encoding: encoding.clone(),
                sender: Sender { node: node.id().bits().to_le_bytes(), number: server.id().number() },
                cancelling: Arc::clone(&self.cancelling),
                counters: Arc::clone(&self.counters),
                running: Vec::new(),
                numbers: AtomicU64::new(number),
            };
            let serve = move |stop: &Stop| standing.serve_all(server, stop);
            self.workers.push(Worker::start(move || handle.cancel(), serve)?);
        }
        Ok(())
    }
}

impl Port for ServiceIn {
    fn move_on(&mut self, local: &Local) -> Result<(), PortError> {
        if !self.ends.are_there() {
            // With no server in the domain, whoever calls is told so at once.
            self.stop();
            self.workers.clear();
        } else if self.workers.is_empty() {
            self.start(local)?;
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        self.counters.counts()
    }

    fn stop(&mut self) {
        self.workers.iter().for_each(Worker::stop);
    }
}

type AnyServer = Server<Untyped, Untyped, Untyped>;
type AnyRequest<'a> = Request<'a, Untyped, Untyped, Untyped>;
type AnyTicket = Ticket<Untyped, Untyped, Untyped>;
/// Whoever takes it answers.
type Shared = Arc<Mutex<Option<AnyTicket>>>;

fn take(shared: &Shared) -> Option<AnyTicket> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The thread of one server that stands for those elsewhere.
struct Standing {
    context: Arc<Context>,
    name: String,
    ends: Arc<Ends>,
    types: ServiceTypes,
    encoding: String,
    sender: Sender,
    cancelling: Arc<dyn Sink>,
    counters: Arc<Counters>,
    /// Calls that wait for their answers.
    running: Vec<(CallHead, Shared)>,
    numbers: AtomicU64,
}

impl Standing {
    fn serve_all(&mut self, mut server: AnyServer, stop: &Stop) {
        while !stop.is_set() {
            let wait = if self.running.is_empty() { SLICE } else { LOOK };
            match server.recv_timeout(wait) {
                Ok(Some(request)) => self.pass_on(request),
                Ok(None) => {}
                Err(ReceiveError::Closed { .. }) => return,
                Err(error) => return self.context.note(error.to_string()),
            }
            self.look_for_cancelled();
        }
    }

    /// Tells the other side of calls that were given up here, and forgets those that are over.
    fn look_for_cancelled(&mut self) {
        for (head, shared) in self.running.extract_if(.., |(_, shared)| {
            let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.as_ref().is_none_or(AnyTicket::is_cancelled)
        }) {
            if take(&shared).is_some() {
                let attachment = head.attach(envelope(&self.context, self.sender));
                self.cancelling.try_send(Frame { attachment, ..Frame::default() });
            }
        }
    }

    fn head_of(&self, request: &AnyRequest<'_>) -> CallHead {
        let want = match (request.wants_answer(), request.wants_parts()) {
            (_, true) => Want::Parts,
            (true, false) => Want::Answer,
            (false, false) => Want::Nothing,
        };
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let patience = request.deadline().map_or(USUAL, left);
        CallHead { want, patience, number: self.numbers.fetch_add(SERVERS as u64, Ordering::Relaxed) }
    }

    fn pass_on(&mut self, request: AnyRequest<'_>) {
        let head = self.head_of(&request);
        let frame = Frame {
            payload: request.to_vec(),
            encoding: self.encoding.clone(),
            attachment: head.attach(envelope(&self.context, self.sender)),
            is_farewell: false,
        };
        let passed = match head.want {
            Want::Parts => self.pass_parts(request, head, frame),
            Want::Nothing => self.ask(frame, head, Box::new(|_| ())),
            Want::Answer => self.pass_one(request, head, frame),
        };
        match passed {
            Ok(()) => Counters::add(&self.counters.crossed, 1),
            Err(error) => {
                Counters::add(&self.counters.refused, 1);
                self.context.note(format!("service `{}`: {error}", self.name));
            }
        }
    }

    fn ask(&self, frame: Frame, head: CallHead, on_answer: crate::link::OnAnswer) -> Result<(), PortError> {
        Ok(self.context.link.ask(&self.ends.next_key(), frame, head.patience + SLACK, on_answer)?)
    }

    fn pass_one(&mut self, request: AnyRequest<'_>, head: CallHead, frame: Frame) -> Result<(), PortError> {
        let shared = Shared::new(Mutex::new(Some(request.defer()?)));
        let answered = Arc::clone(&shared);
        let (types, context, name) = (self.types.clone(), Arc::clone(&self.context), self.name.clone());
        let asked = self.ask(
            frame,
            head,
            Box::new(move |answer| {
                let Some(ticket) = take(&answered) else { return };
                match judge(answer, &types) {
                    Judged::Answer(bytes) => ticket.answer(Untyped::new(&bytes)),
                    Judged::Failure(bytes) => ticket.fail(Untyped::new(&bytes)),
                    Judged::NoMore | Judged::Unreachable => ticket.unreachable(),
                    Judged::Trouble(trouble) => context.note(format!("service `{name}`: {trouble}")),
                }
            }),
        );
        if asked.is_err()
            && let Some(ticket) = take(&shared)
        {
            ticket.unreachable();
        }
        self.running.push((head, shared));
        asked
    }

    fn pass_parts(&mut self, request: AnyRequest<'_>, head: CallHead, frame: Frame) -> Result<(), PortError> {
        let (answered, answers) = mpsc::channel();
        let asked = self.ask(
            frame,
            head,
            Box::new(move |answer| {
                // Whoever asked may have given up.
                let _ = answered.send(answer);
            }),
        );
        let mut reply = request.parts()?;
        if asked.is_err() {
            reply.unreachable()?;
            return asked;
        }
        loop {
            let answer = match answers.recv_timeout(LOOK) {
                Ok(answer) => answer,
                Err(_) if reply.is_cancelled() => {
                    self.give_up(head);
                    return Ok(());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => continue,
                Err(mpsc::RecvTimeoutError::Disconnected) => Answer::End,
            };
            let sent = match judge(answer, &self.types) {
                Judged::Answer(bytes) => match reply.send(Untyped::new(&bytes)) {
                    Ok(()) => continue,
                    error => error,
                },
                Judged::NoMore => reply.finish(),
                Judged::Failure(bytes) => reply.fail(Untyped::new(&bytes)),
                Judged::Unreachable => reply.unreachable(),
                Judged::Trouble(trouble) => return Err(trouble.into()),
            };
            return match sent {
                Ok(()) => Ok(()),
                Err(
                    AnswerError::Cancelled { .. }
                    | AnswerError::ClientGone { .. }
                    | AnswerError::Timeout { .. },
                ) => {
                    self.give_up(head);
                    Ok(())
                }
                Err(error) => Err(error.into()),
            };
        }
    }

    fn give_up(&self, head: CallHead) {
        let attachment = head.attach(envelope(&self.context, self.sender));
        self.cancelling.try_send(Frame { attachment, ..Frame::default() });
    }
}

fn envelope(context: &Context, sender: Sender) -> Envelope {
    let (domain, passed_on_ns) = (context.domain, now_ns());
    Envelope { overflow: Overflow::Block, domain, sender, sequence: 0, passed_on_ns }
}

/// What an answer comes to.
enum Judged {
    Answer(Vec<u8>),
    Failure(Vec<u8>),
    NoMore,
    Unreachable,
    Trouble(String),
}

/// What has come back is nothing that is believed unseen.
fn judge(answer: Answer, types: &ServiceTypes) -> Judged {
    let checked = |bytes: Vec<u8>, due: &TypeDescriptor, judged: fn(Vec<u8>) -> Judged| {
        if types::fits(due, bytes.len()) {
            judged(bytes)
        } else {
            Judged::Trouble(format!("an answer of {} B is none of the type {due}", bytes.len()))
        }
    };
    match answer {
        Answer::Frame(frame) if frame.attachment == NO_MORE => Judged::NoMore,
        Answer::Frame(frame) if frame.attachment == ANSWER || frame.attachment.is_empty() => {
            checked(frame.payload, &types.answer, Judged::Answer)
        }
        Answer::Frame(_) => Judged::Trouble("an answer with an attachment that is none".to_owned()),
        Answer::Failure(frame) if frame.encoding == ERROR => {
            Judged::Trouble(String::from_utf8_lossy(&frame.payload).chars().take(500).collect())
        }
        Answer::Failure(frame) => checked(frame.payload, &types.failure, Judged::Failure),
        Answer::End => Judged::Unreachable,
    }
}
