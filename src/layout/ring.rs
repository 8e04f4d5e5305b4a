//! A ring segment: the header, the `blocked` word with the `terms` on a line of their own, the `unassigned` word on
//! another, and the slots from the second page on.
//!
//! A slot starts with its word: `lap << 16 | kind << 14 | bare << 12 | length`. Laps count from 1, so that zeroed memory is
//! no message; 48 bits of them do not wrap in a lifetime.

/// Bytes from the start of the segment to the `blocked` word.
pub const BLOCKED_OFFSET: usize = 128;
/// Bytes from the start of the segment to the word of [`TERMS_FENCED`] and its like. Lanes of queues have one.
pub const TERMS_OFFSET: usize = 136;
/// Bytes from the start of the segment to the number of messages that their sender has for no lane yet.
pub const UNASSIGNED_OFFSET: usize = 256;
/// The sender has every processor fence before it sleeps, so that the reader need not after an acknowledgement.
pub const TERMS_FENCED: u64 = 1;
/// What the reader has not acknowledged has been given to others.
pub const TERMS_TAKEN_BACK: u64 = 2;
/// The sender waits until its message is taken, and may withdraw it before that.
pub const TERMS_RENDEZVOUS: u64 = 4;
/// Bytes from the start of the segment to the first slot.
pub const SLOTS_OFFSET: usize = 4096;
/// Slots start at multiples of this many bytes, and strides are multiples of it.
pub const STRIDE_ALIGN: usize = 64;
/// The fewest slots of a ring.
pub const SLOTS_MIN: usize = 8;
/// The most slots of a ring.
pub const SLOTS_MAX: usize = 8192;
/// The bytes that all slots together aim at, when the program does not choose a depth.
pub const RING_BYTES_TARGET: usize = 1 << 20;
/// Slots of a ring whose messages all lie in the pool, when the program does not choose a depth.
pub const POOLED_SLOTS: usize = 64;
/// The longest stride in bytes.
pub const STRIDE_MAX: usize = BODY_PAYLOAD_OFFSET + BODY_BYTES_MAX;

/// Where the lap starts in a slot word.
pub const LAP_SHIFT: u32 = 16;
/// Where the kind starts in a slot word.
pub const KIND_SHIFT: u32 = 14;
/// The bits of the kind, once shifted down.
pub const KIND_MASK: u64 = 0b11;
/// The bits of the length.
pub const LENGTH_MASK: u64 = 0xfff;
/// The payload has nothing before it, although others of its stream have a word.
pub const SLOT_BARE: u64 = 1 << 12;
/// Set in the word of a message that somebody may have had before.
pub const SLOT_AGAIN: u64 = 1 << 13;
/// There is no message to read: it is being written, or has been withdrawn, as the length says.
pub const SLOT_UNREADABLE: u64 = 0;
/// The length of an unreadable slot whose message is being written.
pub const LENGTH_WRITING: u64 = 0;
/// The length of an unreadable slot whose message has been withdrawn.
pub const LENGTH_WITHDRAWN: u64 = 1;
/// The length of an unreadable slot whose message its sender is about to withdraw, unless somebody has taken it.
pub const LENGTH_WITHDRAWING: u64 = 2;
/// The payload lies in the slot; its length is in the slot word.
pub const SLOT_INLINE: u64 = 1;
/// The payload lies in the slot behind a [`SlotHeader`], which has its length.
pub const SLOT_BODY: u64 = 2;
/// The payload lies in a pool; the [`SlotHeader`] says where.
pub const SLOT_POOLED: u64 = 3;

/// The longest inline payload in bytes. Holding a sample copies it.
pub const INLINE_BYTES_MAX: usize = 1024;
/// The longest payload in bytes that a ring carries in its slots.
pub const BODY_BYTES_MAX: usize = 65536;
/// Bytes from a slot word to a payload that is longer than [`INLINE_BYTES_MAX`].
pub const BODY_PAYLOAD_OFFSET: usize = 64;
/// Bytes from a slot word to an inline payload that needs no more than eight-byte alignment.
pub const INLINE_PAYLOAD_OFFSET: usize = 8;

/// The start of a slot. Inline payloads begin right after the word, over the other fields.
#[repr(C)]
pub struct SlotHeader {
    /// Lap, kind, length.
    pub word: u64,
    /// The pool segment of a pooled payload.
    pub segment: u32,
    /// The chunk of a pooled payload within its segment.
    pub chunk: u32,
    /// Bytes of a body or pooled payload.
    pub length: u64,
    /// Zero.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<SlotHeader>() == BODY_PAYLOAD_OFFSET);
const _: () = assert!(std::mem::offset_of!(SlotHeader, segment) == 8);
const _: () = assert!(std::mem::offset_of!(SlotHeader, chunk) == 12);
const _: () = assert!(std::mem::offset_of!(SlotHeader, length) == 16);
const _: () = assert!(INLINE_BYTES_MAX as u64 <= LENGTH_MASK);
