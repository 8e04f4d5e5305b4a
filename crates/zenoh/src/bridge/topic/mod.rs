//! Topics across the network.
//!
//! What goes out carries its publisher and its number, so that what is lost on the way – for want of room here, or on the network – is
//! missing in the numbers, and is told to subscribers on the other side as any loss is.

mod incoming;
mod inline;
mod outgoing;
mod passing;
mod tail;

use std::time::Duration;

pub(super) use incoming::open as open_in;
pub(super) use outgoing::TopicOut;

/// How long something goes on to be read here when nobody receives it there any more: whoever was cut off, and comes back within this
/// time, gets what is kept.
pub(super) const LINGER: Duration = Duration::from_secs(30);
