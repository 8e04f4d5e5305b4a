//! Which of what is in here may lie in a region, and why.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Barrier, Condvar, Counter, EventFlag, Mutex, Once, RwLock, Semaphore, SeqLock};
use crate::segment::region::Placeable;

macro_rules! placeable {
    ($($type:ty)*) => { $(
        // SAFETY: atomic numbers, and a barrier's participants, which are set before anybody else sees it. Any values are some, and
        // all zero is a free one; none means anything in one process alone.
        unsafe impl Placeable for $type {}
    )* };
}

placeable! { Barrier Condvar Counter EventFlag Once Semaphore }

// SAFETY: all zero bytes are a free lock around a zeroed value; the value has no padding and takes any bytes, so that no
// process can put in one that is none; nothing in it points anywhere.
unsafe impl<T: FromBytes + IntoBytes + Send + 'static> Placeable for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: FromBytes + IntoBytes + Send + Sync + 'static> Placeable for RwLock<T> {}
// SAFETY: as above.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Send + 'static> Placeable for SeqLock<T> {}
