//! The port seam: every system call that Tidepost makes, one topic a file, safe to call from everywhere else.
//!
//! Nothing above this module names a system call or a platform. It knows nothing of segments or nodes.

pub(crate) mod barrier;
pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod feature;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod memfd;
pub(crate) mod memory;
pub(crate) mod mmap;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod record_lock;
pub(crate) mod socket;
pub(crate) mod unshared;

use rustix::io;

/// Repeats a system call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(io::Errno::INTR) => {}
            settled => return settled,
        }
    }
}

/// What the system call that has just failed said, of those that are made without rustix.
fn last_error() -> io::Errno {
    io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(io::Errno::IO)
}
