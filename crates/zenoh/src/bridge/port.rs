//! Ports: each carries one name in one direction.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidepost::Pattern;

use super::census::Local;
use super::context::Context;
use super::queue::{QueueIn, QueueOut};
use super::service::{ServiceIn, ServiceOut};
use super::signal::SignalOut;
use super::topic::TopicOut;
use super::{signal, state, topic};
use crate::rules::Direction;

/// Why a port cannot be opened, or does not go on.
pub(super) type PortError = Box<dyn std::error::Error + Send + Sync>;

/// What a port has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages, items, values, calls and notifications that have crossed, as far as the network took them.
    pub crossed: u64,
    /// Those among them that their publishers have handed to the network themselves.
    pub inline: u64,
    /// Those that did not, and that whoever receives is told of: no room, or lost on the way.
    pub lost: u64,
    /// Those that are of no known type, or garbled.
    pub refused: u64,
}

/// What a port counts, on whatever thread.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) crossed: AtomicU64,
    pub(super) inline: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (crossed, inline) = (read(&self.crossed), read(&self.inline));
        Counts { crossed, inline, lost: read(&self.lost), refused: read(&self.refused) }
    }
}

/// Carries one name in one direction, as long as it is kept.
pub(super) trait Port: fmt::Debug + Send {
    /// The domain has been looked at again.
    fn move_on(&mut self, local: &Local) -> Result<(), PortError>;
    /// Whether it has something to do although nobody here needs it any more.
    fn is_busy(&self) -> bool {
        false
    }
    /// What it counts.
    fn counters(&self) -> &Counters;
    /// Tells its threads to end; dropping it waits for them.
    fn stop(&mut self);
}

/// Opens the port of a name.
pub(super) fn open(
    context: &Arc<Context>,
    pattern: Pattern,
    name: &str,
    direction: Direction,
    local: &Local,
) -> Result<Box<dyn Port>, PortError> {
    Ok(match (pattern, direction) {
        (Pattern::Topic, Direction::Out) => Box::new(TopicOut::open(context, name, local)?),
        (Pattern::Topic, Direction::In) => Box::new(topic::open_in(context, name)?),
        (Pattern::State, Direction::Out) => Box::new(state::StateOut::open(context, name)?),
        (Pattern::State, Direction::In) => Box::new(state::open_in(context, name)?),
        (Pattern::Signal, Direction::Out) => Box::new(SignalOut::open(context, name, local)?),
        (Pattern::Signal, Direction::In) => Box::new(signal::open_in(context, name, local)?),
        (Pattern::Service, Direction::Out) => Box::new(ServiceOut::open(context, name)?),
        (Pattern::Service, Direction::In) => Box::new(ServiceIn::open(context, name)?),
        (Pattern::Queue, Direction::Out) => Box::new(QueueOut::open(context, name)?),
        (Pattern::Queue, Direction::In) => Box::new(QueueIn::open(context, name)?),
        _ => return Err(format!("a {pattern} does not cross").into()),
    })
}
