//! The `tidepost` tool.

mod bench;
mod demo;
mod publish;
mod subscribe;
mod text;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What may go wrong with a command; its text is shown to the user.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Inter-process communication: publish, subscribe, measure, and see it work.
#[derive(Debug, Parser)]
#[command(name = "tidepost", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish lines of standard input, or a file in chunks, on a topic.
    Pub(publish::Arguments),
    /// Print what is published on a topic.
    Sub(subscribe::Arguments),
    /// Measure Tidepost against what this machine can do at best.
    Bench(bench::Arguments),
    /// See everything at work: separate processes, real data, a killed participant, and what it costs.
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some(tidepost_bench::CHILD_COMMAND) => tidepost_bench::child(&arguments[2..]),
        Some(demo::PART_COMMAND) => demo::play_part(&arguments[2..]),
        _ => run(Arguments::parse().command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidepost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Pub(arguments) => publish::run(&arguments),
        Command::Sub(arguments) => subscribe::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}

/// Whether whoever read our output has gone, which is how `| head` ends.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
