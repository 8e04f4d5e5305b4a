//! The sink of a topic: what it keeps follows what is sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::context::Context;
use crate::link::{Frame, Last, LinkError, Quality, Sent, Sink};

/// How long a sink is kept that has been replaced, for those who ask for what they miss of it.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// A sink that is made anew when what it carries changes: messages that must not be lost where all could be, or longer ones, of which
/// fewer are kept, as what is kept is counted in messages and has to be bounded in bytes.
#[derive(Debug)]
pub(super) struct Outlet {
    context: Arc<Context>,
    key: String,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    sink: Arc<dyn Sink>,
    /// Those before it, and when they were the last: what they have sent may be lost, and be asked for again.
    before: Vec<(Arc<dyn Sink>, Instant)>,
    quality: Quality,
    /// The length of a message of which what is kept takes no more than it may.
    longest: usize,
}

impl Outlet {
    /// A sink for messages that may be lost, or must not.
    pub(super) fn open(context: &Arc<Context>, key: String, may_lose: bool) -> Result<Self, LinkError> {
        let longest = (context.options.room_bytes / context.options.cache.max(1)).max(1);
        let quality = if may_lose { Quality::Lossy } else { reliable(context, longest) };
        let sink = context.link.sink(&key, quality, context.options.room_bytes)?;
        let current = Mutex::new(Current { sink, before: Vec::new(), quality, longest });
        Ok(Self { context: Arc::clone(context), key, current })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, current: &mut Current, quality: Quality) -> Result<(), LinkError> {
        if current.quality != quality {
            let sink = self.context.link.sink(&self.key, quality, self.context.options.room_bytes)?;
            // What the one before has not sent yet would be overtaken.
            for frame in current.sink.retire() {
                sink.try_send(frame);
            }
            current.before.push((std::mem::replace(&mut current.sink, sink), Instant::now()));
            current.quality = quality;
        }
        Ok(())
    }

    /// From now on, messages must not be lost.
    pub(super) fn be_reliable(&self) -> Result<(), LinkError> {
        let mut current = self.current();
        let quality = reliable(&self.context, current.longest);
        if current.quality == Quality::Lossy { self.change(&mut current, quality) } else { Ok(()) }
    }

    /// Queues a message, as [`Sink::try_send`].
    pub(super) fn try_send(&self, frame: Frame) -> Result<Sent, LinkError> {
        let sink = Arc::clone(&self.current_for(&frame)?.sink);
        Ok(sink.try_send(frame))
    }

    /// Sends a message, as [`Sink::send`].
    pub(super) fn send(&self, frame: Frame, settled: &mut dyn FnMut()) -> Result<Sent, LinkError> {
        let current = self.current_for(&frame)?;
        let sink = Arc::clone(&current.sink);
        // Until it is settled, the sink is not replaced. What may be lost is sent before it is settled, and waits for nothing else.
        let mut held = Some(current).filter(|current| current.quality != Quality::Lossy);
        Ok(sink.send(frame, &mut || {
            drop(held.take());
            settled();
        }))
    }

    /// The sink for a message, however long it is.
    fn current_for(&self, frame: &Frame) -> Result<MutexGuard<'_, Current>, LinkError> {
        let mut current = self.current();
        if frame.payload.len() > current.longest {
            current.longest = frame.payload.len().next_power_of_two();
            if current.quality != Quality::Lossy {
                let quality = reliable(&self.context, current.longest);
                self.change(&mut current, quality)?;
            }
        }
        Ok(current)
    }

    /// Whether messages must not be lost.
    pub(super) fn is_reliable(&self) -> bool {
        self.current().quality != Quality::Lossy
    }

    /// What was sent last, as [`Sink::last`].
    pub(super) fn last(&self) -> Option<Last> {
        let sink = Arc::clone(&self.current().sink);
        sink.last()
    }

    /// Whether anybody receives them.
    pub(super) fn has_receivers(&self) -> bool {
        let mut current = self.current();
        current.before.retain(|(_, last)| last.elapsed() < KEPT_FOR);
        current.sink.has_receivers()
    }
}

fn reliable(context: &Context, longest: usize) -> Quality {
    Quality::Reliable { cache: context.options.kept(longest) }
}
