//! Noticing a fork: a forked child has its parent's memory, and must leave alone what the parent still uses.
//!
//! A word in a page that the kernel zeroes in each child (`MADV_WIPEONFORK`) tells one process from the next, at the
//! cost of a load. The page is made once and stays.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

const PAGE_BYTES: usize = 4096;

/// A process, as opposed to those forked from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    word: &'static AtomicU64,
    number: u64,
}

impl Process {
    /// The process that calls.
    pub(crate) fn current() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        /// Where the kernel gives us no page, a child is not told from its parent.
        static ALWAYS_THE_SAME: AtomicU64 = AtomicU64::new(0);
        let Some(word) = word() else { return Self { word: &ALWAYS_THE_SAME, number: 0 } };
        let next = COUNT.fetch_add(1, Ordering::Relaxed);
        let number = match word.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(current) => current,
        };
        Self { word, number }
    }

    /// The number of the process among those forked one from the other, never zero but where they are not told apart.
    pub(crate) fn number(self) -> u64 {
        self.number
    }

    /// Whether the process that calls is another one, forked from this one.
    #[inline]
    pub(crate) fn is_parent(self) -> bool {
        self.word.load(Ordering::Relaxed) != self.number
    }
}

/// A second word of that page, zero in each child: for caches that a fork has to void. Where the kernel gives us no page, a
/// fork voids nothing.
pub(crate) fn epoch() -> &'static AtomicU64 {
    static NOT_WIPED: AtomicU64 = AtomicU64::new(0);
    words().map_or(&NOT_WIPED, |[_, epoch]| epoch)
}

/// The word that tells processes apart, if the kernel gives us a page for it.
fn word() -> Option<&'static AtomicU64> {
    words().map(|[word, _]| word)
}

fn words() -> Option<&'static [AtomicU64; 2]> {
    static WORDS: OnceLock<Option<&'static [AtomicU64; 2]>> = OnceLock::new();
    *WORDS.get_or_init(|| {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a null hint lets the kernel choose fresh addresses, so no memory in use is replaced.
        let page = unsafe { mm::mmap_anonymous(ptr::null_mut(), PAGE_BYTES, protection, flags) }.ok()?;
        // SAFETY: exactly the page just mapped, on which the advice has no effect in this process.
        unsafe { mm::madvise(page, PAGE_BYTES, Advice::LinuxWipeOnFork) }.ok()?;
        // SAFETY: aligned, zeroed, mapped for good, and touched with atomics only.
        unsafe { page.cast::<[AtomicU64; 2]>().as_ref() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself() {
        let process = Process::current();
        assert_eq!(process.number, Process::current().number);
        assert!(!process.is_parent());
    }
}
