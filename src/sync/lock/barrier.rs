//! A barrier in a region.

use std::time::Duration;

use super::nap;
use crate::sync::door::{AtomicU64, Deadline, Ordering, futex};

/// Where the number of those who have arrived begins; below it, the round.
const ARRIVED_SHIFT: u32 = 32;

/// A point at which processes wait for each other, again and again.
///
/// All zero bytes are one for a single participant; say how many there are when the region is made:
/// [`set_participants`](Self::set_participants). Who dies while it waits has arrived. Who dies before that leaves the others waiting,
/// which a time-out ends: it counts as not having arrived then.
#[derive(Debug)]
#[repr(C)]
pub struct Barrier {
    /// The round in the lower half, those who have arrived in the upper one: both change at once, so that no death leaves half.
    state: AtomicU64,
    participants: u32,
    reserved: u32,
}

/// What a barrier was passed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Whether this was the last to arrive: one of each round is.
    pub is_leader: bool,
}

impl Barrier {
    #[cfg(loom)]
    pub(super) fn new(participants: u32) -> Self {
        Self { state: AtomicU64::new(0), participants, reserved: 0 }
    }

    /// For how many it is; none counts as one.
    pub fn set_participants(&mut self, participants: u32) {
        self.participants = participants;
    }

    /// Waits for all the others.
    pub fn wait(&self) -> Passed {
        let passed = self.wait_until(Deadline::NEVER);
        debug_assert!(passed.is_some(), "there is no deadline");
        passed.unwrap_or(Passed { is_leader: false })
    }

    /// Waits for all the others, no longer than this; `None` if they have not all come.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Passed> {
        self.wait_until(Deadline::after(timeout))
    }

    /// How many have arrived and wait for others.
    pub fn waiting(&self) -> u32 {
        (self.state.load(Ordering::Relaxed) >> ARRIVED_SHIFT) as u32
    }

    fn wait_until(&self, deadline: Deadline) -> Option<Passed> {
        let mut state = self.state.load(Ordering::Relaxed);
        let round = loop {
            let (round, arrived) = (state as u32, ((state >> ARRIVED_SHIFT) as u32).saturating_add(1));
            let is_last = arrived >= self.participants;
            let next = if is_last {
                u64::from(round.wrapping_add(1))
            } else {
                u64::from(arrived) << ARRIVED_SHIFT | u64::from(round)
            };
            // What each did before is seen by all after.
            match self.state.compare_exchange(state, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if is_last => {
                    futex::wake(&self.state);
                    return Some(Passed { is_leader: true });
                }
                Ok(_) => break round,
                Err(now) => state = now,
            }
        };
        let passed = Some(Passed { is_leader: false });
        if nap::while_it_says(&self.state, round, deadline) {
            return passed;
        }
        // Takes the arrival back, unless the last has come meanwhile.
        let less = |state: u64| (state as u32 == round).then(|| state.saturating_sub(1 << ARRIVED_SHIFT));
        match self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) {
            Ok(_) => None,
            Err(_) => passed,
        }
    }
}
