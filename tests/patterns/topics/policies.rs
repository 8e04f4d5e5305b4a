//! The fear: a policy that loses messages and does not say so, counts them wrongly, hands out a message that its
//! publisher is writing over – or makes somebody wait who should not.

use std::collections::VecDeque;

use proptest::prelude::*;
use tidepost::{Held, HoldError, Overflow, Payload, Publisher, Sample, SendError, Subscriber};

use crate::topics::stage::{
    Account, Domain, Kind, PATIENCE, bytes, inline, meet, number_of, pooled, start, with_each_kind,
};

const LOSSY: [Overflow; 2] = [Overflow::DropOldest, Overflow::Latest];

/// A publisher and a subscriber in a node each.
fn pair<T: Payload + ?Sized>(kind: &Kind<T>, overflow: Overflow) -> (Domain, Publisher<T>, Subscriber<T>) {
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), overflow);
    let subscriber = kind.subscriber(&domain.node("receiver"));
    meet(&mut publisher, &subscriber);
    (domain, publisher, subscriber)
}

/// The next message. A pool segment may still be on its way to the other node.
fn receive<'a, T: Payload + ?Sized>(subscriber: &'a mut Subscriber<T>) -> Sample<'a, T> {
    subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("something is new")
}

/// Receives until there is nothing more, which has to be after so many.
fn receive_all<T: Payload + ?Sized>(
    kind: &Kind<T>,
    subscriber: &mut Subscriber<T>,
    account: &mut Account,
    sent: u64,
) {
    while account.next < sent {
        account.note(kind, &receive(subscriber));
    }
    assert_eq!(account.next, sent);
    assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
}

#[test]
fn what_is_dropped_is_counted() {
    with_each_kind!(drop_some);
}

fn drop_some<T: Payload + ?Sized>(kind: &Kind<T>) {
    let (_domain, mut publisher, mut subscriber) = pair(kind, Overflow::DropOldest);
    let (mut account, mut sent) = (Account::default(), 0);
    for count in [3, 100, 1, 8, 9, 1000, 2] {
        kind.send(&mut publisher, sent..sent + count);
        sent += count;
        receive_all(kind, &mut subscriber, &mut account, sent);
        assert_eq!(account.received + account.lost, sent, "{}", kind.name);
    }
    assert!(account.lost > 1000 && account.received > 10, "{}", kind.name);
    assert_eq!(subscriber.lost(), account.lost);
}

#[test]
fn a_ring_that_is_not_full_drops_nothing() {
    with_each_kind!(fill);
}

fn fill<T: Payload + ?Sized>(kind: &Kind<T>) {
    let (_domain, mut publisher, mut subscriber) = pair(kind, Overflow::DropOldest);
    let mut account = Account::default();
    for round in 0..20 {
        // Of chunks there are seven.
        kind.send(&mut publisher, round * 6..(round + 1) * 6);
        receive_all(kind, &mut subscriber, &mut account, (round + 1) * 6);
        assert_eq!(account.lost, 0, "{}", kind.name);
    }
}

#[test]
fn the_newest_is_the_newest() {
    with_each_kind!(ask_for_the_newest);
}

fn ask_for_the_newest<T: Payload + ?Sized>(kind: &Kind<T>) {
    let (_domain, mut publisher, mut subscriber) = pair(kind, Overflow::Latest);
    let (mut account, mut sent) = (Account::default(), 0);
    for count in [1, 2, 3, 7, 8, 9, 100, 1, 64, 2] {
        kind.send(&mut publisher, sent..sent + count);
        sent += count;
        let sample = receive(&mut subscriber);
        assert_eq!((sample.sequence(), sample.lost()), (sent - 1, count - 1), "{}", kind.name);
        account.note(kind, &sample);
        assert!(subscriber.try_recv().expect("receiving succeeds").is_none(), "{}", kind.name);
    }
    assert_eq!((account.received, account.lost, subscriber.lost()), (10, sent - 10, sent - 10));
}

#[test]
fn a_publisher_in_full_flight_damages_nothing() {
    for overflow in LOSSY {
        with_each_kind!(race, overflow);
    }
}

fn race<T: Payload + ?Sized>(kind: &Kind<T>, overflow: Overflow) {
    let (_domain, mut publisher, mut subscriber) = pair(kind, overflow);
    let (message, many, name) = (kind.message, kind.many, kind.name);
    let sending = start(move || {
        for number in 0..many {
            publisher.send(&message(number)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        publisher
    });
    let mut account = Account::default();
    while account.next < many {
        account.note(kind, &receive(&mut subscriber));
    }
    assert_eq!(account.received + account.lost, many);
    assert_eq!(subscriber.lost(), account.lost);
    drop(sending.finish());
}

#[test]
fn an_observer_costs_the_others_nothing() {
    with_each_kind!(observe);
}

fn observe<T: Payload + ?Sized>(kind: &Kind<T>) {
    let (domain, mut publisher, mut reliable) = pair(kind, Overflow::Block);
    let node = domain.node("observer");
    let mut observer = kind.topic(&node).observer().subscriber().expect("the types agree");
    publisher.wait_for_subscribers(2, PATIENCE).expect("both are let in");
    let (message, many) = (kind.message, kind.many);
    let sending = start(move || {
        (0..many).for_each(|number| publisher.send(&message(number)).expect("it is waited for one only"));
        publisher
    });
    let (mut of_reliable, mut of_observer) = (Account::default(), Account::default());
    while of_reliable.next < many {
        of_reliable.note(kind, &receive(&mut reliable));
        if of_reliable.next % 50 == 0 {
            of_observer.note(kind, &receive(&mut observer));
        }
    }
    receive_all(kind, &mut observer, &mut of_observer, many);
    assert_eq!((of_reliable.received, of_reliable.lost), (many, 0), "{}", kind.name);
    assert_eq!(of_observer.received + of_observer.lost, many, "{}", kind.name);
    assert!(of_observer.lost > 0, "{}", kind.name);
    drop(sending.finish());
}

#[test]
fn what_an_observer_holds_comes_on_top_of_the_limit() {
    let kind = pooled();
    let (domain, mut publisher, mut reliable) = pair(&kind, Overflow::Block);
    let node = domain.node("observer");
    let mut observer = kind.topic(&node).observer().subscriber().expect("the types agree");
    let (mut held, mut account) = (Vec::new(), Account::default());
    for number in 0..50 {
        kind.send(&mut publisher, number..number + 1);
        receive_all(&kind, &mut reliable, &mut account, number + 1);
        let sample = receive(&mut observer);
        if number % 2 == 0 {
            held.push((number, sample.hold().expect("the limit is 64")));
        }
    }
    assert_eq!(account.received, 50);
    held.iter().for_each(|(number, sample)| kind.check(sample, *number));
}

#[test]
fn nobody_is_not_waited_for() {
    for overflow in [Overflow::Block, Overflow::Fail, Overflow::DropOldest, Overflow::Latest] {
        with_each_kind!(send_to_nobody, overflow);
    }
}

fn send_to_nobody<T: Payload + ?Sized>(kind: &Kind<T>, overflow: Overflow) {
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), overflow);
    kind.send(&mut publisher, 0..100);
    let mut subscriber = kind.subscriber(&domain.node("receiver"));
    meet(&mut publisher, &subscriber);
    kind.send(&mut publisher, 100..103);
    let sample = receive(&mut subscriber);
    let first = if overflow == Overflow::Latest { 102 } else { 100 };
    assert_eq!(sample.sequence(), first, "{}", kind.name);
    kind.check(&sample, first);
}

#[test]
fn what_is_held_stays_while_the_publisher_goes_round() {
    for overflow in LOSSY {
        with_each_kind!(hold_some, overflow);
    }
}

/// Holds three at a time, and lets them go from the middle.
fn hold_some<T: Payload + ?Sized>(kind: &Kind<T>, overflow: Overflow) {
    let (_domain, mut publisher, mut subscriber) = pair(kind, overflow);
    let mut held: VecDeque<Held<T>> = VecDeque::new();
    for round in 0..30 {
        kind.send(&mut publisher, round * 20..(round + 1) * 20);
        let sample = receive(&mut subscriber);
        held.push_back(sample.hold().expect("the limit is 64"));
        if held.len() > 3 {
            let sample = held.remove(1).expect("there are four");
            kind.check(&sample, sample.sequence());
        }
        held.iter().for_each(|sample| kind.check(sample, sample.sequence()));
    }
}

#[test]
fn a_pool_that_is_held_altogether_is_full() {
    for overflow in LOSSY {
        let kind = pooled();
        let (_domain, mut publisher, mut subscriber) = pair(&kind, overflow);
        let mut held = Vec::new();
        let full = loop {
            if let Err(error) = publisher.send(&(kind.message)(held.len() as u64)) {
                break error;
            }
            let sample = receive(&mut subscriber);
            held.push(sample.hold().expect("the limit is 64"));
        };
        assert!(matches!(full, SendError::Full { .. }), "{full}");
        let count = held.len() as u64;
        (0..).zip(&held).for_each(|(number, sample)| kind.check(sample, number));
        drop(held.pop());
        // The last sample that was lent is given back by a receive.
        assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
        kind.send(&mut publisher, count..count + 30);
        (0..).zip(&held).for_each(|(number, sample)| kind.check(sample, number));
    }
}

#[test]
fn a_message_that_finds_no_room_in_vain_drops_nothing() {
    let domain = Domain::new();
    let node = domain.node("both");
    let topic = node.topic::<[u8]>("topic").pool_limit(160 << 10);
    let mut publisher = topic.clone().publisher(Overflow::DropOldest).expect("the topic is ours");
    let mut subscriber = topic.subscriber().expect("the types agree");
    // The chunks of this size take the whole limit, and none of them is of the size that comes then.
    publisher.send(&bytes(0, 16_000)).expect("there is room");
    let full = publisher.send(&bytes(1, 100_000)).expect_err("there is no room for a chunk of this size");
    assert!(matches!(full, SendError::Full { needed: 100_000, .. }), "{full}");
    assert_eq!(*receive(&mut subscriber), *bytes(0, 16_000));
}

#[test]
fn a_chunk_that_is_held_keeps_no_slot() {
    let kind = pooled();
    let (_domain, mut publisher, mut subscriber) = pair(&kind, Overflow::Fail);
    let mut held = Vec::new();
    while publisher.send(&(kind.message)(held.len() as u64)).is_ok() {
        held.push(receive(&mut subscriber).hold().expect("the limit is 64"));
    }
    // No chunk is left, and there are messages that need none.
    for number in 0..40 {
        publisher.send(&bytes(number, 100)).expect("there is a slot");
        assert_eq!(*receive(&mut subscriber), *bytes(number, 100));
    }
    (0..).zip(&held).for_each(|(number, sample)| kind.check(sample, number));
}

#[test]
fn a_batch_stays_whole_while_the_publisher_goes_round() {
    with_each_kind!(take_batches);
}

fn take_batches<T: Payload + ?Sized>(kind: &Kind<T>) {
    let (_domain, mut publisher, mut subscriber) = pair(kind, Overflow::DropOldest);
    kind.send(&mut publisher, 0..1);
    assert_eq!(receive(&mut subscriber).sequence(), 0);
    let (mut next, mut sent) = (1, 1);
    for _ in 0..20 {
        kind.send(&mut publisher, sent..sent + 20);
        // Of seven chunks, two are left to the publisher.
        let batch: Vec<&T> = subscriber.try_recv_many(5).expect("receiving succeeds").collect();
        kind.send(&mut publisher, sent + 20..sent + 40);
        sent += 40;
        let numbers: Vec<u64> = batch.iter().map(|message| number_of(*message)).collect();
        assert!(!batch.is_empty() && numbers[0] >= next, "{}: {numbers:?}", kind.name);
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{}: {numbers:?}", kind.name);
        batch.iter().zip(&numbers).for_each(|(message, number)| kind.check(message, *number));
        next = numbers[numbers.len() - 1] + 1;
    }
}

#[test]
fn a_batch_of_the_newest_has_one() {
    let kind = inline();
    let (_domain, mut publisher, mut subscriber) = pair(&kind, Overflow::Latest);
    for round in 0..10 {
        kind.send(&mut publisher, round * 20..(round + 1) * 20);
        let batch = subscriber.try_recv_many(5).expect("receiving succeeds");
        assert_eq!(batch.map(number_of).collect::<Vec<_>>(), [(round + 1) * 20 - 1]);
    }
}

#[test]
fn a_batch_ends_where_its_pins_do() {
    let kind = pooled();
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), Overflow::DropOldest);
    let node = domain.node("receiver");
    let mut subscriber = kind.topic(&node).hold_limit(2).subscriber().expect("the types agree");
    meet(&mut publisher, &subscriber);
    kind.send(&mut publisher, 0..1);
    assert_eq!(receive(&mut subscriber).sequence(), 0);
    kind.send(&mut publisher, 1..7);
    for start in [1, 4] {
        let batch = subscriber.try_recv_many(6).expect("receiving succeeds");
        let numbers: Vec<u64> = batch
            .map(|message| {
                kind.check(message, number_of(message));
                number_of(message)
            })
            .collect();
        assert_eq!(numbers, [start, start + 1, start + 2]);
    }
    assert_eq!(subscriber.lost(), 0);
}

/// Samples that may be held in the model.
const HOLD_LIMIT: u32 = 5;
/// Slots of its ring.
const DEPTH: u64 = 8;

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Receive,
    ReceiveMany(usize),
    Hold,
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![4 => 8usize..248, 2 => 249usize..4096, 1 => 17_000usize..20_000];
    let step = prop_oneof![
        8 => length.prop_map(Step::Send),
        3 => Just(Step::Receive),
        1 => (1usize..6).prop_map(Step::ReceiveMany),
        2 => Just(Step::Hold),
        1 => (0usize..8).prop_map(Step::Drop),
    ];
    proptest::collection::vec(step, 1..300)
}

/// A publisher, a subscriber, and what is known of both.
struct Model {
    publisher: Publisher<[u8]>,
    subscriber: Subscriber<[u8]>,
    overflow: Overflow,
    slot_bytes: usize,
    /// Whether the pool has room for everything.
    is_ample: bool,
    /// The length of each message.
    sent: Vec<usize>,
    next: u64,
    lost: u64,
    held: Vec<Held<[u8]>>,
    _domain: Domain,
}

impl Model {
    fn open(overflow: Overflow, slot_bytes: usize, pool_limit: Option<usize>) -> Self {
        let domain = Domain::new();
        let node = domain.node("model");
        let topic = node.topic::<[u8]>("topic").depth(DEPTH as usize).slot_bytes(slot_bytes);
        let topic = topic.hold_limit(HOLD_LIMIT);
        let limited = pool_limit.map_or(topic.clone(), |limit| topic.clone().pool_limit(limit));
        Self {
            publisher: limited.publisher(overflow).expect("the topic is ours"),
            subscriber: topic.subscriber().expect("the types agree"),
            overflow,
            slot_bytes,
            is_ample: pool_limit.is_none(),
            sent: Vec::new(),
            next: 0,
            lost: 0,
            held: Vec::new(),
            _domain: domain,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(length) => self.send(length),
            Step::Receive => drop(self.receive(false)),
            Step::ReceiveMany(count) => self.receive_many(count),
            Step::Hold => {
                let held = self.receive(true);
                self.held.extend(held);
            }
            Step::Drop(index) if !self.held.is_empty() => {
                drop(self.held.swap_remove(index % self.held.len()));
            }
            Step::Drop(_) => {}
        }
        for held in &self.held {
            let number = held.sequence();
            assert_eq!(**held, *bytes(number, self.sent[number as usize]), "held message {number}");
        }
    }

    fn send(&mut self, length: usize) {
        match self.publisher.send(&bytes(self.sent.len() as u64, length)) {
            Ok(()) => self.sent.push(length),
            Err(SendError::Full { .. }) => assert!(!self.is_ample, "only a pool that is held is full"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Where the next message may be, given what has been sent.
    fn due(&self) -> std::ops::RangeInclusive<u64> {
        let sent = self.sent.len() as u64;
        let oldest = match self.overflow {
            Overflow::Latest => sent - 1,
            _ if sent - self.next > DEPTH => sent - DEPTH,
            _ => self.next,
        };
        let is_exact = self.overflow == Overflow::Latest || (self.is_ample && oldest == self.next);
        // Who was overtaken goes on a quarter ring after the oldest, and a pool that is short gives up even more.
        let newest = match (is_exact, self.is_ample) {
            (true, _) => oldest,
            (false, true) => oldest + DEPTH / 4,
            (false, false) => sent - 1,
        };
        oldest..=newest
    }

    fn receive(&mut self, holds: bool) -> Option<Held<[u8]>> {
        let sent = self.sent.len() as u64;
        let due = (sent > self.next).then(|| self.due());
        let pinned =
            self.held.iter().filter(|held| held.len() > 1024 && held.len() > self.slot_bytes).count();
        let Some(sample) = self.subscriber.try_recv().expect("receiving succeeds") else {
            assert!(due.is_none(), "there is something in {due:?}");
            return None;
        };
        let number = sample.sequence();
        assert!(due.as_ref().is_some_and(|due| due.contains(&number)), "message {number} is not in {due:?}");
        assert_eq!(*sample, *bytes(number, self.sent[number as usize]), "message {number}");
        assert_eq!(sample.lost(), number - self.next);
        (self.next, self.lost) = (number + 1, self.lost + sample.lost());
        match holds.then(|| sample.hold())? {
            Ok(held) => Some(held),
            Err(HoldError::Limit { limit, .. }) => {
                assert_eq!((pinned, limit), (HOLD_LIMIT as usize, HOLD_LIMIT));
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn receive_many(&mut self, count: usize) {
        let batch: Vec<&[u8]> = self.subscriber.try_recv_many(count).expect("receiving succeeds").collect();
        for message in batch {
            let number = number_of(message);
            assert!(number >= self.next, "messages come in order");
            assert_eq!(*message, *bytes(number, self.sent[number as usize]), "message {number}");
            (self.next, self.lost) = (number + 1, self.lost + number - self.next);
        }
        assert_eq!(self.subscriber.lost(), self.lost);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn what_is_received_was_sent_and_what_is_lost_was_old(
        steps in steps(),
        overflow in prop_oneof![2 => Just(Overflow::DropOldest), 1 => Just(Overflow::Latest)],
        // Where the pool is short, it has four chunks, and they are of one size.
        (slot_bytes, pool_limit) in prop_oneof![
            Just((0usize, None)), Just((248, None)), Just((4096, None)), Just((4096, Some(82_000))),
        ],
    ) {
        let mut model = Model::open(overflow, slot_bytes, pool_limit);
        steps.into_iter().for_each(|step| model.step(step));
        while model.next < model.sent.len() as u64 {
            model.receive(false);
        }
        prop_assert_eq!(model.subscriber.lost(), model.lost);
    }
}

/// The usual limit of a pool is for what is on its way, not for a message: that is as long as there is memory.
#[test]
fn a_message_may_be_longer_than_the_usual_limit_of_a_pool() {
    const LENGTH: usize = 80 << 20;
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut receiver: Subscriber<[u8]> = here.topic("long").subscriber().expect("the types agree");
    let mut sender: Publisher<[u8]> =
        there.topic("long").publisher(Overflow::Block).expect("the topic is ours");
    let mut loan = sender.loan(LENGTH).expect("there is memory for two");
    (loan[0], loan[LENGTH - 1]) = (1, 2);
    loan.send();
    let sample = receiver.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert_eq!((sample.len(), sample[0], sample[LENGTH - 1]), (LENGTH, 1, 2));
}
