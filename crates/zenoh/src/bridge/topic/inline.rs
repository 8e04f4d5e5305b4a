//! Messages that whoever publishes them in this program passes on by itself.
//!
//! It does so on its own thread, which saves waking another, and waits for the network as the engine has it wait. The threads that pass
//! the topic on receive its messages too: which of them are settled, a word says that both have for each publisher. So each message is
//! passed on once, and in its turn, whichever of the two does it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tidepost::{Carrier, Carrying, EndpointId, Load, Overflow, TypeDescriptor};

use super::passing;
use crate::bridge::context::{Context, sender_of};
use crate::bridge::outlet::Outlet;
use crate::bridge::port::Counters;
use crate::link::{Frame, LinkError, Sent};

/// Publishers that are remembered although they have gone.
const GONE_MAX: usize = 1024;

/// How far a publisher's messages are settled: twice the number of the first that is not; and one more while the publisher passes that
/// one on. Who publishes a message decides before it does so, so that whoever receives it finds that decided.
#[derive(Debug)]
pub(super) struct Progress(AtomicU64);

impl Progress {
    fn new(next: u64) -> Self {
        Self(AtomicU64::new(2 * next))
    }

    /// Whether all before a message are settled.
    fn is_at(&self, number: u64) -> bool {
        // Acquire: what was done with those before is done before this one is sent.
        self.0.load(Ordering::Acquire) == 2 * number
    }

    /// The publisher is to pass the message on, which is not published yet.
    fn begin(&self, number: u64) {
        // It is seen by whoever receives the message.
        self.0.store(2 * number + 1, Ordering::Release);
    }

    /// The message, and with it all before it, is settled.
    pub(super) fn end(&self, number: u64) {
        self.0.store(2 * (number + 1), Ordering::Release);
    }

    /// Whether a message is settled, or its publisher passes it on, for whoever has received it.
    pub(super) fn covers(&self, number: u64) -> bool {
        self.0.load(Ordering::Acquire) > 2 * number
    }
}

/// Who passes on what publishers in this program send.
pub(super) struct Inline {
    context: Arc<Context>,
    outlet: Arc<Outlet>,
    counters: Arc<Counters>,
    progress: Mutex<HashMap<EndpointId, Arc<Progress>>>,
    is_over: AtomicBool,
    /// Itself, for those who pass on: they are with the publishers.
    this: Weak<Self>,
}

impl fmt::Debug for Inline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inline").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl Inline {
    pub(super) fn new(context: &Arc<Context>, outlet: &Arc<Outlet>, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            context: Arc::clone(context),
            outlet: Arc::clone(outlet),
            counters: Arc::clone(counters),
            progress: Mutex::default(),
            is_over: AtomicBool::new(false),
            this: this.clone(),
        })
    }

    fn progress(&self) -> MutexGuard<'_, HashMap<EndpointId, Arc<Progress>>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the messages of a publisher are settled, if it passes some on by itself.
    pub(super) fn progress_of(&self, publisher: EndpointId) -> Option<Arc<Progress>> {
        self.progress().get(&publisher).cloned()
    }

    /// Nothing is passed on any more.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Carrier for Inline {
    fn begin(&self, publisher: EndpointId, message_type: &TypeDescriptor, next: u64) -> Box<dyn Carrying> {
        let progress = Arc::new(Progress::new(next));
        let mut known = self.progress();
        if known.len() >= GONE_MAX {
            known.retain(|_, progress| Arc::strong_count(progress) > 1);
        }
        known.insert(publisher, Arc::clone(&progress));
        let inline = Weak::clone(&self.this);
        Box::new(Publishing {
            inline,
            publisher,
            message_type: message_type.clone(),
            progress,
            encoding: None,
            loaded: None,
        })
    }
}

/// A publisher that passes on what it sends.
struct Publishing {
    inline: Weak<Inline>,
    publisher: EndpointId,
    message_type: TypeDescriptor,
    progress: Arc<Progress>,
    /// Once the type has been told.
    encoding: Option<Arc<str>>,
    loaded: Option<Loaded>,
}

/// A message that is about to be published, and then passed on.
struct Loaded {
    inline: Arc<Inline>,
    number: u64,
    frame: Frame,
}

impl Publishing {
    fn wrap(&mut self, inline: &Inline, number: u64, message: &[u8]) -> Result<Frame, LinkError> {
        let Inline { context, .. } = inline;
        let sender = sender_of(self.publisher);
        let encoding = match &self.encoding {
            Some(encoding) => Arc::clone(encoding),
            None => {
                // What the topic's others send may be lost.
                inline.outlet.be_reliable()?;
                context.firsts.note(sender, number);
                Arc::clone(self.encoding.insert(context.tell_type(&self.message_type)?))
            }
        };
        Ok(context.envelope(sender, Overflow::Block, number).wrap(message, encoding))
    }
}

impl Carrying for Publishing {
    fn load(&mut self, number: u64, message: &[u8]) -> Load {
        let inline = self.inline.upgrade().filter(|inline| !inline.is_over.load(Ordering::Relaxed));
        let Some(inline) = inline else { return Load::Over };
        if !self.progress.is_at(number) {
            return Load::Left;
        }
        // What cannot be passed on is left to those who can say why.
        let Ok(frame) = self.wrap(&inline, number, message) else { return Load::Left };
        self.progress.begin(number);
        self.loaded = Some(Loaded { inline, number, frame });
        Load::Taken
    }

    fn carry(&mut self) {
        let Some(Loaded { inline, number, frame }) = self.loaded.take() else { return };
        let sent = inline.outlet.send(frame, &mut || ()).map_err(Into::into);
        self.progress.end(number);
        Counters::add(&inline.counters.inline, u64::from(matches!(sent, Ok(Sent::Sent))));
        if !passing::note_sent(&inline.context, &inline.counters, sent) {
            inline.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_passed_on_by_one_of_both() {
        let progress = Progress::new(5);
        assert!(progress.is_at(5) && !progress.is_at(6) && progress.covers(4) && !progress.covers(5));
        progress.begin(5);
        assert!(progress.covers(5) && !progress.covers(6));
        assert!(!progress.is_at(5) && !progress.is_at(6), "what comes after it is not its turn yet");
        progress.end(5);
        assert!(progress.is_at(6) && !progress.covers(6));
        // One that was left to those who receive it.
        progress.end(6);
        assert!(progress.covers(6) && progress.is_at(7));
    }
}
