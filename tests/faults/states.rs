//! The fear: a state with two writers, with none although one could be had, or with half a value; a last value that goes
//! with its writer.

use std::time::{Duration, Instant};

use tidepost::{Node, StateError, StateReader, StateWriter, TableError};

use crate::parts::{say, wait};
use crate::ptrace::{STEPS_MAX, Stepped, between_signals};
use crate::seccomp::strictly;
use crate::stage::{Actor, DIRECTORY, PATIENCE, Stage};

/// Beside its number, in a slot of its own, and in the pool.
const LENGTHS: [usize; 3] = [56, 240, 100_000];

/// The value with this number: that comes first, and each word of what follows is made from it.
fn value(number: u64, length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8) as u64).map(|index| number.wrapping_mul(2 * index + 1));
    let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
    bytes.truncate(length);
    bytes
}

/// The number of a value, which has to be whole.
fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_ne_bytes(*bytes.first_chunk().expect("values begin with their number"));
    assert!(bytes == value(number, bytes.len()), "half of value {number}");
    number
}

fn reader(node: &Node) -> StateReader<[u8]> {
    node.state("state").reader().expect("the types agree")
}

fn writer(node: &Node) -> StateWriter<[u8]> {
    node.state("state").writer_timeout(PATIENCE).expect("whoever writes goes")
}

/// Number and version of what is there now.
fn newest(reader: &mut StateReader<[u8]>) -> Option<(u64, u64)> {
    let value = reader.read().expect("reading succeeds")?;
    Some((number_of(&value), value.version()))
}

/// Reads until the value with this number is there; its version.
fn await_number(reader: &mut StateReader<[u8]>, number: u64) -> u64 {
    let start = Instant::now();
    loop {
        match newest(reader) {
            Some((newest, version)) if newest == number => return version,
            other => assert!(start.elapsed() < PATIENCE, "{other:?} instead of {number}"),
        }
        std::thread::yield_now();
    }
}

/// Becomes the writer so many times. Nobody else is one meanwhile: a file says so.
pub fn contend(node: &Node, times: u64) {
    let marker = std::env::var(DIRECTORY).expect("the test names a directory") + "/written";
    for time in 0..times {
        let mut writer = writer(node);
        std::fs::File::create_new(&marker).expect("there is no other writer");
        writer.set(&value(time, 56)).expect("setting succeeds");
        std::fs::remove_file(&marker).expect("it is ours");
    }
    say("done");
}

#[test]
fn programs_that_contend_for_a_state_write_one_at_a_time() {
    let stage = Stage::new();
    let node = stage.node();
    let mut reader = reader(&node);
    let mut contenders: Vec<Actor> = (0..3).map(|_| stage.start("state-contender", "40")).collect();
    let (mut last, mut since) = (0, Instant::now());
    while !contenders.iter_mut().all(Actor::has_ended) {
        assert!(since.elapsed() < PATIENCE, "nobody becomes the writer any more");
        if let Some((_, version)) = newest(&mut reader) {
            assert!(version >= last, "versions never fall");
            since = if version > last { Instant::now() } else { since };
            last = version;
        }
    }
    for mut contender in contenders {
        contender.expect("done");
    }
    assert_eq!(node.violations(), (0, None));
}

/// Waits to be the writer, and then writes without end.
pub fn write_for_ever(node: &Node, length: u64) {
    say("waiting");
    let mut writer = writer(node);
    for number in 1.. {
        writer.set(&value(number, length as usize)).expect("setting succeeds");
        if number == 1 {
            say("writing");
        }
    }
}

fn survive_writers(length: usize) {
    let stage = Stage::new();
    let node = stage.node();
    let mut reader = reader(&node);
    let start = || {
        let mut actor = stage.start("state-writer", &length.to_string());
        actor.expect("waiting");
        actor
    };
    let (mut writer, mut version) = (start(), 0);
    writer.expect("writing");
    for round in 0..8 {
        let mut next = start();
        let end = Instant::now() + Duration::from_micros(200 + 1700 * round);
        while Instant::now() < end {
            if let Some((_, newest)) = newest(&mut reader) {
                assert!(newest >= version, "versions never fall");
                version = newest;
            }
        }
        writer.kill();
        next.expect("writing");
        writer = next;
        let changed = reader.changed(PATIENCE).expect("waiting succeeds").expect("the next one writes");
        number_of(&changed);
        assert!(changed.version() > version, "the next one starts above");
        version = changed.version();
    }
    writer.kill();
    let last = newest(&mut reader).expect("the last value stays");
    while reader.has_writer() {
        assert_eq!(newest(&mut reader).map(|(_, version)| version >= last.1), Some(true));
    }
    assert!(reader.is_orphaned() && newest(&mut reader).is_some());
    drop((reader, node));
    drop(stage.node());
    assert_eq!(stage.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn writers_that_are_killed_while_they_write_leave_whole_values_and_their_place() {
    LENGTHS.into_iter().for_each(survive_writers);
}

/// Writes one value, the first word of which is 2, between two signals; the one before has 1.
pub fn set_between_signals(node: &Node, length: u64) {
    let mut writer = writer(node);
    writer.wait_for_readers(1, PATIENCE).expect("the test reads");
    let [first, second] = [1, 2].map(|number| value(number, length as usize));
    // Warm: the pool has its segment, and the lazy parts of the program are bound.
    writer.set(&first).expect("setting succeeds");
    between_signals(|| writer.set(&second).expect("setting succeeds"));
    say("written");
    wait();
}

fn step_through(length: usize) -> (u64, u64) {
    let stage = Stage::new();
    let node = stage.node();
    let mut reader = reader(&node);
    let mut actor = stage.start("stepped-state-writer", &length.to_string());
    let stepped = Stepped::new(&mut actor);
    let before = await_number(&mut reader, 1);
    let (mut steps, mut there_after) = (0, None);
    while stepped.step() {
        steps += 1;
        assert!(steps < STEPS_MAX, "a write of more than {STEPS_MAX} instructions");
        let (number, version) = newest(&mut reader).expect("a value that was there stays");
        assert_eq!(
            (number, version - before),
            if there_after.is_some() { (2, 1) } else { (number, number - 1) }
        );
        if number == 2 && there_after.is_none() {
            there_after = Some(steps);
        }
    }
    stepped.let_go();
    actor.expect("written");
    (steps, there_after.expect("it is there after the last instruction"))
}

/// Kills the writer after so many instructions of its write: the value before is there, or the new one, and the next writer
/// takes over.
fn kill_after(length: usize, steps: u64) {
    let stage = Stage::new();
    let node = stage.node();
    let mut reader = reader(&node);
    let mut actor = stage.start("stepped-state-writer", &length.to_string());
    let stepped = Stepped::new(&mut actor);
    await_number(&mut reader, 1);
    for _ in 0..steps {
        if !stepped.step() {
            break;
        }
    }
    actor.signal_kill();
    stepped.bury();
    actor.kill();
    let mut next = writer(&node);
    let (number, version) = newest(&mut reader).expect("a value that was there stays");
    assert!(matches!(number, 1 | 2));
    next.set(&value(3, length)).expect("setting succeeds");
    assert!(await_number(&mut reader, 3) > version);
}

fn whole_after_every_instruction(length: usize) {
    let (steps, there_after) = step_through(length);
    println!("a write of {length} B has {steps} instructions, and is there after {there_after}");
    let spread = (0..4).map(|part| 1 + part * (steps - 1) / 4);
    spread.chain([there_after - 1, there_after]).for_each(|after| kill_after(length, after));
}

#[test]
fn a_short_value_is_whole_after_every_instruction() {
    whole_after_every_instruction(40);
}

#[test]
fn a_pooled_value_is_whole_after_every_instruction() {
    whole_after_every_instruction(3000);
}

/// Writes one value when told, again and again.
pub fn set_once(node: &Node, length: u64) {
    let mut writer = writer(node);
    for number in 1.. {
        wait();
        writer.set(&value(number, length as usize)).expect("setting succeeds");
        say(format!("written {number}"));
    }
}

/// Reads when told, and says what; the first time before anything is there.
pub fn read_when_told(node: &Node) {
    let mut reader = reader(node);
    say("reading");
    loop {
        wait();
        say(format!("read {:?}", newest(&mut reader).map(|(number, _)| number)));
    }
}

#[test]
fn a_writer_that_is_stopped_keeps_its_place_and_its_readers_their_value() {
    for length in LENGTHS {
        let stage = Stage::new();
        let node = stage.node();
        let mut reader = reader(&node);
        let mut actor = stage.start("state-setter", &length.to_string());
        actor.go();
        actor.expect("written 1");
        let version = await_number(&mut reader, 1);
        actor.stop();
        for _ in 0..100 {
            assert_eq!(newest(&mut reader), Some((1, version)));
        }
        assert!(reader.changed(Duration::from_millis(1)).expect("waiting succeeds").is_none());
        let error = node.state::<[u8]>("state").writer().expect_err("it is only stopped");
        let text = error.to_string();
        assert!(
            matches!(error, StateError::Claimed { .. }) && text.contains(&actor.pid().to_string()),
            "{text}"
        );
        assert!(!reader.is_orphaned());
        actor.signal(libc::SIGCONT);
        actor.go();
        actor.expect("written 2");
        assert_eq!(await_number(&mut reader, 2), version + 1);
    }
}

#[test]
fn a_reader_that_is_stopped_holds_nobody_up() {
    for length in LENGTHS {
        let stage = Stage::new();
        let node = stage.node();
        let mut writer = writer(&node);
        let mut actor = stage.start("state-reader", "");
        actor.expect("reading");
        let mut other = reader(&node);
        writer.set(&value(1, length)).expect("setting succeeds");
        await_number(&mut other, 1);
        // Only who has the state attached finds anything at once when it goes on.
        await_number_at(&mut actor, 1);
        actor.stop();
        // More than any ring or pool has room for.
        let last = 1_000;
        for number in 2..=last {
            writer.set(&value(number, length)).expect("nobody is waited for");
        }
        assert_eq!(newest(&mut other).map(|(number, _)| number), Some(last));
        actor.signal(libc::SIGCONT);
        actor.go();
        assert_eq!(actor.hear(), format!("read Some({last})"), "it finds the newest when it goes on");
    }
}

/// Asks a process to read until it has the value with this number.
fn await_number_at(actor: &mut Actor, number: u64) {
    let start = Instant::now();
    loop {
        actor.go();
        let read = actor.hear();
        if read == format!("read Some({number})") {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{read} instead of {number}");
    }
}

#[test]
fn the_last_value_of_a_writer_that_was_killed_is_handed_down() {
    for length in LENGTHS {
        let stage = Stage::new();
        let mut keeper = stage.start("state-reader", "");
        keeper.expect("reading");
        let mut setter = stage.start("state-setter", &length.to_string());
        setter.go();
        setter.expect("written 1");
        // It has to be connected to keep anything, though it need not look.
        let node = stage.node();
        let mut witness = reader(&node);
        await_number(&mut witness, 1);
        await_number_at(&mut keeper, 1);
        drop((witness, node));
        setter.kill();
        // Whoever comes now gets it from the keeper, whether that has noticed the death already or not.
        let node = stage.node();
        let mut late = reader(&node);
        let first = late.wait(PATIENCE).expect("waiting succeeds").expect("the keeper has it");
        assert_eq!(number_of(&first), 1);
        keeper.kill();
        let mut last = stage.start("state-reader", "");
        last.expect("reading");
        await_number_at(&mut last, 1);
        assert!(late.is_orphaned());
        // And a new writer ends that.
        let mut next = writer(&node);
        next.set(&value(2, length)).expect("setting succeeds");
        await_number_at(&mut last, 2);
        await_number(&mut late, 2);
        last.kill();
        assert_eq!(node.violations(), (0, None));
    }
}

/// Forks twice while it is the writer: one child drops what it has inherited, the other keeps it until the test
/// hangs up.
pub fn fork(node: &Node) {
    let mut writer = writer(node);
    writer.set(&value(1, 56)).expect("setting succeeds");
    // SAFETY: the child touches what it inherited only through this library, and ends without unwinding.
    let dropping = unsafe { libc::fork() };
    if dropping == 0 {
        let cannot_set = writer.set(&value(2, 56)).is_err();
        drop(writer);
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if cannot_set { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a live local variable.
    assert_eq!(unsafe { libc::waitpid(dropping, &raw mut status, 0) }, dropping);
    say(format!("the child said {}", libc::WEXITSTATUS(status)));
    // SAFETY: the child only reads, and ends without unwinding.
    if unsafe { libc::fork() } == 0 {
        let mut byte = 0u8;
        // SAFETY: the byte is a live local variable.
        unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(0) };
    }
    say("forked");
    std::thread::sleep(PATIENCE);
}

#[test]
fn a_forked_child_takes_and_keeps_nothing_of_its_parents_state() {
    let stage = Stage::new();
    let node = stage.node();
    let mut reader = reader(&node);
    let mut parent = stage.start("state-forker", "");
    parent.expect("the child said 7");
    let version = await_number(&mut reader, 1);
    let claimed = node.state::<[u8]>("state").writer();
    assert!(matches!(claimed, Err(StateError::Claimed { .. })), "its drop did not end the parent's claim");
    parent.expect("forked");
    // The other child lives on, with everything that its parent had, until we hang up on both.
    parent.signal_kill();
    let mut next = writer(&node);
    next.set(&value(3, 56)).expect("setting succeeds");
    assert!(await_number(&mut reader, 3) > version);
    // Whoever opens the domain next sees that the parent is dead, and removes what it has left.
    while !parent.has_ended() {
        std::thread::yield_now();
    }
    let is_lock = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "lock");
    assert_eq!(stage.files().iter().filter(|path| is_lock(path)).count(), 2, "the parent's and ours");
    drop(stage.node());
    assert_eq!(stage.files().iter().filter(|path| is_lock(path)).count(), 1, "ours");
}

/// Values that are written and read before and under strict mode, in a slot and in the pool.
const WARM: u64 = 30_000;
const STRICT_WORDS: usize = 2_000;

/// Writes under strict mode.
pub fn write_strictly(node: &Node) {
    let mut small = node.state::<[u64; 7]>("small").writer().expect("nobody else writes");
    let mut large = node.state::<[u64]>("large").writer().expect("nobody else writes");
    small.wait_for_readers(1, PATIENCE).expect("it is there");
    large.wait_for_readers(1, PATIENCE).expect("it is there");
    type Writers = (StateWriter<[u64; 7]>, StateWriter<[u64]>);
    let busy: fn(&mut Writers) = |(small, large)| {
        for round in 1..=WARM {
            small.set(&[round; 7]).expect("setting succeeds");
            large.set(&[round; STRICT_WORDS]).expect("setting succeeds");
        }
    };
    strictly((small, large), busy, busy);
    // Its end would be news for the reader.
    wait();
}

/// Reads under strict mode, copies and what is lent.
pub fn read_strictly(node: &Node) {
    let mut small = node.state::<[u64; 7]>("small").reader().expect("the types agree");
    let mut large = node.state::<[u64]>("large").reader().expect("the types agree");
    say("listening");
    assert!(small.wait(PATIENCE).expect("waiting succeeds").is_some());
    assert!(large.wait(PATIENCE).expect("waiting succeeds").is_some());
    type Readers = (StateReader<[u64; 7]>, StateReader<[u64]>);
    let busy: fn(&mut Readers) = |(small, large)| {
        for round in 0..WARM {
            let value = small.read().expect("reading succeeds").expect("there is one");
            assert!(value.iter().all(|word| *word == value[0]));
            let value = if round % 2 == 0 { large.read() } else { large.borrow() };
            let value = value.expect("reading succeeds").expect("there is one");
            assert!(value.iter().all(|word| *word == value[0]));
        }
    };
    strictly((small, large), busy, busy);
}

#[test]
fn the_busy_path_of_a_state_makes_no_system_call_no_allocation_and_no_page_fault() {
    let stage = Stage::new();
    let mut reader = stage.start("strict-state-reader", "");
    reader.expect("listening");
    let mut writer = stage.start("strict-state-writer", "");
    assert_eq!(writer.hear(), "0 faults, 0 allocations", "the writer");
    assert_eq!(reader.hear(), "0 faults, 0 allocations", "the reader");
}

/// Writes a state and a table, and says what is wrong with those that ask for too much, or another type.
pub fn keep_to_types(node: &Node) {
    let mut state = node.state::<u64>("typed").writer().expect("nobody else writes");
    let mut table = node.table::<u64, u64>("typed").capacity(2).writer().expect("nobody else writes");
    state.set(&7).expect("setting succeeds");
    (1..3).for_each(|key| table.set(&key, &7).expect("there is room"));
    let full = table.set(&3, &7).expect_err("there are two");
    assert!(full.to_string().contains("all 2 entries are taken"), "{full}");
    say("writing");
    wait();
    let refusals = (state.refusals(), table.refusals());
    say(format!("{} and {}", refusals.0.len().min(1), refusals.1.len().min(2)));
    wait();
}

/// The error of an attempt that is refused sooner or later.
fn refused<R, E>(mut attempt: impl FnMut() -> Result<R, E>) -> E {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) => return error,
            Ok(_) => assert!(start.elapsed() < PATIENCE, "nobody refuses it"),
        }
    }
}

#[test]
fn another_process_with_other_types_or_too_large_ones_is_refused_and_told() {
    let stage = Stage::new();
    let mut writing = stage.start("typed-writer", "");
    writing.expect("writing");
    let node = stage.node();
    let error = refused(|| node.state::<f64>("typed").reader());
    assert!(matches!(error, StateError::TypeMismatch { .. }), "{error}");
    assert!(error.to_string().contains("`typed-writer`"), "{error}");
    for error in [
        refused(|| node.table::<u32, u64>("typed").reader()),
        refused(|| node.table::<u64, [u64; 2]>("typed").reader()),
    ] {
        assert!(matches!(error, TableError::TypeMismatch { .. }), "{error}");
    }
    let error = refused(|| node.table::<[u8; 1025], u64>("typed").reader());
    assert!(error.to_string().contains("the size of a key is 1025, and must be in 0..=1024"), "{error}");
    let error = refused(|| node.table::<u64, [u8; (1 << 20) + 1]>("typed").reader());
    assert!(matches!(error, TableError::Option { option: "the size of a value", .. }), "{error}");
    let error = refused(|| node.table::<u64, u64>("other").capacity((1 << 20) + 1).writer());
    assert!(matches!(error, TableError::Option { option: "capacity", .. }), "{error}");
    let error = refused(|| node.state::<u64>("typed").writer());
    assert!(error.to_string().contains(&writing.pid().to_string()), "{error}");
    // Those who keep to the types are served meanwhile.
    let mut state = node.state::<u64>("typed").reader().expect("the types agree");
    assert_eq!(state.wait(PATIENCE).expect("waiting succeeds").as_deref(), Some(&7));
    let mut table = node.table::<u64, u64>("typed").reader().expect("the types agree");
    assert_eq!((table.changed(PATIENCE), table.get(&2)), (Ok(true), Ok(Some(7))));
    writing.go();
    writing.expect("1 and 2");
    assert_eq!(node.violations(), (0, None));
}
