//! What the processes do that the tests start.

use std::path::PathBuf;
use std::time::Duration;

use tidepost::{Message, Node, Overflow, Publisher, Subscriber};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::stage::{DIRECTORY, PART, PATIENCE, PREFIX, Stage};
use crate::{kills, lives, ptrace, seccomp};

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
        "forker" => lives::fork(&node),
        "crowded" => lives::run_out_of_descriptors(&node),
        "survivor" => {
            drop(node);
            kills::survive(&Stage::of_part(), argument as usize);
            say("clean");
            std::process::exit(0);
        }
        "stepped-publisher" => ptrace::publish(&node, argument),
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
