//! `get`, `set` and `watch`. The fear: the value goes with the one who wrote it, or an old one comes back.

use rustix::process::Signal;

use crate::stage::{Scratch, json, until};

#[test]
fn a_value_stays_as_long_as_its_writer() {
    let scratch = Scratch::new();
    let get = |options: &[&str]| scratch.run(&[&["get", "level"], options].concat(), b"");
    let none = get(&[]);
    assert_eq!(
        (none.status.code(), none.stderr.as_str()),
        (Some(1), "tidepost: state `level` has no value\n")
    );
    let stayer = scratch.start(&["set", "level", "low", "--stay"]);
    assert_eq!(get(&["--timeout", "60"]).success(), "low\n");
    stayer.signal(Signal::TERM);
    assert!(!stayer.finish().status.success());
    let mut writer = scratch.start(&["set", "level"]);
    writer.feed_and_keep(b"rising\nhigh\n");
    let last = || get(&["--timeout", "60"]).success() == "high\n";
    until("the last value", || last().then_some(()));
    let other = scratch.run(&["set", "level", "other"], b"");
    assert!(!other.status.success() && other.stderr.contains("tidepost-set"), "{}", other.stderr);
    writer.feed(Vec::new());
    assert_eq!(writer.finish().success(), "");
    assert!(get(&[]).stderr.contains("has no value"));
}

#[test]
fn a_value_outlives_its_killed_writer_while_somebody_watches() {
    let scratch = Scratch::new();
    let mut watcher = scratch.start(&["watch", "level", "--json"]);
    let mut writer = scratch.start(&["set", "level"]);
    writer.feed_and_keep(b"1\n");
    let first = json(&watcher.line());
    assert_eq!((&first["text"], &first["length"]), (&"1".into(), &1.into()));
    writer.signal(Signal::KILL);
    assert!(!writer.finish().status.success());
    let alone = scratch.run(&["set", "level", "x", "--wait-readers", "9", "--wait-timeout", "0.1"], b"");
    assert!(alone.stderr.contains("of 9"), "{}", alone.stderr);
    let late = json(&scratch.run(&["get", "level", "--json", "--timeout", "60"], b"").success());
    assert_eq!(late, first, "value and version");
    scratch.run(&["set", "level", "2", "--timeout", "60"], b"").success();
    let second = json(&watcher.line());
    assert_eq!(second["text"], "2");
    assert!(second["version"].as_u64() > first["version"].as_u64(), "{first} {second}");
    assert_eq!(scratch.run(&["get", "level", "--timeout", "60"], b"").success(), "2\n");
}

#[test]
fn a_watcher_ends_when_it_was_told_to() {
    let scratch = Scratch::new();
    let mut writer = scratch.start(&["set", "level"]);
    let mut watcher = scratch.start(&["watch", "level", "--count", "2"]);
    writer.feed_and_keep(b"a\n");
    assert_eq!(watcher.line(), "a");
    writer.feed_and_keep(b"b\n");
    assert_eq!(watcher.finish().success(), "b\n");
    let nothing = scratch.run(&["watch", "level", "--timeout", "0.1"], b"");
    assert_eq!(crate::stage::text(&nothing.stdout), "b\n");
    assert!(nothing.stderr.contains("nothing new on `level` for 0.1 s"), "{}", nothing.stderr);
}

#[test]
fn values_of_any_type_are_printed() {
    let scratch = Scratch::new();
    let node = scratch.node("typed");
    let mut writer = node.state::<[i16; 3]>("level").writer().expect("the state is ours");
    writer.set(&[1, -2, 3]).expect("it is open");
    assert_eq!(scratch.run(&["get", "level", "--timeout", "60"], b"").success(), "[1, -2, 3]\n");
    assert_eq!(scratch.run(&["watch", "level", "--count", "1", "--hex"], b"").success().len(), 13);
}

#[test]
fn a_writer_that_stays_tells_who_cannot_read_it() {
    let scratch = Scratch::new();
    let mut writer = scratch.start(&["set", "level", "low", "--stay"]);
    assert_eq!(scratch.run(&["get", "level", "--timeout", "60"], b"").success(), "low\n");
    let node = scratch.node("other");
    node.state::<u64>("level").reader().expect_err("it reads other values");
    let told = writer.error_line();
    assert!(told.contains("a reader turned this state down: node `other`: name differs"), "{told}");
}
