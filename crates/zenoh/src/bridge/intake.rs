//! What comes in: the frames of one name, handed to whoever takes them here.
//!
//! A frame that can be taken at once is, on the engine's own thread; it spares two threads a hand-over. The rest waits for the port's
//! thread, and what comes meanwhile waits behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidepost::Pattern;

use super::context::Context;
use super::port::{Counters, PortError};
use super::worker::{Running, SLICE, Stop, Worker};
use crate::envelope::Envelope;
use crate::link::{Frame, Quality, Source, Waited};

/// Who takes frames of one name. Frames of our own domain do not come to it.
pub(super) trait Intake: Send + 'static {
    /// Takes a frame, however long that takes, unless it is to stop.
    fn take(&mut self, frame: Frame, envelope: Option<Envelope>, stop: &Stop) -> Result<(), PortError>;

    /// Takes a frame if that needs no wait, nothing new and no word about it; gives it back otherwise.
    fn take_at_once(&mut self, frame: Frame, _envelope: Option<Envelope>) -> Option<Frame> {
        Some(frame)
    }

    /// So many frames found no room: those that have no number are missed by nobody else.
    fn miss(&mut self, frames: u64);

    /// Some machine has gone.
    fn part(&mut self);
}

fn lock<I>(intake: &Mutex<I>) -> MutexGuard<'_, I> {
    intake.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the port by which frames of a name come in.
pub(super) fn open<I: Intake>(
    context: &Arc<Context>,
    (pattern, name): (Pattern, &str),
    quality: Quality,
    counters: &Arc<Counters>,
    intake: I,
) -> Result<Running, PortError> {
    let intake = Arc::new(Mutex::new(intake));
    let at_once = {
        let (context, intake) = (Arc::clone(context), Arc::clone(&intake));
        move |frame| take_at_once(&context, &intake, frame)
    };
    let key = context.key(pattern, name)?;
    let source = context.link.source(&key, quality, context.options.room_bytes, Box::new(at_once))?;
    let closed = Arc::clone(&source);
    let taking = Taking {
        context: Arc::clone(context),
        what: format!("{pattern} `{name}`"),
        counters: Arc::clone(counters),
        intake,
    };
    let worker = Worker::start(move || closed.close(), move |stop| taking.take_all(&*source, stop))?;
    Ok(Running::new(worker, counters, Vec::new()))
}

fn take_at_once<I: Intake>(context: &Context, intake: &Mutex<I>, frame: Frame) -> Option<Frame> {
    // While it is taken otherwise, a frame is being taken that came before.
    let Ok(mut intake) = intake.try_lock() else { return Some(frame) };
    match Envelope::of(&frame) {
        Ok(envelope) if is_own(context, envelope) => None,
        Ok(envelope) => intake.take_at_once(frame, envelope),
        Err(_) => Some(frame),
    }
}

/// Whether it began its way here, and has been received here without us.
fn is_own(context: &Context, envelope: Option<Envelope>) -> bool {
    envelope.is_some_and(|envelope| envelope.domain == context.domain)
}

/// The port's thread.
struct Taking<I> {
    context: Arc<Context>,
    what: String,
    counters: Arc<Counters>,
    intake: Arc<Mutex<I>>,
}

impl<I: Intake> Taking<I> {
    fn take_all(&self, source: &dyn Source, stop: &Stop) {
        let mut departures = self.context.remotes.departures();
        while source.wait(SLICE) != Waited::Closed {
            let mut intake = lock(&self.intake);
            let departed = self.context.remotes.departures();
            if departed != departures {
                departures = departed;
                intake.part();
            }
            match source.take_dropped() {
                0 => {}
                dropped => intake.miss(dropped),
            }
            let Some(frame) = source.take() else { continue };
            if let Err(error) = self.take(&mut *intake, frame, stop) {
                Counters::add(&self.counters.refused, 1);
                self.context.note(format!("{}: {error}", self.what));
            }
        }
    }

    fn take(&self, intake: &mut I, frame: Frame, stop: &Stop) -> Result<(), PortError> {
        let envelope = Envelope::of(&frame)?;
        if is_own(&self.context, envelope) { Ok(()) } else { intake.take(frame, envelope, stop) }
    }
}
