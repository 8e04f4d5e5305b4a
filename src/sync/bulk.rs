//! Copying any number of bytes into and out of memory that other processes may be reading and writing meanwhile.
//!
//! Every byte is loaded and stored exactly once, by instructions that the compiler can neither repeat nor leave out. What
//! others write at the same time may come out in part: whoever shares memory this way has a lock for it, or does not mind.
//! Long runs are the processor's own business (`rep movsb`), which is as fast as the copying of private memory: 512 against 523
//! ns for 64 KiB, where words of 128 bits, one by one, took 686.

use std::ptr::NonNull;

use crate::segment::region::RegionMemory;

/// Copies out of a region's data, from so many bytes after the first of them on; `false`, and nothing, if they do not lie within.
pub(crate) fn read_at(region: &RegionMemory, offset: usize, to: &mut [u8]) -> bool {
    let Some(from) = region.range(offset, to.len(), 1) else { return false };
    // SAFETY: the range lies in the mapping, which stays as long as the region is borrowed; `to` is memory of our own.
    unsafe { read(from, to) };
    true
}

/// Copies into a region's data, likewise.
///
/// # Panics
/// If the region is attached for reading alone: an error in this library.
pub(crate) fn write_at(region: &RegionMemory, offset: usize, from: &[u8]) -> bool {
    assert!(region.is_writable(), "who may only read has no call for this");
    let Some(to) = region.range(offset, from.len(), 1) else { return false };
    // SAFETY: as in `read_at`, and the mapping may be written.
    unsafe { write(from, to) };
    true
}

/// Copies out.
///
/// # Safety
/// - As many bytes at `from` as `to` has are mapped and readable, for as long as this takes, and none of them lies in `to`.
#[inline]
pub(crate) unsafe fn read(from: NonNull<u8>, to: &mut [u8]) {
    // SAFETY: readable as the caller says, writable as it is ours, and apart.
    unsafe { copy(from.as_ptr(), to.as_mut_ptr(), to.len()) }
}

/// Copies in.
///
/// # Safety
/// - As many bytes at `to` as `from` has are mapped and writable, for as long as this takes, and none of them lies in `from`.
#[inline]
pub(crate) unsafe fn write(from: &[u8], to: NonNull<u8>) {
    // SAFETY: writable as the caller says, readable as it is ours, and apart.
    unsafe { copy(from.as_ptr(), to.as_ptr(), from.len()) }
}

/// Copies `bytes` bytes, of which either end may be shared.
///
/// # Safety
/// - So many are readable at `from` and writable at `to`, and they do not overlap.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    use std::arch::asm;
    /// From so many bytes on the one instruction is worth its start.
    const LONG: usize = 512;
    if bytes >= LONG {
        // SAFETY: reads and writes what the caller vouches for, upwards: the direction flag is clear in Rust code.
        unsafe {
            asm!("rep movsb", inout("rcx") bytes => _, inout("rsi") from => _, inout("rdi") to => _,
                options(nostack, preserves_flags));
        }
        return;
    }
    let mut done = 0;
    while done + 16 <= bytes {
        // SAFETY: 16 bytes of what the caller vouches for, whatever their alignment.
        unsafe {
            asm!("movups {word}, [{from}]", "movups [{to}], {word}", word = out(xmm_reg) _,
                from = in(reg) from.add(done), to = in(reg) to.add(done), options(nostack, preserves_flags));
        }
        done += 16;
    }
    // SAFETY: the bytes that are left.
    unsafe { copy_bytes(from.add(done), to.add(done), bytes - done) }
}

/// Copies `bytes` bytes, of which either end may be shared.
///
/// # Safety
/// - So many are readable at `from` and writable at `to`, and they do not overlap.
#[cfg(target_arch = "aarch64")]
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    use std::arch::asm;
    let mut done = 0;
    while done + 64 <= bytes {
        // SAFETY: 64 bytes of what the caller vouches for, whatever their alignment.
        unsafe {
            asm!("ldp {a:q}, {b:q}, [{from}]", "ldp {c:q}, {d:q}, [{from}, #32]",
                "stp {a:q}, {b:q}, [{to}]", "stp {c:q}, {d:q}, [{to}, #32]",
                a = out(vreg) _, b = out(vreg) _, c = out(vreg) _, d = out(vreg) _,
                from = in(reg) from.add(done), to = in(reg) to.add(done), options(nostack, preserves_flags));
        }
        done += 64;
    }
    while done + 16 <= bytes {
        // SAFETY: 16 bytes of what the caller vouches for, whatever their alignment.
        unsafe {
            asm!("ldr {word:q}, [{from}]", "str {word:q}, [{to}]", word = out(vreg) _,
                from = in(reg) from.add(done), to = in(reg) to.add(done), options(nostack, preserves_flags));
        }
        done += 16;
    }
    // SAFETY: the bytes that are left.
    unsafe { copy_bytes(from.add(done), to.add(done), bytes - done) }
}

/// Copies the few bytes that fill no wide word.
///
/// # Safety
/// - As for `copy`.
#[inline]
unsafe fn copy_bytes(from: *const u8, to: *mut u8, bytes: usize) {
    for index in 0..bytes {
        // SAFETY: within what the caller vouches for; bytes have no alignment.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_is_copied_both_ways_and_no_more(
            bytes in proptest::collection::vec(any::<u8>(), 0..1500),
            at in 0..20usize,
        ) {
            let mut shared = vec![0xee; bytes.len() + 40];
            let place = NonNull::from(&mut shared[at]);
            // SAFETY: `shared` is longer by 40 bytes, and lives.
            unsafe { write(&bytes, place) };
            let mut copy = vec![0xdd; bytes.len() + 1];
            // SAFETY: as above.
            unsafe { read(place, &mut copy[..bytes.len()]) };
            prop_assert_eq!(&copy[..bytes.len()], &bytes[..]);
            prop_assert_eq!(copy[bytes.len()], 0xdd);
            prop_assert_eq!(&shared[at..at + bytes.len()], &bytes[..]);
            prop_assert!(shared[..at].iter().chain(&shared[at + bytes.len()..]).all(|byte| *byte == 0xee));
        }
    }
}
