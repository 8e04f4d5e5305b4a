//! Interleaved rounds, and what comes of them: ratios within a round, their median and spread, near and far apart.

use serde_json::{Value, json};
use tidepost::Overflow;

use crate::engine::Engine;
use crate::measure::{self, Failure, Measurement};
use crate::workload::{Effort, Pattern, Workload};

/// One-way nanoseconds of the bare ring below which two cores count as near.
const NEAR_NS: f64 = 150.0;

/// How often a round is measured in which the cores do not stay where they are.
const ATTEMPTS_MAX: u32 = 5;

/// How far two cores are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// A line goes from one to the other through a cache that they share.
    Near,
    /// It does not.
    Far,
    /// Near at one end of the round and far at the other: its ratios mean nothing.
    Moving,
}

impl Cores {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
            Self::Moving => "moving",
        }
    }
}

/// Subscribers that a publisher has when it is measured how little it notices them.
const SUBSCRIBERS: [u32; 3] = [1, 8, 64];
/// Publishers that a subscriber has when it is measured how much it can take.
const PUBLISHERS: [u32; 2] = [1, 4];

/// Readers that a writer has when it is measured how little it notices them.
const READERS: [u32; 2] = [1, 8];
/// Subscribers in a wait set when it is measured how little those cost that have nothing.
const SETS: [u32; 2] = [1, 1000];

/// Who is measured against whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contest {
    /// Tidepost against what the machine can do at best.
    Limits {
        /// Whether pipe and Unix socket are measured as well.
        with_kernel: bool,
    },
    /// Each policy against `Block`.
    Policies,
    /// A publisher with many subscribers that never look against one with a single one.
    Subscribers,
    /// Many publishers against one.
    Publishers,
    /// A call against a message there and one back, on two topics.
    Calls,
    /// An item of a queue against a message of a topic.
    Queues,
    /// Writing a state against publishing, with one reader that never looks.
    States,
    /// Writing a state with many readers that never look, or that sleep, against one with a single one.
    Readers,
    /// Notifying against publishing, with one waiter that never looks.
    Signals,
    /// A wait set with many subscribers, one of them ready, against one with a single one.
    Sets,
}

impl Contest {
    /// What the ratios are to.
    pub fn measure_name(self) -> &'static str {
        match self {
            Self::Limits { .. } => "the limit",
            Self::Policies => "block",
            Self::Subscribers => "one subscriber",
            Self::Publishers => "one publisher",
            Self::Calls | Self::Queues => "the topic",
            Self::States | Self::Signals => "the cheaper topic",
            Self::Readers => "one reader",
            Self::Sets => "one subscriber",
        }
    }

    fn engines(self, pattern: Pattern, bytes: usize) -> Vec<Engine> {
        let with_kernel = match self {
            Self::Limits { with_kernel } => with_kernel,
            Self::Policies => {
                let policies = [Overflow::Block, Overflow::DropOldest, Overflow::Latest];
                return policies.map(Engine::Policy).into();
            }
            Self::Subscribers => return SUBSCRIBERS.map(Engine::Subscribers).into(),
            Self::Publishers => return PUBLISHERS.map(Engine::Publishers).into(),
            Self::Calls => return vec![Engine::Topic(Overflow::Block), Engine::Call],
            Self::Queues => return vec![Engine::Topic(Overflow::Block), Engine::Queue],
            // Under `Block` a publisher would wait for a subscriber that never looks.
            Self::States | Self::Signals => {
                let other = if self == Self::States { Engine::State } else { Engine::Signal };
                let topics = [Overflow::DropOldest, Overflow::Latest].map(Engine::Topic);
                return topics.into_iter().chain([other]).collect();
            }
            Self::Readers => {
                let readers = READERS.map(Engine::Readers).into_iter();
                return readers.chain([Engine::Sleepers(READERS[1])]).collect();
            }
            Self::Sets => return SETS.map(Engine::Set).into(),
        };
        let mut engines = match pattern {
            Pattern::Drip => return vec![Engine::Futex, Engine::Tidepost],
            _ if bytes >= 65536 => vec![Engine::Ring, Engine::Pool, Engine::Tidepost],
            _ => vec![Engine::Ring, Engine::Tidepost],
        };
        if with_kernel {
            engines.extend([Engine::Pipe, Engine::Unix]);
        }
        engines
    }
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who is measured against whom.
    pub contest: Contest,
    /// The pattern.
    pub pattern: Pattern,
    /// The sizes, in bytes.
    pub sizes: Vec<usize>,
    /// How many rounds.
    pub rounds: u32,
    /// How much in each.
    pub effort: Effort,
}

/// One round of one size: every engine once, one after the other.
#[derive(Clone, Debug)]
pub struct Round {
    /// Bytes of a message.
    pub bytes: usize,
    /// How far the cores were from each other.
    pub cores: Cores,
    /// What each engine reached.
    pub found: Vec<(Engine, Measurement)>,
}

/// Measures every size in interleaved rounds; `progress` hears of each round. A round in which the cores moved is
/// measured again, a few times at most.
pub fn measure(plan: &Plan, mut progress: impl FnMut(u32, usize)) -> Result<Vec<Round>, Failure> {
    let mut rounds = Vec::new();
    for round in 0..plan.rounds {
        for &bytes in &plan.sizes {
            progress(round, bytes);
            let mut found = measure_round(plan, bytes, round)?;
            for _ in 1..ATTEMPTS_MAX {
                if found.cores != Cores::Moving {
                    break;
                }
                found = measure_round(plan, bytes, round)?;
            }
            rounds.push(found);
        }
    }
    Ok(rounds)
}

/// How far the two cores are from each other now.
fn probe() -> Result<Cores, Failure> {
    let probe = Workload { engine: Engine::Ring, pattern: Pattern::PingPong, bytes: 56, count: 5000 };
    Ok(if measure::run(probe)?.p50_ns < NEAR_NS { Cores::Near } else { Cores::Far })
}

/// One round, in which every second time the engines are in the opposite order.
fn measure_round(plan: &Plan, bytes: usize, round: u32) -> Result<Round, Failure> {
    let count = Workload::count_for(plan.pattern, bytes, plan.effort);
    let before = probe()?;
    let mut engines = plan.contest.engines(plan.pattern, bytes);
    if round % 2 == 1 {
        engines.reverse();
    }
    let mut found = Vec::new();
    for engine in engines {
        let is_slow = matches!(engine, Engine::Pipe | Engine::Unix) && bytes < 4096;
        let count = if is_slow { count / 20 + 50 } else { count };
        found.push((engine, measure::run(Workload { engine, pattern: plan.pattern, bytes, count })?));
    }
    let cores = if probe()? == before { before } else { Cores::Moving };
    Ok(Round { bytes, cores, found })
}

impl Round {
    /// What this engine reached.
    pub fn of(&self, engine: Engine) -> Option<Measurement> {
        self.found.iter().find(|(of, _)| *of == engine).map(|(_, found)| *found)
    }

    /// What the others are measured against. Of several limits the better: by median time, or by rate in a stream.
    pub fn limit(&self) -> Measurement {
        let limits = self.found.iter().filter(|(engine, _)| engine.is_measure()).map(|(_, found)| *found);
        let better = |a: Measurement, b: Measurement| {
            if a.per_second > b.per_second || (a.per_second == b.per_second && a.p50_ns < b.p50_ns) {
                a
            } else {
                b
            }
        };
        limits.reduce(better).unwrap_or_default()
    }
}

/// Median and spread of one figure over the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// Of these values; none of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        Some(Self { median: values[values.len() / 2], least, most })
    }

    /// As JSON.
    pub fn to_json(self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}

/// One line of a report: an engine, a size, near or far cores.
#[derive(Clone, Debug)]
pub struct Row {
    /// The engine.
    pub engine: Engine,
    /// Bytes of a message.
    pub bytes: usize,
    /// How far the cores were from each other.
    pub cores: Cores,
    /// Rounds that count.
    pub rounds: usize,
    /// Median times in nanoseconds.
    pub p50_ns: Spread,
    /// Times that 99 of 100 keep, in nanoseconds.
    pub p99_ns: Spread,
    /// Messages each second.
    pub per_second: Spread,
    /// Context switches of the receiver for each message.
    pub switches: Spread,
    /// Against the limit, or whatever else is the measure, of the same round: times its p50, or a fraction of its rate in
    /// a stream.
    pub ratio: Spread,
    /// Against the p99 of the same.
    pub ratio_p99: Spread,
}

/// The rows of a report: for each size and distance, each engine.
pub fn rows(plan: &Plan, rounds: &[Round]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &bytes in &plan.sizes {
        for cores in [Cores::Near, Cores::Far, Cores::Moving] {
            let of_kind: Vec<&Round> =
                rounds.iter().filter(|round| round.bytes == bytes && round.cores == cores).collect();
            let engines = plan.contest.engines(plan.pattern, bytes).into_iter();
            rows.extend(engines.filter_map(|engine| row(engine, &of_kind)));
        }
    }
    rows
}

fn row(engine: Engine, rounds: &[&Round]) -> Option<Row> {
    let first = rounds.first()?;
    let over = |figure: &dyn Fn(&Measurement, &Measurement) -> f64| {
        let values =
            rounds.iter().filter_map(|round| Some(figure(&round.of(engine)?, &round.limit()))).collect();
        Spread::of(values)
    };
    let is_stream = first.limit().per_second > 0.0;
    Some(Row {
        engine,
        bytes: first.bytes,
        cores: first.cores,
        rounds: rounds.len(),
        p50_ns: over(&|found, _| found.p50_ns)?,
        p99_ns: over(&|found, _| found.p99_ns)?,
        per_second: over(&|found, _| found.per_second)?,
        switches: over(&|found, _| found.switches)?,
        ratio: over(&|found, limit| {
            if is_stream { found.per_second / limit.per_second } else { found.p50_ns / limit.p50_ns }
        })?,
        ratio_p99: over(&|found, limit| found.p99_ns / limit.p99_ns)?,
    })
}

impl Row {
    /// The row as JSON: nanoseconds, messages each second, ratios.
    pub fn to_json(&self) -> Value {
        json!({
            "engine": self.engine.name(),
            "bytes": self.bytes,
            "cores": self.cores.name(),
            "rounds": self.rounds,
            "p50_ns": self.p50_ns.to_json(),
            "p99_ns": self.p99_ns.to_json(),
            "per_second": self.per_second.to_json(),
            "switches_per_message": self.switches.to_json(),
            "ratio": self.ratio.to_json(),
            "ratio_p99": self.ratio_p99.to_json(),
        })
    }
}
