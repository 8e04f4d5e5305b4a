//! Bytes that an owner has lent, together with the owner, which cannot be touched until they are returned.

use std::marker::PhantomData;
use std::ptr::NonNull;

/// Bytes lent by an owner for `'a`. Its only uses are the bytes, or – after them – the owner.
#[derive(Debug)]
pub(crate) struct Lease<'a, O> {
    owner: NonNull<O>,
    bytes: NonNull<[u8]>,
    lent: PhantomData<&'a mut O>,
}

// SAFETY: a lease is an exclusive borrow of the owner and of bytes that the owner lent; it goes where both may.
unsafe impl<O: Send> Send for Lease<'_, O> {}

impl<'a, O> Lease<'a, O> {
    /// Borrows what `lend` picks from the owner.
    pub(crate) fn new(owner: &'a mut O, lend: impl FnOnce(&mut O) -> &mut [u8]) -> Self {
        let mut owner = NonNull::from(owner);
        // SAFETY: the pointer comes from an exclusive borrow that lasts for `'a`.
        let bytes = NonNull::from(lend(unsafe { owner.as_mut() }));
        Self { owner, bytes, lent: PhantomData }
    }

    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: lent by the owner, which nobody touches while the lease lives.
        unsafe { self.bytes.as_ref() }
    }

    /// The bytes, to be written.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`, and the lease is borrowed exclusively.
        unsafe { self.bytes.as_mut() }
    }

    /// Returns the bytes and gives the owner back.
    #[inline]
    pub(crate) fn finish(mut self) -> &'a mut O {
        // SAFETY: the exclusive borrow that `new` took, with the bytes gone.
        unsafe { self.owner.as_mut() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_through_a_lease_is_in_the_owner() {
        let mut owner = vec![0u8; 4];
        let mut lease = Lease::new(&mut owner, |owner| &mut owner[1..3]);
        lease.bytes_mut().copy_from_slice(&[7, 8]);
        assert_eq!(lease.bytes(), [7, 8]);
        lease.finish().push(9);
        assert_eq!(owner, [0, 7, 8, 0, 9]);
    }
}
