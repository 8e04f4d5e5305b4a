//! The engines that are compared.

mod bare;
mod kernel;
pub mod tidepost;

pub use crate::link::{Incoming, Outgoing};
pub use kernel::KernelLink;

/// Something that moves messages between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The bare ring: the limit.
    Ring,
    /// The bare warm pool: the limit of large messages.
    Pool,
    /// The bare futex hand-over: the limit of waking.
    Futex,
    /// Tidepost.
    Tidepost,
    /// A pipe.
    Pipe,
    /// A Unix stream socket.
    Unix,
}

impl Engine {
    /// Its name in arguments, tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Pool => "pool",
            Self::Futex => "futex",
            Self::Tidepost => "tidepost",
            Self::Pipe => "pipe",
            Self::Unix => "unix",
        }
    }

    /// The engine of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Ring, Self::Pool, Self::Futex, Self::Tidepost, Self::Pipe, Self::Unix];
        all.into_iter().find(|engine| engine.name() == name)
    }
}
