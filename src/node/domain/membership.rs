//! A node's own files in the domain: they appear when it opens, complete, and go when it closes.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};

use super::directory::Directory;
use super::entry::{Entry, Role};
use super::{Channel, Domain, Name};
use crate::node::error::OpenError;
use crate::node::identity::{EndpointId, NodeId};
use crate::os::fork::Process;
use crate::os::process;
use crate::os::socket::Listener;
use crate::os::unshared::Unshared;

pub(super) const LOCK_SUFFIX: &str = ".lock";
pub(super) const SOCKET_SUFFIX: &str = ".sock";
/// What is added to the name of a file that is not complete yet.
pub(super) const NEW_SUFFIX: &str = ".new";

/// How often a node that opens creates its lock file again because somebody cleaned it up half-made.
const ATTEMPTS_MAX: usize = 100;
/// The longest lock file that is read, in bytes.
const NOTE_BYTES_MAX: usize = 1024;

/// What a node writes into its lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) boot_id: String,
    /// For people only, as is the name.
    pub(super) pid: String,
    pub(super) name: String,
}

impl Note {
    /// Opens a lock file and reads its note; no note in a file that is not complete.
    pub(super) fn read(nodes: &Directory, file: &str) -> io::Result<(OwnedFd, Option<Self>)> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let lock = fs::openat(nodes, file, flags, Mode::empty())?;
        let mut bytes = [0; NOTE_BYTES_MAX];
        let count = io::pread(&lock, &mut bytes, 0)?;
        let note = std::str::from_utf8(&bytes[..count]).ok().and_then(Self::parse);
        Ok((lock, note))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n').map(str::to_owned);
        Some(Self { boot_id: lines.next()?, pid: lines.next()?, name: lines.next()? })
    }

    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.boot_id, self.pid, self.name)
    }
}

/// A node's place in its domain, given up when it is dropped. It goes with the process, too: a forked child that lives on keeps
/// neither the lock nor the socket, and whoever cleans up sees that the node is dead.
#[derive(Debug)]
pub(crate) struct Membership {
    domain: Arc<Domain>,
    node: NodeId,
    listener: Listener,
    entries: Mutex<BTreeSet<Entry>>,
    /// A forked child has the parent's memory, and must not remove the parent's files.
    process: Process,
    _lock: Unshared,
}

impl Membership {
    /// Locks the node's file, then puts its socket in place.
    pub(crate) fn new(domain: Domain, node: NodeId, name: &Name) -> Result<Self, OpenError> {
        let refused = |what: &'static str| {
            let path = domain.path().display().to_string();
            move |source| OpenError::System {
                action: format!("{what} in the domain directory {path}"),
                source,
            }
        };
        let note = Note {
            boot_id: domain.boot_id().to_owned(),
            pid: process::pid().to_string(),
            name: name.as_str().to_owned(),
        };
        let lock = create_lock(&domain, node, &note).map_err(refused("create the node's lock file"))?;
        let listener = create_socket(&domain, node).map_err(|source| {
            domain.remove_node_file(&format!("{node}{LOCK_SUFFIX}"));
            refused("create the node's socket")(source)
        })?;
        Ok(Self {
            domain: Arc::new(domain),
            node,
            listener,
            entries: Mutex::default(),
            process: Process::current(),
            _lock: lock,
        })
    }

    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Lets newcomers find an endpoint.
    pub(crate) fn enter(&self, role: Role, channel: &Channel, number: u64) -> io::Result<()> {
        let entry = Entry { role, channel: channel.clone(), id: EndpointId { node: self.node, number } };
        self.domain.create_entry(&entry)?;
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(entry);
        Ok(())
    }

    /// Takes that back.
    pub(crate) fn withdraw(&self, role: Role, channel: &Channel, number: u64) {
        let entry = Entry { role, channel: channel.clone(), id: EndpointId { node: self.node, number } };
        if self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&entry) {
            self.domain.remove_entry(&entry);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.process.is_parent() {
            return;
        }
        for entry in std::mem::take(self.entries.get_mut().unwrap_or_else(PoisonError::into_inner)) {
            self.domain.remove_entry(&entry);
        }
        self.domain.remove_node_file(&format!("{}{SOCKET_SUFFIX}", self.node));
        // Last: as long as the lock file is there, whoever cleans up knows whose the rest is.
        self.domain.remove_node_file(&format!("{}{LOCK_SUFFIX}", self.node));
    }
}

fn create_lock(domain: &Domain, node: NodeId, note: &Note) -> io::Result<Unshared> {
    let complete = format!("{node}{LOCK_SUFFIX}");
    let half_made = format!("{complete}{NEW_SUFFIX}");
    for _ in 0..ATTEMPTS_MAX {
        match try_create_lock(domain, &half_made, &complete, note) {
            Err(Errno::EXIST | Errno::NOENT | Errno::WOULDBLOCK) => std::thread::yield_now(),
            Err(error) => {
                domain.remove_node_file(&half_made);
                return Err(error);
            }
            Ok(lock) => return Ok(lock),
        }
    }
    Err(Errno::BUSY)
}

/// One attempt; a node that cleans up meanwhile may take the half-made file for a dead node's.
fn try_create_lock(domain: &Domain, half_made: &str, complete: &str, note: &Note) -> io::Result<Unshared> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = Unshared::new(|| {
        // That of the attempt before, if there was one.
        domain.remove_node_file(half_made);
        fs::openat(&domain.nodes, half_made, flags, Mode::RUSR | Mode::WUSR)
    })?;
    let file = lock.get().ok_or(Errno::BADF)?;
    if !process::try_lock(file)? {
        domain.remove_node_file(half_made);
        return Err(Errno::WOULDBLOCK);
    }
    let text = note.text();
    if io::write(file, text.as_bytes())? != text.len() {
        return Err(Errno::NOSPC);
    }
    fs::renameat(&domain.nodes, half_made, &domain.nodes, complete)?;
    Ok(lock)
}

fn create_socket(domain: &Domain, node: NodeId) -> io::Result<Listener> {
    let complete = format!("{node}{SOCKET_SUFFIX}");
    let half_made = format!("{complete}{NEW_SUFFIX}");
    let listener = Listener::bind(&domain.address(&half_made)?).and_then(|listener| {
        fs::renameat(&domain.nodes, &half_made, &domain.nodes, &complete).map(|()| listener)
    });
    if listener.is_err() {
        domain.remove_node_file(&half_made);
    }
    listener
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::domain::tests::Scratch;
    use crate::node::domain::{ConnectError, Pattern};

    fn member(scratch: &Scratch) -> (Membership, NodeId) {
        let id = NodeId::random().expect("random bits are available");
        let name = Name::new("a node").expect("it is a name");
        (Membership::new(scratch.domain(), id, &name).expect("the node can join"), id)
    }

    #[test]
    fn a_member_can_be_reached_until_it_leaves() {
        let scratch = Scratch::new();
        let observer = scratch.domain();
        let (membership, id) = member(&scratch);
        assert!(observer.connect(id).is_ok());
        drop(membership);
        assert_eq!(observer.connect(id).expect_err("it has left"), ConnectError::Gone);
        assert!(scratch.leftovers().is_empty());
    }

    #[test]
    fn a_member_that_leaves_takes_its_entries_along() {
        let scratch = Scratch::new();
        let (membership, _) = member(&scratch);
        let name = Channel::new(Pattern::Topic, "some/topic").expect("it is a name");
        membership.enter(Role::Outlet, &name, 1).expect("it can be written");
        membership.enter(Role::Inlet, &name, 2).expect("it can be written");
        membership.withdraw(Role::Outlet, &name, 1);
        assert_eq!(membership.domain().entries(Role::Outlet, &name), Ok(vec![]));
        assert_eq!(membership.domain().entries(Role::Inlet, &name).map(|ids| ids.len()), Ok(1));
        drop(membership);
        assert!(scratch.leftovers().is_empty());
    }

    #[test]
    fn the_note_is_for_people_and_for_cleaning_up() {
        let scratch = Scratch::new();
        let (membership, id) = member(&scratch);
        let (_, note) = Note::read(&membership.domain().nodes, &format!("{id}.lock")).expect("it is there");
        let note = note.expect("it is complete");
        assert_eq!((note.name.as_str(), note.boot_id.as_str()), ("a node", membership.domain().boot_id()));
    }

    #[test]
    fn a_note_that_is_cut_short_is_none() {
        assert_eq!(Note::parse("boot\n12\nna"), None);
        assert_eq!(Note::parse("boot\n"), None);
        assert_eq!(Note::parse(""), None);
    }
}
