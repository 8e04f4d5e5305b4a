//! Deadlines, cancelled calls, and what the server sees of them.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tidepost::{CallError, Client, Server};

use crate::services::stage::{Domain, PATIENCE, meet, next, pair, start, until};

#[test]
fn the_server_sees_a_deadline_that_is_never_before_the_clients() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    for number in 0..300 {
        // Some of these share a deadline, some are later, some earlier than the one before.
        let timeout = Duration::from_millis(10_000 + number * 7919 % 50);
        let before = Instant::now();
        let call = client.send(&number, timeout).expect("there is room");
        let (told, after) = (next(&mut server).deadline().expect("there is one"), Instant::now());
        // Reading two clocks one after the other, one of them coarse, is off by less.
        assert!(told + Duration::from_millis(10) >= before + timeout, "call {number}");
        assert!(told <= after + timeout + Duration::from_millis(50), "call {number}");
        client.wait(call, PATIENCE).expect_err("nobody answered");
    }
    let call = client.send(&1, Duration::MAX).expect("there is room");
    let request = next(&mut server);
    assert!(request.deadline().is_none() && !request.is_cancelled());
    drop(request);
    client.wait(call, PATIENCE).expect_err("nobody answered");
}

/// The time that a request has waited for room belongs to the call.
#[test]
fn a_call_waits_no_longer_than_its_deadline_altogether() {
    let domain = Domain::new();
    let mut server: Server<u64, u64> =
        domain.node("there").service("service").server().expect("the service is ours");
    let node = domain.node("here");
    let mut client: Client<u64, u64> = node.service("service").depth(8).client().expect("the types agree");
    meet(&mut client);
    let calls: Vec<_> = (0..8).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    let (sender, begins) = channel();
    let calling = start(move || {
        sender.send(()).expect("the test waits");
        (client.call(&8, PATIENCE).map(|answer| *answer), client)
    });
    begins.recv().expect("it makes its call");
    // It waits for room in the meantime.
    std::thread::sleep(Duration::from_secs(1));
    let freed = Instant::now();
    (0..8).for_each(|_| drop(next(&mut server)));
    let request = next(&mut server);
    assert_eq!(*request, 8);
    // Were the wait not counted, the deadline would be a whole timeout after there was room.
    let deadline = request.deadline().expect("there is one");
    assert!(deadline + Duration::from_millis(500) < freed + PATIENCE, "{:?}", deadline - freed);
    request.answer(&80).expect("the client is there");
    let (answer, mut client) = calling.finish();
    assert_eq!(answer.expect("it is answered"), 80);
    calls.into_iter().for_each(|call| drop(client.wait(call, PATIENCE).expect_err("nobody answered")));
}

#[test]
fn a_handler_sees_that_the_deadline_has_passed() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let (go, wait) = channel();
    let serving = start(move || {
        let request = next(&mut server);
        assert!(!request.is_cancelled());
        until("the deadline has passed", || request.is_cancelled());
        wait.recv().expect("the client gives it up");
        request.answer(&1).expect("it is late, and no error");
        // One that has to wait until its deadline has passed is not even begun.
        wait.recv().expect("the client goes on");
        assert_eq!(*next(&mut server), 3);
        server.passed_over()
    });
    let error = client.call(&1, Duration::from_secs(3)).expect_err("it is not answered in time");
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("within 3s"), "{error}");
    go.send(()).expect("the server goes on");
    client.call(&2, Duration::from_millis(1)).expect_err("it is not answered in time");
    // The deadline that the server sees is a little later.
    std::thread::sleep(Duration::from_millis(50));
    go.send(()).expect("the server goes on");
    assert!(matches!(client.call(&3, PATIENCE), Err(CallError::Unanswered { .. })));
    assert_eq!(serving.finish(), 1);
}

#[test]
fn a_handler_sees_that_its_call_is_cancelled_or_its_client_gone() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let calls: Vec<_> = (0..3).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    let request = next(&mut server);
    assert!(!request.is_cancelled());
    assert!(client.cancel(calls[0]) && client.cancel(calls[1]));
    assert!(request.is_cancelled());
    drop(request);
    let request = next(&mut server);
    assert!(*request == 2 && !request.is_cancelled(), "the second one is passed over");
    drop(client);
    std::thread::sleep(Duration::from_millis(50));
    drop(request);
    until("the client has gone", || server.clients() == 0);
    assert_eq!(server.passed_over(), 1);
}

/// A call has an outcome, even if its deadline is over before the server begins, and its client waits on.
#[test]
fn a_call_that_comes_too_late_is_unanswered() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let call = client.send(&1, Duration::from_millis(1)).expect("there is room");
    std::thread::sleep(Duration::from_millis(100));
    until("it is passed over", || {
        assert!(server.try_recv().expect("receiving succeeds").is_none());
        server.passed_over() == 1
    });
    assert_eq!(client.wait_any(PATIENCE).expect("nothing fails"), Some(call));
    let error = client.wait(call, PATIENCE).expect_err("nobody answered");
    assert!(matches!(error, CallError::Unanswered { .. }), "{error}");
}

/// Nothing is left of a call that ended with an error that is the client's own.
#[test]
fn a_call_that_is_closed_here_is_given_up() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let handle = client.handle();
    let calling = start(move || {
        let error = client.call(&1, PATIENCE).expect_err("it is closed");
        assert!(matches!(error, CallError::Closed { .. }), "{error}");
        client
    });
    let request = next(&mut server);
    handle.cancel();
    let client = calling.finish();
    assert!(request.is_cancelled());
    assert_eq!(client.waiting(), 0);
}

/// A client that gives up call after call, and never asks for an answer, breaks no rule.
#[test]
fn a_client_may_give_up_any_number_of_calls() {
    let domain = Domain::new();
    let there = domain.node("there");
    let mut server: Server<u64, u64> =
        there.service("service").depth(8).server().expect("the service is ours");
    let node = domain.node("here");
    let mut client: Client<u64, u64> =
        node.service("service").in_flight(4).client().expect("the types agree");
    meet(&mut client);
    let mut tickets = Vec::new();
    for number in 0..200 {
        let call = client.send(&number, PATIENCE).expect("there is room");
        tickets.push(next(&mut server).defer().expect("one answer is wanted"));
        assert!(client.cancel(call));
    }
    // They are answered all the same, which is late, and more than the client has room for.
    tickets.into_iter().for_each(|ticket| ticket.answer(&1));
    assert!(server.try_recv().expect("receiving succeeds").is_none());
    let serving = start(move || {
        next(&mut server).answer(&8).expect("the client is there");
        // What has no room yet goes out while the server waits.
        assert_eq!(*next(&mut server), 9);
    });
    assert_eq!(*client.call(&7, PATIENCE).expect("it answers"), 8);
    client.notify(&9, PATIENCE).expect("there is room");
    serving.finish();
    assert_eq!(there.violations(), (0, None));
}
