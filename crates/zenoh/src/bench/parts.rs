//! The processes at the other end: each sends back what comes, or counts it.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidepost::{Node, Overflow, Publisher, Subscriber};
use tidepost_zenoh::{Link, Network, Settings, Zenoh};

use super::beside;
use super::engine::{self, Which};
use crate::Failure;

/// Keys, and topics, of what goes there and comes back.
pub const THERE: &str = "bench/there";
pub const BACK: &str = "bench/back";
pub const STREAM: &str = "bench/stream";
/// How long nothing has to come until a stream is over.
pub const SILENCE: Duration = Duration::from_millis(500);

/// A message, every byte of it written.
pub fn message(size: usize, number: u64) -> Vec<u8> {
    let mut message = vec![number as u8; size];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

/// The same, in place.
pub fn write(message: &mut [u8], number: u64) {
    message.fill(number as u8);
    message[..8].copy_from_slice(&number.to_le_bytes());
}

/// Every byte of a message, read.
pub fn read(message: &[u8]) -> u64 {
    let sum: u64 = message.iter().map(|byte| u64::from(*byte)).sum();
    std::hint::black_box(sum)
}

/// Messages of a stream: how many, and when the first and the last came.
#[derive(Default)]
pub struct Counted {
    received: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Counted {
    fn count(&mut self, message: &[u8]) {
        read(message);
        self.received += 1;
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// What is said of a stream that is over: messages, and nanoseconds.
    fn say(&self) -> Result<(), Failure> {
        let took = self.first.zip(self.last).map_or(Duration::ZERO, |(first, last)| last - first);
        let mut out = std::io::stdout();
        writeln!(out, "{} {}", self.received, took.as_nanos())?;
        Ok(out.flush()?)
    }
}

/// Plays the part that the arguments name, until standard input ends.
pub fn play(arguments: &[String]) -> Result<(), Failure> {
    match arguments {
        [part] if part == "engine" => engine(Which::Bare),
        [part] if part == "reliable-engine" => engine(Which::Reliable),
        [part, directory] if ["program", "inline"].contains(&part.as_str()) => {
            let settings = Settings { listen: vec!["tcp/127.0.0.1:0".to_owned()], ..Settings::default() };
            let network = Network::new(settings).machine("there").inline(part == "inline");
            let node = Node::builder().name("there").directory(directory).network(network);
            program(&node.open()?)
        }
        [part, directory] if part == "plain-program" => {
            program(&Node::builder().name("there").directory(PathBuf::from(directory)).open()?)
        }
        [part, directory] if ["busy", "local-subscriber", "local-publisher"].contains(&part.as_str()) => {
            beside::play(part, directory)
        }
        _ => Err(format!("{arguments:?} is no part").into()),
    }
}

fn engine(which: Which) -> Result<(), Failure> {
    let settings = Settings { listen: vec!["tcp/127.0.0.1:0".to_owned()], ..Settings::default() };
    let link = Zenoh::open(&settings)?;
    let session = link.session();
    let mut back = engine::Sender::new(session, which, BACK);
    let echoing = engine::receive(session, which, THERE, move |message| {
        read(message);
        // Whoever asked may have gone.
        let _ = back.send(message.to_vec());
    })?;
    let counted = Arc::new(Mutex::new(Counted::default()));
    let counting = Arc::clone(&counted);
    let lock = |counted: &Mutex<Counted>| {
        std::mem::take(&mut *counted.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let streaming = engine::receive(session, which, STREAM, move |message| {
        counting.lock().unwrap_or_else(PoisonError::into_inner).count(message);
    })?;
    println!("{}", link.addresses().join(" "));
    for line in std::io::stdin().lock().lines() {
        line?;
        std::thread::sleep(SILENCE);
        lock(&counted).say()?;
    }
    drop((echoing, streaming));
    Ok(())
}

fn program(node: &Node) -> Result<(), Failure> {
    let there: Subscriber<[u8]> = node.topic(THERE).subscriber()?;
    let back: Publisher<[u8]> = node.topic(BACK).publisher(Overflow::Block)?;
    let stream: Subscriber<[u8]> = node.topic(STREAM).subscriber()?;
    let handles = (there.handle(), stream.handle());
    let (received, span_ns) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, spanned) = (Arc::clone(&received), Arc::clone(&span_ns));
    std::thread::scope(|scope| {
        scope.spawn(|| echo(there, back));
        scope.spawn(move || count(stream, &counted, &spanned));
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            line?;
            std::thread::sleep(SILENCE);
            println!("{} {}", received.swap(0, Ordering::Relaxed), span_ns.load(Ordering::Relaxed));
            std::io::stdout().flush()?;
        }
        handles.0.cancel();
        handles.1.cancel();
        Ok(())
    })
}

fn echo(mut there: Subscriber<[u8]>, mut back: Publisher<[u8]>) {
    while let Ok(sample) = there.recv() {
        read(&sample);
        if back.send(&sample).is_err() {
            return;
        }
    }
}

fn count(mut stream: Subscriber<[u8]>, received: &AtomicU64, span_ns: &AtomicU64) {
    let mut first = Instant::now();
    while let Ok(sample) = stream.recv() {
        read(&sample);
        if received.load(Ordering::Relaxed) == 0 {
            first = Instant::now();
        }
        received.fetch_add(1, Ordering::Relaxed);
        span_ns.store(first.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}
