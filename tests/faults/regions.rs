//! The fear: shared memory that is made twice, half made, or lost with its maker; or that another process takes down whoever
//! touches it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use tidepost::{ByteRegion, Mutex, Node, Region, RegionError, Shared};

use crate::parts::{say, wait};
use crate::stage::{Actor, PATIENCE, Stage};

/// Processes that make or attach the same region at the same instant.
const CAST: usize = 6;
/// How often each of them counts.
const ROUNDS: u64 = 20_000;
/// Bytes of a region that grows, at first and in the end.
const SMALL: usize = 4096;
const LARGE: usize = 8 << 20;

/// A counter, and how often it was initialised.
#[derive(Shared)]
#[repr(C)]
pub struct Counter {
    made: u64,
    maker: u32,
    padding: u32,
    count: Mutex<u64>,
}

fn counter(node: &Node) -> Region<Counter> {
    let builder = node.region::<Counter>("counter").patience(PATIENCE);
    let opened = builder.open_with(|counter| {
        counter.made += 1;
        counter.maker = std::process::id();
    });
    opened.expect("it is there or can be made")
}

/// Opens the counter when it is told to, and counts.
pub fn count(node: &Node) {
    say("ready");
    wait();
    let counter = counter(node);
    for _ in 0..ROUNDS {
        *counter.count.lock().expect("nobody dies") += 1;
    }
    say(format!("{} {}", counter.made, counter.maker));
    wait();
}

#[test]
fn a_region_is_made_once_and_counts_right_whoever_makes_it() {
    let stage = Stage::new();
    let mut cast: Vec<Actor> = (0..CAST).map(|_| stage.start("region-counter", "")).collect();
    cast.iter_mut().for_each(|actor| actor.expect("ready"));
    cast.iter_mut().for_each(Actor::go);
    let said: Vec<String> = cast.iter_mut().map(Actor::hear).collect();
    assert!(said.iter().all(|line| *line == said[0] && line.starts_with("1 ")), "{said:?}");
    // Whoever made it goes, and the others with it but for one.
    let node = stage.node();
    let region = node.region::<Counter>("counter").attach().expect("others have it");
    assert_eq!(region.attached().len(), CAST + 1);
    cast.drain(..).for_each(Actor::kill);
    assert_eq!(*region.count.lock().expect("nobody had it"), CAST as u64 * ROUNDS);
    let again = stage.node();
    let other = again.region::<Counter>("counter").attach().expect("we have it");
    assert_eq!(*other.count.lock().expect("nobody has it"), CAST as u64 * ROUNDS);
    drop((region, other));
    let gone = again.region::<Counter>("counter").attach().expect_err("nobody has it");
    assert!(matches!(gone, RegionError::NotFound { .. }), "{gone}");
    let fresh = again.region::<Counter>("counter").create().expect("it can be made anew");
    assert_eq!((fresh.made, *fresh.count.lock().expect("nobody has it")), (0, 0));
}

#[test]
fn what_does_not_fit_is_said() {
    let stage = Stage::new();
    let (node, other) = (stage.node(), stage.node());
    let region = node.region::<Counter>("one").create().expect("it can be made");
    let error = other.region::<Counter>("one").create().expect_err("it exists");
    assert!(matches!(error, RegionError::Exists { .. }), "{error}");
    let error = other.region::<Mutex<u64>>("one").attach().expect_err("it is another type");
    assert!(
        matches!(&error, RegionError::TypeMismatch { difference, .. } if difference.what == "name"),
        "{error}"
    );
    let error = other.region_bytes("one").attach().expect_err("it is another type");
    assert!(matches!(error, RegionError::TypeMismatch { .. }), "{error}");
    let error = other.region::<Counter>("two").attach().expect_err("there is none");
    assert!(matches!(error, RegionError::NotFound { .. }), "{error}");
    let error = node.region::<Counter>("a\0b").create().expect_err("it is no name");
    assert!(matches!(error, RegionError::Name(_)), "{error}");
    // More than any machine has: an error, and nobody is killed for want of memory.
    let error = node.region_bytes("bytes").create(1 << 45).expect_err("no machine has as much");
    assert!(matches!(error, RegionError::System { source: rustix::io::Errno::NOMEM, .. }), "{error}");
    // Address space costs nothing.
    let wide = node.region_bytes("wide").len_max(1 << 40).create(1).expect("it can be made");
    let error = wide.grow(1 << 40).expect_err("there is not as much memory");
    assert!(matches!(error, RegionError::System { .. }), "{error}");
    wide.write_at(0, b"w").expect("it is as it was");
    for bytes in [0, usize::MAX, 1 << 47] {
        let error = node.region_bytes("bytes").create(bytes).expect_err("it is no size");
        assert!(matches!(error, RegionError::Limit { .. }), "{error}");
    }
    let error = node.region::<Counter>("seats").participants(0).create().expect_err("nobody could use it");
    assert!(matches!(error, RegionError::Limit { what: "seats", .. }), "{error}");
    drop(region);
    // What failed has left nothing.
    node.region_bytes("bytes").create(1).expect("the name is free");
}

/// Has attached a region, and is told what to write where.
pub fn hold_bytes(node: &Node) {
    let region = node.region_bytes("growing").attach().expect("it is there");
    say(region.len());
    wait();
    // It has grown meanwhile, without a word.
    let mut byte = [0];
    region.read_at(LARGE - 1, &mut byte).expect("it is there now");
    say(byte[0]);
    region.write_at(LARGE / 2, b"from afar").expect("it is there now");
    say(region.len());
    wait();
}

#[test]
fn a_region_grows_for_everybody_and_nothing_moves() {
    let stage = Stage::new();
    let node = stage.node();
    let region = node.region_bytes("growing").len_max(LARGE).create(SMALL).expect("it can be made");
    let first = region.atomic_at(0).expect("it has eight bytes");
    first.store(0x1234, std::sync::atomic::Ordering::Relaxed);
    let mut holder = stage.start("byte-holder", "");
    holder.expect(&SMALL.to_string());
    for (offset, length) in [(SMALL, 1), (SMALL - 1, 2), (usize::MAX, 2), (0, SMALL + 1)] {
        let error = region.read_at(offset, &mut vec![0; length]).expect_err("it is not that long");
        assert!(matches!(error, RegionError::Range { .. }), "{error}");
    }
    assert!(region.atomic_at(SMALL).is_err() && region.atomic_at(4).is_err());
    assert_eq!(region.grow(LARGE), Ok(LARGE));
    region.write_at(LARGE - 1, &[7]).expect("it is as long");
    holder.go();
    holder.expect("7");
    holder.expect(&LARGE.to_string());
    let mut words = [0; 9];
    region.read_at(LARGE / 2, &mut words).expect("it is as long");
    assert_eq!(&words, b"from afar");
    // What was lent before is where it was.
    assert_eq!(first.load(std::sync::atomic::Ordering::Relaxed), 0x1234);
    let error = region.grow(LARGE + 1).expect_err("it was made for less");
    assert!(matches!(error, RegionError::Limit { limit, .. } if limit == LARGE as u64), "{error}");
    let reader = node.region_bytes("growing").attach_read_only().expect("we have it");
    reader.read_at(LARGE / 2, &mut words).expect("it is as long");
    assert_eq!((&words, reader.len()), (b"from afar", LARGE));
}

/// Every byte of the headers but those that nobody reads, flipped: an error, or a region that works; and nothing worse.
#[test]
fn a_garbled_region_is_refused_or_works() {
    let stage = Stage::new();
    let node = stage.node();
    let whole = node.region_bytes("whole").len_max(1 << 20).create(SMALL).expect("it can be made");
    let mut bytes = vec![0; 65536];
    let file = fs::File::from(whole.as_fd().try_clone_to_owned().expect("descriptors are left"));
    let length = file.metadata().expect("it is a file").len() as usize;
    bytes.truncate(length);
    file.read_exact_at(&mut bytes, 0).expect("it is as long");
    let mut refused = 0;
    for index in 0..256 {
        for flip in [1u8, 0x80, 0xff] {
            let mut garbled = bytes.clone();
            garbled[index] ^= flip;
            match node.region_bytes("").attach_fd(sealed(&garbled)) {
                Ok(region) => use_it(&region),
                Err(RegionError::Unusable { .. } | RegionError::TypeMismatch { .. }) => refused += 1,
                Err(RegionError::System { .. } | RegionError::Limit { .. }) => refused += 1,
                Err(error) => panic!("byte {index}: {error}"),
            }
        }
    }
    assert!(refused > 100, "{refused} were refused");
    // Cut off anywhere, unsealed, or no memory at all.
    for cut in [0, 64, 128, 4096, length - 1] {
        assert!(node.region_bytes("").attach_fd(sealed(&bytes[..cut])).is_err(), "{cut} B");
    }
    assert!(node.region_bytes("").attach_fd(unsealed(&bytes)).is_err());
    let null = fs::File::open("/dev/null").expect("it is everywhere");
    assert!(node.region_bytes("").attach_fd(null.into()).is_err());
    use_it(&node.region_bytes("").attach_fd(sealed(&bytes)).expect("it is what it was"));
}

fn use_it(region: &ByteRegion) {
    region.write_at(region.len() - 1, &[5]).expect("it is as long as it says");
    let mut byte = [0];
    region.read_at(region.len() - 1, &mut byte).expect("it is as long as it says");
    assert_eq!(byte, [5]);
    let _ = region.grow(region.len() + 1);
}

fn unsealed(bytes: &[u8]) -> OwnedFd {
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("garbled", flags).expect("memory is left");
    let file = fs::File::from(memory);
    file.write_all_at(bytes, 0).expect("memory is left");
    file.into()
}

fn sealed(bytes: &[u8]) -> OwnedFd {
    let memory = unsealed(bytes);
    let seals = rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals).expect("a new one can be sealed");
    memory
}

/// Makes a region with a name, and is killed in the middle of it.
pub fn make_half_named(node: &Node) {
    let _ = node.region::<Counter>("half").open_with(|counter| {
        counter.made = 9;
        say("half");
        wait();
    });
}

#[test]
fn a_region_whose_maker_died_half_way_is_made_anew() {
    let stage = Stage::new();
    let node = stage.node();
    let mut half = stage.start("half-maker", "");
    half.expect("half");
    let busy = node.region::<Counter>("half").patience(Duration::from_millis(50)).open();
    let maker = half.pid().to_string();
    assert!(matches!(&busy, Err(RegionError::Busy { by: Some(by), .. }) if by.contains(&maker)), "{busy:?}");
    half.kill();
    let region = node.region::<Counter>("half").patience(PATIENCE).open_with(|counter| counter.made += 1);
    assert_eq!(region.expect("it is made anew").made, 1);
}

/// Makes a region in a file, and is killed in the middle of it.
pub fn make_half(node: &Node) {
    let path = Stage::of_part().directory().join("kept");
    let _ = node.region::<Counter>("").open_file(path, |counter| {
        counter.made = 9;
        say("half");
        wait();
    });
}

#[test]
fn a_file_outlives_everybody_and_a_half_made_one_is_made_anew() {
    let stage = Stage::new();
    let path = stage.directory().join("kept");
    let mut half = stage.start("file-maker", "");
    half.expect("half");
    let node = stage.node();
    let error = node.region::<Counter>("").patience(Duration::from_millis(50)).open_file(&path, |_| ());
    assert!(matches!(error, Err(RegionError::System { .. })), "{error:?}");
    half.kill();
    let region = node.region::<Counter>("").open_file(&path, |counter| counter.made += 1);
    let region = region.expect("it is made anew");
    *region.count.lock().expect("nobody has it") = 77;
    region.flush().expect("the file can be written");
    drop((region, node));
    let later = stage.node();
    let region = later.region::<Counter>("").open_file(&path, |_| panic!("it is there"));
    let region = region.expect("it has stayed");
    assert_eq!((region.made, *region.count.lock().expect("nobody has it")), (1, 77));
    // What is something else is left alone.
    let letter = stage.directory().join("letter");
    fs::write(&letter, "Dear reader").expect("the directory is ours");
    let error = later.region::<Counter>("").open_file(&letter, |_| ()).expect_err("it is a letter");
    assert!(matches!(error, RegionError::Unusable { .. }), "{error}");
    assert_eq!(fs::read(&letter).expect("it is there"), b"Dear reader");
}

/// Has too little address space for what it asks for, and says so.
pub fn ask_for_too_much(node: &Node) {
    let attached = node.region_bytes("huge").attach().expect("it can be mapped in part");
    crate::shortage::starve();
    let error = node.region_bytes("more").create(64 << 20).expect_err("there is no address space");
    assert!(matches!(error, RegionError::System { .. }), "{error}");
    let mut byte = [0];
    attached.read_at(0, &mut byte).expect("it is there as before");
    say(byte[0]);
    wait();
}

#[test]
fn a_process_without_address_space_is_told() {
    let stage = Stage::new();
    let node = stage.node();
    let region = node.region_bytes("huge").len_max(1 << 30).create(SMALL).expect("it can be made");
    region.write_at(0, &[3]).expect("it is as long");
    stage.start("greedy", "").expect("3");
}
