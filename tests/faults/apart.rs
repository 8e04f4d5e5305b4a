//! The fear: a client that can read what another was answered – or one that waits without a deadline for a server that is
//! dead, and is never told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidepost::{Call, CallError, Client, Node};

use crate::parts::{say, wait};
use crate::stage::{Actor, PATIENCE, Stage};

/// Bytes of requests and answers: in the slot, and in the pool.
const LENGTHS: [usize; 3] = [1, 40, 100_000];

fn client(node: &Node) -> Client<[u8], [u8]> {
    let mut client = node.service("apart").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    client
}

/// Answers with what it is sent; what is empty it never answers, and of what wants parts it sends only one.
pub fn serve(node: &Node) {
    let mut server = node.service::<[u8], [u8]>("apart").server().expect("the service is ours");
    say("serving");
    let mut never = Vec::new();
    loop {
        let request = server.recv().expect("requests come");
        if request.wants_parts() {
            let mut parts = request.parts().expect("parts are wanted");
            parts.send(b"part").expect("there is room");
            // It waits for the next request with this one open, and never gets one.
            wait();
        } else if request.is_empty() {
            never.push(request.defer().expect("one answer is wanted"));
            say("took it");
        } else {
            let answer = request.to_vec();
            request.answer(&answer).expect("the client is there");
        }
    }
}

/// Makes calls whose bytes are all this number.
pub fn call(node: &Node, number: u64) {
    let mut client = client(node);
    for length in LENGTHS {
        let request = vec![number as u8; length];
        let answer = client.call(&request, PATIENCE).expect("it answers");
        assert!(*answer == *request, "{length} B");
    }
    say("answered");
    wait();
}

/// What a process has mapped of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapped {
    kind: String,
    may_write: bool,
}

/// The segments that a process has mapped, by the number of their memory file.
fn segments(actor: &Actor) -> BTreeMap<u64, Mapped> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", actor.pid())).expect("it lives");
    let segment = |line: &str| {
        let (head, kind) = line.split_once("/memfd:tidepost-")?;
        let fields: Vec<&str> = head.split_whitespace().collect();
        let [_, access, _, _, inode] = fields[..] else { panic!("a mapping without a file: {line}") };
        let kind = kind.split_whitespace().next().unwrap_or_default().to_owned();
        Some((inode.parse().expect("it is a number"), Mapped { kind, may_write: access.contains('w') }))
    };
    maps.lines().filter_map(segment).collect()
}

#[test]
fn a_client_has_mapped_its_own_answers_and_nobody_elses() {
    let stage = Stage::new();
    let mut server = stage.start("apart-server", "");
    server.expect("serving");
    let mut clients: Vec<Actor> =
        (1..4).map(|number| stage.start("apart-client", &number.to_string())).collect();
    clients.iter_mut().for_each(|client| client.expect("answered"));
    let of_server = segments(&server);
    let of_clients: Vec<_> = clients.iter().map(segments).collect();
    for (number, mine) in of_clients.iter().enumerate() {
        // What the server writes and this client reads: its answers, in a ring and in the pool.
        let is_answers = |(inode, mapped): &(&u64, &Mapped)| {
            let of_server = of_server.get(inode).is_some_and(|mapped| mapped.may_write);
            of_server && !mapped.may_write
        };
        let kinds: Vec<&str> =
            mine.iter().filter(is_answers).map(|(_, mapped)| mapped.kind.as_str()).collect();
        assert!(kinds.contains(&"ring") && kinds.contains(&"pool"), "client {number} reads {kinds:?}");
        for (other, others) in of_clients.iter().enumerate().filter(|(other, _)| *other != number) {
            let shared = mine.iter().filter(|(inode, _)| others.contains_key(inode));
            let shared: Vec<&str> = shared.map(|(_, mapped)| mapped.kind.as_str()).collect();
            // The server's own, where either of them wakes it.
            assert_eq!(shared, ["bell"], "shared by clients {number} and {other}");
        }
    }
}

/// A call with its client, which waits for it in a thread of its own, without end.
fn wait_for_ever(
    mut client: Client<[u8], [u8]>,
    wait: impl FnOnce(&mut Client<[u8], [u8]>) -> CallError + Send + 'static,
) -> std::thread::JoinHandle<CallError> {
    std::thread::spawn(move || wait(&mut client))
}

fn finish(waiting: std::thread::JoinHandle<CallError>) {
    let end = Instant::now() + PATIENCE;
    while !waiting.is_finished() {
        assert!(Instant::now() < end, "nobody has told it that the server is dead");
        std::thread::sleep(Duration::from_millis(1));
    }
    let error = waiting.join().expect("it does not panic");
    assert!(matches!(error, CallError::ServerLost { .. }), "{error}");
}

#[test]
fn a_call_that_waits_without_end_is_told_of_its_servers_death() {
    let stage = Stage::new();
    let node = stage.node();
    let mut server = stage.start("apart-server", "");
    server.expect("serving");
    let called = wait_for_ever(client(&node), |client| {
        client.call(&[], Duration::MAX).map(drop).expect_err("nobody answers")
    });
    let any = wait_for_ever(client(&node), |client| {
        let call: Call = client.send(&[], Duration::MAX).expect("there is room");
        assert_eq!(client.wait_any(Duration::MAX).expect("nothing fails"), Some(call));
        client.wait(call, Duration::MAX).map(drop).expect_err("nobody answers")
    });
    (0..2).for_each(|_| server.expect("took it"));
    let (sender, has_one) = std::sync::mpsc::channel();
    let parts = wait_for_ever(client(&node), move |client| {
        let call = client.send_parts(&[1], Duration::MAX).expect("there is room");
        let part = client.next_part(call, Duration::MAX).expect("it comes");
        assert_eq!(part.as_deref(), Some(&b"part"[..]));
        sender.send(()).expect("the test waits");
        client.next_part(call, Duration::MAX).map(drop).expect_err("no other comes")
    });
    has_one.recv_timeout(PATIENCE).expect("the first part comes");
    server.kill();
    [called, any, parts].into_iter().for_each(finish);
}
