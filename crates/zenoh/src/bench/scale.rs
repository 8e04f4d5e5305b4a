//! Many machines at one router, or at several in line: how long they take to see each other, what each costs, and how a message reaches all of them.

use std::time::{Duration, Instant};

use tidepost::{Node, Overflow, StateReader, Subscriber};

use super::median;
use super::ways::{Gateway, PATIENCE, Place, drain, hear};
use crate::Failure;

const TOPIC: &str = "bench/all";
/// Messages that each go to all machines.
const MESSAGES: u64 = 50;
/// How long is listened to what gateways say when nobody does anything.
const IDLE: Duration = Duration::from_secs(5);

/// One machine: its gateway, and a program.
struct Machine {
    node: Node,
    status: StateReader<[u8]>,
    gateway: Gateway,
    _place: Place,
}

impl Machine {
    fn start(number: usize, router: &str) -> Result<Self, Failure> {
        let place = Place::new(&format!("machine-{number}"))?;
        let name = format!("m{number}");
        let (gateway, said) = Gateway::start_on(None, place.path(), &name, &["--connect", router])?;
        drain(said);
        let node = Node::builder().name("program").directory(place.path()).busy_wait(false).open()?;
        let status = node.state::<[u8]>("network/tidepost").reader()?;
        Ok(Self { node, status, gateway, _place: place })
    }

    /// How many others its gateway sees.
    fn sees(&mut self) -> Result<usize, Failure> {
        let Some(value) = self.status.wait(PATIENCE)? else { return Ok(0) };
        let status: serde_json::Value = serde_json::from_slice(&value)?;
        Ok(status["machines"].as_array().map_or(0, Vec::len))
    }
}

/// Routers in line, each of which is connected to the one before it.
struct Line {
    routers: Vec<Gateway>,
    addresses: Vec<String>,
    _places: Vec<Place>,
}

impl Line {
    fn start(length: usize) -> Result<Self, Failure> {
        let (mut routers, mut addresses, mut places) = (Vec::new(), Vec::<String>::new(), Vec::new());
        for index in 0..length {
            let place = Place::new(&format!("router-{index}"))?;
            let mut arguments = vec!["--listen", "tcp/127.0.0.1:0"];
            arguments.extend(addresses.last().into_iter().flat_map(|before| ["--connect", before.as_str()]));
            let (router, mut said) =
                Gateway::start_on(None, place.path(), &format!("router{index}"), &arguments)?;
            let address = hear(&mut said, "listening on ")?;
            drain(said);
            addresses.push(address);
            routers.push(router);
            places.push(place);
        }
        Ok(Self { routers, addresses, _places: places })
    }
}

/// Measures, for each number of machines, at so many routers in line.
pub fn run(numbers: &[usize], routers: usize) -> Result<(), Failure> {
    println!(
        "machines   all see all   one to all   idle, each      gateway            router\n\
         {:<10} {:>11}   {:>10}   {:>10}      {:<16}   {:<16}",
        "", "s", "ms", "B/s", "MiB, threads", "MiB, threads"
    );
    numbers.iter().try_for_each(|number| measure((*number).max(2), routers.max(1)))
}

fn measure(number: usize, routers: usize) -> Result<(), Failure> {
    let line = Line::start(routers)?;
    let start = Instant::now();
    let at = |index: usize| Machine::start(index, &line.addresses[index % routers]);
    let mut machines: Vec<Machine> = (0..number).map(at).collect::<Result<_, _>>()?;
    for machine in &mut machines {
        // The others and the routers.
        while machine.sees()? < number - 1 + routers {
            if start.elapsed() > PATIENCE {
                return Err("they do not see each other".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let seen_s = start.elapsed().as_secs_f64();
    let to_all_ms = to_all(&mut machines)?;
    let before = loopback_bytes()?;
    std::thread::sleep(IDLE);
    let idle = (loopback_bytes()? - before) as f64 / IDLE.as_secs_f64() / number as f64;
    let (size, threads) = weight(&machines[number / 2].gateway)?;
    let (router_size, router_threads) = weight(&line.routers[0])?;
    println!(
        "{number:<10} {seen_s:>11.1}   {to_all_ms:>10.2}   {idle:>10.0}      {size:>5.1}, {threads:<9}   {router_size:>5.1}, {router_threads}"
    );
    Ok(())
}

/// How long a message takes until the last machine has it, the median.
fn to_all(machines: &mut [Machine]) -> Result<f64, Failure> {
    let (sending, receiving) = machines.split_first_mut().ok_or("there are two at least")?;
    let mut publisher = sending.node.topic::<u64>(TOPIC).publisher(Overflow::Block)?;
    let subscribe = |machine: &mut Machine| machine.node.topic::<u64>(TOPIC).subscriber();
    let mut subscribers: Vec<Subscriber<u64>> =
        receiving.iter_mut().map(subscribe).collect::<Result<_, _>>()?;
    publisher.wait_for_subscribers(1, PATIENCE)?;
    // Until all are reached.
    let start = Instant::now();
    for subscriber in &mut subscribers {
        while subscriber.recv_timeout(Duration::from_millis(50))?.is_none() {
            if start.elapsed() > PATIENCE {
                return Err("a machine is not reached".into());
            }
            publisher.send(&0)?;
        }
    }
    let mut times = Vec::new();
    for number in 1..=MESSAGES {
        std::thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        publisher.send(&number)?;
        for subscriber in &mut subscribers {
            while *subscriber.recv_timeout(PATIENCE)?.ok_or("a message did not come")? != number {}
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&times))
}

/// Bytes that have gone over loopback.
fn loopback_bytes() -> Result<u64, Failure> {
    let devices = std::fs::read_to_string("/proc/net/dev")?;
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let received = line.and_then(|line| line.split_whitespace().next()).ok_or("there is no loopback")?;
    Ok(received.parse()?)
}

/// Mebibytes in memory, and threads.
fn weight(gateway: &Gateway) -> Result<(f64, String), Failure> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid()))?;
    let of = |what: &str| status.lines().find_map(|line| line.strip_prefix(what)).map(str::trim);
    let kib: f64 = of("VmRSS:").and_then(|size| size.split(' ').next()).ok_or("it has no size")?.parse()?;
    Ok((kib / 1024.0, of("Threads:").unwrap_or_default().to_owned()))
}
