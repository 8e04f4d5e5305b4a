//! The fear: somebody who passes messages on is replaced by another, and what is lost between the two nobody knows, or what the first has
//! passed on comes again, or before what is still to be read of it.

use std::time::{Duration, SystemTime};

use tidepost::{
    Copied, Event, Message, Node, Overflow, Publisher, Relayed, SendError, Subscriber, TopicError, Trust,
    TypeDescriptor, Untyped,
};

use crate::stage::{Domain, PATIENCE, until};

fn publisher(node: &Node, overflow: Overflow) -> Publisher<u64> {
    node.topic("t").relaying().publisher(overflow).expect("the topic is ours")
}

/// Passes on messages of one origin, which are their numbers.
fn pass(publisher: &mut Publisher<u64>, origin: u64, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let relayed = Relayed { origin: [origin; 3], number, ..Relayed::NOBODY };
        publisher.relay(&relayed, &number).expect("there is room");
    }
}

/// The next messages, of which there are so many and no more, and how many are missing before each.
fn received<B: Trust>(subscriber: &mut Subscriber<u64, B>, count: usize) -> Vec<(u64, u64)> {
    let all = (0..count).map(|_| {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        (*sample, sample.lost())
    });
    let all = all.collect();
    assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
    all
}

/// Nobody has been received from yet, so that nothing is missing before the first.
fn with_nothing_missing(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    numbers.into_iter().map(|number| (number, 0)).collect()
}

fn take_over<B: Trust>(nodes: [&Node; 2], subscriber: &mut Subscriber<u64, B>) {
    let mut first = publisher(nodes[0], Overflow::Block);
    pass(&mut first, 1, 5..8);
    assert_eq!(received(subscriber, 3), with_nothing_missing(5..8));
    // Gaps are told to those who look.
    while subscriber.try_event().is_some() {}
    drop(first);
    let mut second = publisher(nodes[1], Overflow::Block);
    pass(&mut second, 1, 3..9);
    pass(&mut second, 2, [100]);
    pass(&mut second, 1, [9, 13]);
    assert_eq!(received(subscriber, 4), [(8, 0), (100, 0), (9, 0), (13, 3)]);
    assert_eq!(subscriber.lost(), 3);
    let gaps = std::iter::from_fn(|| subscriber.try_event()).filter_map(|event| match event {
        Event::Gap { lost, .. } => Some(lost),
        _ => None,
    });
    assert_eq!(gaps.sum::<u64>(), 3);
}

#[test]
fn what_is_missing_between_two_is_counted_and_nothing_comes_twice() {
    let domain = Domain::new();
    let nodes = [domain.node("first"), domain.node("second")];
    take_over(nodes.each_ref(), &mut nodes[1].topic("t").subscriber().expect("the types agree"));
    let mut copying: Subscriber<u64, Copied> =
        nodes[1].topic("t").copied().subscriber().expect("the types agree");
    take_over(nodes.each_ref(), &mut copying);
}

#[test]
fn what_is_still_to_be_read_of_the_one_before_comes_first() {
    let domain = Domain::new();
    let (first, second, third) = (domain.node("first"), domain.node("second"), domain.node("third"));
    let mut subscriber = third.topic("t").subscriber().expect("the types agree");
    // Further ones, so that it is not by their places that they are read in this order.
    let mut others = [7, 8, 9].map(|origin| (origin, publisher(&first, Overflow::Block)));
    let mut before = publisher(&first, Overflow::Block);
    let mut after = publisher(&second, Overflow::Block);
    for (origin, other) in &mut others {
        pass(other, *origin, 1000..1002);
    }
    pass(&mut before, 1, 0..200);
    pass(&mut after, 1, 200..400);
    until("all are there", || subscriber.publishers() == 5);
    let all = received(&mut subscriber, 406);
    let ours: Vec<(u64, u64)> = all.into_iter().filter(|(number, _)| *number < 1000).collect();
    assert_eq!(ours.len(), 400);
    assert!(ours.is_sorted() && ours.iter().all(|(_, lost)| *lost == 0), "{ours:?}");
}

/// What was lost here is not counted again as missing in the numbers.
#[test]
fn what_is_lost_here_is_counted_once() {
    let domain = Domain::new();
    let nodes = [domain.node("first"), domain.node("second")];
    let mut subscriber: Subscriber<u64> = nodes[1].topic("t").subscriber().expect("the types agree");
    let topic = nodes[0].topic("t").depth(8).relaying();
    let mut lossy: Publisher<u64> = topic.publisher(Overflow::DropOldest).expect("the topic is ours");
    pass(&mut lossy, 1, 0..1);
    assert_eq!(received(&mut subscriber, 1), [(0, 0)]);
    pass(&mut lossy, 1, (1..100).filter(|number| number % 10 != 0));
    let (mut due, mut got) = (1, 0);
    while let Some(sample) = subscriber.try_recv().expect("receiving succeeds") {
        assert_eq!(*sample, due + sample.lost());
        (due, got) = (*sample + 1, got + 1);
    }
    assert_eq!((due, subscriber.lost()), (100, 99 - got));
}

fn wait_behind_repeated<B: Trust>(nodes: &[Node; 2], mut subscriber: Subscriber<u64, B>) {
    let mut first = publisher(&nodes[0], Overflow::Block);
    pass(&mut first, 1, 0..10);
    received(&mut subscriber, 10);
    let mut second = publisher(&nodes[0], Overflow::Block);
    let sending = std::thread::spawn(move || {
        // More than the ring takes, so that what is passed over has to make room.
        for _ in 0..3000 {
            pass(&mut second, 1, 0..10);
        }
        pass(&mut second, 1, 10..11);
        second
    });
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert_eq!((*sample, sample.lost()), (10, 0));
    drop(sending.join().expect("it does not panic"));
}

#[test]
fn who_waits_is_not_kept_awake_by_what_has_come_before() {
    let domain = Domain::new();
    let nodes = [domain.node("first"), domain.node("second")];
    wait_behind_repeated(&nodes, nodes[1].topic("t").subscriber().expect("the types agree"));
    wait_behind_repeated(&nodes, nodes[1].topic("t").copied().subscriber().expect("the types agree"));
}

/// The fear: who passes messages on knows their headers only when it runs, and the header is not what its sender wrote.
#[test]
fn time_and_header_are_passed_on_with_a_message() {
    let domain = Domain::new();
    let node = domain.node("n");
    let mut whole = node.topic::<u64>("t").header::<u32>().subscriber().expect("the types agree");
    let mut plain = node.topic_dyn("t").subscriber().expect("the name is a topic's");
    let header_type = <u32 as Message>::descriptor();
    let topic = || node.topic_dyn("t").message_type(<u64 as Message>::descriptor()).timestamps();
    let mut publisher = topic()
        .relaying()
        .header_type(header_type.clone())
        .publisher(Overflow::Block)
        .expect("the topic is ours");
    let sent_at = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
    let header = 9_u32.to_ne_bytes();
    let relayed = Relayed { sent_at: Some(sent_at), header: Some(&header), ..Relayed::NOBODY };
    let message = 5_u64.to_ne_bytes();
    let message = Untyped::new(&message);
    publisher.relay(&relayed, message).expect("there is room");
    let sample = whole.try_recv().expect("receiving succeeds").expect("it was sent");
    assert_eq!((*sample, sample.header::<u32>(), sample.timestamp()), (5, Some(&9), Some(sent_at)));
    let sample = plain.try_recv().expect("receiving succeeds").expect("it was sent");
    assert_eq!((sample.header::<u32>(), sample.timestamp()), (None, Some(sent_at)), "it declared none");
    assert_eq!(sample.header_dyn(), Some((&header_type, &header[..])));
    // What is sent otherwise has no number, and so has not come before.
    publisher.send(message).expect("there is room");
    assert_eq!(
        whole.try_recv().expect("receiving succeeds").map(|sample| sample.header().copied()),
        Some(Some(0_u32))
    );
    let bytes = 6_u64.to_ne_bytes();
    let pieces = [&bytes[..3], &[], &bytes[3..]];
    publisher.relay_pieces(&relayed, &pieces, PATIENCE).expect("there is room");
    let sample = whole.try_recv().expect("receiving succeeds").expect("it was sent");
    assert_eq!((*sample, sample.header::<u32>()), (6, Some(&9)));
    let refused = publisher.relay_pieces(&relayed, &pieces[..1], PATIENCE);
    assert!(matches!(refused, Err(SendError::Length { given: 3, .. })), "{refused:?}");
    let short = Relayed { header: Some(&header[..3]), ..relayed };
    assert!(matches!(publisher.relay(&short, message), Err(SendError::Header { .. })));
    let mut plain = topic().publisher(Overflow::Block).expect("the topic is ours");
    assert!(matches!(plain.relay(&Relayed::NOBODY, message), Err(SendError::NotRelaying { .. })));
    // An alignment that is none, of a header that somebody tells of.
    let odd = TypeDescriptor { align: 3, ..header_type };
    let odd = topic().header_type(odd).publisher(Overflow::Block);
    assert!(matches!(odd, Err(TopicError::Alignment { align: 3, .. })), "{odd:?}");
}
