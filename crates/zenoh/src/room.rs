//! A queue of frames between two threads, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::link::{Frame, Waited};

/// What each frame takes besides its bytes.
const FRAME_BYTES: usize = 160;

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    bytes: usize,
    dropped: u64,
    is_closed: bool,
}

/// What lies in the queue.
pub(crate) trait Weighed {
    /// Bytes that it takes.
    fn bytes(&self) -> usize;
}

impl Weighed for Frame {
    fn bytes(&self) -> usize {
        FRAME_BYTES + self.payload.len() + self.encoding.len() + self.attachment.len()
    }
}

/// The queue. Both ends have it.
#[derive(Debug)]
pub(crate) struct Room<T> {
    state: Mutex<State<T>>,
    news: Condvar,
    bytes_max: usize,
}

/// What came of taking one out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    One(T),
    Nothing,
    Closed,
}

impl<T: Weighed> Room<T> {
    /// A queue of so many bytes. One frame finds room in any.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        let state = State { queue: VecDeque::new(), bytes: 0, dropped: 0, is_closed: false };
        Arc::new(Self { state: Mutex::new(state), news: Condvar::new(), bytes_max })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one in if there is room for it: whether there was. `None` if the queue is closed.
    pub(crate) fn put(&self, one: T) -> Option<bool> {
        let state = self.state();
        if state.is_closed {
            return None;
        }
        if state.bytes + one.bytes() > self.bytes_max && !state.queue.is_empty() {
            return Some(false);
        }
        self.add(state, one);
        Some(true)
    }

    /// As [`Room::put`], and gives it back if there is no room or the queue is closed.
    pub(crate) fn offer(&self, one: T) -> Result<(), T> {
        let state = self.state();
        if state.is_closed || state.bytes + one.bytes() > self.bytes_max && !state.queue.is_empty() {
            return Err(one);
        }
        self.add(state, one);
        Ok(())
    }

    /// Puts one in, and drops the oldest if there is no room.
    pub(crate) fn push(&self, one: T) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        while state.bytes + one.bytes() > self.bytes_max
            && let Some(oldest) = state.queue.pop_front()
        {
            state.bytes -= oldest.bytes();
            state.dropped += 1;
        }
        self.add(state, one);
    }

    fn add(&self, mut state: MutexGuard<'_, State<T>>, one: T) {
        state.bytes += one.bytes();
        state.queue.push_back(one);
        drop(state);
        self.news.notify_one();
    }

    /// Takes the oldest, waiting for one no longer than `timeout`. What was there when it was closed is still taken.
    pub(crate) fn take(&self, timeout: Duration) -> Taken<T> {
        let (mut state, waited) = self.wait_until(Instant::now() + timeout);
        match waited {
            Waited::Closed => Taken::Closed,
            Waited::Ready | Waited::Nothing => Self::pop(&mut state).map_or(Taken::Nothing, Taken::One),
        }
    }

    /// Waits until there is one, no longer than `timeout`. What was there when it was closed is still there.
    pub(crate) fn wait(&self, timeout: Duration) -> Waited {
        self.wait_until(Instant::now() + timeout).1
    }

    /// Takes the oldest if there is one.
    pub(crate) fn try_take(&self) -> Option<T> {
        Self::pop(&mut self.state())
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().queue.is_empty()
    }

    /// Whether nothing waits, and something may be put in.
    pub(crate) fn is_open_and_empty(&self) -> bool {
        let state = self.state();
        state.queue.is_empty() && !state.is_closed
    }

    fn pop(state: &mut State<T>) -> Option<T> {
        let one = state.queue.pop_front()?;
        state.bytes -= one.bytes();
        Some(one)
    }

    fn wait_until(&self, deadline: Instant) -> (MutexGuard<'_, State<T>>, Waited) {
        let mut state = self.state();
        loop {
            if !state.queue.is_empty() {
                return (state, Waited::Ready);
            }
            if state.is_closed {
                return (state, Waited::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (state, Waited::Nothing);
            }
            state = self.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many were dropped since it was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.state().dropped)
    }

    /// Nothing is put in any more, and nobody waits.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn frame(bytes: usize) -> Frame {
        Frame { payload: vec![7; bytes], ..Frame::default() }
    }

    #[test]
    fn it_is_bounded_and_one_always_fits() {
        let room = Room::new(3 * FRAME_BYTES);
        assert_eq!(room.put(frame(10 * FRAME_BYTES)), Some(true));
        assert_eq!(room.put(frame(0)), Some(false));
        assert!(matches!(room.take(SOON), Taken::One(_)));
        assert_eq!([(); 4].map(|()| room.put(frame(0))), [Some(true), Some(true), Some(true), Some(false)]);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let room = Room::new(2 * FRAME_BYTES + 10);
        (0..5).for_each(|length| room.push(frame(length)));
        assert_eq!((room.take_dropped(), room.take_dropped()), (3, 0));
        assert_eq!([room.take(SOON), room.take(SOON)], [Taken::One(frame(3)), Taken::One(frame(4))]);
        assert_eq!(room.take(SOON), Taken::Nothing);
    }

    #[test]
    fn what_is_closed_is_emptied_and_wakes_who_waits() {
        let room = Room::new(1000);
        room.push(frame(1));
        room.close();
        assert_eq!((room.put(frame(0)), room.take(SOON)), (None, Taken::One(frame(1))));
        assert_eq!(room.take(Duration::from_secs(60)), Taken::Closed);
        let room = Room::<Frame>::new(1000);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| room.take(Duration::from_secs(60)));
            room.close();
            assert_eq!(waiting.join().expect("it does not panic"), Taken::Closed);
        });
    }
}
