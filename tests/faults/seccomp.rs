//! The fear: a system call, an allocation or a page fault hides on the data path.
//!
//! Under `SECCOMP_MODE_STRICT` any system call but read, write and exit is the thread's death. Sender and receiver
//! enter it once they are warm, each in its own process, and come out only by the bare exit that it allows. Another
//! thread looks on: at the page faults that the kernel counts, and at the allocations that this program counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidepost::{Consumer, Key, Node, Overflow, Producer, Publisher, Ready, SendError, Subscriber, WaitSet};

use crate::parts::{say, wait};
use crate::stage::{Actor, PATIENCE, Stage};

/// Messages before and under strict mode …
const MANY: u64 = 30_000;
/// … and to a set.
const FEW: u64 = 5_000;
/// Words of a message that lies in the pool.
const LARGE: usize = 20 << 10;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands every request to the system's allocator, and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How far a strict thread has come.
#[derive(Default)]
struct Progress {
    phase: AtomicU64,
    allocations: AtomicU64,
    thread: AtomicU64,
}

const WARMED_UP: u64 = 1;
const MAY_START: u64 = 2;
const DONE: u64 = 3;
const MAY_END: u64 = 4;

impl Progress {
    fn wait(&self, phase: u64) {
        while self.phase.load(Ordering::Acquire) < phase {
            std::hint::spin_loop();
        }
    }
}

/// Runs `warm`, then `busy` in strict mode, and says what it cost.
pub fn strictly<S: Send + 'static>(mut state: S, warm: fn(&mut S), busy: fn(&mut S)) {
    let progress = Arc::new(Progress::default());
    let inside = Arc::clone(&progress);
    std::thread::spawn(move || {
        warm(&mut state);
        // SAFETY: no pointers.
        inside.thread.store(unsafe { libc::syscall(libc::SYS_gettid) } as u64, Ordering::Relaxed);
        let before = ALLOCATIONS.get();
        inside.phase.store(WARMED_UP, Ordering::Release);
        inside.wait(MAY_START);
        // SAFETY: no pointers; from here on this thread makes no system call but the exit below.
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
        busy(&mut state);
        inside.allocations.store(ALLOCATIONS.get() - before, Ordering::Relaxed);
        inside.phase.store(DONE, Ordering::Release);
        inside.wait(MAY_END);
        // SAFETY: ends this thread, the one way that strict mode allows; what it owns is left to the process's end.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    progress.wait(WARMED_UP);
    let thread = progress.thread.load(Ordering::Relaxed);
    let faults_before = faults(thread).expect("the thread lives");
    progress.phase.store(MAY_START, Ordering::Release);
    while progress.phase.load(Ordering::Acquire) < DONE {
        std::thread::sleep(std::time::Duration::from_millis(1));
        if faults(thread).is_none() {
            return say("killed by a system call");
        }
    }
    let faults = faults(thread).expect("the thread lives") - faults_before;
    progress.phase.store(MAY_END, Ordering::Release);
    // Entering strict mode and looking at the clock of phases touch no new page either.
    say(format!("{faults} faults, {} allocations", progress.allocations.load(Ordering::Relaxed)));
}

/// Page faults of a thread so far; `None` once it is gone.
fn faults(thread: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    if fields.next()? == "Z" || stat.is_empty() {
        return None;
    }
    let minor: u64 = fields.nth(6)?.parse().ok()?;
    let major: u64 = fields.nth(1)?.parse().ok()?;
    Some(minor + major)
}

struct Sending {
    messages: u64,
    small: Publisher<[u64; 7]>,
    large: Publisher<[u64]>,
}

/// Sends until there is room: with `Fail` nobody ever sleeps.
fn until_sent(mut send: impl FnMut() -> Result<(), SendError>) {
    loop {
        match send() {
            Ok(()) => return,
            Err(SendError::Full { .. }) => std::hint::spin_loop(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn send_all(sending: &mut Sending) {
    for number in 0..sending.messages {
        until_sent(|| sending.small.send(&[number; 7]));
        until_sent(|| sending.small.send_many(&[[number; 7]]));
        if number % 16 == 0 {
            until_sent(|| {
                let mut loan = sending.large.loan(LARGE)?;
                loan.fill(number);
                loan.send();
                Ok(())
            });
        }
    }
}

pub fn send(node: &Node, messages: u64) {
    let mut small = node.topic("small").publisher(Overflow::Fail).expect("the topic is ours");
    // A limit below the first segment: it never grows further.
    let mut large =
        node.topic("large").pool_limit(1 << 20).publisher(Overflow::Fail).expect("the topic is ours");
    small.wait_for_subscribers(1, PATIENCE).expect("a subscriber comes");
    large.wait_for_subscribers(1, PATIENCE).expect("a subscriber comes");
    strictly(Sending { messages, small, large }, send_all, send_all);
    // Who still looks does not see its end.
    wait();
}

struct Receiving {
    small: Subscriber<[u64; 7]>,
    large: Subscriber<[u64]>,
}

fn receive_all(receiving: &mut Receiving) {
    for number in 0..MANY {
        for _ in 0..2 {
            loop {
                let Some(sample) = receiving.small.try_recv().expect("receiving succeeds") else { continue };
                assert!(*sample == [number; 7]);
                break;
            }
        }
        if number % 16 == 0 {
            let sample = loop {
                if let Some(sample) = receiving.large.try_recv().expect("receiving succeeds") {
                    break sample;
                }
            };
            assert!(sample.len() == LARGE && sample.iter().all(|word| *word == number));
        }
    }
}

pub fn receive(node: &Node, _: u64) {
    let small = node.topic("small").subscriber().expect("the types agree");
    let large = node.topic("large").subscriber().expect("the types agree");
    strictly(Receiving { small, large }, receive_all, receive_all);
}

struct ReceivingInSet {
    set: WaitSet,
    small: Key<Subscriber<[u64; 7]>>,
    large: Key<Subscriber<[u64]>>,
}

impl ReceivingInSet {
    /// Takes a message of a member that is ready, if that is not at its end yet; how many each has had by now is counted.
    fn take(&mut self, ready: Ready, of_small: &mut u64, of_large: &mut u64) {
        if ready == self.small
            && *of_small < 2 * FEW
            && let Some(sample) = self.set[self.small].try_recv().expect("receiving succeeds")
        {
            assert!(*sample == [*of_small / 2; 7]);
            *of_small += 1;
        }
        if ready == self.large
            && *of_large < FEW.div_ceil(16)
            && let Some(sample) = self.set[self.large].try_recv().expect("receiving succeeds")
        {
            assert!(sample.len() == LARGE && sample.iter().all(|word| *word == *of_large * 16));
            *of_large += 1;
        }
    }
}

/// Items that may be on their way while neither end waits for the other.
const AHEAD: u64 = 2_000;

fn give_all(producer: &mut Producer<[u64; 7]>) {
    for number in 0..MANY {
        // Whoever pushes beyond the credit has to be woken.
        while number % 256 == 0 && producer.counts().unacknowledged > AHEAD {
            std::hint::spin_loop();
        }
        producer.push(&[number; 7]).expect("there is credit");
        if number % 16 == 0 {
            let mut loan = producer.loan().expect("there is credit");
            *loan = [number; 7];
            loan.push().expect("there is credit");
        }
    }
}

fn receive_all_in_set(receiving: &mut ReceivingInSet) {
    let (mut of_small, mut of_large) = (0, 0);
    while of_small < 2 * FEW || of_large < FEW.div_ceil(16) {
        let Some(first) = receiving.set.try_wait().expect("looking succeeds") else { continue };
        // It stays ready, so this does not sleep.
        let second = receiving.set.wait().expect("waiting succeeds");
        receiving.take(first, &mut of_small, &mut of_large);
        receiving.take(second, &mut of_small, &mut of_large);
    }
}

pub fn receive_in_set(node: &Node) {
    let mut set = WaitSet::new().expect("descriptors are left");
    let small = node.topic("small").subscriber().expect("the types agree");
    let large = node.topic("large").subscriber().expect("the types agree");
    let (small, large) = (set.add(small), set.add(large));
    let (small, large) = (small.expect("descriptors are left"), large.expect("descriptors are left"));
    for _ in 0..4 {
        let idle: Subscriber<u8> = node.topic("idle").subscriber().expect("the types agree");
        set.add(idle).expect("descriptors are left");
    }
    strictly(ReceivingInSet { set, small, large }, receive_all_in_set, receive_all_in_set);
}

fn strict_sender(stage: &Stage, messages: u64) -> Actor {
    stage.start("strict-sender", &messages.to_string())
}

/// Each of two processes looks all the time: another pair of them has to wait.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub fn give(node: &Node, _: u64) {
    let queue = node.queue("small").credit(8192);
    let mut producer = queue.producer(Overflow::Fail).expect("the queue is ours");
    producer.wait_for_consumers(1, PATIENCE).expect("a consumer comes");
    strictly(producer, give_all, give_all);
}

fn take_all(consumer: &mut Consumer<[u64; 7]>) {
    for number in 0..MANY {
        for _ in 0..if number % 16 == 0 { 2 } else { 1 } {
            loop {
                let Some(item) = consumer.try_recv().expect("receiving succeeds") else { continue };
                assert!(*item == [number; 7]);
                break item.ack().expect("the producer lives");
            }
        }
    }
}

pub fn take(node: &Node, _: u64) {
    let consumer = node.queue("small").credit(8192).consumer().expect("the types agree");
    strictly(consumer, take_all, take_all);
}

#[test]
fn the_busy_path_of_a_queue_makes_no_system_call_no_allocation_and_no_page_fault() {
    let _only = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let stage = Stage::new();
    let mut taker = stage.start("strict-taker", "0");
    let mut giver = stage.start("strict-giver", "0");
    assert_eq!(taker.hear(), "0 faults, 0 allocations", "the consumer");
    assert_eq!(giver.hear(), "0 faults, 0 allocations", "the producer");
}

#[test]
fn the_busy_path_of_a_wait_set_makes_no_system_call_no_allocation_and_no_page_fault() {
    let _only = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let stage = Stage::new();
    let (mut sender, mut receiver) = (strict_sender(&stage, FEW), stage.start("strict-set", ""));
    assert_eq!(receiver.hear(), "0 faults, 0 allocations", "the receiver");
    assert_eq!(sender.hear(), "0 faults, 0 allocations", "the sender");
}

#[test]
fn the_busy_path_makes_no_system_call_no_allocation_and_no_page_fault() {
    let _only = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let stage = Stage::new();
    let (mut sender, mut receiver) = (strict_sender(&stage, MANY), stage.start("strict-receiver", "0"));
    assert_eq!(receiver.hear(), "0 faults, 0 allocations", "the receiver");
    assert_eq!(sender.hear(), "0 faults, 0 allocations", "the sender");
}
