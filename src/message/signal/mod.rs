//! A signal and its options: where its notifiers and waiters are made.

mod error;
mod notifier;
mod waiter;

use std::fmt;

pub use error::{NotifyError, SignalError};
pub use notifier::{Notifier, NotifierHandle};
pub use waiter::{Notice, Notices, Waiter, WaiterHandle};

use super::board::{self, BoardShared, Origin, Watch};
use super::state::Base;
use crate::layout::board::SIGNAL_IDS_MAX;
use crate::node::{Channel, Field, Node, Pattern, Shape, TypeDescriptor};
use crate::sync::board::{Notifying, SignalMemory, SignalShape};

/// A signal of a node: wake-ups without payload, from any number of notifiers to any number of waiters, under ids from 0.
///
/// Notifications are counted, not queued: however many of one id come before a waiter looks, it is told once, and how many
/// they were. Nobody is held up by a waiter that does not look, and none of them gets lost.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-signal-{}", std::process::id()));
/// # let node = tidepost::Node::builder().directory(&directory).open()?;
/// let mut waiter = node.signal("lock/gates").ids(4).waiter()?;
/// let mut notifier = node.signal("lock/gates").ids(4).notifier()?;
/// notifier.notify(3)?;
/// notifier.notify_many(1, 2)?;
/// notifier.notify(3)?;
/// let notices: Vec<_> = waiter.wait()?.iter().map(|notice| (notice.id, notice.count)).collect();
/// assert_eq!(notices, [(1, 2), (3, 2)]);
/// # drop((notifier, waiter, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a signal does nothing until a notifier or a waiter is made"]
pub struct Signal<'a> {
    node: &'a Node,
    name: &'a str,
    ids: u32,
}

impl fmt::Debug for Signal<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("Signal");
        fields.field("name", &self.name).field("ids", &self.ids).finish_non_exhaustive()
    }
}

impl Node {
    /// The signal `name`. Nothing happens until an endpoint is made.
    pub fn signal<'a>(&'a self, name: &'a str) -> Signal<'a> {
        Signal { node: self, name, ids: 1 }
    }
}

impl Signal<'_> {
    /// How many ids there are, from 0: at most 65,536; one unless chosen. Both ends have to agree.
    pub fn ids(self, ids: u32) -> Self {
        Self { ids, ..self }
    }

    /// A notifier of this signal. Returns once the waiters that are there have been let in, within half a second.
    ///
    /// # Errors
    /// [`SignalError`] if the name or the number of ids cannot be used, or memory runs out.
    pub fn notifier(self) -> Result<Notifier, SignalError> {
        let channel = self.channel()?;
        let signal = channel.shared();
        let shape = SignalShape::new(self.ids, board::next_place()).map_err(|_| self.wrong_ids(&channel))?;
        let failed = |source| SignalError::Segment { signal: signal.clone(), source };
        let (memory, created) = SignalMemory::create(shape).map_err(failed)?;
        let counted = memory.clone();
        let origin = Origin {
            descriptor: descriptor(self.ids),
            members: self.ids,
            stride: size_of::<u64>() as u32,
            line_offset: shape.line_offset(),
            base: Base::from_bits(0),
            memory: created.memory,
            figures: Box::new(move || counted.total()),
        };
        let unable = |source| SignalError::Endpoint { signal: signal.clone(), source };
        let shared = BoardShared::open(self.node, channel, origin).map_err(unable)?;
        Notifier::open(self.node, shared, Notifying::new(memory), self.ids).map_err(unable)
    }

    /// A waiter for this signal, which is told of what comes after it has been connected to each notifier. That happens before
    /// this returns with the notifiers that are there, within half a second, and with later ones as they come.
    ///
    /// # Errors
    /// [`SignalError`] if the name or the number of ids cannot be used, memory runs out, or a notifier has another number of
    /// ids.
    pub fn waiter(self) -> Result<Waiter, SignalError> {
        let channel = self.channel()?;
        SignalShape::new(self.ids, 0).map_err(|_| self.wrong_ids(&channel))?;
        let signal = channel.shared();
        let unable = |source| SignalError::Endpoint { signal: signal.clone(), source };
        let watch = Watch::open(self.node, channel, Some(descriptor(self.ids))).map_err(unable)?;
        match watch.inlet().refusals().into_iter().next().map(Box::new) {
            None => Ok(Waiter::new(watch, self.ids)),
            Some(refused) if refused.difference.is_some() => Err(SignalError::Mismatch { signal, refused }),
            Some(refused) => Err(SignalError::Refused { signal, refused }),
        }
    }

    fn channel(&self) -> Result<Channel, SignalError> {
        Ok(Channel::new(Pattern::Signal, self.name)?)
    }

    fn wrong_ids(&self, channel: &Channel) -> SignalError {
        SignalError::Ids { signal: channel.shared(), ids: self.ids, most: SIGNAL_IDS_MAX }
    }
}

/// What a signal with so many ids is in the handshake: a counter for each.
fn descriptor(ids: u32) -> TypeDescriptor {
    let size = u64::from(ids) * size_of::<u64>() as u64;
    let counters = Field { name: "ids".into(), type_name: format!("[u64; {ids}]").into(), offset: 0, size };
    TypeDescriptor { name: "signal".into(), size, align: 8, shape: Shape::One, fields: vec![counters] }
}
