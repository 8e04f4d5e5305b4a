//! The side of a service that asks.

use std::cell::LazyCell;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::core::{Awaited, ClientCore, Found, Outcome, StartError};
pub use super::core::{Call, ServiceTypes};
use super::error::{CallError, Failure};
use super::head::{Reply, RequestHead, Want, deadline_ms, instant_of};
use super::hub::ServiceHub;
use crate::message::error::Refused;
use crate::message::inlet::SubscriberShared;
use crate::message::payload::{self, Payload, Text};
use crate::message::receiver::Receiver;
use crate::message::sample::HeldBytes;
use crate::node::{EndpointId, Hub, Inlet};
use crate::os::clock::Deadline;

/// Calls a service, made by [`Service::client`](super::Service::client).
///
/// One thread calls; `&mut self` says so. Several threads each have a client of their own. [`Client::call`] asks and waits;
/// [`Client::send`] only asks, so that many calls wait for their answers at once, and [`Client::wait`] takes one of these.
///
/// While the server is awake and answers soon, a call is made without a system call.
pub struct Client<Req: ?Sized, Resp: ?Sized, E: ?Sized = Text> {
    pub(super) core: ClientCore,
    hub: Arc<ServiceHub>,
    types: PhantomData<fn(&Req, &E) -> Box<Resp>>,
}

impl<Req, Resp, E> Client<Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    /// Asks and waits for the answer, which is lent where the server wrote it.
    ///
    /// # Errors
    /// [`CallError`]: what the server says itself is [`CallError::Failed`]; without a server the answer is
    /// [`CallError::NoServer`], at once. After [`CallError::Timeout`] the server sees the call as cancelled.
    #[inline]
    pub fn call(&mut self, request: &Req, timeout: Duration) -> Result<Answer<'_, Resp>, CallError<E>> {
        let deadline_ms = deadline_ms(timeout);
        let Some(server) = self.core.ask(deadline_ms, request.as_bytes()) else {
            return self.call_slowly(request, timeout);
        };
        if !self.core.is_answered_soon(server) {
            return self.wait_long(server, timeout, deadline_ms);
        }
        match self.core.receiver.take_bytes() {
            Some(bytes) => Ok(Answer { bytes: AnswerBytes::Lent(bytes), answer: PhantomData }),
            None => Err(CallError::Unanswered { service: self.hub.channel().shared() }),
        }
    }

    #[inline(never)]
    fn call_slowly(&mut self, request: &Req, timeout: Duration) -> Result<Answer<'_, Resp>, CallError<E>> {
        // One for both waits.
        let deadline = Deadline::after(timeout);
        let call = self.start(Want::Answer, request, timeout, || deadline)?;
        self.wait_or_cancel(call, timeout, || deadline)
    }

    /// Waits for the answer to what was just asked, which has not come soon: not beyond what the server was told, as this
    /// process may have been stopped since.
    #[inline(never)]
    fn wait_long(
        &mut self,
        server: usize,
        timeout: Duration,
        deadline_ms: u64,
    ) -> Result<Answer<'_, Resp>, CallError<E>> {
        let deadline = || Deadline::after(timeout).or_at(instant_of(deadline_ms));
        match self.core.enlist(server) {
            Some(call) => self.wait_or_cancel(call, timeout, deadline),
            None => Err(CallError::ServerLost { service: self.hub.channel().shared() }),
        }
    }

    #[inline]
    pub(super) fn wait_or_cancel(
        &mut self,
        call: Call,
        waited: Duration,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<Answer<'_, Resp>, CallError<E>> {
        let deadline = LazyCell::new(deadline);
        match self.core.await_answer(call, || *deadline) {
            Ok(Awaited::Nothing) => {
                self.core.cancel(call);
                Err(CallError::Timeout { service: self.core.service(), waited })
            }
            Ok(awaited) => self.awaited(call, awaited).map_err(|error| error.or_late(*deadline, waited)),
            Err(error) => {
                self.core.cancel(call);
                Err(error.into())
            }
        }
    }

    /// Asks, and waits for nothing but room for the request, at most until `timeout`, which is also the time that the server
    /// is told the answer is wanted in. The answer is taken with [`Client::wait`] or [`Client::try_take`], and each has to be
    /// taken or cancelled.
    ///
    /// # Errors
    /// As [`Client::call`], and [`CallError::InFlight`].
    #[inline]
    pub fn send(&mut self, request: &Req, timeout: Duration) -> Result<Call, CallError<E>> {
        self.start(Want::Answer, request, timeout, || Deadline::after(timeout))
    }

    /// Asks for nothing to be answered: one way. Returns when the request is on its way.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn notify(&mut self, request: &Req, timeout: Duration) -> Result<(), CallError<E>> {
        self.start(Want::Nothing, request, timeout, || Deadline::after(timeout)).map(drop)
    }

    /// Asks for any number of answers, one after the other. The server is at most 64 of them ahead.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn call_parts(
        &mut self,
        request: &Req,
        timeout: Duration,
    ) -> Result<Parts<'_, Req, Resp, E>, CallError<E>> {
        // What the server is told: this process may be stopped before it waits.
        let deadline = Deadline::after(timeout);
        let call = self.start(Want::Parts, request, timeout, || deadline)?;
        Ok(Parts { client: self, call, deadline, timeout, is_over: false })
    }

    /// As [`Client::call_parts`], without waiting; [`Client::next_part`] takes what comes.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn send_parts(&mut self, request: &Req, timeout: Duration) -> Result<Call, CallError<E>> {
        self.start(Want::Parts, request, timeout, || Deadline::after(timeout))
    }

    #[inline]
    fn start(
        &mut self,
        want: Want,
        request: &Req,
        timeout: Duration,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<Call, CallError<E>> {
        let head = RequestHead { want, note: 0, deadline_ms: deadline_ms(timeout) };
        let started = self.core.start(head, request.as_bytes(), deadline);
        started.map_err(|error| self.not_started(error, timeout))
    }

    #[cold]
    pub(super) fn not_started(&self, error: StartError, waited: Duration) -> CallError<E> {
        let service = self.core.service();
        match error {
            StartError::NoServer => CallError::NoServer { service, refused: self.core.hub.refusals() },
            StartError::InFlight => CallError::InFlight { service, limit: self.core.in_flight_limit() },
            StartError::Timeout => CallError::Timeout { service, waited },
            StartError::Send(error) => error.into(),
            StartError::Receive(error) => error.into(),
        }
    }

    /// Waits for the answer to a call. After a time-out the call goes on waiting, unless it is cancelled.
    ///
    /// # Errors
    /// As [`Client::call`], and [`CallError::NoSuchCall`].
    pub fn wait(&mut self, call: Call, timeout: Duration) -> Result<Answer<'_, Resp>, CallError<E>> {
        self.check(call, false)?;
        match self.core.await_answer(call, || Deadline::after(timeout))? {
            Awaited::Nothing => Err(CallError::Timeout { service: self.core.service(), waited: timeout }),
            awaited => self.awaited(call, awaited),
        }
    }

    #[inline]
    fn awaited(&mut self, call: Call, awaited: Awaited) -> Result<Answer<'_, Resp>, CallError<E>> {
        match self.core.take_awaited(call, awaited) {
            Some(found) => answer_of(&self.hub, found),
            None => Err(CallError::NoSuchCall { service: self.hub.channel().shared() }),
        }
    }

    /// Takes the answer to a call if it has come.
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub fn try_take(&mut self, call: Call) -> Result<Option<Answer<'_, Resp>>, CallError<E>> {
        self.check(call, false)?;
        let taken_in = self.core.take_in_all();
        match self.core.take_outcome(call) {
            Some(outcome) => answer_of(&self.hub, Found::Kept(outcome)).map(Some),
            None => Ok(taken_in.map(|()| None)?),
        }
    }

    /// Waits until the answer to any call has come, and says to which; [`Client::wait`] then takes it without waiting. `None` if
    /// none came.
    ///
    /// # Errors
    /// [`CallError::Closed`].
    pub fn wait_any(&mut self, timeout: Duration) -> Result<Option<Call>, CallError<E>> {
        if timeout.is_zero() {
            let taken_in = self.core.take_in_all();
            let found = self.core.any_outcome();
            return if found.is_some() { Ok(found) } else { Ok(taken_in.map(|()| None)?) };
        }
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(call) = self.core.any_outcome() {
                return Ok(Some(call));
            }
            if !self.core.take_in(deadline)? {
                return Ok(None);
            }
        }
    }

    /// The next part of a call that was made with [`Client::send_parts`]; `None` if there are no more.
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub fn next_part(&mut self, call: Call, timeout: Duration) -> Result<Option<Part<Resp>>, CallError<E>> {
        self.next_part_until(call, Deadline::after(timeout), timeout)
    }

    fn next_part_until(
        &mut self,
        call: Call,
        deadline: Deadline,
        waited: Duration,
    ) -> Result<Option<Part<Resp>>, CallError<E>> {
        self.check(call, true)?;
        loop {
            match self.core.take_part(call) {
                Some(Ok(bytes)) => return Ok(Some(Part { bytes, part: PhantomData })),
                Some(Err(Outcome::End)) => return Ok(None),
                Some(Err(outcome)) => {
                    let outcome = answer_of(&self.hub, Found::Kept(outcome));
                    return outcome.map(|_: Answer<'_, Resp>| None);
                }
                None => {}
            }
            if !self.core.take_in(deadline)? {
                return Err(CallError::Timeout { service: self.core.service(), waited });
            }
        }
    }

    fn check(&mut self, call: Call, asks_for_parts: bool) -> Result<(), CallError<E>> {
        let service = self.core.service();
        match self.core.wants_parts(call) {
            None => Err(CallError::NoSuchCall { service }),
            Some(true) if !asks_for_parts => {
                Err(CallError::Kind { service, wanted: "parts", asked: "an answer" })
            }
            Some(false) if asks_for_parts => {
                Err(CallError::Kind { service, wanted: "an answer", asked: "parts" })
            }
            Some(_) => Ok(()),
        }
    }

    /// Gives a call up: its answer is not waited for any more, and the server sees it as cancelled. Whether it was there.
    pub fn cancel(&mut self, call: Call) -> bool {
        self.core.cancel(call)
    }

    /// As [`Client::call`], as a future, for any executor. The server is told that the answer is wanted within `timeout`, but
    /// the future ends by itself only with the answer, or with the server; dropping it cancels the call.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_async(
        &mut self,
        request: &Req,
        timeout: Duration,
    ) -> Result<Answer<'_, Resp>, CallError<E>> {
        let deadline = Deadline::after(timeout);
        let call = self.send_async(request, timeout).await?;
        self.wait_async(call).await.map_err(|error| error.or_late(deadline, timeout))
    }

    /// As [`Client::send`], as a future that waits for room.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_async(&mut self, request: &Req, timeout: Duration) -> Result<Call, CallError<E>> {
        let head = RequestHead { want: Want::Answer, note: 0, deadline_ms: deadline_ms(timeout) };
        loop {
            let lacks_room = match self.core.try_start(head, request.as_bytes()) {
                Ok(Ok(call)) => return Ok(call),
                Ok(Err(_)) if self.core.has_nobody() => {
                    return Err(self.not_started(StartError::NoServer, timeout));
                }
                Ok(Err(lacks_room)) => lacks_room,
                Err(error) => return Err(self.not_started(error, timeout)),
            };
            poll_fn(|context| self.core.poll_take_in(lacks_room, context)).await?;
        }
    }

    /// As [`Client::wait`], as a future; dropping it cancels the call.
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub async fn wait_async(&mut self, call: Call) -> Result<Answer<'_, Resp>, CallError<E>> {
        self.check(call, false)?;
        let mut guard = CancelOnDrop { core: &mut self.core, call: Some(call) };
        let outcome = poll_fn(|context| {
            loop {
                if let Some(outcome) = guard.core.take_outcome(call) {
                    return Poll::Ready(Ok(outcome));
                }
                match guard.core.poll_answers(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        guard.call = None;
        answer_of(&self.hub, Found::Kept(outcome?))
    }

    /// A descriptor for somebody else's poll or epoll loop, as [`Subscriber::as_fd`](crate::Subscriber::as_fd) is one: readable
    /// when answers may have come. Whoever it wakes calls [`Client::try_take`] or [`Client::wait_any`] with no time, until
    /// nothing is found.
    ///
    /// # Errors
    /// [`CallError::Endpoint`] if there is no descriptor left.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, CallError<E>> {
        Ok(self.core.receiver.descriptor()?)
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.core.receiver.shared().id()
    }

    /// How many servers are connected.
    pub fn servers(&mut self) -> usize {
        self.core.servers()
    }

    /// What the server takes and gives that the next call goes to, if there is one: for tools, whose types are those. Only a
    /// client that is [sticky](super::Service::sticky) has its calls go there for sure.
    pub fn server_types(&mut self) -> Option<ServiceTypes> {
        self.core.types()
    }

    /// Waits until so many servers are connected.
    ///
    /// # Errors
    /// [`CallError::NoServer`] if they are not in time; [`CallError::Closed`].
    pub fn wait_for_servers(&mut self, count: usize, timeout: Duration) -> Result<(), CallError<E>> {
        let deadline = Deadline::after(timeout);
        while self.core.servers() < count {
            if !self.core.take_in(deadline)? {
                return Err(self.not_started(StartError::NoServer, timeout));
            }
        }
        Ok(())
    }

    /// Calls that wait for their answers.
    pub fn waiting(&self) -> usize {
        self.core.waiting()
    }

    /// Answers that came when their calls had been given up.
    pub fn late_answers(&self) -> u64 {
        self.core.late
    }

    /// Servers that could not be connected, because of other types for instance, and why; the last of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.core.hub.refusals()
    }

    /// A handle for other threads, to end the client's waits.
    pub fn handle(&self) -> ClientHandle {
        ClientHandle { shared: Arc::clone(self.core.receiver.shared()) }
    }
}

impl<Req, Resp, E> Client<Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + ?Sized,
{
    pub(super) fn new(receiver: Receiver, hub: Arc<ServiceHub>, options: (u32, bool, bool)) -> Self {
        let extents = (payload::extent::<Resp>(), payload::extent::<E>());
        let core = ClientCore::new(receiver, Arc::clone(&hub), options, extents);
        Self { core, hub, types: PhantomData }
    }
}

impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> fmt::Debug for Client<Req, Resp, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Client");
        fields
            .field("service", &self.core.service())
            .field("waiting", &self.core.waiting())
            .finish_non_exhaustive()
    }
}

/// Gives a call up unless its outcome has come.
struct CancelOnDrop<'a> {
    core: &'a mut ClientCore,
    call: Option<Call>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.core.cancel(call);
        }
    }
}

/// What has been found, as the caller sees it.
#[inline]
fn answer_of<'a, Resp, E>(hub: &ServiceHub, found: Found<'a>) -> Result<Answer<'a, Resp>, CallError<E>>
where
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    let bytes = match found {
        Found::Lent(Reply::Answer, taken) => AnswerBytes::Lent(taken.lent.bytes()),
        Found::Kept(Outcome::Answer(bytes)) => AnswerBytes::Kept(bytes),
        other => return Err(error_of(hub, other)),
    };
    Ok(Answer { bytes, answer: PhantomData })
}

#[cold]
fn error_of<E: Payload + fmt::Debug + ?Sized>(hub: &ServiceHub, found: Found<'_>) -> CallError<E> {
    let service = hub.channel().shared();
    match found {
        Found::Lent(Reply::Failure, taken) => {
            CallError::Failed { service, failure: Failure::new(HeldBytes::of(taken.lent)) }
        }
        Found::Kept(Outcome::Failure(bytes)) => CallError::Failed { service, failure: Failure::new(bytes) },
        Found::Lent(Reply::Unreachable, _) | Found::Kept(Outcome::Unreachable) => {
            CallError::Unreachable { service }
        }
        Found::Kept(Outcome::Lost) => CallError::ServerLost { service },
        Found::Kept(Outcome::Short(source)) => CallError::Segment { service, source },
        Found::Lent(..) | Found::Kept(_) => CallError::Unanswered { service },
    }
}

/// An answer: lent where its server wrote it until the client is used again, or kept.
pub struct Answer<'a, Resp: ?Sized> {
    bytes: AnswerBytes<'a>,
    answer: PhantomData<Box<Resp>>,
}

enum AnswerBytes<'a> {
    Lent(&'a [u8]),
    Kept(HeldBytes),
}

impl<Resp: Payload + ?Sized> Deref for Answer<'_, Resp> {
    type Target = Resp;

    #[inline]
    fn deref(&self) -> &Resp {
        payload::message_of(match &self.bytes {
            AnswerBytes::Lent(bytes) => bytes,
            AnswerBytes::Kept(bytes) => bytes.as_slice(),
        })
    }
}

impl<Resp: Payload + fmt::Debug + ?Sized> fmt::Debug for Answer<'_, Resp> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Answer").field(&&**self).finish()
    }
}

/// One of many answers to one call. It may be kept as long as is liked.
pub struct Part<Resp: ?Sized> {
    bytes: HeldBytes,
    part: PhantomData<Box<Resp>>,
}

impl<Resp: Payload + ?Sized> Deref for Part<Resp> {
    type Target = Resp;

    fn deref(&self) -> &Resp {
        payload::message_of(self.bytes.as_slice())
    }
}

impl<Resp: Payload + fmt::Debug + ?Sized> fmt::Debug for Part<Resp> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Part").field(&&**self).finish()
    }
}

/// The answers to one call, made by [`Client::call_parts`]. Dropping it before the end cancels the call.
pub struct Parts<'a, Req, Resp, E = Text>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    client: &'a mut Client<Req, Resp, E>,
    call: Call,
    deadline: Deadline,
    timeout: Duration,
    is_over: bool,
}

impl<Req, Resp, E> Iterator for Parts<'_, Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    type Item = Result<Part<Resp>, CallError<E>>;

    /// Waits for the next part, until the call's deadline. After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.client.next_part_until(self.call, self.deadline, self.timeout);
        let next = next.map_err(|error| error.or_late(self.deadline, self.timeout)).transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        if matches!(next, Some(Err(_))) {
            self.client.cancel(self.call);
        }
        next
    }
}

impl<Req, Resp, E> Drop for Parts<'_, Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    fn drop(&mut self) {
        if !self.is_over {
            self.client.cancel(self.call);
        }
    }
}

impl<Req, Resp, E> fmt::Debug for Parts<'_, Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Parts").field("call", &self.call).finish_non_exhaustive()
    }
}

/// A client seen from other threads, made by [`Client::handle`].
#[derive(Clone)]
pub struct ClientHandle {
    shared: Arc<SubscriberShared>,
}

impl ClientHandle {
    /// Ends the client's waits with `Closed`, the one it may be in and any that it would begin.
    pub fn cancel(&self) {
        self.shared.cancel();
    }
}

impl fmt::Debug for ClientHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientHandle").finish_non_exhaustive()
    }
}
