//! The fear: services in programs that fork, were built from different definitions, have other limits, or die in the middle of an
//! answer.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidepost::{
    AnswerError, Call, CallError, Client, EndpointError, Node, ReceiveError, Server, ServiceError,
};

use crate::parts::{say, wait};
use crate::ptrace::{STEPS_MAX, Stepped, between_signals};
use crate::stage::{PATIENCE, Stage};

const SERVICE: &str = "service";
/// Slots of the server's stream, and calls that are answered while nobody takes answers: some of them have no room.
const DEPTH: usize = 8;
const CALLS: u64 = 12;

fn client<Req, Resp>(node: &Node) -> Client<Req, Resp>
where
    Req: tidepost::Payload + ?Sized,
    Resp: tidepost::Payload + ?Sized,
{
    let mut client = node.service(SERVICE).client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    client
}

/// Does something in a child that is forked now, and says whether that was right.
fn fork_and_say(in_child: impl FnOnce() -> bool) {
    // SAFETY: the child touches what it inherited only through this library, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_right = in_child();
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if is_right { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a live local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    say(format!("the child said {}", libc::WEXITSTATUS(status)));
}

fn is_forked(error: &CallError) -> bool {
    matches!(error, CallError::Endpoint { source: EndpointError::Forked, .. })
}

/// In the child: whether every call of a client says what it is.
fn is_told_as_client(client: &mut Client<u64, u64>, call: Call) -> bool {
    let outcomes = [
        client.call(&9, PATIENCE).map(drop),
        client.send(&9, PATIENCE).map(drop),
        client.notify(&9, PATIENCE),
        client.send_parts(&9, PATIENCE).map(drop),
        client.loan(PATIENCE).map(drop),
        client.wait(call, PATIENCE).map(drop),
        client.try_take(call).map(drop),
        futures_lite::future::block_on(client.call_async(&9, PATIENCE)).map(drop),
    ];
    outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(is_forked))
}

/// In the child: whether every call of a server does.
fn is_told_as_server(server: &mut Server<u64, u64>) -> bool {
    let forked = EndpointError::Forked;
    let outcomes = [
        server.try_recv().map(drop),
        server.recv().map(drop),
        server.recv_timeout(Duration::ZERO).map(drop),
        futures_lite::future::block_on(server.recv_async()).map(drop),
    ];
    outcomes
        .iter()
        .all(|outcome| matches!(outcome, Err(ReceiveError::Endpoint { source, .. }) if *source == forked))
}

/// Forks in the middle of things; the child is told what it cannot do, and drops what it has inherited.
pub fn fork(node: &Node) {
    let mut server: Server<u64, u64> =
        node.service(SERVICE).depth(DEPTH).server().expect("the service is ours");
    let mut client = client::<u64, u64>(node);
    let mut calls: Vec<Call> =
        (0..CALLS).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    let ticket = server.recv().expect("it comes").defer().expect("one answer is wanted");
    for number in 1..CALLS {
        server.recv().expect("it comes").answer(&(number + 1)).expect("the client is there");
    }
    let (put_off, others) = (calls.remove(0), calls);
    // Some answers are kept, and the descriptor is readable when there is room for them.
    while is_readable(&server, Duration::ZERO) {
        assert!(server.try_recv().expect("receiving succeeds").is_none());
    }
    let mut inherited = Some((server, client, ticket));
    fork_and_say(|| {
        let Some((mut server, mut client, ticket)) = inherited.take() else { return false };
        let is_told = is_told_as_client(&mut client, put_off);
        ticket.answer(&99);
        let is_told = is_told && is_told_as_server(&mut server);
        drop((server, client));
        is_told
    });
    let (mut server, mut client, ticket) = inherited.expect("it is ours");
    go_on(&mut server, &mut client, &others);
    ticket.answer(&1);
    assert!(server.try_recv().expect("receiving succeeds").is_none());
    assert_eq!(*client.wait(put_off, PATIENCE).expect("it was answered"), 1);
    fork_with_a_request(&mut server, &mut client);
    assert_eq!(node.violations(), (0, None));
    say("closed");
}

/// Whether there is something for the server to do, now or in time.
fn is_readable(server: &Server<u64, u64>, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).expect("it is short");
    let descriptor = server.as_fd().expect("descriptors are left");
    let mut watched = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    poll(&mut watched, Some(&timeout)).expect("descriptors can be waited for") == 1
}

/// In the parent: nothing of it was the child's to end.
fn go_on(server: &mut Server<u64, u64>, client: &mut Client<u64, u64>, calls: &[Call]) {
    for (call, number) in calls.iter().zip(2..) {
        if number == 2 + DEPTH as u64 {
            assert!(is_readable(server, PATIENCE), "there is room for what is kept, and nobody says so");
            assert!(server.try_recv().expect("receiving succeeds").is_none());
        }
        assert_eq!(*client.wait(*call, PATIENCE).expect("it was answered"), number);
    }
}

/// The same with a request in hand.
fn fork_with_a_request(server: &mut Server<u64, u64>, client: &mut Client<u64, u64>) {
    let calls = [1, 2].map(|number| client.send(&number, PATIENCE).expect("there is room"));
    let mut request = Some(server.recv().expect("it comes"));
    fork_and_say(|| {
        let Some(request) = request.take() else { return false };
        let outcome = request.answer(&99);
        matches!(outcome, Err(AnswerError::Endpoint { source: EndpointError::Forked, .. }))
    });
    request.expect("it is ours").answer(&2).expect("the client is there");
    server.recv().expect("it comes").answer(&3).expect("the client is there");
    for (call, number) in calls.into_iter().zip(2..) {
        assert_eq!(*client.wait(call, PATIENCE).expect("it was answered"), number);
    }
}

#[test]
fn a_forked_child_leaves_its_parents_calls_alone() {
    let stage = Stage::new();
    let mut forker = stage.start("service-forker", "");
    forker.expect("the child said 7");
    forker.expect("the child said 7");
    forker.expect("closed");
}

/// Says whom it does not agree with.
pub fn refuse(node: &Node) {
    let server: Server<u64, u64> = node.service(SERVICE).server().expect("the service is ours");
    say("serving");
    wait();
    loop {
        if let Some(refused) = server.refusals().first() {
            say(refused);
            return wait();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_type_that_differs_is_named_in_both_programs() {
    let stage = Stage::new();
    let mut server = stage.start("refusing-server", "");
    server.expect("serving");
    let node = stage.node();
    let error = node.service::<u32, u64>(SERVICE).client().expect_err("they do not agree");
    let ServiceError::TypeMismatch { refused, .. } = &error else { panic!("{error}") };
    assert_eq!(refused.node_name.as_ref(), "refusing-server");
    assert!(error.to_string().contains("ours u32, theirs u64"), "{error}");
    server.go();
    let said = server.hear();
    assert!(said.contains("ours u64, theirs u32"), "{said}");
}

/// Answers with as many bytes as it is asked for, within its limit.
pub fn serve_within_limits(node: &Node) {
    let service = node.service::<[u8], [u8]>(SERVICE).pool_limit(20_000);
    let mut server = service.server().expect("the service is ours");
    say("serving");
    loop {
        let request = server.recv().expect("requests come");
        let count = request.iter().fold(0, |count, byte| count << 8 | usize::from(*byte));
        if let Err(error) = request.answer(&vec![7; count]) {
            say(error);
        }
    }
}

#[test]
fn what_is_over_a_limit_is_said_in_the_program_that_sends_it() {
    let stage = Stage::new();
    let mut server = stage.start("limited-server", "");
    server.expect("serving");
    let node = stage.node();
    let service = node.service::<[u8], [u8]>(SERVICE).pool_limit(5_000).in_flight(2);
    let mut client = service.client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    let asked = |count: u32| count.to_be_bytes();
    for _ in 0..3 {
        assert_eq!(client.call(&asked(15_000), PATIENCE).expect("it is within the limit").len(), 15_000);
        let error = client.call(&asked(20_001), PATIENCE).map(drop).expect_err("it is over the limit");
        assert!(matches!(error, CallError::Unanswered { .. }), "{error}");
        let said = server.hear();
        assert!(said.contains("cannot be sent") && said.contains("20000"), "{said}");
        let error = client.call(&[0; 5_001], PATIENCE).map(drop).expect_err("it is over the limit");
        assert!(matches!(error, CallError::Send { .. }) && error.to_string().contains("5000"), "{error}");
    }
    let calls = [1, 2].map(|count| client.send(&asked(count), PATIENCE).expect("there is room"));
    let error = client.send(&asked(3), PATIENCE).map(drop).expect_err("as many wait as may");
    assert!(matches!(error, CallError::InFlight { limit: 2, .. }), "{error}");
    for (call, count) in calls.into_iter().zip(1..) {
        assert_eq!(client.wait(call, PATIENCE).expect("it answers").len(), count);
    }
}

/// Calls with a deadline, for one answer, for several, or as a future, and says what comes of it.
pub fn call_with_deadline(node: &Node, way: u64) {
    let (mut client, timeout) = (client::<u64, u64>(node), Duration::from_secs(1));
    let outcome = match way {
        1 => {
            let mut parts = client.call_parts(&1, timeout).expect("the server is there");
            parts.next().expect("there is an error").map(drop)
        }
        2 => futures_lite::future::block_on(client.call_async(&1, timeout)).map(drop),
        _ => client.call(&1, timeout).map(drop),
    };
    say(format!("{:?}", outcome.expect_err("nobody answers")));
}

/// The fear: who was not running when its deadline passed is told that its server let go of the request, which did so for that.
#[test]
fn a_server_that_lets_go_after_the_deadline_is_late() {
    let stage = Stage::new();
    let node = stage.node();
    let mut server: Server<u64, u64> = node.service(SERVICE).server().expect("the service is ours");
    for way in ["0", "1", "2"] {
        let mut client = stage.start("deadline-client", way);
        let request = server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it is asked");
        client.stop();
        while !request.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(request);
        client.signal(libc::SIGCONT);
        let said = client.hear();
        assert!(said.starts_with("Timeout") && said.contains("waited: 1s"), "{way}: {said}");
        client.ends();
    }
}

/// How a request is answered between two signals: as so many bytes, in place or not.
const WAYS: [(usize, bool); 4] = [(40, false), (40, true), (3000, false), (3000, true)];

/// Answers one request between two signals, in one of the ways.
pub fn answer_stepped(node: &Node, way: u64) {
    let (length, in_place) = WAYS[way as usize];
    let mut server: Server<u64, [u8]> = node.service(SERVICE).server().expect("the service is ours");
    say("serving");
    let bytes = vec![0xa5; length];
    for is_warm in [false, true] {
        let request = server.recv().expect("a request comes");
        let answer = || {
            if !in_place {
                return request.answer(&bytes).expect("the client is there");
            }
            let mut loan = request.loan_slice(length).expect("there is room");
            loan.copy_from_slice(&bytes);
            loan.send().expect("the client is there");
        };
        // Warm: the pool has its segment, and the lazy parts of the program are bound.
        if is_warm { between_signals(answer) } else { answer() }
    }
    say("answered");
    wait();
}

fn is_whole(answer: &[u8], way: usize) {
    assert!(answer.len() == WAYS[way].0 && answer.iter().all(|byte| *byte == 0xa5), "half an answer");
}

/// Answers again and again after as many instructions as are said, or until it is done; the call that is not answered yet.
fn begin(stage: &Stage, client: &mut Client<u64, [u8]>, way: usize) -> (crate::stage::Actor, Stepped, Call) {
    let mut actor = stage.start("stepped-server", &way.to_string());
    actor.expect("serving");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    is_whole(&client.call(&1, PATIENCE).expect("it answers"), way);
    let call = client.send(&2, PATIENCE).expect("there is room");
    let stepped = Stepped::new(&mut actor);
    (actor, stepped, call)
}

/// Steps through an answer; how many instructions it has, and after which it was there.
fn step_through(way: usize) -> (u64, u64) {
    let stage = Stage::new();
    let node = stage.node();
    let mut client = node.service(SERVICE).client().expect("nobody is there");
    let (mut actor, stepped, call) = begin(&stage, &mut client, way);
    let (mut steps, mut there_after) = (0, None);
    while stepped.step() {
        steps += 1;
        assert!(steps < STEPS_MAX, "an answer of more than {STEPS_MAX} instructions");
        if there_after.is_none()
            && let Some(answer) = client.try_take(call).expect("one answer does not hold anybody up")
        {
            is_whole(&answer, way);
            there_after = Some(steps);
        }
    }
    stepped.let_go();
    actor.expect("answered");
    (steps, there_after.expect("it is there after the last instruction"))
}

/// Kills the server after so many instructions of its answer: the call is answered or lost, and the next server takes the next.
fn kill_after(way: usize, steps: u64) {
    let stage = Stage::new();
    let node = stage.node();
    let mut client = node.service(SERVICE).client().expect("nobody is there");
    let (mut actor, stepped, call) = begin(&stage, &mut client, way);
    for _ in 0..steps {
        if !stepped.step() {
            break;
        }
    }
    actor.signal_kill();
    stepped.bury();
    actor.kill();
    match client.wait(call, PATIENCE) {
        Ok(answer) => is_whole(&answer, way),
        Err(CallError::ServerLost { .. }) => {}
        Err(error) => panic!("after {steps} instructions: {error}"),
    }
    assert!(matches!(client.wait(call, PATIENCE), Err(CallError::NoSuchCall { .. })), "it has one outcome");
    let mut next = stage.start("stepped-server", &way.to_string());
    next.expect("serving");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    is_whole(&client.call(&3, PATIENCE).expect("it answers"), way);
    assert_eq!((client.waiting(), client.late_answers()), (0, 0));
}

fn whole_or_lost(way: usize) {
    let (steps, there_after) = step_through(way);
    println!("an answer of {} B has {steps} instructions, and is there after {there_after}", WAYS[way].0);
    let spread = (0..4).map(|part| 1 + part * (steps - 1) / 4);
    spread.chain([there_after - 1, there_after, steps]).for_each(|after| kill_after(way, after));
}

#[test]
fn a_short_answer_is_whole_or_lost_after_every_instruction() {
    whole_or_lost(0);
    whole_or_lost(1);
}

#[test]
fn a_pooled_answer_is_whole_or_lost_after_every_instruction() {
    whole_or_lost(2);
    whole_or_lost(3);
}
