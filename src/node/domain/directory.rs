//! The domain's directory: found, created and checked before anything in it is believed.
//!
//! Whoever can write to it could pose as any node, so it must be ours alone to write. All work is done relative to the
//! descriptor that was checked.

use std::env;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Dir, Mode, OFlags};
use rustix::io::{self, Errno};

use super::name::Name;
use crate::node::error::{DirectoryProblem, OpenError};
use crate::os::process;

const PRIVATE: Mode = Mode::RWXU;
const DEFAULT_DOMAIN: &str = "default";

/// An open directory that belongs to us and that nobody else may write.
#[derive(Debug)]
pub(crate) struct Directory {
    directory: OwnedFd,
    path: PathBuf,
}

/// What the program said of where its domain is; what it left open, the environment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Location {
    /// The domain's directory itself.
    pub(crate) directory: Option<PathBuf>,
    /// The name of the domain under the user's usual directory.
    pub(crate) domain: Option<String>,
}

impl Location {
    /// Opens the domain's directory, creating what is missing of it.
    pub(crate) fn open(&self) -> Result<Directory, OpenError> {
        if let Some(path) = &self.directory {
            return Directory::open_all(path);
        }
        if self.domain.is_none()
            && let Some(path) = set_variable("TIDEPOST_DIR")
        {
            return Directory::open_all(Path::new(&path));
        }
        let domain =
            self.domain.clone().or_else(|| env::var("TIDEPOST_DOMAIN").ok().filter(|name| !name.is_empty()));
        let domain = Name::new(domain.as_deref().unwrap_or(DEFAULT_DOMAIN))?.file_name();
        let (base, own_part) = match set_variable("XDG_RUNTIME_DIR") {
            Some(runtime) => (PathBuf::from(runtime), "tidepost".to_owned()),
            None => (env::temp_dir(), format!("tidepost-{}", process::euid())),
        };
        Directory::open_base(&base)?.subdirectory(&own_part)?.subdirectory(&domain)
    }
}

fn set_variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

impl Directory {
    /// A directory that the user named: every missing level is created, and the last one is checked.
    fn open_all(path: &Path) -> Result<Self, OpenError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let created = DirBuilder::new().recursive(true).mode(PRIVATE.as_raw_mode()).create(&path);
        // A link or file in its place is told apart below, with a better text.
        if let Err(error) = created
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            return Err(unusable(&path, DirectoryProblem::Inaccessible(errno)));
        }
        Self::check(fs::open(&path, Self::FLAGS | OFlags::NOFOLLOW, Mode::empty()), path)
    }

    /// A directory of the system, which is not ours and not checked.
    fn open_base(path: &Path) -> Result<Self, OpenError> {
        let directory = fs::open(path, Self::FLAGS, Mode::empty())
            .map_err(|errno| unusable(path, DirectoryProblem::Inaccessible(errno)))?;
        Ok(Self { directory, path: path.to_owned() })
    }

    const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

    /// The directory `name` in this one, created if it is missing, and checked.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<Self, OpenError> {
        let path = self.path.join(name);
        match fs::mkdirat(&self.directory, name, PRIVATE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(unusable(&path, DirectoryProblem::Inaccessible(errno))),
        }
        Self::check(fs::openat(&self.directory, name, Self::FLAGS | OFlags::NOFOLLOW, Mode::empty()), path)
    }

    fn check(opened: io::Result<OwnedFd>, path: PathBuf) -> Result<Self, OpenError> {
        let directory = match opened {
            Ok(directory) => directory,
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(unusable(&path, DirectoryProblem::NotADirectory)),
            Err(errno) => return Err(unusable(&path, DirectoryProblem::Inaccessible(errno))),
        };
        let stat =
            fs::fstat(&directory).map_err(|errno| unusable(&path, DirectoryProblem::Inaccessible(errno)))?;
        let ours = process::euid();
        if stat.st_uid != ours {
            return Err(unusable(&path, DirectoryProblem::Owner { owner: stat.st_uid, ours }));
        }
        let mode = Mode::from_raw_mode(stat.st_mode);
        if mode.intersects(Mode::WGRP | Mode::WOTH) {
            return Err(unusable(&path, DirectoryProblem::Writable { mode: mode.as_raw_mode() }));
        }
        Ok(Self { directory, path })
    }

    /// Where the directory was when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in the directory that are text, without `.` and `..`.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.directory)
    }
}

/// The names in an open directory that are text, without `.` and `..`.
pub(crate) fn names_in(directory: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && !matches!(name, "." | "..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn unusable(path: &Path, problem: DirectoryProblem) -> OpenError {
    OpenError::Directory { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::domain::tests::Scratch;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn open(path: &Path) -> Result<Directory, OpenError> {
        Location { directory: Some(path.to_owned()), domain: None }.open()
    }

    fn problem(path: &Path) -> DirectoryProblem {
        match open(path) {
            Err(OpenError::Directory { problem, .. }) => problem,
            other => panic!("the directory must be refused, not {other:?}"),
        }
    }

    #[test]
    fn missing_levels_are_created_private() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a/b");
        open(&path).expect("it can be created").subdirectory("c").expect("it can be created");
        for level in ["a", "a/b", "a/b/c"] {
            let mode = scratch.path().join(level).metadata().expect("it exists").mode();
            assert_eq!(mode & 0o777, 0o700, "{level}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.path().join("open");
        std::fs::create_dir(&path).expect("it can be created");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o770)).expect("it is ours");
        assert_eq!(problem(&path), DirectoryProblem::Writable { mode: 0o770 });
    }

    #[test]
    fn a_link_is_refused_even_to_a_good_directory() {
        let scratch = Scratch::new();
        let link = scratch.path().join("link");
        symlink(scratch.path(), &link).expect("links can be made");
        assert_eq!(problem(&link), DirectoryProblem::NotADirectory);
    }

    #[test]
    fn a_file_is_refused() {
        let scratch = Scratch::new();
        let file = scratch.path().join("file");
        std::fs::write(&file, "").expect("it can be written");
        assert_eq!(problem(&file), DirectoryProblem::NotADirectory);
    }

    #[test]
    fn the_text_names_path_and_remedy() {
        let error = unusable(Path::new("/x"), DirectoryProblem::Owner { owner: 5, ours: 7 }).to_string();
        assert!(
            error.contains("/x") && error.contains("user 5") && error.contains("TIDEPOST_DIR"),
            "{error}"
        );
    }
}
