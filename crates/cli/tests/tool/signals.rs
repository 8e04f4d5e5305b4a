//! `signal` and `wait`. The fear: who waits is not woken, or for the wrong thing.

use crate::stage::{Scratch, json, until};

#[test]
fn who_waits_is_told_what_came_and_how_often() {
    let scratch = Scratch::new();
    let waiters = [&["wait", "gates", "--ids", "4"][..], &["wait", "gates", "--ids", "4", "--json"]];
    let waiters = waiters.map(|arguments| scratch.start(arguments));
    let arguments = ["signal", "gates", "3", "--ids", "4", "--count", "2", "--wait-waiters", "2"];
    assert_eq!(scratch.run(&arguments, b"").success(), "");
    let [text, object] = waiters.map(|waiter| waiter.finish().success());
    assert_eq!(text, "id=3 count=2\n");
    assert_eq!(json(&object), serde_json::json!({ "id": 3, "count": 2 }));
}

#[test]
fn a_waiter_can_wait_for_many() {
    let scratch = Scratch::new();
    let mut waiter = scratch.start(&["wait", "tick", "--count", "3"]);
    let signal = ["signal", "tick", "--wait-waiters", "1"];
    for _ in 0..2 {
        scratch.run(&signal, b"").success();
        assert_eq!(waiter.line(), "id=0 count=1");
    }
    scratch.run(&signal, b"").success();
    assert_eq!(waiter.finish().success(), "id=0 count=1\n");
}

#[test]
fn what_cannot_be_is_said() {
    let scratch = Scratch::new();
    let nothing = scratch.run(&["wait", "tick", "--timeout", "0.1"], b"");
    assert_eq!(nothing.status.code(), Some(1));
    assert!(nothing.stderr.contains("nothing came on `tick` for 0.1 s"), "{}", nothing.stderr);
    let wrong = scratch.run(&["signal", "tick", "7"], b"");
    assert!(wrong.stderr.contains("signal `tick` has no id 7"), "{}", wrong.stderr);
    let node = scratch.node("other");
    let waiter = node.signal("tick").ids(2).waiter().expect("nobody is there yet");
    // Nobody is turned down before the two have met, which it does not wait for.
    until("it is turned down", || {
        let outcome = scratch.run(&["signal", "tick"], b"");
        outcome.stderr.contains("a waiter turned this signal down").then_some(())
    });
    assert!(!waiter.refusals().is_empty());
}

/// The fear: somebody waits for ever, and nothing says that the two sides do not agree.
#[test]
fn who_waits_is_told_of_everybody_who_is_not_heard() {
    let scratch = Scratch::new();
    let mut waiter = scratch.start(&["wait", "tick"]);
    let node = scratch.node("other");
    let other = || {
        let notifier = node.signal("tick").ids(2).notifier().expect("the signal is ours");
        until("the waiter to turn it down", || notifier.refusals().into_iter().next());
    };
    // The waiter may come later than we do.
    until("the waiter", || json(&scratch.run(&["ls", "--json"], b"").success())["signals"].get(0).cloned());
    for _ in 0..70 {
        other();
        let told = waiter.error_line();
        assert!(told.starts_with("tidepost: a notifier is not heard: node `other`: "), "{told}");
    }
    assert!(waiter.is_running());
}
