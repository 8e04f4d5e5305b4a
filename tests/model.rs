//! The fear: some order of sends, receives, holds and drops loses, repeats or damages a message.
//!
//! Random programs run against a topic, and against what a topic means: a `VecDeque`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use tidepost::{Held, HoldError, Node, Overflow, Publisher, SendError, Subscriber};

/// Samples that may be held.
const HOLD_LIMIT: u32 = 5;
/// Polls of an empty topic after which everything that was read has been given back.
const POLLS: usize = 100;

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Loan(usize),
    SendMany(usize, usize),
    Receive,
    ReceiveMany(usize),
    Hold,
    Drop(usize),
    Poll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = || prop_oneof![4 => 0usize..300, 2 => 1000usize..1100, 1 => 2000usize..70_000];
    let step = prop_oneof![
        4 => length().prop_map(Step::Send),
        2 => length().prop_map(Step::Loan),
        1 => (length(), 1usize..6).prop_map(|(length, count)| Step::SendMany(length, count)),
        5 => Just(Step::Receive),
        1 => (1usize..6).prop_map(Step::ReceiveMany),
        3 => Just(Step::Hold),
        2 => (0usize..8).prop_map(Step::Drop),
        1 => Just(Step::Poll),
    ];
    proptest::collection::vec(step, 1..300)
}

/// The message with this number.
fn message(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|index| (index as u64 ^ number.wrapping_mul(31)) as u8).collect()
}

/// A way to send one message.
type SendOne = fn(&mut Publisher<[u8]>, &[u8]) -> Result<(), SendError>;

struct Topic {
    publisher: Publisher<[u8]>,
    subscriber: Subscriber<[u8]>,
    /// What a topic means.
    waiting: VecDeque<Vec<u8>>,
    held: Vec<(Held<[u8]>, Vec<u8>)>,
    sent: u64,
    directory: PathBuf,
}

impl Topic {
    fn open(slot_bytes: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("tidepost-model-{}-{number}", std::process::id()));
        let node = Node::builder().name("model").directory(&directory).open().expect("the directory is ours");
        let topic = || node.topic::<[u8]>("t").depth(8).slot_bytes(slot_bytes).hold_limit(HOLD_LIMIT);
        let publisher = topic().publisher(Overflow::Fail).expect("the topic is ours");
        let subscriber = topic().subscriber().expect("the types agree");
        Self { publisher, subscriber, waiting: VecDeque::new(), held: Vec::new(), sent: 0, directory }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(length) => self.send(length, |publisher, bytes| publisher.send(bytes)),
            Step::Loan(length) => self.send(length, |publisher, bytes| {
                let mut loan = publisher.loan(bytes.len())?;
                loan.copy_from_slice(bytes);
                loan.send();
                Ok(())
            }),
            Step::SendMany(length, count) => self.send_many(length, count),
            Step::Receive => self.receive(),
            Step::ReceiveMany(count) => self.receive_many(count),
            Step::Hold => self.hold(),
            Step::Drop(index) if !self.held.is_empty() => {
                let (sample, expected) = self.held.swap_remove(index % self.held.len());
                assert_eq!(*sample, *expected, "a held message stays as it was");
            }
            Step::Drop(_) => {}
            Step::Poll => self.drain(),
        }
    }

    fn send(&mut self, length: usize, send: SendOne) {
        let bytes = message(self.sent, length);
        match send(&mut self.publisher, &bytes) {
            Ok(()) => {
                self.waiting.push_back(bytes);
                self.sent += 1;
            }
            Err(SendError::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn send_many(&mut self, length: usize, count: usize) {
        let messages: Vec<Vec<u8>> =
            (self.sent..).take(count).map(|number| message(number, length)).collect();
        let sent = match self.publisher.send_many(messages.iter().map(Vec::as_slice)) {
            Ok(()) => count,
            Err(SendError::Full { sent, .. }) => sent,
            Err(error) => panic!("{error}"),
        };
        self.sent += sent as u64;
        self.waiting.extend(messages.into_iter().take(sent));
    }

    fn receive(&mut self) {
        let number = self.sent - self.waiting.len() as u64;
        let sample = self.subscriber.try_recv().expect("receiving succeeds");
        assert_eq!(sample.as_deref(), self.waiting.front().map(Vec::as_slice));
        assert!(sample.is_none_or(|sample| sample.sequence() == number));
        self.waiting.pop_front();
    }

    fn receive_many(&mut self, count: usize) {
        let batch = self.subscriber.try_recv_many(count).expect("receiving succeeds");
        let received: Vec<Vec<u8>> = batch.map(<[u8]>::to_vec).collect();
        let due = count.min(self.waiting.len());
        assert_eq!(received, self.waiting.drain(..due).collect::<Vec<_>>());
    }

    fn hold(&mut self) {
        let Some(sample) = self.subscriber.try_recv().expect("receiving succeeds") else { return };
        let expected = self.waiting.pop_front().expect("what comes has been sent");
        assert_eq!(*sample, *expected);
        let pinned = self.held.iter().filter(|(_, bytes)| bytes.len() > 1024).count();
        match sample.hold() {
            Ok(held) => self.held.push((held, expected)),
            Err(HoldError::Limit { limit, .. }) => {
                assert_eq!((pinned, limit), (HOLD_LIMIT as usize, HOLD_LIMIT))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Once everything has been read, there is room for a message, whatever is held.
    fn drain(&mut self) {
        while !self.waiting.is_empty() {
            self.receive();
        }
        (0..POLLS).for_each(|_| assert!(self.subscriber.try_recv().expect("receiving succeeds").is_none()));
        let bytes = message(self.sent, 100);
        self.publisher.send(&bytes).expect("an empty topic has room");
        self.waiting.push_back(bytes);
        self.sent += 1;
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn a_topic_is_a_queue(
        steps in steps(),
        slot_bytes in prop_oneof![Just(0usize), Just(56), Just(248), Just(1024), Just(1500), Just(65_536)],
    ) {
        let mut topic = Topic::open(slot_bytes);
        steps.into_iter().for_each(|step| topic.step(step));
        topic.drain();
        topic.drain();
    }
}
