//! Which side of the bell's protocol pays for its fence.
//!
//! A sender's full fence costs as much as the whole rest of a small message. So, where the kernel can, the
//! sleeper pays for both: before it looks for news one last time, it has every processor pass a barrier. What a
//! sender had published by then, the sleeper sees; what it publishes later, it publishes with the bit in sight.

use std::sync::atomic::compiler_fence;

use crate::os::barrier;
use crate::sync::door::{Ordering, fence};

/// How a sender orders its message before its look at the sleepers bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fencing {
    /// With a full fence for each message or batch: some sleeper cannot fence for us.
    Full,
    /// Every sleeper fences for us.
    Asymmetric,
}

impl Fencing {
    /// What this process can rely on, if its peers can too.
    pub(crate) fn of_this_process() -> Self {
        if barrier::register() { Self::Asymmetric } else { Self::Full }
    }

    /// Between a sender's messages and its look at the sleepers bits.
    #[inline]
    pub(crate) fn of_sender(self) {
        match self {
            Self::Full => fence(Ordering::SeqCst),
            Self::Asymmetric => compiler_fence(Ordering::SeqCst),
        }
    }

    /// Between a sleeper's setting of its bits and its last look for news; and between a change of a sender's
    /// own fencing and whatever relies on it.
    /// `false` if that was not possible, and nobody must sleep who relies on it.
    pub(crate) fn of_sleeper(self) -> bool {
        fence(Ordering::SeqCst);
        self == Self::Full || barrier::heavy()
    }
}
