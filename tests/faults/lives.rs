//! The fear: processes that stop, fork, share a node between threads, or come and go, take others along.

use std::time::Duration;

use tidepost::{
    EndpointError, Field, Message, Node, Overflow, Publisher, Subscriber, TopicError, TypeDescriptor,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::parts::{Words, publisher, say, subscriber, wait, words};
use crate::stage::{PATIENCE, Stage};

#[test]
fn a_publisher_that_leaves_takes_no_other_along() {
    let stage = Stage::new();
    let (here, there) = (stage.node(), stage.node());
    let mut receiver = subscriber(&here);
    let (mut first, mut second) = (publisher(&there), publisher(&there));
    for round in 0..20 {
        first.send(&words(round)).expect("a blocking send succeeds");
        assert_eq!(*receiver.recv().expect("receiving succeeds"), words(round));
        second.send(&words(round)).expect("a blocking send succeeds");
        assert_eq!(*receiver.recv().expect("receiving succeeds"), words(round));
        drop(std::mem::replace(if round % 2 == 0 { &mut second } else { &mut first }, publisher(&there)));
    }
}

/// What was sent last is there, whatever its length, although its publisher and its node are gone.
#[test]
fn a_short_life_is_heard_to_its_last_word() {
    let stage = Stage::new();
    let here = stage.node();
    let mut receiver: Subscriber<[u8]> = here.topic("last-words").subscriber().expect("the types agree");
    for round in 0..200usize {
        let length = 5_000 + round * 1_000;
        let there = stage.node();
        let mut sender =
            there.topic::<[u8]>("last-words").publisher(Overflow::Block).expect("the topic is ours");
        sender.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
        let speaking = std::thread::spawn(move || {
            sender.send(&vec![round as u8; length]).expect("a blocking send succeeds");
            drop((sender, there));
        });
        let sample = receiver.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert!(sample.len() == length && sample.iter().all(|byte| *byte == round as u8));
        speaking.join().expect("it does not panic");
    }
    assert_eq!(here.violations(), (0, None));
}

/// A node that is stopped when others look for it is found when it goes on.
#[test]
fn a_stopped_process_is_connected_when_it_goes_on() {
    let stage = Stage::new();
    let mut checker = stage.start("checker", "100");
    checker.expect("listening");
    checker.signal(libc::SIGSTOP);
    let node = stage.node();
    let mut sender = publisher(&node);
    assert_eq!(sender.subscribers(), 0);
    std::thread::sleep(Duration::from_millis(2500));
    // Something happens meanwhile, which is when silence is looked at.
    drop(stage.node().topic::<u8>("other").subscriber().expect("the types agree"));
    checker.signal(libc::SIGCONT);
    sender.wait_for_subscribers(1, PATIENCE).expect("it goes on");
    (0..100).for_each(|number| sender.send(&words(number)).expect("a blocking send succeeds"));
    checker.expect("intact");
}

/// A subscriber that cannot be told of new memory keeps what it holds, and the publisher's wait has an end.
#[test]
fn what_a_silent_subscriber_holds_stays_as_it_was() {
    let stage = Stage::new();
    let here = Node::builder().name("silent").directory(stage.directory()).control_thread(false).open();
    let here = here.expect("the domain is ours");
    let there = stage.node();
    let mut receiver: Subscriber<[u8]> = here.topic("silent").subscriber().expect("the types agree");
    let mut sender: Publisher<[u8]> =
        there.topic("silent").publisher(Overflow::Block).expect("the topic is ours");
    while sender.subscribers() == 0 {
        here.dispatch().expect("the node works");
    }
    let sending = std::thread::spawn(move || {
        sender.send(&vec![1; 100_000]).expect("a blocking send succeeds");
        sender
    });
    let held = loop {
        let sample = receiver.recv_timeout(Duration::from_millis(10)).expect("receiving succeeds");
        if let Some(sample) = sample {
            break sample.hold().expect("the limit is 64");
        }
    };
    let mut sender = sending.join().expect("it does not panic");
    let lengths = (1..40usize).map(|step| 100_000 + step * 30_000);
    let outcomes: Vec<_> =
        lengths.map(|length| sender.send_timeout(&vec![9; length], Duration::from_millis(50))).collect();
    assert!(outcomes.iter().any(Result::is_err), "more memory than the subscriber can be told of");
    assert!(held.iter().all(|byte| *byte == 1));
}

/// Several threads wait on a node that has no thread of its own: none takes another's wake-up.
#[test]
fn threads_that_share_a_node_do_not_steal_each_others_wake_ups() {
    const MESSAGES: u64 = 300;
    let stage = Stage::new();
    let here = Node::builder().name("shared").directory(stage.directory()).control_thread(false).open();
    let here = here.expect("the domain is ours");
    let receiving: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|topic| {
            let here = here.clone();
            std::thread::spawn(move || {
                let mut receiver: Subscriber<Words> =
                    here.topic(topic).subscriber().expect("the types agree");
                // Without end: a stolen wake-up hangs here, and the test runner shows it.
                (0..MESSAGES).for_each(|number| {
                    assert_eq!(*receiver.recv().expect("receiving succeeds"), words(number))
                });
            })
        })
        .collect();
    let there = stage.node();
    let mut senders: Vec<Publisher<Words>> = ["a", "b", "c"]
        .into_iter()
        .map(|topic| there.topic(topic).publisher(Overflow::Block).expect("the topic is ours"))
        .collect();
    for sender in &mut senders {
        sender.wait_for_subscribers(1, PATIENCE).expect("it subscribes");
    }
    for number in 0..MESSAGES {
        senders.iter_mut().for_each(|sender| sender.send(&words(number)).expect("a blocking send succeeds"));
        std::thread::sleep(Duration::from_micros(number % 7 * 100));
    }
    receiving.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
}

/// A program with a loop of its own serves its node from there, and needs no thread for it.
#[test]
fn a_node_is_served_from_the_programs_own_loop() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stage = Stage::new();
    let node = Node::builder().name("looping").directory(stage.directory()).control_thread(false).open();
    let node = node.expect("the domain is ours");
    let mut receiver = subscriber(&node);
    let mut counter = stage.start("counter", "100");
    let (mut received, mut turns) = (0, 0);
    while received < 100 {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let wait = if receiver.publishers() == 0 { second } else { Timespec { tv_sec: 0, tv_nsec: 0 } };
        let ready =
            poll(&mut [PollFd::new(&node, PollFlags::IN)], Some(&wait)).expect("the descriptor is sound");
        turns += ready;
        node.dispatch().expect("the node works");
        while let Some(sample) = receiver.try_recv().expect("receiving succeeds") {
            assert_eq!(*sample, words(received));
            received += 1;
        }
    }
    assert!(turns >= 2, "a greeting and an offer at least");
    counter.expect("sent");
    counter.kill();
    while receiver.publishers() > 0 {
        let ready = poll(&mut [PollFd::new(&node, PollFlags::IN)], None).expect("the descriptor is sound");
        assert_eq!(ready, 1, "its death is an event");
        node.dispatch().expect("the node works");
    }
}

/// Forks with open endpoints; the child drops what it has inherited, and is told what it cannot do.
pub fn fork(node: &Node) {
    let (mut receiver, sender) = (subscriber(node), node.topic::<u8>("forked").publisher(Overflow::Block));
    say("forking");
    // SAFETY: the child touches what it inherited only through this library, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = node.topic::<u8>("new").subscriber();
        let is_told = matches!(refused, Err(TopicError::Endpoint { source: EndpointError::Forked, .. }));
        let is_told = is_told && node.dispatch() == Err(EndpointError::Forked);
        drop((receiver, sender));
        drop(node.clone());
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if is_told { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a live local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    say(format!("the child said {}", libc::WEXITSTATUS(status)));
    wait();
    assert_eq!(*receiver.recv().expect("receiving succeeds"), words(1));
    say("still there");
    drop((receiver, sender));
}

#[test]
fn a_forked_child_leaves_its_parents_endpoints_alone() {
    let stage = Stage::new();
    let node = stage.node();
    let mut sender = publisher(&node);
    let mut parent = stage.start("forker", "");
    parent.expect("forking");
    sender.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
    parent.expect("the child said 7");
    assert_eq!(sender.subscribers(), 1);
    sender.send(&words(1)).expect("a blocking send succeeds");
    parent.go();
    parent.expect("still there");
}

/// Publishes, with no descriptor left for those who call, until the test says so.
pub fn run_out_of_descriptors(node: &Node) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let mut sender = publisher(node);
    let limit = Rlimit { current: Some(128), maximum: Some(128) };
    setrlimit(Resource::Nofile, limit).expect("a limit can be lowered");
    let taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    say("full");
    wait();
    let error = node.topic::<u8>("more").publisher(Overflow::Block).expect_err("nothing is left").to_string();
    assert!(error.contains("Too many open files") && error.contains("limit"), "{error}");
    drop(taken);
    say("roomy");
    sender.wait_for_subscribers(1, PATIENCE).expect("it has been waiting");
    sender.send(&words(1)).expect("a blocking send succeeds");
    say("sent");
    wait();
}

#[test]
fn who_calls_a_node_without_descriptors_is_heard_when_there_are_some() {
    let stage = Stage::new();
    let mut crowded = stage.start("crowded", "");
    crowded.expect("full");
    let node = stage.node();
    let mut receiver = subscriber(&node);
    assert_eq!(receiver.publishers(), 0);
    crowded.go();
    crowded.expect("roomy");
    crowded.expect("sent");
    let sample = receiver.recv_timeout(PATIENCE).expect("receiving succeeds");
    assert_eq!(sample.as_deref(), Some(&words(1)));
}

/// One subscriber more than a publisher can have is told so, and those that are there stay.
#[test]
fn a_subscriber_too_many_harms_nobody() {
    const MOST: usize = 1024;
    let stage = Stage::new();
    let there = stage.node();
    let here = Node::builder().name("crowd").directory(stage.directory()).control_thread(false).open();
    let here = here.expect("the domain is ours");
    let mut sender = publisher(&there);
    let mut crowd: Vec<Subscriber<Words>> = (0..MOST).map(|_| subscriber(&here)).collect();
    let error = here.topic::<Words>("words").subscriber().expect_err("there is no place").to_string();
    assert!(error.contains("the number of subscribers has reached its limit of 1024"), "{error}");
    crowd.truncate(MOST - 3);
    crowd.push(subscriber(&here));
    assert_eq!(sender.subscribers(), MOST - 2);
    sender.send(&words(5)).expect("a blocking send succeeds");
    for receiver in &mut crowd {
        assert_eq!(receiver.try_recv().expect("receiving succeeds").as_deref(), Some(&words(5)));
    }
    assert_eq!((here.violations(), there.violations()), ((0, None), (0, None)));
}

/// Publishers that come and go while nobody looks leave nothing with the subscriber.
#[test]
fn a_subscriber_that_never_looks_is_not_filled_up() {
    let mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        maps.lines().filter(|line| line.contains("memfd:tidepost-ring")).count()
    };
    let stage = Stage::new();
    let (here, there) = (stage.node(), stage.node());
    let idle: Subscriber<Words> = here.topic("unread").subscriber().expect("the types agree");
    let before = mappings();
    for _ in 0..1500 {
        let sender: Publisher<Words> =
            there.topic("unread").publisher(Overflow::Block).expect("bell lines come back");
        drop(sender);
    }
    // Other tests map rings too, but not hundreds.
    assert!(mappings() < before + 300, "{} mappings, {before} before", mappings());
    drop(idle);
}

/// A type with more fields than a handshake carries.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
struct Wide([u8; 600]);

impl Message for Wide {
    fn descriptor() -> TypeDescriptor {
        let field = |offset: u64| Field {
            name: format!("f{offset}").into(),
            type_name: "u8".into(),
            offset,
            size: 1,
        };
        TypeDescriptor::of_struct::<Self>("Wide", (0..600).map(field).collect())
    }
}

#[test]
fn a_type_that_no_handshake_carries_is_refused_at_home() {
    let stage = Stage::new();
    let node = stage.node();
    let error =
        node.topic::<Wide>("wide").publisher(Overflow::Block).expect_err("it has 600 fields").to_string();
    assert!(error.contains("`wide` has more than 512 fields"), "{error}");
}
