//! A message that is kept beyond its stream: the last that was taken from any of several, until a later one comes.

use super::attachment::Pinned;
use super::buffer::Buffer;
use super::receiving::{Place, ReceivingEnd};

/// The message, in memory of our own, or pinned where its sender wrote it.
pub(crate) struct Keepsake {
    buffer: Buffer,
    /// Where in the buffer it is.
    start: usize,
    length: usize,
    pinned: Option<Pinned>,
}

impl Keepsake {
    /// None yet: no bytes.
    pub(crate) fn new() -> Self {
        Self { buffer: Buffer::for_bytes(0), start: 0, length: 0, pinned: None }
    }

    /// The message.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.pinned {
            None => &self.buffer.bytes()[self.start..self.start + self.length],
            Some(pinned) => pinned.bytes(),
        }
    }

    /// Has the message in memory of our own from now on.
    #[inline]
    pub(crate) fn detach(&mut self) {
        if let Some(pinned) = self.pinned.take() {
            self.copy(pinned.bytes());
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.buffer.bytes().len() < bytes.len() {
            self.buffer = Buffer::for_bytes(bytes.len());
        }
        self.buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        (self.start, self.length) = (0, bytes.len());
    }
}

impl ReceivingEnd {
    /// Takes the message that the last poll found, and keeps it in place of what has been kept so far: where it was sent
    /// if it lies in the pool and `may_pin`, otherwise in memory of our own. Whether there was one.
    pub(crate) fn take_into(&mut self, keepsake: &mut Keepsake, may_pin: bool) -> bool {
        let Some(lent) = self.take() else { return false };
        let (length, start) = (lent.bytes().len(), lent.prefix().len());
        match lent.place() {
            Place::Pinned if may_pin => {
                let pinned = lent.pin_again();
                if pinned.is_none() {
                    keepsake.copy(lent.bytes());
                }
                keepsake.pinned = pinned;
                return true;
            }
            Place::Pinned | Place::Unreleased => keepsake.copy(lent.bytes()),
            Place::Copied => {
                if let Some(copies) = &mut self.copies {
                    copies.swap_last(&mut keepsake.buffer);
                }
                (keepsake.start, keepsake.length) = (start, length);
            }
        }
        keepsake.pinned = None;
        true
    }
}
