//! Something that is done once, whatever process does it.

use std::sync::atomic::{AtomicU32, Ordering};

use super::party::Sitter;
use super::raw::Blocked;
use super::{LockError, LockOwner, RawLock};
use crate::os::clock::Deadline;
use crate::segment::region::{Placeable, seat_at};

const DONE: u32 = 1;

/// Work that one of many processes does once, while the others wait for it.
///
/// All zero bytes are one that has not been done. If whoever does it dies or panics in the middle, the next begins anew: the work has to
/// be such that it can.
#[derive(Debug)]
#[repr(C)]
pub struct Once {
    lock: RawLock,
    state: AtomicU32,
    reserved: [u32; 3],
}

// SAFETY: all zero bytes are a free lock and work that has not been done; atomic numbers, of which any values are some.
unsafe impl Placeable for Once {}

/// Gives the lock back, whatever becomes of the work.
struct Working<'a>(&'a Once);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let lock = &self.0.lock;
        let is_free = seat_at(lock).is_ok_and(|seat| lock.free_quietly(seat.owner()));
        if !is_free && let Ok(sitter) = Sitter::at(lock, Deadline::NEVER) {
            lock.give_up(&sitter);
        }
    }
}

impl Once {
    /// Does the work if nobody has; otherwise waits until whoever does it is done. What it did is seen by all afterwards.
    ///
    /// # Errors
    /// [`LockError::Recursive`] if the work calls this; [`LockError::Seat`].
    pub fn call_once(&self, work: impl FnOnce()) -> Result<(), LockError<()>> {
        if self.is_completed() {
            return Ok(());
        }
        let sitter = Sitter::at(&self.lock, Deadline::NEVER).map_err(LockError::Seat)?;
        match self.lock.take(&sitter) {
            // One that died has not completed it.
            Ok(_) => {}
            Err(Blocked::Recursive | Blocked::Shares) => return Err(LockError::Recursive),
            Err(Blocked::Owned(owner)) => {
                let owner = LockOwner::of(sitter.seat().region(), owner, self.lock.seen_since(owner));
                return Err(LockError::Owned { owner, waited: std::time::Duration::MAX });
            }
        }
        let _working = Working(self);
        if !self.is_completed() {
            work();
            self.state.store(DONE, Ordering::Release);
        }
        Ok(())
    }

    /// Whether it has been done.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }
}
