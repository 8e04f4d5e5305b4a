//! The fear: a subscriber that is let go of takes something along – its own messages, those of others, or the memory that it
//! still holds.

use std::sync::Barrier;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidepost::{Message, Node, Overflow, Payload, Publisher, Subscriber};

use crate::topics::stage::{Domain, PATIENCE};

const SOON: Duration = Duration::from_secs(1);

/// A message that goes through the pool, numbered at both ends.
type Large = [u8; 70_000];

fn large(number: u8) -> Large {
    let mut message = [0; 70_000];
    (message[0], message[69_999]) = (number, number);
    message
}

/// A node that receives and one that sends.
struct Stage {
    here: Node,
    there: Node,
    _domain: Domain,
}

impl Stage {
    fn new() -> Self {
        let domain = Domain::new();
        Self { here: domain.node("here"), there: domain.node("there"), _domain: domain }
    }

    fn publisher<T: Message>(&self, depth: usize, history: usize) -> Publisher<T> {
        let topic = self.there.topic("t").depth(depth).history(history);
        topic.publisher(Overflow::Block).expect("it is ours")
    }

    fn subscriber<T: Message>(&self) -> Subscriber<T> {
        self.here.topic("t").subscriber().expect("the types agree")
    }

    fn observer<T: Message>(&self) -> Subscriber<T> {
        self.here.topic("t").observer().subscriber().expect("the types agree")
    }
}

/// Receives so many messages, each as soon as it is there, and says that it has.
fn follow(subscriber: &mut Subscriber<Large>, number: u8) {
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert_eq!((sample[0], sample[69_999]), (number, number));
}

/// A look that finds nothing, and gives back what was read.
fn give_back<T: Payload>(subscriber: &mut Subscriber<T>) {
    let nothing = subscriber.recv_timeout(Duration::from_millis(5)).expect("receiving succeeds");
    assert!(nothing.is_none());
}

/// Everything that comes, by sequence number and both ends.
fn rest(subscriber: &mut Subscriber<Large>) -> Vec<(u64, u8, u8)> {
    let mut received = Vec::new();
    while let Some(sample) = subscriber.recv_timeout(SOON).expect("receiving succeeds") {
        received.push((sample.sequence(), sample[0], sample[69_999]));
    }
    received
}

fn numbered(from: u8, to: u8) -> Vec<(u64, u8, u8)> {
    (from..to).map(|number| (number.into(), number, number)).collect()
}

/// Nobody is waited for any more, and yet what was sent until then is read, in full rings, beside an observer that lags.
#[test]
fn who_is_let_go_of_gets_what_was_sent_until_then() {
    let stage = Stage::new();
    let mut sender = stage.publisher(8, 0);
    let (mut other, mut stopped) = (stage.subscriber(), stage.subscriber());
    let observer = stage.observer::<Large>();
    sender.wait_for_subscribers(3, PATIENCE).expect("they subscribed");
    for number in 0..8 {
        sender.send(&large(number)).expect("a blocking send succeeds");
        follow(&mut other, number);
        follow(&mut stopped, number);
    }
    give_back(&mut other);
    give_back(&mut stopped);
    (8..16).for_each(|number| sender.send(&large(number)).expect("a blocking send succeeds"));
    assert!(sender.handle().detach(stopped.id()));
    // It waits for the other, in vain, and has let go by then.
    assert!(sender.send_timeout(&large(16), SOON).is_err());
    assert_eq!(rest(&mut other), numbered(8, 16));
    assert_eq!(rest(&mut stopped), numbered(8, 16));
    assert_eq!((stopped.lost(), stage.here.violations().0), (0, 0));
    sender.send_timeout(&large(16), PATIENCE).expect("there is room again");
    assert_eq!(rest(&mut other), numbered(16, 17));
    drop(observer);
}

/// An observer that was let go of reads in a ring that others have left: what it accepts is what was sent.
#[test]
fn what_is_read_in_a_ring_that_was_left_is_whole() {
    let stage = Stage::new();
    let mut sender = stage.publisher(64, 4);
    let mut other = stage.subscriber();
    let (mut first, second) = (stage.observer(), stage.observer::<Large>());
    sender.wait_for_subscribers(3, PATIENCE).expect("they subscribed");
    let mut pass = |numbers: std::ops::Range<u8>| {
        for number in numbers {
            sender.send(&large(number)).expect("a blocking send succeeds");
            follow(&mut other, number);
        }
        sender.handle()
    };
    assert!(pass(0..4).detach(first.id()));
    assert!(pass(4..5).detach(second.id()));
    pass(5..100);
    let received = rest(&mut first);
    assert!(received.iter().all(|(sequence, start, end)| *sequence == u64::from(*start) && start == end));
    assert_eq!(received.len() as u64 + first.lost(), 4, "{received:?}");
}

#[test]
fn closing_is_not_held_up_by_who_is_let_go_of() {
    let stage = Stage::new();
    let mut sender = stage.publisher::<u64>(8, 0);
    let subscriber = stage.subscriber::<u64>();
    sender.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
    sender.send(&1).expect("a blocking send succeeds");
    let (handle, id) = (sender.handle(), subscriber.id());
    let closing = std::thread::spawn(move || sender.close(PATIENCE));
    while handle.blocked_by().is_empty() {
        std::thread::yield_now();
    }
    assert!(handle.detach(id));
    assert_eq!(closing.join().expect("it does not panic"), Ok(()));
}

#[test]
fn what_lies_in_a_ring_that_was_not_entered_yet_outlives_its_publisher() {
    let stage = Stage::new();
    let mut sender = stage.publisher(8, 0);
    let (mut other, stopped) = (stage.subscriber::<u64>(), stage.subscriber::<u64>());
    sender.wait_for_subscribers(2, PATIENCE).expect("they subscribed");
    assert!(sender.handle().detach(stopped.id()));
    sender.send(&7u64).expect("a blocking send succeeds");
    drop(sender);
    while other.publishers() > 0 {
        std::thread::yield_now();
    }
    let sample = other.recv_timeout(PATIENCE).expect("receiving succeeds");
    assert_eq!(sample.as_deref(), Some(&7));
}

/// Two are let go of, one after the other, while the publisher waits: the descriptor tells of what is in the second ring.
#[test]
fn a_descriptor_follows_through_several_rings() {
    let stage = Stage::new();
    let mut sender = stage.publisher(8, 0);
    let mut other = stage.subscriber::<u64>();
    let (first, second) = (stage.subscriber::<u64>(), stage.subscriber::<u64>());
    sender.wait_for_subscribers(3, PATIENCE).expect("they subscribed");
    for number in 0..8 {
        sender.send(&number).expect("a blocking send succeeds");
        assert_eq!(*other.recv().expect("receiving succeeds"), number);
    }
    let descriptor =
        other.as_fd().expect("descriptors are left").try_clone_to_owned().expect("descriptors are left");
    give_back(&mut other);
    let (handle, ids) = (sender.handle(), [first.id(), second.id()]);
    let sending = std::thread::spawn(move || sender.send(&8).map(|()| sender));
    for id in ids {
        while !handle.blocked_by().iter().any(|by| by.id == id) {
            std::thread::yield_now();
        }
        assert!(handle.detach(id));
    }
    let sender = sending.join().expect("it does not panic").expect("nobody is waited for");
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    loop {
        if let Some(sample) = other.try_recv().expect("receiving succeeds") {
            assert_eq!(*sample, 8);
            break;
        }
        let ready = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&patience));
        assert_eq!(ready, Ok(1), "the message is told of");
    }
    drop(sender);
}

/// Several threads hold one sample, each for itself.
#[test]
fn a_sample_that_several_threads_hold_stays_until_the_last_lets_go() {
    let stage = Stage::new();
    for round in 0..300 {
        let name = format!("t{round}");
        let topic = stage.there.topic::<Large>(&name).depth(8).pool_limit(140_000);
        let mut sender = topic.publisher(Overflow::Fail).expect("it is ours");
        let mut receiver = stage.here.topic::<Large>(&name).subscriber().expect("the types agree");
        sender.send(&large(1)).expect("there is room");
        let sample = receiver.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        let gate = Barrier::new(2);
        let hold = || {
            gate.wait();
            sample.hold().expect("the limit is 64")
        };
        let (first, second) = std::thread::scope(|scope| {
            let (first, second) = (scope.spawn(hold), scope.spawn(hold));
            (first.join().expect("it does not panic"), second.join().expect("it does not panic"))
        });
        let (kept, dropped) = if round % 2 == 0 { (first, second) } else { (second, first) };
        drop(dropped);
        for number in 2..6 {
            // It may find no room: what is kept takes half of the pool.
            let _ = sender.send(&large(number));
            (0..70).for_each(|_| assert!(receiver.try_recv().is_ok()));
        }
        assert_eq!((kept[0], kept[69_999]), (1, 1), "round {round}");
    }
}
