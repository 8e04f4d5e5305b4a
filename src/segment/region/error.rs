//! What can be wrong with a region's memory.

use rustix::io::Errno;

/// Why memory could not become a region, or could not be used as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegionMemoryError {
    /// More was asked for than a region can have, or nothing where something is needed.
    #[error("{value} {what} are asked for; a region has at least one, and at most {limit}")]
    Limit { what: &'static str, value: u64, limit: u64 },
    /// It is no region, or a garbled one.
    #[error("it is no usable region: {reason}")]
    Unusable { reason: String },
    /// Nobody has initialised it, or whoever did has not finished.
    #[error("nobody has finished making it")]
    Unfinished,
    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    System { action: &'static str, source: Errno },
}
