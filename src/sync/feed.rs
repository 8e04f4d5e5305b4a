//! A list that one thread adds to and another follows, looking only at a flag while nothing is new: how a subscriber
//! learns of further pool segments.

use super::door::{AtomicBool, Mutex, MutexGuard, Ordering};

/// The list, and whether it has grown since the follower looked.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    items: Mutex<Vec<T>>,
    has_grown: AtomicBool,
}

impl<T: Clone> Feed<T> {
    pub(crate) fn new() -> Self {
        Self { items: Mutex::new(Vec::new()), has_grown: AtomicBool::new(false) }
    }

    fn items(&self) -> MutexGuard<'_, Vec<T>> {
        // A panic elsewhere does not leave a list of whole items half changed.
        self.items.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Adds the `index`-th item; one that is known is passed over. `false` if one was left out.
    pub(crate) fn add(&self, index: usize, item: T) -> bool {
        let mut items = self.items();
        let next = items.len();
        if index == next {
            items.push(item);
            // Release: pairs with the follower's Acquire, though it takes the lock as well before it reads the list.
            self.has_grown.store(true, Ordering::Release);
        }
        index <= next
    }

    /// The whole list, for somebody who does not follow it.
    pub(crate) fn list(&self, all: &mut Vec<T>) {
        all.clone_from(&self.items());
    }

    /// Brings the follower's own list up to date.
    pub(crate) fn follow(&self, known: &mut Vec<T>) {
        if self.has_grown.load(Ordering::Acquire) {
            self.has_grown.store(false, Ordering::Relaxed);
            known.extend_from_slice(&self.items()[known.len()..]);
        }
    }
}
