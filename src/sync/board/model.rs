//! Boards under loom: every interleaving, every weak-memory outcome, on tiny instances. See `sync::model`.

use std::collections::HashSet;
use std::sync::Arc;

use loom::thread;

use super::{
    BoardWords, Change, Following, Notifying, ReadFault, SignalWords, TableReader, TableWords, TableWriter,
    Watching,
};
use crate::sync::bell::{Mode, clear_bit, set_bit};
use crate::sync::door::{AtomicU64, Ordering, fence, relax};
use crate::sync::model::{Line, check};

/// Counters in loom's memory: as few as there can be with a summary would be 65, most of which nobody touches.
struct Signal {
    whole: AtomicU64,
    groups: Vec<AtomicU64>,
    counters: Vec<AtomicU64>,
}

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Signal {
    fn new(ids: usize) -> Arc<Self> {
        let groups = words(super::summary::groups(ids));
        Arc::new(Self { whole: AtomicU64::new(0), groups, counters: words(ids) })
    }
}

impl BoardWords for Arc<Signal> {
    fn whole(&self) -> &AtomicU64 {
        &self.whole
    }
    fn group(&self, index: usize) -> &AtomicU64 {
        &self.groups[index]
    }
    fn members(&self) -> usize {
        self.counters.len()
    }
}

impl SignalWords for Arc<Signal> {
    fn counter(&self, id: usize) -> &AtomicU64 {
        &self.counters[id]
    }
}

#[test]
fn model_no_notification_is_lost() {
    check(|| {
        let signal = Signal::new(2);
        let mut watching = Watching::new(Arc::clone(&signal));
        let notifying = {
            let signal = Arc::clone(&signal);
            thread::spawn(move || {
                let mut notifying = Notifying::new(signal);
                notifying.notify(1, 1);
                notifying.notify(0, 1);
                notifying.notify(1, 1);
            })
        };
        assert_eq!(collect(&mut watching, 3), [1, 2]);
        notifying.join().unwrap();
    });
}

#[test]
fn model_no_notification_is_lost_where_there_are_groups() {
    check(|| {
        let signal = Signal::new(66);
        let mut watching = Watching::new(Arc::clone(&signal));
        let notifying = {
            let signal = Arc::clone(&signal);
            thread::spawn(move || {
                let mut notifying = Notifying::new(signal);
                notifying.notify(65, 1);
                notifying.notify(65, 1);
            })
        };
        assert_eq!(collect(&mut watching, 2)[65], 2);
        notifying.join().unwrap();
    });
}

/// That the checker would notice: with the sum before the counter, a waiter takes the one for seen and misses the other.
#[test]
#[should_panic(expected = "Model exceeded maximum number of branches")]
fn model_a_sum_before_its_counter_loses_a_notification() {
    check(|| {
        let signal = Signal::new(1);
        let mut watching = Watching::new(Arc::clone(&signal));
        let notifying = {
            let signal = Arc::clone(&signal);
            thread::spawn(move || {
                signal.whole.store(1, Ordering::Release);
                signal.counters[0].store(1, Ordering::Release);
            })
        };
        collect(&mut watching, 1);
        notifying.join().unwrap();
    });
}

/// A waiter that sleeps until two notifications have come, as `Watch::sleep` does, and a notifier that then looks for sleepers,
/// as `BoardShared::wake_sleepers` does.
fn notify_a_sleeper(fence_of_notifier: fn()) {
    let (signal, line, sleepers) = (Signal::new(2), Line::new(), Arc::new(AtomicU64::new(0)));
    let mut watching = Watching::new(Arc::clone(&signal));
    let waiting = {
        let (line, sleepers) = (Arc::clone(&line), Arc::clone(&sleepers));
        thread::spawn(move || {
            let mut sum = 0;
            watching.changes(|_, new| sum += new).unwrap();
            while sum < 2 {
                let ticket = line.words().arm(Mode::Futex);
                set_bit(&sleepers, 0);
                fence(Ordering::SeqCst);
                if !watching.has_news() {
                    line.wait(ticket);
                }
                line.words().disarm();
                clear_bit(&sleepers, 0);
                watching.changes(|_, new| sum += new).unwrap();
            }
            assert_eq!(sum, 2);
        })
    };
    let (mut notifying, mut woken) = (Notifying::new(signal), 0);
    for id in 0..2 {
        notifying.notify(id, 1);
        fence_of_notifier();
        if sleepers.load(Ordering::Relaxed) & 1 != 0 {
            line.ring(&mut woken);
        }
    }
    waiting.join().unwrap();
}

#[test]
fn model_no_notification_is_slept_through() {
    check(|| notify_a_sleeper(|| fence(Ordering::SeqCst)));
}

/// That the checker would notice.
#[test]
#[should_panic(expected = "deadlock")]
fn model_without_the_fence_a_notification_is_slept_through() {
    check(|| notify_a_sleeper(|| ()));
}

/// Looks until so many notifications have come, all ids together.
fn collect(watching: &mut Watching<Arc<Signal>>, count: u64) -> Vec<u64> {
    let mut counts = vec![0; watching.ids()];
    while counts.iter().sum::<u64>() < count {
        watching.changes(|id, new| counts[id] += new).unwrap();
        relax();
    }
    counts
}

/// A table in loom's memory, with keys of a word and values of two, which are written and read while nothing but the protocol
/// keeps the two sides apart.
struct Table {
    whole: AtomicU64,
    moved: AtomicU64,
    slots: Vec<AtomicU64>,
    cells: Vec<Cell>,
}

struct Cell {
    word: AtomicU64,
    key: AtomicU64,
    buffers: [[AtomicU64; 2]; 2],
}

impl Table {
    fn new(cells: usize) -> Arc<Self> {
        let word = || AtomicU64::new(0);
        let cell = || Cell { word: word(), key: word(), buffers: [[word(), word()], [word(), word()]] };
        let cells = (0..cells).map(|_| cell()).collect();
        Arc::new(Self { whole: word(), moved: word(), slots: words(4), cells })
    }
}

impl BoardWords for Arc<Table> {
    fn whole(&self) -> &AtomicU64 {
        &self.whole
    }
    fn group(&self, _: usize) -> &AtomicU64 {
        unreachable!("there is one group")
    }
    fn members(&self) -> usize {
        self.cells.len()
    }
}

impl TableWords for Arc<Table> {
    fn cell(&self, cell: usize) -> &AtomicU64 {
        &self.cells[cell].word
    }
    fn moved(&self) -> &AtomicU64 {
        &self.moved
    }
    fn slot(&self, slot: usize) -> &AtomicU64 {
        &self.slots[slot]
    }
    fn slots(&self) -> usize {
        self.slots.len()
    }
    fn key_bytes(&self) -> usize {
        8
    }
    fn value_bytes(&self) -> usize {
        16
    }
    fn has_key(&self, cell: usize, key: &[u8]) -> bool {
        self.cells[cell].key.load(Ordering::Relaxed).to_le_bytes() == key
    }
    fn copy_key(&self, cell: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.cells[cell].key.load(Ordering::Relaxed).to_le_bytes());
    }
    fn copy_value(&self, cell: usize, buffer: usize, to: &mut [u8]) {
        for (word, place) in self.cells[cell].buffers[buffer].iter().zip(to.chunks_mut(8)) {
            place.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
    }
    fn put_key(&self, cell: usize, key: &[u8]) {
        self.cells[cell].key.store(number(key), Ordering::Relaxed);
    }
    fn put_value(&self, cell: usize, buffer: usize, value: &[u8]) {
        for (word, place) in self.cells[cell].buffers[buffer].iter().zip(value.chunks(8)) {
            word.store(number(place), Ordering::Relaxed);
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Three keys whose slot would be the first of four.
fn keys() -> [[u8; 8]; 3] {
    let mut fitting = (0u64..).map(u64::to_le_bytes).filter(|key| super::table::tag_of(key) % 4 == 0);
    std::array::from_fn(|_| fitting.next().unwrap())
}

fn value(round: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value.chunks_mut(8).for_each(|word| word.copy_from_slice(&round.to_le_bytes()));
    value
}

/// The round of the value of a key; 0 if it is not there.
fn get(reader: &TableReader<Arc<Table>>, key: &[u8]) -> Option<u64> {
    let mut value = [0; 16];
    match reader.get(key, &mut value) {
        Ok(Some(_)) => {
            assert_eq!(value[..8], value[8..], "half of one and half of another");
            Some(number(&value[..8]))
        }
        Ok(None) => Some(0),
        Err(ReadFault::Busy) => None,
        Err(ReadFault::Violation(violation)) => panic!("{violation}"),
    }
}

#[test]
fn model_a_value_is_never_half_written_nor_gone_back() {
    check(|| {
        let (table, [key, ..]) = (Table::new(1), keys());
        let mut writer = TableWriter::new(Arc::clone(&table));
        writer.set(&key, &value(1)).unwrap();
        let reading = {
            let reader = TableReader::new(table);
            thread::spawn(move || {
                let version = reader.version();
                let first = get(&reader, &key);
                assert!(first.is_none_or(|round| round >= version), "older than the version");
                let second = get(&reader, &key);
                assert!(second.is_none_or(|second| second >= first.unwrap_or(1)), "gone back");
            })
        };
        writer.set(&key, &value(2)).unwrap();
        writer.set(&key, &value(3)).unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn model_a_cell_that_is_used_again_gives_no_value_of_another_key() {
    check(|| {
        let (table, [first, second, _]) = (Table::new(1), keys());
        let mut writer = TableWriter::new(Arc::clone(&table));
        writer.set(&first, &value(1)).unwrap();
        let reading = {
            let reader = TableReader::new(table);
            thread::spawn(move || assert!(matches!(get(&reader, &first), None | Some(0 | 1))))
        };
        writer.remove(&first);
        writer.set(&second, &value(2)).unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn model_an_entry_that_is_moved_along_the_index_is_not_missed() {
    check(|| {
        let (table, [first, second, third]) = (Table::new(2), keys());
        let mut writer = TableWriter::new(Arc::clone(&table));
        writer.set(&first, &value(1)).unwrap();
        writer.set(&second, &value(2)).unwrap();
        let reading = {
            let reader = TableReader::new(table);
            thread::spawn(move || assert!(matches!(get(&reader, &second), None | Some(2))))
        };
        // The second comes to the place of the first, and the third to that of the second.
        writer.remove(&first);
        writer.set(&third, &value(3)).unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn model_what_is_told_of_a_table_adds_up_to_it() {
    check(|| {
        let (table, [first, second, _]) = (Table::new(2), keys());
        let mut writer = TableWriter::new(Arc::clone(&table));
        writer.set(&first, &value(1)).unwrap();
        let reader = TableReader::new(table);
        let following = {
            let reader = reader.clone();
            thread::spawn(move || {
                let (mut following, mut known) = (Following::new(&reader, HashSet::new()), Vec::new());
                // Once meanwhile, and once after.
                follow(&mut following, &reader, &mut known);
                (following, known)
            })
        };
        writer.remove(&first);
        writer.set(&second, &value(2)).unwrap();
        writer.set(&first, &value(3)).unwrap();
        let (mut following, mut known) = following.join().unwrap();
        follow(&mut following, &reader, &mut known);
        known.sort_unstable();
        let mut expected = [(number(&first), 3), (number(&second), 2)];
        expected.sort_unstable();
        assert_eq!(known, expected);
    });
}

/// A key that comes to a cell after its first, and is removed from there before a reader has come so far.
#[test]
fn model_a_key_that_is_removed_on_its_way_is_told() {
    check(|| {
        let (table, [first, second, _]) = (Table::new(2), keys());
        let mut writer = TableWriter::new(Arc::clone(&table));
        writer.set(&first, &value(1)).unwrap();
        let reader = TableReader::new(table);
        let (mut following, mut known) = (Following::new(&reader, HashSet::new()), Vec::new());
        follow(&mut following, &reader, &mut known);
        let meanwhile = {
            let reader = reader.clone();
            thread::spawn(move || {
                follow(&mut following, &reader, &mut known);
                (following, known)
            })
        };
        writer.remove(&first);
        writer.set(&second, &value(2)).unwrap();
        writer.set(&first, &value(3)).unwrap();
        writer.remove(&first);
        let (mut following, mut known) = meanwhile.join().unwrap();
        follow(&mut following, &reader, &mut known);
        assert_eq!(known, [(number(&second), 2)]);
    });
}

fn follow(following: &mut Following, reader: &TableReader<Arc<Table>>, known: &mut Vec<(u64, u64)>) {
    let followed = following.changes(reader, |change| match change {
        Change::Set { key, value, .. } => {
            assert_eq!(value[..8], value[8..], "half of one and half of another");
            known.retain(|(known, _)| *known != number(key));
            known.push((number(key), number(&value[..8])));
        }
        Change::Removed { key } => known.retain(|(known, _)| *known != number(key)),
    });
    assert!(matches!(followed, Ok(()) | Err(ReadFault::Busy)));
}
