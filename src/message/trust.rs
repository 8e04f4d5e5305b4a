//! What a subscriber trusts its publishers with.

use std::fmt;

use crate::sync::stream::Lending;

/// Messages are lent where their publishers wrote them: for publishers that may crash at any point, but do not write to
/// what they have sent. The usual choice.
#[derive(Clone, Copy, Debug)]
pub enum Borrowed {}

/// Messages are copied out before they are looked at: for publishers that may do anything, such as plug-ins or sandboxes.
/// What is handed out lies in memory of our own, and cannot change any more.
#[derive(Clone, Copy, Debug)]
pub enum Copied {}

/// How a subscriber hands messages out: [`Borrowed`] or [`Copied`]. It cannot be implemented outside this crate.
pub trait Trust: fmt::Debug + Send + Sync + 'static + sealed::Sealed {}

impl Trust for Borrowed {}
impl Trust for Copied {}

pub(super) mod sealed {
    use super::Lending;

    pub trait Sealed {
        #[doc(hidden)]
        fn lends_in_place() -> bool;
    }

    impl Sealed for super::Borrowed {
        fn lends_in_place() -> bool {
            true
        }
    }

    impl Sealed for super::Copied {
        fn lends_in_place() -> bool {
            false
        }
    }

    /// How messages are lent under this trust.
    pub(in crate::message) fn lending<B: Sealed>() -> Lending {
        if B::lends_in_place() { Lending::InPlace } else { Lending::InCopies }
    }
}
