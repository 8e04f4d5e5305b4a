//! What comes to a command that takes it as it comes: when to stop, and what to tell of those who send.

use std::time::{Duration, Instant};

use tidepost::Event;

use crate::notices::tell;
use crate::{Failure, text};

/// How often a wait looks who has come, gone, or been turned away.
const LOOK: Duration = Duration::from_millis(100);

/// How much a command takes.
#[derive(Debug, clap::Args)]
pub struct Limits {
    /// Stop after so many.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop, with an error, when nothing comes for so many seconds.
    #[arg(long, value_name = "S", value_parser = text::parse_seconds)]
    timeout: Option<Duration>,
}

/// An endpoint, and what is done with what it receives.
pub trait Source {
    /// What those at the other end are called who cannot be connected.
    const SENDER: &'static str;

    /// Takes what is there, or comes within this time, and writes it; `false` if nothing came.
    fn take(&mut self, wait: Duration) -> Result<bool, Failure>;
    /// The next event that has not been asked for.
    fn next_event(&mut self) -> Option<Event>;
    /// How many send to it.
    fn senders(&self) -> usize;
}

/// A source, and when it has no more.
pub struct Incoming<S> {
    pub source: S,
    /// Whether the end has come when the last of those who send has gone.
    pub ends_with_senders: bool,
    has_been_served: bool,
}

impl<S: Source> Incoming<S> {
    pub fn new(source: S) -> Self {
        Self { source, ends_with_senders: false, has_been_served: false }
    }

    /// Takes as much as the command is to take; if nothing comes in time, that is said in these words.
    pub fn take_all(&mut self, limits: &Limits, nothing: &str) -> Result<(), Failure> {
        for _ in 0..limits.count.unwrap_or(u64::MAX) {
            if !self.next(limits.timeout, nothing)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes what comes next; `false` at the end.
    pub fn next(&mut self, timeout: Option<Duration>, nothing: &str) -> Result<bool, Failure> {
        if self.take(Duration::ZERO)? {
            return Ok(true);
        }
        let start = Instant::now();
        loop {
            // Looked at before the wait: what the last of them sent is there before it counts as gone.
            let senders = self.senders();
            let has_ended = self.ends_with_senders && self.has_been_served && senders == 0;
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            let wait = if has_ended { Duration::ZERO } else { left.unwrap_or(LOOK).min(LOOK) };
            if self.take(wait)? {
                return Ok(true);
            }
            if has_ended {
                return Ok(false);
            }
            if left.is_some_and(|left| left.is_zero()) {
                self.senders();
                let seconds = timeout.unwrap_or_default().as_secs_f64();
                return Err(format!("{nothing} for {seconds} s").into());
            }
        }
    }

    fn take(&mut self, wait: Duration) -> Result<bool, Failure> {
        let has_come = self.source.take(wait)?;
        // Who sent it may have left by now.
        self.has_been_served |= has_come;
        Ok(has_come)
    }

    /// How many send to it. Tells of those who would, and cannot be connected.
    fn senders(&mut self) -> usize {
        // One that came and left since the last look, without a message, is known only from what happened meanwhile. Counted
        // after that: who joins in between is there, and not taken for one that has left.
        while let Some(event) = self.source.next_event() {
            match event {
                Event::Joined(_) | Event::Left(_) => self.has_been_served = true,
                Event::Refused(refused) => tell(&format!("a {} is not heard: {refused}", S::SENDER)),
                _ => {}
            }
        }
        let count = self.source.senders();
        self.has_been_served |= count > 0;
        count
    }
}
