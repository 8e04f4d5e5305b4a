//! Deadlines: when a bounded wait has to end.

use std::time::{Duration, Instant};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_beyond_the_clock_never_comes() {
        assert!(!Deadline::after(Duration::MAX).has_passed());
        assert_eq!(Deadline::NEVER.remaining(), None);
    }

    #[test]
    fn a_deadline_of_now_has_passed() {
        let now = Deadline::after(Duration::ZERO);
        assert!(now.has_passed());
        assert_eq!(now.remaining(), Some(Duration::ZERO));
    }
}
