//! Timers of a wait set: when each is due next, in order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A timer in a wait set, made by [`WaitSet::every`](crate::WaitSet::every) or [`WaitSet::after`](crate::WaitSet::after).
#[derive(Debug)]
pub struct Timer {
    /// `None` if it is over after one time.
    period: Option<Duration>,
    /// `None` if that is beyond the clock.
    due: Option<Instant>,
    count: u64,
}

impl Timer {
    pub(super) fn every(period: Duration) -> Self {
        let period = period.max(Duration::from_nanos(1));
        Self { period: Some(period), due: Instant::now().checked_add(period), count: 0 }
    }

    pub(super) fn after(delay: Duration) -> Self {
        Self { period: None, due: Instant::now().checked_add(delay), count: 0 }
    }

    /// How often it has become due, up to when the set said last that it was ready: where the program was late, several
    /// times are said at once.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_periodic(&self) -> bool {
        self.period.is_some()
    }

    /// It has been said to be ready: what has passed is counted, and it is due at the next full period.
    pub(super) fn go_on(&mut self, now: Instant) {
        let (Some(due), Some(period)) = (self.due, self.period) else { return };
        let late = now.saturating_duration_since(due).as_nanos() / period.as_nanos();
        let times = u64::try_from(late).unwrap_or(u64::MAX - 1) + 1;
        self.count = self.count.saturating_add(times);
        let passed = u64::try_from(period.as_nanos()).ok().and_then(|period| period.checked_mul(times));
        self.due = passed.and_then(|passed| due.checked_add(Duration::from_nanos(passed)));
    }
}

/// Timers that are not due yet.
#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: BTreeSet<(Instant, u32)>,
}

impl Timers {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn insert(&mut self, due: Option<Instant>, slot: u32) {
        self.waiting.extend(due.map(|due| (due, slot)));
    }

    pub(super) fn remove(&mut self, due: Option<Instant>, slot: u32) {
        if let Some(due) = due {
            self.waiting.remove(&(due, slot));
        }
    }

    /// When the first of them will be due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// Takes out one that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        self.waiting.pop_first().map(|(_, slot)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_that_passed_unseen_are_counted_and_the_rhythm_stays() {
        let mut timer = Timer::every(Duration::from_secs(1));
        let first = timer.due().expect("it is soon");
        timer.go_on(first);
        assert_eq!((timer.count(), timer.due()), (1, Some(first + Duration::from_secs(1))));
        timer.go_on(first + Duration::from_millis(3500));
        assert_eq!((timer.count(), timer.due()), (4, Some(first + Duration::from_secs(4))));
    }

    #[test]
    fn a_timer_beyond_the_clock_is_never_due() {
        let mut timers = Timers::default();
        timers.insert(Timer::after(Duration::MAX).due(), 0);
        assert!(timers.is_empty() && timers.next().is_none());
        let mut longest = Timer::every(Duration::MAX);
        longest.go_on(Instant::now());
        assert_eq!((longest.due(), longest.count()), (None, 0));
    }

    #[test]
    fn timers_are_due_in_their_order() {
        let now = Instant::now();
        let mut timers = Timers::default();
        for slot in [3, 1, 2] {
            timers.insert(now.checked_add(Duration::from_secs(slot.into())), slot);
        }
        assert_eq!(timers.take_due(now), None);
        assert_eq!(timers.take_due(now + Duration::from_secs(1)), Some(1));
        timers.remove(now.checked_add(Duration::from_secs(2)), 2);
        assert_eq!(timers.next(), now.checked_add(Duration::from_secs(3)));
    }
}
