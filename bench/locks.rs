//! What locks in a region cost, and what it takes to read and write there: each against what it stands in for,
//! in the same rounds.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::{Value, json};
use tidepost::{Node, SeqLock};

use crate::handover::Rivals;
use crate::limit::robust::RobustMutex;
use crate::measure::Failure;
use crate::report::Spread;
use crate::scratch::Scratch;

/// Turns in which each kind of operation is timed beside the others.
const TURNS: u32 = 20;
/// Operations of a round, of those that take nanoseconds.
const OPERATIONS: u32 = 200_000;
/// Bytes of a bulk copy, and how many of them a round has.
const BULK_BYTES: usize = 64 << 10;
const BULKS: u32 = 2_000;
/// Bytes of the region that is attached, and how often in a round.
const HUGE_BYTES: usize = 1 << 30;
const ATTACHES: u32 = 5;

/// One thing that was measured, and what it is measured against.
#[derive(Clone, Debug)]
pub struct LockRow {
    /// What.
    pub what: &'static str,
    /// Nanoseconds of one.
    pub time_ns: Spread,
    /// Against what, if anything.
    pub against: Option<&'static str>,
    /// Nanoseconds of that.
    pub against_ns: Option<Spread>,
    /// The ratio of the two in each round.
    pub ratio: Option<Spread>,
}

impl LockRow {
    /// The row as JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "what": self.what,
            "time_ns": self.time_ns.to_json(),
            "against": self.against,
            "against_ns": self.against_ns.map(Spread::to_json),
            "ratio": self.ratio.map(Spread::to_json),
        })
    }
}

/// What a round found, in nanoseconds for one operation.
#[derive(Default)]
struct Round {
    lock: f64,
    std: f64,
    robust: f64,
    read: f64,
    copy: f64,
    bulk_read: f64,
    bulk_write: f64,
    memcpy: f64,
    attach: f64,
    turn: f64,
    bare_turn: f64,
}

/// Which figure of a round.
type Figure = fn(&Round) -> f64;
/// What, its figure, and what it is measured against.
type Comparison = (&'static str, Figure, Option<(&'static str, Figure)>);

/// Measures everything in so many rounds; `progress` hears of each.
pub fn measure(rounds: u32, mut progress: impl FnMut(u32)) -> Result<Vec<LockRow>, Failure> {
    let directory = Scratch::create()?;
    let node = Node::builder().name("bench-locks").directory(directory.path()).open()?;
    let huge = node.region_bytes("huge").create(HUGE_BYTES)?;
    let mut rivals = Rivals::start(&node, directory.path())?;
    let found = (0..rounds).map(|round| {
        progress(round);
        let (turn, bare_turn) = rivals.round()?;
        Ok::<_, Failure>(Round { turn, bare_turn, ..one_round(&node)? })
    });
    let found = found.collect::<Result<Vec<_>, _>>()?;
    drop(huge);
    let rows: [Comparison; 7] = [
        ("lock and unlock, uncontended", |of| of.lock, Some(("std::sync::Mutex", |of| of.std))),
        ("lock and unlock, uncontended", |of| of.lock, Some(("a robust pthread mutex", |of| of.robust))),
        ("a turn, wanted by two processes", |of| of.turn, Some(("a bare futex lock", |of| of.bare_turn))),
        ("read 56 B under a SeqLock", |of| of.read, Some(("a plain copy", |of| of.copy))),
        ("read 64 KiB of a region", |of| of.bulk_read, Some(("memcpy", |of| of.memcpy))),
        ("write 64 KiB of a region", |of| of.bulk_write, Some(("memcpy", |of| of.memcpy))),
        ("attach a region of 1 GiB", |of| of.attach, None),
    ];
    let rows = rows.into_iter().filter_map(|(what, figure, against)| {
        let ratio = against.map(|(_, other)| found.iter().map(|of| figure(of) / other(of)).collect());
        Some(LockRow {
            what,
            time_ns: Spread::of(found.iter().map(figure).collect())?,
            against: against.map(|(name, _)| name),
            against_ns: against.and_then(|(_, other)| Spread::of(found.iter().map(other).collect())),
            ratio: ratio.and_then(Spread::of),
        })
    });
    Ok(rows.collect())
}

fn one_round(node: &Node) -> Result<Round, Failure> {
    let lock = node.region::<tidepost::Mutex<u64>>("lock").create()?;
    let values = node.region::<SeqLock<[u64; 7]>>("values").create()?;
    let bytes = node.region_bytes("bytes").create(BULK_BYTES)?;
    let (plain, robust) = (Mutex::new(0u64), RobustMutex::new().ok_or("there is no robust mutex")?);
    let (private, mut copy) = (vec![1u8; BULK_BYTES], vec![0u8; BULK_BYTES]);
    let source = [7u64; 7];
    values.write(&source).map_err(|error| error.to_string())?;
    bytes.write_at(0, &private)?;
    let mut round = Round::default();
    let lock_ours = || {
        if let Ok(mut guard) = lock.lock() {
            *guard += 1;
        }
    };
    let lock_std = || {
        if let Ok(mut guard) = plain.lock() {
            *guard += 1;
        }
    };
    [round.lock, round.std, round.robust] = in_turns(
        OPERATIONS,
        [&|count| each(count, lock_ours), &|count| each(count, lock_std), &|count| {
            each(count, || _ = black_box(robust.lock_and_unlock()))
        }],
    );
    [round.read, round.copy] = in_turns(
        OPERATIONS,
        [&|count| each(count, || _ = black_box(values.read())), &|count| {
            each(count, || _ = black_box(*black_box(&source)))
        }],
    );
    let into = RefCell::new(&mut copy);
    [round.bulk_read, round.bulk_write, round.memcpy] = in_turns(
        BULKS,
        [
            &|count| each(count, || _ = black_box(bytes.read_at(0, &mut into.borrow_mut()))),
            &|count| each(count, || _ = black_box(bytes.write_at(0, black_box(&private)))),
            &|count| each(count, || black_box(&mut **into.borrow_mut()).copy_from_slice(black_box(&private))),
        ],
    );
    let mut failed = None;
    round.attach = each(ATTACHES, || failed = failed.take().or(node.region_bytes("huge").attach().err()));
    failed.map_or(Ok(round), |error| Err(error.into()))
}

/// Nanoseconds of one of each, of so many that are done in turns: the median of the turns. Each kind of work is told how many to do
/// at once, and says what one took.
fn in_turns<const KINDS: usize>(count: u32, works: [&dyn Fn(u32) -> f64; KINDS]) -> [f64; KINDS] {
    let mut times = [const { Vec::new() }; KINDS];
    for _ in 0..TURNS {
        for (times, work) in times.iter_mut().zip(works) {
            times.push(work(count / TURNS));
        }
    }
    times.map(|times| Spread::of(times).map_or(f64::NAN, |of| of.median))
}

/// Nanoseconds of one of so many.
fn each(count: u32, mut work: impl FnMut()) -> f64 {
    work();
    let start = Instant::now();
    (0..count).for_each(|_| work());
    start.elapsed().as_nanos() as f64 / f64::from(count)
}
