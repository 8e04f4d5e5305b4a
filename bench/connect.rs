//! What comes before the first message: a node, an endpoint, a connection. And what many topics between two processes take.
//!
//! Whoever is measured is a fresh process each time: what a process does only once belongs to what its users wait for.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tidepost::{Node, Overflow, Publisher, Subscriber};

use crate::engine::tidepost as endpoints;
use crate::measure::Failure;
use crate::process::{self, Partner};
use crate::report::Spread;
use crate::scratch::Scratch;

/// How long a message may take to arrive before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The depths with which many topics are made: a small one, and whatever the library chooses.
const DEPTHS: [Option<usize>; 2] = [Some(64), None];

/// The steps of a process that comes into a domain, in order, as it takes them.
const STEPS: [&str; 5] = [
    "open a node",
    "subscribe, first topic",
    "receive the first message",
    "all of these",
    "publish, further topic",
];

/// How long one step took.
#[derive(Clone, Copy, Debug)]
pub struct StepRow {
    /// The step.
    pub step: &'static str,
    /// Rounds that were measured.
    pub rounds: usize,
    /// Its time in nanoseconds.
    pub time_ns: Spread,
}

impl StepRow {
    /// The row as JSON.
    pub fn to_json(&self) -> Value {
        json!({ "step": self.step, "rounds": self.rounds, "time_ns": self.time_ns.to_json() })
    }
}

/// Measures each step in so many rounds; `progress` hears of each.
pub fn steps(rounds: u32, mut progress: impl FnMut(u32)) -> Result<Vec<StepRow>, Failure> {
    let found = (0..rounds).map(|round| {
        progress(round);
        process::pinned(run_steps)
    });
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let rows = STEPS.into_iter().zip(0..).filter_map(|(step, index): (_, usize)| {
        let times = found.iter().filter_map(|times| times.get(index)?.as_f64()).collect();
        Some(StepRow { step, rounds: found.len(), time_ns: Spread::of(times)? })
    });
    Ok(rows.collect())
}

/// The process that is there already: it publishes one topic and subscribes to the other.
fn run_steps() -> Result<Vec<Value>, Failure> {
    let directory = Scratch::create()?;
    let node = endpoints::open(directory.path(), "bench-parent");
    let mut forth = node.topic::<u64>("forth").publisher(Overflow::Block)?;
    let _back = node.topic::<u64>("back").subscriber()?;
    let partner = Partner::start(["steps".to_owned()], &directory.path().to_string_lossy())?;
    forth.wait_for_subscribers(1, PATIENCE)?;
    forth.send(&1)?;
    let result = partner.result()?;
    Ok(result.as_array().cloned().unwrap_or_default())
}

/// The process that comes.
fn child_steps(directory: &Path) -> Result<Value, Failure> {
    let start = Instant::now();
    let node = endpoints::open(directory, "bench-child");
    let opened = Instant::now();
    let mut forth = node.topic::<u64>("forth").subscriber()?;
    let subscribed = Instant::now();
    forth.recv_timeout(PATIENCE)?.ok_or("the first message did not come")?;
    let received = Instant::now();
    let back = node.topic::<u64>("back").publisher(Overflow::Block)?;
    let published = Instant::now();
    if back.subscribers() != 1 || node.peers().len() != 1 {
        return Err("the two processes are not connected".into());
    }
    let steps =
        [opened - start, subscribed - opened, received - subscribed, received - start, published - received];
    Ok(json!(steps.map(|step| step.as_nanos() as f64)))
}

/// What one process uses.
#[derive(Clone, Copy, Debug)]
pub struct UsageRow {
    /// Bytes of memory, shared and private.
    pub resident: Spread,
    /// Bytes of private memory.
    pub private: Spread,
    /// Open descriptors.
    pub descriptors: Spread,
    /// Mappings.
    pub mappings: Spread,
    /// Connections to other nodes.
    pub connections: Spread,
}

impl UsageRow {
    fn of(found: &[Value]) -> Option<Self> {
        let of = |key: &str| Spread::of(found.iter().filter_map(|usage| usage[key].as_f64()).collect());
        Some(Self {
            resident: of("resident")?,
            private: of("private")?,
            descriptors: of("descriptors")?,
            mappings: of("mappings")?,
            connections: of("connections")?,
        })
    }

    fn to_json(self) -> Value {
        json!({
            "resident_bytes": self.resident.to_json(),
            "private_bytes": self.private.to_json(),
            "descriptors": self.descriptors.to_json(),
            "mappings": self.mappings.to_json(),
            "connections": self.connections.to_json(),
        })
    }
}

/// Many topics between two processes, all of one depth.
#[derive(Clone, Copy, Debug)]
pub struct TopicsRow {
    /// How many.
    pub topics: u32,
    /// Their depth; `None` if the library chose.
    pub depth: Option<usize>,
    /// Rounds that were measured.
    pub rounds: usize,
    /// The time that making all publishers took, in nanoseconds.
    pub publishers_ns: Spread,
    /// The time that making and connecting all subscribers took, in nanoseconds.
    pub subscribers_ns: Spread,
    /// What the publishers' process uses.
    pub publisher: UsageRow,
    /// What the subscribers' process uses.
    pub subscriber: UsageRow,
}

impl TopicsRow {
    fn of(topics: u32, depth: Option<usize>, found: &[Topics]) -> Option<Self> {
        let of = |pick: fn(&Topics) -> &Value| found.iter().map(pick).cloned().collect::<Vec<_>>();
        let times = |values: Vec<Value>| Spread::of(values.iter().filter_map(Value::as_f64).collect());
        Some(Self {
            topics,
            depth,
            rounds: found.len(),
            publishers_ns: times(of(|found| &found.publishers_ns))?,
            subscribers_ns: times(of(|found| &found.subscribers_ns))?,
            publisher: UsageRow::of(&of(|found| &found.publisher))?,
            subscriber: UsageRow::of(&of(|found| &found.subscriber))?,
        })
    }

    /// The row as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "topics": self.topics,
            "depth": self.depth,
            "rounds": self.rounds,
            "publishers_ns": self.publishers_ns.to_json(),
            "subscribers_ns": self.subscribers_ns.to_json(),
            "publishers_process": self.publisher.to_json(),
            "subscribers_process": self.subscriber.to_json(),
        })
    }
}

/// What one round found.
struct Topics {
    publishers_ns: Value,
    subscribers_ns: Value,
    publisher: Value,
    subscriber: Value,
}

/// Makes so many topics between two processes, of each depth, in so many rounds; `progress` hears of each.
pub fn topics(
    topics: u32,
    rounds: u32,
    mut progress: impl FnMut(u32, Option<usize>),
) -> Result<Vec<TopicsRow>, Failure> {
    raise_descriptor_limit()?;
    let mut found = DEPTHS.map(|depth| (depth, Vec::new()));
    for round in 0..rounds {
        for (depth, found) in &mut found {
            progress(round, *depth);
            found.push(process::pinned(|| run_topics(topics, *depth))?);
        }
    }
    Ok(found.into_iter().filter_map(|(depth, found)| TopicsRow::of(topics, depth, &found)).collect())
}

/// A publisher keeps a descriptor, and the usual limit is about a thousand: as many as we may have, and our children too.
pub(crate) fn raise_descriptor_limit() -> std::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn run_topics(topics: u32, depth: Option<usize>) -> Result<Topics, Failure> {
    let directory = Scratch::create()?;
    let resource = directory.path().to_string_lossy().into_owned();
    let part = |name: &str| [name.to_owned(), topics.to_string(), depth.unwrap_or(0).to_string()];
    let mut publishing = Partner::start(part("topics-publisher"), &resource)?;
    let publishers_ns = value(&mut publishing)?;
    let mut subscribing = Partner::start(part("topics-subscriber"), &resource)?;
    let subscribers_ns = value(&mut subscribing)?;
    publishing.go()?;
    let found = Topics {
        publishers_ns,
        subscribers_ns,
        publisher: value(&mut publishing)?,
        subscriber: value(&mut subscribing)?,
    };
    subscribing.result()?;
    publishing.result()?;
    Ok(found)
}

fn value(partner: &mut Partner) -> Result<Value, Failure> {
    Ok(serde_json::from_str(&partner.line()?)?)
}

/// Publishers, one to a topic; each sends its number once all are read.
fn child_publishers(topics: u32, depth: usize, directory: &Path) -> Result<Value, Failure> {
    process::pin(process::PARENT_CORE);
    let node = endpoints::open(directory, "bench-publishers");
    let start = Instant::now();
    let mut publishers = (0..topics)
        .map(|number| {
            let name = name(number);
            let topic = node.topic::<u64>(&name);
            if depth == 0 { topic } else { topic.depth(depth) }.publisher(Overflow::Block)
        })
        .collect::<Result<Vec<Publisher<u64>>, _>>()?;
    process::tell(json!(start.elapsed().as_nanos() as f64));
    process::await_go()?;
    for (publisher, number) in publishers.iter_mut().zip(0..) {
        publisher.send(&number)?;
    }
    process::tell(usage(&node)?);
    process::await_end()?;
    Ok(json!({}))
}

/// Subscribers, one to a topic; each receives its number.
fn child_subscribers(topics: u32, directory: &Path) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-subscribers");
    let start = Instant::now();
    let mut subscribers = (0..topics)
        .map(|number| node.topic::<u64>(&name(number)).subscriber())
        .collect::<Result<Vec<Subscriber<u64>>, _>>()?;
    process::tell(json!(start.elapsed().as_nanos() as f64));
    for (subscriber, number) in subscribers.iter_mut().zip(0u64..) {
        let message = subscriber.recv_timeout(PATIENCE)?;
        if message.as_deref() != Some(&number) {
            return Err(format!("topic {number} carried {:?}", message.as_deref()).into());
        }
    }
    process::tell(usage(&node)?);
    process::await_end()?;
    Ok(json!({}))
}

fn name(number: u32) -> String {
    format!("topic-{number}")
}

/// What this process uses.
fn usage(node: &Node) -> std::io::Result<Value> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kibibytes.map(|kibibytes| kibibytes << 10)
    };
    Ok(json!({
        "resident": bytes("VmRSS"),
        "private": bytes("RssAnon"),
        // The descriptor with which the directory is read is not counted.
        "descriptors": std::fs::read_dir("/proc/self/fd")?.count() - 1,
        "mappings": std::fs::read_to_string("/proc/self/maps")?.lines().count(),
        "connections": node.peers().len(),
    }))
}

/// The child's side: `part` is what it was started with, if it is one of ours.
pub(crate) fn child(part: &[String], resource: &Path) -> Option<Result<Value, Failure>> {
    match part {
        [name] if name == "steps" => Some(child_steps(resource)),
        [name, topics, depth] => {
            let (topics, depth) = (topics.parse().ok()?, depth.parse().ok()?);
            match name.as_str() {
                "topics-publisher" => Some(child_publishers(topics, depth, resource)),
                "topics-subscriber" => Some(child_subscribers(topics, resource)),
                _ => None,
            }
        }
        _ => None,
    }
}
