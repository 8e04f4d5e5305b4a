//! Sleeping on a word in a region, where nobody owns anything.

use std::time::Duration;

use crate::sync::door::{Deadline, futex};

/// How long anybody sleeps without looking again: whoever was woken instead may have died, and passed nothing on.
const SLICE: Duration = Duration::from_millis(50);

/// Sleeps while the word, or its lower half, says `seen`, until the deadline; whether it says something else now. What was
/// done before it was changed is seen.
pub(super) fn while_it_says(word: &impl futex::Word, seen: u32, deadline: Deadline) -> bool {
    loop {
        if word.low() != seen {
            return true;
        }
        if deadline.has_passed() {
            return false;
        }
        futex::wait(word, seen, deadline.or_after(SLICE));
    }
}
