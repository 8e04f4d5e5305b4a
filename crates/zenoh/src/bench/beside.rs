//! Local messages beside a gateway that is busy: whether it slows those down that do not cross.
//!
//! Two programs of one domain send and receive on one processor; the gateways, and the programs whose stream they carry as fast as they can, have the
//! other. Each round has the local stream twice: while the gateways have nothing to do, and while they do.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidepost::{Node, Overflow, Publisher, Subscriber};

use super::parts::{STREAM, message, read};
use super::ways::{Gateway, PATIENCE, Part, Place, drain, hear};
use super::{median, ratio};
use crate::Failure;

const LOCAL: &str = "bench/local";
const LENGTH: usize = 56;
/// Messages of a local stream.
const MESSAGES: u64 = 1_000_000;
/// How long a stream between machines runs before the local one begins.
const START: Duration = Duration::from_millis(500);

/// The processors: of what is local, and of what is between machines.
const HERE: &str = "0";
const BETWEEN: &str = "1";

/// Measures in so many rounds.
pub fn run(rounds: usize) -> Result<(), Failure> {
    let places = [Place::new("there")?, Place::new("here")?];
    let (there, mut said) =
        Gateway::start_on(Some(BETWEEN), places[0].path(), "there", &["--listen", "tcp/127.0.0.1:0"])?;
    let address = hear(&mut said, "listening on ")?;
    drain(said);
    let (here, said) = Gateway::start_on(Some(BETWEEN), places[1].path(), "here", &["--connect", &address])?;
    drain(said);
    let [there_path, here_path] = [places[0].text()?, places[1].text()?];
    let mut receiver = Part::start_on(Some(BETWEEN), &["plain-program", there_path])?;
    receiver.hear()?;
    let mut busy = Part::start_on(Some(BETWEEN), &["busy", here_path])?;
    busy.hear()?;
    let mut subscriber = Part::start_on(Some(HERE), &["local-subscriber", here_path])?;
    subscriber.hear()?;
    let mut publisher = Part::start_on(Some(HERE), &["local-publisher", here_path])?;
    publisher.hear()?;
    let (mut idle, mut beside, mut crossed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        idle.push(rate(publisher.ask()?));
        busy.ask()?;
        std::thread::sleep(START);
        beside.push(rate(publisher.ask()?));
        busy.ask()?;
        crossed.push(rate(receiver.ask()?));
    }
    println!("local stream, {LENGTH} B, gateways idle: {:.0} /s", median(&idle));
    println!("beside gateways that carry {:.0} /s: {}", median(&crossed), ratio(&beside, &idle));
    drop((there, here));
    Ok(())
}

fn rate((messages, took): (u64, Duration)) -> f64 {
    messages as f64 / took.as_secs_f64().max(1e-9)
}

/// Plays one of the parts until standard input ends.
pub fn play(part: &str, directory: &str) -> Result<(), Failure> {
    let node = Node::builder().name("local").directory(PathBuf::from(directory)).open()?;
    match part {
        "busy" => stream(&node),
        "local-subscriber" => subscribe(&node),
        _ => publish(&node),
    }
}

/// For each line, says how long so many messages took.
fn publish(node: &Node) -> Result<(), Failure> {
    let mut publisher: Publisher<[u8]> = node.topic(LOCAL).publisher(Overflow::Block)?;
    publisher.wait_for_subscribers(1, PATIENCE)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        for number in 0..MESSAGES {
            publisher.send(&message(LENGTH, number))?;
        }
        println!("{MESSAGES} {}", start.elapsed().as_nanos());
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn subscribe(node: &Node) -> Result<(), Failure> {
    let mut subscriber: Subscriber<[u8]> = node.topic(LOCAL).subscriber()?;
    let handle = subscriber.handle();
    let receiving = std::thread::spawn(move || {
        while let Ok(sample) = subscriber.recv() {
            read(&sample);
        }
    });
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
    }
    handle.cancel();
    receiving.join().map_err(|_| "the receiving thread panicked".into())
}

/// Begins to send between machines with one line, and ends it with the next.
fn stream(node: &Node) -> Result<(), Failure> {
    let mut publisher: Publisher<[u8]> = node.topic(STREAM).publisher(Overflow::Block)?;
    publisher.wait_for_subscribers(1, PATIENCE)?;
    let (is_busy, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (busy, over) = (Arc::clone(&is_busy), Arc::clone(&is_over));
    let sending = std::thread::spawn(move || {
        let mut number = 0;
        while !over.load(Ordering::Relaxed) {
            if !busy.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            } else if publisher.send(&message(LENGTH, number)).is_err() {
                return;
            }
            number += 1;
        }
    });
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        is_busy.fetch_xor(true, Ordering::Relaxed);
        println!("0 0");
        std::io::stdout().flush()?;
    }
    is_over.store(true, Ordering::Relaxed);
    sending.join().map_err(|_| "the sending thread panicked".into())
}
