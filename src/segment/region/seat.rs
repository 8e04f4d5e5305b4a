//! Seats: by which one thread is told from every other thread of every process, and its end is noticed.
//!
//! A thread takes a seat in a region when it first needs one, by a lock on the byte of the seat's number, through an open file
//! that only its process has. The lock goes with the thread, with the attachment or with the process, whichever ends first, and
//! the kernel sees to the last two. Whether an owner is there is asked of the kernel, through the open file through which
//! nobody locks: no process number is trusted, no thread has to answer, and one that is stopped is there.
//!
//! A thread that ends and leaves a guard behind – forgotten, or leaked with references that are still in use – keeps its seat: what it
//! has stays its own until its attachment or its process ends. The record says so, and whoever waits is told.
//!
//! Seats are found by address. What a thread found last it remembers, so that a lock in the same region costs it two
//! comparisons.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use rustix::io::Errno;

use super::registry::{self, Found};
use super::{Backing, Occupant, Record, RegionMemory};
use crate::layout::owner::Owner;
use crate::layout::region::{SEAT_LEFT, SEAT_THREAD};
use crate::os::{clock, process, record_lock};

/// Why a thread has no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeatError {
    /// What wants to be locked lies in no region that is attached here.
    #[error("it lies in no region that this process has attached")]
    NotInRegion,
    /// The region is attached for reading alone.
    #[error("its region is attached read-only; attach it for writing")]
    ReadOnly,
    /// This process was forked from the one that attached the region.
    #[error("its region was attached before this process was forked; attach it here again")]
    Forked,
    /// The thread is ending, and has given its seats back.
    #[error("this thread is ending")]
    Ending,
    /// All seats are taken.
    #[error("all {limit} seats of its region are taken; make the region for more participants")]
    Full {
        /// How many there are.
        limit: u64,
    },
    /// The operating system refused something.
    #[error("cannot lock a seat: {0}")]
    System(Errno),
}

/// The calling thread's seat in the region in which something lies.
#[derive(Clone, Copy)]
pub(crate) struct Seat<'region> {
    owner: Owner,
    record: &'region Record,
    region: &'region RegionMemory,
}

/// What a thread remembers of the seat that it used last. Cells one by one: looking at one copies no other. Where `bytes` is zero,
/// it is nothing.
struct Remembered {
    /// The list's epoch at which this holds; never that of a process that has no list.
    epoch: Cell<u64>,
    /// Where the epoch is now.
    now: Cell<&'static AtomicU64>,
    start: Cell<usize>,
    bytes: Cell<usize>,
    owner: Cell<Option<Owner>>,
    record: Cell<*const Record>,
    region: Cell<*const RegionMemory>,
}

/// The seats of a thread, given back when it ends.
struct Seats(RefCell<Vec<(Weak<RegionMemory>, Owner)>>);

static NO_EPOCH: AtomicU64 = AtomicU64::new(0);
/// What no list's epoch is: nothing is remembered.
const NOTHING: u64 = 1;
thread_local! {
    static REMEMBERED: Remembered = const {
        Remembered {
            epoch: Cell::new(NOTHING),
            now: Cell::new(&NO_EPOCH),
            start: Cell::new(0),
            bytes: Cell::new(0),
            owner: Cell::new(None),
            record: Cell::new(ptr::null()),
            region: Cell::new(ptr::null()),
        }
    };
    /// Guards of this thread that have not been dropped.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
    static SEATS: Seats = const { Seats(RefCell::new(Vec::new())) };
}

/// The calling thread's seat in the region in which `place` lies; one is taken if it has none. No system call if it is the
/// region that this thread used last; never blocks for others.
#[inline]
pub(crate) fn seat_at<T>(place: &T) -> Result<Seat<'_>, SeatError> {
    let address = ptr::from_ref(place).addr();
    let known = REMEMBERED.with(|remembered| {
        let is_known = remembered.now.get().load(Ordering::Relaxed) == remembered.epoch.get()
            && address.wrapping_sub(remembered.start.get()) < remembered.bytes.get();
        let owner = remembered.owner.get().filter(|_| is_known)?;
        // SAFETY: the list has not changed since this was remembered, so the region in which `place` lies is attached. It stays
        // so as long as `place` is borrowed from it, and with it the record, which lies in its mapping.
        unsafe { Some(Seat { owner, record: &*remembered.record.get(), region: &*remembered.region.get() }) }
    });
    if let Some(seat) = known {
        return Ok(seat);
    }
    find_seat(place, address)
}

/// A part of every guard of a lock: it stays with its thread, which keeps its seats as long as it has one that has not ended.
///
/// It does not end by itself, as a guard with a part that wants to be dropped is put into memory for that, which costs a nanosecond.
#[derive(Clone, Copy)]
pub(crate) struct Kept(PhantomData<*const ()>);

impl Kept {
    /// The calling thread has one guard more.
    #[inline]
    pub(crate) fn new() -> Self {
        GUARDS.set(GUARDS.get().wrapping_add(1));
        Self(PhantomData)
    }

    /// Its guard is dropped.
    #[inline]
    pub(crate) fn end(self) {
        GUARDS.set(GUARDS.get().wrapping_sub(1));
    }
}

/// As [`seat_at`], to give something back: also the seat that this thread left when it began to end, as it may drop its last guards
/// after that.
#[inline]
pub(crate) fn seat_to_leave<T>(place: &T) -> Result<Seat<'_>, SeatError> {
    match seat_at(place) {
        Err(SeatError::Ending) => seat_left_at(place),
        settled => settled,
    }
}

#[cold]
fn seat_left_at<T>(place: &T) -> Result<Seat<'_>, SeatError> {
    let Found::Region(region) = registry::find(ptr::from_ref(place).addr()) else {
        return Err(SeatError::NotInRegion);
    };
    let owner = region.seat_left().ok_or(SeatError::Ending)?;
    // SAFETY: as in `find_seat`.
    let region: &RegionMemory = unsafe { &*Arc::as_ptr(&region) };
    Ok(Seat { owner, record: region.record(owner.seat() as u16), region })
}

#[cold]
fn find_seat<T>(_place: &T, address: usize) -> Result<Seat<'_>, SeatError> {
    // Read before the list: if that changes now, what is remembered is void at once.
    let now = registry::epoch();
    let epoch = now.load(Ordering::Acquire);
    let region = match registry::find(address) {
        Found::Region(region) if region.is_forked() => return Err(SeatError::Forked),
        Found::Region(region) if !region.is_writable() => return Err(SeatError::ReadOnly),
        Found::Region(region) => region,
        Found::Forked => return Err(SeatError::Forked),
        Found::Nothing => return Err(SeatError::NotInRegion),
    };
    let owner = SEATS.try_with(|seats| seats.of(&region)).map_err(|_| SeatError::Ending)??;
    // SAFETY: `place` lies in this region, and is borrowed from it: it stays attached as long as that, and the `Arc` here is not
    // the last.
    let region: &RegionMemory = unsafe { &*Arc::as_ptr(&region) };
    let record = region.record(owner.seat() as u16);
    REMEMBERED.with(|remembered| {
        remembered.epoch.set(epoch);
        remembered.now.set(now);
        remembered.start.set(region.mapping.base().as_ptr().addr());
        remembered.bytes.set(region.mapping.bytes());
        remembered.owner.set(Some(owner));
        remembered.record.set(record);
        remembered.region.set(region);
    });
    Ok(Seat { owner, record, region })
}

impl<'region> Seat<'region> {
    /// Who we are.
    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Our record.
    #[inline]
    pub(crate) fn record(&self) -> &'region Record {
        self.record
    }

    /// The records that were ever used, by the numbers of their seats.
    pub(crate) fn records(&self) -> &'region [Record] {
        self.region.records()
    }

    /// How far something lies from the start of the region: the same in every process, and never zero.
    pub(crate) fn offset<T>(&self, place: &T) -> u64 {
        (ptr::from_ref(place).addr() - self.region.mapping.base().as_ptr().addr()) as u64
    }

    /// Whether an owner is there: it has neither ended nor detached the region. One that is stopped is there. A system call.
    pub(crate) fn is_alive(&self, owner: Owner) -> bool {
        self.region.is_alive(owner)
    }

    /// The owner that has a seat now, if it is there.
    pub(crate) fn owner_of(&self, seat: usize) -> Option<Owner> {
        let record = self.records().get(seat)?;
        let owner = Owner::new(seat as u16, record.generation.load(Ordering::Acquire) as u32);
        self.is_alive(owner).then_some(owner)
    }

    /// The region.
    pub(crate) fn region(&self) -> &'region RegionMemory {
        self.region
    }
}

impl RegionMemory {
    /// Whether an owner is there: see [`Seat::is_alive`].
    pub(crate) fn is_alive(&self, owner: Owner) -> bool {
        // How many were ever used may be seen later than who has a lock: the seat's own words say whether it was.
        if owner.seat() >= self.shape.seats {
            return false;
        }
        self.record(owner.seat() as u16).generation.load(Ordering::Acquire) as u32 == owner.generation()
            // A kernel that does not answer has not said that anybody has gone, and nobody who may be there is robbed.
            && record_lock::is_locked(&self.memory, owner.seat() as u64).unwrap_or(true)
    }

    /// Whether an owner's thread has ended without giving back what it has.
    pub(crate) fn has_left(&self, owner: Owner) -> bool {
        let record = self.records().get(owner.seat());
        record.is_some_and(|record| {
            record.generation.load(Ordering::Acquire) as u32 == owner.generation()
                && record.kind.load(Ordering::Acquire) == SEAT_LEFT
        })
    }

    /// The seat that the calling thread has left.
    fn seat_left(&self) -> Option<Owner> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.iter().map(|&seat| (seat, self.record(seat))).filter(|(_, record)| {
            record.kind.load(Ordering::Relaxed) == SEAT_LEFT
                && record.who.load(Ordering::Relaxed) == super::who()
        });
        // Numbers of threads come again: an earlier one of this number may have left a seat, too.
        let (seat, record) = left.max_by_key(|(_, record)| record.since.load(Ordering::Relaxed))?;
        Some(Owner::new(seat, record.generation.load(Ordering::Relaxed) as u32))
    }

    /// Whom an owner says it is; `None` if another has its seat by now.
    pub(crate) fn occupant(&self, owner: Owner) -> Option<Occupant> {
        let record = self.records().get(owner.seat())?;
        let occupant = record.occupant();
        (record.generation.load(Ordering::Acquire) as u32 == owner.generation()).then_some(occupant)
    }

    /// Takes a seat that nobody has.
    pub(super) fn take_seat(&self, kind: u64) -> Result<Owner, SeatError> {
        let locks = self.locks.as_ref().ok_or(SeatError::ReadOnly)?;
        let locks = locks.get().ok_or(SeatError::Forked)?;
        // Asked for before a seat is ours: from then on until it has our generation, its last owner looks alive.
        let (who, since) = (super::who(), clock::monotonic_ns());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for seat in 0..self.shape.seats as u16 {
            // Our own open file is granted what it has already.
            if !taken.contains(&seat)
                && record_lock::try_lock(locks, seat.into()).map_err(SeatError::System)?
            {
                taken.push(seat);
                return Ok(self.occupy(seat, who, since, kind));
            }
        }
        Err(SeatError::Full { limit: self.shape.seats as u64 })
    }

    /// Writes ourselves into the record of a seat whose byte we have locked.
    fn occupy(&self, seat: u16, who: u64, since: u64, kind: u64) -> Owner {
        let record = self.record(seat);
        record.waiting.store(0, Ordering::Relaxed);
        // Shares of one that has gone are nobody's.
        record.shares.iter().for_each(|share| share.store(0, Ordering::Relaxed));
        record.who.store(who, Ordering::Relaxed);
        record.since.store(since, Ordering::Relaxed);
        record.kind.store(kind, Ordering::Relaxed);
        let generation = self.next_generation(record.generation.load(Ordering::Relaxed) as u32);
        // Whoever owned anything in an earlier generation is known to have gone from here on.
        record.generation.store(generation.into(), Ordering::Release);
        let used = self.header_word(std::mem::offset_of!(crate::layout::region::RegionHeader, used));
        used.fetch_max(u64::from(seat) + 1, Ordering::AcqRel);
        Owner::new(seat, generation)
    }

    /// The generation of a seat's next taker.
    fn next_generation(&self, last: u32) -> u32 {
        let counted = last.wrapping_add(1).max(1);
        match self.backing {
            Backing::Memory => counted,
            // A file that was copied, or lost its power, may have a record that is older than the locks beside it: counting
            // on from there could come to the owner of one of them.
            Backing::File => {
                let random = process::random().map(u32::from_le_bytes);
                random.ok().filter(|random| ![0, last].contains(random)).unwrap_or(counted)
            }
        }
    }

    /// Gives a seat back, unless its thread has guards that nobody dropped.
    fn leave_seat(&self, owner: Owner, has_guards: bool) {
        if self.is_forked() {
            return;
        }
        if has_guards {
            return self.record(owner.seat() as u16).kind.store(SEAT_LEFT, Ordering::Release);
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|seat| usize::from(*seat) != owner.seat());
        if let Some(locks) = self.locks.as_ref().and_then(|locks| locks.get()) {
            // What cannot be unlocked goes with the attachment.
            let _ = record_lock::unlock(locks, owner.seat() as u64);
        }
    }
}

impl Seats {
    /// This thread's seat in a region.
    fn of(&self, region: &Arc<RegionMemory>) -> Result<Owner, SeatError> {
        let mut seats = self.0.borrow_mut();
        seats.retain(|(of, _)| of.strong_count() > 0);
        let is_same = |of: &Weak<RegionMemory>| ptr::eq(of.as_ptr(), Arc::as_ptr(region));
        if let Some((_, owner)) = seats.iter().find(|(of, _)| is_same(of)) {
            return Ok(*owner);
        }
        let owner = region.take_seat(SEAT_THREAD)?;
        seats.push((Arc::downgrade(region), owner));
        Ok(owner)
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        REMEMBERED.with(|remembered| (remembered.now.set(&NO_EPOCH), remembered.epoch.set(NOTHING)));
        let has_guards = GUARDS.get() > 0;
        for (region, owner) in self.0.take() {
            if let Some(region) = region.upgrade() {
                region.leave_seat(owner, has_guards);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::region::Shape;
    use std::sync::atomic::AtomicU8;

    fn region(seats: usize) -> Arc<RegionMemory> {
        let shape = Shape::new(seats, 0, 1 << 20).expect("it is possible");
        let region = RegionMemory::create(shape, 8192, &[]).expect("8 KiB are available");
        region.publish();
        region
    }

    fn place(region: &RegionMemory, offset: usize) -> &AtomicU8 {
        let place = region.range(offset, 1, 1).expect("it lies in the region");
        // SAFETY: a byte of the mapping that tests touch as an atomic alone.
        unsafe { AtomicU8::from_ptr(place.as_ptr()) }
    }

    fn owner_at(region: &RegionMemory, offset: usize) -> Owner {
        seat_at(place(region, offset)).expect("there are seats").owner()
    }

    #[test]
    fn a_thread_has_one_seat_in_each_region_and_keeps_it() {
        let (first, second) = (region(8), region(8));
        let owner = owner_at(&first, 0);
        assert_eq!(owner_at(&first, 8191), owner);
        let _ = owner_at(&second, 1);
        assert_eq!(owner_at(&first, 5), owner, "another region in between changes nothing");
        let other = std::thread::scope(|scope| scope.spawn(|| owner_at(&first, 0)).join().expect("it ends"));
        assert_ne!(other.seat(), owner.seat());
    }

    #[test]
    fn an_owner_goes_with_its_thread_and_its_seat_is_used_again() {
        let region = region(8);
        let (asks, answers) = std::sync::mpsc::channel();
        let ours = seat_at(place(&region, 0)).expect("there are seats");
        let theirs = std::thread::scope(|scope| {
            let region = &region;
            let thread = scope.spawn(move || {
                let owner = owner_at(region, 0);
                answers.recv().expect("we are asked to end");
                owner
            });
            while region.occupants().len() < 3 {
                std::thread::yield_now();
            }
            assert!(region.occupants().iter().all(|(owner, _)| ours.is_alive(*owner)));
            asks.send(()).expect("it listens");
            thread.join().expect("it ends")
        });
        // A scope ends before the thread-local values of its threads do.
        while ours.is_alive(theirs) {
            std::thread::yield_now();
        }
        assert!(ours.is_alive(ours.owner()));
        let next = std::thread::scope(|scope| scope.spawn(|| owner_at(&region, 0)).join().expect("it ends"));
        assert_eq!((next.seat(), next.generation()), (theirs.seat(), theirs.generation() + 1));
        assert!(!ours.is_alive(theirs));
    }

    #[test]
    fn an_attachment_that_goes_takes_its_seats_along() {
        let first = region(8);
        let again = || first.memory().try_clone().expect("descriptors are left");
        let second = RegionMemory::open(again(), crate::os::mmap::Access::ReadWrite).expect("it is a region");
        let (ours, theirs) = (owner_at(&first, 0), owner_at(&second, 0));
        assert_ne!(ours.seat(), theirs.seat(), "each attachment has its own");
        assert!(first.is_alive(theirs) && second.is_alive(ours));
        drop(second);
        assert!(!first.is_alive(theirs) && first.is_alive(ours));
        assert_eq!(owner_at(&first, 0), ours);
    }

    #[test]
    fn seats_are_limited_and_the_limit_is_named() {
        let region = region(2);
        let _ = owner_at(&region, 0);
        let refused = std::thread::scope(|scope| {
            scope.spawn(|| seat_at(place(&region, 0)).err()).join().expect("it ends")
        });
        assert_eq!(refused, Some(SeatError::Full { limit: 2 }));
    }

    #[test]
    fn what_lies_elsewhere_or_can_only_be_read_has_no_seat() {
        let outside = 7u64;
        assert_eq!(seat_at(&outside).err(), Some(SeatError::NotInRegion));
        let region = region(2);
        let again = region.memory().try_clone().expect("descriptors are left");
        let reader = RegionMemory::open(again, crate::os::mmap::Access::Read).expect("it is a region");
        assert_eq!(seat_at(place(&reader, 0)).err(), Some(SeatError::ReadOnly));
        assert!(seat_at(place(&region, 0)).is_ok());
    }

    #[test]
    fn what_is_mapped_where_a_region_was_is_not_taken_for_it() {
        for _ in 0..20 {
            let region = region(4);
            let owner = owner_at(&region, 0);
            assert_eq!((owner.generation(), owner.seat()), (1, 1));
        }
    }
}
