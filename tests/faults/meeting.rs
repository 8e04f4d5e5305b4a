//! The fear: processes that wait for each other in a region miss each other, or wait for ever for one that has died.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidepost::{
    Barrier, Condvar, Counter, EventFlag, LockError, Mutex, Node, Once, Region, Semaphore, SeqLock, Shared,
};

use crate::parts::{say, wait};
use crate::stage::{Actor, PATIENCE, Stage};

const CAST: usize = 4;
/// Items of each producer; rounds of each barrier; turns of each player.
const ROUNDS: u64 = 2_000;
/// Places of the buffer.
const PLACES: usize = 8;
const SHORT: Duration = Duration::from_millis(50);

/// A bounded buffer: places, where to put and take next, and how many of either there are.
#[derive(Shared)]
#[repr(C)]
pub struct Buffer {
    ring: Mutex<[u64; PLACES + 2]>,
    free: Semaphore,
    filled: Semaphore,
}

/// Everything else that processes meet at.
#[derive(Shared)]
#[repr(C)]
pub struct Place {
    turn: Mutex<u64>,
    changed: Condvar,
    gate: EventFlag,
    padding: u32,
    once: Once,
    barrier: Barrier,
    done: AtomicU64,
    slots: [AtomicU64; CAST],
    tally: Counter,
    whole: SeqLock<[u64; 16]>,
}

fn buffer(node: &Node) -> Region<Buffer> {
    let builder = node.region::<Buffer>("buffer").patience(PATIENCE);
    builder.open_with(|buffer| assert!(buffer.free.release(PLACES as u32))).expect("it can be made")
}

fn place(node: &Node) -> Region<Place> {
    let builder = node.region::<Place>("place").patience(PATIENCE);
    builder.open_with(|place| place.barrier.set_participants(CAST as u32)).expect("it can be made")
}

/// Puts numbers into the buffer.
pub fn produce(node: &Node, number: u64) {
    let buffer = buffer(node);
    for item in 0..ROUNDS {
        assert!(buffer.free.acquire_timeout(PATIENCE), "nobody takes anything");
        let mut ring = buffer.ring.lock().expect("nobody dies");
        let next = ring[PLACES] as usize;
        ring[next % PLACES] = number * ROUNDS + item;
        ring[PLACES] += 1;
        drop(ring);
        assert!(buffer.filled.release(1));
    }
    say("produced");
    wait();
}

/// Takes as many numbers out, and says their sum.
pub fn consume(node: &Node) {
    let buffer = buffer(node);
    let mut sum = 0;
    for _ in 0..ROUNDS {
        assert!(buffer.filled.acquire_timeout(PATIENCE), "nobody puts anything");
        let mut ring = buffer.ring.lock().expect("nobody dies");
        sum += ring[ring[PLACES + 1] as usize % PLACES];
        ring[PLACES + 1] += 1;
        drop(ring);
        assert!(buffer.free.release(1));
    }
    say(sum);
    wait();
}

#[test]
fn a_bounded_buffer_loses_nothing() {
    let stage = Stage::new();
    let node = stage.node();
    let region = buffer(&node);
    let mut producers = ["0", "1"].map(|number| stage.start("buffer-producer", number));
    let mut consumers = [(); 2].map(|()| stage.start("buffer-consumer", ""));
    let sums = consumers.each_mut().map(|consumer| consumer.hear().parse::<u64>().expect("it is a number"));
    producers.iter_mut().for_each(|producer| producer.expect("produced"));
    assert_eq!(sums.iter().sum::<u64>(), (0..2 * ROUNDS).sum());
    assert_eq!((region.free.permits(), region.filled.permits()), (PLACES as u32, 0));
    assert!(!region.filled.try_acquire() && !region.filled.acquire_timeout(SHORT));
    assert!(!region.free.release(u32::MAX), "there are not as many");
}

/// Takes every other turn.
pub fn take_turns(node: &Node, parity: u64) {
    let place = place(node);
    let mut turn = place.turn.lock().expect("nobody dies with it");
    while *turn < ROUNDS {
        if *turn % 2 == parity {
            *turn += 1;
            place.changed.notify_all();
        } else {
            turn = place.changed.wait(turn).expect("nobody dies with it");
        }
    }
    drop(turn);
    say("over");
    wait();
}

#[test]
fn turns_are_taken_and_a_dead_waiter_is_in_nobodys_way() {
    let stage = Stage::new();
    let node = stage.node();
    let region = place(&node);
    let mut players = ["0", "1"].map(|parity| stage.start("turn-taker", parity));
    players.iter_mut().for_each(|player| player.expect("over"));
    // One that waits is killed; the other, which waits for the same, is notified all the same.
    *region.turn.lock().expect("it is free") = 0;
    let mut waiters = [(); 2].map(|()| stage.start("turn-taker", "1"));
    std::thread::sleep(SHORT);
    waiters[0].signal_kill();
    let mut turn = region.turn.lock().expect("nobody dies with it");
    *turn = ROUNDS;
    region.changed.notify_one();
    drop(turn);
    waiters[1].expect("over");
    let turn = region.turn.lock().expect("it is free");
    let (is_notified, turn) = region.changed.wait_timeout(turn, SHORT);
    assert!(!is_notified && *turn.expect("it is free") == ROUNDS);
}

/// Waits for the gate, does the work once, and passes the barrier with the others.
pub fn meet(node: &Node, number: u64) {
    let place = place(node);
    say("waits");
    place.gate.wait();
    let worked = place.once.call_once(|| _ = place.done.fetch_add(1, Ordering::Relaxed));
    worked.expect("there are seats");
    let mut led = 0;
    for round in 1..=ROUNDS {
        place.slots[number as usize].store(round, Ordering::Relaxed);
        led += u64::from(place.barrier.wait().is_leader);
        let slots = place.slots.each_ref().map(|slot| slot.load(Ordering::Relaxed));
        assert_eq!(slots, [round; CAST], "all have come so far, and nobody further");
        place.barrier.wait();
    }
    say(led);
    wait();
}

#[test]
fn a_gate_a_work_done_once_and_a_barrier() {
    let stage = Stage::new();
    let node = stage.node();
    let region = place(&node);
    let mut cast: Vec<Actor> = (0..CAST).map(|number| stage.start("meeter", &number.to_string())).collect();
    cast.iter_mut().for_each(|actor| actor.expect("waits"));
    assert!(!region.gate.is_set() && !region.gate.wait_timeout(SHORT));
    region.gate.set();
    let led: u64 = cast.iter_mut().map(|actor| actor.hear().parse::<u64>().expect("it is a number")).sum();
    assert_eq!((led, region.done.load(Ordering::Relaxed)), (ROUNDS, 1));
    assert!(region.gate.wait_timeout(Duration::ZERO) && region.once.is_completed());
    region.gate.reset();
    assert!(!region.gate.is_set());
    // Alone nobody passes, and what was tried is taken back.
    assert_eq!(region.barrier.wait_timeout(SHORT), None);
    assert_eq!(region.barrier.waiting(), 0);
}

/// Begins the work, and is killed in the middle of it.
pub fn work_half(node: &Node) {
    let place = place(node);
    let worked = place.once.call_once(|| {
        say("working");
        wait();
    });
    worked.expect("there are seats");
    say("done");
    wait();
}

#[test]
fn work_that_was_cut_short_is_done_by_the_next() {
    let stage = Stage::new();
    let node = stage.node();
    let region = place(&node);
    let mut first = stage.start("half-worker", "");
    first.expect("working");
    let mut second = stage.start("half-worker", "");
    assert!(!region.once.is_completed());
    first.kill();
    second.expect("working");
    second.go();
    second.expect("done");
    assert!(region.once.is_completed());
    region.once.call_once(|| panic!("it has been done")).expect("there are seats");
    let fresh = node.region::<Once>("fresh").create().expect("it can be made");
    let again = fresh.call_once(|| {
        let inner = fresh.call_once(|| ());
        assert!(matches!(inner, Err(LockError::Recursive)), "{inner:?}");
    });
    again.expect("there are seats");
}

/// Writes values of sixteen equal numbers for ever, or looks at them, and counts.
pub fn write_or_read(node: &Node, argument: u64) {
    let place = place(node);
    say("at it");
    if argument == 0 {
        loop {
            place.whole.update(|numbers| *numbers = [numbers[0] + 1; 16]).expect("there are seats");
            place.tally.add(1);
        }
    }
    let mut last = 0;
    while !place.gate.is_set() {
        let (numbers, version) = place.whole.read_versioned();
        assert!(numbers == [version; 16] && version >= last, "{numbers:?}, {version} after {last}");
        last = version;
    }
    say("whole");
    wait();
}

#[test]
fn values_are_whole_whoever_dies_while_writing() {
    let stage = Stage::new();
    let node = stage.node();
    let region = place(&node);
    let mut readers = [(); 2].map(|()| stage.start("whole-one", "1"));
    readers.iter_mut().for_each(|reader| reader.expect("at it"));
    for _ in 0..20 {
        let mut writers = [(); 2].map(|()| stage.start("whole-one", "0"));
        writers.iter_mut().for_each(|writer| writer.expect("at it"));
        std::thread::sleep(Duration::from_millis(2));
        writers.into_iter().for_each(Actor::kill);
        let (numbers, version) = region.whole.read_versioned();
        assert_eq!(numbers, [version; 16]);
    }
    region.gate.set();
    readers.iter_mut().for_each(|reader| reader.expect("whole"));
    // Each writer may have died between the two.
    let (written, counted) = (region.whole.version(), region.tally.sum());
    assert!(written > 100 && (counted..=counted + 40).contains(&written), "{written}, {counted}");
}
