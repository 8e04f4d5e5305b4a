//! Something that is done once, whatever process does it.

use std::time::Duration;

use super::party::{Held, Sitter};
use super::raw_once::RawOnce;
use super::{LockError, error};
use crate::os::clock::Deadline;

/// Work that one of many processes does once, while the others wait for it.
///
/// All zero bytes are one that has not been done. If whoever does it dies or panics in the middle, the next begins anew: the work has to
/// be such that it can.
#[derive(Debug)]
#[repr(C)]
pub struct Once {
    once: RawOnce,
}

impl Once {
    /// Does the work if nobody has; otherwise waits until whoever does it is done. What it did is seen by all afterwards.
    ///
    /// # Errors
    /// [`LockError::Recursive`] if the work calls this; [`LockError::Seat`].
    pub fn call_once(&self, work: impl FnOnce()) -> Result<(), LockError<()>> {
        let lock = &self.once.lock;
        if self.is_completed() {
            return Ok(());
        }
        let sitter = Sitter::at(lock, Deadline::NEVER).map_err(LockError::Seat)?;
        let begun = self.once.begin(&sitter);
        if begun.map_err(|blocked| error::refused(lock, &sitter, blocked, Duration::MAX))? {
            let _held = Held(lock);
            self.once.complete(work);
        }
        Ok(())
    }

    /// Whether it has been done.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.once.is_completed()
    }
}
