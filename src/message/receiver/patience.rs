//! How long a receiver polls before it sleeps: what was in vain lately is done seldom.
//!
//! Polling spares the sender a system call and the message a wake-up, if the message comes soon. If messages come later than that, as
//! from a network, or one each millisecond, it takes a processor from whoever is to send them.

/// Waits in a row in which polling was in vain, after which it is done seldom.
const VAIN_MAX: u32 = 8;
/// Of such waits, one in so many polls all the same: messages may come sooner again.
const PROBE_EVERY: u32 = 16;

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

    /// This wait has ended while polling, or that was in vain.
    pub(super) fn learn(&mut self, was_in_vain: bool) {
        self.vain = if was_in_vain { self.vain.wrapping_add(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUALLY: u32 = 2_300;

    #[test]
    fn what_is_in_vain_is_done_seldom_and_taken_up_again_when_it_is_not() {
        let mut patience = Patience::default();
        let waits = |patience: &mut Patience, waits: u32| -> u32 {
            (0..waits)
                .map(|_| {
                    let polls = patience.polls(USUALLY);
                    patience.learn(true);
                    u32::from(polls == USUALLY)
                })
                .sum()
        };
        assert_eq!(waits(&mut patience, VAIN_MAX), VAIN_MAX);
        assert_eq!(waits(&mut patience, 10 * PROBE_EVERY), 10);
        patience.learn(false);
        assert_eq!(patience.polls(USUALLY), USUALLY);
    }
}
