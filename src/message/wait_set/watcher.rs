//! Waking a task when a wait set's descriptor becomes readable, on any runtime or none: a thread that sleeps in an epoll set
//! of its own, in which the wait set's is watched once for each time that a task goes to sleep.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;

use rustix::io;

use super::error::{WaitSetError, unable};
use crate::os::clock::Deadline;
use crate::os::epoll::{EVENTS_MAX, Epoll, Interest, Wake};
use crate::os::fork::Process;

/// The token of the wait set.
const SET: u64 = 0;
/// The token of the eventfd that ends the thread.
const STOP: u64 = 1;

/// Wakes tasks until it is dropped.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    process: Process,
}

struct Shared {
    epoll: Epoll,
    set: Arc<Epoll>,
    stop: Wake,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waker: Option<Waker>,
    /// The thread calls a waker, which may do anything.
    is_waking: bool,
    is_stopping: bool,
}

impl Watcher {
    /// Starts the thread that watches `set`.
    pub(super) fn start(set: &Arc<Epoll>) -> Result<Self, WaitSetError> {
        let shared = Shared::new(Arc::clone(set)).map_err(unable("make an epoll set for tasks"))?;
        let shared = Arc::new(shared);
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("tidepost-waits".to_owned());
        let thread = thread.spawn(move || served.serve());
        let thread = thread.map_err(|error| WaitSetError::Thread { reason: error.to_string() })?;
        Ok(Self { shared, thread: Some(thread), process: Process::current() })
    }

    /// Has the task woken once the set's descriptor is readable; if it is already, at once.
    pub(super) fn wake_when_readable(&self, waker: &Waker) -> io::Result<()> {
        // What the former waker's end sets off is not to happen under the lock.
        let former = self.shared.state().waker.replace(waker.clone());
        drop(former);
        self.shared.epoll.watch_once(&*self.shared.set, SET)
    }
}

impl Shared {
    fn new(set: Arc<Epoll>) -> io::Result<Self> {
        let (epoll, stop) = (Epoll::new()?, Wake::new()?);
        epoll.add_dormant(&*set, SET)?;
        epoll.add(stop.descriptor(), STOP, Interest::Read)?;
        Ok(Self { epoll, set, stop, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut tokens = [0; EVENTS_MAX];
        // An epoll set that cannot be waited for is broken, which nothing here can mend.
        while self.epoll.wait(&mut tokens, Deadline::NEVER).is_ok() {
            let mut state = self.state();
            if state.is_stopping {
                return;
            }
            let Some(waker) = state.waker.take() else { continue };
            state.is_waking = true;
            drop(state);
            waker.wake();
            self.state().is_waking = false;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.process.is_parent() {
            // The thread is the parent's.
            return std::mem::forget(thread);
        }
        let mut state = self.shared.state();
        state.is_stopping = true;
        let is_waking = state.is_waking;
        drop(state);
        self.shared.stop.signal();
        // A waker may wait for us, or be who drops us: its thread ends by itself when it comes back.
        if !is_waking {
            drop(thread.join());
        }
    }
}
