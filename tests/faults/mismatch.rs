//! The fear: two programs that were built from different definitions talk past each other.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use tidepost::{Client, Overflow, Producer, TopicError};

use crate::parts::PoseOfFloats;
use crate::stage::{PATIENCE, Stage};

#[test]
fn the_first_field_that_differs_is_named_on_both_ends() {
    let stage = Stage::new();
    let mut sender = stage.start("pose-sender", "");
    sender.expect("ready");
    let node = stage.node();
    let error = node.topic::<PoseOfFloats>("pose").subscriber().expect_err("the types differ");
    let TopicError::TypeMismatch { refused, .. } = &error else { panic!("another error: {error}") };
    let difference = refused.difference.clone().expect("the types differ");
    assert_eq!(difference.what, "field `y`");
    assert_eq!(
        (difference.ours.as_str(), difference.theirs.as_str()),
        ("y: f32 at 8 of 4 B", "y: f64 at 8 of 8 B")
    );
    assert_eq!(refused.node_name.as_ref(), "pose-sender");
    sender.go();
    let heard = sender.hear();
    assert!(
        heard.contains("field `y` differs: ours y: f64 at 8 of 8 B, theirs y: f32 at 8 of 4 B"),
        "{heard}"
    );
}

#[test]
fn a_size_that_differs_is_named_on_both_ends() {
    let stage = Stage::new();
    let (here, there) = (stage.node(), stage.node());
    let mut publisher = here.topic::<[u64; 7]>("t").publisher(Overflow::Block).expect("the topic is ours");
    let error = there.topic::<[u64; 8]>("t").subscriber().expect_err("the sizes differ").to_string();
    assert!(error.contains("ours [u64; 8], theirs [u64; 7]"), "{error}");
    let error =
        publisher.wait_for_subscribers(1, std::time::Duration::from_millis(50)).expect_err("nobody came");
    assert!(error.to_string().contains("ours [u64; 7], theirs [u64; 8]"), "{error}");
    let error = there.topic::<[u64]>("t").subscriber().expect_err("the shapes differ").to_string();
    assert!(error.contains("name differs"), "{error}");
}

/// A node that speaks only protocol 9, made by hand: what it needs are three files and a socket.
struct FutureNode {
    listener: OwnedFd,
    _lock: OwnedFd,
}

const FUTURE_ID: &str = "00000000000000000000000000000009";

impl FutureNode {
    /// With an entry: the directory of a channel, and a role in it.
    fn new(stage: &Stage, (channel, role): (&str, &str)) -> Self {
        drop(stage.node());
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("/proc is mounted");
        let root = stage.directory();
        std::fs::write(root.join(format!("nodes/{FUTURE_ID}.lock")), format!("{}\n1\nfuture\n", boot.trim()))
            .expect("the domain is ours");
        let lock =
            rustix::fs::open(root.join(format!("nodes/{FUTURE_ID}.lock")), OFlags::RDWR, Mode::empty())
                .expect("it was just written");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("nobody else has it");
        let listener = socket();
        let address =
            SocketAddrUnix::new(root.join(format!("nodes/{FUTURE_ID}.sock"))).expect("the path is short");
        rustix::net::bind(&listener, &address).expect("the name is free");
        rustix::net::listen(&listener, 8).expect("it is bound");
        let entries = root.join("names").join(channel);
        std::fs::create_dir_all(&entries).expect("the domain is ours");
        std::fs::write(entries.join(format!("{role}-{FUTURE_ID}.1")), "").expect("the domain is ours");
        Self { listener, _lock: lock }
    }

    /// Answers one greeting with the versions that it speaks, and returns the greeting.
    fn answer(&self) -> Vec<u8> {
        let channel = rustix::net::accept(&self.listener).expect("somebody calls");
        let mut frame = vec![0; 65536];
        let (length, _) = rustix::net::recv(&channel, &mut frame[..], RecvFlags::empty()).expect("it greets");
        frame.truncate(length);
        let versions = [2, 0, 9, 0, 9, 0];
        rustix::net::send(&channel, &versions, SendFlags::NOSIGNAL).expect("it listens");
        frame
    }
}

fn socket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("sockets are available")
}

#[test]
fn a_node_of_another_version_is_named_to_who_calls_it() {
    let stage = Stage::new();
    let future = FutureNode::new(&stage, ("topic:t", "out"));
    let answering = std::thread::spawn(move || (future.answer(), future));
    let error = stage.node().topic::<u64>("t").subscriber().expect_err("the versions differ").to_string();
    assert!(error.contains("it speaks protocol 9 to 9, we speak 3 to 3"), "{error}");
    let (greeting, _future) = answering.join().expect("the greeting came");
    assert_eq!(greeting[..6], [1, 0, 3, 0, 3, 0], "a greeting of versions 3 to 3");
}

/// Whoever has a lane to each counterpart is told too.
#[test]
fn a_node_of_another_version_is_named_to_clients_and_producers() {
    let stage = Stage::new();
    let future = FutureNode::new(&stage, ("service:t", "serve"));
    let answering = std::thread::spawn(move || (future.answer(), future));
    let node = stage.node();
    let mut client: Client<u64, u64> = node.service("t").client().expect("the service is ours");
    let error = client.call(&1, PATIENCE).expect_err("the versions differ").to_string();
    assert!(error.contains("it speaks protocol 9 to 9, we speak 3 to 3"), "{error}");
    answering.join().expect("the greeting came");
    let stage = Stage::new();
    let future = FutureNode::new(&stage, ("queue:t", "in"));
    let answering = std::thread::spawn(move || (future.answer(), future));
    let node = stage.node();
    let producer: Producer<u64> = node.queue("t").producer(Overflow::Block).expect("the queue is ours");
    let refusals = producer.refusals();
    let said = refusals.first().expect("the versions differ").to_string();
    assert!(said.contains("it speaks protocol 9 to 9, we speak 3 to 3"), "{said}");
    answering.join().expect("the greeting came");
}

#[test]
fn a_caller_of_another_version_is_told_ours() {
    let stage = Stage::new();
    let node = stage.node();
    let address = SocketAddrUnix::new(stage.directory().join(format!("nodes/{}.sock", node.id())))
        .expect("it is short");
    let caller = socket();
    rustix::net::connect(&caller, &address).expect("the node listens");
    crate::hostile::greet(&caller, 9);
    let mut answer = [0; 64];
    loop {
        let (length, _) =
            rustix::net::recv(&caller, &mut answer[..], RecvFlags::empty()).expect("it answers");
        // The acknowledgement of our descriptors may come first.
        if answer[0] == 2 {
            assert_eq!(answer[..length], [2, 0, 3, 0, 3, 0]);
            break;
        }
    }
    let start = std::time::Instant::now();
    while node.violations().0 == 0 && start.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    let (_, last) = node.violations();
    assert!(last.is_some_and(|last| last.contains("it speaks protocol 9 to 9, we speak 3 to 3")));
}
