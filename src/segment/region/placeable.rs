//! What may lie in a region.

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
};

/// What may lie in memory that several processes share. Implemented by `#[derive(Shared)]`.
///
/// # Safety
/// - All zero bytes are a value of the type, and so is whatever a process may make of it that has it by reference: as every
///   process does.
/// - It is `Sync` whatever process a thread belongs to: nothing in it is an address, a descriptor, or means anything in one process
///   alone.
/// - Dropping it does nothing.
pub unsafe trait Placeable: Sync + 'static {}

macro_rules! placeable {
    ($($type:ty)*) => { $(
        // SAFETY: any bytes are such a number, and it is changed by atomic operations alone.
        unsafe impl Placeable for $type {}
    )* };
}

placeable! { AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicI8 AtomicI16 AtomicI32 AtomicI64 }

macro_rules! constant {
    ($($type:ty)*) => { $(
        // SAFETY: any bytes are such a number; who has it by reference only reads it.
        unsafe impl Placeable for $type {}
    )* };
}

constant! { u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 }

// SAFETY: as each element.
unsafe impl<T: Placeable, const N: usize> Placeable for [T; N] {}
