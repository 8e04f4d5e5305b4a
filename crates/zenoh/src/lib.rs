//! The network link of Tidepost: what crosses between the domains of different machines, over Eclipse Zenoh.
//!
//! A **gateway** carries topics, services, queues, states and signals between the domain of its machine and those of others, and no
//! program changes for that. The program `tidepost-gateway` is one; [`Gateway`] is the same in a program, and [`Network`] what
//! `Node::builder().network(…)` takes.
//!
//! `docs/network.md` has the keys, so that any client of the engine can take part, and what changes when a message crosses.

#![deny(unsafe_code)]

mod bridge;
mod check;
mod engine;
mod envelope;
mod file;
mod gateway;
mod link;
mod names;
mod room;
mod rules;
mod settings;
mod types;

pub use bridge::{Bridge, BridgeError, BridgeOptions, Counts, Crossing, Status};
pub use check::{CheckReport, GatewayReport, check};
pub use engine::Zenoh;
pub use file::{Configuration, FileError};
pub use gateway::{Gateway, GatewayError, Network};
pub use link::*;
pub use names::{key_of, name_of};
pub use rules::{Direction, NamePattern, NamePatternError, Rules};
pub use settings::{Settings, Tls};
