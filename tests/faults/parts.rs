//! What the processes do that the tests start.

use std::path::PathBuf;
use std::time::Duration;

use tidepost::{Message, Node, Overflow, Publisher, Subscriber};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::stage::{DIRECTORY, PART, PATIENCE, PREFIX, Stage};
use crate::{
    apart, chaos, domains, growth, interrupted, joiners, kills, lives, lock_strict, locks, meeting,
    namespaces, ptrace, queue_chaos, queue_kills, queue_mismatch, queues, region_ways, regions, seccomp,
    service_chaos, service_kills, service_strict, services, shortage, signals, states, stopped, tables,
    threads, turns, wait_set, waiters,
};

/// The message of most tests: a number, and words that follow from it.
pub type Words = [u64; 7];

/// A pose as one program knows it …
#[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pose {
    pub x: f64,
    pub y: f64,
}

/// … and as another does.
#[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[tidepost(name = "Pose")]
pub struct PoseOfFloats {
    pub x: f64,
    pub y: f32,
    pub z: f32,
}

/// The message with this number.
pub fn words(number: u64) -> Words {
    std::array::from_fn(|index| number.wrapping_mul(31).wrapping_add(index as u64))
}

/// Says a line to the test.
pub fn say(line: impl std::fmt::Display) {
    println!("{PREFIX}{line}");
}

/// Waits until the test lets us go on, or has gone.
pub fn wait() {
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).is_ok_and(|count| count == 0) {
        std::process::exit(0);
    }
}

/// Plays the part that the environment names, if it names one.
pub fn play() {
    let Ok(part) = std::env::var(PART) else { return };
    // A test that is killed itself takes its processes along.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .expect("Linux has it");
    let mut arguments = part.split_whitespace();
    let part = arguments.next().unwrap_or_default().to_owned();
    let argument = arguments.next().map_or(0, |argument| argument.parse().expect("arguments are numbers"));
    let directory = PathBuf::from(std::env::var(DIRECTORY).expect("the test names a directory"));
    let node = Node::builder().name(part.as_str()).directory(directory).open().expect("the domain is ours");
    match part.as_str() {
        "counter" => count(&node, argument),
        "endless-counter" => count_for_ever(&node),
        "checker" => check(&node, argument),
        "endless-checker" => check_for_ever(&node),
        "byte-sender" => send_bytes(&node, argument),
        "byte-checker" => check_bytes(&node, argument),
        "pose-sender" => drop((publish_pose(&node), wait())),
        "sleeper" => sleep(&node),
        "echo" => echo(&node, argument),
        "strict-sender" => seccomp::send(&node, argument),
        "strict-receiver" => seccomp::receive(&node, argument),
        "strict-set" => seccomp::receive_in_set(&node),
        "never-looks" => lives::never_look(&node),
        "endless-receiver" => lives::receive_for_ever(&node),
        "forker" => lives::fork(&node),
        "crowded" => lives::run_out_of_descriptors(&node),
        "chaos-publisher" => chaos::publish(&node, argument),
        "chaos-subscriber" => chaos::subscribe(&node, argument),
        "stopped-subscriber" => stopped::receive(&node, false),
        "stopped-observer" => stopped::receive(&node, true),
        "joiner" => joiners::join(&node, argument == 1),
        "short-life" => joiners::live(&node, argument),
        "grower" => growth::grow(&node),
        "holder" => growth::hold(&node, argument == 1),
        "lender" => growth::lend_to_the_limit(&node),
        "starved-publisher" => growth::starve_publisher(&node, argument),
        "starved-subscriber" => growth::starve_subscriber(&node),
        "interrupted-sender" => interrupted::send(&node),
        "interrupted-receiver" => interrupted::receive(&node),
        "interrupted-set" => interrupted::receive_in_set(&node),
        "filler" => turns::fill(&node, argument),
        "sleeping-receiver" => turns::receive_asleep(&node, argument == 1),
        "set-sender" => wait_set::send_for_ever(&node, argument),
        "set-sleeper" => wait_set::sleep(&node, argument == 1),
        "set-owner" => wait_set::own(&node),
        "unprivileged" => domains::lose_privileges(),
        "survivor" => {
            drop(node);
            kills::survive(&Stage::of_part(), argument as usize);
            say("clean");
            std::process::exit(0);
        }
        "stepped-publisher" => ptrace::publish(&node, argument),
        other => return play_beyond_topics(other, node, argument),
    }
    drop(node);
    std::process::exit(0);
}

/// The parts in tests of other patterns.
fn play_beyond_topics(part: &str, node: Node, argument: u64) {
    match part {
        "state-contender" => states::contend(&node, argument),
        "state-writer" => states::write_for_ever(&node, argument),
        "state-setter" => states::set_once(&node, argument),
        "state-reader" => states::read_when_told(&node),
        "state-forker" => states::fork(&node),
        "strict-state-writer" => states::write_strictly(&node),
        "strict-state-reader" => states::read_strictly(&node),
        "typed-writer" => states::keep_to_types(&node),
        "stepped-state-writer" => states::set_between_signals(&node, argument),
        "queue-taker" => queues::take(&node, argument),
        "queue-hoarder" => queues::hoard(&node, argument),
        "queue-giver" => queues::give(&node, argument),
        "queue-meeter" => queues::meet(&node, argument),
        "queue-forker" => queues::fork(&node),
        "stepped-giver" => queue_kills::give_stepped(&node),
        "stepped-taker" => queue_kills::take_stepped(&node, argument),
        "queue-pose-giver" => queue_mismatch::give_poses(&node),
        "limited-giver" => queue_mismatch::give_too_much(&node),
        "queue-chaos-taker" => queue_chaos::take(&node, argument),
        "queue-chaos-giver" => queue_chaos::give(&node, argument),
        "strict-giver" => seccomp::give(&node, argument),
        "strict-taker" => seccomp::take(&node, argument),
        "storm" => signals::storm(&node, argument),
        "weatherer" => signals::weather(&node, argument),
        "alternating-notifier" => signals::alternate(&node),
        "signal-echo" => signals::echo(&node),
        "strict-notifier" => signals::notify_strictly(&node),
        "strict-waiter" => signals::wait_strictly(&node),
        "table-writer" => tables::write_for_ever(&node, argument),
        "table-checker" => tables::check(&node),
        "table-keeper" => tables::keep(&node),
        "board-forker" => tables::fork(&node),
        "stepped-table-writer" => tables::write_stepped(&node, argument),
        "strict-table-writer" => tables::write_strictly(&node),
        "strict-table-reader" => tables::read_strictly(&node),
        "apart-server" => apart::serve(&node),
        "apart-client" => apart::call(&node, argument),
        "all-in-one" => {
            drop(node);
            return threads::exchange(&Stage::of_part());
        }
        "unfenced-giver" => {
            drop(node);
            return queues::give_unfenced(&Stage::of_part());
        }
        "table-survivor" => {
            drop(node);
            tables::survive(&Stage::of_part(), argument as usize);
            say("clean");
            std::process::exit(0);
        }
        other => return play_in_memory(other, node, argument),
    }
    drop(node);
    std::process::exit(0);
}

/// The parts in tests of regions and locks, and of processes without room.
fn play_in_memory(part: &str, node: Node, argument: u64) {
    match part {
        "falls-short" => shortage::fall_short(&node, argument),
        "falls-short-alone" => shortage::fall_short_alone(&node),
        "region-counter" => regions::count(&node),
        "byte-holder" => regions::hold_bytes(&node),
        "half-maker" => regions::make_half_named(&node),
        "file-maker" => regions::make_half(&node),
        "descriptor-attacher" => region_ways::attach_descriptor(&node),
        "poor" => region_ways::lock_too_much(&node),
        "favour-asker" => region_ways::ask_favours(&node),
        "till-keeper" => region_ways::keep(&node, argument),
        "disk-filler" => region_ways::fill_a_disk(&node),
        "greedy" => regions::ask_for_too_much(&node),
        "buffer-producer" => meeting::produce(&node, argument),
        "buffer-consumer" => meeting::consume(&node),
        "turn-taker" => meeting::take_turns(&node, argument),
        "meeter" => meeting::meet(&node, argument),
        "whole-one" => meeting::write_or_read(&node, argument),
        "half-worker" => meeting::work_half(&node),
        "lock-owner" => locks::own(&node),
        "lock-parent" => locks::leave_a_child(&node),
        "lock-forker" => locks::fork(&node),
        "sharer" => locks::share(&node, argument == 1),
        "endless-sharer" => locks::share_for_ever(&node, argument),
        "deadlocked" => locks::lock_the_other_way(&node),
        "lock-forgetter" => locks::forget(&node),
        "signalled-waiter" => locks::wait_under_signals(&node),
        "stepped-waiter" => waiters::wait_stepped(&node, argument),
        "waiter" => waiters::wait_beside(&node, argument),
        "unattended-owner" => lock_strict::own(&node),
        "strict-locker" => lock_strict::lock(&node),
        "threadless-waiter" => {
            drop(node);
            return lock_strict::wait_without_thread();
        }
        "desk-owner" => namespaces::own(&node),
        "desk-waiter" => namespaces::await_both(&node),
        "stepped-locker" => locks::lock_stepped(&node),
        "endless-locker" => locks::lock_for_ever(&node, argument),
        "short-client" => shortage::call_for_too_much(&node, argument),
        "short-server" => shortage::serve_too_much(&node, argument),
        "short-consumer" => shortage::take_too_much(&node, argument),
        "short-reader" => shortage::read_too_much(&node, argument),
        other => return play_in_services(other, node, argument),
    }
    drop(node);
    std::process::exit(0);
}

/// The parts in tests of services.
fn play_in_services(part: &str, node: Node, argument: u64) {
    match part {
        "server" => service_kills::serve(&node),
        "idle-server" => service_kills::serve_never(&node),
        "deferring-server" => service_kills::serve_late(&node, argument),
        "stopping-client" => service_kills::call_and_stop(&node, argument),
        "dying-client" => service_kills::call_and_die(&node, argument),
        "endless-client" => service_kills::call_for_ever(&node),
        "strict-client" => service_strict::call(&node),
        "strict-server" => service_strict::serve(&node),
        "strict-caller" => service_strict::call_and_wait(&node),
        "tireless-server" => service_strict::serve_for_ever(&node),
        "service-forker" => services::fork(&node),
        "refusing-server" => services::refuse(&node),
        "deadline-client" => services::call_with_deadline(&node, argument),
        "limited-server" => services::serve_within_limits(&node),
        "stepped-server" => services::answer_stepped(&node, argument),
        "chaos-client" => service_chaos::call(&node, argument),
        "chaos-server" => service_chaos::serve(&node, argument),
        "surviving-server" => {
            drop(node);
            service_kills::survive(&Stage::of_part());
            say("clean");
            std::process::exit(0);
        }
        other => panic!("there is no part `{other}`"),
    }
    drop(node);
    std::process::exit(0);
}

pub fn publisher(node: &Node) -> Publisher<Words> {
    node.topic("words").publisher(Overflow::Block).expect("the topic is ours")
}

pub fn subscriber(node: &Node) -> Subscriber<Words> {
    node.topic("words").subscriber().expect("the types agree")
}

/// Publishes so many numbered messages to one subscriber.
fn count(node: &Node, messages: u64) {
    let mut publisher = publisher(node);
    publisher.wait_for_subscribers(1, PATIENCE).expect("a subscriber comes");
    (0..messages).for_each(|number| publisher.send(&words(number)).expect("a blocking send succeeds"));
    say("sent");
    wait();
}

fn count_for_ever(node: &Node) {
    let mut publisher = publisher(node);
    publisher.wait_for_subscribers(1, PATIENCE).expect("a subscriber comes");
    say("counting");
    for number in 0.. {
        publisher.send(&words(number)).expect("a blocking send succeeds");
    }
}

/// Receives so many messages, one number after the other.
fn check(node: &Node, messages: u64) {
    let mut subscriber = subscriber(node);
    say("listening");
    for number in 0..messages {
        let sample = subscriber.recv().expect("receiving succeeds");
        assert_eq!(*sample, words(number), "message {number}");
    }
    say("intact");
    wait();
}

fn check_for_ever(node: &Node) {
    let mut subscriber: Subscriber<Words> = node.topic("checked").subscriber().expect("the types agree");
    say("listening");
    let mut next = None;
    loop {
        let sample = subscriber.recv().expect("receiving succeeds");
        let number = sample.sequence();
        assert!(next.is_none_or(|next| next == number), "message {number} after {next:?}");
        assert_eq!(*sample, words(number), "message {number}");
        if next.is_none() {
            say("receiving");
        }
        next = Some(number + 1);
    }
}

/// A message of a length and content that follow from its number: some in the slot, some in the pool.
fn bytes(number: u64) -> Vec<u8> {
    let length = (number * number * 7919) % 150_000;
    (0..length).map(|index| (index ^ number) as u8).collect()
}

fn send_bytes(node: &Node, messages: u64) {
    let mut publisher: Publisher<[u8]> =
        node.topic("bytes").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("a subscriber comes");
    (0..messages).for_each(|number| publisher.send(&bytes(number)).expect("a blocking send succeeds"));
    say("sent");
    wait();
}

/// Receives those messages, and holds every third of them for a while, out of order.
fn check_bytes(node: &Node, messages: u64) {
    let mut subscriber: Subscriber<[u8]> = node.topic("bytes").subscriber().expect("the types agree");
    say("listening");
    let mut held = Vec::new();
    for number in 0..messages {
        let sample = subscriber.recv().expect("receiving succeeds");
        assert!(*sample == *bytes(number), "message {number}");
        if number % 3 == 0 {
            held.push((number, sample.hold().expect("the limit is 64")));
        }
        if held.len() > 20 {
            let (number, sample) = held.swap_remove((number % 20) as usize);
            assert!(*sample == *bytes(number), "held message {number}");
        }
    }
    held.iter().for_each(|(number, sample)| assert!(**sample == *bytes(*number), "held message {number}"));
    say("intact");
    wait();
}

fn publish_pose(node: &Node) -> Publisher<Pose> {
    let mut publisher: Publisher<Pose> =
        node.topic("pose").publisher(Overflow::Block).expect("the topic is ours");
    say("ready");
    wait();
    let refused =
        publisher.wait_for_subscribers(1, Duration::from_secs(5)).expect_err("nobody takes this type");
    say(refused.to_string().replace('\n', " "));
    publisher
}

fn sleep(node: &Node) {
    let mut subscriber = subscriber(node);
    say("asleep");
    while let Ok(sample) = subscriber.recv() {
        assert_eq!(*sample, words(sample.sequence()));
        say("woken");
    }
}

/// The topic on which [`echo`] answers.
pub fn answers(node: &Node) -> Subscriber<Words> {
    node.topic("answers").subscriber().expect("the types agree")
}

/// Sends back what comes, falling asleep in between.
fn echo(node: &Node, rounds: u64) {
    let mut answers: Publisher<Words> =
        node.topic("answers").publisher(Overflow::Block).expect("the topic is ours");
    let mut subscriber = subscriber(node);
    answers.wait_for_subscribers(1, PATIENCE).expect("the test listens");
    for number in 0..rounds {
        let sample = subscriber.recv().expect("receiving succeeds");
        answers.send(&sample).expect("a blocking send succeeds");
        assert_eq!(*sample, words(number));
    }
    say("echoed");
}
