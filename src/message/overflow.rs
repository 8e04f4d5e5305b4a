//! What a full topic does.

/// What a full topic does with the next message. A choice that every publisher makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The publisher waits for its slowest subscriber: nothing is lost.
    Block,
    /// The send fails with [`SendError::Full`](super::SendError::Full): nothing is lost, and nobody waits.
    Fail,
}

impl Overflow {
    /// The number that stands for it in the handshake.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Block => 1,
            Self::Fail => 2,
        }
    }
}
