//! A reader-writer lock in a region.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::party::Sitter;
use super::raw::Acquired;
use super::shared_raw::RawShared;
use super::{LockError, LockOwner, error};
use crate::os::clock::Deadline;
use crate::segment::region::{Kept, SeatError};

/// Many readers, or one writer: std's, between processes, with owners that may die.
///
/// All zero bytes are a free one around a zeroed value. Readers write into their own records only, so that they do not get into
/// each other's way; a writer looks at the records of all participants. A writer that waits keeps readers out that come later;
/// a thread that reads already may read again. A thread reads at most eight such locks of one region at once.
///
/// A reader that dies gives its share back; one that dies at the moment at which it is let in behind a writer, and a writer that
/// dies while it waits for readers, count as writers. A writer that dies leaves the lock to the next: another writer is told by
/// [`LockError::OwnerDied`]; readers get [`LockError::Poisoned`] until a writer has repaired the value.
#[repr(C)]
pub struct RwLock<T> {
    lock: RawShared,
    value: UnsafeCell<T>,
}

// SAFETY: readers only read, and the writer is alone, whatever processes they are in.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

type Reading<'a, T> = Result<RwLockReadGuard<'a, T>, LockError<RwLockReadGuard<'a, T>>>;
type Writing<'a, T> = Result<RwLockWriteGuard<'a, T>, LockError<RwLockWriteGuard<'a, T>>>;

impl<T> RwLock<T> {
    /// Where its value lies in it, in bytes.
    pub(crate) const VALUE_OFFSET: usize = std::mem::offset_of!(Self, value);

    /// Reads, waiting for a writer as long as it takes.
    ///
    /// # Errors
    /// [`LockError::Poisoned`], with the guard in it; [`LockError::Recursive`] if this thread writes; [`LockError::Abandoned`];
    /// [`LockError::Shares`]; [`LockError::Seat`].
    pub fn read(&self) -> Reading<'_, T> {
        self.read_until(Deadline::NEVER, Duration::MAX)
    }

    /// As [`read`](Self::read), no longer than this.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`LockError::Owned`], which names the writer.
    pub fn read_timeout(&self, timeout: Duration) -> Reading<'_, T> {
        self.read_until(Deadline::after(timeout), timeout)
    }

    /// Reads if there is no writer. Never waits.
    ///
    /// # Errors
    /// As [`read_timeout`](Self::read_timeout).
    pub fn try_read(&self) -> Reading<'_, T> {
        self.read_until(Deadline::at(std::time::Instant::now()), Duration::ZERO)
    }

    fn read_until(&self, deadline: Deadline, waited: Duration) -> Reading<'_, T> {
        let sitter = Sitter::at(self, deadline).map_err(LockError::Seat)?;
        let entered = match self.lock.try_read(&sitter) {
            Ok(true) => Ok(()),
            Ok(false) => self.lock.read(&sitter),
            Err(blocked) => Err(blocked),
        };
        entered.map_err(|blocked| error::refused(&self.lock.lock, &sitter, blocked, waited))?;
        let guard = RwLockReadGuard { lock: self, kept: Kept::new() };
        if self.lock.is_poisoned() { Err(LockError::Poisoned(guard)) } else { Ok(guard) }
    }

    /// Writes, waiting for all others as long as it takes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] and [`LockError::Poisoned`], with the guard in them; [`LockError::Recursive`] if this thread reads or
    /// writes; [`LockError::Abandoned`]; [`LockError::Seat`].
    pub fn write(&self) -> Writing<'_, T> {
        self.write_until(Deadline::NEVER, Duration::MAX, true)
    }

    /// As [`write`](Self::write), no longer than this.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`LockError::Owned`], which names a reader or the writer.
    pub fn write_timeout(&self, timeout: Duration) -> Writing<'_, T> {
        self.write_until(Deadline::after(timeout), timeout, true)
    }

    /// Writes if nobody reads or writes. Never waits.
    ///
    /// # Errors
    /// As [`write_timeout`](Self::write_timeout).
    pub fn try_write(&self) -> Writing<'_, T> {
        self.write_until(Deadline::NEVER, Duration::ZERO, false)
    }

    fn write_until(&self, deadline: Deadline, waited: Duration, waits: bool) -> Writing<'_, T> {
        let sitter = Sitter::at(self, deadline).map_err(LockError::Seat)?;
        let acquired = self.lock.write(&sitter, waits);
        let acquired =
            acquired.map_err(|blocked| error::refused(&self.lock.lock, &sitter, blocked, waited))?;
        let was_panicking = std::thread::panicking();
        let guard = RwLockWriteGuard { lock: self, was_panicking, kept: Kept::new() };
        match acquired {
            Acquired::OwnerDied => Err(LockError::OwnerDied(guard)),
            Acquired::Clean if self.lock.is_poisoned() => Err(LockError::Poisoned(guard)),
            Acquired::Clean => Ok(guard),
        }
    }

    /// Who writes, if anybody does.
    ///
    /// # Errors
    /// [`SeatError`] if this thread can have no seat in the region.
    pub fn writer(&self) -> Result<Option<LockOwner>, SeatError> {
        let sitter = Sitter::at(self, Deadline::NEVER)?;
        let owner = self.lock.lock.owner();
        Ok(owner.map(|owner| error::describe(&self.lock.lock, &sitter, owner)))
    }
}

/// The value of a lock that is read; dropping it gives the share back. It stays with its thread.
pub struct RwLockReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    kept: Kept,
}

/// The value of a lock that is written; dropping it gives the lock back. It stays with its thread.
pub struct RwLockWriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    was_panicking: bool,
    kept: Kept,
}

// SAFETY: a shared guard gives `&T` and nothing else.
unsafe impl<T: Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's thread has a share, so that nobody writes. Any bytes are a value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.kept.end();
        // In a forked child this thread is another, which has no share.
        if let Ok(sitter) = Sitter::leaving(self.lock) {
            self.lock.lock.leave(&sitter);
        }
    }
}

impl<T> RwLockWriteGuard<'_, T> {
    /// What the lock guards is as it should be: it is poisoned no more.
    pub fn mark_consistent(&mut self) {
        self.lock.lock.heal();
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's thread is the only one that has the lock. Any bytes are a value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.kept.end();
        // As for readers.
        let Ok(sitter) = Sitter::leaving(self.lock) else { return };
        if !self.was_panicking && std::thread::panicking() {
            self.lock.lock.poison();
        }
        self.lock.lock.free(&sitter);
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RwLock").field("writer", &self.lock.lock.owner()).finish_non_exhaustive()
    }
}
