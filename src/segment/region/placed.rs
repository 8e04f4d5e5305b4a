//! A value in a region, found once.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Placeable, RegionMemory};

/// A value that lies in a region, which stays attached with it. Looking at it checks nothing any more.
#[derive(Debug)]
pub(crate) struct Placed<T> {
    _memory: Arc<RegionMemory>,
    place: NonNull<T>,
}

// SAFETY: it gives `&T`, which is `Sync`, and the memory, which is `Send` and `Sync`.
unsafe impl<T: Placeable> Send for Placed<T> {}
// SAFETY: as above.
unsafe impl<T: Placeable> Sync for Placed<T> {}

impl<T: Placeable> Placed<T> {
    /// The value at this place; `None` as for [`RegionMemory::place`].
    pub(crate) fn find(memory: &Arc<RegionMemory>, offset: usize) -> Option<Self> {
        let place = NonNull::from(memory.place(offset)?);
        Some(Self { _memory: Arc::clone(memory), place })
    }
}

impl<T: Placeable> Deref for Placed<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: it was there when it was found; a region does not shrink, and this one is attached as long as `self` lives.
        unsafe { self.place.as_ref() }
    }
}
