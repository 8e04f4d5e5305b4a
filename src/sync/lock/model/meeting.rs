//! What processes meet at, under loom: semaphores, condition variables, barriers, events, work that is done once, and values that
//! are read without a lock.
//!
//! Where nobody dies, sleepers sleep until they are woken: loom finds a wake-up that is missed. Where somebody does, slices
//! end, as it may have been the one that was woken.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::super::latch::Latch;
use super::super::raw::Acquired;
use super::super::raw_once::RawOnce;
use super::super::turns::Turns;
use super::super::{Barrier, EventFlag, Passed, Semaphore};
use super::{Place, Someone, check};
use crate::sync::door::kernel::with_slices;
use crate::sync::door::{AtomicU64, Deadline, Ordering, futex, relax};

const NOW: Duration = Duration::ZERO;

#[test]
fn permits_reach_all_who_wait_for_one() {
    check(2, || {
        let (place, semaphore) = (Place::new(), Arc::new(Semaphore::new()));
        let takers = [(); 2].map(|()| {
            let (place, semaphore) = (Arc::clone(&place), Arc::clone(&semaphore));
            thread::spawn(move || {
                semaphore.acquire();
                place.add_one();
                assert!(semaphore.release(1));
            })
        });
        assert!(semaphore.release(1));
        takers.into_iter().for_each(|taker| taker.join().expect("it ends"));
        semaphore.acquire();
        place.add_one();
        assert_eq!(semaphore.permits(), 0);
    });
}

#[test]
fn two_permits_at_once_wake_two() {
    check(2, || {
        let semaphore = Arc::new(Semaphore::new());
        let takers = [(); 2].map(|()| {
            let semaphore = Arc::clone(&semaphore);
            thread::spawn(move || semaphore.acquire())
        });
        assert!(semaphore.release(2));
        takers.into_iter().for_each(|taker| taker.join().expect("it ends"));
    });
}

#[test]
fn a_permit_is_taken_or_still_there_when_time_is_over() {
    check(3, || {
        let semaphore = Arc::new(Semaphore::new());
        let theirs = Arc::clone(&semaphore);
        let impatient = thread::spawn(move || theirs.acquire_timeout(NOW));
        assert!(semaphore.release(1));
        let was_taken = impatient.join().expect("it ends");
        assert_eq!(semaphore.permits(), u32::from(!was_taken));
    });
}

/// One that was woken dies before it takes its permit: it is not lost to the others.
#[test]
fn a_waiter_that_dies_takes_no_permit_along() {
    with_slices(|| {
        check(2, || {
            let semaphore = Arc::new(Semaphore::new());
            let theirs = Arc::clone(&semaphore);
            let dying = thread::spawn(move || {
                theirs.waiters.fetch_add(1, Ordering::SeqCst);
                // Asleep, or woken: that is where it ends.
                futex::wait(&theirs.permits, 0, Deadline::NEVER.or_after(NOW));
            });
            let theirs = Arc::clone(&semaphore);
            let survivor = thread::spawn(move || theirs.acquire());
            assert!(semaphore.release(1));
            survivor.join().expect("nobody has its permit");
            assert_eq!(semaphore.permits(), 0);
            dying.join().expect("it ends");
        });
    });
}

/// Waits for what another does under the mutex, which then notifies.
fn wait_for_the_value(place: &Arc<Place>, turns: &Turns, number: u16) {
    let party = Someone::patient(place, number);
    assert!(party.take().is_ok());
    while place.value_is_zero() {
        let seen = turns.line_up();
        party.free();
        assert!(turns.wait(seen, Deadline::NEVER));
        assert!(party.take().is_ok());
    }
    party.free();
}

#[test]
fn a_notification_reaches_who_waits() {
    check(2, || {
        let (place, turns) = (Place::new(), Arc::new(Turns::new()));
        let (there, theirs) = (Arc::clone(&place), Arc::clone(&turns));
        let waiter = thread::spawn(move || wait_for_the_value(&there, &theirs, 1));
        let party = Someone::patient(&place, 0);
        assert_eq!(party.take(), Ok(Acquired::Clean));
        place.add_one();
        party.free();
        turns.notify(1);
        waiter.join().expect("it was woken");
    });
}

#[test]
fn who_notifies_dies_with_the_mutex_or_has_notified() {
    with_slices(|| {
        check(2, || {
            let (place, turns) = (Place::new(), Arc::new(Turns::new()));
            let (there, theirs) = (Arc::clone(&place), Arc::clone(&turns));
            let waiter = thread::spawn(move || {
                let party = Someone::patient(&there, 1);
                let mut acquired = party.take().expect("nobody has it for ever");
                if there.value_is_zero() {
                    let seen = theirs.line_up();
                    party.free();
                    // Nobody may be left to notify.
                    theirs.wait(seen, Deadline::after(NOW));
                    acquired = party.take().expect("nobody has it for ever");
                }
                party.free();
                acquired
            });
            let party = Someone::patient(&place, 0);
            let taken = party.take();
            place.add_one();
            party.die();
            assert!(taken.is_ok());
            let last = Someone::patient(&place, 2);
            let told = waiter.join().expect("it ends");
            let last_told = place.lock.try_take(&last).expect("nobody has it");
            assert!((told == Acquired::OwnerDied) != (last_told == Acquired::OwnerDied), "one is told");
        });
    });
}

#[test]
fn nobody_passes_a_barrier_alone_and_one_leads() {
    check(3, || {
        let (place, barrier) = (Place::new(), Arc::new(Barrier::new(2)));
        let (there, theirs) = (Arc::clone(&place), Arc::clone(&barrier));
        let other = thread::spawn(move || {
            let first = theirs.wait();
            // All that was done before it is seen after it, in both directions and in every round.
            there.add_one();
            let second = theirs.wait();
            (first, second)
        });
        place.shares[2].store(1, Ordering::Relaxed);
        let first = barrier.wait();
        let second = barrier.wait();
        place.add_one();
        let theirs = other.join().expect("it ends");
        let one_leads = |ours: Passed, theirs: Passed| assert!(ours.is_leader != theirs.is_leader);
        one_leads(first, theirs.0);
        one_leads(second, theirs.1);
        assert_eq!(barrier.waiting(), 0);
    });
}

#[test]
fn who_gives_up_at_a_barrier_has_not_arrived() {
    check(3, || {
        let barrier = Arc::new(Barrier::new(2));
        let theirs = Arc::clone(&barrier);
        let impatient = thread::spawn(move || theirs.wait_timeout(NOW));
        let ours = barrier.wait_timeout(NOW);
        let theirs = impatient.join().expect("it ends");
        assert_eq!(ours.is_some(), theirs.is_some(), "both pass, or none");
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            assert!(ours.is_leader != theirs.is_leader);
        }
        assert_eq!(barrier.waiting(), 0);
    });
}

#[test]
fn an_event_wakes_all_who_wait() {
    check(3, || {
        let (place, event) = (Place::new(), Arc::new(EventFlag::new()));
        let waiters = [(); 2].map(|()| {
            let (place, event) = (Arc::clone(&place), Arc::clone(&event));
            thread::spawn(move || {
                event.wait();
                assert!(!place.value_is_zero());
            })
        });
        place.add_one();
        event.set();
        waiters.into_iter().for_each(|waiter| waiter.join().expect("it was woken"));
    });
}

#[test]
fn an_event_that_is_reset_can_be_waited_for_again() {
    check(3, || {
        let event = Arc::new(EventFlag::new());
        let theirs = Arc::clone(&event);
        let waiter = thread::spawn(move || {
            theirs.wait();
            theirs.reset();
        });
        event.set();
        waiter.join().expect("it was woken");
        assert!(!event.is_set());
        let theirs = Arc::clone(&event);
        let waiter = thread::spawn(move || theirs.wait());
        event.set();
        waiter.join().expect("it was woken");
    });
}

#[test]
fn an_event_that_is_reset_at_once_has_woken_who_waited() {
    check(3, || {
        let event = Arc::new(EventFlag::new());
        let theirs = Arc::clone(&event);
        let waiter = thread::spawn(move || theirs.wait());
        while !event.is_awaited() {
            relax();
        }
        event.set();
        event.reset();
        waiter.join().expect("it was woken");
    });
}

#[test]
fn what_is_done_once_is_done_once_and_seen_by_all() {
    check(2, || {
        let (place, once) = (Place::new(), Arc::new(RawOnce::new()));
        let do_once = |number| {
            let (place, once) = (Arc::clone(&place), Arc::clone(&once));
            move || {
                let party = Someone::patient(&place, number);
                if once.begin(&party).expect("nobody does it for ever") {
                    once.complete(|| place.add_one());
                    party.give_back(&once.lock);
                }
                assert!(!place.value_is_zero());
            }
        };
        let other = thread::spawn(do_once(1));
        do_once(0)();
        other.join().expect("it ends");
        place.value.with(|value| {
            // SAFETY: the other has ended.
            assert_eq!(unsafe { *value }, 1);
        });
    });
}

#[test]
fn what_a_dead_one_began_is_begun_anew() {
    check(2, || {
        let (place, once) = (Place::new(), Arc::new(RawOnce::new()));
        let (there, theirs) = (Arc::clone(&place), Arc::clone(&once));
        let death = thread::spawn(move || {
            let dying = Someone::patient(&there, 1);
            if theirs.begin(&dying).expect("nobody does it for ever") && !theirs.is_completed() {
                there.add_one();
            }
            dying.die();
        });
        let party = Someone::patient(&place, 0);
        let begun = once.begin(&party).expect("nobody does it for ever");
        assert!(begun, "the dead one has not completed it");
        once.complete(|| place.add_one());
        party.give_back(&once.lock);
        assert!(once.is_completed());
        death.join().expect("it ends");
    });
}

/// Two words that are always written together.
struct Pair {
    latch: Latch,
    buffers: [[AtomicU64; 2]; 2],
}

impl Pair {
    fn new() -> Arc<Self> {
        let buffers = [(); 2].map(|()| [(); 2].map(|()| AtomicU64::new(0)));
        Arc::new(Self { latch: Latch::new(), buffers })
    }

    fn write(&self, value: u64, words: usize) {
        self.latch.write(|oldest| self.fill(oldest, value, words));
    }

    fn fill(&self, oldest: usize, value: u64, words: usize) {
        self.buffers[oldest][..words].iter().for_each(|word| word.store(value, Ordering::Relaxed));
    }

    fn read(&self) -> (u64, u64) {
        let mut value = [0; 2];
        let version = self.latch.read(|newest| {
            value = [0, 1].map(|word| self.buffers[newest][word].load(Ordering::Relaxed));
        });
        assert_eq!(value[0], value[1], "torn at version {version}");
        (value[0], version)
    }
}

#[test]
fn no_reader_sees_half_a_value() {
    check(3, || {
        let pair = Pair::new();
        let theirs = Arc::clone(&pair);
        let writer = thread::spawn(move || (1..=3).for_each(|value| theirs.write(value, 2)));
        let first = pair.read();
        let second = pair.read();
        assert!(first.0 == first.1 && second.0 == second.1 && first.1 <= second.1);
        writer.join().expect("it ends");
        assert_eq!(pair.read(), (3, 3));
    });
}

/// A writer dies with half a value written; the next goes on from the newest whole one.
#[test]
fn a_writer_that_dies_leaves_the_newest_value_whole() {
    check(3, || {
        let pair = Pair::new();
        pair.write(1, 2);
        let theirs = Arc::clone(&pair);
        let death = thread::spawn(move || {
            let half = theirs.latch.version() + 1;
            crate::sync::door::fence(Ordering::Release);
            theirs.fill((half & 1) as usize, 9, 1);
        });
        assert_eq!(pair.read(), (1, 1));
        death.join().expect("it ends");
        let theirs = Arc::clone(&pair);
        let next = thread::spawn(move || theirs.write(2, 2));
        assert!(matches!(pair.read(), (1, 1) | (2, 2)));
        next.join().expect("it ends");
        assert_eq!(pair.read(), (2, 2));
    });
}
