//! Signals across the network: how often each id was notified since it was told last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidepost::{Notifier, Overflow, Pattern, ReceiveError, Waiter};

use super::census::{Endpoint, Local};
use super::context::Context;
use super::port::{Counters, Counts, Port, PortError};
use super::worker::{Stop, Worker};
use crate::envelope::{DomainId, Envelope, Sender, now_ns};
use crate::link::{Frame, Quality, Received, Sent, Sink, Source};

/// How long a wait may last before it is looked whether it is to end.
const SLICE: Duration = Duration::from_millis(200);
/// Bytes of one id and its count.
const NOTICE_BYTES: usize = 12;
/// The encoding of counts: an id of 32 bits and a count of 64, little-endian, as often as need be.
const ENCODING: &str = "application/x-tidepost-signal";

/// How many ids a signal has, as those who are there declare it.
fn ids_of(endpoints: &[Endpoint]) -> Result<u32, PortError> {
    let declared = endpoints.iter().find_map(|endpoint| endpoint.message_type.as_ref());
    let counters = declared.ok_or("nobody has said how many ids it has")?.size / size_of::<u64>() as u64;
    Ok(u32::try_from(counters)?)
}

fn encode(notices: impl Iterator<Item = (u32, u64)>) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, count) in notices {
        payload.extend(id.to_le_bytes());
        payload.extend(count.to_le_bytes());
    }
    payload
}

fn decode(payload: &[u8]) -> impl Iterator<Item = (u32, u64)> {
    payload.chunks_exact(NOTICE_BYTES).map(|notice| {
        let (id, count) = notice.split_at(4);
        (
            u32::from_le_bytes(id.try_into().expect("4 of 12")),
            u64::from_le_bytes(count.try_into().expect("8 of 12")),
        )
    })
}

/// A signal whose notifiers are here.
#[derive(Debug)]
pub(super) struct SignalOut {
    context: Arc<Context>,
    name: String,
    sink: Arc<dyn Sink>,
    worker: Option<Worker>,
    counters: Arc<Counters>,
}

impl SignalOut {
    pub(super) fn open(context: &Arc<Context>, name: &str, local: &Local) -> Result<Self, PortError> {
        let key = context.key(Pattern::Signal, name)?;
        let quality = Quality::Reliable { cache: context.options.cache };
        let sink = context.link.sink(&key, quality, context.options.room_bytes)?;
        let (context, name, counters) = (Arc::clone(context), name.to_owned(), Arc::default());
        let mut port = Self { context, name, sink, worker: None, counters };
        port.move_on(local)?;
        Ok(port)
    }
}

impl Port for SignalOut {
    fn move_on(&mut self, local: &Local) -> Result<(), PortError> {
        match &self.worker {
            Some(worker) if worker.is_over() || !self.sink.has_receivers() => self.worker = None,
            None if self.sink.has_receivers() && !local.senders.is_empty() => {
                let waiter = self.context.node.signal(&self.name).ids(ids_of(&local.senders)?).waiter()?;
                let (handle, context) = (waiter.handle(), Arc::clone(&self.context));
                let (sink, counters) = (Arc::clone(&self.sink), Arc::clone(&self.counters));
                let pass = move |stop: &Stop| pass_all(&context, waiter, &*sink, &counters, stop);
                self.worker = Some(Worker::start(move || handle.cancel(), pass)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        self.counters.counts()
    }

    fn stop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.stop();
        }
    }
}

fn pass_all(context: &Context, mut waiter: Waiter, sink: &dyn Sink, counters: &Counters, stop: &Stop) {
    // What found no room is told with what comes next: it is counted, not queued.
    let mut owed: HashMap<u32, u64> = HashMap::new();
    while !stop.is_set() {
        match waiter.wait_timeout(SLICE) {
            Ok(Some(notices)) => {
                for notice in notices.iter() {
                    let count = owed.entry(notice.id).or_default();
                    *count = count.saturating_add(notice.count);
                }
            }
            Ok(None) if owed.is_empty() => continue,
            Ok(None) => {}
            Err(ReceiveError::Closed { .. }) => return,
            Err(error) => return context.note(error.to_string()),
        }
        let payload = encode(owed.iter().map(|(id, count)| (*id, *count)));
        let sender = Sender { node: context.node.id().bits().to_le_bytes(), number: 0 };
        let (domain, passed_on_ns) = (context.domain, now_ns());
        let envelope = Envelope { overflow: Overflow::Block, domain, sender, sequence: 0, passed_on_ns };
        let attachment = envelope.to_bytes().to_vec();
        let frame = Frame { payload, encoding: ENCODING.to_owned(), attachment, is_farewell: false };
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

/// A signal whose notifiers are on other machines.
#[derive(Debug)]
pub(super) struct SignalIn {
    worker: Worker,
    counters: Arc<Counters>,
}

impl SignalIn {
    pub(super) fn open(context: &Arc<Context>, name: &str, local: &Local) -> Result<Self, PortError> {
        let key = context.key(Pattern::Signal, name)?;
        let ids = ids_of(&local.receivers)?;
        let quality = Quality::Reliable { cache: context.options.cache };
        let source = context.link.source(&key, quality, context.options.room_bytes)?;
        let counters = Arc::<Counters>::default();
        let (context, name, notifiers) = (Arc::clone(context), name.to_owned(), HashMap::new());
        let mut notifying = Notifying { context, name, ids, counters: Arc::clone(&counters), notifiers };
        let closed = Arc::clone(&source);
        let worker = Worker::start(move || closed.close(), move |_| notifying.notify_all(&*source))?;
        Ok(Self { worker, counters })
    }
}

impl Port for SignalIn {
    fn move_on(&mut self, _local: &Local) -> Result<(), PortError> {
        if self.worker.is_over() { Err("its thread has ended".into()) } else { Ok(()) }
    }

    fn counts(&self) -> Counts {
        self.counters.counts()
    }

    fn stop(&mut self) {
        self.worker.stop();
    }
}

/// The thread that notifies here.
struct Notifying {
    context: Arc<Context>,
    name: String,
    ids: u32,
    counters: Arc<Counters>,
    notifiers: HashMap<Option<DomainId>, Notifier>,
}

impl Notifying {
    fn notify_all(&mut self, source: &dyn Source) {
        loop {
            match source.receive(SLICE) {
                Received::Frame(_, frame) => {
                    if let Err(error) = self.notify(&frame) {
                        Counters::add(&self.counters.refused, 1);
                        self.context.note(format!("signal `{}`: {error}", self.name));
                    }
                }
                Received::Nothing => {
                    let remotes = &self.context.remotes;
                    self.notifiers.retain(|domain, _| remotes.is_there(*domain));
                }
                Received::Closed => return,
            }
        }
    }

    fn notify(&mut self, frame: &Frame) -> Result<(), PortError> {
        let domain = Envelope::of(frame)?.map(|envelope| envelope.domain);
        if domain == Some(self.context.domain) || frame.is_farewell {
            return Ok(());
        }
        if !frame.payload.len().is_multiple_of(NOTICE_BYTES) {
            return Err(
                format!("{} B are no list of counts of {NOTICE_BYTES} B each", frame.payload.len()).into()
            );
        }
        if !self.notifiers.contains_key(&domain) {
            let node = self.context.remotes.node(domain)?;
            self.notifiers.insert(domain, node.signal(&self.name).ids(self.ids).notifier()?);
        }
        let Some(notifier) = self.notifiers.get_mut(&domain) else { return Ok(()) };
        for (id, count) in decode(&frame.payload) {
            if id >= self.ids {
                return Err(format!("id {id} is none of {}", self.ids).into());
            }
            // As often as one call can say, and the rest with more.
            let mut left = count;
            while left > 0 {
                let step = u32::try_from(left).unwrap_or(u32::MAX);
                notifier.notify_many(id, step)?;
                left -= u64::from(step);
            }
            Counters::add(&self.counters.crossed, count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_little_endian() {
        let payload = encode([(1, 2), (65_535, 1 << 40)].into_iter());
        assert_eq!(payload[..12], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&payload).collect::<Vec<_>>(), [(1, 2), (65_535, 1 << 40)]);
    }
}
