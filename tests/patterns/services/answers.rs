//! Answers that come late, from elsewhere, or not at all.

use std::time::Duration;

use tidepost::{AnswerError, AsFailure, Call, CallError, Client};

use crate::services::stage::{Domain, Doubler, PATIENCE, meet, next, pair, start, until};

/// The outcome of a call, which comes.
fn outcome(client: &mut Client<u64, u64>, call: Call) -> Result<u64, CallError> {
    client.wait(call, PATIENCE).map(|answer| *answer)
}

#[test]
fn a_request_that_is_let_go_of_is_unanswered() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let calls: Vec<_> = (0..4).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    drop(next(&mut server));
    drop(next(&mut server).defer().expect("one answer is wanted"));
    drop(next(&mut server).loan().expect("there is room"));
    next(&mut server).answer(&7).expect("the client is there");
    let mut outcomes = calls.into_iter().map(|call| outcome(&mut client, call));
    for _ in 0..3 {
        let error = outcomes.next().expect("there are four").expect_err("nobody answered");
        assert!(matches!(error, CallError::Unanswered { .. }), "{error}");
    }
    assert_eq!(outcomes.next().expect("there are four").expect("it was answered"), 7);
}

#[test]
fn other_threads_answer_in_their_own_time() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let serving = start(move || {
        let answering: Vec<_> = (0..50)
            .map(|_| {
                let ticket = next(&mut server).defer().expect("one answer is wanted");
                start(move || {
                    std::thread::sleep(Duration::from_millis(*ticket % 7));
                    match *ticket {
                        number if number % 5 == 0 => ticket.fail("five".as_failure()),
                        number if number % 5 == 1 => drop(ticket),
                        number => ticket.answer(&(number + 1)),
                    }
                })
            })
            .collect();
        // It sleeps meanwhile, and sends what they answer.
        assert_eq!(*next(&mut server), 99);
        answering.into_iter().for_each(|work| work.finish());
    });
    let calls: Vec<_> =
        (0..50).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    for (number, call) in (0..).zip(calls) {
        match (number % 5, outcome(&mut client, call)) {
            (0, Err(CallError::Failed { failure, .. })) => assert_eq!(failure.to_text(), "five"),
            (1, Err(CallError::Unanswered { .. })) => {}
            (2.., Ok(answer)) => assert_eq!(answer, number + 1),
            (_, other) => panic!("call {number}: {other:?}"),
        }
    }
    client.notify(&99, PATIENCE).expect("there is room");
    serving.finish();
}

/// A server that waits in its node's own loop has to hear of them, too.
#[test]
fn a_server_without_a_thread_hears_of_answers_from_other_threads() {
    let domain = Domain::new();
    let mut server =
        domain.node_without_thread("there").service::<u64, u64>("service").server().expect("ours");
    let serving = start(move || {
        let ticket = next(&mut server).defer().expect("one answer is wanted");
        let answering = start(move || {
            std::thread::sleep(Duration::from_millis(50));
            ticket.answer(&2);
        });
        // Nothing comes but the ticket's answer.
        assert_eq!(*next(&mut server), 99);
        answering.finish();
    });
    let node = domain.node("here");
    let mut client: Client<u64, u64> = node.service("service").client().expect("the types agree");
    until("the server is there", || client.servers() == 1);
    assert_eq!(*client.call(&1, PATIENCE / 4).expect("it answers"), 2);
    client.notify(&99, PATIENCE).expect("there is room");
    serving.finish();
}

#[test]
fn tickets_tell_what_requests_tell() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let call = client.send(&5, PATIENCE).expect("there is room");
    let ticket = next(&mut server).defer().expect("one answer is wanted");
    assert!(*ticket == 5 && !ticket.is_cancelled() && ticket.deadline().is_some());
    assert!(client.cancel(call));
    assert!(ticket.is_cancelled());
    ticket.answer(&6);
    client.send(&6, PATIENCE).expect("there is room");
    let ticket = next(&mut server).defer().expect("one answer is wanted");
    drop(client);
    until("the client has gone", || server.clients() == 0);
    assert!(ticket.is_cancelled());
    ticket.answer(&7);
    assert!(server.try_recv().expect("receiving succeeds").is_none());
}

#[test]
fn late_answers_are_counted_and_reach_no_newer_call() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    for number in 0..100 {
        let given_up = client.send(&(2 * number), PATIENCE).expect("there is room");
        let late = next(&mut server).defer().expect("one answer is wanted");
        assert!(client.cancel(given_up) && !client.cancel(given_up), "only once");
        let call = client.send(&(2 * number + 1), PATIENCE).expect("there is room");
        late.answer(&1000);
        next(&mut server).answer(&number).expect("the client is there");
        assert_eq!(outcome(&mut client, call).expect("it was answered"), number);
        let error = outcome(&mut client, given_up).expect_err("it was given up");
        assert!(matches!(error, CallError::NoSuchCall { .. }), "{error}");
    }
    assert_eq!((client.late_answers(), client.waiting()), (100, 0));
}

#[test]
fn what_has_come_is_found_without_waiting() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let calls: Vec<_> = (0..3).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    assert!(client.try_take(calls[0]).expect("it waits").is_none());
    assert_eq!(client.wait_any(Duration::ZERO).expect("nothing fails"), None);
    let tickets: Vec<_> = (0..3).map(|_| next(&mut server).defer().expect("one answer is wanted")).collect();
    for (place, ticket) in tickets.into_iter().enumerate().rev() {
        let answer = *ticket + 10;
        ticket.answer(&answer);
        assert!(server.try_recv().expect("receiving succeeds").is_none());
        let found = client.wait_any(PATIENCE).expect("nothing fails").expect("it was answered");
        assert_eq!(found, calls[place]);
        let taken = client.try_take(found).expect("it was answered").map(|answer| *answer);
        assert_eq!(taken, Some(answer));
        let error = client.try_take(found).expect_err("it was taken");
        assert!(matches!(error, CallError::NoSuchCall { .. }), "{error}");
    }
}

#[test]
fn calls_of_another_client_or_kind_are_refused() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let mut other: Client<u64, u64> =
        domain.node("other").service("service").client().expect("the types agree");
    meet(&mut other);
    let theirs: Vec<_> = (0..2).map(|number| other.send(&number, PATIENCE).expect("there is room")).collect();
    let error = client.try_take(theirs[1]).expect_err("it is not ours");
    assert!(matches!(error, CallError::NoSuchCall { .. }), "{error}");
    let parts = client.send_parts(&1, PATIENCE).expect("there is room");
    let one = client.send(&2, PATIENCE).expect("there is room");
    for (error, wanted) in [
        (client.wait(parts, PATIENCE).err(), "parts"),
        (client.try_take(parts).err(), "parts"),
        (client.next_part(one, PATIENCE).err(), "an answer"),
    ] {
        let Some(CallError::Kind { wanted: was, .. }) = error else { panic!("{error:?}") };
        assert_eq!(was, wanted);
    }
    (0..2).for_each(|_| drop(next(&mut server)));
    for _ in 0..2 {
        let request = next(&mut server);
        let error = match request.wants_parts() {
            true => request.answer(&1).expect_err("parts are wanted"),
            false => request.parts().map(drop).expect_err("one answer is wanted"),
        };
        assert!(matches!(error, AnswerError::Kind { .. }), "{error}");
    }
    let error = outcome(&mut client, one).expect_err("nobody answered");
    assert!(matches!(error, CallError::Unanswered { .. }), "{error}");
    let error = client.next_part(parts, PATIENCE).expect_err("nobody answered");
    assert!(matches!(error, CallError::Unanswered { .. }), "{error}");
}

#[test]
fn one_way_requests_are_served_and_not_answered() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    for number in 0..10 {
        client.notify(&number, PATIENCE).expect("there is room");
    }
    for number in 0..10 {
        let request = next(&mut server);
        assert!(*request == number && !request.wants_answer() && !request.is_cancelled());
        match number % 5 {
            0 => request.answer(&1).expect("it is passed over"),
            1 => request.fail("no".as_failure()).expect("it is passed over"),
            2 => request.loan().expect("memory is there").send().expect("it is passed over"),
            3 => request.defer().expect("it can be put off").answer(&1),
            _ => drop(request),
        }
    }
    assert!(server.try_recv().expect("receiving succeeds").is_none());
    assert_eq!((client.wait_any(Duration::ZERO).expect("nothing fails"), client.late_answers()), (None, 0));
}

/// Who has sent them need not stay until they are served.
#[test]
fn one_way_requests_outlive_their_client() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    for number in 0..10 {
        client.notify(&number, PATIENCE).expect("there is room");
    }
    client.send(&10, PATIENCE).expect("there is room");
    drop(client);
    until("the client has gone", || server.clients() == 0);
    for number in 0..10 {
        let request = next(&mut server);
        assert!(*request == number && !request.is_cancelled());
    }
    assert!(server.try_recv().expect("receiving succeeds").is_none());
    assert_eq!(server.passed_over(), 1, "nobody is left who wants that answer");
}

/// What tickets have answered goes out with the last that the server does.
#[test]
fn answers_of_other_threads_outlive_their_server() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let calls: Vec<_> =
        (0..20).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    for _ in 0..20 {
        next(&mut server).defer().expect("one answer is wanted").answer(&7);
    }
    drop(server);
    calls.into_iter().for_each(|call| assert_eq!(outcome(&mut client, call).expect("it was answered"), 7));
}

#[test]
fn two_threads_of_one_node_call_each_other() {
    let domain = Domain::new();
    let node = domain.node("both");
    let _servers = [Doubler::start(&node, "first"), Doubler::start(&node, "second")];
    let working: Vec<_> = ["first", "second"]
        .map(|service| {
            let mut client = crate::services::stage::client(&node, service);
            meet(&mut client);
            start(move || {
                for number in 0..2000 {
                    assert_eq!(*client.call(&number, PATIENCE).expect("it answers"), 2 * number);
                }
            })
        })
        .into();
    working.into_iter().for_each(|work| work.finish());
}
