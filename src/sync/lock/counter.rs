//! A number in a region that many add to.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::os::process;

/// Parts that it is counted in.
const SHARDS: usize = 16;

/// A number that threads of many processes add to without getting into each other's way: it is counted in sixteen parts, each in a cache
/// line of its own. Adding is cheap; asking for the sum looks at all of them.
#[derive(Debug)]
#[repr(C)]
pub struct Counter {
    shards: [Shard; SHARDS],
}

#[derive(Debug)]
#[repr(C, align(128))]
struct Shard(AtomicU64);

thread_local! {
    /// Which part this thread adds to.
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// One after the other within a process; processes begin at different ones.
#[cold]
fn choose() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let shard = (process::pid() as usize).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % SHARDS;
    SHARD.set(Some(shard));
    shard
}

impl Counter {
    /// Adds so many. Never waits.
    #[inline]
    pub fn add(&self, count: u64) {
        let shard = SHARD.get().unwrap_or_else(choose);
        self.shards[shard].0.fetch_add(count, Ordering::Relaxed);
    }

    /// What has been added, modulo 2^64: all that came before this, and some of what comes meanwhile.
    pub fn sum(&self) -> u64 {
        let parts = self.shards.iter().map(|shard| shard.0.load(Ordering::Relaxed));
        parts.fold(0, u64::wrapping_add)
    }
}
