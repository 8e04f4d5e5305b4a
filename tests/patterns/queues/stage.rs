//! Items that follow from their number, and books of what has been done.

use std::collections::BTreeMap;

use tidepost::{Consumer, Item, Node, Overflow, Producer};

pub use crate::stage::{Domain, PATIENCE, PAUSE, Words, Work, bytes, start, until, words};

/// The number of an item, which is whole.
pub fn number_of(item: &Words) -> u64 {
    assert_eq!(*item, words(item[0]), "item {} is damaged", item[0]);
    item[0]
}

/// A producer that waits where there is no room.
pub fn producer(node: &Node, depth: usize) -> Producer<Words> {
    node.queue("queue").depth(depth).producer(Overflow::Block).expect("the queue is ours")
}

/// A consumer with so much credit.
pub fn consumer(node: &Node, credit: u32) -> Consumer<Words> {
    node.queue("queue").credit(credit).consumer().expect("the types agree")
}

/// The next item, within bounds.
pub fn next(consumer: &mut Consumer<Words>) -> Item<'_, Words> {
    consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("an item comes")
}

/// What has been acknowledged, and how often.
#[derive(Default)]
pub struct Ledger(BTreeMap<u64, u64>);

impl Ledger {
    /// Takes an item down.
    pub fn note(&mut self, number: u64) {
        *self.0.entry(number).or_default() += 1;
    }

    /// Puts two books together.
    pub fn add(&mut self, other: Self) {
        other.0.into_iter().for_each(|(number, count)| *self.0.entry(number).or_default() += count);
    }

    /// That each item of so many has been done, exactly once.
    pub fn check_once(&self, items: u64) {
        self.check_all(items);
        assert!(self.0.values().all(|count| *count == 1), "done twice: {:?}", self.0);
    }

    /// That each item of so many has been done.
    pub fn check_all(&self, items: u64) {
        assert_eq!(self.numbers(), (0..items).collect::<Vec<_>>());
    }

    /// The items that have been done.
    pub fn numbers(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }

    /// How many different items have been done.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }
}
