//! The fear: members that have nothing cost something, each time that another has something. Looks are counted, not timed.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::io;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::{Endpoint, Key, Look, WaitSet, Waitable};
use crate::node::Node;
use crate::os::epoll::Wake;

/// What somebody else does to a member, and sees of it.
#[derive(Default)]
struct Other {
    is_ready: AtomicBool,
    looks: AtomicU64,
}

/// A member that is ready when it is told so.
struct Fake {
    node: Node,
    wake: Wake,
    is_prepared: bool,
    other: Arc<Other>,
}

impl Fake {
    fn new(node: &Node) -> Self {
        let wake = Wake::new().expect("descriptors are left");
        Self { node: node.clone(), wake, is_prepared: false, other: Arc::default() }
    }

    fn is_ready(&self) -> bool {
        self.other.is_ready.load(Ordering::Relaxed)
    }
}

impl Endpoint for Fake {
    fn look(&mut self) -> Look {
        self.other.looks.fetch_add(1, Ordering::Relaxed);
        if self.is_ready() { Look::Ready } else { Look::Nothing }
    }

    fn prepare(&mut self) -> bool {
        self.wake.drain();
        self.is_prepared = true;
        !self.is_ready()
    }

    fn is_prepared(&self) -> bool {
        self.is_prepared && !self.is_ready()
    }

    fn eventfd(&self) -> io::Result<&Arc<OwnedFd>> {
        Ok(self.wake.descriptor())
    }

    fn node(&self) -> &Node {
        &self.node
    }
}

impl Waitable for Fake {}

/// A member, from outside.
type Known = (Key<Fake>, Arc<Other>, Wake);

/// Many members, none of them ready, and everything settled.
fn stage(count: usize) -> (WaitSet, Vec<Known>) {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("it may be raised so far");
    let directory = std::env::temp_dir().join(format!("tidepost-set-test-{}-{count}", std::process::id()));
    let node = Node::builder().directory(&directory).open().expect("the domain is ours");
    let mut set = WaitSet::new().expect("descriptors are left");
    let members = (0..count).map(|_| {
        let fake = Fake::new(&node);
        let (other, wake) = (Arc::clone(&fake.other), fake.wake.clone());
        (set.add(fake).expect("descriptors are left"), other, wake)
    });
    let members = members.collect();
    drop(node);
    let _ = std::fs::remove_dir_all(directory);
    while set.wait_timeout(Duration::from_millis(1)).expect("waiting succeeds").is_some() {}
    (set, members)
}

fn looks_at_all(members: &[Known]) -> u64 {
    members.iter().map(|(_, other, _)| other.looks.load(Ordering::Relaxed)).sum()
}

/// Waits until all who have nothing are left to the kernel, which on a busy machine takes more waits than one: until one passes in
/// which nobody is looked at.
fn settle(set: &mut WaitSet, members: &[Known]) {
    let has_looked = |set: &mut WaitSet| {
        members.iter().for_each(|(_, other, _)| other.looks.store(0, Ordering::Relaxed));
        let found = set.wait_timeout(Duration::from_millis(1)).expect("waiting succeeds");
        found.is_some() || looks_at_all(members) > 0
    };
    assert!((0..1000).any(|_| !has_looked(set)), "they are looked at again and again");
}

#[test]
fn members_that_have_nothing_are_not_looked_at() {
    const WAITS: u64 = 1000;
    let (mut set, members) = stage(1000);
    settle(&mut set, &members);
    for ready in [500, 0, 999] {
        let (key, other, wake) = &members[ready];
        other.is_ready.store(true, Ordering::Relaxed);
        wake.signal();
        for _ in 0..WAITS {
            assert!(set.wait().expect("waiting succeeds") == *key);
        }
        let looks = other.looks.swap(0, Ordering::Relaxed);
        assert!((WAITS..=WAITS + WAITS / 4).contains(&looks), "{looks} looks at the one that is ready");
        other.is_ready.store(false, Ordering::Relaxed);
        assert_eq!(looks_at_all(&members), 0, "at those that had nothing all the while");
        settle(&mut set, &members);
    }
}

#[test]
fn a_few_members_are_looked_at_in_turn() {
    let (mut set, members) = stage(3);
    members.iter().for_each(|(_, other, _)| other.looks.store(0, Ordering::Relaxed));
    let (key, other, wake) = &members[1];
    other.is_ready.store(true, Ordering::Relaxed);
    wake.signal();
    for _ in 0..100 {
        assert!(set.wait().expect("waiting succeeds") == *key);
    }
    let looks = looks_at_all(&members);
    assert!(looks <= 3 * 101, "{looks} looks at three of them");
}
