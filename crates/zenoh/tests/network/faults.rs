//! The fears: a message that is lost without a word, one that comes twice, one that goes in circles, and a machine that takes others down
//! with it.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tidepost::{CallError, Event, Node, Overflow, Publisher, Subscriber};
use tidepost_zenoh::{BridgeOptions, Gateway, NamePattern, Settings};

use crate::shim::Shim;
use crate::stage::{Domain, PATIENCE, Pair, connecting, listening, until};

pub fn publisher(node: &Node, topic: &str) -> Publisher<u64> {
    node.topic(topic).publisher(Overflow::Block).expect("the topic is ours")
}

pub fn subscriber(node: &Node, topic: &str) -> Subscriber<u64> {
    node.topic(topic).subscriber().expect("the types agree")
}

/// The next message, and how many are missing before it.
pub fn next(subscriber: &mut Subscriber<u64>) -> (u64, u64) {
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    (*sample, sample.lost())
}

fn comes_no_more(subscriber: &mut Subscriber<u64>) {
    let more = subscriber.recv_timeout(Duration::from_millis(300)).expect("receiving succeeds");
    let told = |sample: &tidepost::Sample<'_, u64>| {
        (**sample, sample.sequence(), sample.publisher_node().to_owned())
    };
    assert!(more.is_none(), "{:?} came twice", more.as_ref().map(told));
}

/// Sends until the first arrives at each, and then ten more, each of which arrives once.
pub fn each_arrives_once(publisher: &mut Publisher<u64>, subscribers: &mut [&mut Subscriber<u64>]) {
    // Whoever is reached over several machines is reached when the last of them knows of it.
    let mut number = 0;
    for subscriber in subscribers.iter_mut() {
        until("it is reached", || {
            number += 1;
            publisher.send(&number).expect("there is room");
            subscriber.recv_timeout(Duration::from_millis(100)).expect("receiving succeeds").is_some()
        });
    }
    let last = number;
    for number in last + 1..=last + 10 {
        publisher.send(&number).expect("there is room");
    }
    for subscriber in subscribers {
        let mut due = None;
        loop {
            let (got, lost) = next(subscriber);
            assert!(
                lost == 0 && due.is_none_or(|due| due == got),
                "{got} where {due:?} was due, {lost} lost"
            );
            due = Some(got + 1);
            if got == last + 10 {
                break;
            }
        }
        comes_no_more(subscriber);
    }
}

#[test]
fn only_what_is_allowed_crosses() {
    let domains = [Domain::new("east"), Domain::new("west")];
    let east = domains[0].gateway(&listening());
    let mut options = domains[1].options();
    let pattern = |text: &str| text.parse::<NamePattern>().expect("it is one");
    options.rules.allow_in = vec![pattern("topic/open/**")];
    options.rules.deny_in = vec![pattern("topic/open/secret")];
    let west = tidepost_zenoh::Gateway::start(&connecting(&east), options).expect("the network is there");
    until("both see each other", || west.status().machines.len() == 1);
    let nodes = [domains[0].node(), domains[1].node()];
    let names = ["closed", "open/secret", "open/a"];
    let mut publishers = names.map(|name| publisher(&nodes[0], name));
    let mut subscribers = names.map(|name| subscriber(&nodes[1], name));
    publishers[2].wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    for publisher in &mut publishers {
        publisher.send(&7).expect("there is room");
    }
    assert_eq!(next(&mut subscribers[2]), (7, 0));
    comes_no_more(&mut subscribers[0]);
    comes_no_more(&mut subscribers[1]);
    assert_eq!(publishers.each_ref().map(Publisher::subscribers), [0, 0, 1], "nobody there wants the others");
}

#[test]
fn what_nobody_receives_there_does_not_cross() {
    let pair = Pair::new();
    let nodes = pair.nodes();
    let mut wanted_there = subscriber(&nodes[1], "wanted");
    let [mut wanted, mut unwanted] = ["wanted", "unwanted"].map(|topic| publisher(&nodes[0], topic));
    let crossed = |topic: &str| {
        let crossings = pair.gateways[0].status().crossings;
        crossings
            .iter()
            .filter(|crossing| crossing.name == topic)
            .map(|crossing| crossing.counts.crossed)
            .sum()
    };
    let mut sent = 0;
    until("what is wanted is counted", || {
        each_arrives_once(&mut wanted, &mut [&mut wanted_there]);
        unwanted.send(&sent).expect("nobody is waited for");
        sent += 1;
        crossed("wanted") > 20_u64
    });
    assert_eq!((crossed("unwanted"), unwanted.subscribers()), (0, 0), "of {sent}");
}

#[test]
fn of_two_gateways_of_one_domain_one_stands_by_and_takes_over() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    let second = pair.domains[1].gateway(&connecting(&pair.gateways[0]));
    let mut publisher = publisher(&east, "t");
    let (mut remote, mut local) = (subscriber(&west, "t"), subscriber(&east, "t"));
    each_arrives_once(&mut publisher, &mut [&mut remote, &mut local]);
    assert!(!second.status().is_active && pair.gateways[1].status().is_active);
    let Pair { gateways: [first, active], domains } = pair;
    drop(active);
    until("the second takes over", || second.status().is_active);
    each_arrives_once(&mut publisher, &mut [&mut remote, &mut local]);
    drop((publisher, remote, local, east, west, first, second, domains));
}

#[test]
fn in_a_triangle_nothing_comes_twice() {
    let domains = ["a", "b", "c"].map(Domain::new);
    let first = domains[0].gateway(&listening());
    let both = |to: &[&tidepost_zenoh::Gateway]| Settings {
        connect: to.iter().flat_map(|gateway| gateway.addresses()).collect(),
        ..listening()
    };
    let second = domains[1].gateway(&both(&[&first]));
    let third = domains[2].gateway(&both(&[&first, &second]));
    let gateways = [first, second, third];
    until("all see all", || gateways.iter().all(|gateway| gateway.status().machines.len() == 2));
    let nodes = domains.each_ref().map(Domain::node);
    for from in 0..3 {
        let topic = format!("ring/{from}");
        let mut publisher = publisher(&nodes[from], &topic);
        let [mut a, mut b, mut c] = nodes.each_ref().map(|node| subscriber(node, &topic));
        each_arrives_once(&mut publisher, &mut [&mut a, &mut b, &mut c]);
    }
}

#[test]
fn in_a_chain_the_middle_relays() {
    let domains = ["a", "relay", "b"].map(Domain::new);
    let relay = domains[1].gateway(&listening());
    let ends = [&domains[0], &domains[2]].map(|domain| domain.gateway(&connecting(&relay)));
    until("the ends see all", || ends.iter().all(|gateway| gateway.status().machines.len() == 2));
    let nodes = domains.each_ref().map(Domain::node);
    let mut publisher = publisher(&nodes[0], "t");
    let (mut middle, mut end) = (subscriber(&nodes[1], "t"), subscriber(&nodes[2], "t"));
    each_arrives_once(&mut publisher, &mut [&mut middle, &mut end]);
}

/// Two domains with a wire between them that can be cut.
struct Wired {
    west: Gateway,
    east: Gateway,
    shim: Shim,
    domains: [Domain; 2],
}

/// What is between two domains, and can be cut.
pub trait Wire {
    /// The domain that sends, and the one that receives.
    fn ends(&self) -> [&Domain; 2];
    /// A node in each.
    fn nodes(&self) -> [Node; 2] {
        self.ends().map(Domain::node)
    }
    fn cut(&mut self);
    /// Mends it, and waits until the ends see each other.
    fn heal(&mut self);
}

impl Wire for Wired {
    fn ends(&self) -> [&Domain; 2] {
        self.domains.each_ref()
    }

    fn cut(&mut self) {
        self.shim.cut();
    }

    fn heal(&mut self) {
        self.shim.heal();
        self.sees_each_other(true);
    }
}

impl Wired {
    fn new() -> Self {
        Self::keeping(BridgeOptions::new("").cache)
    }

    /// Where so many messages are kept to be sent again.
    fn keeping(cache: usize) -> Self {
        let domains = [Domain::new("east"), Domain::new("west")];
        let options = BridgeOptions { cache, ..domains[0].options() };
        let east = Gateway::start(&listening(), options).expect("the network is there");
        let shim = Shim::to(&east.addresses()[0]);
        let settings = Settings { connect: vec![shim.address().to_owned()], ..Settings::default() };
        let west = domains[1].gateway(&settings);
        let wired = Self { west, east, shim, domains };
        wired.sees_each_other(true);
        wired
    }

    /// Where little is kept, and little lies in the sockets, and a link may be silent for long: what finds no room is dropped before that.
    fn patient() -> Self {
        let domains = [Domain::new("east"), Domain::new("west")];
        let (options, lease) = (BridgeOptions { cache: 8, ..domains[0].options() }, Duration::from_secs(10));
        let engine = vec![("transport/link/tcp/so_sndbuf".to_owned(), 65_536.into())];
        let east = Settings { engine, lease, ..listening() };
        let east = Gateway::start(&east, options).expect("the network is there");
        let shim = Shim::to(&east.addresses()[0]);
        let connect = vec![shim.address().to_owned()];
        let west = domains[1].gateway(&Settings { connect, lease, ..Settings::default() });
        let wired = Self { west, east, shim, domains };
        wired.sees_each_other(true);
        wired
    }

    /// Cuts the wire, and fills the link until what finds no room is dropped.
    fn cut_and_fill(&self, bulk: &mut Publisher<[u8]>) {
        self.shim.cut();
        for number in 0..100 {
            bulk.send(&[number; 16 << 10]).expect("the network holds nobody up");
        }
        // Longer than room is waited for, and shorter than the lease.
        std::thread::sleep(Duration::from_secs(7));
    }

    /// Mends the wire once the end that receives has given the link up, with what was on its way.
    fn heal_once_parted(&mut self) {
        until("it is cut off", || self.west.status().machines.is_empty());
        self.heal();
    }

    fn sees_each_other(&self, is_so: bool) {
        let sees = |gateway: &Gateway| !gateway.status().machines.is_empty();
        until("both see the same", || sees(&self.east) == is_so && sees(&self.west) == is_so);
    }
}

/// Sends through a cut of this length; every number arrives or is counted as lost.
pub fn every_number_is_accounted_for(wire: &mut impl Wire, cut: Duration) {
    // A topic of its own: of one that was cut before, the last messages may still be on their way.
    static CUTS: AtomicU32 = AtomicU32::new(0);
    let topic = format!("cut{}", CUTS.fetch_add(1, Ordering::Relaxed));
    let nodes = wire.nodes();
    let mut publisher = publisher(&nodes[0], &topic);
    let mut subscriber = subscriber(&nodes[1], &topic);
    each_arrives_once(&mut publisher, &mut [&mut subscriber]);
    let before = subscriber.lost();
    publisher.send(&0).expect("there is room");
    assert_eq!(next(&mut subscriber), (0, 0));
    let (start, mut sent) = (Instant::now(), 0);
    wire.cut();
    let mut is_cut = true;
    while is_cut || start.elapsed() < cut + Duration::from_secs(1) {
        if is_cut && start.elapsed() > cut {
            wire.heal();
            is_cut = false;
        }
        sent += 1;
        publisher.send_timeout(&sent, PATIENCE).expect("a network that is gone holds nobody up");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Those after the cut tell what is missing, if anything is.
    let (mut last, mut lost) = (0, 0);
    until("the last arrives", || {
        sent += 1;
        publisher.send(&sent).expect("there is room");
        while let Some(sample) =
            subscriber.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds")
        {
            assert_eq!(*sample, last + 1 + sample.lost(), "every number arrives or is counted");
            last = *sample;
            lost += sample.lost();
        }
        last + 20 > sent
    });
    assert_eq!(subscriber.lost() - before, lost, "what samples say is what the subscriber says");
    let gaps: u64 = std::iter::from_fn(|| subscriber.try_event())
        .map(|event| if let Event::Gap { lost, .. } = event { lost } else { 0 })
        .sum();
    assert!(lost == 0 || gaps <= lost, "{gaps} of {lost}");
    println!("{sent} sent, {lost} lost, cut for {cut:?}");
}

#[test]
fn nothing_is_lost_silently_in_a_cut_shorter_than_the_lease() {
    every_number_is_accounted_for(&mut Wired::new(), Duration::from_millis(900));
}

#[test]
fn nothing_is_lost_silently_in_a_cut_longer_than_the_lease() {
    every_number_is_accounted_for(&mut Wired::new(), Duration::from_secs(5));
}

/// The fear: numbers tell what is missing between two messages, and what was lost before the first is missed by nobody.
#[test]
fn what_is_lost_before_the_first_that_arrives_is_counted() {
    let mut wired = Wired::new();
    let nodes = wired.ends().map(Domain::node);
    let mut subscriber = subscriber(&nodes[1], "first");
    let mut publisher = publisher(&nodes[0], "first");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    wired.cut();
    for number in 0..20 {
        publisher.send(&number).expect("a network that is gone holds nobody up");
        std::thread::sleep(Duration::from_millis(10));
    }
    wired.sees_each_other(false);
    wired.heal();
    let mut sent = 20;
    let mut first_of = |subscriber: &mut Subscriber<u64>| loop {
        publisher.send(&sent).expect("there is room");
        sent += 1;
        let sample = subscriber.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds");
        if let Some(sample) = sample {
            return (*sample, sample.lost());
        }
    };
    let (first, lost) = first_of(&mut subscriber);
    assert!(first >= 20, "the wire was cut: {first}");
    assert_eq!((lost, subscriber.lost()), (first, first), "what was sent before it is missing");
    let south = Domain::new("south");
    let _gateway = south.gateway(&connecting(&wired.east));
    let mut late = self::subscriber(&south.node(), "first");
    assert_eq!(first_of(&mut late).1, 0, "whoever comes now was not to get those");
    while let Some(sample) = subscriber.try_recv().expect("receiving succeeds") {
        assert_eq!(sample.lost(), 0, "it is counted once");
    }
}

/// The fear: a message is lost on the way to somebody who has never got one of its sender, and as nothing follows it, nobody misses it.
#[test]
fn a_message_that_nothing_follows_comes_again() {
    let mut wired = Wired::new();
    let nodes = wired.ends().map(Domain::node);
    let mut subscriber = subscriber(&nodes[1], "one");
    let mut publishers = [publisher(&nodes[0], "one"), publisher(&nodes[0], "one")];
    for publisher in &mut publishers {
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    }
    wired.cut();
    // What is on its way by now has passed then.
    std::thread::sleep(Duration::from_millis(100));
    publishers[0].send(&7).expect("a network that is gone holds nobody up");
    wired.sees_each_other(false);
    wired.heal();
    let south = Domain::new("south");
    let _gateway = south.gateway(&connecting(&wired.east));
    let (mut late, mut ready) =
        (self::subscriber(&south.node(), "one"), self::subscriber(&south.node(), "r"));
    assert_eq!(next(&mut subscriber), (7, 0));
    each_arrives_once(&mut publisher(&nodes[0], "r"), &mut [&mut ready]);
    // Of this sender nothing has come either, and it goes right after it.
    wired.cut();
    std::thread::sleep(Duration::from_millis(100));
    publishers[1].send(&8).expect("a network that is gone holds nobody up");
    drop(publishers);
    wired.heal_once_parted();
    assert_eq!(next(&mut subscriber), (8, 0));
    until("its sender has gone here, too", || subscriber.publishers() == 0);
    comes_no_more(&mut subscriber);
    std::thread::sleep(Duration::from_secs(4));
    comes_no_more(&mut subscriber);
    assert_eq!(
        wired.west.status().troubles,
        Vec::<String>::new(),
        "its farewell is one also when it is sent again"
    );
    assert_eq!(next(&mut late), (8, 0), "whoever comes now is not to get what was sent before");
    comes_no_more(&mut late);
}

/// The fear: of several that are lost before any has come, those before the last are missed by nobody when their publisher has gone.
#[test]
fn what_is_lost_before_a_publisher_goes_is_counted() {
    let mut wired = Wired::new();
    let nodes = wired.nodes();
    let mut subscriber = subscriber(&nodes[1], "short");
    let mut publisher = publisher(&nodes[0], "short");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    // Who was there when the first was sent is known up to half of the time that a question takes.
    std::thread::sleep(Duration::from_secs(1));
    wired.cut();
    std::thread::sleep(Duration::from_millis(100));
    for number in 0..5 {
        publisher.send(&number).expect("a network that is gone holds nobody up");
    }
    drop(publisher);
    wired.heal_once_parted();
    assert_eq!(next(&mut subscriber), (4, 4));
    until("its publisher has gone here, too", || subscriber.publishers() == 0);
    comes_no_more(&mut subscriber);
}

/// The fear: of somebody who has gone while he could not be reached nothing is remembered, and what has come of him comes once more.
#[test]
fn what_has_come_of_a_publisher_that_went_in_a_cut_comes_no_more() {
    let mut wired = Wired::new();
    let nodes = wired.nodes();
    let mut subscriber = subscriber(&nodes[1], "went");
    let mut publisher = publisher(&nodes[0], "went");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    publisher.send(&7).expect("there is room");
    assert_eq!(next(&mut subscriber), (7, 0));
    let mut publisher = Some(publisher);
    for _ in 0..2 {
        wired.cut();
        publisher.take();
        wired.heal_once_parted();
        // By then it has been asked whether it has come.
        std::thread::sleep(Duration::from_secs(3));
        comes_no_more(&mut subscriber);
        assert_eq!(subscriber.publishers(), 0);
    }
}

/// The fear: the word that a publisher has gone is lost alone, and here it stays for ever.
#[test]
fn a_farewell_that_is_lost_comes_again() {
    let wired = Wired::patient();
    let nodes = wired.nodes();
    let bulk_there = nodes[1].topic::<[u8]>("bulk").subscriber().expect("the types agree");
    let mut bulk = nodes[0].topic::<[u8]>("bulk").publisher(Overflow::Block).expect("it is ours");
    let mut subscriber = subscriber(&nodes[1], "bye");
    let mut publishers = [publisher(&nodes[0], "bye"), publisher(&nodes[0], "bye")];
    for publisher in &mut publishers {
        each_arrives_once(publisher, &mut [&mut subscriber]);
    }
    bulk.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    let [goes, stays] = publishers;
    wired.cut_and_fill(&mut bulk);
    drop(goes);
    // It says so at the look after the next.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(subscriber.publishers(), 2);
    wired.shim.heal();
    until("one is left", || subscriber.publishers() == 1);
    drop(stays);
    until("none is left", || subscriber.publishers() == 0);
    drop(bulk_there);
}

/// The fear: whoever cannot connect tries again at once, for ever, or gives up.
#[test]
fn each_attempt_to_connect_is_later_than_the_one_before() {
    let door = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = format!("tcp/{}", door.local_addr().expect("it is bound"));
    let domains = ["east", "west"].map(Domain::new);
    let settings = Settings { connect: vec![address.clone()], ..Settings::default() };
    let west = domains[1].gateway(&settings);
    let mut attempts = Vec::new();
    for stream in door.incoming().take(6) {
        let stream = stream.expect("somebody connects");
        attempts.push(Instant::now());
        // Who is there does not speak, and hangs up.
        drop(stream);
    }
    drop(door);
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("pauses: {pauses:?}");
    // A pause begins after the attempt was seen: a busy machine makes them longer, and none shorter.
    let due = [100, 200, 400, 800, 1600].map(Duration::from_millis);
    assert!(pauses.iter().zip(due).all(|(pause, due)| *pause >= due), "{pauses:?}");
    let east = domains[0].gateway(&Settings { listen: vec![address], ..Settings::default() });
    until("both see each other", || {
        [&east, &west].iter().all(|gateway| gateway.status().machines.len() == 1)
    });
}

/// The fear: a program that ends waits for a network that is dead. How long it takes is printed. In a process of its own: all links of
/// one share the engine's threads, which one that is full and dead may hold up.
#[test]
fn a_gateway_whose_link_is_dead_closes() {
    let mut command = Command::new(std::env::current_exe().expect("this runs"));
    command.args(["--exact", "faults::two_gateways_close_on_a_dead_link", "--ignored", "--nocapture"]);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter(|line| line.contains("closed within")).for_each(|line| println!("{line}"));
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "it is the program of another test"]
fn two_gateways_close_on_a_dead_link() {
    let mut wired = Wired::new();
    let nodes = wired.domains.each_ref().map(Domain::node);
    // Something of each pattern is on its way, and somebody waits for what is kept.
    let mut publisher = nodes[0].topic("t").history(100).publisher(Overflow::Block).expect("it is ours");
    let mut subscriber = subscriber(&nodes[1], "t");
    each_arrives_once(&mut publisher, &mut [&mut subscriber]);
    let server = nodes[1].service::<u64, u64>("s").server().expect("it is ours");
    let mut client = nodes[0].service::<u64, u64>("s").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    let consumer = nodes[1].queue::<u64>("q").consumer().expect("the types agree");
    let mut producer = nodes[0].queue::<u64>("q").producer(Overflow::Block).expect("it is ours");
    until("it is taken", || {
        producer.push(&1).expect("there is room");
        producer.counts().assigned > 0
    });
    let names = ["bulk/a", "bulk/b", "bulk/c", "bulk/d"];
    let bulk_there = names.map(|name| nodes[1].topic::<[u8]>(name).subscriber().expect("the types agree"));
    let mut bulk = names.map(|name| {
        let publisher = nodes[0].topic::<[u8]>(name).publisher(Overflow::Block);
        let mut publisher = publisher.expect("it is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
        publisher
    });
    wired.cut();
    // More than the sockets and the engine take; and then what has to wait for them.
    for number in 0..400 {
        publisher.send(&number).expect("the network holds nobody up");
        for bulk in &mut bulk {
            bulk.send(&[7; 64 << 10]).expect("the network holds nobody up");
        }
    }
    let call = client.send(&1, PATIENCE).expect("it is asked");
    producer.push(&2).expect("there is room");
    let late = nodes[0].topic::<u64>("late").subscriber().expect("the types agree");
    std::thread::sleep(Duration::from_millis(300));
    let Wired { west, east, shim, domains } = wired;
    for (gateway, node) in [east, west].into_iter().zip(&nodes) {
        let start = Instant::now();
        drop(gateway);
        println!("a gateway closed within {:?}", start.elapsed());
        until("nothing of it is left", || {
            let reports = node.inspect(PATIENCE).expect("looking succeeds");
            reports.iter().all(|report| !report.name.starts_with("network"))
        });
    }
    let error = client.wait(call, PATIENCE).map(|answer| *answer).expect_err("nobody answers");
    assert!(!matches!(error, CallError::Timeout { .. }), "{error}");
    drop((server, consumer, bulk_there, late, shim, nodes, domains));
}

/// The fear: what finds no room on a link that is merely slow is dropped. It is more than the sockets take,
/// and less than may wait; next to nothing is kept to be sent again.
#[test]
fn a_wire_that_carries_little_holds_back_and_loses_nothing() {
    let wired = Wired::keeping(8);
    let nodes = wired.domains.each_ref().map(Domain::node);
    let mut subscriber = nodes[1].topic::<[u8]>("t").subscriber().expect("the types agree");
    let mut publisher = nodes[0].topic::<[u8]>("t").publisher(Overflow::Block).expect("it is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    wired.shim.delay(Duration::from_millis(20));
    for number in 0..240 {
        publisher.send(&[number; 64 << 10]).expect("the network holds nobody up");
    }
    for number in 0..240 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!((sample[0], sample.len(), sample.lost()), (number, 64 << 10, 0));
    }
}

/// The fear: where a question takes longer than it is until the next, whoever asks for what nobody keeps any more waits for answers for ever,
/// and gets nothing meanwhile.
#[test]
fn what_is_lost_where_answers_take_long_is_counted() {
    let wired = Wired::patient();
    let nodes = wired.nodes();
    let mut subscriber = nodes[1].topic::<[u8]>("t").subscriber().expect("the types agree");
    let mut publisher = nodes[0].topic::<[u8]>("t").publisher(Overflow::Block).expect("it is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    wired.cut_and_fill(&mut publisher);
    wired.shim.delay(Duration::from_millis(1500));
    wired.shim.heal();
    let mut due = 0;
    while due < 100 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!(u64::from(sample[0]), due + sample.lost(), "every number arrives or is counted");
        due = u64::from(sample[0]) + 1;
    }
    assert!(subscriber.lost() > 0, "there was more than is kept");
}

#[test]
fn a_slow_wire_delays_and_loses_nothing() {
    let wired = Wired::new();
    wired.shim.delay(Duration::from_millis(20));
    let nodes = wired.domains.each_ref().map(Domain::node);
    let mut publisher = publisher(&nodes[0], "t");
    let mut subscriber = subscriber(&nodes[1], "t");
    each_arrives_once(&mut publisher, &mut [&mut subscriber]);
    for number in 0..2000 {
        publisher.send(&number).expect("there is room");
    }
    for number in 0..2000 {
        assert_eq!(next(&mut subscriber), (number, 0));
    }
}

#[test]
fn a_call_whose_machine_has_gone_is_unreachable() {
    let wired = Wired::new();
    let nodes = wired.domains.each_ref().map(Domain::node);
    let mut server = nodes[0].service::<u64, u64>("slow").server().expect("it is ours");
    let mut client = nodes[1].service::<u64, u64>("slow").client().expect("it is there");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    let call = client.send(&1, PATIENCE).expect("it is asked");
    // It has arrived, and is never answered.
    let request = server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was asked");
    wired.shim.cut();
    let error = client.wait(call, PATIENCE).map(|answer| *answer).expect_err("nobody answers");
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    until("nobody serves any more", || client.servers() == 0);
    let error = client.call(&1, PATIENCE).map(|answer| *answer).expect_err("nobody is there");
    assert!(matches!(error, CallError::NoServer { .. }), "{error}");
    drop(request);
}

#[test]
fn a_call_that_is_given_up_is_cancelled_on_the_other_machine() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    let mut server = east.service::<u64, u64>("slow").server().expect("it is ours");
    let mut client = west.service::<u64, u64>("slow").client().expect("it is there");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    let call = client.send(&1, PATIENCE).expect("it is asked");
    let request = server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was asked");
    assert!(!request.is_cancelled());
    client.cancel(call);
    until("the server sees it", || request.is_cancelled());
    drop(request);
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.serve(|asked| Ok::<u64, &str>(asked + 1)));
    assert_eq!(*client.call(&41, PATIENCE).expect("it answers others"), 42);
    handle.cancel();
    serving.join().expect("it does not panic").expect("it served");
}

/// The fear: the engine asks everybody who answers.
#[test]
fn of_several_machines_one_is_asked_each_in_turn() {
    let domains = ["a", "b", "c"].map(Domain::new);
    let first = domains[0].gateway(&listening());
    let others = [&domains[1], &domains[2]].map(|domain| domain.gateway(&connecting(&first)));
    let [a, b, c] = domains.each_ref().map(Domain::node);
    let serving = [&b, &c].map(|node| {
        let mut server = node.service::<u64, u64>("s").server().expect("it is ours");
        let handle = server.handle();
        let serving = std::thread::spawn(move || {
            let mut asked = 0;
            let served = server.serve(|number| {
                asked += 1;
                Ok::<u64, &str>(*number)
            });
            served.map(|()| asked)
        });
        (handle, serving)
    });
    let mut consumers = [&b, &c].map(|node| node.queue::<u64>("q").consumer().expect("the types agree"));
    let mut client = a.service::<u64, u64>("s").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    until("both are seen", || others.iter().all(|gateway| gateway.status().machines.len() == 2));
    std::thread::sleep(Duration::from_millis(500));
    for number in 0..100 {
        assert_eq!(*client.call(&number, PATIENCE).expect("it answers"), number);
    }
    let asked = serving.map(|(handle, serving)| {
        handle.cancel();
        serving.join().expect("it does not panic").expect("it served")
    });
    assert!(asked.iter().sum::<u32>() == 100 && asked.iter().all(|asked| *asked > 10), "{asked:?}");
    let mut producer = a.queue::<u64>("q").producer(Overflow::Block).expect("it is ours");
    (0..100).for_each(|number| producer.push(&number).expect("there is room"));
    let mut got = [Vec::new(), Vec::new()];
    until("all are acknowledged", || {
        for (consumer, got) in consumers.iter_mut().zip(&mut got) {
            while let Some(item) =
                consumer.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds")
            {
                got.push(*item);
                item.ack().expect("it is ours");
            }
        }
        producer.counts().acknowledged == 100
    });
    assert!(got.iter().all(|got| got.len() > 10), "{got:?}");
    let mut all = got.concat();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>(), "each came once");
}

#[test]
fn another_type_is_refused_and_told() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    let mut publisher = publisher(&east, "t");
    let mut other = west.topic::<[u32]>("t").subscriber().expect("nobody has another type here yet");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    publisher.send(&1).expect("there is room");
    let told = |event: &Event| matches!(event, Event::Refused(refused) if refused.difference.is_some());
    until("it is told", || std::iter::from_fn(|| other.try_event()).any(|event| told(&event)));
    assert!(other.try_recv().expect("receiving succeeds").is_none());
}

#[test]
fn who_does_not_read_there_holds_nobody_up() {
    let pair = Pair::new();
    let [east, west] = pair.nodes();
    let mut busy = east.topic::<[u8]>("busy").publisher(Overflow::Block).expect("the topic is ours");
    let stuck = west.topic::<[u8]>("busy").subscriber().expect("the types agree");
    busy.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    let mut publisher = publisher(&east, "other");
    let mut subscriber = subscriber(&west, "other");
    each_arrives_once(&mut publisher, &mut [&mut subscriber]);
    // More than every buffer on the way takes.
    let message = vec![7; 1 << 20];
    for _ in 0..100 {
        busy.send_timeout(&message, PATIENCE).expect("a slow reader elsewhere holds nobody up here");
    }
    each_arrives_once(&mut publisher, &mut [&mut subscriber]);
    drop(stuck);
}

/// The fear: a topic that may lose messages stays one when somebody comes whose messages must not be lost.
#[test]
fn who_must_lose_nothing_is_carried_so_whoever_was_there_before() {
    let wired = Wired::new();
    let nodes = wired.domains.each_ref().map(Domain::node);
    let mut subscriber = subscriber(&nodes[1], "t");
    let mut lossy = nodes[0].topic::<u64>("t").publisher(Overflow::DropOldest).expect("the topic is ours");
    lossy.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    lossy.send(&1).expect("there is room");
    assert_eq!(next(&mut subscriber), (1, 0));
    let mut publisher = publisher(&nodes[0], "t");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    publisher.send(&2).expect("there is room");
    assert_eq!(next(&mut subscriber), (2, 0));
    wired.shim.cut();
    for number in 3..500 {
        publisher.send(&number).expect("there is room");
    }
    until("the wire is taken for dead", || wired.west.status().machines.is_empty());
    wired.shim.heal();
    wired.sees_each_other(true);
    publisher.send(&500).expect("there is room");
    for number in 3..=500 {
        assert_eq!(next(&mut subscriber), (number, 0), "what was sent meanwhile was kept");
    }
}
