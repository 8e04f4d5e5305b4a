//! Nodes: how processes find each other, get to know each other, and notice when one of them ends.
//!
//! A node is one process's membership in a domain, a private directory. It listens on one Unix socket there, and
//! between two nodes there is one connection, whatever the number of their endpoints: it carries the handshake, the
//! memory files, and – by hanging up – death. No message passes through here.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("tidepost-doc-node-{}", std::process::id()));
//! let node = tidepost::Node::builder().name("camera").directory(&directory).open()?;
//! assert_eq!(node.name(), "camera");
//! # drop(node);
//! # std::fs::remove_dir_all(directory)?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod carrier;
pub(crate) mod claiming;
mod connection;
mod control;
mod descriptor;
mod domain;
mod endpoint;
mod error;
mod identity;
mod network;
mod report;
mod shared;
#[cfg(test)]
mod tests;
mod wire;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use builder::NodeBuilder;
pub use carrier::{Carrier, Carrying, Load};
pub use descriptor::{Difference, Field, Shape, TypeDescriptor};
pub use domain::{Channel, NameError, Pattern};
pub(crate) use domain::{Claim, ClaimError, EPOCH_MAX, Role};
pub(crate) use endpoint::{
    Admission, Form, Heir, Hub, Inlet, Join, Lane, NewRing, Offer, Outlet, Peer, Refusal, Segment, Setback,
    Violation,
};
pub use error::{DirectoryProblem, EndpointError, OpenError};
pub use identity::{EndpointId, NodeId};
pub use network::{Host, Joined, Network};
pub use report::{EndpointRole, InletReport, NodeReport, OutletReport, ReaderReport};
use shared::Life;
pub(crate) use shared::{NodeShared, Receipt, Round};
pub(crate) use wire::{decode_descriptor, encode_descriptor};
pub(crate) use wire::{is_offerable, policy_name};

/// This process's membership in a domain. Cheap to clone; the membership ends when the last clone, and the last
/// endpoint and held sample made from it, has been dropped.
///
/// Unless [`NodeBuilder::control_thread`] says otherwise, one thread serves the node's socket. It sleeps unless
/// somebody joins or leaves.
#[derive(Clone, Debug)]
pub struct Node {
    life: Arc<Life>,
}

/// Another node that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its identity.
    pub id: NodeId,
    /// The name that it gave itself.
    pub name: Arc<str>,
}

impl Node {
    /// Opens a node of this name in the domain that the environment names: the directory `$TIDEPOST_DIR`, else the
    /// domain `$TIDEPOST_DOMAIN` (or `default`) under `$XDG_RUNTIME_DIR/tidepost`, else under a private directory
    /// in the directory for temporary files. What killed nodes left there is removed.
    ///
    /// # Errors
    /// [`OpenError`] if the directory is not ours alone, or the system refuses a resource.
    pub fn open(name: &str) -> Result<Self, OpenError> {
        Self::builder().name(name).open()
    }

    /// A node with options.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// The node's identity, which no other node ever has.
    pub fn id(&self) -> NodeId {
        self.shared().id()
    }

    /// The node's name, for people.
    pub fn name(&self) -> &str {
        self.shared().name().as_str()
    }

    /// The domain's directory.
    pub fn directory(&self) -> &Path {
        self.shared().directory()
    }

    /// Does what has become ready: accepts, greets, lets in, notices ends. Never blocks. Only a node without
    /// control thread needs it, whenever [`Node::as_fd`] is readable.
    ///
    /// # Errors
    /// [`EndpointError::System`] if the system refuses to say what is ready.
    pub fn dispatch(&self) -> Result<(), EndpointError> {
        self.shared().wait(self.shared().round(), Some(std::time::Instant::now()))
    }

    /// The nodes that are connected to this one.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared().peers()
    }

    /// How often peers broke the rules of the protocol or of shared memory, and what the last of them did. Each was
    /// disconnected.
    pub fn violations(&self) -> (u64, Option<String>) {
        self.shared().violations()
    }

    /// Ends every wait of this node's endpoints, in whatever thread, with `Closed`, and from now on those calls that would
    /// have to wait. Its publishers send no more; what has arrived can still be received without waiting. The node leaves its
    /// domain when its last handle and endpoint have been dropped.
    pub fn shutdown(&self) {
        self.shared().shut_down();
    }

    /// What every node of the domain is doing: its endpoints, who they are connected to, and how they fare. Connects to
    /// all of them, and waits for their answers no longer than `timeout`; those that have not answered by then are listed
    /// as such. Nobody waits for who looks.
    ///
    /// # Errors
    /// [`EndpointError`] if the domain's directory cannot be read, or a connection not be made.
    pub fn inspect(&self, timeout: Duration) -> Result<Vec<NodeReport>, EndpointError> {
        self.shared().inspect(timeout)
    }

    pub(crate) fn shared(&self) -> &Arc<NodeShared> {
        self.life.shared()
    }
}

impl AsFd for Node {
    /// A descriptor that is readable when [`Node::dispatch`] has something to do; for poll and epoll.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared().epoll().as_fd()
    }
}
