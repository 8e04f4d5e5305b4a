//! The fears: a value that is half of one and half of another, a key that is missed or told wrongly; and a writer of a
//! board that writes what it likes. Readers go on, or say what is wrong; they never read elsewhere, panic, or go on for ever.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::layout::board::{BOARD_GROUP, CELL_THERE, SIGNALS_IN_LINE};
use crate::sync::door::Ordering;

fn signal(ids: u32) -> (Notifying<SignalMemory>, SignalMemory) {
    let shape = SignalShape::new(ids, 3).expect("it is a shape");
    let (memory, created) = SignalMemory::create(shape).expect("counters fit into memory");
    let theirs = SignalMemory::receive(&created.memory, shape).expect("it is sound");
    (Notifying::new(memory), theirs)
}

fn changes<W: SignalWords>(watching: &mut Watching<W>) -> Vec<(usize, u64)> {
    let mut all = Vec::new();
    watching.changes(|id, count| all.push((id, count))).expect("the notifier keeps the rules");
    all
}

#[test]
fn notifications_are_put_together_and_told_once() {
    for ids in [1, SIGNALS_IN_LINE as u32, SIGNALS_IN_LINE as u32 + 1, BOARD_GROUP as u32, 65, 1000] {
        let (mut notifying, memory) = signal(ids);
        notifying.notify(0, 7);
        let mut watching = Watching::new(memory);
        assert!(!watching.has_news(), "what came before is no news");
        let last = ids as usize - 1;
        notifying.notify(last, 1);
        notifying.notify(0, 2);
        notifying.notify(last, 3);
        assert!(watching.has_news());
        let expected = if last == 0 { vec![(0, 6)] } else { vec![(0, 2), (last, 4)] };
        assert_eq!(changes(&mut watching), expected, "{ids} ids");
        assert!(!watching.has_news() && changes(&mut watching).is_empty());
    }
}

#[test]
fn a_counter_that_comes_round_goes_on() {
    let (mut notifying, memory) = signal(2);
    let shape = SignalShape::new(2, 0).expect("it is a shape");
    let (own, _) = SignalMemory::create(shape).expect("counters fit into memory");
    own.counter(1).store(u64::MAX - 1, Ordering::Relaxed);
    own.whole().store(u64::MAX, Ordering::Relaxed);
    let mut watching = Watching::new(own.clone());
    Notifying::new(own).notify(1, 5);
    assert_eq!(changes(&mut watching), [(1, 5)]);
    notifying.notify(0, u32::MAX);
    assert_eq!(changes(&mut Watching::new(memory)), []);
}

#[test]
fn a_counter_that_falls_is_found_out() {
    let (own, _) = SignalMemory::create(SignalShape::new(3, 0).expect("it is a shape")).expect("memory");
    Notifying::new(own.clone()).notify(1, 5);
    let mut watching = Watching::new(own.clone());
    own.counter(1).store(4, Ordering::Relaxed);
    own.whole().store(6, Ordering::Release);
    let violation = watching.changes(|_, _| ()).expect_err("it fell");
    assert_eq!(violation, BoardViolation::Fell { what: "a counter", from: 5, to: 4 });
    own.whole().store(3, Ordering::Release);
    assert!(watching.changes(|_, _| ()).expect_err("it fell").to_string().contains("the board's word"));
}

fn table(cells: u32, key: u32, value: u32) -> (TableWriter<TableMemory>, TableReader<TableMemory>) {
    let shape = TableShape::new(cells, key, value, 5).expect("it is a shape");
    let (memory, created) = TableMemory::create(shape, 0).expect("a table fits into memory");
    let theirs = TableMemory::receive(&created.memory, shape).expect("it is sound");
    (TableWriter::new(memory), TableReader::new(theirs))
}

fn get(reader: &TableReader<TableMemory>, key: &[u8]) -> Option<(Vec<u8>, u64)> {
    let mut value = vec![0; reader.words.value_bytes()];
    let version = reader.get(key, &mut value).expect("nobody writes");
    version.map(|version| (value, version))
}

#[test]
fn values_are_set_replaced_and_removed() {
    let (mut writer, reader) = table(4, 5, 130);
    assert_eq!(get(&reader, b"depth"), None);
    for round in 1..6 {
        assert_eq!(writer.set(b"depth", &[round; 130]), Ok(u64::from(round)));
        assert_eq!(get(&reader, b"depth"), Some((vec![round; 130], u64::from(round))));
    }
    assert!(writer.remove(b"depth") && !writer.remove(b"depth"));
    assert_eq!((get(&reader, b"depth"), reader.version(), writer.len()), (None, 6, 0));
}

#[test]
fn a_full_table_says_so_and_has_room_again() {
    let (mut writer, reader) = table(3, 1, 1);
    for key in 0..3 {
        writer.set(&[key], &[key]).expect("there is room");
    }
    assert_eq!(writer.set(&[9], &[9]), Err(TableFull { capacity: 3 }));
    assert_eq!((writer.set(&[1], &[8]), writer.version()), (Ok(4), 4));
    assert!(writer.remove(&[0]));
    assert!(writer.set(&[9], &[9]).is_ok());
    let mut entries = Vec::new();
    reader.entries(|key, value, _| entries.push((key[0], value[0]))).expect("nobody writes");
    entries.sort_unstable();
    assert_eq!(entries, [(1, 8), (2, 2), (9, 9)]);
}

#[test]
fn keys_and_values_may_be_nothing() {
    let (mut writer, reader) = table(1, 0, 0);
    assert_eq!((writer.set(&[], &[]), get(&reader, &[])), (Ok(1), Some((vec![], 1))));
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8),
    Remove(u8),
    Follow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..40, any::<u8>()).prop_map(|(key, value)| Step::Set(key, value)),
        3 => (0u8..40).prop_map(Step::Remove),
        1 => Just(Step::Follow),
    ];
    proptest::collection::vec(step, 1..400)
}

/// What somebody knows who has been told everything.
fn follow(
    following: &mut Following,
    reader: &TableReader<TableMemory>,
    known: &mut HashMap<u8, u8>,
) -> Result<(), ReadFault> {
    following.changes(reader, |change| match change {
        Change::Set { key, value, .. } => drop(known.insert(key[0], value[0])),
        Change::Removed { key } => drop(known.remove(&key[0])),
    })
}

proptest! {
    #[test]
    fn a_table_is_a_map(steps in steps(), cells in prop_oneof![Just(5u32), Just(32), Just(130)]) {
        let (mut writer, reader) = table(cells, 1, 1);
        let (mut following, mut known) = (Following::new(&reader, HashSet::new()), HashMap::new());
        let mut map = HashMap::new();
        for step in steps {
            match step {
                Step::Set(key, value) => {
                    let has_room = map.len() < cells as usize || map.contains_key(&key);
                    prop_assert_eq!(writer.set(&[key], &[value]).is_ok(), has_room);
                    if has_room {
                        map.insert(key, value);
                    }
                }
                Step::Remove(key) => prop_assert_eq!(writer.remove(&[key]), map.remove(&key).is_some()),
                Step::Follow => {
                    follow(&mut following, &reader, &mut known).expect("nobody writes");
                    prop_assert_eq!(&known, &map);
                    prop_assert!(!following.has_news(&reader));
                }
            }
            prop_assert_eq!(writer.len(), map.len());
            for key in 0..40 {
                let value = get(&reader, &[key]).map(|(value, _)| value[0]);
                prop_assert_eq!(value, map.get(&key).copied());
            }
        }
        follow(&mut following, &reader, &mut known).expect("nobody writes");
        prop_assert_eq!(known, map);
    }
}

/// A key that has come to another cell before its first was looked at, and is removed there before that is.
#[test]
fn a_key_that_is_removed_on_its_way_is_told() {
    let (mut writer, reader) = table(3, 1, 1);
    writer.set(b"a", &[1]).expect("there is room");
    let (mut following, mut known) = (Following::new(&reader, HashSet::new()), HashMap::new());
    follow(&mut following, &reader, &mut known).expect("nobody writes");
    writer.remove(b"a");
    // In the cell that it leaves.
    writer.set(b"b", &[2]).expect("there is room");
    writer.set(b"a", &[3]).expect("there is room");
    let mut told = Vec::new();
    let outcome = following.changes(&reader, |change| match change {
        Change::Set { key, .. } => {
            writer.remove(b"a");
            told.push((key[0], true));
        }
        Change::Removed { key } => told.push((key[0], false)),
    });
    assert_eq!((outcome, told), (Ok(()), vec![(b'b', true), (b'a', false)]));
}

fn apply(step: &Step, writer: &mut TableWriter<TableMemory>, map: &mut HashMap<u8, u8>) {
    match *step {
        Step::Set(key, value) => {
            if writer.set(&[key % 8], &[value]).is_ok() {
                map.insert(key % 8, value);
            }
        }
        Step::Remove(key) => assert_eq!(writer.remove(&[key % 8]), map.remove(&(key % 8)).is_some()),
        Step::Follow => {}
    }
}

proptest! {
    #[test]
    fn what_is_told_while_the_table_changes_adds_up_to_it(
        before in steps(), meanwhile in proptest::collection::vec((0usize..4, steps()), 1..4),
        cells in prop_oneof![Just(3u32), Just(8), Just(130)],
    ) {
        let (mut writer, reader) = table(cells, 1, 1);
        let (mut following, mut known, mut map) = (Following::new(&reader, HashSet::new()), HashMap::new(), HashMap::new());
        before.iter().for_each(|step| apply(step, &mut writer, &mut map));
        for (each, steps) in meanwhile {
            let mut steps = steps.into_iter();
            let told = following.changes(&reader, |change| {
                match change {
                    Change::Set { key, value, .. } => drop(known.insert(key[0], value[0])),
                    Change::Removed { key } => drop(known.remove(&key[0])),
                }
                steps.by_ref().take(each).for_each(|step| apply(&step, &mut writer, &mut map));
            });
            prop_assert_eq!(told, Ok(()));
        }
        follow(&mut following, &reader, &mut known).expect("nobody writes");
        prop_assert_eq!(known, map);
    }
}

/// The value of a key at a round: every word of it tells both.
fn value_of(key: u64, round: u64) -> [u8; 200] {
    let mut value = [0; 200];
    value.chunks_mut(8).for_each(|word| word.copy_from_slice(&(key << 32 | round).to_le_bytes()));
    value
}

/// The round of a value, which must be whole and of this key.
fn round_of(key: u64, value: &[u8]) -> u64 {
    let first = u64::from_le_bytes(value[..8].try_into().expect("there are eight"));
    assert!(value.chunks(8).all(|word| word == first.to_le_bytes()), "half of one and half of another");
    assert_eq!(first >> 32, key, "the value of another key");
    first & u64::from(u32::MAX)
}

/// Keys that are always there, and others that come and go around them; what readers find under the writer is whole, not
/// older than what they have found before, and never missing.
#[test]
fn readers_under_a_writer_find_what_is_there_whole() {
    let (mut writer, reader) = table(12, 8, 200);
    let (is_over, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    for key in 0..6u64 {
        writer.set(&key.to_le_bytes(), &value_of(key, 0)).expect("there is room");
    }
    let reading: Vec<_> = (0..2)
        .map(|_| {
            let (reader, is_over, begun) = (reader.clone(), Arc::clone(&is_over), Arc::clone(&begun));
            std::thread::spawn(move || read_under_a_writer(&reader, &is_over, &begun))
        })
        .collect();
    let following = {
        let (reader, is_over) = (reader.clone(), Arc::clone(&is_over));
        std::thread::spawn(move || follow_a_writer(&reader, &is_over))
    };
    let end = Instant::now() + Duration::from_secs(60);
    // However late the readers begin.
    let is_enough = |round| round >= 30_000 && begun.load(Ordering::Relaxed) == reading.len();
    for round in (1..u64::from(u32::MAX)).take_while(|round| !is_enough(*round) && Instant::now() < end) {
        for key in [round % 6, round % 6 + 6] {
            writer.set(&key.to_le_bytes(), &value_of(key, round)).expect("there is room");
        }
        writer.remove(&((round * 7) % 6 + 6).to_le_bytes());
    }
    is_over.store(true, Ordering::Release);
    for reading in reading {
        assert!(reading.join().expect("it found nothing wrong") > 0);
    }
    let known = following.join().expect("it found nothing wrong");
    let mut entries = HashMap::new();
    let tell = |key: &[u8], value: &[u8], _| {
        let key = u64::from_le_bytes(key.try_into().expect("there are eight"));
        entries.insert(key, round_of(key, value));
    };
    reader.entries(tell).expect("nobody writes");
    assert_eq!(known, entries);
}

/// Counts itself among those that have `begun` with the first value that it finds. How many it has found.
fn read_under_a_writer(reader: &TableReader<TableMemory>, is_over: &AtomicBool, begun: &AtomicUsize) -> u64 {
    let (mut last, mut found) = ([0; 12], 0);
    while !is_over.load(Ordering::Acquire) {
        for key in 0..12u64 {
            let mut value = [0; 200];
            match reader.get(&key.to_le_bytes(), &mut value) {
                Ok(Some(_)) => {
                    let round = round_of(key, &value);
                    assert!(round >= last[key as usize], "older than before");
                    last[key as usize] = round;
                    begun.fetch_add(usize::from(found == 0), Ordering::Relaxed);
                    found += 1;
                }
                Ok(None) => assert!(key >= 6, "key {key} is always there"),
                Err(ReadFault::Busy) => {}
                Err(ReadFault::Violation(violation)) => panic!("{violation}"),
            }
        }
    }
    found
}

fn follow_a_writer(reader: &TableReader<TableMemory>, is_over: &AtomicBool) -> HashMap<u64, u64> {
    let (mut following, mut known) = (Following::new(reader, HashSet::new()), HashMap::new());
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        let followed = following.changes(reader, |change| match change {
            Change::Set { key, value, .. } => {
                let key = u64::from_le_bytes(key.try_into().expect("there are eight"));
                known.insert(key, round_of(key, value));
            }
            Change::Removed { key } => {
                let key = u64::from_le_bytes(key.try_into().expect("there are eight"));
                assert!(key >= 6, "key {key} is always there");
                known.remove(&key);
            }
        });
        match followed {
            Ok(()) if was_over => return known,
            Ok(()) | Err(ReadFault::Busy) => {}
            Err(ReadFault::Violation(violation)) => panic!("{violation}"),
        }
    }
}

/// Any number, or one that comes close to being right.
fn number(right: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    prop_oneof![4 => right, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

proptest! {
    #[test]
    fn garbled_counters_are_read_without_harm(
        ids in prop_oneof![Just(1u32), Just(15), Just(64), Just(130)],
        rounds in proptest::collection::vec((number(0..9), number(0..9), number(0..9), any::<u16>()), 1..30),
    ) {
        let (own, _) = SignalMemory::create(SignalShape::new(ids, 1).expect("a shape")).expect("memory");
        let mut watching = Watching::new(own.clone());
        for (whole, group, counter, place) in rounds {
            own.counter(place as usize % ids as usize).store(counter, Ordering::Relaxed);
            if ids as usize > BOARD_GROUP {
                own.group(place as usize % ids as usize / BOARD_GROUP).store(group, Ordering::Relaxed);
            }
            own.whole().store(whole, Ordering::Relaxed);
            let mut told = 0;
            // Whether it is found out or not: each id is told once at most.
            let _ = watching.changes(|id, count| {
                assert!(id < ids as usize && count > 0);
                told += 1;
            });
            prop_assert!(told <= ids);
        }
    }

    #[test]
    fn a_garbled_table_is_read_without_harm(
        cells in prop_oneof![Just(1u32), Just(7), Just(70)],
        slots in proptest::collection::vec((any::<u16>(), number(0..80), any::<bool>()), 0..200),
        words in proptest::collection::vec((any::<u16>(), number(0..40)), 0..100),
        (whole, group, moved) in (any::<u64>(), any::<u64>(), any::<u64>()),
    ) {
        let shape = TableShape::new(cells, 3, 21, 0).expect("it is a shape");
        let (own, _) = TableMemory::create(shape, 0).expect("a table fits into memory");
        let reader = TableReader::new(own.clone());
        let mut following = Following::new(&reader, HashSet::new());
        for turn in 0..2 {
            for (place, cell, is_full) in &slots {
                // With the tag of a key that is asked for.
                let tag = u64::from(table::tag_of(&[*place as u8 % 8; 3])) << 32;
                let range = if *is_full { 0..own.slots() } else { *place as usize..*place as usize + 1 };
                range.for_each(|slot| own.slot(slot % own.slots()).store(tag | cell, Ordering::Relaxed));
            }
            for (place, word) in &words {
                own.cell(*place as usize % cells as usize).store(word ^ (turn * CELL_THERE), Ordering::Relaxed);
            }
            (0..summary::groups(cells as usize)).for_each(|index| own.group(index).store(group, Ordering::Relaxed));
            own.whole().store(whole.wrapping_add(turn), Ordering::Relaxed);
            own.moved().store(moved, Ordering::Relaxed);
            let (mut told, mut value) = (0, [0; 21]);
            for key in 0..8 {
                let _ = reader.get(&[key; 3], &mut value);
            }
            let _ = reader.entries(|key, value, _| {
                assert!(key.len() == 3 && value.len() == 21);
                told += 1;
            });
            prop_assert!(told <= cells);
            let mut told = 0;
            let _ = following.changes(&reader, |_| told += 1);
            prop_assert!(told <= 2 * cells);
        }
    }
}

/// A writer that changes a cell whenever somebody looks is not waited for for ever.
#[test]
fn a_reader_gives_up_on_an_entry_that_always_changes() {
    let (mut writer, reader) = table(1, 1, 8);
    writer.set(&[1], &[1; 8]).expect("there is room");
    let own = reader.clone();
    let hasty = Hasty { memory: own.words, writer: std::cell::RefCell::new(writer) };
    let reader = TableReader::new(&hasty);
    assert_eq!(reader.get(&[1], &mut [0; 8]), Err(ReadFault::Busy));
    assert_eq!(Following::new(&reader, HashSet::new()).changes(&reader, |_| ()), Err(ReadFault::Busy));
}

/// A table whose writer sets a value each time that one is copied.
struct Hasty {
    memory: TableMemory,
    writer: std::cell::RefCell<TableWriter<TableMemory>>,
}

impl BoardWords for &Hasty {
    fn whole(&self) -> &AtomicU64 {
        self.memory.whole()
    }
    fn group(&self, index: usize) -> &AtomicU64 {
        self.memory.group(index)
    }
    fn members(&self) -> usize {
        self.memory.members()
    }
}

impl TableWords for &Hasty {
    fn cell(&self, cell: usize) -> &AtomicU64 {
        self.memory.cell(cell)
    }
    fn moved(&self) -> &AtomicU64 {
        self.memory.moved()
    }
    fn slot(&self, slot: usize) -> &AtomicU64 {
        self.memory.slot(slot)
    }
    fn slots(&self) -> usize {
        self.memory.slots()
    }
    fn key_bytes(&self) -> usize {
        self.memory.key_bytes()
    }
    fn value_bytes(&self) -> usize {
        self.memory.value_bytes()
    }
    fn has_key(&self, cell: usize, key: &[u8]) -> bool {
        self.memory.has_key(cell, key)
    }
    fn copy_key(&self, cell: usize, to: &mut [u8]) {
        self.memory.copy_key(cell, to);
    }
    fn copy_value(&self, cell: usize, buffer: usize, to: &mut [u8]) {
        self.memory.copy_value(cell, buffer, to);
        self.writer.borrow_mut().set(&[1], &[2; 8]).expect("it is there already");
    }
    fn put_key(&self, _: usize, _: &[u8]) {
        panic!("readers write nothing");
    }
    fn put_value(&self, _: usize, _: usize, _: &[u8]) {
        panic!("readers write nothing");
    }
}
