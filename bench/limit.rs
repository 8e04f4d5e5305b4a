//! The physical limit of a small message: a bare ring between two processes, and nothing else.
//!
//! A slot is a sequence word and the payload, rounded up to 64 B; the ring is about a mebibyte deep. Every byte is
//! written and read in place. The reader publishes its cursor every quarter of the ring, the writer caches it. No
//! types, no names, no waking, no death, no second reader: what a real system adds is measured against this.

pub mod futex;
pub mod lock;
pub mod memory;
pub mod pool;
pub mod robust;

use std::sync::atomic::{AtomicU64, Ordering};

/// One end of a bare ring of messages of `WORDS` 64-bit words, over memory that both processes map.
pub struct Ring<const WORDS: usize> {
    base: *mut u8,
    next: u64,
    cached_cursor: u64,
}

impl<const WORDS: usize> Ring<WORDS> {
    const STRIDE: usize = (8 + WORDS * 8).next_multiple_of(64);
    const SLOTS: u64 = {
        let slots = ((1 << 20) / Self::STRIDE).next_power_of_two() as u64;
        if slots < 8 {
            8
        } else if slots > 8192 {
            8192
        } else {
            slots
        }
    };
    const SLOTS_START: usize = 4096;
    /// Bytes of memory that the ring takes.
    pub const BYTES: usize = Self::SLOTS_START + Self::SLOTS as usize * Self::STRIDE;

    /// An end of the ring at `base`.
    ///
    /// # Safety
    /// - `base` is mapped for [`Self::BYTES`] bytes, aligned to 64 and zeroed at first, for as long as this lives.
    /// - In all processes together there is one end that sends and one that receives.
    pub unsafe fn new(base: *mut u8) -> Self {
        Self { base, next: 0, cached_cursor: 0 }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `offset` is 0 or that of a slot, both aligned and within the memory that `new` was promised.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    #[inline]
    fn slot(&self) -> usize {
        Self::SLOTS_START + (self.next % Self::SLOTS) as usize * Self::STRIDE
    }

    #[inline]
    fn payload(&self) -> *mut [u64; WORDS] {
        // SAFETY: a slot has eight bytes and the payload, all within the memory that `new` was promised.
        unsafe { self.base.add(self.slot() + 8).cast() }
    }

    /// Sends a message whose words are `value` and its successors; spins while the ring is full.
    #[inline]
    pub fn send(&mut self, value: u64) {
        while self.next - self.cached_cursor == Self::SLOTS {
            self.cached_cursor = self.word(0).load(Ordering::Acquire);
        }
        // SAFETY: the slot is free: the reader's cursor has passed the message that it held a lap ago.
        let payload = unsafe { &mut *self.payload() };
        for (word, index) in payload.iter_mut().zip(0..) {
            *word = value + index;
        }
        self.word(self.slot()).store(self.next + 1, Ordering::Release);
        self.next += 1;
    }

    /// Receives a message and returns the sum of its words; spins until there is one.
    #[inline]
    pub fn receive(&mut self) -> u64 {
        while self.word(self.slot()).load(Ordering::Acquire) != self.next + 1 {}
        // SAFETY: the sequence word says that the message is there, and it stays until the cursor passes it.
        let payload = unsafe { &*self.payload() };
        let sum = payload.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
        self.next += 1;
        if self.next.is_multiple_of(Self::SLOTS / 4) {
            self.word(0).store(self.next, Ordering::Release);
        }
        sum
    }
}
