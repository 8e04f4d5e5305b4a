//! Waiting for many things at once: endpoints of any kind and type, timers, and descriptors of others.

mod core;
mod endpoint;
mod error;
mod member;
mod select;
#[cfg(test)]
mod tests;
mod timer;
mod watcher;

use std::fmt;
use std::future::poll_fn;
use std::ops::{Index, IndexMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

pub use endpoint::Waitable;
pub(super) use endpoint::{Endpoint, Look, waitable};
pub use error::WaitSetError;
pub use member::{Key, Ready};
pub use select::{Either, select, select_timeout};
pub use timer::Timer;

use self::core::{Core, Shared};
use crate::os::clock::Deadline;
use crate::os::epoll::Interest;
use member::{Kind, Listening, Watched};

/// Waits for any mix of endpoints, timers and descriptors of others.
///
/// The set owns what is in it, and gives a [`Key`] for each, by which it is used and taken out again. A wait says one of those
/// that are ready:
///
/// - an *endpoint*, while something can be received: its receiving call does not wait then. It is said again and again until that
///   has found nothing more. A cancelled endpoint, or one whose node was shut down, is ready for good ([`Ready::is_closed`]);
/// - a *timer*, once each time it is due;
/// - a *descriptor*, while it can be read or written, as was asked for, or has an error or a hang-up.
///
/// Those that are ready have their turns in a round, whatever each has to receive. While endpoints in user space keep the set
/// busy, timers are looked at after 8 waits at the latest, and the kernel is asked about endpoints that were idle and about
/// descriptors after 64 or a millisecond; each takes part in the rounds from then on. What is not ready costs nothing.
///
/// With up to 16 endpoints and neither descriptors nor nodes without control thread, a busy set makes no system call. The set
/// takes five descriptors at most, and one for each endpoint, which each process that sends to it takes too. Nodes without
/// control thread are served by the waits.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("tidepost-doc-set-{}", std::process::id()));
/// # let node = tidepost::Node::builder().directory(&directory).open()?;
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use tidepost::{Interest, Overflow, WaitSet};
///
/// let mut set = WaitSet::new()?;
/// let poses = set.add(node.topic::<[f64; 2]>("poses").subscriber()?)?;
/// let names = set.add(node.topic::<[u8]>("names").subscriber()?)?;
/// let tick = set.every(Duration::from_millis(10))?;
/// let (reader, mut writer) = std::io::pipe()?;
/// let pipe = set.add_fd(reader, Interest::Read)?;
///
/// # let mut publisher = node.topic::<[u8]>("names").publisher(Overflow::Block)?;
/// publisher.send(b"pia")?;
/// writer.write_all(b"p")?;
/// let mut seen = 0;
/// while seen < 3 {
///     let ready = set.wait()?;
///     if ready == poses {
///         println!("{:?}", *set[poses].recv()?);
///     } else if ready == names {
///         assert_eq!(*set[names].recv()?, *b"pia");
///         seen += 1;
///     } else if ready == tick {
///         seen += u32::from(set[tick].count() == 1);
///     } else if ready == pipe {
///         set[pipe].read_exact(&mut [0])?;
///         seen += 1;
///     }
/// }
/// let subscriber = set.remove(poses).expect("it is in the set");
/// # drop((subscriber, set, publisher, node));
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// ```
pub struct WaitSet {
    core: Core,
}

impl WaitSet {
    /// An empty set.
    ///
    /// # Errors
    /// [`WaitSetError::System`] if there are no descriptors left.
    pub fn new() -> Result<Self, WaitSetError> {
        Ok(Self { core: Core::new()? })
    }

    /// Adds an endpoint.
    ///
    /// # Errors
    /// [`WaitSetError::System`] if there is no descriptor left, [`WaitSetError::Forked`] in a forked child. The endpoint is dropped.
    pub fn add<E: Waitable>(&mut self, endpoint: E) -> Result<Key<E>, WaitSetError> {
        let endpoint = Box::new(endpoint);
        self.insert(Kind::Endpoint(Listening {
            endpoint,
            watched: None,
            node: None,
            is_settled: false,
            idle: 0,
        }))
    }

    /// Adds a descriptor: a pipe, a socket, or anything else that has one which may have to be waited for. It stays the same as long
    /// as it is in the set; to exchange it, take it out and add the other. A call on it should not block, as it may be found
    /// not to be ready after all.
    ///
    /// # Errors
    /// [`WaitSetError::System`] if it cannot be waited for, for instance because it is a regular file, or is in the set already;
    /// [`WaitSetError::Forked`] in a forked child. The descriptor is dropped.
    pub fn add_fd<F: AsFd + Send + 'static>(
        &mut self,
        descriptor: F,
        interest: Interest,
    ) -> Result<Key<F>, WaitSetError> {
        self.insert(Kind::Descriptor(Watched::new(Box::new(descriptor), interest)))
    }

    /// Adds a timer that is due each time that `period` has passed, from now on; a period that nobody waited in is said once, and
    /// counted.
    ///
    /// # Errors
    /// [`WaitSetError::System`] if there is no descriptor left, [`WaitSetError::Forked`] in a forked child.
    pub fn every(&mut self, period: Duration) -> Result<Key<Timer>, WaitSetError> {
        self.insert(Kind::Timer(Timer::every(period)))
    }

    /// Adds a timer that is due once, when `delay` has passed. It is taken out when it is said to be ready.
    ///
    /// # Errors
    /// As [`WaitSet::every`].
    pub fn after(&mut self, delay: Duration) -> Result<Key<Timer>, WaitSetError> {
        self.insert(Kind::Timer(Timer::after(delay)))
    }

    fn insert<E>(&mut self, kind: Kind) -> Result<Key<E>, WaitSetError> {
        self.core.insert(kind).map(|(slot, id)| Key::new(slot, id))
    }

    /// What is in the set under this key, if it is.
    pub fn get<E: 'static>(&self, key: Key<E>) -> Option<&E> {
        self.core.members.get(key)
    }

    /// As [`WaitSet::get`], to be received from, for instance.
    #[inline]
    pub fn get_mut<E: 'static>(&mut self, key: Key<E>) -> Option<&mut E> {
        self.core.touch(key.slot);
        self.core.members.get_mut(key)
    }

    /// The key of what is ready, if that is of this type and still in the set: for those who have many of a kind.
    pub fn key<E: 'static>(&self, ready: Ready) -> Option<Key<E>> {
        let key = Key::new(ready.slot, ready.id);
        self.get(key).map(|_| key)
    }

    /// Takes something out of the set, if it is there. What is ready in it stays so.
    pub fn remove<E: 'static>(&mut self, key: Key<E>) -> Option<E> {
        self.core.members.get(key)?;
        self.core.remove(key.slot)?.into_inner()
    }

    /// How many endpoints, timers and descriptors are in the set.
    pub fn len(&self) -> usize {
        self.core.members.len()
    }

    /// Whether there are none. A wait without end would have none then.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Blocks until something is ready. It polls briefly, then sleeps until it is woken.
    ///
    /// # Errors
    /// [`WaitSetError::Cancelled`] after a [`WaitSetHandle::cancel`], even if something is ready; [`WaitSetError::Node`] if a node
    /// without control thread cannot be served; [`WaitSetError::System`] if an endpoint was put in another's place and there is no
    /// descriptor left for it; [`WaitSetError::Forked`] in a forked child.
    #[inline]
    pub fn wait(&mut self) -> Result<Ready, WaitSetError> {
        loop {
            // A wait without deadline ends with something that is ready.
            if let Some(ready) = self.core.wait_until(|| Deadline::NEVER)? {
                return Ok(ready);
            }
        }
    }

    /// As [`WaitSet::wait`], waiting no longer than `timeout`: `None` if nothing became ready.
    ///
    /// # Errors
    /// As [`WaitSet::wait`].
    #[inline]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Ready>, WaitSetError> {
        self.core.wait_until(|| Deadline::after(timeout))
    }

    /// What is ready now, if anything is. Never blocks.
    ///
    /// # Errors
    /// As [`WaitSet::wait`].
    #[inline]
    pub fn try_wait(&mut self) -> Result<Option<Ready>, WaitSetError> {
        self.core.try_wait()
    }

    /// As [`WaitSet::wait`], for a task: pending until something is ready. It works on any runtime, and with none, as a thread
    /// wakes it; the first call that has to wait starts that, and it ends with the set. Nodes without control thread are served
    /// by the task. Dropping the future before it is ready loses nothing.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut set = tidepost::WaitSet::new()?;
    /// let soon = set.after(std::time::Duration::from_millis(1))?;
    /// assert!(futures_lite::future::block_on(set.wait_async())? == soon);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`WaitSet::wait`]; [`WaitSetError::Thread`] or [`WaitSetError::System`] if there is no thread or descriptor left.
    pub async fn wait_async(&mut self) -> Result<Ready, WaitSetError> {
        poll_fn(|context| self.core.poll_task(context)).await
    }

    /// A descriptor for somebody else's poll or epoll loop: readable when something may be ready, and at first. A loop that it
    /// wakes calls [`WaitSet::try_wait`] until that finds nothing, and only then waits again; so does one that has used the set,
    /// or what is in it, in another way. It stays the same, must only be waited for, and is closed with the set.
    ///
    /// # Errors
    /// [`WaitSetError::Forked`] in a forked child.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, WaitSetError> {
        self.core.epoll().map(AsFd::as_fd)
    }

    /// A handle for other threads, to end the set's waits.
    pub fn handle(&self) -> WaitSetHandle {
        WaitSetHandle { shared: Arc::clone(&self.core.shared) }
    }
}

/// # Panics
/// If nothing is in the set under this key: see [`WaitSet::get`].
impl<E: 'static> Index<Key<E>> for WaitSet {
    type Output = E;

    fn index(&self, key: Key<E>) -> &E {
        self.get(key).expect("the key is of this set, and has not been removed")
    }
}

/// # Panics
/// If nothing is in the set under this key: see [`WaitSet::get_mut`].
impl<E: 'static> IndexMut<Key<E>> for WaitSet {
    #[inline]
    fn index_mut(&mut self, key: Key<E>) -> &mut E {
        self.get_mut(key).expect("the key is of this set, and has not been removed")
    }
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WaitSet").field("members", &self.len()).finish_non_exhaustive()
    }
}

/// A wait set seen from other threads, made by [`WaitSet::handle`].
#[derive(Clone)]
pub struct WaitSetHandle {
    shared: Arc<Shared>,
}

impl WaitSetHandle {
    /// Ends the set's waits with [`WaitSetError::Cancelled`]: the one that it may be in, and each that it would begin. What is in the
    /// set can still be used.
    pub fn cancel(&self) {
        self.shared.cancel();
    }
}

impl fmt::Debug for WaitSetHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WaitSetHandle").finish_non_exhaustive()
    }
}
