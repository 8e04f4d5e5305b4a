//! Entries: who sends and who receives in a channel, as empty files that newcomers list.

use std::time::Duration;

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::{self, Errno};

use super::directory::names_in;
use super::{Channel, Domain};
use crate::node::identity::EndpointId;

/// How often an entry's directory is created again because somebody removed it while it was empty.
///
/// Whoever waits for the directory's lock while we create gets it next, and finds it empty, so that one who removes
/// without a pause wins each time until we pause longer than he goes on: half a second in all.
const ATTEMPTS_MAX: u64 = 1_000;

/// Which side of its channel an endpoint is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// It sends.
    Outlet,
    /// It receives.
    Inlet,
    /// It is called.
    Server,
    /// It calls.
    Client,
}

impl Role {
    /// All of them, in the order of their codes from 0.
    const ALL: [Self; 4] = [Self::Outlet, Self::Inlet, Self::Server, Self::Client];

    /// Whom a newcomer in this role looks for.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Outlet => Self::Inlet,
            Self::Inlet => Self::Outlet,
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Outlet => "out-",
            Self::Inlet => "in-",
            Self::Server => "serve-",
            Self::Client => "call-",
        }
    }

    /// The code that stands for it in frames.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The role with this code.
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// One endpoint of one channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) role: Role,
    pub(super) channel: Channel,
    pub(super) id: EndpointId,
}

impl Entry {
    fn path(&self) -> String {
        format!("{}/{}{}", self.channel.file_name(), self.role.prefix(), self.id)
    }
}

/// The role and endpoint that a file name stands for.
pub(super) fn parse(file: &str) -> Option<(Role, EndpointId)> {
    Role::ALL.into_iter().find_map(|role| Some((role, file.strip_prefix(role.prefix())?.parse().ok()?)))
}

impl Domain {
    pub(super) fn create_entry(&self, entry: &Entry) -> io::Result<()> {
        for attempt in 0..ATTEMPTS_MAX {
            match fs::mkdirat(&self.names, entry.channel.file_name(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match fs::openat(&self.names, entry.path(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(_) => return Ok(()),
                Err(Errno::NOENT) => std::thread::sleep(Duration::from_micros(attempt)),
                Err(error) => return Err(error),
            }
        }
        Err(Errno::BUSY)
    }

    /// Removes an entry, and its directory if that is empty now.
    pub(super) fn remove_entry(&self, entry: &Entry) {
        // Entries of a node that is gone are removed by the next open if they cannot be now.
        let _ = fs::unlinkat(&self.names, entry.path(), AtFlags::empty());
        self.remove_name_if_empty(&entry.channel.file_name());
    }

    pub(super) fn remove_name_if_empty(&self, name: &str) {
        // A directory that is not empty stays, which is what was wanted.
        let _ = fs::unlinkat(&self.names, name, AtFlags::REMOVEDIR);
    }

    /// The endpoints in `role` of a channel, dead or alive.
    pub(crate) fn entries(&self, role: Role, channel: &Channel) -> io::Result<Vec<EndpointId>> {
        let files = self.files_of_name(&channel.file_name())?;
        let in_role = |file: String| parse(&file).filter(|(found, _)| *found == role).map(|(_, id)| id);
        Ok(files.into_iter().filter_map(in_role).collect())
    }

    /// The files in a name's directory; none if there is no such directory.
    pub(super) fn files_of_name(&self, name: &str) -> io::Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match fs::openat(&self.names, name, flags, Mode::empty()) {
            Ok(directory) => names_in(&directory),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::domain::Pattern;
    use crate::node::domain::tests::Scratch;
    use crate::node::identity::NodeId;

    fn entry(number: u64) -> Entry {
        let id = EndpointId { node: NodeId::from_bits(9), number };
        Entry { role: Role::Outlet, channel: Channel::new(Pattern::Topic, "t").expect("it is a name"), id }
    }

    #[test]
    fn entries_are_listed_by_role() {
        let scratch = Scratch::new();
        let domain = scratch.domain();
        domain.create_entry(&entry(1)).expect("it can be written");
        assert_eq!(domain.entries(Role::Outlet, &entry(1).channel), Ok(vec![entry(1).id]));
        assert_eq!(domain.entries(Role::Inlet, &entry(1).channel), Ok(vec![]));
        domain.remove_entry(&entry(1));
        assert!(scratch.leftovers().is_empty());
    }

    #[test]
    fn creating_survives_somebody_who_removes_empty_directories() {
        let scratch = Scratch::new();
        let (domain, other) = (scratch.domain(), scratch.domain());
        let name = entry(1).channel.file_name();
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                for _ in 0..2_000 {
                    other.remove_name_if_empty(&name);
                    // Who never lets go of the directory's lock would be served in turn with whoever creates, for ever.
                    std::thread::yield_now();
                }
            });
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
