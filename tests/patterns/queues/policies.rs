//! The fear: a full queue that does something else than what was chosen, or that nobody can tell what it did.

use std::time::Duration;

use tidepost::{Consumer, DrainError, Overflow, Producer, PushError, QueueError};

use crate::queues::stage::*;

/// Takes so many items, after which there is none left.
fn take(producer: &mut Producer<Words>, consumer: &mut Consumer<Words>, count: usize) -> Vec<u64> {
    let numbers = take_some(consumer, count);
    until("all is acknowledged", || {
        let counts = producer.counts();
        (counts.backlog, counts.unacknowledged) == (0, 0)
    });
    assert!(consumer.try_recv().expect("receiving succeeds").is_none());
    numbers
}

fn take_some(consumer: &mut Consumer<Words>, count: usize) -> Vec<u64> {
    let take_one = |_| {
        let item = next(consumer);
        let number = number_of(&item);
        item.ack().expect("the producer lives");
        number
    };
    (0..count).map(take_one).collect()
}

#[test]
fn what_does_not_fit_fails_and_is_not_there() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer =
        giving.queue::<Words>("queue").depth(3).producer(Overflow::Fail).expect("the queue is ours");
    (0..3).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let error = producer.push(&words(3)).expect_err("it is full");
    assert!(matches!(error, PushError::Full { depth: 3, consumers: 0, pushed: 0, .. }), "{error}");
    let error = producer.push_many(&[words(3), words(4)]).expect_err("it is full");
    assert!(matches!(error, PushError::Full { pushed: 0, .. }), "{error}");
    let mut consumer = consumer(&taking, 8);
    assert_eq!(take(&mut producer, &mut consumer, 3), [0, 1, 2]);
    producer.push_many(&[words(5), words(6)]).expect("there is room");
    assert_eq!(take(&mut producer, &mut consumer, 2), [5, 6]);
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer =
        giving.queue::<Words>("queue").depth(3).producer(Overflow::DropOldest).expect("the queue is ours");
    (0..10).for_each(|number| producer.push(&words(number)).expect("the oldest make room"));
    assert_eq!((producer.counts().dropped, producer.pending()), (7, 3));
    let mut consumer = consumer(&taking, 8);
    assert_eq!(take(&mut producer, &mut consumer, 3), [7, 8, 9]);
}

#[test]
fn only_the_newest_waits() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = giving.queue::<Words>("queue").producer(Overflow::Latest).expect("the queue is ours");
    (0..10).for_each(|number| producer.push(&words(number)).expect("the newest has room"));
    assert_eq!((producer.counts().dropped, producer.pending()), (9, 1));
    let mut consumer = consumer(&taking, 8);
    assert_eq!(take(&mut producer, &mut consumer, 1), [9]);
}

/// What is written in place makes older items go only when it is there.
#[test]
fn a_loan_that_is_given_up_drops_nothing() {
    let domain = Domain::new();
    for overflow in [Overflow::Latest, Overflow::DropOldest] {
        let (giving, taking) = (domain.node("giving"), domain.node("taking"));
        let mut producer =
            giving.queue::<Words>("queue").depth(1).producer(overflow).expect("the queue is ours");
        producer.push(&words(0)).expect("there is room");
        drop(producer.loan().expect("older items make room"));
        assert_eq!((producer.counts().dropped, producer.pending()), (0, 1), "{overflow:?}");
        let mut loan = producer.loan().expect("older items make room");
        *loan = words(1);
        loan.push().expect("older items make room");
        assert_eq!((producer.counts().dropped, producer.pending()), (1, 1), "{overflow:?}");
        let mut consumer = consumer(&taking, 8);
        assert_eq!(take(&mut producer, &mut consumer, 1), [1]);
    }
}

#[test]
fn what_comes_again_is_not_dropped() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer =
        giving.queue::<Words>("queue").depth(2).producer(Overflow::DropOldest).expect("the queue is ours");
    let mut leaving = consumer(&taking, 4);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    (0..4).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let held: Vec<_> = (0..4).map(|_| next(&mut leaving).hold()).collect();
    drop((held, leaving));
    until("it has gone", || producer.consumers() == 0);
    (4..10).for_each(|number| producer.push(&words(number)).expect("the oldest make room"));
    let mut staying = consumer(&taking, 8);
    let mut taken = take(&mut producer, &mut staying, 6);
    // The one that left may have been given some of them again before it left.
    taken[..4].sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3, 8, 9]);
}

#[test]
fn a_full_queue_blocks_until_there_is_room_or_the_time_is_over() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 2);
    (0..2).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let error = producer.push_timeout(&words(2), Duration::from_millis(20)).expect_err("it is full");
    assert!(matches!(error, PushError::Timeout { .. }), "{error}");
    let error = producer.try_push(&words(2)).expect_err("it is full");
    assert!(matches!(error, PushError::Full { .. }), "{error}");
    let pushing = start(move || {
        producer.push(&words(2)).expect("room comes");
        producer
    });
    let mut consumer = consumer(&taking, 1);
    assert_eq!(take_some(&mut consumer, 3), [0, 1, 2]);
    pushing.finish().close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn a_wait_ends_with_the_producer_or_its_node() {
    let domain = Domain::new();
    for is_shutdown in [false, true] {
        let giving = domain.node("giving");
        let mut producer = producer(&giving, 1);
        producer.push(&words(0)).expect("there is room");
        let handle = producer.handle();
        let pushing = start(move || producer.push(&words(1)));
        std::thread::sleep(PAUSE);
        if is_shutdown {
            giving.shutdown()
        } else {
            handle.cancel()
        }
        let error = pushing.finish().expect_err("nobody takes anything");
        assert!(matches!(error, PushError::Closed { .. }), "{error}");
    }
}

#[test]
fn a_close_says_what_is_left() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    let mut consumer = consumer(&taking, 2);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    (0..5).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let held = next(&mut consumer).hold();
    let error = producer.close(Duration::from_millis(20)).expect_err("nobody acknowledges");
    assert!(matches!(error, DrainError::Timeout { unassigned: 3, unacknowledged: 2, .. }), "{error}");
    held.ack().expect("nobody has taken it back");
    until("the loss is known", || consumer.lost() == 3);
}

#[test]
fn options_out_of_range_are_refused() {
    let domain = Domain::new();
    let node = domain.node("node");
    let queue = || node.queue::<Words>("queue");
    let option = |error: QueueError| match error {
        QueueError::Option { option, .. } => option,
        other => panic!("{other}"),
    };
    assert_eq!(option(queue().credit(0).consumer().expect_err("none is no credit")), "credit");
    assert_eq!(option(queue().credit(8193).consumer().expect_err("it is too much")), "credit");
    assert_eq!(
        option(queue().depth(1 << 30).producer(Overflow::Block).expect_err("it is too deep")),
        "depth"
    );
    assert_eq!(option(queue().depth(0).producer(Overflow::Latest).expect_err("what would wait?")), "depth");
    assert!(matches!(node.queue::<Words>("").consumer(), Err(QueueError::Name(_))));
}

#[test]
fn little_credit_leaves_more_to_those_who_are_faster() {
    const ITEMS: u64 = 400;
    let domain = Domain::new();
    let giving = domain.node("giving");
    let mut producer = producer(&giving, 1000);
    let (slow, quick) = (domain.node("slow"), domain.node("quick"));
    let (mut slow, mut quick) = (consumer(&slow, 2), consumer(&quick, 2));
    producer.wait_for_consumers(2, PATIENCE).expect("they come");
    let held =
        start(move || [next(&mut slow).hold(), next(&mut slow).hold()].map(|item| (number_of(&item), item)));
    (0..ITEMS).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let mut ledger = Ledger::default();
    // The slow one has got as much as it has credit for, and nothing more.
    while ledger.len() < ITEMS - 2 {
        let item = next(&mut quick);
        ledger.note(number_of(&item));
        item.ack().expect("the producer lives");
    }
    assert!(quick.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds").is_none());
    for (number, item) in held.finish() {
        ledger.note(number);
        item.ack().expect("the producer lives");
    }
    ledger.check_once(ITEMS);
}
