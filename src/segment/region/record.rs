//! A seat's record: who has it, and what its thread waits for and shares.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::layout::region::{self, RECORD_BYTES, SHARES, record};

/// The words of a seat. Its thread writes them; the others read, and clear what the dead have left.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Record {
    /// How often the seat was taken: written by each taker, while it has the lock on the seat's byte.
    pub(super) generation: AtomicU64,
    pub(super) who: AtomicU64,
    pub(super) since: AtomicU64,
    pub(super) kind: AtomicU64,
    /// The offset of the lock that the thread waits for; zero if none.
    pub(crate) waiting: AtomicU64,
    /// Its place in the order of those who wait.
    pub(crate) ticket: AtomicU64,
    rest: [u64; 2],
    /// Its shares in locks, each zero or an offset and a count.
    pub(crate) shares: [AtomicU64; SHARES],
}

const _: () = assert!(size_of::<Record>() == RECORD_BYTES);
const _: () = assert!(offset_of!(Record, generation) == record::GENERATION);
const _: () = assert!(offset_of!(Record, who) == record::WHO);
const _: () = assert!(offset_of!(Record, since) == record::SINCE);
const _: () = assert!(offset_of!(Record, kind) == record::KIND);
const _: () = assert!(offset_of!(Record, waiting) == record::WAITING);
const _: () = assert!(offset_of!(Record, ticket) == record::TICKET);
const _: () = assert!(offset_of!(Record, shares) == record::SHARES);

/// What a seat is taken for, and by whom, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupant {
    /// Whether it stands for a whole attachment, not for one thread.
    pub(crate) is_attachment: bool,
    /// The process in its own PID namespace.
    pub(crate) process: u32,
    /// The thread.
    pub(crate) thread: u32,
    /// Nanoseconds of the machine's monotonic clock at which it took the seat.
    pub(crate) since: u64,
}

impl Record {
    /// Offsets of the locks in which its thread has a share.
    pub(crate) fn places_shared(&self) -> impl Iterator<Item = u64> {
        let shares = self.shares.iter().map(|share| share.load(Ordering::Acquire));
        shares.filter(|share| *share != 0).map(|share| share >> region::SHARE_PLACE_SHIFT)
    }

    /// Whom the seat was last taken by, as they say.
    pub(crate) fn occupant(&self) -> Occupant {
        let who = self.who.load(Ordering::Relaxed);
        Occupant {
            is_attachment: self.kind.load(Ordering::Relaxed) == region::SEAT_PROCESS,
            process: (who >> 32) as u32,
            thread: who as u32,
            since: self.since.load(Ordering::Relaxed),
        }
    }
}
