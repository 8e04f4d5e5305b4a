//! Messages that follow from their number, and publishers and subscribers that check them.

use tidepost::{Node, Overflow, Payload, Publisher, Sample, Subscriber, Topic, Trust};

pub use crate::stage::{Domain, PATIENCE, PAUSE, Words, Work, bytes, start, until, words};

/// The number of a message.
pub fn number_of<T: Payload + ?Sized>(message: &T) -> u64 {
    u64::from_ne_bytes(*message.as_bytes().first_chunk().expect("messages begin with their number"))
}

/// A kind of message, by the way that it takes.
pub struct Kind<T: ?Sized> {
    pub name: &'static str,
    /// The message with this number.
    pub message: fn(u64) -> Box<T>,
    /// How many make a long test.
    pub many: u64,
    options: for<'a> fn(Topic<'a, T>) -> Topic<'a, T>,
}

/// In the line of the slot word.
pub fn inline() -> Kind<Words> {
    Kind { name: "inline", message: |number| Box::new(words(number)), many: 20_000, options: |topic| topic }
}

/// In the slot, behind a header.
pub fn body() -> Kind<[u8; 4096]> {
    let message = |number| bytes(number, 4096).try_into().expect("it has this length");
    Kind { name: "body", message, many: 5000, options: |topic| topic }
}

/// In the slot, of many lengths.
pub fn body_slice() -> Kind<[u8]> {
    Kind {
        name: "body slice",
        message: |number| bytes(number, 1100 + (number * 7919 % 2900) as usize),
        many: 5000,
        options: |topic| topic.slot_bytes(4096),
    }
}

/// In a pool that has few chunks.
pub fn pooled() -> Kind<[u8]> {
    Kind {
        name: "pooled",
        message: |number| bytes(number, (100 << 10) - (number % 5) as usize),
        many: 500,
        options: |topic| topic.pool_limit(800 << 10),
    }
}

/// Calls a generic function with each kind of message, and further arguments.
macro_rules! with_each_kind {
    ($function:ident $(, $argument:expr)*) => {
        $function(&crate::topics::stage::inline() $(, $argument)*);
        $function(&crate::topics::stage::body() $(, $argument)*);
        $function(&crate::topics::stage::body_slice() $(, $argument)*);
        $function(&crate::topics::stage::pooled() $(, $argument)*);
    };
}
pub(crate) use with_each_kind;

impl<T: Payload + ?Sized> Kind<T> {
    /// A topic for such messages, eight deep.
    pub fn topic<'a>(&self, node: &'a Node) -> Topic<'a, T> {
        (self.options)(node.topic("topic").depth(8))
    }

    pub fn publisher(&self, node: &Node, overflow: Overflow) -> Publisher<T> {
        self.topic(node).publisher(overflow).expect("the topic is ours")
    }

    pub fn subscriber(&self, node: &Node) -> Subscriber<T> {
        self.topic(node).subscriber().expect("the types agree")
    }

    /// Sends the messages with these numbers.
    pub fn send(&self, publisher: &mut Publisher<T>, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let sent = publisher.send(&(self.message)(number));
            sent.unwrap_or_else(|error| panic!("{}: message {number}: {error}", self.name));
        }
    }

    /// That these are the bytes of the message with this number.
    pub fn check(&self, message: &T, number: u64) {
        let is_intact = message.as_bytes() == (self.message)(number).as_bytes();
        assert!(is_intact, "{}: message {number} is damaged", self.name);
    }
}

/// Waits until the two know each other, in whichever nodes they are: on a busy machine that takes longer than it takes to make
/// them.
pub fn meet<T, B>(publisher: &mut Publisher<T>, subscriber: &Subscriber<T, B>)
where
    T: Payload + ?Sized,
    B: Trust,
{
    publisher.wait_for_subscribers(1, PATIENCE).expect("it comes");
    until("the subscriber knows", || subscriber.publishers() > 0);
}

/// A subscriber's account of one publisher: every message is received or counted as lost.
#[derive(Default)]
pub struct Account {
    pub next: u64,
    pub received: u64,
    pub lost: u64,
}

impl Account {
    /// Takes a sample down, and checks it.
    pub fn note<T: Payload + ?Sized>(&mut self, kind: &Kind<T>, sample: &Sample<'_, T>) {
        let (sequence, lost) = (sample.sequence(), sample.lost());
        assert_eq!(self.next + lost, sequence, "{}: gaps are exact", kind.name);
        kind.check(sample, sequence);
        self.next = sequence + 1;
        self.received += 1;
        self.lost += lost;
    }
}
