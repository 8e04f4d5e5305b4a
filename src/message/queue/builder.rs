//! A queue and its options: where producers and consumers are made.

use std::fmt;
use std::marker::PhantomData;

use super::consumer::Consumer;
use super::error::QueueError;
use super::outbox::Outbox;
use super::producer::Producer;
use crate::layout::ring::{BODY_BYTES_MAX, SLOTS_MAX};
use crate::message::inlet::ReceiverOptions;
use crate::message::overflow::Overflow;
use crate::message::payload::{Payload, Untyped};
use crate::message::prefix::Prefix;
use crate::message::receiver::Receiver;
use crate::message::sender::SenderOptions;
use crate::node::{Channel, Node, Pattern, Shape, TypeDescriptor};
use crate::sync::geometry::Geometry;
use crate::sync::stream::{Lending, PoolLimit};

/// Items without a consumer that a producer keeps, unless chosen.
const DEPTH: usize = 1024;
/// The most of them.
const DEPTH_MAX: usize = 1 << 24;
/// Items of one producer that a consumer takes before it has settled the first, unless chosen.
const CREDIT: u32 = 256;
/// Items that a producer lets a consumer have at most, unless chosen.
const CREDIT_GRANTED: usize = 1024;
/// Bytes of a slot's payload for items of variable length, unless chosen: four cache lines with the word.
const SLICE_SLOT_BYTES: usize = 248;
/// Bytes that the pool of a lane may take, unless chosen.
const POOL_LIMIT: usize = 64 << 20;

/// A queue of a node: options, and the endpoints that are made with them.
///
/// Each item goes to one consumer, one that has *credit*: as long as it has fewer items of the producer than it asked for and
/// not acknowledged them. Items that find no credit wait with their producer, up to its *depth*.
///
/// An item that a consumer gives back, or had when it left or died, is delivered again, to whoever has credit, and says so:
/// every item is delivered **at least once** as long as its producer lives. What a producer that dies had given to consumers
/// is still theirs; what it had given to nobody is lost, and each of its consumers counts that.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-queue-{}", std::process::id()));
/// use tidepost::{Node, Overflow};
///
/// let node = Node::builder().name("example").directory(&directory).open()?;
/// let mut producer = node.queue::<[u8]>("letters").depth(64).producer(Overflow::Block)?;
/// let mut consumer = node.queue::<[u8]>("letters").credit(4).consumer()?;
/// producer.push(b"high water")?;
/// let item = consumer.recv()?;
/// assert_eq!(&*item, b"high water");
/// item.ack()?;
/// # drop((producer, consumer, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a queue does nothing until a producer or a consumer is made"]
pub struct Queue<'a, T: ?Sized> {
    node: &'a Node,
    name: &'a str,
    item_type: Option<TypeDescriptor>,
    depth: usize,
    credit: Option<u32>,
    slot_bytes: usize,
    pool_limit: PoolLimit,
    items: PhantomData<fn(&T)>,
}

// By hand, as a derive would ask the same of the items.
impl<T: ?Sized> Clone for Queue<'_, T> {
    fn clone(&self) -> Self {
        Self { item_type: self.item_type.clone(), ..*self }
    }
}

impl<T: ?Sized> fmt::Debug for Queue<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Queue").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    /// The queue `name`, which carries items of type `T` (or slices `[T]`). Nothing happens until an endpoint is made.
    pub fn queue<'a, T: Payload + ?Sized>(&'a self, name: &'a str) -> Queue<'a, T> {
        Queue {
            node: self,
            name,
            item_type: T::descriptor(),
            depth: DEPTH,
            credit: None,
            slot_bytes: SLICE_SLOT_BYTES,
            pool_limit: PoolLimit::Usual(POOL_LIMIT),
            items: PhantomData,
        }
    }

    /// The queue `name`, whose items' type is known only when the program runs: for tools and gateways. A consumer takes items
    /// of any type; a producer needs to be told the type, with [`Queue::item_type`].
    pub fn queue_dyn<'a>(&'a self, name: &'a str) -> Queue<'a, Untyped> {
        self.queue(name)
    }
}

impl Queue<'_, Untyped> {
    /// The type of the items: required for a producer; a consumer then takes no other.
    pub fn item_type(self, descriptor: TypeDescriptor) -> Self {
        Self { item_type: Some(descriptor), ..self }
    }
}

impl<T: Payload + ?Sized> Queue<'_, T> {
    /// For a producer: how many items that find no credit it keeps, at most 2^24; 1,024 unless chosen. They lie in its own
    /// memory. Items that are to be delivered again come on top.
    ///
    /// With depth 0 nothing waits: each push returns when a consumer has received the item, and one that fails has given it
    /// to nobody. The policy is then `Block` or `Fail`.
    pub fn depth(self, items: usize) -> Self {
        Self { depth: items, ..self }
    }

    /// For a consumer: how many items of one producer it may have and not have acknowledged; 256 unless chosen. With much credit
    /// nobody waits, with little a slow consumer leaves more to others. For a producer: how much of that it grants to each
    /// consumer, rounded up to a power of two from 8; 1,024 unless chosen, fewer if the items are large. At most 8,192.
    pub fn credit(self, items: u32) -> Self {
        Self { credit: Some(items), ..self }
    }

    /// For a producer of slices: bytes that an item may have to travel in its slot; longer ones take the way through a pool. At
    /// most 65,536; 248 unless chosen. Items of fixed size have slots of their size.
    pub fn slot_bytes(self, bytes: usize) -> Self {
        Self { slot_bytes: bytes, ..self }
    }

    /// For a producer: bytes of items that the pool for each consumer may grow to, and so also the longest item that does not
    /// fit into a slot. Where the memory of shorter items leaves no room for one that it allows, the pool grows beyond it by two
    /// of that size. Unless chosen, 64 MiB, but two items of the largest size always find room, whatever it is.
    pub fn pool_limit(self, bytes: usize) -> Self {
        Self { pool_limit: PoolLimit::Chosen(bytes), ..self }
    }

    /// A producer of this queue. Returns once the consumers that are there have been let in, within half a second.
    ///
    /// # Errors
    /// [`QueueError`] if the name, an option or the type cannot be used, or memory runs out.
    pub fn producer(self, overflow: Overflow) -> Result<Producer<T>, QueueError> {
        let queue = Channel::new(Pattern::Queue, self.name)?;
        let descriptor =
            self.item_type.clone().ok_or_else(|| QueueError::NoType { queue: queue.shared() })?;
        let least = u64::from(overflow.drops());
        self.check("depth", self.depth as u64, least, DEPTH_MAX as u64, &queue)?;
        let options = SenderOptions {
            geometry: self.geometry(&descriptor, &queue)?,
            overflow: Overflow::Block,
            pool_limit: self.pool_limit,
            history: 0,
            prefix: Prefix::default(),
            is_stamped: false,
            is_relayed: false,
            header: None,
            base: 0,
        };
        Ok(Producer::new(Outbox::open(self.node, queue, descriptor, options, (overflow, self.depth))?))
    }

    /// A consumer of this queue. Producers give it items from then on, even before it asks for one.
    ///
    /// # Errors
    /// [`QueueError`] if the name or an option cannot be used, memory runs out, or a producer has items of another type.
    pub fn consumer(self) -> Result<Consumer<T>, QueueError> {
        let queue = Channel::new(Pattern::Queue, self.name)?;
        let credit = self.credit.unwrap_or(CREDIT);
        self.check("credit", credit.into(), 1, SLOTS_MAX as u64, &queue)?;
        let options = ReceiverOptions {
            descriptor: self.item_type,
            header: None,
            hold_limit: 0,
            history: credit,
            is_observer: false,
            lending: Lending::InPlace,
            notes: 0,
            pair: None,
            carrier: None,
        };
        Ok(Consumer::new(Receiver::open(self.node, queue, options)?))
    }

    fn geometry(&self, descriptor: &TypeDescriptor, queue: &Channel) -> Result<Geometry, QueueError> {
        self.check("slot bytes", self.slot_bytes as u64, 0, BODY_BYTES_MAX as u64, queue)?;
        if let Some(credit) = self.credit {
            self.check("credit", credit.into(), 1, SLOTS_MAX as u64, queue)?;
        }
        let align = descriptor.align;
        if !align.is_power_of_two() || align > TypeDescriptor::ALIGN_MAX {
            return Err(QueueError::Alignment { queue: queue.shared(), align: align as usize });
        }
        let payload_bytes = match descriptor.shape {
            Shape::One => usize::try_from(descriptor.size).unwrap_or(usize::MAX),
            Shape::Slice => self.slot_bytes,
        };
        let usual = Geometry::for_payload(payload_bytes, align as usize, None).slots().min(CREDIT_GRANTED);
        let slots = self.credit.map_or(usual, |credit| credit as usize);
        Ok(Geometry::for_payload(payload_bytes, align as usize, Some(slots)))
    }

    fn check(
        &self,
        option: &'static str,
        value: u64,
        least: u64,
        most: u64,
        queue: &Channel,
    ) -> Result<(), QueueError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(QueueError::Option { queue: queue.shared(), option, value, least, most })
    }
}
