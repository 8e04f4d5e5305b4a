//! What comes in: the frames of one name, handed to whoever takes them here.
//!
//! A frame that can be taken at once is, on the engine's own thread; it spares two threads a hand-over. The rest waits for the port's
//! thread, and what comes meanwhile waits behind it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidepost::Pattern;

use super::context::Context;
use super::heard::Heard;
use super::port::{Counters, PortError};
use super::worker::{Running, SLICE, Stop, Worker};
use crate::envelope::{DomainId, Envelope};
use crate::link::{Answer, Arrived, Frame, LinkError, Quality, Source, Waited, Whom};
use crate::room::{Room, Taken};

/// How long those who have sent before may take to say what they keep.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(1);

/// Who takes frames of one name. Frames of our own domain do not come to it.
pub(super) trait Intake: Send + 'static {
    /// Whether those who send keep something for whoever joins, which is asked for first.
    const HAS_HISTORY: bool = false;

    /// Takes a frame, however long that takes, unless it is to stop.
    fn take(&mut self, frame: Frame, envelope: Option<Envelope>, stop: &Stop) -> Result<(), PortError>;

    /// What is kept by those who have sent before is about to come: of whoever is known already it has come.
    fn begin(&mut self) {}

    /// Takes a frame of what is kept.
    fn take_kept(&mut self, frame: Frame, envelope: Option<Envelope>, stop: &Stop) -> Result<(), PortError> {
        self.take(frame, envelope, stop)
    }

    /// Takes a frame if that needs no wait, nothing new and no word about it: whether it has.
    fn take_at_once(&mut self, _arrived: &Arrived<'_>, _envelope: Option<Envelope>) -> bool {
        false
    }

    /// So many frames found no room: those that have no number are missed by nobody else.
    fn miss(&mut self, frames: u64);

    /// Some machine has gone.
    fn part(&mut self);
}

/// Who takes frames, and whether they are taken yet.
struct Gate<I> {
    intake: I,
    is_open: bool,
    heard: Arc<Heard>,
    /// Whose frame came last, mostly the next one's, too.
    last: Option<DomainId>,
}

impl<I> Gate<I> {
    /// A frame of this domain has come. A farewell says nothing of messages, which may be denied where that is not.
    fn hear(&mut self, envelope: Option<Envelope>, is_farewell: bool) {
        if let Some(Envelope { domain, .. }) = envelope
            && self.last != Some(domain)
            && !is_farewell
        {
            self.last = Some(domain);
            self.heard.add(domain);
        }
    }
}

fn lock<I>(gate: &Mutex<Gate<I>>) -> MutexGuard<'_, Gate<I>> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the port by which frames of a name come in.
pub(super) fn open<I: Intake>(
    context: &Arc<Context>,
    (pattern, name): (Pattern, &str),
    quality: Quality,
    counters: &Arc<Counters>,
    intake: I,
) -> Result<Running, PortError> {
    let heard = Arc::<Heard>::default();
    let gate = Gate { intake, is_open: false, heard: Arc::clone(&heard), last: None };
    let gate = Arc::new(Mutex::new(gate));
    let at_once = {
        let (context, gate) = (Arc::clone(context), Arc::clone(&gate));
        move |arrived: &Arrived<'_>| take_at_once(&context, &gate, arrived)
    };
    let key = context.key(pattern, name)?;
    let source = context.link.source(&key, quality, context.options.room_bytes, Box::new(at_once))?;
    let (closed, waiting) = (Arc::clone(&source), Arc::clone(&source));
    let looked_at = Arc::clone(&gate);
    let taking = Taking {
        context: Arc::clone(context),
        what: format!("{pattern} `{name}`"),
        key,
        counters: Arc::clone(counters),
        gate,
    };
    let worker = Worker::start(move || closed.close(), move |stop| taking.take_all(&*source, stop))?;
    let all_is_taken = move || {
        let is_free = looked_at.try_lock().is_ok_and(|gate| gate.is_open);
        is_free && waiting.wait(Duration::ZERO) == Waited::Nothing
    };
    let served = heard.serve(context, (pattern, name), all_is_taken)?;
    Ok(Running::new(worker, counters, served))
}

fn take_at_once<I: Intake>(context: &Context, gate: &Mutex<Gate<I>>, arrived: &Arrived<'_>) -> bool {
    // While it is taken otherwise, a frame is being taken that came before.
    let Ok(mut gate) = gate.try_lock() else { return false };
    match Envelope::of(arrived.attachment) {
        Ok(envelope) if gate.is_open => {
            gate.hear(envelope, arrived.is_farewell);
            is_own(context, envelope) || gate.intake.take_at_once(arrived, envelope)
        }
        _ => false,
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
    key: String,
    counters: Arc<Counters>,
    gate: Arc<Mutex<Gate<I>>>,
}

impl<I: Intake> Taking<I> {
    fn take_all(&self, source: &dyn Source, stop: &Stop) {
        let remotes = &self.context.remotes;
        let (mut departures, mut arrivals) = (remotes.departures(), remotes.arrivals());
        self.begin(stop);
        while source.wait(SLICE) != Waited::Closed {
            if arrivals != remotes.arrivals() {
                arrivals = remotes.arrivals();
                self.begin(stop);
            }
            let mut gate = lock(&self.gate);
            let departed = remotes.departures();
            if departed != departures {
                departures = departed;
                gate.intake.part();
            }
            match source.take_dropped() {
                0 => {}
                dropped => gate.intake.miss(dropped),
            }
            if let Some(frame) = source.take() {
                self.take(&mut gate, frame, stop);
            }
        }
    }

    /// Takes what is kept by those who have sent before, of whoever is there now; what comes meanwhile waits.
    fn begin(&self, stop: &Stop) {
        let mut gate = lock(&self.gate);
        gate.intake.begin();
        if I::HAS_HISTORY
            && let Err(error) = self.take_history(&mut gate.intake, stop)
        {
            self.context.note(format!("{}: {error}", self.what));
        }
        gate.is_open = true;
    }

    fn take_history(&self, intake: &mut I, stop: &Stop) -> Result<(), LinkError> {
        let answers = Room::new(self.context.options.room_bytes);
        let answered = Arc::clone(&answers);
        let on_answer = Box::new(move |answer| match answer {
            // What finds no room is not had.
            Answer::Frame(frame) => drop(answered.put(frame)),
            Answer::Failure(_) => {}
            Answer::End => answered.close(),
        });
        let link = &self.context.link;
        link.ask(Whom::All, &self.key, Frame::default(), HISTORY_TIMEOUT, on_answer)?;
        // The engine ends what it cannot end in time a little later.
        let deadline = Instant::now() + 2 * HISTORY_TIMEOUT;
        while !stop.is_set() && Instant::now() < deadline {
            match answers.take(SLICE) {
                Taken::One(frame) => {
                    self.note(match Envelope::of(&frame.attachment) {
                        Ok(envelope) if is_own(&self.context, envelope) => Ok(()),
                        Ok(envelope) => intake.take_kept(frame, envelope, stop),
                        Err(error) => Err(error.into()),
                    });
                }
                Taken::Nothing => {}
                Taken::Closed => break,
            }
        }
        Ok(())
    }

    fn take(&self, gate: &mut Gate<I>, frame: Frame, stop: &Stop) {
        let taken = match Envelope::of(&frame.attachment) {
            Ok(envelope) if is_own(&self.context, envelope) => Ok(()),
            Ok(envelope) => {
                gate.hear(envelope, frame.is_farewell);
                gate.intake.take(frame, envelope, stop)
            }
            Err(error) => Err(error.into()),
        };
        self.note(taken);
    }

    fn note(&self, taken: Result<(), PortError>) {
        if let Err(error) = taken {
            Counters::add(&self.counters.refused, 1);
            self.context.note(format!("{}: {error}", self.what));
        }
    }
}
