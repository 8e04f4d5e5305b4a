//! The fear: who gives and takes under one name on several machines gets back what he gave, or what others gave twice, or for ever.

use std::time::Duration;

use tidepost::{CallError, Node, Overflow};
use tidepost_zenoh::{Gateway, Settings};

use crate::faults::{next, publisher, subscriber};
use crate::stage::{Domain, PATIENCE, Pair, connecting, listening, until};

#[test]
fn all_talk_on_one_topic_and_hear_each_message_once() {
    let domains = ["a", "b", "c"].map(Domain::new);
    let first = domains[0].gateway(&listening());
    let others = [&domains[1], &domains[2]].map(|domain| domain.gateway(&connecting(&first)));
    let nodes = domains.each_ref().map(Domain::node);
    let mut publishers = nodes.each_ref().map(|node| publisher(node, "chat"));
    let mut subscribers = nodes.each_ref().map(|node| subscriber(node, "chat"));
    for publisher in &mut publishers {
        publisher.wait_for_subscribers(2, PATIENCE).expect("the gateway subscribes");
    }
    until("all see all", || others.iter().all(|gateway| gateway.status().machines.len() == 2));
    std::thread::sleep(Duration::from_millis(500));
    for number in 0..10 {
        for (index, publisher) in (0..).zip(&mut publishers) {
            publisher.send(&(100 * index + number)).expect("there is room");
        }
    }
    for subscriber in &mut subscribers {
        let due: Vec<u64> = (0..3).flat_map(|index| 100 * index..100 * index + 10).collect();
        let mut got = Vec::new();
        loop {
            // Once all are there, whatever comes twice comes soon.
            let patience = if got.len() < due.len() { PATIENCE } else { Duration::from_millis(500) };
            match subscriber.recv_timeout(patience).expect("receiving succeeds") {
                Some(sample) => got.push(*sample),
                None => break,
            }
        }
        got.sort_unstable();
        assert_eq!(got, due);
    }
}

#[test]
fn who_notifies_on_both_sides_is_counted_once() {
    let pair = Pair::new();
    let nodes = pair.nodes();
    let mut notifiers = nodes.each_ref().map(|node| node.signal("s").ids(5).notifier().expect("it is ours"));
    let mut waiters = nodes.each_ref().map(|node| node.signal("s").ids(5).waiter().expect("it is ours"));
    std::thread::sleep(Duration::from_secs(1));
    for notifier in &mut notifiers {
        (0..5).for_each(|_| notifier.notify(3).expect("it is one"));
    }
    for waiter in &mut waiters {
        let mut heard = 0;
        while let Some(notices) = waiter.wait_timeout(Duration::from_secs(1)).expect("waiting succeeds") {
            heard += notices.total();
        }
        assert_eq!(heard, 10);
    }
}

fn queue(node: &Node) -> (tidepost::Producer<u64>, tidepost::Consumer<u64>) {
    let producer = node.queue::<u64>("q").producer(Overflow::Block).expect("it is ours");
    (producer, node.queue::<u64>("q").consumer().expect("the types agree"))
}

#[test]
fn an_item_that_came_in_goes_out_no_more() {
    let pair = Pair::new();
    let nodes = pair.nodes();
    let mut ends = nodes.each_ref().map(queue);
    std::thread::sleep(Duration::from_secs(1));
    for number in 0..50 {
        for (index, (producer, _)) in (0..).zip(&mut ends) {
            producer.push(&(100 * index + number)).expect("there is room");
        }
    }
    let mut got = Vec::new();
    until("all are consumed", || {
        for (_, consumer) in &mut ends {
            while let Some(item) =
                consumer.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds")
            {
                got.push(*item);
                item.ack().expect("it is ours");
            }
        }
        got.len() >= 100
    });
    got.sort_unstable();
    assert_eq!(got, (0..50).chain(100..150).collect::<Vec<u64>>());
    let crossed: u64 = pair
        .gateways
        .iter()
        .flat_map(|gateway| gateway.status().crossings)
        .map(|crossing| crossing.counts.crossed)
        .sum();
    // Each crosses once at most, which both ends of it count.
    assert!(crossed <= 200, "{crossed}");
}

/// The fear: a call goes to whoever stands for the server that was, and round and round.
#[test]
fn a_service_that_moves_is_found_where_it_is() {
    let pair = Pair::new();
    let nodes = pair.nodes();
    let mut clients =
        nodes.each_ref().map(|node| node.service::<u64, u64>("s").client().expect("the types agree"));
    for round in 0..4 {
        let mut server = nodes[round % 2].service::<u64, u64>("s").server().expect("it is ours");
        let handle = server.handle();
        let serving = std::thread::spawn(move || server.serve(|asked| Ok::<u64, &str>(asked + 1)));
        for client in &mut clients {
            until("it is answered", || match client.call(&1, PATIENCE) {
                Ok(answer) => *answer == 2,
                Err(
                    CallError::NoServer { .. } | CallError::ServerLost { .. } | CallError::Unreachable { .. },
                ) => false,
                Err(error) => panic!("{error}"),
            });
        }
        for client in &mut clients {
            for asked in 0..10 {
                assert_eq!(*client.call(&asked, PATIENCE).expect("it is there"), asked + 1);
            }
        }
        handle.cancel();
        serving.join().expect("it does not panic").expect("it served");
    }
    let refused: u64 = pair
        .gateways
        .iter()
        .flat_map(|gateway| gateway.status().crossings)
        .map(|crossing| crossing.counts.refused)
        .sum();
    assert_eq!(refused, 0);
}

/// The fear: a domain in two realms is a way from the one to the other.
#[test]
fn two_realms_hear_the_domain_that_is_in_both_and_not_each_other() {
    let domains = ["a", "both", "c"].map(Domain::new);
    let gateway = |domain: &Domain, settings: &Settings, realm: &str| {
        let mut options = domain.options();
        options.realm = realm.to_owned();
        Gateway::start(settings, options).expect("the network is there")
    };
    let [first, second] = ["x", "y"].map(|realm| gateway(&domains[1], &listening(), realm));
    let ends =
        [gateway(&domains[0], &connecting(&first), "x"), gateway(&domains[2], &connecting(&second), "y")];
    let nodes = domains.each_ref().map(Domain::node);
    let [mut a, mut both, mut c] = nodes.each_ref().map(|node| subscriber(node, "t"));
    let mut publishers = nodes.each_ref().map(|node| publisher(node, "t"));
    publishers[0].wait_for_subscribers(2, PATIENCE).expect("the gateway subscribes");
    publishers[1].wait_for_subscribers(3, PATIENCE).expect("both gateways subscribe");
    publishers[0].send(&1).expect("there is room");
    assert_eq!(next(&mut both), (1, 0));
    publishers[1].send(&2).expect("there is room");
    assert_eq!(next(&mut c), (2, 0), "and not what is said in the other realm");
    let mut heard = [next(&mut a), next(&mut a)];
    heard.sort_unstable();
    assert_eq!(heard, [(1, 0), (2, 0)]);
    assert_eq!(next(&mut both), (2, 0));
    drop((ends, first, second));
}
