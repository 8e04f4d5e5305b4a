//! Anonymous files in memory: created with their pages, sealed, and inspected when a peer sends one.
//!
//! Pages are allocated at creation, so that a full machine is an error there and never a SIGBUS later.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, FallocateFlags, FileType, MemfdFlags, SealFlags};
use rustix::io::{self, Errno};

use super::feature::Feature;
use super::{memory, retry};

/// Seals under which the size is fixed and only mappings that exist already may write.
pub(crate) const SEALS_ONE_WRITER: SealFlags = SEALS_FIXED_SIZE.union(SealFlags::FUTURE_WRITE);

/// Seals under which the size is fixed and every holder may write.
pub(crate) const SEALS_FIXED_SIZE: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Seals under which every holder may write, and the size may rise, but never fall.
pub(crate) const SEALS_GROWABLE: SealFlags = SealFlags::SHRINK.union(SealFlags::SEAL);

/// Seals that forbid nothing that a region needs.
pub(crate) const SEALS_HARMLESS: SealFlags = SealFlags::GROW.union(SealFlags::EXEC);

/// Sizes in bytes up to which nobody asks whether the machine has as much.
const SIZE_UNASKED: u64 = 1 << 20;

/// A memfd of `size` bytes, all allocated. `name` is for people who read `/proc/<pid>/maps`.
///
/// A memory file is bound by no file system: the kernel would give page after page until it kills somebody. So
/// what is not there is asked about first.
pub(crate) fn create(name: &str, size: u64) -> io::Result<OwnedFd> {
    if size > SIZE_UNASKED && size > memory::available() {
        return Err(Errno::NOMEM);
    }
    let memory = create_empty(name)?;
    allocate(&memory, size)?;
    Ok(memory)
}

/// Makes a file at least `size` bytes long, all of them allocated.
pub(crate) fn allocate(file: impl AsFd, size: u64) -> io::Result<()> {
    retry(|| fs::fallocate(&file, FallocateFlags::empty(), 0, size))
}

/// As [`allocate`], for memory, which no file system bounds: what the machine does not have is asked about first.
pub(crate) fn grow(memory: impl AsFd, from: u64, to: u64) -> io::Result<()> {
    if to.saturating_sub(from) > SIZE_UNASKED && to.saturating_sub(from) > memory::available() {
        return Err(Errno::NOMEM);
    }
    allocate(memory, to)
}

fn create_empty(name: &str) -> io::Result<OwnedFd> {
    let plain = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if !Feature::NoexecSeal.is_forbidden() {
        match fs::memfd_create(name, plain | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => {}
            settled => return settled,
        }
    }
    fs::memfd_create(name, plain)
}

/// Adds seals; they can never be taken off.
pub(crate) fn seal(memory: impl AsFd, seals: SealFlags) -> io::Result<()> {
    fs::fcntl_add_seals(memory, seals)
}

/// What the kernel says of a file that a peer sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inspection {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Bytes of it that are allocated: sealed against new writers, they stay.
    pub(crate) allocated: u64,
    /// Its seals.
    pub(crate) seals: SealFlags,
}

/// Asks the kernel what `file` is; an error if it is no memory file at all.
pub(crate) fn inspect(file: impl AsFd) -> io::Result<Inspection> {
    let stat = fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let seals = fs::fcntl_get_seals(&file)?;
    let size = u64::try_from(stat.st_size).map_err(|_| Errno::INVAL)?;
    let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    Ok(Inspection { size, allocated, seals })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_memfd_keeps_its_size_and_refuses_writers() {
        let memory = create("tidepost-test", 8192).expect("8 KiB are available");
        seal(&memory, SEALS_ONE_WRITER).expect("a new memfd can be sealed");
        let inspection = inspect(&memory).expect("it is a memfd");
        assert_eq!(inspection.size, 8192);
        assert!(inspection.seals.contains(SEALS_ONE_WRITER));
        assert_eq!(rustix::io::write(&memory, b"x"), Err(Errno::PERM));
        assert_eq!(fs::ftruncate(&memory, 4096), Err(Errno::PERM));
    }

    #[test]
    fn a_pipe_is_not_a_memory_file() {
        let (reader, _writer) = rustix::pipe::pipe().expect("pipes are available");
        assert!(inspect(&reader).is_err());
    }

    #[test]
    fn an_impossible_size_is_an_error_and_no_signal() {
        for size in [1 << 50, u64::MAX / 2, u64::MAX] {
            assert_eq!(create("tidepost-test", size).expect_err("no machine has as much"), Errno::NOMEM);
        }
    }
}
