//! The fear: waiting costs, or a wake-up gets lost.

use std::time::Duration;

use crate::parts::{publisher, words};
use crate::stage::{PATIENCE, Stage};

/// Context switches of all threads of a process so far.
fn context_switches(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    threads
        .map(|thread| {
            std::fs::read_to_string(thread.expect("it lives").path().join("status")).expect("it lives")
        })
        .flat_map(|status| {
            status
                .lines()
                .filter(|line| line.contains("ctxt_switches"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|line| {
            line.split(':').nth(1).and_then(|count| count.trim().parse::<u64>().ok()).expect("a number")
        })
        .sum()
}

#[test]
fn an_idle_receiver_sleeps() {
    let stage = Stage::new();
    let node = stage.node();
    let mut sender = publisher(&node);
    let mut sleeper = stage.start("sleeper", "");
    sleeper.expect("asleep");
    sender.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
    std::thread::sleep(Duration::from_millis(500));
    let before = context_switches(sleeper.pid());
    std::thread::sleep(Duration::from_secs(5));
    let switches = context_switches(sleeper.pid()) - before;
    assert!(switches <= 2, "{switches} context switches in 5 s");
    sender.send(&words(0)).expect("a blocking send succeeds");
    sleeper.expect("woken");
}

#[test]
fn an_idle_wait_set_sleeps() {
    let stage = Stage::new();
    let node = stage.node();
    let mut sender = publisher(&node);
    let mut sleepers = [0, 1].map(|is_task| stage.start("set-sleeper", &is_task.to_string()));
    sleepers.iter_mut().for_each(|sleeper| sleeper.expect("asleep"));
    sender.wait_for_subscribers(2, PATIENCE).expect("they subscribed");
    std::thread::sleep(Duration::from_millis(500));
    let before = sleepers.each_ref().map(|sleeper| context_switches(sleeper.pid()));
    std::thread::sleep(Duration::from_secs(5));
    for (sleeper, before) in sleepers.iter().zip(before) {
        let switches = context_switches(sleeper.pid()) - before;
        assert!(switches <= 2, "{switches} context switches in 5 s");
    }
    sender.send(&words(0)).expect("a blocking send succeeds");
    sleepers.iter_mut().for_each(|sleeper| sleeper.expect("woken"));
}

/// Rounds of sleeping and waking at random offsets; `TIDEPOST_LONG=1` makes it a million.
#[test]
fn no_wake_up_is_lost() {
    let rounds = if std::env::var_os("TIDEPOST_LONG").is_some() { 1_000_000 } else { 20_000 };
    let stage = Stage::new();
    let node = stage.node();
    let mut sender = publisher(&node);
    let mut echo = stage.start("echo", &rounds.to_string());
    let mut answers = crate::parts::answers(&node);
    sender.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for number in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // From none to a few thousand turns: the other side is anywhere between polling and deep asleep.
        (0..random >> 52).for_each(|_| std::hint::spin_loop());
        sender.send(&words(number)).expect("a blocking send succeeds");
        // Without end: a lost wake-up hangs here, and the test runner shows it.
        assert_eq!(*answers.recv().expect("receiving succeeds"), words(number));
    }
    echo.expect("echoed");
}
