//! What every pattern promises, whatever carries it: each case runs within one domain, over shared memory, and from one domain to another,
//! over the network. What is exempt there stands in `exemptions.rs`, and so in `docs/network.md`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tidepost::{CallError, Event, Message, Node, Overflow, Payload, Request, Text};

use crate::conformance::header::Numbered;
use crate::exemptions::{EXEMPTIONS, Exemption};
use crate::stage::{Domain, PATIENCE, Pair, until};

/// A type of one's own.
mod header {
    use tidepost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

    #[derive(tidepost::Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[zerocopy(crate = "tidepost::zerocopy")]
    #[repr(C)]
    pub struct Numbered {
        pub number: u64,
    }
}

/// One promise: two nodes, of which the first sends or serves.
struct Case {
    pattern: &'static str,
    promise: &'static str,
    check: fn(&Node, &Node),
}

const CASES: &[Case] = &[
    Case {
        pattern: "topic",
        promise: "every message of a `Block` publisher, in order",
        check: topic_in_order,
    },
    Case { pattern: "topic", promise: "messages of any length", check: topic_of_any_length },
    Case { pattern: "topic", promise: "publishers are told apart", check: topic_of_two },
    Case { pattern: "topic", promise: "every policy, as its publisher chose it", check: topic_policies },
    Case {
        pattern: "topic",
        promise: "names that mean something elsewhere",
        check: topic_of_an_awkward_name,
    },
    Case { pattern: "topic", promise: "a type of one's own", check: topic_of_a_type },
    Case { pattern: "topic", promise: "a publisher that leaves is an event", check: topic_departure },
    Case { pattern: "topic", promise: "history for whoever joins", check: topic_history },
    Case { pattern: "topic", promise: "headers, of every type of message", check: topic_header },
    Case { pattern: "topic", promise: "the time when it was sent", check: topic_time },
    Case { pattern: "service", promise: "answers, and the server's own failures", check: service_answers },
    Case { pattern: "service", promise: "answers in parts", check: service_parts },
    Case { pattern: "service", promise: "many calls at once", check: service_many },
    Case { pattern: "service", promise: "a deadline ends a call on both sides", check: service_deadline },
    Case { pattern: "service", promise: "a call that is given up is cancelled", check: service_cancel },
    Case { pattern: "service", promise: "no server is said at once", check: service_nobody },
    Case { pattern: "queue", promise: "each item to one consumer, acknowledged", check: queue_once },
    Case { pattern: "queue", promise: "an item that is given back comes again", check: queue_again },
    Case { pattern: "state", promise: "the latest value for whoever joins", check: state_latest },
    Case { pattern: "state", promise: "versions rise, and a value outlives its writer", check: state_orphan },
    Case { pattern: "signal", promise: "every notification is counted", check: signal_counts },
    Case { pattern: "table", promise: "the latest value of each key", check: table_latest },
];

/// The exemption of a case, if there is one.
fn exemption(case: &Case) -> Option<&'static Exemption> {
    EXEMPTIONS.iter().find(|exemption| exemption.case == Some((case.pattern, case.promise)))
}

/// What each case that is not exempt promises, and how it is checked, for other ways across.
pub fn across() -> impl Iterator<Item = (String, fn(&Node, &Node))> {
    let cases = CASES.iter().filter(|case| exemption(case).is_none());
    cases.map(|case| (format!("{}: {}", case.pattern, case.promise), case.check))
}

/// Passed, failed and exempt, of each pattern.
type Table = Mutex<BTreeMap<&'static str, [[u32; 2]; 2]>>;

#[test]
fn every_pattern_keeps_its_promises_over_every_link() {
    let table = Table::default();
    let count = |case: &Case, link: usize, what: usize| {
        table.lock().expect("no test panics with it").entry(case.pattern).or_default()[link][what] += 1;
    };
    for case in CASES {
        let domain = Domain::new("one");
        (case.check)(&domain.node(), &domain.node());
        count(case, 0, 0);
        if exemption(case).is_some() {
            count(case, 1, 1);
            continue;
        }
        let pair = Pair::new();
        let [from, to] = pair.nodes();
        (case.check)(&from, &to);
        count(case, 1, 0);
    }
    println!("{:<10}{:>24}{:>24}", "", "shared memory", "network");
    for (pattern, links) in table.into_inner().expect("no test panics with it") {
        let [shm, network] = links.map(|[passed, exempt]| format!("{passed} passed, {exempt} exempt"));
        println!("{pattern:<10}{shm:>24}{network:>24}");
    }
}

#[test]
fn what_is_exempt_is_what_the_page_says() {
    let page = include_str!("../../../../docs/network.md");
    let head = "| | On one machine | Across |\n|---|---|---|\n";
    let rows = EXEMPTIONS
        .iter()
        .map(|Exemption { what, here, across, .. }| format!("| {what} | {here} | {across} |\n"));
    let table = format!("{head}{}", rows.collect::<String>());
    assert!(page.contains(&format!("{table}\n")), "the table of docs/network.md is to be:\n\n{table}");
    for exemption in EXEMPTIONS.iter().filter_map(|exemption| exemption.case) {
        let is_case = CASES.iter().any(|case| (case.pattern, case.promise) == exemption);
        assert!(is_case, "{exemption:?} is no case");
    }
}

fn topic_in_order(from: &Node, to: &Node) {
    let mut subscriber = to.topic::<u64>("t").subscriber().expect("the types agree");
    let mut publisher = from.topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
    let sending = std::thread::spawn(move || {
        (0..5000).for_each(|number| publisher.send(&number).expect("there is room"));
        publisher
    });
    for number in 0..5000 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!((*sample, sample.lost()), (number, 0));
    }
    drop(sending.join().expect("it does not panic"));
}

fn topic_of_any_length(from: &Node, to: &Node) {
    let mut subscriber = to.topic::<[u8]>("t").subscriber().expect("the types agree");
    let mut publisher = from.topic::<[u8]>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
    for length in [0, 1, 100, 5000, 70_000, 3_000_000] {
        let message: Vec<u8> = (0..length).map(|index: u32| (index % 251) as u8).collect();
        publisher.send(&message).expect("there is room");
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert!(*sample == message[..], "{length} B");
    }
}

fn topic_of_two(from: &Node, to: &Node) {
    let mut subscriber = to.topic::<u64>("t").subscriber().expect("the types agree");
    let publisher = || from.topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    let mut publishers = [publisher(), publisher()];
    for publisher in &mut publishers {
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
    }
    for number in 0..100 {
        for publisher in &mut publishers {
            publisher.send(&number).expect("there is room");
        }
    }
    let mut next = BTreeMap::new();
    for _ in 0..200 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        let due = next.entry(sample.publisher()).or_insert(0);
        assert_eq!(*sample, *due);
        *due += 1;
    }
    assert_eq!(next.into_values().collect::<Vec<_>>(), [100, 100]);
}

/// What is published at the end of the way has the policy that it had at its beginning.
fn topic_policies(from: &Node, to: &Node) {
    let policies = [
        (Overflow::Block, "block"),
        (Overflow::Fail, "fail"),
        (Overflow::DropOldest, "drop-oldest"),
        (Overflow::Latest, "latest"),
    ];
    for (overflow, policy) in policies {
        let mut subscriber = to.topic::<u64>(policy).subscriber().expect("the types agree");
        let mut publisher = from.topic::<u64>(policy).publisher(overflow).expect("the topic is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
        // Whoever passes it on learns of the policy a little later than of the message.
        until("the policy has come through", || {
            publisher.send(&7).expect("there is room");
            let sample = subscriber.recv_timeout(Duration::from_millis(100)).expect("receiving succeeds");
            let Some(sample) = sample else { return false };
            let (value, id) = (*sample, sample.publisher());
            let reports = to.inspect(PATIENCE).expect("looking succeeds");
            let found = reports.iter().flat_map(|report| &report.publishers).find(|outlet| outlet.id == id);
            value == 7 && found.is_some_and(|outlet| outlet.policy == policy)
        });
    }
}

fn topic_of_an_awkward_name(from: &Node, to: &Node) {
    for name in ["*", "**/a", "/absolute//twice/", "@home/$x", "100%?#", "größe"] {
        let mut subscriber = to.topic::<[u8]>(name).subscriber().expect("the types agree");
        let mut publisher = from.topic::<[u8]>(name).publisher(Overflow::Block).expect("the topic is ours");
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
        publisher.send(name.as_bytes()).expect("there is room");
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!(&*sample, name.as_bytes());
        assert!(subscriber.try_recv().expect("receiving succeeds").is_none(), "{name} is nobody else's");
    }
}

fn topic_of_a_type(from: &Node, to: &Node) {
    let mut subscriber = to.topic::<Numbered>("t").subscriber().expect("the types agree");
    let mut publisher = from.topic::<Numbered>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
    publisher.send(&Numbered { number: 7 }).expect("there is room");
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert_eq!((sample.number, sample.message_type()), (7, &<Numbered as Message>::descriptor()));
}

fn topic_departure(from: &Node, to: &Node) {
    let mut subscriber = to.topic::<u64>("t").subscriber().expect("the types agree");
    let mut publisher = from.topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
    publisher.send(&1).expect("there is room");
    assert!(subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").is_some());
    drop(publisher);
    until("it is told", || {
        std::iter::from_fn(|| subscriber.try_event()).any(|event| matches!(event, Event::Left(_)))
    });
}

fn topic_history(from: &Node, to: &Node) {
    let mut publisher =
        from.topic::<u64>("t").history(3).publisher(Overflow::Block).expect("the topic is ours");
    (0..10).for_each(|number| publisher.send(&number).expect("there is room"));
    for _ in 0..2 {
        let mut subscriber = to.topic::<u64>("t").subscriber().expect("the types agree");
        for number in 7..10 {
            let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it is kept");
            assert_eq!(*sample, number);
        }
    }
}

fn topic_header(from: &Node, to: &Node) {
    send_headed::<u64>(from, to, "number", &1);
    send_headed::<[u8]>(from, to, "bytes", b"short");
    send_headed::<[u8]>(from, to, "long", &[7; 100_000]);
}

fn send_headed<T: Payload + PartialEq + std::fmt::Debug + ?Sized>(
    from: &Node,
    to: &Node,
    name: &str,
    message: &T,
) {
    let mut subscriber = to.topic::<T>(name).header::<Numbered>().subscriber().expect("the types agree");
    // Whoever asks for no header gets the messages all the same.
    let mut plain = to.topic::<T>(name).subscriber().expect("the types agree");
    let topic = from.topic::<T>(name).header::<Numbered>();
    let mut publisher = topic.publisher(Overflow::Block).expect("the topic is ours");
    // Across it is one who passes on to both.
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
    for number in 7..10 {
        publisher.send_with(&Numbered { number }, message).expect("there is room");
    }
    publisher.send(message).expect("there is room");
    for number in [7, 8, 9, 0] {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!(sample.header::<Numbered>().map(|header| header.number), Some(number));
        assert_eq!(&*sample, message);
        assert_eq!(sample.timestamp(), None);
    }
    for _ in 0..4 {
        let sample = plain.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!((&*sample, sample.lost()), (message, 0));
    }
}

fn topic_time(from: &Node, to: &Node) {
    let topic = || from.topic::<u64>("t").timestamps();
    let mut subscriber = to.topic::<u64>("t").header::<Numbered>().subscriber().expect("the types agree");
    let mut plain = to.topic::<u64>("t").subscriber().expect("the types agree");
    let mut publisher = topic().header::<Numbered>().publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is subscribed to");
    // Who keeps an early message says that it is an early one.
    let before = SystemTime::now();
    publisher.send_with(&Numbered { number: 7 }, &1).expect("there is room");
    let after = SystemTime::now();
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    let sent_at = sample.timestamp().expect("its publisher says so");
    assert!((before..=after).contains(&sent_at), "{before:?}, {sent_at:?}, {after:?}");
    assert_eq!(sample.header::<Numbered>().map(|header| header.number), Some(7));
    let sample = plain.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert_eq!(sample.timestamp(), Some(sent_at));
}

/// Serves in a thread, and does `ask` meanwhile.
fn while_served(node: &Node, serve: impl Fn(Request<'_, [u8], [u8]>) + Send + 'static, ask: impl FnOnce()) {
    let mut server = node.service::<[u8], [u8]>("s").server().expect("it is ours");
    let handle = server.handle();
    let serving = std::thread::spawn(move || {
        while let Ok(request) = server.recv() {
            serve(request);
        }
    });
    ask();
    handle.cancel();
    serving.join().expect("it does not panic");
}

fn client(node: &Node) -> tidepost::Client<[u8], [u8]> {
    let mut client = node.service("s").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("it is served");
    client
}

fn reversed(request: Request<'_, [u8], [u8]>) {
    let answer: Vec<u8> = request.iter().rev().copied().collect();
    // Whoever asked may have given up.
    let _ = if answer.is_empty() { request.fail(Text::new("nothing")) } else { request.answer(&answer) };
}

fn service_answers(from: &Node, to: &Node) {
    while_served(from, reversed, || {
        let mut client = client(to);
        for length in [1, 100, 5000, 300_000] {
            let asked: Vec<u8> = (0..length).map(|index: u32| (index % 251) as u8).collect();
            let answer = client.call(&asked, PATIENCE).expect("it answers");
            assert!(answer.iter().eq(asked.iter().rev()), "{length} B");
        }
        let error = client.call(b"", PATIENCE).map(|answer| answer.to_vec()).expect_err("it fails");
        assert!(
            matches!(error, CallError::Failed { .. }) && error.to_string().contains("nothing"),
            "{error}"
        );
    });
}

fn service_parts(from: &Node, to: &Node) {
    let in_parts = |request: Request<'_, [u8], [u8]>| {
        let mut parts = request.parts().expect("it wants parts");
        let count = parts.request()[0];
        (0..count).for_each(|number| parts.send(&[number; 100]).expect("the client is there"));
        parts.finish().expect("the client is there");
    };
    while_served(from, in_parts, || {
        let mut client = client(to);
        for count in [0, 1, 200] {
            let parts = client.call_parts(&[count], PATIENCE).expect("it is asked");
            let parts: Vec<_> = parts.map(|part| part.expect("all come").to_vec()).collect();
            assert_eq!(parts, (0..count).map(|number| vec![number; 100]).collect::<Vec<_>>());
        }
    });
}

fn service_many(from: &Node, to: &Node) {
    while_served(from, reversed, || {
        let mut client = client(to);
        let calls: Vec<_> = (0..200_u32)
            .map(|number| {
                (
                    number,
                    client.send(&[&number.to_le_bytes()[..], b"x"].concat(), PATIENCE).expect("it is asked"),
                )
            })
            .collect();
        for (number, call) in calls {
            let answer = client.wait(call, PATIENCE).expect("it answers");
            let expected: Vec<u8> =
                b"x".iter().copied().chain(number.to_le_bytes().into_iter().rev()).collect();
            assert_eq!(*answer, expected);
        }
    });
}

fn service_deadline(from: &Node, to: &Node) {
    let never = |request: Request<'_, [u8], [u8]>| until("the server sees it", || request.is_cancelled());
    while_served(from, never, || {
        let mut client = client(to);
        let error = client
            .call(b"x", Duration::from_millis(100))
            .map(|answer| answer.to_vec())
            .expect_err("it is late");
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    });
}

fn service_cancel(from: &Node, to: &Node) {
    let mut server = from.service::<[u8], [u8]>("s").server().expect("it is ours");
    let mut client = client(to);
    let call = client.send(b"x", PATIENCE).expect("it is asked");
    let request = server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was asked");
    client.cancel(call);
    until("the server sees it", || request.is_cancelled());
}

fn service_nobody(_from: &Node, to: &Node) {
    let mut client: tidepost::Client<[u8], [u8]> = to.service("s").client().expect("it is there");
    let error = client.call(b"x", PATIENCE).map(|answer| answer.to_vec()).expect_err("nobody serves");
    assert!(matches!(error, CallError::NoServer { .. }), "{error}");
}

fn queue_once(from: &Node, to: &Node) {
    let mut producer = from.queue::<u64>("q").producer(Overflow::Block).expect("it is ours");
    let mut consumers = [(); 2].map(|()| to.queue::<u64>("q").consumer().expect("the types agree"));
    (0..200).for_each(|number| producer.push(&number).expect("there is room"));
    let mut seen = Vec::new();
    until("all are delivered", || {
        for consumer in &mut consumers {
            while let Some(item) =
                consumer.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds")
            {
                seen.push(*item);
                item.ack().expect("it is ours");
            }
        }
        seen.len() >= 200
    });
    until("all are acknowledged", || producer.counts().acknowledged == 200);
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
}

fn queue_again(from: &Node, to: &Node) {
    let mut producer = from.queue::<u64>("q").producer(Overflow::Block).expect("it is ours");
    let mut consumer = to.queue::<u64>("q").consumer().expect("the types agree");
    producer.push(&7).expect("there is room");
    let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was pushed");
    item.give_back();
    let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it comes again");
    assert!(*item == 7 && item.is_redelivered());
    item.ack().expect("it is ours");
}

fn state_latest(from: &Node, to: &Node) {
    let mut writer = from.state::<u64>("v").writer().expect("nobody else writes it");
    (0..100).for_each(|value| writer.set(&value).expect("there is room"));
    for _ in 0..2 {
        let mut reader = to.state::<u64>("v").reader().expect("the types agree");
        until("the latest comes", || {
            reader.wait(PATIENCE).expect("waiting succeeds").is_some_and(|value| *value == 99)
        });
    }
}

fn state_orphan(from: &Node, to: &Node) {
    let mut writer = from.state::<u64>("v").writer().expect("nobody else writes it");
    let mut reader = to.state::<u64>("v").reader().expect("the types agree");
    let mut before = 0;
    for value in 1..20 {
        writer.set(&value).expect("there is room");
        until("it comes", || {
            let found = reader.changed(PATIENCE).expect("waiting succeeds").expect("it was written");
            assert!(found.version() > before);
            before = found.version();
            *found == value
        });
    }
    drop(writer);
    until("it is known", || reader.is_orphaned());
    assert_eq!(reader.read().expect("reading succeeds").map(|value| *value), Some(19));
}

fn signal_counts(from: &Node, to: &Node) {
    let mut waiter = to.signal("n").ids(3).waiter().expect("the numbers agree");
    let mut notifier = from.signal("n").ids(3).notifier().expect("it is ours");
    notifier.wait_for_waiters(1, PATIENCE).expect("it is waited for");
    (0..1000).for_each(|_| notifier.notify(2).expect("it is one of three"));
    let mut count = 0;
    while count < 1000 {
        let notices = waiter.wait_timeout(PATIENCE).expect("waiting succeeds").expect("it was notified");
        assert_eq!(notices.total(), notices.count_of(2));
        count += notices.total();
    }
    assert_eq!(count, 1000);
}

fn table_latest(from: &Node, to: &Node) {
    let mut writer = from.table::<u64, u64>("m").writer().expect("nobody else writes it");
    writer.set(&1, &2).expect("there is room");
    let mut reader = to.table::<u64, u64>("m").reader().expect("the types agree");
    until("it comes", || reader.get(&1).expect("reading succeeds").is_some_and(|value| value == 2));
}
