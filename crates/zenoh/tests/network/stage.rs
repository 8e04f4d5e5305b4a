//! Domains on machines of their own, as far as gateways can tell.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tidepost::Node;
use tidepost_zenoh::{BridgeOptions, Gateway, Settings};

/// How long anything may take, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A domain of its own, removed when it is dropped.
pub struct Domain {
    directory: PathBuf,
    name: String,
}

impl Domain {
    pub fn new(name: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("tidepost-network-{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("the directory for temporary files is writable");
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("it is ours");
        Self { directory, name: name.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// A node of a program in this domain.
    pub fn node(&self) -> Node {
        Node::builder().name("program").directory(&self.directory).open().expect("the domain is ours")
    }

    pub fn options(&self) -> BridgeOptions {
        let mut options = BridgeOptions::new(&self.directory);
        options.machine = self.name.clone();
        options
    }

    pub fn gateway(&self, settings: &Settings) -> Gateway {
        Gateway::start(settings, self.options()).expect("the network is there")
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // What cannot be removed is left in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Says that a test is skipped, and why, past the runner, which keeps to itself what a passing test prints.
pub fn skip(reason: impl std::fmt::Display) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}

/// Listens on a free port of loopback.
pub fn listening() -> Settings {
    Settings { listen: vec!["tcp/127.0.0.1:0".to_owned()], ..Settings::default() }
}

/// Connects to whoever listens.
pub fn connecting(to: &Gateway) -> Settings {
    Settings { connect: to.addresses(), ..Settings::default() }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two domains with a gateway each, which see each other.
pub struct Pair {
    // Before the domains: they use them.
    pub gateways: [Gateway; 2],
    pub domains: [Domain; 2],
}

impl Pair {
    pub fn new() -> Self {
        let domains = [Domain::new("east"), Domain::new("west")];
        let east = domains[0].gateway(&listening());
        let west = domains[1].gateway(&connecting(&east));
        let gateways = [east, west];
        until("both see each other", || gateways.iter().all(|gateway| gateway.status().machines.len() == 1));
        Self { gateways, domains }
    }

    pub fn nodes(&self) -> [Node; 2] {
        [self.domains[0].node(), self.domains[1].node()]
    }
}

/// A program in a process of its own, killed when it is dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it was built");
        let (said, lines) = channel();
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        for stream in [Box::new(stdout) as Box<dyn Read + Send>, Box::new(stderr)] {
            let said = said.clone();
            // What nobody waits for any more is read all the same, so that it is not held up.
            std::thread::spawn(move || {
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                lines.for_each(|line| drop(said.send(line)));
            });
        }
        Self { child, lines }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Of the next line in which this stands, what comes behind it.
    pub fn expect(&self, what: &str) -> String {
        loop {
            let line =
                self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not say {what:?}"));
            if let Some((_, rest)) = line.split_once(what) {
                return rest.to_owned();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended if it cannot be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
