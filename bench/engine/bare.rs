//! The limits as engines.

use super::{Incoming, Outgoing};
use crate::limit::Ring;
use crate::limit::pool::Pool;

impl<const WORDS: usize> Outgoing for Ring<WORDS> {
    #[inline]
    fn send(&mut self, value: u64) {
        Ring::send(self, value);
    }
}

impl<const WORDS: usize> Incoming for Ring<WORDS> {
    #[inline]
    fn receive(&mut self) -> u64 {
        Ring::receive(self)
    }
}

impl<const WORDS: usize> Outgoing for Pool<WORDS> {
    #[inline]
    fn send(&mut self, value: u64) {
        Pool::send(self, value);
    }
}

impl<const WORDS: usize> Incoming for Pool<WORDS> {
    #[inline]
    fn receive(&mut self) -> u64 {
        Pool::receive(self)
    }
}
