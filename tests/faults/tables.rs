//! The fear: a writer that is stopped or killed in the middle of a write leaves half a value, loses an entry, or has its
//! readers wait; or what it leaves is not passed on.

use std::time::{Duration, Instant};

use tidepost::{
    EndpointError, Node, Notifier, NotifyError, ReceiveError, TableChange, TableError, TableReadError,
    TableReader, TableWriteError, TableWriter, Waiter,
};

use crate::kills::{descriptors, mappings, settles};
use crate::parts::{say, wait};
use crate::ptrace::Stepped;
use crate::seccomp::strictly;
use crate::stage::{PATIENCE, Stage};

/// Entries that are always there; as many come and go.
const RESIDENTS: u64 = 40;
/// The key that ends it.
const END: u64 = 999;
/// Writers that are killed.
const KILLS: usize = 25;
/// Writes before and under strict mode.
const WARM: u64 = 30_000;
/// Entries of the table that is written step by step.
const STEPPED: u64 = 24;
/// More instructions than any write has.
const STEPS_MAX: u64 = 1_000_000;

/// Every word of a value tells key and round.
type Value = [u64; 100];

fn value(key: u64, round: u64) -> Value {
    [key << 40 | round; 100]
}

/// The round of a key's value, which is whole.
fn round_of(key: u64, value: &Value) -> u64 {
    assert!(value.iter().all(|word| *word == value[0]), "half of one and half of another");
    assert_eq!(value[0] >> 40, key, "the value of another key");
    value[0] & ((1 << 40) - 1)
}

fn writer(node: &Node) -> TableWriter<u64, Value> {
    node.table("t").capacity(100).writer_timeout(PATIENCE).expect("the one before goes")
}

fn reader(node: &Node) -> TableReader<u64, Value> {
    node.table("t").reader().expect("the types agree")
}

/// Writes for ever, each round higher than all those before, of earlier writers too.
pub fn write_for_ever(node: &Node, first_round: u64) {
    let mut writer = writer(node);
    let set = |writer: &mut TableWriter<u64, Value>, key, round| {
        writer.set(&key, &value(key, round)).expect("there is room");
    };
    (0..RESIDENTS).rev().for_each(|key| set(&mut writer, key, first_round));
    say("writing");
    for round in first_round + 1.. {
        set(&mut writer, round % 3, round);
        set(&mut writer, round % RESIDENTS, round);
        set(&mut writer, RESIDENTS + round * 7 % RESIDENTS, round);
        writer.remove(&(RESIDENTS + round * 11 % RESIDENTS)).expect("it is open");
    }
}

/// How much it takes to have been in the middle of many writes, while somebody writes.
const BUSY_VALUES: u64 = 1000;

/// Reads until the end is there, and says when it has found a good deal.
pub fn check(node: &Node) {
    let mut reader = reader(node);
    say("reading");
    let (mut last, mut found) = ([0; 2 * RESIDENTS as usize], 0);
    while found < BUSY_VALUES || reader.get(&END).expect("nobody writes this one all the time").is_none() {
        for key in [0, 1, 2, 17, RESIDENTS - 1, RESIDENTS, RESIDENTS + 13] {
            match reader.get(&key) {
                Ok(Some(value)) => {
                    let round = round_of(key, &value);
                    assert!(round >= last[key as usize], "key {key} went back");
                    last[key as usize] = round;
                    found += 1;
                    if found == BUSY_VALUES {
                        say("busy");
                    }
                }
                Ok(None) | Err(TableReadError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    say("intact");
    wait();
}

/// What a dead writer has left is whole; the newest round.
fn check_left(reader: &mut TableReader<u64, Value>) -> u64 {
    let entries = reader.entries().expect("nobody writes");
    let residents = || entries.iter().filter(|entry| entry.key < RESIDENTS);
    assert_eq!(residents().count() as u64, RESIDENTS, "all of them are there, once");
    assert!(entries.len() as u64 <= 2 * RESIDENTS);
    for entry in &entries {
        assert!(
            reader.get(&entry.key) == Ok(Some(entry.value)),
            "key {} is listed, and not found",
            entry.key
        );
    }
    let rounds = entries.iter().map(|entry| round_of(entry.key, &entry.value));
    let newest = rounds.max().expect("there are some");
    // Of those that are written in turn, none is older than a whole turn, or the first round.
    let oldest = residents().map(|entry| round_of(entry.key, &entry.value)).min();
    assert!(oldest.expect("there are some") + RESIDENTS >= newest || newest < 2 * RESIDENTS);
    newest
}

#[test]
fn what_killed_writers_leave_is_whole_and_goes_on() {
    let stage = Stage::new();
    let node = stage.node();
    let mut reader = reader(&node);
    let mut checkers = [stage.start("table-checker", ""), stage.start("table-checker", "")];
    checkers.iter_mut().for_each(|checker| checker.expect("reading"));
    let (mut round, mut version) = (1, 0);
    for kill in 0..KILLS {
        let mut writing = stage.start("table-writer", &round.to_string());
        writing.expect("writing");
        if kill == 0 {
            // Under the writer, which goes on until it is killed.
            checkers.iter_mut().for_each(|checker| checker.expect("busy"));
        }
        std::thread::sleep(Duration::from_micros(300 * (kill as u64 % 7)));
        writing.kill();
        let start = Instant::now();
        // It may not have been noticed yet that it was there.
        while reader.has_writer() || reader.version().expect("reading succeeds") <= version {
            assert!(start.elapsed() < PATIENCE, "its end is not noticed");
            std::thread::yield_now();
        }
        assert!(reader.is_orphaned());
        version = reader.version().expect("reading succeeds");
        round = check_left(&mut reader) + 1 + RESIDENTS;
    }
    let mut writer = writer(&node);
    (0..RESIDENTS).for_each(|key| writer.set(&key, &value(key, round)).expect("there is room"));
    writer.set(&END, &value(END, 0)).expect("there is room");
    checkers.iter_mut().for_each(|checker| checker.expect("intact"));
    assert_eq!(node.violations(), (0, None));
}

#[test]
fn what_a_killed_writer_leaves_is_passed_on_from_process_to_process() {
    let stage = Stage::new();
    let mut first = stage.start("table-keeper", "");
    first.expect("listening");
    let mut writing = stage.start("table-writer", "1");
    writing.expect("writing");
    first.expect("something is there");
    writing.kill();
    first.expect("complete");
    let mut second = stage.start("table-keeper", "");
    ["listening", "something is there", "complete"].into_iter().for_each(|line| second.expect(line));
    first.kill();
    let node = stage.node();
    let mut third = reader(&node);
    assert_eq!(third.changed(PATIENCE), Ok(true));
    assert!(third.is_orphaned());
    check_left(&mut third);
    second.kill();
    check_left(&mut third);
}

/// Waits until something is there, and until it is a dead writer's, then keeps it.
pub fn keep(node: &Node) {
    let mut reader = reader(node);
    say("listening");
    while !matches!(reader.get(&0), Ok(Some(_))) {
        reader.changed(PATIENCE).expect("nobody cancels");
    }
    say("something is there");
    let start = Instant::now();
    while !reader.is_orphaned() {
        assert!(start.elapsed() < PATIENCE, "its end is not noticed");
        std::thread::yield_now();
    }
    check_left(&mut reader);
    say("complete");
    wait();
}

#[test]
fn a_stopped_writer_leaves_every_entry_to_be_read() {
    let stage = Stage::new();
    let node = stage.node();
    let mut reader = reader(&node);
    let mut writing = stage.start("table-writer", "1");
    writing.expect("writing");
    assert_eq!(reader.changed(PATIENCE), Ok(true), "it has been let in");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_micros(700));
        writing.stop();
        // Whatever it is in the middle of.
        for key in 0..RESIDENTS {
            let value = reader.get(&key).expect("nobody writes now").expect("it is always there");
            round_of(key, &value);
        }
        let changes = reader.changes().expect("nobody writes now");
        for change in changes {
            if let TableChange::Set(entry) = change {
                round_of(entry.key, &entry.value);
            }
        }
        writing.signal(libc::SIGCONT);
    }
    assert!(reader.has_writer());
}

#[test]
fn a_stopped_reader_holds_nobody_up() {
    let stage = Stage::new();
    let node = stage.node();
    let mut stopped = stage.start("table-checker", "");
    let mut other = stage.start("table-checker", "");
    stopped.expect("reading");
    other.expect("reading");
    let mut writer = writer(&node);
    writer.wait_for_readers(2, PATIENCE).expect("both are there");
    let mut round = 0;
    let mut write = |writer: &mut TableWriter<u64, Value>| {
        round += 1;
        (0..2 * RESIDENTS).for_each(|key| writer.set(&key, &value(key, round)).expect("there is room"));
        writer.remove(&(RESIDENTS + round % RESIDENTS)).expect("it is open");
    };
    write(&mut writer);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(2));
        // In the middle of whatever it reads, or asleep.
        stopped.stop();
        (0..200).for_each(|_| write(&mut writer));
        let mut late = reader(&node);
        assert_eq!(late.changed(PATIENCE), Ok(true));
        stopped.signal(libc::SIGCONT);
    }
    stopped.stop();
    // Slowly, so that the other finds as much as it is to find.
    for _ in 0..100 {
        write(&mut writer);
        std::thread::sleep(Duration::from_micros(100));
    }
    writer.set(&END, &value(END, 0)).expect("there is room");
    ["busy", "intact"].into_iter().for_each(|line| other.expect(line));
    let start = Instant::now();
    while writer.readers() != 2 {
        assert!(start.elapsed() < PATIENCE, "{} readers: silence is not death", writer.readers());
        std::thread::yield_now();
    }
    stopped.signal(libc::SIGCONT);
    ["busy", "intact"].into_iter().for_each(|line| stopped.expect(line));
}

/// A write between two signals: a key's next value, a new key, or one that goes and has others move along the index.
pub fn write_stepped(node: &Node, what: u64) {
    let table = node.table::<u64, Value>("t").capacity(STEPPED as u32 + 1);
    let mut writer = table.writer().expect("there is no other");
    writer.wait_for_readers(1, PATIENCE).expect("the test listens");
    (0..STEPPED).for_each(|key| writer.set(&key, &value(key, 1)).expect("there is room"));
    // Warm: the lazy parts of the program are bound.
    writer.set(&90, &value(90, 1)).expect("there is room");
    writer.remove(&90).expect("it is there");
    // SAFETY: no pointers.
    say(unsafe { libc::syscall(libc::SYS_gettid) });
    wait();
    // SAFETY: no pointers; the test, which traces us, takes the signal.
    unsafe { libc::raise(libc::SIGURG) };
    match what {
        0 => writer.set(&7, &value(7, 2)).expect("there is room"),
        1 => writer.set(&99, &value(99, 2)).expect("there is room"),
        key => assert!(writer.remove(&(key - 2)).expect("it is open")),
    }
    // SAFETY: as above.
    unsafe { libc::raise(libc::SIGURG) };
    say("written");
    wait();
}

/// Reads after each instruction of a write: the key that is written is as before or as after, and all others are as they were.
fn step_through(what: u64, key: u64, before: Option<u64>, after: Option<u64>) {
    let stage = Stage::new();
    let node = stage.node();
    let mut reader = reader(&node);
    let mut actor = stage.start("stepped-table-writer", &what.to_string());
    let stepped = Stepped::new(&mut actor);
    let round = |reader: &mut TableReader<u64, Value>, of: u64| {
        let found = reader.get(&of).expect("one write does not hold anybody up");
        found.map(|value| round_of(of, &value))
    };
    // The word that we have been let in comes by another way than what is read.
    assert_eq!(reader.changed(PATIENCE), Ok(true));
    assert_eq!(round(&mut reader, key), before);
    let (mut steps, mut is_done) = (0u64, false);
    while stepped.step() {
        steps += 1;
        assert!(steps < STEPS_MAX, "a write of more than {STEPS_MAX} instructions");
        let found = round(&mut reader, key);
        let entries = reader.entries().expect("one write does not hold anybody up");
        let listed = entries.iter().find(|entry| entry.key == key);
        assert_eq!(listed.map(|entry| round_of(key, &entry.value)), found, "after {steps} instructions");
        assert!(found == after || (found == before && !is_done), "{found:?} after {steps} instructions");
        is_done |= found == after;
        // One of the others each time, and all of them in turn.
        let other = steps % STEPPED;
        assert!(
            other == key || round(&mut reader, other) == Some(1),
            "key {other} after {steps} instructions"
        );
    }
    assert!(is_done, "it is done after {steps} instructions");
    (0..STEPPED).filter(|other| *other != key).for_each(|other| {
        assert_eq!(round(&mut reader, other), Some(1));
    });
    stepped.let_go();
    actor.expect("written");
}

#[test]
fn a_value_is_the_one_before_or_the_next_after_every_instruction() {
    step_through(0, 7, Some(1), Some(2));
}

#[test]
fn a_new_entry_is_whole_or_absent_after_every_instruction() {
    step_through(1, 99, None, Some(2));
}

#[test]
fn a_removal_takes_nothing_else_along_after_any_instruction() {
    // The first of them has three others move along the index.
    for key in [4, 8, 11] {
        step_through(2 + key, key, Some(1), None);
    }
}

/// In a process of its own: writers and readers are killed, and nothing piles up.
pub fn survive(stage: &Stage, kills: usize) {
    let node = stage.node();
    let mut reader = reader(&node);
    let mut round = 1;
    let mut kill_writer = |reader: &mut TableReader<u64, Value>| {
        let mut writing = stage.start("table-writer", &round.to_string());
        writing.expect("writing");
        while reader.get(&0).ok().flatten().is_none_or(|value| round_of(0, &value) < round) {
            std::thread::yield_now();
        }
        writing.kill();
        let start = Instant::now();
        while reader.has_writer() {
            assert!(start.elapsed() < PATIENCE, "its end is not noticed");
            std::thread::yield_now();
        }
        round = check_left(reader) + 1;
    };
    let kill_reader = |stage: &Stage| {
        let mut keeping = stage.start("table-keeper", "");
        ["listening", "something is there", "complete"].into_iter().for_each(|line| keeping.expect(line));
        keeping.kill();
    };
    // One round first, for what is made only once, or is kept of the last.
    kill_writer(&mut reader);
    kill_reader(stage);
    let before = (descriptors(), mappings());
    for _ in 0..kills {
        kill_writer(&mut reader);
        kill_reader(stage);
        say("survived");
    }
    assert!(settles(descriptors, before.0), "{} descriptors, {} before", descriptors(), before.0);
    assert!(settles(mappings, before.1), "{} mappings, {} before", mappings(), before.1);
}

#[test]
fn killed_writers_and_readers_leave_nothing() {
    let stage = Stage::new();
    let mut survivor = stage.start("table-survivor", "20");
    (0..20).for_each(|_| survivor.expect("survived"));
    survivor.expect("clean");
}

/// Ends of signals and tables that a child inherits.
struct Inheritance {
    notifier: Notifier,
    waiter: Waiter,
    writer: TableWriter<u64, Value>,
    reader: TableReader<u64, Value>,
}

impl Inheritance {
    /// In the child: whether every call says what it is, instead of doing something.
    fn is_told_of_its_birth(&mut self) -> bool {
        let forked = EndpointError::Forked;
        let Self { notifier, waiter, writer, reader } = self;
        // Nor does that change what they are told.
        notifier.handle().cancel();
        waiter.handle().cancel();
        writer.handle().cancel();
        reader.handle().cancel();
        matches!(notifier.notify(0), Err(NotifyError::Endpoint { source, .. }) if source == forked)
            && matches!(waiter.try_wait(), Err(ReceiveError::Endpoint { source, .. }) if source == forked)
            && matches!(waiter.wait(), Err(ReceiveError::Endpoint { source, .. }) if source == forked)
            && matches!(writer.set(&1, &[9; 100]), Err(TableWriteError::Endpoint { source, .. }) if source == forked)
            && matches!(writer.remove(&1), Err(TableWriteError::Endpoint { source, .. }) if source == forked)
            && matches!(reader.get(&1), Err(TableReadError::Endpoint { source, .. }) if source == forked)
            && matches!(reader.changes(), Err(TableReadError::Endpoint { source, .. }) if source == forked)
            && matches!(reader.changed(PATIENCE), Err(ReceiveError::Endpoint { source, .. }) if source == forked)
    }
}

/// Forks with open ends; the child drops what it has inherited, and the parent goes on with it.
pub fn fork(node: &Node) {
    let mut ends = Inheritance {
        notifier: node.signal("forked").notifier().expect("the signal is ours"),
        waiter: node.signal("answer").waiter().expect("the numbers agree"),
        writer: writer(node),
        reader: reader(node),
    };
    ends.notifier.wait_for_waiters(1, PATIENCE).expect("the test listens");
    ends.writer.wait_for_readers(2, PATIENCE).expect("the test listens");
    ends.writer.set(&1, &value(1, 1)).expect("there is room");
    // SAFETY: the child touches what it inherited only through this library, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_told = ends.is_told_of_its_birth();
        drop(ends);
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if is_told { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a live local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    say(format!("the child said {}", libc::WEXITSTATUS(status)));
    ends.writer.set(&1, &value(1, 2)).expect("there is room");
    assert_eq!(ends.reader.get(&1), Ok(Some(value(1, 2))));
    ends.notifier.notify(0).expect("there is such an id");
    let answer = ends.waiter.wait_timeout(PATIENCE).expect("waiting succeeds");
    assert_eq!(answer.expect("it comes").total(), 1);
    say("done");
    wait();
}

#[test]
fn a_forked_child_does_nothing_to_its_parents_signals_and_tables() {
    let stage = Stage::new();
    let node = stage.node();
    let mut waiter = node.signal("forked").waiter().expect("the numbers agree");
    let mut reader = reader(&node);
    let mut forker = stage.start("board-forker", "");
    forker.expect("the child said 7");
    assert_eq!(waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("it comes").total(), 1);
    assert_eq!(reader.changed(PATIENCE), Ok(true));
    assert_eq!(reader.get(&1), Ok(Some(value(1, 2))));
    let error = node.table::<u64, Value>("t").writer().expect_err("the parent still has it");
    assert!(matches!(error, TableError::Claimed { .. }), "{error}");
    let mut notifier = node.signal("answer").notifier().expect("the signal is ours");
    notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
    notifier.notify(0).expect("there is such an id");
    forker.expect("done");
}

/// Sets and removes under strict mode.
pub fn write_strictly(node: &Node) {
    let mut writer = writer(node);
    writer.wait_for_readers(1, PATIENCE).expect("it is there");
    let busy: fn(&mut TableWriter<u64, Value>) = |writer| {
        for round in 0..WARM {
            writer.set(&(round % 50), &value(round % 50, round)).expect("there is room");
            writer.remove(&(50 + round % 7)).expect("it is open");
            writer.set(&(50 + round % 5), &value(50 + round % 5, round)).expect("there is room");
        }
    };
    strictly(writer, busy, busy);
    // Its end would be news for the reader.
    wait();
}

/// Gets under strict mode.
pub fn read_strictly(node: &Node) {
    let mut reader = reader(node);
    say("listening");
    let mut seen = 0;
    while seen == 0 {
        reader.changed(PATIENCE).expect("nobody cancels");
        seen = reader.version().expect("reading succeeds");
    }
    let busy: fn(&mut TableReader<u64, Value>) = |reader| {
        let mut place = [0; 100];
        for round in 0..WARM {
            let key = round % 60;
            match reader.get_into(&key, &mut place) {
                Ok(Some(_)) => drop(round_of(key, &place)),
                Ok(None) | Err(TableReadError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    strictly(reader, busy, busy);
}

#[test]
fn the_busy_path_of_a_table_makes_no_system_call_no_allocation_and_no_page_fault() {
    let stage = Stage::new();
    let mut reader = stage.start("strict-table-reader", "");
    reader.expect("listening");
    let mut writer = stage.start("strict-table-writer", "");
    assert_eq!(writer.hear(), "0 faults, 0 allocations", "the writer");
    assert_eq!(reader.hear(), "0 faults, 0 allocations", "the reader");
}
