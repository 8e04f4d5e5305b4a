//! Waking a process that sleeps in epoll rather than on a futex.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Makes an eventfd readable. One whose count is at its limit is readable already, which is all that is wanted; the
/// look before keeps a descriptor that a peer has made blocking, or that is no eventfd, from holding us up.
pub(crate) fn signal(eventfd: impl AsFd) {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut wanted = [PollFd::new(&eventfd, PollFlags::OUT)];
    let has_room = poll(&mut wanted, Some(&now)).is_ok_and(|ready| ready > 0);
    if has_room && wanted[0].revents().contains(PollFlags::OUT) {
        let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
    }
}
