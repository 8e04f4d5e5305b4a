//! The fear: a subscriber that is stopped, in a debugger or by its shell, does to its publisher what the policy does not say.

use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use tidepost::{Event, Node, Overflow, Publisher, PublisherHandle, SendError};

use crate::ledger::{self, LETTER_BYTES_LEAST, Ledger};
use crate::parts::say;
use crate::stage::{Actor, PATIENCE, Stage};

/// In the slot, and through the pool.
const LENGTHS: [usize; 2] = [56, 100_000];
/// More than any ring or pool here has room for.
const MANY: u64 = 1_000;
const SENDER: u64 = 11;
const SUBSCRIBER: &str = "stopped-subscriber";
const OBSERVER: &str = "stopped-observer";

/// Receives letters up to the shortest, which is the last.
pub fn receive(node: &Node, is_observer: bool) {
    let topic = node.topic::<[u8]>("letters");
    let topic = if is_observer { topic.observer() } else { topic };
    let mut subscriber = topic.subscriber().expect("the types agree");
    // Which policy the publisher has is not known here; the test knows what may be lost.
    let mut ledger = Ledger::new(false);
    say("listening");
    loop {
        let sample = subscriber.recv().expect("receiving succeeds");
        let (account, length) = (ledger.enter(&sample), sample.len());
        if account.received == 1 {
            say("receiving");
        }
        if length == LETTER_BYTES_LEAST {
            let lost = subscriber.lost();
            say(format!("received {} lost {lost}", account.received));
            assert_eq!(account.last + 1, account.received + lost);
            return;
        }
    }
}

/// A publisher, and a process that receives from it and is stopped.
struct Scene {
    publisher: Publisher<[u8]>,
    actor: Actor,
    length: usize,
    sent: u64,
    _node: Node,
    _stage: Stage,
}

impl Scene {
    fn new(overflow: Overflow, part: &str, length: usize) -> Self {
        let stage = Stage::new();
        let mut actor = stage.start(part, "");
        actor.expect("listening");
        let node = stage.node();
        let topic = node.topic("letters").depth(16);
        let mut publisher = topic.publisher(overflow).expect("the topic is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
        let mut scene = Self { publisher, actor, length, sent: 0, _node: node, _stage: stage };
        scene.send().expect("there is room");
        scene.actor.expect("receiving");
        scene.actor.stop();
        scene
    }

    /// Sends the next letter; it has no number if it cannot be sent.
    fn send_within(&mut self, timeout: Duration) -> Result<(), SendError> {
        let letter = ledger::letter(self.length, SENDER, self.sent);
        self.publisher.send_timeout(&letter, timeout)?;
        self.sent += 1;
        Ok(())
    }

    fn send(&mut self) -> Result<(), SendError> {
        let letter = ledger::letter(self.length, SENDER, self.sent);
        self.publisher.send(&letter)?;
        self.sent += 1;
        Ok(())
    }

    /// Sends until it cannot; why not.
    fn fill(&mut self) -> SendError {
        let mut sending = (0..MANY).map(|_| self.send_within(Duration::from_millis(50)));
        sending.find_map(Result::err).expect("there is an end to the room")
    }

    /// Sends the last letter, trying as long as there is no room, and hears how many arrived and were lost.
    fn finish(mut self) -> (u64, u64) {
        self.length = LETTER_BYTES_LEAST;
        let start = Instant::now();
        while let Err(error) = self.send_within(PATIENCE) {
            assert!(start.elapsed() < PATIENCE, "{error}");
        }
        let said = self.actor.hear();
        let words: Vec<&str> = said.split_whitespace().collect();
        let ["received", received, "lost", lost] = words[..] else { panic!("it said {said}") };
        let number = |text: &str| text.parse().expect("it is a number");
        assert_eq!(number(received) + number(lost), self.sent, "every message is accounted for");
        (number(received), number(lost))
    }

    /// Whether the publisher ever had to wait for somebody, and whether it was for this process alone.
    fn was_blocked(&mut self) -> bool {
        let events: Vec<Event> = std::iter::from_fn(|| self.publisher.try_event()).collect();
        let mut blocked = events.into_iter().filter_map(|event| match event {
            Event::Blocked { by } => Some(by),
            _ => None,
        });
        let pid = self.actor.pid();
        blocked.any(|by| by.iter().all(|blocking| blocking.pid == pid))
    }
}

/// Waits until the publisher, in its thread, waits for this process.
fn is_blocked_by<T>(handle: &PublisherHandle, pid: u32, sending: &ScopedJoinHandle<'_, T>) {
    let start = Instant::now();
    while !handle.blocked_by().iter().any(|blocking| blocking.pid == pid) {
        assert!(!sending.is_finished(), "a full topic blocks");
        assert!(start.elapsed() < PATIENCE, "the publisher never says who blocks it");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_stopped_subscriber_blocks_its_publisher_who_knows_whom_to_blame() {
    for length in LENGTHS {
        let mut scene = Scene::new(Overflow::Block, SUBSCRIBER, length);
        let error = scene.fill();
        let needed = length;
        assert!(matches!(error, SendError::Timeout { needed: bytes, .. } if bytes == needed), "{error}");
        assert!(scene.was_blocked());
        let (handle, pid) = (scene.publisher.handle(), scene.actor.pid());
        assert_eq!(handle.blocked_by(), [], "it waits no more");
        std::thread::scope(|scope| {
            let Scene { publisher, actor, sent, .. } = &mut scene;
            let letter = ledger::letter(length, SENDER, *sent);
            let sending = scope.spawn(move || publisher.send(&letter));
            is_blocked_by(&handle, pid, &sending);
            actor.signal(libc::SIGCONT);
            sending.join().expect("it does not panic").expect("there is room again");
            *sent += 1;
        });
        assert_eq!(scene.finish().1, 0);
    }
}

/// Whoever waits for a stopped subscriber can be told to wait no more.
#[test]
fn a_wait_for_a_stopped_subscriber_can_be_cancelled() {
    let mut scene = Scene::new(Overflow::Block, SUBSCRIBER, LENGTHS[0]);
    scene.fill();
    let (handle, pid) = (scene.publisher.handle(), scene.actor.pid());
    std::thread::scope(|scope| {
        let publisher = &mut scene.publisher;
        let sending = scope.spawn(move || publisher.send(&[0; LENGTHS[0]]));
        is_blocked_by(&handle, pid, &sending);
        handle.cancel();
        let error = sending.join().expect("it does not panic").expect_err("it was cancelled");
        assert!(matches!(error, SendError::Closed { .. }), "{error}");
    });
    let error = scene.send().expect_err("it was cancelled");
    assert!(matches!(error, SendError::Closed { .. }), "{error}");
}

#[test]
fn a_stopped_subscriber_makes_sends_fail_where_nobody_is_to_wait() {
    for length in LENGTHS {
        let mut scene = Scene::new(Overflow::Fail, SUBSCRIBER, length);
        let error = scene.fill();
        assert!(matches!(error, SendError::Full { needed, .. } if needed == length), "{error}");
        assert!(!scene.was_blocked());
        scene.actor.signal(libc::SIGCONT);
        assert_eq!(scene.finish().1, 0);
    }
}

#[test]
fn a_stopped_subscriber_blocks_nobody_where_messages_may_be_lost() {
    for (overflow, part) in [
        (Overflow::DropOldest, SUBSCRIBER),
        (Overflow::Latest, SUBSCRIBER),
        (Overflow::Block, OBSERVER),
        (Overflow::Fail, OBSERVER),
        (Overflow::DropOldest, OBSERVER),
        (Overflow::Latest, OBSERVER),
    ] {
        for length in LENGTHS {
            let mut scene = Scene::new(overflow, part, length);
            (0..MANY).for_each(|_| scene.send().expect("nobody is waited for"));
            scene.actor.signal(libc::SIGCONT);
            (0..100).for_each(|_| scene.send().expect("nobody is waited for"));
            assert!(!scene.was_blocked(), "{overflow:?}");
            let (received, lost) = scene.finish();
            assert!(received > 1 && lost > 0, "{overflow:?}: {received} received, {lost} lost");
        }
    }
}
