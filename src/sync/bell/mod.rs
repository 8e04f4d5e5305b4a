//! The bell: how a sleeper and whoever has news for it do not miss each other.
//!
//! | Word | Writer | Reader | Edge |
//! |---|---|---|---|
//! | `armed` = generation << 2 \| mode | the sleeper, `Relaxed`, a new generation for each sleep | who wakes, after a full fence | below |
//! | `counter` | who wakes, `Release` add | the sleeper, `Acquire`, before it arms; the kernel | a wake between look and wait changes the compared value |
//! | `sleepers` bits of a sender | each sleeper its own bit, `Relaxed` | the sender, `Relaxed`, after a full fence | below |
//!
//! The protocol is Dekker's, with what each side waits for in the middle:
//!
//! - sleeper: load `counter`; store `armed`; set its bits; **full fence**; look for news; wait while `counter` stands;
//! - sender: store the news; **full fence**; load the bits; for each bit load `armed`; raise `counter`; wake.
//!
//! (Where the kernel can, the sleeper's fence is a barrier on every processor, and the sender's only one for the
//! compiler: `Fencing`.)
//!
//! One of the two fences comes first. If the sleeper's does, the sender sees bit and generation and wakes; if the
//! sender's does, the sleeper sees the news. A sender wakes each generation once: later messages find the same
//! generation and cost no system call, and a sleeper that goes back to sleep has a new one.

#[cfg(not(loom))]
mod fencing;
#[cfg(not(loom))]
mod memory;

use super::door::{AtomicU32, AtomicU64, Ordering};
use crate::layout::bell::{
    ARMED_GENERATION_SHIFT, ARMED_MODE_MASK, MODE_AWAKE, MODE_EVENT, MODE_FUTEX, MODE_OWN_EVENT,
};
#[cfg(not(loom))]
pub(crate) use fencing::Fencing;
#[cfg(not(loom))]
pub(crate) use memory::{Bell, Line, PeerBell, PeerSleeper, PeerSleepers};

/// How a sleeper waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On the futex word of its line.
    Futex,
    /// On its node's eventfd.
    Event,
    /// On an eventfd of its own.
    OwnEvent,
}

/// The value of `counter` before a sleeper looked for news: it sleeps only while that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u32);

/// The two words on which one endpoint sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SleeperWords<'a> {
    pub(crate) counter: &'a AtomicU32,
    pub(crate) armed: &'a AtomicU64,
}

impl SleeperWords<'_> {
    /// Opens a new generation. The sleeper then sets its bits, fences, looks for news, and waits with the ticket.
    pub(crate) fn arm(self, mode: Mode) -> Ticket {
        // Acquire: pairs with the Release add of a waker of our own process, whose news we then see.
        let ticket = Ticket(self.counter.load(Ordering::Acquire));
        let generation = (self.armed.load(Ordering::Relaxed) >> ARMED_GENERATION_SHIFT) + 1;
        let mode = match mode {
            Mode::Futex => MODE_FUTEX,
            Mode::Event => MODE_EVENT,
            Mode::OwnEvent => MODE_OWN_EVENT,
        };
        self.armed.store(generation << ARMED_GENERATION_SHIFT | mode, Ordering::Relaxed);
        ticket
    }

    /// Says that the sleeper is awake again.
    pub(crate) fn disarm(self) {
        let generation = self.armed.load(Ordering::Relaxed) & !ARMED_MODE_MASK;
        self.armed.store(generation | MODE_AWAKE, Ordering::Relaxed);
    }

    /// Whether somebody has raised the counter since.
    pub(crate) fn is_rung(self, ticket: Ticket) -> bool {
        self.counter.load(Ordering::Acquire) != ticket.0
    }

    /// Raises the counter of a sleeper that has not been woken by us in this generation, which `woken`
    /// remembers; `Some` says how it has to be woken. After the news and a full fence.
    pub(crate) fn raise(self, woken: &mut u64) -> Option<Mode> {
        let armed = self.armed.load(Ordering::Relaxed);
        let mode = match armed & ARMED_MODE_MASK {
            MODE_FUTEX => Mode::Futex,
            MODE_EVENT => Mode::Event,
            MODE_OWN_EVENT => Mode::OwnEvent,
            _ => return None,
        };
        if armed == *woken {
            return None;
        }
        *woken = armed;
        self.counter.fetch_add(1, Ordering::Release);
        Some(mode)
    }
}

/// A sender's word of 64 sleepers bits.
pub(crate) fn set_bit(word: &AtomicU64, bit: u32) {
    word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
}

/// Takes a bit back: by its sleeper, or by the sender once the sleeper is gone.
pub(crate) fn clear_bit(word: &AtomicU64, bit: u32) {
    word.fetch_and(!(1 << (bit % 64)), Ordering::Relaxed);
}
