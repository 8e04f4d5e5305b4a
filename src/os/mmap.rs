//! Owning a shared mapping: made once, unmapped on drop, never moved or resized in between.

use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::io::{self, Errno};
use rustix::mm::{self, MapFlags, ProtFlags};

use super::feature::Feature;

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
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        let populate = if Feature::Populate.is_forbidden() { MapFlags::empty() } else { MapFlags::POPULATE };
        // SAFETY: a null hint lets the kernel choose fresh addresses, so no memory in use is replaced.
        let base =
            unsafe { mm::mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED | populate, memory, 0) }?;
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
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, which nothing outlives: everything derived from it
        // borrows this value or holds the Arc it lies in.
        let unmapped = unsafe { mm::munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can always be unmapped");
    }
}
