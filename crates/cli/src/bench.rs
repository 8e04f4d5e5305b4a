//! `tidepost bench`: how close to the limit of this machine.

use std::io::IsTerminal;

use serde_json::json;
use tidepost_bench::engine::Engine;
use tidepost_bench::report::{self, Plan, Row, Spread};
use tidepost_bench::workload::{Effort, Pattern, SIZES};

use crate::{Failure, text};

/// Options of `tidepost bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    measure: Measure,
    /// Sizes of messages: any of 56, 4k, 64k, 1m.
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
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut all = Vec::new();
    for plan in plans(arguments)? {
        let rounds = report::measure(&plan, |round, bytes| progress(&plan, round, bytes))?;
        let rows = report::rows(&plan, &rounds);
        if !arguments.json {
            print_rows(&plan, &rows);
        }
        all.push(json!({ "pattern": pattern_name(plan.pattern), "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>() }));
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

fn plans(arguments: &Arguments) -> Result<Vec<Plan>, Failure> {
    let sizes = if arguments.sizes.is_empty() { SIZES.to_vec() } else { arguments.sizes.clone() };
    if let Some(size) = sizes.iter().find(|size| !SIZES.contains(size)) {
        return Err(format!("messages of {size} B are not measured; choose among 56, 4k, 64k, 1m").into());
    }
    let (effort, rounds) =
        if arguments.quick { (Effort::Quick, 1) } else { (Effort::Full, arguments.rounds) };
    let plan =
        |pattern, sizes: Vec<usize>| Plan { pattern, sizes, rounds, effort, with_kernel: arguments.kernel };
    if arguments.measure == Measure::Latency {
        let pattern = if arguments.blocking { Pattern::Drip } else { Pattern::PingPong };
        let sizes = if arguments.blocking { vec![56] } else { sizes };
        return Ok(vec![plan(pattern, sizes)]);
    }
    if let Some(batch) = arguments.batch {
        return Ok(vec![plan(Pattern::Stream { batch: batch.clamp(1, 64) }, sizes)]);
    }
    let mut plans = vec![plan(Pattern::Stream { batch: 1 }, sizes.clone())];
    if sizes.contains(&56) {
        plans.push(plan(Pattern::Stream { batch: 64 }, vec![56]));
    }
    Ok(plans)
}

fn progress(plan: &Plan, round: u32, bytes: usize) {
    if std::io::stderr().is_terminal() {
        let size = text::bytes(bytes as u64);
        eprint!(
            "\r{}, {size}, round {} of {} …          \r",
            pattern_name(plan.pattern),
            round + 1,
            plan.rounds
        );
    }
}

fn pattern_name(pattern: Pattern) -> String {
    match pattern {
        Pattern::PingPong => "one-way latency, busy".to_owned(),
        Pattern::Stream { batch: 1 } => "stream, one by one".to_owned(),
        Pattern::Stream { batch } => format!("stream, in batches of {batch}"),
        Pattern::Drip => "one-way latency, blocking, 1 ms apart".to_owned(),
    }
}

fn print_rows(plan: &Plan, rows: &[Row]) {
    println!(
        "\n{} (median of {} rounds; × the limit of the same round, with its spread)",
        pattern_name(plan.pattern),
        plan.rounds
    );
    let is_stream = matches!(plan.pattern, Pattern::Stream { .. });
    let figures = if is_stream { "rate" } else { "p50        p99" };
    println!("{:>8}  {:6} {:9}  {figures}", "size", "cores", "engine");
    for row in rows {
        let (size, cores) = (text::bytes(row.bytes as u64), row.cores.name());
        print!("{size:>8}  {cores:6} {:9}  ", row.engine.name());
        if is_stream {
            println!("{:10} {}", text::rate(row.per_second.median), ratio(row.ratio));
            continue;
        }
        let (p50, p99) = (text::nanoseconds(row.p50_ns.median), text::nanoseconds(row.p99_ns.median));
        print!("{p50:10} {p99:10} p50 {}  p99 {}", ratio(row.ratio), ratio(row.ratio_p99));
        if plan.pattern == Pattern::Drip && matches!(row.engine, Engine::Futex | Engine::Tidepost) {
            print!("  {:.2} context switches a message", row.switches.median);
        }
        println!();
    }
}

fn ratio(spread: Spread) -> String {
    format!("{:.2} × ({:.2}–{:.2})", spread.median, spread.least, spread.most)
}
