//! Which regions this process has attached, by address: so that a lock finds its region without being told.
//!
//! Each process has a list of its own: a forked child begins with none, whoever held the parent's locked at the fork. The
//! *epoch* rises with every change, starts elsewhere in each process, and is wiped in a forked child; what a thread has
//! remembered of the list holds as long as the epoch stands.

use std::collections::BTreeMap;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::RegionMemory;
use crate::os::fork::{self, Process};

/// Epochs of one process are told from another's by the bits above these.
const EPOCH_BITS: u32 = 40;

struct Registry {
    process: Process,
    /// By their first address.
    regions: RwLock<BTreeMap<usize, Weak<RegionMemory>>>,
}

/// The list of this process, or of the one it was forked from.
static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(ptr::null_mut());

/// What the list says of an address.
pub(super) enum Found {
    Region(Arc<RegionMemory>),
    /// It lies in no region.
    Nothing,
    /// We have none attached, and the process from which we were forked had.
    Forked,
}

/// The epoch now.
pub(super) fn epoch() -> &'static AtomicU64 {
    fork::epoch()
}

/// The region in which an address lies.
pub(super) fn find(address: usize) -> Found {
    let Some(registry) = current() else { return Found::Nothing };
    if registry.process.is_parent() {
        return Found::Forked;
    }
    let regions = registry.regions.read().unwrap_or_else(PoisonError::into_inner);
    let below = regions.range(..=address).next_back();
    let below = below.and_then(|(start, region)| Some((*start, region.upgrade()?)));
    // It may be the last that holds this region, which then takes itself off the list.
    drop(regions);
    let region = below.filter(|(start, region)| address - start < region.mapping.bytes());
    let region = region.map(|(_, region)| region);
    region.map_or(Found::Nothing, Found::Region)
}

/// Puts a region on the list.
pub(super) fn enter(region: &Arc<RegionMemory>) {
    let registry = own();
    let mut regions = registry.regions.write().unwrap_or_else(PoisonError::into_inner);
    regions.insert(region.mapping.base().as_ptr().addr(), Arc::downgrade(region));
    epoch().fetch_add(1, Ordering::Release);
}

/// Takes the region that begins there off the list, before it is unmapped.
pub(super) fn leave(start: NonNull<u8>) {
    let registry = own();
    let mut regions = registry.regions.write().unwrap_or_else(PoisonError::into_inner);
    regions.remove(&start.as_ptr().addr());
    epoch().fetch_add(1, Ordering::Release);
}

fn current() -> Option<&'static Registry> {
    // SAFETY: null, or a leaked registry that was complete when it was published.
    unsafe { REGISTRY.load(Ordering::Acquire).as_ref() }
}

/// The list of this process, made if it has none. A child leaves its parent's alone.
fn own() -> &'static Registry {
    loop {
        let found = REGISTRY.load(Ordering::Acquire);
        // SAFETY: as in `current`.
        if let Some(registry) = unsafe { found.as_ref() }.filter(|registry| !registry.process.is_parent()) {
            return registry;
        }
        let process = Process::current();
        let fresh = Box::into_raw(Box::new(Registry { process, regions: RwLock::default() }));
        match REGISTRY.compare_exchange(found, fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                epoch().fetch_max(process.number() << EPOCH_BITS, Ordering::Release);
            }
            // SAFETY: nobody has seen it.
            Err(_) => drop(unsafe { Box::from_raw(fresh) }),
        }
    }
}
