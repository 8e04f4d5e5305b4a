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
use crate::bridge::context::{Context, sender_of};
use crate::bridge::ends::Ends;
use crate::bridge::port::{Counters, Port, PortError};
use crate::bridge::worker::{SLICE, Stop, Worker};
use crate::envelope::{Envelope, Sender};
use crate::link::{Answer, Frame, Quality, Sink, Whom, ask, ask_one};
use crate::types;

/// Servers that stand for those elsewhere: so many clients are given parts at once.
const SERVERS: usize = 4;
/// How often it is looked whether a call was given up.
const LOOK: Duration = Duration::from_millis(20);
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
        let key = types_key(&self.context, &self.name);
        if let Some(told) = ask_one(&*self.context.link, &key, Frame::default(), TYPES_TIMEOUT)? {
            return types_of(&self.context, &told.payload);
        }
        let declared = local.clients.iter().find_map(|client| {
            Some(ServiceTypes::new(client.message_type.clone()?, client.answer_type.clone()?, text()))
        });
        Ok(declared.ok_or("neither its servers nor its clients say what its types are")?)
    }

    fn start(&mut self, local: &Local) -> Result<(), PortError> {
        let types = self.types(local)?;
        let encoding = self.context.tell_type(&types.request)?;
        let node = self.context.remotes.node(self.ends.domain())?;
        for number in 0..SERVERS as u64 {
            let server = node.service_dyn(&self.name).types(types.clone()).server()?;
            let handle = server.handle();
            let mut standing = Standing {
                context: Arc::clone(&self.context),
                name: self.name.clone(),
                ends: Arc::clone(&self.ends),
                types: types.clone(),
                encoding: Arc::clone(&encoding),
                sender: sender_of(server.id()),
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
        let is_served_here = !local.servers.is_empty();
        if is_served_here || !self.ends.are_there() || self.workers.iter().any(Worker::is_over) {
            // With no server in the domain, whoever calls is told so at once; with one, it is that one's.
            self.stop();
            self.workers.clear();
        } else if self.workers.is_empty() {
            self.start(local)?;
        }
        Ok(())
    }

    fn counters(&self) -> &Counters {
        &self.counters
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
    encoding: Arc<str>,
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
        let is_over = |(_, shared): &mut (CallHead, Shared)| {
            let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.as_ref().is_none_or(AnyTicket::is_cancelled)
        };
        let over: Vec<_> = self.running.extract_if(.., is_over).collect();
        for (head, shared) in over {
            if take(&shared).is_some() {
                self.give_up(head);
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
            encoding: Arc::clone(&self.encoding),
            attachment: head.attach(self.envelope()),
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
        Ok(self.context.link.ask(
            Whom::One,
            &self.ends.next_key(),
            frame,
            head.patience + SLACK,
            on_answer,
        )?)
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
        let (key, patience) = (self.ends.next_key(), head.patience + SLACK);
        let asked = ask(&*self.context.link, Whom::One, &key, frame, patience);
        let mut reply = request.parts()?;
        let answers = match asked {
            Ok(answers) => answers,
            Err(error) => {
                reply.unreachable()?;
                return Err(error.into());
            }
        };
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

    fn envelope(&self) -> Envelope {
        self.context.envelope(self.sender, Overflow::Block, 0)
    }

    fn give_up(&self, head: CallHead) {
        let attachment = head.attach(self.envelope());
        self.cancelling.try_send(Frame { attachment, ..Frame::default() });
    }
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
    let checked =
        |bytes: Vec<u8>, due: &TypeDescriptor, judged: fn(Vec<u8>) -> Judged| match types::check_length(
            due,
            bytes.len(),
        ) {
            Ok(()) => judged(bytes),
            Err(error) => Judged::Trouble(error.to_string()),
        };
    match answer {
        Answer::Frame(frame) if frame.attachment == NO_MORE => Judged::NoMore,
        Answer::Frame(frame) if frame.attachment == ANSWER || frame.attachment.is_empty() => {
            checked(frame.payload, &types.answer, Judged::Answer)
        }
        Answer::Frame(_) => Judged::Trouble("an answer with an attachment that is none".to_owned()),
        Answer::Failure(frame) if *frame.encoding == *ERROR => {
            Judged::Trouble(String::from_utf8_lossy(&frame.payload).chars().take(500).collect())
        }
        Answer::Failure(frame) => checked(frame.payload, &types.failure, Judged::Failure),
        Answer::End => Judged::Unreachable,
    }
}
