//! One thread of one process, as the locks of a region see it.

use std::time::Duration;

use super::shared_raw::RawShared;
use super::{Party, RawLock, Sharing, Slept};
use crate::layout::owner::Owner;
use crate::layout::region::SHARE_PLACE_SHIFT;
use crate::os::clock::{self, Deadline};
use crate::os::futex;
use crate::segment::region::{Seat, SeatError, seat_at, seat_to_leave};
use crate::sync::door::{AtomicU32, AtomicU64, Ordering};

/// The count in a share.
const COUNT_MASK: u64 = (1 << SHARE_PLACE_SHIFT) - 1;
/// How long anybody sleeps without looking whether the owner is still there.
const SLICE: Duration = Duration::from_millis(5);

/// The calling thread in the region in which a lock lies, and how long it waits there.
pub(super) struct Sitter<'region> {
    seat: Seat<'region>,
    deadline: Deadline,
}

impl<'region> Sitter<'region> {
    /// The calling thread; it gets a seat if it has none.
    #[inline]
    pub(super) fn at<T>(place: &'region T, deadline: Deadline) -> Result<Self, SeatError> {
        Ok(Self { seat: seat_at(place)?, deadline })
    }

    /// The calling thread, to give something back.
    #[inline]
    pub(super) fn leaving<T>(place: &'region T) -> Result<Self, SeatError> {
        Ok(Self { seat: seat_to_leave(place)?, deadline: Deadline::NEVER })
    }

    pub(super) fn seat(&self) -> &Seat<'region> {
        &self.seat
    }
}

/// A lock that the calling thread has, and gives back, whatever becomes of it meanwhile.
pub(super) struct Held<'a>(pub(super) &'a RawLock);

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        give_back(self.0);
    }
}

/// Frees a lock that the calling thread has. In a forked child this thread is another, which has nothing, and nor has one whose
/// seat has been given back.
#[inline(always)]
pub(super) fn give_back(lock: &RawLock) {
    if !seat_at(lock).is_ok_and(|seat| lock.free_quietly(seat.owner())) {
        give_back_slowly(lock);
    }
}

#[cold]
fn give_back_slowly(lock: &RawLock) {
    if let Ok(sitter) = Sitter::leaving(lock) {
        lock.give_up(&sitter);
    }
}

impl Party for Sitter<'_> {
    #[inline]
    fn owner(&self) -> Owner {
        self.seat.owner()
    }

    fn is_alive(&self, other: Owner) -> bool {
        self.seat.is_alive(other)
    }

    fn has_left(&self, other: Owner) -> bool {
        self.seat.region().has_left(other)
    }

    fn line_up(&self, lock: &RawLock, ticket: u64) {
        let record = self.seat.record();
        record.ticket.store(ticket, Ordering::Relaxed);
        record.waiting.store(self.seat.offset(lock), Ordering::Release);
    }

    fn step_out(&self, _lock: &RawLock) {
        self.seat.record().waiting.store(0, Ordering::Release);
    }

    fn is_in_line(&self, lock: &RawLock, other: Owner) -> bool {
        let record = self.seat.records().get(other.seat());
        record.is_some_and(|record| record.waiting.load(Ordering::Acquire) == self.seat.offset(lock))
    }

    fn first_in_line(&self, lock: &RawLock) -> Option<Owner> {
        let offset = self.seat.offset(lock);
        let records = self.seat.records().iter().enumerate();
        let in_line = records.filter(|(_, record)| record.waiting.load(Ordering::Acquire) == offset);
        let mut line: Vec<_> =
            in_line.map(|(seat, record)| (record.ticket.load(Ordering::Relaxed), seat)).collect();
        line.sort_unstable();
        line.into_iter().find_map(|(_, seat)| self.seat.owner_of(seat))
    }

    fn sleep(&self, word: &AtomicU64, seen: u64) -> Slept {
        self.sleep_slice(word, seen as u32, || word.load(Ordering::Relaxed) != seen)
    }

    fn wake(&self, word: &AtomicU64, all: bool) {
        if all { futex::wake(word) } else { futex::wake_many(word, 1) }
    }

    fn now(&self) -> u64 {
        clock::monotonic_ns()
    }
}

impl Sitter<'_> {
    /// Sleeps on a word while it says `seen`, for a slice at most.
    fn sleep_slice(&self, word: &impl futex::Word, seen: u32, has_changed: impl Fn() -> bool) -> Slept {
        if self.deadline.has_passed() {
            return Slept::Deadline;
        }
        futex::wait(word, seen, self.deadline.or_after(SLICE));
        if has_changed() {
            return Slept::Woken;
        }
        // A signal, or no reason at all, is a reason to look as well: who gets signals all the time would never otherwise.
        if self.deadline.has_passed() { Slept::Deadline } else { Slept::Slice }
    }

    /// The share in this lock, if there is one.
    fn share(&self, lock: &RawShared) -> Option<&AtomicU64> {
        let place = self.seat.offset(lock);
        let mut shares = self.seat.record().shares.iter();
        shares.find(|share| share.load(Ordering::Relaxed) >> SHARE_PLACE_SHIFT == place)
    }
}

/// Nobody but its thread writes a share.
impl Sharing for Sitter<'_> {
    #[inline]
    fn enter(&self, lock: &RawShared) -> Option<bool> {
        if let Some(share) = self.share(lock) {
            let more = share.load(Ordering::Relaxed) + 1;
            // As often as this no thread reads without giving back.
            share.store(if more & COUNT_MASK == 0 { return None } else { more }, Ordering::Relaxed);
            return Some(true);
        }
        let mut shares = self.seat.record().shares.iter();
        let free = shares.find(|share| share.load(Ordering::Relaxed) == 0)?;
        free.store(self.seat.offset(lock) << SHARE_PLACE_SHIFT | 1, Ordering::Relaxed);
        Some(false)
    }

    #[inline]
    fn leave(&self, lock: &RawShared) {
        if let Some(share) = self.share(lock) {
            let word = share.load(Ordering::Relaxed);
            share.store(if word & COUNT_MASK == 1 { 0 } else { word - 1 }, Ordering::Release);
        }
    }

    fn has_share(&self, lock: &RawShared) -> bool {
        self.share(lock).is_some()
    }

    fn reader(&self, lock: &RawShared) -> Option<Owner> {
        let place = self.seat.offset(lock);
        let records = self.seat.records().iter().enumerate();
        let mut reading = records.filter(|(_, record)| record.places_shared().any(|of| of == place));
        reading.find_map(|(seat, _)| self.seat.owner_of(seat))
    }

    fn rest(&self, word: &AtomicU32, seen: u32) -> Slept {
        self.sleep_slice(word, seen, || word.load(Ordering::SeqCst) != seen)
    }

    fn wake_all(&self, word: &AtomicU32) {
        futex::wake(word);
    }
}
