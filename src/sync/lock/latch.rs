//! Two buffers behind one word: what is below a [`SeqLock`](super::SeqLock).

use crate::sync::door::{AtomicU64, Ordering, fence};

/// How often a value was written: the newest is in the buffer of the count's last bit.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Latch(AtomicU64);

impl Latch {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// How often it was written.
    pub(super) fn version(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Has a buffer copied, again if it was written over meanwhile; the version that was copied. `copy` may race with a writer,
    /// and is to treat what it copies as bytes.
    #[inline]
    pub(super) fn read(&self, mut copy: impl FnMut(usize)) -> u64 {
        loop {
            let version = self.version();
            copy((version & 1) as usize);
            fence(Ordering::Acquire);
            // As long as it is the newest, nobody has begun to write over it.
            if self.0.load(Ordering::Relaxed) == version {
                return version;
            }
            std::hint::spin_loop();
        }
    }

    /// Has the older buffer filled, and makes it the newest. Writers take turns; what `fill` writes may be read meanwhile, by
    /// some who will not use it.
    #[inline]
    pub(super) fn write(&self, fill: impl FnOnce(usize)) {
        let next = self.0.load(Ordering::Relaxed).wrapping_add(1);
        // A reader that sees a byte of what follows sees the version that came before it, too: it was still reading the one
        // before that.
        fence(Ordering::Release);
        fill((next & 1) as usize);
        self.0.store(next, Ordering::Release);
    }
}
