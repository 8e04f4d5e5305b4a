//! Every pattern from one domain to another, with programs that know of no network.

use std::time::Duration;

use tidepost::{CallError, Overflow};

use crate::stage::{PATIENCE, Pair, until};

#[test]
fn a_topic_crosses_in_both_directions() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    for (from, to) in [(&east, &west), (&west, &east)] {
        let mut subscriber = to.topic::<[u8]>("arm/left/pose").subscriber().expect("the types agree");
        let mut publisher =
            from.topic::<[u8]>("arm/left/pose").publisher(Overflow::Block).expect("the topic is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
        for number in 0..1000_u32 {
            publisher.send(&number.to_le_bytes()).expect("there is room");
        }
        for number in 0..1000_u32 {
            let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
            assert_eq!((&*sample, sample.lost()), (&number.to_le_bytes()[..], 0));
        }
    }
}

#[test]
fn a_state_reaches_who_comes_later() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    let mut writer = east.state::<u64>("mode").writer().expect("nobody else writes it");
    writer.set(&17).expect("there is room");
    let mut reader = west.state::<u64>("mode").reader().expect("the types agree");
    assert_eq!(reader.wait(PATIENCE).expect("waiting succeeds").map(|value| *value), Some(17));
    writer.set(&18).expect("there is room");
    assert_eq!(reader.changed(PATIENCE).expect("waiting succeeds").map(|value| *value), Some(18));
    drop(writer);
    until("its writer has gone, and everybody knows", || reader.is_orphaned());
    assert_eq!(reader.read().expect("it is there").map(|value| *value), Some(18));
}

#[test]
fn a_signal_is_counted_on_the_other_side() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    let mut waiter = west.signal("gates").ids(4).waiter().expect("the numbers agree");
    let mut notifier = east.signal("gates").ids(4).notifier().expect("it is ours");
    notifier.wait_for_waiters(1, PATIENCE).expect("the gateway waits");
    for _ in 0..100 {
        notifier.notify(3).expect("it is one of four");
    }
    notifier.notify_many(1, 7).expect("it is one of four");
    let mut counts = [0; 4];
    while counts != [0, 7, 0, 100] {
        let notices = waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("it was notified");
        notices.iter().for_each(|notice| counts[notice.id as usize] += notice.count);
    }
}

#[test]
fn a_service_answers_fails_and_streams() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    let mut server = east.service::<[u8], [u8]>("echo").server().expect("it is ours");
    let handle = server.handle();
    let serving = std::thread::spawn(move || {
        while let Ok(request) = server.recv() {
            if request.wants_parts() {
                let mut parts = request.parts().expect("it wants parts");
                let whole = parts.request().to_vec();
                for part in whole.chunks(2) {
                    parts.send(part).expect("the client is there");
                }
                parts.finish().expect("the client is there");
            } else if request.is_empty() {
                request.fail(tidepost::Text::new("nothing to say")).expect("the client is there");
            } else {
                let answer: Vec<u8> = request.iter().rev().copied().collect();
                request.answer(&answer).expect("the client is there");
            }
        }
    });
    let mut client = west.service::<[u8], [u8]>("echo").client().expect("it is there");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    for _ in 0..100 {
        assert_eq!(&*client.call(b"abc", PATIENCE).expect("it answers"), b"cba");
    }
    let error = client.call(b"", PATIENCE).map(|answer| answer.to_vec()).expect_err("it fails");
    assert!(
        matches!(error, CallError::Failed { .. }) && error.to_string().contains("nothing to say"),
        "{error}"
    );
    let parts = client.call_parts(b"abcde", PATIENCE).expect("it is asked");
    let parts: Result<Vec<Vec<u8>>, _> = parts.map(|part| part.map(|part| part.to_vec())).collect();
    assert_eq!(parts.expect("all of them come"), [b"ab".to_vec(), b"cd".to_vec(), b"e".to_vec()]);
    handle.cancel();
    serving.join().expect("it does not panic");
}

#[test]
fn every_item_of_a_queue_is_delivered_and_acknowledged() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    let mut producer = east.queue::<u64>("jobs").producer(Overflow::Block).expect("it is ours");
    let mut consumer = west.queue::<u64>("jobs").consumer().expect("the types agree");
    for number in 0..500 {
        producer.push(&number).expect("there is room");
    }
    let mut seen = Vec::new();
    while seen.len() < 500 {
        let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was pushed");
        if !item.is_redelivered() || !seen.contains(&*item) {
            seen.push(*item);
        }
        item.ack().expect("it is ours");
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
    until("all are acknowledged", || producer.counts().acknowledged == 500);
    assert!(consumer.recv_timeout(Duration::from_millis(300)).expect("receiving succeeds").is_none());
}
