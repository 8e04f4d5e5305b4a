//! The algorithms over borrowed words: ring, cursor, pins, pool, bell.
//!
//! Nothing here knows of processes, files or sockets. What orders memory takes its atomics through [`door`], so
//! that loom checks the very files that ship; what knows of mapped memory is left out of those checks.

pub(crate) mod acks;
pub(crate) mod bell;
// Under loom, models stand in for the kernel's barrier.
#[cfg(any(not(loom), test))]
pub(crate) mod biased;
pub(crate) mod board;
#[cfg(not(loom))]
pub(crate) mod bulk;
#[cfg(not(loom))]
pub(crate) mod copy;
pub(crate) mod cursor;
pub(crate) mod door;
pub(crate) mod feed;
pub(crate) mod geometry;
pub(crate) mod lock;
#[cfg(all(loom, test))]
mod model;
pub(crate) mod pool;
pub(crate) mod readers;
pub(crate) mod rendezvous;
pub(crate) mod ring;
pub(crate) mod slot;
pub(crate) mod store_line;
#[cfg(not(loom))]
pub(crate) mod stream;
