//! A value in a region that is read without being locked.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::latch::Latch;
use super::party::{Held, Sitter};
use super::{LockError, RawLock, error};
use crate::os::clock::Deadline;
use crate::segment::region::seat_at;
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
    newest: Latch,
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
        let version = self.newest.read(|newest| {
            let buffer = NonNull::from(&self.buffers[newest]).cast();
            // SAFETY: as many bytes as the value has: of a buffer that is aligned to whole words, in this lock, which is borrowed;
            // and of the value's own place.
            unsafe {
                let place = std::slice::from_raw_parts_mut(value.as_mut_ptr().cast(), size_of::<T>());
                copy::copy_out_fresh(buffer, place);
            }
        });
        // SAFETY: all bytes of it have been copied, and any are a value.
        (unsafe { value.assume_init() }, version)
    }

    /// How often it was written.
    pub fn version(&self) -> u64 {
        self.newest.version()
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
        let _held = Held(&self.writers);
        let mut value = self.read();
        change(&mut value);
        self.newest.write(|oldest| {
            let buffer = NonNull::from(&self.buffers[oldest]).cast();
            // SAFETY: as many bytes as the value has, of a buffer in this lock; other writers wait, and readers use no byte of it.
            unsafe { bulk::write(value.as_bytes(), buffer) };
        });
        Ok(())
    }

    #[cold]
    fn wait(&self) -> Result<(), LockError<()>> {
        let sitter = Sitter::at(self, Deadline::NEVER).map_err(LockError::Seat)?;
        // One that died has left the newest value whole.
        let taken = self.writers.take(&sitter);
        let taken = taken.map_err(|blocked| error::refused(&self.writers, &sitter, blocked, Duration::MAX));
        taken.map(|_| ())
    }
}

impl<T> fmt::Debug for SeqLock<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SeqLock").field("version", &self.newest.version()).finish_non_exhaustive()
    }
}
