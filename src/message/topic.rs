//! A topic and its options: where publishers and subscribers are made.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::error::TopicError;
use super::inlet::ReceiverOptions;
use super::overflow::Overflow;
use super::payload::{Message, Payload, Untyped};
use super::prefix::{HeaderType, Prefix};
use super::publisher::Publisher;
use super::receiver::Receiver;
use super::sender::{Sender, SenderOptions};
use super::subscriber::Subscriber;
use super::trust::{self, Borrowed, Copied, Trust};
use crate::layout::cursor::PINS_MAX;
use crate::layout::ring::{BODY_BYTES_MAX, INLINE_BYTES_MAX, SLOTS_MAX};
use crate::node::{Carrier, Channel, Host, Node, Pattern, Shape, TypeDescriptor};
use crate::sync::geometry::Geometry;
use crate::sync::stream::PoolLimit;

/// Bytes of a slot's payload for messages of variable length, unless chosen: four cache lines with the word.
const SLICE_SLOT_BYTES: usize = 248;
/// Samples of one publisher that a subscriber may hold, unless chosen.
const HOLD_LIMIT: u32 = 64;
/// The most samples of one publisher that a subscriber may hold: one pin is its own.
const HOLD_LIMIT_MAX: u32 = PINS_MAX - 1;
/// The most messages that are kept for joiners: half of the deepest ring.
const HISTORY_MAX: usize = SLOTS_MAX / 2;
/// Slots of a ring of short messages of which only the newest is wanted, unless chosen: as few as a reader finds in its own
/// cache. Longer ones gain more from a ring that goes beyond the writer's.
const LATEST_SLOTS: usize = 8;
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
#[must_use = "a topic does nothing until a publisher or a subscriber is made"]
pub struct Topic<'a, T: ?Sized, B = Borrowed> {
    node: &'a Node,
    name: &'a str,
    message_type: Option<TypeDescriptor>,
    depth: Option<usize>,
    slot_bytes: Option<usize>,
    hold_limit: u32,
    pool_limit: PoolLimit,
    history: Option<usize>,
    is_observer: bool,
    is_stamped: bool,
    is_relayed: bool,
    header: Option<HeaderType>,
    carrier: Option<(Host, Arc<dyn Carrier>)>,
    messages: PhantomData<fn(&T)>,
    trust: PhantomData<B>,
}

// By hand, as a derive would ask the same of the messages.
impl<T: ?Sized, B> Clone for Topic<'_, T, B> {
    fn clone(&self) -> Self {
        let (message_type, header, carrier) =
            (self.message_type.clone(), self.header.clone(), self.carrier.clone());
        Self { message_type, header, carrier, ..*self }
    }
}

impl<T: ?Sized, B> fmt::Debug for Topic<'_, T, B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Topic").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    /// The topic `name`, which carries messages of type `T` (or slices `[T]`). Nothing happens until an
    /// endpoint is made.
    pub fn topic<'a, T: Payload + ?Sized>(&'a self, name: &'a str) -> Topic<'a, T> {
        Topic {
            node: self,
            name,
            message_type: T::descriptor(),
            depth: None,
            slot_bytes: None,
            hold_limit: HOLD_LIMIT,
            pool_limit: PoolLimit::Usual(POOL_LIMIT),
            history: None,
            is_observer: false,
            is_stamped: false,
            is_relayed: false,
            header: None,
            carrier: None,
            messages: PhantomData,
            trust: PhantomData,
        }
    }

    /// The topic `name`, whose messages' type is known only when the program runs: for tools, gateways and recorders. A
    /// subscriber takes messages of any type, and each sample tells its own; a publisher needs to be told the type, with
    /// [`Topic::message_type`].
    pub fn topic_dyn<'a>(&'a self, name: &'a str) -> Topic<'a, Untyped> {
        self.topic(name)
    }
}

impl<B: Trust> Topic<'_, Untyped, B> {
    /// The type of the messages: required for a publisher; a subscriber then takes no other.
    pub fn message_type(self, descriptor: TypeDescriptor) -> Self {
        Self { message_type: Some(descriptor), ..self }
    }

    /// As [`Topic::header`], for a type that is known only when the program runs. A publisher sends it with
    /// [`Publisher::relay`]; of any sample, [`Sample::header_dyn`](super::Sample::header_dyn) tells header and type. A header is one
    /// value: if this is the type of many, it is the type of each.
    pub fn header_type(self, descriptor: TypeDescriptor) -> Self {
        let descriptor = TypeDescriptor { shape: Shape::One, ..descriptor };
        Self { header: Some(HeaderType { id: None, descriptor }), ..self }
    }
}

impl<'a, T: Payload + ?Sized, B: Trust> Topic<'a, T, B> {
    /// For a publisher: how many messages may be on their way, rounded up to a power of two from 8; at most
    /// 8,192. Otherwise as many as fit into about a mebibyte, or 8 of up to 1,024 bytes where only the latest is wanted.
    pub fn depth(self, slots: usize) -> Self {
        Self { depth: Some(slots), ..self }
    }

    /// For a publisher of slices: bytes that a message may have to travel in its slot; longer ones take the way
    /// through the pool. At most 65,536; 248 unless chosen. Messages of fixed size have slots of their size.
    pub fn slot_bytes(self, bytes: usize) -> Self {
        Self { slot_bytes: Some(bytes), ..self }
    }

    /// For a subscriber: how many samples of one publisher may be held at once; at most 65,535, 64 unless
    /// chosen.
    pub fn hold_limit(self, samples: u32) -> Self {
        Self { hold_limit: samples, ..self }
    }

    /// For a publisher: bytes of messages that its pool may grow to, and so also the longest message that does not fit into
    /// a slot. Unless chosen, 64 MiB, but two messages of the largest size always find room, whatever it is. What only
    /// observers hold comes on top.
    pub fn pool_limit(self, bytes: usize) -> Self {
        Self { pool_limit: PoolLimit::Chosen(bytes), ..self }
    }

    /// For a publisher: how many of its last messages it keeps for subscribers that join later, at most 4,096; none unless
    /// chosen. The oldest are given up if the pool limit has no room for them. For a subscriber: how many it wants at most
    /// of those; all of them unless chosen.
    pub fn history(self, messages: usize) -> Self {
        Self { history: Some(messages), ..self }
    }

    /// For a subscriber: it holds nobody up, whatever the publisher's policy. What it is too slow for it loses, and is told
    /// how much.
    pub fn observer(self) -> Self {
        Self { is_observer: true, ..self }
    }

    /// For a publisher: each message carries the time at which it was sent, by the system's clock. Costs some 20 ns a
    /// message, and on some machines a system call.
    pub fn timestamps(self) -> Self {
        Self { is_stamped: true, ..self }
    }

    /// Each message comes with a header of this type, at most 256 bytes: a publisher sends it with
    /// [`Publisher::send_with`]; a subscriber that declares it takes only messages that have it, and asks each sample
    /// for its [`header`](super::Sample::header). One that does not declare it receives the messages without it.
    pub fn header<H: Message>(self) -> Self {
        Self { header: Some(HeaderType::of::<H>()), ..self }
    }

    /// For a publisher: it passes on what others have sent, on another machine for instance, with [`Publisher::relay`]. It costs 40 B
    /// a message.
    pub fn relaying(self) -> Self {
        Self { is_relayed: true, ..self }
    }

    /// For a subscriber that passes messages on to somewhere else: those of publishers of a node of this process, `host`, are carried
    /// there by whoever publishes them, each on its own thread, which thus waits for whatever that waits for. The subscriber receives
    /// them all the same, some time later, and has to know which of them have been carried. Only what
    /// [`Overflow::Block`] publishers send is carried, who may wait in any case, keep nothing for those who join, and send neither times
    /// nor headers.
    pub fn carried_by(self, host: &Host, carrier: Arc<dyn Carrier>) -> Self {
        Self { carrier: Some((host.clone(), carrier)), ..self }
    }

    /// For a subscriber: its publishers may do anything. Messages are copied out before they are looked at.
    pub fn copied(self) -> Topic<'a, T, Copied> {
        let Self { node, name, message_type, depth, slot_bytes, hold_limit, pool_limit, .. } = self;
        let Self { history, is_observer, is_stamped, is_relayed, header, carrier, .. } = self;
        Topic {
            node,
            name,
            message_type,
            depth,
            slot_bytes,
            hold_limit,
            pool_limit,
            history,
            is_observer,
            is_stamped,
            is_relayed,
            header,
            carrier,
            messages: PhantomData,
            trust: PhantomData,
        }
    }

    /// A publisher of this topic. Returns once the subscribers that are there have been let in, within half a
    /// second.
    ///
    /// # Errors
    /// [`TopicError`] if the name, an option or the type cannot be used, or memory runs out.
    pub fn publisher(self, overflow: Overflow) -> Result<Publisher<T>, TopicError> {
        let topic = Channel::new(Pattern::Topic, self.name)?;
        self.publisher_of(topic, overflow, 0)
    }

    /// For a publisher: it keeps its newest message, whatever it takes.
    pub(super) fn keep_newest(self) -> Self {
        Self { history: Some(1), pool_limit: PoolLimit::Keeping(POOL_LIMIT), ..self }
    }

    /// A publisher of a channel, whose numbers count on from `base`.
    pub(super) fn publisher_of(
        self,
        topic: Channel,
        overflow: Overflow,
        base: u64,
    ) -> Result<Publisher<T>, TopicError> {
        let no_type = || TopicError::NoType { topic: topic.shared() };
        let descriptor = self.message_type.clone().ok_or_else(no_type)?;
        let header = self.header.as_ref().map(|header| &header.descriptor);
        let prefix = self.prefix(&descriptor, header, &topic)?;
        let options = SenderOptions {
            geometry: self.geometry(&descriptor, prefix, overflow, &topic)?,
            overflow,
            pool_limit: self.pool_limit,
            history: self.history.unwrap_or(0),
            prefix,
            is_stamped: self.is_stamped,
            is_relayed: self.is_relayed,
            header: header.cloned(),
            base,
        };
        let sender = Sender::open(self.node, topic, descriptor, options)?;
        Ok(Publisher::new(sender, self.header))
    }

    /// A subscriber of this topic. It receives what is published after it has been let in, and before that what publishers
    /// keep for those who join, which happens before this returns with the publishers that are there, within half a second,
    /// and with later ones as they come.
    ///
    /// # Errors
    /// [`TopicError`] if the name or an option cannot be used, memory runs out, or a publisher sends another type.
    pub fn subscriber(self) -> Result<Subscriber<T, B>, TopicError> {
        let topic = Channel::new(Pattern::Topic, self.name)?;
        Ok(Subscriber::new(self.receiver_of(topic)?))
    }

    /// What receives of a channel.
    pub(super) fn receiver_of(self, topic: Channel) -> Result<Receiver, TopicError> {
        self.check("hold limit", self.hold_limit.into(), 1, HOLD_LIMIT_MAX.into(), &topic)?;
        let header = self.header.as_ref().map(|header| &header.descriptor);
        if let Some(descriptor) = &self.message_type {
            self.prefix(descriptor, header, &topic)?;
        }
        let options = ReceiverOptions {
            descriptor: self.message_type,
            header: self.header,
            hold_limit: self.hold_limit,
            history: self.history.map_or(u32::MAX, |history| u32::try_from(history).unwrap_or(u32::MAX)),
            is_observer: self.is_observer,
            lending: trust::sealed::lending::<B>(),
            notes: 0,
            pair: None,
            carrier: self.carrier,
        };
        Receiver::open(self.node, topic, options)
    }

    /// What comes before each message.
    fn prefix(
        &self,
        descriptor: &TypeDescriptor,
        header: Option<&TypeDescriptor>,
        topic: &Channel,
    ) -> Result<Prefix, TopicError> {
        for TypeDescriptor { align, .. } in std::iter::once(descriptor).chain(header) {
            if !align.is_power_of_two() || *align > TypeDescriptor::ALIGN_MAX {
                return Err(TopicError::Alignment { topic: topic.shared(), align: *align as usize });
            }
        }
        let header_bytes = header.map_or(0, |header| header.size);
        self.check("header bytes", header_bytes, 0, Prefix::HEADER_BYTES_MAX, topic)?;
        Ok(Prefix::new((self.is_stamped, self.is_relayed), header, descriptor.align as usize))
    }

    fn geometry(
        &self,
        descriptor: &TypeDescriptor,
        prefix: Prefix,
        overflow: Overflow,
        topic: &Channel,
    ) -> Result<Geometry, TopicError> {
        self.check("depth", self.depth.unwrap_or(1) as u64, 1, SLOTS_MAX as u64, topic)?;
        let slot_bytes = self.slot_bytes.unwrap_or(SLICE_SLOT_BYTES);
        self.check("slot bytes", slot_bytes as u64, 0, BODY_BYTES_MAX as u64, topic)?;
        let history = self.history.unwrap_or(0);
        self.check("history", history as u64, 0, HISTORY_MAX as u64, topic)?;
        let payload_bytes = match descriptor.shape {
            Shape::One => usize::try_from(descriptor.size).unwrap_or(usize::MAX),
            Shape::Slice => slot_bytes,
        };
        let header = self.header.as_ref().map(|header| &header.descriptor);
        let align = Prefix::align(header, descriptor.align as usize);
        let is_short = payload_bytes <= INLINE_BYTES_MAX;
        let usual_depth = (overflow == Overflow::Latest && is_short).then_some(LATEST_SLOTS);
        // Half of the ring is left for what is on its way.
        let depth = self.depth.or(usual_depth).map(|depth| depth.max(2 * history));
        let geometry = Geometry::for_payload(payload_bytes.saturating_add(prefix.bytes()), align, depth);
        if geometry.slots() >= 2 * history {
            return Ok(geometry);
        }
        Ok(Geometry::for_payload(payload_bytes.saturating_add(prefix.bytes()), align, Some(2 * history)))
    }

    fn check(
        &self,
        option: &'static str,
        value: u64,
        least: u64,
        most: u64,
        topic: &Channel,
    ) -> Result<(), TopicError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        let topic: Arc<str> = topic.shared();
        Err(TopicError::Option { topic, option, value, least, most })
    }
}
