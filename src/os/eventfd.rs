//! Waking a process that sleeps in epoll rather than on a futex.

use std::os::fd::AsFd;

/// Makes an eventfd readable. One whose count is at its limit is readable already, which is all that is wanted.
pub(crate) fn signal(eventfd: impl AsFd) {
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}
