//! The control plane.
pub(crate) mod descriptor;
pub(crate) mod domain;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod identity;
