//! The last value outlives its writer, as long as anybody reads it.

use tidepost::{Event, Node, Payload, StateReader};

use crate::states::stage::{
    Domain, Kind, PATIENCE, bytes, inline, number_of, pooled, start, until, with_each_kind, words,
};

/// A writer that wrote a value and has left; and that readers have noticed.
fn leave_value<T: Payload + ?Sized>(
    kind: &Kind<T>,
    node: &Node,
    number: u64,
    readers: &mut [&mut StateReader<T>],
) -> u64 {
    let mut writer = kind.writer(node);
    writer.wait_for_readers(readers.len(), PATIENCE).expect("they are there");
    kind.set(&mut writer, number..number + 1);
    let version = writer.version();
    drop(writer);
    for reader in readers {
        until("the writer has come and gone", || matches!(reader.try_event(), Some(Event::Left(_))));
    }
    version
}

fn check_value_outlives_its_writer<T: Payload + ?Sized>(kind: &Kind<T>) {
    let domain = Domain::new();
    let (first, second, third) = (domain.node("first"), domain.node("second"), domain.node("third"));
    let writing = domain.node("writer");
    let mut never_looks = kind.reader(&first);
    let mut looks = kind.reader(&second);
    let version = leave_value(kind, &writing, 5, &mut [&mut never_looks, &mut looks]);
    drop(writing);
    assert_eq!(kind.check_newest(&mut looks, 5), version);
    assert!(looks.is_orphaned());
    // Who comes later gets it from those who are there, in another node and in theirs.
    for node in [&third, &first, &second] {
        let mut late = kind.reader(node);
        assert_eq!(kind.await_newest(&mut late, 5), version, "{}", kind.name);
        assert!(late.is_orphaned() && late.try_event().is_none(), "who passes it on is no writer");
        let borrowed = late.borrow().expect("reading succeeds").expect("there is one");
        kind.check(&borrowed, 5);
    }
    // And passes it on in turn.
    let mut heir = kind.reader(&third);
    kind.await_newest(&mut heir, 5);
    drop((never_looks, looks, first, second));
    let mut late = kind.reader(&domain.node("fourth"));
    assert_eq!(kind.await_newest(&mut late, 5), version, "{}", kind.name);
    assert_eq!(kind.check_newest(&mut heir, 5), version);
    assert_eq!(third.violations(), (0, None));
}

#[test]
fn the_last_value_outlives_its_writer() {
    with_each_kind!(check_value_outlives_its_writer);
}

fn check_next_writer_takes_over<T: Payload + ?Sized>(kind: &Kind<T>) {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut reader = kind.reader(&other);
    let left = leave_value(kind, &node, 1, &mut [&mut reader]);
    let mut late = kind.reader(&node);
    kind.await_newest(&mut late, 1);
    // A writer that has written nothing yet takes nothing away, not even from newcomers.
    let mut writer = kind.writer(&node);
    writer.wait_for_readers(2, PATIENCE).expect("they are there");
    let mut later = kind.reader(&domain.node("later"));
    for reader in [&mut reader, &mut late, &mut later] {
        assert_eq!(kind.await_newest(reader, 1), left, "{}", kind.name);
        assert!(reader.has_writer() && !reader.is_orphaned());
    }
    kind.set(&mut writer, 2..3);
    for reader in [&mut reader, &mut late, &mut later] {
        let value = reader.changed(PATIENCE).expect("waiting succeeds").expect("it has been written");
        kind.check(&value, 2);
        assert!(value.version() > left);
    }
    drop(writer);
    until("the writer has left", || !reader.has_writer());
    let mut last = kind.reader(&node);
    assert!(kind.await_newest(&mut last, 2) > left);
}

#[test]
fn the_next_writer_takes_over_with_its_first_value() {
    with_each_kind!(check_next_writer_takes_over);
}

/// So long that it is not copied while others wait for that.
#[test]
fn a_very_long_value_is_handed_down() {
    let long = Kind { name: "very long", value: |number| bytes(number, 5 << 20), many: 3 };
    check_value_outlives_its_writer(&long);
    check_next_writer_takes_over(&long);
    let domain = Domain::new();
    let keeping = domain.node_without_thread("keeper");
    let serving = keeping.clone();
    let mut keeper = long.reader(&keeping);
    let writing = domain.node("writer");
    let mut writer = long.writer(&writing);
    long.set(&mut writer, 1..2);
    let newest = keeper.wait(PATIENCE).expect("waiting succeeds").expect("it has been written");
    long.check(&newest, 1);
    drop(writer);
    until("the writer has left", || serving.dispatch().is_ok() && !keeper.has_writer());
    let reading = start(move || {
        let mut late = long.reader(&writing);
        long.await_newest(&mut late, 1)
    });
    until("it is passed on", || serving.dispatch().is_ok() && reading.has_finished());
    assert_eq!(reading.finish(), keeper.version());
}

#[test]
fn without_a_reader_nothing_is_left() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut reader = inline().reader(&other);
    leave_value(&inline(), &node, 1, &mut [&mut reader]);
    drop(reader);
    let mut late = inline().reader(&domain.node("late"));
    assert!(late.read().expect("reading succeeds").is_none());
    assert!(!late.is_orphaned());
}

#[test]
fn a_long_line_of_readers_hands_a_value_down() {
    let domain = Domain::new();
    let mut reader = pooled().reader(&domain.node("first"));
    let version = leave_value(&pooled(), &domain.node("writer"), 3, &mut [&mut reader]);
    for _ in 0..10 {
        // Each from a node of its own, and the one before leaves at once.
        let mut next = pooled().reader(&domain.node("next"));
        assert_eq!(next.wait(PATIENCE).expect("waiting succeeds").map(|value| number_of(&*value)), Some(3));
        reader = next;
    }
    assert_eq!(pooled().check_newest(&mut reader, 3), version);
}

#[test]
fn writers_follow_each_other_while_readers_come_and_go() {
    let domain = Domain::new();
    let keeper_node = domain.node("keeper");
    let mut keeper = inline().reader(&keeper_node);
    let writer_node = domain.node("writer");
    let mut writer = inline().writer(&writer_node);
    writer.wait_for_readers(1, PATIENCE).expect("it is there");
    writer.set(&words(0)).expect("setting succeeds");
    drop(writer);
    let writing = start(move || {
        for number in 1..=60 {
            let mut writer = writer_node.state("state").writer_timeout(PATIENCE).expect("nobody else writes");
            writer.set(&words(number)).expect("setting succeeds");
        }
    });
    let reading_node = domain.node("readers");
    let mut newest = 0;
    while !writing.has_finished() {
        let mut reader = inline().reader(&reading_node);
        // The keeper has a value, and so there is one for everybody.
        let value = reader.wait(PATIENCE).expect("waiting succeeds").expect("there is one");
        let number = number_of(&*value);
        inline().check(&value, number);
        newest = newest.max(number);
    }
    writing.finish();
    until("the last one arrives", || {
        number_of(&*keeper.read().expect("reading succeeds").expect("one")) == 60
    });
    assert!(newest > 0, "some of them were seen on the way");
    let mut joined = 0;
    while let Some(event) = keeper.try_event() {
        joined += u64::from(matches!(event, Event::Joined(_)));
    }
    assert_eq!(joined, 61, "every writer was met, and nobody else");
    assert_eq!(keeper_node.violations(), (0, None));
}
