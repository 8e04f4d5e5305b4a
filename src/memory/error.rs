//! What can go wrong with a region.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::node::claiming::{Unclaimed, remedy};
use crate::node::{Difference, EndpointError, NameError};
use crate::segment::region::RegionMemoryError;

/// Why a region could not be made or attached, or an operation on it not be done. Nothing has been changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The region's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It exists, and was to be made.
    #[error("region `{region}` exists; attach it, or choose another name")]
    Exists {
        /// The region.
        region: Arc<str>,
    },
    /// Nobody has it.
    #[error("region `{region}` does not exist: nobody has it attached; create it")]
    NotFound {
        /// The region.
        region: Arc<str>,
    },
    /// Those who have it have not answered.
    #[error(
        "region `{region}` exists, and those who have it have not answered within {waited:?}; they may be stopped"
    )]
    Silent {
        /// The region.
        region: Arc<str>,
        /// How long.
        waited: Duration,
    },
    /// Somebody is making or attaching it, and has not come to an end.
    #[error(
        "region `{region}` is being made or attached by {}; it may be stopped",
        .by.as_deref().unwrap_or("somebody who has not said who it is")
    )]
    Busy {
        /// The region.
        region: Arc<str>,
        /// Node and process, as they say themselves.
        by: Option<String>,
    },
    /// The domain's directory could not be worked with.
    #[error("region `{region}`: cannot {action}: {source}; {}", remedy(*.source))]
    Claim {
        /// The region.
        region: Arc<str>,
        /// What was attempted, and with what.
        action: String,
        /// What the operating system said.
        source: Errno,
    },
    /// It holds something else.
    #[error("region `{region}` holds another type: {difference}; build all programs from one definition")]
    TypeMismatch {
        /// The region.
        region: Arc<str>,
        /// The first point in which the types differ.
        difference: Difference,
    },
    /// More was asked for than there can be, or nothing.
    #[error("region `{region}`: {value} {what} are asked for, and there can be 1 to {limit}")]
    Limit {
        /// The region.
        region: Arc<str>,
        /// What.
        what: &'static str,
        /// How much was asked for.
        value: u64,
        /// How much there can be.
        limit: u64,
    },
    /// It does not lie within the region, or not where its type can.
    #[error(
        "region `{region}`: {bytes} B at {offset}, aligned to {align} B, do not lie in its {length} B; let it grow, or look elsewhere"
    )]
    Range {
        /// The region.
        region: Arc<str>,
        /// Where, in bytes from the start.
        offset: usize,
        /// How many bytes.
        bytes: usize,
        /// The alignment asked for, in bytes.
        align: usize,
        /// Bytes of the region.
        length: usize,
    },
    /// What was sent or found is no region.
    #[error("region `{region}` cannot be used: {reason}; check that all sides run the same version")]
    Unusable {
        /// The region.
        region: Arc<str>,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused something.
    #[error("region `{region}`: cannot {action}: {source}; free memory, raise the limit, or ask for less")]
    System {
        /// The region.
        region: Arc<str>,
        /// What was attempted.
        action: &'static str,
        /// What the operating system said.
        source: Errno,
    },
    /// The node cannot be used.
    #[error("region `{region}`: {source}")]
    Endpoint {
        /// The region.
        region: Arc<str>,
        /// Why.
        source: EndpointError,
    },
}

impl RegionError {
    pub(super) fn of_memory(error: RegionMemoryError, region: &Arc<str>) -> Self {
        let region = Arc::clone(region);
        match error {
            RegionMemoryError::Limit { what, value, limit } => Self::Limit { region, what, value, limit },
            RegionMemoryError::Unusable { reason } => Self::Unusable { region, reason },
            RegionMemoryError::Unfinished => {
                Self::Unusable { region, reason: "nobody has finished making it".to_owned() }
            }
            RegionMemoryError::System { action, source } => Self::System { region, action, source },
        }
    }

    pub(super) fn of_claim(error: Unclaimed, region: &Arc<str>) -> Self {
        let region = Arc::clone(region);
        match error {
            Unclaimed::Held { by } => Self::Busy { region, by },
            Unclaimed::System { action, source } => Self::Claim { region, action, source },
            Unclaimed::Endpoint(source) => Self::Endpoint { region, source },
        }
    }
}
