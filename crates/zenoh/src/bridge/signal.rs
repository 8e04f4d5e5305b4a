//! Signals across the network: how often each id was notified since it was told last.

use std::collections::HashMap;
use std::sync::Arc;

use tidepost::{Notifier, Overflow, Pattern, ReceiveError, Waiter};

use super::census::{Endpoint, Local};
use super::context::{Context, sender_of};
use super::doubt::Doubt;
use super::intake::{self, Intake};
use super::port::{Counters, Port, PortError};
use super::topic::LINGER;
use super::worker::{OnDemand, Running, SLICE, Stop, Worker};
use crate::envelope::{DomainId, Envelope, Sender};
use crate::link::{Frame, Quality, Sent, Sink};

/// Senders on other machines whose counts are remembered.
const SENDERS_MAX: usize = 1024;
/// Bytes of one id and its counts.
const NOTICE_BYTES: usize = 20;
/// The encoding of counts: an id of 32 bits, how often it was notified since it was told last, and how often in all, 64 bits each,
/// little-endian, as often as need be. Whoever missed something has it of the next that comes.
const ENCODING: &str = "application/x-tidepost-signal";

/// How many ids a signal has, as those who are there declare it.
fn ids_of(endpoints: &[Endpoint]) -> Result<u32, PortError> {
    let declared = endpoints.iter().find_map(|endpoint| endpoint.message_type.as_ref());
    let counters = declared.ok_or("nobody has said how many ids it has")?.size / size_of::<u64>() as u64;
    Ok(u32::try_from(counters)?)
}

/// What is told of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    id: u32,
    new: u64,
    total: u64,
}

fn encode(all: impl Iterator<Item = Told>) -> Vec<u8> {
    let mut payload = Vec::new();
    for Told { id, new, total } in all {
        payload.extend(id.to_le_bytes());
        payload.extend(new.to_le_bytes());
        payload.extend(total.to_le_bytes());
    }
    payload
}

fn decode(payload: &[u8]) -> impl Iterator<Item = Told> {
    payload.chunks_exact(NOTICE_BYTES).map(|told| {
        let word = |at: usize| u64::from_le_bytes(told[at..at + 8].try_into().expect("8 of 20"));
        let id = u32::from_le_bytes(told[..4].try_into().expect("4 of 20"));
        Told { id, new: word(4), total: word(12) }
    })
}

/// A signal whose notifiers are here.
#[derive(Debug)]
pub(super) struct SignalOut {
    context: Arc<Context>,
    name: String,
    sink: Arc<dyn Sink>,
    waiting: OnDemand,
    counters: Arc<Counters>,
    doubt: Doubt,
}

impl SignalOut {
    pub(super) fn open(context: &Arc<Context>, name: &str, local: &Local) -> Result<Self, PortError> {
        let key = context.key(Pattern::Signal, name)?;
        let quality = Quality::Reliable { cache: context.options.cache };
        let sink = context.link.sink(&key, quality, context.options.room_bytes)?;
        let (context, name, counters) = (Arc::clone(context), name.to_owned(), Arc::default());
        let (waiting, doubt) = (OnDemand::new(LINGER), Doubt::of(Pattern::Signal));
        let mut port = Self { context, name, sink, waiting, counters, doubt };
        port.move_on(local)?;
        Ok(port)
    }
}

impl Port for SignalOut {
    fn move_on(&mut self, local: &Local) -> Result<(), PortError> {
        let Self { context, name, sink, counters, .. } = self;
        self.doubt.move_on(context, name, sink.has_receivers(), counters.counts().crossed)?;
        if self.doubt.is_denied() {
            // Nobody waits for what is denied, which its notifiers see.
            self.waiting.end();
            return Ok(());
        }
        self.waiting.tend(sink.has_receivers() && !local.senders.is_empty(), || {
            let waiter = context.node.signal(name).ids(ids_of(&local.senders)?).waiter()?;
            let (handle, context) = (waiter.handle(), Arc::clone(context));
            let (sink, counters) = (Arc::clone(sink), Arc::clone(counters));
            let pass = move |stop: &Stop| pass_all(&context, waiter, &*sink, &counters, stop);
            Worker::start(move || handle.cancel(), pass)
        })
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn stop(&mut self) {
        self.waiting.stop();
    }
}

fn pass_all(context: &Context, mut waiter: Waiter, sink: &dyn Sink, counters: &Counters, stop: &Stop) {
    // This one counts from 0: another after it is another.
    let sender = sender_of(waiter.id());
    let mut totals: HashMap<u32, u64> = HashMap::new();
    // What found no room is told with what comes next.
    let mut owed: HashMap<u32, u64> = HashMap::new();
    while !stop.is_set() {
        match waiter.wait_timeout(SLICE) {
            Ok(Some(notices)) => {
                for notice in notices.iter() {
                    for counts in [&mut owed, &mut totals] {
                        let count = counts.entry(notice.id).or_default();
                        *count = count.saturating_add(notice.count);
                    }
                }
            }
            Ok(None) if owed.is_empty() => continue,
            Ok(None) => {}
            Err(ReceiveError::Closed { .. }) => return,
            Err(error) => return context.note(error.to_string()),
        }
        let told = owed.iter().map(|(id, new)| Told { id: *id, new: *new, total: totals[id] });
        let envelope = context.envelope(sender, Overflow::Block, 0);
        let frame = envelope.wrap(&encode(told), ENCODING.into());
        match sink.try_send(frame) {
            Sent::Sent => {
                Counters::add(&counters.crossed, owed.values().sum());
                owed.clear();
            }
            Sent::Full => {}
            Sent::NotConnected => owed.clear(),
            Sent::Closed => return,
        }
    }
}

/// Opens the port by which a signal comes in whose notifiers are on other machines.
pub(super) fn open_in(context: &Arc<Context>, name: &str, local: &Local) -> Result<Running, PortError> {
    let counters = Arc::<Counters>::default();
    let notifying = Notifying {
        context: Arc::clone(context),
        name: name.to_owned(),
        ids: ids_of(&local.receivers)?,
        counters: Arc::clone(&counters),
        notifiers: HashMap::new(),
        heard: HashMap::new(),
    };
    let quality = Quality::Reliable { cache: context.options.cache };
    intake::open(context, (Pattern::Signal, name), quality, &counters, notifying)
}

/// Notifies here.
struct Notifying {
    context: Arc<Context>,
    name: String,
    ids: u32,
    counters: Arc<Counters>,
    notifiers: HashMap<Option<DomainId>, Notifier>,
    /// How often each sender has notified each id, as far as it has been heard.
    heard: HashMap<Sender, HashMap<u32, u64>>,
}

impl Intake for Notifying {
    fn take(&mut self, frame: Frame, envelope: Option<Envelope>, _stop: &Stop) -> Result<(), PortError> {
        if frame.is_farewell {
            return Ok(());
        }
        if !frame.payload.len().is_multiple_of(NOTICE_BYTES) {
            return Err(
                format!("{} B are no list of counts of {NOTICE_BYTES} B each", frame.payload.len()).into()
            );
        }
        let domain = envelope.map(|envelope| envelope.domain);
        if !self.notifiers.contains_key(&domain) {
            let node = self.context.remotes.node(domain)?;
            self.notifiers.insert(domain, node.signal(&self.name).ids(self.ids).notifier()?);
        }
        let Some(notifier) = self.notifiers.get_mut(&domain) else { return Ok(()) };
        if self.heard.len() > SENDERS_MAX {
            // What those that are still there tell next is taken as it comes.
            self.heard.clear();
        }
        let mut heard = envelope.map(|envelope| self.heard.entry(envelope.sender).or_default());
        for Told { id, new, total } in decode(&frame.payload) {
            if id >= self.ids {
                return Err(format!("id {id} is none of {}", self.ids).into());
            }
            let count = match &mut heard {
                Some(heard) => match heard.insert(id, total) {
                    Some(before) => total.saturating_sub(before),
                    None => new,
                },
                None => new,
            };
            // As often as one call can say, and no more: a count is no reason to be busy for ever.
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            notifier.notify_many(id, count)?;
            Counters::add(&self.counters.crossed, count.into());
        }
        Ok(())
    }

    fn miss(&mut self, frames: u64) {
        // The next makes them good.
        Counters::add(&self.counters.lost, frames);
    }

    fn part(&mut self) {
        let remotes = &self.context.remotes;
        self.notifiers.retain(|domain, _| remotes.is_there(*domain));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_little_endian() {
        let all = [Told { id: 1, new: 2, total: 3 }, Told { id: 65_535, new: 1 << 40, total: u64::MAX }];
        let payload = encode(all.into_iter());
        assert_eq!(payload[..20], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&payload).collect::<Vec<_>>(), all);
    }
}
