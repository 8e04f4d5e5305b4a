//! Waiting for several descriptors at once, and the descriptors that end such a wait: an eventfd and a timer.
//!
//! Everything is level-triggered: what is not handled in one round is reported again in the next.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{self, Errno};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};

use super::clock::Deadline;

/// The most events that one wait returns.
pub(crate) const EVENTS_MAX: usize = 32;

/// What a descriptor is watched for. Errors and hang-ups are seen in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interest {
    /// Something to read, or a hang-up.
    Read,
    /// Room to write.
    Write,
    /// Either.
    ReadWrite,
}

/// A set of watched descriptors, each under a token.
#[derive(Debug)]
pub(crate) struct Epoll {
    set: OwnedFd,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { set: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches `source` until it is removed.
    pub(crate) fn add(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        epoll::add(&self.set, source, EventData::new_u64(token), interest.flags())
    }

    /// Changes what `source` is watched for.
    pub(crate) fn modify(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        epoll::modify(&self.set, source, EventData::new_u64(token), interest.flags())
    }

    /// Watches `source` from the next [`Epoll::watch_once`] on.
    pub(crate) fn add_dormant(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        epoll::add(&self.set, source, EventData::new_u64(token), EventFlags::ONESHOT)
    }

    /// Watches `source`, which is in the set, until something can be read; if that is so already, it is seen at once.
    pub(crate) fn watch_once(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let flags = Interest::Read.flags() | EventFlags::ONESHOT;
        epoll::modify(&self.set, source, EventData::new_u64(token), flags)
    }

    /// Watches `source` no more. Closing is not enough: a peer may hold another descriptor of the same file.
    pub(crate) fn remove(&self, source: impl AsFd) {
        // It fails only for a descriptor that is not in the set, which is what was wanted.
        let _ = epoll::delete(&self.set, source);
    }

    /// As [`Epoll::remove`], of a descriptor of which only its former number is known. If that is another's now, which is in
    /// the set, that one is removed.
    pub(crate) fn remove_number(&self, number: RawFd) {
        if number >= 0 {
            // SAFETY: the kernel looks the number up, whatever it stands for by now, and refuses it if that is not in the set.
            self.remove(unsafe { BorrowedFd::borrow_raw(number) });
        }
    }

    /// Waits until something is ready or the deadline has passed, and fills `tokens` with what is ready.
    pub(crate) fn wait<'a>(
        &self,
        tokens: &'a mut [u64; EVENTS_MAX],
        deadline: Deadline,
    ) -> io::Result<&'a [u64]> {
        let mut events = [const { std::mem::MaybeUninit::<Event>::uninit() }; EVENTS_MAX];
        loop {
            let timeout = deadline.remaining().map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            let ready = match epoll::wait(&self.set, &mut events, timeout.as_ref()) {
                Ok((ready, _)) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            for (token, event) in tokens.iter_mut().zip(&*ready) {
                *token = event.data.u64();
            }
            return Ok(&tokens[..ready.len()]);
        }
    }
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::Write => EventFlags::OUT,
            Self::ReadWrite => EventFlags::IN | EventFlags::OUT,
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

/// An eventfd: any process that holds it can make it readable.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    eventfd: Arc<OwnedFd>,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { eventfd: Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?) })
    }

    /// The descriptor that others signal.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.eventfd
    }

    pub(crate) fn signal(&self) {
        super::eventfd::signal(&self.eventfd);
    }

    /// Makes it unreadable until the next signal.
    pub(crate) fn drain(&self) {
        drain(&self.eventfd);
    }
}

/// A timer that is readable once its instant has come.
#[derive(Debug)]
pub(crate) struct Timer {
    timer: OwnedFd,
    set_to: Option<Instant>,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { timer, set_to: None })
    }

    /// Sets the timer to `instant`, or stops it. Costs a system call only if that is a change.
    pub(crate) fn set(&mut self, instant: Option<Instant>) -> io::Result<()> {
        if self.set_to == instant {
            return Ok(());
        }
        const STOPPED: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = instant.map_or(STOPPED, |instant| {
            let left = instant.saturating_duration_since(Instant::now());
            let tv_sec = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            // A value of zero would stop the timer instead of firing it.
            Timespec { tv_sec, tv_nsec: i64::from(left.subsec_nanos()).max(1) }
        });
        let setting = Itimerspec { it_interval: STOPPED, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        self.set_to = instant;
        Ok(())
    }

    /// Takes note that it fired: it is unreadable until it is set again.
    pub(crate) fn acknowledge(&mut self) {
        drain(&self.timer);
        self.set_to = None;
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

fn drain(counter: &OwnedFd) {
    // Whether there was anything to read makes no difference afterwards.
    let _ = io::read(counter, &mut [0; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ready(epoll: &Epoll, wait: Duration) -> Vec<u64> {
        let mut tokens = [0; EVENTS_MAX];
        epoll.wait(&mut tokens, Deadline::after(wait)).expect("waiting works").to_vec()
    }

    #[test]
    fn a_signal_is_reported_until_it_is_drained() {
        let (epoll, wake) = (Epoll::new().expect("a set"), Wake::new().expect("an eventfd"));
        epoll.add(wake.descriptor(), 7, Interest::Read).expect("it can be watched");
        assert!(ready(&epoll, Duration::ZERO).is_empty());
        wake.signal();
        assert_eq!(ready(&epoll, Duration::ZERO), [7]);
        assert_eq!(ready(&epoll, Duration::ZERO), [7]);
        wake.drain();
        assert!(ready(&epoll, Duration::ZERO).is_empty());
    }

    #[test]
    fn what_is_dormant_is_seen_once_each_time_it_is_watched() {
        let (epoll, wake) = (Epoll::new().expect("a set"), Wake::new().expect("an eventfd"));
        epoll.add_dormant(wake.descriptor(), 5).expect("it can be watched");
        wake.signal();
        assert!(ready(&epoll, Duration::ZERO).is_empty());
        for _ in 0..2 {
            epoll.watch_once(wake.descriptor(), 5).expect("it is in the set");
            assert_eq!(ready(&epoll, Duration::ZERO), [5]);
            assert!(ready(&epoll, Duration::ZERO).is_empty());
        }
    }

    #[test]
    fn a_timer_fires_once_and_can_be_stopped() {
        let (epoll, mut timer) = (Epoll::new().expect("a set"), Timer::new().expect("a timer"));
        epoll.add(&timer, 9, Interest::Read).expect("it can be watched");
        timer.set(Some(Instant::now())).expect("it can be set");
        assert_eq!(ready(&epoll, Duration::from_secs(1)), [9]);
        timer.acknowledge();
        timer.set(Some(Instant::now() + Duration::from_millis(5))).expect("it can be set");
        timer.set(None).expect("it can be stopped");
        assert!(ready(&epoll, Duration::from_millis(20)).is_empty());
    }
}
