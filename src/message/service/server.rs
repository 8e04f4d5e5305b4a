//! The side of a service that answers.

use std::borrow::Borrow;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::AnswerError;
use super::head::Reply;
use super::hub::ServiceHub;
use super::serving::ServerCore;
use crate::message::error::ReceiveError;
use crate::message::error::Refused;
use crate::message::inlet::SubscriberShared;
use crate::message::payload::{self, Message, Payload, Text};
use crate::message::receiver::Receiver;
use crate::message::sample::HeldBytes;
use crate::node::{EndpointId, Inlet};
use crate::os::clock::Deadline;

pub use super::serving::ServerHandle;

/// Answers the requests of a service, made by [`Service::server`](super::Service::server).
///
/// One thread takes requests. [`Server::serve`] answers each with a function; a loop around [`Server::recv`] can answer in
/// place, in parts, later, or from another thread.
///
/// A client that takes no answers holds nobody up but itself: what it leaves lying is kept for it, up to as many answers as
/// it may have calls in flight.
pub struct Server<Req: ?Sized, Resp: ?Sized, E: ?Sized = Text> {
    pub(super) core: ServerCore,
    types: PhantomData<fn(&Req, &E) -> Box<Resp>>,
}

/// What a handler may return as its error: the service's failure type, or for [`Text`] any string.
pub trait AsFailure<E: ?Sized> {
    /// The failure that is sent.
    fn as_failure(&self) -> &E;
}

impl<E: Message> AsFailure<E> for E {
    fn as_failure(&self) -> &E {
        self
    }
}

impl AsFailure<Text> for str {
    fn as_failure(&self) -> &Text {
        Text::new(self)
    }
}

impl AsFailure<Text> for &str {
    fn as_failure(&self) -> &Text {
        Text::new(self)
    }
}

impl AsFailure<Text> for String {
    fn as_failure(&self) -> &Text {
        Text::new(self)
    }
}

impl<Req, Resp, E> Server<Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + ?Sized,
{
    pub(super) fn new(receiver: Receiver, hub: Arc<ServiceHub>) -> Self {
        Self { core: ServerCore::new(receiver, hub), types: PhantomData }
    }

    /// Answers every request with what `handler` makes of it, until the server is cancelled or its node shuts down. An answer
    /// that cannot be sent is not: the client learns that there is none.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`].
    pub fn serve<R, F>(&mut self, mut handler: impl FnMut(&Req) -> Result<R, F>) -> Result<(), ReceiveError>
    where
        R: Borrow<Resp>,
        F: AsFailure<E>,
    {
        loop {
            let request = match self.recv() {
                Ok(request) => request,
                Err(ReceiveError::Closed { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            // Whoever asked is told of every way in which this fails.
            let _ = match handler(&request) {
                Ok(answer) => request.answer(answer.borrow()),
                Err(failure) => request.fail(failure.as_failure()),
            };
        }
    }

    /// As [`Server::serve`], as a future, for any executor: one request after the other.
    ///
    /// # Errors
    /// As [`Server::serve`].
    pub async fn serve_async<R, F>(
        &mut self,
        mut handler: impl AsyncFnMut(&Req) -> Result<R, F>,
    ) -> Result<(), ReceiveError>
    where
        R: Borrow<Resp>,
        F: AsFailure<E>,
    {
        loop {
            let request = match self.recv_async().await {
                Ok(request) => request,
                Err(ReceiveError::Closed { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            // As in `serve`.
            let _ = match handler(&request).await {
                Ok(answer) => request.answer(answer.borrow()),
                Err(failure) => request.fail(failure.as_failure()),
            };
        }
    }

    /// Blocks until a request comes. Those that were cancelled, or whose deadline has passed, are passed over; who still waits
    /// for the answer to one of the latter is told that there is none.
    ///
    /// # Errors
    /// [`ReceiveError::Closed`]; [`ReceiveError::Endpoint`].
    #[inline]
    pub fn recv(&mut self) -> Result<Request<'_, Req, Resp, E>, ReceiveError> {
        loop {
            if self.core.next(|| Deadline::NEVER)? {
                return Ok(self.request());
            }
        }
    }

    /// As [`Server::recv`], waiting no longer than `timeout`: `None` if nothing came.
    ///
    /// # Errors
    /// As [`Server::recv`].
    pub fn recv_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Request<'_, Req, Resp, E>>, ReceiveError> {
        let is_there = self.core.next(|| Deadline::after(timeout))?;
        Ok(is_there.then(|| self.request()))
    }

    /// The next request, if it is there. Sends on its way what waits to be sent.
    ///
    /// # Errors
    /// As [`Server::recv`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Request<'_, Req, Resp, E>>, ReceiveError> {
        let is_there = self.core.try_next()?;
        Ok(is_there.then(|| self.request()))
    }

    /// As [`Server::recv`], as a future, for any executor.
    ///
    /// # Errors
    /// As [`Server::recv`].
    pub async fn recv_async(&mut self) -> Result<Request<'_, Req, Resp, E>, ReceiveError> {
        poll_fn(|context| self.core.poll_next(context)).await?;
        Ok(self.request())
    }

    /// A descriptor for somebody else's poll or epoll loop, as [`Subscriber::as_fd`](crate::Subscriber::as_fd) is one.
    ///
    /// # Errors
    /// [`ReceiveError::Endpoint`] if there is no descriptor left.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, ReceiveError> {
        self.core.receiver.descriptor()
    }

    /// Its identity.
    pub fn id(&self) -> EndpointId {
        self.core.receiver.shared().id()
    }

    /// How many clients are connected.
    pub fn clients(&mut self) -> usize {
        self.core.clients()
    }

    /// Requests that nobody wanted to be answered any more when they were due.
    pub fn passed_over(&self) -> u64 {
        self.core.passed_over
    }

    /// Clients that could not be connected, because of other types for instance, and why; the last of them.
    pub fn refusals(&self) -> Vec<Refused> {
        self.core.refusals()
    }

    /// A handle for other threads, to end the server's waits.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(self.core.receiver.shared())
    }

    #[inline]
    fn request(&mut self) -> Request<'_, Req, Resp, E> {
        Request { core: &mut self.core, is_answered: false, types: PhantomData }
    }
}

impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> fmt::Debug for Server<Req, Resp, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("service", &self.core.service()).finish_non_exhaustive()
    }
}

/// A request, lent where its client wrote it, and the way back. Dropping it unanswered tells the client so.
pub struct Request<'a, Req: ?Sized, Resp: ?Sized, E: ?Sized = Text> {
    core: &'a mut ServerCore,
    is_answered: bool,
    types: PhantomData<fn(&Req, &E) -> Box<Resp>>,
}

impl<'a, Req, Resp, E> Request<'a, Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + ?Sized,
{
    /// Answers. Waits for no room: without any in the stream the answer is kept until there is some. A long answer for which new
    /// memory was made waits two milliseconds at most until the client's node knows of that.
    ///
    /// # Errors
    /// [`AnswerError`]; the client is told that there is no answer, if it is there.
    #[inline]
    pub fn answer(mut self, answer: &Resp) -> Result<(), AnswerError> {
        self.check_length(Reply::Answer, answer)?;
        self.end(Reply::Answer, answer.as_bytes())
    }

    /// Answers with the service's own error.
    ///
    /// # Errors
    /// As [`Request::answer`].
    pub fn fail(mut self, failure: &E) -> Result<(), AnswerError> {
        self.check_length(Reply::Failure, failure)?;
        self.end(Reply::Failure, failure.as_bytes())
    }

    /// For whoever passes requests on: says that nobody was reached who answers.
    ///
    /// # Errors
    /// As [`Request::answer`].
    pub fn unreachable(mut self) -> Result<(), AnswerError> {
        self.end(Reply::Unreachable, &[])
    }

    /// Types that are known when the program is built need no check, and this is nothing.
    #[inline(always)]
    fn check_length<P: Payload + ?Sized>(&self, reply: Reply, payload: &P) -> Result<(), AnswerError> {
        if P::IS_TYPED { Ok(()) } else { self.core.hub.check_length(reply, payload.as_bytes().len()) }
    }

    #[inline]
    fn end(&mut self, reply: Reply, bytes: &[u8]) -> Result<(), AnswerError> {
        self.core.answer(&self.core.due(), reply, bytes)?;
        self.is_answered = true;
        Ok(())
    }

    /// Memory to write the answer in place, of one size.
    ///
    /// # Errors
    /// As [`Request::answer`].
    pub fn loan(self) -> Result<AnswerLoan<'a, Req, Resp, E>, AnswerError>
    where
        Resp: Sized,
    {
        self.loan_bytes(size_of::<Resp>())
    }

    fn loan_bytes(self, bytes: usize) -> Result<AnswerLoan<'a, Req, Resp, E>, AnswerError> {
        let place = self.core.loan(&self.core.due(), bytes)?;
        Ok(AnswerLoan { request: self, place, bytes })
    }

    /// Answers in parts: any number of them.
    ///
    /// # Errors
    /// [`AnswerError::Kind`] if the client wants one answer.
    pub fn parts(self) -> Result<PartsReply<'a, Req, Resp, E>, AnswerError> {
        self.core.check_parts(&self.core.due())?;
        Ok(PartsReply { request: self, sent: 0 })
    }

    /// Puts the answer off: the request is kept, and answered later, by any thread. Requests for parts are not.
    ///
    /// # Errors
    /// [`AnswerError::Kind`] if the client wants parts.
    pub fn defer(mut self) -> Result<Ticket<Req, Resp, E>, AnswerError> {
        let ticket = self.core.defer(&self.core.due())?;
        self.is_answered = true;
        let untyped = (!Resp::IS_TYPED).then(|| Arc::clone(&self.core.hub));
        Ok(Ticket { ticket, untyped, types: PhantomData })
    }

    /// Whether the client wants an answer at all.
    pub fn wants_answer(&self) -> bool {
        self.core.due().wants_answer()
    }

    /// Whether the client wants parts.
    pub fn wants_parts(&self) -> bool {
        self.core.due().wants_parts()
    }

    /// Whether the client wants no answer any more: it cancelled the call, the deadline has passed, or it has gone. A few looks
    /// at memory and one at a coarse clock, so that a long computation may ask often.
    pub fn is_cancelled(&self) -> bool {
        self.core.is_cancelled(&self.core.due())
    }

    /// Until when the client wants the answer, 10 to 20 milliseconds later than it says itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.core.due().deadline()
    }

    /// Who asks.
    pub fn client(&self) -> EndpointId {
        self.core.due().client
    }

    /// The request's number: those of one client to this server count from 0.
    pub fn number(&self) -> u64 {
        self.core.due().number
    }
}

impl<'a, Req, R, E> Request<'a, Req, [R], E>
where
    Req: Payload + ?Sized,
    R: Message,
    E: Payload + ?Sized,
{
    /// Memory to write an answer of so many elements in place.
    ///
    /// # Errors
    /// As [`Request::answer`].
    pub fn loan_slice(self, count: usize) -> Result<AnswerLoan<'a, Req, [R], E>, AnswerError> {
        self.loan_bytes(count.saturating_mul(size_of::<R>()))
    }
}

impl<Req: Payload + ?Sized, Resp: ?Sized, E: ?Sized> Deref for Request<'_, Req, Resp, E> {
    type Target = Req;

    #[inline]
    fn deref(&self) -> &Req {
        payload::message_of(self.core.request())
    }
}

impl<Req: Payload + fmt::Debug + ?Sized, Resp: ?Sized, E: ?Sized> fmt::Debug for Request<'_, Req, Resp, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Request").field(&&**self).finish()
    }
}

impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> Drop for Request<'_, Req, Resp, E> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_answered {
            self.core.leave_unanswered(&self.core.due());
        }
        self.core.finish();
    }
}

/// Memory for an answer, made by [`Request::loan`]. The request can still be read; [`AnswerLoan::send`] answers it.
#[must_use = "a loan that is not sent leaves the request unanswered"]
pub struct AnswerLoan<'a, Req: ?Sized, Resp: ?Sized, E: ?Sized = Text> {
    request: Request<'a, Req, Resp, E>,
    /// Memory of our own, if the stream had no room.
    place: Option<HeldBytes>,
    bytes: usize,
}

impl<Req, Resp, E> AnswerLoan<'_, Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + ?Sized,
{
    /// The request.
    pub fn request(&self) -> &Req {
        &self.request
    }

    /// Request and answer at once, to make the one from the other.
    pub fn both(&mut self) -> (&Req, &mut Resp) {
        let (request, answer) =
            self.request.core.request_and_loan(&self.request.core.due(), self.place.as_mut(), self.bytes);
        (
            payload::message_of(request),
            Resp::mut_from_bytes(answer).expect("a loan has the size and alignment of its type"),
        )
    }

    /// Answers with what has been written. Nothing is copied, unless the stream has no room.
    ///
    /// # Errors
    /// As [`Request::answer`].
    pub fn send(mut self) -> Result<(), AnswerError> {
        match self.place.take() {
            Some(place) => self.request.end(Reply::Answer, &place.as_slice()[..self.bytes]),
            None => {
                self.request.core.commit(&self.request.core.due());
                self.request.is_answered = true;
                Ok(())
            }
        }
    }
}

impl<Req: ?Sized, Resp, E> Deref for AnswerLoan<'_, Req, Resp, E>
where
    Resp: Payload + ?Sized,
    E: ?Sized,
{
    type Target = Resp;

    fn deref(&self) -> &Resp {
        let bytes = self.request.core.loaned(&self.request.core.due(), self.place.as_ref(), self.bytes);
        payload::message_of(bytes)
    }
}

impl<Req: ?Sized, Resp, E> DerefMut for AnswerLoan<'_, Req, Resp, E>
where
    Resp: Payload + ?Sized,
    E: ?Sized,
{
    fn deref_mut(&mut self) -> &mut Resp {
        let (_, answer) =
            self.request.core.request_and_loan(&self.request.core.due(), self.place.as_mut(), self.bytes);
        Resp::mut_from_bytes(answer).expect("a loan has the size and alignment of its type")
    }
}

impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> fmt::Debug for AnswerLoan<'_, Req, Resp, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AnswerLoan").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// An answer in parts, made by [`Request::parts`]. Dropping it without [`PartsReply::finish`] tells the client that the rest is
/// missing.
pub struct PartsReply<'a, Req: ?Sized, Resp: ?Sized, E: ?Sized = Text> {
    request: Request<'a, Req, Resp, E>,
    sent: u32,
}

impl<Req, Resp, E> PartsReply<'_, Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + ?Sized,
{
    /// The request.
    pub fn request(&self) -> &Req {
        &self.request
    }

    /// Sends a part. While the client has 64 of them to take, or its stream is full, this waits until it takes some, at most
    /// until the call's deadline; other clients wait meanwhile.
    ///
    /// # Errors
    /// [`AnswerError`]: a client that has cancelled the call or gone ends the parts.
    pub fn send(&mut self, part: &Resp) -> Result<(), AnswerError> {
        self.request.check_length(Reply::Part, part)?;
        self.request.core.send_part(&self.request.core.due(), self.sent, part.as_bytes())?;
        self.sent = self.sent.wrapping_add(1);
        Ok(())
    }

    /// There are no more parts.
    ///
    /// # Errors
    /// As [`Request::answer`].
    pub fn finish(mut self) -> Result<(), AnswerError> {
        self.request.end(Reply::End, &[])
    }

    /// Ends the parts with the service's own error.
    ///
    /// # Errors
    /// As [`Request::answer`].
    pub fn fail(mut self, failure: &E) -> Result<(), AnswerError> {
        self.request.check_length(Reply::Failure, failure)?;
        self.request.end(Reply::Failure, failure.as_bytes())
    }

    /// As [`Request::unreachable`].
    ///
    /// # Errors
    /// As [`Request::answer`].
    pub fn unreachable(mut self) -> Result<(), AnswerError> {
        self.request.end(Reply::Unreachable, &[])
    }

    /// As [`Request::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.request.is_cancelled()
    }
}

impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> fmt::Debug for PartsReply<'_, Req, Resp, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PartsReply").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// A request that is answered later, by any thread, made by [`Request::defer`]. The answer goes out when the server is used next,
/// or at once if it is waiting. Dropping the ticket tells the client that there is no answer.
pub struct Ticket<Req: ?Sized, Resp: ?Sized, E: ?Sized = Text> {
    ticket: super::serving::Ticket,
    /// Whom to ask how long answers are, if their type does not say.
    untyped: Option<Arc<ServiceHub>>,
    types: PhantomData<fn(&Req, &E) -> Box<Resp>>,
}

impl<Req, Resp, E> Ticket<Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + ?Sized,
{
    /// Answers. The answer is copied, and sent by the server's own thread; what is too long for the service, or none of its type,
    /// is not sent, and the client is told that there is no answer.
    pub fn answer(self, answer: &Resp) {
        self.post(Reply::Answer, answer.as_bytes());
    }

    /// Answers with the service's own error.
    pub fn fail(self, failure: &E) {
        self.post(Reply::Failure, failure.as_bytes());
    }

    /// As [`Request::unreachable`].
    pub fn unreachable(self) {
        self.post(Reply::Unreachable, &[]);
    }

    fn post(self, reply: Reply, bytes: &[u8]) {
        if self.untyped.is_none_or(|hub| hub.check_length(reply, bytes.len()).is_ok()) {
            self.ticket.post(reply, bytes);
        }
    }

    /// As [`Request::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.ticket.is_cancelled()
    }

    /// As [`Request::deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        self.ticket.due().deadline()
    }
}

impl<Req: Payload + ?Sized, Resp: ?Sized, E: ?Sized> Deref for Ticket<Req, Resp, E> {
    type Target = Req;

    fn deref(&self) -> &Req {
        payload::message_of(self.ticket.request())
    }
}

impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> fmt::Debug for Ticket<Req, Resp, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ticket").field("number", &self.ticket.due().number).finish_non_exhaustive()
    }
}

/// What the compiler is to check: a ticket goes to other threads.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Ticket<[u8], [u8]>>();
    is_send::<SubscriberShared>();
};
