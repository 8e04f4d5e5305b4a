//! Deadlines: when a bounded wait has to end.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The end of a wait; `None` never comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// A wait without end.
    pub(crate) const NEVER: Self = Self(None);

    /// `timeout` from now; a time-out too long for the clock never comes.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// A wait that ends at this instant.
    pub(crate) const fn at(end: Instant) -> Self {
        Self(Some(end))
    }

    /// Whichever of the two comes first.
    pub(crate) fn or_at(self, end: Option<Instant>) -> Self {
        match (self.0, end) {
            (Some(ours), Some(end)) => Self(Some(ours.min(end))),
            (ours, end) => Self(ours.or(end)),
        }
    }

    /// This, or so long from now, whichever comes first.
    pub(crate) fn or_after(self, slice: Duration) -> Self {
        self.or_at(Instant::now().checked_add(slice))
    }

    /// Whether the end has come.
    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// What is left until the end, zero once it has come; `None` for a wait without end.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// The end itself.
    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }
}

/// Milliseconds of the machine's monotonic clock, as of its last tick: a few nanoseconds to read. Processes of one machine
/// read the same, unless they are in time namespaces of different offsets.
#[inline]
pub(crate) fn coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Nanoseconds of the machine's monotonic clock, of which the same holds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_beyond_the_clock_never_comes() {
        assert!(!Deadline::after(Duration::MAX).has_passed());
        assert_eq!(Deadline::NEVER.remaining(), None);
    }

    #[test]
    fn of_two_ends_the_first_comes() {
        let (now, far) = (Instant::now(), Duration::from_secs(3600));
        assert!(Deadline::after(far).or_at(Some(now)).has_passed());
        assert!(Deadline::NEVER.or_at(Some(now)).has_passed());
        assert!(Deadline::at(now).or_at(now.checked_add(far)).has_passed());
        assert!(Deadline::at(now).or_at(None).has_passed() && !Deadline::NEVER.or_at(None).has_passed());
    }

    #[test]
    fn a_deadline_of_now_has_passed() {
        let now = Deadline::after(Duration::ZERO);
        assert!(now.has_passed());
        assert_eq!(now.remaining(), Some(Duration::ZERO));
    }
}
