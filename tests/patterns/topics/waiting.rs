//! The fear: somebody waits – on a descriptor, as a future, in a call – for a message that is already there, and nobody
//! wakes it; or it is woken for ever for nothing.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_io::Timer;
use futures_lite::FutureExt;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use tidepost::{Event, Node, Overflow, Publisher, Subscriber};
use tokio::io::unix::AsyncFd;

use crate::topics::stage::{Domain, PATIENCE, PAUSE, Words, Work, inline, start, until, words};

/// Somebody else's epoll loop.
struct Watch(OwnedFd);

impl Watch {
    fn new() -> Self {
        Self(epoll::create(CreateFlags::CLOEXEC).expect("descriptors are left"))
    }

    fn of(subscriber: &mut Subscriber<Words>) -> Self {
        let watch = Self::new();
        watch.add(subscriber.as_fd().expect("descriptors are left"), 0);
        watch
    }

    fn add(&self, source: impl AsFd, token: u64) {
        let watched = epoll::add(&self.0, source, EventData::new_u64(token), EventFlags::IN);
        watched.expect("it can be watched");
    }

    /// What is readable, waiting no longer than `timeout`.
    fn wait(&self, timeout: Duration) -> Vec<u64> {
        let timeout = Timespec::try_from(timeout).expect("it is short");
        let mut events = Vec::with_capacity(8);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.0, spare, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => events.iter().map(|event| event.data.u64()).collect(),
            Err(error) => panic!("{error}"),
        }
    }

    fn is_ready(&self) -> bool {
        !self.wait(Duration::ZERO).is_empty()
    }

    /// Takes everything until nothing is readable any more: who rang for the last message may do so a little later.
    fn settle(&self, subscriber: &mut Subscriber<Words>, next: &mut u64) {
        until("nothing is readable", || {
            take_all(subscriber, next);
            !self.is_ready()
        });
    }

    fn expect_ready(&self) {
        assert!(!self.wait(PATIENCE).is_empty(), "nobody made it readable");
    }
}

/// Everything that is there; that nothing is left has then been seen.
fn take_all(subscriber: &mut Subscriber<Words>, next: &mut u64) {
    while let Some(sample) = subscriber.try_recv().expect("receiving succeeds") {
        assert_eq!((sample.sequence(), *sample), (*next, words(*next)));
        *next += 1;
    }
}

/// A publisher and a subscriber in a node each, let in and settled.
fn pair(domain: &Domain) -> (Publisher<Words>, Subscriber<Words>) {
    let publisher = inline().publisher(&domain.node("sender"), Overflow::Block);
    (publisher, inline().subscriber(&domain.node("receiver")))
}

/// Sends so many messages, with pauses in which the receivers fall asleep.
fn send_with_pauses(mut publisher: Publisher<Words>, messages: u64, every: u64) -> Work<Publisher<Words>> {
    start(move || {
        for number in 0..messages {
            publisher.send(&words(number)).expect("a blocking send succeeds");
            if number % every == 0 {
                std::thread::sleep(PAUSE);
            }
        }
        publisher
    })
}

#[test]
fn a_descriptor_is_readable_when_there_is_a_message() {
    let domain = Domain::new();
    let (mut publisher, mut subscriber) = pair(&domain);
    let mut next = 0;
    inline().send(&mut publisher, 0..1);
    let watch = Watch::of(&mut subscriber);
    assert!(watch.is_ready(), "the message was there before");
    watch.settle(&mut subscriber, &mut next);
    for number in 1..100 {
        inline().send(&mut publisher, number..number + 1);
        watch.expect_ready();
        watch.settle(&mut subscriber, &mut next);
        assert_eq!(next, number + 1);
    }
}

#[test]
fn a_descriptor_stays_readable_while_messages_are_left() {
    let domain = Domain::new();
    let (mut publisher, mut subscriber) = pair(&domain);
    let watch = Watch::of(&mut subscriber);
    inline().send(&mut publisher, 0..3);
    watch.expect_ready();
    for _ in 0..3 {
        assert!(watch.is_ready());
        assert!(subscriber.try_recv().expect("receiving succeeds").is_some());
    }
    watch.settle(&mut subscriber, &mut 3);
}

#[test]
fn a_descriptor_is_the_same_each_time() {
    let domain = Domain::new();
    let (mut publisher, mut subscriber) = pair(&domain);
    let watch = Watch::of(&mut subscriber);
    let stat = |subscriber: &mut Subscriber<Words>| {
        use std::os::fd::AsRawFd;
        subscriber.as_fd().expect("it is there").as_raw_fd()
    };
    assert_eq!(stat(&mut subscriber), stat(&mut subscriber));
    inline().send(&mut publisher, 0..1);
    watch.expect_ready();
}

#[test]
fn a_loop_that_asks_for_no_events_is_not_woken_for_them_again() {
    let domain = Domain::new();
    let (_publisher, mut subscriber) = pair(&domain);
    let watch = Watch::of(&mut subscriber);
    // That somebody joined is an event which nobody asks for.
    watch.settle(&mut subscriber, &mut 0);
}

#[test]
fn presence_makes_a_descriptor_readable() {
    let domain = Domain::new();
    let nodes = ["sender", "receiver"].map(|name| domain.node(name));
    let mut subscriber = inline().subscriber(&nodes[1]);
    let watch = Watch::of(&mut subscriber);
    watch.settle(&mut subscriber, &mut 0);
    let mut publisher = inline().publisher(&nodes[0], Overflow::Block);
    let mut next = 0;
    assert!(matches!(next_event(&watch, &mut subscriber, &mut next), Event::Joined(_)));
    inline().send(&mut publisher, 0..1);
    watch.expect_ready();
    take_all(&mut subscriber, &mut next);
    assert_eq!(next, 1);
    drop(publisher);
    assert!(matches!(next_event(&watch, &mut subscriber, &mut next), Event::Left(_)));
    take_all(&mut subscriber, &mut next);
    assert!(subscriber.try_event().is_none());
}

/// Waits on the descriptor alone until there is an event.
fn next_event(watch: &Watch, subscriber: &mut Subscriber<Words>, next: &mut u64) -> Event {
    loop {
        watch.expect_ready();
        if let Some(event) = subscriber.try_event() {
            return event;
        }
        take_all(subscriber, next);
    }
}

#[test]
fn cancelling_makes_a_descriptor_readable_for_good() {
    let domain = Domain::new();
    let (_publisher, mut subscriber) = pair(&domain);
    let watch = Watch::of(&mut subscriber);
    watch.settle(&mut subscriber, &mut 0);
    subscriber.handle().cancel();
    for _ in 0..3 {
        assert!(watch.is_ready());
        assert!(subscriber.try_recv().expect("an empty topic is no error").is_none());
    }
}

#[test]
fn a_loop_over_a_descriptor_misses_nothing() {
    let domain = Domain::new();
    let (publisher, mut subscriber) = pair(&domain);
    let sending = send_with_pauses(publisher, 4000, 5);
    let watch = Watch::of(&mut subscriber);
    let mut next = 0;
    while next < 4000 {
        watch.expect_ready();
        take_all(&mut subscriber, &mut next);
    }
    drop(sending.finish());
}

/// Receives numbered messages as a task.
async fn receive(subscriber: &mut Subscriber<Words>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let sample = subscriber.recv_async().await.expect("receiving succeeds");
        assert_eq!((sample.sequence(), *sample), (number, words(number)));
    }
}

/// The same over a descriptor that tokio watches.
// What follows after `new` is for those who can prove more than a test without unsafe code may.
#[allow(deprecated)]
async fn receive_over_tokio(subscriber: &mut Subscriber<Words>, messages: u64) {
    let descriptor = subscriber.as_fd().map(|descriptor| descriptor.try_clone_to_owned());
    let descriptor = descriptor.expect("descriptors are left").expect("descriptors are left");
    let watched = AsyncFd::new(descriptor).expect("tokio can watch it");
    let mut next = 0;
    while next < messages {
        watched.readable().await.expect("tokio waits").clear_ready();
        take_all(subscriber, &mut next);
    }
}

/// The same over a descriptor that async-io watches.
async fn receive_over_async_io(subscriber: &mut Subscriber<Words>, messages: u64) {
    let descriptor = subscriber.as_fd().map(|descriptor| descriptor.try_clone_to_owned());
    let descriptor = descriptor.expect("descriptors are left").expect("descriptors are left");
    let watched = async_io::Async::new_nonblocking(descriptor).expect("async-io can watch it");
    let mut next = 0;
    while next < messages {
        watched.readable().await.expect("async-io waits");
        take_all(subscriber, &mut next);
    }
}

fn tokio_of_one_thread() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn tokio_of_two_threads() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// What a runtime comes to, in a thread of its own and so in time.
fn run<F: Future<Output = ()> + 'static>(
    task: impl FnOnce() -> F + Send + 'static,
    block_on: fn(F),
) -> Work<()> {
    start(move || block_on(task()))
}

fn on_tokio<F: Future<Output = ()>>(task: F) {
    tokio_of_one_thread().expect("a runtime can be made").block_on(task);
}

fn on_many_threads_of_tokio<F: Future<Output = ()> + Send + 'static>(task: F) {
    let runtime = tokio_of_two_threads().expect("a runtime can be made");
    runtime.block_on(runtime.spawn(task)).expect("the task does not panic");
}

const MESSAGES: u64 = 1000;

/// A subscriber to which so many messages are being sent, with pauses.
fn receiver_in_a_stream() -> (Domain, Work<Publisher<Words>>, Subscriber<Words>) {
    let domain = Domain::new();
    let (publisher, subscriber) = pair(&domain);
    (domain, send_with_pauses(publisher, MESSAGES, 2), subscriber)
}

#[test]
fn a_future_is_woken_on_tokio() {
    let (_domain, sending, mut subscriber) = receiver_in_a_stream();
    run(move || async move { receive(&mut subscriber, 0..MESSAGES).await }, on_tokio).finish();
    drop(sending.finish());
}

#[test]
fn a_future_is_woken_on_many_threads_of_tokio() {
    let (_domain, sending, mut subscriber) = receiver_in_a_stream();
    let task = move || async move { receive(&mut subscriber, 0..MESSAGES).await };
    run(task, on_many_threads_of_tokio).finish();
    drop(sending.finish());
}

#[test]
fn a_future_is_woken_on_async_io() {
    let (_domain, sending, mut subscriber) = receiver_in_a_stream();
    run(move || async move { receive(&mut subscriber, 0..MESSAGES).await }, async_io::block_on).finish();
    drop(sending.finish());
}

#[test]
fn a_future_is_woken_without_any_reactor() {
    let (_domain, sending, mut subscriber) = receiver_in_a_stream();
    let task = move || async move { receive(&mut subscriber, 0..MESSAGES).await };
    run(task, futures_lite::future::block_on).finish();
    drop(sending.finish());
}

#[test]
fn tokio_may_watch_the_descriptor() {
    let (_domain, sending, mut subscriber) = receiver_in_a_stream();
    run(move || async move { receive_over_tokio(&mut subscriber, MESSAGES).await }, on_tokio).finish();
    drop(sending.finish());
}

#[test]
fn async_io_may_watch_the_descriptor() {
    let (_domain, sending, mut subscriber) = receiver_in_a_stream();
    let task = move || async move { receive_over_async_io(&mut subscriber, MESSAGES).await };
    run(task, async_io::block_on).finish();
    drop(sending.finish());
}

/// Subscribers that wait in every way there is, each of its own topic's messages.
fn all_ways(subscribers: [Subscriber<Words>; 7], messages: u64) -> Vec<Work<()>> {
    let [mut blocking, mut timed, mut watched, mut on_tokio_task, mut on_async_io, mut tokios, mut async_ios] =
        subscribers;
    let receive_one = move |number: u64, sample: tidepost::Sample<'_, Words>| {
        assert_eq!((sample.sequence(), *sample), (number, words(number)));
    };
    vec![
        start(move || {
            (0..messages)
                .for_each(|number| receive_one(number, blocking.recv().expect("receiving succeeds")));
        }),
        start(move || {
            for number in 0..messages {
                let sample = timed.recv_timeout(PATIENCE).expect("receiving succeeds");
                receive_one(number, sample.expect("more come"));
            }
        }),
        start(move || {
            let (watch, mut next) = (Watch::of(&mut watched), 0);
            while next < messages {
                watch.expect_ready();
                take_all(&mut watched, &mut next);
            }
        }),
        run(move || async move { receive(&mut on_tokio_task, 0..messages).await }, on_many_threads_of_tokio),
        run(move || async move { receive(&mut on_async_io, 0..messages).await }, async_io::block_on),
        run(move || async move { receive_over_tokio(&mut tokios, messages).await }, on_tokio),
        run(move || async move { receive_over_async_io(&mut async_ios, messages).await }, async_io::block_on),
    ]
}

#[test]
fn who_waits_in_different_ways_is_woken_all_the_same() {
    let domain = Domain::new();
    let nodes = ["first", "second"].map(|name| domain.node(name));
    let mut publisher = inline().publisher(&domain.node("sender"), Overflow::Block);
    let subscribers = std::array::from_fn(|index| inline().subscriber(&nodes[index % 2]));
    publisher.wait_for_subscribers(7, PATIENCE).expect("they are there");
    let receiving = all_ways(subscribers, 10_000);
    let sending = send_with_pauses(publisher, 10_000, 8);
    receiving.into_iter().for_each(Work::finish);
    drop(sending.finish());
}

/// Receives all messages, giving up after a short time again and again.
async fn receive_impatiently(subscriber: &mut Subscriber<Words>) {
    let mut given_up = 0;
    let mut next = 0;
    while next < MESSAGES {
        tokio::select! {
            sample = subscriber.recv_async() => {
                let sample = sample.expect("receiving succeeds");
                assert_eq!((sample.sequence(), *sample), (next, words(next)));
                next += 1;
            }
            () = tokio::time::sleep(Duration::from_micros(100)) => given_up += 1,
        }
    }
    assert!(given_up > 0, "there were pauses");
}

#[test]
fn a_future_that_is_dropped_loses_nothing() {
    let (_domain, sending, mut subscriber) = receiver_in_a_stream();
    run(move || async move { receive_impatiently(&mut subscriber).await }, on_tokio).finish();
    drop(sending.finish());
}

#[test]
fn a_future_that_is_dropped_on_async_io_loses_nothing() {
    let (_domain, sending, mut subscriber) = receiver_in_a_stream();
    let task = move || async move {
        let mut next = 0;
        while next < MESSAGES {
            let receive = async { Some(*subscriber.recv_async().await.expect("receiving succeeds")) };
            let give_up = async {
                Timer::after(Duration::from_micros(100)).await;
                None
            };
            if let Some(message) = receive.or(give_up).await {
                assert_eq!(message, words(next));
                next += 1;
            }
        }
    };
    run(task, async_io::block_on).finish();
    drop(sending.finish());
}

/// Polls a future once, and drops it.
fn try_once(subscriber: &mut Subscriber<Words>) {
    let mut future = std::pin::pin!(subscriber.recv_async());
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "nothing is there");
}

#[test]
fn ways_to_wait_may_follow_each_other() {
    let domain = Domain::new();
    let (mut publisher, mut subscriber) = pair(&domain);
    let mut next = 0;
    for round in 0..50 {
        try_once(&mut subscriber);
        inline().send(&mut publisher, next..next + 1);
        take_all(&mut subscriber, &mut next);
        assert_eq!(next, 3 * round + 1);
        try_once(&mut subscriber);
        let watch = Watch::of(&mut subscriber);
        inline().send(&mut publisher, next..next + 1);
        watch.expect_ready();
        take_all(&mut subscriber, &mut next);
        try_once(&mut subscriber);
        let sending = send_one_later(publisher, next);
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("one comes");
        assert_eq!(*sample, words(next));
        next += 1;
        publisher = sending.finish();
    }
}

/// Sends one message when the receiver has had time to fall asleep.
fn send_one_later(mut publisher: Publisher<Words>, number: u64) -> Work<Publisher<Words>> {
    start(move || {
        std::thread::sleep(PAUSE);
        inline().send(&mut publisher, number..number + 1);
        publisher
    })
}

/// A subscriber of a node without thread, and a publisher that sends to it with pauses.
fn receiver_without_thread() -> (Domain, Work<Publisher<Words>>, Node, Subscriber<Words>) {
    let domain = Domain::new();
    let publisher = inline().publisher(&domain.node("sender"), Overflow::Block);
    let node = domain.node_without_thread("receiver");
    let subscriber = inline().subscriber(&node);
    until("it is let in", || {
        node.dispatch().expect("it is served");
        subscriber.publishers() == 1
    });
    (domain, send_with_pauses(publisher, MESSAGES, 2), node, subscriber)
}

#[test]
fn a_blocking_call_serves_a_node_without_thread() {
    let (_domain, sending, _node, mut subscriber) = receiver_without_thread();
    for number in 0..MESSAGES {
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("more come");
        assert_eq!((sample.sequence(), *sample), (number, words(number)));
    }
    drop(sending.finish());
    let left = subscriber.event_timeout(PATIENCE).and_then(|_| subscriber.event_timeout(PATIENCE));
    assert!(matches!(left.expect("waiting succeeds"), Some(Event::Left(_))));
}

#[test]
fn a_loop_serves_a_node_without_thread() {
    let (_domain, sending, node, mut subscriber) = receiver_without_thread();
    let watch = Watch::of(&mut subscriber);
    watch.add(&node, 1);
    let mut next = 0;
    while next < MESSAGES {
        let ready = watch.wait(PATIENCE);
        assert!(!ready.is_empty(), "nobody made it readable");
        if ready.contains(&1) {
            node.dispatch().expect("dispatching succeeds");
        }
        if ready.contains(&0) {
            take_all(&mut subscriber, &mut next);
        }
    }
    drop(sending.finish());
}

#[test]
fn a_task_serves_a_node_without_thread() {
    let (_domain, sending, node, mut subscriber) = receiver_without_thread();
    let task = move || async move {
        let descriptor = node.as_fd().try_clone_to_owned().expect("descriptors are left");
        let watched = async_io::Async::new_nonblocking(descriptor).expect("async-io can watch it");
        let serve = async {
            loop {
                watched.readable().await.expect("async-io waits");
                node.dispatch().expect("dispatching succeeds");
            }
        };
        receive(&mut subscriber, 0..MESSAGES).or(serve).await;
    };
    run(task, async_io::block_on).finish();
    drop(sending.finish());
}

#[test]
fn a_publisher_serves_a_node_without_thread() {
    let domain = Domain::new();
    let mut subscriber = inline().subscriber(&domain.node("receiver"));
    let node = domain.node_without_thread("sender");
    let mut publisher = inline().publisher(&node, Overflow::Block);
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    let sending = start(move || {
        inline().send(&mut publisher, 0..MESSAGES);
        publisher.close(PATIENCE).expect("everything is read");
    });
    for number in 0..MESSAGES {
        if number % 100 == 0 {
            std::thread::sleep(PAUSE);
        }
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("more come");
        assert_eq!(*sample, words(number));
    }
    while subscriber.publishers() > 0 {
        assert!(subscriber.try_recv().expect("receiving succeeds").is_none());
    }
    sending.finish();
}
