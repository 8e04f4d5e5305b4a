//! What can go wrong with a topic, one enum for each operation.

use std::sync::Arc;
use std::time::Duration;

use crate::node::{Difference, EndpointError, NameError, NodeId};
use crate::segment::SegmentError;

/// An endpoint of another process turned ours away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The node of the other endpoint.
    pub node: NodeId,
    /// The name of that node.
    pub node_name: Arc<str>,
    /// Why.
    pub reason: String,
    /// The first point in which the message types differ, if that is why.
    pub difference: Option<Difference>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "node `{}`: {}", self.node_name, self.reason)
    }
}

/// Why an endpoint of a topic could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The topic's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The two ends disagree about the message type.
    #[error("topic `{topic}` carries another type at {refused}; build both ends from one definition")]
    TypeMismatch {
        /// The topic.
        topic: Arc<str>,
        /// Who refused, and the first difference.
        refused: Box<Refused>,
    },
    /// A publisher did not let us in for another reason.
    #[error("topic `{topic}` cannot be joined at {refused}")]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// Who refused, and why.
        refused: Box<Refused>,
    },
    /// An option is out of its range.
    #[error("topic `{topic}`: {option} is {value}, and must be in {least}..={most}")]
    Option {
        /// The topic.
        topic: Arc<str>,
        /// The option.
        option: &'static str,
        /// The value asked for.
        value: u64,
        /// The least value.
        least: u64,
        /// The largest value.
        most: u64,
    },
    /// The message type asks for more alignment than a slot has.
    #[error(
        "topic `{topic}`: messages aligned to {align} B cannot be sent; the limit is 64 B, one cache line"
    )]
    Alignment {
        /// The topic.
        topic: Arc<str>,
        /// The alignment of the type, in bytes.
        align: usize,
    },
    /// The node has no room for another endpoint.
    #[error("topic `{topic}`: {reason}")]
    Limit {
        /// The topic.
        topic: Arc<str>,
        /// Which limit, and the remedy.
        reason: String,
    },
    /// The memory could not be had.
    #[error("topic `{topic}`: {source}")]
    Segment {
        /// The topic.
        topic: Arc<str>,
        /// What failed.
        source: SegmentError,
    },
    /// The endpoint could not be introduced to the domain.
    #[error("topic `{topic}`: {source}")]
    Endpoint {
        /// The topic.
        topic: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

/// Why a message was not sent. It has not been sent in part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room and the policy is `Fail`.
    #[error(
        "topic `{topic}` is full: a message of {needed} B, {slots} slots, {allocated} B of pool (limit {limit} B); \
             read faster, let go of held samples, or raise depth or pool limit; {sent} of this call were sent"
    )]
    Full {
        /// The topic.
        topic: Arc<str>,
        /// Bytes of the message.
        needed: usize,
        /// Slots of the ring.
        slots: usize,
        /// Bytes that the pool has taken.
        allocated: usize,
        /// Bytes that the pool may take.
        limit: usize,
        /// Messages of the same `send_many` that were sent before this one.
        sent: usize,
    },
    /// There was no room until the deadline.
    #[error(
        "topic `{topic}` had no room for a message of {needed} B until the deadline; {sent} of this call were sent"
    )]
    Timeout {
        /// The topic.
        topic: Arc<str>,
        /// Bytes of the message.
        needed: usize,
        /// Messages of the same `send_many` that were sent before this one.
        sent: usize,
    },
    /// The message is longer than any memory.
    #[error("topic `{topic}`: a message of {needed} B cannot be addressed")]
    TooLarge {
        /// The topic.
        topic: Arc<str>,
        /// Bytes of the message.
        needed: usize,
    },
    /// The memory for a large message could not be had.
    #[error("topic `{topic}`: {source}; {sent} of this call were sent")]
    Segment {
        /// The topic.
        topic: Arc<str>,
        /// What failed.
        source: SegmentError,
        /// Messages of the same `send_many` that were sent before this one.
        sent: usize,
    },
    /// The node's control plane failed while this call drove it.
    #[error("topic `{topic}`: {source}; {sent} of this call were sent")]
    Endpoint {
        /// The topic.
        topic: Arc<str>,
        /// What failed.
        source: EndpointError,
        /// Messages of the same `send_many` that were sent before this one.
        sent: usize,
    },
}

/// Why nothing could be received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The node's control plane failed while this call drove it.
    #[error("topic `{topic}`: {source}")]
    Endpoint {
        /// The topic.
        topic: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

/// Why a sample could not be held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// As many samples are held as the subscriber was made for.
    #[error(
        "topic `{topic}`: {limit} samples of one publisher are held already; drop some, or raise `hold_limit`"
    )]
    Limit {
        /// The topic.
        topic: Arc<str>,
        /// The hold limit.
        limit: u32,
    },
}

/// Why a wait for subscribers ended without them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time is over.
    #[error("topic `{topic}` has {connected} of {wanted} subscribers after {waited:?}{}", refused_text(.refused))]
    Timeout {
        /// The topic.
        topic: Arc<str>,
        /// Subscribers that are there.
        connected: usize,
        /// Subscribers that were waited for.
        wanted: usize,
        /// How long.
        waited: Duration,
        /// Subscribers that turned the topic down.
        refused: Vec<Refused>,
    },
    /// The node's control plane failed while this call drove it.
    #[error("topic `{topic}`: {source}")]
    Endpoint {
        /// The topic.
        topic: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

fn refused_text(refused: &[Refused]) -> String {
    refused.iter().map(|refused| format!("; refused by {refused}")).collect()
}

impl SendError {
    /// The same error after `sent` messages of the call had gone out.
    pub(super) fn after(mut self, count: usize) -> Self {
        match &mut self {
            Self::Full { sent, .. }
            | Self::Timeout { sent, .. }
            | Self::Segment { sent, .. }
            | Self::Endpoint { sent, .. } => *sent = count,
            Self::TooLarge { .. } => {}
        }
        self
    }
}
