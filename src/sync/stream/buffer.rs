//! Private memory for a message, with the largest alignment that one may have.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The largest alignment of a message: one cache line.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Memory that is aligned for every message. Its bytes stay where they are when it is moved.
#[derive(Clone)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// Zeroed memory for a message of up to `bytes`.
    pub(crate) fn for_bytes(bytes: usize) -> Self {
        let zeroed = Line::new_zeroed();
        Self { lines: vec![zeroed; bytes.div_ceil(size_of::<Line>())] }
    }

    /// The message's bytes, and more.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.lines.as_bytes()
    }

    /// The message's bytes, and more, to be written.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.lines.as_mut_bytes()
    }
}
