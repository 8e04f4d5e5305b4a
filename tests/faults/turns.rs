//! The fear: among many publishing processes one is heard all the time and another never; or who is woken through a descriptor or
//! as a task by another process sleeps on.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidepost::{Node, Overflow, Publisher, Subscriber};

use crate::ledger::{self, Ledger};
use crate::parts::{Words, say, wait, words};
use crate::stage::{Actor, PATIENCE, Stage, until};

/// Publishing processes.
const CAST: u64 = 8;
/// Messages of each, all of which are there before the first is received.
const MESSAGES: u64 = 500;
/// Messages of one publisher in a row while others have some too.
const TURN: u64 = 64;
/// Messages to a receiver that sleeps between them.
const CALLS: u64 = 1_000;

/// Sends all that it has, and says so.
pub fn fill(node: &Node, number: u64) {
    let topic = node.topic::<[u8]>("turns").depth(1024);
    let mut publisher = topic.publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the test listens");
    for message in 0..MESSAGES {
        publisher.send(&ledger::letter(100, number, message)).expect("there is room for all");
    }
    say("full");
    wait();
}

#[test]
fn everybody_is_heard_in_turn() {
    let stage = Stage::new();
    let node = stage.node();
    let mut subscriber: Subscriber<[u8]> = node.topic("turns").subscriber().expect("the types agree");
    let mut cast: Vec<Actor> = (0..CAST).map(|number| stage.start("filler", &number.to_string())).collect();
    cast.iter_mut().for_each(|actor| actor.expect("full"));
    // They know that they have been let in before we know that they are there.
    until("all are there", || subscriber.publishers() == CAST as usize);
    let (mut ledger, mut left) = (Ledger::new(true), vec![MESSAGES; CAST as usize]);
    let (mut speaker, mut turn) = (None, 0);
    for _ in 0..CAST * MESSAGES {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        let sender = ledger.enter(&sample).sender;
        turn = if speaker == Some(sender) { turn + 1 } else { 1 };
        speaker = Some(sender);
        left[sender as usize] -= 1;
        let others_wait = left.iter().enumerate().any(|(other, left)| other as u64 != sender && *left > 0);
        assert!(turn <= TURN || !others_wait, "{turn} messages of one in a row");
        // In turn means that nobody is more than a turn ahead of anybody.
        let (most, least) = (left.iter().max(), left.iter().min());
        let ahead = most.zip(least).map_or(0, |(most, least)| most - least);
        assert!(ahead <= TURN, "one has {ahead} messages more to be heard than another");
    }
    assert_eq!(left, [0; CAST as usize]);
    assert_eq!(node.violations(), (0, None));
}

/// Receives through the descriptor, or as a task.
pub fn receive_asleep(node: &Node, is_task: bool) {
    let mut subscriber: Subscriber<Words> = node.topic("calls").subscriber().expect("the types agree");
    for number in 0..CALLS {
        if is_task {
            let received = futures_lite::future::block_on(subscriber.recv_async());
            assert_eq!(*received.expect("receiving succeeds"), words(number));
            continue;
        }
        let mut received = subscriber.try_recv().expect("receiving succeeds").map(|sample| *sample);
        while received.is_none() {
            let descriptor = subscriber.as_fd().expect("descriptors are left");
            let timeout = Timespec::try_from(PATIENCE).expect("it is short");
            assert_eq!(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout)), Ok(1));
            received = subscriber.try_recv().expect("receiving succeeds").map(|sample| *sample);
        }
        assert_eq!(received, Some(words(number)));
    }
    say("intact");
    wait();
}

#[test]
fn another_process_is_heard_through_a_descriptor_and_as_a_task() {
    let stage = Stage::new();
    let node = stage.node();
    let mut publisher: Publisher<Words> =
        node.topic("calls").publisher(Overflow::Block).expect("the topic is ours");
    let mut asleep = ["0", "1"].map(|is_task| stage.start("sleeping-receiver", is_task));
    publisher.wait_for_subscribers(2, PATIENCE).expect("they subscribe");
    for number in 0..CALLS {
        publisher.send(&words(number)).expect("a blocking send succeeds");
        // Some come while it falls asleep, some when it has been asleep.
        if number % 3 == 0 {
            std::thread::sleep(Duration::from_micros(number));
        }
    }
    asleep.iter_mut().for_each(|receiver| receiver.expect("intact"));
}
