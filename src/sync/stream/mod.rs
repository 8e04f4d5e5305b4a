//! A stream: ring, pool, cursors and pins put together, one sending end and any number of receiving ends.
//!
//! This is as far as memory is shared: above it are only safe slices, and policies about waiting.

mod attachment;
mod lease;
mod receiving;
mod sending;

pub(crate) use attachment::{Attachment, Pinned};
pub(crate) use lease::Lease;
pub(crate) use receiving::{Batch, Extent, Lent, Poll, ReceivingEnd, StreamViolation};
pub(crate) use sending::{GrowError, Need, SendingEnd, Warmth};
