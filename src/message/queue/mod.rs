//! Queues: each item goes to exactly one consumer, which acknowledges it.

mod builder;
mod consumer;
mod core;
mod error;
mod item;
mod lane;
mod loan;
mod meeting;
mod outbox;
mod producer;
mod shared;
#[cfg(test)]
mod tests;

pub use self::core::QueueCounts;
pub use builder::Queue;
pub use consumer::{Consumer, ConsumerHandle};
pub use error::{AckError, DrainError, PushError, QueueError};
pub use item::{HeldItem, Item};
pub use loan::ItemLoan;
pub use producer::{Producer, ProducerHandle};
