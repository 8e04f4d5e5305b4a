//! Workloads, and the harness that runs them between processes: Tidepost, what the machine can do at best,
//! and what the kernel offers, in interleaved rounds.
//!
//! The measuring program starts itself again as the other process; its main function hands the command
//! [`CHILD_COMMAND`] to [`child`].

#![deny(unsafe_code)]

pub mod connect;
mod crowd;
pub mod engine;
mod handover;
#[allow(unsafe_code)]
pub mod limit;
mod link;
pub mod locks;
mod measure;
mod patterns;
mod process;
pub mod report;
mod scratch;
pub mod workload;

pub use measure::{Failure, Measurement, child, run};
pub use process::CHILD_COMMAND;
pub use scratch::Scratch;
