//! The fear: a program that wants to end cannot, because one of its threads waits for ever; or it ends, and what it had
//! sent is gone.

use std::time::Duration;

use tidepost::{
    CloseError, EndpointError, Event, Node, Overflow, Payload, Publisher, ReceiveError, SendError,
    Subscriber, TopicError, WaitError,
};

use crate::topics::stage::{
    Domain, Kind, PATIENCE, PAUSE, Words, Work, inline, meet, start, until, with_each_kind, words,
};

/// A time that is over at once.
const SHORT: Duration = Duration::from_millis(1);

/// Every call that waits, each in a thread of its own, on endpoints of this node; what they come to.
fn wait_in_every_way(node: &Node) -> Vec<Work<String>> {
    let subscriber = || inline().subscriber(node);
    let publisher = || inline().publisher(node, Overflow::Block);
    let receive = receive_in_every_way([(); 5].map(|()| subscriber()));
    let (mut waiting, mut listening) = (publisher(), publisher());
    while listening.try_event().is_some() {}
    let mut hearing = subscriber();
    let send: Vec<Work<String>> = vec![
        start(move || describe(waiting.wait_for_subscribers(100, PATIENCE))),
        start(move || wait_for_the_last_event(|| listening.event_timeout(PATIENCE))),
        start(move || wait_for_the_last_event(|| hearing.event_timeout(PATIENCE))),
    ];
    receive.into_iter().chain(send).collect()
}

fn receive_in_every_way(subscribers: [Subscriber<Words>; 5]) -> Vec<Work<String>> {
    let [mut first, mut second, mut third, mut fourth, mut fifth] = subscribers;
    vec![
        start(move || describe(first.recv().map(drop))),
        start(move || describe(second.recv_timeout(PATIENCE).map(drop))),
        start(move || describe(third.recv_many(3).map(drop))),
        start(move || {
            describe(futures_lite::future::block_on(async { fourth.recv_async().await.map(drop) }))
        }),
        start(move || {
            let watched = fifth.as_fd().expect("descriptors are left").try_clone_to_owned();
            wait_readable(&watched.expect("descriptors are left"));
            while fifth.try_recv().expect("an empty topic is no error").is_some() {}
            describe(fifth.recv_timeout(PATIENCE).map(drop))
        }),
    ]
}

/// Waits until it is readable; that is for its owner to explain.
fn wait_readable(descriptor: &std::os::fd::OwnedFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(PATIENCE).expect("it is short");
    let ready = poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&timeout));
    assert_eq!(ready, Ok(1));
}

/// Passes over the events of those who join.
fn wait_for_the_last_event(mut wait: impl FnMut() -> Result<Option<Event>, WaitError>) -> String {
    loop {
        match wait() {
            Ok(Some(_)) => {}
            other => return describe(other),
        }
    }
}

fn describe<R: std::fmt::Debug, E: std::fmt::Display>(outcome: Result<R, E>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    }
}

/// Every call that waits for subscribers which do not read, each in a thread of its own; what they come to.
fn send_in_every_way(domain: &Domain, node: &Node) -> Vec<(Work<String>, Subscriber<Words>)> {
    let ways: [fn(Publisher<Words>) -> String; 4] = [
        |mut publisher| describe(publisher.send(&words(9))),
        |mut publisher| describe(publisher.send_timeout(&words(9), PATIENCE)),
        |mut publisher| describe(publisher.send_many([&words(9), &words(10)])),
        |publisher| describe(publisher.close(PATIENCE)),
    ];
    let idle = domain.node("reads nothing");
    let stuck = ways.into_iter().enumerate().map(|(index, way)| {
        let name = format!("stuck-{index}");
        let topic = node.topic::<Words>(&name).depth(8);
        let mut publisher = topic.publisher(Overflow::Block).expect("it is ours");
        let subscriber = idle.topic(&name).subscriber().expect("the types agree");
        meet(&mut publisher, &subscriber);
        while publisher.send_timeout(&words(0), SHORT).is_ok() {}
        (start(move || way(publisher)), subscriber)
    });
    stuck.collect()
}

/// A publisher that waits for a subscriber which does not read.
fn blocked_publisher(domain: &Domain, node: &Node) -> (Work<Option<SendError>>, Subscriber<Words>) {
    let mut publisher = node.topic::<Words>("full").depth(8).publisher(Overflow::Block).expect("it is ours");
    let idle = domain.node("idle").topic::<Words>("full").subscriber().expect("the types agree");
    meet(&mut publisher, &idle);
    let handle = publisher.handle();
    let sending = start(move || (0..1000).find_map(|number| publisher.send(&words(number)).err()));
    until("the publisher waits for it", || !handle.blocked_by().is_empty());
    assert_eq!(&*handle.blocked_by()[0].node_name, "idle");
    (sending, idle)
}

#[test]
fn a_shutdown_ends_every_wait() {
    let domain = Domain::new();
    shut_down(&domain, domain.node("ending"));
}

#[test]
fn a_shutdown_ends_every_wait_without_a_thread() {
    let domain = Domain::new();
    shut_down(&domain, domain.node_without_thread("ending"));
}

fn shut_down(domain: &Domain, node: Node) {
    let waiting = wait_in_every_way(&node);
    let stuck = send_in_every_way(domain, &node);
    let (sending, _idle) = blocked_publisher(domain, &node);
    // They have time to fall asleep; who has not by then ends as well.
    std::thread::sleep(PAUSE * 20);
    node.shutdown();
    // Who waits as a future, on a descriptor or not at all is told by whoever serves the node.
    until("everybody is told", || {
        node.dispatch().expect("dispatching succeeds");
        waiting.iter().all(Work::has_finished) && stuck.iter().all(|(work, _)| work.has_finished())
    });
    for (index, work) in waiting.into_iter().enumerate() {
        assert_eq!(work.finish(), "topic `topic` was closed here", "wait {index}");
    }
    for (index, (work, _idle)) in stuck.into_iter().enumerate() {
        let closed = format!("topic `stuck-{index}` was closed here; 0 of this call were sent");
        assert_eq!(work.finish(), closed, "way {index}");
    }
    let error = sending.finish().expect("it had no room");
    assert!(matches!(error, SendError::Closed { sent: 0, .. }), "{error}");
}

#[test]
fn after_a_shutdown_what_arrived_is_received_and_nothing_is_made() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let mut publisher = inline().publisher(&nodes[0], Overflow::Block);
    let mut subscriber = inline().subscriber(&nodes[1]);
    meet(&mut publisher, &subscriber);
    inline().send(&mut publisher, 0..4);
    nodes.iter().for_each(Node::shutdown);
    assert_eq!(*subscriber.try_recv().expect("it arrived").expect("it arrived"), words(0));
    assert_eq!(*subscriber.recv().expect("it arrived"), words(1));
    let batch = subscriber.recv_many(5).expect("they arrived");
    assert_eq!(batch.copied().collect::<Vec<_>>(), [words(2), words(3)]);
    assert!(subscriber.try_recv().expect("an empty topic is no error").is_none());
    let error = subscriber.recv().expect_err("it would wait");
    assert_eq!(error.to_string(), "topic `topic` was closed here");
    let error = publisher.send(&words(9)).expect_err("it sends no more");
    assert!(matches!(&error, SendError::Closed { channel, sent: 0 } if channel.name() == "topic"), "{error}");
    let shut_down = TopicError::Endpoint { topic: "topic".into(), source: EndpointError::ShutDown };
    assert_eq!(publisher.try_clone().expect_err("the node is shut down"), shut_down);
    let topic = nodes[1].topic::<Words>("topic");
    assert_eq!(topic.clone().subscriber().expect_err("the node is shut down"), shut_down);
    assert_eq!(topic.publisher(Overflow::Latest).expect_err("the node is shut down"), shut_down);
}

#[test]
fn a_shutdown_of_one_node_is_not_that_of_another() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let mut publisher = inline().publisher(&nodes[0], Overflow::Block);
    let mut subscriber = inline().subscriber(&nodes[1]);
    meet(&mut publisher, &subscriber);
    domain.node("third").shutdown();
    nodes[1].shutdown();
    inline().send(&mut publisher, 0..3);
    assert_eq!(publisher.subscribers(), 1);
    let received = (0..3).map(|_| *subscriber.try_recv().expect("it arrived").expect("it arrived"));
    assert_eq!(received.collect::<Vec<_>>(), [0, 1, 2].map(words));
}

#[test]
fn a_cancelled_subscriber_waits_no_more_and_others_do() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = inline().publisher(&node, Overflow::Block);
    let subscribers = [(); 5].map(|()| inline().subscriber(&node));
    let mut other = inline().subscriber(&node);
    let handles: Vec<_> = subscribers.iter().map(Subscriber::handle).collect();
    let waiting = receive_in_every_way(subscribers);
    std::thread::sleep(PAUSE * 20);
    handles.iter().for_each(tidepost::SubscriberHandle::cancel);
    for (index, work) in waiting.into_iter().enumerate() {
        assert_eq!(work.finish(), "topic `topic` was closed here", "wait {index}");
    }
    let receiving = start(move || other.recv_timeout(PATIENCE).map(|sample| sample.map(|sample| *sample)));
    inline().send(&mut publisher, 0..1);
    assert_eq!(receiving.finish(), Ok(Some(words(0))));
}

#[test]
fn a_cancelled_subscriber_receives_what_arrived() {
    let domain = Domain::new();
    let node = domain.node("both");
    let mut publisher = inline().publisher(&node, Overflow::Block);
    let mut subscriber = inline().subscriber(&node);
    inline().send(&mut publisher, 0..3);
    subscriber.handle().cancel();
    assert_eq!(*subscriber.recv().expect("it arrived"), words(0));
    assert_eq!(*subscriber.try_recv().expect("it arrived").expect("it arrived"), words(1));
    let received =
        futures_lite::future::block_on(async { subscriber.recv_async().await.map(|sample| *sample) });
    assert_eq!(received, Ok(words(2)));
    assert!(subscriber.try_recv().expect("an empty topic is no error").is_none());
    assert!(matches!(subscriber.recv_timeout(PATIENCE), Err(ReceiveError::Closed { .. })));
}

#[test]
fn a_cancelled_publisher_waits_no_more_and_sends_no_more() {
    let domain = Domain::new();
    let node = domain.node("sender");
    let (mut publisher, mut other) =
        (inline().publisher(&node, Overflow::Block), inline().publisher(&node, Overflow::Block));
    let mut subscriber = inline().subscriber(&domain.node("receiver"));
    meet(&mut publisher, &subscriber);
    let handle = publisher.handle();
    let blocked = start(move || {
        let error = (0..1000).find_map(|number| publisher.send(&words(number)).err());
        let after = [
            describe(publisher.loan().map(drop)),
            describe(publisher.send_timeout(&words(0), PATIENCE)),
            describe(publisher.send_many([&words(0)])),
            describe(publisher.wait_for_subscribers(2, PATIENCE)),
        ];
        (error, after)
    });
    until("it waits for the subscriber", || !handle.blocked_by().is_empty());
    handle.cancel();
    let (error, after) = blocked.finish();
    assert!(matches!(error, Some(SendError::Closed { sent: 0, .. })), "{error:?}");
    after.iter().for_each(|text| assert!(text.starts_with("topic `topic` was closed here"), "{text}"));
    inline().send(&mut other, 0..1);
    for _ in 0..9 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("nine were sent");
        assert_eq!(*sample, words(sample.sequence()));
    }
}

#[test]
fn a_cancelled_wait_for_events_ends() {
    let domain = Domain::new();
    let node = domain.node("both");
    let (mut publisher, mut subscriber) =
        (inline().publisher(&node, Overflow::Block), inline().subscriber(&node));
    let handles = (publisher.handle(), subscriber.handle());
    let waiting = [
        start(move || wait_for_the_last_event(|| publisher.event_timeout(PATIENCE))),
        start(move || wait_for_the_last_event(|| subscriber.event_timeout(PATIENCE))),
    ];
    std::thread::sleep(PAUSE * 20);
    handles.0.cancel();
    handles.1.cancel();
    waiting.into_iter().for_each(|work| assert_eq!(work.finish(), "topic `topic` was closed here"));
}

#[test]
fn closing_waits_for_readers() {
    with_each_kind!(close_with_a_reader);
}

fn close_with_a_reader<T: Payload + ?Sized>(kind: &Kind<T>) {
    let domain = Domain::new();
    let mut publisher = kind.publisher(&domain.node("sender"), Overflow::Block);
    let mut subscriber = kind.subscriber(&domain.node("receiver"));
    meet(&mut publisher, &subscriber);
    kind.send(&mut publisher, 0..6);
    let closing = start(move || publisher.close(PATIENCE));
    for number in 0..6 {
        assert!(!closing.has_finished(), "{}: message {number} was not read", kind.name);
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        kind.check(&sample, number);
    }
    // Who asks for more than there is says that it has read everything.
    until("it is closed", || {
        assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
        closing.has_finished()
    });
    assert_eq!(closing.finish(), Ok(()));
}

/// What has been read comes free for nobody as long as it is kept for joiners: that is not what closing waits for.
#[test]
fn closing_waits_for_readers_and_not_for_what_is_kept() {
    let domain = Domain::new();
    let (sending, receiving) = (domain.node("sender"), domain.node("receiver"));
    for round in 0..60 {
        let topic = sending.topic::<Words>("kept").depth(64).history(8);
        let mut publisher = topic.publisher(Overflow::Block).expect("the topic is ours");
        let mut subscriber = receiving.topic::<Words>("kept").subscriber().expect("the types agree");
        publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
        inline().send(&mut publisher, 0..6);
        let closing = start(move || publisher.close(PATIENCE));
        // Read while the publisher looks, while it falls asleep, or while it is asleep.
        std::thread::sleep(PAUSE / 30 * round);
        let read =
            (0..6).filter(|_| subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").is_some());
        assert_eq!(read.count(), 6);
        // It says that it has, and nothing more.
        assert!(subscriber.recv_timeout(Duration::ZERO).expect("receiving succeeds").is_none());
        assert_eq!(closing.finish(), Ok(()), "round {round}");
    }
}

/// A publisher whose messages have been read is told so, however busy another keeps the reader.
#[test]
fn closing_does_not_wait_for_others_to_fall_silent() {
    let domain = Domain::new();
    let receiving = domain.node("receiver");
    let publisher = |name| {
        let node = domain.node(name);
        node.topic::<Words>("busy").depth(1024).publisher(Overflow::Block).expect("the topic is ours")
    };
    let mut subscriber = receiving.topic::<Words>("busy").subscriber().expect("the types agree");
    let (mut brief, mut busy) = (publisher("brief"), publisher("busy"));
    brief.wait_for_subscribers(1, PATIENCE).expect("it is there");
    busy.wait_for_subscribers(1, PATIENCE).expect("it is there");
    until("the reader knows both", || subscriber.publishers() == 2);
    inline().send(&mut brief, 0..3);
    inline().send(&mut busy, 0..600);
    let closing = start(move || brief.close(PATIENCE));
    // The reader never finds nothing.
    for _ in 0..500 {
        assert!(subscriber.try_recv().expect("receiving succeeds").is_some(), "there are more");
    }
    assert_eq!(closing.finish(), Ok(()));
}

#[test]
fn closing_in_vain_names_who_has_not_read() {
    let domain = Domain::new();
    let mut publisher = inline().publisher(&domain.node("sender"), Overflow::Block);
    let mut diligent = inline().subscriber(&domain.node("diligent"));
    let lazy = inline().subscriber(&domain.node("lazy"));
    let _observer = inline().topic(&domain.node("observer")).observer().subscriber().expect("it is let in");
    publisher.wait_for_subscribers(3, PATIENCE).expect("they come");
    inline().send(&mut publisher, 0..3);
    for number in 0..3 {
        let sample = diligent.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it comes");
        assert_eq!(*sample, words(number));
    }
    let closing = start(move || publisher.close(SHORT * 100));
    until("it gives up", || {
        assert!(diligent.try_recv().expect("receiving succeeds").is_none());
        closing.has_finished()
    });
    let error = closing.finish().expect_err("one has not read anything");
    let CloseError::Timeout { unread, .. } = &error else { panic!("{error}") };
    let unread: Vec<_> = unread.iter().map(|reader| (reader.id, &*reader.node_name)).collect();
    assert_eq!(unread, [(lazy.id(), "lazy")]);
    assert!(error.to_string().contains("`lazy`"), "{error}");
}

#[test]
fn closing_waits_for_nobody_who_may_lose_messages() {
    let domain = Domain::new();
    let node = domain.node("both");
    for overflow in [Overflow::DropOldest, Overflow::Latest] {
        let mut publisher = inline().publisher(&node, overflow);
        let _subscriber = inline().subscriber(&node);
        inline().send(&mut publisher, 0..3);
        assert_eq!(publisher.close(Duration::ZERO), Ok(()));
    }
    let mut publisher = inline().publisher(&node, Overflow::Block);
    inline().send(&mut publisher, 0..3);
    assert_eq!(publisher.close(Duration::ZERO), Ok(()));
}

#[test]
fn a_publisher_that_is_dropped_loses_nothing() {
    for overflow in [Overflow::Block, Overflow::Fail, Overflow::DropOldest] {
        with_each_kind!(drop_with_messages, overflow);
    }
}

fn drop_with_messages<T: Payload + ?Sized>(kind: &Kind<T>, overflow: Overflow) {
    let domain = Domain::new();
    let mut publisher: Publisher<T> = kind.publisher(&domain.node("sender"), overflow);
    let mut subscriber = kind.subscriber(&domain.node("receiver"));
    meet(&mut publisher, &subscriber);
    kind.send(&mut publisher, 0..6);
    drop(publisher);
    until("its leaving is noticed", || subscriber.publishers() == 0);
    for number in 0..6 {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!((sample.sequence(), sample.lost()), (number, 0));
        kind.check(&sample, number);
    }
    assert!(subscriber.try_recv().expect("an empty topic is no error").is_none());
}
