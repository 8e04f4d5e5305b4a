//! Three hosts, as network namespaces, with wires between them: real losses, packets that overtake each other, a link that is down, a
//! router that is killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tidepost::Node;

use crate::faults::{Wire, each_arrives_once, every_number_is_accounted_for, next, publisher, subscriber};
use crate::stage::{Domain, PATIENCE, skip, until};

const APART: [&str; 8] =
    ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// The hosts; they and all that runs there end when this is dropped.
pub struct Hosts {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Of east, relay and west.
    domains: [Domain; 3],
}

impl Hosts {
    /// `None` if that is not permitted here, or a tool is missing, which it says.
    pub fn start(tools: &[&str]) -> Option<Self> {
        Self::joined(tools, &[])
    }

    /// The same, with a wire between east and relay on which packets overtake each other.
    fn in_disorder() -> Option<Self> {
        let wire = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/tun.py");
        Self::joined(&["python3 --version", "awk 1 /dev/null", "ip tuntap add dev east0 mode tun"], &[wire])
    }

    fn joined(tools: &[&str], wire: &[&str]) -> Option<Self> {
        let tried = [&["ip link set lo up"], tools].concat().join(" && ");
        let output = Command::new("unshare").args(APART).args(["sh", "-c", &tried]).output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            skip(format_args!("`unshare {} sh -c '{tried}'` fails here: {output:?}", APART.join(" ")));
            return None;
        }
        let domains = ["east", "relay", "west"].map(Domain::new);
        for domain in &domains {
            // A wire that is a program may stand still for a while on a busy machine, which is to be no cut: there is a test of those.
            let lease = if wire.is_empty() { "" } else { "lease_ms = 30000\n" };
            std::fs::write(domain.path().join("gateway.toml"), lease).expect("the domain is ours");
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/hosts.sh");
        let mut command = Command::new("unshare");
        command.args(APART).args(["sh", script, env!("CARGO_BIN_EXE_tidepost-gateway")]);
        command.args(domains.each_ref().map(Domain::path)).args(wire);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was tried");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut hosts = Self { child, stdin, stdout, domains };
        hosts.hear("ready");
        hosts.sees(true);
        Some(hosts)
    }

    /// A node of a program on each, and where the last one's domain is.
    pub fn nodes(&self) -> ([Node; 3], &Path) {
        (self.domains.each_ref().map(Domain::node), self.domains[2].path())
    }

    fn hear(&mut self, due: &str) {
        assert_eq!(self.line(), due);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it is text");
        line.trim().to_owned()
    }

    /// How often something that was sent later came first: packets on the wire, and segments as TCP at the relay saw them.
    fn disorder(&mut self) -> [u64; 2] {
        let counted = std::fs::read_to_string(self.domains[0].path().join("overtaken")).unwrap_or_default();
        writeln!(self.stdin, "disorder").expect("it reads on");
        let seen = self.line();
        self.hear("done");
        [counted, seen].map(|number| number.parse().unwrap_or_default())
    }

    pub fn tell(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").expect("it reads on");
        self.hear("done");
    }

    /// Waits until east and west see each other, or see each other no more.
    fn sees(&self, is_so: bool) {
        self.see([0, 2], is_so);
    }

    /// Waits until two of the hosts see each other, or see each other no more.
    fn see(&self, hosts: [usize; 2], is_so: bool) {
        let names = ["east", "relay", "west"];
        for [at, other] in [hosts, [hosts[1], hosts[0]]] {
            let node = self.domains[at].node();
            let mut reader = node.state::<[u8]>("network/tidepost").reader().expect("it is bytes");
            until("both see the same", || {
                let value = reader.wait(Duration::from_secs(1)).expect("waiting succeeds");
                let status =
                    value.map(|value| String::from_utf8_lossy(&value).into_owned()).unwrap_or_default();
                let machines = status.split("\"machines\":[").nth(1).and_then(|rest| rest.split(']').next());
                machines.is_some_and(|machines| machines.contains(names[other])) == is_so
            });
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // `--kill-child` takes with it all that runs there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Wire for Hosts {
    fn ends(&self) -> [&Domain; 2] {
        [&self.domains[0], &self.domains[2]]
    }

    fn cut(&mut self) {
        self.tell("cut");
    }

    fn heal(&mut self) {
        self.tell("heal");
        self.sees(true);
    }
}

/// Programs at one end ask, and those at the other answer.
fn calls_are_answered(asking: &Node, answering: &Node) {
    let mut server = answering.service::<u64, u64>("s").server().expect("it is ours");
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.serve(|asked| Ok::<u64, &str>(asked + 1)));
    let mut client = asking.service::<u64, u64>("s").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("the gateway serves");
    for asked in 0..20 {
        assert_eq!(*client.call(&asked, PATIENCE).expect("it answers"), asked + 1);
    }
    handle.cancel();
    serving.join().expect("it does not panic").expect("it served");
}

#[test]
fn three_hosts_with_losses_lose_nothing() {
    let Some(mut hosts) = Hosts::start(&["nft list ruleset"]) else { return };
    hosts.tell("lose");
    let nodes = hosts.domains.each_ref().map(Domain::node);
    let mut publisher = publisher(&nodes[0], "t");
    let [mut here, mut middle, mut there] = nodes.each_ref().map(|node| subscriber(node, "t"));
    each_arrives_once(&mut publisher, &mut [&mut here, &mut middle, &mut there]);
    calls_are_answered(&nodes[0], &nodes[2]);
}

/// Over a relay, each promise between hosts of its own; every fourth of them, unless there is time (`TIDEPOST_LONG`).
#[test]
fn every_pattern_keeps_its_promises_between_hosts() {
    let step = if std::env::var_os("TIDEPOST_LONG").is_some() { 1 } else { 4 };
    for (_, check) in crate::conformance::across().step_by(step) {
        let Some(hosts) = Hosts::start(&[]) else { return };
        check(&hosts.domains[0].node(), &hosts.domains[2].node());
    }
}

#[test]
fn hosts_that_look_for_each_other_need_no_setting() {
    let Some(mut hosts) = Hosts::start(&[]) else { return };
    let nodes = hosts.domains.each_ref().map(Domain::node);
    let mut publisher = publisher(&nodes[0], "t");
    let mut subscriber = subscriber(&nodes[1], "t");
    // The engine looks at the interfaces once, as it starts, and looks for others a few times: on a busy machine that may be in vain.
    let is_found = (0..4).any(|_| {
        hosts.tell("discover");
        (0..100).any(|number| {
            publisher.send(&number).expect("there is room");
            subscriber.recv_timeout(Duration::from_millis(100)).expect("receiving succeeds").is_some()
        })
    });
    assert!(is_found, "neither found the other");
}

#[test]
fn packets_that_overtake_each_other_lose_nothing() {
    let Some(mut hosts) = Hosts::in_disorder() else { return };
    let nodes = hosts.domains.each_ref().map(Domain::node);
    let mut publisher = publisher(&nodes[0], "t");
    let [mut middle, mut there] = [&nodes[1], &nodes[2]].map(|node| subscriber(node, "t"));
    each_arrives_once(&mut publisher, &mut [&mut middle, &mut there]);
    for number in 0..5000 {
        publisher.send(&number).expect("there is room");
    }
    for (what, subscriber) in [("middle", &mut middle), ("there", &mut there)] {
        for number in 0..5000 {
            assert_eq!(next(subscriber), (number, 0), "{what}");
        }
    }
    calls_are_answered(&nodes[0], &nodes[2]);
    let [overtaken, seen] = hosts.disorder();
    assert!(overtaken > 0 && seen > 0, "{overtaken} packets were overtaken, and TCP saw {seen}");
    println!("{overtaken} packets were overtaken, and TCP saw {seen}");
}

#[test]
fn a_link_that_is_down_loses_nothing_silently() {
    let Some(mut hosts) = Hosts::start(&[]) else { return };
    every_number_is_accounted_for(&mut hosts, Duration::from_millis(900));
    every_number_is_accounted_for(&mut hosts, Duration::from_secs(4));
}

/// The router between is killed, and another takes its place.
struct Router(Hosts);

impl Wire for Router {
    fn ends(&self) -> [&Domain; 2] {
        self.0.ends()
    }

    fn cut(&mut self) {
        self.0.tell("kill-relay");
        self.0.sees(false);
    }

    fn heal(&mut self) {
        self.0.tell("start-relay");
        self.0.sees(true);
    }
}

#[test]
fn a_router_that_is_killed_loses_nothing_silently() {
    let Some(hosts) = Hosts::start(&[]) else { return };
    every_number_is_accounted_for(&mut Router(hosts), Duration::from_secs(1));
}

/// The gateway at the receiving end is stopped, and goes on.
struct Stopped(Hosts);

impl Wire for Stopped {
    fn ends(&self) -> [&Domain; 2] {
        self.0.ends()
    }

    fn cut(&mut self) {
        self.0.tell("stop-west");
    }

    fn heal(&mut self) {
        self.0.tell("go-west");
        self.0.sees(true);
    }
}

#[test]
fn a_receiver_that_is_stopped_for_eight_seconds_loses_nothing_silently() {
    let Some(hosts) = Hosts::start(&[]) else { return };
    every_number_is_accounted_for(&mut Stopped(hosts), Duration::from_secs(8));
}
