//! Values that follow from their number, and writers and readers that check them.

use tidepost::{Node, Payload, StateReader, StateWriter, Trust};

pub use crate::stage::{Domain, PATIENCE, PAUSE, Words, bytes, start, turned_down, until, words};

/// A kind of value, by the way that it takes.
pub struct Kind<T: ?Sized> {
    pub name: &'static str,
    /// The value with this number.
    pub value: fn(u64) -> Box<T>,
    /// How many make a long test.
    pub many: u64,
}

/// In the line of its number.
pub fn inline() -> Kind<Words> {
    Kind { name: "inline", value: |number| Box::new(words(number)), many: 20_000 }
}

/// In a slot of its size.
pub fn body() -> Kind<[u8; 4096]> {
    Kind { name: "body", value: |number| bytes(number, 4096).try_into().expect("so long"), many: 5_000 }
}

/// Of many lengths, in slots and in the pool.
pub fn slice() -> Kind<[u8]> {
    Kind { name: "slice", value: |number| bytes(number, 8 + (number * 7919 % 2900) as usize), many: 5_000 }
}

/// In the pool.
pub fn pooled() -> Kind<[u8]> {
    Kind { name: "pooled", value: |number| bytes(number, (100 << 10) - (number % 5) as usize), many: 300 }
}

/// Calls a generic function with each kind of value.
macro_rules! with_each_kind {
    ($function:ident) => {
        $function(&crate::states::stage::inline());
        $function(&crate::states::stage::body());
        $function(&crate::states::stage::slice());
        $function(&crate::states::stage::pooled());
    };
}
pub(crate) use with_each_kind;

impl<T: Payload + ?Sized> Kind<T> {
    pub fn writer(&self, node: &Node) -> StateWriter<T> {
        node.state("state").writer().expect("nobody else writes")
    }

    pub fn reader(&self, node: &Node) -> StateReader<T> {
        node.state("state").reader().expect("the types agree")
    }

    /// Writes the values with these numbers.
    pub fn set(&self, writer: &mut StateWriter<T>, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let set = writer.set(&(self.value)(number));
            set.unwrap_or_else(|error| panic!("{}: value {number}: {error}", self.name));
        }
    }

    /// That these are the bytes of the value with this number.
    pub fn check(&self, value: &T, number: u64) {
        let is_intact = value.as_bytes() == (self.value)(number).as_bytes();
        assert!(is_intact, "{}: value {number} is damaged, or another", self.name);
    }

    /// That what is there is the value with this number; its version.
    pub fn check_newest(&self, reader: &mut StateReader<T>, number: u64) -> u64 {
        let value = reader.read().expect("reading succeeds").expect("there is one");
        self.check(&value, number);
        value.version()
    }

    /// Waits until what has just been written is there: news of a writer, or of memory, take their time. Its version.
    pub fn await_newest<B: Trust>(&self, reader: &mut StateReader<T, B>, number: u64) -> u64 {
        let mut version = 0;
        until("the newest value comes", || {
            let value = reader.read().expect("reading succeeds");
            let newest = value.filter(|value| number_of(&**value) == number);
            newest.inspect(|value| self.check(value, number)).is_some_and(|value| {
                version = value.version();
                true
            })
        });
        version
    }
}

/// The number that a value begins with.
pub fn number_of<T: Payload + ?Sized>(value: &T) -> u64 {
    u64::from_ne_bytes(*value.as_bytes().first_chunk().expect("values begin with their number"))
}
