//! One error for those who do not tell operations apart.

use std::fmt;

use crate::memory::{LockError, RegionError};
use crate::message::{
    AckError, AnswerError, CallError, CloseError, DrainError, HoldError, NotifyError, Payload, PushError,
    QueueError, ReceiveError, SendError, ServiceError, SignalError, StateError, TableError, TableReadError,
    TableWriteError, TopicError, WaitError, WaitSetError,
};
use crate::node::OpenError;

/// Any error of this library. Each operation has its own, which converts into this one.
///
/// `Debug` is the same text as `Display`: a `main` that returns it shows its user the object, the limit and the remedy.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An endpoint could not be made.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A client or a server of a service could not be made.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A call has no answer. What the server says itself is told as text.
    #[error("{0}")]
    Call(String),
    /// An answer was not sent.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// A producer or a consumer of a queue could not be made.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// An item was not pushed.
    #[error(transparent)]
    Push(#[from] PushError),
    /// An item was not acknowledged.
    #[error(transparent)]
    Ack(#[from] AckError),
    /// A queue was closed before everything had been acknowledged.
    #[error(transparent)]
    Drain(#[from] DrainError),
    /// A writer or a reader of a table could not be made.
    #[error(transparent)]
    Table(#[from] TableError),
    /// An entry of a table was not written.
    #[error(transparent)]
    TableWrite(#[from] TableWriteError),
    /// An entry of a table could not be read.
    #[error(transparent)]
    TableRead(#[from] TableReadError),
    /// A notifier or a waiter of a signal could not be made.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// Nobody was notified.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// A writer or a reader of a state could not be made.
    #[error(transparent)]
    State(#[from] StateError),
    /// A message was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Nothing could be received.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// A sample could not be held.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// A wait for subscribers ended without them.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A publisher was closed before everything had been read.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// A wait for several things failed.
    #[error(transparent)]
    WaitSet(#[from] WaitSetError),
    /// A region could not be made or attached, or not be used in this way.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// A lock was not taken, or with a caution: what it said.
    #[error("{0}")]
    Lock(String),
}

impl<E: Payload + fmt::Debug + ?Sized> From<CallError<E>> for Error {
    fn from(error: CallError<E>) -> Self {
        Self::Call(error.to_string())
    }
}

impl<G> From<LockError<G>> for Error {
    /// The guard, if there is one in it, goes: what it guards is then still to be repaired.
    fn from(error: LockError<G>) -> Self {
        Self::Lock(error.to_string())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
