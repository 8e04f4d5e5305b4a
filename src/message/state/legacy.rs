//! What writers leave when they go: a reader keeps the newest value for those readers that come later.
//!
//! The control thread does all of it, as the reader's own thread may not look for a long time. A short value is copied, a
//! long one stays in the memory that its sender has left, until somebody asks for it. It is let go of when the reader has
//! a newer value from a writer that lives.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::relay::Relay;
use super::version::Base;
use crate::message::inlet::SubscriberShared;
use crate::message::payload;
use crate::node::{EndpointId, Heir, Offer, Outlet, TypeDescriptor};
use crate::sync::stream::{Attachment, Relic};

/// Bytes up to which a value is copied as soon as its sender has gone.
const COPIED_BYTES_MAX: usize = 64 << 10;
/// Relays that a newcomer joins, in case one of them goes at once.
const RELAYS_MAX: usize = 2;

/// What a reader knows of those that it reads from, and of what they have left.
#[derive(Default)]
pub(in crate::message) struct Legacy {
    /// The newest version that the reader has taken.
    taken: AtomicU64,
    /// Whether there is anything to be let go of.
    is_held: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of outlets that are joining or joined.
    outlets: HashMap<EndpointId, Origin>,
    left: Option<Left>,
    relay: Option<Arc<Relay>>,
}

/// An outlet's base, and what its values are.
struct Origin {
    base: Base,
    descriptor: TypeDescriptor,
    /// Whether it has let us in, so that the reader finds what it sends.
    is_admitted: bool,
}

/// A value without its writer.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) version: u64,
    pub(super) descriptor: TypeDescriptor,
    /// In bytes.
    pub(super) length: usize,
    pub(super) body: Body,
}

/// Where it is.
#[derive(Clone)]
pub(super) enum Body {
    Copied(Arc<[u8]>),
    /// In the memory of this stream.
    Lies(Arc<Attachment>),
}

impl Left {
    /// The newest value of a stream whose sender writes no more.
    fn of(attachment: &Arc<Attachment>, origin: &Origin) -> Option<Self> {
        let relic = Relic::of(attachment, payload::extent_of(&origin.descriptor))?;
        let (version, descriptor) = (origin.base.version(relic.sequence()), origin.descriptor.clone());
        let length = relic.length();
        let body = if length <= COPIED_BYTES_MAX {
            let mut bytes = vec![0; length];
            relic.copy_to(&mut bytes).then_some(())?;
            Body::Copied(bytes.into())
        } else {
            Body::Lies(Arc::clone(attachment))
        };
        Some(Self { version, descriptor, length, body })
    }
}

impl Legacy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an offer says anything new: who lives and writes always may.
    pub(in crate::message) fn wants(&self, offer: &Offer) -> bool {
        let base = Base::from_bits(offer.base);
        if !base.is_relay() {
            return true;
        }
        let state = self.state();
        let relays = state.outlets.values().filter(|origin| origin.base.is_relay()).count();
        let known =
            state.left.as_ref().map_or(0, |left| left.version).max(self.taken.load(Ordering::Relaxed));
        relays < RELAYS_MAX && base.version(0) > known
    }

    /// An offer has been taken up.
    pub(in crate::message) fn joined(&self, offer: &Offer) {
        let (base, descriptor) = (Base::from_bits(offer.base), offer.descriptor.clone());
        let origin = Origin { base, descriptor, is_admitted: false };
        self.state().outlets.insert(offer.outlet, origin);
    }

    /// We have been let in. What is passed on to us never changes: we can pass it on in turn.
    pub(in crate::message) fn admitted(&self, outlet: EndpointId, attachment: &Arc<Attachment>) {
        let mut state = self.state();
        let Some(origin) = state.outlets.get_mut(&outlet) else { return };
        origin.is_admitted = true;
        let left = if origin.base.is_relay() { Left::of(attachment, origin) } else { None };
        if let Some(left) = left {
            self.inherit(&mut state, left);
        }
    }

    /// The outlet has gone, or turned us down.
    pub(in crate::message) fn closed(&self, outlet: EndpointId, attachment: Option<&Arc<Attachment>>) {
        let mut state = self.state();
        let Some(origin) = state.outlets.remove(&outlet) else { return };
        let attachment = attachment.filter(|_| origin.is_admitted);
        if let Some(left) = attachment.and_then(|attachment| Left::of(attachment, &origin)) {
            self.inherit(&mut state, left);
        }
    }

    fn inherit(&self, state: &mut State, left: Left) {
        if state.left.as_ref().is_none_or(|known| known.version < left.version) {
            state.left = Some(left);
            self.is_held.store(true, Ordering::Relaxed);
        }
    }

    /// The reader has taken a value. Whether that was written by somebody who lives, and what had been left before is let go
    /// of now.
    #[inline]
    pub(in crate::message) fn taken(&self, version: u64, publisher: EndpointId) -> bool {
        self.taken.store(version, Ordering::Relaxed);
        self.is_held.load(Ordering::Relaxed) && self.let_go(version, publisher)
    }

    #[cold]
    fn let_go(&self, version: u64, publisher: EndpointId) -> bool {
        let mut state = self.state();
        let is_written = state.outlets.get(&publisher).is_some_and(|origin| !origin.base.is_relay());
        let is_old = state.left.as_ref().is_some_and(|left| left.version < version);
        if is_written && is_old {
            self.is_held.store(false, Ordering::Relaxed);
            state.left = None;
        }
        is_written && is_old
    }

    fn version_left(&self) -> u64 {
        self.state().left.as_ref().map_or(0, |left| left.version)
    }
}

impl Heir for SubscriberShared {
    fn lacks_value(&self, offer: Option<&Offer>) -> bool {
        let follows_others = |offer: &Offer| Base::from_bits(offer.base).follows_others();
        let legacy = &self.legacy;
        legacy.taken.load(Ordering::Relaxed) == 0
            && legacy.version_left() == 0
            && offer.is_none_or(follows_others)
    }

    fn version_left(&self) -> u64 {
        self.legacy.version_left()
    }

    fn relay(&self) -> Option<Arc<dyn Outlet>> {
        let mut state = self.legacy.state();
        let left = state.left.clone()?;
        let relay = match &state.relay {
            Some(relay) => Arc::clone(relay),
            None => Arc::new(Relay::new(self.node.shared(), &self.channel, left)?),
        };
        state.relay = Some(Arc::clone(&relay));
        relay.is_ready().then_some(relay as Arc<dyn Outlet>)
    }

    fn retire(&self, leaves: bool) -> Option<EndpointId> {
        let mut state = self.legacy.state();
        if leaves {
            state.left = None;
        }
        let version = state.left.as_ref().map_or(0, |left| left.version);
        let outdated = state.relay.take_if(|relay| relay.version() != version)?;
        Some(outdated.id())
    }
}

impl std::fmt::Debug for Legacy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Legacy").field("taken", &self.taken).finish_non_exhaustive()
    }
}
