//! `tidepost-gateway`: carries what is in a domain to those of other machines.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tidepost::Node;
use tidepost_zenoh::{CheckReport, Configuration, Gateway, NamePattern, Status, check};

mod bench;

/// What may go wrong; its text is shown to the user.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How often it is looked what has changed.
const LOOK: Duration = Duration::from_millis(200);

/// Carries topics, services, queues, states and signals between the domain of this machine and those of others.
#[derive(Parser)]
#[command(name = "tidepost-gateway", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Carry until it is ended: what it does without a command, too.
    Run(RunArguments),
    /// See whom the network reaches, and what is in the way.
    Check(RunArguments),
    /// Measure what the way through Tidepost costs beside the engine alone, on loopback.
    Bench(bench::Arguments),
}

#[derive(Args, Clone)]
struct RunArguments {
    /// Listen on this address, such as tcp/0.0.0.0:7447 or tls/[::]:7447; may be given again.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Connect to this address; may be given again.
    #[arg(long, value_name = "ADDRESS")]
    connect: Vec<String>,
    /// Look for others by multicast, and connect to whoever is found.
    #[arg(long)]
    discover: bool,
    /// Take the settings of this TOML file; what is given here goes before them.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The domain's directory; $TIDEPOST_DIR or the user's usual one if it is not given.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// The first part of every key: gateways of different realms do not see each other.
    #[arg(long)]
    realm: Option<String>,
    /// What this machine is called on others; its host name if it is not given.
    #[arg(long)]
    machine: Option<String>,
    /// Let these names cross in both directions, such as topic/arm/** or service/*, and no others; may be given again.
    #[arg(long, value_name = "PATTERN")]
    allow: Vec<NamePattern>,
    /// Let these names not cross; may be given again.
    #[arg(long, value_name = "PATTERN")]
    deny: Vec<NamePattern>,
}

impl RunArguments {
    fn configuration(&self) -> Result<Configuration, Failure> {
        let mut read = self.config.as_deref().map(Configuration::read).transpose()?.unwrap_or_default();
        if !self.listen.is_empty() {
            read.settings.listen = self.listen.clone();
        }
        if !self.connect.is_empty() {
            read.settings.connect = self.connect.clone();
        }
        read.settings.discovers |= self.discover;
        read.realm = self.realm.clone().or(read.realm);
        read.machine = self.machine.clone().or(read.machine);
        read.directory = self.directory.clone().or(read.directory);
        if !self.allow.is_empty() {
            read.rules.allow_out = self.allow.clone();
            read.rules.allow_in = self.allow.clone();
        }
        read.rules.deny_out.extend(self.deny.iter().cloned());
        read.rules.deny_in.extend(self.deny.iter().cloned());
        let settings = &read.settings;
        if settings.listen.is_empty() && settings.connect.is_empty() && !settings.discovers {
            let what = "give --listen, --connect or --discover, or a --config with one of them";
            return Err(
                format!("neither an address to listen on nor one to connect to is given; {what}").into()
            );
        }
        Ok(read)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let done = match &arguments[..] {
        [_, command, part @ ..] if command == bench::PART_COMMAND => {
            bench::play(part).map(|()| ExitCode::SUCCESS)
        }
        _ => run(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidepost-gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let Arguments { command, run } = Arguments::parse();
    match command.unwrap_or(Command::Run(run)) {
        Command::Run(arguments) => carry(&arguments),
        Command::Check(arguments) => look(&arguments),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

fn carry(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let configuration = arguments.configuration()?;
    // The environment says which domain it is, unless a directory is given.
    let directory = match &configuration.directory {
        Some(directory) => directory.clone(),
        None => Node::open("network")?.directory().to_owned(),
    };
    let settings = &configuration.settings;
    if settings.is_exposed() && !settings.has_authentication() {
        eprintln!(
            "warning: anybody who reaches {} can send to this domain and read it: use tls/… with `mutual = true`, \
             or a loopback address",
            if settings.discovers { "this network".to_owned() } else { settings.listen.join(", ") }
        );
    }
    let gateway = Gateway::start(settings, configuration.options(&directory))?;
    for address in gateway.addresses() {
        eprintln!("listening on {address}");
    }
    let mut shown = Shown::default();
    loop {
        // By then it knows whether it carries.
        std::thread::sleep(LOOK);
        shown.tell(&gateway.status());
    }
}

/// What has been told.
#[derive(Default)]
struct Shown {
    role: Option<bool>,
    machines: BTreeSet<String>,
    crossings: BTreeSet<String>,
    troubles: BTreeSet<String>,
}

impl Shown {
    fn tell(&mut self, status: &Status) {
        if self.role != Some(status.is_active) {
            self.role = Some(status.is_active);
            let role = if status.is_active {
                "carrying"
            } else {
                "another gateway carries for this domain: standing by"
            };
            eprintln!("{role}; realm `{}`, machine `{}`", status.realm, status.machine);
        }
        let machines = status.machines.iter().map(|machine| format!("machine `{machine}`"));
        changes(&mut self.machines, machines.collect(), ("is there", "is gone"));
        let crossings = status.crossings.iter();
        let crossings = crossings.map(|one| format!("{} `{}`, {}", one.pattern, one.name, one.direction));
        changes(&mut self.crossings, crossings.collect(), ("crosses", "crosses no more"));
        let troubles: BTreeSet<String> = status.troubles.iter().cloned().collect();
        troubles.difference(&self.troubles).for_each(|trouble| eprintln!("trouble: {trouble}"));
        self.troubles.extend(troubles);
    }
}

fn changes(before: &mut BTreeSet<String>, now: BTreeSet<String>, (come, gone): (&str, &str)) {
    now.difference(before).for_each(|one| eprintln!("{one} {come}"));
    before.difference(&now).for_each(|one| eprintln!("{one} {gone}"));
    *before = now;
}

fn look(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let configuration = arguments.configuration()?;
    let realm = configuration.options(&std::env::temp_dir()).realm;
    let report = check(&configuration.settings, &realm)?;
    print!("{report}");
    let CheckReport { connections, gateways, .. } = report;
    Ok(if connections > 0 && !gateways.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
