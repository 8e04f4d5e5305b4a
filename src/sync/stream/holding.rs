//! Which pins of a cursor segment are taken, and by how many: private to the subscriber's process.

use std::sync::atomic::{AtomicU32, Ordering};

/// A count for each pin. Any thread takes, shares and returns pins.
#[derive(Debug)]
pub(super) struct Holdings {
    /// How many hold what each pin stands for; 0 is a free pin.
    holders: Box<[AtomicU32]>,
    /// No pin below is free, as far as anybody has noticed.
    lowest: AtomicU32,
    /// Samples that the program holds.
    held: AtomicU32,
    limit: u32,
}

impl Holdings {
    /// `pins` free pins, for a program that may hold `limit` samples.
    pub(super) fn new(pins: usize, limit: u32) -> Self {
        let holders = (0..pins).map(|_| AtomicU32::new(0)).collect();
        Self { holders, lowest: AtomicU32::new(0), held: AtomicU32::new(0), limit }
    }

    /// Counts one more sample that the program holds; `false` at the limit.
    pub(super) fn count_one(&self) -> bool {
        let more = |held| (held < self.limit).then_some(held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// The program holds one sample less.
    pub(super) fn count_off(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a free pin, the lowest that it finds: the publisher looks at no more pins than have ever been used.
    pub(super) fn take(&self) -> Option<u32> {
        let (count, from) = (self.holders.len() as u32, self.lowest.load(Ordering::Relaxed));
        // Acquire: pairs with the Release of who gave the pin back, after the store that freed it for the publisher.
        let take = |index: &u32| {
            let holders = &self.holders[*index as usize];
            holders.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let index = (from.min(count)..count).find(take).or_else(|| (0..from.min(count)).find(take))?;
        self.lowest.store(index + 1, Ordering::Relaxed);
        Some(index)
    }

    /// One more holds what a pin, which the caller holds, stands for.
    pub(super) fn share(&self, index: u32) {
        self.holders[index as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// One holds it less. The last one has `unpin` free the pin in shared memory first.
    pub(super) fn give_back(&self, index: u32, unpin: impl FnOnce()) {
        let holders = &self.holders[index as usize];
        loop {
            match holders.load(Ordering::Acquire) {
                // Nobody else holds it, so nobody can share it.
                1 => {
                    unpin();
                    holders.store(0, Ordering::Release);
                    self.lowest.fetch_min(index, Ordering::Relaxed);
                    return;
                }
                // Release: what was read through this share was read before the last one frees the pin.
                more => {
                    let less = holders.compare_exchange(more, more - 1, Ordering::Release, Ordering::Relaxed);
                    if less.is_ok() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_taken_from_below_and_come_back() {
        let holdings = Holdings::new(3, 3);
        let taken: Vec<_> = std::iter::from_fn(|| holdings.take()).collect();
        assert_eq!(taken, [0, 1, 2]);
        holdings.give_back(1, || ());
        assert_eq!((holdings.take(), holdings.take()), (Some(1), None));
    }

    #[test]
    fn a_shared_pin_is_freed_by_the_last() {
        let holdings = Holdings::new(1, 1);
        let index = holdings.take().expect("it is free");
        holdings.share(index);
        holdings.give_back(index, || panic!("somebody still holds it"));
        assert_eq!(holdings.take(), None);
        let mut is_unpinned = false;
        holdings.give_back(index, || is_unpinned = true);
        assert!(is_unpinned && holdings.take() == Some(0));
    }

    #[test]
    fn samples_are_counted_up_to_the_limit() {
        let holdings = Holdings::new(3, 2);
        assert!(holdings.count_one() && holdings.count_one() && !holdings.count_one());
        holdings.count_off();
        assert!(holdings.count_one());
    }
}
