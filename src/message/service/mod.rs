//! Services: a client asks, a server answers.
//!
//! Between one client and one server there are two streams, each in memory that only its sender writes and only the other of
//! the two can read. A request's number in its stream is the number of the call; the answer carries it back. So an answer
//! reaches nobody but who asked, and one that comes late finds its call over.
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | slot word of a request or answer | its sender, `Release` | the other end, `Acquire` | the ring's: the message is whole |
//! | note of a call | client, `Release` | server, `Acquire` | none needed for giving up; for parts: what the client took is off its ring before more come |
//!
//! A server that waits for a note marks itself blocked as a sender does that waits for room (`blocked`, fence, note against
//! note, fence, `blocked`), and is rung in the same way.

mod client;
mod core;
mod error;
mod head;
mod hub;
mod lane;
mod loan;
mod server;
mod serving;
mod soon;
#[cfg(test)]
mod tests;
mod waiting;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub use client::{Answer, Call, Client, ClientHandle, Part, Parts, ServiceTypes};
pub use error::{AnswerError, CallError, Failure, ServiceError};
pub use loan::RequestLoan;
pub use server::{AnswerLoan, AsFailure, PartsReply, Request, Server, ServerHandle, Ticket};

use super::inlet::{PairTypes, ReceiverOptions};
use super::payload::{Payload, Text, Untyped};
use super::receiver::Receiver;
use crate::layout::cursor::{NOTES_MAX, PINS_MAX};
use crate::layout::ring::{BODY_BYTES_MAX, SLOTS_MAX};
use crate::node::{Channel, Inlet, Node, Pattern, Role, TypeDescriptor, is_offerable};
use crate::node::{EndpointError, Hub};
use crate::sync::stream::{Lending, PoolLimit};
use hub::{ServiceHub, Types};

/// Slots of a stream, unless chosen.
const DEPTH: usize = 64;
/// Calls to one server that may wait for their answers, unless chosen.
const IN_FLIGHT: u32 = 1024;
/// Bytes of a slot's payload for messages of variable length, unless chosen.
const SLICE_SLOT_BYTES: usize = 248;
/// Bytes that the pool of one stream may take, unless chosen.
const POOL_LIMIT: usize = 64 << 20;
/// Messages that an endpoint may hold where they are; what it keeps beyond that is copied.
const HOLD_LIMIT: u32 = 64;

const _: () = assert!(HOLD_LIMIT < PINS_MAX);

/// How the streams of an endpoint are made.
#[derive(Clone, Copy, Debug)]
struct LaneOptions {
    depth: usize,
    slot_bytes: usize,
    pool_limit: PoolLimit,
}

/// A service of a node: options, and the endpoints that are made with them.
///
/// `Req` is what clients ask with, `Resp` what servers answer, `E` what they answer if they cannot: text, unless
/// [`Service::failure`] says otherwise.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-service-{}", std::process::id()));
/// use std::time::Duration;
/// use tidepost::Node;
///
/// let node = Node::builder().name("example").directory(&directory).open()?;
/// let mut server = node.service::<[f64; 2], f64>("divide").server()?;
/// let handle = server.handle();
/// let serving = std::thread::spawn(move || {
///     server.serve(|[a, b]| if *b == 0.0 { Err("division by zero") } else { Ok(a / b) })
/// });
///
/// let mut client = node.service::<[f64; 2], f64>("divide").client()?;
/// assert_eq!(*client.call(&[1.0, 4.0], Duration::from_secs(1))?, 0.25);
/// let error = client.call(&[1.0, 0.0], Duration::from_secs(1)).unwrap_err();
/// assert_eq!(error.to_string(), "service `divide` failed: \"division by zero\"");
/// # handle.cancel();
/// # serving.join().expect("it does not panic")?;
/// # drop((client, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a service does nothing until a client or a server is made"]
pub struct Service<'a, Req: ?Sized, Resp: ?Sized, E: ?Sized = Text> {
    node: &'a Node,
    name: &'a str,
    depth: usize,
    slot_bytes: usize,
    pool_limit: PoolLimit,
    in_flight: u32,
    is_sticky: bool,
    /// For a server whose types are known only when the program runs.
    given: Option<ServiceTypes>,
    types: PhantomData<fn(&Req, &E) -> Box<Resp>>,
}

// By hand, as a derive would ask the same of the messages.
impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> Clone for Service<'_, Req, Resp, E> {
    fn clone(&self) -> Self {
        Self { given: self.given.clone(), ..*self }
    }
}

impl<Req: ?Sized, Resp: ?Sized, E: ?Sized> fmt::Debug for Service<'_, Req, Resp, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    /// The service `name`, which takes requests of type `Req` and answers with `Resp`; either may be a slice. Nothing happens
    /// until an endpoint is made.
    pub fn service<'a, Req, Resp>(&'a self, name: &'a str) -> Service<'a, Req, Resp>
    where
        Req: Payload + ?Sized,
        Resp: Payload + ?Sized,
    {
        Service {
            node: self,
            name,
            depth: DEPTH,
            slot_bytes: SLICE_SLOT_BYTES,
            pool_limit: PoolLimit::Usual(POOL_LIMIT),
            in_flight: IN_FLIGHT,
            is_sticky: false,
            given: None,
            types: PhantomData,
        }
    }

    /// The service `name`, whose types are known only when the program runs: for tools and gateways. A client's requests are bytes
    /// of the type that the server takes, and so are answers and failures; a server needs to be told the types, with
    /// [`Service::types`].
    pub fn service_dyn<'a>(&'a self, name: &'a str) -> Service<'a, Untyped, Untyped, Untyped> {
        self.service::<Untyped, Untyped>(name).failure()
    }
}

impl Service<'_, Untyped, Untyped, Untyped> {
    /// The types of requests, answers and failures: required for a server. Answers of other lengths are refused.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = std::env::temp_dir().join(format!("tidepost-doc-service-types-{}", std::process::id()));
    /// # let node = tidepost::Node::builder().directory(&directory).open()?;
    /// use std::time::Duration;
    /// use tidepost::{Message, Payload, ServiceTypes, Text, Untyped};
    ///
    /// let failure = Text::descriptor().expect("the type of texts is known");
    /// let types = ServiceTypes::new(<u32 as Message>::descriptor(), <u32 as Message>::descriptor(), failure);
    /// let mut server = node.service_dyn("double").types(types).server()?;
    /// let mut client = node.service::<u32, u32>("double").client()?;
    /// let call = client.send(&21, Duration::from_secs(1))?;
    /// let request = server.recv()?;
    /// let asked = u32::from_ne_bytes((&**request).try_into()?);
    /// request.answer(Untyped::new(&(2 * asked).to_ne_bytes()))?;
    /// assert_eq!(*client.wait(call, Duration::from_secs(1))?, 42);
    /// # drop((server, client, node));
    /// # std::fs::remove_dir_all(directory)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn types(self, types: ServiceTypes) -> Self {
        Self { given: Some(types), ..self }
    }
}

impl<'a, Req: Payload + ?Sized, Resp: Payload + ?Sized, E: Payload + ?Sized> Service<'a, Req, Resp, E> {
    /// Servers answer with this type when they cannot do what they are asked for. Both ends say so.
    pub fn failure<F: Payload + ?Sized>(self) -> Service<'a, Req, Resp, F> {
        let Self { node, name, depth, slot_bytes, pool_limit, in_flight, is_sticky, given, .. } = self;
        Service { node, name, depth, slot_bytes, pool_limit, in_flight, is_sticky, given, types: PhantomData }
    }

    /// How many messages may be on their way in a stream that this endpoint sends, rounded up to a power of two from 8; at most
    /// 8,192, 64 unless chosen. A client whose stream is full waits; a server keeps answers until there is room.
    pub fn depth(self, slots: usize) -> Self {
        Self { depth: slots, ..self }
    }

    /// Bytes that a message of variable length may have to travel in its slot; longer ones take the way through the pool. At
    /// most 65,536; 248 unless chosen.
    pub fn slot_bytes(self, bytes: usize) -> Self {
        Self { slot_bytes: bytes, ..self }
    }

    /// Bytes of messages that the pool of each stream that this endpoint sends may grow to, and so also the longest message
    /// that does not fit into a slot. Unless chosen, 64 MiB, but two messages of the largest size always find room.
    pub fn pool_limit(self, bytes: usize) -> Self {
        Self { pool_limit: PoolLimit::Chosen(bytes), ..self }
    }

    /// For a client: how many calls to one server may wait for their answers, at most 65,536; 1,024 unless chosen.
    pub fn in_flight(self, calls: u32) -> Self {
        Self { in_flight: calls, ..self }
    }

    /// For a client: it stays with one server as long as that lives. Otherwise each call goes to the server with the fewest of
    /// this client's calls waiting, in turn if several have as few.
    pub fn sticky(self) -> Self {
        Self { is_sticky: true, ..self }
    }

    /// A server of this service. Returns once the clients that are there know of it, within half a second.
    ///
    /// # Errors
    /// [`ServiceError`] if the name, an option or a type cannot be used, or memory runs out.
    pub fn server(self) -> Result<Server<Req, Resp, E>, ServiceError> {
        let channel = self.check()?;
        let service = channel.shared();
        let declared = || {
            let (request, answer, failure) = (Req::descriptor()?, Resp::descriptor()?, E::descriptor()?);
            Some(ServiceTypes { request, answer, failure })
        };
        let types = self.given.clone().or_else(declared);
        let ServiceTypes { request, answer, failure } =
            types.ok_or_else(|| ServiceError::NoTypes { service: service.clone() })?;
        let types = Types { sends: Some(answer), failure: Some(failure), accepts: Some(request.clone()) };
        let pair = PairTypes { failure: None, returned: None };
        let (receiver, hub) = self.open(channel, Role::Server, types, (Some(request), pair, 0))?;
        Ok(Server::new(receiver, hub))
    }

    /// A client of this service. Returns once the servers that are there have been connected, within half a second.
    ///
    /// # Errors
    /// [`ServiceError`] if the name or an option cannot be used, memory runs out, or a server has other types.
    pub fn client(self) -> Result<Client<Req, Resp, E>, ServiceError> {
        let channel = self.check()?;
        let (request, answer, failure) = (Req::descriptor(), Resp::descriptor(), E::descriptor());
        let types = Types { sends: request.clone(), failure: None, accepts: None };
        let pair = PairTypes { failure, returned: request };
        let (in_flight, is_sticky) = (self.in_flight, self.is_sticky);
        let notes = in_flight.next_power_of_two();
        let (receiver, hub) = self.open(channel.clone(), Role::Client, types, (answer, pair, notes))?;
        let refused = hub.refusals().into_iter().find(|refused| refused.difference.is_some());
        let client = Client::new(receiver, hub, (in_flight, is_sticky, Req::descriptor().is_none()));
        match refused.map(Box::new) {
            Some(refused) => Err(ServiceError::TypeMismatch { service: channel.shared(), refused }),
            None => Ok(client),
        }
    }

    fn open(
        &self,
        channel: Channel,
        role: Role,
        types: Types,
        (takes, pair, notes): (Option<TypeDescriptor>, PairTypes, u32),
    ) -> Result<(Receiver, Arc<ServiceHub>), ServiceError> {
        let service = channel.shared();
        let described = types.sends.iter().chain(&types.failure).chain(&types.accepts);
        for descriptor in described.clone().chain(&takes) {
            if !descriptor.align.is_power_of_two() || descriptor.align > TypeDescriptor::ALIGN_MAX {
                return Err(ServiceError::Alignment { service, align: descriptor.align });
            }
        }
        if !is_offerable(described) {
            return Err(ServiceError::TypesTooLong { service });
        }
        let unable = |source: EndpointError| ServiceError::Endpoint { service: service.clone(), source };
        let line = Arc::new(self.node.shared().line().map_err(unable)?);
        let options = ReceiverOptions {
            descriptor: takes,
            header: None,
            hold_limit: HOLD_LIMIT,
            history: 0,
            is_observer: false,
            lending: Lending::InPlace,
            notes,
            pair: Some(pair),
            carrier: None,
        };
        let receiver = Receiver::create(self.node, channel, options, Arc::clone(&line));
        let lane =
            LaneOptions { depth: self.depth, slot_bytes: self.slot_bytes, pool_limit: self.pool_limit };
        let ends = (Arc::clone(receiver.shared()), line);
        let hub = Arc::new(ServiceHub::new(self.node, role, ends, types, lane));
        let inlet = Arc::clone(receiver.shared()) as Arc<dyn Inlet>;
        let added = self.node.shared().add_hub(&(Arc::clone(&hub) as Arc<dyn Hub>), Some(inlet));
        match added {
            Ok(()) => Ok((receiver, hub)),
            Err(source) => {
                // Lanes that were made meanwhile take the control plane's lock when they go.
                drop(hub.take_news());
                Err(unable(source))
            }
        }
    }

    fn check(&self) -> Result<Channel, ServiceError> {
        let channel = Channel::new(Pattern::Service, self.name)?;
        let options = [
            ("depth", self.depth as u64, 1, SLOTS_MAX as u64),
            ("slot bytes", self.slot_bytes as u64, 0, BODY_BYTES_MAX as u64),
            ("in flight", self.in_flight.into(), 1, NOTES_MAX.into()),
        ];
        for (option, value, least, most) in options {
            if !(least..=most).contains(&value) {
                return Err(ServiceError::Option { service: channel.shared(), option, value, least, most });
            }
        }
        Ok(channel)
    }
}
