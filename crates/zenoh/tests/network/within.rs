//! The network in a program, without a gateway beside it.

use tidepost::{Node, Overflow};
use tidepost_zenoh::{Network, Settings};

use crate::stage::{Domain, PATIENCE, listening, until};

/// What the network of a domain says of itself.
pub fn status(domain: &Domain) -> serde_json::Value {
    let mut reader = domain.node().state::<[u8]>("network/tidepost").reader().expect("it is bytes");
    let value = reader.wait(PATIENCE).expect("waiting succeeds").expect("it is told");
    serde_json::from_slice(&value).expect("it is JSON")
}

#[test]
fn a_node_carries_the_network_itself() {
    let domains = ["east", "west"].map(Domain::new);
    let open = |domain: &Domain, settings: Settings| {
        let builder = Node::builder().name("program").directory(domain.path());
        builder.network(Network::new(settings).machine("machine")).open().expect("the network is there")
    };
    let east = open(&domains[0], listening());
    let address = status(&domains[0])["addresses"][0].as_str().expect("it listens").to_owned();
    let west = open(&domains[1], Settings { connect: vec![address], ..Settings::default() });
    // It carries what other programs of its domain have, too.
    let neighbour = domains[1].node();
    let mut subscribers =
        [&west, &neighbour].map(|node| node.topic::<u64>("t").subscriber().expect("the types agree"));
    let mut publisher = east.topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the network subscribes");
    (0..100).for_each(|number| publisher.send(&number).expect("there is room"));
    for subscriber in &mut subscribers {
        for number in 0..100 {
            let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
            assert_eq!((*sample, sample.lost()), (number, 0));
        }
    }
    // It goes with its node, and the next that has one takes over.
    let next =
        open(&domains[1], Settings { connect: vec!["tcp/127.0.0.1:9".to_owned()], ..Settings::default() });
    drop((subscribers, west));
    until("the next is there", || status(&domains[1])["connections"] == 0);
    drop((next, publisher, east));
    until("nothing of them is left", || {
        let reports = neighbour.inspect(PATIENCE).expect("looking succeeds");
        reports.iter().all(|report| !report.name.starts_with("network"))
    });
}

#[test]
fn a_network_that_cannot_be_joined_is_an_error_of_the_node() {
    let domain = Domain::new("east");
    let settings = Settings { listen: vec!["nonsense".to_owned()], ..Settings::default() };
    let builder = Node::builder().directory(domain.path()).network(Network::new(settings));
    let error = builder.open().expect_err("that is no address").to_string();
    assert!(error.contains("the network cannot be joined") && error.contains("nonsense"), "{error}");
}
