//! Boards between endpoints: one writes, any number look, and nobody waits for them. What signals and tables have in common.

mod inlet;
mod outlet;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use inlet::{BoardInlet, Keeper, Sources, View};
pub(super) use outlet::{BoardShared, Origin};
pub(super) use watch::Watch;

/// The place of the next board's line, apart from those of the boards before it.
pub(super) fn next_place() -> u64 {
    static BOARDS_MADE: AtomicU64 = AtomicU64::new(0);
    BOARDS_MADE.fetch_add(1, Ordering::Relaxed)
}
