//! Messages that somebody passes on for their first sender, on another machine for instance.
//!
//! Before each is whose it was and which number it had there. Whoever passes messages on may be killed, and another takes its
//! place: by those numbers, what was lost between the two is known, and nothing is taken twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// First senders that are remembered when nobody passes their messages on.
const ORIGINS_MAX: usize = 1024;
/// A number that no message has.
const NONE: u64 = u64::MAX;

/// Who sent a message first.
type Origin = [u64; 3];

/// What is said before a message that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Relay {
    origin: Origin,
    /// Those of one origin count from 0; [`NONE`] if they are not counted.
    number: u64,
    /// Messages that are known to be missing before it.
    lost: u64,
}

impl Relay {
    /// What is said at a place in what comes before a message, which its sender may have written wrong.
    fn read(before: &[u8], at: usize) -> Option<Self> {
        let words = before.get(at..)?.first_chunk::<40>()?;
        let word = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&words[8 * index..8 * (index + 1)]);
            u64::from_ne_bytes(bytes)
        };
        Some(Self { origin: [word(0), word(1), word(2)], number: word(3), lost: word(4) })
    }
}

/// For each first sender, the number of the message after the last that was taken: for all streams of one receiver.
#[derive(Debug, Default)]
pub(crate) struct Origins(Mutex<HashMap<Origin, Arc<AtomicU64>>>);

impl Origins {
    fn next_of(&self, origin: Origin) -> Arc<AtomicU64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ORIGINS_MAX && !known.contains_key(&origin) {
            known.retain(|_, next| Arc::strong_count(next) > 1);
        }
        Arc::clone(known.entry(origin).or_insert_with(|| Arc::new(AtomicU64::new(NONE))))
    }
}

/// One stream of such messages.
#[derive(Debug)]
pub(crate) struct Relaying {
    /// Where before a message it is said.
    at: usize,
    origins: Arc<Origins>,
    /// Whose messages these are, mostly all of them, and the number of the next.
    current: Option<(Origin, Arc<AtomicU64>)>,
}

impl Relaying {
    /// A stream whose messages say so at `at` in what comes before them.
    pub(crate) fn new(at: usize, origins: Arc<Origins>) -> Self {
        Self { at, origins, current: None }
    }

    fn next_of(&mut self, origin: Origin) -> &AtomicU64 {
        let origins = &self.origins;
        if self.current.as_ref().is_none_or(|(current, _)| *current != origin) {
            self.current = Some((origin, origins.next_of(origin)));
        }
        // It was set just now if it was not before.
        &self.current.get_or_insert_with(|| (origin, origins.next_of(origin))).1
    }

    /// Whether this message has been taken already, or a later one, from whoever passed it on.
    pub(super) fn has_come_before(&mut self, before: &[u8]) -> bool {
        match Relay::read(before, self.at) {
            Some(Relay { origin, number, .. }) if number != NONE => {
                let next = self.next_of(origin).load(Ordering::Relaxed);
                next != NONE && number < next
            }
            _ => false,
        }
    }

    /// The message is taken: how many are missing before it, other than those of this stream that are known to be lost.
    pub(super) fn take(&mut self, before: &[u8], lost_here: u64) -> u64 {
        let Some(Relay { origin, number, lost }) = Relay::read(before, self.at) else { return 0 };
        if number == NONE {
            return lost;
        }
        let next = self.next_of(origin);
        let due = next.swap(number.saturating_add(1).min(NONE - 1), Ordering::Relaxed);
        if due == NONE { lost } else { number.saturating_sub(due).saturating_sub(lost_here) }
    }

    /// Whether these messages and the other's are of the same first sender.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let origin = |relaying: &Self| relaying.current.as_ref().map(|(origin, _)| *origin);
        origin(self).is_some() && origin(self) == origin(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(origin: Origin, number: u64, lost: u64) -> Vec<u8> {
        let words = [0x5a5a, origin[0], origin[1], origin[2], number, lost];
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn stream(origins: &Arc<Origins>) -> Relaying {
        Relaying::new(8, Arc::clone(origins))
    }

    #[test]
    fn what_is_missing_is_known_whoever_passes_on() {
        let origins = Arc::<Origins>::default();
        let mut first = stream(&origins);
        assert_eq!(first.take(&before([1; 3], 7, 2), 0), 2, "nothing is known but what is said");
        assert_eq!(first.take(&before([1; 3], 8, 5), 0), 0, "numbers say more than what is said");
        drop(first);
        let mut second = stream(&origins);
        assert!(second.has_come_before(&before([1; 3], 8, 0)));
        assert!(!second.has_come_before(&before([1; 3], 9, 0)));
        assert!(!second.has_come_before(&before([2; 3], 8, 0)), "it is somebody else's");
        assert_eq!(second.take(&before([1; 3], 19, 0), 4), 6, "of ten four were lost here");
    }

    #[test]
    fn what_has_no_number_counts_as_it_says() {
        let mut stream = stream(&Arc::default());
        for _ in 0..2 {
            assert!(!stream.has_come_before(&before([0; 3], NONE, 3)));
            assert_eq!(stream.take(&before([0; 3], NONE, 3), 0), 3);
        }
    }

    #[test]
    fn whatever_is_said_is_borne() {
        let mut stream = stream(&Arc::default());
        assert_eq!((stream.has_come_before(&[1; 47]), stream.take(&[1; 47], 0)), (false, 0));
        assert_eq!(stream.take(&before([1; 3], NONE - 1, 0), 0), 0);
        assert_eq!(stream.take(&before([1; 3], 0, 0), u64::MAX), 0);
        assert_eq!(stream.take(&before([1; 3], NONE - 1, 0), 0), NONE - 2);
    }

    #[test]
    fn as_many_are_remembered_as_may_be() {
        let origins = Arc::<Origins>::default();
        let mut kept = stream(&origins);
        kept.take(&before([9; 3], 5, 0), 0);
        for number in 0..2 * ORIGINS_MAX as u64 {
            stream(&origins).take(&before([number, 0, 0], 1, 0), 0);
        }
        assert!(origins.0.lock().expect("nobody panics").len() <= ORIGINS_MAX);
        assert!(stream(&origins).has_come_before(&before([9; 3], 5, 0)), "who is there is not forgotten");
    }
}
