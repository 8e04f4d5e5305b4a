//! The fear: two programs that mean different items by one queue, or an item that no consumer could ever be given.

use std::time::{Duration, Instant};

use tidepost::{Node, Overflow, Producer, PushError, QueueError};

use crate::parts::{Pose, PoseOfFloats, say, wait};
use crate::stage::{PATIENCE, Stage};

/// Bytes that a lane's pool may have.
const LIMIT: u64 = 50_000;

/// Pushes a pose, and says who turned it down.
pub fn give_poses(node: &Node) {
    let mut producer: Producer<Pose> =
        node.queue("pose").producer(Overflow::Fail).expect("the queue is ours");
    producer.push(&Pose { x: 1.0, y: 2.0 }).expect("there is room");
    say("ready");
    wait();
    let end = Instant::now() + PATIENCE;
    while producer.refusals().is_empty() {
        assert!(Instant::now() < end, "nobody turns it down");
        std::thread::sleep(Duration::from_millis(1));
    }
    say(producer.refusals()[0].to_string().replace('\n', " "));
    wait();
}

/// Pushes an item that is beyond the limit, says what comes of it, and pushes one that is not.
pub fn give_too_much(node: &Node) {
    let queue = node.queue::<[u8]>("large").pool_limit(LIMIT as usize);
    let mut producer = queue.producer(Overflow::Block).expect("the queue is ours");
    let too_much = vec![1; LIMIT as usize + 1];
    for has_consumer in [false, true] {
        if has_consumer {
            producer.wait_for_consumers(1, PATIENCE).expect("a consumer comes");
        }
        let error = producer.push(&too_much).expect_err("it is beyond the limit");
        assert!(matches!(error, PushError::TooLarge { .. }), "{error}");
        say(error);
        wait();
    }
    producer.push(&too_much[1..]).expect("it fits");
    producer.close(PATIENCE).expect("it is acknowledged");
    say("closed");
}

#[test]
fn items_that_differ_are_named_on_both_ends_and_stay_where_they_are() {
    let stage = Stage::new();
    let mut giver = stage.start("queue-pose-giver", "");
    giver.expect("ready");
    let node = stage.node();
    let error = node.queue::<PoseOfFloats>("pose").consumer().expect_err("the types differ");
    let QueueError::TypeMismatch { refused, .. } = &error else { panic!("another error: {error}") };
    let difference = refused.difference.clone().expect("the types differ");
    assert_eq!(difference.what, "field `y`");
    assert_eq!(
        (difference.ours.as_str(), difference.theirs.as_str()),
        ("y: f32 at 8 of 4 B", "y: f64 at 8 of 8 B")
    );
    assert_eq!(refused.node_name.as_ref(), "queue-pose-giver");
    giver.go();
    let heard = giver.hear();
    assert!(
        heard.contains("field `y` differs: ours y: f64 at 8 of 8 B, theirs y: f32 at 8 of 4 B"),
        "{heard}"
    );
    // Whoever means the same gets it.
    let mut consumer = node.queue::<Pose>("pose").consumer().expect("the types agree");
    let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
    assert_eq!((item.x, item.y, item.is_redelivered()), (1.0, 2.0, false));
    item.ack().expect("the producer lives");
    assert_eq!(node.violations(), (0, None));
}

#[test]
fn an_item_over_the_limit_is_refused_whether_anybody_is_there_or_not() {
    let stage = Stage::new();
    let mut giver = stage.start("limited-giver", "");
    let expected = |heard: String| {
        assert!(
            heard.contains("`large`") && heard.contains("50001 B") && heard.contains("50000 B"),
            "{heard}"
        );
    };
    expected(giver.hear());
    let node = stage.node();
    let mut consumer = node.queue::<[u8]>("large").consumer().expect("the types agree");
    giver.go();
    expected(giver.hear());
    assert!(consumer.try_recv().expect("receiving succeeds").is_none());
    giver.go();
    let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
    assert_eq!(item.len() as u64, LIMIT);
    item.ack().expect("the producer lives");
    giver.expect("closed");
}
