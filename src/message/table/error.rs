//! What can go wrong with a table, one enum for each operation.

use std::sync::Arc;

use rustix::io::Errno;

use crate::message::error::Refused;
use crate::node::claiming::{Unclaimed, remedy};
use crate::node::{EndpointError, NameError};
use crate::segment::SegmentError;

/// Why a writer or a reader of a table could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The table's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another writer has it: there is one at a time.
    #[error(
        "table `{table}` has a writer already: {}; wait until it has gone with `writer_timeout`, or choose another name",
        .by.as_deref().unwrap_or("it has not said who it is")
    )]
    Claimed {
        /// The table.
        table: Arc<str>,
        /// Node and process of that writer, as they say themselves.
        by: Option<String>,
    },
    /// The operating system refused the claim on the name, or there have been as many writers as can be counted.
    #[error("table `{table}`: cannot {action}: {source}; {}", remedy(*.source))]
    Claim {
        /// The table.
        table: Arc<str>,
        /// What was attempted, and with what.
        action: String,
        /// What the operating system said.
        source: Errno,
    },
    /// The two ends disagree about the types of keys or values.
    #[error("table `{table}` has other types at {refused}; build both ends from one definition")]
    TypeMismatch {
        /// The table.
        table: Arc<str>,
        /// Who refused, and the first difference.
        refused: Box<Refused>,
    },
    /// A writer did not let us in for another reason.
    #[error("table `{table}` cannot be joined at {refused}")]
    Refused {
        /// The table.
        table: Arc<str>,
        /// Who refused, and why.
        refused: Box<Refused>,
    },
    /// An option or a size is out of its range.
    #[error("table `{table}`: {option} is {value}, and must be in {least}..={most}")]
    Option {
        /// The table.
        table: Arc<str>,
        /// The option.
        option: &'static str,
        /// The value asked for.
        value: u64,
        /// The least value.
        least: u64,
        /// The largest value.
        most: u64,
    },
    /// The memory could not be had.
    #[error("table `{table}`: {source}")]
    Segment {
        /// The table.
        table: Arc<str>,
        /// What failed.
        source: SegmentError,
    },
    /// The endpoint could not be introduced to the domain.
    #[error("table `{table}`: {source}")]
    Endpoint {
        /// The table.
        table: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

impl TableError {
    pub(super) fn of_claim(error: Unclaimed, table: &Arc<str>) -> Self {
        let table = Arc::clone(table);
        match error {
            Unclaimed::Held { by } => Self::Claimed { table, by },
            Unclaimed::System { action, source } => Self::Claim { table, action, source },
            Unclaimed::Endpoint(source) => Self::Endpoint { table, source },
        }
    }
}

/// Why an entry was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableWriteError {
    /// The key is new, and there is no room for another.
    #[error(
        "table `{table}` is full: all {capacity} entries are taken; remove some, or raise `capacity` when the writer is made"
    )]
    Full {
        /// The table.
        table: Arc<str>,
        /// How many entries there may be.
        capacity: usize,
    },
    /// The writer was cancelled, or its node shut down.
    #[error("table `{table}` was closed here")]
    Closed {
        /// The table.
        table: Arc<str>,
    },
    /// The writer is a forked child's copy of its parent's.
    #[error("table `{table}`: {source}")]
    Endpoint {
        /// The table.
        table: Arc<str>,
        /// Why.
        source: EndpointError,
    },
}

/// Why an entry could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableReadError {
    /// The writer changed it again at each of many attempts.
    #[error(
        "table `{table}`: an entry changes faster than it can be read; ask again, or have it set less often"
    )]
    Busy {
        /// The table.
        table: Arc<str>,
    },
    /// The reader is a forked child's copy of its parent's.
    #[error("table `{table}`: {source}")]
    Endpoint {
        /// The table.
        table: Arc<str>,
        /// Why.
        source: EndpointError,
    },
}
