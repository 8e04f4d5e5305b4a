//! Regions: memory that every process which attaches it may write, and seats in it, by which owners of locks are told apart and
//! their ends are noticed.
//!
//! A region is a memory file that can grow and never shrink, or a file of a local file system. It is verified before it is
//! mapped; the mapping takes all the address space that the region may ever need, so that nothing moves when it grows. How
//! large it is, the kernel says.

mod error;
mod file;
mod placeable;
mod placed;
mod record;
mod registry;
mod seat;
mod shape;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs;
use rustix::io::{self, Errno};

use crate::layout::owner::Owner;
use crate::layout::region::{
    IDENTITY_OFFSET, REGION_ALIGN, REGION_HEADER_OFFSET, REGION_READY, REGION_REMOVED, RegionHeader,
};
use crate::os::fork::Process;
use crate::os::mmap::{Access, Mapping};
use crate::os::unshared::Unshared;
use crate::os::{memfd, process, record_lock};
pub(crate) use error::RegionMemoryError;
pub(crate) use file::{FileState, Opening};
pub use placeable::Placeable;
pub(crate) use placed::Placed;
pub(crate) use record::{Occupant, Record};
pub use seat::SeatError;
pub(crate) use seat::{Kept, Seat, seat_at, seat_to_leave};
pub(crate) use shape::Shape;

use RegionMemoryError as Error;

/// What keeps a region's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A memory file: it goes with its last descriptor and mapping.
    Memory,
    /// A file of a file system: it stays.
    File,
}

/// A region as this process has it attached.
#[derive(Debug)]
pub(crate) struct RegionMemory {
    mapping: Mapping,
    backing: Backing,
    shape: Shape,
    /// The descriptor that is handed on, and through which seats are looked at: nobody locks a seat through it.
    memory: Arc<OwnedFd>,
    /// The open file through which this process locks its seats; none if it may only read.
    locks: Option<Unshared>,
    /// Seats that are locked through it.
    taken: Mutex<Vec<u16>>,
    /// Bytes of the file when the kernel was asked last.
    file_bytes: AtomicUsize,
    process: Process,
}

impl RegionMemory {
    /// A region of `data_bytes` zeroed bytes, in memory, that nobody else knows of, and that is not ready. `identity` has as
    /// many bytes as the shape says.
    pub(crate) fn create(shape: Shape, data_bytes: u64, identity: &[u8]) -> Result<Arc<Self>, Error> {
        let bytes = file_bytes(&shape, data_bytes)?;
        let failed = |action| move |source| Error::System { action, source };
        let memory = memfd::create("tidepost-region", bytes).map_err(failed("allocate a region"))?;
        memfd::seal(&memory, memfd::SEALS_GROWABLE).map_err(failed("seal a region"))?;
        Self::make(memory, Backing::Memory, shape, bytes, identity)
    }

    /// Writes headers and identity into zeroed bytes, and attaches them.
    fn make(
        memory: OwnedFd,
        backing: Backing,
        shape: Shape,
        bytes: u64,
        identity: &[u8],
    ) -> Result<Arc<Self>, Error> {
        assert_eq!(identity.len(), shape.identity_bytes, "the shape was made for this identity");
        let failed = |source| Error::System { action: "write the header of a region", source };
        for (text, offset) in [(&shape.headers(bytes)[..], 0), (identity, IDENTITY_OFFSET as u64)] {
            let written = io::pwrite(&memory, text, offset).map_err(failed)?;
            if written != text.len() {
                return Err(failed(Errno::NOSPC));
            }
        }
        Self::map(memory, backing, shape, bytes, Access::ReadWrite)
    }

    /// Verifies a memory file that somebody else has made, and attaches it. A region that is not ready is refused.
    pub(crate) fn open(memory: OwnedFd, access: Access) -> Result<Arc<Self>, Error> {
        let unusable = |reason: String| Error::Unusable { reason };
        let inspection =
            memfd::inspect(&memory).map_err(|error| unusable(format!("it is no memory file ({error})")))?;
        if !inspection.seals.contains(memfd::SEALS_GROWABLE) {
            return Err(unusable(format!(
                "its seals are {:?}, not {:?}",
                inspection.seals,
                memfd::SEALS_GROWABLE
            )));
        }
        let forbidden = inspection.seals & !memfd::SEALS_GROWABLE & !memfd::SEALS_HARMLESS;
        if access == Access::ReadWrite && !forbidden.is_empty() {
            return Err(unusable(format!("its seal {forbidden:?} forbids to use it")));
        }
        if inspection.allocated < inspection.size {
            let memfd::Inspection { allocated, size, .. } = inspection;
            return Err(unusable(format!("only {allocated} B of its {size} B are allocated")));
        }
        Self::attach(memory, Backing::Memory, inspection.size, access)
    }

    fn attach(memory: OwnedFd, backing: Backing, bytes: u64, access: Access) -> Result<Arc<Self>, Error> {
        let said = Shape::read(&memory, bytes)?;
        if !said.is_ready {
            return Err(Error::Unfinished);
        }
        Self::map(memory, backing, said.shape, bytes, access)
    }

    fn map(
        memory: OwnedFd,
        backing: Backing,
        shape: Shape,
        bytes: u64,
        access: Access,
    ) -> Result<Arc<Self>, Error> {
        let failed = |action| move |source| Error::System { action, source };
        let file_bytes =
            usize::try_from(bytes).map_err(|_| Errno::OVERFLOW).map_err(failed("map a region"))?;
        let mapped = file_bytes.max(shape.reserve_bytes);
        let mapping = match Mapping::reserve(&memory, mapped, access) {
            // A process whose address space is limited can still use what is there now.
            Err(Errno::NOMEM) if mapped > file_bytes => Mapping::reserve(&memory, file_bytes, access),
            settled => settled,
        };
        let mapping = mapping.map_err(failed("map a region"))?;
        let locks = match access {
            Access::Read => None,
            Access::ReadWrite => Some(
                Unshared::new(|| record_lock::reopen(&memory))
                    .map_err(failed("open a region for its locks"))?,
            ),
        };
        let region = Arc::new(Self {
            mapping,
            backing,
            shape,
            memory: Arc::new(memory),
            locks,
            taken: Mutex::new(Vec::new()),
            file_bytes: AtomicUsize::new(file_bytes),
            process: Process::current(),
        });
        region.settle()?;
        Ok(region)
    }

    /// Takes a seat for the attachment itself, and has it found by the addresses in it.
    fn settle(self: &Arc<Self>) -> Result<(), Error> {
        if self.is_writable() {
            self.take_seat(crate::layout::region::SEAT_PROCESS).map_err(|error| match error {
                SeatError::Full { limit } => {
                    Error::Limit { what: "attachments and threads that lock", value: limit + 1, limit }
                }
                SeatError::System(source) => Error::System { action: "lock a seat of a region", source },
                _ => Error::System { action: "take a seat of a region", source: Errno::INVAL },
            })?;
        }
        registry::enter(self);
        Ok(())
    }

    /// From now on others may attach it: the data are what they are to be. Everything written before is seen by them.
    pub(crate) fn publish(&self) {
        self.header_word(std::mem::offset_of!(RegionHeader, ready)).store(REGION_READY, Ordering::Release);
    }

    /// Nobody else is to get it by its name from now on.
    pub(crate) fn remove_name(&self) {
        let removed = self.header_word(std::mem::offset_of!(RegionHeader, removed));
        removed.store(REGION_REMOVED, Ordering::Release);
    }

    /// Whether it may be handed on by its name.
    pub(crate) fn has_name(&self) -> bool {
        let removed = self.header_word(std::mem::offset_of!(RegionHeader, removed));
        removed.load(Ordering::Acquire) != REGION_REMOVED
    }

    /// What its maker said the data are; `Unusable` if it has been cut off.
    pub(crate) fn identity(&self) -> Result<Vec<u8>, Error> {
        let mut identity = vec![0; self.shape.identity_bytes];
        match io::pread(&self.memory, &mut identity[..], IDENTITY_OFFSET as u64) {
            Ok(count) if count == identity.len() => Ok(identity),
            Ok(count) => Err(Error::Unusable { reason: format!("only {count} B of its identity are there") }),
            Err(source) => Err(Error::System { action: "read what a region holds", source }),
        }
    }

    /// What keeps its bytes.
    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    /// Where its parts lie.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether this process may store into it.
    pub(crate) fn is_writable(&self) -> bool {
        self.mapping.access() == Access::ReadWrite
    }

    /// Whether the process that calls was forked from the one that attached it.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_parent()
    }

    /// The mapping, for options that concern it as a whole.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The descriptor to hand on.
    pub(crate) fn memory(&self) -> &Arc<OwnedFd> {
        &self.memory
    }

    /// The first byte of the data. They stay there as long as the region is attached.
    pub(crate) fn data(&self) -> NonNull<u8> {
        // SAFETY: the data begin within the file, and so within the mapping: checked when it was made or attached.
        unsafe { self.mapping.base().add(self.shape.data_offset) }
    }

    /// Bytes of data that are there for sure; more if somebody has let it grow since [`RegionMemory::refresh`].
    #[inline]
    pub(crate) fn data_bytes(&self) -> usize {
        self.file_bytes.load(Ordering::Relaxed).min(self.mapping.bytes()) - self.shape.data_offset
    }

    /// Asks the kernel how large it is now; how many bytes of data that makes.
    pub(crate) fn refresh(&self) -> Result<usize, Error> {
        let failed = |source| Error::System { action: "ask for the size of a region", source };
        let size = fs::fstat(&self.memory).map_err(failed)?.st_size;
        let size = usize::try_from(size).map_err(|_| failed(Errno::OVERFLOW))?;
        if size < self.shape.data_offset {
            return Err(Error::Unusable { reason: format!("somebody has cut it off at {size} B") });
        }
        match self.backing {
            // It cannot shrink: of two answers the larger is the later.
            Backing::Memory => _ = self.file_bytes.fetch_max(size, Ordering::Relaxed),
            Backing::File => self.file_bytes.store(size, Ordering::Relaxed),
        }
        Ok(self.data_bytes())
    }

    /// The most bytes of data that this attachment can ever see.
    pub(crate) fn data_bytes_max(&self) -> usize {
        self.mapping.bytes() - self.shape.data_offset
    }

    /// Makes it at least so many bytes of data large, for everybody; how many it has then. What is new is zero.
    pub(crate) fn grow(&self, data_bytes: u64) -> Result<usize, Error> {
        let limit = self.data_bytes_max() as u64;
        if data_bytes > limit {
            return Err(Error::Limit { what: "bytes of data", value: data_bytes, limit });
        }
        let failed = |source| Error::System { action: "let a region grow", source };
        let (now, bytes) = (self.refresh()? + self.shape.data_offset, file_bytes(&self.shape, data_bytes)?);
        if bytes > now as u64 {
            match self.backing {
                Backing::Memory => memfd::grow(&self.memory, now as u64, bytes).map_err(failed)?,
                Backing::File => memfd::allocate(&self.memory, bytes).map_err(failed)?,
            }
        }
        self.refresh()
    }

    /// The range of data at `offset`, if it is there and so aligned; the kernel is asked if it was not there before.
    #[inline]
    pub(crate) fn range(&self, offset: usize, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(bytes)?;
        if end > self.data_bytes() && !self.refresh().is_ok_and(|bytes| end <= bytes) {
            return None;
        }
        // SAFETY: within the data or at their end, as just checked, and so within the mapping.
        let start = unsafe { self.data().add(offset) };
        start.as_ptr().addr().is_multiple_of(align).then_some(start)
    }

    /// What lies so many bytes after the first byte of the data; `None` where that is not within them, or not aligned for it.
    pub(crate) fn place<T: Placeable>(&self, offset: usize) -> Option<&T> {
        let place = self.range(offset, size_of::<T>(), align_of::<T>())?;
        // SAFETY: within the data, aligned, and mapped as long as `self` is borrowed; any bytes that a process can have put there
        // are a value, and whoever has it by reference changes it as `Placeable` allows. A read-only attachment has it stored to
        // by nobody: its locks want a seat, and it is given out as bytes alone.
        self.is_writable().then(|| unsafe { place.cast::<T>().as_ref() })
    }

    /// Lets `initialise` at the data of a region that nobody else knows of, as its value.
    ///
    /// # Panics
    /// If it has been published, or is no place for such a value: errors in this library.
    pub(crate) fn initialise<T: Placeable>(&self, initialise: impl FnOnce(&mut T)) {
        let ready = self.header_word(std::mem::offset_of!(RegionHeader, ready)).load(Ordering::Relaxed);
        assert!(ready != REGION_READY, "nobody else knows of it");
        let place = self.range(0, size_of::<T>(), align_of::<T>()).expect("it was made for this");
        // SAFETY: as in `place`; and this attachment is the only one, by whose maker alone this is called, before it hands out
        // any reference.
        initialise(unsafe { place.cast::<T>().as_mut() });
    }

    /// Everybody who is attached and writable, and all threads that have locked something; only those that are there.
    pub(crate) fn occupants(&self) -> Vec<(Owner, Occupant)> {
        let alive = self.records().iter().enumerate().filter_map(|(seat, record)| {
            let owner = Owner::new(seat as u16, record.generation.load(Ordering::Acquire) as u32);
            self.is_alive(owner).then(|| (owner, record.occupant()))
        });
        alive.collect()
    }

    /// The records that were ever used.
    pub(crate) fn records(&self) -> &[Record] {
        let used = self.header_word(std::mem::offset_of!(RegionHeader, used)).load(Ordering::Acquire);
        let used = usize::try_from(used).unwrap_or(usize::MAX).min(self.shape.seats);
        // SAFETY: records begin at a page of the file, and as many as there are seats lie before the data: checked when it
        // was made or attached. Every process touches their words with atomics only.
        unsafe { std::slice::from_raw_parts(self.records_start().as_ptr(), used) }
    }

    fn record(&self, seat: u16) -> &Record {
        assert!(usize::from(seat) < self.shape.seats, "seats are taken from those that there are");
        // SAFETY: as in `records`, for one of them.
        unsafe { self.records_start().add(usize::from(seat)).as_ref() }
    }

    fn records_start(&self) -> NonNull<Record> {
        // SAFETY: within the file, as said in `records`.
        unsafe { self.mapping.base().add(self.shape.records_offset) }.cast()
    }

    /// A word of the region header. Of a read-only attachment it must only be loaded.
    fn header_word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the region header lies in the first page, its words are aligned, and touched with atomics once it is mapped.
        unsafe { AtomicU64::from_ptr(self.mapping.base().add(REGION_HEADER_OFFSET + offset).as_ptr().cast()) }
    }
}

impl AsFd for RegionMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl Drop for RegionMemory {
    fn drop(&mut self) {
        // What a forked child has is a copy; the parent's list and its locks are none of its business.
        if !self.process.is_parent() {
            registry::leave(self.mapping.base());
        }
    }
}

/// Bytes of the file of a region with so many bytes of data.
fn file_bytes(shape: &Shape, data_bytes: u64) -> Result<u64, Error> {
    let limit = (shape.reserve_bytes - shape.data_offset) as u64;
    if data_bytes == 0 || data_bytes > limit {
        return Err(Error::Limit { what: "bytes of data", value: data_bytes, limit });
    }
    Ok((shape.data_offset as u64 + data_bytes).next_multiple_of(REGION_ALIGN as u64))
}

/// Who we are, for the others' lists.
fn who() -> u64 {
    u64::from(process::pid()) << 32 | u64::from(process::tid())
}
