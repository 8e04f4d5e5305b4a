//! What is in a wait set, and the keys by which its owner knows it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::endpoint::Endpoint;
use super::timer::Timer;
use crate::os::epoll::Interest;

/// Names an endpoint, descriptor or timer in a [`WaitSet`](crate::WaitSet). It is never used for another one, and is plain data:
/// the thing itself stays in the set.
pub struct Key<E> {
    pub(super) slot: u32,
    pub(super) id: u64,
    kind: PhantomData<fn() -> E>,
}

impl<E> Key<E> {
    pub(super) fn new(slot: u32, id: u64) -> Self {
        Self { slot, id, kind: PhantomData }
    }
}

impl<E> Clone for Key<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Key<E> {}

impl<E> PartialEq for Key<E> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<E> Eq for Key<E> {}

impl<E> Hash for Key<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<E> fmt::Debug for Key<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.id)
    }
}

/// What a wait found to be ready: it equals that [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ready {
    pub(super) slot: u32,
    pub(super) id: u64,
    pub(super) is_closed: bool,
}

impl Ready {
    /// Whether it is ready because the endpoint was cancelled, or its node shut down, and nothing is left to be received. It stays
    /// so until it is removed.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

impl<E> PartialEq<Key<E>> for Ready {
    fn eq(&self, key: &Key<E>) -> bool {
        self.id == key.id
    }
}

impl<E> PartialEq<Ready> for Key<E> {
    fn eq(&self, ready: &Ready) -> bool {
        self.id == ready.id
    }
}

/// Something with a descriptor, whatever its type.
pub(super) trait Source: Any + Send {
    fn descriptor(&self) -> BorrowedFd<'_>;
}

impl<F: AsFd + Any + Send> Source for F {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// An endpoint in the set.
pub(super) struct Listening {
    pub(super) endpoint: Box<dyn Endpoint>,
    /// The eventfd that is watched.
    pub(super) watched: Option<Arc<OwnedFd>>,
    /// Its place among the nodes that the set serves.
    pub(super) node: Option<usize>,
    /// Its sleep has been prepared, and its eventfd has not been seen readable since.
    pub(super) is_settled: bool,
    /// Looks in a row that found nothing.
    pub(super) idle: u32,
}

/// A descriptor in the set.
pub(super) struct Watched {
    pub(super) source: Box<dyn Source>,
    pub(super) interest: Interest,
    /// Its number when it was added to the epoll set.
    pub(super) number: RawFd,
    /// Whether the program may have used it, or exchanged it, since it was seen ready.
    pub(super) is_unsure: bool,
}

impl Watched {
    pub(super) fn new(source: Box<dyn Source>, interest: Interest) -> Self {
        let number = source.descriptor().as_raw_fd();
        Self { source, interest, number, is_unsure: false }
    }
}

pub(super) enum Kind {
    Endpoint(Listening),
    Descriptor(Watched),
    Timer(Timer),
}

impl Kind {
    /// The thing itself.
    fn inner(&self) -> &dyn Any {
        match self {
            Self::Endpoint(listening) => &*listening.endpoint,
            Self::Descriptor(watched) => &*watched.source,
            Self::Timer(timer) => timer,
        }
    }

    fn inner_mut(&mut self) -> &mut dyn Any {
        match self {
            Self::Endpoint(listening) => &mut *listening.endpoint,
            Self::Descriptor(watched) => &mut *watched.source,
            Self::Timer(timer) => timer,
        }
    }

    /// The thing itself, with what the set knew of it dropped.
    pub(super) fn into_inner<E: 'static>(self) -> Option<E> {
        let inner: Box<dyn Any> = match self {
            Self::Endpoint(listening) => listening.endpoint,
            Self::Descriptor(watched) => watched.source,
            Self::Timer(timer) => Box::new(timer),
        };
        inner.downcast().ok().map(|inner| *inner)
    }
}

pub(super) struct Member {
    pub(super) id: u64,
    pub(super) is_in_turn: bool,
    pub(super) kind: Kind,
}

/// The members, each in a slot, and the order in which those that may be ready have their turn.
#[derive(Default)]
pub(super) struct Members {
    slots: Vec<Option<Member>>,
    vacant: Vec<u32>,
    /// Endpoints that are looked at each time, and whatever else has been seen ready.
    turns: VecDeque<u32>,
}

impl Members {
    /// The slot and the identity of a new member, which has its turn if it is an endpoint.
    pub(super) fn insert(&mut self, kind: Kind) -> (u32, u64) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let is_endpoint = matches!(kind, Kind::Endpoint(_));
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(Member { id, is_in_turn: false, kind });
        if is_endpoint {
            self.give_turn(slot);
        }
        (slot, id)
    }

    pub(super) fn at(&mut self, slot: u32) -> Option<&mut Member> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn get<E: 'static>(&self, key: Key<E>) -> Option<&E> {
        let member = self.slots.get(key.slot as usize)?.as_ref()?;
        if member.id == key.id { member.kind.inner().downcast_ref() } else { None }
    }

    pub(super) fn get_mut<E: 'static>(&mut self, key: Key<E>) -> Option<&mut E> {
        let member = self.at(key.slot)?;
        if member.id == key.id { member.kind.inner_mut().downcast_mut() } else { None }
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Kind> {
        self.end_turn(slot);
        let member = self.slots.get_mut(slot as usize)?.take()?;
        self.vacant.push(slot);
        Some(member.kind)
    }

    /// Members that may be ready.
    #[inline]
    pub(super) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Has a member looked at after those whose turn it is before it.
    pub(super) fn give_turn(&mut self, slot: u32) {
        if let Some(member) = self.at(slot)
            && !std::mem::replace(&mut member.is_in_turn, true)
        {
            self.turns.push_back(slot);
        }
    }

    /// Has a member looked at no more.
    pub(super) fn end_turn(&mut self, slot: u32) {
        if let Some(member) = self.at(slot)
            && std::mem::take(&mut member.is_in_turn)
        {
            self.turns.retain(|other| *other != slot);
        }
    }

    /// Has all endpoints looked at.
    pub(super) fn give_all_endpoints_turns(&mut self) {
        for slot in 0..self.slots.len() as u32 {
            if self.at(slot).is_some_and(|member| matches!(member.kind, Kind::Endpoint(_))) {
                self.give_turn(slot);
            }
        }
    }

    /// The member whose turn it is. That is over then, unless [`Members::give_turn`] gives it another, after the others.
    #[inline]
    pub(super) fn next_turn(&mut self) -> Option<(u32, &mut Member)> {
        let slot = self.turns.pop_front()?;
        let member = self.slots.get_mut(slot as usize)?.as_mut()?;
        member.is_in_turn = false;
        Some((slot, member))
    }

    /// Does this with each endpoint that has its turn.
    pub(super) fn for_each_in_turn(&mut self, mut act: impl FnMut(u32, &mut Listening)) {
        for slot in &self.turns {
            if let Some(Some(Member { kind: Kind::Endpoint(listening), .. })) =
                self.slots.get_mut(*slot as usize)
            {
                act(*slot, listening);
            }
        }
    }

    /// Whether a number is that of a member's descriptor, as it is now, or of its eventfd.
    pub(super) fn use_number(&self, number: RawFd) -> bool {
        self.slots.iter().flatten().any(|member| match &member.kind {
            Kind::Endpoint(listening) => {
                listening.watched.as_ref().is_some_and(|eventfd| eventfd.as_raw_fd() == number)
            }
            Kind::Descriptor(watched) => watched.source.descriptor().as_raw_fd() == number,
            Kind::Timer(_) => false,
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}
