//! One service, several servers, which come and go.

use std::collections::BTreeMap;

use tidepost::{CallError, Client, EndpointId, Server};

use crate::services::stage::{Domain, PATIENCE, client, next, start, until};

/// Servers in a node each.
fn servers(domain: &Domain, count: usize) -> Vec<Server<u64, u64>> {
    (0..count)
        .map(|_| domain.node("there").service("service").server().expect("the service is ours"))
        .collect()
}

/// Serves so many requests, answering with the place of who serves; how many each of them has served.
fn answer(servers: &mut [Server<u64, u64>], count: usize) -> Vec<usize> {
    let mut served = vec![0; servers.len()];
    until("all requests have come", || {
        for (place, server) in servers.iter_mut().enumerate() {
            while let Some(request) = server.try_recv().expect("receiving succeeds") {
                request.answer(&(place as u64)).expect("the client is there");
                served[place] += 1;
            }
        }
        served.iter().sum::<usize>() >= count
    });
    served
}

/// Takes so many answers.
fn take(client: &mut Client<u64, u64>, count: usize) -> Vec<u64> {
    let take_one = |_| {
        let call = client.wait_any(PATIENCE).expect("nothing fails").expect("it was answered");
        *client.wait(call, PATIENCE).expect("it was answered")
    };
    (0..count).map(take_one).collect()
}

#[test]
fn calls_are_balanced() {
    let domain = Domain::new();
    let mut servers = servers(&domain, 3);
    let mut client = client(&domain.node("here"), "service");
    client.wait_for_servers(3, PATIENCE).expect("they are there");
    let calls: Vec<_> =
        (0..30).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    assert_eq!(answer(&mut servers, 30), [10, 10, 10], "none is asked more than another");
    let mut by_server = BTreeMap::<u64, u64>::new();
    for call in calls {
        let place = *client.wait(call, PATIENCE).expect("it was answered");
        *by_server.entry(place).or_default() += 1;
    }
    assert_eq!(by_server, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
    // One after the other, too.
    for number in 0..9 {
        client.send(&number, PATIENCE).expect("there is room");
        answer(&mut servers, 1);
        *by_server.entry(take(&mut client, 1)[0]).or_default() += 1;
    }
    assert_eq!(by_server, BTreeMap::from([(0, 13), (1, 13), (2, 13)]));
}

#[test]
fn the_one_with_the_fewest_calls_waiting_is_asked() {
    let domain = Domain::new();
    let mut servers = servers(&domain, 2);
    let mut client = client(&domain.node("here"), "service");
    client.wait_for_servers(2, PATIENCE).expect("they are there");
    (0..4).for_each(|number| _ = client.send(&number, PATIENCE).expect("there is room"));
    // The first answers its two, the second nothing: the first gets the next two.
    assert_eq!(answer(&mut servers[..1], 2), [2]);
    take(&mut client, 2);
    (4..6).for_each(|number| _ = client.send(&number, PATIENCE).expect("there is room"));
    assert_eq!(answer(&mut servers, 4), [2, 2]);
}

/// A server whose stream is full, or that has as many calls as may be, is in nobody's way while another is free.
#[test]
fn a_server_that_takes_nothing_is_passed_by() {
    let domain = Domain::new();
    let (idle, mut busy) = (servers(&domain, 1), servers(&domain, 1).remove(0));
    let node = domain.node("here");
    let mut client: Client<u64, u64> = node.service("service").depth(8).client().expect("the types agree");
    client.wait_for_servers(2, PATIENCE).expect("they are there");
    // Calls that are given up do not count as waiting, so the idle one is asked until its stream is full.
    let handle = busy.handle();
    let serving = start(move || {
        while let Ok(request) = busy.recv() {
            request.answer(&0).expect("the client is there");
        }
        busy
    });
    for number in 0..100 {
        let call = client.send(&number, PATIENCE / 4).expect("one of them has room");
        client.cancel(call);
    }
    handle.cancel();
    drop((client, idle, serving.finish()));
    // The same for calls that wait for their answers.
    let (idle, mut busy) = (servers(&domain, 1), servers(&domain, 1));
    let mut client: Client<u64, u64> =
        node.service("service").in_flight(4).client().expect("the types agree");
    client.wait_for_servers(2, PATIENCE).expect("they are there");
    let stuck: Vec<_> = (0..8).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    answer(&mut busy, 4);
    take(&mut client, 4);
    (0..4).for_each(|number| _ = client.send(&number, PATIENCE).expect("the other one has room"));
    let error = client.send(&4, PATIENCE).expect_err("as many wait as may");
    assert!(matches!(error, CallError::InFlight { .. }), "{error}");
    drop((stuck, idle));
}

#[test]
fn a_sticky_client_stays_with_one_server_as_long_as_it_lives() {
    let domain = Domain::new();
    let mut servers = servers(&domain, 3);
    let node = domain.node("here");
    let mut client: Client<u64, u64> = node.service("service").sticky().client().expect("the types agree");
    client.wait_for_servers(3, PATIENCE).expect("they are there");
    let ask = |client: &mut Client<u64, u64>, servers: &mut Vec<Server<u64, u64>>| -> EndpointId {
        let calls: Vec<_> =
            (0..20).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
        let served = answer(servers, 20);
        let place = served.iter().position(|served| *served == 20).unwrap_or_else(|| panic!("{served:?}"));
        calls.into_iter().for_each(|call| _ = client.wait(call, PATIENCE).expect("it was answered"));
        servers[place].id()
    };
    let mut chosen = ask(&mut client, &mut servers);
    for left in [2, 1] {
        // Another one goes, and it stays …
        let other = servers.iter().position(|server| server.id() != chosen).expect("there are others");
        let gone = servers.remove(other);
        drop(gone);
        until("the client knows", || client.servers() == left);
        assert_eq!(ask(&mut client, &mut servers), chosen);
        // … a new one comes, and it stays.
        servers.insert(0, domain.node("there").service("service").server().expect("the service is ours"));
        client.wait_for_servers(left + 1, PATIENCE).expect("it is there");
        assert_eq!(ask(&mut client, &mut servers), chosen);
        // Its own goes, and it takes another.
        servers.retain(|server| server.id() != chosen);
        until("the client knows", || client.servers() == left);
        chosen = ask(&mut client, &mut servers);
    }
}

/// As above, with the last of them chosen, whose place in the list changes when another goes.
#[test]
fn a_sticky_client_stays_whoever_else_goes() {
    let domain = Domain::new();
    let node = domain.node("here");
    let mut client: Client<u64, u64> = node.service("service").sticky().client().expect("the types agree");
    let mut all = servers(&domain, 1);
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    client.send(&0, PATIENCE).expect("there is room");
    all.extend(servers(&domain, 2));
    client.wait_for_servers(3, PATIENCE).expect("they are there");
    drop(all.remove(0));
    until("the client knows", || client.servers() == 2);
    client.send(&1, PATIENCE).expect("there is room");
    let mut chosen = 0;
    until("one of them is asked", || {
        let asked =
            all.iter_mut().position(|server| server.try_recv().expect("receiving succeeds").is_some());
        chosen = asked.unwrap_or(0);
        asked.is_some()
    });
    all.extend(servers(&domain, 2));
    client.wait_for_servers(4, PATIENCE).expect("they are there");
    let chosen = all[chosen].id();
    while all.len() > 1 {
        let other = all.iter().position(|server| server.id() != chosen).expect("there are others");
        drop(all.remove(other));
        until("the client knows", || client.servers() == all.len());
        client.send(&2, PATIENCE).expect("there is room");
        let mine = all.iter_mut().find(|server| server.id() == chosen).expect("it stays");
        assert_eq!(*next(mine), 2);
    }
}

#[test]
fn calls_to_a_server_that_leaves_are_lost_and_what_it_answered_is_not() {
    let domain = Domain::new();
    let mut server = servers(&domain, 1).remove(0);
    let mut client = client(&domain.node("here"), "service");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    let calls: Vec<_> =
        (0..30).map(|number| client.send(&number, PATIENCE).expect("there is room")).collect();
    let parts = client.send_parts(&30, PATIENCE).expect("there is room");
    for number in 0..20 {
        next(&mut server).answer(&number).expect("the client is there");
    }
    (20..30).for_each(|_| drop(next(&mut server).defer().map(std::mem::forget)));
    let mut reply = next(&mut server).parts().expect("parts are wanted");
    reply.send(&1).expect("there is room");
    std::mem::forget(reply);
    let leaving = start(move || drop(server));
    for (call, number) in calls.into_iter().zip(0..) {
        match client.wait(call, PATIENCE) {
            Ok(answer) => assert!(*answer == number && number < 20),
            Err(CallError::ServerLost { .. }) => assert!(number >= 20),
            Err(error) => panic!("call {number}: {error}"),
        }
    }
    assert_eq!(*client.next_part(parts, PATIENCE).expect("it was sent").expect("it is a part"), 1);
    let error = client.next_part(parts, PATIENCE).expect_err("it has gone");
    assert!(matches!(error, CallError::ServerLost { .. }), "{error}");
    let error = client.call(&1, PATIENCE).expect_err("nobody is there");
    assert!(matches!(error, CallError::NoServer { .. }), "{error}");
    leaving.finish();
    // One that comes later is asked.
    let mut later = servers(&domain, 1).remove(0);
    let serving = start(move || next(&mut later).answer(&5).map(|()| later));
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    assert_eq!(*client.call(&1, PATIENCE).expect("it answers"), 5);
    drop(serving.finish());
}

/// The fear: a client that has gone, and its node with it, stay because of a server that says nothing.
#[test]
fn a_server_that_is_silent_keeps_nobody_in_the_domain() {
    let domain = Domain::new();
    let there = domain.node_without_thread("there");
    let mut server: Server<u64, u64> = there.service("service").server().expect("the service is ours");
    let here = domain.node("here");
    let meeting = start(move || {
        let mut client = client(&here, "service");
        client.wait_for_servers(1, PATIENCE).expect("it is there");
        (here, client)
    });
    // Whoever waits serves the node, and nobody does after that.
    until("they have met", || {
        assert!(server.try_recv().expect("receiving succeeds").is_none());
        there.dispatch().expect("its sockets can be served");
        meeting.has_finished()
    });
    assert_eq!(domain.nodes(), 2);
    drop(meeting.finish());
    until("the client's node has left", || domain.nodes() == 1);
}
