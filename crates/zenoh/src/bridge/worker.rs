//! The threads of ports.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::census::Local;
use super::port::{Counters, Port, PortError};
use crate::link::Kept;

/// How long a wait may last before it is looked whether it is to end.
pub(super) const SLICE: Duration = Duration::from_millis(200);

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

/// A port whose thread runs as long as the port is there.
#[derive(Debug)]
pub(super) struct Running {
    worker: Worker,
    counters: Arc<Counters>,
    /// What is declared meanwhile.
    _kept: Vec<Kept>,
}

impl Running {
    pub(super) fn new(worker: Worker, counters: &Arc<Counters>, kept: Vec<Kept>) -> Self {
        Self { worker, counters: Arc::clone(counters), _kept: kept }
    }
}

impl Port for Running {
    fn move_on(&mut self, _local: &Local) -> Result<(), PortError> {
        if self.worker.is_over() { Err("its thread has ended".into()) } else { Ok(()) }
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn stop(&mut self) {
        self.worker.stop();
    }
}

/// A thread that runs while somebody wants its work, and a while after.
#[derive(Debug)]
pub(super) struct OnDemand {
    worker: Option<Worker>,
    wanted_at: Instant,
    linger: Duration,
}

impl OnDemand {
    /// A thread that runs for `linger` after nobody wants it any more.
    pub(super) fn new(linger: Duration) -> Self {
        Self { worker: None, wanted_at: Instant::now(), linger }
    }

    /// Starts or ends it.
    pub(super) fn tend(
        &mut self,
        is_wanted: bool,
        start: impl FnOnce() -> Result<Worker, PortError>,
    ) -> Result<(), PortError> {
        if is_wanted {
            self.wanted_at = Instant::now();
        }
        let is_over = self.worker.as_ref().is_some_and(Worker::is_over);
        if is_over || !is_wanted && self.wanted_at.elapsed() > self.linger {
            self.worker = None;
        } else if is_wanted && self.worker.is_none() {
            self.worker = Some(start()?);
        }
        Ok(())
    }

    /// Tells it to stop.
    pub(super) fn stop(&self) {
        if let Some(worker) = &self.worker {
            worker.stop();
        }
    }
}
