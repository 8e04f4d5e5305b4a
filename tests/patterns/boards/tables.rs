//! The fear: a reader of a table gets half of one value and half of another, a value of another key, an older one than it had,
//! or nothing where there is something; or the table does not outlive its writer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidepost::zerocopy::FromZeros;
use tidepost::{
    Event, Node, ReceiveError, TableChange, TableError, TableReadError, TableReader, TableWriteError,
    TableWriter, WaitError,
};

use crate::stage::{Domain, PATIENCE, PAUSE, start, turned_down, until};

type Reader = TableReader<u64, [u64; 3]>;
type Writer = TableWriter<u64, [u64; 3]>;

fn writer(node: &Node) -> Writer {
    node.table("t").capacity(100).writer().expect("nobody else is its writer")
}

fn reader(node: &Node) -> Reader {
    node.table("t").reader().expect("the types agree")
}

/// Waits until a writer and so many readers have let each other in.
fn connect(writer: &Writer, readers: &[&Reader]) {
    until("they let each other in", || {
        writer.readers() == readers.len() && readers.iter().all(|reader| reader.has_writer())
    });
}

/// All entries, by key.
fn all(reader: &mut Reader) -> Vec<(u64, u64)> {
    let entries = reader.entries().expect("reading succeeds");
    let mut all: Vec<_> = entries.iter().map(|entry| (entry.key, entry.value[0])).collect();
    all.sort_unstable();
    all
}

/// Applies what has changed.
fn follow(reader: &mut Reader, known: &mut HashMap<u64, u64>) -> usize {
    let changes = reader.changes().expect("reading succeeds");
    for change in &changes {
        match change {
            TableChange::Set(entry) => drop(known.insert(entry.key, entry.value[0])),
            TableChange::Removed(key) => drop(known.remove(key)),
            other => panic!("what is {other:?}?"),
        }
    }
    changes.len()
}

fn sorted(known: &HashMap<u64, u64>) -> Vec<(u64, u64)> {
    let mut all: Vec<_> = known.iter().map(|(key, value)| (*key, *value)).collect();
    all.sort_unstable();
    all
}

#[test]
fn entries_are_set_replaced_and_removed() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let (mut writer, mut far, mut near) = (writer(&here), reader(&there), reader(&here));
    connect(&writer, &[&far, &near]);
    assert_eq!((writer.len(), writer.is_empty()), (0, true));
    for reader in [&mut far, &mut near] {
        assert_eq!((reader.get(&7), reader.version(), reader.is_orphaned()), (Ok(None), Ok(0), false));
    }
    for round in 1..5 {
        writer.set(&7, &[round; 3]).expect("there is room");
        writer.set(&(round + 10), &[round; 3]).expect("there is room");
        for reader in [&mut far, &mut near] {
            assert_eq!(reader.get(&7), Ok(Some([round; 3])));
            assert_eq!(reader.get(&(round + 10)), Ok(Some([round; 3])));
            assert_eq!(reader.version(), Ok(writer.version()));
            let mut value = [0; 3];
            assert_eq!(reader.get_into(&7, &mut value), Ok(Some(writer.version() - 1)));
        }
    }
    assert_eq!(all(&mut far), [(7, 4), (11, 1), (12, 2), (13, 3), (14, 4)]);
    assert_eq!((writer.remove(&12), writer.remove(&12), writer.len()), (Ok(true), Ok(false), 4));
    for reader in [&mut far, &mut near] {
        assert_eq!((reader.get(&12), reader.get(&13)), (Ok(None), Ok(Some([3; 3]))));
        assert_eq!(all(reader), [(7, 4), (11, 1), (13, 3), (14, 4)]);
    }
}

#[test]
fn a_full_table_says_how_many_there_are_and_what_to_do() {
    let domain = Domain::new();
    let node = domain.node("all");
    let mut writer = node.table::<u64, u64>("t").capacity(3).writer().expect("the table is ours");
    (0..3).for_each(|key| writer.set(&key, &1).expect("there is room"));
    let error = writer.set(&3, &1).expect_err("it is full");
    assert_eq!(error, TableWriteError::Full { table: "t".into(), capacity: 3 });
    assert!(error.to_string().contains("raise `capacity`"), "{error}");
    writer.set(&2, &5).expect("it is there already");
    writer.remove(&0).expect("it is there");
    writer.set(&3, &1).expect("there is room again");
    assert_eq!((writer.len(), writer.capacity()), (3, 3));
}

#[test]
fn options_and_sizes_out_of_range_are_errors() {
    let domain = Domain::new();
    let node = domain.node("all");
    for capacity in [0, (1 << 20) + 1] {
        let error =
            node.table::<u64, u64>("t").capacity(capacity).writer().expect_err("there are not as many");
        assert!(matches!(error, TableError::Option { option: "capacity", .. }), "{error}");
    }
    let error = node.table::<[u64; 129], u64>("t").reader().expect_err("the key is too long");
    assert!(error.to_string().contains("the size of a key is 1032, and must be in 0..=1024"), "{error}");
    let error = node.table::<u64, [u64; (1 << 17) + 1]>("t").writer().expect_err("the value is too long");
    assert!(matches!(error, TableError::Option { option: "the size of a value", .. }), "{error}");
    assert!(matches!(node.table::<u64, u64>("").reader(), Err(TableError::Name(_))));
}

/// A megabyte, which no stack has to hold.
type Large = [u64; 1 << 17];

#[test]
fn keys_and_values_may_be_large() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut writer =
        here.table::<[u64; 128], Large>("t").capacity(2).writer().expect("the sizes are allowed");
    let mut reader = there.table::<[u64; 128], Large>("t").reader().expect("the types agree");
    let mut value = Large::new_box_zeroed().expect("there is memory");
    until("it is let in", || reader.has_writer());
    for round in 1..4 {
        value.fill(round);
        writer.set(&[round; 128], &value).expect("there is room");
        writer.remove(&[round; 128]).expect("it is there");
        writer.set(&[round; 128], &value).expect("there is room");
        value.fill(0);
        assert!(reader.get_into(&[round; 128], &mut value).expect("reading succeeds").is_some());
        assert!(value.iter().all(|word| *word == round));
        let mut told = Vec::new();
        let tell = |key: &[u64; 128], value: &Large, _| told.push((key[127], value[1], value[131_071]));
        reader.for_each(tell).expect("reading succeeds");
        assert_eq!(told, [(round, round, round)]);
        writer.remove(&[round; 128]).expect("it is there");
    }
}

#[test]
fn other_types_are_refused_and_named_on_both_ends() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut writer = writer(&here);
    let error = turned_down(|| there.table::<u64, [u64; 4]>("t").reader());
    let TableError::TypeMismatch { refused, .. } = &error else { panic!("another error: {error}") };
    assert_eq!(refused.difference.clone().expect("it is told").what, "field `value`");
    let error = turned_down(|| there.table::<u32, [u64; 3]>("t").reader()).to_string();
    assert!(error.contains("field `key` differs: ours key: u32 at 0 of 4 B, theirs key: u64"), "{error}");
    until("the writer is told", || writer.refusals().len() >= 2);
    let error = writer.wait_for_readers(1, Duration::ZERO).expect_err("they were turned down");
    assert!(matches!(error, WaitError::Timeout { connected: 0, wanted: 1, .. }));
    assert!(error.to_string().contains("theirs value: [u64; 4]"), "{error}");
}

#[test]
fn there_is_one_writer_at_a_time() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let first = writer(&here);
    for node in [&here, &there] {
        let error = node.table::<u64, [u64; 3]>("t").writer().expect_err("there is one");
        let by = Some(format!("node `here` (process {})", std::process::id()));
        assert_eq!(error, TableError::Claimed { table: "t".into(), by });
    }
    let waiting = {
        let there = there.clone();
        start(move || {
            there.table::<u64, [u64; 3]>("t").writer_timeout(PATIENCE).map(|writer| writer.version())
        })
    };
    std::thread::sleep(PAUSE);
    let version = first.version();
    drop(first);
    assert!(waiting.finish().expect("it has gone") >= version);
}

#[test]
fn entries_outlive_their_writer_for_readers_that_come_later() {
    let domain = Domain::new();
    let nodes = ["first", "second", "third"].map(|name| domain.node(name));
    let writing = domain.node("writer");
    let mut writer = writer(&writing);
    let mut first = reader(&nodes[0]);
    connect(&writer, &[&first]);
    (0..50).for_each(|key| writer.set(&key, &[key * 3; 3]).expect("there is room"));
    writer.remove(&9).expect("it is there");
    let version = writer.version();
    drop((writer, writing));
    until("it has left", || first.is_orphaned());
    let expected: Vec<_> = (0..50).filter(|key| *key != 9).map(|key| (key, key * 3)).collect();
    assert_eq!((all(&mut first), first.get(&9), first.version()), (expected.clone(), Ok(None), Ok(version)));
    // Passed on, and passed on again by who got it so.
    let mut second = reader(&nodes[1]);
    let mut beside = reader(&nodes[0]);
    for reader in [&mut second, &mut beside] {
        until("it is passed on", || reader.is_orphaned());
        assert!(!reader.has_writer() && reader.refusals().is_empty());
        assert_eq!((all(reader), reader.version()), (expected.clone(), Ok(version)));
    }
    drop((first, beside));
    let [first_node, _, third_node] = nodes;
    drop(first_node);
    let mut third = reader(&third_node);
    until("it is passed on", || third.is_orphaned());
    assert_eq!(all(&mut third), expected);
    drop(second);
    assert_eq!(all(&mut third), expected, "what has been mapped stays");
    assert_eq!(third.try_event(), None, "who passes on is nobody's writer");
}

#[test]
fn a_table_that_nobody_knows_any_more_is_empty() {
    let domain = Domain::new();
    let node = domain.node("all");
    let mut writer = writer(&node);
    writer.set(&1, &[1; 3]).expect("there is room");
    drop(writer);
    let mut reader = reader(&node);
    assert_eq!((all(&mut reader), reader.version(), reader.is_orphaned()), (vec![], Ok(0), false));
}

#[test]
fn readers_go_on_with_what_was_left_until_the_next_writer_has_written() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut first = writer(&here);
    let mut reader = reader(&there);
    connect(&first, &[&reader]);
    first.set(&1, &[10; 3]).expect("there is room");
    first.set(&2, &[20; 3]).expect("there is room");
    let mut known = HashMap::new();
    assert_eq!(follow(&mut reader, &mut known), 2);
    drop(first);
    until("it has left", || reader.is_orphaned());
    assert_eq!(follow(&mut reader, &mut known), 0);
    let left = reader.version().expect("reading succeeds");
    let mut second = writer(&here);
    second.wait_for_readers(1, PATIENCE).expect("it comes");
    until("it is connected", || reader.has_writer());
    assert!(second.version() >= left && !reader.is_orphaned());
    assert_eq!((all(&mut reader), reader.version()), (vec![(1, 10), (2, 20)], Ok(left)));
    // Who comes now gets what was left, too.
    let mut late = there.table::<u64, [u64; 3]>("t").reader().expect("the types agree");
    until("it is passed on", || all(&mut late) == [(1, 10), (2, 20)]);
    second.wait_for_readers(2, PATIENCE).expect("both come");
    until("it is connected", || late.has_writer());
    second.set(&2, &[21; 3]).expect("there is room");
    second.set(&3, &[31; 3]).expect("there is room");
    for reader in [&mut reader, &mut late] {
        assert_eq!(all(reader), [(2, 21), (3, 31)]);
        assert_eq!(reader.version(), Ok(second.version()));
    }
    assert!(second.version() > left, "versions never fall");
    follow(&mut reader, &mut known);
    assert_eq!(sorted(&known), [(2, 21), (3, 31)]);
    drop(second);
    until("it has left", || reader.is_orphaned());
    assert_eq!(all(&mut reader), [(2, 21), (3, 31)]);
}

#[test]
fn what_has_changed_adds_up_to_the_table() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let (mut writer, mut reader) = (writer(&here), reader(&there));
    connect(&writer, &[&reader]);
    let mut known = HashMap::new();
    assert_eq!(follow(&mut reader, &mut known), 0);
    for round in 0..2000u64 {
        let key = round * 7919 % 130;
        match round * 31 % 5 {
            0 | 1 => drop(writer.remove(&key).expect("it is open")),
            _ if writer.len() < 100 => writer.set(&key, &[round; 3]).expect("there is room"),
            _ => {}
        }
        if round % 13 == 0 {
            follow(&mut reader, &mut known);
            assert_eq!(sorted(&known), all(&mut reader), "round {round}");
            assert_eq!(follow(&mut reader, &mut known), 0, "everything has been told");
        }
    }
}

#[test]
fn a_reader_is_woken_by_each_write() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let (mut writer, mut reader) = (writer(&here), reader(&there));
    assert_eq!((reader.try_changed(), reader.changed(Duration::from_millis(1))), (Ok(false), Ok(false)));
    let writing = start(move || {
        for round in 1..=300u64 {
            std::thread::sleep(PAUSE);
            writer.set(&(round % 3), &[round; 3]).expect("there is room");
        }
        writer
    });
    let mut last = 0;
    while last < 300 {
        assert_eq!(reader.changed(PATIENCE), Ok(true), "after {last}");
        last = all(&mut reader).iter().map(|(_, round)| *round).max().expect("something was set");
    }
    drop(writing.finish());
}

#[test]
fn a_descriptor_and_a_future_tell_of_writes() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node_without_thread("there"));
    let mut writer = writer(&here);
    let mut reader = reader(&there);
    let is_readable = |reader: &Reader, timeout: Duration| {
        let timeout = Timespec::try_from(timeout).expect("it is short");
        let descriptor = reader.as_fd().expect("descriptors are left");
        let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        poll(&mut descriptors, Some(&timeout)).expect("nothing interrupts") == 1
    };
    let settle = |reader: &mut Reader| {
        until("nothing is readable", || {
            there.dispatch().expect("the node can be served");
            while !reader.changes().expect("reading succeeds").is_empty() {}
            !is_readable(reader, Duration::ZERO)
        });
    };
    until("they let each other in", || {
        there.dispatch().expect("the node can be served");
        writer.readers() == 1 && reader.has_writer()
    });
    settle(&mut reader);
    // Until its node has heard of the descriptor, a writer rings the reader's node, which passes that on when it is served.
    until("the writer knows the descriptor", || {
        writer.set(&1, &[0; 3]).expect("there is room");
        let is_known = is_readable(&reader, PAUSE);
        settle(&mut reader);
        is_known
    });
    for round in 1..100 {
        writer.set(&1, &[round; 3]).expect("there is room");
        assert!(is_readable(&reader, PATIENCE), "nobody made it readable");
        assert_eq!(reader.get(&1), Ok(Some([round; 3])));
        settle(&mut reader);
    }
    let mut reader = self::reader(&here);
    assert_eq!(reader.try_changed(), Ok(true));
    let writing = start(move || {
        std::thread::sleep(PAUSE);
        writer.remove(&1).expect("it is there");
        writer
    });
    futures_lite::future::block_on(reader.changed_async()).expect("it changes");
    assert_eq!(all(&mut reader), []);
    drop(writing.finish());
}

/// The value of a key at a round: every word tells both.
fn long(key: u64, round: u64) -> [u64; 200] {
    [key << 40 | round; 200]
}

#[test]
fn what_is_read_under_a_busy_writer_is_whole_and_never_older() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut writer = here.table::<u64, [u64; 200]>("t").capacity(80).writer().expect("the table is ours");
    // These are always there; those from 70 on come and go.
    (0..70).for_each(|key| writer.set(&key, &long(key, 0)).expect("there is room"));
    let (is_over, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reading: Vec<_> = [&here, &there]
        .map(|node| {
            let mut reader = node.table("t").reader().expect("the types agree");
            until("it is let in", || reader.has_writer());
            let (is_over, begun) = (Arc::clone(&is_over), Arc::clone(&begun));
            start(move || read_under_a_writer(&mut reader, &is_over, &begun))
        })
        .into();
    let end = Instant::now() + PATIENCE;
    // However late the readers begin.
    let is_enough = |round| round >= 20_000 && begun.load(Ordering::Relaxed) == reading.len();
    for round in (1..1 << 40_u64).take_while(|round| !is_enough(*round) && Instant::now() < end) {
        let key = round % 3;
        writer.set(&key, &long(key, round)).expect("there is room");
        let guest = 70 + round % 10;
        writer.set(&guest, &long(guest, round)).expect("there is room");
        writer.remove(&(70 + round * 7 % 10)).expect("it is open");
    }
    is_over.store(true, Ordering::Release);
    for reading in reading {
        assert!(reading.finish() > 0, "it found something");
    }
}

/// Counts itself among those that have `begun` with the first value that it finds. How many it has found.
fn read_under_a_writer(
    reader: &mut TableReader<u64, [u64; 200]>,
    is_over: &AtomicBool,
    begun: &AtomicUsize,
) -> u64 {
    let (mut last, mut found) = ([0; 80], 0);
    let mut check = |key: u64, value: &[u64; 200]| {
        assert!(value.iter().all(|word| *word == value[0]), "half of one and half of another");
        assert_eq!(value[0] >> 40, key, "the value of another key");
        let round = value[0] & ((1 << 40) - 1);
        assert!(round >= std::mem::replace(&mut last[key as usize], round), "older than before");
    };
    while !is_over.load(Ordering::Acquire) {
        for key in [0, 1, 2, 40, 69, 70, 75] {
            match reader.get(&key) {
                Ok(Some(value)) => {
                    check(key, &value);
                    begun.fetch_add(usize::from(found == 0), Ordering::Relaxed);
                    found += 1;
                }
                Ok(None) => assert!(key >= 70, "key {key} is always there"),
                Err(TableReadError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if let Ok(entries) = reader.entries() {
            assert!(entries.iter().filter(|entry| entry.key < 70).count() == 70, "one is missing, or twice");
        }
    }
    found
}

#[test]
fn who_comes_and_goes_is_an_event_and_is_listed() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut reader = reader(&there);
    let mut writer = writer(&here);
    assert!(matches!(writer.event_timeout(PATIENCE), Ok(Some(Event::Joined(_)))));
    assert!(matches!(reader.event_timeout(PATIENCE), Ok(Some(Event::Joined(_)))));
    writer.set(&1, &[1; 3]).expect("there is room");
    let reports = there.inspect(PATIENCE).expect("all answer");
    let report = |name: &str| reports.iter().find(|report| &*report.name == name).expect("it is listed");
    let outlet = &report("here").publishers[0];
    assert_eq!((outlet.pattern.name(), outlet.name.as_str(), outlet.sent), ("table", "t", 1));
    assert_eq!(outlet.readers[0].id, reader.id());
    assert_eq!(report("there").subscribers[0].pattern.name(), "table");
    drop(reader);
    assert!(matches!(writer.event_timeout(PATIENCE), Ok(Some(Event::Left(_)))));
    let mut reader = self::reader(&there);
    assert!(matches!(reader.event_timeout(PATIENCE), Ok(Some(Event::Joined(_)))));
    drop(writer);
    assert!(matches!(reader.event_timeout(PATIENCE), Ok(Some(Event::Left(_)))));
}

#[test]
fn a_cancelled_or_shut_down_end_says_so_and_can_still_be_read() {
    let domain = Domain::new();
    for by_node in [false, true] {
        let (here, there) = (domain.node("here"), domain.node("there"));
        let (mut writer, mut reader) = (writer(&here), reader(&there));
        connect(&writer, &[&reader]);
        writer.set(&1, &[1; 3]).expect("there is room");
        if by_node {
            here.shutdown()
        } else {
            writer.handle().cancel()
        }
        if by_node {
            there.shutdown()
        } else {
            reader.handle().cancel()
        }
        let closed = TableWriteError::Closed { table: "t".into() };
        assert_eq!(writer.set(&1, &[2; 3]).expect_err("it is closed"), closed);
        assert_eq!(writer.remove(&1).expect_err("it is closed"), closed);
        assert_eq!((reader.changed(PATIENCE), reader.get(&1)), (Ok(true), Ok(Some([1; 3]))));
        assert!(matches!(reader.changed(PATIENCE), Err(ReceiveError::Closed { .. })));
        assert!(matches!(writer.wait_for_readers(2, PATIENCE), Err(WaitError::Closed { .. })));
    }
}
