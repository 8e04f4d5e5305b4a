//! A value in a region that is read without being locked.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::party::Sitter;
use super::raw::Blocked;
use super::{LockError, LockOwner, RawLock};
use crate::os::clock::Deadline;
use crate::segment::region::{Placeable, seat_at};
use crate::sync::{bulk, copy};

/// A value that many read while some write it: readers take no lock, write nothing, and copy the newest value that is whole.
///
/// All zero bytes are a zeroed value. There are two buffers, and writers take turns at the one that is not the newest: a writer that
/// dies in the middle, or is stopped, leaves what was there before, and is in nobody's way but other writers'. A reader starts
/// again if the value was written twice meanwhile.
///
/// Source: two buffers behind one word, as in the *seqcount latch* of the Linux kernel; its memory order is that of Hans Boehm, *Can
/// seqlocks get along with programming language memory models?* (2012).
#[repr(C)]
pub struct SeqLock<T> {
    /// How often it was written: the newest value is in the buffer of its last bit.
    version: AtomicU64,
    writers: RawLock,
    reserved: u64,
    buffers: [Aligned<T>; 2],
}

/// A buffer of whole words.
#[repr(C, align(16))]
struct Aligned<T>(UnsafeCell<T>);

// SAFETY: readers copy the value by instructions that may race with a writer's, and use it only if none was there; writers take
// turns.
unsafe impl<T: Send> Sync for SeqLock<T> {}
// SAFETY: all zero bytes are a free lock and a zeroed value; the value has no padding and takes any bytes.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Send + 'static> Placeable for SeqLock<T> {}

/// Gives the writers' lock back.
struct Writing<'a>(&'a RawLock);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let is_free = seat_at(self.0).is_ok_and(|seat| self.0.free_quietly(seat.owner()));
        if !is_free && let Ok(sitter) = Sitter::at(self.0, Deadline::NEVER) {
            self.0.give_up(&sitter);
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> SeqLock<T> {
    /// Where its first buffer lies in it, in bytes.
    pub(crate) const VALUE_OFFSET: usize = std::mem::offset_of!(Self, buffers);

    /// A copy of the newest value. No system call, and no store; starts again for as long as writers are faster than that.
    #[inline]
    pub fn read(&self) -> T {
        self.read_versioned().0
    }

    /// As [`read`](Self::read), and how often the value had been written.
    #[inline]
    pub fn read_versioned(&self) -> (T, u64) {
        let mut value = MaybeUninit::<T>::uninit();
        loop {
            let version = self.version.load(Ordering::Acquire);
            let buffer = &self.buffers[(version & 1) as usize];
            // SAFETY: as many bytes as the value has: of a buffer that is aligned to whole words, in this lock, which is borrowed;
            // and of the value's own place.
            unsafe {
                let place = std::slice::from_raw_parts_mut(value.as_mut_ptr().cast(), size_of::<T>());
                copy::copy_out_fresh(NonNull::from(buffer).cast(), place);
            }
            fence(Ordering::Acquire);
            // As long as it is the newest, nobody has begun to write over it.
            if self.version.load(Ordering::Relaxed) == version {
                // SAFETY: all bytes of it have been copied, and any are a value.
                return (unsafe { value.assume_init() }, version);
            }
            std::hint::spin_loop();
        }
    }

    /// How often it was written.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Writes a value; waits for other writers, not for readers.
    ///
    /// # Errors
    /// [`LockError::Seat`].
    pub fn write(&self, value: &T) -> Result<(), LockError<()>> {
        self.update(|newest| newest.as_mut_bytes().copy_from_slice(value.as_bytes()))
    }

    /// Writes what `change` makes of the newest value.
    ///
    /// # Errors
    /// [`LockError::Recursive`] if `change` writes this very value; [`LockError::Seat`].
    pub fn update(&self, change: impl FnOnce(&mut T)) -> Result<(), LockError<()>> {
        let me = seat_at(self).map_err(LockError::Seat)?.owner();
        if !self.writers.take_free(me) {
            self.wait()?;
        }
        let _writing = Writing(&self.writers);
        let mut value = self.read();
        change(&mut value);
        let next = self.version.load(Ordering::Relaxed).wrapping_add(1);
        let buffer = &self.buffers[(next & 1) as usize];
        // A reader that sees a byte of this sees the version that came before it, too: it was still reading the one before that.
        fence(Ordering::Release);
        // SAFETY: as many bytes as the value has, of a buffer in this lock; other writers wait, and readers use no byte of it.
        unsafe { bulk::write(value.as_bytes(), NonNull::from(buffer).cast()) };
        self.version.store(next, Ordering::Release);
        Ok(())
    }

    #[cold]
    fn wait(&self) -> Result<(), LockError<()>> {
        let sitter = Sitter::at(self, Deadline::NEVER).map_err(LockError::Seat)?;
        match self.writers.take(&sitter) {
            // One that died has left the newest value whole.
            Ok(_) => Ok(()),
            Err(Blocked::Recursive | Blocked::Shares) => Err(LockError::Recursive),
            Err(Blocked::Owned(owner)) => {
                let owner = LockOwner::of(sitter.seat().region(), owner, self.writers.seen_since(owner));
                Err(LockError::Owned { owner, waited: std::time::Duration::MAX })
            }
        }
    }
}

impl<T> fmt::Debug for SeqLock<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SeqLock").field("version", &self.version).finish_non_exhaustive()
    }
}
