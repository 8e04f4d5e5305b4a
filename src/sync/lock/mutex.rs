//! A mutex in a region: std's, with owners that may die.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::party::{self, Sitter};
use super::raw::{Acquired, Blocked};
use super::{LockError, LockOwner, RawLock, error};
use crate::os::clock::Deadline;
use crate::segment::region::{Kept, SeatError, seat_at};

/// [`Mutex::state`] of a mutex whose data nobody vouches for.
const POISONED: u32 = 1;

/// Mutual exclusion between threads of any processes that have attached the region in which it lies.
///
/// All zero bytes are a free mutex around a zeroed value, so that it is there as soon as the region is. Its threads are
/// told apart by *seats* of the region, which a thread takes with the first lock that it touches.
///
/// Taking a free mutex and giving it back is an atomic operation each, without a system call. Who waits spins a little, then
/// sleeps, and looks every 5 ms whether the owner is still there. A mutex goes to whoever comes first; who has been passed by
/// eight times is the next. Waiting works without the node's control thread, through `SIGSTOP` of anybody, and across PID
/// namespaces.
///
/// A guard stays with its thread, so that nobody else can give the lock back:
///
/// ```compile_fail
/// fn take<G: Send>(_: G) {}
/// fn give(mutex: &tidepost::Mutex<u64>) {
///     take(mutex.lock());
/// }
/// ```
///
/// ```
/// fn take<G>(_: G) {}
/// fn give(mutex: &tidepost::Mutex<u64>) {
///     take(mutex.lock());
/// }
/// ```
///
/// If its owner dies – its process, or by detaching the region – the next who takes it is told by
/// [`LockError::OwnerDied`], and gets the guard with it. A thread that ends and has forgotten its guard has not died in that
/// sense: references to the value may have been leaked with the guard. Whoever wants the lock is told by [`LockError::Abandoned`].
#[repr(C)]
pub struct Mutex<T> {
    lock: RawLock,
    state: AtomicU32,
    reserved: [u32; 3],
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched by the owner alone, one after the other, whatever process it is in.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// Where its value lies in it, in bytes.
    pub(crate) const VALUE_OFFSET: usize = std::mem::offset_of!(Self, value);

    /// Takes the mutex, waiting as long as it takes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] and [`LockError::Poisoned`], with the guard in them; [`LockError::Recursive`];
    /// [`LockError::Abandoned`]; [`LockError::Seat`].
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.lock_free()? {
            Some(guard) => Ok(guard),
            None => self.wait(Deadline::NEVER, Duration::MAX),
        }
    }

    /// As [`Mutex::lock`], no longer than this.
    ///
    /// # Errors
    /// As [`Mutex::lock`]; [`LockError::Owned`], which names who has it.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.lock_free()? {
            Some(guard) => Ok(guard),
            None => self.wait(Deadline::after(timeout), timeout),
        }
    }

    /// Takes the mutex if it is free, or if whoever has it has died. Never waits.
    ///
    /// # Errors
    /// As [`Mutex::lock_timeout`].
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        if let Some(guard) = self.lock_free()? {
            return Ok(guard);
        }
        let sitter = Sitter::at(self, Deadline::NEVER).map_err(LockError::Seat)?;
        let taken = self.lock.try_take(&sitter);
        self.settle(&sitter, taken, Duration::ZERO)
    }

    /// Who has it, if anybody has.
    ///
    /// # Errors
    /// [`SeatError`] if this thread can have no seat in the region.
    pub fn owner(&self) -> Result<Option<LockOwner>, SeatError> {
        let sitter = Sitter::at(self, Deadline::NEVER)?;
        Ok(self.lock.owner().map(|owner| error::describe(&self.lock, &sitter, owner)))
    }

    /// The fast way: `None` if somebody has it.
    #[inline]
    fn lock_free(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        let me = seat_at(self).map_err(LockError::Seat)?.owner();
        if !self.lock.take_free(me) {
            return Ok(None);
        }
        let guard = self.guard();
        if self.state.load(Ordering::Relaxed) == POISONED {
            Err(LockError::Poisoned(guard))
        } else {
            Ok(Some(guard))
        }
    }

    #[cold]
    fn wait(
        &self,
        deadline: Deadline,
        timeout: Duration,
    ) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        let sitter = Sitter::at(self, deadline).map_err(LockError::Seat)?;
        let taken = self.lock.take(&sitter);
        self.settle(&sitter, taken, timeout)
    }

    fn settle(
        &self,
        sitter: &Sitter<'_>,
        taken: Result<Acquired, Blocked>,
        waited: Duration,
    ) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match taken {
            Ok(Acquired::OwnerDied) => {
                // Whoever comes after a second death learns it even if there was none in between to vouch for the data.
                self.state.store(POISONED, Ordering::Relaxed);
                Err(LockError::OwnerDied(self.guard()))
            }
            Ok(Acquired::Clean) if self.state.load(Ordering::Relaxed) == POISONED => {
                Err(LockError::Poisoned(self.guard()))
            }
            Ok(Acquired::Clean) => Ok(self.guard()),
            Err(blocked) => Err(error::refused(&self.lock, sitter, blocked, waited)),
        }
    }

    #[inline]
    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, was_panicking: std::thread::panicking(), kept: Kept::new() }
    }
}

/// The value of a locked mutex; dropping it gives the mutex back. It stays with its thread.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    was_panicking: bool,
    kept: Kept,
}

// SAFETY: `&MutexGuard` gives `&T` and nothing else.
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }

    /// What the mutex guards is as it should be: it is poisoned no more.
    pub fn mark_consistent(&mut self) {
        self.mutex.state.store(0, Ordering::Relaxed);
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard's thread owns the mutex, so that nobody else touches the value. Any bytes are a value, whoever
        // wrote them.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.was_panicking && std::thread::panicking() && seat_at(self.mutex).is_ok() {
            self.mutex.state.store(POISONED, Ordering::Relaxed);
        }
        party::give_back(&self.mutex.lock);
        self.kept.end();
    }
}

impl<T: fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mutex").field("owner", &self.lock.owner()).finish_non_exhaustive()
    }
}
