//! What consumers have done with items, as they wrote it into files before they acknowledged it, and what producers have begun.
//! A test of queues believes nothing else, and a process that is killed takes nothing of it along.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::stage::{DIRECTORY, Stage};

/// Bytes of a record: sender, number, and whether the item said that it came again.
const RECORD_BYTES: usize = 24;
/// Where a book says how many items have been begun, and how many have been acknowledged.
const BEGUN: u64 = 0;
const ACKNOWLEDGED: u64 = 8;

/// A file beside the domain that starts with this one.
fn path_in(directory: PathBuf, name: u64) -> PathBuf {
    directory.with_extension(format!("records-{name}"))
}

fn directory_of_part() -> PathBuf {
    PathBuf::from(std::env::var(DIRECTORY).expect("the test names a directory"))
}

fn word_at(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(*bytes[8 * index..].first_chunk().expect("files hold whole words"))
}

/// Where a consumer writes down what it has done.
pub struct RecordFile(File);

impl RecordFile {
    /// The file of this process, which is called so.
    pub fn of_part(name: u64) -> Self {
        let path = path_in(directory_of_part(), name);
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(file.expect("the directory is writable"))
    }

    /// Writes one record, in one piece.
    pub fn note(&mut self, (sender, number): (u64, u64), is_again: bool) {
        let mut bytes = [0; RECORD_BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip([sender, number, u64::from(is_again)]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.0.write_all(&bytes).expect("the disk has room");
    }
}

/// Where a producer writes down how far it is.
pub struct Book(File);

impl Book {
    /// The book of this process, which is called so.
    pub fn of_part(name: u64) -> Self {
        let book = Self(File::create(path_in(directory_of_part(), name)).expect("the directory is writable"));
        book.begin(0);
        book.acknowledged(0);
        book
    }

    /// So many items may have been pushed from now on.
    pub fn begin(&self, items: u64) {
        self.write(BEGUN, items);
    }

    /// So many items have been acknowledged.
    pub fn acknowledged(&self, items: u64) {
        self.write(ACKNOWLEDGED, items);
    }

    fn write(&self, place: u64, items: u64) {
        self.0.write_all_at(&items.to_le_bytes(), place).expect("the disk has room");
    }
}

/// What has been done, by sender and number: how often, and how often as if for the first time.
#[derive(Default)]
pub struct Records(BTreeMap<(u64, u64), (u64, u64)>);

impl Records {
    /// The records in these files, which are removed.
    pub fn collect(stage: &Stage, names: impl IntoIterator<Item = u64>) -> Self {
        let mut records = Self::default();
        for path in names.into_iter().map(|name| path_in(stage.directory().to_owned(), name)) {
            // One that was killed early has none.
            let bytes = std::fs::read(&path).unwrap_or_default();
            bytes.chunks_exact(RECORD_BYTES).for_each(|record| {
                records.enter((word_at(record, 0), word_at(record, 1)), word_at(record, 2) != 0);
            });
            let _ = std::fs::remove_file(path);
        }
        records
    }

    fn enter(&mut self, item: (u64, u64), is_again: bool) {
        let (times, first_times) = self.0.entry(item).or_default();
        *times += 1;
        *first_times += u64::from(!is_again);
    }

    fn of(&self, sender: u64) -> impl Iterator<Item = (u64, (u64, u64))> {
        self.0.range((sender, 0)..=(sender, u64::MAX)).map(|((_, number), done)| (*number, *done))
    }

    /// That no item of this sender was new to more than one.
    fn check_new(&self, sender: u64) {
        for (number, (_, first_times)) in self.of(sender) {
            assert!(first_times <= 1, "item {number} of {sender} was new to {first_times}");
        }
    }

    /// That each item of this sender has been done, and was new to at most one; how many were done more than once.
    pub fn check(&self, sender: u64, items: u64) -> u64 {
        let numbers: Vec<u64> = self.of(sender).map(|(number, _)| number).collect();
        assert_eq!(numbers, (0..items).collect::<Vec<_>>(), "what has been done for {sender}");
        self.check_new(sender);
        self.of(sender).filter(|(_, (times, _))| *times > 1).count() as u64
    }

    /// That of a sender that was killed nothing has been done that it did not push, everything that it knew to be acknowledged,
    /// and that no item was new to more than one. Its book is removed.
    pub fn check_killed(&self, stage: &Stage, sender: u64) {
        let path = path_in(stage.directory().to_owned(), sender);
        // It may not have come as far as to open one.
        let book = std::fs::read(&path).ok().filter(|book| book.len() == 16).unwrap_or_else(|| vec![0; 16]);
        let _ = std::fs::remove_file(path);
        self.check_dead(sender, word_at(&book, 0), word_at(&book, 1));
    }

    fn check_dead(&self, sender: u64, begun: u64, acknowledged: u64) {
        let done = self.of(sender).count() as u64;
        assert!(done >= acknowledged, "{done} of {acknowledged} acknowledged items of {sender} were done");
        let last = self.of(sender).last().map(|(number, _)| number);
        assert!(last.is_none_or(|last| last < begun), "{last:?} of {begun} items of {sender}");
        self.check_new(sender);
    }
}

/// The checker checks itself: what was lost, was new to two, or was never sent is noticed.
#[test]
fn a_record_that_cannot_be_is_noticed() {
    let records = |items: &[(u64, bool)]| {
        let mut records = Records::default();
        items.iter().for_each(|(number, is_again)| records.enter((7, *number), *is_again));
        records
    };
    let is_noticed =
        |check: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err();
    // Item 1 was done by one that died before its acknowledgement was known.
    let good = records(&[(0, false), (1, false), (2, true), (1, true)]);
    assert_eq!(good.check(7, 3), 1);
    good.check_dead(7, 3, 3);
    good.check_dead(7, 10, 0);
    assert!(is_noticed(&|| _ = good.check(7, 4)), "the last is lost");
    assert!(is_noticed(&|| _ = good.check(7, 2)), "one is too many");
    assert!(is_noticed(&|| _ = good.check(8, 1)), "all of them are another's");
    assert!(is_noticed(&|| good.check_dead(7, 2, 0)), "the last was never begun");
    assert!(is_noticed(&|| good.check_dead(7, 10, 4)), "one was acknowledged that was not done");
    let lost = records(&[(0, false), (2, false)]);
    assert!(is_noticed(&|| _ = lost.check(7, 3)));
    let twice = records(&[(0, false), (1, false), (1, false)]);
    assert!(is_noticed(&|| _ = twice.check(7, 2)), "it was new to two");
    assert!(is_noticed(&|| twice.check_dead(7, 2, 0)), "it was new to two");
}
