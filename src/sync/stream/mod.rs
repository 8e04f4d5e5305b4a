//! A stream: ring, pool, cursors and pins put together, one sending end and any number of receiving ends.
//!
//! This is as far as memory is shared: above it are only safe slices, and policies about waiting.

mod attachment;
mod buffer;
mod copying;
mod delivery;
mod holding;
mod keepsake;
mod lane;
#[cfg(test)]
mod lane_tests;
mod lease;
mod receiving;
mod relaying;
mod relic;
mod sending;
#[cfg(test)]
mod tests;

pub(crate) use crate::sync::ring::Marking;
pub(crate) use attachment::{Attachment, Pinned, Totals};
pub(crate) use buffer::Buffer;
pub(crate) use delivery::{Delivery, Settled};
pub(crate) use keepsake::Keepsake;
pub(crate) use lease::Lease;
pub(crate) use receiving::{
    Batch, Extent, Keeping, Lending, Lent, Loss, Poll, Reading, ReceivingEnd, StreamViolation,
};
pub(crate) use relaying::{Origins, Relaying};
pub(crate) use relic::Relic;
pub(crate) use sending::{GrowError, Need, NewSegment, PoolLimit, Retention, SendingEnd, Warmth};
