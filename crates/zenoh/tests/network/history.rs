//! The fear: what publishers keep for those who join later is not there for those who do so on another machine, or comes to others again; or
//! somebody's first messages cross as if he sent in another way.

use std::time::Duration;

use tidepost::{Node, Overflow, Publisher, Subscriber};
use tidepost_zenoh::{Link, Quality, Settings, Whom, Zenoh, ask};

use crate::faults::subscriber;
use crate::stage::{Domain, PATIENCE, connecting, listening, until};

fn keeping(node: &Node, messages: usize) -> Publisher<u64> {
    node.topic("t").history(messages).publisher(Overflow::Block).expect("the topic is ours")
}

fn send(publisher: &mut Publisher<u64>, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| publisher.send(&number).expect("there is room"));
}

fn receives(subscriber: &mut Subscriber<u64>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it is kept");
        assert_eq!((*sample, sample.lost()), (number, 0));
    }
    let more = subscriber.recv_timeout(Duration::from_millis(200)).expect("receiving succeeds");
    assert_eq!(more.map(|sample| *sample), None, "nothing comes twice");
}

#[test]
fn whoever_joins_later_has_it_on_whatever_machine() {
    let domains = ["a", "b", "c"].map(Domain::new);
    let first = domains[0].gateway(&listening());
    let second = domains[1].gateway(&connecting(&first));
    let nodes = domains.each_ref().map(Domain::node);
    let mut publisher = keeping(&nodes[0], 3);
    send(&mut publisher, 0..10);
    let mut before = subscriber(&nodes[1], "t");
    receives(&mut before, 7..10);
    send(&mut publisher, 10..12);
    receives(&mut before, 10..12);
    // On the same machine, on one that comes later, and where there was one before.
    receives(&mut subscriber(&nodes[1], "t"), 9..12);
    let mut early = subscriber(&nodes[2], "t");
    let third = domains[2].gateway(&connecting(&first));
    receives(&mut early, 9..12);
    drop((before, early));
    std::thread::sleep(Duration::from_secs(3));
    let mut after = subscriber(&nodes[1], "t");
    receives(&mut after, 9..12);
    send(&mut publisher, 12..13);
    receives(&mut after, 12..13);
    // It goes with its publisher, there as here.
    drop(publisher);
    let has_left = |event| matches!(event, tidepost::Event::Left(_));
    until("it is told", || std::iter::from_fn(|| after.try_event()).any(has_left));
    receives(&mut subscriber(&nodes[2], "t"), 0..0);
    drop((second, third));
}

#[test]
fn a_client_of_the_engine_asks_for_it() {
    let domain = Domain::new("east");
    let gateway = domain.gateway(&listening());
    let node = domain.node();
    let mut publisher = node.topic::<[u8]>("t").history(2).publisher(Overflow::Block).expect("it is ours");
    for message in ["a", "b", "c"] {
        publisher.send(message.as_bytes()).expect("there is room");
    }
    let client = Zenoh::open(&Settings { connect: gateway.addresses(), ..Settings::default() });
    let client = client.expect("it is an address");
    let _source = client.source("tidepost/t/t", Quality::Lossy, 1000, Box::new(|_| true)).expect("it may");
    until("it is told", || {
        let answers = ask(&client, Whom::All, "tidepost/t/t", Default::default(), PATIENCE).expect("it may");
        let payload = |answer| match answer {
            tidepost_zenoh::Answer::Frame(frame) => Some(frame.payload),
            _ => None,
        };
        answers.iter().filter_map(payload).collect::<Vec<_>>() == [b"b", b"c"]
    });
}

#[test]
fn the_first_message_crosses_as_its_publisher_sends() {
    let domains = ["a", "b"].map(Domain::new);
    let first = domains[0].gateway(&listening());
    let second = domains[1].gateway(&connecting(&first));
    let nodes = domains.each_ref().map(Domain::node);
    let mut subscriber = subscriber(&nodes[1], "t");
    let mut early = keeping(&nodes[0], 1);
    early.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    // What comes to be while the topic is read already.
    let late = nodes[0].topic::<u64>("t").history(5).publisher(Overflow::Fail);
    let mut late = late.expect("the topic is ours");
    late.send(&7).expect("there is room");
    receives(&mut subscriber, 7..8);
    let reports = nodes[1].inspect(PATIENCE).expect("looking succeeds");
    let standins =
        reports.iter().filter(|report| &*report.name == "network/a").flat_map(|report| &report.publishers);
    let manners: Vec<_> = standins.map(|standin| (standin.policy, standin.history)).collect();
    assert_eq!(manners, [("fail", 5)]);
    drop((early, second));
}

/// The fear: what is kept is asked for again when a machine comes, and is taken for what comes after messages that are on their way.
#[test]
fn a_machine_that_comes_costs_others_nothing() {
    let domains = ["a", "b", "c", "d"].map(Domain::new);
    let first = domains[0].gateway(&listening());
    let second = domains[1].gateway(&connecting(&first));
    let nodes = domains.each_ref().map(Domain::node);
    let mut subscriber = subscriber(&nodes[1], "t");
    let mut publisher = keeping(&nodes[0], 1);
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    let (mut sent, mut due) = (0, 0);
    let mut pass = |milliseconds: u64| {
        for _ in 0..milliseconds {
            for _ in 0..3 {
                publisher.send(&sent).expect("there is room");
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
            while let Some(sample) = subscriber.try_recv().expect("receiving succeeds") {
                assert_eq!((*sample, sample.lost()), (due, 0));
                due += 1;
            }
        }
        sent - due
    };
    pass(300);
    let third = domains[2].gateway(&connecting(&first));
    pass(700);
    let fourth = domains[3].gateway(&connecting(&second));
    pass(700);
    until("all has come", || pass(1) < 10);
    drop((third, fourth));
}
