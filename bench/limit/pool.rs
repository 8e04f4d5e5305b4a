//! The physical limit of a large message: a few chunks that stay in the cache, and a ring of their numbers.
//!
//! The writer takes the chunk that came back last, writes every byte, and passes its number and sequence; the
//! reader reads every byte in place and publishes a cursor after each message. There are as many chunks as fit
//! into a mebibyte, at least two.

use std::sync::atomic::{AtomicU64, Ordering};

/// Slots for chunk numbers: more than there are chunks.
const SLOTS: u64 = 64;
/// Bytes of a slot: a sequence word and a chunk number.
const STRIDE: usize = 64;
/// Where the slots start; the cursor is at 0.
const SLOTS_START: usize = 128;
/// Where the chunks start.
const CHUNKS_START: usize = 8192;

/// One end of a warm pool of messages of `WORDS` 64-bit words, over memory that both processes map.
pub struct Pool<const WORDS: usize> {
    base: *mut u8,
    next: u64,
    free: Vec<u64>,
    sent: std::collections::VecDeque<u64>,
    released: u64,
}

impl<const WORDS: usize> Pool<WORDS> {
    const CHUNKS: usize = if (1 << 20) / (WORDS * 8) < 2 { 2 } else { (1 << 20) / (WORDS * 8) };
    /// Bytes of memory that the pool takes.
    pub const BYTES: usize = CHUNKS_START + Self::CHUNKS * WORDS * 8;

    /// An end of the pool at `base`.
    ///
    /// # Safety
    /// - `base` is mapped for [`Self::BYTES`] bytes, aligned to 64 and zeroed at first, for as long as this lives.
    /// - In all processes together there is one end that sends and one that receives.
    pub unsafe fn new(base: *mut u8) -> Self {
        let free = (0..(Self::CHUNKS as u64).min(SLOTS)).rev().collect();
        Self { base, next: 0, free, sent: std::collections::VecDeque::with_capacity(64), released: 0 }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `offset` is 0 or in a slot, aligned and within the memory that `new` was promised.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    #[inline]
    fn slot(&self) -> usize {
        SLOTS_START + (self.next % SLOTS) as usize * STRIDE
    }

    #[inline]
    fn payload(&self, chunk: u64) -> *mut [u64; WORDS] {
        // SAFETY: chunk numbers come from `free` alone and are below `CHUNKS`.
        unsafe { self.base.add(CHUNKS_START + chunk as usize * WORDS * 8).cast() }
    }

    /// Sends a message whose words are `value` and its successors; spins while no chunk is free.
    #[inline]
    pub fn send(&mut self, value: u64) {
        let chunk = loop {
            let cursor = self.word(0).load(Ordering::Acquire);
            let returned = (cursor - self.released) as usize;
            self.free.extend(self.sent.drain(..returned));
            self.released = cursor;
            if let Some(chunk) = self.free.pop() {
                break chunk;
            }
        };
        // SAFETY: the chunk is free: it was never sent, or the reader's cursor has passed its message.
        let payload = unsafe { &mut *self.payload(chunk) };
        for (word, index) in payload.iter_mut().zip(0..) {
            *word = value + index;
        }
        self.word(self.slot() + 8).store(chunk, Ordering::Relaxed);
        self.word(self.slot()).store(self.next + 1, Ordering::Release);
        self.sent.push_back(chunk);
        self.next += 1;
    }

    /// Receives a message and returns the sum of its words; spins until there is one.
    #[inline]
    pub fn receive(&mut self) -> u64 {
        while self.word(self.slot()).load(Ordering::Acquire) != self.next + 1 {}
        let chunk = self.word(self.slot() + 8).load(Ordering::Relaxed);
        // SAFETY: the sequence word says that the message is there, and it stays until the cursor passes it.
        let payload = unsafe { &*self.payload(chunk) };
        let sum = payload.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
        self.next += 1;
        self.word(0).store(self.next, Ordering::Release);
        sum
    }
}
