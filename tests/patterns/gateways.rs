//! The fear: what one gateway has brought in another carries out, and back; or a gateway meets programs no more, for fear of that.

use std::time::Duration;

use tidepost::{Node, Overflow, SignalError, StateError};

use crate::stage::{Domain, PATIENCE};

/// A time in which whoever meets has met.
const A_WHILE: Duration = Duration::from_millis(500);

/// Two gateways and a program.
struct Scene {
    first: Node,
    second: Node,
    program: Node,
    _domain: Domain,
}

impl Scene {
    fn new() -> Self {
        let domain = Domain::new();
        let [first, second] = ["first", "second"].map(|name| domain.gateway(name));
        Self { first, second, program: domain.node("program"), _domain: domain }
    }

    /// Who meets whom, whoever comes first: `meets` says whether an endpoint at the one and one at the other do.
    fn check(&self, mut meets: impl FnMut(&Node, &Node) -> bool) {
        let Self { first, second, program, .. } = self;
        for (one, other) in [(first, second), (second, first)] {
            assert!(!meets(one, other), "two gateways");
        }
        for (one, other) in [(first, program), (program, second), (program, program)] {
            assert!(meets(one, other), "a gateway and a program");
        }
    }
}

#[test]
fn topics() {
    Scene::new().check(|one, other| {
        let mut publisher = one.topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
        let mut subscriber = other.topic::<u64>("t").subscriber().expect("the types agree");
        let mut late = one.topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
        let meet = publisher.wait_for_subscribers(1, A_WHILE).is_ok();
        let met_late = late.wait_for_subscribers(1, A_WHILE).is_ok();
        assert_eq!(meet, met_late);
        assert!(publisher.refusals().is_empty() && subscriber.refusals().is_empty(), "it is nobody's fault");
        publisher.send(&7).expect("there is room");
        let got = subscriber.recv_timeout(A_WHILE).expect("receiving succeeds").map(|sample| *sample);
        assert_eq!(got, meet.then_some(7));
        meet
    });
}

#[test]
fn services() {
    Scene::new().check(|one, other| {
        let mut server = one.service::<u64, u64>("s").server().expect("it is ours");
        let mut client = other.service::<u64, u64>("s").client().expect("the types agree");
        let late = one.service::<u64, u64>("s").server().expect("it is ours");
        let meet = client.wait_for_servers(2, A_WHILE).is_ok();
        assert!(meet || client.servers() == 0);
        assert!(server.try_recv().expect("nobody has asked").is_none());
        drop(late);
        meet
    });
}

#[test]
fn queues() {
    Scene::new().check(|one, other| {
        let mut producer = one.queue::<u64>("q").producer(Overflow::Block).expect("it is ours");
        let mut consumer = other.queue::<u64>("q").consumer().expect("the types agree");
        producer.push(&7).expect("there is room");
        let item = consumer.recv_timeout(A_WHILE).expect("receiving succeeds");
        let meet = item.as_ref().map(|item| **item) == Some(7);
        item.into_iter().for_each(|item| item.ack().expect("it is ours"));
        meet
    });
}

#[test]
fn states() {
    Scene::new().check(|one, other| {
        let mut writer = one.state::<u64>("v").writer().expect("nobody else writes it");
        // Who writes is known to all, whoever they meet.
        let error = other.state::<u64>("v").writer().map(drop);
        assert!(matches!(error, Err(StateError::Claimed { .. })), "{error:?}");
        writer.set(&7).expect("it is ours");
        let mut reader = other.state::<u64>("v").reader().expect("the types agree");
        let value = reader.wait(A_WHILE).expect("waiting succeeds").map(|value| *value);
        value == Some(7)
    });
}

#[test]
fn signals() {
    Scene::new().check(|one, other| {
        let mut waiter = other.signal("n").waiter().expect("the numbers agree");
        let notifier: Result<_, SignalError> = one.signal("n").notifier();
        let mut notifier = notifier.expect("it is ours");
        let meet = notifier.wait_for_waiters(1, A_WHILE).is_ok();
        notifier.notify(0).expect("it is one");
        let count = waiter.wait_timeout(A_WHILE).expect("waiting succeeds").map(|notices| notices.total());
        assert_eq!(count, meet.then_some(1));
        meet
    });
}

/// Whoever does not wait busily is woken all the same.
#[test]
fn who_sleeps_at_once_misses_nothing() {
    let domain = Domain::new();
    let (first, program) = (domain.gateway("first"), domain.node("program"));
    let mut subscriber = first.topic::<u64>("t").subscriber().expect("the types agree");
    let mut publisher = program.topic::<u64>("t").depth(8).publisher(Overflow::Block).expect("it is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    let sending = std::thread::spawn(move || {
        for number in 0..20_000 {
            publisher.send(&number).expect("a blocking send succeeds");
        }
        publisher
    });
    for number in 0..20_000 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!(*sample, number);
    }
    drop(sending.join().expect("it does not panic"));
}
