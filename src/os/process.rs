//! What the kernel says of this process, and locks that it holds until the end of its life.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, FlockOperation};
use rustix::io::{self, Errno};
use rustix::process::{self, PidfdFlags};
use rustix::rand::{GetRandomFlags, getrandom};

/// The user whose rights this process has.
pub(crate) fn euid() -> u32 {
    process::geteuid().as_raw()
}

/// This process in its own PID namespace: for people to read, and to notice a fork. Nothing else rests on it.
pub(crate) fn pid() -> u32 {
    process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// The calling thread in its own PID namespace: for people to read.
pub(crate) fn tid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// Bytes that nobody can foresee.
pub(crate) fn random<const BYTES: usize>() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// A descriptor that becomes readable, wherever it is held, when this process has ended.
pub(crate) fn own_pidfd() -> io::Result<OwnedFd> {
    process::pidfd_open(process::getpid(), PidfdFlags::empty())
}

/// Whether the process that this pidfd is of has ended.
pub(crate) fn has_ended(pidfd: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// The text by which the kernel tells this boot from every other one.
pub(crate) fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Locks `file` for this process alone; false if another holder has it. The lock ends with the last descriptor
/// of this open file.
pub(crate) fn try_lock(file: impl AsFd) -> io::Result<bool> {
    loop {
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Gives the lock back, whoever else has a descriptor of this open file.
pub(crate) fn unlock(file: impl AsFd) -> io::Result<()> {
    fs::flock(file, FlockOperation::NonBlockingUnlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_not_ended() {
        assert!(!has_ended(own_pidfd().expect("descriptors are left")));
    }

    #[test]
    fn a_boot_has_one_id() {
        let first = boot_id().expect("/proc is mounted");
        assert_eq!(first.len(), 36, "{first}");
        assert_eq!(boot_id().expect("/proc is mounted"), first);
    }

    #[test]
    fn a_lock_has_one_holder_until_it_is_closed() {
        let path = std::env::temp_dir().join(format!("tidepost-lock-test-{}", pid()));
        let first = std::fs::File::create(&path).expect("the temporary directory is writable");
        let second = std::fs::File::open(&path).expect("the file exists");
        assert_eq!(try_lock(&first), Ok(true));
        assert_eq!(try_lock(&second), Ok(false));
        drop(first);
        assert_eq!(try_lock(&second), Ok(true));
        std::fs::remove_file(&path).expect("the file exists");
    }
}
