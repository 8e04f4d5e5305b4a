//! Owning a shared mapping: made once, unmapped on drop, never moved or resized in between.

use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::io::{self, Errno};
use rustix::mm::{self, Advice, MapFlags, MsyncFlags, ProtFlags};

use super::feature::Feature;
use super::last_error;

/// What a mapping may do with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Loads only: a store is a fault.
    Read,
    /// Loads and stores.
    ReadWrite,
}

/// A shared mapping of a memory file. Its memory stays where it is until drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    access: Access,
}

// SAFETY: the mapping is plain memory that belongs to no thread; who may touch which byte when is the business
// of the types that hand out parts of it, and this one only hands out its address.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives nothing but the address and the length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of `memory`, all pages present from the start where the kernel allows it.
    pub(crate) fn new(memory: impl AsFd, bytes: usize, access: Access) -> io::Result<Self> {
        let populate = if Feature::Populate.is_forbidden() { MapFlags::empty() } else { MapFlags::POPULATE };
        Self::with_flags(memory, bytes, access, populate)
    }

    /// Maps `bytes`, which may be more than `memory` has: what it grows by appears there. Pages come as they are touched;
    /// beyond the file's end that is a SIGBUS, so whoever uses the mapping asks the kernel for the size.
    pub(crate) fn reserve(memory: impl AsFd, bytes: usize, access: Access) -> io::Result<Self> {
        Self::with_flags(memory, bytes, access, MapFlags::NORESERVE)
    }

    fn with_flags(memory: impl AsFd, bytes: usize, access: Access, flags: MapFlags) -> io::Result<Self> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: a null hint lets the kernel choose fresh addresses, so no memory in use is replaced.
        let base =
            unsafe { mm::mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED | flags, memory, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { base, bytes, access })
    }

    /// The first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes mapped.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What may be done with the memory.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// Has the pages of the first `bytes` there from now on, if the kernel can.
    pub(crate) fn populate(&self, bytes: usize) -> io::Result<()> {
        if Feature::Populate.is_forbidden() {
            return Err(Errno::NOSYS);
        }
        let advice = match self.access {
            Access::Read => Advice::LinuxPopulateRead,
            Access::ReadWrite => Advice::LinuxPopulateWrite,
        };
        self.advise(bytes, advice)
    }

    /// Asks for huge pages behind the whole mapping.
    pub(crate) fn use_huge_pages(&self) -> io::Result<()> {
        self.advise(self.bytes, Advice::LinuxHugepage)
    }

    /// Keeps the first `bytes` in memory, so that they are never swapped out.
    pub(crate) fn lock(&self, bytes: usize) -> io::Result<()> {
        // SAFETY: a part of the range that `with_flags` mapped; locking changes no byte of it.
        unsafe { mm::mlock(self.base.as_ptr().cast(), bytes.min(self.bytes)) }
    }

    /// Writes the first `bytes` back to the file, and waits until they are there.
    pub(crate) fn flush(&self, bytes: usize) -> io::Result<()> {
        // SAFETY: a part of the range that `with_flags` mapped; writing back changes no byte of it.
        unsafe { mm::msync(self.base.as_ptr().cast(), bytes.min(self.bytes), MsyncFlags::SYNC) }
    }

    /// Prefers the memory of this NUMA node for pages that come later.
    pub(crate) fn prefer_node(&self, node: u32) -> io::Result<()> {
        /// `MPOL_PREFERRED` of `mbind`.
        const PREFERRED: libc::c_int = 1;
        let mask = 1u64.checked_shl(node).ok_or(Errno::INVAL)?;
        // SAFETY: the range is what `with_flags` mapped, the mask a live word of 64 bits; the policy changes no byte.
        let outcome = unsafe {
            let (start, mask) = (self.base.as_ptr(), &raw const mask);
            libc::syscall(libc::SYS_mbind, start, self.bytes, PREFERRED, mask, 64 as libc::c_ulong, 0)
        };
        if outcome == 0 { Ok(()) } else { Err(last_error()) }
    }

    fn advise(&self, bytes: usize, advice: Advice) -> io::Result<()> {
        // SAFETY: a part of the range that `with_flags` mapped; none of the advice used here changes its bytes.
        unsafe { mm::madvise(self.base.as_ptr().cast(), bytes.min(self.bytes), advice) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `with_flags` mapped, which nothing outlives: everything derived from it
        // borrows this value or holds the Arc it lies in.
        let unmapped = unsafe { mm::munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can always be unmapped");
    }
}
