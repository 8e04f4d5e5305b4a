//! Model 1: memory. A region is made, other processes attach it, and read and write it in place; locks in it say whose turn it is.
//!
//! See [`RegionBuilder`] for how a region is made and attached, [`Region`] and [`ByteRegion`] for what can be done with it, and
//! [`Mutex`] for a lock that survives whoever has it.

mod builder;
mod error;
mod handing;
mod listing;
mod region;
mod shared;

pub use crate::segment::region::{Placeable, SeatError};
pub use crate::sync::lock::{
    Barrier, Condvar, Counter, EventFlag, LockError, LockOwner, Mutex, MutexGuard, Once, Passed, RwLock,
    RwLockReadGuard, RwLockWriteGuard, Semaphore, SeqLock,
};
pub use builder::RegionBuilder;
pub use error::RegionError;
pub use listing::RegionLock;
pub use region::{Attached, ByteRegion, ReadOnlyRegion, Region};
pub use shared::Shared;
