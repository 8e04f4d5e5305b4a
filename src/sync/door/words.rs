//! Loom's atomics, with every pair of accesses to a word explored in both orders.
//!
//! Loom looks for orders to explore by the last access to a word alone. Where one thread loads a word, and another loads it and then
//! stores to it, its own load is the last: that the store might have come before the first thread's load is never tried. So
//! each access begins with an addition of zero to a second word that means nothing, which orders no memory, and which
//! no two accesses leave alone.

use std::fmt;

use loom::sync::atomic;
pub(crate) use loom::sync::atomic::Ordering;

macro_rules! word {
    ($name:ident, $value:ty) => {
        pub(crate) struct $name {
            word: atomic::$name,
            turn: atomic::AtomicU32,
        }

        impl $name {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self { word: atomic::$name::new(value), turn: atomic::AtomicU32::new(0) }
            }

            #[track_caller]
            fn word(&self) -> &atomic::$name {
                self.turn.fetch_add(0, Ordering::Relaxed);
                &self.word
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.word().load(order)
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.word().store(value, order);
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                self.word().swap(value, order)
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.word().compare_exchange(current, new, success, failure)
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut value = self.load(fetch);
                while let Some(next) = change(value) {
                    match self.compare_exchange(value, next, set, fetch) {
                        Ok(before) => return Ok(before),
                        Err(now) => value = now,
                    }
                }
                Err(value)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.word.fmt(formatter)
            }
        }
    };
}

word! { AtomicU64, u64 }
word! { AtomicU32, u32 }
word! { AtomicBool, bool }

macro_rules! number {
    ($name:ident, $value:ty, $($operation:ident)*) => {
        impl $name { $(
            #[track_caller]
            pub(crate) fn $operation(&self, value: $value, order: Ordering) -> $value {
                self.word().$operation(value, order)
            }
        )* }
    };
}

number! { AtomicU64, u64, fetch_add fetch_sub fetch_and fetch_or fetch_max fetch_min }
number! { AtomicU32, u32, fetch_add fetch_sub fetch_and fetch_or fetch_max fetch_min }
