//! Model 2: messages. One process sends, others receive; the facility moves *and* synchronises.
//!
//! A **topic** carries messages of one type from publishers to any number of subscribers, through memory that
//! only the publisher writes. See [`Topic`] for how an endpoint is made, [`Publisher`] and [`Subscriber`] for
//! what it does.

mod berth;
mod board;
mod carriage;
mod error;
mod event;
mod inlet;
mod loan;
mod outlet;
mod overflow;
mod payload;
mod prefix;
mod publisher;
mod queue;
mod receiver;
mod refusals;
mod relayed;
mod sample;
mod sender;
mod service;
mod signal;
mod sleepers;
mod state;
mod subscriber;
mod table;
mod topic;
mod trust;
mod wait_set;

pub use error::{CloseError, HoldError, ReceiveError, Refused, SendError, TopicError, WaitError};
pub use event::{Counterpart, Event};
pub use loan::Loan;
pub use overflow::Overflow;
pub use payload::{Message, Payload, Text, Untyped};
pub use publisher::{Publisher, PublisherHandle};
pub use queue::{
    AckError, Consumer, ConsumerHandle, DrainError, HeldItem, Item, ItemLoan, Producer, ProducerHandle,
    PushError, Queue, QueueCounts, QueueError,
};
pub use relayed::Relayed;
pub use sample::{Batch, Held, Sample};
pub use service::{
    Answer, AnswerError, AnswerLoan, AsFailure, Call, CallError, Client, ClientHandle, Failure, Part, Parts,
    PartsReply, Request, RequestLoan, Server, ServerHandle, Service, ServiceError, ServiceTypes, Ticket,
};
pub use signal::{
    Notice, Notices, Notifier, NotifierHandle, NotifyError, Signal, SignalError, Waiter, WaiterHandle,
};
pub use state::{State, StateError, StateReader, StateReaderHandle, StateWriter, Value};
pub use subscriber::{Subscriber, SubscriberHandle};
pub use table::{
    Table, TableChange, TableEntry, TableError, TableReadError, TableReader, TableReaderHandle,
    TableWriteError, TableWriter, TableWriterHandle,
};
pub use topic::Topic;
pub use trust::{Borrowed, Copied, Trust};
pub use wait_set::{
    Either, Key, Ready, Timer, WaitSet, WaitSetError, WaitSetHandle, Waitable, select, select_timeout,
};
