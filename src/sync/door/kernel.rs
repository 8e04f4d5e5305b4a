//! What the kernel does for those who sleep, in a model: futexes, and time.
//!
//! A sleeper compares and queues under one lock, which whoever wakes takes as well, as in the kernel; in the queue it stays until
//! it is woken, or wakes without a cause. One that nobody wakes is a deadlock, which loom reports. Time passes in two
//! ways only: a deadline that is not `NEVER` has passed at the first look, and where a model asks for
//! [slices](with_slices), every sleep ends as soon as another thread has run.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// Loom runs all threads of a model on the one that checks it.
    static SLICES_END: Cell<bool> = const { Cell::new(false) };
}

/// Sleeps of a bounded slice end in what this checks.
pub(crate) fn with_slices(check: impl FnOnce()) {
    SLICES_END.set(true);
    check();
    SLICES_END.set(false);
}

/// The end of a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    is_over: bool,
    is_slice: bool,
}

impl Deadline {
    pub(crate) const NEVER: Self = Self { is_over: false, is_slice: false };

    pub(crate) fn after(_: Duration) -> Self {
        Self { is_over: true, is_slice: false }
    }

    pub(crate) fn or_after(self, _: Duration) -> Self {
        Self { is_slice: true, ..self }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.is_over
    }
}

pub(crate) mod futex {
    use loom::sync::{Arc, Mutex, Notify};

    use super::{Deadline, SLICES_END};
    use crate::sync::door::{AtomicU32, AtomicU64, Ordering};

    loom::lazy_static! {
        /// Who sleeps on what, in the order in which they came.
        static ref QUEUE: Mutex<Vec<(usize, Arc<Notify>)>> = Mutex::new(Vec::new());
    }

    loom::thread_local! {
        /// What a thread sleeps on: it wakes without a cause once in its life.
        static SLEEPER: Arc<Notify> = Arc::new(Notify::new());
    }

    pub(crate) trait Word {
        fn low(&self) -> u32;
        fn address(&self) -> usize {
            std::ptr::from_ref(self).addr()
        }
    }

    impl Word for AtomicU32 {
        fn low(&self) -> u32 {
            self.load(Ordering::Acquire)
        }
    }

    impl Word for AtomicU64 {
        fn low(&self) -> u32 {
            self.load(Ordering::Acquire) as u32
        }
    }

    pub(crate) fn wait<W: Word>(word: &W, expected: u32, deadline: Deadline) {
        if deadline.is_over || deadline.is_slice && SLICES_END.get() {
            return loom::thread::yield_now();
        }
        let mut queue = QUEUE.lock().unwrap();
        if word.low() != expected {
            return;
        }
        let sleeper = SLEEPER.with(Arc::clone);
        queue.push((word.address(), Arc::clone(&sleeper)));
        drop(queue);
        sleeper.wait();
        QUEUE.lock().unwrap().retain(|(_, other)| !Arc::ptr_eq(other, &sleeper));
    }

    pub(crate) fn wake_many<W: Word>(word: &W, count: u32) {
        let mut queue = QUEUE.lock().unwrap();
        for _ in 0..count {
            let Some(first) = queue.iter().position(|(address, _)| *address == word.address()) else {
                return;
            };
            queue.remove(first).1.notify();
        }
    }

    pub(crate) fn wake<W: Word>(word: &W) {
        wake_many(word, u32::MAX);
    }
}
