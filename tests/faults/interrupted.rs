//! The fear: a signal that interrupts a system call is taken for news, for an error, or for the end of a wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidepost::{Interest, Node, Overflow, Publisher, Subscriber, WaitSet, select_timeout};

use crate::ledger::{self, Ledger, Random};
use crate::parts::say;
use crate::stage::{PATIENCE, Stage};

const LETTERS: u64 = 300;
const SENDER: u64 = 17;
/// Signals that each process must have handled at least: both wait much longer than that.
const SIGNALS_LEAST: u64 = 50;
/// In the slot, and through the pool.
const LENGTHS: [usize; 2] = [56, 40_000];

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// From now on each thread of this process is interrupted every millisecond, and no system call is started again for it.
fn interrupt_everybody() {
    // SAFETY: all zeros is a valid value of this plain structure: no flags, no signals masked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler only adds to an atomic, which any context may do; `action` lives through the call.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }, 0);
    std::thread::spawn(|| {
        // SAFETY: no pointers.
        let ours = unsafe { libc::syscall(libc::SYS_gettid) };
        loop {
            for thread in std::fs::read_dir("/proc/self/task").expect("/proc is mounted").flatten() {
                let number: i64 = thread.file_name().to_string_lossy().parse().expect("threads are numbers");
                if number != ours {
                    // SAFETY: no pointers. A thread that has ended meanwhile is an error that does no harm.
                    unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), number, libc::SIGUSR1) };
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

fn tell_end() {
    assert!(HANDLED.load(Ordering::Relaxed) >= SIGNALS_LEAST, "{HANDLED:?} signals");
    say("intact");
}

/// Sends with pauses, in which the receiver falls asleep, and waits where that one pauses.
pub fn send(node: &Node) {
    interrupt_everybody();
    let mut random = Random::new(1);
    let mut publisher: Publisher<[u8]> =
        node.topic("interrupted").depth(8).publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the other process listens");
    for number in 0..LETTERS {
        let letter = ledger::letter(LENGTHS[(number % 2) as usize], SENDER, number);
        publisher.send(&letter).expect("a blocking send succeeds");
        if number % 60 < 20 {
            std::thread::sleep(Duration::from_millis(random.below(5)));
        }
    }
    publisher.close(PATIENCE).expect("everything is read");
    tell_end();
}

pub fn receive(node: &Node) {
    interrupt_everybody();
    let mut random = Random::new(2);
    let mut subscriber: Subscriber<[u8]> = node.topic("interrupted").subscriber().expect("the types agree");
    let mut ledger = Ledger::new(true);
    say("listening");
    for number in 0..LETTERS {
        let account = ledger.enter(&subscriber.recv().expect("receiving succeeds"));
        assert_eq!((account.last, account.first), (number, 0));
        if number % 60 > 40 {
            std::thread::sleep(Duration::from_millis(random.below(5)));
        }
    }
    let nothing = subscriber.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds");
    assert!(nothing.is_none(), "that was all");
    assert_eq!(node.violations(), (0, None));
    tell_end();
}

/// The same in a set, beside others that are seldom ready.
pub fn receive_in_set(node: &Node) {
    interrupt_everybody();
    let mut random = Random::new(3);
    let mut set = WaitSet::new().expect("descriptors are left");
    let letters: Subscriber<[u8]> = node.topic("interrupted").subscriber().expect("the types agree");
    let letters = set.add(letters).expect("descriptors are left");
    let idle: Subscriber<u64> = node.topic("idle").subscriber().expect("the types agree");
    let idle = set.add(idle).expect("descriptors are left");
    let (reader, _writer) = std::io::pipe().expect("descriptors are left");
    set.add_fd(reader, Interest::Read).expect("it can be watched");
    let tick = set.every(Duration::from_millis(7)).expect("it is ours");
    let mut ledger = Ledger::new(true);
    say("listening");
    let mut number = 0;
    while number < LETTERS {
        let ready =
            if number % 2 == 0 { set.wait() } else { futures_lite::future::block_on(set.wait_async()) };
        let ready = ready.expect("waiting succeeds");
        if ready == letters {
            let account = ledger.enter(&set[letters].recv().expect("receiving succeeds"));
            assert_eq!((account.last, account.first), (number, 0));
            number += 1;
            if number % 60 > 40 {
                std::thread::sleep(Duration::from_millis(random.below(5)));
            }
        } else {
            assert!(ready == tick, "nothing else is ready");
        }
    }
    assert!(set.remove(tick).is_some_and(|tick| tick.count() > 0));
    let pause = Duration::from_millis(20);
    let start = Instant::now();
    assert_eq!(set.wait_timeout(pause), Ok(None), "that was all");
    let mut letters = set.remove(letters).expect("it is in the set");
    let mut idle = set.remove(idle).expect("it is in the set");
    assert_eq!(select_timeout(&mut letters, &mut idle, pause), Ok(None));
    assert!(start.elapsed() >= 2 * pause, "a signal is not the end");
    assert_eq!(node.violations(), (0, None));
    tell_end();
}

#[test]
fn a_thousand_signals_a_second_lose_nothing_in_a_set() {
    let stage = Stage::new();
    let mut receiver = stage.start("interrupted-set", "");
    receiver.expect("listening");
    let mut sender = stage.start("interrupted-sender", "");
    receiver.expect("intact");
    sender.expect("intact");
    receiver.ends();
    sender.ends();
}

#[test]
fn a_thousand_signals_a_second_lose_nothing() {
    let stage = Stage::new();
    let mut receiver = stage.start("interrupted-receiver", "");
    receiver.expect("listening");
    let mut sender = stage.start("interrupted-sender", "");
    receiver.expect("intact");
    sender.expect("intact");
    receiver.ends();
    sender.ends();
}
