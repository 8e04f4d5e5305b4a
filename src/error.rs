//! One error for those who do not tell operations apart.

use std::fmt;

use crate::message::{HoldError, ReceiveError, SendError, TopicError, WaitError};
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
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
