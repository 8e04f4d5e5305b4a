//! The engines that are compared.

mod bare;
mod kernel;
pub mod tidepost;

use std::borrow::Cow;

use ::tidepost::Overflow;

pub use crate::link::{Incoming, Outgoing};
pub use kernel::KernelLink;

/// The policies that are compared, with their names in arguments, tables and JSON.
const POLICIES: [(Overflow, &str); 3] =
    [(Overflow::Block, "block"), (Overflow::DropOldest, "drop-oldest"), (Overflow::Latest, "latest")];

/// Something that moves messages between two processes, or Tidepost with one of its settings changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The bare ring: the limit.
    Ring,
    /// The bare warm pool: the limit of large messages.
    Pool,
    /// The bare futex hand-over: the limit of waking.
    Futex,
    /// Tidepost, under `Block`.
    Tidepost,
    /// A pipe.
    Pipe,
    /// A Unix stream socket.
    Unix,
    /// Tidepost under this policy.
    Policy(Overflow),
    /// Tidepost with so many subscribers that never look.
    Subscribers(u32),
    /// Tidepost with so many publishing processes and one subscriber.
    Publishers(u32),
    /// A topic under this policy, as the measure of another pattern.
    Topic(Overflow),
    /// A service: a client that calls, and a server.
    Call,
    /// A queue.
    Queue,
    /// A state with one reader that never looks.
    State,
    /// A state with so many readers that never look.
    Readers(u32),
    /// A state with so many readers that sleep until it changes.
    Sleepers(u32),
    /// A signal with one waiter that never looks.
    Signal,
    /// A wait set with so many subscribers, messages for one of them.
    Set(u32),
}

/// An engine with a number, and what its name starts with.
type Counted = (&'static str, fn(u32) -> Engine);

/// Engines of which there are as many as there are numbers.
const COUNTED: [Counted; 5] = [
    ("subscribers-", Engine::Subscribers),
    ("publishers-", Engine::Publishers),
    ("readers-", Engine::Readers),
    ("sleepers-", Engine::Sleepers),
    ("set-", Engine::Set),
];

impl Engine {
    /// Its name in arguments, tables and JSON.
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::Ring => "ring".into(),
            Self::Pool => "pool".into(),
            Self::Futex => "futex".into(),
            Self::Tidepost => "tidepost".into(),
            Self::Pipe => "pipe".into(),
            Self::Unix => "unix".into(),
            Self::Policy(policy) => policy_name(policy).into(),
            Self::Topic(Overflow::Block) => "topic".into(),
            Self::Topic(policy) => format!("topic-{}", policy_name(policy)).into(),
            Self::Call => "call".into(),
            Self::Queue => "queue".into(),
            Self::State => "state".into(),
            Self::Signal => "signal".into(),
            Self::Subscribers(count) => format!("subscribers-{count}").into(),
            Self::Publishers(count) => format!("publishers-{count}").into(),
            Self::Readers(count) => format!("readers-{count}").into(),
            Self::Sleepers(count) => format!("sleepers-{count}").into(),
            Self::Set(count) => format!("set-{count}").into(),
        }
    }

    /// The engine of this name.
    pub fn named(name: &str) -> Option<Self> {
        let counted = COUNTED.iter().find_map(|(prefix, of)| Some((name.strip_prefix(prefix)?, of)));
        if let Some((count, of)) = counted {
            return count.parse().ok().map(of);
        }
        let limits = [Self::Ring, Self::Pool, Self::Futex, Self::Tidepost, Self::Pipe, Self::Unix];
        let patterns = [Self::Call, Self::Queue, Self::State, Self::Signal];
        let policies = POLICIES.iter().flat_map(|(policy, _)| [Self::Policy(*policy), Self::Topic(*policy)]);
        limits.into_iter().chain(patterns).chain(policies).find(|engine| engine.name() == name)
    }

    /// Whether others are measured against it.
    pub fn is_measure(self) -> bool {
        match self {
            Self::Ring | Self::Pool | Self::Futex | Self::Topic(_) => true,
            Self::Tidepost | Self::Pipe | Self::Unix => false,
            Self::Call | Self::Queue | Self::State | Self::Signal | Self::Sleepers(_) => false,
            Self::Policy(policy) => policy == Overflow::Block,
            Self::Subscribers(count) | Self::Publishers(count) | Self::Readers(count) | Self::Set(count) => {
                count == 1
            }
        }
    }
}

fn policy_name(policy: Overflow) -> &'static str {
    POLICIES.iter().find(|(of, _)| *of == policy).map_or("policy", |(_, name)| name)
}
