//! **Tidepost**: inter-process communication with both classical models behind one vocabulary.
//!
//! The *post* is messages: a [`Publisher`] writes them into memory that it alone may write, and every
//! [`Subscriber`] reads them there, or – where nobody waits for it – takes short ones out first. No system call is made
//! while both are busy, and a process that dies holds nobody up, and leaves nothing but names in a directory, which the next
//! to open it removes.
//!
//! The *tide* is memory that processes share: regions to attach, and locks in them that survive crashes.
//!
//! # Glossary
//!
//! - A **node** is one process's membership in a domain: the first line of every program, [`Node::open`].
//! - A **domain** is the set of nodes that can find each other: a private directory.
//! - A **topic** carries messages of one type from publishers to subscribers: [`Node::topic`].
//! - A **segment** is memory that exactly one process may write.
//! - A **loan** is room for a message, written in place: [`Publisher::loan`].
//! - A **sample** is a received message, in place: [`Subscriber::recv`].
//! - **Overflow** says what a full topic does: [`Overflow`]. It is always chosen, never assumed.
//! - An **observer** is a subscriber that nobody waits for: [`Topic::observer`]. What it misses is counted.
//! - A **service** answers requests: [`Node::service`].
//! - A **queue** hands each item to exactly one consumer, which acknowledges it: [`Node::queue`].
//! - A **state** is the latest value: [`Node::state`].
//! - A **table** is the latest value of each of many keys: [`Node::table`].
//! - A **signal** is a wake-up without payload, under ids, counted and never queued: [`Node::signal`].
//! - A **wait set** waits for endpoints of any kind, timers and descriptors together: [`WaitSet`].
//! - A **region** is memory that processes attach and write in place: [`Node::region`]. A [`Mutex`] in it survives whoever has it.
//! - **History** is what a publisher keeps for those who join later: [`Topic::history`].
//!
//! # Hello
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("tidepost-doc-hello-{}", std::process::id()));
//! use tidepost::{Node, Overflow};
//!
//! # let receiving = Node::builder().name("receiver").directory(&directory).open()?;
//! # let sending = Node::builder().name("sender").directory(&directory).open()?;
//! // In one process, with its own node:
//! let mut subscriber = receiving.topic::<[f64; 3]>("position").subscriber()?;
//! // In another:
//! let mut publisher = sending.topic::<[f64; 3]>("position").publisher(Overflow::Block)?;
//! publisher.send(&[1.0, 2.0, 3.0])?;
//!
//! assert_eq!(*subscriber.recv()?, [1.0, 2.0, 3.0]);
//! # drop((subscriber, publisher, sending, receiving));
//! # std::fs::remove_dir_all(directory)?;
//! # Ok(())
//! # }
//! ```
//!
//! How it works is told in `ARCHITECTURE.md`, byte by byte in `docs/layout.md` and `docs/protocol.md`; what a
//! peer can and cannot do, in `SECURITY.md`.

#![deny(unsafe_code)]
// The model checker builds the algorithms without most of those who use them.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(loom))]
mod error;
mod layout;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod message;
#[cfg(not(loom))]
mod node;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod os;
#[cfg(not(loom))]
#[allow(unsafe_code)]
mod segment;
#[allow(unsafe_code)]
mod sync;

#[cfg(not(loom))]
pub use crate::{
    error::Error,
    memory::*,
    message::*,
    node::{
        Carrier, Carrying, Channel, Difference, DirectoryProblem, EndpointError, EndpointId, EndpointRole,
        Field, Host, InletReport, Joined, Load, NameError, Network, Node, NodeBuilder, NodeId, NodeReport,
        OpenError, OutletReport, Pattern, PeerInfo, ReaderReport, Shape, TypeDescriptor,
    },
    os::epoll::Interest,
    segment::SegmentError,
};
#[cfg(not(loom))]
pub use tidepost_derive::{Message, Shared};
/// The crate whose derives a message type needs next to [`Message`].
#[cfg(not(loom))]
pub use zerocopy;

/// The programs of the README, compiled by the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
