//! The fear: somebody on the control socket who talks nonsense, or nothing, stops everybody else.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};
use tidepost::{Node, Overflow};

use crate::stage::{PATIENCE, Stage};

fn call(stage: &Stage, node: &Node) -> OwnedFd {
    let address = SocketAddrUnix::new(stage.directory().join(format!("nodes/{}.sock", node.id())))
        .expect("it is short");
    let caller =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("sockets are available");
    rustix::net::connect(&caller, &address).expect("the node listens");
    caller
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").expect("it is everywhere").into()
}

/// Sends a greeting of this version, with two descriptors that are no pidfd and no bell.
pub fn greet(caller: &OwnedFd, version: u8) {
    let mut frame = vec![1, 0, version, 0, version, 0];
    frame.extend([7; 16]);
    frame.extend([1, 0, b'x', 1, 0, 0, 0, 0]);
    send_with(caller, &frame, &[null(), null()]);
}

fn send_with(caller: &OwnedFd, frame: &[u8], descriptors: &[OwnedFd]) {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)), "the space is enough");
    rustix::net::sendmsg(caller, &[IoSlice::new(frame)], &mut ancillary, SendFlags::NOSIGNAL)
        .expect("it listens");
}

/// Waits until the node has hung up on the caller.
fn is_hung_up_on(caller: &OwnedFd) {
    let mut buffer = [0; 65536];
    while rustix::net::recv(caller, &mut buffer[..], RecvFlags::empty()).is_ok_and(|(length, _)| length > 0) {
    }
}

/// Whether the node still serves everybody else.
fn serves(stage: &Stage, node: &Node, topic: &str) {
    let other = stage.node();
    let mut publisher = node.topic::<u64>(topic).publisher(Overflow::Block).expect("the topic is ours");
    let mut subscriber = other.topic::<u64>(topic).subscriber().expect("the types agree");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is heard after all who called before");
    publisher.send(&7).expect("a blocking send succeeds");
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds");
    assert_eq!(sample.as_deref(), Some(&7));
}

#[test]
fn garbage_ends_the_caller_and_nobody_else() {
    let stage = Stage::new();
    let node = stage.node();
    let garbage: [&[u8]; 6] =
        [b"x", b"GET / HTTP/1.1\r\n\r\n", &[0; 65536], &[0xff; 300], &[12, 0, 9, 0, 0, 0], &[5, 0]];
    for (count, frame) in garbage.iter().enumerate() {
        let caller = call(&stage, &node);
        rustix::net::send(&caller, frame, SendFlags::NOSIGNAL).expect("it listens");
        is_hung_up_on(&caller);
        assert_eq!(node.violations().0, count as u64 + 1, "{:?}", node.violations().1);
    }
    serves(&stage, &node, "after-garbage");
}

#[test]
fn descriptors_that_are_not_what_they_should_be_end_the_caller() {
    let stage = Stage::new();
    let node = stage.node();
    let caller = call(&stage, &node);
    greet(&caller, 1);
    is_hung_up_on(&caller);
    let caller = call(&stage, &node);
    send_with(&caller, &[12, 0, 1, 0, 0, 0], &[null(), null(), null(), null()]);
    is_hung_up_on(&caller);
    let (count, last) = node.violations();
    assert_eq!(count, 2, "{last:?}");
    serves(&stage, &node, "after-descriptors");
}

#[test]
fn silence_is_bounded_and_harms_nobody() {
    let stage = Stage::new();
    let node = stage.node();
    let callers: Vec<_> = (0..100).map(|_| call(&stage, &node)).collect();
    serves(&stage, &node, "among-the-silent");
    callers.iter().for_each(is_hung_up_on);
    let (count, _) = node.violations();
    assert_eq!(count, 100, "all were sent away: 64 when their time was over, the others when more came");
    serves(&stage, &node, "after-silence");
}

/// A peer that opens its mouth in the middle of things: everything up to there is undone.
#[test]
fn a_caller_that_hangs_up_at_once_leaves_nothing() {
    let stage = Stage::new();
    let node = stage.node();
    (0..200).for_each(|_| drop(call(&stage, &node)));
    serves(&stage, &node, "after-hanging-up");
    // The one that was served has left, and is noticed at once, but not by us.
    let start = std::time::Instant::now();
    while !node.peers().is_empty() && start.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    assert_eq!(node.peers(), []);
}
