//! What can go wrong with a signal, one enum for each operation.

use std::sync::Arc;

use crate::message::error::Refused;
use crate::node::{EndpointError, NameError};
use crate::segment::SegmentError;

/// Why a notifier or a waiter could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The signal's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There cannot be so many ids.
    #[error("signal `{signal}`: the number of ids is {ids}, and must be in 1..={most}")]
    Ids {
        /// The signal.
        signal: Arc<str>,
        /// Ids asked for.
        ids: u32,
        /// The most there can be.
        most: u32,
    },
    /// The two ends disagree about the number of ids.
    #[error("signal `{signal}` has another number of ids at {refused}; give both ends the same with `ids`")]
    Mismatch {
        /// The signal.
        signal: Arc<str>,
        /// Who refused, and what differs.
        refused: Box<Refused>,
    },
    /// A notifier did not let us in for another reason.
    #[error("signal `{signal}` cannot be joined at {refused}")]
    Refused {
        /// The signal.
        signal: Arc<str>,
        /// Who refused, and why.
        refused: Box<Refused>,
    },
    /// The memory could not be had.
    #[error("signal `{signal}`: {source}")]
    Segment {
        /// The signal.
        signal: Arc<str>,
        /// What failed.
        source: SegmentError,
    },
    /// The endpoint could not be introduced to the domain.
    #[error("signal `{signal}`: {source}")]
    Endpoint {
        /// The signal.
        signal: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

/// Why nobody was notified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// There is no such id.
    #[error("signal `{signal}` has no id {id}: `ids` says {ids}, and they count from 0")]
    Id {
        /// The signal.
        signal: Arc<str>,
        /// The id.
        id: u32,
        /// How many there are.
        ids: u32,
    },
    /// The notifier was cancelled, or its node shut down.
    #[error("signal `{signal}` was closed here")]
    Closed {
        /// The signal.
        signal: Arc<str>,
    },
    /// The notifier is a forked child's copy of its parent's.
    #[error("signal `{signal}`: {source}")]
    Endpoint {
        /// The signal.
        signal: Arc<str>,
        /// Why.
        source: EndpointError,
    },
}
