//! `tidepost bench locks`: what locks in a region cost, and reading and attaching one.

use std::io::{self, Write};

use serde_json::json;
use tidepost_bench::locks::{self, LockRow};
use tidepost_bench::report::Spread;

use super::{Arguments, rounds, say_progress};
use crate::{Failure, text};

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let rounds = rounds(arguments);
    let rows = locks::measure(rounds, |round| say_progress("locks", round, rounds))?;
    let mut output = io::stdout().lock();
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(LockRow::to_json).collect();
        let report = json!([{ "pattern": "locks", "rows": rows }]);
        return Ok(writeln!(output, "{}", serde_json::to_string_pretty(&report)?)?);
    }
    writeln!(output, "\nlocks in a region (median of {rounds} rounds, with its spread)")?;
    for row in rows {
        write!(output, "{:32}{}", row.what, spread(row.time_ns, text::nanoseconds))?;
        if let (Some(against), Some(ratio)) = (row.against, row.ratio) {
            write!(output, "  {} of {against}", spread(ratio, |of| format!("{of:.2} x")))?;
        }
        writeln!(output)?;
    }
    Ok(())
}

fn spread(of: Spread, unit: impl Fn(f64) -> String) -> String {
    format!("{:8} ({} – {})", unit(of.median), unit(of.least), unit(of.most))
}
