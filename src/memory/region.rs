//! An attached region, as the program has it.

use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustix::io;

use super::error::RegionError;
use super::handing::Holder;
use super::listing::{RegionLock, locks_of};
use super::shared::Shared;
use crate::node::TypeDescriptor;
use crate::os::clock;
use crate::os::mmap::Mapping;
use crate::segment::region::{Backing, Placed, RegionMemory};
use crate::sync::bulk;

/// What every kind of attachment has.
pub(super) struct Attachment {
    /// Dropped first: who looks for the region then asks somebody else.
    pub(super) holder: Option<Holder>,
    pub(super) memory: Arc<RegionMemory>,
    pub(super) name: Arc<str>,
    pub(super) descriptor: TypeDescriptor,
}

/// A process, or a part of it, that has attached a region for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// The process, as it knows itself. For people: in another PID namespace it may mean another.
    pub process: u32,
    /// For how long it has been attached.
    pub since: Duration,
}

impl Attachment {
    fn of_memory(&self, error: crate::segment::region::RegionMemoryError) -> RegionError {
        RegionError::of_memory(error, &self.name)
    }

    fn len(&self) -> usize {
        // A size that cannot be asked for is at least what it was.
        self.memory.refresh().unwrap_or_else(|_| self.memory.data_bytes())
    }

    fn range_error(&self, offset: usize, bytes: usize, align: usize) -> RegionError {
        let (region, length) = (Arc::clone(&self.name), self.len());
        RegionError::Range { region, offset, bytes, align, length }
    }

    fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), RegionError> {
        let is_read = bulk::read_at(&self.memory, offset, to);
        is_read.then_some(()).ok_or_else(|| self.range_error(offset, to.len(), 1))
    }

    fn attached(&self) -> Vec<Attached> {
        let now = clock::monotonic_ns();
        let occupants = self.memory.occupants().into_iter().map(|(_, occupant)| occupant);
        let attachments = occupants.filter(|occupant| occupant.is_attachment);
        let attached = attachments.map(|occupant| Attached {
            process: occupant.process,
            since: Duration::from_nanos(now.saturating_sub(occupant.since)),
        });
        attached.collect()
    }

    fn ask(
        &self,
        action: &'static str,
        ask: impl FnOnce(&Mapping, usize) -> io::Result<()>,
    ) -> Result<(), RegionError> {
        let bytes = self.memory.shape().data_offset + self.len();
        let region = Arc::clone(&self.name);
        ask(self.memory.mapping(), bytes).map_err(|source| RegionError::System { region, action, source })
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Region")
            .field("name", &self.name)
            .field("type", &self.descriptor.name)
            .field("is_named", &self.holder.is_some())
            .finish_non_exhaustive()
    }
}

macro_rules! every_attachment {
    () => {
        /// Its name; for one in a file, the path; empty for one without.
        pub fn name(&self) -> &str {
            &self.attachment.name
        }

        /// Who has it attached for writing, this attachment included; who only reads is not known.
        pub fn attached(&self) -> Vec<Attached> {
            self.attachment.attached()
        }

        /// Has all of its pages in memory from now on, so that no later access waits for one.
        ///
        /// # Errors
        /// [`RegionError::System`]: the kernel cannot; it is used as before.
        pub fn prefault(&self) -> Result<(), RegionError> {
            self.attachment.ask("prefault it", Mapping::populate)
        }

        /// Keeps it from being swapped out.
        ///
        /// # Errors
        /// As [`prefault`](Self::prefault); mostly the limit on locked memory (`RLIMIT_MEMLOCK`).
        pub fn lock_in_memory(&self) -> Result<(), RegionError> {
            self.attachment.ask("lock it in memory", Mapping::lock)
        }

        /// Asks for huge pages behind it, in this process.
        ///
        /// # Errors
        /// As [`prefault`](Self::prefault).
        pub fn use_huge_pages(&self) -> Result<(), RegionError> {
            self.attachment.ask("use huge pages for it", |mapping, _| mapping.use_huge_pages())
        }

        /// Prefers the memory of this NUMA node for pages that come later.
        ///
        /// # Errors
        /// As [`prefault`](Self::prefault).
        pub fn prefer_numa_node(&self, node: u32) -> Result<(), RegionError> {
            self.attachment.ask("place it on a NUMA node", |mapping, _| mapping.prefer_node(node))
        }

        /// Writes it back to its file, and waits until it is there. Of a region in memory there is nothing to be written.
        ///
        /// # Errors
        /// [`RegionError::System`].
        pub fn flush(&self) -> Result<(), RegionError> {
            match self.attachment.memory.backing() {
                Backing::Memory => Ok(()),
                Backing::File => self.attachment.ask("write it back", Mapping::flush),
            }
        }
    };
}

/// Of attachments whose bytes mean what the program says.
macro_rules! bytes {
    () => {
        /// How many bytes it has, as of now.
        pub fn len(&self) -> usize {
            self.attachment.len()
        }

        /// Whether it has none, which no region has.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// Copies bytes out, from so many bytes after the first on.
        ///
        /// # Errors
        /// [`RegionError::Range`].
        pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), RegionError> {
            self.attachment.read_at(offset, to)
        }
    };
}

/// A region that holds one value of type `T`, attached for reading and writing until this is dropped.
///
/// It dereferences to the value: its locks and atomic numbers are used through that. Several attachments in one process are
/// apart, as those of different processes are.
pub struct Region<T> {
    attachment: Attachment,
    value: Placed<T>,
}

impl<T: Shared> Region<T> {
    /// `None` if the value does not lie within.
    pub(super) fn new(attachment: Attachment) -> Option<Self> {
        let value = Placed::find(&attachment.memory, 0)?;
        Some(Self { attachment, value })
    }

    every_attachment! {}
}

impl<T: Shared> Deref for Region<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> fmt::Debug for Region<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.attachment.fmt(formatter)
    }
}

impl<T> AsFd for Region<T> {
    /// The memory itself, to be inherited or passed on. [`RegionBuilder::attach_fd`](super::RegionBuilder::attach_fd) takes it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.attachment.memory.as_fd()
    }
}

/// A region of bytes that mean what the program says, attached for reading and writing until this is dropped.
///
/// Bytes are copied in and out as they are at that moment: what others write meanwhile may come out in part. Programs agree on
/// their own when to do that, by atomic numbers in the region, messages, or a lock in another region.
#[derive(Debug)]
pub struct ByteRegion {
    attachment: Attachment,
}

impl ByteRegion {
    pub(super) fn new(attachment: Attachment) -> Self {
        Self { attachment }
    }

    /// The most bytes that it can grow to.
    pub fn len_max(&self) -> usize {
        self.attachment.memory.data_bytes_max()
    }

    /// Makes it at least so many bytes long, for everybody who has it attached. What is new is zero, and what was there does not
    /// move. Returns how many it has now.
    ///
    /// # Errors
    /// [`RegionError::Limit`] beyond [`len_max`](Self::len_max); [`RegionError::System`].
    pub fn grow(&self, bytes: usize) -> Result<usize, RegionError> {
        self.attachment.memory.grow(bytes as u64).map_err(|error| self.attachment.of_memory(error))
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`RegionError::Range`].
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), RegionError> {
        let is_written = bulk::write_at(&self.attachment.memory, offset, from);
        is_written.then_some(()).ok_or_else(|| self.attachment.range_error(offset, from.len(), 1))
    }

    /// The eight bytes at an offset that is a multiple of eight, as a number that all who have the region change together.
    ///
    /// # Errors
    /// [`RegionError::Range`].
    pub fn atomic_at(&self, offset: usize) -> Result<&AtomicU64, RegionError> {
        self.attachment.memory.place(offset).ok_or_else(|| self.attachment.range_error(offset, 8, 8))
    }

    bytes! {}

    every_attachment! {}
}

impl AsFd for ByteRegion {
    /// The memory itself, to be inherited or passed on. [`RegionBuilder::attach_fd`](super::RegionBuilder::attach_fd) takes it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.attachment.memory.as_fd()
    }
}

/// A region of any type, attached for reading alone: this process cannot change it, whatever it does.
#[derive(Debug)]
pub struct ReadOnlyRegion {
    attachment: Attachment,
}

impl ReadOnlyRegion {
    pub(super) fn new(attachment: Attachment) -> Self {
        Self { attachment }
    }

    /// The locks that its type names, and who has them at this moment; of those in an array, the ones that somebody has.
    pub fn locks(&self) -> Vec<RegionLock> {
        locks_of(&self.attachment.memory, self.region_type())
    }

    /// What it holds.
    pub fn region_type(&self) -> &TypeDescriptor {
        &self.attachment.descriptor
    }

    bytes! {}

    every_attachment! {}
}
