//! The fear: a consumer whose words are garbled holds up a producer, or takes items from others; or one that speaks while
//! nobody listens is not heard.

use std::time::{Duration, Instant};

use super::{Consumer, Producer};
use crate::layout::cursor::{CURSOR_GONE, NOTE_SHIFT};
use crate::message::overflow::Overflow;
use crate::node::{Hub, Node};
use crate::sync::acks::AckWords;
use crate::sync::cursor::CursorWords;
use crate::sync::door::Ordering;
use crate::sync::ring::CursorMemory;

const PATIENCE: Duration = Duration::from_secs(60);

struct Scene {
    producer: Producer<u64>,
    rogue: Consumer<u64>,
    honest: Consumer<u64>,
    giving: Node,
    _taking: [Node; 2],
    directory: std::path::PathBuf,
}

impl Scene {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tidepost-rogue-{name}-{}", std::process::id()));
        let node =
            |name| Node::builder().name(name).directory(&directory).open().expect("the domain is ours");
        let (giving, first, second) = (node("giving"), node("rogue"), node("honest"));
        let consumer = |node: &Node| node.queue("queue").credit(4).consumer().expect("the types agree");
        let (rogue, honest) = (consumer(&first), consumer(&second));
        let mut producer =
            giving.queue("queue").depth(100).producer(Overflow::Fail).expect("the queue is ours");
        producer.wait_for_consumers(2, PATIENCE).expect("they come");
        (0..20).for_each(|number| producer.push(&number).expect("there is room"));
        Self { producer, rogue, honest, giving, _taking: [first, second], directory }
    }

    /// The words that the rogue writes, once it has got something.
    fn words(&mut self) -> CursorMemory {
        drop(self.rogue.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes"));
        self.rogue.words()
    }

    /// Everything that the honest one gets and the rogue did not settle.
    fn finish(mut self, settled: u64) {
        let mut done = 0;
        let end = Instant::now() + PATIENCE;
        while done < 20 - settled {
            assert!(Instant::now() < end, "{done} done");
            if let Some(item) = self.honest.recv_timeout(PATIENCE).expect("receiving succeeds") {
                item.ack().expect("the producer lives");
                done += 1;
            }
        }
        self.producer.close(PATIENCE).expect("everything is acknowledged");
        drop((self.rogue, self.honest));
        let _ = std::fs::remove_dir_all(self.directory);
    }
}

#[test]
fn a_consumer_whose_cursor_breaks_the_rules_is_dropped_and_its_items_go_to_others() {
    for (name, cursor) in [("beyond", 1 << 40), ("gone", CURSOR_GONE)] {
        let mut scene = Scene::new(name);
        let words = scene.words();
        words.cursor().store(cursor, Ordering::Release);
        let end = Instant::now() + PATIENCE;
        while scene.giving.violations().0 == 0 {
            assert!(Instant::now() < end, "nobody notices");
            let _ = scene.producer.counts();
        }
        let (count, last) = scene.giving.violations();
        assert_eq!(count, 1, "{last:?}");
        assert!(last.is_some_and(|last| last.contains("cursor") && last.contains("rogue")));
        assert_eq!(scene.producer.consumers(), 1);
        scene.finish(0);
    }
}

#[test]
fn garbled_notes_settle_nothing_that_they_do_not_name() {
    let mut scene = Scene::new("notes");
    let words = scene.words();
    for index in 0..words.notes() {
        words.note(index).store((u64::MAX - index as u64) << NOTE_SHIFT, Ordering::Release);
    }
    words.returned().store(1 << 60, Ordering::Release);
    let counts = scene.producer.counts();
    // What it gave back before is the one thing that it may have said.
    assert!(counts.acknowledged == 0 && counts.redelivered <= 1, "{counts:?}");
    assert_eq!(scene.giving.violations().0, 0);
    assert!(scene.producer.handle().detach(scene.rogue.id()));
    scene.finish(0);
}

/// A producer and a consumer of its own, alone in a domain.
struct Pair {
    producer: Producer<u64>,
    consumer: Consumer<u64>,
    nodes: [Node; 2],
    directory: std::path::PathBuf,
}

impl Pair {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tidepost-pair-{name}-{}", std::process::id()));
        let node =
            |name| Node::builder().name(name).directory(&directory).open().expect("the domain is ours");
        let (giving, taking) = (node("giving"), node("taking"));
        let consumer = taking.queue("queue").credit(4).consumer().expect("the types agree");
        let mut producer =
            giving.queue("queue").depth(10).producer(Overflow::Block).expect("the queue is ours");
        producer.wait_for_consumers(1, PATIENCE).expect("it comes");
        Self { producer, consumer, nodes: [giving, taking], directory }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn losses_that_a_producer_makes_up_are_counted_without_harm() {
    let mut pair = Pair::new("losses");
    pair.producer.push(&0).expect("there is room");
    let item = pair.consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
    item.ack().expect("the producer lives");
    pair.consumer.words().lost().store(u64::MAX, Ordering::Release);
    let queue = pair.nodes[0].queue("queue").depth(10);
    let mut other = queue.producer(Overflow::Block).expect("the queue is ours");
    other.wait_for_consumers(1, PATIENCE).expect("it comes");
    (0..6_u64).for_each(|number| other.push(&number).expect("there is room"));
    drop(other);
    let end = Instant::now() + PATIENCE;
    while pair.consumer.producers() > 1 {
        assert!(Instant::now() < end, "nobody hears that it has gone");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(pair.consumer.lost(), u64::MAX);
}

#[test]
fn what_is_given_back_while_an_item_is_being_written_comes_again() {
    let mut pair = Pair::new("back");
    let shared = pair.producer.shared();
    pair.producer.push(&0).expect("there is room");
    let first = pair.consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
    let first = first.hold();
    let mut loan = pair.producer.loan().expect("there is room");
    *loan = 1;
    drop(first);
    // As the node's thread does when it is rung; the lane is out.
    shared.attend();
    loan.push().expect("the producer is not forked");
    for expected in [(1, false), (0, true)] {
        let item = pair.consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it comes");
        assert_eq!((*item, item.is_redelivered()), expected);
        item.ack().expect("the producer lives");
    }
}

#[test]
fn a_consumer_that_leaves_while_an_item_is_being_written_keeps_none() {
    let mut pair = Pair::new("leaving");
    let shared = pair.producer.shared();
    pair.producer.push(&0).expect("there is room");
    let taking = pair.nodes[1].clone();
    let mut loan = pair.producer.loan().expect("there is room");
    *loan = 1;
    let staying = taking.queue("queue").credit(4).consumer().expect("the types agree");
    // What it holds keeps its lane from being over.
    let mut leaving = std::mem::replace(&mut pair.consumer, staying);
    let held = leaving.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes").hold();
    drop(leaving);
    shared.attend();
    loan.push().expect("the producer is not forked");
    let item = pair.consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes");
    assert_eq!((*item, item.is_redelivered()), (1, false));
    item.ack().expect("the producer lives");
    held.ack().expect("the producer lives");
}
