//! Servers that run beside a test, and pairs that have met.

use std::thread::JoinHandle;

use tidepost::{Client, Node, Payload, Request, Server, ServerHandle};

pub use crate::stage::{Domain, PATIENCE, start, until};

/// A server that doubles numbers in a thread of its own, until this is dropped.
pub struct Doubler {
    handle: ServerHandle,
    thread: Option<JoinHandle<Server<u64, u64>>>,
}

impl Doubler {
    pub fn start(node: &Node, name: &str) -> Self {
        let mut server = node.service::<u64, u64>(name).server().expect("the service is ours");
        let handle = server.handle();
        let thread = std::thread::spawn(move || {
            server
                .serve(|number| number.checked_mul(2).ok_or("too large"))
                .expect("serving ends with a cancel");
            server
        });
        Self { handle, thread: Some(thread) }
    }
}

impl Drop for Doubler {
    fn drop(&mut self) {
        self.handle.cancel();
        if let Some(thread) = self.thread.take() {
            let server = thread.join();
            assert!(server.is_ok() || std::thread::panicking(), "the server does not panic");
        }
    }
}

pub fn client(node: &Node, name: &str) -> Client<u64, u64> {
    node.service::<u64, u64>(name).client().expect("the types agree")
}

/// A server and a client of a service, in a node each.
pub fn pair<Req, Resp>(domain: &Domain) -> (Server<Req, Resp>, Client<Req, Resp>)
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
{
    let server = domain.node("there").service("service").server().expect("the service is ours");
    let mut client = domain.node("here").service("service").client().expect("the types agree");
    meet(&mut client);
    (server, client)
}

/// Waits until a server is there: on a slow machine that takes longer than it takes to make a client.
pub fn meet<Req, Resp, E>(client: &mut Client<Req, Resp, E>)
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + std::fmt::Debug + ?Sized,
{
    client.wait_for_servers(1, PATIENCE).expect("it is there");
}

/// The next request, which comes.
pub fn next<Req, Resp, E>(server: &mut Server<Req, Resp, E>) -> Request<'_, Req, Resp, E>
where
    Req: Payload + ?Sized,
    Resp: Payload + ?Sized,
    E: Payload + ?Sized,
{
    server.recv_timeout(PATIENCE).expect("receiving succeeds").expect("a request comes")
}
