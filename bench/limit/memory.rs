//! Memory that a parent and its child map, and the processor's own clock: what the limits stand on.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Zeroed shared memory, mapped and populated. A child maps it again by its number, which it inherits.
pub struct Shared {
    base: *mut u8,
    bytes: usize,
    file: Option<OwnedFd>,
}

impl Shared {
    /// Fresh memory that children inherit.
    pub fn create(bytes: usize) -> std::io::Result<Self> {
        let file = memfd_create("bench", MemfdFlags::empty())?;
        ftruncate(&file, bytes as u64)?;
        Ok(Self { base: Self::map(&file, bytes)?, bytes, file: Some(file) })
    }

    /// The parent's memory, in a child.
    pub fn inherit(number: i32, bytes: usize) -> std::io::Result<Self> {
        // SAFETY: the parent left this descriptor open for us, and nobody here closes it.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        Ok(Self { base: Self::map(file, bytes)?, bytes, file: None })
    }

    fn map(file: impl std::os::fd::AsFd, bytes: usize) -> std::io::Result<*mut u8> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        Ok(unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, file, 0) }?.cast())
    }

    /// The number under which a child inherits it.
    pub fn number(&self) -> i32 {
        self.file.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// The address of a part that starts at `offset`.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.bytes, "parts lie in the memory");
        self.base.wrapping_add(offset)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; the ends over it are gone, as they are used while this is borrowed.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}

/// A descriptor that the parent left open for this child.
pub fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the parent names each descriptor once, and nothing else in this process owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The processor's own clock, which all its cores share.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has this instruction.
    return unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: reads the virtual counter, which Linux lets user space do.
        unsafe { std::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks) };
        ticks
    }
}

/// Nanoseconds of one tick, measured against the system's clock.
pub fn tick_ns() -> f64 {
    let (start, start_ticks) = (std::time::Instant::now(), ticks());
    while start.elapsed().as_millis() < 20 {}
    let ticks = ticks() - start_ticks;
    start.elapsed().as_nanos() as f64 / ticks as f64
}

/// Both ends that one process has of a pair of links over shared memory: the first `Link` of the memory leads
/// from the parent to the child, the second back.
pub trait Pair: Sized {
    /// Bytes that one link takes.
    const BYTES: usize;

    /// An end of the link at this address.
    ///
    /// # Safety
    /// - As for the link's own constructor.
    unsafe fn at(base: *mut u8) -> Self;

    /// The two ends over memory that holds two links.
    fn pair(shared: &Shared) -> (Self, Self) {
        assert!(shared.bytes >= 2 * Self::BYTES, "the memory holds two links");
        // SAFETY: mapped, page-aligned and zeroed; parent and child each call this once for a memory.
        unsafe { (Self::at(shared.at(0)), Self::at(shared.at(Self::BYTES))) }
    }
}

impl<const WORDS: usize> Pair for super::Ring<WORDS> {
    const BYTES: usize = Self::BYTES.next_multiple_of(4096);
    unsafe fn at(base: *mut u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::new(base) }
    }
}

impl<const WORDS: usize> Pair for super::pool::Pool<WORDS> {
    const BYTES: usize = Self::BYTES.next_multiple_of(4096);
    unsafe fn at(base: *mut u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::new(base) }
    }
}

impl Pair for super::futex::Handover {
    const BYTES: usize = super::futex::BYTES;
    unsafe fn at(base: *mut u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::new(base) }
    }
}
