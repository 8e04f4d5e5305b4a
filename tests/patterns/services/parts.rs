//! Many answers to one call.

use std::time::Duration;

use tidepost::{AnswerError, AsFailure, CallError, Client, Server};

use crate::services::stage::{Domain, PATIENCE, meet, next, pair, start};

/// Parts that a server may be ahead of its client.
const AHEAD: u64 = 64;
/// A time that nothing may take as long as.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn a_server_is_sixty_four_parts_ahead_of_a_client_that_takes_none() {
    let domain = Domain::new();
    for depth in [8, 64, 1024] {
        let name = format!("depth-{depth}");
        let there = domain.node("there");
        let mut server: Server<u64, u64> = there.service(&name).depth(depth).server().expect("ours");
        let mut client: Client<u64, u64> =
            domain.node("here").service(&name).client().expect("the types agree");
        meet(&mut client);
        let call = client.send_parts(&0, SOON).expect("there is room");
        let mut parts = next(&mut server).parts().expect("parts are wanted");
        let (mut sent, mut taken) = (0, 0);
        let error = loop {
            match parts.send(&sent) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AnswerError::Timeout { .. } | AnswerError::Cancelled { .. }), "{error}");
        assert_eq!(sent, AHEAD.min(depth as u64), "depth {depth}");
        drop(parts);
        while taken < sent {
            assert_eq!(*client.next_part(call, PATIENCE).expect("it was sent").expect("it is a part"), taken);
            taken += 1;
        }
        // There is room now for what ends them.
        assert!(server.try_recv().expect("receiving succeeds").is_none());
        let error = client.next_part(call, PATIENCE).expect_err("the rest is missing");
        assert!(matches!(error, CallError::Unanswered { .. }), "{error}");
    }
}

#[test]
fn a_server_goes_on_as_its_client_takes_parts() {
    const PARTS: u64 = 1000;
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let serving = start(move || {
        let mut parts = next(&mut server).parts().expect("parts are wanted");
        for number in 0..PARTS {
            parts.send(&number).expect("the client takes them");
        }
        parts.fail("that was all".as_failure()).expect("the client is there");
        // It may have been kept for want of room.
        assert_eq!(*next(&mut server), 1);
    });
    let call = client.send_parts(&0, PATIENCE).expect("there is room");
    for number in 0..PARTS {
        if number % 100 == 0 {
            // Both fall asleep.
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(*client.next_part(call, PATIENCE).expect("it comes").expect("it is a part"), number);
    }
    let error = client.next_part(call, PATIENCE).expect_err("it failed");
    let CallError::Failed { failure, .. } = &error else { panic!("{error}") };
    assert_eq!(failure.to_text(), "that was all");
    let error = client.next_part(call, PATIENCE).expect_err("it is over");
    assert!(matches!(error, CallError::NoSuchCall { .. }), "{error}");
    client.notify(&1, PATIENCE).expect("there is room");
    serving.finish();
}

/// Parts that nobody takes are in nobody's way.
#[test]
fn calls_overtake_parts_that_are_not_taken() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let serving = start(move || {
        while let Some(request) = server.recv_timeout(PATIENCE).expect("receiving succeeds") {
            match *request {
                u64::MAX => return,
                count if request.wants_parts() => {
                    let mut parts = request.parts().expect("parts are wanted");
                    (0..count).for_each(|number| parts.send(&number).expect("there is room"));
                    parts.finish().expect("the client is there");
                }
                number => request.answer(&(2 * number)).expect("the client is there"),
            }
        }
    });
    let slow: Vec<_> = (0..20).map(|_| client.send_parts(&AHEAD, PATIENCE).expect("there is room")).collect();
    let mut other: Client<u64, u64> =
        domain.node("other").service("service").client().expect("the types agree");
    meet(&mut other);
    // More than may wait at a time, and more than the streams have room for.
    for number in 0..5000 {
        assert_eq!(*client.call(&number, PATIENCE).expect("it answers"), 2 * number);
        assert_eq!(*other.call(&number, PATIENCE).expect("it answers"), 2 * number);
    }
    for call in slow {
        for number in 0..AHEAD {
            assert_eq!(*client.next_part(call, PATIENCE).expect("it comes").expect("it is a part"), number);
        }
        assert!(client.next_part(call, PATIENCE).expect("it comes").is_none());
    }
    client.notify(&u64::MAX, PATIENCE).expect("there is room");
    serving.finish();
}

#[test]
fn dropping_the_parts_cancels_the_call() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let (go_on, seen) = std::sync::mpsc::channel();
    let serving = start(move || {
        for _ in 0..2 {
            let mut parts = next(&mut server).parts().expect("parts are wanted");
            let error = (0..).find_map(|number| parts.send(&number).err()).expect("it ends");
            assert!(matches!(error, AnswerError::Cancelled { .. }), "{error}");
            assert!(parts.is_cancelled());
            drop(parts);
            go_on.send(()).expect("the client waits");
        }
        let mut parts = next(&mut server).parts().expect("parts are wanted");
        let error = (0..).find_map(|number| parts.send(&number).err()).expect("it ends");
        assert!(matches!(error, AnswerError::ClientGone { .. } | AnswerError::Cancelled { .. }), "{error}");
    });
    let mut parts = client.call_parts(&0, PATIENCE).expect("there is a server");
    assert_eq!(*parts.next().expect("it goes on").expect("it comes"), 0);
    // The server sleeps by then, for want of someone to take parts.
    std::thread::sleep(Duration::from_millis(50));
    drop(parts);
    seen.recv_timeout(PATIENCE).expect("the server sees it");
    let call = client.send_parts(&0, PATIENCE).expect("there is room");
    std::thread::sleep(Duration::from_millis(50));
    assert!(client.cancel(call));
    seen.recv_timeout(PATIENCE).expect("the server sees it");
    client.send_parts(&0, PATIENCE).expect("there is room");
    std::thread::sleep(Duration::from_millis(50));
    drop(client);
    serving.finish();
}

#[test]
fn parts_end_with_the_deadline_or_without_an_end() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let mut parts = client.call_parts(&0, SOON).expect("there is a server");
    let request = next(&mut server);
    let mut reply = request.parts().expect("parts are wanted");
    reply.send(&1).expect("there is room");
    assert_eq!(*parts.next().expect("it goes on").expect("it comes"), 1);
    let error = parts.next().expect("it ends").expect_err("nothing more comes");
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    assert!(parts.next().is_none() && reply.is_cancelled());
    drop((parts, reply));
    let mut parts = client.call_parts(&0, PATIENCE).expect("there is a server");
    let mut reply = next(&mut server).parts().expect("parts are wanted");
    reply.send(&1).expect("there is room");
    drop(reply);
    assert_eq!(*parts.next().expect("it goes on").expect("it comes"), 1);
    let error = parts.next().expect("it ends").expect_err("the rest is missing");
    assert!(matches!(error, CallError::Unanswered { .. }), "{error}");
    assert!(parts.next().is_none());
    drop(parts);
    assert_eq!(client.waiting(), 0);
}

/// Answers of other threads are sent while the server waits for a client to take parts.
#[test]
fn tickets_are_answered_while_the_server_sends_parts() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, u64>(&domain);
    let one = client.send(&1, PATIENCE).expect("there is room");
    let many = client.send_parts(&2, PATIENCE).expect("there is room");
    let serving = start(move || {
        let ticket = next(&mut server).defer().expect("one answer is wanted");
        let answering = start(move || {
            std::thread::sleep(SOON / 3);
            ticket.answer(&7);
        });
        let mut parts = next(&mut server).parts().expect("parts are wanted");
        (0..2 * AHEAD).for_each(|number| parts.send(&number).expect("the client takes them"));
        parts.finish().expect("the client is there");
        answering.finish();
        assert_eq!(*next(&mut server), 3);
    });
    // The server is through with its parts only when some have been taken, and that is after this.
    assert_eq!(*client.wait(one, PATIENCE / 4).expect("it was answered"), 7);
    for number in 0..2 * AHEAD {
        assert_eq!(*client.next_part(many, PATIENCE).expect("it comes").expect("it is a part"), number);
    }
    assert!(client.next_part(many, PATIENCE).expect("it comes").is_none());
    client.notify(&3, PATIENCE).expect("there is room");
    serving.finish();
}

/// Parts through the pool, kept where they lie as far as that may be.
#[test]
fn large_parts_are_whole() {
    let domain = Domain::new();
    let (mut server, mut client) = pair::<u64, [u8]>(&domain);
    let part = |number: u64| vec![number as u8; 100_000 + number as usize];
    let serving = start(move || {
        let mut parts = next(&mut server).parts().expect("parts are wanted");
        (0..200).for_each(|number| parts.send(&part(number)).expect("the client takes them"));
        parts.send(&[]).expect("the client takes it");
        parts.finish().expect("the client is there");
        assert_eq!(*next(&mut server), 1);
    });
    let mut parts = client.call_parts(&0, PATIENCE).expect("there is a server");
    let mut kept = Vec::new();
    for number in 0..200 {
        kept.push((number, parts.next().expect("it goes on").expect("it comes")));
        if kept.len() == 40 {
            kept.drain(..20).for_each(|(number, kept)| assert!(*kept == *part(number), "part {number}"));
        }
    }
    assert!(parts.next().expect("it goes on").expect("it comes").is_empty());
    assert!(parts.next().is_none());
    drop(parts);
    client.notify(&1, PATIENCE).expect("there is room");
    kept.into_iter().for_each(|(number, kept)| assert!(*kept == *part(number), "part {number}"));
    serving.finish();
}

/// The fear: client and server wait for each other, the one for room and the other for its parts to be taken.
#[test]
fn while_it_waits_for_its_client_a_server_gives_back_what_it_has_read() {
    const DEPTH: u64 = 8;
    let domain = Domain::new();
    let mut server: Server<u64, u64> = domain.node("there").service("service").server().expect("ours");
    let node = domain.node("here");
    let mut client: Client<u64, u64> =
        node.service("service").depth(DEPTH as usize).client().expect("the types agree");
    meet(&mut client);
    let first = client.send(&0, PATIENCE).expect("there is room");
    let call = client.send_parts(&1, PATIENCE).expect("there is room");
    (2..DEPTH).for_each(|number| client.notify(&number, PATIENCE).expect("there is room"));
    let serving = start(move || {
        next(&mut server).answer(&7).expect("the client is there");
        let request = next(&mut server);
        assert_eq!(*request, 1);
        let mut parts = request.parts().expect("parts are wanted");
        assert_eq!(*parts.request(), 1);
        (0..).find_map(|number| parts.send(&number).err()).expect("it ends");
        assert_eq!(*parts.request(), 1, "it is still there");
    });
    client.notify(&DEPTH, PATIENCE).expect("room comes, though no part has been taken");
    assert_eq!(*client.wait(first, PATIENCE).expect("it was answered"), 7);
    assert!(client.cancel(call));
    serving.finish();
}
