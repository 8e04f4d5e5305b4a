//! The fear: of two things to wait for, one is not heard, or the other all the time.

use std::time::{Duration, Instant};

use tidepost::{Either, Node, Overflow, Publisher, ReceiveError, Subscriber, select, select_timeout};

use crate::topics::stage::{Domain, PATIENCE, PAUSE, Words, Work, start, words};

const MESSAGES: u64 = 500;

fn pair(sending: &Node, receiving: &Node, topic: &str) -> (Publisher<Words>, Subscriber<Words>) {
    let subscriber = receiving.topic(topic).subscriber().expect("the types agree");
    (sending.topic(topic).depth(8).publisher(Overflow::Block).expect("the topic is ours"), subscriber)
}

fn send(publisher: &mut Publisher<Words>, number: u64) {
    publisher.send(&words(number)).expect("a blocking send succeeds");
}

#[test]
fn the_one_that_has_a_message_is_named_and_keeps_it() {
    let domain = Domain::new();
    let node = domain.node("both");
    let (mut first_publisher, mut first) = pair(&node, &node, "first");
    let (mut second_publisher, mut second) = pair(&node, &node, "second");
    let none = select_timeout(&mut first, &mut second, Duration::from_millis(1));
    assert_eq!(none, Ok(None));
    send(&mut second_publisher, 0);
    for _ in 0..10 {
        assert_eq!(select(&mut first, &mut second), Ok(Either::Second));
    }
    assert_eq!(*second.recv().expect("receiving succeeds"), words(0));
    send(&mut first_publisher, 0);
    assert_eq!(select_timeout(&mut first, &mut second, PATIENCE), Ok(Some(Either::First)));
}

#[test]
fn both_are_named_if_both_are_ready() {
    let domain = Domain::new();
    let node = domain.node("both");
    let (mut first_publisher, mut first) = pair(&node, &node, "first");
    let (mut second_publisher, mut second) = pair(&node, &node, "second");
    send(&mut first_publisher, 0);
    send(&mut second_publisher, 0);
    let named = (0..1000).map(|_| select(&mut first, &mut second).expect("waiting succeeds"));
    let firsts = named.filter(|named| *named == Either::First).count();
    // By chance: one in ten million million runs is outside.
    assert!((375..=625).contains(&firsts), "{firsts} of 1000");
}

/// Sends with pauses, in which the receiver falls asleep.
fn send_with_pauses(mut publisher: Publisher<Words>, every: u64) -> Work<Publisher<Words>> {
    start(move || {
        // A node without thread lets it in when somebody waits there.
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
        for number in 0..MESSAGES {
            send(&mut publisher, number);
            if number % every == 0 {
                std::thread::sleep(PAUSE);
            }
        }
        publisher
    })
}

fn receive_all(domain: &Domain, receiving: [&Node; 2]) {
    let sender = domain.node("sender");
    let (first_publisher, mut first) = pair(&sender, receiving[0], "first");
    let (second_publisher, mut second) = pair(&sender, receiving[1], "second");
    let sending = [send_with_pauses(first_publisher, 2), send_with_pauses(second_publisher, 3)];
    let mut next = [0, 0];
    while next != [MESSAGES; 2] {
        let start = Instant::now();
        let named = select_timeout(&mut first, &mut second, PATIENCE).expect("waiting succeeds");
        assert!(start.elapsed() < PATIENCE, "nobody woke us");
        let (subscriber, next) = match named.expect("more come") {
            Either::First => (&mut first, &mut next[0]),
            Either::Second => (&mut second, &mut next[1]),
        };
        let sample = subscriber.try_recv().expect("receiving succeeds").expect("it was named");
        assert_eq!((sample.sequence(), *sample), (*next, words(*next)));
        *next += 1;
    }
    sending.into_iter().for_each(|work| drop(work.finish()));
}

#[test]
fn nothing_is_missed() {
    let domain = Domain::new();
    receive_all(&domain, [&domain.node("first"), &domain.node("second")]);
}

#[test]
fn nodes_without_thread_are_served() {
    let domain = Domain::new();
    receive_all(&domain, [&domain.node_without_thread("first"), &domain.node("second")]);
    let without = domain.node_without_thread("both");
    receive_all(&domain, [&without, &without]);
}

#[test]
fn a_cancel_or_a_shutdown_ends_the_wait() {
    for is_cancel in [true, false] {
        let domain = Domain::new();
        let nodes = ["first", "second"].map(|name| domain.node(name));
        let (_first_publisher, mut first) = pair(&nodes[0], &nodes[0], "first");
        let (_second_publisher, mut second) = pair(&nodes[1], &nodes[1], "second");
        let handle = second.handle();
        let waiting = start(move || {
            let named = select(&mut first, &mut second);
            (named, second.recv().map(drop))
        });
        std::thread::sleep(PAUSE * 10);
        if is_cancel {
            handle.cancel()
        } else {
            nodes[1].shutdown()
        }
        let (named, received) = waiting.finish();
        assert_eq!(named, Ok(Either::Second));
        assert!(matches!(received, Err(ReceiveError::Closed { .. })));
    }
}
