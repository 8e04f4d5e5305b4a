//! Removing what killed nodes left behind.
//!
//! A node is dead if it is of this boot and its lock can be had. The lock is held while its files are removed, its
//! lock file last, so that two who clean up do not meet, and one who is killed meanwhile leaves the rest to be found.

use std::collections::BTreeSet;

use rustix::fs::{self, AtFlags};
use rustix::io::{self, Errno};

use super::entry;
use super::membership::{LOCK_SUFFIX, NEW_SUFFIX, Note, SOCKET_SUFFIX};
use super::{Domain, is_still};
use crate::node::identity::NodeId;
use crate::os::process;
use crate::os::unshared::Unshared;

/// A lock file whose node is dead, locked by us.
struct DeadLock {
    file: String,
    _lock: Unshared,
}

impl Domain {
    /// Removes the files of every dead node.
    pub(super) fn reap(&self) -> io::Result<()> {
        let files = self.nodes.names()?;
        let dead: Vec<DeadLock> = files.iter().filter_map(|file| self.lock_if_dead(file)).collect();
        let dead_nodes =
            dead.iter().filter_map(|lock| lock.file.strip_suffix(LOCK_SUFFIX)?.parse().ok()).collect();
        self.remove_entries_of(&dead_nodes)?;
        for file in &files {
            if node_of_socket(file).is_some_and(|node| dead_nodes.contains(&node) || !self.has_lock(node)) {
                self.remove_node_file(file);
            }
        }
        for lock in &dead {
            self.remove_node_file(&lock.file);
        }
        self.reap_claims()
    }

    /// Locks the file if it is the lock of a dead node of this boot, or one that a dead node did not complete.
    fn lock_if_dead(&self, file: &str) -> Option<DeadLock> {
        let is_complete = file.ends_with(LOCK_SUFFIX);
        let is_half_made = file.strip_suffix(NEW_SUFFIX).is_some_and(|file| file.ends_with(LOCK_SUFFIX));
        if !is_complete && !is_half_made {
            return None;
        }
        let mut note = None;
        let lock = Unshared::new(|| {
            let (lock, read) = Note::read(&self.nodes, file)?;
            note = read;
            Ok(lock)
        });
        let lock = lock.ok()?;
        let is_of_this_boot = match note {
            Some(note) => note.boot_id == self.boot_id,
            None => is_half_made,
        };
        let opened = lock.get()?;
        if !is_of_this_boot || !process::try_lock(opened).ok()? || !is_still(&self.nodes, file, opened) {
            return None;
        }
        Some(DeadLock { file: file.to_owned(), _lock: lock })
    }

    /// Whether a node has a lock file: it is there before anything else of the node, and goes after it.
    fn has_lock(&self, node: NodeId) -> bool {
        let file = format!("{node}{LOCK_SUFFIX}");
        !matches!(fs::statat(&self.nodes, file, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT))
    }

    fn remove_entries_of(&self, dead: &BTreeSet<NodeId>) -> io::Result<()> {
        for name in self.names.names()? {
            for file in self.files_of_name(&name)? {
                let node = entry::parse(&file).map(|(_, id)| id.node);
                if node.is_some_and(|node| dead.contains(&node) || !self.has_lock(node)) {
                    // What somebody else removed meanwhile needs no removal.
                    let _ = fs::unlinkat(&self.names, format!("{name}/{file}"), AtFlags::empty());
                }
            }
            self.remove_name_if_empty(&name);
        }
        Ok(())
    }
}

fn node_of_socket(file: &str) -> Option<NodeId> {
    file.strip_suffix(NEW_SUFFIX).unwrap_or(file).strip_suffix(SOCKET_SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::domain::tests::Scratch;
    use crate::node::domain::{Channel, Membership, Name, Pattern, Role};

    fn member(scratch: &Scratch) -> Membership {
        let id = NodeId::random().expect("random bits are available");
        Membership::new(scratch.domain(), id, &Name::new("n").expect("it is a name")).expect("it can join")
    }

    /// What `kill -9` leaves: the files without the lock.
    fn leave_as_dead(scratch: &Scratch) {
        let domain = scratch.path().join("domain");
        let membership = member(scratch);
        let channel = Channel::new(Pattern::Topic, "t").expect("it is a name");
        membership.enter(Role::Outlet, &channel, 1).expect("it can be written");
        let saved = scratch.path().join("saved");
        copy_all(&domain, &saved);
        drop(membership);
        copy_all(&saved, &domain);
    }

    fn copy_all(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).expect("it can be created");
        for entry in std::fs::read_dir(from).expect("it is a directory") {
            let (source, kind) =
                entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))).expect("readable");
            let target = to.join(source.file_name().expect("it has a name"));
            match (kind.is_dir(), kind.is_file()) {
                (true, _) => copy_all(&source, &target),
                (_, true) => drop(std::fs::copy(&source, &target).expect("it can be copied")),
                _ => std::fs::write(&target, "").expect("a stand-in for the socket"),
            }
        }
    }

    #[test]
    fn the_next_open_removes_everything_of_a_dead_node() {
        let scratch = Scratch::new();
        leave_as_dead(&scratch);
        assert_eq!(scratch.leftovers().len(), 3);
        scratch.domain();
        assert!(scratch.leftovers().is_empty(), "{:?}", scratch.leftovers());
    }

    #[test]
    fn a_living_node_is_left_alone() {
        let scratch = Scratch::new();
        let _membership = member(&scratch);
        scratch.domain();
        assert_eq!(scratch.leftovers().len(), 2);
    }

    #[test]
    fn a_node_of_another_boot_is_left_alone_and_counts_as_gone() {
        let scratch = Scratch::new();
        let domain = scratch.domain();
        let node = NodeId::from_bits(1);
        let nodes = scratch.path().join("domain/nodes");
        std::fs::write(nodes.join(format!("{node}.lock")), "another boot\n1\nn\n").expect("writable");
        std::fs::write(nodes.join(format!("{node}.sock")), "").expect("writable");
        scratch.domain();
        assert_eq!(scratch.leftovers().len(), 2);
        assert!(domain.connect(node).is_err());
    }

    #[test]
    fn half_made_files_and_orphans_are_removed() {
        let scratch = Scratch::new();
        scratch.domain();
        let (nodes, topics) = (scratch.path().join("domain/nodes"), scratch.path().join("domain/names"));
        let node = NodeId::from_bits(1);
        for suffix in [".lock.new", ".sock.new", ".sock"] {
            std::fs::write(nodes.join(format!("{node}{suffix}")), "").expect("writable");
        }
        std::fs::create_dir(topics.join("t")).expect("writable");
        std::fs::write(topics.join(format!("t/in-{node}.3")), "").expect("writable");
        scratch.domain();
        assert!(scratch.leftovers().is_empty(), "{:?}", scratch.leftovers());
    }

    #[test]
    fn many_who_open_at_once_do_not_clean_each_other_up() {
        let scratch = Scratch::new();
        scratch.domain();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..25).for_each(|_| drop(member(&scratch))));
            }
        });
        assert!(scratch.leftovers().is_empty(), "{:?}", scratch.leftovers());
    }
}
