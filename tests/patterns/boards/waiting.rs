//! The fear: somebody waits – in a call, on a descriptor, as a future – for what has come already, and nobody wakes it; or it
//! is woken for ever for nothing.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use futures_lite::FutureExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidepost::{Node, Notifier, ReceiveError, Waiter};

use crate::stage::{Domain, PATIENCE, PAUSE, Work, start, until};

/// Notifications in these tests, each after a pause in which the other side falls asleep.
const ROUNDS: u64 = 300;

/// A notifier and a waiter of one signal.
fn pair(here: &Node, there: &Node) -> (Notifier, Waiter) {
    let notifier = here.signal("s").ids(3).notifier().expect("the signal is ours");
    let waiter = there.signal("s").ids(3).waiter().expect("the numbers agree");
    until("they let each other in", || notifier.waiters() == 1 && waiter.notifiers() == 1);
    (notifier, waiter)
}

/// Notifies so often, with pauses.
fn notify_with_pauses(mut notifier: Notifier) -> Work<Notifier> {
    start(move || {
        for round in 0..ROUNDS {
            std::thread::sleep(PAUSE);
            notifier.notify((round % 3) as u32).expect("there is such an id");
        }
        notifier
    })
}

fn is_readable(descriptor: BorrowedFd<'_>, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).expect("it is short");
    let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut descriptors, Some(&timeout)).expect("nothing interrupts") == 1
}

#[test]
fn a_sleeping_waiter_is_woken_each_time() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let (notifier, mut waiter) = pair(&here, &there);
    let notifying = notify_with_pauses(notifier);
    let mut sum = 0;
    while sum < ROUNDS {
        sum += waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("more come").total();
    }
    assert_eq!(sum, ROUNDS);
    drop(notifying.finish());
    assert!(waiter.wait_timeout(Duration::from_millis(1)).expect("waiting succeeds").is_none());
}

#[test]
fn waiters_of_nodes_without_threads_are_woken() {
    let domain = Domain::new();
    let here = domain.node("here");
    let waiting = {
        let there = domain.node_without_thread("there");
        start(move || {
            let mut waiter = there.signal("s").ids(3).waiter().expect("the numbers agree");
            let mut sum = 0;
            while sum < ROUNDS {
                sum += waiter.wait().expect("waiting succeeds").total();
            }
            sum
        })
    };
    let mut notifier = here.signal("s").ids(3).notifier().expect("the signal is ours");
    notifier.wait_for_waiters(1, PATIENCE).expect("it comes");
    drop(notify_with_pauses(notifier).finish());
    assert_eq!(waiting.finish(), ROUNDS);
}

#[test]
fn a_descriptor_is_readable_when_something_has_come() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let (mut notifier, mut waiter) = pair(&here, &there);
    let settle = |waiter: &mut Waiter, sum: &mut u64| {
        until("nothing is readable", || {
            while let Some(notices) = waiter.try_wait().expect("waiting succeeds") {
                *sum += notices.total();
            }
            !is_readable(waiter.as_fd().expect("descriptors are left"), Duration::ZERO)
        });
    };
    let mut sum = 0;
    settle(&mut waiter, &mut sum);
    for round in 1..=100 {
        notifier.notify(2).expect("there is such an id");
        assert!(is_readable(waiter.as_fd().expect("it is there"), PATIENCE), "nobody made it readable");
        settle(&mut waiter, &mut sum);
        assert_eq!(sum, round);
    }
    // Notifiers that come later are heard on it, too.
    let mut another = here.signal("s").ids(3).notifier().expect("the signal is ours");
    until("it is let in", || another.waiters() == 1 && waiter.notifiers() == 2);
    settle(&mut waiter, &mut sum);
    another.notify(0).expect("there is such an id");
    assert!(is_readable(waiter.as_fd().expect("it is there"), PATIENCE), "nobody made it readable");
    assert_eq!(waiter.wait().expect("it has come").count_of(0), 1);
}

#[test]
fn a_descriptor_that_is_watched_by_another_thread_is_woken_each_time() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let (notifier, mut waiter) = pair(&here, &there);
    let notifying = notify_with_pauses(notifier);
    let mut sum = 0;
    while sum < ROUNDS {
        assert!(is_readable(waiter.as_fd().expect("descriptors are left"), PATIENCE), "after {sum}");
        while let Some(notices) = waiter.try_wait().expect("waiting succeeds") {
            sum += notices.total();
        }
    }
    drop(notifying.finish());
}

#[test]
fn a_future_is_woken_each_time() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let (notifier, mut waiter) = pair(&here, &there);
    let notifying = notify_with_pauses(notifier);
    let sum = futures_lite::future::block_on(async {
        let mut sum = 0;
        while sum < ROUNDS {
            let late = async {
                async_io::Timer::after(PATIENCE).await;
                panic!("nobody wakes the task, after {sum}")
            };
            sum += async { waiter.wait_async().await.map(|notices| notices.total()) }
                .or(late)
                .await
                .expect("waiting succeeds");
        }
        sum
    });
    assert_eq!(sum, ROUNDS);
    drop(notifying.finish());
}

#[test]
fn a_future_that_is_dropped_loses_nothing() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let (mut notifier, mut waiter) = pair(&here, &there);
    for round in 1..50 {
        let is_there = futures_lite::future::block_on(futures_lite::future::poll_once(waiter.wait_async()));
        assert!(is_there.is_none(), "nothing has come");
        notifier.notify_many(1, round).expect("there is such an id");
        assert_eq!(waiter.wait().expect("it has come").count_of(1), u64::from(round));
    }
}

#[test]
fn a_cancel_ends_a_wait() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    for _ in 0..20 {
        let (_notifier, mut waiter) = pair(&here, &there);
        let handle = waiter.handle();
        let waiting = start(move || waiter.wait().map(|notices| notices.total()));
        std::thread::sleep(PAUSE);
        handle.cancel();
        assert!(matches!(waiting.finish(), Err(ReceiveError::Closed { .. })));
    }
}
