//! What a typed region may hold.

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
};

use crate::message::Message;
use crate::node::TypeDescriptor;
use crate::segment::region::Placeable;
use crate::sync::lock::{Barrier, Condvar, Counter, EventFlag, Mutex, Once, RwLock, Semaphore, SeqLock};

/// A type that a region can hold: locks, atomic numbers, arrays and structs of them.
///
/// `#[derive(Shared)]` implements it for `#[repr(C)]` structs whose fields all are such types:
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use tidepost::{Mutex, Shared};
///
/// #[derive(Shared)]
/// #[repr(C)]
/// struct Account {
///     changes: AtomicU64,
///     balance: Mutex<i64>,
/// }
/// assert_eq!(Account::descriptor().fields[1].offset, 8);
/// ```
///
/// Plain numbers may be fields as well: they are set when the region is made, and only read after that.
pub trait Shared: Placeable + Sized {
    /// The type's name and layout, which everybody who attaches a region compares with what is in it.
    fn descriptor() -> TypeDescriptor;
}

macro_rules! numbers {
    ($($type:ty)*) => { $(
        impl Shared for $type {
            fn descriptor() -> TypeDescriptor {
                TypeDescriptor::of_primitive::<$type>(stringify!($type))
            }
        }
    )* };
}

numbers! { AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicI8 AtomicI16 AtomicI32 AtomicI64 }
numbers! { u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 }

numbers! { Barrier Condvar Counter EventFlag Once Semaphore }

impl<T: Shared, const N: usize> Shared for [T; N] {
    fn descriptor() -> TypeDescriptor {
        TypeDescriptor::of_primitive::<Self>(format!("[{}; {N}]", T::descriptor().name))
    }
}

impl<T: Message> Shared for Mutex<T> {
    fn descriptor() -> TypeDescriptor {
        let of = T::descriptor();
        let fields = TypeDescriptor::nested_fields("value", Self::VALUE_OFFSET, &of);
        TypeDescriptor::of_struct::<Self>(format!("Mutex<{}>", of.name), fields)
    }
}

impl<T: Message + Sync> Shared for RwLock<T> {
    fn descriptor() -> TypeDescriptor {
        let of = T::descriptor();
        let fields = TypeDescriptor::nested_fields("value", Self::VALUE_OFFSET, &of);
        TypeDescriptor::of_struct::<Self>(format!("RwLock<{}>", of.name), fields)
    }
}

impl<T: Message> Shared for SeqLock<T> {
    fn descriptor() -> TypeDescriptor {
        let of = T::descriptor();
        // The first of its two buffers.
        let fields = TypeDescriptor::nested_fields("value", Self::VALUE_OFFSET, &of);
        TypeDescriptor::of_struct::<Self>(format!("SeqLock<{}>", of.name), fields)
    }
}
