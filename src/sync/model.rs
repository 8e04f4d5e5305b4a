//! The algorithms of this module under loom: every interleaving, every weak-memory outcome, on tiny instances.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib model` runs them. Payloads are loom's own cells, which
//! report any access that is not ordered; the futex is a mutex and a condition variable, as the kernel's is.

mod notes;
mod queue;

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::bell::{Mode, SleeperWords, Ticket, clear_bit, set_bit};
use super::biased::Biased;
use super::cursor::{self, CursorWords};
use super::door::{AtomicU32, AtomicU64, Ordering, fence, relax};
use super::feed::Feed;
use super::geometry::Geometry;
use super::pool::Pool;
use super::readers::{Pins, Readers, Standing};
use super::ring::{Reader, RingWords, Sight, Writer, must_ring};
use super::slot::Carriage;

const SLOTS: usize = 2;

/// A ring in loom's memory, with the payloads that its words guard.
struct Ring {
    slots: Vec<AtomicU64>,
    blocked: AtomicU64,
    payloads: Vec<UnsafeCell<u64>>,
}

impl Ring {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            blocked: AtomicU64::new(0),
            payloads: (0..SLOTS).map(|_| UnsafeCell::new(0)).collect(),
        })
    }
}

// SAFETY: the cells report every access that the protocol under test fails to order.
unsafe impl Sync for Ring {}
// SAFETY: as above.
unsafe impl Send for Ring {}

impl RingWords for Arc<Ring> {
    fn slot(&self, index: usize) -> &AtomicU64 {
        &self.slots[index]
    }
    fn blocked(&self) -> &AtomicU64 {
        &self.blocked
    }
}

/// A cursor segment in loom's memory.
struct Cursor {
    cursor: AtomicU64,
    pins_used: AtomicU64,
    lost: AtomicU64,
    pins: Vec<AtomicU64>,
}

impl Cursor {
    fn new() -> Arc<Self> {
        let pins = vec![AtomicU64::new(0)];
        let (pins_used, lost) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { cursor: AtomicU64::new(0), pins_used, lost, pins })
    }
}

impl CursorWords for Arc<Cursor> {
    fn cursor(&self) -> &AtomicU64 {
        &self.cursor
    }
    fn pins_used(&self) -> &AtomicU64 {
        &self.pins_used
    }
    fn lost(&self) -> &AtomicU64 {
        &self.lost
    }
    fn pin(&self, index: usize) -> &AtomicU64 {
        &self.pins[index]
    }
    fn pins(&self) -> usize {
        self.pins.len()
    }
}

/// One endpoint's line, and the kernel's side of sleeping on it.
pub(super) struct Line {
    counter: AtomicU32,
    armed: AtomicU64,
    kernel: Mutex<()>,
    woken: Condvar,
}

impl Line {
    pub(super) fn new() -> Arc<Self> {
        let (counter, armed) = (AtomicU32::new(0), AtomicU64::new(0));
        Arc::new(Self { counter, armed, kernel: Mutex::new(()), woken: Condvar::new() })
    }

    pub(super) fn words(&self) -> SleeperWords<'_> {
        SleeperWords { counter: &self.counter, armed: &self.armed }
    }

    /// FUTEX_WAIT: compares and sleeps under the lock that FUTEX_WAKE takes.
    pub(super) fn wait(&self, ticket: Ticket) {
        let guard = self.kernel.lock().unwrap();
        if self.counter.load(Ordering::Relaxed) == ticket.0 {
            drop(self.woken.wait(guard).unwrap());
        }
    }

    pub(super) fn ring(&self, woken: &mut u64) {
        if self.words().raise(woken).is_some() {
            drop(self.kernel.lock().unwrap());
            self.woken.notify_all();
        }
    }
}

/// Every interleaving with up to three preemptions; the rest of the space grows without telling more.
pub(super) fn check(protocol: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(protocol);
}

fn geometry() -> Geometry {
    Geometry::for_model(SLOTS)
}

fn write(writer: &mut Writer<Arc<Ring>>, ring: &Ring, value: u64) {
    let index = geometry().index(writer.tail());
    // SAFETY: the protocol under test says that the slot is free.
    ring.payloads[index].with_mut(|payload| unsafe { *payload = value });
    writer.publish(Carriage::Inline(8));
}

fn read(ring: &Ring, sequence: u64) -> u64 {
    // SAFETY: the protocol under test says that the slot is published and not released.
    ring.payloads[geometry().index(sequence)].with(|payload| unsafe { *payload })
}

fn look(writer: &mut Writer<Arc<Ring>>, readers: &mut Readers<Arc<Cursor>>, pins: &mut Pins) {
    let progress = readers.look(writer.tail());
    readers.scan(pins);
    writer.raise_limit(progress.released);
}

#[test]
fn model_messages_arrive_whole_and_slots_are_reused_only_after_release() {
    check(|| {
        let (ring, cursor) = (Ring::new(), Cursor::new());
        let mut reader = Reader::new(Arc::clone(&ring), Arc::clone(&cursor), geometry(), 0);
        let their_ring = Arc::clone(&ring);
        let reading = thread::spawn(move || {
            for expected in 0..3 {
                while reader.peek().is_none() {
                    relax();
                }
                assert_eq!(read(&their_ring, expected), expected + 10);
                reader.advance();
                reader.release();
            }
        });
        let mut readers = Readers::new();
        readers.admit(cursor, Standing::Reliable, 0);
        let (mut writer, mut held) = (Writer::new(Arc::clone(&ring), geometry()), Pins::default());
        for value in 0..3 {
            while !writer.has_space() {
                look(&mut writer, &mut readers, &mut held);
                relax();
            }
            write(&mut writer, &ring, value + 10);
        }
        reading.join().unwrap();
    });
}

#[test]
fn model_a_pinned_slot_is_not_written_until_it_is_let_go() {
    check(|| {
        let (ring, cursor) = (Ring::new(), Cursor::new());
        let mut writer = Writer::new(Arc::clone(&ring), geometry());
        write(&mut writer, &ring, 10);
        write(&mut writer, &ring, 11);
        let (their_ring, theirs) = (Arc::clone(&ring), Arc::clone(&cursor));
        let reading = thread::spawn(move || {
            cursor::pin(&theirs, 0, 0);
            cursor::publish(&theirs, 1);
            assert_eq!(read(&their_ring, 0), 10);
            cursor::unpin(&theirs, 0);
        });
        let (mut readers, mut held) = (Readers::new(), Pins::default());
        readers.admit(cursor, Standing::Reliable, 0);
        while !writer.has_space() || held.counts(0) {
            look(&mut writer, &mut readers, &mut held);
            relax();
        }
        write(&mut writer, &ring, 12);
        reading.join().unwrap();
    });
}

#[test]
fn model_a_chunk_is_reused_only_when_released_and_let_go() {
    check(|| {
        let (chunks, cursor) = (Ring::new(), Cursor::new());
        let mut pool = Pool::default();
        pool.add_segment(4096, 2, 1);
        let chunk = pool.take(4096).unwrap();
        pool.send(chunk, 0);
        let (their_chunks, theirs) = (Arc::clone(&chunks), Arc::clone(&cursor));
        let reading = thread::spawn(move || {
            cursor::pin(&theirs, 0, 0);
            cursor::publish(&theirs, 1);
            read(&their_chunks, 0);
            cursor::unpin(&theirs, 0);
        });
        let (mut readers, mut held) = (Readers::new(), Pins::default());
        readers.admit(cursor, Standing::Reliable, 0);
        while pool.take(4096).is_none() {
            let progress = readers.look(1);
            readers.scan(&mut held);
            pool.expire(progress.released, usize::MAX, |_| false, |_| ());
            pool.sweep(|sequence| held.hold(sequence));
            relax();
        }
        // SAFETY: the protocol under test says that the chunk is free.
        chunks.payloads[0].with_mut(|payload| unsafe { *payload = 1 });
        reading.join().unwrap();
    });
}

/// A subscriber that sleeps until `count` messages have come, as `Receiver::sleep` does.
fn receive_asleep(ring: &Arc<Ring>, cursor: Arc<Cursor>, line: &Line, sleepers: &AtomicU64, count: u64) {
    let mut reader = Reader::new(Arc::clone(ring), cursor, geometry(), 0);
    for expected in 0..count {
        while reader.peek().is_none() {
            let ticket = line.words().arm(Mode::Futex);
            set_bit(sleepers, 0);
            fence(Ordering::SeqCst);
            if reader.peek().is_none() {
                line.wait(ticket);
            }
            line.words().disarm();
            clear_bit(sleepers, 0);
        }
        assert_eq!(read(ring, expected), expected + 10);
        reader.advance();
    }
}

#[test]
fn model_no_message_is_slept_through() {
    check(|| send_to_a_sleeper(|| fence(Ordering::SeqCst)));
}

/// That the checker would notice: without the sender's fence a message is slept through, for ever.
#[test]
#[should_panic(expected = "deadlock")]
fn model_without_the_fence_a_message_is_slept_through() {
    check(|| send_to_a_sleeper(|| ()));
}

/// A sender with two messages and a receiver that sleeps in between.
fn send_to_a_sleeper(fence_of_sender: fn()) {
    let (ring, cursor, line) = (Ring::new(), Cursor::new(), Line::new());
    let sleepers = Arc::new(AtomicU64::new(0));
    let receiving = {
        let (ring, line, sleepers) = (Arc::clone(&ring), Arc::clone(&line), Arc::clone(&sleepers));
        thread::spawn(move || receive_asleep(&ring, cursor, &line, &sleepers, 2))
    };
    let (mut writer, mut woken) = (Writer::new(Arc::clone(&ring), geometry()), 0);
    for value in 0..2 {
        write(&mut writer, &ring, value + 10);
        fence_of_sender();
        if sleepers.load(Ordering::Relaxed) & 1 != 0 {
            line.ring(&mut woken);
        }
    }
    receiving.join().unwrap();
}

#[test]
fn model_two_senders_wake_one_sleeper() {
    check(|| {
        let line = Line::new();
        let rings = [Ring::new(), Ring::new()];
        let sleepers = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let sending: Vec<_> = (0..2)
            .map(|index| {
                let (ring, line, bits) =
                    (Arc::clone(&rings[index]), Arc::clone(&line), Arc::clone(&sleepers[index]));
                thread::spawn(move || {
                    write(&mut Writer::new(Arc::clone(&ring), geometry()), &ring, 10);
                    fence(Ordering::SeqCst);
                    if bits.load(Ordering::Relaxed) & 1 != 0 {
                        line.ring(&mut 0);
                    }
                })
            })
            .collect();
        let has_message = |index: usize| rings[index].slots[0].load(Ordering::Acquire) != 0;
        let mut missing = vec![0, 1];
        while !missing.is_empty() {
            let ticket = line.words().arm(Mode::Futex);
            sleepers.iter().for_each(|bits| set_bit(bits, 0));
            fence(Ordering::SeqCst);
            let before = missing.len();
            missing.retain(|&index| !has_message(index));
            if missing.len() == before {
                line.wait(ticket);
            }
            line.words().disarm();
            sleepers.iter().for_each(|bits| clear_bit(bits, 0));
        }
        sending.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn model_a_blocked_writer_is_rung_by_a_release() {
    blocked_writer(|cursor| cursor::publish(cursor, 1), |held: &[u64]| held.is_empty());
}

#[test]
fn model_a_blocked_writer_is_rung_by_an_unpin() {
    blocked_writer(
        |cursor| {
            cursor::pin(cursor, 0, 0);
            cursor::publish(cursor, 1);
            cursor::unpin(cursor, 0);
        },
        |held: &[u64]| held.is_empty(),
    );
}

/// A writer that sleeps until the slot of message 0 is free, as `Sender::wait` does, and a reader that frees it.
fn blocked_writer(free: fn(&Arc<Cursor>), is_free: fn(&[u64]) -> bool) {
    check(move || {
        let (ring, cursor, line) = (Ring::new(), Cursor::new(), Line::new());
        let mut writer = Writer::new(Arc::clone(&ring), geometry());
        write(&mut writer, &ring, 10);
        write(&mut writer, &ring, 11);
        let reading = {
            let (ring, cursor, line) = (Arc::clone(&ring), Arc::clone(&cursor), Arc::clone(&line));
            thread::spawn(move || {
                free(&cursor);
                if must_ring(&ring, &mut 0) {
                    line.ring(&mut 0);
                }
            })
        };
        let (mut readers, mut held, mut epoch) = (Readers::new(), Pins::default(), 0);
        readers.admit(cursor, Standing::Reliable, 0);
        let mut is_done = |writer: &mut Writer<Arc<Ring>>| {
            look(writer, &mut readers, &mut held);
            writer.has_space() && is_free(&held.counted)
        };
        while !is_done(&mut writer) {
            epoch += 1;
            let ticket = line.words().arm(Mode::Futex);
            writer.mark_blocked(epoch);
            fence(Ordering::SeqCst);
            if !is_done(&mut writer) {
                line.wait(ticket);
            }
            writer.mark_blocked(0);
            line.words().disarm();
        }
        reading.join().unwrap();
    });
}

#[test]
fn model_a_joiner_misses_nothing_and_reads_nothing_torn() {
    check(|| join_while_writing(0));
}

#[test]
fn model_a_joiner_gets_what_was_kept_for_it() {
    check(|| join_while_writing(1));
}

/// A publisher that keeps the last `history` messages, and a subscriber that is let in meanwhile, as
/// `PublisherShared::admit` does.
fn join_while_writing(history: u64) {
    let (ring, cursor) = (Ring::new(), Cursor::new());
    let readers = Arc::new(Mutex::new(Readers::new()));
    let mut writer = Writer::new(Arc::clone(&ring), geometry());
    let tail = writer.shared_tail();
    let joining = {
        let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
        thread::spawn(move || {
            let mut list = readers.lock().unwrap();
            let start = tail.load(Ordering::Relaxed).saturating_sub(history);
            list.admit(Arc::clone(&cursor), Standing::Reliable, start);
            drop(list);
            let mut reader = Reader::new(Arc::clone(&ring), cursor, geometry(), start);
            for expected in start..3 {
                while reader.peek().is_none() {
                    relax();
                }
                assert_eq!(read(&ring, expected), expected + 10);
                reader.advance();
                reader.release();
            }
        })
    };
    let mut pins = Pins::default();
    for value in 0..3 {
        while writer.tail() + history >= SLOTS as u64 && !has_space(&mut writer, &readers, history, &mut pins)
        {
            relax();
        }
        write(&mut writer, &ring, value + 10);
    }
    joining.join().unwrap();
}

/// Looks as `SendingEnd::look` does, with messages that are kept for joiners.
fn has_space(
    writer: &mut Writer<Arc<Ring>>,
    readers: &Mutex<Readers<Arc<Cursor>>>,
    history: u64,
    pins: &mut Pins,
) -> bool {
    let mut readers = readers.lock().unwrap();
    let released = readers.look(writer.tail()).released;
    readers.scan(pins);
    let kept = writer.tail().saturating_sub(history);
    released.min(kept) + SLOTS as u64 > writer.tail() && {
        writer.raise_limit(released.min(kept));
        true
    }
}

/// Payloads of two words that are written and read while nothing keeps the two sides apart.
struct Racing([AtomicU64; 2]);

#[test]
fn model_what_is_copied_out_under_the_writer_is_whole_or_refused() {
    check(|| {
        let ring = Ring::new();
        let payloads: Arc<Vec<Racing>> =
            Arc::new((0..SLOTS).map(|_| Racing([AtomicU64::new(0), AtomicU64::new(0)])).collect());
        let reading = {
            let (ring, payloads) = (Arc::clone(&ring), Arc::clone(&payloads));
            thread::spawn(move || {
                let reader = Reader::new(ring, Cursor::new(), geometry(), 0);
                if let Sight::Message(word) = reader.sight() {
                    let Racing([first, second]) = &payloads[0];
                    let copy = (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed));
                    if reader.still_has(word) {
                        assert_eq!(copy, (10, 10));
                    }
                }
            })
        };
        let mut writer = Writer::new(ring, geometry());
        writer.lift_limit();
        for value in 10..13 {
            writer.mark_writing();
            let Racing([first, second]) = &payloads[geometry().index(writer.tail())];
            first.store(value, Ordering::Relaxed);
            second.store(value, Ordering::Relaxed);
            writer.publish(Carriage::Inline(8));
        }
        reading.join().unwrap();
    });
}

#[test]
fn model_a_withdrawn_chunk_is_reused_only_if_nobody_has_pinned_it() {
    check(|| withdraw_against_a_pin(|| fence(Ordering::SeqCst)));
}

/// That the checker would notice: without the publisher's fence a chunk is reused under a reader.
#[test]
#[should_panic(expected = "Causality violation")]
fn model_without_the_fence_a_pinned_chunk_is_reused() {
    check(|| withdraw_against_a_pin(|| ()));
}

/// A publisher that needs the chunk of message 0, and an observer that is about to read it.
fn withdraw_against_a_pin(fence_of_publisher: fn()) {
    let (ring, chunk, cursor) = (Ring::new(), Ring::new(), Cursor::new());
    let mut writer = Writer::new(Arc::clone(&ring), geometry());
    // SAFETY: nobody else knows of the chunk yet.
    chunk.payloads[0].with_mut(|payload| unsafe { *payload = 10 });
    writer.mark_writing();
    writer.publish(Carriage::Pooled);
    let reading = {
        let (ring, chunk, cursor) = (Arc::clone(&ring), Arc::clone(&chunk), Arc::clone(&cursor));
        thread::spawn(move || {
            let reader = Reader::new(ring, Arc::clone(&cursor), geometry(), 0);
            let Sight::Message(word) = reader.sight() else { return };
            cursor::pin_contested(&cursor, 0, 0);
            if reader.still_has(word) {
                assert_eq!(read(&chunk, 0), 10);
            }
            cursor::unpin(&cursor, 0);
        })
    };
    let (mut readers, mut pins) = (Readers::new(), Pins::default());
    readers.admit(cursor, Standing::Observer, 0);
    writer.withdraw(0);
    fence_of_publisher();
    loop {
        readers.scan(&mut pins);
        if !pins.hold(0) {
            break;
        }
        relax();
    }
    // SAFETY: the protocol under test says that the chunk is free.
    chunk.payloads[0].with_mut(|payload| unsafe { *payload = 11 });
    reading.join().unwrap();
}

#[test]
fn model_a_segment_that_was_announced_before_the_end_is_found() {
    check(|| {
        let (ring, feed) = (Ring::new(), Arc::new(Feed::new()));
        let is_closed = Arc::new(AtomicU32::new(0));
        let mut writer = Writer::new(Arc::clone(&ring), geometry());
        let announcing = {
            let (feed, is_closed) = (Arc::clone(&feed), Arc::clone(&is_closed));
            thread::spawn(move || {
                assert!(feed.add(0, 7));
                is_closed.store(1, Ordering::Release);
            })
        };
        writer.publish(Carriage::Pooled);
        let reader = Reader::new(ring, Cursor::new(), geometry(), 0);
        assert!(reader.peek().is_some());
        let mut known = Vec::new();
        loop {
            // In this order, as `ReceivingEnd::has_segment` looks.
            let has_gone = is_closed.load(Ordering::Acquire) == 1;
            feed.follow(&mut known);
            if known == [7] {
                break;
            }
            assert!(!has_gone, "what was announced before the end is there");
            relax();
        }
        announcing.join().unwrap();
    });
}

/// How the models of the biased lock order its two sides.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fencing {
    /// Both pass a full fence: what the kernel's barrier does for them.
    Full,
    /// The kernel refuses its barrier, and the owner has only one for the compiler.
    Refused,
    /// Neither passes any.
    Missing,
}

impl Fencing {
    pub(super) fn of_this_process() -> Self {
        Self::Full
    }

    pub(super) fn of_sender(self) {
        if matches!(self, Self::Full) {
            fence(Ordering::SeqCst);
        }
    }

    pub(super) fn of_sleeper(self) -> bool {
        if !matches!(self, Self::Missing) {
            fence(Ordering::SeqCst);
        }
        !matches!(self, Self::Refused)
    }
}

/// A number that any access shows which is not ordered.
struct Counter(UnsafeCell<u64>);

impl Counter {
    fn add(&mut self) -> u64 {
        // SAFETY: the protocol under test says that nobody else is at the counter.
        self.0.with_mut(|count| unsafe {
            *count += 1;
            *count
        })
    }
}

// SAFETY: only ever reached by a reference that says that it is the only one.
unsafe impl Send for Counter {}

/// An owner that counts `entries` times, and others that do so as often as said; all is counted.
fn count_together(fencing: Fencing, entries: u64, others: &[u64]) {
    let (mut owner, shared) = Biased::with_fencing(Counter(UnsafeCell::new(0)), fencing);
    let locking: Vec<_> = others
        .iter()
        .map(|&times| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for _ in 0..times {
                    shared.lock().unwrap().add();
                }
            })
        })
        .collect();
    for _ in 0..entries {
        owner.enter().add();
    }
    locking.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(owner.enter().add(), entries + others.iter().sum::<u64>() + 1);
}

#[test]
fn model_an_owner_and_another_are_never_at_the_value_at_once() {
    check(|| count_together(Fencing::Full, 3, &[2]));
}

#[test]
fn model_an_owner_and_two_others_are_never_at_the_value_at_once() {
    check(|| count_together(Fencing::Full, 2, &[1, 1]));
}

/// That the checker would notice: without the fences the two are at the value at once.
#[test]
#[should_panic(expected = "Causality violation")]
fn model_without_the_fences_an_owner_and_another_meet() {
    check(|| count_together(Fencing::Missing, 2, &[1]));
}

#[test]
fn model_an_owner_hands_the_lock_over_where_barriers_are_refused() {
    check(|| {
        let (mut owner, shared) = Biased::with_fencing(Counter(UnsafeCell::new(0)), Fencing::Refused);
        let locking = thread::spawn(move || {
            for _ in 0..2 {
                let mut counter = loop {
                    match shared.lock() {
                        Some(counter) => break counter,
                        None => relax(),
                    }
                };
                counter.add();
            }
            shared
        });
        for _ in 0..2 {
            owner.enter().add();
        }
        // The other gets its lock from an owner that has entered since, or that is gone.
        drop(owner);
        assert_eq!(locking.join().unwrap().lock().unwrap().add(), 5);
    });
}
