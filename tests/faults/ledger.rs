//! Letters that say who sent them and whether they are whole, and books that are kept of them. What the library says of a
//! message is only ever compared with what its sender wrote into it.

use std::collections::HashMap;

use tidepost::{EndpointId, Payload, Sample};

/// Bytes that every letter has: its sender, its number, its length, and a checksum over all the rest.
pub const LETTER_BYTES_LEAST: usize = 32;
/// Where the checksum lies.
const CHECKSUM: std::ops::Range<usize> = 24..32;

/// A sequence that follows from its seed (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// FNV-1a over whole words, and over the bytes that are left.
fn checksum(parts: [&[u8]; 2]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        let (words, rest) = part.as_chunks();
        words.iter().for_each(|word| take(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| take(u64::from(*byte)));
    }
    hash
}

fn checksum_of(letter: &[u8]) -> u64 {
    checksum([&letter[..CHECKSUM.start], &letter[CHECKSUM.end..]])
}

/// Writes the letter of this number, as long as its place.
pub fn write(place: &mut [u8], sender: u64, number: u64) {
    let length = place.len() as u64;
    let (words, rest) = place.as_chunks_mut();
    for (word, index) in words.iter_mut().zip(0u64..) {
        *word = (sender ^ number).wrapping_add(index.wrapping_mul(0x9e37_79b9)).to_le_bytes();
    }
    rest.fill(number as u8);
    for (word, value) in words.iter_mut().zip([sender, number, length]) {
        *word = value.to_le_bytes();
    }
    let checksum = checksum_of(place);
    place[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// The letter of this number as bytes.
pub fn letter(length: usize, sender: u64, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    write(&mut bytes, sender, number);
    bytes
}

/// Checks that a letter is whole; its sender and its number.
pub fn read(letter: &[u8]) -> (u64, u64) {
    let word = |index: usize| {
        let bytes = letter.as_chunks().0.get(index).copied();
        u64::from_le_bytes(bytes.unwrap_or_else(|| panic!("a letter of {} B is none", letter.len())))
    };
    let (sender, number) = (word(0), word(1));
    assert_eq!(word(2), letter.len() as u64, "the length of letter {number} of {sender:x}");
    assert_eq!(word(3), checksum_of(letter), "the checksum of letter {number} of {sender:x}");
    (sender, number)
}

/// What has come from one publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// As it called itself in its letters.
    pub sender: u64,
    pub first: u64,
    pub last: u64,
    pub received: u64,
    /// Between the first and the last.
    pub lost: u64,
}

/// The books of one subscriber.
pub struct Ledger {
    /// Whether its publishers wait for it, so that nothing may be lost.
    is_reliable: bool,
    accounts: HashMap<EndpointId, Account>,
    senders: HashMap<u64, EndpointId>,
}

impl Ledger {
    pub fn new(is_reliable: bool) -> Self {
        Self { is_reliable, accounts: HashMap::new(), senders: HashMap::new() }
    }

    /// Enters the next letter, which must follow from those before it.
    pub fn enter<T: Payload + ?Sized>(&mut self, sample: &Sample<'_, T>) -> Account {
        let (sender, number) = read(sample.as_bytes());
        let (publisher, lost) = (sample.publisher(), sample.lost());
        assert_eq!(number, sample.sequence(), "the number of a letter of {sender:x}");
        assert!(!self.is_reliable || lost == 0, "{lost} lost before letter {number} of {sender:x}");
        let owner = *self.senders.entry(sender).or_insert(publisher);
        assert_eq!(owner, publisher, "{sender:x} is one publisher");
        let account = self.accounts.entry(publisher).and_modify(|account| {
            assert_eq!(account.sender, sender, "a publisher is one sender");
            assert_eq!(number, account.last + 1 + lost, "after letter {} of {sender:x}", account.last);
            account.last = number;
            account.received += 1;
            account.lost += lost;
        });
        *account.or_insert(Account { sender, first: number, last: number, received: 1, lost: 0 })
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }
}

/// The checker checks itself: what is not what was sent is noticed.
#[test]
fn a_letter_that_was_changed_is_noticed() {
    for length in [LETTER_BYTES_LEAST, 57, 5000] {
        let whole = letter(length, 7, 9);
        assert_eq!(read(&whole), (7, 9));
        for place in [0, 8, 23, 31, length / 2, length - 1] {
            let mut torn = whole.clone();
            torn[place] ^= 16;
            assert!(std::panic::catch_unwind(|| read(&torn)).is_err(), "byte {place} of {length}");
        }
        assert!(std::panic::catch_unwind(|| read(&whole[..length - 1])).is_err());
    }
}
