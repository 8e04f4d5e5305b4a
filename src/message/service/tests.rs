//! The fear: a peer that writes what it likes before a request or an answer. The other end drops its connection, and goes on.

use std::time::{Duration, Instant};

use super::core::ANY;
use super::head::{AnswerHead, Reply, RequestHead, Want};
use super::serving::Age;
use super::{Client, Server};
use crate::message::overflow::Overflow;
use crate::message::receiver::Receiver;
use crate::node::{EndpointId, Hub, Inlet, Node, Offer, Outlet, Peer, Refusal, Violation};
use crate::os::clock::Deadline;
use crate::os::epoll::Wake;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client and a server in a node each, which have met, in a domain that is removed at the end.
struct Scene {
    directory: std::path::PathBuf,
    here: Node,
    there: Node,
    client: Client<u64, u64>,
    server: Server<u64, u64>,
}

impl Scene {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("tidepost-garbled-{name}-{}", std::process::id()));
        let open =
            |name| Node::builder().name(name).directory(&directory).open().expect("the domain is ours");
        let (here, there) = (open("here"), open("there"));
        let server = there.service("service").server().expect("the service is ours");
        let mut client: Client<u64, u64> = here.service("service").client().expect("the types agree");
        client.wait_for_servers(1, PATIENCE).expect("it is there");
        Self { directory, here, there, client, server }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn request(want: Want) -> u64 {
    RequestHead { want, note: 0, deadline_ms: 0 }.bits()
}

fn answer(reply: Reply, number: u64) -> u64 {
    AnswerHead { reply, number }.bits()
}

#[test]
fn a_garbled_request_ends_its_client_and_nobody_else() {
    let garbled: [(u64, &[u8]); 8] = [
        (3, &[0; 8]),
        (0xf, &[0; 8]),
        (u64::MAX, &[0; 8]),
        (request(Want::Answer), &[0; 7]),
        (request(Want::Answer), &[]),
        (request(Want::Nothing), &[0; 9]),
        (request(Want::Parts), &[0; 64]),
        (request(Want::Parts), &[0; 100_000]),
    ];
    for (index, (head, bytes)) in garbled.into_iter().enumerate() {
        let mut scene = Scene::new(&format!("request-{index}"));
        let mut other: Client<u64, u64> = scene.there.service("service").client().expect("the types agree");
        scene.client.core.send_garbled(head, bytes);
        until(|| {
            assert!(scene.server.try_recv().expect("receiving succeeds").is_none());
            scene.there.violations().0 == 1
        });
        until(|| scene.client.servers() == 0);
        let call = other.send(&7, PATIENCE).expect("there is room");
        let request = scene.server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it comes");
        request.answer(&8).expect("the client is there");
        assert_eq!(*other.wait(call, PATIENCE).expect("it answers"), 8);
    }
}

/// Whatever a note's place is said to be, and whatever a deadline: those are the client's own affair.
#[test]
fn a_request_with_any_note_and_deadline_is_one() {
    let mut scene = Scene::new("note");
    for (note, deadline_ms) in [(u16::MAX, 0), (12_345, (1 << 44) - 1), (1024, 1 << 43)] {
        for want in [Want::Answer, Want::Parts, Want::Nothing] {
            scene.client.core.send_garbled(RequestHead { want, note, deadline_ms }.bits(), &[1; 8]);
            let request = scene.server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it comes");
            assert!(!request.is_cancelled());
            let _ = (request.deadline(), request.wants_parts());
        }
    }
    assert_eq!((scene.there.violations().0, scene.here.violations().0), (0, 0));
}

#[test]
fn a_garbled_answer_ends_its_server_and_loses_the_call() {
    let garbled: [(u64, &[u8]); 9] = [
        (0, &[0; 8]),
        (6, &[0; 8]),
        (u64::MAX, &[0; 8]),
        (answer(Reply::Answer, 0), &[0; 7]),
        (answer(Reply::Answer, 1), &[0; 8]),
        (answer(Reply::Answer, 1 << 55), &[0; 8]),
        (answer(Reply::Nothing, 0), &[0; 1]),
        (answer(Reply::End, 0), &[0; 8]),
        (answer(Reply::Part, 0), &[0; 100_000]),
    ];
    for (index, (head, bytes)) in garbled.into_iter().enumerate() {
        let mut scene = Scene::new(&format!("answer-{index}"));
        let call = scene.client.send(&1, PATIENCE).expect("there is room");
        scene.server.core.send_garbled(head, bytes);
        let error = scene.client.wait(call, PATIENCE).expect_err("it is no answer");
        assert!(matches!(error, super::CallError::ServerLost { .. }), "{index}: {error}");
        assert_eq!((scene.here.violations().0, scene.client.servers()), (1, 0));
    }
}

/// Answers of a kind that nobody asked for are passed over, parts that nobody has taken enough for are not.
#[test]
fn parts_beyond_what_was_taken_end_their_server() {
    let mut scene = Scene::new("parts");
    let call = scene.client.send_parts(&1, PATIENCE).expect("there is room");
    scene.server.core.send_garbled(answer(Reply::Answer, 0), &[0; 8]);
    until(|| scene.client.late_answers() == 1 || scene.client.wait_any(Duration::ZERO).is_err());
    for part in 0..super::core::PARTS_AHEAD + 1 {
        until(|| {
            let sent = scene.server.core.try_send_garbled(answer(Reply::Part, 0), &[part as u8; 8]);
            assert_eq!(scene.client.wait_any(Duration::ZERO).ok().flatten(), None);
            sent
        });
    }
    until(|| {
        let _ = scene.client.wait_any(Duration::ZERO);
        scene.here.violations().0 == 1
    });
    for part in 0..super::core::PARTS_AHEAD {
        let come = scene.client.next_part(call, PATIENCE).expect("it was sent").expect("it is a part");
        assert_eq!(come.to_ne_bytes(), [part as u8; 8]);
    }
    let error = scene.client.next_part(call, PATIENCE).expect_err("it was let go of");
    assert!(matches!(error, super::CallError::ServerLost { .. }), "{error}");
}

/// The fear: a way that is made for short messages and that nobody takes.
#[test]
fn short_requests_and_answers_leave_their_word_out_where_it_says_nothing_new() {
    let mut scene = Scene::new("bare");
    let has_word = |receiver: &Receiver| receiver.found_headed().expect("it was found").head.is_some();
    let mut seen = Vec::new();
    for number in 0..3u64 {
        // Without a deadline, none has to be told anew as time goes on.
        let call = scene.client.send(&number, Duration::MAX).expect("the server is there");
        assert!(scene.server.core.next(|| Deadline::NEVER).expect("receiving succeeds"));
        let request_has_word = has_word(&scene.server.core.receiver);
        let due = scene.server.core.due();
        // The second time, it is an answer that has to say what it is.
        let reply = if number == 1 { Reply::Failure } else { Reply::Answer };
        scene.server.core.answer(&due, reply, &number.to_ne_bytes()).expect("the client is there");
        scene.server.core.finish();
        until(|| scene.client.core.receiver.poll_now(ANY).expect("receiving succeeds"));
        seen.push((request_has_word, has_word(&scene.client.core.receiver)));
        let answer = scene.client.wait(call, PATIENCE).map(|answer| *answer);
        assert_eq!(answer.ok(), (number != 1).then_some(number));
    }
    assert_eq!(seen, [(true, false), (false, true), (false, false)]);
}

/// The fear: a peer whose connection is over is alive, and reads half of what is written over what it has not read.
#[test]
fn what_a_client_has_not_read_is_left_alone_when_its_connection_is_over() {
    let mut scene = Scene::new("hung-up");
    let calls: Vec<_> = (0..super::DEPTH as u64)
        .map(|number| {
            let call = scene.client.send(&number, PATIENCE).expect("there is room");
            let request = scene.server.recv_timeout(PATIENCE).expect("receiving succeeds");
            request.expect("it comes").answer(&number).expect("the client is there");
            call
        })
        .collect();
    scene.there.shared().accuse(scene.here.id(), &Violation("nobody likes it".to_owned()));
    assert!(!scene.server.core.try_send(answer(Reply::Answer, 0), &[0xff; 8]), "there is room for nothing");
    for (call, number) in calls.into_iter().zip(0..) {
        assert_eq!(*scene.client.wait(call, PATIENCE).expect("it was answered before"), number);
    }
    until(|| scene.server.clients() == 0 && scene.client.servers() == 0);
}

/// The fear: the server was stopped between two looks, and takes a request that nobody has wanted for long as fresh.
#[test]
fn a_request_that_was_given_up_before_it_was_seen_is_passed_over() {
    let mut scene = Scene::new("given-up");
    for is_given_up in [false, true] {
        assert!(!scene.server.core.receiver.poll_now(ANY).expect("receiving succeeds"));
        let call = scene.client.send(&1, PATIENCE).expect("there is room");
        assert!(!is_given_up || scene.client.cancel(call));
        until(|| scene.server.core.receiver.poll_now(ANY).expect("receiving succeeds"));
        assert_eq!(scene.server.core.is_due(Age::New), !is_given_up);
        scene.server.core.finish();
    }
    assert_eq!(scene.server.passed_over(), 1);
}

/// The fear: a client that asked and went at once is called one that asks for more than it takes answers to.
#[test]
fn a_client_that_went_before_its_server_looked_is_gone_and_no_more() {
    let mut scene = Scene::new("went");
    assert_eq!(scene.server.clients(), 1);
    scene.client.send(&1, PATIENCE).expect("there is room");
    let next = scene.here.service("service").client().expect("the types agree");
    drop(std::mem::replace(&mut scene.client, next));
    until(|| scene.server.core.first_lane().is_over());
    let request = scene.server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it comes");
    let error = request.answer(&1).expect_err("nobody is there");
    assert!(matches!(error, super::AnswerError::ClientGone { .. }), "{error}");
    assert_eq!(scene.there.violations(), (0, None));
}

#[test]
fn streams_that_are_no_lanes_or_lose_messages_are_refused() {
    let scene = Scene::new("no-lane");
    let bell =
        scene.there.shared().bell().as_peer(Wake::new().expect("eventfds are left").descriptor().clone());
    let peer =
        Peer { node: scene.there.id(), name: "there".into(), pid: 0, is_gateway: false, bell: bell.into() };
    let other = EndpointId { node: scene.here.id(), number: 7777 };
    let lane = scene.server.core.hub.lane(other, None).expect("there is memory").expect("it is fresh");
    let offer = lane.offer().expect("nobody has joined it");
    let outlet = EndpointId { number: offer.outlet.number + 100, ..offer.outlet };
    let offers = [
        Offer { lane: None, outlet, ..offer.clone() },
        Offer { overflow: Overflow::Latest.code(), outlet, ..offer.clone() },
        Offer { overflow: Overflow::DropOldest.code(), outlet, ..offer },
    ];
    for offer in offers {
        let refused = scene.client.core.receiver.shared().join(&peer, offer).map(drop);
        let Err(Refusal::Unusable { reason }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("where a lane was due"), "{reason}");
    }
}

/// The fear: of a lane that ended and one that was made after it, the end is taken for that of both.
#[test]
fn news_of_lanes_are_heard_in_their_order() {
    let mut scene = Scene::new("news");
    let server = EndpointId { node: scene.there.id(), number: 7777 };
    let accepts = scene.client.core.lanes[0].sender.shared().descriptor().clone();
    for _ in 0..3 {
        let made = scene.client.core.hub.lane(server, Some(&accepts)).expect("there is memory");
        assert!(made.is_some());
        scene.client.core.hub.parted(server);
    }
    let made = scene.client.core.hub.lane(server, Some(&accepts)).expect("there is memory");
    let made = made.expect("those before are over").id();
    scene.client.core.refresh();
    let lanes = scene.client.core.lanes.iter().filter(|lane| lane.server == server);
    let lanes: Vec<_> = lanes.map(|lane| lane.sender.shared().id()).collect();
    assert_eq!(lanes, [made]);
}

/// The fear: a server with a thousand clients runs out of descriptors that nobody needs.
#[test]
fn a_lane_that_has_been_joined_keeps_no_descriptor() {
    let mut scene = Scene::new("joined");
    assert_eq!(*answered(&mut scene), 7);
    let to_server = scene.client.core.lanes[0].sender.shared();
    assert!(to_server.offer().is_none() && scene.server.core.first_lane().offer().is_none());
}

/// The answer to one call.
fn answered(scene: &mut Scene) -> super::Answer<'_, u64> {
    let call = scene.client.send(&7, PATIENCE).expect("there is room");
    let request = scene.server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it comes");
    request.answer(&7).expect("the client is there");
    scene.client.wait(call, PATIENCE).expect("it answers")
}
