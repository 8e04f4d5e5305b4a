//! `tidepost bench`: how close to the limit of this machine, and what policies, crowds and connections cost.

mod connect;
mod locks;

use std::io::{self, IsTerminal, Write};

use serde_json::json;
use tidepost_bench::engine::Engine;
use tidepost_bench::report::{self, Contest, Plan, Row, Spread};
use tidepost_bench::workload::{Effort, Pattern, SIZES};

use crate::{Failure, text};

/// Options of `tidepost bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    measure: Measure,
    /// Sizes of messages: any of 56, 4k, 64k, 1m. All of them unless given, for `latency` and `throughput`; 56 for the
    /// others.
    #[arg(long, value_delimiter = ',', value_parser = text::parse_bytes)]
    sizes: Vec<usize>,
    /// Let the receiver sleep, with messages a millisecond apart, instead of polling.
    #[arg(long)]
    blocking: bool,
    /// Poll on both sides. This is the default.
    #[arg(long, conflicts_with = "blocking")]
    busy: bool,
    /// Messages that are sent and received at once; both 1 and 64 unless given.
    #[arg(long, value_name = "N")]
    batch: Option<u64>,
    /// Measure pipe and Unix socket as well.
    #[arg(long)]
    kernel: bool,
    /// With `connect`: make so many topics between two processes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    topics: Option<u32>,
    /// With `patterns`: measure only these.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PATTERN")]
    only: Vec<Only>,
    /// Interleaved rounds; a figure to quote needs at least seven.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Little work in one round: to see that everything runs, not to quote.
    #[arg(long)]
    quick: bool,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Measure {
    /// How long one message takes.
    Latency,
    /// How many messages a second.
    Throughput,
    /// What a publish costs with 1, 8 and 64 subscribers that never look.
    Fanout,
    /// How many messages a second one subscriber takes from four publishing processes.
    Many,
    /// How long one message takes under each policy.
    Policies,
    /// What calls, queues, states and signals cost against topics, and many endpoints in a wait set against one.
    Patterns,
    /// How long it takes to open a node, to connect, and until the first message.
    Connect,
    /// What locks in a region cost, and reading and attaching one.
    Locks,
}

/// What `bench patterns` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Calls of a service.
    Call,
    /// Items of a queue.
    Queue,
    /// Writes of a state.
    State,
    /// Writes of a state with more readers.
    Readers,
    /// Notifications of a signal.
    Signal,
    /// Endpoints in a wait set.
    Set,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.measure == Measure::Connect {
        return connect::run(arguments);
    }
    if arguments.measure == Measure::Locks {
        return locks::run(arguments);
    }
    if arguments.topics.is_some() {
        return Err("--topics belongs to `bench connect`".into());
    }
    if !arguments.only.is_empty() && arguments.measure != Measure::Patterns {
        return Err("--only belongs to `bench patterns`".into());
    }
    let mut all = Vec::new();
    for plan in plans(arguments)? {
        let rounds = report::measure(&plan, |round, bytes| progress(&plan, round, bytes))?;
        let rows = report::rows(&plan, &rounds);
        if !arguments.json {
            print_rows(&mut io::stdout().lock(), &plan, &rows)?;
        }
        all.push(
            json!({ "pattern": title(&plan), "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>() }),
        );
    }
    if arguments.json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}

/// What `bench patterns` measures, the one that takes most descriptors last.
const PATTERNS: [(Only, Contest, Pattern); 6] = [
    (Only::Call, Contest::Calls, Pattern::RoundTrip),
    (Only::Queue, Contest::Queues, Pattern::Stream { batch: 1 }),
    (Only::State, Contest::States, Pattern::Publish),
    (Only::Readers, Contest::Readers, Pattern::Publish),
    (Only::Signal, Contest::Signals, Pattern::Publish),
    (Only::Set, Contest::Sets, Pattern::Waiting),
];

fn plans(arguments: &Arguments) -> Result<Vec<Plan>, Failure> {
    let sizes = match arguments.sizes.as_slice() {
        [] if matches!(arguments.measure, Measure::Latency | Measure::Throughput) => SIZES.to_vec(),
        [] => vec![56],
        [56] => vec![56],
        _ if arguments.measure == Measure::Patterns => {
            return Err("`bench patterns` measures messages of 56 B".into());
        }
        chosen => chosen.to_vec(),
    };
    if let Some(size) = sizes.iter().find(|size| !SIZES.contains(size)) {
        return Err(format!("messages of {size} B are not measured; choose among 56, 4k, 64k, 1m").into());
    }
    let plan = |contest, pattern, sizes: Vec<usize>| {
        let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
        Plan { contest, pattern, sizes, rounds: rounds(arguments), effort }
    };
    let limits = Contest::Limits { with_kernel: arguments.kernel };
    Ok(match arguments.measure {
        Measure::Latency if arguments.blocking => vec![plan(limits, Pattern::Drip, vec![56])],
        Measure::Latency => vec![plan(limits, Pattern::PingPong, sizes)],
        Measure::Throughput => streams(arguments.batch, &sizes)
            .into_iter()
            .map(|(pattern, sizes)| plan(limits, pattern, sizes))
            .collect(),
        Measure::Fanout => vec![plan(Contest::Subscribers, Pattern::Publish, sizes)],
        Measure::Many => vec![plan(Contest::Publishers, Pattern::Stream { batch: 1 }, sizes)],
        Measure::Policies => vec![plan(Contest::Policies, Pattern::PingPong, sizes)],
        Measure::Patterns => PATTERNS
            .into_iter()
            .filter(|(only, ..)| arguments.only.is_empty() || arguments.only.contains(only))
            .map(|(_, contest, pattern)| plan(contest, pattern, sizes.clone()))
            .collect(),
        // It has no messages to plan.
        Measure::Connect | Measure::Locks => Vec::new(),
    })
}

/// The streams that are measured with each size: in batches of the number asked for, or of 1 and, small messages, of 64.
fn streams(batch: Option<u64>, sizes: &[usize]) -> Vec<(Pattern, Vec<usize>)> {
    if let Some(batch) = batch {
        return vec![(Pattern::Stream { batch: batch.clamp(1, 64) }, sizes.to_vec())];
    }
    let mut streams = vec![(Pattern::Stream { batch: 1 }, sizes.to_vec())];
    if sizes.contains(&56) {
        streams.push((Pattern::Stream { batch: 64 }, vec![56]));
    }
    streams
}

fn rounds(arguments: &Arguments) -> u32 {
    if arguments.quick { 1 } else { arguments.rounds }
}

fn progress(plan: &Plan, round: u32, bytes: usize) {
    say_progress(&format!("{}, {}", title(plan), text::bytes(bytes as u64)), round, plan.rounds);
}

fn say_progress(what: &str, round: u32, rounds: u32) {
    if io::stderr().is_terminal() {
        eprint!("\r{what}, round {} of {rounds} …          \r", round + 1);
    }
}

fn title(plan: &Plan) -> String {
    match plan.contest {
        Contest::Limits { .. } => pattern_name(plan.pattern),
        Contest::Policies => "one-way latency by policy, busy".to_owned(),
        Contest::Subscribers => "one publish, with subscribers that never look, drop-oldest".to_owned(),
        Contest::Publishers => "stream, one by one, from several publishers".to_owned(),
        Contest::Calls => "call and answer, busy".to_owned(),
        Contest::Queues => "items of a queue, each acknowledged, one by one".to_owned(),
        Contest::States => "writing a state, with a reader that never looks".to_owned(),
        Contest::Readers => "writing a state, with readers that never look, or sleep".to_owned(),
        Contest::Signals => "notifying, with a waiter that never looks".to_owned(),
        Contest::Sets => "waiting for one of many and receiving, busy".to_owned(),
    }
}

fn pattern_name(pattern: Pattern) -> String {
    match pattern {
        Pattern::Publish => "one publish".to_owned(),
        Pattern::PingPong => "one-way latency, busy".to_owned(),
        Pattern::Stream { batch: 1 } => "stream, one by one".to_owned(),
        Pattern::Stream { batch } => format!("stream, in batches of {batch}"),
        Pattern::Drip => "one-way latency, blocking, 1 ms apart".to_owned(),
        Pattern::RoundTrip => "round trip, busy".to_owned(),
        Pattern::Waiting => "waiting and receiving".to_owned(),
    }
}

fn print_rows(output: &mut impl Write, plan: &Plan, rows: &[Row]) -> io::Result<()> {
    writeln!(
        output,
        "\n{} (median of {} rounds; × {} of the same round, with its spread)",
        title(plan),
        plan.rounds,
        plan.contest.measure_name()
    )?;
    let is_stream = matches!(plan.pattern, Pattern::Stream { .. });
    let figures = if is_stream { "rate" } else { "p50        p99" };
    let width = rows.iter().map(|row| row.engine.name().len()).max().unwrap_or(0).max(9);
    writeln!(output, "{:>8}  {:6} {:width$}  {figures}", "size", "cores", "engine")?;
    for row in rows {
        let (size, cores) = (text::bytes(row.bytes as u64), row.cores.name());
        write!(output, "{size:>8}  {cores:6} {:width$}  ", row.engine.name())?;
        if is_stream {
            writeln!(output, "{:10} {}", text::rate(row.per_second.median), ratio(row.ratio))?;
            continue;
        }
        let (p50, p99) = (text::nanoseconds(row.p50_ns.median), text::nanoseconds(row.p99_ns.median));
        write!(output, "{p50:10} {p99:10} p50 {}  p99 {}", ratio(row.ratio), ratio(row.ratio_p99))?;
        if plan.pattern == Pattern::Drip && matches!(row.engine, Engine::Futex | Engine::Tidepost) {
            write!(output, "  {:.2} context switches a message", row.switches.median)?;
        }
        writeln!(output)?;
    }
    Ok(())
}

fn ratio(spread: Spread) -> String {
    format!("{:.2} × ({:.2}–{:.2})", spread.median, spread.least, spread.most)
}
