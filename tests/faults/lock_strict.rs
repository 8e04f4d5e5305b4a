//! The fear: a lock that nobody else wants makes a system call; or one that somebody wants needs the control thread.

use std::time::Duration;

use tidepost::{
    Condvar, Counter, EventFlag, LockError, Mutex, Node, Once, Region, RwLock, Semaphore, SeqLock, Shared,
};

use crate::parts::{say, wait};
use crate::seccomp::{ONE_AT_A_TIME, strictly};
use crate::stage::{PATIENCE, Stage};

const ROUNDS: u64 = 20_000;

/// One of everything that can be used without waiting.
#[derive(Shared)]
#[repr(C)]
pub struct Everything {
    mutex: Mutex<u64>,
    shelf: RwLock<u64>,
    permits: Semaphore,
    changed: Condvar,
    event: EventFlag,
    padding: u32,
    once: Once,
    newest: SeqLock<[u64; 7]>,
    alignment: [u64; 14],
    tally: Counter,
}

fn use_everything(everything: &mut Region<Everything>) {
    for round in 0..ROUNDS {
        *everything.mutex.lock().expect("it is free") += 1;
        *everything.mutex.try_lock().expect("it is free") += 1;
        *everything.shelf.write().expect("it is free") += 1;
        assert!(*everything.shelf.read().expect("it is free") > round);
        assert!(everything.permits.release(2) && everything.permits.try_acquire());
        everything.permits.acquire();
        everything.changed.notify_all();
        everything.event.set();
        everything.event.wait();
        everything.event.reset();
        everything.once.call_once(|| ()).expect("it is free");
        everything.newest.write(&[round; 7]).expect("it is free");
        assert_eq!(everything.newest.read(), [round; 7]);
        everything.tally.add(1);
    }
}

/// Uses locks that nobody else wants, in strict mode.
pub fn lock(node: &Node) {
    let region = node.region::<Everything>("everything").create().expect("it can be made");
    strictly(region, use_everything, use_everything);
    wait();
}

#[test]
fn locks_that_nobody_else_wants_make_no_system_call() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let stage = Stage::new();
    stage.start("strict-locker", "").expect("0 faults, 0 allocations");
}

fn counter(node: &Node) -> Region<Mutex<u64>> {
    node.region::<Mutex<u64>>("unattended").patience(PATIENCE).open().expect("it is there or can be made")
}

/// Waits for a lock in a process that has no control thread.
pub fn wait_without_thread() {
    let builder = Node::builder().name("threadless").control_thread(false);
    let node = builder.directory(Stage::of_part().directory()).open().expect("the domain is ours");
    let counter = counter(&node);
    counter.owner().expect("there are seats");
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    let names = tasks.map(|task| std::fs::read_to_string(task.expect("it lives").path().join("comm")));
    assert!(names.flatten().all(|name| !name.starts_with("tidepost")), "there is no control thread");
    say("waits");
    match counter.lock() {
        Err(LockError::OwnerDied(mut guard)) => {
            *guard += 1;
            guard.mark_consistent();
            say("its owner died");
        }
        other => panic!("{other:?}"),
    }
    wait();
}

#[test]
fn an_owners_death_is_noticed_without_a_control_thread() {
    let stage = Stage::new();
    let mut owner = stage.start("unattended-owner", "");
    owner.expect("has it");
    let mut waiter = stage.start("threadless-waiter", "");
    waiter.expect("waits");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(waiter.try_hear(), None, "it is had");
    owner.kill();
    waiter.expect("its owner died");
}

/// Has the lock until it is killed.
pub fn own(node: &Node) {
    let counter = counter(node);
    let _guard = counter.lock().expect("it is free");
    say("has it");
    wait();
}
