//! The fear: what holds between two processes does not hold among many that come, go, stop and are killed at any instant.
//!
//! Four publishing and four subscribing processes, each with an endpoint and a thread for each policy and size. Each letter
//! says who sent it, its number and its checksum; each subscriber keeps books, and the test compares them with what the
//! publishers say that they sent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tidepost::{Held, Node, Overflow, Payload, SendError, Subscriber, Topic, Trust};

use crate::ledger::{self, LETTER_BYTES_LEAST, Ledger, Random};
use crate::parts::{Words, say};
use crate::stage::{Actor, DIRECTORY, PATIENCE, Stage, until};

/// Processes of each kind.
const CAST: usize = 4;
/// Samples that a subscriber holds at a time, of all publishers together.
const HELD_MAX: usize = 8;
/// Every so many messages one is held.
const HOLD_EVERY: u64 = 5;
/// About how long messages are that each choose their length: in the slot, and in three classes of the pool.
const LENGTHS: [u64; 4] = [LETTER_BYTES_LEAST as u64, 3_000, 60_000, 200_000];
/// Bytes that lengths vary by.
const LENGTH_VARIES: u64 = 200;

/// What runs on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Size {
    Inline,
    Body,
    Pooled,
}

const POLICIES: [Overflow; 4] = [Overflow::Block, Overflow::Fail, Overflow::DropOldest, Overflow::Latest];
const SIZES: [Size; 3] = [Size::Inline, Size::Body, Size::Pooled];

/// What the test says to a process.
pub const GO_ON: u32 = 0;
/// It is to end at once.
const LEAVE: u32 = 1;
/// It is to receive what is left, and end.
const FINISH: u32 = 2;

/// One endpoint's part in a process.
struct Role {
    node: Node,
    orders: Arc<AtomicU32>,
    random: Random,
    policy: Overflow,
    size: Size,
}

impl Role {
    fn topic(&self) -> String {
        format!("{:?}-{:?}", self.policy, self.size)
    }

    fn is_told(&self, order: u32) -> bool {
        self.orders.load(Ordering::Relaxed) == order
    }

    fn pause(&mut self, one_in: u64, micros_max: u64) {
        if self.random.below(one_in) == 0 {
            std::thread::sleep(Duration::from_micros(self.random.below(micros_max)));
        }
    }
}

/// Plays all roles of a process, each in a thread.
fn play(node: &Node, seed: u64, inline: fn(Role), body: fn(Role), pooled: fn(Role)) {
    end_on_panic();
    let orders = listen();
    let mut random = Random::new(seed);
    let mut threads = Vec::new();
    for (policy, size) in POLICIES.into_iter().flat_map(|policy| SIZES.map(|size| (policy, size))) {
        let (node, orders, random) = (node.clone(), Arc::clone(&orders), Random::new(random.next()));
        let role = Role { node, orders, random, policy, size };
        let play = match size {
            Size::Inline => inline,
            Size::Body => body,
            Size::Pooled => pooled,
        };
        threads.push(std::thread::spawn(move || play(role)));
    }
    say("playing");
    threads.into_iter().for_each(|thread| thread.join().expect("a panic ends the process"));
    let (violations, last) = node.violations();
    assert_eq!(violations, 0, "{last:?}");
    say("done");
}

/// A thread that panics takes its process along, so that the test notices.
pub fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(101);
    }));
}

/// What the test says from now on; without a test this process ends.
pub fn listen() -> Arc<AtomicU32> {
    let orders = Arc::new(AtomicU32::new(GO_ON));
    let told = Arc::clone(&orders);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            told.store(if line == "finish" { FINISH } else { LEAVE }, Ordering::Relaxed);
        }
        std::process::exit(0);
    });
    orders
}

/// The part of a publishing process.
pub fn publish(node: &Node, seed: u64) {
    play(node, seed, publish_lives::<Words>, publish_lives::<[u8; 4096]>, publish_lives::<[u8]>);
}

fn publish_lives<T: Payload + ?Sized>(mut role: Role) {
    while role.is_told(GO_ON) {
        publish_life::<T>(&mut role);
    }
}

/// One publisher from its first message to its last, which it tells the test.
fn publish_life<T: Payload + ?Sized>(role: &mut Role) {
    let (name, policy) = (role.topic(), role.policy);
    let topic = role.node.topic::<T>(&name);
    let topic = topic.depth(8 << role.random.below(4)).history(role.random.below(2) as usize * HELD_MAX);
    // So little that some messages find no room, and older ones have to make some.
    let topic = if policy == Overflow::Block { topic } else { topic.pool_limit(3 << 20) };
    let mut publisher = topic.publisher(policy).expect("the topic is ours");
    let (sender, messages) = (role.random.next(), 20 + role.random.below(2_000));
    let (mut sent, mut is_last_whole) = (0, true);
    while sent < messages && role.is_told(GO_ON) {
        let letter = compose::<T>(&mut role.random, sender, sent);
        let message = T::ref_from_bytes(aligned(&letter)).expect("it is as long as its type");
        is_last_whole = match publisher.send(message) {
            Ok(()) => true,
            // There is none, and it is tried again; or messages before it have made some, and not enough.
            Err(SendError::Full { .. }) if policy != Overflow::Block => false,
            Err(error) => panic!("{error}"),
        };
        sent += u64::from(is_last_whole);
        role.pause(4, 2_000);
    }
    if role.random.below(2) == 0 {
        publisher.close(PATIENCE).expect("everybody reads on");
    } else {
        drop(publisher);
    }
    say(format!("sent {sender} {sent} {}", u64::from(is_last_whole)));
}

/// A letter of a random length, or as long as the type is, in whole words.
fn compose<T: Payload + ?Sized>(random: &mut Random, sender: u64, number: u64) -> (Vec<u64>, usize) {
    let length = T::EXACT_BYTES.unwrap_or_else(|| {
        let about = LENGTHS[random.below(LENGTHS.len() as u64) as usize];
        (about + random.below(LENGTH_VARIES)) as usize
    });
    let mut words = vec![0; length.div_ceil(8)];
    ledger::write(&mut zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice())[..length], sender, number);
    (words, length)
}

fn aligned((words, length): &(Vec<u64>, usize)) -> &[u8] {
    &zerocopy::IntoBytes::as_bytes(words.as_slice())[..*length]
}

/// The part of a subscribing process.
pub fn subscribe(node: &Node, seed: u64) {
    play(node, seed, receive::<Words>, receive::<[u8; 4096]>, receive::<[u8]>);
}

/// A sample that is held until its time comes.
struct Keepsake<T: ?Sized> {
    held: Held<T>,
    sender: u64,
    until: Instant,
}

impl<T: Payload + ?Sized> Keepsake<T> {
    fn check(&self) {
        assert_eq!(ledger::read(self.held.as_bytes()), (self.sender, self.held.sequence()), "a held letter");
    }
}

fn receive<T: Payload + ?Sized>(mut role: Role) {
    let is_observer = role.policy == Overflow::Block && role.random.below(2) == 0;
    let name = role.topic();
    let node = role.node.clone();
    let topic = node.topic::<T>(&name).hold_limit(HELD_MAX as u32);
    let topic = if is_observer { topic.observer() } else { topic };
    if role.random.below(3) == 0 {
        receive_all(&mut role, topic.copied(), is_observer);
    } else {
        receive_all(&mut role, topic, is_observer);
    }
}

fn receive_all<T, B>(role: &mut Role, topic: Topic<'_, T, B>, is_observer: bool)
where
    T: Payload + ?Sized,
    B: Trust,
{
    let mut subscriber = topic.subscriber().expect("the types agree");
    let mut ledger = Ledger::new(!is_observer && matches!(role.policy, Overflow::Block | Overflow::Fail));
    let (mut keepsakes, mut held) = (Vec::new(), 0);
    while receive_one(role, &mut subscriber, &mut ledger, &mut keepsakes) {
        held +=
            keepsakes.extract_if(.., |keepsake| keepsake.until <= Instant::now()).map(|k| k.check()).count();
    }
    drop(subscriber);
    keepsakes.iter().for_each(Keepsake::check);
    let label = if is_observer { "Observer".to_owned() } else { format!("{:?}", role.policy) };
    for account in ledger.accounts() {
        let ledger::Account { sender, first, last, received, lost } = account;
        say(format!("received {label} {sender} {first} {last} {received} {lost}"));
    }
    say(format!("held {}", held + keepsakes.len()));
}

/// Receives a letter, if one comes soon, and keeps some; whether there may be more.
fn receive_one<T: Payload + ?Sized, B: Trust>(
    role: &mut Role,
    subscriber: &mut Subscriber<T, B>,
    ledger: &mut Ledger,
    keepsakes: &mut Vec<Keepsake<T>>,
) -> bool {
    if role.is_told(LEAVE) {
        return false;
    }
    // Looked at first: whatever they sent before they went is then there.
    let are_gone = role.is_told(FINISH) && subscriber.publishers() == 0;
    let patience = Duration::from_millis(1 + role.random.below(10));
    let Some(sample) = subscriber.recv_timeout(patience).expect("receiving succeeds") else {
        return !are_gone;
    };
    let sender = ledger.enter(&sample).sender;
    if keepsakes.len() < HELD_MAX && role.random.below(HOLD_EVERY) == 0 {
        let until = Instant::now() + Duration::from_millis(role.random.below(50));
        keepsakes.push(Keepsake { held: sample.hold().expect("the limit is as many"), sender, until });
    }
    role.pause(30, 30_000);
    true
}

/// All processes, and what those said that are gone.
struct Cast {
    stage: Stage,
    random: Random,
    playing: Vec<Actor>,
    leaving: Vec<Actor>,
    books: Books,
}

const PARTS: [&str; 2] = ["chaos-publisher", "chaos-subscriber"];

/// What the processes said.
#[derive(Default)]
struct Books {
    /// How many messages each publisher sent that came to its end, and whether the last attempt was one of them.
    sent: HashMap<u64, (u64, bool)>,
    /// What each subscriber received: policy, sender, first, last, received, lost; and whether it received to the end.
    received: Vec<(String, [u64; 5], bool)>,
    held: u64,
}

impl Books {
    fn enter(&mut self, line: &str, is_to_the_end: bool) {
        let mut words = line.split_whitespace();
        let numbers = |words: std::str::SplitWhitespace<'_>| -> Vec<u64> {
            words.map(|word| word.parse().expect("it is a number")).collect()
        };
        match words.next() {
            Some("sent") => {
                let numbers = numbers(words);
                assert_eq!(
                    self.sent.insert(numbers[0], (numbers[1], numbers[2] == 1)),
                    None,
                    "a sender has one life"
                );
            }
            Some("received") => {
                let label = words.next().expect("the policy comes first").to_owned();
                let numbers = numbers(words).try_into().expect("there are five");
                self.received.push((label, numbers, is_to_the_end));
            }
            Some("held") => self.held += numbers(words)[0],
            _ => assert_eq!(line, "playing"),
        }
    }

    /// Compares what was received with what was sent; how many streams were received to their end.
    fn compare(&self) -> u64 {
        let mut ended = 0;
        for (label, [sender, first, last, received, lost], is_to_the_end) in &self.received {
            assert_eq!(last - first + 1, received + lost, "{label}: all of {sender:x} is accounted for");
            assert!(may_lose(label) || *lost == 0, "{label}: {lost} lost of {sender:x}");
            let Some((sent, is_last_whole)) = self.sent.get(sender) else { continue };
            assert!(last < sent, "{label}: {last} of {sent} of {sender:x}");
            if *is_to_the_end && *is_last_whole {
                assert_eq!(last + 1, *sent, "{label}: the last letter of {sender:x}");
                ended += 1;
            }
        }
        ended
    }

    /// Letters received and lost under a policy.
    fn figures(&self, label: &str) -> (u64, u64) {
        let of_label = self.received.iter().filter(|(other, ..)| other == label);
        of_label.fold((0, 0), |sum, (_, [.., received, lost], _)| (sum.0 + received, sum.1 + lost))
    }
}

/// Whether subscribers with this label lose what they are too slow for.
fn may_lose(label: &str) -> bool {
    !["Block", "Fail"].contains(&label)
}

impl Cast {
    fn new(seed: u64) -> Self {
        let (stage, random) = (Stage::new(), Random::new(seed));
        let mut cast =
            Self { stage, random, playing: Vec::new(), leaving: Vec::new(), books: Books::default() };
        for place in 0..2 * CAST {
            let actor = cast.actor(place);
            cast.playing.push(actor);
        }
        cast
    }

    /// Publishers have the even places.
    fn actor(&mut self, place: usize) -> Actor {
        self.stage.start(PARTS[place % 2], &self.random.next().to_string())
    }

    /// Something happens to somebody.
    fn step(&mut self) {
        std::thread::sleep(Duration::from_millis(self.random.below(120)));
        let place = self.random.below(2 * CAST as u64) as usize;
        match self.random.below(5) {
            0 => {
                self.playing[place].signal(libc::SIGSTOP);
                std::thread::sleep(Duration::from_millis(self.random.below(60)));
                self.playing[place].signal(libc::SIGCONT);
            }
            1 | 2 => {
                let next = self.actor(place);
                let mut leaving = std::mem::replace(&mut self.playing[place], next);
                leaving.tell("leave");
                self.leaving.push(leaving);
            }
            _ => {
                let next = self.actor(place);
                let mut killed = std::mem::replace(&mut self.playing[place], next);
                killed.signal_kill();
                killed.hear_out().iter().for_each(|line| self.books.enter(line, false));
            }
        }
        // One that ended by itself has found something.
        self.playing.iter_mut().for_each(|actor| assert!(!actor.has_ended(), "it plays until it is told"));
    }

    /// Everybody leaves, the publishers first, and is heard out.
    fn end(&mut self) {
        for actor in &mut self.leaving {
            hear_to_the_end(actor, &mut self.books, false);
        }
        let (publishers, subscribers): (Vec<_>, Vec<_>) =
            self.playing.drain(..).enumerate().partition(|(place, _)| place % 2 == 0);
        for (actors, order) in [(publishers, "leave"), (subscribers, "finish")] {
            let mut actors: Vec<Actor> = actors.into_iter().map(|(_, actor)| actor).collect();
            actors.iter_mut().for_each(|actor| actor.tell(order));
            actors.iter_mut().for_each(|actor| hear_to_the_end(actor, &mut self.books, order == "finish"));
        }
        self.leaving.clear();
    }
}

fn hear_to_the_end(actor: &mut Actor, books: &mut Books, is_to_the_end: bool) {
    loop {
        let line = actor.hear();
        if line == "done" {
            return actor.ends();
        }
        books.enter(&line, is_to_the_end);
    }
}

/// Processes whose domain is this.
pub fn processes_of(directory: &Path) -> Vec<PathBuf> {
    let variable = format!("{DIRECTORY}={}\0", directory.display()).into_bytes();
    let is_of_it = |process: &PathBuf| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.windows(variable.len()).any(|window| window == variable)
    };
    let processes = std::fs::read_dir("/proc").expect("/proc is mounted");
    processes.filter_map(|entry| Some(entry.ok()?.path())).filter(is_of_it).collect()
}

/// The seed of this run, which `TIDEPOST_SEED` repeats as far as the scheduler lets it.
pub fn seed() -> u64 {
    let chosen = std::env::var("TIDEPOST_SEED").ok();
    chosen.map_or_else(
        || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64),
        |seed| seed.parse().expect("a seed is a number"),
    )
}

#[test]
fn every_message_is_accounted_for_whoever_joins_leaves_stops_or_is_killed() {
    let (seed, is_long) = (seed(), std::env::var_os("TIDEPOST_LONG").is_some());
    println!("TIDEPOST_SEED={seed}");
    let mut cast = Cast::new(seed);
    // One that the kernel is just starting shows no environment yet.
    until("they are found while they live", || processes_of(cast.stage.directory()).len() >= 2 * CAST);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(if is_long { 60 } else { 5 }) {
        cast.step();
    }
    cast.end();
    for label in ["Block", "Fail", "DropOldest", "Latest", "Observer"] {
        let (received, lost) = cast.books.figures(label);
        println!("{label}: {received} received, {lost} lost");
        assert!(received > 500, "{label}: {received} received");
        assert_eq!(lost > 0, may_lose(label), "{label}: {lost} lost");
    }
    let ended = cast.books.compare();
    println!("{} senders, {ended} streams to their end, {} held", cast.books.sent.len(), cast.books.held);
    assert!(ended > 0 && cast.books.held > 0);
    drop(cast.stage.node());
    assert_eq!(cast.stage.files(), Vec::<PathBuf>::new());
    assert_eq!(processes_of(cast.stage.directory()), Vec::<PathBuf>::new());
}
