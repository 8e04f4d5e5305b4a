//! `push` and `pull`. The fear: an item is lost, or seen twice without a word.

use rustix::process::Signal;

use crate::stage::{Scratch, Tool, json, until};

/// Waits until the only queue has so many consumers, which hold so many items in all.
fn wait_for(scratch: &Scratch, consumers: usize, held: u64) {
    until("items to be given to consumers", || {
        let census = json(&scratch.run(&["ls", "--json", "--timeout", "0.2"], b"").success());
        let queue = &census["queues"][0];
        let readers = queue["producers"][0]["readers"].as_array()?;
        let lag: u64 = readers.iter().filter_map(|reader| reader["lag"].as_u64()).sum();
        (readers.len() == consumers && lag == held).then_some(())
    });
}

#[test]
fn every_line_goes_to_one_of_them() {
    let scratch = Scratch::new();
    let pull = || scratch.start(&["pull", "q", "--until-end"]);
    let pullers = [pull(), pull(), pull()];
    let mut expected: Vec<String> = (0..3000).map(|number| format!("{number}")).collect();
    scratch.run(&["push", "q"], (expected.join("\n") + "\n").as_bytes()).success();
    let outputs = pullers.map(|puller| puller.finish().success());
    let mut pulled: Vec<String> =
        outputs.iter().flat_map(|output| output.lines().map(str::to_owned)).collect();
    pulled.sort();
    expected.sort();
    assert!(pulled == expected, "each exactly once");
}

#[test]
fn what_a_killed_one_had_goes_to_the_next_and_says_so() {
    let scratch = Scratch::new();
    let first = scratch.start(&["pull", "q"]);
    let mut pusher = scratch.start(&["push", "q"]);
    wait_for(&scratch, 1, 0);
    first.stop();
    pusher.feed_and_keep(b"1\n2\n3\n");
    wait_for(&scratch, 1, 3);
    first.signal(Signal::KILL);
    let heir = scratch.run(&["pull", "q", "--count", "3", "--json"], b"").success();
    let items: Vec<serde_json::Value> = heir.lines().map(json).collect();
    let texts: Vec<&str> = items.iter().filter_map(|item| item["text"].as_str()).collect();
    assert_eq!(texts, ["1", "2", "3"]);
    assert!(items.iter().all(|item| item["redelivered"] == true), "{heir}");
    let fresh = scratch.start(&["pull", "q", "--count", "1", "--json"]);
    pusher.feed_and_keep(b"4\n");
    assert_eq!(json(&fresh.finish().success())["redelivered"], false);
    pusher.feed(Vec::new());
    assert_eq!(pusher.finish().success(), "", "every item was acknowledged");
}

#[test]
fn a_pusher_ends_when_all_has_been_acknowledged_or_says_what_has_not() {
    let scratch = Scratch::new();
    let waiting = scratch.run(&["push", "q", "--timeout", "0.2"], b"1\n2\n");
    assert!(!waiting.status.success() && waiting.stderr.contains("queue `q`"), "{}", waiting.stderr);
    let lost = scratch.run(&["push", "q", "--no-wait"], b"1\n2\n");
    assert_eq!(lost.stderr, "tidepost: 2 items were given to nobody, and lost\n");
    lost.success();
    let mut pusher = scratch.start(&["push", "q"]);
    pusher.feed(b"1\n2\n".to_vec());
    assert_eq!(scratch.run(&["pull", "q", "--count", "2"], b"").success(), "1\n2\n");
    pusher.finish().success();
}

#[test]
fn a_full_queue_does_as_it_was_told() {
    let scratch = Scratch::new();
    let push = |policy: &str| scratch.start(&["push", "q", "--depth", "2", "--overflow", policy]);
    let feed = |mut pusher: Tool| {
        pusher.feed(b"1\n2\n3\n4\n5\n".to_vec());
        pusher
    };
    let refused = feed(push("fail")).finish();
    assert!(!refused.status.success() && refused.stderr.contains("queue `q`"), "{}", refused.stderr);
    let mut dropping = push("drop-oldest");
    dropping.feed_and_keep(b"1\n2\n3\n4\n5\n");
    until("the pusher to have read everything", || {
        let census = json(&scratch.run(&["ls", "--json"], b"").success());
        (census["queues"][0]["producers"][0]["waiting"] == 2).then_some(())
    });
    // It may have read two lines, or all of them.
    dropping.feed_and_keep(b"6\n");
    dropping.feed(b"7\n".to_vec());
    let outcome = dropping_end(&scratch, dropping);
    assert_eq!(outcome.0, "6\n7\n");
    assert!(outcome.1.contains("5 items were dropped to make room"), "{}", outcome.1);
    let blocking = feed(push("block"));
    assert_eq!(scratch.run(&["pull", "q", "--count", "5"], b"").success(), "1\n2\n3\n4\n5\n");
    blocking.finish().success();
}

/// What is left for a consumer once the pusher has told what it dropped.
fn dropping_end(scratch: &Scratch, mut pusher: Tool) -> (String, String) {
    let told = pusher.error_line();
    let pulled = scratch.run(&["pull", "q", "--count", "2"], b"").success();
    pusher.finish().success();
    (pulled, told)
}

#[test]
fn items_of_any_type_are_printed() {
    let scratch = Scratch::new();
    let node = scratch.node("typed");
    let mut producer =
        node.queue::<[f32; 2]>("q").producer(tidepost::Overflow::Block).expect("the queue is ours");
    producer.push(&[1.5, -2.0]).expect("there is room");
    assert_eq!(scratch.run(&["pull", "q", "--count", "1"], b"").success(), "[1.5, -2.0]\n");
    let refused = scratch.run(&["pull", "q", "--timeout", "0.1"], b"");
    assert!(refused.stderr.contains("nothing came on `q` for 0.1 s"), "{}", refused.stderr);
}

/// The fear: the pusher waits for those who cannot take anything, and does not say so.
#[test]
fn a_waiting_pusher_tells_who_cannot_take_its_items() {
    let scratch = Scratch::new();
    let node = scratch.node("other");
    let other = || node.queue::<u64>("q").consumer().expect_err("it takes other items");
    for options in [&["--depth", "1"][..], &[]] {
        let mut pusher = scratch.start(&[&["push", "q"], options].concat());
        pusher.feed(b"1\n2\n".to_vec());
        let listed = || json(&scratch.run(&["ls", "--json"], b"").success());
        until("the pusher to wait", || {
            (listed()["queues"][0]["producers"][0]["waiting"].as_u64() > Some(0)).then_some(())
        });
        other();
        let told = pusher.error_line();
        assert!(told.contains("a consumer turned this queue down: node `other`: name differs"), "{told}");
        assert_eq!(scratch.run(&["pull", "q", "--count", "2"], b"").success(), "1\n2\n");
        pusher.finish().success();
    }
}
