//! A state and its options: where its writer and its readers are made.
//!
//! A state is carried as a topic is, by a ring of which only the newest message is wanted. What makes it a state is the
//! claim, which lets one write; versions, which go on from writer to writer; and what readers keep when a writer goes.

mod error;
mod legacy;
mod reader;
mod relay;
mod version;
mod writer;

use std::fmt;
use std::time::Duration;

use super::payload::{Payload, Untyped};
use super::topic::Topic;
use super::trust::{Borrowed, Copied, Trust};
use crate::node::claiming;
use crate::node::{Channel, Node, Pattern, TypeDescriptor};
pub use error::StateError;
pub(super) use legacy::Legacy;
pub use reader::{StateReader, StateReaderHandle, Value};
pub(super) use version::{Base, epoch_to_reserve, is_look_due};
pub use writer::StateWriter;

/// Values that a reader may pin at once: that which it keeps, and the next one while it takes it.
const HOLD_LIMIT: u32 = 2;

/// A state of a node: the latest value of something, which one endpoint of the whole domain writes and any number read.
///
/// A reader gets the newest value, whenever it looks. The last value outlives its writer as long as a reader lives, for
/// readers that come later too.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-state-{}", std::process::id()));
/// # let node = tidepost::Node::builder().directory(&directory).open()?;
/// let mut writer = node.state::<f64>("tide/level").writer()?;
/// let mut reader = node.state::<f64>("tide/level").reader()?;
/// assert!(reader.read()?.is_none(), "nothing has been written");
/// writer.set(&1.5)?;
/// writer.set(&1.75)?;
/// assert_eq!(*reader.read()?.expect("it has been written"), 1.75);
/// drop(writer);
/// assert_eq!(*reader.read()?.expect("it outlives its writer"), 1.75);
/// # drop((reader, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a state does nothing until its writer or a reader is made"]
pub struct State<'a, T: ?Sized, B = Borrowed> {
    node: &'a Node,
    name: &'a str,
    topic: Topic<'a, T, B>,
}

// By hand, as a derive would ask the same of the values.
impl<T: ?Sized, B> Clone for State<'_, T, B> {
    fn clone(&self) -> Self {
        Self { topic: self.topic.clone(), ..*self }
    }
}

impl<T: ?Sized, B> fmt::Debug for State<'_, T, B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("State").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    /// The state `name`, whose value is of type `T` (or a slice `[T]`). Nothing happens until an endpoint is made.
    pub fn state<'a, T: Payload + ?Sized>(&'a self, name: &'a str) -> State<'a, T> {
        State { node: self, name, topic: self.topic(name) }
    }

    /// The state `name`, whose value's type is known only when the program runs: for tools, gateways and recorders. A reader
    /// takes values of any type, and each tells its own; a writer needs to be told the type, with [`State::value_type`].
    pub fn state_dyn<'a>(&'a self, name: &'a str) -> State<'a, Untyped> {
        self.state(name)
    }
}

impl<B: Trust> State<'_, Untyped, B> {
    /// The type of the value: required for a writer; a reader then takes no other.
    pub fn value_type(self, descriptor: TypeDescriptor) -> Self {
        Self { topic: self.topic.message_type(descriptor), ..self }
    }
}

impl<'a, T: Payload + ?Sized, B: Trust> State<'a, T, B> {
    /// For a writer of slices: bytes that a value may have to travel beside its number; longer ones take the way through a
    /// pool. At most 65,536; 248 unless chosen. Values of fixed size have as much as they need.
    pub fn slot_bytes(self, bytes: usize) -> Self {
        Self { topic: self.topic.slot_bytes(bytes), ..self }
    }

    /// For a reader: the writer may do anything. Values are copied out before they are looked at.
    pub fn copied(self) -> State<'a, T, Copied> {
        State { node: self.node, name: self.name, topic: self.topic.copied() }
    }

    /// The writer of this state. Returns once the readers that are there have been let in, within half a second.
    ///
    /// # Errors
    /// [`StateError::Claimed`] if somebody else is its writer; others if the name, an option or the type cannot be used, or
    /// memory runs out.
    pub fn writer(self) -> Result<StateWriter<T>, StateError> {
        self.writer_timeout(Duration::ZERO)
    }

    /// As [`State::writer`], waiting no longer than `timeout` for another writer to leave or die. It looks every five
    /// milliseconds, and stops at a [`Node::shutdown`].
    ///
    /// # Errors
    /// As [`State::writer`].
    pub fn writer_timeout(self, timeout: Duration) -> Result<StateWriter<T>, StateError> {
        let channel = Channel::new(Pattern::State, self.name)?;
        let claimed = claiming::claim(self.node, &channel, timeout);
        let claim = claimed.map_err(|error| StateError::of_claim(error, &channel.shared()))?;
        let base = Base::of_writer(claim.epoch());
        let topic = self.topic.keep_newest();
        let publisher = topic.publisher_of(channel, super::Overflow::Latest, base.bits())?;
        Ok(StateWriter::new(publisher, claim, base))
    }

    /// A reader of this state. Returns once it has been let in by the writer, or by readers that keep what an earlier one has
    /// left, within half a second. A value of more than a megabyte that they keep may come a little later.
    ///
    /// # Errors
    /// [`StateError`] if the name cannot be used, memory runs out, or the value is of another type.
    pub fn reader(self) -> Result<StateReader<T, B>, StateError> {
        let channel = Channel::new(Pattern::State, self.name)?;
        // Nobody waits for it, and what it pins costs the writer no room.
        let topic = self.topic.observer().hold_limit(HOLD_LIMIT);
        Ok(StateReader::new(topic.receiver_of(channel)?))
    }
}
