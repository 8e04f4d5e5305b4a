//! An item that is being written where its consumer will read it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::error::PushError;
use super::outbox::Outbox;
use crate::message::payload::Payload;
use crate::sync::stream::Lease;

/// Memory lent by [`Producer::loan`](super::Producer::loan). [`ItemLoan::push`] pushes the item; dropping it does not.
#[must_use = "a loan that is not pushed is given up"]
pub struct ItemLoan<'a, T: ?Sized> {
    lease: Option<Lease<'a, Outbox>>,
    item: PhantomData<fn(&T)>,
}

impl<'a, T: Payload + ?Sized> ItemLoan<'a, T> {
    pub(super) fn new(outbox: &'a mut Outbox, bytes: usize) -> Result<Self, PushError> {
        outbox.make_room(bytes)?;
        Ok(Self { lease: Some(Lease::new(outbox, Outbox::loan_mut)), item: PhantomData })
    }

    /// Pushes the item. Nothing is copied if it lies with its consumer. Nothing is waited for, unless the queue has depth 0.
    ///
    /// # Errors
    /// In a queue of depth 0, as [`Producer::push`](super::Producer::push); [`PushError::Endpoint`] in a forked child.
    pub fn push(mut self) -> Result<(), PushError> {
        self.lease.take().map_or(Ok(()), |lease| lease.finish().commit())
    }
}

impl<T: ?Sized> Drop for ItemLoan<'_, T> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish().give_up();
        }
    }
}

impl<T: Payload + ?Sized> Deref for ItemLoan<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let lease = self.lease.as_ref().expect("only `push` and the drop end a loan");
        T::ref_from_bytes(lease.bytes()).expect("a loan has the size and alignment of its type")
    }
}

impl<T: Payload + ?Sized> DerefMut for ItemLoan<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let lease = self.lease.as_mut().expect("only `push` and the drop end a loan");
        T::mut_from_bytes(lease.bytes_mut()).expect("a loan has the size and alignment of its type")
    }
}

impl<T: Payload + ?Sized + fmt::Debug> fmt::Debug for ItemLoan<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ItemLoan").field(&&**self).finish()
    }
}
