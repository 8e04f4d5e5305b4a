//! The lock under loom: every interleaving of few threads, any of which may time out, or die at any point.
//!
//! Time does not pass in a model: a sleep is over when others have had a turn.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::raw::{Acquired, Blocked, Waiting};
use super::shared_raw::RawShared;
use super::{Party, RawLock, Sharing, Slept};
use crate::layout::owner::Owner;
use crate::sync::door::{AtomicBool, AtomicU32, AtomicU64, Deadline, Ordering, futex, relax};

mod meeting;

const PARTIES: usize = 3;

/// What the parties share.
struct Place {
    lock: RawLock,
    is_alive: [AtomicBool; PARTIES],
    waiting: [AtomicBool; PARTIES],
    tickets: [AtomicU64; PARTIES],
    shared: RawShared,
    shares: [AtomicU64; PARTIES],
    value: UnsafeCell<u64>,
    /// Whether who sleeps does so until woken: then one that nobody wakes is found. Otherwise sleeps end by themselves.
    sleeps_soundly: bool,
}

// SAFETY: the cell reports every access that the lock fails to order.
unsafe impl Sync for Place {}
// SAFETY: as above.
unsafe impl Send for Place {}

impl Place {
    fn new() -> Arc<Self> {
        Self::of(false)
    }

    /// Where nobody looks again unless woken.
    fn of_sound_sleepers() -> Arc<Self> {
        Self::of(true)
    }

    fn of(sleeps_soundly: bool) -> Arc<Self> {
        Arc::new(Self {
            sleeps_soundly,
            lock: RawLock::new(),
            is_alive: [(); PARTIES].map(|()| AtomicBool::new(true)),
            waiting: [(); PARTIES].map(|()| AtomicBool::new(false)),
            tickets: [(); PARTIES].map(|()| AtomicU64::new(0)),
            shared: RawShared::new(),
            shares: [(); PARTIES].map(|()| AtomicU64::new(0)),
            value: UnsafeCell::new(0),
        })
    }

    fn value_is_zero(&self) -> bool {
        // SAFETY: loom reports it if anybody writes meanwhile.
        self.value.with(|value| unsafe { *value == 0 })
    }

    fn add_one(&self) {
        // SAFETY: loom reports it if anybody else is here.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }
}

/// One of them, who sleeps so often at most before its time is over.
struct Someone {
    place: Arc<Place>,
    number: u16,
    sleeps: std::cell::Cell<u32>,
}

impl Someone {
    fn new(place: &Arc<Place>, number: u16, sleeps: u32) -> Self {
        Self { place: Arc::clone(place), number, sleeps: std::cell::Cell::new(sleeps) }
    }

    fn patient(place: &Arc<Place>, number: u16) -> Self {
        Self::new(place, number, u32::MAX)
    }

    fn take(&self) -> Result<Acquired, Blocked> {
        self.place.lock.take(self)
    }

    fn free(&self) {
        self.give_back(&self.place.lock);
    }

    /// Takes the lock, which nobody dies with, adds one, and gives it back.
    fn add_one(&self) {
        assert_eq!(self.take(), Ok(Acquired::Clean));
        self.place.add_one();
        self.free();
    }

    /// The same as a writer of the shared lock.
    fn write_one(&self) {
        let shared = &self.place.shared;
        assert_eq!(shared.write(self, true), Ok(Acquired::Clean));
        self.place.add_one();
        shared.free(self);
    }

    fn give_back(&self, lock: &RawLock) {
        if !lock.free_quietly(self.owner()) {
            lock.give_up(self);
        }
    }

    fn die(&self) {
        self.place.is_alive[usize::from(self.number)].store(false, Ordering::Release);
    }
}

impl Party for Someone {
    fn owner(&self) -> Owner {
        Owner::new(self.number, 1)
    }
    fn is_alive(&self, other: Owner) -> bool {
        self.place.is_alive[other.seat()].load(Ordering::Acquire)
    }
    fn has_left(&self, _: Owner) -> bool {
        false
    }
    fn line_up(&self, _: &RawLock, ticket: u64) {
        self.place.tickets[usize::from(self.number)].store(ticket, Ordering::Relaxed);
        self.place.waiting[usize::from(self.number)].store(true, Ordering::Release);
    }
    fn step_out(&self, _: &RawLock) {
        self.place.waiting[usize::from(self.number)].store(false, Ordering::Release);
    }
    fn is_in_line(&self, _: &RawLock, other: Owner) -> bool {
        self.place.waiting[other.seat()].load(Ordering::Acquire)
    }
    fn first_in_line(&self, lock: &RawLock) -> Option<Owner> {
        let others = (0..PARTIES as u16).map(|number| Owner::new(number, 1));
        let in_line = others.filter(|other| self.is_in_line(lock, *other) && self.is_alive(*other));
        in_line.min_by_key(|other| self.place.tickets[other.seat()].load(Ordering::Relaxed))
    }
    fn sleep(&self, word: &AtomicU64, seen: u64) -> Slept {
        if self.place.sleeps_soundly {
            futex::wait(word, seen as u32, Deadline::NEVER);
            return Slept::Woken;
        }
        match self.sleeps.get() {
            0 => return Slept::Deadline,
            sleeps => self.sleeps.set(sleeps - 1),
        }
        relax();
        if word.load(Ordering::Relaxed) == seen { Slept::Slice } else { Slept::Woken }
    }
    fn wake(&self, word: &AtomicU64, all: bool) {
        if self.place.sleeps_soundly {
            futex::wake_many(word, if all { u32::MAX } else { 1 });
        }
    }
    fn now(&self) -> u64 {
        0
    }
}

impl Sharing for Someone {
    fn enter(&self, _: &RawShared) -> Option<bool> {
        let share = &self.place.shares[usize::from(self.number)];
        let count = share.load(Ordering::Relaxed);
        share.store(count + 1, Ordering::Relaxed);
        Some(count > 0)
    }
    fn leave(&self, _: &RawShared) {
        let share = &self.place.shares[usize::from(self.number)];
        share.store(share.load(Ordering::Relaxed) - 1, Ordering::Release);
    }
    fn has_share(&self, _: &RawShared) -> bool {
        self.place.shares[usize::from(self.number)].load(Ordering::Relaxed) > 0
    }
    fn reader(&self, _: &RawShared) -> Option<Owner> {
        let mut all = (0..PARTIES as u16).map(|number| Owner::new(number, 1));
        let is_in = |owner: &Owner| self.place.shares[owner.seat()].load(Ordering::Acquire) > 0;
        all.find(|owner| is_in(owner) && self.is_alive(*owner))
    }
    fn rest(&self, word: &AtomicU32, seen: u32) -> Slept {
        if self.place.sleeps_soundly {
            futex::wait(word, seen, Deadline::NEVER);
            return Slept::Woken;
        }
        relax();
        if word.load(Ordering::SeqCst) == seen { Slept::Slice } else { Slept::Woken }
    }
    fn wake_all(&self, word: &AtomicU32) {
        if self.place.sleeps_soundly {
            futex::wake(word);
        }
    }
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn one_has_it_at_a_time() {
    check(3, || {
        let place = Place::new();
        let threads = [0, 1].map(|number| {
            let party = Someone::patient(&place, number);
            thread::spawn(move || {
                party.add_one();
            })
        });
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
        place.value.with(|value| {
            // SAFETY: all others have ended.
            assert_eq!(unsafe { *value }, 2);
        });
        assert_eq!(place.lock.owner(), None);
    });
}

#[test]
fn who_sleeps_for_it_is_woken() {
    check(2, || {
        let place = Place::of_sound_sleepers();
        let threads = [0, 1].map(|number| {
            let party = Someone::patient(&place, number);
            thread::spawn(move || {
                party.add_one();
            })
        });
        let party = Someone::patient(&place, 2);
        party.add_one();
        threads.into_iter().for_each(|thread| thread.join().expect("it was woken"));
        assert_eq!(place.lock.owner(), None);
    });
}

#[test]
fn readers_and_writers_that_sleep_are_woken() {
    check(2, || {
        let place = Place::of_sound_sleepers();
        let writer = Someone::patient(&place, 0);
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                writer.write_one();
            }
        });
        let reader = Someone::patient(&place, 1);
        assert_eq!(place.shared.read(&reader), Ok(()));
        place.value_is_zero();
        place.shared.leave(&reader);
        writing.join().expect("it was woken");
        assert_eq!(place.shared.lock.owner(), None);
    });
}

#[test]
fn who_dies_with_it_is_followed_by_one_who_is_told() {
    check(3, || {
        let place = Place::new();
        let dying = Someone::patient(&place, 0);
        let death = thread::spawn(move || {
            let taken = dying.take();
            dying.place.add_one();
            dying.die();
            taken
        });
        let survivor = Someone::patient(&place, 1);
        let taken = survivor.take().expect("nobody has it for ever");
        place.add_one();
        survivor.free();
        assert_eq!(death.join().expect("it ends"), Ok(Acquired::Clean));
        // The last to come finds the dead one's lock if nobody did before.
        let last = Someone::patient(&place, 2);
        let is_last_told = place.lock.try_take(&last) == Ok(Acquired::OwnerDied);
        assert!((taken == Acquired::OwnerDied) != is_last_told, "one of them is told");
    });
}

/// The lock is handed over to somebody who gives up waiting, or dies, at that very moment.
#[test]
fn what_is_handed_to_one_who_has_gone_is_not_lost() {
    for dies in [false, true] {
        check(3, move || {
            let place = Place::new();
            let owner = Someone::patient(&place, 0);
            assert_eq!(owner.take(), Ok(Acquired::Clean));
            // In line from the start.
            let impatient = Someone::new(&place, 1, 1);
            let waiter = thread::spawn(move || {
                let mut waiting = Waiting::starving(&impatient.place.lock, &impatient);
                if dies {
                    let taken = impatient.place.lock.wait(&impatient, &mut waiting);
                    impatient.die();
                    return taken.is_ok();
                }
                let taken = impatient.place.lock.take_in_line(&impatient, waiting);
                if taken.is_ok() {
                    impatient.place.add_one();
                    impatient.free();
                }
                false
            });
            place.add_one();
            owner.free();
            let next = Someone::patient(&place, 2);
            let taken = next.take().expect("nobody has it for ever");
            place.add_one();
            next.free();
            let died_with_it = waiter.join().expect("it ends");
            assert!(taken == Acquired::Clean || died_with_it);
        });
    }
}

/// Whoever comes afterwards gets it at the first attempt, too.
#[test]
fn what_was_handed_to_one_who_had_gone_is_free() {
    check(3, || {
        let place = Place::new();
        let owner = Someone::patient(&place, 0);
        assert_eq!(owner.take(), Ok(Acquired::Clean));
        let impatient = Someone::new(&place, 1, 1);
        let waiter = thread::spawn(move || {
            let waiting = Waiting::starving(&impatient.place.lock, &impatient);
            if impatient.place.lock.take_in_line(&impatient, waiting).is_ok() {
                impatient.free();
            }
        });
        owner.free();
        waiter.join().expect("it ends");
        let next = Someone::patient(&place, 2);
        assert_eq!(place.lock.try_take(&next), Ok(Acquired::Clean));
    });
}

/// One is stopped while it is the first in line: it keeps its place, and nobody waiting.
#[test]
fn who_is_stopped_in_line_is_passed_by() {
    check(3, || {
        let place = Place::new();
        let owner = Someone::patient(&place, 0);
        assert_eq!(owner.take(), Ok(Acquired::Clean));
        let stopped = Someone::patient(&place, 1);
        let mut waiting = Waiting::starving(&place.lock, &stopped);
        place.lock.word.fetch_or(waiting.marks(&place.lock, &stopped), Ordering::Relaxed);
        let next = Someone::patient(&place, 2);
        let waiter = thread::spawn(move || {
            next.add_one();
        });
        place.add_one();
        owner.free();
        waiter.join().expect("it does not wait for one that is stopped");
        // It goes on.
        assert_eq!(place.lock.take_in_line(&stopped, waiting), Ok(Acquired::Clean));
        stopped.free();
        assert_eq!(place.lock.owner(), None);
    });
}

/// Who has been passed by is the next, whoever else tries.
#[test]
fn who_starves_is_handed_the_lock() {
    check(2, || {
        let place = Place::new();
        let owner = Someone::patient(&place, 0);
        assert_eq!(owner.take(), Ok(Acquired::Clean));
        let starving = Someone::patient(&place, 1);
        let waiter = thread::spawn(move || {
            let waiting = Waiting::starving(&starving.place.lock, &starving);
            assert_eq!(starving.place.lock.take_in_line(&starving, waiting), Ok(Acquired::Clean));
            starving.place.add_one();
            starving.free();
        });
        place.add_one();
        owner.free();
        // Again and again, as fast as it can.
        for _ in 0..2 {
            owner.add_one();
        }
        waiter.join().expect("it ends");
        assert_eq!(place.lock.owner(), None);
    });
}

#[test]
fn readers_and_the_writer_keep_apart() {
    check(3, || {
        let place = Place::new();
        let writer = Someone::patient(&place, 0);
        let writing = thread::spawn(move || {
            writer.write_one();
        });
        let reader = Someone::patient(&place, 1);
        assert_eq!(place.shared.read(&reader), Ok(()));
        // SAFETY: loom reports it if the writer is here.
        let first = place.value.with(|value| unsafe { *value });
        assert_eq!(place.shared.try_read(&reader), Ok(true), "who reads may read again");
        assert_eq!(place.shared.write(&reader, true), Err(Blocked::Recursive));
        place.shared.leave(&reader);
        // SAFETY: as above.
        assert_eq!(place.value.with(|value| unsafe { *value }), first, "nobody has written meanwhile");
        place.shared.leave(&reader);
        writing.join().expect("it ends");
        assert_eq!(place.shared.lock.owner(), None);
    });
}

#[test]
fn a_reader_that_dies_keeps_no_writer_out() {
    check(3, || {
        let place = Place::new();
        let reader = Someone::patient(&place, 0);
        let death = thread::spawn(move || {
            let entered = reader.place.shared.read(&reader);
            reader.die();
            entered
        });
        let writer = Someone::patient(&place, 1);
        writer.write_one();
        assert_eq!(death.join().expect("it ends"), Ok(()));
    });
}

#[test]
fn a_writer_that_dies_is_noticed_by_readers_and_writers() {
    check(2, || {
        let place = Place::new();
        let dying = Someone::patient(&place, 0);
        let death = thread::spawn(move || {
            assert_eq!(dying.place.shared.write(&dying, true), Ok(Acquired::Clean));
            dying.place.add_one();
            dying.die();
        });
        let reader = Someone::patient(&place, 1);
        assert_eq!(place.shared.read(&reader), Ok(()));
        let was_poisoned = place.shared.is_poisoned();
        place.value.with(|value| {
            // SAFETY: loom reports it if the writer is here.
            assert_eq!(
                unsafe { *value } == 1,
                was_poisoned,
                "either before the writer, or told of its death"
            );
        });
        place.shared.leave(&reader);
        death.join().expect("it ends");
        let next = Someone::patient(&place, 2);
        let acquired = place.shared.write(&next, true);
        assert!((acquired == Ok(Acquired::OwnerDied)) != was_poisoned, "somebody is told, once");
        place.add_one();
        place.shared.free(&next);
    });
}
