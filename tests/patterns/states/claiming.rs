//! One writer at a time, and what is told of it.

use std::time::Duration;

use tidepost::{EndpointError, StateError};

use crate::states::stage::{Domain, PATIENCE, PAUSE, inline, start, until, words};

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let domain = Domain::new();
    let (node, other) = (domain.node("first"), domain.node("second"));
    let writer = inline().writer(&node);
    for node in [&node, &other] {
        let error = node.state::<u64>("state").writer().expect_err("there is one, of whatever type");
        let text = error.to_string();
        assert!(matches!(error, StateError::Claimed { by: Some(_), .. }), "{text}");
        assert!(text.contains("`first`") && text.contains(&std::process::id().to_string()), "{text}");
    }
    let _another_state = other.state::<u64>("another").writer().expect("it is another name");
    let _topic =
        other.topic::<u64>("state").publisher(tidepost::Overflow::Fail).expect("it is another pattern");
    drop(writer);
    inline().writer(&other);
}

#[test]
fn a_writer_waits_for_the_one_before() {
    let domain = Domain::new();
    let (node, other) = (domain.node("first"), domain.node("second"));
    let mut writer = inline().writer(&node);
    let mut reader = inline().reader(&node);
    writer.set(&words(1)).expect("setting succeeds");
    let error = other.state::<[u64; 7]>("state").writer_timeout(Duration::from_millis(20));
    assert!(matches!(error.expect_err("it stays"), StateError::Claimed { .. }));
    let waiting = start(move || {
        let mut writer = other.state("state").writer_timeout(PATIENCE).expect("the first one leaves");
        writer.set(&words(2)).expect("setting succeeds");
        writer.version()
    });
    std::thread::sleep(PAUSE);
    let version = inline().await_newest(&mut reader, 1);
    drop(writer);
    let next = waiting.finish();
    assert!(next > version, "{next} comes after {version}");
    assert_eq!(inline().await_newest(&mut reader, 2), next);
}

#[test]
fn a_writer_that_waits_ends_with_its_node() {
    let domain = Domain::new();
    let node = domain.node("first");
    let _writer = inline().writer(&node);
    for other in [domain.node("second"), domain.node_without_thread("third")] {
        let stopped = other.clone();
        let waiting = start(move || other.state::<u64>("state").writer_timeout(PATIENCE).map(drop));
        std::thread::sleep(PAUSE);
        stopped.shutdown();
        let error = waiting.finish().expect_err("there is no other end");
        assert!(matches!(error, StateError::Endpoint { source: EndpointError::ShutDown, .. }), "{error}");
    }
}

#[test]
fn versions_rise_from_writer_to_writer() {
    let domain = Domain::new();
    let node = domain.node("node");
    let mut reader = inline().reader(&node);
    let mut last = 0;
    for round in 0..20 {
        let other = domain.node("writer");
        let mut writer = inline().writer(&other);
        assert!(writer.version() > last, "whoever comes starts above");
        for number in 10 * round..10 * round + round % 3 {
            writer.set(&words(number)).expect("setting succeeds");
            let version = inline().await_newest(&mut reader, number);
            assert!(version > last && version == writer.version());
            last = version;
        }
    }
}

#[test]
fn nothing_of_a_claim_is_left_behind() {
    let domain = Domain::new();
    let node = domain.node("node");
    let writer = inline().writer(&node);
    assert_eq!(domain.claims(), 1);
    drop(writer);
    until("the writer has left, and nobody needs its number", || {
        let _next_open = domain.node("cleaner");
        domain.claims() == 0
    });
}

#[test]
fn awkward_names_and_options_are_refused() {
    let domain = Domain::new();
    let node = domain.node("node");
    assert!(matches!(node.state::<u64>("").writer(), Err(StateError::Name(_))));
    assert!(matches!(node.state::<u64>("..").reader(), Err(StateError::Name(_))));
    let error = node.state::<[u8]>("state").slot_bytes(1 << 20).writer().expect_err("no slot is as long");
    assert!(error.to_string().starts_with("state `state`: slot bytes"), "{error}");
    let error = node.state_dyn("state").writer().expect_err("it has no type");
    assert!(matches!(error, StateError::NoType { .. }), "{error}");
    inline().writer(&node);
}
