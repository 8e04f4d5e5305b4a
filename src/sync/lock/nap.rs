//! Sleeping on a word of 32 bits in a region, where nobody owns anything.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::os::clock::Deadline;
use crate::os::futex;

/// How long anybody sleeps without looking again: whoever was woken instead may have died, and passed nothing on.
const SLICE: Duration = Duration::from_millis(50);

/// Sleeps while the word says `seen`, until the deadline; whether it says something else now.
pub(super) fn while_it_says(word: &AtomicU32, seen: u32, deadline: Deadline) -> bool {
    loop {
        if word.load(Ordering::Acquire) != seen {
            return true;
        }
        if deadline.has_passed() {
            return false;
        }
        futex::wait(word, seen, deadline.or_at(Some(Instant::now() + SLICE)));
    }
}

/// The half of a word that futexes look at: the lower one, which comes first on the processors that there are.
pub(super) fn low_half(word: &AtomicU64) -> &AtomicU32 {
    const { assert!(cfg!(target_endian = "little"), "the lower half comes first") };
    // SAFETY: four aligned bytes of the word, for as long as it is borrowed. They are only looked at as such, by this process and
    // by the kernel; the processors that there are do that in one piece.
    unsafe { AtomicU32::from_ptr(std::ptr::from_ref(word).cast_mut().cast()) }
}
