//! Something that is done once, whatever process does it.

use super::raw::Blocked;
use super::{Party, RawLock};
use crate::sync::door::{AtomicU32, Ordering};

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

impl Once {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { lock: RawLock::new(), state: AtomicU32::new(0), reserved: [0; 3] }
    }

    #[cfg(loom)]
    pub(super) fn lock(&self) -> &RawLock {
        &self.lock
    }

    /// Whether it has been done.
    #[inline]
    pub fn is_completed(&self) -> bool {
        // Acquire: what was done is seen.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// The lock of whoever does it, once the caller has it and is to do it; `None` if it has been done.
    pub(super) fn begin(&self, party: &impl Party) -> Result<Option<&RawLock>, Blocked> {
        if self.is_completed() {
            return Ok(None);
        }
        // Whoever died with the lock has not completed it, or else it is completed.
        self.lock.take(party)?;
        Ok(Some(&self.lock))
    }

    /// Does it, unless it was done before the caller had the lock.
    pub(super) fn complete(&self, work: impl FnOnce()) {
        if !self.is_completed() {
            work();
            self.state.store(DONE, Ordering::Release);
        }
    }
}

#[cfg(not(loom))]
mod seated {
    use super::super::party::{Held, Sitter};
    use super::super::{LockError, error};
    use super::Once;
    use crate::sync::door::Deadline;
    use std::time::Duration;

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
            let begun = self.begin(&sitter);
            let begun =
                begun.map_err(|blocked| error::refused(&self.lock, &sitter, blocked, Duration::MAX))?;
            if let Some(lock) = begun {
                let _held = Held(lock);
                self.complete(work);
            }
            Ok(())
        }
    }
}
