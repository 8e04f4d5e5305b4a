//! The fear: who starts first decides what works.

use tidepost::Event;

use crate::stage::{PATIENCE, Stage};

/// Enough to go round the ring several times.
const MESSAGES: &str = "50000";

#[test]
fn the_subscriber_may_start_first() {
    let stage = Stage::new();
    let mut checker = stage.start("checker", MESSAGES);
    checker.expect("listening");
    let mut counter = stage.start("counter", MESSAGES);
    counter.expect("sent");
    checker.expect("intact");
}

#[test]
fn the_publisher_may_start_first() {
    let stage = Stage::new();
    let mut counter = stage.start("counter", MESSAGES);
    let mut checker = stage.start("checker", MESSAGES);
    counter.expect("sent");
    checker.expect("listening");
    checker.expect("intact");
}

#[test]
fn both_may_start_at_once() {
    for _ in 0..10 {
        let stage = Stage::new();
        let (mut counter, mut checker) = (stage.start("counter", MESSAGES), stage.start("checker", MESSAGES));
        counter.expect("sent");
        checker.expect("listening");
        checker.expect("intact");
    }
}

/// Messages in the slot, through the pool, held out of order: what arrives is what was sent.
#[test]
fn messages_of_every_length_arrive_while_samples_are_held() {
    let stage = Stage::new();
    let mut checker = stage.start("byte-checker", "3000");
    checker.expect("listening");
    let mut sender = stage.start("byte-sender", "3000");
    sender.expect("sent");
    checker.expect("intact");
}

/// What a publisher had published when it ended is read to the end.
#[test]
fn a_publisher_that_has_gone_is_read_to_the_end() {
    let stage = Stage::new();
    let node = stage.node();
    let mut subscriber = crate::parts::subscriber(&node);
    let mut counter = stage.start("counter", "1000");
    counter.expect("sent");
    // It may have sent everything before we were told that we are in.
    while subscriber.publishers() == 0 {
        std::thread::yield_now();
    }
    counter.kill();
    // That it was let in may be news that arrives after its last message.
    while !matches!(subscriber.event_timeout(PATIENCE), Ok(Some(Event::Left(_)))) {}
    assert_eq!(subscriber.publishers(), 0);
    for number in 0..1000 {
        let sample = subscriber.try_recv().expect("receiving succeeds").expect("it had been published");
        assert_eq!(*sample, crate::parts::words(number));
    }
    assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
}
