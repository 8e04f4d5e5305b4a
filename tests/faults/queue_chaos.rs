//! The fear: what holds for one process that dies does not hold for many, on both sides, that come, give back, stop and are
//! killed at any instant. `TIDEPOST_LONG=1` makes it long; the seed is said, and `TIDEPOST_SEED` repeats it.

use std::time::{Duration, Instant};

use tidepost::{Consumer, HeldItem, Node, Overflow, Producer};

use crate::ledger::{self, LETTER_BYTES_LEAST, Random};
use crate::parts::{say, wait};
use crate::records::{Book, RecordFile, Records};
use crate::stage::{Actor, PATIENCE, Stage};

/// Processes that push, at any time.
const GIVERS: usize = 2;
/// Processes that take, at any time.
const TAKERS: usize = 3;
/// Items that a taker holds at a time.
const HELD_MAX: usize = 6;
/// The name of the first giver; takers have names from zero on.
const FIRST_GIVER: u64 = 1_000_000;

fn is_long() -> bool {
    std::env::var_os("TIDEPOST_LONG").is_some()
}

/// Items of each giver that is not killed.
fn items() -> u64 {
    if is_long() { 400_000 } else { 4_000 }
}

/// Givers that are killed.
fn givers_killed() -> usize {
    if is_long() { 400 } else { 8 }
}

fn seed() -> u64 {
    std::env::var("TIDEPOST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_125)
}

fn consumer(node: &Node, random: &mut Random) -> Consumer<[u8]> {
    let credit = 1 << random.below(6);
    node.queue("letters").credit(credit).consumer().expect("the types agree")
}

/// A taker: it writes down what it has done, acknowledges in any order, gives back some, and leaves and comes again.
pub fn take(node: &Node, name: u64) {
    let mut random = Random::new(seed() ^ name);
    let mut file = RecordFile::of_part(name);
    let mut consumer = consumer(node, &mut random);
    say("taking");
    let mut held: Vec<HeldItem<[u8]>> = Vec::new();
    loop {
        let patience = Duration::from_micros(random.below(3_000));
        if let Some(item) = consumer.recv_timeout(patience).expect("receiving succeeds") {
            let letter = ledger::read(&item);
            match random.below(10) {
                0 => item.give_back(),
                1..4 => held.push(item.hold()),
                _ => {
                    file.note(letter, item.is_redelivered());
                    hesitate(&mut random);
                    let _ = item.ack();
                }
            }
        }
        // None is held for ever: a giver that has finished waits for all.
        if held.len() > HELD_MAX || (!held.is_empty() && random.below(4) == 0) {
            let item = held.swap_remove(random.below(held.len() as u64) as usize);
            if random.below(4) > 0 {
                file.note(ledger::read(&item), item.is_redelivered());
                hesitate(&mut random);
                let _ = item.ack();
            }
        }
        // What it has not seen goes to others; what it holds it keeps.
        if random.below(100) == 0 {
            drop(consumer);
            consumer = self::consumer(node, &mut random);
        }
        assert_eq!(node.violations(), (0, None));
    }
}

/// Whoever is killed here has done an item that comes again.
fn hesitate(random: &mut Random) {
    if random.below(16) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(5_000)));
    }
}

/// A giver: it pushes letters of all lengths, and closes when they have all been acknowledged.
pub fn give(node: &Node, name: u64) {
    let mut random = Random::new(seed() ^ name);
    let book = Book::of_part(name);
    let depth = 1 << random.below(8);
    let queue = node.queue::<[u8]>("letters").depth(depth).slot_bytes(256 << random.below(5));
    let mut producer = queue.producer(Overflow::Block).expect("the queue is ours");
    for number in 0..items() {
        book.begin(number + 1);
        give_one(&mut producer, &mut random, (name, number));
        if random.below(20) == 0 {
            book.acknowledged(producer.counts().acknowledged);
        }
        if random.below(50) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(500)));
        }
    }
    let deadline = Instant::now() + 20 * PATIENCE;
    while producer.counts().acknowledged < items() {
        assert!(Instant::now() < deadline, "{:?}", producer.counts());
        std::thread::sleep(Duration::from_millis(1));
    }
    let counts = producer.counts();
    assert_eq!((counts.backlog, counts.unacknowledged, counts.dropped), (0, 0, 0));
    producer.close(PATIENCE).expect("everything is acknowledged");
    assert_eq!(node.violations(), (0, None));
    say(counts.redelivered);
    wait();
}

fn give_one(producer: &mut Producer<[u8]>, random: &mut Random, (name, number): (u64, u64)) {
    let lengths = [LETTER_BYTES_LEAST as u64, 300, 3_000, 60_000];
    let length = (lengths[random.below(4) as usize] + random.below(100)) as usize;
    if random.below(5) == 0 {
        let mut loan = producer.loan(length).expect("room comes");
        ledger::write(&mut loan, name, number);
        loan.push().expect("there is room");
    } else {
        producer.push(&ledger::letter(length, name, number)).expect("a blocking push succeeds");
    }
}

/// The processes, and what has become of those before them.
struct Play {
    stage: Stage,
    random: Random,
    takers: Vec<Actor>,
    takers_so_far: u64,
    givers: Vec<(u64, Actor)>,
    givers_so_far: u64,
    /// The names of givers that were killed.
    killed: Vec<u64>,
    /// The names of givers that came to their end.
    closed: Vec<u64>,
    /// What those have said of redeliveries.
    redelivered: u64,
}

impl Play {
    fn new() -> Self {
        let mut play = Self {
            stage: Stage::new(),
            random: Random::new(seed()),
            takers: Vec::new(),
            takers_so_far: 0,
            givers: Vec::new(),
            givers_so_far: 0,
            killed: Vec::new(),
            closed: Vec::new(),
            redelivered: 0,
        };
        (0..GIVERS).for_each(|_| play.start_giver());
        (0..TAKERS).for_each(|_| play.start_taker());
        play
    }

    fn start_taker(&mut self) {
        let mut taker = self.stage.start("queue-chaos-taker", &self.takers_so_far.to_string());
        taker.expect("taking");
        self.takers.push(taker);
        self.takers_so_far += 1;
    }

    fn start_giver(&mut self) {
        let name = FIRST_GIVER + self.givers_so_far;
        self.givers.push((name, self.stage.start("queue-chaos-giver", &name.to_string())));
        self.givers_so_far += 1;
    }

    /// A time shorter than this.
    fn rest(&mut self, micros: u64) {
        std::thread::sleep(Duration::from_micros(self.random.below(micros)));
    }

    /// Something happens to somebody.
    fn act(&mut self) {
        self.rest(150_000);
        self.see_who_has_closed();
        // Both sides are struck, however soon the givers have done.
        match self.random.below(8) {
            _ if self.killed.is_empty() => self.strike_a_giver(),
            0..3 => self.strike_a_giver(),
            _ => self.strike_a_taker(),
        }
    }

    /// Givers that have come to their end go.
    fn see_who_has_closed(&mut self) {
        for (name, mut giver) in std::mem::take(&mut self.givers) {
            match giver.try_hear() {
                Some(said) => {
                    self.close(name, &said);
                    giver.go();
                    giver.ends();
                }
                None => {
                    assert!(!giver.has_ended(), "giver {name} has failed");
                    self.givers.push((name, giver));
                }
            }
        }
    }

    fn close(&mut self, name: u64, said: &str) {
        self.closed.push(name);
        self.redelivered += said.parse::<u64>().expect("it says a count");
    }

    /// Kills a taker, or stops it for a while, or one after the other.
    fn strike_a_taker(&mut self) {
        let mut taker = self.takers.swap_remove(self.random.below(TAKERS as u64) as usize);
        assert!(!taker.has_ended(), "a taker has failed");
        let is_stopped = self.random.below(3) == 0;
        if is_stopped {
            taker.stop();
            self.rest(30_000);
        }
        if is_stopped && self.random.below(2) == 0 {
            taker.signal(libc::SIGCONT);
            self.takers.push(taker);
        } else {
            taker.kill();
            self.start_taker();
        }
    }

    /// The same for a giver; but so many only are killed.
    fn strike_a_giver(&mut self) {
        let Some(place) = self.random.next().checked_rem(self.givers.len() as u64) else { return };
        let (name, giver) = self.givers.swap_remove(place as usize);
        let is_stopped = self.random.below(3) == 0;
        if is_stopped {
            giver.stop();
            self.rest(30_000);
        }
        if self.killed.len() >= givers_killed() || (is_stopped && self.random.below(2) == 0) {
            giver.signal(libc::SIGCONT);
            self.givers.push((name, giver));
        } else {
            self.kill_giver(name, giver);
        }
    }

    fn kill_giver(&mut self, name: u64, mut giver: Actor) {
        giver.signal_kill();
        // It may have come to its end before.
        if let Some(said) = giver.hear_out().first() {
            return self.close(name, said);
        }
        self.killed.push(name);
        self.start_giver();
    }

    /// That everything was done, as the takers wrote it down; how much of it more than once.
    fn check(&self) -> u64 {
        let records = Records::collect(&self.stage, 0..self.takers_so_far);
        for name in self.killed.iter().chain(&self.closed) {
            records.check_killed(&self.stage, *name);
        }
        self.closed.iter().map(|name| records.check(*name, items())).sum()
    }
}

#[test]
fn every_item_is_done_whoever_comes_and_goes() {
    println!("TIDEPOST_SEED={}", seed());
    let mut play = Play::new();
    let end = Instant::now() + if is_long() { 200 * PATIENCE } else { 5 * PATIENCE };
    while play.closed.len() < GIVERS {
        assert!(Instant::now() < end, "{} givers come to no end", play.givers.len());
        play.act();
    }
    play.takers.clear();
    let twice = play.check();
    println!(
        "{} takers, {} givers, {} of them killed; {} items redelivered, {twice} done more than once",
        play.takers_so_far,
        play.givers_so_far,
        play.killed.len(),
        play.redelivered
    );
    assert!(!play.killed.is_empty(), "givers are killed");
    assert!(play.redelivered > 0, "takers give back and are killed all the time");
    assert!(twice <= play.redelivered, "{twice} were done twice, and {} redelivered", play.redelivered);
}
