//! What carries a node's domain beyond this machine, as far as a node knows of it.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::path::Path;

/// A network that a node joins when it is opened with [`NodeBuilder::network`](super::NodeBuilder::network).
///
/// The crate `tidepost-zenoh` has one. The node itself knows nothing of it: whoever carries messages beyond the machine takes part
/// in the domain with nodes of its own.
pub trait Network: fmt::Debug + Send + Sync {
    /// Begins to carry what is in the domain of this directory, on behalf of a node of this name. What it returns is dropped with
    /// the node, and then has to end within two seconds.
    ///
    /// # Errors
    /// Whatever keeps it from that; the node is not opened then.
    fn join(&self, directory: &Path, node: &str) -> Result<Joined, Box<dyn Error + Send + Sync>>;
}

/// A network that was joined; dropping it leaves.
pub type Joined = Box<dyn Any + Send + Sync>;
