//! Waiting for a value, and for the next one: in a call, as a task, and on a descriptor.

use std::os::fd::AsFd;
use std::time::Duration;

use futures_lite::future;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidepost::{Event, Node, Payload, ReceiveError, SendError, StateReader, WaitError, WaitSet};

use crate::states::stage::{
    Domain, Kind, PATIENCE, PAUSE, inline, number_of, pooled, start, until, with_each_kind, words,
};

fn check_changes<T: Payload + ?Sized>(kind: &Kind<T>) {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut writer = kind.writer(&node);
    let mut reader = kind.reader(&other);
    assert!(reader.changed(Duration::ZERO).expect("waiting succeeds").is_none());
    assert!(reader.wait(Duration::ZERO).expect("waiting succeeds").is_none());
    kind.set(&mut writer, 0..3);
    let value = reader.changed(PATIENCE).expect("waiting succeeds").expect("it has been written");
    kind.check(&value, 2);
    assert!(reader.changed(PAUSE).expect("waiting succeeds").is_none(), "{}: it has been seen", kind.name);
    let value = reader.wait(Duration::ZERO).expect("waiting succeeds").expect("there is one, seen or not");
    kind.check(&value, 2);
    kind.set(&mut writer, 3..4);
    kind.await_newest(&mut reader, 3);
    assert!(reader.changed(PAUSE).expect("waiting succeeds").is_none(), "reading is seeing");
    kind.set(&mut writer, 4..5);
    let value = reader.changed(PATIENCE).expect("waiting succeeds").expect("it has been written");
    kind.check(&value, 4);
}

#[test]
fn a_change_is_what_has_not_been_seen() {
    with_each_kind!(check_changes);
}

/// Waits for every change up to a last one, in the way that is given.
fn follow(
    mut reader: StateReader<[u64; 7]>,
    last: u64,
    mut next: impl FnMut(&mut StateReader<[u64; 7]>) -> u64,
) {
    let mut seen = 0;
    while seen < last {
        let number = next(&mut reader);
        assert!(number > seen, "a change is always to something newer");
        seen = number;
    }
}

fn changed(reader: &mut StateReader<[u64; 7]>) -> u64 {
    number_of(&*reader.changed(PATIENCE).expect("waiting succeeds").expect("the writer goes on"))
}

fn changed_async(reader: &mut StateReader<[u64; 7]>) -> u64 {
    number_of(&*future::block_on(reader.changed_async()).expect("waiting succeeds"))
}

fn changed_on_descriptor(reader: &mut StateReader<[u64; 7]>) -> u64 {
    loop {
        let seen = reader.version();
        if let Some(value) = reader.read().expect("reading succeeds")
            && value.version() > seen
        {
            return number_of(&*value);
        }
        wait_for(reader);
    }
}

fn wait_for(reader: &StateReader<[u64; 7]>) {
    let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
    let fd = reader.as_fd().expect("descriptors are left");
    let ready = poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)], Some(&timeout));
    assert_eq!(ready.expect("it can be polled"), 1, "a change makes it readable");
}

/// No change is missed by who sleeps: one that was would end the test, as the writer waits for it.
fn check_no_change_is_missed(node: Node, other: &Node, next: fn(&mut StateReader<[u64; 7]>) -> u64) {
    let mut writer = inline().writer(&node);
    let reader = inline().reader(other);
    let (seen, progress) = std::sync::mpsc::channel();
    let following = start(move || {
        follow(reader, 500, |reader| {
            let number = next(reader);
            seen.send(number).expect("the test listens");
            number
        });
    });
    for number in 1..=500 {
        if number % 7 == 0 {
            std::thread::sleep(PAUSE);
        }
        writer.set(&words(number)).expect("setting succeeds");
        assert_eq!(progress.recv_timeout(PATIENCE), Ok(number));
    }
    following.finish();
}

#[test]
fn no_change_is_missed_by_those_who_sleep() {
    for next in [changed, changed_async, changed_on_descriptor] {
        let domain = Domain::new();
        check_no_change_is_missed(domain.node("writer"), &domain.node("reader"), next);
    }
}

#[test]
fn a_node_without_thread_is_served_by_who_waits() {
    let domain = Domain::new();
    check_no_change_is_missed(domain.node("writer"), &domain.node_without_thread("reader"), changed);
}

#[test]
fn a_reader_in_a_wait_set_is_ready_when_there_is_a_change() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut writer = inline().writer(&node);
    let mut set = WaitSet::new().expect("descriptors are left");
    let key = set.add(inline().reader(&other)).expect("descriptors are left");
    let (seen, progress) = std::sync::mpsc::channel();
    let following = start(move || {
        let mut number = 0;
        while number < 300 {
            assert!(set.wait_timeout(PATIENCE).expect("waiting succeeds").is_some_and(|ready| ready == key));
            let value = set[key].changed(Duration::ZERO).expect("waiting succeeds").expect("it is ready");
            assert!(number_of(&*value) > number);
            number = number_of(&*value);
            seen.send(number).expect("the test listens");
        }
        assert!(set.wait_timeout(PAUSE).expect("waiting succeeds").is_none(), "it has been seen");
    });
    for number in 1..=300 {
        if number % 7 == 0 {
            std::thread::sleep(PAUSE);
        }
        writer.set(&words(number)).expect("setting succeeds");
        assert_eq!(progress.recv_timeout(PATIENCE), Ok(number));
    }
    following.finish();
}

#[test]
fn who_reads_as_often_as_it_is_woken_does_not_miss_the_last_of_many() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut writer = inline().writer(&node);
    let reader = inline().reader(&other);
    reader.as_fd().expect("descriptors are left");
    let following = start(move || follow(reader, 20_000, changed_on_descriptor));
    (1..=20_000).for_each(|number| writer.set(&words(number)).expect("setting succeeds"));
    following.finish();
}

#[test]
fn the_first_value_can_be_waited_for() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let (mut waiting, mut task) = (pooled().reader(&other), pooled().reader(&other));
    let waiting =
        start(move || number_of(&*waiting.wait(PATIENCE).expect("waiting succeeds").expect("it comes")));
    let task = start(move || number_of(&*future::block_on(task.wait_async()).expect("waiting succeeds")));
    std::thread::sleep(PAUSE);
    let mut writer = pooled().writer(&node);
    assert!(!waiting.has_finished() && !task.has_finished());
    pooled().set(&mut writer, 7..8);
    assert_eq!((waiting.finish(), task.finish()), (7, 7));
}

#[test]
fn a_wait_ends_with_its_node_or_when_it_is_cancelled() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut writer = inline().writer(&node);
    writer.set(&words(1)).expect("setting succeeds");
    let (mut cancelled, mut closed) = (inline().reader(&other), inline().reader(&other));
    let handle = cancelled.handle();
    inline().await_newest(&mut cancelled, 1);
    inline().await_newest(&mut closed, 1);
    let wait = |mut reader: StateReader<[u64; 7]>| {
        start(move || {
            let error = reader.changed(PATIENCE).map(drop).expect_err("there is no change");
            inline().check_newest(&mut reader, 1);
            error
        })
    };
    let cancelled = wait(cancelled);
    std::thread::sleep(PAUSE);
    handle.cancel();
    assert!(matches!(cancelled.finish(), ReceiveError::Closed { .. }));
    let waiting = wait(closed);
    std::thread::sleep(PAUSE);
    other.shutdown();
    assert!(matches!(waiting.finish(), ReceiveError::Closed { .. }));
    node.shutdown();
    assert!(matches!(writer.set(&words(2)), Err(SendError::Closed { .. })));
    assert!(matches!(writer.event_timeout(PATIENCE), Err(WaitError::Closed { .. }) | Ok(Some(_))));
}

#[test]
fn the_coming_and_going_of_writers_and_readers_is_an_event() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut reader = inline().reader(&other);
    let mut writer = inline().writer(&node);
    writer.wait_for_readers(1, PATIENCE).expect("it is there");
    let event = reader.event_timeout(PATIENCE).expect("waiting succeeds");
    assert!(matches!(event, Some(Event::Joined(of)) if of.id == writer.id() && &*of.node_name == "writer"));
    let id = writer.id();
    drop(writer);
    let event = reader.event_timeout(PATIENCE).expect("waiting succeeds");
    assert!(matches!(event, Some(Event::Left(of)) if of.id == id));
    assert!(reader.try_event().is_none());
    let mut writer = inline().writer(&node);
    writer.wait_for_readers(1, PATIENCE).expect("it is there");
    let joined = writer.event_timeout(PATIENCE).expect("waiting succeeds");
    assert!(matches!(joined, Some(Event::Joined(of)) if of.id == reader.id()));
    drop(reader);
    let left = writer.event_timeout(PATIENCE).expect("waiting succeeds");
    assert!(matches!(left, Some(Event::Left(_))));
    until("the writer knows", || writer.readers() == 0);
}
