//! Work that is done once, whoever dies in the middle: what is below a [`Once`](super::Once).
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | the lock's word | as [`RawLock`] says | | |
//! | `state` | who has done the work, under the lock, `Release` | everybody, `Acquire` | what the work did is seen by who finds it done |

use super::raw::Blocked;
use super::{Party, RawLock};
use crate::sync::door::{AtomicU32, Ordering};

const DONE: u32 = 1;

/// The words. Zero is work that has not been done.
#[derive(Debug)]
#[repr(C)]
pub(super) struct RawOnce {
    pub(super) lock: RawLock,
    state: AtomicU32,
    reserved: [u32; 3],
}

impl RawOnce {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { lock: RawLock::new(), state: AtomicU32::new(0), reserved: [0; 3] }
    }

    #[inline]
    pub(super) fn is_completed(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Takes the lock, to do the work; `false`, and no lock, if it has been done.
    pub(super) fn begin(&self, party: &impl Party) -> Result<bool, Blocked> {
        if self.is_completed() {
            return Ok(false);
        }
        // Whoever died with the lock has not completed it, or else it is completed.
        self.lock.take(party).map(|_| true)
    }

    /// Does the work, unless it was done before the caller had the lock, which it has.
    pub(super) fn complete(&self, work: impl FnOnce()) {
        if !self.is_completed() {
            work();
            self.state.store(DONE, Ordering::Release);
        }
    }
}
