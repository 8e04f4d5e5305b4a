//! Waiting for a few descriptors without setting anything up.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{self, Errno};

use super::clock::Deadline;
use super::epoll::Interest;

/// Waits until one of them can be read, or the deadline has passed.
pub(crate) fn wait_readable(sources: &[BorrowedFd<'_>], deadline: Deadline) -> io::Result<()> {
    let mut watched: Vec<_> =
        sources.iter().map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN)).collect();
    loop {
        let timeout = deadline.remaining().map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a descriptor is ready now for what it is watched for, or has an error or a hang-up.
pub(crate) fn is_ready(source: BorrowedFd<'_>, interest: Interest) -> io::Result<bool> {
    let flags = match interest {
        Interest::Read => PollFlags::IN,
        Interest::Write => PollFlags::OUT,
        Interest::ReadWrite => PollFlags::IN | PollFlags::OUT,
    };
    let mut watched = [PollFd::from_borrowed_fd(source, flags)];
    loop {
        match poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::epoll::Wake;
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn any_of_several_ends_the_wait() {
        let wakes = [(); 2].map(|()| Wake::new().expect("an eventfd"));
        let sources = wakes.each_ref().map(|wake| wake.descriptor().as_fd());
        assert_eq!(wait_readable(&sources, Deadline::after(Duration::from_millis(1))), Ok(()));
        wakes[1].signal();
        assert_eq!(wait_readable(&sources, Deadline::NEVER), Ok(()));
    }

    #[test]
    fn a_descriptor_is_asked_for_what_it_is_watched_for() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        assert_eq!(is_ready(reader.as_fd(), Interest::Read), Ok(false));
        assert_eq!(is_ready(writer.as_fd(), Interest::Write), Ok(true));
        drop(writer);
        assert_eq!(is_ready(reader.as_fd(), Interest::Read), Ok(true), "a hang-up");
    }
}
