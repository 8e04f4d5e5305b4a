//! Entries: who sends and who receives under a name, as empty files that newcomers list.

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::{self, Errno};

use super::directory::names_in;
use super::{Domain, Name};
use crate::node::identity::EndpointId;

/// How often an entry's directory is created again because somebody removed it while it was empty.
const ATTEMPTS_MAX: usize = 100;

/// Which end of a stream an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// It sends.
    Outlet,
    /// It receives.
    Inlet,
}

impl Role {
    /// Whom a newcomer in this role looks for.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Outlet => Self::Inlet,
            Self::Inlet => Self::Outlet,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Outlet => "out-",
            Self::Inlet => "in-",
        }
    }
}

/// One endpoint under one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) role: Role,
    pub(super) name: Name,
    pub(super) id: EndpointId,
}

impl Entry {
    fn path(&self) -> String {
        format!("{}/{}{}", self.name.file_name(), self.role.prefix(), self.id)
    }
}

/// The role and endpoint that a file name stands for.
pub(super) fn parse(file: &str) -> Option<(Role, EndpointId)> {
    [Role::Outlet, Role::Inlet]
        .into_iter()
        .find_map(|role| Some((role, file.strip_prefix(role.prefix())?.parse().ok()?)))
}

impl Domain {
    pub(super) fn create_entry(&self, entry: &Entry) -> io::Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            match fs::mkdirat(&self.topics, entry.name.file_name(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match fs::openat(&self.topics, entry.path(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(_) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::BUSY)
    }

    /// Removes an entry, and its directory if that is empty now.
    pub(super) fn remove_entry(&self, entry: &Entry) {
        // Entries of a node that is gone are removed by the next open if they cannot be now.
        let _ = fs::unlinkat(&self.topics, entry.path(), AtFlags::empty());
        self.remove_topic_if_empty(&entry.name.file_name());
    }

    pub(super) fn remove_topic_if_empty(&self, topic: &str) {
        // A directory that is not empty stays, which is what was wanted.
        let _ = fs::unlinkat(&self.topics, topic, AtFlags::REMOVEDIR);
    }

    /// The endpoints in `role` under `name`, dead or alive.
    pub(crate) fn entries(&self, role: Role, name: &Name) -> io::Result<Vec<EndpointId>> {
        let files = self.files_of_topic(&name.file_name())?;
        let in_role = |file: String| parse(&file).filter(|(found, _)| *found == role).map(|(_, id)| id);
        Ok(files.into_iter().filter_map(in_role).collect())
    }

    /// The files in a topic's directory; none if there is no such directory.
    pub(super) fn files_of_topic(&self, topic: &str) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match fs::openat(&self.topics, topic, flags, Mode::empty()) {
            Ok(directory) => names_in(&directory),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::domain::tests::Scratch;
    use crate::node::identity::NodeId;

    fn entry(number: u64) -> Entry {
        let id = EndpointId { node: NodeId::from_bits(9), number };
        Entry { role: Role::Outlet, name: Name::new("t").expect("it is a name"), id }
    }

    #[test]
    fn entries_are_listed_by_role() {
        let scratch = Scratch::new();
        let domain = scratch.domain();
        domain.create_entry(&entry(1)).expect("it can be written");
        assert_eq!(domain.entries(Role::Outlet, &entry(1).name), Ok(vec![entry(1).id]));
        assert_eq!(domain.entries(Role::Inlet, &entry(1).name), Ok(vec![]));
        domain.remove_entry(&entry(1));
        assert!(scratch.leftovers().is_empty());
    }

    #[test]
    fn creating_survives_somebody_who_removes_empty_directories() {
        let scratch = Scratch::new();
        let (domain, other) = (scratch.domain(), scratch.domain());
        let name = entry(1).name.file_name();
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| (0..2_000).for_each(|_| other.remove_topic_if_empty(&name)));
            for number in 1..=300 {
                domain.create_entry(&entry(number)).expect("removal is only of empty directories");
                domain.remove_entry(&entry(number));
            }
            remover.join().expect("it does not panic");
        });
        assert!(scratch.leftovers().is_empty());
    }

    #[test]
    fn other_files_are_no_entries() {
        for file in ["", "out-", "in-12.1", "readme", "out-00000000000000000000000000000001.0"] {
            assert_eq!(parse(file), None, "{file}");
        }
    }
}
