//! Items as they are received: lent in place until they are acknowledged, or held beyond the next receive.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use super::error::AckError;
use crate::message::event::Counterpart;
use crate::message::inlet::SubscriberShared;
use crate::message::payload::{self, Payload};
use crate::message::receiver::TakenItem;
use crate::node::{EndpointError, EndpointId, TypeDescriptor};
use crate::sync::stream::{Delivery, ReceivingEnd, Settled};

/// An item, lent where its producer wrote it. It is this consumer's alone until it says what becomes of it: [`Item::ack`],
/// [`Item::give_back`], or [`Item::hold`] to decide later. One that is dropped is given back, so that a handler that panics
/// loses nothing.
#[must_use = "an item that is dropped is given back"]
pub struct Item<'a, T: ?Sized> {
    // Few words, as they go through each caller's loop.
    item: &'a T,
    end: &'a ReceivingEnd,
    producer: &'a Counterpart,
    item_type: &'a TypeDescriptor,
    shared: &'a SubscriberShared,
}

impl<'a, T: Payload + ?Sized> Item<'a, T> {
    #[inline(always)]
    pub(super) fn new(taken: TakenItem<'a>) -> Self {
        let TakenItem { lent, end, publisher, descriptor, shared } = taken;
        Self {
            item: payload::message_of(lent.bytes()),
            end,
            producer: publisher,
            item_type: descriptor,
            shared,
        }
    }

    /// Who pushed it.
    pub fn producer(&self) -> EndpointId {
        self.producer.id
    }

    /// The name of the producer's node.
    pub fn producer_node(&self) -> &'a str {
        &self.producer.node_name
    }

    /// The item's type, as its producer declared it.
    pub fn item_type(&self) -> &'a TypeDescriptor {
        self.item_type
    }

    /// Whether somebody may have had the item before: it was given back, or its consumer died or was let go of.
    pub fn is_redelivered(&self) -> bool {
        self.end.is_again()
    }

    /// Says that the item is done with. Its producer counts that, and gives this consumer another.
    ///
    /// # Errors
    /// [`AckError::Late`] if the producer had let go of this consumer before; [`AckError::Endpoint`] in a forked child.
    #[inline]
    pub fn ack(self) -> Result<(), AckError> {
        let this = ManuallyDrop::new(self);
        match this.end.acknowledge() {
            Settled::Told => Ok(()),
            other => Err(error_of(other, &this.shared.channel.shared(), this.end.last())),
        }
    }

    /// Has the item delivered again, marked as such, to whoever has credit, this consumer perhaps.
    pub fn give_back(self) {
        drop(self);
    }

    /// Keeps the item beyond the next call that receives, and beyond the consumer. It counts against the consumer's credit
    /// until it is acknowledged or given back, in any order, by any thread.
    pub fn hold(self) -> HeldItem<T> {
        let this = ManuallyDrop::new(self);
        HeldItem {
            delivery: this.end.deliver(),
            queue: this.shared.channel.shared(),
            producer: this.producer.id,
            item: PhantomData,
        }
    }
}

/// What went wrong with an acknowledgement.
#[cold]
fn error_of(settled: Settled, queue: &Arc<str>, item: u64) -> AckError {
    let queue = Arc::clone(queue);
    match settled {
        Settled::Inherited => AckError::Endpoint { queue, source: EndpointError::Forked },
        Settled::Told | Settled::Late => AckError::Late { queue, item },
    }
}

impl<T: ?Sized> Drop for Item<'_, T> {
    fn drop(&mut self) {
        // Nobody is told if the producer has taken it back already.
        let _ = self.end.give_back();
    }
}

impl<T: ?Sized> Deref for Item<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.item
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Item<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Item").field(&self.item).finish()
    }
}

/// An item that is held: it may be kept and sent to other threads, and is settled in any order. One that is dropped is given
/// back.
#[must_use = "an item that is dropped is given back"]
pub struct HeldItem<T: ?Sized> {
    delivery: Delivery,
    queue: Arc<str>,
    producer: EndpointId,
    item: PhantomData<Box<T>>,
}

impl<T: ?Sized> HeldItem<T> {
    /// Who pushed it.
    pub fn producer(&self) -> EndpointId {
        self.producer
    }

    /// As [`Item::is_redelivered`].
    pub fn is_redelivered(&self) -> bool {
        self.delivery.is_again()
    }

    /// As [`Item::ack`].
    ///
    /// # Errors
    /// As [`Item::ack`].
    pub fn ack(self) -> Result<(), AckError> {
        let (queue, item) = (self.queue, self.delivery.sequence());
        match self.delivery.acknowledge() {
            Settled::Told => Ok(()),
            other => Err(error_of(other, &queue, item)),
        }
    }

    /// As [`Item::give_back`].
    pub fn give_back(self) {
        drop(self);
    }
}

impl<T: Payload + ?Sized> Deref for HeldItem<T> {
    type Target = T;

    fn deref(&self) -> &T {
        payload::message_of(self.delivery.bytes())
    }
}

impl<T: Payload + ?Sized + fmt::Debug> fmt::Debug for HeldItem<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HeldItem").field(&&**self).finish()
    }
}
