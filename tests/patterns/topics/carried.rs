//! The fears: a message is carried twice or not at all, or by the wrong thread; and who need not be woken for what is carried sleeps while
//! somebody waits for it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use tidepost::{
    Carrier, Carrying, EndpointId, Host, Joined, Load, Network, Node, Overflow, Publisher, Subscriber,
    TypeDescriptor,
};

use crate::stage::{Domain, PATIENCE, PAUSE};

/// A network that does nothing but keep its host.
#[derive(Debug, Default)]
struct Joining(Arc<Mutex<Option<Host>>>);

impl Network for Joining {
    fn join(&self, host: &Host) -> Result<Joined, Box<dyn std::error::Error + Send + Sync>> {
        assert_eq!((host.name(), host.directory().is_absolute()), ("host", true));
        assert!(host.directory() != Path::new("/"));
        *self.0.lock().expect("nobody panics") = Some(host.clone());
        Ok(Box::new(()))
    }
}

/// A message that was carried: whose, its number, what it was, and by which thread.
type Carried = (EndpointId, u64, Vec<u8>, ThreadId);

/// Carries what it is told to.
#[derive(Debug)]
struct Ledger {
    carried: Arc<Mutex<Vec<Carried>>>,
    /// What is done with each message.
    says: fn(u64) -> Load,
}

struct Line {
    publisher: EndpointId,
    carried: Arc<Mutex<Vec<Carried>>>,
    says: fn(u64) -> Load,
    loaded: Option<(u64, Vec<u8>)>,
}

impl Carrier for Ledger {
    fn begin(&self, publisher: EndpointId, _: &TypeDescriptor, _: u64) -> Box<dyn Carrying> {
        let (carried, says, loaded) = (Arc::clone(&self.carried), self.says, None);
        Box::new(Line { publisher, carried, says, loaded })
    }
}

impl Carrying for Line {
    fn load(&mut self, number: u64, message: &[u8]) -> Load {
        let load = (self.says)(number);
        self.loaded = (load == Load::Taken).then(|| (number, message.to_vec()));
        load
    }
    fn carry(&mut self) {
        let (number, message) = self.loaded.take().expect("it was loaded");
        let thread = std::thread::current().id();
        self.carried.lock().expect("nobody panics").push((self.publisher, number, message, thread));
    }
}

/// A node that hosts a network, and the gateway's node.
struct Scene {
    host: Node,
    gateway: Node,
    joined: Host,
    carried: Arc<Mutex<Vec<Carried>>>,
    domain: Domain,
}

impl Scene {
    fn new() -> Self {
        let (domain, joining) = (Domain::new(), Joining::default());
        let joined = Arc::clone(&joining.0);
        let host = domain.hosting("host", joining);
        let joined = joined.lock().expect("nobody panics").take().expect("it was joined");
        Self { host, gateway: domain.gateway("gateway"), joined, carried: Arc::default(), domain }
    }

    fn subscriber(&self, says: fn(u64) -> Load) -> Subscriber<[u8]> {
        let carrier = Arc::new(Ledger { carried: Arc::clone(&self.carried), says });
        let topic = self.gateway.topic::<[u8]>("t").carried_by(&self.joined, carrier);
        topic.subscriber().expect("the types agree")
    }

    /// What has been carried since, of each its number and what it was.
    fn take(&self, publisher: &Publisher<[u8]>) -> Vec<(u64, Vec<u8>)> {
        let carried = std::mem::take(&mut *self.carried.lock().expect("nobody panics"));
        let here = std::thread::current().id();
        let of = |(id, number, message, thread): Carried| {
            assert_eq!((id, thread), (publisher.id(), here), "who publishes it carries it");
            (number, message)
        };
        carried.into_iter().map(of).collect()
    }
}

fn next(subscriber: &mut Subscriber<[u8]>) -> (EndpointId, u64, Vec<u8>) {
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    (sample.publisher(), sample.sequence(), sample.to_vec())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn whatever_way_it_is_sent_who_publishes_a_message_carries_it_and_it_is_received_too() {
    let scene = Scene::new();
    let mut subscriber = scene.subscriber(|_| Load::Taken);
    let mut publisher = scene.host.topic::<[u8]>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    let mut first = 0;
    until("it is carried", || {
        publisher.send(b"0").expect("there is room");
        first += 1;
        !scene.take(&publisher).is_empty()
    });
    let long = vec![7; 100_000];
    publisher.send(b"short").expect("there is room");
    publisher.send(&long).expect("there is room");
    publisher.send_timeout(b"in time", PATIENCE).expect("there is room");
    publisher.send_many([&b"one"[..], b"two"]).expect("there is room");
    let mut loan = publisher.loan(6).expect("there is room");
    loan.copy_from_slice(b"lent..");
    loan.send();
    drop(publisher.loan(6).expect("there is room"));
    let due = [&b"short"[..], &long, b"in time", b"one", b"two", b"lent.."];
    let due: Vec<_> = (first..).zip(due.map(<[u8]>::to_vec)).collect();
    assert_eq!(scene.take(&publisher), due);
    for number in 0..first {
        assert_eq!(next(&mut subscriber), (publisher.id(), number, b"0".to_vec()));
    }
    for (number, message) in due {
        assert_eq!(next(&mut subscriber), (publisher.id(), number, message));
    }
}

#[test]
fn only_what_may_wait_and_comes_from_the_host_is_carried() {
    let scene = Scene::new();
    let mut subscriber = scene.subscriber(|_| Load::Taken);
    let other = scene.domain.node("other");
    let topic = || scene.host.topic::<[u8]>("t");
    let publishers = [
        topic().publisher(Overflow::Latest),
        topic().publisher(Overflow::DropOldest),
        topic().publisher(Overflow::Fail),
        topic().history(1).publisher(Overflow::Block),
        topic().timestamps().publisher(Overflow::Block),
        other.topic::<[u8]>("t").publisher(Overflow::Block),
    ];
    for publisher in publishers {
        let mut publisher = publisher.expect("the topic is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
        for number in 0..20 {
            publisher.send(&[number]).expect("there is room");
            assert_eq!(next(&mut subscriber), (publisher.id(), number.into(), vec![number]));
        }
    }
    assert!(scene.carried.lock().expect("nobody panics").is_empty());
}

/// Of three messages one is left to the subscriber, whose publishers wait for it all the same.
#[test]
fn who_sleeps_while_messages_are_carried_is_woken_for_those_that_are_left_and_for_room() {
    let scene = Scene::new();
    let mut subscriber = scene.subscriber(|number| if number % 3 == 0 { Load::Left } else { Load::Taken });
    let topic = scene.host.topic::<[u8]>("t").depth(8);
    let mut publisher = topic.publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    let reading = std::thread::spawn(move || {
        for number in 0..6_000u64 {
            let (_, sequence, message) = next(&mut subscriber);
            assert_eq!((sequence, message.len() as u64), (number, number % 300));
        }
        // It has read the last when it asks for the next.
        assert!(subscriber.recv_timeout(PAUSE).expect("receiving succeeds").is_none());
    });
    for number in 0..6_000usize {
        publisher.send(&vec![1; number % 300]).expect("there is room");
        if number % 500 == 0 {
            std::thread::sleep(PAUSE);
        }
    }
    // The last is carried, and nobody has been woken for it.
    publisher.close(PATIENCE).expect("all is read");
    reading.join().expect("all came");
    let carried = scene.carried.lock().expect("nobody panics");
    assert!(
        carried.iter().all(|(_, number, message, _)| number % 3 != 0 && message.len() as u64 == number % 300)
    );
    assert!(carried.is_sorted_by(|(_, one, ..), (_, other, ..)| one < other) && carried.len() > 3_000);
}

/// The fear: both ends are in one node, whose lock is held while they meet.
#[test]
fn a_subscriber_of_the_host_itself_has_its_messages_carried_too() {
    let scene = Scene::new();
    let says = |_| Load::Taken;
    let carrier = Arc::new(Ledger { carried: Arc::clone(&scene.carried), says });
    let topic = || scene.host.topic::<[u8]>("t");
    let mut publisher = topic().publisher(Overflow::Block).expect("the topic is ours");
    let subscriber = topic().carried_by(&scene.joined, carrier).subscriber();
    let mut subscriber = subscriber.expect("the types agree");
    publisher.send(b"1").expect("there is room");
    assert_eq!(scene.take(&publisher), [(0, b"1".to_vec())]);
    assert_eq!(next(&mut subscriber), (publisher.id(), 0, b"1".to_vec()));
}

#[test]
fn what_is_over_is_not_asked_again() {
    let scene = Scene::new();
    let mut subscriber = scene.subscriber(|number| if number < 50 { Load::Taken } else { Load::Over });
    let mut publisher = scene.host.topic::<[u8]>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    for number in 0..100 {
        publisher.send(&[number]).expect("there is room");
        std::thread::sleep(Duration::from_millis(1));
    }
    let carried = scene.take(&publisher);
    assert!(carried.iter().all(|(number, _)| *number < 50) && !carried.is_empty());
    (0..100).for_each(|number| assert_eq!(next(&mut subscriber).1, number));
    // Another subscriber has what is sent carried again, and goes.
    drop(subscriber);
    let another = scene.subscriber(|_| Load::Taken);
    until("it is carried again", || {
        publisher.send(b"x").expect("there is room");
        !scene.take(&publisher).is_empty()
    });
    drop((another, scene.gateway));
    publisher.send(b"y").expect("nobody is waited for");
}
