//! The words of queues: acknowledgements in and out of turn, and the rendezvous.

use std::sync::Arc;

use loom::thread;

use super::super::acks::{self, AckWords, Acks, Outcome};
use super::super::cursor::CursorWords;
use super::super::door::{AtomicU64, Ordering, fence, relax};
use super::super::rendezvous::{self, Taking};
use super::super::ring::{Reader, RingWords, Writer};
use super::super::slot::{Carriage, SlotWord};
use super::{Ring, SLOTS, check, geometry, read, write};

/// A cursor segment of a queue.
struct Words {
    cursor: AtomicU64,
    returned: AtomicU64,
    left: AtomicU64,
    notes: Vec<AtomicU64>,
    unused: AtomicU64,
}

impl Words {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        let notes = (0..SLOTS).map(|_| word()).collect();
        Arc::new(Self { cursor: word(), returned: word(), left: word(), notes, unused: word() })
    }
}

impl CursorWords for Arc<Words> {
    fn cursor(&self) -> &AtomicU64 {
        &self.cursor
    }
    fn pins_used(&self) -> &AtomicU64 {
        &self.unused
    }
    fn lost(&self) -> &AtomicU64 {
        &self.unused
    }
    fn pin(&self, _index: usize) -> &AtomicU64 {
        &self.unused
    }
    fn pins(&self) -> usize {
        0
    }
}

impl AckWords for Arc<Words> {
    fn note(&self, index: usize) -> &AtomicU64 {
        &self.notes[index]
    }
    fn returned(&self) -> &AtomicU64 {
        &self.returned
    }
    fn left(&self) -> &AtomicU64 {
        &self.left
    }
}

/// What the second of a consumer's threads does with the first of two items.
fn settle_out_of_turn(outcome: Outcome) {
    let (ring, words) = (Ring::new(), Words::new());
    let mut writer = Writer::new(Arc::clone(&ring), geometry());
    (0..SLOTS as u64).for_each(|value| write(&mut writer, &ring, value + 10));
    let holding = {
        let (ring, words) = (Arc::clone(&ring), Arc::clone(&words));
        thread::spawn(move || {
            assert_eq!(read(&ring, 0), 10);
            acks::settle(&words, SLOTS, 0, outcome);
        })
    };
    let consuming = {
        let (ring, words) = (Arc::clone(&ring), Arc::clone(&words));
        thread::spawn(move || {
            assert_eq!(read(&ring, 1), 11);
            acks::acknowledge(&words, SLOTS, 1, true);
        })
    };
    let (mut acks, mut returned) = (Acks::new(SLOTS), Vec::new());
    let mut reused = 0;
    while reused < SLOTS as u64 {
        acks.look(&words, writer.tail().min(SLOTS as u64), &mut returned).expect("nobody breaks the rules");
        let has_passed_first = acks.released() > 0;
        // What was given back is known by the time its slot is used again, and is not known twice.
        let is_returned = outcome == Outcome::Returned;
        assert!(!has_passed_first || returned.len() == usize::from(is_returned), "{returned:?}");
        writer.raise_limit(acks.released());
        if writer.has_space() {
            write(&mut writer, &ring, 20 + reused);
            reused += 1;
        } else {
            relax();
        }
    }
    assert_eq!(acks.acknowledged(), if outcome == Outcome::Returned { 1 } else { 2 });
    holding.join().unwrap();
    consuming.join().unwrap();
}

#[test]
fn model_a_slot_is_used_again_only_when_its_item_is_settled() {
    check(|| settle_out_of_turn(Outcome::Acknowledged));
}

#[test]
fn model_what_is_given_back_is_never_passed_over_unseen() {
    check(|| settle_out_of_turn(Outcome::Returned));
}

/// A consumer settles its two items in turn, while its producer looks; what is not settled when it dies is known.
#[test]
fn model_what_a_consumer_had_not_settled_is_taken_back() {
    check(|| {
        let (ring, words) = (Ring::new(), Words::new());
        let mut writer = Writer::new(Arc::clone(&ring), geometry());
        (0..2).for_each(|value| write(&mut writer, &ring, value + 10));
        let consuming = {
            let (ring, words) = (Arc::clone(&ring), Arc::clone(&words));
            thread::spawn(move || {
                assert_eq!(read(&ring, 0), 10);
                acks::settle(&words, SLOTS, 1, Outcome::Returned);
                acks::acknowledge(&words, SLOTS, 0, false);
                // Here it dies.
            })
        };
        let (mut acks, mut back) = (Acks::new(SLOTS), Vec::new());
        acks.look(&words, 2, &mut back).expect("nobody breaks the rules");
        let early = acks.released();
        consuming.join().unwrap();
        acks.look(&words, 2, &mut back).expect("nobody breaks the rules");
        back.extend(acks.open(&words, 0, 2));
        assert!(early <= acks.released());
        assert_eq!(back, [1], "the first is done, the second is for others");
    });
}

/// A producer that takes back what its consumer has not settled, while that settles it. The fences are those after the
/// acknowledgement and before the last look; what was acknowledged in time is not given to others.
fn part(is_noted: bool, fence_of_consumer: fn(), fence_of_producer: fn()) {
    let (ring, words, terms) = (Ring::new(), Words::new(), Arc::new(AtomicU64::new(0)));
    let mut writer = Writer::new(Arc::clone(&ring), geometry());
    write(&mut writer, &ring, 10);
    let consuming = {
        let (words, terms) = (Arc::clone(&words), Arc::clone(&terms));
        thread::spawn(move || {
            if is_noted {
                acks::settle(&words, SLOTS, 0, Outcome::Acknowledged);
            } else {
                acks::acknowledge(&words, SLOTS, 0, false);
            }
            fence_of_consumer();
            acks::is_in_time(&terms)
        })
    };
    let (mut acks, mut back) = (Acks::new(SLOTS), Vec::new());
    acks::tell_taken_back(&terms, fence_of_producer);
    acks.look(&words, 1, &mut back).expect("nobody breaks the rules");
    back.extend(acks.open(&words, 0, 1));
    let is_in_time = consuming.join().unwrap();
    assert!(!is_in_time || back.is_empty(), "it goes to another after all");
}

#[test]
fn model_what_was_acknowledged_in_time_does_not_come_again() {
    for is_noted in [false, true] {
        check(move || part(is_noted, || fence(Ordering::SeqCst), || fence(Ordering::SeqCst)));
    }
}

/// That the checker would notice: without the consumer's fence, it believes an item to be done with that comes again.
#[test]
#[should_panic(expected = "goes to another after all")]
fn model_without_the_consumers_fence_what_was_acknowledged_comes_again() {
    check(|| part(false, || (), || fence(Ordering::SeqCst)));
}

/// As above, without the producer's.
#[test]
#[should_panic(expected = "goes to another after all")]
fn model_without_the_producers_fence_what_was_acknowledged_comes_again() {
    check(|| part(true, || fence(Ordering::SeqCst), || ()));
}

/// A sender that withdraws, and a reader that takes: one of them gets the message. `fence_of_reader` stands between the
/// reader's two looks.
fn meet(fence_of_reader: fn()) {
    let (ring, taken) = (Ring::new(), Arc::new(AtomicU64::new(0)));
    let mut writer = Writer::new(Arc::clone(&ring), geometry());
    write(&mut writer, &ring, 10);
    let lap = geometry().lap(0);
    let taking = {
        let (ring, taken) = (Arc::clone(&ring), Arc::clone(&taken));
        thread::spawn(move || {
            let word = SlotWord::new(lap, Carriage::Inline(8));
            loop {
                let seen = SlotWord::from_bits(ring.slot(0).load(Ordering::Acquire));
                if seen.is_withdrawn(lap) {
                    return false;
                }
                if seen != word {
                    relax();
                    continue;
                }
                match rendezvous::take_with(ring.slot(0), &taken, seen, (0, lap), fence_of_reader) {
                    Taking::Taken => {
                        assert_eq!(read(&ring, 0), 10);
                        return true;
                    }
                    Taking::Withdrawn => return false,
                    Taking::Open => relax(),
                }
            }
        })
    };
    let is_withdrawn = rendezvous::withdraw(ring.slot(0), &taken, (0, lap));
    assert_ne!(is_withdrawn, taking.join().unwrap(), "one of them has it, and only one");
}

#[test]
fn model_a_message_is_withdrawn_or_taken() {
    check(|| meet(|| fence(Ordering::SeqCst)));
}

/// That the checker would notice: without the reader's fence it takes what has been withdrawn.
#[test]
#[should_panic(expected = "one of them has it")]
fn model_without_the_fence_a_message_is_withdrawn_and_taken() {
    check(|| meet(|| ()));
}

/// A reader of the ring passes over what was withdrawn, and acknowledges that in its turn.
#[test]
fn model_what_was_withdrawn_is_passed_over() {
    check(|| {
        let (ring, words) = (Ring::new(), Words::new());
        let taken = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::new(Arc::clone(&ring), geometry());
        write(&mut writer, &ring, 10);
        let lap = geometry().lap(0);
        assert!(rendezvous::withdraw(ring.slot(0), &taken, (0, lap)));
        write(&mut writer, &ring, 11);
        let reading = {
            let (ring, words) = (Arc::clone(&ring), Arc::clone(&words));
            thread::spawn(move || {
                let mut reader = Reader::new(Arc::clone(&ring), Arc::clone(&words), geometry(), 0);
                assert!(reader.peek().is_none());
                acks::acknowledge(&words, SLOTS, 0, false);
                reader.advance();
                assert!(reader.peek().is_some());
                assert_eq!(read(&ring, 1), 11);
                acks::acknowledge(&words, SLOTS, 1, false);
            })
        };
        let (mut acks, mut returned) = (Acks::new(SLOTS), Vec::new());
        acks.take_back(0);
        while acks.released() < 2 {
            acks.look(&words, 2, &mut returned).expect("nobody breaks the rules");
            relax();
        }
        assert_eq!((acks.acknowledged(), acks.unsettled(2), returned.len()), (1, 0, 0));
        reading.join().unwrap();
    });
}
