//! The fear: a pool that grows, is full, or gets no memory, harms what is held, waits without end, or takes the program along.

use std::time::Duration;

use tidepost::{
    Event, Held, HoldError, Node, Overflow, Publisher, SegmentError, SendError, Subscriber, TopicError,
};

use crate::ledger::{self, Ledger};
use crate::parts::{say, wait};
use crate::shortage::{DESCRIPTORS, MEMORY, TOO_MANY, run_out_of, starve};
use crate::stage::{PATIENCE, Stage};

const SENDER: u64 = 3;
/// Messages of rising length, each of which is held.
const GROWTH: u64 = 60;

fn length_of(number: u64) -> usize {
    2_000 + number as usize * 9_000
}

/// Sends ever longer messages, then many that go round in what there is.
pub fn grow(node: &Node) {
    let mut publisher: Publisher<[u8]> =
        node.topic("growth").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the test listens");
    for number in 0..2 * GROWTH {
        let letter = ledger::letter(length_of(number % GROWTH), SENDER, number);
        publisher.send(&letter).expect("a blocking send succeeds");
    }
    say("sent");
    wait();
}

#[test]
fn what_is_held_stays_as_it_was_while_the_pool_grows() {
    let stage = Stage::new();
    let node = stage.node();
    let mut subscriber: Subscriber<[u8]> = node.topic("growth").subscriber().expect("the types agree");
    let mut grower = stage.start("grower", "");
    let (mut ledger, mut held) = (Ledger::new(true), Vec::new());
    for number in 0..2 * GROWTH {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        ledger.enter(&sample);
        if number < GROWTH {
            held.push(sample.hold().expect("the limit is 64"));
        }
    }
    grower.expect("sent");
    let check = |held: &Held<[u8]>| {
        assert_eq!((held.len(), ledger::read(held)), (length_of(held.sequence()), (SENDER, held.sequence())));
    };
    held.iter().for_each(check);
    // Out of order, and after the publisher and its process have gone.
    grower.kill();
    drop(subscriber);
    while !held.is_empty() {
        check(&held.swap_remove(held.len() / 3));
    }
}

/// Bytes of the longest message.
const LONGEST: usize = 100_000;

/// Lends and sends messages of no byte, of as many as there may be, and of one more, under each policy.
pub fn lend_to_the_limit(node: &Node) {
    for overflow in [Overflow::Block, Overflow::Fail, Overflow::DropOldest, Overflow::Latest] {
        let topic = node.topic::<[u8]>("limited").pool_limit(LONGEST);
        let mut publisher = topic.publisher(overflow).expect("the topic is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("the test listens");
        let error = publisher.loan(LONGEST + 1).expect_err("it is longer than the limit");
        let SendError::Full { needed, limit, .. } = error else { panic!("{error}") };
        assert_eq!((needed, limit), (LONGEST + 1, LONGEST));
        for length in [0, LONGEST] {
            let mut loan = publisher.loan(length).expect("it is within the limit");
            loan.fill(7);
            loan.send();
            say(length);
            wait();
        }
    }
}

#[test]
fn the_pool_limit_is_the_longest_message() {
    let stage = Stage::new();
    let node = stage.node();
    let mut subscriber: Subscriber<[u8]> = node.topic("limited").subscriber().expect("the types agree");
    let mut lender = stage.start("lender", "");
    for length in [0, LONGEST].repeat(4) {
        lender.expect(&length.to_string());
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert!(sample.len() == length && sample.iter().all(|byte| *byte == 7));
        lender.go();
    }
    lender.ends();
}

/// Samples that are held at most.
const HOLD_LIMIT: usize = 3;

/// Holds as many as it may, and another whenever it has let go of one.
pub fn hold(node: &Node, is_observer: bool) {
    let topic = node.topic::<[u8]>("held").hold_limit(HOLD_LIMIT as u32);
    let topic = if is_observer { topic.observer() } else { topic };
    let mut subscriber = topic.subscriber().expect("the types agree");
    let mut held = Vec::new();
    for _ in 0..2 * HOLD_LIMIT {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        if held.len() == HOLD_LIMIT {
            let error = sample.hold().err();
            let is_limit =
                matches!(error, Some(HoldError::Limit { limit, .. }) if limit == HOLD_LIMIT as u32);
            assert!(is_limit, "{error:?}");
            drop(held.remove(1));
        }
        held.push(sample.hold().expect("there is room for one more"));
        say("held");
    }
    wait();
    let numbers = held.iter().map(|held| ledger::read(held).1).collect::<Vec<_>>();
    assert_eq!(numbers, [0, 4, 5]);
    say("intact");
    wait();
}

/// Whatever the policy, a subscriber holds as many as it said, and may hold another when it has let go of one.
#[test]
fn the_hold_limit_is_kept() {
    let stage = Stage::new();
    let node = stage.node();
    for (overflow, is_observer) in [
        (Overflow::Block, false),
        (Overflow::Block, true),
        (Overflow::Fail, false),
        (Overflow::DropOldest, false),
        (Overflow::Latest, false),
    ] {
        let mut publisher: Publisher<[u8]> =
            node.topic("held").publisher(overflow).expect("the topic is ours");
        let mut holder = stage.start("holder", &u64::from(is_observer).to_string());
        publisher.wait_for_subscribers(1, PATIENCE).expect("it subscribes");
        for number in 0..2 * HOLD_LIMIT as u64 {
            publisher.send(&ledger::letter(90_000, SENDER, number)).expect("there is room");
            holder.expect("held");
        }
        holder.go();
        holder.expect("intact");
    }
}

/// Who has read everything, and holds it, is who the publisher waits for.
#[test]
fn a_publisher_knows_who_holds_what_it_waits_for() {
    let stage = Stage::new();
    let (here, there) = (stage.node(), stage.node());
    let mut subscriber: Subscriber<[u8]> = here.topic("hoard").subscriber().expect("the types agree");
    let mut idle: Subscriber<[u8]> = here.topic("hoard").subscriber().expect("the types agree");
    let topic = there.topic::<[u8]>("hoard").pool_limit(1 << 16);
    let mut publisher = topic.publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(2, PATIENCE).expect("they subscribed");
    publisher.send(&ledger::letter(1 << 16, SENDER, 0)).expect("there is room for one");
    let held = subscriber.recv().expect("receiving succeeds").hold().expect("the limit is 64");
    assert_eq!(ledger::read(&idle.recv().expect("receiving succeeds")), (SENDER, 0));
    // Both look for more, which says that they have read everything.
    for receiver in [&mut subscriber, &mut idle] {
        let nothing = receiver.recv_timeout(Duration::from_millis(1)).expect("receiving succeeds");
        assert!(nothing.is_none(), "it was one");
    }
    let error = publisher.send_timeout(&ledger::letter(1 << 16, SENDER, 1), Duration::from_millis(100));
    assert!(matches!(error, Err(SendError::Timeout { .. })), "{error:?}");
    let blocked = std::iter::from_fn(|| publisher.try_event()).find_map(|event| match event {
        Event::Blocked { by } => Some(by),
        _ => None,
    });
    let by: Vec<_> = blocked.expect("it waited").into_iter().map(|blocking| blocking.id).collect();
    assert_eq!(by, [subscriber.id()]);
    drop(held);
    publisher.send_timeout(&ledger::letter(1 << 16, SENDER, 1), PATIENCE).expect("there is room again");
}

/// A message that finds no memory, and for which nobody can make room, is not waited with for ever, and costs no other.
#[test]
fn a_message_that_cannot_be_sent_is_refused_and_costs_no_other() {
    const LIMIT: usize = 1 << 20;
    let stage = Stage::new();
    let (here, there) = (stage.node(), stage.node());
    for overflow in [Overflow::Block, Overflow::Fail, Overflow::DropOldest, Overflow::Latest] {
        let mut subscriber: Subscriber<[u8]> = here.topic("costs").subscriber().expect("the types agree");
        let topic = there.topic::<[u8]>("costs").pool_limit(LIMIT);
        let mut publisher = topic.publisher(overflow).expect("the topic is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
        for number in 0..20 {
            publisher.send(&ledger::letter(4_000, SENDER, number)).expect("there is room");
        }
        // All of the pool has become room for short ones.
        let error = publisher.send_timeout(&ledger::letter(LIMIT, SENDER, 20), PATIENCE);
        assert!(matches!(error, Err(SendError::Full { .. })), "{overflow:?}: {error:?}");
        let mut ledger = Ledger::new(overflow != Overflow::Latest);
        let mut last = None;
        while last != Some(19) {
            let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds");
            last = Some(ledger.enter(&sample.expect("it was sent and not lost")).last);
        }
    }
}

/// Has no memory for a segment, neither of a pool nor of a ring, and sends what it has memory for.
pub fn starve_publisher(node: &Node, what: u64) {
    let mut publisher: Publisher<[u8]> =
        node.topic("starved").pool_limit(2 * TOO_MANY).publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the test listens");
    // The memory for what is sent in the end.
    drop(publisher.loan(30_000).expect("there is memory for this"));
    run_out_of(what);
    for number in 0..3 {
        let error = publisher.loan(TOO_MANY).expect_err("there is no memory");
        let SendError::Segment { source, .. } = &error else { panic!("{error}") };
        assert!(matches!(source, SegmentError::Map { .. } | SegmentError::Create { .. }), "{source}");
        let error = node.topic::<[u8]>("deep").depth(512).slot_bytes(60_000).publisher(Overflow::Block);
        let error = error.expect_err("there is no memory");
        assert!(matches!(error, TopicError::Segment { .. }), "{error}");
        for length in [56, 30_000] {
            let letter = ledger::letter(length, SENDER, 2 * number + u64::from(length > 56));
            publisher.send(&letter).expect("there is memory for this");
        }
    }
    say("sent");
    wait();
}

#[test]
fn a_publisher_without_memory_or_descriptors_goes_on() {
    for what in [MEMORY, DESCRIPTORS] {
        let stage = Stage::new();
        let node = stage.node();
        let mut subscriber: Subscriber<[u8]> = node.topic("starved").subscriber().expect("the types agree");
        let mut starved = stage.start("starved-publisher", &what.to_string());
        let mut ledger = Ledger::new(true);
        for _ in 0..6 {
            let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds");
            ledger.enter(&sample.expect("it was sent"));
        }
        starved.expect("sent");
        assert_eq!(node.violations(), (0, None));
    }
}

/// Cannot map a ring, says so, and receives from others, old and new.
pub fn starve_subscriber(node: &Node) {
    let mut subscriber: Subscriber<[u8]> = node.topic("shallow").subscriber().expect("the types agree");
    let mut hear = |number| {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!(ledger::read(&sample), (SENDER, number));
    };
    // The node's thread has been at work: what that needs is there.
    hear(0);
    starve();
    let error = node.topic::<[u8]>("deep").subscriber().expect_err("there is no memory");
    assert!(matches!(error, TopicError::Refused { .. }), "{error}");
    say(error.to_string().replace('\n', " "));
    hear(1);
    let mut another: Subscriber<[u8]> = node.topic("shallow").subscriber().expect("the types agree");
    say("joined");
    let sample = another.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert_eq!(ledger::read(&sample), (SENDER, 2));
    say("intact");
    wait();
}

#[test]
fn a_subscriber_without_memory_is_told_and_goes_on() {
    let stage = Stage::new();
    let node = stage.node();
    let topic = node.topic::<[u8]>("deep").depth(512).slot_bytes(60_000);
    // A ring of some 30 MiB.
    let deep = topic.publisher(Overflow::Block).expect("the topic is ours");
    let mut shallow: Publisher<[u8]> =
        node.topic("shallow").publisher(Overflow::Block).expect("the topic is ours");
    let mut starved = stage.start("starved-subscriber", "");
    shallow.wait_for_subscribers(1, PATIENCE).expect("it subscribes");
    let send = |shallow: &mut Publisher<[u8]>, number| {
        shallow.send_timeout(&ledger::letter(500, SENDER, number), PATIENCE).expect("there is room");
    };
    send(&mut shallow, 0);
    let said = starved.hear();
    assert!(said.contains("cannot map a ring segment") && said.contains("limit"), "{said}");
    assert_eq!(deep.subscribers(), 0);
    let start = std::time::Instant::now();
    while deep.refusals().is_empty() {
        assert!(start.elapsed() < PATIENCE, "the publisher learns who could not join");
        std::thread::yield_now();
    }
    send(&mut shallow, 1);
    starved.expect("joined");
    shallow.wait_for_subscribers(2, PATIENCE).expect("it subscribes again");
    send(&mut shallow, 2);
    starved.expect("intact");
}
