//! A lock that two processes want at once, again and again: what one turn costs, against a bare lock of futexes.
//!
//! The number under the lock says whose turn it is. Each takes the lock until it finds its own turn, and passes it on; the other tries
//! meanwhile. So every turn is a lock that changes hands while it is wanted.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use tidepost::{Mutex, Node, Region};

use crate::engine::tidepost as endpoints;
use crate::limit::lock::{self, BareLock};
use crate::limit::memory::Shared;
use crate::measure::Failure;
use crate::process::{self, Partner};

/// The child's part.
const PART: &str = "handover";
/// Turns of both together, and how many of them are over before the others are timed.
const TURNS: u64 = 20_000;
const WARM: u64 = 1_000;

/// The two processes' locks.
struct Both {
    ours: Region<Mutex<u64>>,
    bare: BareLock,
}

impl Both {
    fn new(node: &Node, shared: &Shared) -> Result<Self, Failure> {
        let ours = node.region::<Mutex<u64>>("handover").open()?;
        Ok(Self { ours, bare: BareLock::over(shared) })
    }

    /// Takes turns with the other process: even ones are the parent's, odd ones the child's. Nanoseconds of a turn with
    /// each lock.
    fn take_turns(&self, is_mine: impl Fn(u64) -> bool) -> (f64, f64) {
        let ours = turns(&is_mine, |change| {
            let mut guard = self.ours.lock().unwrap_or_else(|error| panic!("the other lives: {error}"));
            *guard = change(*guard);
        });
        (ours, turns(&is_mine, |change| self.bare.with(change)))
    }
}

/// Until the turns of this round are over.
fn turns(is_mine: impl Fn(u64) -> bool, mut with: impl FnMut(&mut dyn FnMut(u64) -> u64)) -> f64 {
    let (mut first, mut last, mut start) = (None, 0, None);
    while first.is_none_or(|first| last < first + TURNS) {
        with(&mut |turn| {
            // A round begins at a multiple of what a round has.
            first.get_or_insert(turn / TURNS * TURNS);
            last = turn + u64::from(is_mine(turn) && turn < first.unwrap_or(turn) + TURNS);
            last
        });
        if start.is_none() && first.is_some_and(|first| last >= first + WARM) {
            start = Some(Instant::now());
        }
    }
    start.map_or(0.0, |start| start.elapsed().as_nanos() as f64 / (TURNS - WARM) as f64)
}

/// The parent's side.
pub(crate) struct Rivals {
    both: Both,
    partner: Partner,
    _shared: Shared,
}

impl Rivals {
    /// Starts the child, in the domain of the node.
    pub(crate) fn start(node: &Node, directory: &Path) -> Result<Self, Failure> {
        let shared = Shared::create(lock::BYTES)?;
        let both = Both::new(node, &shared)?;
        let part = [PART.to_owned(), shared.number().to_string()];
        let mut partner = Partner::start(part, &directory.to_string_lossy())?;
        partner.line()?;
        Ok(Self { both, partner, _shared: shared })
    }

    /// One round; nanoseconds of a turn with our lock, and with the bare one.
    pub(crate) fn round(&mut self) -> Result<(f64, f64), Failure> {
        self.partner.go()?;
        let result = process::pinned(|| self.both.take_turns(|turn| turn.is_multiple_of(2)));
        self.partner.line()?;
        Ok(result)
    }
}

/// The child's side, if that is its part: as many rounds as the parent likes.
pub(crate) fn child(part: &[String], directory: &Path) -> Option<Result<Value, Failure>> {
    let [name, number] = part else { return None };
    (name == PART).then(|| {
        let shared = Shared::inherit(number.parse()?, lock::BYTES)?;
        let node = endpoints::open(directory, "bench-child");
        let both = Both::new(&node, &shared)?;
        process::tell("ready");
        while process::await_go()? {
            both.take_turns(|turn| !turn.is_multiple_of(2));
            process::tell("done");
        }
        Ok(json!({}))
    })
}
