//! The fear: a call that is answered while it is waited for costs a system call, at one of its ends.

use std::sync::PoisonError;
use std::time::Duration;

use tidepost::{Client, Node, Server};

use crate::parts::{say, wait};
use crate::seccomp::{ONE_AT_A_TIME, strictly};
use crate::stage::{PATIENCE, Stage};

/// Calls before strict mode, and in it …
const CALLS: u64 = 5_000;
/// … of which so many wait at a time: two processes that look all the time take turns on a busy machine.
const AT_ONCE: u64 = 50;

struct Calling {
    client: Client<[u64; 7], [u64; 7]>,
    large: Client<[u64; 100], [u64; 100]>,
}

/// Sends these numbers, and looks until all are answered.
fn call_some<const WORDS: usize>(
    client: &mut Client<[u64; WORDS], [u64; WORDS]>,
    numbers: std::ops::Range<u64>,
) {
    let (first, mut calls) = (numbers.start, [None; AT_ONCE as usize]);
    for (call, number) in calls.iter_mut().zip(numbers) {
        *call = Some(client.send(&[number; WORDS], Duration::MAX).expect("there is room"));
    }
    for (call, number) in calls.into_iter().flatten().zip(first..) {
        loop {
            if let Some(answer) = client.try_take(call).expect("it is answered") {
                assert!(*answer == [number + 1; WORDS]);
                break;
            }
        }
    }
}

fn call_all(calling: &mut Calling) {
    for first in (0..CALLS).step_by(AT_ONCE as usize) {
        call_some(&mut calling.client, first..first + AT_ONCE);
        call_some(&mut calling.large, first..first + 3);
    }
}

pub fn call(node: &Node) {
    let (mut client, mut large) = (client(node, "small"), client(node, "large"));
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    large.wait_for_servers(1, PATIENCE).expect("it is there");
    strictly(Calling { client, large }, call_all, call_all);
    wait();
}

fn client<const WORDS: usize>(node: &Node, service: &str) -> Client<[u64; WORDS], [u64; WORDS]> {
    node.service(service).client().expect("the types agree")
}

struct Serving {
    server: Server<[u64; 7], [u64; 7]>,
    large: Server<[u64; 100], [u64; 100]>,
}

fn serve_all(serving: &mut Serving) {
    let (mut small, mut large) = (0, 0);
    while small < CALLS || large < CALLS / AT_ONCE * 3 {
        if let Some(request) = serving.server.try_recv().expect("receiving succeeds") {
            let answer = request.map(|word| word + 1);
            request.answer(&answer).expect("the client is there");
            small += 1;
        }
        if let Some(request) = serving.large.try_recv().expect("receiving succeeds") {
            let mut loan = request.loan().expect("there is room");
            let (request, answer) = loan.both();
            *answer = request.map(|word| word + 1);
            loan.send().expect("the client is there");
            large += 1;
        }
    }
}

pub fn serve(node: &Node) {
    let server = node.service("small").server().expect("the service is ours");
    let large = node.service("large").server().expect("the service is ours");
    strictly(Serving { server, large }, serve_all, serve_all);
}

/// Attempts to make a few calls while the other process runs all the time, which on a busy machine it does not.
const ATTEMPTS: usize = 200;
const FEW: u64 = 50;
/// Attempts to make all calls while both run most of the time.
const WHOLE_ATTEMPTS: usize = 10;

fn call_and_wait_all(client: &mut Client<[u64; 7], [u64; 7]>) {
    for number in 0..FEW {
        let answer = client.call(&[number; 7], PATIENCE).expect("it is answered");
        assert!(*answer == [number + 1; 7]);
    }
}

/// Calls with a deadline, and waits for each answer: again and again, until none of them has to sleep.
pub fn call_and_wait(node: &Node) {
    for _ in 0..ATTEMPTS {
        let mut client = client(node, "small");
        client.wait_for_servers(1, PATIENCE).expect("it is there");
        strictly(client, call_and_wait_all, call_and_wait_all);
        wait();
    }
}

/// Looks for requests all the time.
pub fn serve_for_ever(node: &Node) {
    let mut server: Server<[u64; 7], [u64; 7]> = node.service("small").server().expect("the service is ours");
    say("serving");
    loop {
        if let Some(request) = server.try_recv().expect("receiving succeeds") {
            let answer = request.map(|word| word + 1);
            let _ = request.answer(&answer);
        }
    }
}

/// Who waits for an answer that takes long sleeps, and dies of it here; but if the answer comes soon, it makes no system call.
#[test]
fn a_call_with_a_deadline_that_is_answered_soon_makes_no_system_call() {
    let _only = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let stage = Stage::new();
    let mut server = stage.start("tireless-server", "");
    server.expect("serving");
    let mut client = stage.start("strict-caller", "");
    let is_quiet = (0..ATTEMPTS).any(|_| {
        let said = client.hear();
        client.go();
        said.ends_with("allocations")
    });
    assert!(is_quiet, "each attempt was killed by a system call");
}

/// What is kept when it comes before it is asked for is allocated: where one of the two does not run for a while, that may be so much that
/// the heap grows, which is a system call. A fault more is none.
#[test]
fn the_busy_path_of_a_call_makes_no_system_call() {
    let _only = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let is_quiet = (0..WHOLE_ATTEMPTS).any(|_| {
        let stage = Stage::new();
        let mut actors = [stage.start("strict-server", ""), stage.start("strict-client", "")];
        actors.iter_mut().all(|actor| actor.hear().ends_with("allocations"))
    });
    assert!(is_quiet, "each attempt was killed by a system call");
}
