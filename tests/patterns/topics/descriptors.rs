//! The fear: a descriptor in a wait set that its owner uses or exchanges is not heard any more, or is said to be ready for one
//! that has gone.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use tidepost::{Interest, Key, Overflow, Ready, WaitSet};

use crate::stage::{Domain, PATIENCE, PAUSE, start};

/// One end of a pipe that is read, whatever it is exchanged for.
struct End(OwnedFd);

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn pipe() -> (End, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("descriptors are left");
    (End(reader.into()), writer)
}

fn add(set: &mut WaitSet) -> (Key<End>, std::io::PipeWriter) {
    let (reader, writer) = pipe();
    (set.add_fd(reader, Interest::Read).expect("it can be watched"), writer)
}

fn new_set() -> WaitSet {
    WaitSet::new().expect("descriptors are left")
}

fn wait(set: &mut WaitSet) -> Ready {
    let ready = set.wait_timeout(PATIENCE).expect("waiting succeeds");
    ready.expect("something is ready")
}

fn is_quiet(set: &mut WaitSet) -> bool {
    set.wait_timeout(Duration::from_millis(1)).expect("waiting succeeds").is_none()
}

fn read_byte(end: &End) -> u8 {
    let mut byte = [0];
    assert_eq!(rustix::io::read(end, &mut byte).expect("there is one"), 1);
    byte[0]
}

#[test]
fn another_descriptor_of_the_same_number_is_watched() {
    let mut set = new_set();
    let (key, first) = add(&mut set);
    assert!(is_quiet(&mut set));
    let (next, mut writer) = pipe();
    // The number stays, and the kernel forgets what was watched under it.
    rustix::io::dup2(&next, &mut set[key].0).expect("it is open");
    drop((next, first));
    assert!(is_quiet(&mut set));
    let writing = start(move || {
        std::thread::sleep(PAUSE);
        writer.write_all(b"x").expect("the pipe is open");
        writer
    });
    assert!(wait(&mut set) == key && read_byte(&set[key]) == b'x');
    drop(writing.finish());
    assert!(wait(&mut set) == key, "the other end hung up");
}

#[test]
fn what_was_exchanged_and_lives_on_elsewhere_is_not_said() {
    let mut set = new_set();
    let ((key, mut first), (other, mut second)) = (add(&mut set), add(&mut set));
    assert!(is_quiet(&mut set));
    let (next, mut third) = pipe();
    let former = std::mem::replace(&mut set[key], next);
    first.write_all(b"1").expect("the pipe is open");
    assert!(is_quiet(&mut set), "that is not in the set any more");
    third.write_all(b"3").expect("the pipe is open");
    assert!(wait(&mut set) == key && read_byte(&set[key]) == b'3');
    assert!(is_quiet(&mut set));
    // It may come back, under another key, and in the place of another.
    let back = set.add_fd(former, Interest::Read).expect("it is in no set");
    assert!(wait(&mut set) == back && read_byte(&set[back]) == b'1');
    let (spare, _fourth) = pipe();
    let former = std::mem::replace(&mut set[back], spare);
    let of_other = std::mem::replace(&mut set[other], former);
    drop(std::mem::replace(&mut set[back], of_other));
    assert!(is_quiet(&mut set));
    for (writer, key) in [(&mut first, other), (&mut second, back)] {
        writer.write_all(b"x").expect("the pipe is open");
        assert!(wait(&mut set) == key && read_byte(&set[key]) == b'x');
        assert!(is_quiet(&mut set));
    }
    // One that is exchanged and then removed leaves nothing behind.
    let (next, _fifth) = pipe();
    let former = std::mem::replace(&mut set[other], next);
    drop(set.remove(other));
    first.write_all(b"x").expect("the pipe is open");
    let (after, _sixth) = add(&mut set);
    assert!(is_quiet(&mut set) && read_byte(&former) == b'x');
    assert!(set.get(after).is_some());
}

#[test]
fn who_looks_at_a_descriptor_all_the_time_does_not_keep_it_from_being_said() {
    let domain = Domain::new();
    let node = domain.node("all");
    let mut set = new_set();
    let busy = set.add(node.topic::<u64>("t").subscriber().expect("the types agree"));
    let busy = busy.expect("descriptors are left");
    let (key, mut writer) = add(&mut set);
    let mut publisher = node.topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    // It is never taken, so that the endpoint is always ready.
    publisher.send(&1).expect("there is room");
    assert!(wait(&mut set) == busy);
    writer.write_all(b"x").expect("the pipe is open");
    let mut said = 0;
    for _ in 0..1000 {
        said += u32::from(wait(&mut set) == key);
        // As somebody may do anything with it.
        assert!(set.get_mut(key).is_some());
    }
    assert!(said >= 100, "{said} times");
    assert_eq!(read_byte(set.get_mut(key).expect("it is in the set")), b'x');
    for _ in 0..200 {
        assert!(wait(&mut set) == busy, "it has been read");
        assert!(set.get_mut(key).is_some());
    }
}
