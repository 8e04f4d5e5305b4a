//! The fear: with many at one topic, somebody's messages come out of order, twice or not at all, somebody is never heard,
//! or who comes and goes disturbs the others.

use std::collections::HashMap;

use tidepost::{EndpointId, Node, Overflow, Publisher, Subscriber};

use crate::topics::stage::{Domain, Kind, PATIENCE, Words, Work, inline, start, until, words};

/// Messages that a publisher sends in these tests.
const MESSAGES: u64 = 2000;
/// The most messages of one publisher in a row while others have some.
const TURN: usize = 64;

/// Sends all its messages once so many subscribers are there.
fn send_all(mut publisher: Publisher<Words>, subscribers: usize) -> Work<Publisher<Words>> {
    start(move || {
        publisher.wait_for_subscribers(subscribers, PATIENCE).expect("they come");
        inline().send(&mut publisher, 0..MESSAGES);
        publisher
    })
}

/// Receives all messages of so many publishers, each in order; whose they are.
fn receive_all(mut subscriber: Subscriber<Words>, publishers: usize) -> Work<Vec<EndpointId>> {
    start(move || {
        let mut next: HashMap<EndpointId, u64> = HashMap::new();
        for _ in 0..publishers as u64 * MESSAGES {
            let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("more come");
            let next = next.entry(sample.publisher()).or_default();
            assert_eq!((sample.sequence(), *sample), (*next, words(*next)));
            *next += 1;
        }
        assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
        next.into_keys().collect()
    })
}

/// Three publishers and four subscribers on these nodes.
fn crowd(nodes: [&Node; 3]) {
    let [first, second, third] = nodes;
    let kind = inline();
    let publishers = [first, first, second].map(|node| kind.publisher(node, Overflow::Block));
    let mut ids: Vec<EndpointId> = publishers.iter().map(Publisher::id).collect();
    let receiving = [first, second, second, third].map(|node| receive_all(kind.subscriber(node), 3));
    let sending = publishers.map(|publisher| send_all(publisher, 4));
    ids.sort();
    for work in receiving {
        let mut heard = work.finish();
        heard.sort();
        assert_eq!(heard, ids);
    }
    sending.into_iter().for_each(|work| drop(work.finish()));
}

#[test]
fn everybody_hears_everybody_within_a_node() {
    let domain = Domain::new();
    let node = domain.node("all");
    crowd([&node, &node, &node]);
}

#[test]
fn everybody_hears_everybody_across_nodes() {
    let domain = Domain::new();
    let nodes = ["first", "second", "third"].map(|name| domain.node(name));
    crowd([&nodes[0], &nodes[1], &nodes[2]]);
}

/// The first number that each of two publishers sends.
const FIRST: [u64; 2] = [0, 1 << 20];

/// A subscriber of two publishers that both have this many messages for it.
fn two_with_plenty(messages: u64) -> (Domain, [Publisher<Words>; 2], Subscriber<Words>) {
    let domain = Domain::new();
    let node = domain.node("all");
    let topic = || node.topic::<Words>("topic").depth(messages as usize);
    let mut publishers = [(); 2].map(|()| topic().publisher(Overflow::Block).expect("the topic is ours"));
    let subscriber = topic().subscriber().expect("the types agree");
    for (publisher, first) in publishers.iter_mut().zip(FIRST) {
        inline().send(publisher, first..first + messages);
    }
    (domain, publishers, subscriber)
}

/// The lengths of the runs of one publisher, while the other had some too.
fn runs(heard: &[EndpointId], messages: u64) -> Vec<usize> {
    let left_alone = |id: &EndpointId| heard.iter().rposition(|heard| heard == id).expect("both were heard");
    let contested = heard.iter().map(left_alone).min().expect("somebody was heard");
    assert_eq!(heard.len() as u64, 2 * messages);
    heard[..=contested].chunk_by(|left, right| left == right).map(<[_]>::len).collect()
}

#[test]
fn two_that_have_plenty_take_turns() {
    let (_domain, _publishers, mut subscriber) = two_with_plenty(1024);
    let mut heard = Vec::new();
    for number in 0..2048 {
        let sample = match number % 2 {
            0 => subscriber.try_recv().expect("receiving succeeds"),
            _ => subscriber.recv_timeout(PATIENCE).expect("receiving succeeds"),
        };
        heard.push(sample.expect("there are more").publisher());
    }
    let runs = runs(&heard, 1024);
    assert!(runs.len() >= 1024 / TURN && runs.iter().all(|run| *run <= TURN), "{runs:?}");
}

#[test]
fn two_that_have_plenty_take_turns_in_batches() {
    let (_domain, publishers, mut subscriber) = two_with_plenty(1024);
    let mut next = FIRST;
    let mut heard = Vec::new();
    while heard.len() < 2048 {
        let batch: Vec<Words> = subscriber.try_recv_many(16).expect("receiving succeeds").copied().collect();
        assert_eq!(batch.len(), 16);
        let whose = (0..2).find(|whose| batch[0] == words(next[*whose])).expect("one of them is due");
        (next[whose]..).zip(&batch).for_each(|(number, message)| assert_eq!(*message, words(number)));
        next[whose] += 16;
        heard.extend([publishers[whose].id(); 16]);
    }
    let runs = runs(&heard, 1024);
    assert!(runs.len() >= 1024 / TURN && runs.iter().all(|run| *run <= TURN), "{runs:?}");
}

#[test]
fn who_comes_and_goes_disturbs_nobody() {
    let domain = Domain::new();
    let nodes = ["steady", "restless"].map(|name| domain.node(name));
    let kind = inline();
    let publisher = kind.publisher(&nodes[0], Overflow::Block);
    let subscriber = kind.subscriber(&nodes[0]);
    let steady = publisher.id();
    let sending = send_for_long(publisher);
    let receiving = receive_steadily(subscriber, steady);
    for _ in 0..30 {
        come_and_go(&kind, &nodes[1], steady);
    }
    sending.0.send(()).expect("it still sends");
    let sent = sending.1.finish();
    assert_eq!(receiving.finish(), sent);
}

/// Sends until it is told to stop, then a last message, of zeros; how many it sent before.
fn send_for_long(mut publisher: Publisher<Words>) -> (std::sync::mpsc::Sender<()>, Work<u64>) {
    let (stop, stopped) = std::sync::mpsc::channel();
    let work = start(move || {
        let mut sent = 1;
        publisher.send(&words(0)).expect("a blocking send succeeds");
        while stopped.try_recv().is_err() {
            publisher.send(&words(sent)).expect("a blocking send succeeds");
            sent += 1;
        }
        publisher.send(&[u64::MAX; 7]).expect("a blocking send succeeds");
        publisher.close(PATIENCE).expect("everything is read");
        sent
    });
    (stop, work)
}

/// Receives what it sends, and what the others send; how many of its own.
fn receive_steadily(mut subscriber: Subscriber<Words>, steady: EndpointId) -> Work<u64> {
    start(move || {
        let mut next: HashMap<EndpointId, u64> = HashMap::new();
        loop {
            let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("more come");
            let (publisher, next) = (sample.publisher(), next.entry(sample.publisher()).or_default());
            if publisher == steady && *sample == [u64::MAX; 7] {
                let sent = *next;
                // Its publisher waits for what has been read to be given back.
                while subscriber.publishers() > 0 {
                    subscriber.try_recv().expect("receiving succeeds");
                }
                return sent;
            }
            assert_eq!((sample.sequence(), *sample), (*next, words(*next)));
            *next += 1;
        }
    })
}

/// A publisher and a subscriber join, take part for a while, and leave.
fn come_and_go(kind: &Kind<Words>, node: &Node, steady: EndpointId) {
    let mut publisher = kind.publisher(node, Overflow::Block);
    publisher.wait_for_subscribers(1, PATIENCE).expect("the steady one is there");
    kind.send(&mut publisher, 0..50);
    let mut subscriber = kind.subscriber(node);
    until("the steady publisher is found", || subscriber.publishers() == 2);
    let mut next = None;
    for _ in 0..20 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("more come");
        assert_eq!(sample.publisher(), steady);
        let number = sample.sequence();
        assert!(next.is_none_or(|next| next == number), "message {number} after {next:?}");
        assert_eq!(*sample, words(number));
        next = Some(number + 1);
    }
}

#[test]
fn clones_send_in_their_own_threads() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let receiving = receive_all(inline().subscriber(&nodes[1]), 4);
    let first = inline().publisher(&nodes[0], Overflow::Block);
    let mut publishers = vec![first];
    publishers.extend((0..3).map(|_| publishers[0].try_clone().expect("there is room")).collect::<Vec<_>>());
    let mut ids: Vec<EndpointId> = publishers.iter().map(Publisher::id).collect();
    let sending: Vec<_> = publishers.into_iter().map(|publisher| send_all(publisher, 1)).collect();
    let mut heard = receiving.finish();
    heard.sort();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), &heard), (4, &ids));
    sending.into_iter().for_each(|work| drop(work.finish()));
}

#[test]
fn a_clone_has_the_options_of_the_first() {
    let domain = Domain::new();
    let node = domain.node("both");
    let topic = node.topic::<Words>("topic").depth(8).timestamps().header::<u64>().history(2);
    let first = topic.publisher(Overflow::Fail).expect("the topic is ours");
    let mut clone = first.try_clone().expect("there is room");
    drop(first);
    (0..5).for_each(|number| clone.send_with(&(number + 40), &words(number)).expect("nobody is waited for"));
    let topic = node.topic::<Words>("topic").header::<u64>();
    let mut subscriber = topic.subscriber().expect("the types agree");
    for number in 3..5 {
        let sample = subscriber.try_recv().expect("receiving succeeds").expect("two were kept");
        assert_eq!(
            (sample.sequence(), *sample, sample.header()),
            (number, words(number), Some(&(number + 40)))
        );
        assert!(sample.timestamp().is_some());
    }
    // The policy and the depth: two of eight slots keep what came before.
    let sent = (0..100).take_while(|number| clone.send(&words(*number)).is_ok()).count();
    assert!((4..=8).contains(&sent), "{sent} messages found room");
}
