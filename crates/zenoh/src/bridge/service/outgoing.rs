//! A service whose servers are here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidepost::{CallError, Client, ClientHandle, Node, Pattern, ServiceTypes, Untyped};

use super::{cancel_key, encodings_of, types_key};
use crate::bridge::call::{self, ANSWER, CallHead, CallId, NO_MORE, Want};
use crate::bridge::census::Local;
use crate::bridge::context::{Context, JSON};
use crate::bridge::ends;
use crate::bridge::jobs::{Crew, Job};
use crate::bridge::port::{Counters, Port, PortError};
use crate::bridge::worker::Stop;
use crate::envelope::Sender;
use crate::link::{Arrived, Frame, Kept, Quality, Question};
use crate::types::{self, Named};

/// Calls from other machines that are answered at once.
const CALLS_MAX: usize = 32;
/// How long the first look for a server may take.
const MEETING: Duration = Duration::from_millis(500);

/// There is no server here any more.
#[derive(Debug, thiserror::Error)]
#[error("its server has gone")]
struct Gone;

/// Calls that are being answered, and how each is ended.
type Running = Arc<Mutex<HashMap<CallId, ClientHandle>>>;

fn lock(running: &Running) -> MutexGuard<'_, HashMap<CallId, ClientHandle>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A service whose servers are here.
#[derive(Debug)]
pub(in crate::bridge) struct ServiceOut {
    context: Arc<Context>,
    name: String,
    crew: Crew,
    running: Running,
    counters: Arc<Counters>,
    /// What answers and tells, as long as there is a server.
    served: Vec<Kept>,
}

impl ServiceOut {
    pub(in crate::bridge) fn open(context: &Arc<Context>, name: &str) -> Result<Self, PortError> {
        let crew = Crew::new(CALLS_MAX, context.options.room_bytes);
        let (running, counters, served) = Default::default();
        let (context, name) = (Arc::clone(context), name.to_owned());
        let mut port = Self { context, name, crew, running, counters, served };
        port.serve()?;
        port.grow()?;
        Ok(port)
    }

    /// Answers others, and tells them what the servers here take and give.
    fn serve(&mut self) -> Result<(), PortError> {
        let Self { context, name, crew, running, .. } = self;
        let mut client = context.node.service_dyn(name).client()?;
        client.wait_for_servers(1, MEETING)?;
        let types = client.server_types().ok_or(Gone)?;
        let told = encodings_of(context, &types)?.into_bytes();
        let told = Frame { payload: told, encoding: JSON.into(), ..Frame::default() };
        let mut served = ends::serve(context, Pattern::Service, name, || crew.taker())?;
        let tell = Box::new(move |question: Box<dyn Question>| question.answer(told.clone()));
        served.push(context.link.serve(&types_key(context, name), tell)?);
        served.push(end_cancelled(context, name, running)?);
        self.served = served;
        Ok(())
    }

    fn grow(&mut self) -> Result<(), PortError> {
        let (context, name) = (Arc::clone(&self.context), self.name.clone());
        let (running, counters, ended) =
            (Arc::clone(&self.running), Arc::clone(&self.counters), Arc::clone(&self.running));
        let begin = move || {
            let (context, name) = (Arc::clone(&context), name.clone());
            let (running, counters) = (Arc::clone(&running), Arc::clone(&counters));
            let mut answering = Answering { context, name, running, counters, client: None };
            move |job: Job, stop: &Stop| answering.answer(&job, stop)
        };
        self.crew.grow(begin, move || lock(&ended).drain().for_each(|(_, handle)| handle.cancel()))
    }
}

impl Port for ServiceOut {
    fn move_on(&mut self, local: &Local) -> Result<(), PortError> {
        if local.servers.is_empty() {
            // Nobody is asked who has no answer; the next server may come soon.
            self.served.clear();
        } else if self.served.is_empty() {
            self.serve()?;
        }
        self.grow()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn stop(&mut self) {
        self.crew.stop();
    }
}

/// Ends calls that are given up elsewhere, as long as what is returned is kept.
fn end_cancelled(context: &Context, name: &str, running: &Running) -> Result<Kept, PortError> {
    let running = Arc::clone(running);
    let end = move |arrived: &Arrived<'_>| {
        if let Ok((_, Some(id))) = CallHead::of(arrived.attachment)
            && let Some(handle) = lock(&running).remove(&id)
        {
            handle.cancel();
        }
        true
    };
    // Each is taken at once, so that none waits there.
    let source = context.link.source(&cancel_key(context, name), Quality::Lossy, 0, Box::new(end))?;
    Ok(Box::new(source))
}

type AnyClient = Client<Untyped, Untyped, Untyped>;

/// A thread that passes calls on to a server here.
struct Answering {
    context: Arc<Context>,
    name: String,
    running: Running,
    counters: Arc<Counters>,
    client: Option<AnyClient>,
}

impl Answering {
    fn answer(&mut self, job: &Job, stop: &Stop) {
        let question = &*job.question;
        match CallHead::of(&question.frame().attachment) {
            Ok((head, id)) => {
                let patience = head.patience.saturating_sub(job.since.elapsed());
                match self.pass_on(question, CallHead { patience, ..head }, id, stop) {
                    Ok(()) => Counters::add(&self.counters.crossed, 1),
                    // A question that ends without an answer has reached nobody.
                    Err(error) if error.is::<Gone>() => Counters::add(&self.counters.lost, 1),
                    Err(error) => {
                        question.fail(call::error(error.to_string()));
                        Counters::add(&self.counters.refused, 1);
                    }
                }
            }
            Err(reason) => {
                question.fail(call::error(reason));
                Counters::add(&self.counters.refused, 1);
            }
        }
    }

    fn pass_on(
        &mut self,
        question: &dyn Question,
        head: CallHead,
        id: Option<CallId>,
        stop: &Stop,
    ) -> Result<(), PortError> {
        let (mut client, types) = client(&self.context.node, &self.name, self.client.take())?;
        check_request(&types, question.frame())?;
        let id = id.unwrap_or_else(Self::number_stranger);
        lock(&self.running).insert(id, client.handle());
        if stop.is_set() {
            // Whoever stopped us may have looked before this one was on the list.
            client.handle().cancel();
        }
        let called = call(&self.context, &mut client, &types, question, head);
        let was_cancelled = lock(&self.running).remove(&id).is_none();
        // A client that was cancelled is of no more use.
        self.client = Some(client).filter(|_| !was_cancelled);
        called
    }

    /// A number for a call of somebody who gives none.
    fn number_stranger() -> CallId {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        (Sender { node: [0; 16], number: 0 }, CALLS.fetch_add(1, Ordering::Relaxed))
    }
}

/// A client that has a server, and what that takes.
fn client(
    node: &Node,
    name: &str,
    before: Option<AnyClient>,
) -> Result<(AnyClient, ServiceTypes), PortError> {
    let mut client = match before {
        Some(client) => client,
        None => node.service_dyn(name).client()?,
    };
    if client.server_types().is_none() {
        // Whether there is one is seen by what it takes.
        let _ = client.wait_for_servers(1, MEETING);
    }
    let types = client.server_types().ok_or(Gone)?;
    Ok((client, types))
}

fn check_request(types: &ServiceTypes, frame: &Frame) -> Result<(), PortError> {
    types::check_length(&types.request, frame.payload.len())?;
    match types::declared(&frame.encoding)?.message {
        Some(Named { hash, .. }) if hash != types.request.hash64() => {
            Err(format!("the server takes {}, and this is `{}`", types.request, frame.encoding).into())
        }
        _ => Ok(()),
    }
}

fn call(
    context: &Context,
    client: &mut AnyClient,
    types: &ServiceTypes,
    question: &dyn Question,
    head: CallHead,
) -> Result<(), PortError> {
    let answer_encoding = context.tell_type(&types.answer)?;
    let answer = |bytes: &[u8]| Frame {
        payload: bytes.to_vec(),
        encoding: Arc::clone(&answer_encoding),
        attachment: ANSWER.to_vec(),
        is_farewell: false,
    };
    let no_more = Frame { attachment: NO_MORE.to_vec(), ..Frame::default() };
    let request = Untyped::new(&question.frame().payload);
    let outcome = match head.want {
        Want::Answer => client.call(request, head.patience).map(|bytes| question.answer(answer(&bytes))),
        Want::Nothing => client.notify(request, head.patience).map(|()| question.answer(no_more)),
        Want::Parts => client.call_parts(request, head.patience).and_then(|mut parts| {
            parts.try_for_each(|part| part.map(|part| question.answer(answer(&part))))?;
            question.answer(no_more);
            Ok(())
        }),
    };
    match outcome {
        Err(CallError::Failed { failure, .. }) => {
            let encoding = context.tell_type(&types.failure)?;
            question.fail(Frame { payload: failure.to_vec(), encoding, ..Frame::default() });
            Ok(())
        }
        Err(CallError::NoServer { .. } | CallError::ServerLost { .. } | CallError::Unreachable { .. }) => {
            Err(Gone.into())
        }
        Err(error) => Err(error.to_string().into()),
        Ok(()) => Ok(()),
    }
}
