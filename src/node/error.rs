//! Why a node could not be opened, or one of its endpoints could not be introduced.

use std::path::PathBuf;

use rustix::io::Errno;

use super::domain::NameError;
use crate::segment::SegmentError;

/// Why a node could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The node's or the domain's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The domain's directory cannot be trusted or used.
    #[error("the domain directory {} cannot be used: {problem}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: DirectoryProblem,
    },
    /// The operating system refused something that a node needs.
    #[error("cannot {action}: {source}; raise the limit on open files, or free memory")]
    System {
        /// What was attempted, and with what.
        action: String,
        /// What the operating system said.
        source: Errno,
    },
    /// We are user 65534, which stands for every user that has no number here.
    #[error(
        "user 65534 (nobody) stands for every user without a number here, so no peer could be trusted to be us; run as a user of its own"
    )]
    Nobody,
    /// There is no memory for the node's wake-up hints.
    #[error(transparent)]
    Bell(#[from] SegmentError),
    /// The control thread could not be started.
    #[error(
        "cannot start the control thread: {reason}; raise the limit on threads, or open the node without one"
    )]
    Thread {
        /// What the operating system said.
        reason: String,
    },
    /// The network that the node was to join could not be joined.
    #[error("the network cannot be joined: {reason}")]
    Network {
        /// What the network said.
        reason: String,
    },
}

/// What is wrong with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryProblem {
    /// It could not be created or opened.
    #[error("{0}; make it accessible, or set TIDEPOST_DIR to another")]
    Inaccessible(Errno),
    /// It is a symbolic link or a file.
    #[error(
        "it is no directory but a link or a file; remove it, or set TIDEPOST_DIR to the directory itself"
    )]
    NotADirectory,
    /// It belongs to somebody else.
    #[error("it belongs to user {owner}, and we are user {ours}; set TIDEPOST_DIR to a directory of our own")]
    Owner {
        /// The user it belongs to.
        owner: u32,
        /// The user we are.
        ours: u32,
    },
    /// Others may write to it.
    #[error("its mode {mode:04o} lets others write; choose one of your own, or run chmod go-w on this one")]
    Writable {
        /// Its permission bits.
        mode: u32,
    },
}

/// Why an endpoint could not be introduced to the domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Its entry in the domain's directory could not be written, or those of others not be read.
    #[error("cannot {action}: {source}; check that the domain's directory still exists and has room")]
    Directory {
        /// What was attempted, and with what.
        action: String,
        /// What the operating system said.
        source: Errno,
    },
    /// Its type descriptor does not fit into a frame.
    #[error(
        "the description of the type of `{name}` has more than 512 fields, a name of more than 1,024 B, or more than \
         {limit} B in all; use fewer fields or shorter names"
    )]
    DescriptorTooLong {
        /// The endpoint's name.
        name: String,
        /// The longest frame, in bytes.
        limit: usize,
    },
    /// The node has been shut down.
    #[error("the node has been shut down; open another")]
    ShutDown,
    /// There is no memory for further wake-up hints.
    #[error(transparent)]
    Bell(SegmentError),
    /// The process that opened the node has forked, and this is the child.
    #[error("this process was forked from the one that opened the node; open a node of its own")]
    Forked,
    /// The operating system refused a resource that a connection needs.
    #[error("cannot {action}: {source}; raise the limit on open files or free memory")]
    System {
        /// What was attempted, and with what.
        action: String,
        /// What the operating system said.
        source: Errno,
    },
}

impl EndpointError {
    /// The domain's directory could not be worked with: for its own sake, or because something is short that a look at any
    /// directory needs.
    pub(super) fn of_directory(action: String, source: Errno) -> Self {
        match source {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::System { action, source },
            _ => Self::Directory { action, source },
        }
    }
}
