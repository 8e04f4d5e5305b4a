//! The fear: a tool that knows the type only when it runs takes bytes for something that they are not, or sends some that
//! are no message.

use tidepost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use tidepost::{
    Copied, Field, Message, Node, Overflow, Payload, Publisher, SendError, Shape, Subscriber, TopicError,
    TypeDescriptor, Untyped,
};

use crate::topics::stage::{Domain, Kind, PATIENCE, Words, bytes, inline, with_each_kind, words};

/// A message with a field.
#[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Level {
    metres: f64,
    gauge: u32,
    quality: u32,
}

/// The descriptor of a type as a topic carries it.
fn descriptor<T: Payload + ?Sized>() -> TypeDescriptor {
    T::descriptor().expect("it is typed")
}

fn publisher_of(node: &Node, descriptor: TypeDescriptor) -> Publisher<Untyped> {
    let topic = node.topic_dyn("topic").depth(8).message_type(descriptor);
    topic.publisher(Overflow::Block).expect("the topic is ours")
}

#[test]
fn any_type_is_received() {
    with_each_kind!(receive_any);
}

fn receive_any<T: Payload + ?Sized>(kind: &Kind<T>) {
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), Overflow::Block);
    let node = domain.node("receiver");
    let mut borrowing = node.topic_dyn("topic").subscriber().expect("any type will do");
    let mut copying: Subscriber<Untyped, Copied> =
        node.topic_dyn("topic").copied().subscriber().expect("any type will do");
    kind.send(&mut publisher, 0..3);
    for number in 0..3 {
        let sample = borrowing.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!(sample.message_type(), &descriptor::<T>());
        assert!(**sample == *(kind.message)(number).as_bytes(), "{}", kind.name);
        let held = sample.hold().expect("the limit is 64");
        let sample = copying.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert!(**held == **sample);
    }
}

#[test]
fn each_publisher_has_its_own_type() {
    let domain = Domain::new();
    let node = domain.node("all");
    let mut words_publisher = node.topic::<Words>("topic").publisher(Overflow::Block).expect("it is ours");
    let mut level_publisher = node.topic::<Level>("topic").publisher(Overflow::Block).expect("it is ours");
    let mut subscriber = node.topic_dyn("topic").subscriber().expect("any type will do");
    let level = Level { metres: 1.5, gauge: 7, quality: 1 };
    for number in 0..5 {
        words_publisher.send(&words(number)).expect("there is room");
        level_publisher.send(&level).expect("there is room");
    }
    let mut of_words = 0;
    for _ in 0..10 {
        let sample = subscriber.try_recv().expect("receiving succeeds").expect("ten were sent");
        if sample.publisher() == words_publisher.id() {
            assert_eq!(
                (sample.message_type(), &**sample),
                (&descriptor::<Words>(), words(of_words).as_bytes())
            );
            of_words += 1;
        } else {
            assert_eq!((sample.message_type(), &**sample), (&descriptor::<Level>(), level.as_bytes()));
        }
    }
    assert_eq!(of_words, 5);
}

#[test]
fn typed_subscribers_take_untyped_messages_of_their_type() {
    with_each_kind!(send_untyped);
}

fn send_untyped<T: Payload + ?Sized>(kind: &Kind<T>) {
    let domain = Domain::new();
    let mut publisher = publisher_of(&domain.node("sender"), descriptor::<T>());
    let mut subscriber = kind.subscriber(&domain.node("receiver"));
    publisher.wait_for_subscribers(1, PATIENCE).expect("it comes");
    for number in 0..10 {
        let message = (kind.message)(number);
        let message = Untyped::new(message.as_bytes());
        match number % 3 {
            0 => publisher.send(message).expect("it has the length"),
            1 => publisher.send_many([message]).expect("it has the length"),
            _ => {
                let mut loan = publisher.loan(message.len()).expect("it has the length");
                loan.copy_from_slice(message);
                loan.send();
            }
        }
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        kind.check(&sample, number);
    }
}

#[test]
fn bytes_that_are_no_message_are_not_sent() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = publisher_of(&node, descriptor::<Words>());
    let mut subscriber = inline().subscriber(&node);
    for length in [0, 1, 55, 57, 112, 100_000] {
        let (wrong, right) = (bytes(0, length), bytes(0, 56));
        let (wrong, right) = (Untyped::new(&wrong), Untyped::new(&right));
        expect_length(publisher.send(wrong), length);
        expect_length(publisher.send_timeout(wrong, PATIENCE), length);
        expect_length(publisher.loan(length).map(drop), length);
        expect_length(publisher.send_many([right, wrong, right]), length);
        let sample = subscriber.try_recv().expect("receiving succeeds").expect("one was right");
        assert_eq!(sample.as_bytes(), &**right);
        assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
    }
}

fn expect_length(sent: Result<(), SendError>, length: usize) {
    let error = sent.expect_err("it is no message");
    assert!(matches!(error, SendError::Length { given, .. } if given == length), "{error}");
    assert!(error.to_string().contains("[u64; 7]"), "{error}");
}

#[test]
fn a_slice_has_whole_elements() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = publisher_of(&node, descriptor::<[Level]>());
    let mut subscriber = node.topic::<[Level]>("topic").subscriber().expect("the types agree");
    for count in [0, 1, 3, 10_000] {
        publisher.send(Untyped::new(&bytes(1, count * 16))).expect("they are whole");
        assert_eq!(subscriber.try_recv().expect("receiving succeeds").expect("it was sent").len(), count);
        let error = publisher.send(Untyped::new(&bytes(1, count * 16 + 4))).expect_err("one is not whole");
        assert!(matches!(error, SendError::Length { .. }), "{error}");
    }
}

#[test]
fn a_publisher_needs_a_type() {
    let domain = Domain::new();
    let node = domain.node("sender");
    let error = node.topic_dyn("topic").publisher(Overflow::Block).expect_err("it has none");
    assert_eq!(error, TopicError::NoType { topic: "topic".into() });
}

#[test]
fn a_type_that_no_memory_has_is_no_panic() {
    let domain = Domain::new();
    let node = domain.node("sender");
    let odd = TypeDescriptor { align: 3, ..descriptor::<Words>() };
    for align in [0, 3, 128] {
        let topic = node.topic_dyn("topic").message_type(TypeDescriptor { align, ..odd.clone() });
        let error = topic.publisher(Overflow::Block).expect_err("there is no such alignment");
        assert!(matches!(error, TopicError::Alignment { .. }), "{error}");
    }
    for shape in [Shape::One, Shape::Slice] {
        let mut publisher =
            publisher_of(&node, TypeDescriptor { size: u64::MAX, shape, ..descriptor::<Words>() });
        let error = publisher.send(Untyped::new(&bytes(0, 56))).expect_err("it is too short");
        assert!(matches!(error, SendError::Length { .. }), "{error}");
    }
}

#[test]
fn a_subscriber_that_names_a_type_takes_no_other() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let _publisher = inline().publisher(&nodes[0], Overflow::Block);
    let topic = nodes[1].topic_dyn("topic").message_type(descriptor::<Level>());
    let error = topic.subscriber().expect_err("it is another type");
    let TopicError::TypeMismatch { refused, .. } = &error else { panic!("{error}") };
    assert_eq!(&*refused.node_name, "sender");
    assert_eq!(refused.difference.as_ref().map(|difference| difference.what.as_str()), Some("name"));
    let topic = nodes[1].topic_dyn("topic").message_type(descriptor::<Words>());
    assert_eq!(topic.subscriber().expect("it is the same type").publishers(), 1);
}

#[test]
fn a_typed_subscriber_takes_no_other() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let mut other = descriptor::<Level>();
    other.fields[1] = Field { type_name: "i32".into(), ..other.fields[1].clone() };
    let mut publisher = publisher_of(&nodes[0], other);
    let error = nodes[1].topic::<Level>("topic").subscriber().expect_err("a field differs");
    assert!(error.to_string().contains("field `gauge`"), "{error}");
    publisher.event_timeout(PATIENCE).expect("waiting succeeds").expect("it was refused");
    assert_eq!((publisher.subscribers(), publisher.refusals().len()), (0, 1));
}
