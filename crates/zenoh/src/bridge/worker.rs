//! A port's thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::port::PortError;

/// Whether a thread is to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A thread that works until it is stopped. Dropping it stops it and waits for it.
pub(super) struct Worker {
    stop: Stop,
    /// Ends whatever wait the thread may be in.
    wake: Box<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that does `work` until it is done or told to stop; `wake` ends its waits.
    pub(super) fn start(
        wake: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce(&Stop) + Send + 'static,
    ) -> Result<Self, PortError> {
        let stop = Stop::default();
        let seen = stop.clone();
        let thread =
            std::thread::Builder::new().name("tidepost-port".to_owned()).spawn(move || work(&seen))?;
        Ok(Self { stop, wake: Box::new(wake), thread: Some(thread) })
    }

    /// Tells it to stop.
    pub(super) fn stop(&self) {
        self.stop.0.store(true, Ordering::Relaxed);
        (self.wake)();
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // It panics only on an error of ours, which has been reported by then.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}
