//! The fear: processes of two containers, both with the number 1, are taken for one another.

use std::time::Duration;

use tidepost::{LockError, Mutex, MutexGuard, Node, Region, RwLock, Shared};

use crate::parts::{say, wait};
use crate::stage::{PATIENCE, Stage, may_start_apart};

#[derive(Shared)]
#[repr(C)]
pub struct Desk {
    mutex: Mutex<u64>,
    shelf: RwLock<u64>,
}

fn desk(node: &Node) -> Region<Desk> {
    node.region::<Desk>("desk").patience(PATIENCE).open().expect("it is there or can be made")
}

fn numbers() -> String {
    // SAFETY: no pointers.
    format!("{} {}", std::process::id(), unsafe { libc::gettid() })
}

/// Has both locks until the test lets go.
pub fn own(node: &Node) {
    let desk = desk(node);
    let (mutex, shelf) = (desk.mutex.lock().expect("it is free"), desk.shelf.write().expect("it is free"));
    say(numbers());
    wait();
    drop((mutex, shelf));
    say("gave them back");
    wait();
}

/// Waits for both locks, and says what it was told.
pub fn await_both(node: &Node) {
    fn told<G>(locked: Result<G, LockError<G>>) -> &'static str {
        match locked {
            Ok(_) => "has it",
            Err(LockError::OwnerDied(_)) => "its owner died",
            Err(error) => panic!("{error}"),
        }
    }
    let desk = desk(node);
    desk.mutex.owner().expect("there are seats");
    say(numbers());
    say(told::<MutexGuard<'_, u64>>(desk.mutex.lock_timeout(PATIENCE)));
    say(told(desk.shelf.write_timeout(PATIENCE)));
    wait();
}

#[test]
fn owners_and_waiters_in_namespaces_of_their_own_are_told_apart() {
    if !may_start_apart() {
        return;
    }
    let stage = Stage::new();
    let node = stage.node();
    let desk = desk(&node);
    let mut owner = stage.start_apart("desk-owner", "");
    let number = owner.hear();
    assert!(number.starts_with("1 "), "{number}: it is not the first of its namespace");
    let is_had = || {
        let locked = desk.mutex.lock_timeout(Duration::from_millis(30));
        matches!(locked, Err(LockError::Owned { owner, .. }) if owner.is_alive)
            && matches!(desk.shelf.try_write(), Err(LockError::Owned { owner, .. }) if owner.is_alive)
    };
    for _ in 0..3 {
        // A waiter with the very same numbers dies; the owner lives.
        let mut waiter = stage.start_apart("desk-waiter", "");
        assert_eq!(waiter.hear(), number);
        waiter.kill();
        assert!(is_had(), "robbed by the death of another with its numbers");
    }
    // The owner dies; a waiter with the very same numbers is told.
    let mut waiter = stage.start_apart("desk-waiter", "");
    assert_eq!(waiter.hear(), number);
    owner.kill();
    waiter.expect("its owner died");
    waiter.expect("its owner died");
}
