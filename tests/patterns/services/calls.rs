//! Asking and answering.

use std::time::Duration;

use tidepost::{CallError, Server};

use crate::services::stage::{Domain, Doubler, PATIENCE, client, meet};

#[test]
fn a_call_is_answered_whoever_starts_first() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    for service in ["first", "second"] {
        let mut early = client(&here, service);
        let _server = Doubler::start(&there, service);
        early.wait_for_servers(1, PATIENCE).expect("it comes");
        let mut late = client(&here, service);
        for number in 0..1000 {
            assert_eq!(*early.call(&number, PATIENCE).expect("it answers"), 2 * number);
            assert_eq!(*late.call(&(number + 7), PATIENCE).expect("it answers"), 2 * number + 14);
        }
    }
}

#[test]
fn client_and_server_may_share_a_node() {
    let domain = Domain::new();
    let node = domain.node("both");
    let _server = Doubler::start(&node, "double");
    let mut client = client(&node, "double");
    meet(&mut client);
    assert_eq!(*client.call(&21, PATIENCE).expect("it answers"), 42);
}

#[test]
fn without_a_server_a_call_fails_at_once() {
    let domain = Domain::new();
    let node = domain.node("alone");
    let error = client(&node, "nothing").call(&1, Duration::MAX).expect_err("there is none");
    assert!(matches!(error, CallError::NoServer { .. }), "{error}");
    assert_eq!(error.to_string(), "service `nothing` has no server; start one");
}

#[test]
fn a_servers_own_errors_are_told_apart() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let _server = Doubler::start(&there, "double");
    let mut client = client(&here, "double");
    meet(&mut client);
    let error = client.call(&u64::MAX, PATIENCE).expect_err("it is too large");
    let CallError::Failed { failure, .. } = &error else { panic!("{error}") };
    assert_eq!(failure.to_text(), "too large");
    assert_eq!(*client.call(&1, PATIENCE).expect("it goes on"), 2);
}

#[test]
fn many_calls_are_in_flight_and_answered_in_any_order() {
    const CALLS: u64 = 10_000;
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut server: Server<u64, u64> = there.service("double").server().expect("the service is ours");
    let serving = std::thread::spawn(move || {
        let mut tickets: Vec<_> = (0..CALLS)
            .map(|_| server.recv().expect("requests come").defer().expect("one answer is wanted"))
            .collect();
        while let Some(ticket) = tickets.pop() {
            let answer = 2 * *ticket;
            ticket.answer(&answer);
        }
        // Whatever has no room goes out while the server waits.
        server.recv_timeout(PATIENCE).expect("nothing fails").map(|request| *request)
    });
    let mut client =
        here.service::<u64, u64>("double").in_flight(CALLS as u32 + 1).client().expect("the types agree");
    meet(&mut client);
    let calls: Vec<_> =
        (0..CALLS).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    assert_eq!(client.waiting(), CALLS as usize);
    for (call, number) in calls.into_iter().zip(0..) {
        assert_eq!(*client.wait(call, PATIENCE).expect("it answers"), 2 * number);
    }
    client.notify(&99, PATIENCE).expect("there is room");
    assert_eq!(serving.join().expect("it does not panic"), Some(99));
}

#[test]
fn parts_come_in_order_and_end() {
    const PARTS: u64 = 1000;
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut server: Server<u64, u64> = there.service("count").server().expect("the service is ours");
    let serving = std::thread::spawn(move || {
        let request = server.recv().expect("a request comes");
        let mut parts = request.parts().expect("parts are wanted");
        for number in 0..*parts.request() {
            parts.send(&number).expect("the client takes them");
        }
        parts.finish().expect("the client is there");
        // What had no room goes out while the server waits.
        server.recv_timeout(PATIENCE).expect("nothing fails").map(|request| *request)
    });
    let mut client = client(&here, "count");
    meet(&mut client);
    let parts = client.call_parts(&PARTS, PATIENCE).expect("there is a server");
    let numbers: Vec<u64> = parts.map(|part| *part.expect("it answers")).collect();
    assert!(numbers.iter().copied().eq(0..PARTS));
    client.notify(&1, PATIENCE).expect("there is room");
    assert_eq!(serving.join().expect("it does not panic"), Some(1));
}
