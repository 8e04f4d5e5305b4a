//! A condition variable in a region.

use std::time::Duration;

use super::turns::Turns;
use super::{LockError, MutexGuard};
use crate::os::clock::Deadline;

/// Waiting for what a [`Mutex`](super::Mutex) guards to change: std's, between processes.
///
/// All zero bytes are one for which nobody waits. Who waits gives the mutex back meanwhile and has it again afterwards, with all that
/// taking a mutex may say. As with every such thing, a wait may end without a cause: look at the condition again, or
/// [`wait_while`](Self::wait_while) it holds.
#[derive(Debug)]
#[repr(C)]
pub struct Condvar {
    turns: Turns,
}

impl Condvar {
    /// Gives the mutex back, waits to be notified, and takes it again.
    ///
    /// # Errors
    /// As [`Mutex::lock`](super::Mutex::lock).
    pub fn wait<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>> {
        self.wait_until(guard, Deadline::NEVER).1
    }

    /// As [`wait`](Self::wait), no longer than this; whether it was notified in time, and the mutex, which is waited for as
    /// long as it takes.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> (bool, Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>>) {
        self.wait_until(guard, Deadline::after(timeout))
    }

    /// Waits as long as the condition holds.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut holds: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>> {
        while holds(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    fn wait_until<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Deadline,
    ) -> (bool, Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>>) {
        let seen = self.turns.line_up();
        let mutex = guard.mutex();
        drop(guard);
        let is_notified = self.turns.wait(seen, deadline);
        (is_notified, mutex.lock())
    }

    /// Wakes one who waits; others may wake as well.
    pub fn notify_one(&self) {
        self.turns.notify(1);
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.turns.notify(u32::MAX);
    }
}
