//! Model 2: messages. One process sends, others receive; the facility moves *and* synchronises.
//!
//! A **topic** carries messages of one type from a publisher to any number of subscribers, through memory that
//! only the publisher writes. See [`Topic`] for how an endpoint is made, [`Publisher`] and [`Subscriber`] for
//! what it does.

mod error;
mod inlet;
mod loan;
mod outlet;
mod overflow;
mod payload;
mod publisher;
mod receiver;
mod refusals;
mod sample;
mod sender;
mod subscriber;
mod topic;

pub use error::{HoldError, ReceiveError, Refused, SendError, TopicError, WaitError};
pub use loan::Loan;
pub use overflow::Overflow;
pub use payload::{Message, Payload};
pub use publisher::Publisher;
pub use sample::{Batch, Held, Sample};
pub use subscriber::Subscriber;
pub use topic::Topic;
