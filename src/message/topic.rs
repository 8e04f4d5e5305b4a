//! A topic and its options: where publishers and subscribers are made.

use std::marker::PhantomData;
use std::sync::Arc;

use super::error::TopicError;
use super::overflow::Overflow;
use super::payload::{self, Payload};
use super::publisher::Publisher;
use super::receiver::Receiver;
use super::sender::{Sender, SenderOptions};
use super::subscriber::Subscriber;
use crate::layout::cursor::PINS_MAX;
use crate::layout::ring::{BODY_BYTES_MAX, SLOTS_MAX};
use crate::node::{Name, Node, TypeDescriptor};
use crate::sync::geometry::Geometry;

/// Bytes of a slot's payload for messages of variable length, unless chosen: four cache lines with the word.
const SLICE_SLOT_BYTES: usize = 248;
/// Samples of one publisher that a subscriber may hold, unless chosen.
const HOLD_LIMIT: u32 = 64;
/// Bytes that a pool may take, unless chosen.
const POOL_LIMIT: usize = 64 << 20;

/// A topic of a node: options, and the endpoints that are made with them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-topic-{}", std::process::id()));
/// use tidepost::{Node, Overflow};
///
/// let node = Node::builder().name("example").directory(&directory).open()?;
/// let mut publisher = node.topic::<[u8]>("log").depth(64).publisher(Overflow::Block)?;
/// let mut subscriber = node.topic::<[u8]>("log").subscriber()?;
/// publisher.send(b"high water")?;
/// assert_eq!(&*subscriber.recv()?, b"high water");
/// # drop((publisher, subscriber, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a topic does nothing until a publisher or a subscriber is made"]
pub struct Topic<'a, T: ?Sized> {
    node: &'a Node,
    name: &'a str,
    depth: Option<usize>,
    slot_bytes: Option<usize>,
    hold_limit: u32,
    pool_limit: usize,
    messages: PhantomData<fn(&T)>,
}

impl Node {
    /// The topic `name`, which carries messages of type `T` (or slices `[T]`). Nothing happens until an
    /// endpoint is made.
    pub fn topic<'a, T: Payload + ?Sized>(&'a self, name: &'a str) -> Topic<'a, T> {
        Topic {
            node: self,
            name,
            depth: None,
            slot_bytes: None,
            hold_limit: HOLD_LIMIT,
            pool_limit: POOL_LIMIT,
            messages: PhantomData,
        }
    }
}

impl<T: Payload + ?Sized> Topic<'_, T> {
    /// For a publisher: how many messages may be on their way, rounded up to a power of two from 8; at most
    /// 8,192. Otherwise as many as fit into about a mebibyte.
    pub fn depth(self, slots: usize) -> Self {
        Self { depth: Some(slots), ..self }
    }

    /// For a publisher of slices: bytes that a message may have to travel in its slot; longer ones take the way
    /// through the pool. At most 65,536; 248 unless chosen. Messages of fixed size have slots of their size.
    pub fn slot_bytes(self, bytes: usize) -> Self {
        Self { slot_bytes: Some(bytes), ..self }
    }

    /// For a subscriber: how many samples of one publisher may be held at once; at most 65,536, 64 unless
    /// chosen.
    pub fn hold_limit(self, samples: u32) -> Self {
        Self { hold_limit: samples, ..self }
    }

    /// For a publisher: bytes that its pool may grow to, 64 MiB unless chosen. Two messages of the largest size
    /// always find room.
    pub fn pool_limit(self, bytes: usize) -> Self {
        Self { pool_limit: bytes, ..self }
    }

    /// A publisher of this topic. Returns once the subscribers that are there have been let in, within half a
    /// second.
    ///
    /// # Errors
    /// [`TopicError`] if the name, an option or the type cannot be used, or memory or bell lines run out.
    pub fn publisher(self, overflow: Overflow) -> Result<Publisher<T>, TopicError> {
        let topic = self.checked_name()?;
        let geometry = self.geometry(&topic)?;
        let options = SenderOptions { geometry, overflow, pool_limit: self.pool_limit };
        Ok(Publisher::new(Sender::open(self.node, topic, payload::descriptor::<T>(), options)?))
    }

    /// A subscriber of this topic. It receives what is published after it has been let in, which happens before
    /// this returns with the publishers that are there, within half a second, and with later ones as they come.
    ///
    /// # Errors
    /// [`TopicError`] if the name or an option cannot be used, memory or bell lines run out, or a publisher
    /// sends another type.
    pub fn subscriber(self) -> Result<Subscriber<T>, TopicError> {
        let topic = self.checked_name()?;
        self.check("hold limit", self.hold_limit.into(), 1, PINS_MAX.into(), &topic)?;
        Ok(Subscriber::new(Receiver::open(self.node, topic, payload::descriptor::<T>(), self.hold_limit)?))
    }

    fn checked_name(&self) -> Result<Name, TopicError> {
        let name = Name::new(self.name)?;
        if T::ALIGN as u64 > TypeDescriptor::ALIGN_MAX {
            return Err(TopicError::Alignment { topic: name.shared(), align: T::ALIGN });
        }
        Ok(name)
    }

    fn geometry(&self, topic: &Name) -> Result<Geometry, TopicError> {
        self.check("depth", self.depth.unwrap_or(1) as u64, 1, SLOTS_MAX as u64, topic)?;
        let slot_bytes = self.slot_bytes.unwrap_or(SLICE_SLOT_BYTES);
        self.check("slot bytes", slot_bytes as u64, 0, BODY_BYTES_MAX as u64, topic)?;
        Ok(Geometry::for_payload(T::EXACT_BYTES.unwrap_or(slot_bytes), T::ALIGN, self.depth))
    }

    fn check(
        &self,
        option: &'static str,
        value: u64,
        least: u64,
        most: u64,
        topic: &Name,
    ) -> Result<(), TopicError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        let topic: Arc<str> = topic.shared();
        Err(TopicError::Option { topic, option, value, least, most })
    }
}
