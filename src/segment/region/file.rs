//! Regions in files, which stay when all who use them have ended.
//!
//! Who opens a file as a region locks a byte of it, far beyond its end, until it is made or attached. So a file is made once; one
//! whose maker died half-way is made anew by the next.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Backing, RegionMemory, RegionMemoryError as Error, Shape};
use crate::layout::region::OPENING_BYTE;
use crate::os::clock::Deadline;
use crate::os::mmap::Access;
use crate::os::{memfd, process, record_lock};

/// How long to sleep before the lock is asked for again.
const PAUSE: Duration = Duration::from_millis(1);

/// A file that nobody else is opening.
#[derive(Debug)]
pub(crate) struct Opening {
    file: OwnedFd,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    /// Nothing, or what somebody has begun and not finished.
    Unmade,
    /// A region.
    Made,
}

impl Opening {
    /// Opens a file, makes it if it may, and waits for others who are opening it. It must be a regular file of our own user.
    pub(crate) fn begin(path: &Path, may_create: bool, deadline: Deadline) -> Result<Self, Error> {
        let failed = |source| Error::System { action: "open the file of a region", source };
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = if may_create { flags | OFlags::CREATE } else { flags };
        let file = fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let stat = fs::fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::Unusable { reason: "it is no regular file".to_owned() });
        }
        if stat.st_uid != process::euid() {
            let (theirs, ours) = (stat.st_uid, process::euid());
            return Err(Error::Unusable {
                reason: format!("it belongs to user {theirs}, and we are {ours}"),
            });
        }
        if let Some(system) =
            fs::fstatfs(&file).ok().and_then(|found| network_file_system(found.f_type as u64))
        {
            let reason =
                format!("it lies on a network file system ({system}), whose machines share no memory");
            return Err(Error::Unusable { reason });
        }
        while !record_lock::try_lock(&file, OPENING_BYTE).map_err(failed)? {
            if deadline.has_passed() {
                return Err(failed(Errno::TIMEDOUT));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Self { file })
    }

    /// What is in it. A file that is neither empty nor a region is refused, so that nothing else is ever overwritten.
    pub(crate) fn state(&self) -> Result<FileState, Error> {
        match self.bytes()? {
            0 => Ok(FileState::Unmade),
            bytes if Shape::read(&self.file, bytes)?.is_ready => Ok(FileState::Made),
            _ => Ok(FileState::Unmade),
        }
    }

    /// Makes it a region of zeroed data that is not ready. The file stays locked until [`RegionMemory::end_opening`].
    pub(crate) fn make(
        self,
        shape: Shape,
        data_bytes: u64,
        identity: &[u8],
    ) -> Result<Arc<RegionMemory>, Error> {
        let failed = |source| Error::System { action: "allocate the file of a region", source };
        let bytes = super::file_bytes(&shape, data_bytes)?;
        fs::ftruncate(&self.file, 0).map_err(failed)?;
        if let Err(source) = memfd::allocate(&self.file, bytes) {
            // Half a file would be in the way of the next who tries.
            let _ = fs::ftruncate(&self.file, 0);
            return Err(failed(source));
        }
        RegionMemory::make(self.file, Backing::File, shape, bytes, identity)
    }

    /// Attaches the region in it.
    pub(crate) fn open(self, access: Access) -> Result<Arc<RegionMemory>, Error> {
        let bytes = self.bytes()?;
        let region = RegionMemory::attach(self.file, Backing::File, bytes, access)?;
        region.end_opening()?;
        Ok(region)
    }

    fn bytes(&self) -> Result<u64, Error> {
        let failed = |source| Error::System { action: "ask for the size of a region's file", source };
        let size = fs::fstat(&self.file).map_err(failed)?.st_size;
        u64::try_from(size).map_err(|_| failed(Errno::OVERFLOW))
    }
}

/// The name of a file system on which a mapping is shared within one machine only, by the number that `statfs` gives.
fn network_file_system(number: u64) -> Option<&'static str> {
    /// Of `linux/magic.h`, and of the clients' own sources.
    const KNOWN: [(u64, &str); 7] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x0bd0_0bd0, "Lustre"),
    ];
    // As 32 bits, whatever sign the field has.
    let number = number & u64::from(u32::MAX);
    KNOWN.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

impl RegionMemory {
    /// Lets others open the file of a region that has been published or attached.
    pub(crate) fn end_opening(&self) -> Result<(), Error> {
        let failed = |source| Error::System { action: "unlock the file of a region", source };
        record_lock::unlock(&self.memory, OPENING_BYTE).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        // As a signed field of 32 bits has it.
        assert_eq!(network_file_system(0xff53_4d42_u32 as i32 as u64), Some("CIFS"));
        let here = fs::statfs(std::env::temp_dir()).expect("there is one").f_type as u64;
        assert!(network_file_system(here).is_none() && network_file_system(0x0102_1994).is_none());
    }
}
