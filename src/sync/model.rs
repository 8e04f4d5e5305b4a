//! The algorithms of this module under loom: every interleaving, every weak-memory outcome, on tiny instances.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib model` runs them. Payloads are loom's own cells, which
//! report any access that is not ordered; the futex is a mutex and a condition variable, as the kernel's is.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::bell::{Mode, SleeperWords, Ticket, clear_bit, set_bit};
use super::cursor::{self, CursorWords};
use super::door::{AtomicU32, AtomicU64, Ordering, fence, relax};
use super::geometry::Geometry;
use super::pool::Pool;
use super::readers::Readers;
use super::ring::{Reader, RingWords, Writer, must_ring};
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
    pins: Vec<AtomicU64>,
}

impl Cursor {
    fn new() -> Arc<Self> {
        let pins = vec![AtomicU64::new(0)];
        Arc::new(Self { cursor: AtomicU64::new(0), pins_used: AtomicU64::new(0), pins })
    }
}

impl CursorWords for Arc<Cursor> {
    fn cursor(&self) -> &AtomicU64 {
        &self.cursor
    }
    fn pins_used(&self) -> &AtomicU64 {
        &self.pins_used
    }
    fn pin(&self, index: usize) -> &AtomicU64 {
        &self.pins[index]
    }
    fn pins(&self) -> usize {
        self.pins.len()
    }
}

/// One endpoint's line, and the kernel's side of sleeping on it.
struct Line {
    counter: AtomicU32,
    armed: AtomicU64,
    kernel: Mutex<()>,
    woken: Condvar,
}

impl Line {
    fn new() -> Arc<Self> {
        let (counter, armed) = (AtomicU32::new(0), AtomicU64::new(0));
        Arc::new(Self { counter, armed, kernel: Mutex::new(()), woken: Condvar::new() })
    }

    fn words(&self) -> SleeperWords<'_> {
        SleeperWords { counter: &self.counter, armed: &self.armed }
    }

    /// FUTEX_WAIT: compares and sleeps under the lock that FUTEX_WAKE takes.
    fn wait(&self, ticket: Ticket) {
        let guard = self.kernel.lock().unwrap();
        if self.counter.load(Ordering::Relaxed) == ticket.0 {
            drop(self.woken.wait(guard).unwrap());
        }
    }

    fn ring(&self, woken: &mut u64) {
        if self.words().raise(woken).is_some() {
            drop(self.kernel.lock().unwrap());
            self.woken.notify_all();
        }
    }
}

/// Every interleaving with up to three preemptions; the rest of the space grows without telling more.
fn check(protocol: impl Fn() + Send + Sync + 'static) {
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

fn look(writer: &mut Writer<Arc<Ring>>, readers: &mut Readers<Arc<Cursor>>, held: &mut Vec<u64>) {
    let released = readers.look(writer.tail(), held);
    writer.raise_limit(released);
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
        readers.admit(cursor, 0);
        let (mut writer, mut held) = (Writer::new(Arc::clone(&ring), geometry()), Vec::new());
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
        let (mut readers, mut held) = (Readers::new(), Vec::new());
        readers.admit(cursor, 0);
        while !writer.has_space() || held.contains(&0) {
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
        let (mut readers, mut held) = (Readers::new(), Vec::new());
        readers.admit(cursor, 0);
        while pool.take(4096).is_none() {
            let released = readers.look(1, &mut held);
            pool.reclaim(released, &held);
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
        let (mut readers, mut held, mut epoch) = (Readers::new(), Vec::new(), 0);
        readers.admit(cursor, 0);
        let mut is_done = |writer: &mut Writer<Arc<Ring>>| {
            look(writer, &mut readers, &mut held);
            writer.has_space() && is_free(&held)
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
    check(|| {
        let (ring, cursor) = (Ring::new(), Cursor::new());
        let readers = Arc::new(Mutex::new(Readers::new()));
        let mut writer = Writer::new(Arc::clone(&ring), geometry());
        let tail = writer.shared_tail();
        let joining = {
            let (ring, readers) = (Arc::clone(&ring), Arc::clone(&readers));
            thread::spawn(move || {
                let mut list = readers.lock().unwrap();
                let start = tail.load(Ordering::Relaxed);
                list.admit(Arc::clone(&cursor), start);
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
        let mut held = Vec::new();
        for value in 0..3 {
            while !writer.has_space() {
                look(&mut writer, &mut readers.lock().unwrap(), &mut held);
                relax();
            }
            write(&mut writer, &ring, value + 10);
        }
        joining.join().unwrap();
    });
}
