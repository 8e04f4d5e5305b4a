//! What the C library offers for a lock that survives its owner: a robust mutex between processes.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

/// A robust, process-shared `pthread_mutex_t`.
pub struct RobustMutex {
    mutex: Box<UnsafeCell<libc::pthread_mutex_t>>,
}

impl RobustMutex {
    /// A free one; `None` if the C library refuses.
    pub fn new() -> Option<Self> {
        let mut attributes = MaybeUninit::uninit();
        let mut mutex = MaybeUninit::uninit();
        // SAFETY: attributes are made before they are changed and used, and the mutex from them; each call says whether it
        // succeeded, and only after all have is the mutex taken for one.
        let is_made = unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr()) == 0
                && libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED)
                    == 0
                && libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST) == 0
                && libc::pthread_mutex_init(mutex.as_mut_ptr(), attributes.as_ptr()) == 0
        };
        // SAFETY: initialised, as has just been seen. It is not locked, so it may be moved into its place.
        is_made.then(|| Self { mutex: Box::new(UnsafeCell::new(unsafe { mutex.assume_init() })) })
    }

    /// Takes it and gives it back; whether that succeeded.
    pub fn lock_and_unlock(&self) -> bool {
        // SAFETY: a live mutex in a place of its own, which this thread gives back before anybody else can want it.
        unsafe {
            libc::pthread_mutex_lock(self.mutex.get()) == 0
                && libc::pthread_mutex_unlock(self.mutex.get()) == 0
        }
    }
}
