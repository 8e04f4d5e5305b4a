//! The domain: a directory in which nodes find each other, and which holds nothing but names.
//!
//! ```text
//! nodes/<node id>.lock                              locked as long as the node lives; boot id, pid and name
//! nodes/<node id>.sock                              its control socket
//! names/<pattern>:<name>/<role>-<node id>.<number>  an empty file for each endpoint
//! claims/<pattern>:<name>                           locked by the one that alone may write there; its epoch
//! ```
//!
//! A lock or socket appears by rename, complete. Whoever opens the domain removes what nodes of this boot left
//! behind when they were killed; what another boot or machine wrote is left alone and never connected to.

mod channel;
mod claim;
mod directory;
mod entry;
mod membership;
mod name;
mod reap;

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{self, AtFlags};
use rustix::io::{self, Errno};
use rustix::net::SocketAddrUnix;

use super::error::OpenError;
use super::identity::NodeId;
use crate::os::process;
use crate::os::socket;
pub use channel::Channel;
pub use channel::Pattern;
pub(crate) use claim::{Claim, ClaimError, EPOCH_MAX};
use directory::Directory;
pub(crate) use directory::Location;
pub(crate) use entry::Role;
pub(crate) use membership::Membership;
use membership::{LOCK_SUFFIX, Note, SOCKET_SUFFIX};
pub(crate) use name::Name;
pub use name::NameError;

/// The longest path that a socket address takes, in bytes, with its final zero.
const SOCKET_PATH_MAX: usize = 108;

/// The open directories of a domain.
#[derive(Debug)]
pub(crate) struct Domain {
    root: Directory,
    nodes: Directory,
    names: Directory,
    claims: Directory,
    boot_id: String,
}

/// Why there is no connection to a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// It has ended, or never was on this machine since it booted.
    #[error("the node is gone")]
    Gone,
    /// It accepts no connections for now: it is stopped.
    #[error("the node accepts no connections")]
    Silent,
    /// Its socket belongs to another user.
    #[error("its socket belongs to user {uid}, who is not us; remove the socket from the domain directory")]
    ForeignUser { uid: u32 },
    /// We may not connect to it.
    #[error("connecting is refused: {0}; check the permissions of the domain directory")]
    Refused(Errno),
    /// We lack what a connection needs.
    #[error("{0}")]
    Resource(Errno),
}

impl Domain {
    /// Opens the domain at `location`, creating what is missing, and removes what dead nodes left there.
    pub(crate) fn open(location: &Location) -> Result<Self, OpenError> {
        if !is_our_user(process::euid()) {
            return Err(OpenError::Nobody);
        }
        let root = location.open()?;
        let (nodes, names) = (root.subdirectory("nodes")?, root.subdirectory("names")?);
        let claims = root.subdirectory("claims")?;
        let boot_id = process::boot_id().map_err(|error| OpenError::System {
            action: "read this boot's id from /proc/sys/kernel/random/boot_id".to_owned(),
            source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
        let domain = Self { root, nodes, names, claims, boot_id };
        domain.reap().map_err(|source| OpenError::System {
            action: format!("clean up the domain directory {}", domain.path().display()),
            source,
        })?;
        Ok(domain)
    }

    /// The nodes of this boot, each with its name and process, dead or alive.
    pub(crate) fn nodes(&self) -> io::Result<Vec<(NodeId, String, u32)>> {
        let nodes = self.nodes.names()?.into_iter().filter_map(|file| {
            let node = file.strip_suffix(LOCK_SUFFIX)?.parse().ok()?;
            let (_, note) = Note::read(&self.nodes, &file).ok()?;
            let note = note.filter(|note| note.boot_id == self.boot_id)?;
            Some((node, note.name, note.pid.parse().unwrap_or_default()))
        });
        Ok(nodes.collect())
    }

    /// The domain's directory.
    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    /// What tells this boot of this machine from every other.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Connects to the control socket of `node`. Does not block.
    pub(crate) fn connect(&self, node: NodeId) -> Result<socket::Channel, ConnectError> {
        if !self.is_of_this_boot(node)? {
            return Err(ConnectError::Gone);
        }
        let channel = self
            .address(&format!("{node}{SOCKET_SUFFIX}"))
            .and_then(|address| socket::Channel::connect(&address));
        let channel = channel.map_err(ConnectError::from)?;
        let uid = channel.peer_uid().map_err(ConnectError::Resource)?;
        if is_our_user(uid) { Ok(channel) } else { Err(ConnectError::ForeignUser { uid }) }
    }

    fn is_of_this_boot(&self, node: NodeId) -> Result<bool, ConnectError> {
        match Note::read(&self.nodes, &format!("{node}{LOCK_SUFFIX}")) {
            Ok((_, note)) => Ok(note.is_some_and(|note| note.boot_id == self.boot_id)),
            Err(errno) => match ConnectError::from(errno) {
                ConnectError::Resource(errno) => Err(ConnectError::Resource(errno)),
                _ => Ok(false),
            },
        }
    }

    /// The address of a file among the nodes, through `/proc` if the path is too long for one.
    fn address(&self, file: &str) -> io::Result<SocketAddrUnix> {
        let path = self.nodes.path().join(file);
        if path.is_absolute() && path.as_os_str().len() < SOCKET_PATH_MAX {
            return SocketAddrUnix::new(path);
        }
        SocketAddrUnix::new(format!("/proc/self/fd/{}/{file}", self.nodes.as_fd().as_raw_fd()))
    }

    fn remove_node_file(&self, file: &str) {
        // What is gone already needs no removal, and what cannot be removed the next open tries again.
        let _ = fs::unlinkat(&self.nodes, file, AtFlags::empty());
    }
}

/// Whether the name still means the file that we opened: it may have been renamed or removed since.
fn is_still(directory: &Directory, file: &str, opened: impl AsFd) -> bool {
    let now = fs::statat(directory, file, AtFlags::SYMLINK_NOFOLLOW);
    match (now, fs::fstat(opened)) {
        (Ok(now), Ok(opened)) => (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino),
        _ => false,
    }
}

/// Whether a user is ourselves. The number that stands for everyone without a number here never is.
pub(crate) fn is_our_user(uid: u32) -> bool {
    const NOBODY: u32 = 65_534;
    uid == process::euid() && uid != NOBODY
}

impl From<Errno> for ConnectError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::CONNREFUSED => Self::Gone,
            Errno::AGAIN => Self::Silent,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => Self::Resource(errno),
            other => Self::Refused(other),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::os::process;

    /// A directory that is removed at the end of a test.
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("tidepost-node-test-{}-{count}", process::pid()));
            std::fs::create_dir(&path).expect("the temporary directory is writable");
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        pub(crate) fn location(&self) -> Location {
            Location { directory: Some(self.0.join("domain")), domain: None }
        }

        pub(crate) fn domain(&self) -> Domain {
            Domain::open(&self.location()).expect("the domain can be opened")
        }

        /// Every file and every name's directory in the domain.
        pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
            let list = |path: PathBuf| std::fs::read_dir(path).expect("it is a directory");
            let nodes = list(self.0.join("domain/nodes"));
            nodes
                .chain(list(self.0.join("domain/names")))
                .map(|entry| entry.expect("readable").path())
                .collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_long_path_is_no_obstacle_to_sockets() {
        let scratch = Scratch::new();
        let location = Location { directory: Some(scratch.path().join("x".repeat(150))), domain: None };
        let id = NodeId::random().expect("random bits are available");
        let name = Name::new("far").expect("it is a name");
        let domain = Domain::open(&location).expect("the domain can be opened");
        let membership = Membership::new(domain, id, &name).expect("the node can join");
        assert!(membership.domain().connect(id).is_ok());
    }

    #[test]
    fn nobody_is_never_us() {
        assert!(is_our_user(process::euid()) || process::euid() == 65_534);
        assert!(!is_our_user(65_534));
    }
}
