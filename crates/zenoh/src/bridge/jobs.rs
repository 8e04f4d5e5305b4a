//! Questions that have come in, and the threads that answer them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::call;
use super::port::PortError;
use super::worker::{Stop, Worker};
use crate::link::{OnQuestion, Question};
use crate::room::{Room, Taken, Weighed};

/// How long a thread without work waits before it looks whether it is to end.
const SLICE: Duration = Duration::from_millis(500);

/// A question that waits for a thread.
pub(super) struct Job {
    pub(super) question: Box<dyn Question>,
    /// When it came.
    pub(super) since: Instant,
}

impl Weighed for Job {
    fn bytes(&self) -> usize {
        self.question.frame().bytes()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Job").field("question", &self.question).finish_non_exhaustive()
    }
}

/// Threads that answer questions: as many as are needed, up to a limit.
#[derive(Debug)]
pub(super) struct Crew {
    room: Arc<Room<Job>>,
    idle: Arc<AtomicUsize>,
    workers: Vec<Worker>,
    most: usize,
}

impl Crew {
    /// A crew of at most `most` threads, for whom at most `bytes` of questions wait.
    pub(super) fn new(most: usize, bytes: usize) -> Self {
        Self { room: Room::new(bytes), idle: Arc::default(), workers: Vec::new(), most }
    }

    /// What puts questions where the crew takes them.
    pub(super) fn taker(&self) -> OnQuestion {
        let room = Arc::clone(&self.room);
        Box::new(move |question| {
            if let Err(job) = room.offer(Job { question, since: Instant::now() }) {
                job.question.fail(call::error("as many wait here as may"));
            }
        })
    }

    /// Adds a thread if all have work to do, which does `work` with each question.
    pub(super) fn grow<W: FnMut(Job, &Stop)>(
        &mut self,
        begin: impl Fn() -> W + Send + 'static,
        cancel: impl Fn() + Send + Sync + 'static,
    ) -> Result<(), PortError> {
        if self.workers.len() >= self.most || self.idle.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let (room, idle) = (Arc::clone(&self.room), Arc::clone(&self.idle));
        idle.fetch_add(1, Ordering::Relaxed);
        let wake = {
            let room = Arc::clone(&room);
            move || {
                room.close();
                cancel();
            }
        };
        self.workers.push(Worker::start(wake, move |stop| {
            let mut work = begin();
            loop {
                match room.take(SLICE) {
                    Taken::One(job) => {
                        idle.fetch_sub(1, Ordering::Relaxed);
                        work(job, stop);
                        idle.fetch_add(1, Ordering::Relaxed);
                    }
                    Taken::Nothing if stop.is_set() => return,
                    Taken::Nothing => {}
                    Taken::Closed => return,
                }
            }
        })?);
        Ok(())
    }

    /// Tells the threads to end.
    pub(super) fn stop(&self) {
        self.room.close();
        self.workers.iter().for_each(Worker::stop);
    }
}
