//! What can be wrong with a segment.

use rustix::io::Errno;

/// Why a segment could not be created, or one that a peer sent could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The kernel did not give us the memory.
    #[error(
        "cannot create a {kind} segment of {bytes} B: {source}; free memory, raise the limit, or ask for less"
    )]
    Create {
        /// The kind of segment.
        kind: &'static str,
        /// The size asked for, in bytes.
        bytes: u64,
        /// What the kernel said.
        source: Errno,
    },
    /// The kernel did not map the memory.
    #[error("cannot map a {kind} segment of {bytes} B: {source}; raise the address space or mapping limit")]
    Map {
        /// The kind of segment.
        kind: &'static str,
        /// The size to map, in bytes.
        bytes: u64,
        /// What the kernel said.
        source: Errno,
    },
    /// The peer's memory came, and there was no descriptor left for it.
    #[error("no descriptor is left for a {kind} segment; raise the limit on open files (RLIMIT_NOFILE)")]
    Descriptor {
        /// The kind of segment.
        kind: &'static str,
    },
    /// The peer sent something that is no sealed memory file.
    #[error("the peer's {kind} segment is refused: {reason}; check that both sides run the same version")]
    Unusable {
        /// The kind of segment that was due.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl SegmentError {
    /// Whether it is for want of something of our own, and the peer has done nothing wrong.
    pub(crate) fn is_shortage(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Map { .. } | Self::Descriptor { .. })
    }
}
