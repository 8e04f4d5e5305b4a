//! Tidepost as an engine: one node in each process, a topic in each direction.

use std::path::Path;
use std::time::Duration;

use tidepost::{Node, Overflow, Publisher, Subscriber};

use super::{Incoming, Outgoing};

/// How long two processes may take to find each other.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// A node in the domain at `directory`.
pub fn open(directory: &Path, name: &str) -> Node {
    Node::builder().name(name).directory(directory).open().expect("the directory is our own")
}

/// The sending end of a topic, once so many read it.
pub fn publisher<const WORDS: usize>(
    node: &Node,
    topic: &str,
    overflow: Overflow,
    subscribers: u32,
) -> Publisher<[u64; WORDS]> {
    let mut publisher = node.topic(topic).publisher(overflow).expect("the types agree");
    publisher.wait_for_subscribers(subscribers as usize, CONNECT).expect("the other process subscribes");
    publisher
}

/// The receiving end of a topic.
pub fn subscriber<const WORDS: usize>(node: &Node, topic: &str) -> Subscriber<[u64; WORDS]> {
    node.topic(topic).subscriber().expect("the types agree")
}

/// The message of this value.
pub(crate) fn message<const WORDS: usize>(value: u64) -> [u64; WORDS] {
    std::array::from_fn(|index| value + index as u64)
}

/// The sum of a message's words.
pub(crate) fn sum<const WORDS: usize>(message: &[u64; WORDS]) -> u64 {
    message.iter().fold(0u64, |sum, word| sum.wrapping_add(*word))
}

impl<const WORDS: usize> Outgoing for Publisher<[u64; WORDS]> {
    #[inline(always)]
    fn send(&mut self, value: u64) {
        if WORDS <= 64 {
            Publisher::send(self, &message(value)).expect("a send succeeds");
            return;
        }
        let mut loan = self.loan().expect("a loan succeeds");
        for (word, index) in loan.iter_mut().zip(0..) {
            *word = value + index;
        }
        loan.send();
    }

    #[inline]
    fn send_many(&mut self, first: u64, count: u64) {
        if WORDS > 64 {
            return (first..first + count).for_each(|value| Outgoing::send(self, value));
        }
        let messages: [[u64; WORDS]; 64] = std::array::from_fn(|index| message(first + index as u64));
        Publisher::send_many(self, &messages[..count as usize]).expect("a send succeeds");
    }
}

/// A subscriber that never sleeps.
pub struct Busy<const WORDS: usize>(pub Subscriber<[u64; WORDS]>);

impl<const WORDS: usize> Incoming for Busy<WORDS> {
    #[inline]
    fn receive(&mut self) -> u64 {
        loop {
            if let Some(sample) = self.0.try_recv().expect("receiving succeeds") {
                return sum(&sample);
            }
        }
    }

    #[inline]
    fn receive_many(&mut self, most: u64) -> (u64, u64) {
        let batch = self.0.try_recv_many(most as usize).expect("receiving succeeds");
        batch.fold((0, 0), |(count, total), message| (count + 1, total.wrapping_add(sum(message))))
    }
}

/// A subscriber that sleeps when there is nothing.
pub struct Blocking<const WORDS: usize>(pub Subscriber<[u64; WORDS]>);

impl<const WORDS: usize> Blocking<WORDS> {
    /// The first word of the next message.
    pub fn stamp(&mut self) -> u64 {
        self.0.recv().expect("receiving succeeds")[0]
    }
}
