//! The threads of ports.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
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
    pub(super) fn set(&self) {
        // Either this is seen by whoever is about to rest, or that is seen by whoever wakes it after this.
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How long threads are waited for when they are to end. The link may hold them up: then they end when it lets them go.
const HOLD_UP: Duration = Duration::from_millis(300);

/// Threads that work until they are stopped. Dropping it stops them and waits for them, unless the link holds them up.
pub(super) struct Worker {
    stop: Stop,
    /// Ends whatever wait the threads may be in.
    wake: Box<dyn Fn() + Send + Sync>,
    threads: Vec<JoinHandle<()>>,
    stopped_at: OnceLock<Instant>,
}

impl Worker {
    /// Starts a thread that does `work` until it is done or told to stop; `wake` ends its waits.
    pub(super) fn start(
        wake: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce(&Stop) + Send + 'static,
    ) -> Result<Self, PortError> {
        let stop = Stop::default();
        let seen = stop.clone();
        let threads = vec![start_thread(move || work(&seen))?];
        Ok(Self { stop, wake: Box::new(wake), threads, stopped_at: OnceLock::new() })
    }

    /// Starts two threads that do `work`, each with a number of its own.
    pub(super) fn start_two(
        wake: impl Fn() + Send + Sync + 'static,
        work: impl Fn(usize, &Stop) + Send + Sync + 'static,
    ) -> Result<Self, PortError> {
        let (stop, work) = (Stop::default(), Arc::new(work));
        let mut worker = Self {
            stop: stop.clone(),
            wake: Box::new(wake),
            threads: Vec::new(),
            stopped_at: OnceLock::new(),
        };
        for which in 0..2 {
            let (work, seen) = (Arc::clone(&work), stop.clone());
            worker.threads.push(start_thread(move || work(which, &seen))?);
        }
        Ok(worker)
    }

    /// Tells them to stop.
    pub(super) fn stop(&self) {
        self.stopped_at.get_or_init(Instant::now);
        self.stop.set();
        (self.wake)();
    }

    /// Whether all have ended.
    pub(super) fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

fn start_thread(work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("tidepost-port".to_owned()).spawn(work)
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        let since = *self.stopped_at.get_or_init(Instant::now);
        while !self.is_over() && since.elapsed() < HOLD_UP {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.threads.retain(JoinHandle::is_finished);
        for thread in self.threads.drain(..) {
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
    _kept: Kept,
}

impl Running {
    pub(super) fn new(worker: Worker, counters: &Arc<Counters>, kept: Kept) -> Self {
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

    /// Whether it runs.
    pub(super) fn is_running(&self) -> bool {
        self.worker.is_some()
    }

    /// Ends it, whoever wants it.
    pub(super) fn end(&mut self) {
        self.worker = None;
    }

    /// Tells it to stop.
    pub(super) fn stop(&self) {
        if let Some(worker) = &self.worker {
            worker.stop();
        }
    }
}
