//! A bell: one small segment for each node that its trusted peers may write. It holds wake-up hints only; the
//! worst that a corrupted bell does is a lost or a needless wake-up.
//!
//! It is cut into lines. A line is either a [`SleeperLine`], on which one endpoint sleeps, or a sleepers line:
//! a bit for each endpoint that wants to be woken by the sending endpoint that the line belongs to.

/// Bytes of one segment of a bell.
pub const BELL_BYTES: usize = 1 << 18;
/// Bytes of a line.
pub const BELL_LINE_BYTES: usize = 128;
/// Lines of one segment of a bell; the first is the header.
pub const BELL_LINES: u32 = 2048;
/// Words of a sleepers line.
pub const SLEEPERS_WORDS: usize = 16;
/// Bits of a sleepers line; a publisher with more subscribers has more lines.
pub const SLEEPERS_MAX: u32 = 1024;

/// The bits of `armed` that say how its owner waits.
pub const ARMED_MODE_MASK: u64 = 0b11;
/// Where the generation starts in `armed`.
pub const ARMED_GENERATION_SHIFT: u32 = 2;
/// The owner is awake and needs no wake-up.
pub const MODE_AWAKE: u64 = 0;
/// The owner sleeps, or is about to, on `counter`.
pub const MODE_FUTEX: u64 = 1;
/// The owner sleeps on the eventfd that its node sent in the handshake.
pub const MODE_EVENT: u64 = 2;
/// The owner sleeps on an eventfd of its own, which it sent to whom it listens to.
pub const MODE_OWN_EVENT: u64 = 3;

/// The words on which one endpoint sleeps.
#[repr(C)]
pub struct SleeperLine {
    /// Raised by whoever wakes; the futex word.
    pub counter: u32,
    /// Zero.
    pub padding: u32,
    /// Generation and mode, written by the sleeper.
    pub armed: u64,
    /// Zero.
    pub reserved: [u64; 14],
}

const _: () = assert!(size_of::<SleeperLine>() == BELL_LINE_BYTES);
const _: () = assert!(std::mem::offset_of!(SleeperLine, armed) == 8);
const _: () = assert!(SLEEPERS_WORDS * 8 == BELL_LINE_BYTES);
const _: () = assert!(SLEEPERS_WORDS as u32 * 64 == SLEEPERS_MAX);
const _: () = assert!(BELL_LINES as usize * BELL_LINE_BYTES == BELL_BYTES);
