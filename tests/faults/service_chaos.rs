//! The fear: among many clients and servers that come, go, stop and are killed at any instant, a call has no outcome, or two, or
//! the answer to another.
//!
//! Each process says what it does in a line of its own before it does it, or when it has come about; the test keeps books of
//! what all of them said, and compares them. Requests and answers say whose they are, their number, and their checksum.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidepost::{AsFailure, Call, CallError, Client, Node, Parts, Request, Server, Ticket};

use crate::chaos::{GO_ON, end_on_panic, listen, processes_of, seed};
use crate::ledger::{self, LETTER_BYTES_LEAST, Random};
use crate::parts::say;
use crate::stage::{Actor, PATIENCE, Stage};

/// Processes of each kind.
const CAST: usize = 3;
/// Calls of a client that wait at a time.
const WAITING_MAX: usize = 40;
/// Tickets of a server that wait at a time.
const TICKETS_MAX: usize = 30;
/// What is mixed into the sender of a letter that answers one.
const ANSWERS: u64 = 0x5555_5555_5555_5555;
/// About how long letters are: in the line, in the slot, in the pool.
const LENGTHS: [u64; 4] = [LETTER_BYTES_LEAST as u64, 150, 5_000, 100_000];

/// A letter of some length.
fn letter(random: &mut Random, sender: u64, number: u64) -> Vec<u8> {
    let length = LENGTHS[random.below(4).min(random.below(4)) as usize] + random.below(20);
    ledger::letter(length as usize, sender, number)
}

fn pause(random: &mut Random, one_in: u64, micros_max: u64) {
    if random.below(one_in) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(micros_max)));
    }
}

/// One client, and what it has asked.
struct Caller {
    client: Client<[u8], [u8]>,
    random: Random,
    name: u64,
    next: u64,
    waiting: HashMap<Call, u64>,
}

/// The part of a client's process.
pub fn call(node: &Node, seed: u64) {
    end_on_panic();
    let orders = listen();
    let mut random = Random::new(seed);
    let service = node.service("chaos").depth(8 << random.below(4)).in_flight(WAITING_MAX as u32);
    let service = if random.below(2) == 0 { service.sticky() } else { service };
    let client = service.client().expect("the types agree");
    let name = random.next();
    let mut caller = Caller { client, random, name, next: 0, waiting: HashMap::new() };
    say("playing");
    while orders.load(std::sync::atomic::Ordering::Relaxed) == GO_ON {
        caller.step();
    }
    while !caller.waiting.is_empty() {
        let found = caller.client.wait_any(PATIENCE).expect("nothing fails");
        caller.take(found.expect("each call has an outcome"));
    }
    let (violations, last) = node.violations();
    assert_eq!(violations, 0, "{last:?}");
    say("done");
}

impl Caller {
    fn step(&mut self) {
        pause(&mut self.random, 20, 3_000);
        match self.random.below(8) {
            0..=2 if self.waiting.len() < WAITING_MAX - 1 => self.send(),
            3 => self.call_once(),
            4 if self.random.below(3) == 0 => self.call_for_parts(),
            5 if self.random.below(4) == 0 => self.give_one_up(),
            _ => {
                let patience = Duration::from_micros(self.random.below(2_000));
                if let Some(call) = self.client.wait_any(patience).expect("nothing fails") {
                    self.take(call);
                }
            }
        }
    }

    /// The next request, which is said to be asked.
    fn compose(&mut self) -> (u64, Vec<u8>) {
        let number = self.next;
        self.next += 1;
        say(format!("asked {} {number}", self.name));
        (number, letter(&mut self.random, self.name, number))
    }

    fn tell(&self, number: u64, outcome: &str) {
        say(format!("outcome {} {number} {outcome}", self.name));
    }

    fn tell_error(&self, number: u64, error: &CallError) {
        self.tell(
            number,
            match error {
                CallError::Failed { .. } => "failed",
                CallError::NoServer { .. } => "nobody",
                CallError::Timeout { .. } => "late",
                CallError::ServerLost { .. } => "lost",
                CallError::Unanswered { .. } => "unanswered",
                error => panic!("{error}"),
            },
        );
    }

    fn send(&mut self) {
        let (number, request) = self.compose();
        let timeout = Duration::from_micros(1 + self.random.below(200_000));
        match self.client.send(&request, timeout) {
            Ok(call) => assert_eq!(self.waiting.insert(call, number), None, "a call is another"),
            Err(error) => self.tell_error(number, &error),
        }
    }

    fn call_once(&mut self) {
        let (number, request) = self.compose();
        let timeout = Duration::from_micros(1 + self.random.below(100_000));
        let outcome = self.client.call(&request, timeout).map(|answer| ledger::read(&answer));
        self.conclude(number, outcome);
    }

    fn conclude(&self, number: u64, outcome: Result<(u64, u64), CallError>) {
        match outcome {
            Ok(answer) => {
                assert_eq!(answer, (self.name ^ ANSWERS, number), "the answer to another call");
                self.tell(number, "answered");
            }
            Err(error) => self.tell_error(number, &error),
        }
    }

    /// Takes the outcome of a call, which is there.
    fn take(&mut self, call: Call) {
        let number = self.waiting.remove(&call).expect("it has no second outcome");
        let outcome = self.client.wait(call, Duration::ZERO).map(|answer| ledger::read(&answer));
        self.conclude(number, outcome);
    }

    fn give_one_up(&mut self) {
        if let Some(call) = self.waiting.keys().next().copied() {
            assert!(self.client.cancel(call));
            let number = self.waiting.remove(&call).expect("it was there");
            self.tell(number, "given-up");
        }
    }

    /// As many parts as its number says, unless something comes in between.
    fn call_for_parts(&mut self) {
        let (number, request) = self.compose();
        let timeout = Duration::from_millis(1 + self.random.below(300));
        let (name, stops_at) = (self.name, self.random.below(400));
        let outcome = match self.client.call_parts(&request, timeout) {
            Ok(parts) => take_parts(parts, (name, number), stops_at),
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) => self.tell_error(number, &error),
            Ok(come) if come == stops_at => self.tell(number, "given-up"),
            Ok(come) => {
                assert_eq!(come, parts_of(number), "the parts of call {number}");
                self.tell(number, "answered");
            }
        }
    }
}

/// Takes the parts of a call, up to so many; how many have come.
fn take_parts(parts: Parts<'_, [u8], [u8]>, (name, number): (u64, u64), most: u64) -> Result<u64, CallError> {
    let mut come = 0;
    for part in parts.take(most as usize) {
        assert_eq!(ledger::read(&part?), (name ^ ANSWERS, (number << 16) + come), "a part of another call");
        come += 1;
    }
    Ok(come)
}

fn parts_of(number: u64) -> u64 {
    number * 7919 % 300
}

/// A ticket, and the client and the number of its call.
type PutOff = (Ticket<[u8], [u8]>, (u64, u64));

/// One server, and what it has put off.
struct Answerer {
    random: Random,
    tickets: Vec<PutOff>,
}

/// The part of a server's process.
pub fn serve(node: &Node, seed: u64) {
    end_on_panic();
    let orders = listen();
    let mut random = Random::new(seed);
    let service = node.service("chaos").depth(8 << random.below(4));
    let mut server: Server<[u8], [u8]> = service.server().expect("the service is ours");
    let mut answerer = Answerer { random, tickets: Vec::new() };
    say("playing");
    while orders.load(std::sync::atomic::Ordering::Relaxed) == GO_ON {
        pause(&mut answerer.random, 30, 5_000);
        let patience = Duration::from_micros(answerer.random.below(3_000));
        if let Some(request) = server.recv_timeout(patience).expect("receiving succeeds") {
            answerer.take(request);
        }
        while answerer.tickets.len() > TICKETS_MAX
            || (!answerer.tickets.is_empty() && answerer.random.below(3) == 0)
        {
            answerer.answer_one();
        }
    }
    let (violations, last) = node.violations();
    assert_eq!(violations, 0, "{last:?}");
    say("done");
}

impl Answerer {
    fn take(&mut self, request: Request<'_, [u8], [u8]>) {
        let (sender, number) = ledger::read(&request);
        say(format!("took {sender} {number}"));
        if request.wants_parts() {
            let mut parts = request.parts().expect("parts are wanted");
            for part in 0..parts_of(number) {
                let letter = letter(&mut self.random, sender ^ ANSWERS, (number << 16) + part);
                if parts.send(&letter).is_err() {
                    return;
                }
            }
            let _ = parts.finish();
            return;
        }
        let answer = letter(&mut self.random, sender ^ ANSWERS, number);
        // Whoever is gone, or has given up, need not be answered.
        let _ = match self.random.below(16) {
            0 => return,
            1 => request.fail("no".as_failure()),
            2..=5 => match request.defer() {
                Ok(ticket) => return self.tickets.push((ticket, (sender, number))),
                Err(error) => Err(error),
            },
            6..=8 => request.loan_slice(answer.len()).and_then(|mut loan| {
                loan.copy_from_slice(&answer);
                loan.send()
            }),
            _ => request.answer(&answer),
        };
    }

    /// Answers a ticket, here or in another thread.
    fn answer_one(&mut self) {
        let place = self.random.below(self.tickets.len() as u64) as usize;
        let (ticket, (sender, number)) = self.tickets.swap_remove(place);
        let answer = letter(&mut self.random, sender ^ ANSWERS, number);
        match self.random.below(8) {
            0 => ticket.fail("no".as_failure()),
            1 => drop(ticket),
            2..=4 => drop(std::thread::spawn(move || ticket.answer(&answer))),
            _ => ticket.answer(&answer),
        }
    }
}

/// What all processes said.
#[derive(Default)]
struct Books {
    /// Calls by client and number, with whether the client was killed.
    asked: HashMap<(u64, u64), bool>,
    outcomes: HashMap<(u64, u64), String>,
    taken: HashMap<(u64, u64), u64>,
}

impl Books {
    fn enter(&mut self, line: &str, was_killed: bool) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().expect("it is a number");
        match words[..] {
            ["asked", client, call] => {
                let earlier = self.asked.insert((number(client), number(call)), was_killed);
                assert_eq!(earlier, None, "a call is asked once");
            }
            ["outcome", client, call, outcome] => {
                let call = (number(client), number(call));
                let earlier = self.outcomes.insert(call, outcome.to_owned());
                assert_eq!(earlier, None, "call {call:x?} has a second outcome: {outcome}");
            }
            ["took", client, call] => {
                *self.taken.entry((number(client), number(call))).or_default() += 1;
            }
            _ => assert_eq!(line, "playing"),
        }
    }

    /// Compares what clients and servers said: how many calls came out in which way.
    fn compare(&self) -> HashMap<&str, u64> {
        let mut figures = HashMap::new();
        for (call, was_killed) in &self.asked {
            let outcome = self.outcomes.get(call).map(String::as_str);
            assert!(outcome.is_some() || *was_killed, "call {call:x?} has no outcome");
            let taken = self.taken.get(call).copied().unwrap_or_default();
            assert!(taken <= 1, "call {call:x?} was taken {taken} times");
            let outcome = outcome.unwrap_or("its client was killed");
            // One that comes to its server when its time is over is unanswered without being taken.
            let was_served = matches!(outcome, "answered" | "failed");
            assert!(!was_served || taken == 1, "call {call:x?} is {outcome}, and nobody took it");
            assert!(outcome != "nobody" || taken == 0, "call {call:x?} was sent to nobody, and taken");
            *figures.entry(outcome).or_default() += 1;
        }
        let is_asked = |call: &&(u64, u64)| self.asked.contains_key(call);
        assert!(
            self.outcomes.keys().all(|call| is_asked(&call)) && self.taken.keys().all(|call| is_asked(&call))
        );
        figures
    }
}

const PARTS: [&str; 2] = ["chaos-client", "chaos-server"];

/// All processes, and what those said that are gone.
struct Cast {
    stage: Stage,
    random: Random,
    playing: Vec<Actor>,
    books: Books,
}

impl Cast {
    fn new(seed: u64) -> Self {
        let (stage, random) = (Stage::new(), Random::new(seed));
        let mut cast = Self { stage, random, playing: Vec::new(), books: Books::default() };
        for place in 0..2 * CAST {
            let actor = cast.actor(place);
            cast.playing.push(actor);
        }
        cast
    }

    /// Clients have the even places.
    fn actor(&mut self, place: usize) -> Actor {
        self.stage.start(PARTS[place % 2], &self.random.next().to_string())
    }

    /// Something happens to somebody.
    fn step(&mut self) {
        std::thread::sleep(Duration::from_millis(self.random.below(200)));
        let place = self.random.below(2 * CAST as u64) as usize;
        match self.random.below(4) {
            0 | 1 => {
                self.playing[place].signal(libc::SIGSTOP);
                std::thread::sleep(Duration::from_millis(self.random.below(100)));
                self.playing[place].signal(libc::SIGCONT);
            }
            2 => {
                let next = self.actor(place);
                let leaving = std::mem::replace(&mut self.playing[place], next);
                self.leave(leaving);
            }
            _ => {
                let next = self.actor(place);
                let mut killed = std::mem::replace(&mut self.playing[place], next);
                killed.signal_kill();
                killed.hear_out().iter().for_each(|line| self.books.enter(line, true));
            }
        }
        // One that ended by itself has found something.
        self.playing.iter_mut().for_each(|actor| assert!(!actor.has_ended(), "it plays until it is told"));
    }

    /// One leaves when it has all its answers.
    fn leave(&mut self, mut actor: Actor) {
        actor.tell("leave");
        loop {
            let line = actor.hear();
            if line == "done" {
                return actor.ends();
            }
            self.books.enter(&line, false);
        }
    }

    /// Everybody leaves, the clients first.
    fn end(&mut self) {
        let (clients, servers): (Vec<_>, Vec<_>) =
            self.playing.drain(..).enumerate().partition(|(place, _)| place % 2 == 0);
        clients.into_iter().chain(servers).for_each(|(_, actor)| self.leave(actor));
    }
}

#[test]
fn every_call_has_one_outcome_whoever_joins_leaves_stops_or_is_killed() {
    let (seed, is_long) = (seed(), std::env::var_os("TIDEPOST_LONG").is_some());
    println!("TIDEPOST_SEED={seed}");
    let mut cast = Cast::new(seed);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(if is_long { 60 } else { 5 }) {
        cast.step();
    }
    cast.end();
    let figures = cast.books.compare();
    println!("{figures:?}");
    for outcome in ["answered", "failed", "unanswered", "given-up"] {
        assert!(figures.get(outcome).is_some_and(|count| *count > 0), "nothing is {outcome}: {figures:?}");
    }
    drop(cast.stage.node());
    assert_eq!(cast.stage.files(), Vec::<PathBuf>::new());
    assert_eq!(processes_of(cast.stage.directory()), Vec::<PathBuf>::new());
}

/// The checker checks itself.
#[test]
fn what_the_books_of_calls_do_not_allow_is_noticed() {
    let is_sound = |lines: &[(&str, bool)]| {
        let lines: Vec<(String, bool)> =
            lines.iter().map(|(line, killed)| ((*line).to_owned(), *killed)).collect();
        std::panic::catch_unwind(move || {
            let mut books = Books::default();
            lines.iter().for_each(|(line, was_killed)| books.enter(line, *was_killed));
            books.compare().len()
        })
        .is_ok()
    };
    let (asked, took) = (("asked 1 2", false), ("took 1 2", true));
    assert!(is_sound(&[asked, took, ("outcome 1 2 answered", false)]));
    assert!(is_sound(&[("asked 1 2", true), took]) && is_sound(&[asked, ("outcome 1 2 lost", false)]));
    assert!(!is_sound(&[asked, took]), "no outcome");
    assert!(!is_sound(&[asked, ("outcome 1 2 answered", false)]), "an answer of nobody");
    assert!(!is_sound(&[asked, took, took, ("outcome 1 2 answered", false)]), "taken twice");
    assert!(!is_sound(&[asked, took, ("outcome 1 2 nobody", false)]), "taken by nobody");
    assert!(!is_sound(&[asked, ("outcome 1 2 lost", false), ("outcome 1 2 lost", false)]), "two outcomes");
    assert!(!is_sound(&[took]) && !is_sound(&[("outcome 1 2 late", false)]), "never asked");
}
