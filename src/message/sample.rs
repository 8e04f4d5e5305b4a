//! Messages as they are received: lent in place, held beyond that, or many at once.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::SystemTime;

use super::error::HoldError;
use super::payload::{self, Message, Payload};
use super::prefix::HeaderType;
use super::receiver::Taken;
use crate::node::{EndpointError, EndpointId, TypeDescriptor};
use crate::sync::stream::{self, Buffer, Keeping, Lent, Pinned};

/// A message, lent where its publisher wrote it until the subscriber receives again.
pub struct Sample<'a, T: ?Sized> {
    message: &'a T,
    taken: Taken<'a>,
}

impl<'a, T: Payload + ?Sized> Sample<'a, T> {
    #[inline]
    pub(super) fn new(taken: Taken<'a>) -> Self {
        Self { message: payload::message_of(taken.lent.bytes()), taken }
    }

    /// The message's number: those of one publisher count from 0.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.taken.lent.sequence()
    }

    /// Messages of the same publisher that were lost between the one received before and this one.
    #[inline]
    pub fn lost(&self) -> u64 {
        self.taken.lent.lost()
    }

    /// Who published it. A publisher that is made again, after a restart for instance, is another one.
    #[inline]
    pub fn publisher(&self) -> EndpointId {
        self.taken.about.publisher.id
    }

    /// The name of the publisher's node.
    pub fn publisher_node(&self) -> &'a str {
        &self.taken.about.publisher.node_name
    }

    /// The message's type, as its publisher declared it.
    pub fn message_type(&self) -> &'a TypeDescriptor {
        &self.taken.about.descriptor
    }

    /// When it was sent, by the system's clock, if the publisher was made with
    /// [`timestamps`](super::Topic::timestamps).
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.taken.about.prefix.time(self.taken.lent.prefix())
    }

    /// The header that came with it; `None` if the subscriber was not made with [`header`](super::Topic::header) and this
    /// type.
    pub fn header<H: Message>(&self) -> Option<&'a H> {
        let is_declared = self.taken.shared.options.header.as_ref().is_some_and(HeaderType::is::<H>);
        H::ref_from_bytes(self.header_bytes().filter(|_| is_declared)?).ok()
    }

    /// The header that came with it, whatever that is, and its type: for tools, gateways and recorders. There are no bytes if its publisher
    /// broke the rules.
    pub fn header_dyn(&self) -> Option<(&'a TypeDescriptor, &'a [u8])> {
        self.taken.about.header.as_ref().map(|header| (header, self.header_bytes().unwrap_or(&[])))
    }

    fn header_bytes(&self) -> Option<&'a [u8]> {
        self.taken.about.prefix.header(self.taken.lent.prefix())
    }

    /// Keeps the message beyond the next call that receives, and beyond the subscriber. Up to 1,024 bytes are
    /// copied, and up to 65,536 if the publisher does not wait for this subscriber; longer ones stay where they are, and
    /// keep the publisher from reusing that place.
    ///
    /// # Errors
    /// [`HoldError::Limit`] if as many are held as [`hold_limit`](super::Topic::hold_limit) says; [`HoldError::Endpoint`] in a
    /// forked child.
    pub fn hold(&self) -> Result<Held<T>, HoldError> {
        let bytes = match self.taken.lent.keep() {
            Keeping::Copy => HeldBytes::copied(self.taken.lent.bytes()),
            Keeping::Pinned(pinned) => HeldBytes::Pinned(pinned),
            Keeping::Limit => {
                let shared = self.taken.shared;
                let (channel, limit) = (shared.channel.clone(), shared.options.hold_limit);
                return Err(HoldError::Limit { channel, limit });
            }
            Keeping::Inherited => {
                let channel = self.taken.shared.channel.clone();
                return Err(HoldError::Endpoint { channel, source: EndpointError::Forked });
            }
        };
        let (sequence, publisher) = (self.sequence(), self.publisher());
        Ok(Held { bytes, sequence, publisher, message: PhantomData })
    }
}

impl<T: ?Sized> Deref for Sample<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.message
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Sample<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Sample").field(&self.message).finish()
    }
}

/// A message that is held: it may be kept, sent to other threads, and dropped in any order.
pub struct Held<T: ?Sized> {
    bytes: HeldBytes,
    sequence: u64,
    publisher: EndpointId,
    message: PhantomData<Box<T>>,
}

impl<T: ?Sized> Held<T> {
    /// The message's number: those of one publisher count from 0.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Who published it.
    pub fn publisher(&self) -> EndpointId {
        self.publisher
    }
}

/// The bytes of a message that is held.
pub(super) enum HeldBytes {
    /// In memory of our own.
    Copied { buffer: Buffer, length: usize },
    /// Where it was sent.
    Pinned(Pinned),
}

impl HeldBytes {
    /// Keeps a message, in a copy if no more may be held where they are.
    pub(super) fn of(lent: Lent<'_>) -> Self {
        match lent.keep() {
            Keeping::Pinned(pinned) => Self::Pinned(pinned),
            Keeping::Copy | Keeping::Limit | Keeping::Inherited => Self::copied(lent.bytes()),
        }
    }

    pub(super) fn copied(bytes: &[u8]) -> Self {
        let mut buffer = Buffer::for_bytes(bytes.len());
        buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Self::Copied { buffer, length: bytes.len() }
    }

    /// So many bytes of zeros.
    pub(super) fn zeroed(length: usize) -> Self {
        let mut buffer = Buffer::for_bytes(length);
        buffer.bytes_mut()[..length].fill(0);
        Self::Copied { buffer, length }
    }

    /// The bytes, if they are our own; none otherwise.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Copied { buffer, length } => &mut buffer.bytes_mut()[..*length],
            Self::Pinned(_) => &mut [],
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied { buffer, length } => &buffer.bytes()[..*length],
            Self::Pinned(pinned) => pinned.bytes(),
        }
    }
}

impl<T: Payload + ?Sized> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        payload::message_of(self.bytes.as_slice())
    }
}

impl<T: Payload + ?Sized + fmt::Debug> fmt::Debug for Held<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Held").field(&&**self).finish()
    }
}

/// Several messages of one publisher, made by [`Subscriber::recv_many`](super::Subscriber::recv_many).
///
/// All that it has given stay in place until its borrow of the subscriber ends.
pub struct Batch<'a, T: ?Sized> {
    batch: Option<stream::Batch<'a>>,
    left: usize,
    messages: PhantomData<&'a T>,
}

impl<'a, T: Payload + ?Sized> Batch<'a, T> {
    #[inline]
    pub(super) fn new(batch: Option<stream::Batch<'a>>, count: usize) -> Self {
        Self { batch, left: count, messages: PhantomData }
    }
}

impl<'a, T: Payload + ?Sized> Iterator for Batch<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        self.left = self.left.checked_sub(1)?;
        // Damage in the ring ends the batch here, and the connection at the next receive, which meets it again.
        let bytes = self.batch.as_mut()?.next(payload::extent::<T>()).ok().flatten()?;
        Some(payload::message_of(bytes))
    }
}

impl<T: ?Sized> fmt::Debug for Batch<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Batch").field("left", &self.left).finish_non_exhaustive()
    }
}
