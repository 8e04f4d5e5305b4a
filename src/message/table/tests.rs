//! The fears: what is passed on is kept for ever, or brings those who pass it on into disrepute.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{TableReader, TableWriter};
use crate::message::event::Event;
use crate::node::Node;
use crate::sync::board::TableWords;

const PATIENCE: Duration = Duration::from_secs(60);

struct Stage(PathBuf);

impl Stage {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("tidepost-table-test-{}-{count}", std::process::id())))
    }

    fn node(&self, name: &str) -> Node {
        Node::builder().name(name).directory(&self.0).open().expect("the domain is ours")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn writer(node: &Node) -> TableWriter<u64, u64> {
    node.table("t").capacity(10).writer_timeout(PATIENCE).expect("nobody else is its writer")
}

fn reader(node: &Node) -> TableReader<u64, u64> {
    node.table("t").reader().expect("the types agree")
}

fn boards(reader: &TableReader<u64, u64>) -> usize {
    reader.watch.inlet().keeper.boards()
}

#[test]
fn what_was_passed_on_is_let_go_of_when_somebody_writes() {
    let stage = Stage::new();
    let (writing, there) = (stage.node("writer"), stage.node("keeper"));
    let mut keeper = reader(&there);
    let mut first = writer(&writing);
    first.wait_for_readers(1, PATIENCE).expect("it is there");
    first.set(&7, &1).expect("there is room");
    until("it is connected", || keeper.has_writer());
    drop(first);
    until("it has left", || keeper.is_orphaned());
    let mut late = reader(&stage.node("late"));
    until("it is passed on", || late.get(&7) == Ok(Some(1)));
    let mut second = writer(&writing);
    second.wait_for_readers(2, PATIENCE).expect("they are there");
    second.set(&7, &2).expect("there is room");
    for reader in [&mut late, &mut keeper] {
        until("it is connected", || reader.get(&7) == Ok(Some(2)));
    }
    until("only the second is kept", || boards(&late) == 1 && boards(&keeper) == 1);
    // A handle does not keep memory, nor a connection.
    let handles = (late.handle(), keeper.handle());
    let inlets = [&late, &keeper].map(|reader| std::sync::Arc::clone(reader.watch.inlet()));
    drop((late, keeper));
    until("they have left", || second.readers() == 0);
    assert_eq!(inlets.map(|inlet| inlet.keeper.boards()), [0, 0]);
    drop(handles);
}

#[test]
fn a_reader_that_never_looked_leaves_although_a_handle_stays() {
    let stage = Stage::new();
    let (writing, there) = (stage.node("writer"), stage.node("reader"));
    let reader = reader(&there);
    let mut writer = writer(&writing);
    writer.wait_for_readers(1, PATIENCE).expect("it is there");
    let handle = reader.handle();
    drop(reader);
    until("it has left", || writer.readers() == 0);
    drop(handle);
}

#[test]
fn who_only_passes_on_a_garbled_table_is_not_accused() {
    let stage = Stage::new();
    let [writing, keeping, coming] = ["writer", "keeper", "late"].map(|name| stage.node(name));
    let mut keeper = reader(&keeping);
    let mut writer = writer(&writing);
    writer.wait_for_readers(1, PATIENCE).expect("it is there");
    writer.set(&7, &1).expect("there is room");
    let words = writer.cells.words();
    for slot in (0..words.slots()).map(|slot| words.slot(slot)) {
        let word = slot.load(crate::sync::door::Ordering::Relaxed);
        if word != 0 {
            // A cell far beyond the table.
            slot.store(word | 0xff_fff0, crate::sync::door::Ordering::Relaxed);
        }
    }
    until("it is connected", || keeper.has_writer());
    drop(writer);
    until("it has left", || keeper.is_orphaned());
    let mut notifier = keeping.signal("alive").notifier().expect("the signal is ours");
    let mut waiter = coming.signal("alive").waiter().expect("the numbers agree");
    notifier.wait_for_waiters(1, PATIENCE).expect("it is there");
    until("it is connected", || waiter.notifiers() == 1);
    let mut late = reader(&coming);
    until("it is passed on", || late.is_orphaned());
    assert_eq!((late.get(&7), late.is_orphaned()), (Ok(None), false));
    assert_eq!(coming.violations().0, 1);
    while let Some(event) = waiter.try_event() {
        assert!(matches!(event, Event::Joined(_)), "{event:?}");
    }
    notifier.notify(0).expect("there is such an id");
    assert!(waiter.wait_timeout(PATIENCE).expect("waiting succeeds").is_some(), "the keeper is heard");
    // The keeper finds it, too, and passes it on no more.
    assert_eq!(keeper.get(&7), Ok(None));
    assert_eq!((keeping.violations().0, boards(&keeper)), (1, 0));
    let mut last = reader(&coming);
    assert_eq!((last.get(&7), last.is_orphaned(), coming.violations().0), (Ok(None), false, 1));
}
