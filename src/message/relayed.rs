//! What is said of a message that is passed on.

use std::time::SystemTime;

/// A message of somebody else's, on another machine for instance, that is passed on: who sent it first, which number it had there, and
/// what came with it.
///
/// Whoever passes messages on makes a publisher with [`relaying`](super::Topic::relaying), and sends with
/// [`Publisher::relay`](super::Publisher::relay). Subscribers receive them as any. By the numbers they know what is missing, which
/// counts as any loss does, in [`Sample::lost`](super::Sample::lost), in events, and in the figures of who looks; and what they have
/// received they do not receive again: also if one who passed messages on has gone, and another does so in its place.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-relayed-{}", std::process::id()));
/// # let node = tidepost::Node::builder().directory(&directory).open()?;
/// use tidepost::{Overflow, Relayed};
///
/// let mut subscriber = node.topic::<u32>("depth").subscriber()?;
/// let topic = node.topic::<u32>("depth").relaying();
/// let relayed = |number| Relayed { origin: [1, 2, 3], number, ..Relayed::NOBODY };
/// let mut publisher = topic.clone().publisher(Overflow::Block)?;
/// publisher.relay(&relayed(5), &17)?;
/// assert_eq!(*subscriber.recv()?, 17);
/// drop(publisher);
/// let mut successor = topic.publisher(Overflow::Block)?;
/// successor.relay(&relayed(5), &17)?;
/// successor.relay(&relayed(9), &21)?;
/// let sample = subscriber.recv()?;
/// assert_eq!((*sample, sample.lost()), (21, 3));
/// # drop((successor, subscriber, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// Who sent it first: anything that nobody else is called by.
    pub origin: [u64; 3],
    /// Its number among the messages of that one; [`Relayed::NO_NUMBER`] if it has none.
    pub number: u64,
    /// Messages that are known to be lost before it, where numbers do not tell: of one that has none, or of whom nothing has been
    /// received yet.
    pub lost: u64,
    /// When it was sent first: the time that it carries if the publisher was made with [`timestamps`](super::Topic::timestamps). Unless
    /// given, the time at which it is passed on.
    pub sent_at: Option<SystemTime>,
    /// The bytes of the header that it came with, of the type with which the publisher was made; zeros unless given.
    pub header: Option<&'a [u8]>,
}

impl Relayed<'_> {
    /// The number of a message that has none: it is received whenever it comes.
    pub const NO_NUMBER: u64 = u64::MAX;
    /// What is said of a message of which nothing is known.
    pub const NOBODY: Self =
        Self { origin: [0; 3], number: Self::NO_NUMBER, lost: 0, sent_at: None, header: None };

    /// Bytes before a message that say whose it is.
    pub(super) const BYTES: usize = 40;

    /// Writes whose it is, in as many bytes.
    pub(super) fn write(&self, place: &mut [u8]) {
        let [first, second, third] = self.origin;
        let words = [first, second, third, self.number, self.lost];
        for (place, word) in place.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }
}
