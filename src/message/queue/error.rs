//! What can go wrong with a queue, one enum for each operation.

use std::sync::Arc;
use std::time::Duration;

use crate::message::error::{Refused, TopicError, WaitError};
use crate::node::{EndpointError, NameError};
use crate::segment::SegmentError;

/// Why an endpoint of a queue could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The two ends disagree about the item type.
    #[error("queue `{queue}` carries another type at {refused}; build both ends from one definition")]
    TypeMismatch {
        /// The queue.
        queue: Arc<str>,
        /// Who refused, and the first difference.
        refused: Box<Refused>,
    },
    /// A producer and this consumer cannot be connected for another reason.
    #[error("queue `{queue}` cannot be joined at {refused}")]
    Refused {
        /// The queue.
        queue: Arc<str>,
        /// Who refused, and why.
        refused: Box<Refused>,
    },
    /// An option is out of its range.
    #[error("queue `{queue}`: {option} is {value}, and must be in {least}..={most}")]
    Option {
        /// The queue.
        queue: Arc<str>,
        /// The option.
        option: &'static str,
        /// The value asked for.
        value: u64,
        /// The least value.
        least: u64,
        /// The largest value.
        most: u64,
    },
    /// The item type asks for more alignment than a slot has.
    #[error("queue `{queue}`: items aligned to {align} B cannot be sent; the limit is 64 B, one cache line")]
    Alignment {
        /// The queue.
        queue: Arc<str>,
        /// The alignment of the type, in bytes.
        align: usize,
    },
    /// A producer of untyped items was not told their type.
    #[error("queue `{queue}`: a producer of untyped items needs their type; give it with `item_type`")]
    NoType {
        /// The queue.
        queue: Arc<str>,
    },
    /// The memory could not be had.
    #[error("queue `{queue}`: {source}")]
    Segment {
        /// The queue.
        queue: Arc<str>,
        /// What failed.
        source: SegmentError,
    },
    /// The endpoint could not be introduced to the domain.
    #[error("queue `{queue}`: {source}")]
    Endpoint {
        /// The queue.
        queue: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

impl From<TopicError> for QueueError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Name(error) => Self::Name(error),
            TopicError::TypeMismatch { topic: queue, refused } => Self::TypeMismatch { queue, refused },
            TopicError::Refused { topic: queue, refused } => Self::Refused { queue, refused },
            TopicError::Option { topic: queue, option, value, least, most } => {
                Self::Option { queue, option, value, least, most }
            }
            TopicError::Alignment { topic: queue, align } => Self::Alignment { queue, align },
            TopicError::NoType { topic: queue } => Self::NoType { queue },
            TopicError::Segment { topic: queue, source } => Self::Segment { queue, source },
            TopicError::Endpoint { topic: queue, source } => Self::Endpoint { queue, source },
        }
    }
}

/// Why an item was not pushed. Nobody has it, nor will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// No consumer has credit, the backlog is full, and the policy, or the call, is not to wait.
    #[error(
        "queue `{queue}` is full: {consumers} consumers without credit, {depth} items behind; acknowledge faster, \
         start more consumers, or raise credit or depth; {pushed} of this call were pushed"
    )]
    Full {
        /// The queue.
        queue: Arc<str>,
        /// Consumers that are connected.
        consumers: usize,
        /// Items that may wait for credit.
        depth: usize,
        /// Items of the same call that were pushed before this one.
        pushed: usize,
    },
    /// There was no room until the deadline; in a queue of depth 0, nobody took the item.
    #[error(
        "queue `{queue}` had no room until the deadline, with {consumers} consumers; {pushed} of this call were pushed"
    )]
    Timeout {
        /// The queue.
        queue: Arc<str>,
        /// Consumers that are connected.
        consumers: usize,
        /// Items of the same call that were pushed before this one.
        pushed: usize,
    },
    /// The endpoint was cancelled, or its node shut down.
    #[error("queue `{queue}` was closed here; {pushed} of this call were pushed")]
    Closed {
        /// The queue.
        queue: Arc<str>,
        /// Items of the same call that were pushed before this one.
        pushed: usize,
    },
    /// These bytes are no item of the queue's type.
    #[error("queue `{queue}`: {given} B are no item of type {item_type}")]
    Length {
        /// The queue.
        queue: Arc<str>,
        /// Bytes given.
        given: usize,
        /// The type.
        item_type: String,
    },
    /// The item is longer than slot and pool limit allow, or than any memory.
    #[error(
        "queue `{queue}`: an item of {needed} B does not fit into a slot, and the pool of a consumer's lane may have \
         {limit} B; raise `pool_limit`"
    )]
    TooLarge {
        /// The queue.
        queue: Arc<str>,
        /// Bytes of the item.
        needed: usize,
        /// Bytes that the pool of one lane may have.
        limit: usize,
    },
    /// The memory for a large item could not be had.
    #[error("queue `{queue}`: {source}; {pushed} of this call were pushed")]
    Segment {
        /// The queue.
        queue: Arc<str>,
        /// What failed.
        source: SegmentError,
        /// Items of the same call that were pushed before this one.
        pushed: usize,
    },
    /// The node's control plane failed while this call drove it, or this is a forked child.
    #[error("queue `{queue}`: {source}; {pushed} of this call were pushed")]
    Endpoint {
        /// The queue.
        queue: Arc<str>,
        /// What failed.
        source: EndpointError,
        /// Items of the same call that were pushed before this one.
        pushed: usize,
    },
}

impl PushError {
    /// The same error after `count` items of the call had been pushed.
    pub(super) fn after(mut self, count: usize) -> Self {
        match &mut self {
            Self::Full { pushed, .. }
            | Self::Timeout { pushed, .. }
            | Self::Closed { pushed, .. }
            | Self::Segment { pushed, .. }
            | Self::Endpoint { pushed, .. } => *pushed = count,
            Self::Length { .. } | Self::TooLarge { .. } => {}
        }
        self
    }
}

/// Why an acknowledgement does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The producer had let go of this consumer before, and gives the item to another, marked as delivered again. It may be
    /// done twice.
    #[error("queue `{queue}`: the producer has taken item {item} back, and delivers it again")]
    Late {
        /// The queue.
        queue: Arc<str>,
        /// The item's number among those that the producer sent to this consumer.
        item: u64,
    },
    /// The item is a forked child's copy of its parent's.
    #[error("queue `{queue}`: {source}")]
    Endpoint {
        /// The queue.
        queue: Arc<str>,
        /// Why.
        source: EndpointError,
    },
}

/// Why a producer was closed before everything had been acknowledged. It is closed all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The time is over. What no consumer had been given is lost; what consumers have is theirs.
    #[error(
        "queue `{queue}`: after {waited:?} {unassigned} items had been given to nobody, and {unacknowledged} were not \
         acknowledged"
    )]
    Timeout {
        /// The queue.
        queue: Arc<str>,
        /// Items that no consumer had been given: they are lost.
        unassigned: u64,
        /// Items that consumers had and had not acknowledged.
        unacknowledged: u64,
        /// How long.
        waited: Duration,
    },
    /// The wait failed.
    #[error(transparent)]
    Wait(Box<WaitError>),
}
