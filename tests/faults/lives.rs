//! The fear: processes that stop, fork, share a node between threads, or come and go, take others along.

use std::time::Duration;

use tidepost::{
    CloseError, EndpointError, EndpointId, Event, Field, Held, Message, Node, Overflow, Publisher,
    ReceiveError, SendError, Subscriber, TopicError, TypeDescriptor, WaitError,
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
    checker.stop();
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

/// A length whose messages are held where they lie.
const HELD_LENGTH: usize = 50_000;

/// What a process has open when it forks.
struct Inheritance {
    receiver: Subscriber<Words>,
    sender: Publisher<Words>,
    slices: Publisher<[u8]>,
    held: Held<[u8]>,
    /// Who reads the slices.
    reader: EndpointId,
}

/// Forks with open endpoints; the child drops what it has inherited, and is told what it cannot do.
pub fn fork(node: &Node) {
    let receiver = subscriber(node);
    let mut sender: Publisher<Words> =
        node.topic("forked").publisher(Overflow::Block).expect("the topic is ours");
    let mut slices: Publisher<[u8]> =
        node.topic("forked-slices").publisher(Overflow::Block).expect("the topic is ours");
    sender.wait_for_subscribers(1, PATIENCE).expect("the test listens");
    slices.wait_for_subscribers(1, PATIENCE).expect("the test listens");
    let mut holder: Subscriber<[u8]> = node.topic("held").subscriber().expect("the types agree");
    say("forking");
    let held = holder.recv().expect("receiving succeeds").hold().expect("the limit is 64");
    let joined = |event| if let Event::Joined(reader) = event { Some(reader.id) } else { None };
    let reader = std::iter::from_fn(|| slices.try_event()).find_map(joined).expect("it has joined");
    let inheritance = Inheritance { receiver, sender, slices, held, reader };
    // SAFETY: the child touches what it inherited only through this library, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_told = is_told_of_its_birth(node, inheritance);
        drop(holder);
        drop(node.clone());
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if is_told { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a live local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    say(format!("the child said {}", libc::WEXITSTATUS(status)));
    go_on(inheritance, &mut holder);
}

/// In the child: whether every call says what it is, instead of doing something. Then everything is dropped.
fn is_told_of_its_birth(node: &Node, inheritance: Inheritance) -> bool {
    let Inheritance { mut receiver, mut sender, mut slices, held, reader } = inheritance;
    let refused = node.topic::<u8>("new").subscriber();
    let is_told = matches!(refused, Err(TopicError::Endpoint { source: EndpointError::Forked, .. }));
    let another = sender.try_clone();
    let is_told =
        is_told && matches!(another, Err(TopicError::Endpoint { source: EndpointError::Forked, .. }));
    let is_told = is_told && node.dispatch() == Err(EndpointError::Forked);
    let cannot_send = |outcome: Result<(), SendError>| {
        matches!(outcome, Err(SendError::Endpoint { source: EndpointError::Forked, .. }))
    };
    let is_told = is_told
        && cannot_send(sender.send(&words(0)))
        && cannot_send(sender.send_timeout(&words(0), Duration::ZERO))
        && cannot_send(sender.send_many(&[words(0)]))
        && cannot_send(sender.loan().map(drop))
        && cannot_send(slices.send(b"to whom?"))
        && cannot_send(slices.loan(10).map(drop))
        && cannot_send(slices.loan(HELD_LENGTH).map(drop));
    let cannot_receive = |outcome: Result<(), ReceiveError>| {
        matches!(outcome, Err(ReceiveError::Endpoint { source: EndpointError::Forked, .. }))
    };
    let is_told = is_told
        && cannot_receive(receiver.recv().map(drop))
        && cannot_receive(receiver.try_recv().map(drop))
        && cannot_receive(receiver.recv_timeout(Duration::ZERO).map(drop))
        && cannot_receive(receiver.recv_many(1).map(drop))
        && cannot_receive(futures_lite::future::block_on(receiver.recv_async()).map(drop))
        && cannot_receive(receiver.as_fd().map(drop));
    let cannot_wait = |outcome: Result<(), WaitError>| {
        matches!(outcome, Err(WaitError::Endpoint { source: EndpointError::Forked, .. }))
    };
    let is_told = is_told
        && cannot_wait(sender.wait_for_subscribers(1, Duration::ZERO))
        && cannot_wait(sender.event_timeout(Duration::ZERO).map(drop))
        && cannot_wait(receiver.event_timeout(Duration::ZERO).map(drop));
    // What ends waits, or a connection, does so for nobody but the parent, who has not asked for it.
    receiver.handle().cancel();
    sender.handle().cancel();
    let is_let_go = slices.handle().detach(reader);
    node.shutdown();
    let is_told = is_told
        && !is_let_go
        && match sender.close(Duration::ZERO) {
            Err(CloseError::Send(error)) => cannot_send(Err(*error)),
            _ => false,
        };
    drop((receiver, slices, held));
    is_told
}

/// In the parent: nothing of it was the child's to end.
fn go_on(inheritance: Inheritance, holder: &mut Subscriber<[u8]>) {
    let Inheritance { mut receiver, mut sender, mut slices, held, .. } = inheritance;
    wait();
    // What comes now would lie where the held message does, if the child had let go of it.
    while holder.recv().expect("receiving succeeds")[0] != 0 {}
    assert!(held.iter().all(|byte| *byte == 1), "what is held is as it was");
    assert_eq!(*receiver.recv().expect("receiving succeeds"), words(1));
    sender.send(&words(2)).expect("a blocking send succeeds");
    slices.send(&[3; HELD_LENGTH]).expect("a blocking send succeeds");
    say("still there");
    wait();
    drop((receiver, sender, slices, held));
}

#[test]
fn a_forked_child_leaves_its_parents_endpoints_alone() {
    let stage = Stage::new();
    let node = stage.node();
    let mut sender = publisher(&node);
    // Two messages fit, so that every other one would lie where the held one does.
    let topic = node.topic::<[u8]>("held").pool_limit(3 * HELD_LENGTH);
    let mut held = topic.publisher(Overflow::Block).expect("the topic is ours");
    let mut receiver: Subscriber<Words> = node.topic("forked").subscriber().expect("the types agree");
    let mut slices: Subscriber<[u8]> = node.topic("forked-slices").subscriber().expect("the types agree");
    let mut parent = stage.start("forker", "");
    parent.expect("forking");
    sender.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
    held.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
    held.send(&[1; HELD_LENGTH]).expect("a blocking send succeeds");
    parent.expect("the child said 7");
    assert_eq!((sender.subscribers(), receiver.publishers(), slices.publishers()), (1, 1, 1));
    assert!(receiver.try_recv().expect("receiving succeeds").is_none(), "the child sent nothing");
    parent.go();
    for byte in [9, 9, 9, 9, 9, 0] {
        held.send(&[byte; HELD_LENGTH]).expect("a blocking send succeeds");
    }
    sender.send(&words(1)).expect("a blocking send succeeds");
    parent.expect("still there");
    let sample = receiver.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert_eq!((sample.sequence(), *sample), (0, words(2)));
    let sample = slices.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert!(sample.sequence() == 0 && *sample == [3; HELD_LENGTH]);
    parent.go();
    parent.ends();
    assert_eq!(node.violations(), (0, None));
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

/// There is no largest number of subscribers: sleepers lines and bells grow.
#[test]
fn a_crowd_of_subscribers_is_served() {
    const CROWD: usize = 2_100;
    let stage = Stage::new();
    let there = stage.node();
    let here = Node::builder().name("crowd").directory(stage.directory()).control_thread(false).open();
    let here = here.expect("the domain is ours");
    let mut sender =
        there.topic::<u8>("crowd").depth(8).publisher(Overflow::Block).expect("the topic is ours");
    let mut crowd: Vec<Subscriber<u8>> =
        (0..CROWD).map(|_| here.topic("crowd").subscriber().expect("there is room")).collect();
    assert_eq!(sender.subscribers(), CROWD);
    sender.send(&5).expect("a blocking send succeeds");
    for receiver in &mut crowd {
        assert_eq!(receiver.try_recv().expect("receiving succeeds").as_deref(), Some(&5));
    }
    // The last of them sleeps, and is woken through the third line of bits.
    let last = crowd.last_mut().expect("there are many");
    let sending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        sender.send(&6).expect("a blocking send succeeds");
        sender
    });
    assert_eq!(*last.recv().expect("receiving succeeds"), 6);
    drop(sending.join().expect("it does not panic"));
    assert_eq!((here.violations(), there.violations()), ((0, None), (0, None)));
}

/// Publishers that come and go while nobody looks leave nothing with the subscriber. In a process of its own: other tests
/// map rings too.
#[test]
fn a_subscriber_that_never_looks_is_not_filled_up() {
    let stage = Stage::new();
    let mut idle = stage.start("never-looks", "");
    idle.expect("not filled up");
}

/// Subscribes, and never looks at what comes.
pub fn never_look(node: &Node) {
    let mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        maps.lines().filter(|line| line.contains("memfd:tidepost-ring")).count()
    };
    let there = Stage::of_part().node();
    let idle: Subscriber<Words> = node.topic("unread").subscriber().expect("the types agree");
    for _ in 0..1500 {
        let sender: Publisher<Words> =
            there.topic("unread").publisher(Overflow::Block).expect("bell lines come back");
        drop(sender);
    }
    assert!(mappings() < 300, "{} mappings", mappings());
    drop(idle);
    say("not filled up");
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

/// Receives until its publisher lets go of it.
pub fn receive_for_ever(node: &Node) {
    let mut receiver = subscriber(node);
    say(receiver.id());
    let (mut next, mut is_told) = (0, false);
    loop {
        let sample = receiver.recv_timeout(Duration::from_millis(50)).expect("receiving succeeds");
        match sample {
            Some(sample) => assert_eq!((sample.sequence(), *sample), (next, words(next))),
            None if is_told => break,
            None => {
                // Looked at before the last messages, which are there once it is told.
                is_told |= std::iter::from_fn(|| receiver.try_event())
                    .any(|event| matches!(event, Event::Detached(_)));
                continue;
            }
        }
        next += 1;
    }
    say(next);
    say("told");
    wait();
}

/// A stopped subscriber is let go of: everybody else goes on and loses nothing, and it still gets, intact, what was sent
/// until then.
#[test]
fn a_subscriber_that_was_let_go_of_keeps_what_it_had() {
    let stage = Stage::new();
    let (there, here) = (stage.node(), stage.node());
    let mut sender: Publisher<Words> =
        there.topic("words").depth(64).publisher(Overflow::Block).expect("the topic is ours");
    let mut other = subscriber(&here);
    let mut stopped = stage.start("endless-receiver", "");
    let id = stopped.hear();
    sender.wait_for_subscribers(2, PATIENCE).expect("they subscribed");
    sender.send(&words(0)).expect("a blocking send succeeds");
    stopped.stop();
    let handle = sender.handle();
    let sending = std::thread::spawn(move || {
        for number in 1..500 {
            sender.send(&words(number)).expect("a blocking send succeeds");
        }
        sender
    });
    let mut received = 0;
    let mut receive = |most: u64| {
        while received < most
            && let Some(sample) = other.recv_timeout(Duration::from_secs(2)).expect("receiving succeeds")
        {
            assert_eq!((sample.sequence(), *sample), (received, words(received)));
            received += 1;
        }
        received
    };
    let before = receive(500);
    assert!(before < 500, "the stopped one is waited for");
    let by = handle.blocked_by();
    assert_eq!(by.iter().map(|by| by.pid).collect::<Vec<_>>(), [stopped.pid()], "{by:?}");
    assert!(by[0].id.to_string() == id && handle.detach(by[0].id));
    assert_eq!(receive(500), 500);
    let mut sender = sending.join().expect("it does not panic");
    // Late joiners, the history being gone, and the pool in the ring that follows.
    let mut late = subscriber(&here);
    sender.send(&words(500)).expect("a blocking send succeeds");
    assert_eq!(*late.recv().expect("receiving succeeds"), words(500));
    stopped.signal(libc::SIGCONT);
    let kept: u64 = stopped.hear().parse().expect("a number of messages");
    assert_eq!(kept, before, "all that was sent until then, which the other has received");
    stopped.expect("told");
    assert_eq!(sender.subscribers(), 2);
}
