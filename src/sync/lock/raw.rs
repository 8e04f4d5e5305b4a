//! The lock itself: who has it, and how it changes hands, also when whoever has it has died.
//!
//! One word says all. Zero is free. Otherwise it holds the [`Owner`], a seat and which of its takers, and three flags between the
//! two: somebody sleeps (`WAITERS`); somebody has waited for so long that the next is to be the first in line (`STARVING`); the
//! owner was given the lock and has not taken note of it (`HANDED`).
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | `word`: from zero to an owner, or from a dead owner to another | who takes the lock, compare and swap, `AcqRel` | everybody, `Acquire` | what the owner before wrote under the lock happens before what this one does; and what an owner wrote into its record, before anybody asks whether it is there |
//! | `word`: to zero, or to an owner with `HANDED` | the owner, compare and swap, `Release` | who takes it next | as above |
//! | `word`: `HANDED` taken away | the owner it was handed to, or – where that has died or waits no more – who takes its place; compare and swap, `AcqRel` | – | as above |
//! | `word`: `WAITERS`, `STARVING` set | who waits, compare and swap, before it sleeps on the word's lower half | the owner, who then cannot free the lock without seeing them | the word's own order |
//! | `tickets` | who begins to starve, counting up | – | none: any order will do |
//! | a record's `ticket`, then `waiting`, `Release` | its thread, before it sets `STARVING`; cleared when it waits no more | the owner that frees the lock, `Acquire` | a stale `waiting` makes the lock go to somebody who waits no more: whoever finds that takes its place |
//! | `seen`, `seen_since` | who waits, about the owner it found | who looks, for people | none |
//!
//! Nobody is ever robbed: another takes an owner's place only if the kernel says that it is not there any more, or if the lock
//! was handed to it and it has not taken note, because it waits no more or for a slice. Whoever takes the place of a dead owner does so by compare and swap, so
//! that there is one of them, and is told; a lock that its dead owner never took note of was free in truth, and nobody is told.
//!
//! A waiter that was woken and dies passes nothing on. So nobody sleeps for longer than a slice without looking again, which
//! also finds owners that have died.
//!
//! Sources: the three states of free, taken and contended are those of U. Drepper, *Futexes Are Tricky* (2011), mutex 2; handing
//! over to who has waited too long is the cure of the Linux kernel's mutex and of Go's.

use super::Party;
use crate::layout::owner::Owner;
use crate::sync::door::{AtomicU64, Ordering};

/// Somebody sleeps, or is about to.
const WAITERS: u64 = 1 << 31;
/// The owner has been given the lock, and has not taken note of it.
const HANDED: u64 = 1 << 30;
/// Somebody has been passed by too often.
const STARVING: u64 = 1 << 29;

/// Looks at a lock whose owner may be about to free it, before going to sleep.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };
/// How often a waiter is woken in vain before it is to be the next.
const PASSED_BY_MAX: u32 = if cfg!(loom) { 1 } else { 8 };

/// The words of a lock. Zero is a free one.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RawLock {
    pub(super) word: AtomicU64,
    pub(super) tickets: AtomicU64,
    /// The owner that a waiter found.
    pub(super) seen: AtomicU64,
    /// When it first did.
    pub(super) seen_since: AtomicU64,
}

/// How a lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// It was free, or became free.
    Clean,
    /// Its owner died while it had it.
    OwnerDied,
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// It is this one's, which is there, and there was no waiting, or not for longer.
    Owned(Owner),
    /// It is the caller's own.
    Recursive,
    /// The caller has as many shares in locks as it can.
    Shares,
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// Somebody woke us, or there was nothing to wait for.
    Woken,
    /// The slice is over.
    Slice,
    /// All the time is over.
    Deadline,
}

/// What a look at the word comes to.
enum Look {
    Taken(Acquired),
    /// It has changed meanwhile.
    Again,
    /// It is somebody else's, and says this.
    Theirs(Owner, u64),
}

/// Whether the lock was handed to somebody who had given up waiting by then.
fn is_vacant(word: u64, owner_is_in_line: impl FnOnce() -> bool) -> bool {
    word & HANDED != 0 && !owner_is_in_line()
}

impl RawLock {
    /// Loom's words come from nowhere else.
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        let [word, tickets, seen, seen_since] = [(); 4].map(|()| AtomicU64::new(0));
        Self { word, tickets, seen, seen_since }
    }

    /// Takes the lock if it is free. One atomic operation.
    #[inline]
    pub(crate) fn take_free(&self, me: Owner) -> bool {
        self.word.compare_exchange(0, me.bits(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Frees the lock if nobody waits. One atomic operation.
    #[inline]
    pub(crate) fn free_quietly(&self, me: Owner) -> bool {
        self.word.compare_exchange(me.bits(), 0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock, unless somebody has it who is there. Asks the kernel if somebody has it.
    pub(crate) fn try_take(&self, party: &impl Party) -> Result<Acquired, Blocked> {
        loop {
            match self.look(party, 0)? {
                Look::Taken(acquired) => return Ok(acquired),
                Look::Again => {}
                Look::Theirs(owner, word)
                    if !is_vacant(word, || party.is_in_line(self, owner)) && party.is_alive(owner) =>
                {
                    return Err(Blocked::Owned(owner));
                }
                Look::Theirs(_, word) => {
                    if let Some(acquired) = self.replace(party, word) {
                        return Ok(acquired);
                    }
                }
            }
        }
    }

    /// Takes the lock, waiting for whoever has it as long as the party's time lasts.
    pub(crate) fn take(&self, party: &impl Party) -> Result<Acquired, Blocked> {
        self.take_in_line(party, Waiting::default())
    }

    pub(super) fn take_in_line(&self, party: &impl Party, mut waiting: Waiting) -> Result<Acquired, Blocked> {
        let outcome = self.wait(party, &mut waiting);
        if waiting.is_in_line {
            party.step_out(self);
            // It may have been handed to us just now, by somebody who saw us in line.
            if let (Err(Blocked::Owned(_)), Ok(Look::Taken(acquired))) = (outcome, self.look_again(party)) {
                return Ok(acquired);
            }
        }
        outcome
    }

    pub(super) fn wait(&self, party: &impl Party, waiting: &mut Waiting) -> Result<Acquired, Blocked> {
        loop {
            let (owner, word) = match self.look(party, waiting.flags)? {
                Look::Taken(acquired) => return Ok(acquired),
                Look::Again => continue,
                Look::Theirs(owner, word) => (owner, word),
            };
            if waiting.spins < SPINS && word & WAITERS == 0 {
                waiting.spins += 1;
                std::hint::spin_loop();
                continue;
            }
            if is_vacant(word, || party.is_in_line(self, owner)) {
                if let Some(acquired) = self.replace(party, word) {
                    return Ok(acquired);
                }
                continue;
            }
            let marked = word | waiting.marks(self, party);
            if marked != word && !self.mark(word, marked) {
                continue;
            }
            self.note_seen(owner, party);
            match party.sleep(&self.word, marked) {
                Slept::Woken => waiting.passed_by += 1,
                Slept::Deadline if party.is_alive(owner) => return Err(Blocked::Owned(owner)),
                // One that was handed the lock and does not take it may be stopped; it is still the first in line.
                Slept::Slice if marked & HANDED == 0 && party.is_alive(owner) => {
                    if party.has_left(owner) {
                        return Err(Blocked::Owned(owner));
                    }
                }
                Slept::Slice | Slept::Deadline => {
                    if let Some(acquired) = self.replace(party, marked) {
                        return Ok(acquired);
                    }
                }
            }
            // Others may sleep as well from now on, and whoever frees it wakes one.
            waiting.flags = WAITERS;
        }
    }

    /// One look at the word: takes the lock if it is free or was handed to us.
    fn look(&self, party: &impl Party, flags: u64) -> Result<Look, Blocked> {
        // Acquire: whoever is named in it has written its record before.
        let word = self.word.load(Ordering::Acquire);
        let me = party.owner();
        let (wanted, acquired) = match Owner::from_bits(word) {
            None => (me.bits() | flags, Look::Taken(Acquired::Clean)),
            Some(owner) if owner != me => return Ok(Look::Theirs(owner, word)),
            Some(_) if word & HANDED != 0 => (word & !HANDED, Look::Taken(Acquired::Clean)),
            Some(_) => return Err(Blocked::Recursive),
        };
        let taken = self.word.compare_exchange(word, wanted, Ordering::AcqRel, Ordering::Relaxed);
        Ok(if taken.is_ok() { acquired } else { Look::Again })
    }

    fn look_again(&self, party: &impl Party) -> Result<Look, Blocked> {
        loop {
            match self.look(party, WAITERS)? {
                Look::Again => {}
                settled => return Ok(settled),
            }
        }
    }

    /// Takes the place of an owner that is not there, or never took note of being one. `None` if another did.
    fn replace(&self, party: &impl Party, word: u64) -> Option<Acquired> {
        let wanted = party.owner().bits() | WAITERS | word & STARVING;
        let taken = self.word.compare_exchange(word, wanted, Ordering::AcqRel, Ordering::Relaxed);
        let acquired = if word & HANDED == 0 { Acquired::OwnerDied } else { Acquired::Clean };
        taken.is_ok().then_some(acquired)
    }

    fn mark(&self, word: u64, marked: u64) -> bool {
        self.word.compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Frees the lock, or hands it over.
    #[cold]
    pub(crate) fn give_up(&self, party: &impl Party) {
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if Owner::from_bits(word) != Some(party.owner()) {
                // Somebody has written over it who may not: there is nothing of ours to be freed.
                return;
            }
            let next = if word & STARVING != 0 { party.first_in_line(self) } else { None };
            let wanted = next.map_or(0, |next| next.bits() | HANDED | WAITERS | STARVING);
            if self.word.compare_exchange(word, wanted, Ordering::Release, Ordering::Relaxed).is_ok() {
                if word & WAITERS != 0 {
                    party.wake(&self.word, next.is_some());
                }
                return;
            }
        }
    }

    /// Who has it now, whether there or not.
    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::from_bits(self.word.load(Ordering::Relaxed))
    }

    /// Whether this one has it, and knows.
    pub(super) fn is_had_by(&self, me: Owner) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word & HANDED == 0 && Owner::from_bits(word) == Some(me)
    }

    /// As [`RawLock::owner`]: what the one before wrote is seen by who finds none.
    pub(super) fn owner_acquired(&self) -> Option<Owner> {
        Owner::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Since when a waiter has seen this owner have it, if any has.
    pub(crate) fn seen_since(&self, owner: Owner) -> Option<u64> {
        let is_seen = self.seen.load(Ordering::Acquire) == owner.bits();
        is_seen.then(|| self.seen_since.load(Ordering::Relaxed))
    }

    fn note_seen(&self, owner: Owner, party: &impl Party) {
        if self.seen.load(Ordering::Relaxed) != owner.bits() {
            self.seen_since.store(party.now(), Ordering::Relaxed);
            self.seen.store(owner.bits(), Ordering::Release);
        }
    }
}

/// How far a wait has come.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// What the word gets with our owner once we have slept.
    flags: u64,
    spins: u32,
    passed_by: u32,
    is_in_line: bool,
}

impl Waiting {
    /// That of somebody who is in line, and has been passed by too often.
    #[cfg(loom)]
    pub(super) fn starving(lock: &RawLock, party: &impl Party) -> Self {
        let mut waiting = Self { flags: WAITERS, passed_by: PASSED_BY_MAX, ..Self::default() };
        waiting.marks(lock, party);
        waiting
    }

    /// What we have the word say; in line from the moment at which we starve.
    pub(super) fn marks(&mut self, lock: &RawLock, party: &impl Party) -> u64 {
        if self.passed_by < PASSED_BY_MAX {
            return WAITERS;
        }
        if !self.is_in_line {
            self.is_in_line = true;
            party.line_up(lock, lock.tickets.fetch_add(1, Ordering::Relaxed));
        }
        WAITERS | STARVING
    }
}
