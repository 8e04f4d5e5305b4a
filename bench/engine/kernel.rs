//! What people use today: a pipe, and a Unix socket. Every byte is written by one side and read by the other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use super::{Incoming, Outgoing};

/// An end of a pipe or a stream socket for messages of `WORDS` 64-bit words.
pub struct KernelLink<const WORDS: usize> {
    file: File,
    message: Vec<u64>,
}

impl<const WORDS: usize> KernelLink<WORDS> {
    /// An end over this descriptor.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { file: File::from(descriptor), message: vec![0; WORDS] }
    }
}

impl<const WORDS: usize> Outgoing for KernelLink<WORDS> {
    fn send(&mut self, value: u64) {
        for (word, index) in self.message.iter_mut().zip(0..) {
            *word = value + index;
        }
        self.file
            .write_all(tidepost::zerocopy::IntoBytes::as_bytes(&self.message[..]))
            .expect("the other end reads");
    }
}

impl<const WORDS: usize> Incoming for KernelLink<WORDS> {
    fn receive(&mut self) -> u64 {
        let bytes = tidepost::zerocopy::IntoBytes::as_mut_bytes(&mut self.message[..]);
        self.file.read_exact(bytes).expect("the other end writes");
        self.message.iter().fold(0u64, |sum, word| sum.wrapping_add(*word))
    }
}
