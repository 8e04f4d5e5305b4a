//! The fear: an item that its consumer did not finish, and that nobody gets any more, or that does not say that it comes again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidepost::{HeldItem, Overflow};

use crate::queues::stage::*;

#[test]
fn what_is_given_back_comes_again_and_says_so() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    let mut consumer = consumer(&taking, 4);
    (0..3).for_each(|number| producer.push(&words(number)).expect("there is room"));
    next(&mut consumer).give_back();
    for (number, is_again) in [(1, false), (2, false), (0, true)] {
        let item = next(&mut consumer);
        assert_eq!((number_of(&item), item.is_redelivered()), (number, is_again));
        item.ack().expect("the producer lives");
    }
    until("all is known", || producer.counts().acknowledged == 3);
    let counts = producer.counts();
    assert_eq!((counts.redelivered, counts.assigned, counts.unacknowledged), (1, 4, 0));
}

#[test]
fn a_handler_that_panics_loses_nothing() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    let mut consumer = consumer(&taking, 1);
    producer.push(&words(7)).expect("there is room");
    let handled = catch_unwind(AssertUnwindSafe(|| {
        let item = next(&mut consumer);
        assert_eq!(number_of(&item), 0, "this panics");
    }));
    assert!(handled.is_err());
    let item = next(&mut consumer);
    assert_eq!((number_of(&item), item.is_redelivered()), (7, true));
    item.ack().expect("the producer lives");
    producer.close(PATIENCE).expect("it is acknowledged");
}

#[test]
fn held_items_are_settled_in_any_order_by_any_thread() {
    const ITEMS: u64 = 2_000;
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 50);
    let mut consumer = consumer(&taking, 32);
    let pushing = start(move || {
        (0..ITEMS).for_each(|number| producer.push(&words(number)).expect("a blocking push succeeds"));
        producer
    });
    let (sender, receiver) = std::sync::mpsc::sync_channel::<HeldItem<Words>>(40);
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let settling = start(move || {
        let (mut ledger, mut held, mut round) = (Ledger::default(), Vec::new(), 0u64);
        loop {
            match receiver.recv_timeout(PAUSE) {
                Ok(item) => held.push(item),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) if held.is_empty() => return ledger,
                Err(_) => {}
            }
            round += 1;
            let is_due = held.len() > 20 || round.is_multiple_of(3);
            if let Some(count) = (held.len() as u64).checked_sub(1).filter(|_| is_due) {
                let item = held.swap_remove((round * 7919 % (count + 1)) as usize);
                // Some come back, once.
                if round.is_multiple_of(5) && !item.is_redelivered() {
                    item.give_back();
                } else {
                    ledger.note(number_of(&item));
                    item.ack().expect("the producer lives");
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    let mut ledger = Ledger::default();
    let mut round = 0u64;
    while done.load(Ordering::Relaxed) + ledger.len() < ITEMS {
        // The last ones may be with the other thread.
        let patience = if pushing.has_finished() { PAUSE } else { PATIENCE };
        let Some(item) = consumer.recv_timeout(patience).expect("receiving succeeds") else {
            assert!(pushing.has_finished(), "an item comes");
            continue;
        };
        round += 1;
        if round.is_multiple_of(2) {
            ledger.note(number_of(&item));
            item.ack().expect("the producer lives");
        } else {
            sender.send(item.hold()).expect("the other thread takes it");
        }
    }
    drop(sender);
    let mut producer = pushing.finish();
    ledger.add(settling.finish());
    ledger.check_once(ITEMS);
    assert!(producer.counts().redelivered > 0);
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn a_consumer_that_leaves_gives_back_what_it_has_and_what_it_has_not_seen() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    let mut leaving = consumer(&taking, 8);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    (0..8).for_each(|number| producer.push(&words(number)).expect("there is room"));
    assert_eq!(producer.pending(), 0, "the first consumer has all of them");
    let held = [next(&mut leaving).hold(), next(&mut leaving).hold()];
    next(&mut leaving).ack().expect("the producer lives");
    drop(leaving);
    // The held ones stay with who holds them; the others were never seen.
    let mut staying = consumer(&taking, 8);
    for number in 3..8 {
        let item = next(&mut staying);
        assert_eq!((number_of(&item), item.is_redelivered()), (number, false));
        item.ack().expect("the producer lives");
    }
    let [first, second] = held;
    assert_eq!(number_of(&first), 0);
    first.ack().expect("the producer lives");
    drop(second);
    let item = next(&mut staying);
    assert_eq!((number_of(&item), item.is_redelivered()), (1, true));
    item.ack().expect("the producer lives");
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn what_was_taken_back_is_acknowledged_too_late() {
    let domain = Domain::new();
    let (giving, slow, quick) = (domain.node("giving"), domain.node("slow"), domain.node("quick"));
    let mut producer = producer(&giving, 10);
    let mut first = consumer(&slow, 1);
    (0..2).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let held = next(&mut first).hold();
    assert!(producer.handle().detach(first.id()));
    assert!(!producer.handle().detach(first.id()), "it has been let go of");
    let mut second = consumer(&quick, 4);
    for number in 0..2 {
        let item = next(&mut second);
        // The second had been given to nobody yet.
        assert_eq!((number_of(&item), item.is_redelivered()), (number, number == 0));
        item.ack().expect("the producer lives");
    }
    let error = held.ack().expect_err("another has it");
    assert!(matches!(error, tidepost::AckError::Late { .. }), "{error}");
    until("the first knows", || first.producers() == 0);
    assert_eq!((first.lost(), producer.consumers()), (0, 1));
    producer.close(PATIENCE).expect("everything is acknowledged");
}

/// An item that somebody had says so for ever, whoever it went to in between without seeing it.
#[test]
fn what_comes_again_says_so_although_the_next_consumer_did_not_see_it() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 10);
    let mut leaving = consumer(&taking, 4);
    (0..2).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let held = [next(&mut leaving).hold(), next(&mut leaving).hold()];
    drop(held);
    until("they are on their way again", || producer.counts().redelivered == 2);
    producer.push(&words(2)).expect("there is room");
    drop(leaving);
    let mut staying = consumer(&taking, 4);
    for (number, is_again) in [(0, true), (1, true), (2, false)] {
        let item = next(&mut staying);
        assert_eq!((number_of(&item), item.is_redelivered()), (number, is_again));
        item.ack().expect("the producer lives");
    }
    producer.close(PATIENCE).expect("everything is acknowledged");
}

/// What its consumer is done with, in turn or not, it does not hold; and what it receives without a pause counts too.
#[test]
fn what_a_consumer_holds_and_has_received_is_told() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 200);
    let mut consumer = consumer(&taking, 200);
    (0..100).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let first = next(&mut consumer).hold();
    for _ in 1..90 {
        next(&mut consumer).ack().expect("the producer lives");
    }
    let reports = taking.inspect(PATIENCE).expect("all answer");
    let report = |name: &str| reports.iter().find(|report| &*report.name == name).expect("it is listed");
    let of_consumer = &report("giving").publishers[0].readers[0];
    assert_eq!((of_consumer.id, of_consumer.lag), (consumer.id(), 11));
    assert!(report("taking").subscribers[0].received >= 64, "as far as it has said");
    first.ack().expect("the producer lives");
}

/// What a consumer settles before an earlier item counts as soon as that is settled too, or never will be.
#[test]
fn what_was_acknowledged_out_of_turn_counts_when_its_consumer_goes() {
    let domain = Domain::new();
    let (giving, slow, quick) = (domain.node("giving"), domain.node("slow"), domain.node("quick"));
    let mut producer = producer(&giving, 10);
    let mut first = consumer(&slow, 4);
    (0..4).for_each(|number| producer.push(&words(number)).expect("there is room"));
    let mut held: Vec<_> = (0..4).map(|_| next(&mut first).hold()).collect();
    held.remove(2).ack().expect("the producer lives");
    held.remove(1).ack().expect("the producer lives");
    assert!(producer.handle().detach(first.id()));
    until("it has gone", || producer.counts().backlog == 2);
    let counts = producer.counts();
    assert_eq!((counts.acknowledged, counts.unacknowledged), (2, 0), "{counts:?}");
    let mut second = consumer(&quick, 4);
    for number in [0, 3] {
        let item = next(&mut second);
        assert_eq!((number_of(&item), item.is_redelivered()), (number, true));
        item.ack().expect("the producer lives");
    }
    until("all is known", || producer.counts().unacknowledged == 0);
    let counts = producer.counts();
    assert_eq!((counts.acknowledged, counts.redelivered, counts.assigned), (4, 2, 6));
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn items_of_a_producer_that_left_are_still_taken_and_the_rest_is_counted() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = node_producer(&giving);
    let mut consumer = consumer(&taking, 3);
    producer.wait_for_consumers(1, PATIENCE).expect("it comes");
    (0..10).for_each(|number| producer.push(&words(number)).expect("there is room"));
    drop(producer);
    for number in 0..3 {
        let item = next(&mut consumer);
        assert_eq!(number_of(&item), number);
        item.ack().expect("nobody has taken it back");
    }
    until("the loss is known", || consumer.lost() > 0);
    assert_eq!(consumer.lost(), 7);
    let gap = std::iter::from_fn(|| consumer.try_event())
        .find(|event| matches!(event, tidepost::Event::Gap { .. }));
    assert!(matches!(gap, Some(tidepost::Event::Gap { lost: 7, .. })), "{gap:?}");
    assert!(consumer.try_recv().expect("receiving succeeds").is_none());
}

fn node_producer(node: &tidepost::Node) -> tidepost::Producer<Words> {
    node.queue("queue").producer(Overflow::Fail).expect("the queue is ours")
}
