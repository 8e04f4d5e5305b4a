//! The fear: a client or a server that is killed or stopped leaves a call without an outcome, or with two, holds somebody else
//! up, or leaves something behind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidepost::{Call, CallError, Client, Node, Server};

use crate::kills::{descriptors, mappings, settles};
use crate::parts::{say, wait};
use crate::stage::{PATIENCE, Stage};

const SERVICE: &str = "service";
/// Requests of these numbers on are put off until the end.
const PUT_OFF: u64 = 1 << 32;
/// Calls with many in flight, in each round of kills.
const IN_FLIGHT: u64 = 200;
const ROUNDS: usize = 10;
/// Calls across processes that wait at once.
const MANY: u64 = 10_000;
const SHORT: Duration = Duration::from_millis(200);

fn server(node: &Node) -> Server<u64, u64> {
    node.service(SERVICE).server().expect("the service is ours")
}

fn client(node: &Node) -> Client<u64, u64> {
    node.service(SERVICE).client().expect("the types agree")
}

/// A client that has met so many servers.
fn connected(node: &Node, servers: usize) -> Client<u64, u64> {
    let mut client = client(node);
    client.wait_for_servers(servers, PATIENCE).expect("they are there");
    client
}

/// Answers with the number after, puts off what is to be, and sends parts without end.
pub fn serve(node: &Node) {
    let mut server = server(node);
    say("serving");
    let mut put_off = Vec::new();
    loop {
        let request = server.recv().expect("requests come");
        if request.wants_parts() {
            let mut parts = request.parts().expect("parts are wanted");
            let _ = (0..).find_map(|number| parts.send(&number).err());
        } else if *request >= PUT_OFF {
            say(format!("took {}", *request));
            put_off.push(request.defer().expect("one answer is wanted"));
        } else {
            let answer = *request + 1;
            let _ = request.answer(&answer);
        }
    }
}

/// Says what it has been asked, and does nothing about it until it is told to.
pub fn serve_never(node: &Node) {
    let mut server = server(node);
    say("serving");
    wait();
    let mut count = 0;
    while let Some(request) = server.recv_timeout(PATIENCE).expect("receiving succeeds") {
        count += 1;
        if *request == u64::MAX {
            break;
        }
        let answer = *request + 1;
        let _ = request.answer(&answer);
    }
    say(format!("{count} asked, {} passed over", server.passed_over()));
}

/// Puts the answers to so many requests off until it is told to give them.
pub fn serve_late(node: &Node, count: u64) {
    let mut server = server(node);
    say("serving");
    let put_off: Vec<_> = (0..count)
        .map(|_| server.recv().expect("requests come").defer().expect("one answer is wanted"))
        .collect();
    say("asked");
    wait();
    for ticket in put_off {
        let answer = *ticket + 1;
        ticket.answer(&answer);
    }
    // They go out as it waits for the last.
    assert_eq!(*server.recv().expect("one more comes"), u64::MAX);
    say(format!("{} passed over", server.passed_over()));
}

/// Makes calls and asks for parts, and takes nothing until it is told to.
pub fn call_and_stop(node: &Node, calls: u64) {
    let mut client = connected(node, 1);
    let calls: Vec<Call> =
        (0..calls).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    say("called");
    wait();
    for (call, number) in calls.into_iter().zip(0..) {
        assert_eq!(*client.wait(call, PATIENCE).expect("it was answered"), number + 1);
    }
    say("answered");
    wait();
}

/// Makes calls that are put off, and waits to be killed.
pub fn call_and_die(node: &Node, calls: u64) {
    let mut client = connected(node, 1);
    (0..calls).for_each(|number| _ = client.send(&(PUT_OFF + number), PATIENCE).expect("there is room"));
    client.send_parts(&0, PATIENCE).expect("there is room");
    say("called");
    wait();
}

/// Makes one call after the other for ever.
pub fn call_for_ever(node: &Node) {
    let mut client = connected(node, 1);
    say("calling");
    for number in 0.. {
        assert_eq!(*client.call(&number, PATIENCE).expect("it answers"), number + 1);
        if number == 100 {
            say("called");
        }
    }
}

fn is_lost(outcome: Result<u64, CallError>) -> bool {
    match outcome {
        Err(CallError::ServerLost { .. }) => true,
        other => panic!("{other:?}"),
    }
}

/// Waits no longer than it takes to see that a server is gone.
fn outcome(client: &mut Client<u64, u64>, call: Call) -> Result<u64, CallError> {
    client.wait(call, PATIENCE).map(|answer| *answer)
}

#[test]
fn without_a_server_a_call_ends_at_once() {
    let stage = Stage::new();
    let node = stage.node();
    let mut client = client(&node);
    for _ in 0..2 {
        let error = client.call(&1, Duration::MAX).expect_err("nobody is there");
        assert!(matches!(error, CallError::NoServer { .. }), "{error}");
        let mut actor = stage.start("server", "");
        actor.expect("serving");
        client.wait_for_servers(1, PATIENCE).expect("it is there");
        assert_eq!(*client.call(&1, PATIENCE).expect("it answers"), 2);
        actor.kill();
        // One that is made before the death is known is lost; after that there is nobody to ask.
        while let Err(CallError::ServerLost { .. }) = client.call(&1, Duration::MAX) {}
    }
}

#[test]
fn a_server_that_is_killed_before_it_takes_a_request_loses_it() {
    let stage = Stage::new();
    let node = stage.node();
    let mut actor = stage.start("idle-server", "");
    actor.expect("serving");
    let mut client = connected(&node, 1);
    let calls: Vec<Call> =
        (0..50).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    actor.kill();
    assert!(calls.into_iter().all(|call| is_lost(outcome(&mut client, call))));
}

#[test]
fn a_server_that_is_killed_at_work_loses_its_calls_and_what_it_answered_is_received() {
    let stage = Stage::new();
    let node = stage.node();
    let mut actor = stage.start("server", "");
    actor.expect("serving");
    let mut client = connected(&node, 1);
    let answered: Vec<Call> =
        (0..20).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    let at_work = client.send(&PUT_OFF, PATIENCE).expect("there is room");
    // By then all before it have been answered.
    actor.expect(&format!("took {PUT_OFF}"));
    let parts = client.send_parts(&1, PATIENCE).expect("there is room");
    let first = client.next_part(parts, PATIENCE).expect("it comes");
    assert_eq!(first.as_deref(), Some(&0));
    actor.kill();
    let mut next = 1;
    let error = loop {
        match client.next_part(parts, PATIENCE) {
            Ok(part) => assert_eq!(part.as_deref(), Some(&next)),
            Err(error) => break error,
        }
        next += 1;
    };
    assert!(matches!(error, CallError::ServerLost { .. }), "{error}");
    for (call, number) in answered.into_iter().zip(0..) {
        assert_eq!(outcome(&mut client, call).expect("it was answered before"), number + 1);
    }
    assert!(is_lost(outcome(&mut client, at_work)));
    // Another takes the next.
    let mut other = stage.start("server", "");
    other.expect("serving");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    assert_eq!(*client.call(&5, PATIENCE).expect("it answers"), 6);
}

#[test]
fn whenever_a_server_is_killed_each_call_has_one_outcome() {
    let stage = Stage::new();
    let node = stage.node();
    let mut client = client(&node);
    let (mut answered, mut lost) = (0, 0);
    for round in 0..ROUNDS {
        let mut actor = stage.start("server", "");
        actor.expect("serving");
        client.wait_for_servers(1, PATIENCE).expect("it is there");
        let mut waiting: HashMap<Call, u64> = HashMap::new();
        let mut killed = Some(actor);
        for number in 0..IN_FLIGHT {
            match client.send(&number, PATIENCE) {
                Ok(call) => assert_eq!(waiting.insert(call, number), None),
                Err(CallError::NoServer { .. }) if killed.is_none() => break,
                Err(error) => panic!("{error}"),
            }
            if number == IN_FLIGHT / ROUNDS as u64 * round as u64 {
                let mut actor = killed.take().expect("it is killed once");
                actor.signal_kill();
                std::mem::drop(actor);
            }
        }
        while !waiting.is_empty() {
            let call = client.wait_any(PATIENCE).expect("nothing fails").expect("each has an outcome");
            let number = waiting.remove(&call).expect("each has one");
            match outcome(&mut client, call) {
                Ok(answer) => assert_eq!(answer, number + 1),
                Err(CallError::ServerLost { .. }) => lost += 1,
                Err(error) => panic!("{error}"),
            }
            answered += 1;
        }
        assert_eq!((client.waiting(), client.wait_any(Duration::ZERO).expect("nothing fails")), (0, None));
    }
    println!("{answered} outcomes, {lost} lost");
    assert_eq!(client.late_answers(), 0);
}

/// In a process of its own: other tests open descriptors and mappings in ours.
#[test]
fn clients_that_are_killed_leave_nothing_at_the_server() {
    let stage = Stage::new();
    let mut survivor = stage.start("surviving-server", "");
    survivor.expect("clean");
}

/// The part of the server that outlives its clients.
pub fn survive(stage: &Stage) {
    let node = stage.node();
    let mut server = server(&node);
    lose_a_client(stage, &mut server);
    let before = (descriptors(), mappings());
    (0..ROUNDS).for_each(|_| lose_a_client(stage, &mut server));
    assert!(settles(descriptors, before.0), "{} descriptors, {} before", descriptors(), before.0);
    assert!(settles(mappings, before.1), "{} mappings, {} before", mappings(), before.1);
}

/// Takes the requests of a client, which is then killed.
fn lose_a_client(stage: &Stage, server: &mut Server<u64, u64>) {
    let mut actor = stage.start("dying-client", "20");
    let tickets: Vec<_> = (0..20)
        .map(|_| server.recv().expect("requests come").defer().expect("one answer is wanted"))
        .collect();
    let mut parts = server.recv().expect("it comes").parts().expect("parts are wanted");
    parts.send(&1).expect("there is room");
    assert!(tickets.iter().all(|ticket| !ticket.is_cancelled()));
    actor.expect("called");
    actor.kill();
    // It waits for the client to take parts, and is told that it has gone.
    (0..).find_map(|number| parts.send(&number).err()).expect("it ends");
    drop(parts);
    let start = Instant::now();
    while server.clients() > 0 {
        assert!(start.elapsed() < PATIENCE, "its death is not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(tickets.iter().all(|ticket| ticket.is_cancelled()));
    tickets.into_iter().for_each(|ticket| ticket.answer(&1));
    assert!(server.try_recv().expect("receiving succeeds").is_none());
}

#[test]
fn calls_to_a_stopped_server_time_out_and_late_answers_confuse_nobody() {
    let stage = Stage::new();
    let node = stage.node();
    let mut actor = stage.start("server", "");
    actor.expect("serving");
    let mut client = connected(&node, 1);
    assert_eq!(*client.call(&1, PATIENCE).expect("it answers"), 2);
    actor.stop();
    for number in 0..3 {
        let error = client.call(&number, SHORT).expect_err("it is stopped");
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    }
    // These are not given up yet, and answered when it goes on.
    let kept = client.send(&40, PATIENCE).expect("there is room");
    let given_up = client.send(&50, PATIENCE).expect("there is room");
    assert!(client.wait(kept, SHORT).is_err());
    assert!(client.cancel(given_up));
    // Another one does not have to wait for it.
    let mut other = stage.start("server", "");
    other.expect("serving");
    client.wait_for_servers(2, PATIENCE).expect("it is there");
    for number in 100..200 {
        assert_eq!(*client.call(&number, PATIENCE).expect("one of them answers"), number + 1);
    }
    actor.signal(libc::SIGCONT);
    assert_eq!(outcome(&mut client, kept).expect("it goes on"), 41);
    for number in 200..300 {
        assert_eq!(*client.call(&number, PATIENCE).expect("it answers"), number + 1);
    }
    assert_eq!(client.waiting(), 0);
}

#[test]
fn a_stopped_client_holds_nobody_else_up_and_its_answers_are_kept() {
    const CALLS: u64 = 1000;
    let stage = Stage::new();
    let mut server = stage.start("server", "");
    server.expect("serving");
    let mut stopped = stage.start("stopping-client", &CALLS.to_string());
    stopped.expect("called");
    stopped.stop();
    let node = stage.node();
    let mut client = connected(&node, 1);
    for number in 0..3_000 {
        assert_eq!(*client.call(&number, PATIENCE).expect("it answers"), number + 1);
    }
    stopped.signal(libc::SIGCONT);
    stopped.go();
    stopped.expect("answered");
}

#[test]
fn ten_thousand_calls_wait_for_another_process() {
    let stage = Stage::new();
    let node = stage.node();
    let mut actor = stage.start("deferring-server", &MANY.to_string());
    actor.expect("serving");
    let mut client: Client<u64, u64> =
        node.service(SERVICE).in_flight(MANY as u32).client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    let calls: Vec<Call> =
        (0..MANY).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    actor.expect("asked");
    assert_eq!(client.waiting() as u64, MANY);
    let error = client.send(&MANY, PATIENCE).expect_err("as many wait as may");
    assert!(matches!(error, CallError::InFlight { .. }), "{error}");
    actor.go();
    for (call, number) in calls.into_iter().zip(0..) {
        assert_eq!(outcome(&mut client, call).expect("it answers"), number + 1);
    }
    client.notify(&u64::MAX, PATIENCE).expect("there is room");
    actor.expect("0 passed over");
}

/// Calls of clients that are killed in the middle of them end nobody else's.
#[test]
fn clients_that_are_killed_end_nobody_elses_calls() {
    let stage = Stage::new();
    let mut server = stage.start("server", "");
    server.expect("serving");
    let node = stage.node();
    let mut client = connected(&node, 1);
    for round in 0..ROUNDS as u64 {
        let mut actor = stage.start("endless-client", "");
        actor.expect("calling");
        actor.expect("called");
        actor.kill();
        for number in 0..100 {
            let request = 1000 * round + number;
            assert_eq!(*client.call(&request, PATIENCE).expect("it answers"), request + 1);
        }
    }
}
