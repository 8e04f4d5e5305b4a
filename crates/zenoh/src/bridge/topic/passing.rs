//! The threads that pass a topic on.
//!
//! Whoever reads a message also sends it, so that it is handed to no other thread. The link may hold that up, and nobody here is to be held up
//! with it: there are two threads, one of which leads, and if that is found to be sending for too long, the other leads in its place.
//! What it reads then waits in the outlet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tidepost::{Carrier, EndpointId, Overflow, ReceiveError, Sample, Subscriber, Untyped};

use super::inline::{Inline, Progress};
use crate::bridge::context::{Context, sender_of};
use crate::bridge::kept::Store;
use crate::bridge::outlet::Outlet;
use crate::bridge::port::{Counters, PortError};
use crate::bridge::worker::{Stop, Worker};
use crate::envelope::{Beside, Envelope, ns_of};
use crate::link::{Frame, Sent};

/// How often the thread that does not lead looks after the one that does. Messages wait no longer than twice this for it to be
/// relieved.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a look at the domain is waited for, to know how somebody new sends.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// How a publisher sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) overflow: Overflow,
    /// Messages that it keeps for those who join later.
    pub(super) history: u16,
}

/// How each publisher sends, as far as the census knows.
#[derive(Debug, Default)]
pub(super) struct Manners {
    known: Mutex<Looks>,
    news: Condvar,
}

/// What is known of how a publisher sends.
enum Known {
    Manner(Manner),
    /// It is not there any more.
    Gone,
    /// No look at the domain has ended in time.
    NotYet,
}

#[derive(Debug, Default)]
struct Looks {
    manners: HashMap<EndpointId, Manner>,
    /// Looks at the domain so far.
    looks: u64,
}

impl Manners {
    /// What a look at the domain has found.
    pub(super) fn learn(&self, all: impl Iterator<Item = (EndpointId, Manner)>) {
        let mut known = self.known();
        known.manners = all.collect();
        known.looks += 1;
        self.news.notify_all();
    }

    fn known(&self) -> MutexGuard<'_, Looks> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How this publisher sends; waits for a look at the domain that began by now if it is not known.
    fn of(&self, publisher: EndpointId, look_now: impl FnOnce(), stop: &Stop) -> Known {
        let start = Instant::now();
        let mut known = self.known();
        // The next look may have begun before.
        let due = known.looks + 2;
        let mut look_now = Some(look_now);
        loop {
            if let Some(manner) = known.manners.get(&publisher) {
                return Known::Manner(*manner);
            }
            if known.looks >= due {
                return Known::Gone;
            }
            if start.elapsed() > LOOK_PATIENCE || stop.is_set() {
                return Known::NotYet;
            }
            if let Some(look_now) = look_now.take() {
                look_now();
            }
            known = self.news.wait_timeout(known, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Starts to read a topic, and to pass it on.
pub(super) fn start(
    context: &Arc<Context>,
    name: &str,
    (outlet, history): (&Arc<Outlet>, &Arc<Store>),
    counters: &Arc<Counters>,
    manners: &Arc<Manners>,
) -> Result<Worker, PortError> {
    let inline = context.options.inline.as_ref().map(|host| (host, Inline::new(context, outlet, counters)));
    let mut topic = context.node.topic_dyn(name);
    if let Some((host, inline)) = &inline {
        topic = topic.carried_by(host, Arc::clone(inline) as Arc<dyn Carrier>);
    }
    let subscriber = topic.subscriber()?;
    let handle = subscriber.handle();
    let passing = Arc::new(Passing {
        context: Arc::clone(context),
        outlet: Arc::clone(outlet),
        history: Arc::clone(history),
        counters: Arc::clone(counters),
        manners: Arc::clone(manners),
        inline: inline.map(|(_, inline)| inline),
        desk: Mutex::new(Desk { subscriber: Some(subscriber), senders: HashMap::new() }),
        watch: Watch::default(),
    });
    let leaving = Arc::clone(&passing);
    let wake = move || {
        handle.cancel();
        if let Some(inline) = &leaving.inline {
            inline.end();
        }
        // A thread that the link holds up does not hold the subscriber, for which publishers would wait.
        leaving.desk().subscriber = None;
        leaving.watch.wake();
    };
    Worker::start_two(wake, move |which, stop| passing.take_part(which, stop))
}

/// What messages of each publisher are, and how it sends.
type Senders = HashMap<EndpointId, (Arc<str>, Manner)>;

/// What the thread that leads has before it.
struct Desk {
    subscriber: Option<Subscriber<Untyped>>,
    senders: Senders,
}

/// Which thread leads, and how the other knows that it is held up.
#[derive(Debug, Default)]
struct Watch {
    leader: AtomicUsize,
    /// Odd while a message is being sent; no number comes twice.
    sending: AtomicU64,
    /// Whether the thread that does not lead sleeps until a message is sent.
    is_resting: AtomicBool,
    resting: Mutex<Option<Thread>>,
}

impl Watch {
    fn leads(&self, which: usize) -> bool {
        self.leader.load(Ordering::Acquire) == which
    }

    /// A message is about to be sent.
    fn begin(&self) {
        // Either this sees the other rest, or that one sees this.
        self.sending.fetch_add(1, Ordering::SeqCst);
        if self.is_resting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// It has been sent.
    fn end(&self) {
        self.sending.fetch_add(1, Ordering::Release);
    }

    #[cold]
    fn wake(&self) {
        if self.is_resting.swap(false, Ordering::SeqCst)
            && let Some(thread) = &*self.resting.lock().unwrap_or_else(PoisonError::into_inner)
        {
            thread.unpark();
        }
    }

    /// Waits until the thread that leads is held up, and leads in its place; or until it is to stop.
    fn stand_by(&self, which: usize, stop: &Stop) {
        let mut before = None;
        while !stop.is_set() && !self.leads(which) {
            let now = self.sending.load(Ordering::SeqCst);
            match before.replace(now) {
                Some(before) if before == now && now % 2 == 1 => {
                    self.leader.store(which, Ordering::Release);
                }
                Some(before) if before == now => {
                    *self.resting.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(std::thread::current());
                    self.is_resting.store(true, Ordering::SeqCst);
                    if self.sending.load(Ordering::SeqCst) == now && !stop.is_set() {
                        std::thread::park();
                    }
                    self.is_resting.store(false, Ordering::SeqCst);
                }
                _ => std::thread::park_timeout(LOOK_EVERY),
            }
        }
    }
}

/// What both threads have.
struct Passing {
    context: Arc<Context>,
    outlet: Arc<Outlet>,
    history: Arc<Store>,
    counters: Arc<Counters>,
    manners: Arc<Manners>,
    /// If publishers in this program pass on what they send.
    inline: Option<Arc<Inline>>,
    desk: Mutex<Desk>,
    watch: Watch,
}

impl Passing {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leads and stands by in turn, until there is no more to read.
    fn take_part(&self, which: usize, stop: &Stop) {
        while !stop.is_set() {
            self.watch.stand_by(which, stop);
            if self.watch.leads(which) && !self.lead(which, stop) {
                stop.set();
                self.watch.wake();
            }
        }
    }

    /// Passes messages on until the other thread leads: `false` if there is no more to read.
    fn lead(&self, which: usize, stop: &Stop) -> bool {
        while !stop.is_set() && self.watch.leads(which) {
            let mut desk = self.desk();
            let Desk { subscriber, senders } = &mut *desk;
            let Some(subscriber) = subscriber else { return false };
            let (frame, settled) = match subscriber.recv() {
                Ok(sample) => {
                    let (inline, number) = (self.inline.as_ref(), sample.sequence());
                    let progress = inline.and_then(|inline| inline.progress_of(sample.publisher()));
                    if progress.as_ref().is_some_and(|progress| progress.covers(number)) {
                        continue;
                    }
                    (self.wrap(&sample, senders, stop), progress.map(|progress| (progress, number)))
                }
                Err(ReceiveError::Closed { .. }) => return false,
                Err(error) => {
                    self.context.note(error.to_string());
                    return false;
                }
            };
            if !self.send(frame, settled, desk) {
                return false;
            }
        }
        true
    }

    /// Sends a message; the desk is free for the other thread once nothing can come before it. `false` if the link is closed.
    fn send(
        &self,
        frame: Result<Frame, PortError>,
        progress: Option<(Arc<Progress>, u64)>,
        desk: MutexGuard<'_, Desk>,
    ) -> bool {
        let mut unsettled = Some((progress, desk));
        let mut settled = || {
            if let Some((Some((progress, number)), _desk)) = unsettled.take() {
                progress.end(number);
            }
        };
        let sent = frame.and_then(|frame| {
            self.watch.begin();
            let sent = self.outlet.send(frame, &mut settled);
            self.watch.end();
            Ok(sent?)
        });
        // If it was not sent at all.
        settled();
        note_sent(&self.context, &self.counters, sent)
    }

    fn wrap(
        &self,
        sample: &Sample<'_, Untyped>,
        senders: &mut Senders,
        stop: &Stop,
    ) -> Result<Frame, PortError> {
        let publisher = sample.publisher();
        let (encoding, Manner { overflow, history }) = match senders.get(&publisher) {
            Some((encoding, manner)) => (Arc::clone(encoding), *manner),
            None => self.meet(sample, senders, stop)?,
        };
        let envelope = self.context.envelope(sender_of(publisher), overflow, sample.sequence());
        let beside = Beside {
            sent_at_ns: sample.timestamp().map(ns_of),
            header: sample.header_dyn().map(|(_, header)| header).unwrap_or_default(),
        };
        let frame = Envelope { history, ..envelope }.wrap_with(sample, beside, encoding);
        if history > 0 {
            self.history.keep(publisher, history.into(), &frame);
        }
        Ok(frame)
    }

    fn meet(
        &self,
        sample: &Sample<'_, Untyped>,
        senders: &mut Senders,
        stop: &Stop,
    ) -> Result<(Arc<str>, Manner), PortError> {
        let (publisher, header) = (sample.publisher(), sample.header_dyn());
        let header_type = header.map(|(header_type, _)| header_type);
        let encoding = self.context.tell_types(sample.message_type(), header_type)?;
        self.context.firsts.note(sender_of(publisher), sample.sequence());
        let known = self.manners.of(publisher, || self.context.look_now(), stop);
        // Who has gone sends no more than what is here.
        let usual = Manner { overflow: Overflow::Block, history: 0 };
        let manner = match known {
            Known::Manner(manner) => manner,
            Known::Gone => usual,
            // With the next message it is asked for again.
            Known::NotYet => return Ok((encoding, usual)),
        };
        senders.insert(publisher, (Arc::clone(&encoding), manner));
        Ok((encoding, manner))
    }
}

/// Counts what became of a message; `false` if the link is closed.
pub(super) fn note_sent(context: &Context, counters: &Counters, sent: Result<Sent, PortError>) -> bool {
    match sent {
        Ok(Sent::Sent) => Counters::add(&counters.crossed, 1),
        // Whoever receives misses its number.
        Ok(Sent::Full) => Counters::add(&counters.lost, 1),
        Ok(Sent::NotConnected) => {}
        Ok(Sent::Closed) => return false,
        Err(error) => {
            Counters::add(&counters.refused, 1);
            context.note(error.to_string());
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let start = std::time::Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The fear: the one that is to relieve a thread that is held up sleeps.
    #[test]
    fn who_is_held_up_is_relieved_and_who_is_not_is_left_alone() {
        let (watch, stop) = (Watch::default(), Stop::default());
        std::thread::scope(|scope| {
            let standing_by = scope.spawn(|| watch.stand_by(1, &stop));
            until("it rests", || watch.is_resting.load(Ordering::SeqCst));
            for _ in 0..1000 {
                watch.begin();
                watch.end();
            }
            until("it rests again", || watch.is_resting.load(Ordering::SeqCst));
            assert!(watch.leads(0), "nobody was held up");
            watch.begin();
            standing_by.join().expect("it does not panic");
            assert!(watch.leads(1));
        });
    }

    #[test]
    fn who_stands_by_is_stopped() {
        let (watch, stop) = (Watch::default(), Stop::default());
        std::thread::scope(|scope| {
            let standing_by = scope.spawn(|| watch.stand_by(1, &stop));
            until("it rests", || watch.is_resting.load(Ordering::SeqCst));
            stop.set();
            watch.wake();
            standing_by.join().expect("it does not panic");
            assert!(watch.leads(0));
        });
    }
}
