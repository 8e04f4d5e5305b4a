//! A lock that is biased to one owner: the owner enters and leaves with plain loads and stores, others pay for it.
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | `inside` | the owner: in, `Relaxed`, then a light barrier, then a look at `revoked`; out or gone, `Release` | who revokes, `Acquire`, after a heavy barrier | below; what the owner did inside happens before what they do |
//! | `revoked` | who revokes, under the mutex: set, `Relaxed`, then a heavy barrier; cleared, `Release` | the owner, `Acquire`, on each entry | below; what they did happens before what the owner does inside |
//! | `fencing` | the owner, under the mutex, once, if a heavy barrier has failed | who revokes, under the mutex | the mutex |
//! | the value | the owner while inside, who revokes while it holds the mutex | the same | the two above |
//!
//! The protocol is Dekker's, as that of the [bell](super::bell):
//!
//! - owner: store `inside`; **light barrier**; load `revoked`; if that is set, take `inside` back, and set it again under
//!   the mutex, which nobody who revokes holds then;
//! - others: lock the mutex; store `revoked`; **heavy barrier**; wait until the owner is out; work; clear `revoked`;
//!   unlock.
//!
//! One of the two barriers comes first. If the owner's does, the others see it inside; if the others' does, the owner
//! sees that it is revoked. An entry under the mutex needs no barrier: who revokes next sees it through the mutex.
//!
//! Where the kernel can, a heavy barrier is one on every processor, and a light one only for the compiler:
//! [`Fencing`]. A sandbox that was put up since may make that fail. Then nobody can tell whether the owner is inside, so
//! the lock is refused; but `revoked` stays set, the owner comes by the mutex on its next entry, and says there that it
//! passes full fences from then on.
//!
//! # Forks
//!
//! A forked child has a copy of both words and of the mutex, but not the threads that would change them again: what others
//! held in the parent is held in the child for ever. Who enters or locks has to look first whether it was forked. To drop an
//! [`Owner`] is harmless there.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

#[cfg(not(loom))]
use super::bell::Fencing;
use super::door::{AtomicBool, Mutex, MutexGuard, Ordering};
#[cfg(loom)]
use super::model::Fencing;
use super::store_line::{StoreLine, StoreWord};

/// Values of `inside`.
const OUT: u64 = 0;
const IN: u64 = 1;
/// There is no owner any more.
const GONE: u64 = 2;

/// A value behind a lock that is biased to its [`Owner`].
pub(crate) struct Biased<T> {
    /// With a line of words that the owner stores with it.
    inside: StoreWord,
    line: Arc<StoreLine>,
    revoked: AtomicBool,
    /// Held by whoever else is at the value: how the owner has its stores ordered.
    fencing: Mutex<Fencing>,
    value: UnsafeCell<T>,
}

// SAFETY: a reference gives access to the value only through guards. The protocol at the top of this module gives out
// one guard at a time, and orders each one's accesses before the next one's. So threads hand the value on, which takes
// `T: Send`, and never look at it at once. The other fields are atomics and a mutex.
unsafe impl<T: Send> Sync for Biased<T> {}

impl<T> Biased<T> {
    /// A lock, and the right to enter it cheaply.
    pub(crate) fn new(value: T) -> (Owner<T>, Arc<Self>) {
        Self::with_fencing(value, Fencing::of_this_process())
    }

    pub(super) fn with_fencing(value: T, fencing: Fencing) -> (Owner<T>, Arc<Self>) {
        let line = StoreLine::new();
        let shared = Arc::new(Self {
            inside: line.word(),
            line,
            revoked: AtomicBool::new(false),
            fencing: Mutex::new(fencing),
            value: UnsafeCell::new(value),
        });
        (Owner { shared: Arc::clone(&shared), fencing }, shared)
    }

    /// The line in which the owner stores on each entry: for other words that it stores inside.
    pub(crate) fn line(&self) -> &Arc<StoreLine> {
        &self.line
    }

    /// Locks the owner and all others out. Blocks while any of them is at the value: never to be called by the owner's
    /// thread while inside, nor by a forked child. Costs a barrier on every processor, some microseconds.
    ///
    /// `None` if that barrier has failed: a sandbox may have been put up since. The lock can be had after the owner's next
    /// entry, so an owner that sleeps should be woken.
    #[must_use]
    pub(crate) fn lock(&self) -> Option<Guard<'_, T>> {
        let fencing = self.mutex();
        self.revoked.store(true, Ordering::Relaxed);
        let has_passed = fencing.of_sleeper();
        let mut round = 0;
        loop {
            // Acquire: what the owner did inside comes before what we do.
            match self.inside.load(Ordering::Acquire) {
                GONE => break,
                // It may be inside without our seeing it. `revoked` stays, and brings it to the mutex.
                _ if !has_passed => return None,
                OUT => break,
                _ => pause(&mut round),
            }
        }
        Some(Guard { shared: self, _mutex: fencing, _value: PhantomData })
    }

    /// The owner's entry while it is revoked: waits until nobody else is at the value. `own` is its copy of `fencing`.
    #[cold]
    #[inline(never)]
    fn enter_by_mutex(&self, own: &mut Fencing) {
        // Release: who sees this may have missed that the owner was inside before.
        self.inside.store(OUT, Ordering::Release);
        let mut fencing = self.mutex();
        // Guards clear this before they unlock: it was set by somebody whose barrier has failed.
        if self.revoked.load(Ordering::Relaxed) {
            *fencing = Fencing::Full;
            *own = Fencing::Full;
            self.revoked.store(false, Ordering::Relaxed);
        }
        self.inside.store(IN, Ordering::Relaxed);
    }

    fn mutex(&self) -> MutexGuard<'_, Fencing> {
        // A panic at the value leaves the words right: guards clear them on their way out.
        self.fencing.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Lets time pass for an owner that is inside. That is for a few instructions, unless its thread has to wait for a
/// processor: then a waiter that sleeps leaves it one, whatever their priorities.
#[cfg(not(loom))]
fn pause(round: &mut u32) {
    const SPINS: u32 = 64;
    const DOUBLINGS: u32 = 6;
    if *round < SPINS {
        std::hint::spin_loop();
    } else {
        let doublings = (*round - SPINS).min(DOUBLINGS);
        std::thread::sleep(std::time::Duration::from_micros(20 << doublings));
    }
    *round = round.saturating_add(1);
}

#[cfg(loom)]
fn pause(_: &mut u32) {
    super::door::relax();
}

/// The one who enters cheaply.
pub(crate) struct Owner<T> {
    shared: Arc<Biased<T>>,
    /// A copy of the lock's own, which only we change.
    fencing: Fencing,
}

impl<T> Owner<T> {
    /// Enters: two stores and a load until the guard is dropped, unless somebody else is at the value; blocks until those
    /// are done. Work inside should be short and never block. Not for a forked child.
    ///
    /// A guard that is forgotten keeps others out until the next one is dropped, or the owner.
    #[inline(always)]
    pub(crate) fn enter(&mut self) -> OwnerGuard<'_, T> {
        // Found once: what follows the barrier need not look for it again.
        let shared = &*self.shared;
        shared.inside.store(IN, Ordering::Relaxed);
        self.fencing.of_sender();
        // Acquire: what others did at the value comes before what we do.
        if shared.revoked.load(Ordering::Acquire) {
            shared.enter_by_mutex(&mut self.fencing);
        }
        OwnerGuard { shared, _value: PhantomData }
    }
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        // No guard of ours is left, but one that was forgotten. Without the mutex: a forked child may do this.
        self.shared.inside.store(GONE, Ordering::Release);
    }
}

impl<T> fmt::Debug for Owner<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Owner").field("fencing", &self.fencing).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Biased<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Biased").finish_non_exhaustive()
    }
}

/// The owner is inside.
#[must_use]
pub(crate) struct OwnerGuard<'a, T> {
    shared: &'a Biased<T>,
    /// As if it were the value's only reference: shared between threads only if the value may be.
    _value: PhantomData<&'a mut T>,
}

impl<T> Deref for OwnerGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: as for `deref_mut`; what is given out lives no longer than the borrow of this guard.
        unsafe { &*self.shared.value.get() }
    }
}

impl<T> DerefMut for OwnerGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a guard borrows the only owner mutably, so there is no other one of these. It exists only after an entry
        // that either found `revoked` clear behind its barrier, so that who revokes sees us inside and waits, or was made
        // under the mutex, while no `Guard` was; and until it is dropped `inside` stays as it is. So no `Guard` exists.
        unsafe { &mut *self.shared.value.get() }
    }
}

impl<T> Drop for OwnerGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: what we did inside comes before what others do who see this.
        self.shared.inside.store(OUT, Ordering::Release);
    }
}

/// Somebody else is at the value.
pub(crate) struct Guard<'a, T> {
    shared: &'a Biased<T>,
    /// Unlocked after `revoked` has been cleared.
    _mutex: MutexGuard<'a, Fencing>,
    /// As if it were the value's only reference: shared between threads only if the value may be.
    _value: PhantomData<&'a mut T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: as for `deref_mut`; what is given out lives no longer than the borrow of this guard.
        unsafe { &*self.shared.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the mutex, so there is no other one of these. It exists only after the owner was seen out
        // behind a barrier that came after `revoked` was set, which stays set until this guard is dropped: an owner that
        // we did not see inside sees that, and stays out until it gets the mutex. Or after the owner was seen gone.
        unsafe { &mut *self.shared.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // Release: what we did comes before what the owner does that sees this.
        self.shared.revoked.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    /// An owner in a tight loop and three others; whatever each of them counts is counted.
    fn count_together(fencing: Fencing) {
        const LOCKS: u64 = 2_000;
        let (mut owner, shared) = Biased::with_fencing(0_u64, fencing);
        let others: Vec<_> = (0..3)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for _ in 0..LOCKS {
                        *shared.lock().expect("barriers do not fail here") += 1;
                    }
                })
            })
            .collect();
        let mut entries = 0;
        while !others.iter().all(thread::JoinHandle::is_finished) {
            for _ in 0..1_000 {
                *owner.enter() += 1;
            }
            entries += 1_000;
        }
        others.into_iter().for_each(|other| other.join().expect("nobody panics"));
        assert_eq!(*owner.enter(), entries + 3 * LOCKS);
        assert_eq!(*shared.lock().expect("barriers do not fail here"), entries + 3 * LOCKS);
    }

    #[test]
    fn nothing_that_anybody_counts_is_lost() {
        count_together(Fencing::of_this_process());
    }

    #[test]
    fn nothing_that_anybody_counts_is_lost_with_full_fences() {
        count_together(Fencing::Full);
    }

    #[test]
    fn who_locks_waits_for_an_owner_that_stays_inside() {
        let (mut owner, shared) = Biased::new(Vec::new());
        let mut inside = owner.enter();
        let other = thread::spawn(move || {
            let mut values = shared.lock().expect("barriers do not fail here");
            values.push(2);
        });
        // Long enough for the other to find us inside and fall asleep; right as well if it is not.
        thread::sleep(std::time::Duration::from_millis(5));
        inside.push(1);
        drop(inside);
        other.join().expect("nobody panics");
        assert_eq!(*owner.enter(), [1, 2]);
    }

    #[test]
    fn the_owner_waits_for_who_has_locked() {
        let (mut owner, shared) = Biased::new(Vec::new());
        let mut locked = shared.lock().expect("barriers do not fail here");
        let entering = thread::spawn(move || owner.enter().push(2));
        thread::sleep(std::time::Duration::from_millis(5));
        locked.push(1);
        drop(locked);
        entering.join().expect("nobody panics");
        assert_eq!(*shared.lock().expect("barriers do not fail here"), [1, 2]);
    }

    #[test]
    fn a_panic_inside_locks_nobody_out() {
        let (mut owner, shared) = Biased::new(0);
        let owners = catch_unwind(AssertUnwindSafe(|| {
            let mut inside = owner.enter();
            *inside += 1;
            panic!("inside");
        }));
        let others = catch_unwind(AssertUnwindSafe(|| {
            let mut locked = shared.lock().expect("barriers do not fail here");
            *locked += 1;
            panic!("at the value");
        }));
        assert!(owners.is_err() && others.is_err());
        *owner.enter() += 1;
        *shared.lock().expect("barriers do not fail here") += 1;
        assert_eq!(*owner.enter(), 4);
    }

    #[test]
    fn a_guard_that_was_forgotten_ends_with_the_next_or_with_the_owner() {
        let (mut owner, shared) = Biased::new(0);
        std::mem::forget(owner.enter());
        *owner.enter() += 1;
        assert_eq!(*shared.lock().expect("barriers do not fail here"), 1);
        std::mem::forget(owner.enter());
        drop(owner);
        assert_eq!(*shared.lock().expect("barriers do not fail here"), 1);
    }

    /// Two answers for a type that is `Sync`, so that to ask without saying which does not compile.
    trait NotSync<Answer> {
        fn is_not_sync() -> bool {
            true
        }
    }
    impl<T: ?Sized> NotSync<()> for T {}
    impl<T: ?Sized + Sync> NotSync<u8> for T {}

    #[test]
    fn guards_are_shared_only_if_the_value_may_be() {
        fn is_send_and_sync<T: Send + Sync>(_: &T) -> bool {
            true
        }
        assert!(OwnerGuard::<'_, Cell<u8>>::is_not_sync() && Guard::<'_, Cell<u8>>::is_not_sync());
        let (owner, shared) = Biased::new(Cell::new(0));
        assert!(is_send_and_sync(&owner) && is_send_and_sync(&shared));
    }
}
