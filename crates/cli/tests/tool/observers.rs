//! The fear: somebody who only looks holds a publisher up, or loses messages without a word.

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value as Json;
use tidepost::{Overflow, Publisher};

use crate::stage::{PATIENCE, Scratch, Tool, json, until};

/// More messages than any ring of the default size holds.
pub const MANY: u64 = 100_000;

/// Starts a tool that reads, stops it (SIGSTOP), publishes more than there is room for, and lets it go on.
pub fn stopped_meanwhile(scratch: &Scratch, arguments: &[&str]) -> Tool {
    let node = scratch.node("fast");
    let topic = node.topic::<[u8]>("t").timestamps();
    let mut publisher: Publisher<[u8]> = topic.publisher(Overflow::Block).expect("the topic is ours");
    let tool = scratch.start(arguments);
    publisher.wait_for_subscribers(1, PATIENCE).expect("the tool comes");
    tool.stop();
    for number in 0..MANY {
        let sent = publisher.send_timeout(number.to_string().as_bytes(), PATIENCE);
        sent.expect("nobody waits for an observer");
    }
    drop(publisher);
    tool.signal(Signal::CONT);
    tool
}

#[test]
fn a_stopped_observer_holds_nobody_up_and_is_told_what_it_lost() {
    let scratch = Scratch::new();
    let outcome = stopped_meanwhile(&scratch, &["sub", "t", "--json", "--until-end"]).finish();
    let stderr = outcome.stderr.clone();
    let messages: Vec<Json> = outcome.success().lines().map(json).collect();
    let lost: u64 = messages.iter().filter_map(|message| message["lost"].as_u64()).sum();
    assert!(lost > 0, "so many messages do not fit into the ring");
    assert_eq!(lost + messages.len() as u64, MANY);
    assert_eq!(messages.last().expect("the newest are there")["text"], (MANY - 1).to_string());
    let gaps = messages.iter().filter(|message| message["lost"] != 0);
    let publisher = |message: &Json| {
        let endpoint = message["publisher"].as_str().expect("it is text").to_owned();
        let (node, number) = endpoint.split_once('.').expect("node and number");
        format!("{}.{number}", &node[..8])
    };
    let mut expected: Vec<String> = gaps
        .map(|message| {
            let (lost, sequence, publisher) = (&message["lost"], &message["sequence"], publisher(message));
            format!("tidepost: {lost} messages were lost before message {sequence} of {publisher} (`fast`)")
        })
        .collect();
    expected.push(format!("tidepost: {lost} messages were lost in all"));
    let told: Vec<String> =
        stderr.lines().map(|line| line.replace(" 1 message was ", " 1 messages were ")).collect();
    assert_eq!(told, expected);
}

/// Waits until a publisher and a subscriber of two tools have found each other.
pub fn wait_for_pair(scratch: &Scratch) {
    let probe = scratch.node("probe");
    until("a publisher with a subscriber", || {
        let mut reports = probe.inspect(PATIENCE).expect("the domain is ours").into_iter();
        reports.any(|report| report.publishers.iter().any(|of| !of.readers.is_empty())).then_some(())
    });
}

#[test]
fn a_policy_that_drops_lets_nobody_wait_for_reliable_subscribers_either() {
    for policy in ["drop-oldest", "latest"] {
        let scratch = Scratch::new();
        let subscriber = scratch.start(&["sub", "t", "--reliable", "--until-end"]);
        let mut publisher = scratch.start(&[
            "pub",
            "t",
            "--overflow",
            policy,
            "--wait-subscribers",
            "1",
            "--count",
            "100001",
        ]);
        let lines = |range: std::ops::Range<u64>| -> Vec<u8> {
            range.flat_map(|number| format!("{number}\n").into_bytes()).collect()
        };
        wait_for_pair(&scratch);
        subscriber.stop();
        publisher.feed(lines(0..MANY + 1));
        publisher.finish().success();
        subscriber.signal(Signal::CONT);
        let outcome = subscriber.finish();
        assert!(outcome.stderr.contains("lost in all"), "{policy}: {}", outcome.stderr);
        let received = outcome.success();
        assert_eq!(received.lines().last(), Some("100000"), "{policy}: the newest is there");
    }
}

#[test]
fn a_publisher_that_must_not_wait_says_that_it_cannot_go_on() {
    let scratch = Scratch::new();
    let subscriber = scratch.start(&["sub", "t", "--reliable"]);
    let mut publisher = scratch.start(&["pub", "t", "--overflow", "fail", "--wait-subscribers", "1"]);
    wait_for_pair(&scratch);
    subscriber.stop();
    publisher.feed("x\n".repeat(MANY as usize).into_bytes());
    let outcome = publisher.finish();
    assert!(!outcome.status.success());
    assert!(outcome.stderr.contains("topic `t` is full"), "{}", outcome.stderr);
}

#[test]
fn who_comes_late_gets_as_much_history_as_it_asks_for() {
    let scratch = Scratch::new();
    let mut publisher = scratch.start(&["pub", "t", "--history", "3", "--wait-subscribers", "1"]);
    let first = scratch.start(&["sub", "t", "--reliable", "--count", "5"]);
    publisher.feed_and_keep(b"1\n2\n3\n4\n5\n");
    assert_eq!(first.finish().success(), "1\n2\n3\n4\n5\n");
    let late = |options: &[&str]| scratch.run(&[&["sub", "t"], options].concat(), b"").success();
    assert_eq!(late(&["--count", "3"]), "3\n4\n5\n");
    assert_eq!(late(&["--count", "2", "--history", "2"]), "4\n5\n");
    let none = scratch.run(&["sub", "t", "--history", "0", "--timeout", "0.1"], b"");
    assert!(none.stdout.is_empty() && none.stderr.contains("nothing came"), "{}", none.stderr);
}

/// What there is no memory for is not lost without a word: who reads ends with an error, who publishes is told.
#[test]
fn who_has_no_memory_for_a_message_says_so() {
    let scratch = Scratch::new();
    let mut subscriber = scratch.start(&["sub", "t", "--reliable", "--until-end"]);
    let mut publisher = scratch.start(&["pub", "t", "--wait-subscribers", "1"]);
    publisher.feed_and_keep(b"small\n");
    assert_eq!(subscriber.line(), "small");
    let status = std::fs::read_to_string(format!("/proc/{}/status", subscriber.pid())).expect("it lives");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a process has a size");
    let kibibytes: u64 = size.trim().trim_end_matches(" kB").parse().expect("it is a number");
    let bytes = Some((kibibytes + 4096) << 10);
    let pid = Pid::from_raw(subscriber.pid().cast_signed());
    prlimit(pid, Resource::As, Rlimit { current: bytes, maximum: bytes }).expect("it is our child");
    let mut lines = vec![b'x'; 8 << 20];
    lines.extend(b"\nafter it\n");
    publisher.feed_and_keep(&lines);
    let outcome = subscriber.finish();
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(
        outcome.stdout.is_empty()
            && outcome.stderr.contains("nothing more can be received from node `tidepost-pub`")
    );
    assert!(outcome.stderr.contains("cannot map a pool segment"), "{}", outcome.stderr);
    // It says so beside the first message that it sends once it has heard of that.
    let told = until("the publisher to be told", || {
        publisher.feed_and_keep(b"once more\n");
        publisher.try_error_line()
    });
    assert!(
        told.contains("a subscriber turned this topic down") && told.contains("cannot map a pool segment"),
        "{told}"
    );
}
