//! The fear: a region that is handed over, asked for favours, or robbed of its name is not what it was.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Resource, Rlimit, setrlimit};
use tidepost::{LockError, Mutex, Node, Region, RegionError, Shared};

use crate::parts::{say, wait};
use crate::stage::{Actor, PATIENCE, Stage, may_start_apart, skip};

#[derive(Shared)]
#[repr(C)]
pub struct Till {
    made: u64,
    sum: Mutex<u64>,
}

/// Attaches what the test names by a path to a descriptor, its own or ours, and dies with its lock.
pub fn attach_descriptor(node: &Node) {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).expect("the test says it");
    let open = || File::options().read(true).write(true).open(path.trim()).expect("we are the same user");
    let till = node.region::<Till>("").attach_fd(open().into()).expect("it is a region");
    assert_eq!((till.made, till.name()), (3, ""));
    let error = node.region::<Mutex<u64>>("").attach_fd(open().into());
    assert!(matches!(error, Err(RegionError::TypeMismatch { .. })), "{error:?}");
    let mut guard = till.sum.lock().expect("it is free");
    *guard += 5;
    say(till.attached().len());
    wait();
}

#[test]
fn a_region_without_a_name_is_handed_over_by_its_descriptor() {
    let stage = Stage::new();
    let node = stage.node();
    let till = node.region::<Till>("").create_anonymous(|till| till.made = 3).expect("it can be made");
    let report = node.inspect(PATIENCE).expect("we are there");
    assert!(report.iter().all(|node| node.publishers.is_empty()), "nobody is told of it");
    // Handed over, by whatever way; and inherited.
    let handed = till.as_fd().as_raw_fd();
    let inherited = till.as_fd().try_clone_to_owned().expect("descriptors are left");
    rustix::io::fcntl_setfd(&inherited, FdFlags::empty()).expect("it is open");
    for path in [
        format!("/proc/{}/fd/{handed}", std::process::id()),
        format!("/proc/self/fd/{}", inherited.as_raw_fd()),
    ] {
        dies_with_its_lock(&till, stage.start("descriptor-attacher", ""), &path);
    }
}

fn dies_with_its_lock(till: &Region<Till>, mut actor: Actor, path: &str) {
    *till.sum.lock().expect("it is free") = 0;
    actor.tell(path);
    actor.expect("2");
    let locked = till.sum.lock_timeout(Duration::from_millis(20));
    assert!(matches!(locked, Err(LockError::Owned { owner, .. }) if owner.process == actor.pid()));
    drop(locked);
    actor.kill();
    let error = till.sum.lock_timeout(PATIENCE).expect_err("its owner died");
    assert!(matches!(&error, LockError::OwnerDied(guard) if **guard == 5), "{error}");
    error.into_guard().expect("it was taken").mark_consistent();
}

fn locked_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("it is among them");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

/// Asks for everything that can be asked for, and says what came of it.
pub fn ask_favours(node: &Node) {
    const BYTES: usize = 4 << 20;
    let region = node.region_bytes("favoured").create(BYTES).expect("it can be made");
    fn refused(what: &str, asked: Result<(), RegionError>) -> Option<Errno> {
        match asked {
            Ok(()) => None,
            Err(RegionError::System { action, source, .. }) if action.contains(what) => Some(source),
            Err(error) => panic!("{error}"),
        }
    }
    // A kernel without it says so.
    let is_known = |asked| matches!(refused("prefault", asked), None | Some(Errno::NOSYS));
    assert!(is_known(region.prefault()));
    assert!(matches!(refused("huge pages", region.use_huge_pages()), None | Some(Errno::INVAL)));
    let before = locked_kib();
    match refused("lock it in memory", region.lock_in_memory()) {
        None => assert!(locked_kib() - before >= BYTES as u64 / 1024, "it says that it is locked"),
        Some(error) => assert!(matches!(error, Errno::NOMEM | Errno::AGAIN | Errno::PERM), "{error}"),
    }
    let first = refused("NUMA", region.prefer_numa_node(0));
    assert!(matches!(first, None | Some(Errno::NOSYS | Errno::PERM | Errno::INVAL)), "{first:?}");
    assert!(refused("NUMA", region.prefer_numa_node(5000)).is_some(), "there is no such node");
    // Whatever they said, it is used as before.
    region.write_at(BYTES - 4, b"tide").expect("it is as long");
    let reader = node.region_bytes("favoured").attach_read_only().expect("we have it");
    assert!(is_known(reader.prefault()));
    let mut bytes = [0; 4];
    reader.read_at(BYTES - 4, &mut bytes).expect("it is as long");
    say(String::from_utf8_lossy(&bytes));
    wait();
}

#[test]
fn favours_are_granted_or_refused_with_a_reason() {
    let stage = Stage::new();
    stage.start("favour-asker", "").expect("tide");
}

/// Has a limit on locked memory, which no privilege lifts in a namespace of users.
pub fn lock_too_much(node: &Node) {
    let limit = Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
    setrlimit(Resource::Memlock, limit).expect("a limit can be lowered");
    let region = node.region_bytes("heavy").create(1 << 20).expect("it can be made");
    let error = region.lock_in_memory().expect_err("that is more than the limit");
    assert!(
        matches!(error, RegionError::System { source: Errno::NOMEM | Errno::AGAIN | Errno::PERM, .. }),
        "{error}"
    );
    region.write_at(0, b"as before").expect("it is as it was");
    say("refused");
    wait();
}

#[test]
fn a_limit_on_locked_memory_is_told() {
    if may_start_apart() {
        Stage::new().start_apart("poor", "").expect("refused");
    }
}

fn till(node: &Node) -> Region<Till> {
    node.region::<Till>("till").patience(PATIENCE).open_with(|till| till.made = 1).expect("it can be made")
}

/// Has a region, adds to it when told, and says the sum; or, if it is to leave, lets go of it when told.
pub fn keep(node: &Node, leaves: u64) {
    let till = till(node);
    loop {
        say(*till.sum.lock().expect("nobody dies"));
        wait();
        if leaves == 1 {
            drop(till);
            say("gone");
            return wait();
        }
        *till.sum.lock().expect("nobody dies") += 1;
    }
}

#[test]
fn a_name_that_is_removed_is_free_and_whoever_has_the_region_keeps_it() {
    let stage = Stage::new();
    let (node, other) = (stage.node(), stage.node());
    let ours = till(&node);
    let mut keeper = stage.start("till-keeper", "");
    keeper.expect("0");
    // Anybody can, whatever it holds.
    other.region_bytes("till").remove().expect("it is there");
    for node in [&node, &other] {
        let gone = node.region::<Till>("till").attach().expect_err("it has no name any more");
        assert!(matches!(gone, RegionError::NotFound { .. }), "{gone}");
        let gone = node.region_bytes("till").remove().expect_err("it has no name any more");
        assert!(matches!(gone, RegionError::NotFound { .. }), "{gone}");
    }
    let fresh = other.region::<Till>("till").create().expect("the name is free");
    *fresh.sum.lock().expect("nobody has it") = 100;
    // The two that have the first one share it still.
    keeper.go();
    keeper.expect("1");
    assert_eq!(*ours.sum.lock().expect("nobody has it"), 1);
    // Whoever comes now gets the new one, also from a node that has both.
    let both = node.region::<Till>("till").attach().expect("it is there");
    assert_eq!(*both.sum.lock().expect("nobody has it"), 100);
    drop(fresh);
    let mut late = stage.start("till-keeper", "");
    late.expect("100");
}

/// The fear: an offer that was made while the name was there comes late, to somebody who asks once it has been taken away. Who has made
/// it may have the region still, or have let go of it.
#[test]
fn an_offer_that_comes_late_brings_no_name_back() {
    late_offer("0");
    late_offer("1");
}

fn late_offer(leaves: &str) {
    let stage = Stage::new();
    let node = stage.node();
    let ours = till(&node);
    let mut keeper = stage.start("till-keeper", leaves);
    keeper.expect("0");
    let idle = Node::builder().directory(stage.directory()).control_thread(false).open();
    let idle = idle.expect("it can be opened");
    let attach = || idle.region::<Till>("till").patience(PATIENCE).attach();
    let has_news = |patience: Duration| {
        let limit = patience.try_into().expect("it is short");
        poll(&mut [PollFd::new(&idle, PollFlags::IN)], Some(&limit)) == Ok(1)
    };
    let attach_and_hear_all = || {
        drop(attach().expect("it is there"));
        while has_news(Duration::from_millis(100)) {
            idle.dispatch().expect("it is open");
        }
    };
    // They know each other from now on.
    attach_and_hear_all();
    keeper.stop();
    // One answer will do; the other one comes when nobody waits for it any more.
    attach_and_hear_all();
    keeper.signal(libc::SIGCONT);
    assert!(has_news(PATIENCE), "the keeper answers");
    if leaves == "1" {
        keeper.go();
        keeper.expect("gone");
    }
    node.region_bytes("till").patience(PATIENCE).remove().expect("it is there");
    let gone = attach().expect_err("it has no name any more");
    assert!(matches!(gone, RegionError::NotFound { .. }), "{gone}");
    let fresh = node.region::<Till>("till").patience(PATIENCE).create().expect("the name is free");
    *fresh.sum.lock().expect("nobody has it") = 100;
    let found = attach().expect("it is there");
    assert_eq!(*found.sum.lock().expect("nobody has it"), 100);
    drop(ours);
}

/// Mounts a small file system, and keeps regions in it until it is full.
pub fn fill_a_disk(node: &Node) {
    let place = Stage::of_part().directory().join("disk");
    fs::create_dir(&place).expect("the directory is ours");
    let path = CString::new(place.as_os_str().as_encoded_bytes()).expect("a path has no zero byte");
    // SAFETY: four texts that end with a zero byte, and live until the call is over.
    let mounted = unsafe {
        let options = c"size=1m".as_ptr().cast();
        libc::mount(c"none".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, options)
    };
    if mounted != 0 {
        say(format!("cannot mount: {}", std::io::Error::last_os_error()));
        wait();
    }
    let full = |error| matches!(error, RegionError::System { source: Errno::NOSPC, .. });
    let error = node.region_bytes("").open_file(place.join("large"), 8 << 20).expect_err("there is no room");
    assert!(full(error.clone()), "{error}");
    let small = node.region_bytes("").len_max(8 << 20).open_file(place.join("small"), 65_536);
    let small = small.expect("there is room for that");
    let error = small.grow(4 << 20).expect_err("there is no room");
    assert!(full(error.clone()), "{error}");
    small.write_at(65_530, b"still").expect("it is as long as before");
    small.flush().expect("it is there");
    say("full");
    wait();
}

#[test]
fn a_full_disk_is_an_error_and_nothing_worse() {
    if !may_start_apart() {
        return;
    }
    let stage = Stage::new();
    let said = stage.start_apart("disk-filler", "").hear();
    if said.starts_with("cannot mount") {
        return skip(said);
    }
    assert_eq!(said, "full");
}

/// Who is stopped has the region, and answers nobody; another has it, too.
#[test]
fn who_is_stopped_keeps_nobody_from_attaching() {
    let stage = Stage::new();
    let mut keeper = stage.start("till-keeper", "");
    keeper.expect("0");
    let node = stage.node();
    let ours = till(&node);
    let other = stage.node();
    keeper.stop();
    let attached = other.region::<Till>("till").patience(PATIENCE).attach().expect("we have it");
    assert_eq!(attached.made, 1);
    drop((attached, ours));
    // Now nobody but the one that is stopped has it.
    let patience = Duration::from_millis(80);
    let silent = other.region::<Till>("till").patience(patience).attach().expect_err("nobody answers");
    assert!(matches!(silent, RegionError::Silent { waited, .. } if waited == patience), "{silent}");
    keeper.signal(libc::SIGCONT);
    assert_eq!(other.region::<Till>("till").patience(PATIENCE).attach().expect("it answers").made, 1);
}
