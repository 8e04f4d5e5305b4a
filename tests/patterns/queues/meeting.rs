//! The fear: an item that its producer believes to be taken and nobody has, or that somebody has although the push failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidepost::{Overflow, Producer, PushError, ReceiveError};

use crate::queues::stage::*;

fn meeting(node: &tidepost::Node, overflow: Overflow) -> Producer<Words> {
    node.queue("queue").depth(0).producer(overflow).expect("the queue is ours")
}

#[test]
fn a_push_returns_when_the_item_is_taken() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = meeting(&giving, Overflow::Block);
    let mut consumer = consumer(&taking, 4);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    let is_taken = Arc::new(AtomicBool::new(false));
    let pushing = start({
        let is_taken = Arc::clone(&is_taken);
        move || {
            producer.push(&words(0)).expect("it is taken");
            assert!(is_taken.load(Ordering::SeqCst), "nobody has taken it yet");
            producer
        }
    });
    std::thread::sleep(Duration::from_millis(20));
    assert!(!pushing.has_finished());
    is_taken.store(true, Ordering::SeqCst);
    let held = next(&mut consumer).hold();
    // Taken is enough; it need not be acknowledged.
    let mut producer = pushing.finish();
    assert_eq!(producer.counts().unacknowledged, 1);
    held.ack().expect("the producer lives");
    producer.close(PATIENCE).expect("it is acknowledged");
}

#[test]
fn a_push_that_fails_has_given_the_item_to_nobody() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = meeting(&giving, Overflow::Block);
    let error = producer.push_timeout(&words(0), Duration::from_millis(5)).expect_err("nobody is there");
    assert!(matches!(error, PushError::Timeout { consumers: 0, .. }), "{error}");
    let mut consumer = consumer(&taking, 2);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    // More often than it has credit.
    for number in 0..5 {
        let error = producer.push_timeout(&words(number), Duration::from_millis(5)).expect_err("nobody asks");
        assert!(matches!(error, PushError::Timeout { consumers: 1, .. }), "{error}");
        assert!(matches!(producer.try_push(&words(number)), Err(PushError::Full { .. })));
    }
    assert!(consumer.try_recv().expect("receiving succeeds").is_none());
    let handle = producer.handle();
    let pushing = start(move || (producer.push(&words(7)), producer.push(&words(8)), producer));
    let item = next(&mut consumer);
    assert_eq!((number_of(&item), item.is_redelivered()), (7, false));
    item.ack().expect("the producer lives");
    std::thread::sleep(PAUSE);
    handle.cancel();
    let (taken, cancelled, mut producer) = pushing.finish();
    taken.expect("it was taken");
    assert!(matches!(cancelled, Err(PushError::Closed { .. })));
    assert!(consumer.try_recv().expect("receiving succeeds").is_none());
    let counts = producer.counts();
    assert_eq!((counts.acknowledged, counts.unacknowledged), (1, 0), "{counts:?}");
}

/// Producers that give up again and again, against consumers that do: what is pushed is what is taken.
#[test]
fn whoever_gives_up_knows_whether_the_other_did() {
    const ROUNDS: u64 = 3_000;
    let domain = Domain::new();
    let giving = domain.node("giving");
    let mut producer = meeting(&giving, Overflow::Block);
    let consumers: Vec<_> = (0..2)
        .map(|number| {
            let node = domain.node(&format!("taking-{number}"));
            let mut consumer = consumer(&node, 8);
            let handle = consumer.handle();
            let taking = start(move || {
                let (mut ledger, mut round) = (Ledger::default(), number);
                loop {
                    round = round * 7919 % 104_729 + 1;
                    let taken = match consumer.recv_timeout(Duration::from_micros(round % 60)) {
                        Ok(taken) => taken,
                        Err(ReceiveError::Closed { .. }) => return ledger,
                        Err(error) => panic!("{error}"),
                    };
                    if let Some(item) = taken {
                        assert!(!item.is_redelivered());
                        ledger.note(number_of(&item));
                        item.ack().expect("the producer lives");
                    }
                }
            });
            (handle, taking)
        })
        .collect();
    producer.wait_for_consumers(2, PATIENCE).expect("they come");
    let mut pushed = Vec::new();
    for number in 0..ROUNDS {
        match producer.push_timeout(&words(number), Duration::from_micros(number * 31 % 50)) {
            Ok(()) => pushed.push(number),
            Err(PushError::Timeout { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    // However seldom the two met: once they certainly do.
    producer.push(&words(ROUNDS)).expect("somebody asks");
    pushed.push(ROUNDS);
    until("all is acknowledged", || producer.counts().unacknowledged == 0);
    let mut ledger = Ledger::default();
    for (handle, taking) in consumers {
        handle.cancel();
        ledger.add(taking.finish());
    }
    assert_eq!(ledger.numbers(), pushed);
    assert_eq!(producer.counts().acknowledged, pushed.len() as u64);
}

#[test]
fn an_item_goes_to_the_consumer_that_asks() {
    let domain = Domain::new();
    let giving = domain.node("giving");
    let mut producer = meeting(&giving, Overflow::Block);
    let (busy, idle) = (domain.node("busy"), domain.node("idle"));
    let _busy = consumer(&busy, 64);
    let mut idle = consumer(&idle, 64);
    producer.wait_for_consumers(2, PATIENCE).expect("they come");
    let handle = idle.handle();
    let taking = start(move || {
        let mut ledger = Ledger::default();
        while let Ok(item) = idle.recv() {
            ledger.note(number_of(&item));
            item.ack().expect("the producer lives");
        }
        ledger
    });
    for number in 0..200 {
        if number % 20 == 0 {
            std::thread::sleep(PAUSE);
        }
        producer.push(&words(number)).expect("one of them asks");
    }
    until("all is acknowledged", || producer.counts().unacknowledged == 0);
    handle.cancel();
    taking.finish().check_once(200);
}

#[test]
fn who_does_not_wait_meets_only_who_asks() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = meeting(&giving, Overflow::Fail);
    let mut consumer = consumer(&taking, 4);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    assert!(matches!(producer.push(&words(0)), Err(PushError::Full { depth: 0, .. })));
    let taking = start(move || {
        let number = number_of(&next(&mut consumer));
        (number, consumer)
    });
    let mut number = 1;
    until("somebody asks", || {
        number += 1;
        producer.push(&words(number)).is_ok()
    });
    let (taken, mut consumer) = taking.finish();
    assert_eq!(taken, number);
    // It was dropped, so it comes again, and nobody waits for that.
    let item = next(&mut consumer);
    assert_eq!((number_of(&item), item.is_redelivered()), (number, true));
    item.ack().expect("the producer lives");
    producer.close(PATIENCE).expect("it is acknowledged");
}

#[test]
fn a_consumer_that_goes_leaves_its_offer_to_others() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = meeting(&giving, Overflow::Block);
    let leaving = consumer(&taking, 4);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    let pushing = start(move || {
        let loan = producer.loan().map(|mut loan| {
            *loan = words(5);
            loan.push()
        });
        loan.expect("there is room").expect("it is taken");
        producer
    });
    std::thread::sleep(Duration::from_millis(5));
    drop(leaving);
    let mut staying = consumer(&taking, 4);
    let item = next(&mut staying);
    assert_eq!((number_of(&item), item.is_redelivered()), (5, false));
    item.ack().expect("the producer lives");
    pushing.finish().close(PATIENCE).expect("it is acknowledged");
}
