//! Routers of the engine between gateways, as they are: the program `zenohd`, of which nothing here is a part. Gateways are clients of the
//! routers of their sites.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tidepost_zenoh::{Gateway, Settings};

use crate::conformance;
use crate::faults::{Wire, every_number_is_accounted_for};
use crate::stage::{Domain, Running, skip, until};

/// Where the program is, if it is installed; otherwise that is said.
fn program() -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/zenohd/bin/zenohd");
    let path = std::env::var_os("TIDEPOST_ZENOHD").map_or(usual, PathBuf::from);
    if !path.is_file() {
        skip(format_args!("there is no {}: `./test.sh routers` builds it", path.display()));
        return None;
    }
    Some(path)
}

/// A router, and where it listens.
struct Router {
    running: Option<Running>,
    address: String,
    arguments: Vec<String>,
    program: PathBuf,
}

impl Router {
    fn start(program: &Path, connect: Option<&str>) -> Self {
        let arguments = connect.map(|address| format!("--connect={address}")).into_iter().collect();
        let address = "tcp/127.0.0.1:0".to_owned();
        let mut router = Self { running: None, address, arguments, program: program.to_owned() };
        router.run();
        router
    }

    /// Starts it, again if it was killed: where it listened before.
    fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(format!("--listen={}", self.address));
        command.arg("--no-multicast-scouting").env("RUST_LOG", "info").env("NO_COLOR", "1");
        let running = Running::start(command);
        self.address = running.expect("Zenoh can be reached at: ").trim().to_owned();
        self.running = Some(running);
    }
}

/// Two domains, each with a gateway that is a client of a router of its own; the routers are connected.
struct Sites {
    // Before the domains: they use them.
    gateways: [Gateway; 2],
    domains: [Domain; 2],
}

impl Sites {
    fn new(routers: &[Router; 2], realm: &str) -> Self {
        let domains = ["east", "west"].map(Domain::new);
        let gateway = |domain: &Domain, router: &Router| {
            let engine = vec![("mode".to_owned(), json!("client"))];
            let connect = vec![router.address.clone()];
            let mut options = domain.options();
            options.realm = realm.to_owned();
            Gateway::start(&Settings { connect, engine, ..Settings::default() }, options)
                .expect("the router is there")
        };
        let gateways = [gateway(&domains[0], &routers[0]), gateway(&domains[1], &routers[1])];
        let sites = Self { gateways, domains };
        sites.see_each_other(true);
        sites
    }

    fn see_each_other(&self, is_so: bool) {
        until("both see the same", || {
            let [east, west] = self.gateways.each_ref().map(|gateway| gateway.status().machines);
            if is_so { east == ["west"] && west == ["east"] } else { east.is_empty() && west.is_empty() }
        });
    }
}

/// Two routers, the second of which connects to the first.
fn routers(program: &Path) -> [Router; 2] {
    let first = Router::start(program, None);
    let second = Router::start(program, Some(&first.address));
    [first, second]
}

#[test]
fn every_pattern_keeps_its_promises_over_two_routers() {
    let Some(program) = program() else { return };
    let routers = routers(&program);
    for (number, (promise, check)) in conformance::across().enumerate() {
        println!("{promise}");
        // What is left of one case in the routers for a moment is none of the next one's.
        let sites = Sites::new(&routers, &format!("case{number}"));
        let [from, to] = sites.domains.each_ref().map(Domain::node);
        check(&from, &to);
    }
}

/// One of the routers is killed, and starts again.
struct Killed {
    sites: Sites,
    routers: [Router; 2],
    which: usize,
}

impl Wire for Killed {
    fn ends(&self) -> [&Domain; 2] {
        self.sites.domains.each_ref()
    }

    fn cut(&mut self) {
        self.routers[self.which].running = None;
        self.sites.see_each_other(false);
    }

    fn heal(&mut self) {
        self.routers[self.which].run();
        self.sites.see_each_other(true);
    }
}

#[test]
fn a_zenohd_that_is_killed_loses_nothing_silently() {
    let Some(program) = program() else { return };
    let routers = routers(&program);
    let sites = Sites::new(&routers, "tidepost");
    let mut killed = Killed { sites, routers, which: 0 };
    every_number_is_accounted_for(&mut killed, Duration::from_secs(1));
    killed.which = 1;
    every_number_is_accounted_for(&mut killed, Duration::from_secs(1));
}
