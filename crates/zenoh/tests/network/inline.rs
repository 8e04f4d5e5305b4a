//! The fears: of a message that its publisher hands to the network, and that whoever reads the topic for that reads too, two come across, or
//! none; or one overtakes the one before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidepost::{EndpointId, Node, Overflow, Publisher};
use tidepost_zenoh::{Network, Settings};

use crate::faults::{Wire, every_number_is_accounted_for};
use crate::shim::Shim;
use crate::stage::{Domain, PATIENCE, listening, until};
use crate::within::status;

/// Messages that may be on their way of one publisher.
const AHEAD: u64 = 100;

/// Two programs that carry the network themselves, and a wire between them.
struct Programs {
    nodes: [Node; 2],
    shim: Shim,
    domains: [Domain; 2],
}

impl Programs {
    /// Whose links may be silent for so long.
    fn new(lease: Duration) -> Self {
        let domains = ["east", "west"].map(Domain::new);
        let open = |domain: &Domain, settings: Settings| {
            let builder = Node::builder().name("program").directory(domain.path());
            builder.network(Network::new(settings).inline(true)).open().expect("the network is there")
        };
        let east = open(&domains[0], Settings { lease, ..listening() });
        let address = status(&domains[0])["addresses"][0].as_str().expect("it listens").to_owned();
        let shim = Shim::to(&address);
        let connect = vec![shim.address().to_owned()];
        let west = open(&domains[1], Settings { connect, lease, ..Settings::default() });
        let programs = Self { nodes: [east, west], shim, domains };
        programs.see_each_other();
        programs
    }

    fn see_each_other(&self) {
        let sees = |domain| status(domain)["machines"].as_array().is_some_and(|all| !all.is_empty());
        until("both see the other", || self.domains.iter().all(sees));
    }

    /// How many messages of a topic the publishers of the first have handed over, and how many have gone out in all.
    fn handed_over(&self, topic: &str) -> (u64, u64) {
        let status = status(&self.domains[0]);
        let crossings = status["crossings"].as_array().expect("it is a list");
        let ours =
            crossings.iter().find(|crossing| crossing["name"] == topic && crossing["direction"] == "out");
        let count = |what: &str| ours.and_then(|crossing| crossing[what].as_u64()).unwrap_or_default();
        (count("inline"), count("crossed"))
    }
}

impl Wire for Programs {
    fn ends(&self) -> [&Domain; 2] {
        self.domains.each_ref()
    }
    fn nodes(&self) -> [Node; 2] {
        self.nodes.clone()
    }
    fn cut(&mut self) {
        self.shim.cut();
    }
    fn heal(&mut self) {
        self.shim.heal();
        self.see_each_other();
    }
}

#[test]
fn nothing_is_lost_silently_that_a_publisher_hands_over_itself() {
    let mut programs = Programs::new(Settings::default().lease);
    every_number_is_accounted_for(&mut programs, Duration::from_millis(900));
    every_number_is_accounted_for(&mut programs, Duration::from_secs(5));
}

/// The fear: whoever hands messages over itself is stuck with a link that is dead and full, or loses some without a word. How long one send
/// takes at most is printed.
#[test]
fn a_link_that_is_dead_and_full_lets_whoever_hands_over_go_on() {
    let mut programs = Programs::new(Settings::default().lease);
    let [east, west] = programs.nodes();
    let mut subscriber = west.topic::<[u8]>("t").subscriber().expect("the types agree");
    let mut publisher = east.topic::<[u8]>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the network subscribes");
    let mut sent = 0_u64;
    let mut send = |length: usize| {
        let (start, mut message) = (Instant::now(), vec![0; length]);
        message[..8].copy_from_slice(&sent.to_le_bytes());
        publisher.send_timeout(&message, PATIENCE).expect("a network that is gone holds nobody up for long");
        sent += 1;
        (start.elapsed(), sent)
    };
    let number_of = |message: &[u8]| u64::from_le_bytes(*message.first_chunk().expect("it has eight bytes"));
    send(8);
    assert_eq!(subscriber.recv().map(|sample| number_of(&sample)).expect("receiving succeeds"), 0);
    programs.cut();
    // More than sockets take.
    let mut took: Vec<Duration> = (0..400).map(|_| send(64 << 10).0).collect();
    took.sort();
    println!("the longest of 400 sends took {:?}", &took[395..]);
    programs.heal();
    let mut due = 1;
    until("the last arrives", || {
        let (_, sent) = send(8);
        while let Some(sample) =
            subscriber.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds")
        {
            assert_eq!(number_of(&sample), due + sample.lost(), "every number arrives or is counted");
            due = number_of(&sample) + 1;
        }
        due == sent
    });
    until("some are handed over", || programs.handed_over("t").0 > 0);
}

/// Sends numbers in messages of many lengths, not too far ahead of who receives them.
fn send_all(mut publisher: Publisher<[u8]>, count: u64, place: u8, received: &AtomicU64) -> Publisher<[u8]> {
    publisher.wait_for_subscribers(1, PATIENCE).expect("the network subscribes");
    for number in 0..count {
        // Now and then one is longer than all before it, of which fewer are kept: it goes by another sink.
        let longer = if number % 200 == 99 { 10_000 << (number / 400) } else { 0 };
        let mut message = vec![number as u8; 8 + longer + number as usize * 37 % 3_000];
        message[..8].copy_from_slice(&(number << 8 | u64::from(place)).to_le_bytes());
        until("it comes there", || received.load(Ordering::Relaxed) + AHEAD > number);
        publisher.send(&message).expect("there is room");
    }
    publisher
}

#[test]
fn whoever_hands_a_message_over_it_comes_once_and_in_its_turn() {
    const COUNT: u64 = 2_000;
    // On a busy machine a link may be silent for a while, and is not to be given up for that.
    let programs = Programs::new(Duration::from_secs(30));
    let [east, west] = &programs.nodes;
    let neighbour = programs.domains[0].node();
    let mut subscriber = west.topic::<[u8]>("t").subscriber().expect("the types agree");
    // Three publishers hand theirs over, one of them with few slots; and two do not.
    let publishers: Vec<_> = [(east, 8), (east, 64), (east, 1024), (&neighbour, 64)]
        .map(|(node, depth)| node.topic::<[u8]>("t").depth(depth).publisher(Overflow::Block))
        .into_iter()
        .chain([east.topic::<[u8]>("t").history(4).publisher(Overflow::Block)])
        .map(|publisher| publisher.expect("the topic is ours"))
        .collect();
    let received: Arc<[AtomicU64; 5]> = Arc::default();
    let senders: Vec<_> = (0_u8..)
        .zip(publishers)
        .map(|(place, publisher)| {
            let received = Arc::clone(&received);
            std::thread::spawn(move || send_all(publisher, COUNT, place, &received[usize::from(place)]))
        })
        .collect();
    let mut next = std::collections::HashMap::<EndpointId, u64>::new();
    while next.len() < 5 || next.values().any(|next| *next < COUNT) {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        let word = u64::from_le_bytes(*sample.first_chunk().expect("it has a number"));
        let (number, place) = (word >> 8, word as u8);
        let next = next.entry(sample.publisher()).or_default();
        assert_eq!((number, sample.lost()), (*next, 0), "each comes once, in its turn");
        assert!(sample[8..].iter().all(|byte| *byte == number as u8));
        *next += 1;
        received[usize::from(place)].store(*next, Ordering::Relaxed);
    }
    // What nobody sends any more is soon told of no more.
    let _publishers: Vec<_> =
        senders.into_iter().map(|sender| sender.join().expect("it sends all")).collect();
    until("all are counted", || programs.handed_over("t").1 == 5 * COUNT);
    let (inline, _) = programs.handed_over("t");
    assert!((COUNT..=3 * COUNT).contains(&inline), "{inline} of those of three publishers");
    assert!(subscriber.recv_timeout(Duration::from_millis(300)).expect("receiving succeeds").is_none());
}
