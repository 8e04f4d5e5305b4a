//! A message that is being written where its subscribers will read it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::error::SendError;
use super::payload::Payload;
use super::prefix::{Prefix, Said};
use super::sender::Sender;
use crate::sync::stream::Lease;

/// Memory lent by [`Publisher::loan`](super::Publisher::loan). [`Loan::send`] publishes it; dropping it does not.
#[must_use = "a loan that is not sent is given up"]
pub struct Loan<'a, T: ?Sized> {
    lease: Lease<'a, Sender>,
    prefix: Prefix,
    message: PhantomData<fn(&T)>,
}

impl<'a, T: Payload + ?Sized> Loan<'a, T> {
    #[inline]
    pub(super) fn new(
        sender: &'a mut Sender,
        said: Option<Said<'_>>,
        bytes: usize,
    ) -> Result<Self, SendError> {
        let prefix = sender.prefix();
        sender.make_room(bytes)?;
        let mut lease = Lease::new(sender, Sender::loan_mut);
        if prefix.bytes() > 0 {
            prefix.write(said, lease.bytes_mut());
        }
        Ok(Self { lease, prefix, message: PhantomData })
    }

    /// Publishes the message. Nothing is copied, and nothing is waited for.
    #[inline]
    pub fn send(mut self) {
        if self.prefix.bytes() > 0 {
            self.prefix.stamp(self.lease.bytes_mut());
        }
        self.lease.finish().commit();
    }
}

impl<T: Payload + ?Sized> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        T::ref_from_bytes(&self.lease.bytes()[self.prefix.bytes()..])
            .expect("a loan has the size and alignment of its type")
    }
}

impl<T: Payload + ?Sized> DerefMut for Loan<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        T::mut_from_bytes(&mut self.lease.bytes_mut()[self.prefix.bytes()..])
            .expect("a loan has the size and alignment of its type")
    }
}

impl<T: Payload + ?Sized + fmt::Debug> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Loan").field(&&**self).finish()
    }
}
