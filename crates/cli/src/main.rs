//! The `tidepost` tool.

mod bench;
mod call;
mod demo;
mod fields;
mod format;
mod gateway;
mod incoming;
mod job;
mod keeper;
mod lines;
mod list;
mod notices;
mod publish;
mod queue;
mod rate;
mod region;
mod serve;
mod signal;
mod state;
mod subscribe;
mod table;
mod text;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidepost::{Node, OpenError};

/// What may go wrong with a command; its text is shown to the user.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is said below the list of commands.
const EXIT_STATUS: &str = "Exit status: 0 if all went well, also if whoever read the output has left; 1 if something failed, or did not \
                           come in time: standard error says what; 2 if the arguments make no sense.";

/// What has been typed.
#[derive(Debug, Parser)]
#[command(name = "tidepost", version, about, after_help = EXIT_STATUS, disable_help_subcommand = true)]
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
    #[arg(long, global = true, value_name = "DIRECTORY", conflicts_with = "domain", display_order = 900)]
    dir: Option<PathBuf>,
    /// The domain's name; otherwise $TIDEPOST_DOMAIN, otherwise `default`. Its directory lies under
    /// $XDG_RUNTIME_DIR/tidepost, or under tidepost-<user id> in the directory for temporary files.
    #[arg(long, global = true, value_name = "NAME", display_order = 901)]
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
    /// Ask a service, and print its answer.
    Call(call::Arguments),
    /// Answer the requests of a service by running a command for each.
    Serve(serve::Arguments),
    /// Push lines of standard input into a queue, and wait until they have been seen to.
    Push(queue::PushArguments),
    /// Take items out of a queue, and print them.
    Pull(queue::PullArguments),
    /// Print the value of a state.
    Get(state::GetArguments),
    /// Write the value of a state. It stays as long as this command runs, and as somebody reads it.
    Set(state::SetArguments),
    /// Print the values of a state as they change.
    Watch(state::WatchArguments),
    /// Wake those who wait for a signal.
    Signal(signal::SignalArguments),
    /// Wait for a signal.
    Wait(signal::WaitArguments),
    /// Make, read, write and watch memory that processes share.
    #[command(subcommand)]
    Region(region::Arguments),
    /// Carry the domain to those of other machines, with the program `tidepost-gateway` beside this one.
    Gateway(gateway::Arguments),
    /// List who is in the domain: nodes, what they send, receive, ask and serve, and who waits for whom.
    Ls(list::Arguments),
    /// Say how fast a topic is: messages and bytes a second, losses, and latency where messages are stamped.
    Hz(rate::Arguments),
    /// Measure Tidepost against what this machine can do at best, in a domain of its own.
    Bench(bench::Arguments),
    /// See it at work, in a domain of its own: separate processes, real data, a killed participant, and what it costs.
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let outcome = match arguments.get(1).and_then(|command| command.to_str()) {
        Some(tidepost_bench::CHILD_COMMAND) => tidepost_bench::child(&texts(&arguments[2..])),
        Some(demo::PART_COMMAND) => demo::play_part(&arguments[2..]),
        Some(keeper::COMMAND) => keeper::keep(&arguments[2..]),
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
        Command::Call(command) => call::run(&command, &arguments.place),
        Command::Serve(command) => serve::run(&command, &arguments.place),
        Command::Push(command) => queue::push(&command, &arguments.place),
        Command::Pull(command) => queue::pull(&command, &arguments.place),
        Command::Get(command) => state::get(&command, &arguments.place),
        Command::Set(command) => state::set(&command, &arguments.place),
        Command::Watch(command) => state::watch(&command, &arguments.place),
        Command::Signal(command) => signal::notify(&command, &arguments.place),
        Command::Wait(command) => signal::wait(&command, &arguments.place),
        Command::Region(command) => region::run(&command, &arguments.place),
        Command::Gateway(command) => gateway::run(&command, &arguments.place),
        Command::Ls(command) => list::run(&command, &arguments.place),
        Command::Hz(command) => rate::run(&command, &arguments.place),
        Command::Bench(command) => bench::run(&command),
        Command::Demo(command) => demo::run(&command),
    }
}

/// Whether whoever read our output has gone, which is how `| head` ends.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
