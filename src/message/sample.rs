//! Messages as they are received: lent in place, held beyond that, or many at once.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::error::HoldError;
use super::inlet::SubscriberShared;
use super::payload::{self, Payload};
use crate::layout::ring::INLINE_BYTES_MAX;
use crate::sync::stream::{self, Lent, Pinned};

/// A message, lent where its publisher wrote it until the subscriber receives again.
pub struct Sample<'a, T: ?Sized> {
    message: &'a T,
    lent: Lent<'a>,
    subscriber: &'a SubscriberShared,
}

impl<'a, T: Payload + ?Sized> Sample<'a, T> {
    #[inline]
    pub(super) fn new(lent: Lent<'a>, subscriber: &'a SubscriberShared) -> Self {
        Self { message: payload::message_of(lent.bytes()), lent, subscriber }
    }

    /// The message's number: those of one publisher count from 0.
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.lent.sequence()
    }

    /// Keeps the message beyond the next call that receives, and beyond the subscriber. Up to 1,024 bytes are
    /// copied; longer ones stay where they are, and keep the publisher from reusing that place.
    ///
    /// # Errors
    /// [`HoldError::Limit`] if as many are held as [`hold_limit`](super::Topic::hold_limit) says.
    pub fn hold(&self) -> Result<Held<T>, HoldError> {
        let bytes = self.lent.bytes();
        if bytes.len() <= INLINE_BYTES_MAX {
            return Ok(Held { bytes: HeldBytes::copied(bytes), message: PhantomData });
        }
        let limit =
            || HoldError::Limit { topic: self.subscriber.name.shared(), limit: self.subscriber.hold_limit() };
        let pinned = self.lent.pin().ok_or_else(limit)?;
        Ok(Held { bytes: HeldBytes::Pinned(pinned), message: PhantomData })
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
    message: PhantomData<Box<T>>,
}

enum HeldBytes {
    Copied { lines: Box<[Line]>, length: usize },
    Pinned(Pinned),
}

/// Bytes with the largest alignment that a message may have.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl HeldBytes {
    fn copied(bytes: &[u8]) -> Self {
        let mut lines: Box<[Line]> = (0..bytes.len().div_ceil(64)).map(|_| Line::new_zeroed()).collect();
        lines.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self::Copied { lines, length: bytes.len() }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied { lines, length } => &lines.as_bytes()[..*length],
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
