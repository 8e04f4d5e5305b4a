//! How long a receiver polls before it sleeps: what was in vain lately is done seldom.
//!
//! Polling spares the sender a system call and the message a wake-up, if the message comes soon. If messages come much later than that,
//! as from a network, or one each millisecond, it takes a processor from whoever is to send them.

use std::time::Duration;

/// Waits in a row in which polling was in vain, after which it is done seldom.
const VAIN_MAX: u32 = 8;
/// Of such waits, one in so many polls all the same: messages may come sooner again.
const PROBE_EVERY: u32 = 64;
/// A sleep as long says that polling would have been in vain. A shorter one, without polling before it, may be what it took to wake up,
/// here and where the message comes from.
const LONG: Duration = Duration::from_micros(100);

/// What came of polling lately.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Waits in a row in which it was in vain.
    vain: u32,
}

impl Patience {
    /// How often to poll in this wait, of the usual number of times.
    pub(super) fn polls(&self, usually: u32) -> u32 {
        let is_due = self.vain < VAIN_MAX || self.vain.is_multiple_of(PROBE_EVERY);
        if is_due { usually } else { 1 }
    }

    /// A wait is over, in which it was polled so often, and then slept so long.
    pub(super) fn learn(&mut self, polls: u32, slept: Duration) {
        let (has_polled, has_slept) = (polls > 1, slept > Duration::ZERO);
        match (has_polled, has_slept) {
            // What one look finds was there before the wait, and says nothing.
            (false, false) => {}
            (true, false) => self.vain = 0,
            // It is tried once: if that is in vain too, what comes comes later than the last poll each time.
            (false, true) if slept <= LONG => self.vain = VAIN_MAX - 1,
            (_, true) => self.vain = self.vain.wrapping_add(1),
        }
    }

    /// A wait is over that nothing has come of.
    pub(super) fn learn_in_vain(&mut self, slept: Duration) {
        if slept > LONG {
            self.vain = self.vain.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUALLY: u32 = 2_300;

    /// In how many of so many waits, each of which ends after a sleep as long, it is polled.
    fn polled(patience: &mut Patience, waits: u32, slept: Duration) -> u32 {
        let mut polled = 0;
        for _ in 0..waits {
            let polls = patience.polls(USUALLY);
            polled += u32::from(polls == USUALLY);
            patience.learn(polls, slept);
        }
        polled
    }

    #[test]
    fn what_is_in_vain_is_done_seldom() {
        let mut patience = Patience::default();
        assert_eq!(polled(&mut patience, VAIN_MAX, 2 * LONG), VAIN_MAX);
        assert_eq!(polled(&mut patience, 10 * PROBE_EVERY, 2 * LONG), 10);
    }

    /// The fear: what comes a little after the last poll is polled for each time, on the processor of whoever is to send it.
    #[test]
    fn who_sleeps_after_all_has_polled_in_vain() {
        let mut patience = Patience::default();
        for _ in 0..VAIN_MAX {
            assert_eq!(patience.polls(USUALLY), USUALLY);
            patience.learn(USUALLY, LONG / 2);
        }
        assert_eq!(patience.polls(USUALLY), 1);
        patience.learn(1, LONG / 2);
        assert_eq!(patience.polls(USUALLY), USUALLY, "it is tried again");
        patience.learn(USUALLY, LONG / 2);
        assert_eq!(patience.polls(USUALLY), 1, "once");
    }

    /// The fear: two that answer each other at once both sleep for ever, as neither polls when the other does.
    #[test]
    fn whoever_is_woken_soon_polls_again() {
        let mut patience = Patience::default();
        polled(&mut patience, 100, 2 * LONG);
        patience.learn(1, Duration::ZERO);
        assert_eq!(patience.polls(USUALLY), 1, "that one look finds something says nothing");
        patience.learn(1, LONG / 2);
        assert_eq!(patience.polls(USUALLY), USUALLY);
        polled(&mut patience, 100, 2 * LONG);
        patience.learn(USUALLY, Duration::ZERO);
        assert_eq!(patience.polls(USUALLY), USUALLY);
    }
}
