//! The fear: what travels beside a message – a header, a time, an event – is lost or mixed up, or a copy, a held sample or
//! an endpoint in another thread does not behave as the plain ones do.

use std::time::{Duration, SystemTime};

use tidepost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use tidepost::{
    Batch, Copied, Counterpart, Event, Held, HoldError, Loan, Message, Node, Overflow, Payload, Publisher,
    PublisherHandle, Sample, SendError, Subscriber, SubscriberHandle, Topic, TopicError, Untyped,
};

use crate::topics::stage::{
    Account, Domain, Kind, PATIENCE, Words, bytes, inline, meet, start, until, with_each_kind, words,
};

/// A header without alignment …
#[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Tag([u8; 3]);

/// … of one word …
#[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Trace {
    span: u64,
    parent: u64,
}

/// … as another program knows it …
#[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
#[tidepost(name = "Trace")]
struct TraceOfBytes {
    span: u64,
    parent: [u8; 8],
}

/// … and of more.
#[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Wide {
    digest: u128,
    rest: [u64; 2],
}

/// A type of header, and the one that comes with the message of each number.
trait Header: Message + PartialEq + std::fmt::Debug + Copy {
    fn of(number: u64) -> Self;
}

impl Header for Tag {
    fn of(number: u64) -> Self {
        Self([number as u8, 2, 3])
    }
}

impl Header for Trace {
    fn of(number: u64) -> Self {
        Self { span: number, parent: !number }
    }
}

impl Header for Wide {
    fn of(number: u64) -> Self {
        Self { digest: u128::from(number) << 64 | 5, rest: [number, 7] }
    }
}

#[test]
fn headers_come_with_their_messages() {
    for is_stamped in [false, true] {
        with_each_kind!(send_headers_of_three_types, is_stamped);
    }
}

fn send_headers_of_three_types<T: Payload + ?Sized>(kind: &Kind<T>, is_stamped: bool) {
    send_headers::<Tag, T>(kind, is_stamped);
    send_headers::<Trace, T>(kind, is_stamped);
    send_headers::<Wide, T>(kind, is_stamped);
}

/// A publisher with a header, and perhaps with timestamps.
fn with_header<H: Message, T: Payload + ?Sized>(
    kind: &Kind<T>,
    node: &Node,
    is_stamped: bool,
) -> Publisher<T> {
    let topic = kind.topic(node).header::<H>();
    let topic = if is_stamped { topic.timestamps() } else { topic };
    topic.publisher(Overflow::Block).expect("the topic is ours")
}

fn send_headers<H: Header, T: Payload + ?Sized>(kind: &Kind<T>, is_stamped: bool) {
    let domain = Domain::new();
    let (sending, receiving) = (domain.node("sender"), domain.node("receiver"));
    let mut publisher = with_header::<H, T>(kind, &sending, is_stamped);
    let topic = || kind.topic(&receiving).header::<H>();
    let mut borrowing = topic().subscriber().expect("the types agree");
    let mut copying = topic().copied().subscriber().expect("the types agree");
    let mut observer = topic().observer().subscriber().expect("the types agree");
    let mut plain = kind.subscriber(&receiving);
    publisher.wait_for_subscribers(4, PATIENCE).expect("they come");
    for number in 0..6 {
        let message = (kind.message)(number);
        let header = if number == 5 {
            publisher.send(&message).expect("there is room");
            H::read_from_bytes(&vec![0; size_of::<H>()]).expect("zeros are a header")
        } else {
            publisher.send_with(&H::of(number), &message).expect("there is room");
            H::of(number)
        };
        let expected = Expected { kind, number, header: Some(header), is_stamped };
        expected.check(&next(&mut borrowing));
        expected.check(&next(&mut copying));
        expected.check(&next(&mut observer));
        Expected { header: None, ..expected }.check(&next(&mut plain));
    }
}

fn next<T: Payload + ?Sized, B: tidepost::Trust>(subscriber: &mut Subscriber<T, B>) -> Sample<'_, T> {
    subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent")
}

/// What a sample has to be.
struct Expected<'a, H, T: ?Sized> {
    kind: &'a Kind<T>,
    number: u64,
    header: Option<H>,
    is_stamped: bool,
}

impl<H: Header, T: Payload + ?Sized> Expected<'_, H, T> {
    fn check(&self, sample: &Sample<'_, T>) {
        self.kind.check(sample, self.number);
        assert_eq!(sample.header::<H>().copied(), self.header, "{}", self.kind.name);
        assert!(sample.header::<u16>().is_none(), "it is no header of that type");
        assert_eq!(sample.timestamp().is_some(), self.is_stamped);
        let held = sample.hold().expect("the limit is 64");
        self.kind.check(&held, self.number);
    }
}

#[test]
fn loans_carry_headers() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = with_header::<Wide, _>(&inline(), &node, true);
    let mut subscriber = inline().topic(&node).header::<Wide>().subscriber().expect("the types agree");
    for number in 0..20 {
        let mut loan = publisher.loan_with(&Wide::of(number)).expect("there is room");
        *loan = words(number);
        loan.send();
        let sample = next(&mut subscriber);
        assert_eq!((*sample, sample.header()), (words(number), Some(&Wide::of(number))));
    }
    let topic = || node.topic::<[u8]>("bytes").header::<Tag>();
    let mut publisher = topic().publisher(Overflow::Block).expect("the topic is ours");
    let mut subscriber = topic().subscriber().expect("the types agree");
    for length in [0, 1, 239, 240, 241, 248, 1024, 70_000] {
        let mut loan = publisher.loan_with(&Tag::of(9), length).expect("there is room");
        loan.copy_from_slice(&bytes(1, length));
        loan.send();
        let sample = next(&mut subscriber);
        assert_eq!((&*sample, sample.header()), (&*bytes(1, length), Some(&Tag::of(9))));
    }
}

#[test]
fn untyped_subscribers_pass_over_headers() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = with_header::<Trace, _>(&inline(), &node, true);
    let mut plain: Subscriber<Untyped> = node.topic_dyn("topic").subscriber().expect("any type will do");
    let topic = node.topic_dyn("topic").header::<Trace>();
    let mut curious = topic.subscriber().expect("any type will do");
    publisher.send_with(&Trace::of(4), &words(4)).expect("there is room");
    let sample = next(&mut plain);
    assert_eq!((&**sample, sample.header::<Trace>()), (words(4).as_bytes(), None));
    let sample = next(&mut curious);
    assert_eq!((&**sample, sample.header()), (words(4).as_bytes(), Some(&Trace::of(4))));
}

/// What the first difference is, for a subscriber with this topic.
fn difference<T: Payload + ?Sized>(topic: Topic<'_, T>) -> String {
    match topic.subscriber().expect_err("the headers differ") {
        TopicError::TypeMismatch { refused, .. } => refused.difference.expect("they differ").what,
        error => panic!("{error}"),
    }
}

#[test]
fn headers_that_differ_are_refused() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let mut publisher = with_header::<Trace, _>(&inline(), &nodes[0], false);
    assert_eq!(difference(inline().topic(&nodes[1]).header::<TraceOfBytes>()), "header: field `parent`");
    assert_eq!(difference(inline().topic(&nodes[1]).header::<Wide>()), "header: name");
    until("the publisher learns of it", || publisher.refusals().len() == 2);
    assert_eq!(publisher.subscribers(), 0);
    let error = publisher.send_with(&Wide::of(0), &words(0)).expect_err("it is another header");
    assert!(matches!(error, SendError::Header { .. }), "{error}");
    assert!(publisher.loan_with(&Wide::of(0)).is_err());
    drop(publisher);
    let mut publisher = inline().publisher(&nodes[0], Overflow::Block);
    assert_eq!(difference(inline().topic(&nodes[1]).header::<Trace>()), "header: name");
    let error = publisher.send_with(&Trace::of(0), &words(0)).expect_err("it has no header");
    assert!(matches!(error, SendError::Header { .. }), "{error}");
}

#[test]
fn a_header_has_a_limit() {
    let domain = Domain::new();
    let node = domain.node("both");
    let topic = || node.topic::<u8>("topic").header::<[u64; 33]>();
    for error in [topic().publisher(Overflow::Block).map(drop), topic().subscriber().map(drop)] {
        let Err(TopicError::Option { option, value, most, .. }) = error else { panic!("{error:?}") };
        assert_eq!((option, value, most), ("header bytes", 264, 256));
    }
    let topic = || node.topic::<u8>("topic").header::<[u64; 32]>();
    let mut publisher = topic().publisher(Overflow::Block).expect("it is just short enough");
    let mut subscriber = topic().subscriber().expect("the types agree");
    publisher.send_with(&[7u64; 32], &9).expect("there is room");
    assert_eq!(next(&mut subscriber).header(), Some(&[7u64; 32]));
}

#[test]
fn a_timestamp_is_the_time_of_sending() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = inline().topic(&node).timestamps().publisher(Overflow::Block).expect("it is ours");
    let mut subscriber = inline().subscriber(&node);
    inline().send(&mut publisher, 0..1);
    let loan = publisher.loan().expect("there is room");
    // As far as it matters here: clocks may be set.
    loan.send();
    for _ in 0..2 {
        let time = next(&mut subscriber).timestamp().expect("it is stamped");
        let now = SystemTime::now();
        let apart = now.duration_since(time).unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_secs(600), "{apart:?}");
    }
}

#[test]
fn copies_are_what_was_sent() {
    for overflow in [Overflow::Block, Overflow::Fail, Overflow::DropOldest, Overflow::Latest] {
        with_each_kind!(copy, overflow);
    }
}

fn copy<T: Payload + ?Sized>(kind: &Kind<T>, overflow: Overflow) {
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), overflow);
    let node = domain.node("receiver");
    let mut subscriber: Subscriber<T, Copied> =
        kind.topic(&node).copied().subscriber().expect("the types agree");
    meet(&mut publisher, &subscriber);
    let (mut account, mut held) = (Account::default(), Vec::new());
    for round in 0..30 {
        kind.send(&mut publisher, round * 3..(round + 1) * 3);
        while account.next < (round + 1) * 3 {
            let sample = next(&mut subscriber);
            account.note(kind, &sample);
            if round % 5 == 0 {
                held.push(sample.hold().expect("the limit is 64"));
            }
        }
    }
    assert_eq!((account.received + account.lost, subscriber.lost()), (90, account.lost));
    assert_eq!(account.lost, if overflow == Overflow::Latest { 60 } else { 0 }, "{}", kind.name);
    held.iter().for_each(|sample| kind.check(sample, sample.sequence()));
}

#[test]
fn copies_of_a_publisher_in_full_flight_are_whole() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::Latest] {
        with_each_kind!(copy_in_flight, overflow);
    }
}

fn copy_in_flight<T: Payload + ?Sized>(kind: &Kind<T>, overflow: Overflow) {
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), overflow);
    let node = domain.node("receiver");
    let mut subscriber = kind.topic(&node).copied().subscriber().expect("the types agree");
    meet(&mut publisher, &subscriber);
    let (message, many) = (kind.message, kind.many);
    let sending = start(move || {
        (0..many).for_each(|number| publisher.send(&message(number)).expect("nothing is held"));
        publisher
    });
    let mut account = Account::default();
    while account.next < many {
        account.note(kind, &next(&mut subscriber));
    }
    assert_eq!(account.received + account.lost, many);
    assert!(overflow != Overflow::Block || account.lost == 0);
    drop(sending.finish());
}

#[test]
fn what_is_held_outlives_everybody() {
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        with_each_kind!(outlive, overflow);
    }
}

fn outlive<T: Payload + ?Sized>(kind: &Kind<T>, overflow: Overflow) {
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), overflow);
    let mut subscriber = kind.subscriber(&domain.node("receiver"));
    meet(&mut publisher, &subscriber);
    kind.send(&mut publisher, 0..5);
    let held: Vec<Held<T>> = (0..5).map(|_| next(&mut subscriber).hold().expect("the limit is 64")).collect();
    let id = publisher.id();
    drop(subscriber);
    drop(publisher);
    drop(domain);
    held.iter().for_each(|sample| assert_eq!(sample.publisher(), id));
    (0..).zip(&held).for_each(|(number, sample)| kind.check(sample, number));
}

#[test]
fn what_is_held_may_go_to_another_thread() {
    let kind = crate::topics::stage::pooled();
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), Overflow::Block);
    let mut subscriber = kind.subscriber(&domain.node("receiver"));
    meet(&mut publisher, &subscriber);
    let (samples, others) = std::sync::mpsc::channel::<Held<[u8]>>();
    let checking = start(move || {
        let kind = crate::topics::stage::pooled();
        // Each is let go here, and makes room there.
        others.into_iter().map(|sample| kind.check(&sample, sample.sequence())).count()
    });
    for number in 0..100 {
        kind.send(&mut publisher, number..number + 1);
        samples.send(next(&mut subscriber).hold().expect("the limit is 64")).expect("it checks");
    }
    drop(samples);
    assert_eq!(checking.finish(), 100);
}

#[test]
fn the_hold_limit_is_that_of_the_subscriber() {
    let kind = crate::topics::stage::body();
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), Overflow::Block);
    let node = domain.node("receiver");
    let mut subscriber = kind.topic(&node).hold_limit(2).subscriber().expect("the types agree");
    meet(&mut publisher, &subscriber);
    kind.send(&mut publisher, 0..4);
    let mut held: Vec<Held<_>> = (0..2).map(|_| next(&mut subscriber).hold().expect("it is two")).collect();
    let sample = next(&mut subscriber);
    let error = sample.hold().expect_err("it is two");
    assert!(matches!(error, HoldError::Limit { limit: 2, .. }), "{error}");
    held.remove(0);
    held.push(sample.hold().expect("one was let go"));
    held.iter().zip([1, 2]).for_each(|(sample, number)| kind.check(sample, number));
}

/// What may go to other threads, or be shared between them; that this compiles is the test.
#[test]
fn endpoints_and_samples_may_go_to_other_threads() {
    fn is_send<V: Send>() {}
    fn is_shared<V: Send + Sync>() {}
    is_send::<Publisher<Words>>();
    is_send::<Publisher<[u8]>>();
    is_send::<Subscriber<Words>>();
    is_send::<Subscriber<Untyped, Copied>>();
    is_send::<Sample<'static, Words>>();
    is_send::<Held<[u8]>>();
    is_send::<Batch<'static, Words>>();
    is_send::<Loan<'static, Words>>();
    is_shared::<Held<Words>>();
    is_shared::<PublisherHandle>();
    is_shared::<SubscriberHandle>();
    is_shared::<Node>();
    is_shared::<Topic<'static, Words>>();
}

/// The next event of a publisher.
fn of_publisher(publisher: &mut Publisher<Words>) -> Event {
    publisher.event_timeout(PATIENCE).expect("waiting succeeds").expect("something happens")
}

/// The next event of a subscriber.
fn of_subscriber(subscriber: &mut Subscriber<Words>) -> Event {
    subscriber.event_timeout(PATIENCE).expect("waiting succeeds").expect("something happens")
}

fn is_of(counterpart: &Counterpart, id: tidepost::EndpointId, node: &str) -> bool {
    (counterpart.id, &*counterpart.node_name, counterpart.pid) == (id, node, std::process::id())
}

#[test]
fn joining_and_leaving_are_events_at_both_ends() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let mut publisher = inline().publisher(&nodes[0], Overflow::Block);
    assert_eq!((publisher.try_event(), publisher.event_timeout(Duration::ZERO)), (None, Ok(None)));
    let mut subscriber = inline().subscriber(&nodes[1]);
    meet(&mut publisher, &subscriber);
    let (publisher_id, subscriber_id) = (publisher.id(), subscriber.id());
    let event = of_publisher(&mut publisher);
    assert!(matches!(&event, Event::Joined(other) if is_of(other, subscriber_id, "receiver")), "{event:?}");
    let event = of_subscriber(&mut subscriber);
    assert!(matches!(&event, Event::Joined(other) if is_of(other, publisher_id, "sender")), "{event:?}");
    drop(publisher);
    let event = of_subscriber(&mut subscriber);
    assert!(matches!(&event, Event::Left(other) if is_of(other, publisher_id, "sender")), "{event:?}");
    let mut publisher = inline().publisher(&nodes[0], Overflow::Block);
    let id = publisher.id();
    assert_ne!(id, publisher_id, "it is another one");
    let event = of_subscriber(&mut subscriber);
    assert!(matches!(&event, Event::Joined(other) if is_of(other, id, "sender")), "{event:?}");
    assert!(matches!(of_publisher(&mut publisher), Event::Joined(_)));
    drop(subscriber);
    let event = of_publisher(&mut publisher);
    assert!(matches!(&event, Event::Left(other) if is_of(other, subscriber_id, "receiver")), "{event:?}");
}

#[test]
fn a_refusal_is_an_event_at_both_ends() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let mut subscriber = inline().subscriber(&nodes[1]);
    let mut publisher = nodes[0].topic::<u8>("topic").publisher(Overflow::Block).expect("it is ours");
    let Event::Refused(refused) = of_subscriber(&mut subscriber) else { panic!("it was refused") };
    assert_eq!((refused.node, &*refused.node_name), (nodes[0].id(), "sender"));
    let event = publisher.event_timeout(PATIENCE).expect("waiting succeeds");
    let Some(Event::Refused(refused)) = event else { panic!("it was refused") };
    assert_eq!((refused.node, &*refused.node_name), (nodes[1].id(), "receiver"));
    assert_eq!((publisher.refusals().len(), subscriber.refusals().len()), (1, 1));
}

#[test]
fn a_gap_is_an_event_for_those_who_look() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = inline().publisher(&node, Overflow::Latest);
    let mut subscriber = inline().subscriber(&node);
    assert!(matches!(subscriber.try_event(), Some(Event::Joined(_))));
    for round in 0..2 {
        inline().send(&mut publisher, round * 5..(round + 1) * 5);
        assert_eq!(next(&mut subscriber).lost(), 4);
    }
    // Those that follow each other are one.
    let publisher_id = publisher.id();
    assert_eq!(subscriber.try_event(), Some(Event::Gap { publisher: publisher_id, lost: 8 }));
    assert_eq!(subscriber.try_event(), None);
}

#[test]
fn being_blocked_is_an_event() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let mut publisher = inline().publisher(&nodes[0], Overflow::Block);
    let subscriber = inline().subscriber(&nodes[1]);
    meet(&mut publisher, &subscriber);
    assert!(matches!(of_publisher(&mut publisher), Event::Joined(_)));
    inline().send(&mut publisher, 0..8);
    let error = publisher.send_timeout(&words(8), Duration::from_millis(1)).expect_err("nobody reads");
    assert!(matches!(error, SendError::Timeout { .. }), "{error}");
    // Whether it came to wait in that time is the machine's business.
    let handle = publisher.handle();
    let sending = start(move || (publisher.send(&words(8)).is_ok(), publisher));
    until("it waits for the subscriber", || !handle.blocked_by().is_empty());
    assert_eq!(handle.blocked_by().iter().map(|reader| reader.id).collect::<Vec<_>>(), [subscriber.id()]);
    let id = subscriber.id();
    drop(subscriber);
    let (is_sent, mut publisher) = sending.finish();
    assert!(is_sent && handle.blocked_by().is_empty());
    let mut events = std::iter::from_fn(|| publisher.try_event());
    let blocked = events.find_map(|event| match event {
        Event::Blocked { by } => Some(by),
        _ => None,
    });
    assert!(is_of(&blocked.expect("it had to wait")[0], id, "receiver"));
}

#[test]
fn events_that_nobody_asks_for_are_counted() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = inline().publisher(&node, Overflow::Block);
    for _ in 0..600 {
        drop(inline().subscriber(&node));
    }
    // Each joined and left, and some of that is noticed only now.
    let mut told = 0;
    let mut missed = 0;
    while told + missed < 2 * 600 {
        match of_publisher(&mut publisher) {
            Event::Joined(_) | Event::Left(_) => told += 1,
            Event::Missed(count) => missed += count,
            event => panic!("{event:?}"),
        }
    }
    assert!(missed > 0 && told + missed == 2 * 600, "{told} told, {missed} missed");
    assert_eq!(publisher.try_event(), None);
}
