//! What can go wrong with a service, one enum for each operation.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::message::error::{ReceiveError, Refused, SendError};
use crate::message::payload::{Payload, Text, message_of};
use crate::message::sample::HeldBytes;
use crate::node::{EndpointError, NameError};
use crate::os::clock::Deadline;
use crate::segment::SegmentError;

/// Why an endpoint of a service could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The service's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The two ends disagree about the type of requests, answers or failures.
    #[error("service `{service}` has other types at {refused}; build both ends from one definition")]
    TypeMismatch {
        /// The service.
        service: Arc<str>,
        /// Who refused, and the first difference.
        refused: Box<Refused>,
    },
    /// The other end could not be connected for another reason.
    #[error("service `{service}` cannot be joined at {refused}")]
    Refused {
        /// The service.
        service: Arc<str>,
        /// Who refused, and why.
        refused: Box<Refused>,
    },
    /// An option is out of its range.
    #[error("service `{service}`: {option} is {value}, and must be in {least}..={most}")]
    Option {
        /// The service.
        service: Arc<str>,
        /// The option.
        option: &'static str,
        /// The value asked for.
        value: u64,
        /// The least value.
        least: u64,
        /// The largest value.
        most: u64,
    },
    /// A type asks for more alignment than a slot has.
    #[error(
        "service `{service}`: messages aligned to {align} B cannot be sent; the limit is 64 B, one cache line"
    )]
    Alignment {
        /// The service.
        service: Arc<str>,
        /// The alignment of the type, in bytes.
        align: u64,
    },
    /// The types are too long to be told to the other end.
    #[error(
        "service `{service}`: the descriptions of its types are too long; shorten names or lists of fields"
    )]
    TypesTooLong {
        /// The service.
        service: Arc<str>,
    },
    /// A server of untyped messages was not told their types.
    #[error("service `{service}`: a server of untyped messages needs their types; give them with `types`")]
    NoTypes {
        /// The service.
        service: Arc<str>,
    },
    /// The endpoint could not be introduced to the domain.
    #[error("service `{service}`: {source}")]
    Endpoint {
        /// The service.
        service: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

/// What a server answered instead of an answer: an error of its own, of the service's type for them.
pub struct Failure<E: ?Sized> {
    bytes: HeldBytes,
    failure: std::marker::PhantomData<Box<E>>,
}

impl<E: Payload + ?Sized> Failure<E> {
    pub(super) fn new(bytes: HeldBytes) -> Self {
        Self { bytes, failure: std::marker::PhantomData }
    }
}

impl<E: Payload + ?Sized> Deref for Failure<E> {
    type Target = E;

    fn deref(&self) -> &E {
        message_of(self.bytes.as_slice())
    }
}

impl<E: Payload + fmt::Debug + ?Sized> fmt::Debug for Failure<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E: Payload + fmt::Debug + ?Sized = Text> {
    /// The server ran and answered with an error of its own.
    #[error("service `{service}` failed: {failure:?}")]
    Failed {
        /// The service.
        service: Arc<str>,
        /// The server's error.
        failure: Failure<E>,
    },
    /// There is no server. Known at once.
    #[error("service `{service}` has no server{}; start one", refused_text(.refused))]
    NoServer {
        /// The service.
        service: Arc<str>,
        /// Servers that could not be connected.
        refused: Vec<Refused>,
    },
    /// There was no answer until the deadline. The server is told, and sees it as cancelled.
    #[error("service `{service}` has not answered within {waited:?}; it may be slow or stopped")]
    Timeout {
        /// The service.
        service: Arc<str>,
        /// How long.
        waited: Duration,
    },
    /// The server died or left after the request was sent. It may have done what it was asked for, or not.
    #[error("service `{service}`: the server has gone without an answer; ask again if that does no harm")]
    ServerLost {
        /// The service.
        service: Arc<str>,
    },
    /// The server let go of the request without an answer: its handler gave up, or its answer was over a limit.
    #[error("service `{service}`: the server let go of the request without an answer")]
    Unanswered {
        /// The service.
        service: Arc<str>,
    },
    /// The server is on another machine, and is not reached: it, its machine or the network between has gone. Whether it did what it
    /// was asked is not known.
    #[error(
        "service `{service}`: its server is on another machine, which is not reached; see `tidepost-gateway check`"
    )]
    Unreachable {
        /// The service.
        service: Arc<str>,
    },
    /// As many calls wait for answers as may.
    #[error(
        "service `{service}`: {limit} calls to one server wait for their answers; take those first, or raise `in_flight`"
    )]
    InFlight {
        /// The service.
        service: Arc<str>,
        /// The most that may.
        limit: u32,
    },
    /// The call is not one of this client's that still waits: it was taken, cancelled, or made by another client.
    #[error("service `{service}`: there is no such call; it was taken or cancelled, or is another client's")]
    NoSuchCall {
        /// The service.
        service: Arc<str>,
    },
    /// The call was made for another kind of answer.
    #[error("service `{service}`: a call for {wanted} was asked for {asked}")]
    Kind {
        /// The service.
        service: Arc<str>,
        /// What it was made for.
        wanted: &'static str,
        /// What was asked.
        asked: &'static str,
    },
    /// The request could not be sent: it is over a limit, or there is no memory for it.
    #[error("the request cannot be sent: {source}")]
    Send {
        /// The service.
        service: Arc<str>,
        /// Why.
        source: Box<SendError>,
    },
    /// This process has no memory, or no descriptors, for what the server answers. The server may have done what it was asked
    /// for; it is not connected with this client any more.
    #[error("service `{service}`: the answer cannot be received: {source}")]
    Segment {
        /// The service.
        service: Arc<str>,
        /// What could not be had.
        source: SegmentError,
    },
    /// The client was cancelled, or its node shut down.
    #[error("service `{service}` was closed here")]
    Closed {
        /// The service.
        service: Arc<str>,
    },
    /// The node's control plane failed while this call drove it.
    #[error("service `{service}`: {source}")]
    Endpoint {
        /// The service.
        service: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

fn refused_text(refused: &[Refused]) -> String {
    refused.iter().map(|refused| format!("; refused by {refused}")).collect()
}

impl<E: Payload + fmt::Debug + ?Sized> CallError<E> {
    /// What it is to whoever waited until the deadline: a server lets go of what nobody waits for any more, which it may know before the
    /// caller does.
    pub(super) fn or_late(self, deadline: Deadline, waited: Duration) -> Self {
        match self {
            Self::Unanswered { service } if deadline.has_passed() => Self::Timeout { service, waited },
            error => error,
        }
    }
}

impl<E: Payload + fmt::Debug + ?Sized> From<ReceiveError> for CallError<E> {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Closed { channel } => Self::Closed { service: channel.shared() },
            ReceiveError::Segment { channel, source, .. } => {
                Self::Segment { service: channel.shared(), source }
            }
            ReceiveError::Endpoint { channel, source } => {
                Self::Endpoint { service: channel.shared(), source }
            }
        }
    }
}

impl<E: Payload + fmt::Debug + ?Sized> From<SendError> for CallError<E> {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Closed { channel, .. } => Self::Closed { service: channel.shared() },
            SendError::Endpoint { channel, source, .. } => {
                Self::Endpoint { service: channel.shared(), source }
            }
            SendError::Full { ref channel, .. }
            | SendError::Timeout { ref channel, .. }
            | SendError::Length { ref channel, .. }
            | SendError::Header { ref channel }
            | SendError::NotRelaying { ref channel }
            | SendError::TooLarge { ref channel, .. }
            | SendError::Segment { ref channel, .. } => {
                Self::Send { service: channel.shared(), source: Box::new(error) }
            }
        }
    }
}

/// Why an answer was not sent. The client then learns that there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The client has gone.
    #[error("service `{service}`: the client has gone")]
    ClientGone {
        /// The service.
        service: Arc<str>,
    },
    /// The client wants no answer any more: it cancelled the call, or its deadline has passed.
    #[error("service `{service}`: the client wants no answer any more")]
    Cancelled {
        /// The service.
        service: Arc<str>,
    },
    /// The request is one for which parts are due, or none.
    #[error("service `{service}`: a request for {wanted} was answered with {given}")]
    Kind {
        /// The service.
        service: Arc<str>,
        /// What the client wants.
        wanted: &'static str,
        /// What it was given.
        given: &'static str,
    },
    /// The answer is over a limit, or there is no memory for it.
    #[error("the answer cannot be sent: {source}")]
    Send {
        /// The service.
        service: Arc<str>,
        /// Why.
        source: Box<SendError>,
    },
    /// An untyped answer is not as long as the type that the server declared.
    #[error("service `{service}`: an answer of {given} B is none of the type {message_type}")]
    Length {
        /// The service.
        service: Arc<str>,
        /// Its length, in bytes.
        given: usize,
        /// The type that it is to be.
        message_type: String,
    },
    /// There was no room for a part until the deadline.
    #[error("service `{service}`: the client takes no parts; {waited:?} have passed")]
    Timeout {
        /// The service.
        service: Arc<str>,
        /// How long.
        waited: Duration,
    },
    /// The server was cancelled, or its node shut down.
    #[error("service `{service}` was closed here")]
    Closed {
        /// The service.
        service: Arc<str>,
    },
    /// The memory for an answer in place could not be had, or the node's control plane failed while this call drove it.
    #[error("service `{service}`: {source}")]
    Endpoint {
        /// The service.
        service: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
    /// There is no memory for the stream of answers.
    #[error("service `{service}`: {source}")]
    Segment {
        /// The service.
        service: Arc<str>,
        /// What failed.
        source: SegmentError,
    },
}

impl From<SendError> for AnswerError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Closed { channel, .. } => Self::Closed { service: channel.shared() },
            SendError::Endpoint { channel, source, .. } => {
                Self::Endpoint { service: channel.shared(), source }
            }
            SendError::Segment { channel, source, .. } => Self::Segment { service: channel.shared(), source },
            SendError::Full { ref channel, .. }
            | SendError::Timeout { ref channel, .. }
            | SendError::Length { ref channel, .. }
            | SendError::Header { ref channel }
            | SendError::NotRelaying { ref channel }
            | SendError::TooLarge { ref channel, .. } => {
                Self::Send { service: channel.shared(), source: Box::new(error) }
            }
        }
    }
}

impl From<ReceiveError> for AnswerError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Closed { channel } => Self::Closed { service: channel.shared() },
            ReceiveError::Segment { channel, source, .. } => {
                Self::Segment { service: channel.shared(), source }
            }
            ReceiveError::Endpoint { channel, source } => {
                Self::Endpoint { service: channel.shared(), source }
            }
        }
    }
}
