//! What comes in: the frames of one name, handed to whoever takes them here.
//!
//! A frame that can be taken at once is, on the engine's own thread; it spares two threads a hand-over. The rest waits for the port's
//! thread, and what comes meanwhile waits behind it.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidepost::Pattern;

use super::context::Context;
use super::heard::{Desk, Heard};
use super::port::{Counters, PortError};
use super::worker::{Running, SLICE, Stop, Worker};
use crate::envelope::{DomainId, Envelope, Sender};
use crate::link::{Answer, Arrived, Frame, Quality, Source, Waited, Whom};
use crate::room::Room;

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

    /// Whether any of what has these envelopes, the first of them sent so long ago, is due here and has not come, if that is known yet.
    fn lacks(&mut self, _envelopes: &[Envelope], _age: Duration) -> Option<bool> {
        Some(false)
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
    let desk = Waiting { source: waiting, gate: Arc::clone(&gate), own: context.domain };
    let taking = Taking {
        context: Arc::clone(context),
        what: format!("{pattern} `{name}`"),
        key,
        counters: Arc::clone(counters),
        gate,
    };
    let worker = Worker::start(move || closed.close(), move |stop| taking.take_all(&*source, stop))?;
    let served = heard.serve(context, (pattern, name), desk)?;
    Ok(Running::new(worker, counters, served))
}

/// What waits, for those who ask what has come.
struct Waiting<I> {
    source: Arc<dyn Source>,
    gate: Arc<Mutex<Gate<I>>>,
    own: DomainId,
}

impl<I> Waiting<I> {
    /// Who takes frames, if nothing waits to be taken.
    fn idle(&self) -> Option<MutexGuard<'_, Gate<I>>> {
        let gate = self.gate.try_lock().ok().filter(|gate| gate.is_open)?;
        (self.source.wait(Duration::ZERO) == Waited::Nothing).then_some(gate)
    }
}

impl<I: Intake> Desk for Waiting<I> {
    fn all_is_taken(&self) -> bool {
        self.idle().is_some()
    }

    fn lacks(&self, envelopes: &[Envelope], age: Duration) -> Option<bool> {
        if envelopes.iter().any(|envelope| envelope.domain == self.own) {
            return Some(false);
        }
        self.idle()?.intake.lacks(envelopes, age)
    }
}

fn take_at_once<I: Intake>(context: &Context, gate: &Mutex<Gate<I>>, arrived: &Arrived<'_>) -> bool {
    // While it is taken otherwise, a frame is being taken that came before.
    let Ok(mut gate) = gate.try_lock() else { return false };
    match Envelope::of(arrived.attachment) {
        Ok(envelope) if gate.is_open => {
            let arrived = Arrived { is_farewell: is_farewell(arrived.is_farewell, envelope), ..*arrived };
            gate.hear(envelope, arrived.is_farewell);
            is_own(context, envelope) || gate.intake.take_at_once(&arrived, envelope)
        }
        _ => false,
    }
}

/// Whether it says that its sender has gone: by itself, or, of an end that is ours, by its envelope.
fn is_farewell(says_so: bool, envelope: Option<Envelope>) -> bool {
    says_so || envelope.is_some_and(|envelope| envelope.is_farewell())
}

/// Whether it began its way here, and has been received here without us.
fn is_own(context: &Context, envelope: Option<Envelope>) -> bool {
    envelope.is_some_and(|envelope| envelope.domain == context.domain)
}

/// Whose frame it is, and which of his, if that is said.
fn number_of(frame: &Frame) -> Option<((DomainId, Sender), u64)> {
    let envelope = Envelope::of(&frame.attachment).ok().flatten()?;
    let number = ((envelope.domain, envelope.sender), envelope.sequence);
    (!is_farewell(frame.is_farewell, Some(envelope))).then_some(number)
}

/// Of what is kept, what is not among what waits either, nor comes after some of that, which would then be taken for what has come before.
fn earlier(kept: Vec<Frame>, waiting: &[Frame]) -> impl Iterator<Item = Frame> {
    let mut first = HashMap::new();
    for (sender, sequence) in waiting.iter().filter_map(number_of) {
        let first = first.entry(sender).or_insert(sequence);
        *first = sequence.min(*first);
    }
    kept.into_iter().filter(move |frame| match number_of(frame) {
        Some((sender, sequence)) => first.get(&sender).is_none_or(|first| sequence < *first),
        None => true,
    })
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
        self.begin(source, stop);
        while source.wait(SLICE) != Waited::Closed {
            if arrivals != remotes.arrivals() {
                arrivals = remotes.arrivals();
                self.begin(source, stop);
            }
            let mut gate = lock(&self.gate);
            let departed = remotes.departures();
            if departed != departures {
                departures = departed;
                gate.intake.part();
            }
            Self::count_dropped(&mut gate, source);
            if let Some(frame) = source.take() {
                self.take(&mut gate, frame, stop);
            }
        }
    }

    /// Takes what is kept by those who have sent before, of whoever is there now, and then what has come meanwhile.
    fn begin(&self, source: &dyn Source, stop: &Stop) {
        let mut gate = lock(&self.gate);
        gate.intake.begin();
        let kept = if I::HAS_HISTORY { self.ask_for_kept(stop) } else { Ok(Vec::new()) };
        let kept = kept.unwrap_or_else(|error| {
            self.context.note(format!("{}: {error}", self.what));
            Vec::new()
        });
        let waiting: Vec<Frame> = std::iter::from_fn(|| source.take()).collect();
        for frame in earlier(kept, &waiting) {
            self.note(match Envelope::of(&frame.attachment) {
                Ok(envelope) if is_own(&self.context, envelope) => Ok(()),
                Ok(envelope) => gate.intake.take_kept(frame, envelope, stop),
                Err(error) => Err(error.into()),
            });
        }
        Self::count_dropped(&mut gate, source);
        waiting.into_iter().for_each(|frame| self.take(&mut gate, frame, stop));
        gate.is_open = true;
    }

    /// What is kept: of more than may wait, the last that came.
    fn ask_for_kept(&self, stop: &Stop) -> Result<Vec<Frame>, PortError> {
        let kept = Room::new(self.context.options.room_bytes);
        let (filled, (over, end)) = (Arc::clone(&kept), mpsc::channel());
        let on_answer = Box::new(move |answer| match answer {
            Answer::Frame(frame) => filled.push(frame),
            Answer::Failure(_) => {}
            // Whoever asked may have given up.
            Answer::End => drop(over.send(())),
        });
        self.context.ask_aside(Whom::All, self.key.clone(), Frame::default(), HISTORY_TIMEOUT, on_answer)?;
        // The engine ends what it cannot end in time a little later.
        let deadline = Instant::now() + 2 * HISTORY_TIMEOUT;
        while !stop.is_set()
            && Instant::now() < deadline
            && end.recv_timeout(SLICE) == Err(RecvTimeoutError::Timeout)
        {}
        kept.close();
        match kept.take_dropped() {
            0 => {}
            dropped => self.context.note(format!(
                "{}: {dropped} messages that are kept for who joins found no room in {} B (`room_bytes`)",
                self.what, self.context.options.room_bytes
            )),
        }
        Ok(std::iter::from_fn(|| kept.try_take()).collect())
    }

    fn count_dropped(gate: &mut Gate<I>, source: &dyn Source) {
        match source.take_dropped() {
            0 => {}
            dropped => gate.intake.miss(dropped),
        }
    }

    fn take(&self, gate: &mut Gate<I>, mut frame: Frame, stop: &Stop) {
        let taken = match Envelope::of(&frame.attachment) {
            Ok(envelope) if is_own(&self.context, envelope) => Ok(()),
            Ok(envelope) => {
                frame.is_farewell = is_farewell(frame.is_farewell, envelope);
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

#[cfg(test)]
mod tests {
    use tidepost::Overflow;

    use super::*;

    fn frame(number: u64, sequence: u64) -> Frame {
        let sender = Sender { node: [1; 16], number };
        let domain = DomainId([2; 16]);
        let (overflow, history, is_again, passed_on_ns) = (Overflow::Block, 9, false, 0);
        let envelope = Envelope { overflow, history, is_again, domain, sender, sequence, passed_on_ns };
        envelope.wrap(&[], "x".into())
    }

    #[test]
    fn of_what_is_kept_that_comes_first_which_does_not_wait_itself() {
        let numberless = Frame { payload: vec![1], ..Frame::default() };
        let kept = [(1, 3), (1, 4), (1, 5), (2, 7), (3, 6)].map(|(number, sequence)| frame(number, sequence));
        let kept = [&kept[..], std::slice::from_ref(&numberless)].concat();
        let farewell = Frame { is_farewell: true, ..frame(2, 0) };
        let waiting = [frame(3, 2), frame(1, 5), frame(1, 6), farewell, frame(3, 3), numberless.clone()];
        let due = [frame(1, 3), frame(1, 4), frame(2, 7), numberless];
        assert_eq!(earlier(kept, &waiting).collect::<Vec<_>>(), due);
        // Whose first message waits has all of his there.
        assert_eq!(earlier(vec![frame(1, 5)], &[frame(1, 0)]).count(), 0);
    }
}
