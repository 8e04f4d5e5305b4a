//! What can go wrong while several things are waited for.

use rustix::io::Errno;

use crate::node::EndpointError;

/// Why a wait for several things failed, or one of them could not be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitSetError {
    /// The wait set was cancelled.
    #[error("the wait set was cancelled")]
    Cancelled,
    /// The process that made the wait set has forked, and this is the child.
    #[error("this process was forked from the one that made the wait set; make one of its own")]
    Forked,
    /// The operating system refused something.
    #[error("cannot {action}: {source}; {}", remedy(*.source))]
    System {
        /// What was attempted.
        action: &'static str,
        /// What the operating system said.
        source: Errno,
    },
    /// The thread that wakes tasks could not be started.
    #[error(
        "cannot start the wait set's thread: {reason}; raise the limit on threads, or wait for its descriptor"
    )]
    Thread {
        /// What the operating system said.
        reason: String,
    },
    /// A node without control thread could not be served by the wait.
    #[error("node `{node}`: {source}")]
    Node {
        /// The name of the node.
        node: String,
        /// What failed.
        source: EndpointError,
    },
}

fn remedy(error: Errno) -> &'static str {
    match error {
        Errno::MFILE => "raise the process's limit on open files (`ulimit -n`)",
        Errno::NFILE => "raise the system's limit on open files (`fs.file-max`)",
        Errno::NOSPC => "raise the user's limit on watched descriptors (`fs.epoll.max_user_watches`)",
        Errno::PERM => "only what may have to be waited for can be: no regular file, no directory",
        Errno::EXIST => "add each descriptor once",
        Errno::BADF => "keep it open",
        Errno::LOOP | Errno::INVAL => "nest epoll sets less deep, and never a set in itself",
        _ => "free memory",
    }
}

/// Names what was attempted.
pub(super) fn unable(action: &'static str) -> impl FnOnce(Errno) -> WaitSetError {
    move |source| WaitSetError::System { action, source }
}
