//! The fear: a storm of notifications, or a process that is stopped or killed in the middle of one, has a waiter miss some,
//! be told of some that never were, or hold its notifiers up.

use std::time::{Duration, Instant};

use tidepost::{Event, Node, Notifier, Waiter};

use crate::parts::{say, wait};
use crate::seccomp::strictly;
use crate::stage::{Actor, PATIENCE, Stage};

/// Ids of the signal.
const IDS: u32 = 100;
/// Notifications of a storm, from each notifier.
const STORM: u64 = 2_000_000;
/// Rounds in which both sides fall asleep.
const ROUNDS: u64 = 2_000;
/// Notifications before and under strict mode.
const WARM: u64 = 100_000;
/// Notifiers that are killed.
const KILLS: u64 = 20;

fn notifier(node: &Node) -> Notifier {
    node.signal("storm").ids(IDS).notifier().expect("the signal is ours")
}

fn waiter(node: &Node) -> Waiter {
    node.signal("storm").ids(IDS).waiter().expect("the numbers agree")
}

/// The id of a storm's notification.
fn id_of(number: u64) -> u32 {
    (number * 7 % u64::from(IDS)) as u32
}

/// How often each id comes in so many storms.
fn expected(storms: u64) -> Vec<u64> {
    let mut counts = vec![0; IDS as usize];
    (0..STORM).for_each(|number| counts[id_of(number) as usize] += storms);
    counts
}

/// Notifies as fast as it can, once so many waiters are there.
pub fn storm(node: &Node, waiters: u64) {
    let mut notifier = notifier(node);
    notifier.wait_for_waiters(waiters as usize, PATIENCE).expect("they come");
    (0..STORM).for_each(|number| notifier.notify(id_of(number)).expect("there is such an id"));
    say("done");
    wait();
}

/// Looks now and then, until so many storms have come whole.
pub fn weather(node: &Node, storms: u64) {
    let mut waiter = waiter(node);
    say("listening");
    let mut counts = vec![0; IDS as usize];
    while counts.iter().sum::<u64>() < storms * STORM {
        let notices = waiter.wait().expect("waiting succeeds");
        notices.iter().for_each(|notice| counts[notice.id as usize] += notice.count);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(counts, expected(storms));
    say("weathered");
    wait();
}

#[test]
fn a_storm_is_counted_to_the_last() {
    let stage = Stage::new();
    let mut waiters: Vec<Actor> = (0..2).map(|_| stage.start("weatherer", "2")).collect();
    waiters.iter_mut().for_each(|waiter| waiter.expect("listening"));
    let mut notifiers: Vec<Actor> = (0..2).map(|_| stage.start("storm", "2")).collect();
    notifiers.iter_mut().for_each(|notifier| notifier.expect("done"));
    waiters.iter_mut().for_each(|waiter| waiter.expect("weathered"));
}

#[test]
fn a_stopped_waiter_holds_nobody_up_and_is_told_everything_later() {
    let stage = Stage::new();
    let mut stopped = stage.start("weatherer", "1");
    stopped.expect("listening");
    let mut other = stage.start("weatherer", "1");
    other.expect("listening");
    stopped.stop();
    let node = stage.node();
    let mut notifier = notifier(&node);
    // The stopped one was connected before; whether it has been let in shows when it goes on.
    notifier.wait_for_waiters(1, PATIENCE).expect("the other comes");
    stopped.signal(libc::SIGCONT);
    notifier.wait_for_waiters(2, PATIENCE).expect("both come");
    stopped.stop();
    (0..STORM).for_each(|number| notifier.notify(id_of(number)).expect("there is such an id"));
    other.expect("weathered");
    stopped.signal(libc::SIGCONT);
    stopped.expect("weathered");
}

#[test]
fn a_stopped_notifier_is_only_silent() {
    let stage = Stage::new();
    let node = stage.node();
    let mut waiter = waiter(&node);
    let mut storm = stage.start("storm", "1");
    let mut sum = waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("it begins").total();
    storm.stop();
    while let Some(notices) = waiter.wait_timeout(Duration::from_millis(5)).expect("waiting succeeds") {
        sum += notices.total();
    }
    assert_eq!(waiter.notifiers(), 1, "silence is not death");
    // Others are heard meanwhile.
    let mut other = notifier(&node);
    other.notify(3).expect("there is such an id");
    let notices = waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("it is heard");
    assert_eq!((notices.len(), notices.count_of(3)), (1, 1));
    storm.signal(libc::SIGCONT);
    while sum < STORM {
        sum += waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("it goes on").total();
    }
    assert_eq!(sum, STORM);
    storm.expect("done");
}

/// Notifies of two ids in turn, for ever.
pub fn alternate(node: &Node) {
    let mut notifier = notifier(node);
    notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
    loop {
        notifier.notify(70).expect("there is such an id");
        notifier.notify(1).expect("there is such an id");
    }
}

#[test]
fn what_a_killed_notifier_said_is_told_and_no_more() {
    let stage = Stage::new();
    let node = stage.node();
    let mut waiter = waiter(&node);
    for _ in 0..KILLS {
        let alternating = stage.start("alternating-notifier", "");
        let (mut first, mut second) = (0, 0);
        let mut note = |notices: tidepost::Notices<'_>| {
            assert_eq!(notices.count_of(70) + notices.count_of(1), notices.total());
            first += notices.count_of(70);
            second += notices.count_of(1);
        };
        note(waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("it begins"));
        alternating.kill();
        let start = Instant::now();
        while waiter.notifiers() > 0 {
            assert!(start.elapsed() < PATIENCE, "its end is not noticed");
            std::thread::yield_now();
        }
        while let Some(notices) = waiter.try_wait().expect("waiting succeeds") {
            note(notices);
        }
        assert!(first == second || first == second + 1, "{first} and {second}");
    }
    assert_eq!(node.violations(), (0, None));
}

#[test]
fn a_killed_waiter_is_forgotten() {
    let stage = Stage::new();
    let node = stage.node();
    let mut notifier = notifier(&node);
    for _ in 0..3 {
        let mut waiting = stage.start("weatherer", "1");
        waiting.expect("listening");
        notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
        notifier.notify(5).expect("there is such an id");
        waiting.kill();
        let is_left = |event: Option<Event>| matches!(event, Some(Event::Left(_)));
        while !is_left(notifier.event_timeout(PATIENCE).expect("nobody cancels")) {}
        assert_eq!(notifier.waiters(), 0);
    }
}

/// Answers each notification.
pub fn echo(node: &Node) {
    let mut waiter = node.signal("ping").waiter().expect("the numbers agree");
    let mut notifier = node.signal("pong").notifier().expect("the signal is ours");
    notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
    say("listening");
    for _ in 0..ROUNDS {
        assert_eq!(waiter.wait().expect("waiting succeeds").total(), 1);
        notifier.notify(0).expect("there is such an id");
    }
}

#[test]
fn nobody_sleeps_through_a_notification() {
    let stage = Stage::new();
    let node = stage.node();
    let mut waiter = node.signal("pong").waiter().expect("the numbers agree");
    let mut notifier = node.signal("ping").notifier().expect("the signal is ours");
    let mut echo = stage.start("signal-echo", "");
    echo.expect("listening");
    notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
    for round in 0..ROUNDS {
        // Now and then long enough for the other side to fall asleep.
        if round % 4 == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
        notifier.notify(0).expect("there is such an id");
        let notices = waiter.wait_timeout(PATIENCE).expect("waiting succeeds");
        assert_eq!(notices.expect("it answers").total(), 1, "round {round}");
    }
    echo.ends();
}

/// Notifies under strict mode.
pub fn notify_strictly(node: &Node) {
    let mut notifier = notifier(node);
    notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
    let busy: fn(&mut Notifier) = |notifier| {
        (0..WARM).for_each(|number| notifier.notify(id_of(number)).expect("there is such an id"));
    };
    strictly(notifier, busy, busy);
    // Its end would be news for the waiter.
    wait();
}

/// A waiter, how many notifications it has been told of and is to be told of, and how often it has looked, and is to look.
struct Counting {
    waiter: Waiter,
    sum: u64,
    due: u64,
    looks: u64,
    looks_due: u64,
}

/// Waits under strict mode, without ever sleeping.
pub fn wait_strictly(node: &Node) {
    let counting = Counting { waiter: waiter(node), sum: 0, due: 0, looks: 0, looks_due: 0 };
    // One and the same code, so that no page of it is new under strict mode. It looks even where all has come before.
    let busy: fn(&mut Counting) = |counting| {
        counting.due += WARM;
        counting.looks_due += WARM;
        while counting.sum < counting.due || counting.looks < counting.looks_due {
            counting.looks += 1;
            if let Some(notices) = counting.waiter.try_wait().expect("waiting succeeds") {
                counting.sum += notices.total();
            }
        }
    };
    strictly(counting, busy, busy);
}

#[test]
fn the_busy_path_of_a_signal_makes_no_system_call_no_allocation_and_no_page_fault() {
    let stage = Stage::new();
    let mut waiter = stage.start("strict-waiter", "");
    let mut notifier = stage.start("strict-notifier", "");
    assert_eq!(notifier.hear(), "0 faults, 0 allocations", "the notifier");
    assert_eq!(waiter.hear(), "0 faults, 0 allocations", "the waiter");
}
