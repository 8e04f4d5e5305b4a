//! Links that are dead and full, and what comes of others meanwhile.

use std::time::{Duration, Instant};

use tidepost::{Node, Overflow, Publisher, Subscriber};

use crate::program::start;
use crate::shim::Shim;
use crate::stage::{Domain, PATIENCE, until};

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

/// The fear: who relays hands messages on where the engine reads from all links, and waits there for a link that is dead and full, while
/// others, which it does not hear, are parted, and what they say to each other is lost. How long they are held up is printed.
#[test]
fn a_link_that_is_dead_and_full_costs_nobody_else_a_message() {
    let domains = ["hub", "near", "other", "dead"].map(Domain::new);
    let hub = start(&domains[0], &["--machine", "hub", "--listen", "tcp/127.0.0.1:0"]);
    let address = hub.expect("listening on ");
    let shim = Shim::to(&address);
    let connected = [("near", &address[..]), ("other", &address[..]), ("dead", shim.address())];
    let connected: Vec<_> = connected.into_iter().zip(&domains[1..]).collect();
    let gateways = connected
        .iter()
        .map(|((machine, to), domain)| start(domain, &["--machine", machine, "--connect", to]));
    let gateways: Vec<_> = gateways.collect();
    let nodes = domains.each_ref().map(Domain::node);
    let bulk_there = bulk_subscribers(&nodes[3]);
    let mut bulk = [&nodes[0], &nodes[1]].map(bulk_publishers);
    let mut there = nodes[2].topic::<u64>("t").subscriber().expect("the types agree");
    let mut publisher = nodes[1].topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    until("it arrives", || {
        publisher.send(&0).expect("there is room");
        there.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds").is_some()
    });
    shim.cut();
    std::thread::scope(|scope| {
        for bulk in &mut bulk {
            scope.spawn(|| flood(bulk));
        }
        let (start, mut slowest) = (Instant::now(), Duration::ZERO);
        // Until the link has been given up, and longer than anybody has to be silent to be taken for gone.
        while start.elapsed() < Duration::from_secs(4) {
            let sent = Instant::now();
            publisher.send(&0).expect("there is room");
            let sample = there.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
            assert_eq!(sample.lost(), 0, "after {:?}", start.elapsed());
            slowest = slowest.max(sent.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("others were held up for {slowest:?} at most");
    });
    hub.expect("machine `dead` is gone");
    drop((gateways, hub, bulk_there, shim));
}
