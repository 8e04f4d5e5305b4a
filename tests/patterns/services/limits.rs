//! Large messages, full streams, and how many calls may wait.

use std::time::Duration;

use tidepost::{AnswerError, CallError, Client, SendError, Server};

use crate::services::stage::{Domain, Doubler, PATIENCE, client, meet, next, pair, start};

const SHORT: Duration = Duration::from_millis(100);

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + length) as u8).collect()
}

#[test]
fn messages_of_any_length_go_both_ways() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<[u8], [u8]>(&domain);
    let serving = start(move || {
        server.serve(|request| {
            let answer: Vec<u8> = request.iter().rev().copied().collect();
            if answer.len() == 1 { Err("one is none") } else { Ok(answer) }
        })
    });
    // The lengths around those of a line, a slot, and chunks of several classes.
    for length in [0, 2, 47, 48, 49, 56, 57, 240, 248, 249, 4096, 100_000, 3 << 20, 0, 20 << 20, 5] {
        let request = bytes(length);
        let answer = client.call(&request, PATIENCE).expect("it answers");
        assert!(answer.iter().rev().eq(request.iter()), "{length} B");
    }
    let calls: Vec<_> =
        (0..200).map(|number| client.send(&bytes(number * 1000), PATIENCE).expect("there is room")).collect();
    for (call, number) in calls.into_iter().zip(0usize..) {
        let answer = client.wait(call, PATIENCE);
        match answer {
            Ok(answer) => assert!(answer.iter().rev().eq(bytes(number * 1000).iter()), "call {number}"),
            Err(error) => panic!("call {number}: {error}"),
        }
    }
    let error = client.call(&[1], PATIENCE).expect_err("it fails");
    assert!(matches!(error, CallError::Failed { .. }), "{error}");
    drop(client);
    drop(serving);
}

#[test]
fn a_request_over_the_limit_is_the_clients_error() {
    let domain = Domain::new();
    let mut server: Server<[u8], u64> =
        domain.node("there").service("service").server().expect("the service is ours");
    let node = domain.node("here");
    let mut client: Client<[u8], u64> =
        node.service("service").pool_limit(64 << 10).client().expect("the types agree");
    meet(&mut client);
    for length in [65 << 10, 1 << 20] {
        let error = client.send(&bytes(length), PATIENCE).expect_err("it is too long");
        let CallError::Send { source, .. } = &error else { panic!("{error}") };
        assert!(matches!(**source, SendError::Full { .. } | SendError::TooLarge { .. }), "{error}");
        assert!(error.to_string().contains("service `service`"), "{error}");
    }
    let call = client.send(&bytes(60 << 10), PATIENCE).expect("it is just short enough");
    let request = next(&mut server);
    assert!(*request == *bytes(60 << 10));
    request.answer(&7).expect("the client is there");
    assert_eq!(*client.wait(call, PATIENCE).expect("it was answered"), 7);
    assert_eq!(client.waiting(), 0);
}

#[test]
fn an_answer_over_the_limit_is_the_servers_error_and_the_client_learns_of_it() {
    let domain = Domain::new();
    let node = domain.node("there");
    let mut server: Server<u64, [u8]> =
        node.service("service").pool_limit(64 << 10).server().expect("the service is ours");
    let mut client: Client<u64, [u8]> = domain.node("here").service("service").client().expect("they agree");
    meet(&mut client);
    let calls: Vec<_> = (0..4).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    let over = bytes(1 << 20);
    let error = next(&mut server).answer(&over).expect_err("it is too long");
    assert!(matches!(error, AnswerError::Send { .. }), "{error}");
    let error = next(&mut server).loan_slice(1 << 20).map(drop).expect_err("it is too long");
    assert!(matches!(error, AnswerError::Send { .. }), "{error}");
    next(&mut server).defer().expect("one answer is wanted").answer(&over);
    next(&mut server).answer(&over[..60 << 10]).expect("it is short enough");
    assert!(server.try_recv().expect("receiving succeeds").is_none());
    for (call, number) in calls.into_iter().zip(0..) {
        match client.wait(call, PATIENCE) {
            Err(CallError::Unanswered { .. }) => assert!(number < 3),
            Ok(answer) => assert!(number == 3 && *answer == over[..60 << 10]),
            Err(error) => panic!("{error}"),
        }
    }
    let mut parts = client.call_parts(&0, PATIENCE).expect("there is a server");
    let mut reply = next(&mut server).parts().expect("parts are wanted");
    assert!(matches!(reply.send(&over), Err(AnswerError::Send { .. })));
    reply.send(&over[..9]).expect("it is short");
    reply.finish().expect("the client is there");
    assert_eq!(parts.next().expect("it comes").expect("it is a part").len(), 9);
    assert!(parts.next().is_none());
}

/// Lengths that no address space has room for are errors, too, in every state of the stream.
#[test]
fn a_loan_beyond_all_memory_is_an_error() {
    let domain = Domain::new();
    let there = domain.node("there");
    let mut server: Server<u64, [u64]> =
        there.service("service").depth(8).server().expect("the service is ours");
    let mut client: Client<u64, [u64]> = domain.node("here").service("service").client().expect("they agree");
    meet(&mut client);
    for number in 0..20 {
        client.send(&number, PATIENCE).expect("there is room");
    }
    client.notify(&20, PATIENCE).expect("there is room");
    for number in 0..21 {
        let request = next(&mut server);
        if number % 2 == 0 {
            let error = request.loan_slice(usize::MAX / 9).map(drop).expect_err("there is not so much");
            assert!(matches!(error, AnswerError::Send { .. }), "{number}: {error}");
        } else {
            request.answer(&[1; 20]).expect("the client is there");
        }
    }
}

#[test]
fn a_send_into_a_full_stream_waits_for_room_or_its_time() {
    let domain = Domain::new();
    let mut server: Server<u64, u64> =
        domain.node("there").service("service").server().expect("the service is ours");
    let node = domain.node("here");
    let mut client: Client<u64, u64> = node.service("service").depth(8).client().expect("the types agree");
    meet(&mut client);
    let mut calls: Vec<_> =
        (0..8).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    for _ in 0..2 {
        let error = client.send(&8, SHORT).expect_err("there is no room");
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");
        let error = client.notify(&8, SHORT).expect_err("there is no room");
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    }
    let serving = start(move || {
        std::thread::sleep(SHORT);
        for number in 0..200 {
            let request = next(&mut server);
            assert_eq!(*request, number);
            request.answer(&number).expect("the client is there");
            if number % 40 == 0 {
                std::thread::sleep(SHORT / 10);
            }
        }
        server
    });
    for number in 8..200 {
        calls.push(client.send(&number, PATIENCE).expect("room comes"));
    }
    for (call, number) in calls.into_iter().zip(0..) {
        assert_eq!(*client.wait(call, PATIENCE).expect("it was answered"), number);
    }
    serving.finish();
}

/// The answers to many calls, none of which is taken: the server keeps what has no room.
#[test]
fn answers_that_have_no_room_are_kept_and_delivered_in_order() {
    let domain = Domain::new();
    let there = domain.node("there");
    let mut server: Server<u64, [u64]> =
        there.service("service").depth(8).server().expect("the service is ours");
    let node = domain.node("here");
    let mut client: Client<u64, [u64]> = node.service("service").client().expect("the types agree");
    meet(&mut client);
    let mut other: Client<u64, [u64]> =
        domain.node("other").service("service").client().expect("the types agree");
    meet(&mut other);
    let calls: Vec<_> = (0..500)
        .map(|number| {
            let call = client.send(&number, PATIENCE).expect("there is room");
            // Short ones, long ones, and some through the pool.
            let answer = vec![number; (number * number % 3000) as usize];
            next(&mut server).answer(&answer).expect("the client is there");
            call
        })
        .collect();
    let theirs = other.send(&7, PATIENCE).expect("there is room");
    next(&mut server).answer(&[7]).expect("the client is there");
    assert_eq!(*other.wait(theirs, PATIENCE).expect("it overtakes them"), [7]);
    let serving = start(move || drop(server.recv_timeout(PATIENCE).expect("receiving succeeds")));
    for (call, number) in calls.into_iter().zip(0u64..) {
        let answer = client.wait(call, PATIENCE).expect("it was answered");
        let expected = vec![number; (number * number % 3000) as usize];
        assert!(*answer == *expected, "call {number}");
    }
    client.notify(&0, PATIENCE).expect("there is room");
    serving.finish();
}

#[test]
fn as_many_calls_wait_as_may() {
    let domain = Domain::new();
    let mut server: Server<u64, u64> =
        domain.node("there").service("service").server().expect("the service is ours");
    let node = domain.node("here");
    let mut client: Client<u64, u64> = node.service("service").in_flight(5).client().expect("they agree");
    meet(&mut client);
    let mut calls: Vec<_> =
        (0..5).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    let error = client.send(&5, PATIENCE).expect_err("as many wait as may");
    let CallError::InFlight { limit: 5, .. } = error else { panic!("{error}") };
    // One that is given up makes room for another.
    assert!(client.cancel(calls.remove(2)));
    calls.push(client.send(&6, PATIENCE).expect("there is room"));
    client.send(&7, PATIENCE).expect_err("as many wait as may");
    for expected in [0, 1, 3, 4, 6] {
        let request = next(&mut server);
        assert_eq!(*request, expected);
        request.answer(&expected).expect("the client is there");
    }
    for (call, expected) in calls.into_iter().zip([0, 1, 3, 4, 6]) {
        assert_eq!(*client.wait(call, PATIENCE).expect("it was answered"), expected);
    }
}

/// It is the calls that wait which are counted, and not those that were made since the oldest of them.
#[test]
fn one_slow_call_does_not_use_up_the_calls_that_may_wait() {
    let domain = Domain::new();
    let there = domain.node("there");
    let mut server: Server<u64, u64> = there.service("service").server().expect("the service is ours");
    let node = domain.node("here");
    let mut client: Client<u64, u64> = node.service("service").in_flight(4).client().expect("they agree");
    meet(&mut client);
    let serving = start(move || {
        let mut slow = Vec::new();
        loop {
            let request = next(&mut server);
            match *request {
                0 => slow.push(request.defer().expect("one answer is wanted")),
                1 => slow.drain(..).for_each(|ticket| ticket.answer(&1)),
                number if request.wants_parts() => {
                    let mut parts = request.parts().expect("parts are wanted");
                    (0..number).for_each(|part| parts.send(&part).expect("the client takes them"));
                    parts.finish().expect("the client is there");
                }
                u64::MAX => return,
                number => request.answer(&(2 * number)).expect("the client is there"),
            }
        }
    });
    let slow: Vec<_> = (0..2).map(|_| client.send(&0, PATIENCE).expect("there is room")).collect();
    for number in 2..100 {
        assert_eq!(*client.call(&number, PATIENCE).expect("it answers"), 2 * number);
        // Parts whose count is told through a word that may be one that a slow call has.
        let parts = client.call_parts(&200, PATIENCE).expect("there is room");
        assert!(parts.map(|part| *part.expect("it comes")).eq(0..200));
    }
    let more = [7, 8].map(|number| client.send(&number, PATIENCE).expect("there is room"));
    let error = client.send(&9, PATIENCE).expect_err("four wait");
    assert!(matches!(error, CallError::InFlight { .. }), "{error}");
    for (call, answer) in more.into_iter().zip([14, 16]) {
        assert_eq!(*client.wait(call, PATIENCE).expect("it answers"), answer);
    }
    client.notify(&1, PATIENCE).expect("there is room");
    for call in slow {
        assert_eq!(*client.wait(call, PATIENCE).expect("it answers at last"), 1);
    }
    client.notify(&u64::MAX, PATIENCE).expect("there is room");
    serving.finish();
    assert_eq!(client.waiting(), 0);
}

#[test]
fn options_out_of_their_range_are_named() {
    let domain = Domain::new();
    let node = domain.node("here");
    let service = || node.service::<u64, u64>("service");
    for (error, option) in [
        (service().depth(0).client().err(), "depth"),
        (service().depth(8193).server().err(), "depth"),
        (service().slot_bytes(65_537).server().err(), "slot bytes"),
        (service().in_flight(0).client().err(), "in flight"),
        (service().in_flight(65_537).client().err(), "in flight"),
    ] {
        let error = error.expect("it is out of range").to_string();
        assert!(error.starts_with(&format!("service `service`: {option} is ")), "{error}");
    }
    let _server = Doubler::start(&node, "service");
    let mut most: Client<u64, u64> =
        service().depth(8192).in_flight(65_536).client().expect("it is the most that may be");
    meet(&mut most);
    assert_eq!(*most.call(&1, PATIENCE).expect("it answers"), 2);
    assert_eq!(*client(&node, "service").call(&2, PATIENCE).expect("it answers"), 4);
}

/// The fear: chunks that are all too short have used the pool's limit up, and who sends more waits for ever.
#[test]
fn a_request_for_which_the_pool_can_never_have_room_is_an_error() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut server: Server<[u8], [u8]> =
        there.service("service").pool_limit(70_000).server().expect("the service is ours");
    let mut client: Client<[u8], [u8]> =
        here.service("service").pool_limit(70_000).client().expect("the types agree");
    meet(&mut client);
    let call = client.send(&[1; 5_000], PATIENCE).expect("there is room");
    next(&mut server).answer(&[2; 5_000]).expect("the client is there");
    assert!(*client.wait(call, PATIENCE).expect("it was answered") == [2; 5_000]);
    let error = client.send(&[1; 60_000], PATIENCE).expect_err("the chunks that there are are too short");
    assert!(matches!(error, CallError::Send { .. }), "{error}");
    let error = client.loan_slice(60_000, PATIENCE).map(drop).expect_err("it is the same in place");
    assert!(matches!(error, CallError::Send { .. }), "{error}");
    let call = client.send(&[1; 5], PATIENCE).expect("there is room");
    let error = next(&mut server).answer(&[2; 60_000]).expect_err("it is the same the other way round");
    assert!(matches!(error, AnswerError::Send { .. }), "{error}");
    assert!(matches!(client.wait(call, PATIENCE), Err(CallError::Unanswered { .. })));
}

/// Where a slot is lacking as well, a longer message than any before may find room when that comes free.
#[test]
fn a_full_stream_does_not_mean_that_the_pool_cannot_grow() {
    let domain = Domain::new();
    let (here, there) = (domain.node("here"), domain.node("there"));
    let mut server: Server<[u8], u64> = there.service("service").server().expect("the service is ours");
    let mut client: Client<[u8], u64> = here.service("service").depth(8).client().expect("the types agree");
    meet(&mut client);
    (0..8).for_each(|_| client.notify(&[1; 5], PATIENCE).expect("there is room"));
    let error = client.notify(&[1; 60_000], SHORT).expect_err("there is no slot");
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    let serving = start(move || {
        (0..8).for_each(|_| drop(next(&mut server)));
        assert!(*next(&mut server) == [1; 60_000]);
    });
    client.notify(&[1; 60_000], PATIENCE).expect("room comes");
    serving.finish();
}
