//! The lock of many readers or one writer, below its guards.
//!
//! A writer takes the [`RawLock`], which keeps readers out that come from then on, and waits until those who are in have left. A
//! reader writes its share into its own record, so that readers never get into each other's way, and looks whether there is a
//! writer.
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | a share in a record | its thread: set `Relaxed`, then a full fence, then a look at the lock's word; taken back `Release`, then a full fence, then such a look | the writer, after it took the lock and a full fence; `Acquire` | Dekker: share, fence, word ∥ word, fence, shares. Either the reader sees the writer and goes, or the writer sees the reader and waits |
//! | the lock's word | as [`RawLock`] says | readers, `Acquire` | what the writer before wrote is seen by who finds it free |
//! | `left` | who leaves while there is a writer, counting up | the writer that waits for readers, which sleeps on it | a share, fence, the lock's word ∥ `left`, fence, shares: either the writer sees the share gone, or who leaves sees the writer, and counts after it has looked |
//! | `changed` | the writer that leaves while readers sleep, counting up | readers, which sleep on it | the lock's word, fence, `sleepers` ∥ `sleepers`, fence, the lock's word: as above |
//! | `sleepers` | readers that sleep | the writer that leaves | as above; too high if some have died in that |
//! | `poisoned` | who has the lock, `Relaxed` | who has it, or a share | the lock's own |
//!
//! A share goes with its process, and with its thread but for one that was leaked: who asks for the readers leaves out those who are not there. Whoever takes a seat clears
//! what its last taker left.
//!
//! A reader that has been passed by eight times, or finds a dead writer, takes the lock as a writer does, enters, and gives it
//! back: so it is let in by the order of the line, and somebody is told of the death.

use super::Sharing;
use super::raw::{Acquired, Blocked, RawLock, Slept};
use crate::sync::door::{AtomicU32, Ordering, fence};

/// How often a reader tries again before it gets in line with the writers.
const TURNED_AWAY_MAX: u32 = if cfg!(loom) { 1 } else { 8 };

/// The words of the lock. Zero is a free one.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RawShared {
    pub(super) lock: RawLock,
    changed: AtomicU32,
    sleepers: AtomicU32,
    poisoned: AtomicU32,
    left: AtomicU32,
}

impl RawShared {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        let [changed, sleepers, poisoned, left] = [(); 4].map(|()| AtomicU32::new(0));
        Self { lock: RawLock::new(), changed, sleepers, poisoned, left }
    }

    /// Enters as a reader, without waiting: `false` if there is another that writes.
    #[inline]
    pub(crate) fn try_read(&self, party: &impl Sharing) -> Result<bool, Blocked> {
        match party.enter(self) {
            None => Err(Blocked::Shares),
            // Whoever reads already has kept writers out.
            Some(true) => Ok(true),
            Some(false) => {
                fence(Ordering::SeqCst);
                if self.lock.owner_acquired().is_none() {
                    return Ok(true);
                }
                self.leave(party);
                if self.lock.is_had_by(party.owner()) { Err(Blocked::Recursive) } else { Ok(false) }
            }
        }
    }

    /// Enters as a reader, waiting for the writer as long as the party's time lasts.
    pub(crate) fn read(&self, party: &impl Sharing) -> Result<(), Blocked> {
        for _ in 0..TURNED_AWAY_MAX {
            if self.try_read(party)? {
                return Ok(());
            }
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            let seen = self.changed.load(Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let owner = self.lock.owner_acquired();
            let slept = owner.map(|owner| (owner, party.rest(&self.changed, seen)));
            self.sleepers.fetch_sub(1, Ordering::Relaxed);
            match slept {
                // The last look is at who may not be there, or was handed what it does not want.
                Some((_, Slept::Deadline)) => return self.enter_as_owner(party, self.lock.try_take(party)?),
                Some((owner, Slept::Slice)) if !party.is_alive(owner) => break,
                Some((owner, Slept::Slice)) if party.has_left(owner) => return Err(Blocked::Owned(owner)),
                _ => {}
            }
        }
        self.enter_as_owner(party, self.lock.take(party)?)
    }

    /// Enters as a reader who has the writers' lock, and gives that back.
    fn enter_as_owner(&self, party: &impl Sharing, acquired: Acquired) -> Result<(), Blocked> {
        if acquired == Acquired::OwnerDied {
            self.poison();
        }
        let entered = party.enter(self);
        self.free(party);
        if entered.is_some() { Ok(()) } else { Err(Blocked::Shares) }
    }

    /// Gives a share back.
    #[inline]
    pub(crate) fn leave(&self, party: &impl Sharing) {
        party.leave(self);
        fence(Ordering::SeqCst);
        if self.lock.owner().is_some() {
            ring(&self.left, party);
        }
    }

    /// Enters as the writer. With `waits`, waits for others as long as the party's time lasts.
    pub(crate) fn write(&self, party: &impl Sharing, waits: bool) -> Result<Acquired, Blocked> {
        if party.has_share(self) {
            return Err(Blocked::Recursive);
        }
        let acquired = if waits { self.lock.take(party)? } else { self.lock.try_take(party)? };
        if acquired == Acquired::OwnerDied {
            self.poison();
        }
        loop {
            let seen = self.left.load(Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let Some(reader) = party.reader(self) else { return Ok(acquired) };
            let is_over = !waits
                || match party.rest(&self.left, seen) {
                    Slept::Woken => false,
                    Slept::Slice => party.has_left(reader),
                    Slept::Deadline => true,
                };
            if is_over {
                self.free(party);
                return Err(Blocked::Owned(reader));
            }
        }
    }

    /// Gives the writer's lock back.
    pub(crate) fn free(&self, party: &impl Sharing) {
        if !self.lock.free_quietly(party.owner()) {
            self.lock.give_up(party);
        }
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            ring(&self.changed, party);
        }
    }

    /// Nobody vouches for what it guards.
    pub(crate) fn poison(&self) {
        self.poisoned.store(1, Ordering::Relaxed);
    }

    /// It is as it should be.
    pub(crate) fn heal(&self) {
        self.poisoned.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed) != 0
    }
}

#[cold]
fn ring(word: &AtomicU32, party: &impl Sharing) {
    word.fetch_add(1, Ordering::SeqCst);
    party.wake_all(word);
}
