//! What a gateway says of each message that it passes on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::payload::Message;
use crate::node::{Field, TypeDescriptor};

/// The header of messages that are passed on for somebody else, on another machine for instance: who sent each first, and which
/// number it had there.
///
/// Whoever passes messages on publishes them with this [`header`](super::Topic::header). Subscribers need not declare it. By the
/// numbers they know what is missing, which counts as any loss does, in [`Sample::lost`](super::Sample::lost), in events, and in the
/// figures of who looks; and what they have received they do not receive again: also if one who passed messages on has gone,
/// and another does so in its place.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-relayed-{}", std::process::id()));
/// # let node = tidepost::Node::builder().directory(&directory).open()?;
/// use tidepost::{Overflow, Relayed};
///
/// let mut subscriber = node.topic::<u32>("depth").subscriber()?;
/// let topic = node.topic::<u32>("depth").header::<Relayed>();
/// let relayed = |number| Relayed { origin: [1, 2, 3], number, lost: 0 };
/// let mut publisher = topic.clone().publisher(Overflow::Block)?;
/// publisher.send_with(&relayed(5), &17)?;
/// assert_eq!(*subscriber.recv()?, 17);
/// drop(publisher);
/// let mut successor = topic.publisher(Overflow::Block)?;
/// successor.send_with(&relayed(5), &17)?;
/// successor.send_with(&relayed(9), &21)?;
/// let sample = subscriber.recv()?;
/// assert_eq!((*sample, sample.lost()), (21, 3));
/// # drop((successor, subscriber, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Relayed {
    /// Who sent it first: anything that nobody else is called by.
    pub origin: [u64; 3],
    /// Its number among the messages of that one; [`Relayed::NO_NUMBER`] if it has none.
    pub number: u64,
    /// Messages that are known to be lost before it, where numbers do not tell: of one that has none, or of whom nothing has been
    /// received yet.
    pub lost: u64,
}

impl Relayed {
    /// The number of a message that has none: it is received whenever it comes.
    pub const NO_NUMBER: u64 = u64::MAX;
}

// By hand, as the derive is for programs.
impl Message for Relayed {
    fn descriptor() -> TypeDescriptor {
        let field = |name: &'static str, type_name: &'static str, offset: u64, size: u64| Field {
            name: name.into(),
            type_name: type_name.into(),
            offset,
            size,
        };
        let fields = vec![
            field("origin", "[u64; 3]", 0, 24),
            field("number", "u64", 24, 8),
            field("lost", "u64", 32, 8),
        ];
        TypeDescriptor::of_struct::<Self>("tidepost::Relayed", fields)
    }
}
