//! Ways to sleep: as a future, on a descriptor, in a set, in a node without thread; and how sleep is ended from outside.

use std::time::Duration;

use futures_lite::FutureExt;
use futures_lite::future::block_on;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidepost::{AsFailure, CallError, Client, Key, Overflow, Server, Subscriber, WaitSet};

use crate::services::stage::{Domain, PATIENCE, client, meet, next, pair, start, until};

const CALLS: u64 = 300;
const PAUSE: Duration = Duration::from_millis(1);

/// Waits until a descriptor is readable.
fn wait_readable(descriptor: std::os::fd::BorrowedFd<'_>) {
    let timeout = Timespec::try_from(PATIENCE).expect("it is short");
    let mut watched = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let count = poll(&mut watched, Some(&timeout)).expect("descriptors can be waited for");
    assert_eq!(count, 1, "nobody made it readable");
}

/// Whether it is so now.
fn is_readable(descriptor: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut watched, Some(&Timespec::default())).expect("descriptors can be waited for") == 1
}

/// Calls with pauses in which the server falls asleep, and the client when the server pauses.
fn call_with_pauses(client: &mut Client<u64, u64>) {
    for number in 0..CALLS {
        assert_eq!(*client.call(&number, PATIENCE).expect("it answers"), 2 * number);
        if number % 8 == 0 {
            std::thread::sleep(PAUSE);
        }
    }
}

async fn call_all(client: &mut Client<u64, u64>) {
    for number in 0..CALLS {
        assert_eq!(*client.call_async(&number, PATIENCE).await.expect("it answers"), 2 * number);
        if number % 8 == 0 {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Fails if it takes too long.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let late = async {
        async_io::Timer::after(PATIENCE).await;
        panic!("nobody woke the future")
    };
    future.or(late).await
}

#[test]
fn futures_of_both_sides_are_woken() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let handle = server.handle();
    let serving = start(move || {
        let served = in_time(server.serve_async(async |number| {
            if number % 16 == 0 {
                async_io::Timer::after(PAUSE).await;
            }
            Ok::<_, &str>(2 * number)
        }));
        block_on(served)
    });
    block_on(in_time(call_all(&mut client)));
    call_with_pauses(&mut client);
    handle.cancel();
    serving.finish().expect("it was cancelled");
}

#[test]
fn futures_of_both_sides_are_woken_by_tokio() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let handle = server.handle();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("ours");
    let serving = runtime.spawn(async move {
        server.serve_async(async |number| Ok::<_, &str>(2 * number)).await.map(|()| server.passed_over())
    });
    let calling = runtime.spawn(async move { call_all(&mut client).await });
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, calling).await.expect("nobody woke it").expect("it does not panic");
        handle.cancel();
        let served = tokio::time::timeout(PATIENCE, serving).await.expect("nobody woke it");
        assert_eq!(served.expect("it does not panic"), Ok(0));
    });
}

#[test]
fn a_future_that_is_dropped_gives_its_call_up() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    for number in 0..50 {
        let dropped = block_on(async {
            let call = async { client.call_async(&number, PATIENCE).await.map(|answer| *answer).ok() };
            call.or(async {
                futures_lite::future::yield_now().await;
                None
            })
            .await
        });
        assert_eq!(dropped, None);
        assert_eq!(client.waiting(), 0);
        assert!(server.try_recv().expect("receiving succeeds").is_none(), "it is passed over");
    }
    let call = client.send(&7, PATIENCE).expect("there is room");
    next(&mut server).answer(&8).expect("the client is there");
    assert_eq!(*block_on(in_time(client.wait_async(call))).expect("it was answered"), 8);
}

#[test]
fn futures_hear_of_servers_that_come_and_go() {
    let domain = Domain::new();
    let mut client = client(&domain.node("here"), "service");
    let error = block_on(in_time(client.call_async(&1, PATIENCE))).expect_err("nobody is there");
    assert!(matches!(error, CallError::NoServer { .. }), "{error}");
    for round in 0..20 {
        let there = domain.node("there");
        let coming = start(move || {
            let mut server: Server<u64, u64> =
                there.service("service").server().expect("the service is ours");
            let request = next(&mut server);
            let answer = *request + 1;
            request.answer(&answer).expect("the client is there");
            drop(next(&mut server).defer().map(std::mem::forget));
        });
        // Again and again, so that some calls begin while it is only half there.
        let answer = block_on(in_time(async {
            loop {
                match client.call_async(&round, PATIENCE).await {
                    Ok(answer) => return *answer,
                    Err(CallError::NoServer { .. }) => futures_lite::future::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        }));
        assert_eq!(answer, round + 1);
        let error = block_on(in_time(client.call_async(&0, PATIENCE))).expect_err("it goes");
        assert!(matches!(error, CallError::ServerLost { .. }), "{error}");
        coming.finish();
        until("the client knows", || client.servers() == 0);
    }
}

/// A full stream, and large messages for which memory is had on the way, are waited for as well.
#[test]
fn futures_wait_for_room() {
    let domain = Domain::new();
    let mut server: Server<[u64], [u64]> =
        domain.node("there").service("service").depth(8).server().expect("the service is ours");
    let node = domain.node("here");
    let mut client: Client<[u64], [u64]> = node.service("service").depth(8).client().expect("they agree");
    meet(&mut client);
    let handle = server.handle();
    let serving =
        start(move || block_on(in_time(server.serve_async(async |request| Ok::<_, &str>(request.to_vec())))));
    block_on(in_time(async {
        let mut calls = Vec::new();
        for number in 0..200_usize {
            let request = vec![number as u64; number * number % 5000];
            calls.push((client.send_async(&request, PATIENCE).await.expect("room comes"), request));
        }
        for (call, request) in calls {
            let answer = client.wait_async(call).await.expect("it was answered");
            assert!(*answer == *request);
        }
    }));
    handle.cancel();
    serving.finish().expect("it was cancelled");
}

/// Serves in somebody else's loop until the client has gone.
fn serve_in_a_loop(server: &mut Server<u64, u64>) {
    let mut served = 0;
    while served < CALLS {
        wait_readable(server.as_fd().expect("descriptors are left"));
        while let Some(request) = server.try_recv().expect("receiving succeeds") {
            let answer = 2 * *request;
            if answer % 6 == 0 {
                request.defer().expect("one answer is wanted").answer(&answer);
            } else {
                request.answer(&answer).expect("the client is there");
            }
            served += 1;
        }
    }
    let finished = server.try_recv().expect("receiving succeeds");
    assert!(finished.is_none());
}

#[test]
fn descriptors_of_both_sides_are_readable_when_there_is_something() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let serving = start(move || serve_in_a_loop(&mut server));
    client.as_fd().expect("descriptors are left");
    let (mut sent, mut answered) = (0, 0);
    while answered < CALLS {
        while sent < CALLS && sent < answered + 5 {
            client.send(&sent, PATIENCE).expect("there is room");
            sent += 1;
        }
        wait_readable(client.as_fd().expect("it is there"));
        while let Some(call) = client.wait_any(Duration::ZERO).expect("nothing fails") {
            client.try_take(call).expect("it was answered").expect("it has come");
            answered += 1;
        }
        if answered % 7 == 0 {
            std::thread::sleep(PAUSE);
        }
    }
    serving.finish();
    until("nothing is readable", || {
        assert_eq!(client.wait_any(Duration::ZERO).expect("nothing fails"), None);
        !is_readable(client.as_fd().expect("it is there"))
    });
}

/// What a server does for the memory of a long message, or a client between two looks, must not lose the next wake-up.
#[test]
fn a_descriptor_stays_prepared_whatever_is_sent_meanwhile() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<[u8], [u8]>(&domain);
    client.as_fd().expect("descriptors are left");
    for round in 0..12 {
        until("nothing is readable", || {
            assert_eq!(client.wait_any(Duration::ZERO).expect("nothing fails"), None);
            !is_readable(client.as_fd().expect("it is there"))
        });
        // Each is of another class of the pool, which has to be made and told of first.
        let call = client.send(&vec![1; 2000 << round], PATIENCE).expect("there is room");
        let serving = start(move || {
            std::thread::sleep(10 * PAUSE);
            next(&mut server).answer(&[2; 10]).expect("the client is there");
            server
        });
        wait_readable(client.as_fd().expect("it is there"));
        until("the answer comes", || client.try_take(call).expect("it is ours").is_some());
        server = serving.finish();
    }
}

/// As above, for a loop that makes a call of the other kind in between.
#[test]
fn a_descriptor_tells_of_what_came_during_another_call() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    client.as_fd().expect("descriptors are left");
    for _ in 0..20 {
        let early = client.send(&1, PATIENCE).expect("there is room");
        until("nothing is readable", || {
            assert_eq!(client.wait_any(Duration::ZERO).expect("nothing fails"), None);
            !is_readable(client.as_fd().expect("it is there"))
        });
        let serving = start(move || {
            let early = next(&mut server).defer().expect("one answer is wanted");
            let late = next(&mut server).defer().expect("one answer is wanted");
            early.answer(&1);
            late.answer(&2);
            assert!(server.try_recv().expect("receiving succeeds").is_none());
            server
        });
        assert_eq!(*client.call(&2, PATIENCE).expect("it answers"), 2);
        wait_readable(client.as_fd().expect("it is there"));
        assert_eq!(client.wait_any(Duration::ZERO).expect("nothing fails"), Some(early));
        client.try_take(early).expect("it was answered").expect("it has come");
        server = serving.finish();
    }
}

/// Answers of other threads and losses are told of on descriptors, too.
#[test]
fn descriptors_tell_of_tickets_and_losses() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    server.as_fd().expect("descriptors are left");
    client.as_fd().expect("descriptors are left");
    for number in 0..200 {
        let call = client.send(&number, PATIENCE).expect("there is room");
        let ticket = next(&mut server).defer().expect("one answer is wanted");
        let answering = start(move || ticket.answer(&number));
        // Sends it now or hears of it later.
        let mut is_answered = false;
        while !is_answered {
            assert!(server.try_recv().expect("receiving succeeds").is_none());
            is_answered = client.try_take(call).expect("it is ours").is_some();
            if !is_answered {
                wait_readable(server.as_fd().expect("it is there"));
            }
        }
        answering.finish();
    }
    let lost = client.send(&7, PATIENCE).expect("there is room");
    let leaving = start(move || {
        std::thread::sleep(10 * PAUSE);
        drop(server);
    });
    loop {
        match client.try_take(lost) {
            Ok(None) => wait_readable(client.as_fd().expect("it is there")),
            Ok(Some(answer)) => panic!("{answer:?}"),
            Err(error) => break assert!(matches!(error, CallError::ServerLost { .. }), "{error}"),
        }
    }
    leaving.finish();
}

/// A client, a server and a subscriber, which are waited for together.
struct Together {
    set: WaitSet,
    server: Key<Server<u64, u64>>,
    client: Key<Client<u64, u64>>,
    subscriber: Key<Subscriber<u64>>,
}

impl Together {
    fn new(domain: &Domain) -> Self {
        let node = domain.node_without_thread("together");
        let mut set = WaitSet::new().expect("descriptors are left");
        let server = set.add(node.service("mine").server().expect("the service is ours"));
        let mut client = client(&node, "theirs");
        meet(&mut client);
        let client = set.add(client);
        let subscriber = set.add(node.topic("topic").subscriber().expect("the types agree"));
        let all = (
            server.expect("there is room"),
            client.expect("there is room"),
            subscriber.expect("there is room"),
        );
        Self { set, server: all.0, client: all.1, subscriber: all.2 }
    }

    /// Passes requests on, and the answers back, until a message comes.
    fn run(mut self) -> (u64, u64) {
        let mut waiting = Vec::new();
        let mut passed_on = 0;
        loop {
            let ready =
                self.set.wait_timeout(PATIENCE).expect("waiting succeeds").expect("something is ready");
            if ready == self.server {
                while let Some(request) = self.set[self.server].try_recv().expect("receiving succeeds") {
                    waiting.push((None, request.defer().expect("one answer is wanted")));
                }
            }
            let client = &mut self.set[self.client];
            for (call, ticket) in waiting.iter_mut().filter(|(call, _)| call.is_none()) {
                *call = Some(client.send(ticket, PATIENCE).expect("there is a server"));
            }
            if ready == self.client {
                while let Some(call) = client.wait_any(Duration::ZERO).expect("nothing fails") {
                    let answer = client.wait(call, PATIENCE).map(|answer| *answer).ok();
                    let place = waiting.iter().position(|(of, _)| *of == Some(call)).expect("it is ours");
                    let (_, ticket) = waiting.swap_remove(place);
                    match answer {
                        Some(answer) => ticket.answer(&answer),
                        None => ticket.fail("lost".as_failure()),
                    }
                    passed_on += 1;
                }
            }
            if ready == self.subscriber
                && let Some(sample) = self.set[self.subscriber].try_recv().expect("receiving succeeds")
            {
                return (passed_on, *sample);
            }
        }
    }
}

#[test]
fn a_server_a_client_and_a_subscriber_are_waited_for_together() {
    let domain = Domain::new();
    let node = domain.node("around");
    let mut theirs: Server<u64, u64> = node.service("theirs").server().expect("the service is ours");
    let handle = theirs.handle();
    let serving = start(move || theirs.serve(|number| Ok::<_, &str>(2 * number)).map(|()| theirs));
    let together = Together::new(&domain);
    let passing = start(move || together.run());
    let mut mine = client(&node, "mine");
    let mut publisher = node.topic::<u64>("topic").publisher(Overflow::Block).expect("the topic is ours");
    mine.wait_for_servers(1, PATIENCE).expect("it is there");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it is there");
    call_with_pauses(&mut mine);
    let calls: Vec<_> = (0..50).map(|number| mine.send(&number, PATIENCE).expect("there is room")).collect();
    for (call, number) in calls.into_iter().zip(0..) {
        assert_eq!(*mine.wait(call, PATIENCE).expect("it answers"), 2 * number);
    }
    // The server behind goes: that is news for the client in the set, whatever else is quiet.
    handle.cancel();
    let mut theirs = serving.finish().expect("it was cancelled");
    let last = mine.send(&1, PATIENCE).expect("there is room");
    until("it is passed on", || {
        theirs
            .try_recv()
            .expect("receiving succeeds")
            .is_some_and(|request| request.defer().map(std::mem::forget).is_ok())
    });
    drop(theirs);
    let error = mine.wait(last, PATIENCE / 4).expect_err("it was lost");
    assert!(matches!(error, CallError::Failed { .. }), "{error}");
    publisher.send(&9).expect("a blocking send succeeds");
    assert_eq!(passing.finish(), (CALLS + 51, 9));
}

#[test]
fn nodes_without_threads_call_and_serve() {
    let domain = Domain::new();
    let mut server: Server<u64, u64> =
        domain.node_without_thread("there").service("service").server().expect("the service is ours");
    let handle = server.handle();
    let serving = start(move || server.serve(|number| Ok::<_, &str>(2 * number)));
    let node = domain.node_without_thread("here");
    let mut client = client(&node, "service");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    call_with_pauses(&mut client);
    block_on(async {
        let call = client.send_async(&7, PATIENCE).await.expect("there is room");
        assert_eq!(*client.wait(call, PATIENCE).expect("it answers"), 14);
    });
    handle.cancel();
    serving.finish().expect("it was cancelled");
}

#[test]
fn waits_end_when_they_are_cancelled_or_the_node_shuts_down() {
    for shuts_down in [false, true] {
        let domain = Domain::new();
        let (here, there) = (domain.node("here"), domain.node("there"));
        let mut server: Server<u64, u64> = there.service("service").server().expect("the service is ours");
        let mut client = client(&here, "service");
        meet(&mut client);
        let (of_server, of_client) = (server.handle(), client.handle());
        let (sender, taken) = std::sync::mpsc::channel();
        let serving = start(move || {
            drop(server.recv().expect("a request comes").defer().map(std::mem::forget));
            sender.send(()).expect("the test waits");
            let error = server.recv().map(drop).expect_err("it is closed");
            assert_eq!(error.to_string(), "service `service` was closed here");
            server.recv_timeout(PATIENCE).map(drop).expect_err("for good");
            server
        });
        let calling = start(move || {
            let call = client.send(&1, PATIENCE).expect("there is room");
            let error = client.wait(call, PATIENCE).expect_err("it is closed");
            assert!(matches!(error, CallError::Closed { .. }), "{error}");
            let error = client.wait_any(PATIENCE).expect_err("for good");
            assert!(matches!(error, CallError::Closed { .. }), "{error}");
            client
        });
        taken.recv_timeout(PATIENCE).expect("the request is taken");
        // Both fall asleep, mostly.
        std::thread::sleep(50 * PAUSE);
        if shuts_down {
            here.shutdown();
            there.shutdown();
        } else {
            of_client.cancel();
            of_server.cancel();
        }
        drop((calling.finish(), serving.finish()));
    }
}
