//! Private directories for a measurement or a demonstration, removed when they are dropped – or, after a kill, by the
//! next one.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

/// What the names of all of them start with.
const PREFIX: &str = "tidepost-scratch-";

/// A directory that only we may enter. It is locked as long as it is in use.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// A fresh directory. Those that killed processes left are removed.
    pub fn create() -> std::io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = std::env::temp_dir();
        let named = |error: std::io::Error| std::io::Error::other(format!("{}: {error}", base.display()));
        remove_abandoned(&base);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = base.join(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(named)?;
        let lock = File::open(&path).map_err(named)?;
        flock(&lock, FlockOperation::NonBlockingLockShared)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories of ours that nobody has locked. What cannot be removed now, the next one tries again.
fn remove_abandoned(base: &Path) {
    let entries = std::fs::read_dir(base).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let is_young = entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|time| {
            // One that is just being made is not locked yet.
            time.elapsed().is_ok_and(|age| age.as_secs() < 60)
        });
        let is_abandoned =
            |directory: File| flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !is_young && File::open(entry.path()).is_ok_and(is_abandoned) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
