//! The fear: one of those whom a set waits for is killed, and the others are not heard any more; or a set leaves something behind,
//! or works in the child of a fork, on what is its parent's.

use std::collections::HashMap;
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidepost::{Event, Interest, Key, Node, Overflow, Publisher, Subscriber, WaitSet, WaitSetError};

use crate::parts::{Words, say, words};
use crate::stage::{PATIENCE, Stage};

type Endpoint = Key<Subscriber<Words>>;

/// Messages that are received of each sender before one is killed, and after that.
const MESSAGES: u64 = 2_000;

fn topic(index: u64) -> String {
    format!("set-{index}")
}

fn subscriber(node: &Node, index: u64) -> Subscriber<Words> {
    node.topic(&topic(index)).subscriber().expect("the types agree")
}

fn publisher(node: &Node, index: u64) -> Publisher<Words> {
    node.topic(&topic(index)).depth(64).publisher(Overflow::Block).expect("the topic is ours")
}

/// Publishes numbered messages, with pauses now and then, in which the receiver falls asleep.
pub fn send_for_ever(node: &Node, index: u64) {
    let mut publisher = publisher(node, index);
    publisher.wait_for_subscribers(1, PATIENCE).expect("a subscriber comes");
    for number in 0.. {
        publisher.send(&words(number)).expect("a blocking send succeeds");
        if number % 200 == index {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a set has received, by key.
#[derive(Default)]
struct Accounts(HashMap<Endpoint, u64>);

impl Accounts {
    /// Waits, and takes a message.
    fn take(&mut self, set: &mut WaitSet) -> Endpoint {
        let start = Instant::now();
        let ready = set.wait_timeout(PATIENCE).expect("waiting succeeds").expect("somebody sends");
        assert!(start.elapsed() < PATIENCE, "nobody woke the set");
        let key: Endpoint = set.key(ready).expect("it is a subscriber");
        let next = self.0.entry(key).or_default();
        let sample = set[key].try_recv().expect("receiving succeeds").expect("it was ready");
        assert_eq!((sample.sequence(), *sample), (*next, words(*next)));
        *next += 1;
        key
    }

    fn of(&self, key: Endpoint) -> u64 {
        self.0.get(&key).copied().unwrap_or_default()
    }

    /// Takes messages until so many of each of these have come, from now on.
    fn take_more(&mut self, set: &mut WaitSet, keys: &[Endpoint]) {
        let goals: Vec<(Endpoint, u64)> = keys.iter().map(|key| (*key, self.of(*key) + MESSAGES)).collect();
        while goals.iter().any(|(key, goal)| self.of(*key) < *goal) {
            self.take(set);
        }
    }
}

fn wait_with_a_killed_sender(with_descriptor: bool) {
    let stage = Stage::new();
    let node = stage.node();
    let mut set = WaitSet::new().expect("descriptors are left");
    let keys = [0, 1, 2].map(|index| set.add(subscriber(&node, index)).expect("descriptors are left"));
    let (reader, _writer) = std::io::pipe().expect("descriptors are left");
    if with_descriptor {
        set.add_fd(reader, Interest::Read).expect("it can be watched");
    }
    let mut senders = [0, 1, 2].map(|index| Some(stage.start("set-sender", &index.to_string())));
    let mut accounts = Accounts::default();
    accounts.take_more(&mut set, &keys);
    senders[0].take().expect("it was started").kill();
    let start = Instant::now();
    while set[keys[0]].publishers() > 0 {
        assert!(start.elapsed() < PATIENCE, "its death is not seen");
        accounts.take(&mut set);
    }
    accounts.take_more(&mut set, &keys[1..]);
    let last = accounts.of(keys[0]);
    accounts.take_more(&mut set, &keys[1..]);
    assert_eq!(accounts.of(keys[0]), last, "nothing more comes of who is dead");
    let events: Vec<Event> = std::iter::from_fn(|| set[keys[0]].try_event()).collect();
    assert!(matches!(events.as_slice(), [Event::Joined(_), Event::Left(_)]), "{events:?}");
    // Another takes over, and counts from 0.
    accounts.0.insert(keys[0], 0);
    senders[0] = Some(stage.start("set-sender", "0"));
    accounts.take_more(&mut set, &keys);
    drop(senders);
    assert_eq!(node.violations(), (0, None));
}

#[test]
fn the_death_of_a_sender_ends_no_wait_for_others() {
    wait_with_a_killed_sender(false);
}

#[test]
fn the_death_of_a_sender_ends_no_wait_in_the_kernel_for_others() {
    wait_with_a_killed_sender(true);
}

/// Sleeps in a set, as a call or as a task, until there is a message.
pub fn sleep(node: &Node, is_task: bool) {
    let mut set = WaitSet::new().expect("descriptors are left");
    let key = set.add(crate::parts::subscriber(node)).expect("descriptors are left");
    set.add(subscriber(node, 0)).expect("descriptors are left");
    set.after(Duration::from_secs(1000)).expect("it is ours");
    say("asleep");
    let ready = if is_task { futures_lite::future::block_on(set.wait_async()) } else { set.wait() };
    assert!(ready.expect("waiting succeeds") == key);
    assert_eq!(*set[key].recv().expect("receiving succeeds"), words(0));
    say("woken");
}

fn entries(of: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{of}")).expect("/proc is mounted").count()
}

/// Descriptors and threads of this process.
fn belongings() -> (usize, usize) {
    (entries("fd"), entries("task"))
}

/// Waits until this process has no more than these.
fn expect_belongings(expected: (usize, usize)) {
    let start = Instant::now();
    while belongings() != expected {
        assert!(start.elapsed() < PATIENCE, "{:?} instead of {expected:?}", belongings());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Begins to wait as a task.
fn poll_once(set: &mut WaitSet) {
    let waiting = std::pin::pin!(set.wait_async());
    assert!(matches!(waiting.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
}

/// A set with one of everything in it.
fn full_set(node: &Node) -> (WaitSet, Endpoint) {
    let mut set = WaitSet::new().expect("descriptors are left");
    let key = set.add(subscriber(node, 0)).expect("descriptors are left");
    let (reader, writer) = std::io::pipe().expect("descriptors are left");
    set.add_fd(reader, Interest::Read).expect("it can be watched");
    // The other end is in the set too: nobody hangs up.
    set.add_fd(Quiet(writer), Interest::Read).expect("it can be watched");
    set.every(Duration::from_secs(1000)).expect("it is ours");
    assert!(set.as_fd().is_ok());
    (set, key)
}

/// The writing end of a pipe, which is never readable.
struct Quiet(std::io::PipeWriter);

impl std::os::fd::AsFd for Quiet {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes sets and drops them, runs out of descriptors, and forks.
pub fn own(node: &Node) {
    let mut publisher = publisher(node, 0);
    let before = belongings();
    for _ in 0..10 {
        let (mut set, _) = full_set(node);
        poll_once(&mut set);
        assert!(belongings().1 > before.1, "a thread wakes tasks");
        drop(set);
        expect_belongings(before);
    }
    say("nothing left");
    run_out(node, &mut publisher);
    say("refused");
    fork(node, &mut publisher);
}

/// Without descriptors nothing is made, and what is there works on.
fn run_out(node: &Node, publisher: &mut Publisher<Words>) {
    let (mut set, key) = full_set(node);
    let unused = subscriber(node, 1);
    let limit = getrlimit(Resource::Nofile);
    // As many as there are always; `poll` wants some too.
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: limit.maximum }).expect("it is lower");
    let refused = [
        WaitSet::new().map(drop).expect_err("none is left"),
        set.add(unused).map(drop).expect_err("none is left"),
        futures_lite::future::block_on(set.wait_async()).map(drop).expect_err("none is left"),
    ];
    for error in refused {
        assert!(error.to_string().contains("raise the process's limit on open files"), "{error}");
    }
    publisher.send(&words(7)).expect("a blocking send succeeds");
    assert!(set.wait().expect("waiting succeeds") == key);
    assert_eq!(*set[key].recv().expect("receiving succeeds"), words(7));
    assert_eq!(set.wait_timeout(Duration::from_millis(1)), Ok(None));
    setrlimit(Resource::Nofile, limit).expect("it may be raised again");
    poll_once(&mut set);
}

fn fork(node: &Node, publisher: &mut Publisher<Words>) {
    let (mut set, key) = full_set(node);
    poll_once(&mut set);
    // SAFETY: the child touches what it inherited only through this library, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_told = is_told_of_its_birth(set, key);
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if is_told { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a live local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    say(format!("the child said {}", libc::WEXITSTATUS(status)));
    for number in 0..3 {
        assert_eq!(set.wait_timeout(Duration::from_millis(1)), Ok(None));
        publisher.send(&words(number)).expect("a blocking send succeeds");
        let ready = if number == 1 { futures_lite::future::block_on(set.wait_async()) } else { set.wait() };
        assert!(ready.expect("waiting succeeds") == key);
        assert_eq!(*set[key].recv().expect("receiving succeeds"), words(number));
    }
    say("the parent goes on");
}

/// In the child: whether every call says what it is, instead of doing something. Then everything is dropped.
fn is_told_of_its_birth(mut set: WaitSet, key: Endpoint) -> bool {
    set.handle().cancel();
    let is_forked = |outcome: Result<(), WaitSetError>| outcome == Err(WaitSetError::Forked);
    let is_told = is_forked(set.wait().map(drop))
        && is_forked(set.wait_timeout(Duration::ZERO).map(drop))
        && is_forked(set.try_wait().map(drop))
        && is_forked(futures_lite::future::block_on(set.wait_async()).map(drop))
        && is_forked(set.as_fd().map(drop))
        && is_forked(set.every(Duration::ZERO).map(drop));
    let removed = set.remove(key);
    drop(set);
    is_told && removed.is_some()
}

#[test]
fn a_set_leaves_nothing_and_works_neither_without_descriptors_nor_in_a_forked_child() {
    let stage = Stage::new();
    let mut owner = stage.start("set-owner", "");
    for line in ["nothing left", "refused", "the child said 7", "the parent goes on"] {
        owner.expect(line);
    }
    owner.ends();
}
