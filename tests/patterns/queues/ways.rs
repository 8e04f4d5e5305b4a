//! The fear: a way to push or to take that only works as long as nothing else is used.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tidepost::{Message, Overflow, PushError, QueueError, ReceiveError, Untyped};

use crate::queues::stage::*;

#[test]
fn large_items_take_the_way_through_the_pool_and_the_backlog() {
    const ITEMS: u64 = 60;
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer =
        giving.queue::<[u8]>("queue").depth(100).producer(Overflow::Block).expect("the queue is ours");
    let length = |number: u64| 8 + (number * number * 7919 % 200_000) as usize;
    // Nobody is there: they lie in the producer's memory, and nobody calls it any more.
    (0..ITEMS).for_each(|number| producer.push(&bytes(number, length(number))).expect("there is room"));
    let mut consumer = taking.queue::<[u8]>("queue").credit(5).consumer().expect("the types agree");
    let mut held = Vec::new();
    for number in 0..ITEMS {
        let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
        assert_eq!(*item, *bytes(number, length(number)), "item {number}");
        held.push(item.hold());
        if held.len() == 4 {
            let item = held.swap_remove((number % 4) as usize);
            item.ack().expect("the producer lives");
        }
    }
    held.into_iter().for_each(|item| item.ack().expect("the producer lives"));
    producer.close(PATIENCE).expect("everything is acknowledged");
}

/// The memory of shorter items is not theirs for ever: what the limit allows gets through, and what lies behind it too.
#[test]
fn what_the_limit_allows_gets_through_whatever_was_sent_before() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let lengths = [10_000, 10_000, 10_000, 60_000, 10_000, 64 << 10, 8];
    let queue = giving.queue::<[u8]>("queue").depth(20).pool_limit(64 << 10);
    let mut producer = queue.producer(Overflow::Fail).expect("the queue is ours");
    lengths.iter().zip(0..).for_each(|(length, number)| {
        producer.push(&bytes(number, *length)).expect("there is room");
    });
    let error = producer.push(&bytes(9, (64 << 10) + 1)).expect_err("it is longer than the limit");
    assert!(matches!(error, PushError::TooLarge { .. }), "{error}");
    let mut consumer = taking.queue::<[u8]>("queue").credit(2).consumer().expect("the types agree");
    for (length, number) in lengths.iter().zip(0..) {
        let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
        assert_eq!(*item, *bytes(number, *length), "item {number}");
        item.ack().expect("the producer lives");
    }
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn large_items_come_again_whole() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer =
        giving.queue::<[u8]>("queue").slot_bytes(4096).producer(Overflow::Block).expect("the queue is ours");
    let mut consumer = taking.queue::<[u8]>("queue").credit(3).consumer().expect("the types agree");
    let lengths = [100, 3000, 100_000];
    lengths.iter().zip(0..).for_each(|(length, number)| {
        producer.push(&bytes(number, *length)).expect("there is room");
    });
    for is_again in [false, true] {
        let mut held = Vec::new();
        for (length, number) in lengths.iter().zip(0..) {
            let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
            assert_eq!((&*item, item.is_redelivered()), (&*bytes(number, *length), is_again));
            held.push(item.hold());
        }
        if is_again {
            held.into_iter().for_each(|item| item.ack().expect("the producer lives"));
        }
    }
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn an_item_beyond_the_pool_limit_is_refused() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let queue = giving.queue::<[u8]>("queue").pool_limit(50_000);
    let mut producer = queue.producer(Overflow::Block).expect("the queue is ours");
    let too_long = bytes(0, 50_001);
    for _ in 0..2 {
        let error = producer.push(&too_long).expect_err("no lane can carry it");
        assert!(matches!(error, PushError::TooLarge { needed: 50_001, limit: 50_000, .. }), "{error}");
        assert!(producer.loan(50_001).is_err());
        let _consumer = taking.queue::<[u8]>("queue").consumer().expect("the types agree");
        producer.push(&bytes(1, 50_000)).expect("it fits");
    }
}

#[test]
fn loans_are_written_in_place_or_wait_in_line() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    let mut loan = producer.loan().expect("there is room");
    *loan = words(0);
    loan.push().expect("there is room");
    drop(producer.loan().expect("there is room"));
    let mut consumer = consumer(&taking, 2);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    for number in 1..6 {
        let mut loan = producer.loan().expect("there is room");
        *loan = words(number);
        if number == 3 {
            drop(loan);
        } else {
            loan.push().expect("there is room");
        }
    }
    for number in [0, 1, 2, 4, 5] {
        let item = next(&mut consumer);
        assert_eq!(number_of(&item), number);
        item.ack().expect("the producer lives");
    }
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn a_consumer_that_goes_while_its_lane_is_on_loan_loses_nothing() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    let leaving = consumer(&taking, 4);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    producer.push(&words(0)).expect("there is room");
    let handle = producer.handle();
    let mut loan = producer.loan().expect("there is room");
    *loan = words(1);
    drop(leaving);
    until("it has gone", || handle.connected().is_empty());
    loan.push().expect("there is room");
    let mut staying = consumer(&taking, 4);
    let mut numbers = [0, 1].map(|_| {
        let item = next(&mut staying);
        let number = number_of(&item);
        item.ack().expect("the producer lives");
        number
    });
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1]);
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn tasks_and_descriptors_wait_as_well() {
    const ITEMS: u64 = 300;
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 4);
    let mut first = consumer(&taking, 2);
    let mut second = consumer(&taking, 2);
    producer.wait_for_consumers(2, PATIENCE).expect("they come");
    let pushing = start(move || {
        for number in 0..ITEMS {
            if number.is_multiple_of(10) {
                std::thread::sleep(PAUSE);
            }
            producer.push(&words(number)).expect("a blocking push succeeds");
        }
        producer.close(PATIENCE).expect("everything is acknowledged");
    });
    let handles = [first.handle(), second.handle()];
    let of_task = start(move || {
        let mut ledger = Ledger::default();
        while let Ok(item) = futures_lite::future::block_on(first.recv_async()) {
            ledger.note(number_of(&item));
            item.ack().expect("the producer lives");
        }
        ledger
    });
    let of_descriptor = start(move || {
        let mut ledger = Ledger::default();
        loop {
            let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            let descriptor = second.as_fd().expect("descriptors are left");
            poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&timeout))
                .expect("it waits");
            while let Some(item) = second.try_recv().expect("receiving succeeds") {
                ledger.note(number_of(&item));
                item.ack().expect("the producer lives");
            }
            if matches!(second.recv_timeout(Duration::ZERO), Err(ReceiveError::Closed { .. })) {
                return ledger;
            }
        }
    });
    pushing.finish();
    handles.iter().for_each(|handle| handle.cancel());
    let mut ledger = of_task.finish();
    assert!(ledger.len() > 0);
    ledger.add(of_descriptor.finish());
    ledger.check_once(ITEMS);
}

#[test]
fn nodes_without_thread_are_served_by_who_waits() {
    const ITEMS: u64 = 500;
    let domain = Domain::new();
    let taking = domain.node_without_thread("taking");
    let consuming = start({
        let taking = taking.clone();
        move || {
            let mut consumer = consumer(&taking, 3);
            let mut ledger = Ledger::default();
            while ledger.len() < ITEMS {
                let item = next(&mut consumer);
                ledger.note(number_of(&item));
                item.ack().expect("the producer lives");
            }
            // Its node answers for as long as it is driven.
            let _ = consumer.recv_timeout(Duration::from_millis(50));
            ledger
        }
    });
    let giving = domain.node_without_thread("giving");
    let mut producer = producer(&giving, 5);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    (0..ITEMS).for_each(|number| producer.push(&words(number)).expect("a blocking push succeeds"));
    producer.close(PATIENCE).expect("everything is acknowledged");
    consuming.finish().check_once(ITEMS);
}

#[test]
fn a_node_without_thread_assigns_when_it_is_dispatched() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node_without_thread("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    (0..5).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let consuming = start(move || {
        let mut consumer = consumer(&taking, 1);
        for number in 0..5 {
            let item = next(&mut consumer);
            assert_eq!(number_of(&item), number);
            item.ack().expect("the producer lives");
        }
        consumer
    });
    until("all have been assigned", || {
        giving.dispatch().expect("it is served");
        producer.pending() == 0
    });
    drop(consuming.finish());
}

#[test]
fn types_that_differ_are_told_at_both_ends() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    match taking.queue::<[u64; 6]>("queue").consumer() {
        Err(QueueError::TypeMismatch { .. }) => {}
        Err(error) => panic!("{error}"),
        // On a busy machine it may be made before it hears of the producer.
        Ok(consumer) => until("it knows", || !consumer.refusals().is_empty()),
    }
    until("the producer knows", || !producer.refusals().is_empty());
    // A subscriber of that name is something else altogether.
    let _subscriber = taking.topic::<Words>("queue").subscriber().expect("topics are no queues");
    producer.push(&words(0)).expect("there is room");
    assert_eq!(producer.consumers(), 0);
    let mut fitting = consumer(&taking, 1);
    next(&mut fitting).ack().expect("the producer lives");
    assert!(producer.event_timeout(PATIENCE).expect("it waits").is_some());
    assert_eq!(producer.refusals().len(), 1, "told once");
}

#[test]
fn types_may_be_known_only_when_the_program_runs() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    assert!(matches!(giving.queue_dyn("queue").producer(Overflow::Fail), Err(QueueError::NoType { .. })));
    let descriptor = <Words as Message>::descriptor();
    let queue = giving.queue_dyn("queue").item_type(descriptor.clone());
    let mut untyped = queue.producer(Overflow::Fail).expect("the queue is ours");
    let mut typed = producer(&giving, 10);
    let mut consumer = taking.queue_dyn("queue").consumer().expect("it takes any");
    let error = untyped.push(Untyped::new(&[1, 2, 3])).expect_err("it is no item");
    assert!(matches!(error, PushError::Length { given: 3, .. }), "{error}");
    assert!(untyped.loan(3).is_err());
    typed.push(&words(1)).expect("there is room");
    untyped.push(Untyped::new(zerocopy::IntoBytes::as_bytes(&words(2)))).expect("there is room");
    let mut seen = [0, 1].map(|_| {
        let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
        assert_eq!((item.len(), item.item_type().name.clone()), (56, descriptor.name.clone()));
        let number = u64::from_ne_bytes(*item.first_chunk().expect("it has 56 B"));
        let producer = item.producer();
        item.ack().expect("the producer lives");
        (number, producer)
    });
    seen.sort_unstable();
    assert_eq!(seen, [(1, typed.id()), (2, untyped.id())]);
}

#[test]
fn a_consumer_is_cancelled_and_keeps_what_has_come() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    let mut consumer = consumer(&taking, 2);
    until("it knows its producer", || consumer.handle().producers() == 1);
    producer.push(&words(0)).expect("there is room");
    consumer.handle().cancel();
    next(&mut consumer).ack().expect("the producer lives");
    let error = consumer.recv().expect_err("it would have to wait");
    assert!(matches!(error, ReceiveError::Closed { .. }), "{error}");
}

#[test]
fn threads_have_producers_of_their_own() {
    const ITEMS: u64 = 2_000;
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut consumer = consumer(&taking, 8);
    let first = producer(&giving, 10);
    let pushing: Vec<_> = (0..3)
        .map(|part| {
            let mut producer = first.try_clone().expect("the queue is ours");
            start(move || {
                let numbers = (0..ITEMS).filter(|number| number % 3 == part);
                numbers.for_each(|number| producer.push(&words(number)).expect("a blocking push succeeds"));
                producer.close(PATIENCE).expect("everything is acknowledged");
            })
        })
        .collect();
    let (mut ledger, mut last) = (Ledger::default(), std::collections::HashMap::new());
    while ledger.len() < ITEMS {
        let item = next(&mut consumer);
        let number = number_of(&item);
        let before = last.insert(item.producer(), number);
        assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
        ledger.note(number);
        item.ack().expect("the producer lives");
    }
    ledger.check_once(ITEMS);
    pushing.into_iter().for_each(Work::finish);
}
