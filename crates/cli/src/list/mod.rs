//! `tidepost ls`: who is in the domain, what they send, receive, ask and serve, and who waits for whom.

mod census;
mod json;
mod people;
mod words;

use std::io::Write;
use std::time::Duration;

use census::Census;

use crate::{Failure, Place, text};

/// Options of `tidepost ls`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Write one JSON object.
    #[arg(long)]
    json: bool,
    /// How long to wait for the nodes' answers, in seconds. Those that are stopped never answer.
    #[arg(long, value_name = "S", default_value = "1", value_parser = text::parse_seconds)]
    timeout: Duration,
}

/// Runs the command.
pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let node = place.open("tidepost-ls")?;
    let mut nodes = node.inspect(arguments.timeout)?;
    nodes.retain(|report| report.id != node.id());
    let census = Census::new(&nodes);
    let mut output = std::io::stdout().lock();
    if arguments.json {
        writeln!(output, "{:#}", json::of(&census))?;
    } else {
        write!(output, "{}", people::text_of(&census))?;
    }
    Ok(())
}
