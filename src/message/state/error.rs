//! Why an endpoint of a state could not be made.

use std::sync::Arc;

use rustix::io::Errno;

use crate::message::error::{Refused, TopicError};
use crate::node::claiming::{Unclaimed, remedy};
use crate::node::{EndpointError, NameError};
use crate::segment::SegmentError;

/// Why a writer or a reader of a state could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The state's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another writer has it: there is one at a time.
    #[error(
        "state `{state}` has a writer already: {}; wait until it has gone with `writer_timeout`, or choose another name",
        .by.as_deref().unwrap_or("it has not said who it is")
    )]
    Claimed {
        /// The state.
        state: Arc<str>,
        /// Node and process of that writer, as they say themselves.
        by: Option<String>,
    },
    /// The operating system refused the claim on the name, or there have been as many writers as can be counted.
    #[error("state `{state}`: cannot {action}: {source}; {}", remedy(*.source))]
    Claim {
        /// The state.
        state: Arc<str>,
        /// What was attempted, and with what.
        action: String,
        /// What the operating system said.
        source: Errno,
    },
    /// The two ends disagree about the type of the value.
    #[error("state `{state}` has another type at {refused}; build both ends from one definition")]
    TypeMismatch {
        /// The state.
        state: Arc<str>,
        /// Who refused, and the first difference.
        refused: Box<Refused>,
    },
    /// A writer did not let us in for another reason.
    #[error("state `{state}` cannot be joined at {refused}")]
    Refused {
        /// The state.
        state: Arc<str>,
        /// Who refused, and why.
        refused: Box<Refused>,
    },
    /// An option is out of its range.
    #[error("state `{state}`: {option} is {value}, and must be in {least}..={most}")]
    Option {
        /// The state.
        state: Arc<str>,
        /// The option.
        option: &'static str,
        /// The value asked for.
        value: u64,
        /// The least value.
        least: u64,
        /// The largest value.
        most: u64,
    },
    /// The type asks for more alignment than a slot has.
    #[error("state `{state}`: values aligned to {align} B cannot be sent; the limit is 64 B, one cache line")]
    Alignment {
        /// The state.
        state: Arc<str>,
        /// The alignment of the type, in bytes.
        align: usize,
    },
    /// A writer of untyped values was not told their type.
    #[error("state `{state}`: a writer of untyped values needs their type; give it with `value_type`")]
    NoType {
        /// The state.
        state: Arc<str>,
    },
    /// The memory could not be had.
    #[error("state `{state}`: {source}")]
    Segment {
        /// The state.
        state: Arc<str>,
        /// What failed.
        source: SegmentError,
    },
    /// The endpoint could not be introduced to the domain.
    #[error("state `{state}`: {source}")]
    Endpoint {
        /// The state.
        state: Arc<str>,
        /// What failed.
        source: EndpointError,
    },
}

impl StateError {
    pub(super) fn of_claim(error: Unclaimed, state: &Arc<str>) -> Self {
        let state = Arc::clone(state);
        match error {
            Unclaimed::Held { by } => Self::Claimed { state, by },
            Unclaimed::System { action, source } => Self::Claim { state, action, source },
            Unclaimed::Endpoint(source) => Self::Endpoint { state, source },
        }
    }
}

/// States are carried as topics are; what goes wrong is told in their own words.
impl From<TopicError> for StateError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Name(source) => Self::Name(source),
            TopicError::TypeMismatch { topic: state, refused } => Self::TypeMismatch { state, refused },
            TopicError::Refused { topic: state, refused } => Self::Refused { state, refused },
            TopicError::Option { topic: state, option, value, least, most } => {
                Self::Option { state, option, value, least, most }
            }
            TopicError::Alignment { topic: state, align } => Self::Alignment { state, align },
            TopicError::NoType { topic: state } => Self::NoType { state },
            TopicError::Segment { topic: state, source } => Self::Segment { state, source },
            TopicError::Endpoint { topic: state, source } => Self::Endpoint { state, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_has_had_all_its_writers_says_what_to_do() {
        let error = |source| StateError::Claim { state: "s".into(), action: "claim it".to_owned(), source };
        assert!(error(Errno::OVERFLOW).to_string().contains("have all of them leave it once"));
        assert!(error(Errno::NOSPC).to_string().contains("has room"));
    }
}
