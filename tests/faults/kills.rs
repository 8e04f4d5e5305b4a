//! The fear: a killed process leaves files, memory, descriptors or waiting peers behind.

use std::fs;

use tidepost::{Overflow, Publisher, Subscriber};

use crate::parts::{Words, words};
use crate::stage::Stage;

/// Kills of each side.
const KILLS: usize = 50;

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc is mounted").count()
}

pub fn mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    maps.lines().filter(|line| line.contains("memfd:tidepost")).count()
}

/// Waits until a count that other threads bring down has come down.
pub fn settles(count: impl Fn() -> usize, to: usize) -> bool {
    let start = std::time::Instant::now();
    while count() > to && start.elapsed() < crate::stage::PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    count() <= to
}

/// In a process of its own: other tests open descriptors and mappings in ours.
#[test]
fn a_hundred_kills_leave_nothing() {
    let stage = Stage::new();
    let mut survivor = stage.start("survivor", &KILLS.to_string());
    survivor.expect("clean");
}

/// The fear: who looks on for long takes the dead for the silent, and looks for trouble where nobody is.
#[test]
fn the_killed_are_not_listed_as_silent_and_the_stopped_are() {
    let stage = Stage::new();
    let node = stage.node();
    let mut killed = stage.start("sleeper", "");
    let mut stopped = stage.start("sleeper", "");
    killed.expect("asleep");
    stopped.expect("asleep");
    stopped.stop();
    let dead = killed.pid();
    killed.kill();
    // Long enough for those who live: the stopped one makes it wait to the end.
    let reports = node.inspect(std::time::Duration::from_secs(1)).expect("the domain is ours");
    let silent: Vec<u32> =
        reports.iter().filter(|report| !report.has_answered).map(|report| report.pid).collect();
    assert_eq!(silent, [stopped.pid()], "and not {dead}, which was killed");
    stopped.kill();
    let left: Vec<u32> = node
        .inspect(crate::stage::PATIENCE)
        .expect("the domain is ours")
        .iter()
        .map(|report| report.pid)
        .collect();
    assert_eq!(left, [std::process::id()], "who dies is not listed any more, met or not");
}

/// The part of the process that outlives all the others.
pub fn survive(stage: &Stage, kills: usize) {
    let node = stage.node();
    let mut publisher = node.topic("checked").publisher(Overflow::Block).expect("the topic is ours");
    let mut subscriber = crate::parts::subscriber(&node);
    // One round of each first, for what is made only once.
    let mut sent = kill_subscriber(stage, &mut publisher, 0);
    kill_publisher(stage, &mut subscriber);
    let before = (descriptors(), mappings());
    for _ in 0..kills {
        sent = kill_subscriber(stage, &mut publisher, sent);
        kill_publisher(stage, &mut subscriber);
    }
    assert!(settles(descriptors, before.0), "{} descriptors, {} before", descriptors(), before.0);
    assert!(settles(mappings, before.1), "{} mappings, {} before", mappings(), before.1);
    drop((publisher, subscriber, node));
    drop(stage.node());
    assert_eq!(stage.files(), Vec::<std::path::PathBuf>::new());
}

/// Kills a subscriber while the publisher, which has sent `sent` messages, goes on; how many it has sent then.
fn kill_subscriber(stage: &Stage, publisher: &mut Publisher<Words>, sent: u64) -> u64 {
    let mut checker = stage.start("endless-checker", "");
    checker.expect("listening");
    let mut send = |number| publisher.send(&words(number)).expect("a dead subscriber holds nobody back");
    (sent..sent + 100).for_each(&mut send);
    checker.expect("receiving");
    checker.kill();
    // More than the ring holds: were the dead one waited for, this would never end.
    let end = sent + 20_000;
    (sent + 100..end).for_each(send);
    end
}

fn kill_publisher(stage: &Stage, subscriber: &mut Subscriber<Words>) {
    let mut counter = stage.start("endless-counter", "");
    counter.expect("counting");
    let first = subscriber.recv().expect("receiving succeeds").sequence();
    counter.kill();
    while subscriber.publishers() > 0 {
        std::thread::yield_now();
    }
    let mut next = first + 1;
    while let Some(sample) = subscriber.try_recv().expect("receiving succeeds") {
        assert_eq!(
            (sample.sequence(), *sample),
            (next, words(next)),
            "what was published is whole and in order"
        );
        next += 1;
    }
}
