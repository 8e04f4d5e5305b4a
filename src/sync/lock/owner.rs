//! Who has a lock, for people.

use std::fmt;
use std::mem::offset_of;
use std::time::Duration;

use super::RawLock;
use crate::layout::owner::Owner;
use crate::os::clock;
use crate::segment::region::RegionMemory;
use crate::sync::bulk;

/// Who has a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOwner {
    /// Its process, as it knows itself; zero if another has taken its seat since. For people: in another PID namespace it may
    /// mean another.
    pub process: u32,
    /// Its thread, likewise.
    pub thread: u32,
    /// Whether it is there.
    pub is_alive: bool,
    /// For how long those who wait have seen it have the lock; `None` if nobody has had to wait.
    pub seen_for: Option<Duration>,
}

impl fmt::Display for LockOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {}, thread {}", self.process, self.thread)?;
        if let Some(seen_for) = self.seen_for {
            write!(formatter, ", for at least {seen_for:.1?}")?;
        }
        if self.is_alive { Ok(()) } else { formatter.write_str(", which is dead") }
    }
}

impl LockOwner {
    /// An owner in this region, whom somebody who waited first saw at that time.
    #[cold]
    pub(super) fn of(region: &RegionMemory, owner: Owner, seen_since: Option<u64>) -> Self {
        let occupant = region.occupant(owner);
        Self {
            process: occupant.map_or(0, |occupant| occupant.process),
            thread: occupant.map_or(0, |occupant| occupant.thread),
            is_alive: region.is_alive(owner),
            seen_for: seen_since
                .map(|since| Duration::from_nanos(clock::monotonic_ns().saturating_sub(since))),
        }
    }
}

/// Who has the lock that lies so many bytes after a region's first, as its words say at this moment; `None` if it does not lie
/// within. Touches nothing.
pub(crate) fn owner_at(region: &RegionMemory, offset: usize) -> Option<Option<LockOwner>> {
    let mut words = [0; size_of::<RawLock>()];
    if !bulk::read_at(region, offset, &mut words) {
        return None;
    }
    let word = |offset: usize| words[offset..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let owner = Owner::from_bits(word(offset_of!(RawLock, word)));
    Some(owner.map(|owner| {
        let is_seen = word(offset_of!(RawLock, seen)) == owner.bits();
        let since = is_seen.then(|| word(offset_of!(RawLock, seen_since)));
        LockOwner::of(region, owner, since)
    }))
}

/// Who reads, and is there: how many bytes after a region's first the reader-writer lock lies, for each share in one.
pub(crate) fn readers(region: &RegionMemory) -> Vec<(usize, LockOwner)> {
    let occupants = region.occupants().into_iter().map(|(owner, _)| owner);
    let shares = occupants.flat_map(|owner| {
        let record = region.records().get(owner.seat());
        let places = record.into_iter().flat_map(|record| record.places_shared());
        places.map(move |place| (owner, place))
    });
    // Shares count from where the region begins, headers and all.
    let of_data = |place: u64| usize::try_from(place).ok()?.checked_sub(region.shape().data_offset);
    shares.filter_map(|(owner, place)| Some((of_data(place)?, LockOwner::of(region, owner, None)))).collect()
}
