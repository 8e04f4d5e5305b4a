//! The fear: an item that is lost, or done twice, or comes out of turn, with nobody at fault.

use tidepost::Overflow;

use crate::queues::stage::*;

#[test]
fn items_of_one_producer_come_in_order_and_once() {
    const ITEMS: u64 = 20_000;
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 100);
    let mut consumer = consumer(&taking, 16);
    let pushing = start(move || {
        (0..ITEMS).for_each(|number| producer.push(&words(number)).expect("a blocking push succeeds"));
        let counts = producer.counts();
        producer.close(PATIENCE).expect("everything is acknowledged");
        counts
    });
    for number in 0..ITEMS {
        let item = next(&mut consumer);
        assert_eq!(number_of(&item), number);
        assert!(!item.is_redelivered());
        item.ack().expect("the producer lives");
    }
    assert_eq!(pushing.finish().redelivered, 0);
    assert_eq!(consumer.lost(), 0);
}

#[test]
fn each_item_goes_to_one_consumer() {
    const ITEMS: u64 = 5_000;
    let domain = Domain::new();
    let giving = domain.node("giving");
    let mut producer = producer(&giving, 10);
    let taking: Vec<_> = (0..3)
        .map(|number| {
            let node = domain.node(&format!("taking-{number}"));
            let mut consumer = consumer(&node, 4);
            start(move || {
                let mut ledger = Ledger::default();
                while let Ok(item) = consumer.recv() {
                    let number = number_of(&item);
                    if number == u64::MAX {
                        item.ack().expect("the producer lives");
                        break;
                    }
                    ledger.note(number);
                    item.ack().expect("the producer lives");
                }
                ledger
            })
        })
        .collect();
    producer.wait_for_consumers(3, PATIENCE).expect("they come");
    (0..ITEMS).for_each(|number| producer.push(&words(number)).expect("a blocking push succeeds"));
    // One for each: who has got it takes no other.
    (0..3).for_each(|_| producer.push(&words(u64::MAX)).expect("a blocking push succeeds"));
    let mut ledger = Ledger::default();
    taking.into_iter().for_each(|work| ledger.add(work.finish()));
    ledger.check_once(ITEMS);
    producer.close(PATIENCE).expect("everything is acknowledged");
}

#[test]
fn items_wait_for_a_consumer() {
    let domain = Domain::new();
    let (giving, taking) = (domain.node("giving"), domain.node("taking"));
    let mut producer = producer(&giving, 100);
    (0..50).for_each(|number| producer.push(&words(number)).expect("there is room"));
    assert_eq!(producer.pending(), 50);
    // Nobody calls the producer from here on.
    let mut consumer = consumer(&taking, 3);
    for number in 0..50 {
        let item = next(&mut consumer);
        assert_eq!(number_of(&item), number);
        item.ack().expect("the producer lives");
    }
    until("everything is acknowledged", || producer.counts().acknowledged == 50);
    assert_eq!(producer.counts().backlog, 0);
    assert!(producer.try_push(&words(50)).is_ok());
}

#[test]
fn producers_and_consumers_of_one_node_need_no_other() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut consumer = consumer(&node, 2);
    let mut producer = node.queue("queue").depth(4).producer(Overflow::Fail).expect("the queue is ours");
    assert_eq!((producer.consumers(), consumer.producers()), (1, 1));
    (0..6).for_each(|number| producer.push(&words(number)).expect("there is room"));
    assert!(producer.push(&words(6)).is_err());
    for number in 0..6 {
        let item = next(&mut consumer);
        assert_eq!(number_of(&item), number);
        item.ack().expect("the producer lives");
    }
}
