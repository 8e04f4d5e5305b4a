//! What a gateway says of each message that it passes on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::payload::Message;
use crate::node::{Field, TypeDescriptor};

/// The header of messages that come from another machine: how many of the same publisher were lost on the way here.
///
/// Whoever passes messages on publishes them with this [`header`](super::Topic::header). Subscribers need not declare it: what it
/// says counts as any loss does, in [`Sample::lost`](super::Sample::lost), in events, and in the figures of who looks.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-relayed-{}", std::process::id()));
/// # let node = tidepost::Node::builder().directory(&directory).open()?;
/// use tidepost::{Overflow, Relayed};
///
/// let mut subscriber = node.topic::<u32>("depth").subscriber()?;
/// let mut publisher = node.topic::<u32>("depth").header::<Relayed>().publisher(Overflow::Block)?;
/// publisher.send_with(&Relayed { lost: 3 }, &17)?;
/// assert_eq!(subscriber.recv()?.lost(), 3);
/// assert_eq!(subscriber.lost(), 3);
/// # drop((publisher, subscriber, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Relayed {
    /// Messages that were lost between the one that was passed on before and this one.
    pub lost: u64,
}

// By hand, as the derive is for programs.
impl Message for Relayed {
    fn descriptor() -> TypeDescriptor {
        let lost =
            Field { name: "lost".into(), type_name: "u64".into(), offset: 0, size: size_of::<u64>() as u64 };
        TypeDescriptor::of_struct::<Self>("tidepost::Relayed", vec![lost])
    }
}
