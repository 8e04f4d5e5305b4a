//! What Tidepost has besides topics: calls, queues, states, signals, and waiting for many endpoints at once.

use std::path::Path;

use serde_json::{Value, json};
use tidepost::{
    Client, Consumer, Key, Node, Notifier, Overflow, Producer, Publisher, Server, StateReader, StateWriter,
    Subscriber, WaitSet,
};

use crate::connect;
use crate::engine::tidepost::{self as endpoints, CONNECT};
use crate::engine::{Incoming, Outgoing};
use crate::limit::memory::ticks;
use crate::link;
use crate::measure::{Failure, Measurement};
use crate::process::{self, Partner};
use crate::scratch::Scratch;
use crate::workload::Workload;

/// What all of them are called.
const NAME: &str = "bench";
/// How long one call may take.
const PATIENCE: std::time::Duration = CONNECT;
/// Messages that one sample of a wait set spans, which are there before it begins.
const WAITING_SAMPLE: u64 = 1000;
/// Ids of the signal; each has its turn.
const IDS: u32 = 64;
/// Slots of the topic that has messages: a sample, beside what its reader has not given back yet. And of the others.
const DEPTHS: (usize, usize) = (2048, 64);

/// A directory, a node in it, and a child that has its part.
struct Stage {
    // Before the directory: it leaves first.
    node: Node,
    partner: Partner,
    _directory: Scratch,
}

impl Stage {
    fn open(workload: Workload) -> Result<Self, Failure> {
        let directory = Scratch::create()?;
        let node = endpoints::open(directory.path(), "bench-parent");
        let partner = Partner::start(workload.to_arguments(), &directory.path().to_string_lossy())?;
        Ok(Self { node, partner, _directory: directory })
    }
}

/// The parent calls; the child answers each request with what it asks.
pub fn run_call<const WORDS: usize>(workload: Workload) -> Result<Measurement, Failure> {
    let Stage { node, mut partner, _directory } = Stage::open(workload)?;
    let mut client: Client<[u64; WORDS], [u64; WORDS]> = node.service(NAME).client()?;
    client.wait_for_servers(1, CONNECT)?;
    partner.line()?;
    let exchange = |value| {
        let answer = client.call(&endpoints::message(value), PATIENCE).expect("the call is answered");
        endpoints::sum(&answer)
    };
    let samples = link::round_trips(exchange, WORDS as u64, workload.count);
    partner.result()?;
    Ok(Measurement::of_samples(&samples))
}

/// The server.
pub fn child_call<const WORDS: usize>(workload: Workload, directory: &Path) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-child");
    let mut server: Server<[u64; WORDS], [u64; WORDS]> = node.service(NAME).server()?;
    process::tell("ready");
    for round in 0..workload.count + link::warm_up(workload.count) {
        let request = server.recv()?;
        assert_eq!(
            endpoints::sum(&request),
            link::expected_sum(round, WORDS as u64),
            "round {round} is damaged"
        );
        request.answer(&endpoints::message(round))?;
    }
    process::await_end()?;
    Ok(json!({}))
}

impl<const WORDS: usize> Outgoing for Producer<[u64; WORDS]> {
    #[inline(always)]
    fn send(&mut self, value: u64) {
        self.push(&endpoints::message(value)).expect("a push succeeds");
    }
}

/// A consumer that never sleeps, and acknowledges each item.
struct Diligent<const WORDS: usize>(Consumer<[u64; WORDS]>);

impl<const WORDS: usize> Incoming for Diligent<WORDS> {
    #[inline]
    fn receive(&mut self) -> u64 {
        loop {
            if let Some(item) = self.0.try_recv().expect("receiving succeeds") {
                let sum = endpoints::sum(&item);
                item.ack().expect("the producer is there");
                return sum;
            }
        }
    }
}

/// The parent pushes; the child takes item after item, and acknowledges each.
pub fn run_queue<const WORDS: usize>(workload: Workload) -> Result<Measurement, Failure> {
    let Stage { node, mut partner, _directory } = Stage::open(workload)?;
    let mut producer: Producer<[u64; WORDS]> = node.queue(NAME).producer(Overflow::Block)?;
    producer.wait_for_consumers(1, CONNECT)?;
    partner.line()?;
    link::pour(&mut producer, workload.count, 1);
    producer.close(PATIENCE)?;
    Ok(Measurement::of_result(&partner.result()?))
}

/// The consumer.
pub fn child_queue<const WORDS: usize>(workload: Workload, directory: &Path) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-child");
    let mut consumer = Diligent::<WORDS>(node.queue(NAME).consumer()?);
    process::tell("ready");
    Ok(json!({ "per_second": link::drain(&mut consumer, WORDS as u64, 1, workload.count, 1) }))
}

impl<const WORDS: usize> Outgoing for StateWriter<[u64; WORDS]> {
    #[inline(always)]
    fn send(&mut self, value: u64) {
        self.set(&endpoints::message(value)).expect("writing succeeds");
    }
}

/// The parent writes; the child has the readers, and sleeps.
pub fn run_state<const WORDS: usize>(workload: Workload, count: u32) -> Result<Measurement, Failure> {
    let Stage { node, mut partner, _directory } = Stage::open(workload)?;
    let mut writer: StateWriter<[u64; WORDS]> = node.state(NAME).writer()?;
    writer.wait_for_readers(count as usize, CONNECT)?;
    partner.line()?;
    let samples = link::publish(&mut writer, workload.count);
    if writer.readers() != count as usize {
        return Err(format!("{} of {count} readers stayed", writer.readers()).into());
    }
    partner.result()?;
    Ok(Measurement::of_samples(&samples))
}

/// Readers that look once, at the end, and find the last value.
pub fn child_state<const WORDS: usize>(
    workload: Workload,
    count: u32,
    directory: &Path,
) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-child");
    let readers = (0..count).map(|_| node.state(NAME).reader());
    let mut readers = readers.collect::<Result<Vec<StateReader<[u64; WORDS]>>, _>>()?;
    process::tell("ready");
    process::await_end()?;
    let last = link::published(workload.count) - 1;
    for reader in &mut readers {
        let value = reader.read()?.ok_or("a reader has no value")?;
        if endpoints::sum(&value) != link::expected_sum(last, WORDS as u64) {
            return Err(format!("a reader has {:?} instead of the last value", &value[..1]).into());
        }
    }
    Ok(json!({}))
}

/// Readers that are woken by each change, if they sleep, until they have the last value.
pub fn child_sleepers<const WORDS: usize>(
    workload: Workload,
    count: u32,
    directory: &Path,
) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-child");
    let readers = (0..count).map(|_| node.state(NAME).reader());
    let readers = readers.collect::<Result<Vec<StateReader<[u64; WORDS]>>, _>>()?;
    let last = link::expected_sum(link::published(workload.count) - 1, WORDS as u64);
    let sleep = move |mut reader: StateReader<[u64; WORDS]>| {
        while let Some(value) = reader.changed(PATIENCE).expect("waiting succeeds") {
            if endpoints::sum(&value) == last {
                // It stays until the writer has counted it.
                return Some(reader);
            }
        }
        None
    };
    let sleeping: Vec<_> =
        readers.into_iter().map(|reader| std::thread::spawn(move || sleep(reader))).collect();
    process::tell("ready");
    process::await_end()?;
    let readers: Vec<_> = sleeping.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect();
    if readers.len() != count as usize {
        return Err("a sleeper does not have the last value".into());
    }
    Ok(json!({}))
}

impl Outgoing for Notifier {
    #[inline(always)]
    fn send(&mut self, value: u64) {
        self.notify(value as u32 % IDS).expect("notifying succeeds");
    }
}

/// The parent notifies; the child has the waiter, and sleeps.
pub fn run_signal(workload: Workload) -> Result<Measurement, Failure> {
    let Stage { node, mut partner, _directory } = Stage::open(workload)?;
    let mut notifier = node.signal(NAME).ids(IDS).notifier()?;
    notifier.wait_for_waiters(1, CONNECT)?;
    partner.line()?;
    let samples = link::publish(&mut notifier, workload.count);
    partner.result()?;
    Ok(Measurement::of_samples(&samples))
}

/// A waiter that looks once, at the end, and finds that nothing got lost.
pub fn child_signal(workload: Workload, directory: &Path) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-child");
    let mut waiter = node.signal(NAME).ids(IDS).waiter()?;
    process::tell("ready");
    process::await_end()?;
    let total = waiter.try_wait()?.map_or(0, |notices| notices.total());
    if total != link::published(workload.count) {
        return Err(format!("{total} of {} notifications came", link::published(workload.count)).into());
    }
    Ok(json!({}))
}

/// Which of so many subscribers has messages.
fn ready_one(count: u32) -> u32 {
    count / 2
}

fn topic_name(number: u32) -> String {
    format!("{NAME}-{number}")
}

/// The parent waits for so many subscribers at once, and receives; the child publishes to one of them.
///
/// With 1,000 of them the parent takes some 1,010 descriptors and the child 2,010: a ring and an eventfd for each.
pub fn run_set<const WORDS: usize>(workload: Workload, count: u32) -> Result<Measurement, Failure> {
    connect::raise_descriptor_limit()?;
    let Stage { node, mut partner, _directory } = Stage::open(workload)?;
    partner.line()?;
    let mut set = WaitSet::new()?;
    let subscribe = |number| -> Result<_, Failure> {
        Ok(set.add(endpoints::subscriber::<WORDS>(&node, &topic_name(number)))?)
    };
    let keys = (0..count).map(subscribe).collect::<Result<Vec<_>, _>>()?;
    partner.line()?;
    let mut ready = Ready { set, key: keys[ready_one(count) as usize] };
    let samples = workload.count / WAITING_SAMPLE + 1;
    let warm_up = link::warm_up(samples);
    let mut times = Vec::with_capacity(samples as usize);
    for sample in 0..warm_up + samples {
        partner.go()?;
        partner.line()?;
        let start = ticks();
        let sum = (0..WAITING_SAMPLE).fold(0u64, |sum, _| sum.wrapping_add(ready.receive()));
        let elapsed = ticks() - start;
        assert_eq!(sum, sample_sum(sample, WORDS as u64), "sample {sample} is damaged");
        if sample >= warm_up {
            times.push(elapsed as f64 / WAITING_SAMPLE as f64);
        }
    }
    partner.result()?;
    Ok(Measurement::of_samples(&link::in_order(times.into_iter())))
}

/// The sum of the words of all messages of a sample.
fn sample_sum(sample: u64, words: u64) -> u64 {
    let first = sample * WAITING_SAMPLE;
    (first..first + WAITING_SAMPLE)
        .fold(0, |sum: u64, value| sum.wrapping_add(link::expected_sum(value, words)))
}

/// A wait set, and the subscriber in it that has messages.
struct Ready<const WORDS: usize> {
    set: WaitSet,
    key: Key<Subscriber<[u64; WORDS]>>,
}

impl<const WORDS: usize> Incoming for Ready<WORDS> {
    #[inline]
    fn receive(&mut self) -> u64 {
        let ready = self.set.wait().expect("waiting succeeds");
        assert!(ready == self.key, "only one of them has messages");
        let sample = self.set[self.key].try_recv().expect("receiving succeeds");
        endpoints::sum(&sample.expect("what is ready has a message"))
    }
}

/// The publishers. One of them fills its ring each time that it is asked to.
pub fn child_set<const WORDS: usize>(
    workload: Workload,
    count: u32,
    directory: &Path,
) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-child");
    let publisher = |number| {
        let name = topic_name(number);
        let depth = if number == ready_one(count) { DEPTHS.0 } else { DEPTHS.1 };
        node.topic::<[u64; WORDS]>(&name).depth(depth).publisher(Overflow::Block)
    };
    let mut publishers = (0..count).map(publisher).collect::<Result<Vec<Publisher<[u64; WORDS]>>, _>>()?;
    process::tell("ready");
    publishers.iter_mut().try_for_each(|publisher| publisher.wait_for_subscribers(1, CONNECT))?;
    process::tell("connected");
    let samples = workload.count / WAITING_SAMPLE + 1;
    let busy = &mut publishers[ready_one(count) as usize];
    for sample in 0..link::warm_up(samples) + samples {
        process::await_go()?;
        let first = sample * WAITING_SAMPLE;
        (first..first + WAITING_SAMPLE).for_each(|value| Outgoing::send(busy, value));
        process::tell("there");
    }
    process::await_end()?;
    Ok(json!({}))
}
