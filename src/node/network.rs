//! What carries a node's domain beyond this machine, as far as a node knows of it.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::endpoint::Outlet;
use super::identity::{EndpointId, NodeId};
use super::shared::NodeShared;

/// A network that a node joins when it is opened with [`NodeBuilder::network`](super::NodeBuilder::network).
///
/// The crate `tidepost-zenoh` has one. The node itself knows nothing of it: whoever carries messages beyond the machine takes part
/// in the domain with nodes of its own.
pub trait Network: fmt::Debug + Send + Sync {
    /// Begins to carry what is in the domain of this node, on its behalf. What it returns is dropped with
    /// the node, and then has to end within two seconds.
    ///
    /// # Errors
    /// Whatever keeps it from that; the node is not opened then.
    fn join(&self, host: &Host) -> Result<Joined, Box<dyn Error + Send + Sync>>;
}

/// A network that was joined; dropping it leaves.
pub type Joined = Box<dyn Any + Send + Sync>;

/// A node that joins a network, as that knows it. It does not keep the node open.
#[derive(Clone)]
pub struct Host {
    id: NodeId,
    name: Arc<str>,
    directory: PathBuf,
    shared: Weak<NodeShared>,
}

impl Host {
    pub(super) fn new(shared: &Arc<NodeShared>) -> Self {
        let (name, directory) = (shared.name().shared(), shared.directory().to_owned());
        Self { id: shared.id(), name, directory, shared: Arc::downgrade(shared) }
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of its domain.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A publisher of the node's, asked for by somebody else's node.
    pub(crate) fn outlet(&self, id: EndpointId) -> Option<Arc<dyn Outlet>> {
        self.shared.upgrade().filter(|shared| id.node() == self.id && !shared.is_inherited())?.outlet(id)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Host").field("name", &self.name).finish_non_exhaustive()
    }
}
