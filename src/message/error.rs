//! What can go wrong with topics, and with what other patterns have of them: one enum for each operation.

use std::sync::Arc;
use std::time::Duration;

use super::event::Counterpart;
use crate::node::{Channel, Difference, EndpointError, NameError, NodeId};
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
    /// A publisher of untyped messages was not told their type.
    #[error("topic `{topic}`: a publisher of untyped messages needs their type; give it with `message_type`")]
    NoType {
        /// The topic.
        topic: Arc<str>,
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
        "{channel} is full: a message of {needed} B, {slots} slots, {allocated} B of pool (limit {limit} B); \
             read faster, let go of held samples, or raise depth or pool limit; {sent} of this call were sent"
    )]
    Full {
        /// Where.
        channel: Channel,
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
        "{channel} had no room for a message of {needed} B until the deadline; {sent} of this call were sent"
    )]
    Timeout {
        /// Where.
        channel: Channel,
        /// Bytes of the message.
        needed: usize,
        /// Messages of the same `send_many` that were sent before this one.
        sent: usize,
    },
    /// The endpoint was cancelled, or its node shut down.
    #[error("{channel} was closed here; {sent} of this call were sent")]
    Closed {
        /// Where.
        channel: Channel,
        /// Messages of the same `send_many` that were sent before this one.
        sent: usize,
    },
    /// These bytes are no message of the topic's type.
    #[error("{channel}: {given} B are no message of type {message_type}")]
    Length {
        /// Where.
        channel: Channel,
        /// Bytes given.
        given: usize,
        /// The type.
        message_type: String,
    },
    /// The publisher was not made with this type of header.
    #[error("{channel} has no header of this type; name it with `header` when the publisher is made")]
    Header {
        /// Where.
        channel: Channel,
    },
    /// The publisher was not made to pass messages on.
    #[error("{channel}: the publisher passes nothing on; make it with `relaying`")]
    NotRelaying {
        /// Where.
        channel: Channel,
    },
    /// The message is longer than any memory.
    #[error("{channel}: a message of {needed} B cannot be addressed")]
    TooLarge {
        /// Where.
        channel: Channel,
        /// Bytes of the message.
        needed: usize,
    },
    /// The memory for a large message could not be had.
    #[error("{channel}: {source}; {sent} of this call were sent")]
    Segment {
        /// Where.
        channel: Channel,
        /// What failed.
        source: SegmentError,
        /// Messages of the same `send_many` that were sent before this one.
        sent: usize,
    },
    /// The node's control plane failed while this call drove it.
    #[error("{channel}: {source}; {sent} of this call were sent")]
    Endpoint {
        /// Where.
        channel: Channel,
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
    /// This process has no memory, or no descriptors, for what a publisher sends: what came before has been received, and
    /// nothing more of this publisher will be. The publisher is told as well. Others are received as before.
    #[error("{channel}: nothing more can be received from {publisher}: {source}")]
    Segment {
        /// Where.
        channel: Channel,
        /// Whose messages they are.
        publisher: Box<Counterpart>,
        /// What could not be had.
        source: SegmentError,
    },
    /// The endpoint was cancelled, or its node shut down, and nothing that could be received without waiting is left.
    #[error("{channel} was closed here")]
    Closed {
        /// Where.
        channel: Channel,
    },
    /// The node's control plane failed while this call drove it.
    #[error("{channel}: {source}")]
    Endpoint {
        /// Where.
        channel: Channel,
        /// What failed.
        source: EndpointError,
    },
}

/// Why a sample could not be held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// As many samples are held as the subscriber was made for.
    #[error("{channel}: {limit} samples of one publisher are held already; drop some, or raise `hold_limit`")]
    Limit {
        /// Where.
        channel: Channel,
        /// The hold limit.
        limit: u32,
    },
    /// The sample is a forked child's copy of its parent's.
    #[error("{channel}: {source}")]
    Endpoint {
        /// Where.
        channel: Channel,
        /// Why.
        source: EndpointError,
    },
}

/// Why a wait for those at the other end, or for events, ended without them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time is over.
    #[error("{channel} has {connected} of {wanted} counterparts after {waited:?}{}", refused_text(.refused))]
    Timeout {
        /// Where.
        channel: Channel,
        /// Those who are there.
        connected: usize,
        /// How many were waited for.
        wanted: usize,
        /// How long.
        waited: Duration,
        /// Those who turned it down.
        refused: Vec<Refused>,
    },
    /// The endpoint was cancelled, or its node shut down.
    #[error("{channel} was closed here")]
    Closed {
        /// Where.
        channel: Channel,
    },
    /// The node's control plane failed while this call drove it.
    #[error("{channel}: {source}")]
    Endpoint {
        /// Where.
        channel: Channel,
        /// What failed.
        source: EndpointError,
    },
}

/// Why a publisher was closed before everything had been read. It is closed all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The time is over.
    #[error("{channel}: not everything was read within {waited:?} by {}", counterparts_text(.unread))]
    Timeout {
        /// Where.
        channel: Channel,
        /// Subscribers that have not read everything.
        unread: Vec<Counterpart>,
        /// How long.
        waited: Duration,
    },
    /// The wait failed.
    #[error(transparent)]
    Send(Box<SendError>),
}

fn counterparts_text(counterparts: &[Counterpart]) -> String {
    counterparts.iter().map(Counterpart::to_string).collect::<Vec<_>>().join(", ")
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
            | Self::Closed { sent, .. }
            | Self::Endpoint { sent, .. } => *sent = count,
            Self::TooLarge { .. } | Self::Length { .. } | Self::Header { .. } | Self::NotRelaying { .. } => {}
        }
        self
    }
}
