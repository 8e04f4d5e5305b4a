//! What a reader finds, whatever the size of the value: the newest, whole, as often as it looks.

use tidepost::{Node, Payload, StateError, StateReader, TypeDescriptor, Untyped};

use crate::states::stage::{
    Domain, Kind, PATIENCE, body, inline, number_of, pooled, slice, start, turned_down, until,
    with_each_kind, words,
};

fn check_newest_is_read<T: Payload + ?Sized>(kind: &Kind<T>) {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut writer = kind.writer(&node);
    let mut readers = [kind.reader(&node), kind.reader(&other)];
    for reader in &mut readers {
        until("the writer lets it in", || reader.has_writer());
        assert!(reader.read().expect("reading succeeds").is_none(), "{}: nothing is written", kind.name);
        assert!(reader.borrow().expect("reading succeeds").is_none());
        assert_eq!((reader.version(), reader.is_orphaned(), reader.has_writer()), (0, false, true));
    }
    for end in [1, 2, 3, 10, 100, 150] {
        kind.set(&mut writer, end - 1..end);
        for reader in &mut readers {
            kind.await_newest(reader, end - 1);
            // As often as it likes.
            for _ in 0..3 {
                assert_eq!(kind.check_newest(reader, end - 1), writer.version(), "{}", kind.name);
                let borrowed = reader.borrow().expect("reading succeeds").expect("there is one");
                kind.check(&borrowed, end - 1);
            }
            assert_eq!(reader.version(), writer.version());
        }
    }
    let mut late = kind.reader(&other);
    assert_eq!(
        kind.await_newest(&mut late, 149),
        writer.version(),
        "{}: who comes later finds it",
        kind.name
    );
    assert_eq!(node.violations(), (0, None));
}

#[test]
fn the_newest_value_is_read_as_often_as_one_likes() {
    with_each_kind!(check_newest_is_read);
}

/// A value that stays as it is while it is looked at.
fn check_lent_value_stays<T: Payload + ?Sized>(kind: &Kind<T>) {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut writer = kind.writer(&node);
    let (mut borrowing, mut copying) = (kind.reader(&other), kind.reader(&other));
    kind.set(&mut writer, 0..1);
    kind.await_newest(&mut borrowing, 0);
    kind.await_newest(&mut copying, 0);
    let borrowed = borrowing.borrow().expect("reading succeeds").expect("there is one");
    let copied = copying.read().expect("reading succeeds").expect("there is one");
    kind.set(&mut writer, 1..kind.many);
    kind.check(&borrowed, 0);
    kind.check(&copied, 0);
    kind.await_newest(&mut borrowing, kind.many - 1);
    kind.await_newest(&mut copying, kind.many - 1);
}

#[test]
fn what_is_lent_stays_as_it_is_until_the_next_look() {
    with_each_kind!(check_lent_value_stays);
}

/// Every value that is read is whole, and versions only rise.
fn read_until<T: Payload + ?Sized>(kind: &Kind<T>, mut reader: StateReader<T>, last: u64) {
    let (mut seen, mut version) = (None, 0);
    while seen != Some(last) {
        let value = if version % 2 == 0 { reader.read() } else { reader.borrow() };
        let Some(value) = value.expect("reading succeeds") else { continue };
        let number = number_of(&*value);
        kind.check(&value, number);
        assert!(value.version() >= version && seen.is_none_or(|seen| number >= seen), "{}", kind.name);
        assert_eq!(value.version() == version, seen == Some(number), "{}: a version is a value", kind.name);
        (seen, version) = (Some(number), value.version());
    }
}

fn check_whole_under_way<T: Payload + ?Sized + 'static>(kind: fn() -> Kind<T>) {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut writer = kind().writer(&node);
    let last = kind().many - 1;
    let readers = [kind().reader(&node), kind().reader(&other)];
    let reading = readers.map(|reader| start(move || read_until(&kind(), reader, last)));
    kind().set(&mut writer, 0..last + 1);
    reading.into_iter().for_each(|work| work.finish());
}

#[test]
fn whoever_reads_while_somebody_writes_finds_whole_values() {
    check_whole_under_way(inline);
    check_whole_under_way(body);
    check_whole_under_way(slice);
    check_whole_under_way(pooled);
}

#[test]
fn a_value_is_written_in_place() {
    let domain = Domain::new();
    let node = domain.node("node");
    let mut writer = inline().writer(&node);
    let mut reader = inline().reader(&node);
    let mut loan = writer.loan().expect("there is always room");
    *loan = words(3);
    assert!(reader.read().expect("reading succeeds").is_none());
    loan.send();
    assert_eq!(inline().check_newest(&mut reader, 3), writer.version());
    drop(writer.loan().expect("there is always room"));
    inline().check_newest(&mut reader, 3);

    let mut writer = node.state::<[u16]>("slices").writer().expect("nobody else writes");
    let mut reader = node.state::<[u16]>("slices").reader().expect("the types agree");
    for length in [0, 1, 100, 100_000] {
        let mut loan = writer.loan(length).expect("there is memory");
        loan.fill(length as u16);
        loan.send();
        let value = reader.read().expect("reading succeeds").expect("there is one");
        assert!(value.len() == length && value.iter().all(|element| *element == length as u16));
    }
}

#[test]
fn types_have_to_agree() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut writer = node.state::<u64>("state").writer().expect("nobody else writes");
    let error = turned_down(|| other.state::<f64>("state").reader());
    let text = error.to_string();
    assert!(matches!(error, StateError::TypeMismatch { .. }) && text.contains("`writer`"), "{text}");
    until("the writer is told", || matches!(writer.try_event(), Some(tidepost::Event::Refused(_))));
    assert!(!writer.refusals().is_empty());
}

fn untyped_writer(node: &Node, descriptor: TypeDescriptor) -> tidepost::StateWriter<Untyped> {
    node.state_dyn("state").value_type(descriptor).writer().expect("nobody else writes")
}

#[test]
fn values_tell_their_type_to_those_who_do_not_know_it() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    let mut reader = other.state_dyn("state").reader().expect("it takes any type");
    let types = [
        <u64 as Payload>::descriptor(),
        <[u8; 3] as Payload>::descriptor(),
        <[f32] as Payload>::descriptor(),
    ];
    for (descriptor, bytes) in types.into_iter().flatten().zip([&[7u8; 8][..], &[1, 2, 3], &[0; 40]]) {
        let mut writer = untyped_writer(&node, descriptor.clone());
        assert!(writer.set(Untyped::new(&[0; 7])).is_err(), "it is no value of the type");
        writer.set(Untyped::new(bytes)).expect("it is one");
        let value = reader.changed(PATIENCE).expect("waiting succeeds").expect("it has been written");
        assert_eq!((&**value, value.value_type()), (bytes, Some(&descriptor)));
        let mut typed_by_name =
            other.state_dyn("state").value_type(descriptor).reader().expect("it is this type");
        until("it comes", || typed_by_name.read().expect("reading succeeds").is_some());
    }
    let typed = <u64 as Payload>::descriptor().expect("it is typed");
    let mut writer = untyped_writer(&node, typed);
    let mut loan = writer.loan(8).expect("there is room");
    loan.fill(9);
    loan.send();
    let value = reader.changed(PATIENCE).expect("waiting succeeds").expect("it has been written");
    assert_eq!(**value, [9; 8]);
}

#[test]
fn who_trusts_nobody_reads_copies() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    for kind in [slice(), pooled()] {
        let mut writer = kind.writer(&node);
        let mut reader = other.state::<[u8]>("state").copied().reader().expect("the types agree");
        for number in 0..20 {
            kind.set(&mut writer, number..number + 1);
            kind.await_newest(&mut reader, number);
        }
    }
}

#[test]
fn the_newest_value_stays_until_the_next_is_whole_whoever_holds_the_one_before() {
    let domain = Domain::new();
    let (node, other) = (domain.node("writer"), domain.node("reader"));
    // Two of them are more than a pool may usually have.
    const LENGTH: usize = 5 << 20;
    let mut writer = node.state::<[u64]>("state").writer().expect("nobody else writes");
    let mut reader = other.state::<[u64]>("state").reader().expect("the types agree");
    writer.set(&vec![1; LENGTH]).expect("there is memory");
    until("the first one comes", || reader.borrow().expect("reading succeeds").is_some());
    writer.set(&vec![2; LENGTH]).expect("there is memory");
    let third = writer.loan(LENGTH).expect("there is memory");
    let mut late = other.state::<[u64]>("state").reader().expect("the types agree");
    let newest = late.wait(PATIENCE).expect("waiting succeeds").expect("there is one");
    assert!(newest.len() == LENGTH && newest.iter().all(|word| *word == 2));
    drop(third);
}
