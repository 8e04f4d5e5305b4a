//! Locks on single bytes of a file that belong to an open file, not to a process: *open file description locks*.
//!
//! Such a lock goes with the last descriptor of its open file, however the processes that had one end; it takes no thread
//! to hold it and no process number to name its holder, so it means the same in every namespace, and through `SIGSTOP`. A
//! byte need not lie within the file. Who opens the file again has an open file of its own, through which the locks of
//! the first are seen. Not for network file systems.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};

use super::{last_error, retry};

/// Opens a file once more, as an open file of its own. Works for files without a name, such as memory files, and wants
/// `/proc`.
pub(crate) fn reopen(file: impl AsFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    retry(|| fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
}

/// Locks a byte through this open file; false if another open file has it. What this one has already is granted again.
pub(crate) fn try_lock(file: impl AsFd, byte: u64) -> io::Result<bool> {
    match request(&file, libc::F_OFD_SETLK, &mut record(libc::F_WRLCK, byte)?) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a byte back.
pub(crate) fn unlock(file: impl AsFd, byte: u64) -> io::Result<()> {
    request(&file, libc::F_OFD_SETLK, &mut record(libc::F_UNLCK, byte)?)
}

/// Whether any open file but this one has locked a byte.
pub(crate) fn is_locked(file: impl AsFd, byte: u64) -> io::Result<bool> {
    let mut record = record(libc::F_WRLCK, byte)?;
    request(&file, libc::F_OFD_GETLK, &mut record)?;
    Ok(i32::from(record.l_type) != libc::F_UNLCK)
}

fn record(kind: i32, byte: u64) -> io::Result<libc::flock> {
    Ok(libc::flock {
        l_type: i16::try_from(kind).map_err(|_| Errno::INVAL)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(|_| Errno::INVAL)?,
        l_start: i64::try_from(byte).map_err(|_| Errno::OVERFLOW)?,
        l_len: 1,
        // These locks belong to no process.
        l_pid: 0,
    })
}

fn request(file: &impl AsFd, command: i32, record: &mut libc::flock) -> io::Result<()> {
    retry(|| {
        // SAFETY: an open descriptor, a command that takes a pointer to such a record, and the record, which is ours.
        match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw mut *record) } {
            -1 => Err(last_error()),
            _ => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::memfd;

    /// As regions are: sealed against shrinking alone.
    fn memory() -> OwnedFd {
        let memory = memfd::create("tidepost-test", 8192).expect("8 KiB are available");
        memfd::seal(&memory, memfd::SEALS_GROWABLE).expect("a new memfd can be sealed");
        memory
    }

    #[test]
    fn each_open_file_has_its_own_locks() {
        let memory = memory();
        let (first, second) = (reopen(&memory).expect("/proc is there"), reopen(&memory).expect("it is"));
        assert_eq!(try_lock(&first, 3), Ok(true));
        assert_eq!(try_lock(&first, 3), Ok(true), "the same open file is granted it again");
        assert_eq!(try_lock(&second, 3), Ok(false));
        assert_eq!(try_lock(&second, 4), Ok(true), "each byte is a lock of its own");
        assert_eq!((is_locked(&memory, 3), is_locked(&memory, 4)), (Ok(true), Ok(true)));
        assert_eq!(is_locked(&first, 3), Ok(false), "its own locks are none in its way");
        unlock(&first, 3).expect("it can be given back");
        assert_eq!(is_locked(&memory, 3), Ok(false));
        drop(second);
        assert_eq!(is_locked(&memory, 4), Ok(false), "a lock goes with the last descriptor");
    }

    #[test]
    fn a_byte_far_beyond_the_file_is_a_lock_too() {
        let memory = memory();
        let holder = reopen(&memory).expect("/proc is there");
        for byte in [0, 1 << 40, i64::MAX as u64 - 1] {
            assert_eq!(try_lock(&holder, byte), Ok(true));
            assert_eq!(is_locked(&memory, byte), Ok(true));
        }
        assert_eq!(try_lock(&holder, u64::MAX), Err(Errno::OVERFLOW));
    }

    #[test]
    fn a_file_that_grows_keeps_its_locks() {
        let memory = memory();
        let holder = reopen(&memory).expect("/proc is there");
        assert_eq!(try_lock(&holder, 5), Ok(true));
        fs::ftruncate(&memory, 1 << 20).expect("it may grow");
        assert_eq!(fs::ftruncate(&memory, 4096), Err(Errno::PERM), "and not shrink");
        assert_eq!(is_locked(&memory, 5), Ok(true));
    }
}
