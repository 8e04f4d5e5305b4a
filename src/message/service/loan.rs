//! A request that is being written where its server will read it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::client::{Answer, Call, Client};
use super::error::CallError;
use super::head::{deadline_ms, instant_of};
use crate::message::payload::{self, Message, Payload, Text};
use crate::os::clock::Deadline;

impl<Req, Resp, E> Client<Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    /// Lends memory for a request, to be written in place and then sent with [`RequestLoan::call`] or [`RequestLoan::send`]. It
    /// holds the bytes of some earlier request, or zeros. Waits for room no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn loan(&mut self, timeout: Duration) -> Result<RequestLoan<'_, Req, Resp, E>, CallError<E>>
    where
        Req: Sized,
    {
        self.loan_bytes(size_of::<Req>(), timeout)
    }

    fn loan_bytes(
        &mut self,
        bytes: usize,
        timeout: Duration,
    ) -> Result<RequestLoan<'_, Req, Resp, E>, CallError<E>> {
        match self.core.make_room(bytes, Deadline::after(timeout)) {
            Ok(server) => Ok(RequestLoan { client: self, server, bytes }),
            Err(error) => Err(self.not_started(error, timeout)),
        }
    }
}

impl<R, Resp, E> Client<[R], Resp, E>
where
    R: Message,
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    /// As [`Client::loan`], for a request of so many elements.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn loan_slice(
        &mut self,
        count: usize,
        timeout: Duration,
    ) -> Result<RequestLoan<'_, [R], Resp, E>, CallError<E>> {
        // A product that overflows is asked for as such, and refused as too large.
        self.loan_bytes(count.saturating_mul(size_of::<R>()), timeout)
    }
}

/// Memory for a request, made by [`Client::loan`]. Dropping it sends nothing.
#[must_use = "a loan that is not sent is given up"]
pub struct RequestLoan<'a, Req: ?Sized, Resp: ?Sized, E: ?Sized = Text> {
    client: &'a mut Client<Req, Resp, E>,
    /// Where its server is in the client's list.
    server: usize,
    bytes: usize,
}

impl<'a, Req, Resp, E> RequestLoan<'a, Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + fmt::Debug + ?Sized,
{
    /// Asks with what has been written, and waits for the answer. Nothing is copied.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call(self, timeout: Duration) -> Result<Answer<'a, Resp>, CallError<E>> {
        let Self { client, server, .. } = self;
        let deadline_ms = deadline_ms(timeout);
        let call = client.core.commit(server, deadline_ms);
        client.wait_or_cancel(call, timeout, || Deadline::after(timeout).or_at(instant_of(deadline_ms)))
    }

    /// Asks with what has been written, and waits for nothing. As after [`Client::send`], the answer is taken with
    /// [`Client::wait`] or [`Client::try_take`].
    pub fn send(self, timeout: Duration) -> Call {
        self.client.core.commit(self.server, deadline_ms(timeout))
    }
}

impl<Req: Payload + ?Sized, Resp: ?Sized, E: ?Sized> Deref for RequestLoan<'_, Req, Resp, E> {
    type Target = Req;

    fn deref(&self) -> &Req {
        payload::message_of(self.client.core.loaned(self.server, self.bytes))
    }
}

impl<Req: Payload + ?Sized, Resp: ?Sized, E: ?Sized> DerefMut for RequestLoan<'_, Req, Resp, E> {
    fn deref_mut(&mut self) -> &mut Req {
        let bytes = self.client.core.loaned_mut(self.server, self.bytes);
        Req::mut_from_bytes(bytes).expect("a loan has the size and alignment of its type")
    }
}

impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> fmt::Debug for RequestLoan<'_, Req, Resp, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RequestLoan").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
