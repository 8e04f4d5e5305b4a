//! `tidepost bench connect`: what comes before the first message, and what many topics take.

use std::io::{self, Write};

use serde_json::json;
use tidepost_bench::connect::{self, StepRow, TopicsRow, UsageRow};
use tidepost_bench::report::Spread;

use super::{Arguments, rounds, say_progress};
use crate::{Failure, text};

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match arguments.topics {
        None => run_steps(arguments),
        Some(topics) => run_topics(arguments, topics),
    }
}

fn run_steps(arguments: &Arguments) -> Result<(), Failure> {
    let rounds = rounds(arguments);
    let rows = connect::steps(rounds, |round| say_progress("connecting", round, rounds))?;
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(StepRow::to_json).collect();
        return print_json(&json!([{ "pattern": "connecting", "rows": rows }]));
    }
    let mut output = io::stdout().lock();
    writeln!(output, "\nconnecting (median of {rounds} rounds, with its spread)")?;
    for row in rows {
        writeln!(output, "{:28}{}", row.step, spread(row.time_ns, text::nanoseconds))?;
    }
    Ok(())
}

fn run_topics(arguments: &Arguments, topics: u32) -> Result<(), Failure> {
    let rounds = rounds(arguments);
    let title = format!("{topics} topics between two processes");
    let progress = |round, depth| say_progress(&format!("{title}, {}", depth_name(depth)), round, rounds);
    let rows = connect::topics(topics, rounds, progress)?;
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(TopicsRow::to_json).collect();
        return print_json(&json!([{ "pattern": title, "rows": rows }]));
    }
    let mut output = io::stdout().lock();
    writeln!(output, "\n{title} (median of {rounds} rounds, with its spread)")?;
    Ok(rows.iter().try_for_each(|row| print_topics(&mut output, row))?)
}

fn print_json(report: &serde_json::Value) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{}", serde_json::to_string_pretty(report)?)?)
}

fn depth_name(depth: Option<usize>) -> String {
    depth.map_or("depth as the library chooses".to_owned(), |depth| format!("depth {depth}"))
}

fn print_topics(output: &mut impl Write, row: &TopicsRow) -> io::Result<()> {
    let each = (row.publishers_ns.median + row.subscribers_ns.median) / f64::from(row.topics);
    writeln!(output, "\n{}, messages of 8 B", depth_name(row.depth))?;
    writeln!(output, "  make the publishers               {}", spread(row.publishers_ns, text::nanoseconds))?;
    writeln!(
        output,
        "  make and connect the subscribers  {}",
        spread(row.subscribers_ns, text::nanoseconds)
    )?;
    writeln!(output, "  both together, for one topic      {}", text::nanoseconds(each))?;
    writeln!(
        output,
        "  {:12} {:>11} {:>10} {:>10} {:>12} {:>9}",
        "process of", "connections", "resident", "private", "descriptors", "mappings"
    )?;
    print_usage(output, "publishers", row.publisher)?;
    print_usage(output, "subscribers", row.subscriber)
}

fn print_usage(output: &mut impl Write, whose: &str, usage: UsageRow) -> io::Result<()> {
    let bytes = |of: Spread| text::bytes(of.median as u64);
    writeln!(
        output,
        "  {whose:12} {:>11} {:>10} {:>10} {:>12} {:>9}",
        usage.connections.most,
        bytes(usage.resident),
        bytes(usage.private),
        usage.descriptors.median,
        usage.mappings.median
    )
}

fn spread(of: Spread, unit: impl Fn(f64) -> String) -> String {
    format!("{:10} ({} – {})", unit(of.median), unit(of.least), unit(of.most))
}
