//! What a full topic does.

/// What a full topic does with the next message. A choice that every publisher makes, and that a subscriber may only
/// weaken for itself: as an [observer](super::Topic::observer) it holds nobody up, and loses what it is too slow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The publisher waits for its slowest subscriber: nothing is lost.
    Block,
    /// The send fails with [`SendError::Full`](super::SendError::Full): nothing is lost, and nobody waits.
    Fail,
    /// The oldest messages make room: a subscriber that is too slow loses them, and is told how many.
    DropOldest,
    /// A subscriber gets the newest message, whatever came before: those that it has not seen by then are lost, and counted.
    Latest,
}

impl Overflow {
    /// The number that stands for it in the handshake.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Block => 1,
            Self::Fail => 2,
            Self::DropOldest => 3,
            Self::Latest => 4,
        }
    }

    /// The policy that a number stands for.
    pub(super) fn of_code(code: u32) -> Option<Self> {
        [Self::Block, Self::Fail, Self::DropOldest, Self::Latest]
            .into_iter()
            .find(|known| known.code() == code)
    }

    /// Whether messages make room for others.
    pub(super) fn drops(self) -> bool {
        matches!(self, Self::DropOldest | Self::Latest)
    }
}
