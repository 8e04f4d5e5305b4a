//! Why a lock was not taken.

use std::fmt;
use std::time::Duration;

use super::party::Sitter;
use super::raw::Blocked;
use super::{LockOwner, RawLock};
use crate::layout::owner::Owner;
use crate::layout::region::SHARES;
use crate::segment::region::SeatError;

/// Why a lock was not taken, or was with a caution; in that case the guard is in it.
#[non_exhaustive]
pub enum LockError<G> {
    /// The owner died with it: what it guards may be half changed. Repair it, then say so with
    /// [`mark_consistent`](super::MutexGuard::mark_consistent). A guard that goes without that leaves it poisoned.
    OwnerDied(G),
    /// Somebody panicked while having it, or gave it back without repair after its owner had died.
    Poisoned(G),
    /// Somebody else has it, who is there.
    Owned {
        /// Who.
        owner: LockOwner,
        /// How long was waited; zero for an attempt.
        waited: Duration,
    },
    /// Whoever has it, or reads, is a thread that has ended without dropping the guard. What it guards may still be looked at through
    /// references that were leaked with the guard, so that nobody else can have it until that process detaches the region, or ends.
    Abandoned {
        /// Who.
        owner: LockOwner,
    },
    /// This very thread has it.
    Recursive,
    /// This thread reads as many locks of the region as it can at once.
    Shares {
        /// How many that is.
        limit: usize,
    },
    /// This thread has no seat in the region.
    Seat(SeatError),
}

/// What its user is told of a lock that was not taken.
#[cold]
pub(super) fn refused<G>(
    lock: &RawLock,
    sitter: &Sitter<'_>,
    blocked: Blocked,
    waited: Duration,
) -> LockError<G> {
    match blocked {
        Blocked::Owned(owner) if sitter.seat().region().has_left(owner) => {
            LockError::Abandoned { owner: describe(lock, sitter, owner) }
        }
        Blocked::Owned(owner) => LockError::Owned { owner: describe(lock, sitter, owner), waited },
        Blocked::Recursive => LockError::Recursive,
        Blocked::Shares => LockError::Shares { limit: SHARES },
    }
}

/// An owner of this lock, for people.
#[cold]
pub(super) fn describe(lock: &RawLock, sitter: &Sitter<'_>, owner: Owner) -> LockOwner {
    LockOwner::of(sitter.seat().region(), owner, lock.seen_since(owner))
}

impl<G> LockError<G> {
    /// The guard, if the lock was taken all the same.
    pub fn into_guard(self) -> Option<G> {
        match self {
            Self::OwnerDied(guard) | Self::Poisoned(guard) => Some(guard),
            Self::Owned { .. }
            | Self::Abandoned { .. }
            | Self::Recursive
            | Self::Shares { .. }
            | Self::Seat(_) => None,
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied(_) => formatter.write_str(
                "the lock's owner died while it had it; repair what it guards and say so with `mark_consistent`",
            ),
            Self::Poisoned(_) => formatter.write_str(
                "somebody failed while having the lock; repair what it guards and say so with `mark_consistent`",
            ),
            Self::Owned { owner, waited: Duration::ZERO } => write!(formatter, "the lock is had by {owner}"),
            Self::Owned { owner, waited } => write!(formatter, "after {waited:?} the lock is still had by {owner}"),
            Self::Abandoned { owner } => write!(
                formatter,
                "the lock is had by {owner}, a thread that has ended without giving it back; it is free when that process \
                 detaches the region, or ends"
            ),
            Self::Recursive => formatter.write_str("this thread has the lock already; drop its guard first"),
            Self::Shares { limit } => {
                write!(formatter, "this thread reads {limit} locks of the region already; drop a guard first")
            }
            Self::Seat(error) => write!(formatter, "the lock cannot be used: {error}"),
        }
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<G> std::error::Error for LockError<G> {}
