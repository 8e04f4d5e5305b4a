//! The bytes that processes share, frozen: numbers and `repr(C)` structs without behaviour.
//!
//! Every constant here is in `docs/layout.md` with the same number, and a test compares the two. A change is a
//! new [`header::LAYOUT_VERSION`].

pub(crate) mod bell;
pub(crate) mod cursor;
pub(crate) mod header;
pub(crate) mod pool;
pub(crate) mod ring;
