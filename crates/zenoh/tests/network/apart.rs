//! Links that are dead and full, and what comes of others meanwhile.

use std::time::{Duration, Instant};

use tidepost::{Node, Overflow, Publisher, Subscriber};

use crate::program::start;
use crate::shim::Shim;
use crate::stage::{Domain, PATIENCE, Running, until};

const BULK: [&str; 4] = ["bulk/a", "bulk/b", "bulk/c", "bulk/d"];

fn bulk_publishers(node: &Node) -> [Publisher<[u8]>; 4] {
    BULK.map(|name| {
        let publisher = node.topic::<[u8]>(name).publisher(Overflow::Block);
        let mut publisher = publisher.expect("it is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
        publisher
    })
}

fn bulk_subscribers(node: &Node) -> [Subscriber<[u8]>; 4] {
    BULK.map(|name| node.topic::<[u8]>(name).subscriber().expect("the types agree"))
}

/// Sends more than the sockets and the engine take.
fn flood(publishers: &mut [Publisher<[u8]>]) {
    for _ in 0..400 {
        for publisher in &mut *publishers {
            publisher.send(&[7; 64 << 10]).expect("the network holds nobody up");
        }
    }
}

/// A hub, and machines that are connected to it, one of them by a wire that can be cut. Hub and `near` have much to send to that one.
struct Star {
    bulk: [[Publisher<[u8]>; 4]; 2],
    _bulk_there: [Subscriber<[u8]>; 4],
    /// Of hub, near, other and dead.
    nodes: [Node; 4],
    shim: Shim,
    hub: Running,
    _gateways: Vec<Running>,
    address: String,
    // After whoever is in them.
    _domains: [Domain; 4],
}

impl Star {
    fn new() -> Self {
        let domains = ["hub", "near", "other", "dead"].map(Domain::new);
        let hub = start(&domains[0], &["--machine", "hub", "--listen", "tcp/127.0.0.1:0"]);
        let address = hub.expect("listening on ");
        let shim = Shim::to(&address);
        let connected = [("near", &address[..]), ("other", &address[..]), ("dead", shim.address())];
        let connected = connected.into_iter().zip(&domains[1..]);
        let gateways =
            connected.map(|((machine, to), domain)| start(domain, &["--machine", machine, "--connect", to]));
        let gateways = gateways.collect();
        let nodes = domains.each_ref().map(Domain::node);
        let bulk_there = bulk_subscribers(&nodes[3]);
        let bulk = [&nodes[0], &nodes[1]].map(bulk_publishers);
        Self {
            bulk,
            _bulk_there: bulk_there,
            nodes,
            shim,
            hub,
            _gateways: gateways,
            address,
            _domains: domains,
        }
    }

    /// Cuts the wire, fills the link, and does something meanwhile.
    fn when_cut(mut self, mut work: impl FnMut(&[Node; 4], &str)) {
        self.shim.cut();
        std::thread::scope(|scope| {
            for bulk in &mut self.bulk {
                scope.spawn(|| flood(bulk));
            }
            work(&self.nodes, &self.address);
        });
        self.hub.expect("machine `dead` is gone");
    }
}

fn numbers(topic: &str, from: &Node, to: &Node) -> (Publisher<u64>, Subscriber<u64>) {
    let subscriber = to.topic::<u64>(topic).subscriber().expect("the types agree");
    let publisher = from.topic::<u64>(topic).publisher(Overflow::Block).expect("the topic is ours");
    (publisher, subscriber)
}

fn arrives(publisher: &mut Publisher<u64>, subscriber: &mut Subscriber<u64>) {
    until("it arrives", || {
        publisher.send(&0).expect("there is room");
        subscriber.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds").is_some()
    });
}

/// The fear: who relays hands messages on where the engine reads from all links, and waits there for a link that is dead and full, while
/// others, which it does not hear, are parted, and what they say to each other is lost. How long they are held up is printed.
#[test]
fn a_link_that_is_dead_and_full_costs_nobody_else_a_message() {
    let star = Star::new();
    let (mut publisher, mut there) = numbers("t", &star.nodes[1], &star.nodes[2]);
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    arrives(&mut publisher, &mut there);
    while there.recv_timeout(Duration::from_millis(500)).expect("receiving succeeds").is_some() {}
    star.when_cut(|_, _| {
        let (start, mut slowest, mut number) = (Instant::now(), Duration::ZERO, 0);
        // Until the link has been given up, and longer than anybody has to be silent to be taken for gone.
        while start.elapsed() < Duration::from_secs(4) {
            let sent = Instant::now();
            number += 1;
            publisher.send(&number).expect("there is room");
            let sample = there.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
            assert_eq!((*sample, sample.lost()), (number, 0), "after {:?}", start.elapsed());
            slowest = slowest.max(sent.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("others were held up for {slowest:?} at most");
    });
}

/// The fear: what a machine says when it comes up is lost on one that has such a link, and never said again.
#[test]
fn machines_that_come_up_beside_a_link_that_is_dead_and_full_are_reached() {
    Star::new().when_cut(|nodes, hub| {
        let domains = ["late", "later"].map(Domain::new);
        std::thread::sleep(Duration::from_millis(500));
        let arguments = ["--machine", "late", "--listen", "tcp/127.0.0.1:0", "--connect", hub];
        let late = start(&domains[0], &arguments);
        let address = late.expect("listening on ");
        let later = start(&domains[1], &["--machine", "later", "--connect", hub, "--connect", &address]);
        let started = Instant::now();
        for (topic, from, to) in [("late", &nodes[0], &domains[0]), ("later", &nodes[1], &domains[1])] {
            let (mut publisher, mut there) = numbers(topic, from, &to.node());
            arrives(&mut publisher, &mut there);
        }
        println!("reached after {:?}", started.elapsed());
        drop((late, later));
    });
}
