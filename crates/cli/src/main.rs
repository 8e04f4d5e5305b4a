//! The `tidepost` tool.

mod bench;
mod demo;
mod publish;
mod subscribe;
mod text;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidepost::{Node, OpenError};

/// What may go wrong with a command; its text is shown to the user.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Inter-process communication: publish, subscribe, measure, and see it work.
#[derive(Debug, Parser)]
#[command(name = "tidepost", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Which domain: processes in one domain find each other.
#[derive(Debug, clap::Args)]
struct Place {
    /// The domain's directory itself; otherwise $TIDEPOST_DIR.
    #[arg(long, global = true, value_name = "DIRECTORY", conflicts_with = "domain")]
    dir: Option<PathBuf>,
    /// The domain's name; otherwise $TIDEPOST_DOMAIN, otherwise `default`. Its directory lies under
    /// $XDG_RUNTIME_DIR/tidepost, or under tidepost-<user id> in the directory for temporary files.
    #[arg(long, global = true, value_name = "NAME")]
    domain: Option<String>,
}

impl Place {
    /// Opens a node there.
    fn open(&self, name: &str) -> Result<Node, OpenError> {
        let mut builder = Node::builder().name(name);
        if let Some(directory) = &self.dir {
            builder = builder.directory(directory);
        }
        if let Some(domain) = &self.domain {
            builder = builder.domain(domain);
        }
        builder.open()
    }
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
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let outcome = match arguments.get(1).and_then(|command| command.to_str()) {
        Some(tidepost_bench::CHILD_COMMAND) => tidepost_bench::child(&texts(&arguments[2..])),
        Some(demo::PART_COMMAND) => demo::play_part(&arguments[2..]),
        _ => run(Arguments::parse()),
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

fn texts(arguments: &[OsString]) -> Vec<String> {
    arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Pub(command) => publish::run(&command, &arguments.place),
        Command::Sub(command) => subscribe::run(&command, &arguments.place),
        Command::Bench(command) => bench::run(&command),
        Command::Demo(command) => demo::run(&command),
    }
}

/// Whether whoever read our output has gone, which is how `| head` ends.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
