//! The program `tidepost-gateway`, in processes of its own.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use tidepost::{Node, Overflow, Pattern};

use crate::shim::Shim;
use crate::stage::{Domain, PATIENCE, Running, listening, until};

fn gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidepost-gateway"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A gateway of a domain, in a process of its own.
pub fn start(domain: &Domain, arguments: &[&str]) -> Running {
    let mut command = gateway(arguments);
    command.env("TIDEPOST_DIR", domain.path());
    Running::start(command)
}

fn crosses(from: &Node, to: &Node) {
    let mut subscriber = to.topic::<u64>("t").subscriber().expect("the types agree");
    let mut publisher = from.topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    publisher.send(&7).expect("there is room");
    let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
    assert_eq!((*sample, sample.publisher_node()), (7, "network/east"));
    // Whoever looks at the domain, as `tidepost ls` does, sees the publisher, and its machine.
    let reports = to.inspect(PATIENCE).expect("looking succeeds");
    let machine = reports.iter().find(|report| &*report.name == "network/east").expect("it is there");
    assert!(machine.publishers.iter().any(|outlet| outlet.pattern == Pattern::Topic && outlet.name == "t"));
}

#[test]
fn a_gateway_that_was_killed_is_replaced() {
    let domains = ["east", "west"].map(Domain::new);
    let nodes = domains.each_ref().map(Domain::node);
    let east = start(&domains[0], &["--listen", "tcp/127.0.0.1:0", "--machine", "east"]);
    let address = east.expect("listening on ");
    let west = start(&domains[1], &["--connect", &address, "--machine", "west"]);
    west.expect("machine `east` is there");
    crosses(&nodes[0], &nodes[1]);
    // The other side learns of it, and whoever comes next finds nothing in its way.
    drop(east);
    west.expect("machine `east` is gone");
    let east = start(&domains[0], &["--listen", &address, "--machine", "east"]);
    west.expect("machine `east` is there");
    crosses(&nodes[0], &nodes[1]);
    drop((west, east));
    until("nothing of them is left", || {
        let reports = nodes[0].inspect(PATIENCE).expect("looking succeeds");
        reports.iter().all(|report| !report.name.starts_with("network"))
    });
}

/// The fear: what a gateway had taken from the network and not passed on when it was killed is missed by nobody.
#[test]
fn what_a_killed_gateway_had_on_its_way_in_is_counted() {
    let domains = ["east", "west"].map(Domain::new);
    let nodes = domains.each_ref().map(Domain::node);
    let east = start(&domains[0], &["--listen", "tcp/127.0.0.1:0", "--machine", "east"]);
    let address = east.expect("listening on ");
    let start_west = || start(&domains[1], &["--connect", &address, "--machine", "west"]);
    let mut active = start_west();
    active.expect("machine `east` is there");
    let mut subscriber = nodes[1].topic::<u64>("t").subscriber().expect("the types agree");
    let mut publisher = nodes[0].topic::<u64>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    let (mut sent, mut due, mut lost) = (0, 0, 0);
    let mut pass = |milliseconds: u64| {
        for _ in 0..milliseconds {
            publisher.send(&sent).expect("the network holds nobody up");
            sent += 1;
            std::thread::sleep(Duration::from_millis(1));
            while let Some(sample) = subscriber.try_recv().expect("receiving succeeds") {
                assert_eq!(*sample, due + sample.lost(), "each arrives once, or is counted");
                due = *sample + 1;
                lost += sample.lost();
            }
        }
        sent - due
    };
    pass(300);
    for _ in 0..3 {
        let next = start_west();
        pass(1000);
        // Dropping the one before kills it.
        active = next;
        pass(1000);
    }
    until("what is sent arrives again", || pass(10) < 10);
    assert_eq!(subscriber.lost(), lost);
    println!("{lost} of {due} were lost");
    drop((active, east));
}

/// The fear: whoever reads a topic here also sends it, and a link that takes nothing holds up all who read it here.
#[test]
fn a_link_that_takes_no_more_holds_nobody_up() {
    let domains = ["east", "west"].map(Domain::new);
    // The engine would give such a link up, and not hold up for an hour whoever sends.
    let file = domains[0].path().join("gateway.toml");
    let patient = "lease_ms = 3600000\n[engine]\n\
        \"transport/link/tx/queue/congestion_control/block/wait_before_close\" = 3600000000\n";
    std::fs::write(&file, patient).expect("it can be written");
    let west = start(&domains[1], &["--listen", "tcp/127.0.0.1:0"]);
    let shim = Shim::to(&west.expect("listening on "));
    let config = file.to_str().expect("it is text");
    let east = start(&domains[0], &["--config", config, "--connect", shim.address()]);
    let nodes = domains.each_ref().map(Domain::node);
    let mut publisher = nodes[0].topic::<[u8]>("t").publisher(Overflow::Block).expect("the topic is ours");
    let mut here = nodes[0].topic::<[u8]>("t").subscriber().expect("the types agree");
    let there = nodes[1].topic::<[u8]>("t").subscriber().expect("the types agree");
    publisher.wait_for_subscribers(2, PATIENCE).expect("the gateway subscribes");
    shim.cut();
    // More than the publisher's pool, the buffers on the way, and what may wait for the network.
    let message = vec![7; 256 << 10];
    for _ in 0..400 {
        publisher.send_timeout(&message, PATIENCE).expect("the link holds nobody up");
        assert!(here.recv_timeout(PATIENCE).expect("receiving succeeds").is_some());
    }
    let mut status = nodes[0].state::<[u8]>("network/tidepost").reader().expect("it is bytes");
    until("what found no room is counted", || {
        let value = status.wait(PATIENCE).expect("waiting succeeds").expect("the gateway is there");
        let status: serde_json::Value = serde_json::from_slice(&value).expect("it is JSON");
        status["crossings"][0]["lost"].as_u64().is_some_and(|lost| lost > 0)
    });
    drop((east, west, there));
}

/// What the process has in memory, in bytes.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") << 10
}

/// The fear: what is kept to be sent again is counted in messages, and long ones take all memory; or that messages get lost where what is
/// kept changes.
#[test]
fn messages_that_grow_arrive_and_what_is_kept_of_them_is_bounded() {
    let domains = ["east", "west"].map(Domain::new);
    let file = domains[0].path().join("gateway.toml");
    std::fs::write(&file, "room_bytes = 1048576\ncache = 1024\n").expect("it can be written");
    let config = file.to_str().expect("it is text");
    let east = start(&domains[0], &["--config", config, "--listen", "tcp/127.0.0.1:0"]);
    let address = east.expect("listening on ");
    let west = start(&domains[1], &["--connect", &address]);
    let [from, to] = domains.each_ref().map(Domain::node);
    let mut subscriber = to.topic::<[u8]>("t").subscriber().expect("the types agree");
    let mut publisher = from.topic::<[u8]>("t").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
    let mut pass = |length: usize| {
        publisher.send(&vec![length as u8; length]).expect("there is room");
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it was sent");
        assert_eq!((sample.len(), sample.lost()), (length, 0));
    };
    (0..21).map(|shift| 1 << shift).chain([5, 1 << 20, 1]).for_each(&mut pass);
    // Of messages of a mebibyte eight are kept; of all of them 128 MiB would be.
    let before = resident_bytes(east.pid());
    (0..128).for_each(|_| pass(1 << 20));
    let grown = resident_bytes(east.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} B more");
    drop(west);
}

/// The fear: while nobody is reached, what waits for him takes all memory, here or in the engine.
#[test]
fn a_gateway_that_is_cut_off_stays_within_its_bounds() {
    let domains = ["east", "west"].map(Domain::new);
    let file = domains[0].path().join("gateway.toml");
    std::fs::write(&file, "room_bytes = 1048576\n").expect("it can be written");
    let config = file.to_str().expect("it is text");
    let west = start(&domains[1], &["--listen", "tcp/127.0.0.1:0", "--machine", "west"]);
    let shim = Shim::to(&west.expect("listening on "));
    let east = start(&domains[0], &["--config", config, "--connect", shim.address(), "--machine", "east"]);
    let [from, to] = domains.each_ref().map(Domain::node);
    let names = ["kept", "lossy", "noted"];
    let mut subscribers = names.map(|name| to.topic::<[u8]>(name).subscriber().expect("the types agree"));
    let mut publishers = names.map(|name| {
        let topic = from.topic::<[u8]>(name).pool_limit(16 << 20);
        match name {
            "kept" => topic.publisher(Overflow::Block),
            "lossy" => topic.publisher(Overflow::DropOldest),
            _ => topic.history(100).publisher(Overflow::Block),
        }
        .expect("the topic is ours")
    });
    let message = |number: u64| [&number.to_le_bytes()[..], &[7; 64 << 10]].concat();
    for (publisher, subscriber) in publishers.iter_mut().zip(&mut subscribers) {
        publisher.wait_for_subscribers(1, PATIENCE).expect("the gateway subscribes");
        publisher.send(&message(0)).expect("there is room");
        assert!(subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").is_some());
    }
    let before = resident_bytes(east.pid());
    shim.cut();
    east.expect("machine `west` is gone");
    // Of all, 192 MiB.
    for number in 1..=1024 {
        for publisher in &mut publishers {
            publisher.send_timeout(&message(number), PATIENCE).expect("the network holds nobody up");
        }
    }
    let grown = resident_bytes(east.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} B more");
    shim.heal();
    east.expect("machine `west` is there");
    // What was too much is counted.
    for (publisher, subscriber) in publishers.iter_mut().zip(&mut subscribers) {
        let (mut number, mut got) = (1024, 0);
        until("messages arrive again", || {
            number += 1;
            publisher.send(&message(number)).expect("there is room");
            while let Some(sample) =
                subscriber.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds")
            {
                let came = u64::from_le_bytes(*sample.first_chunk().expect("it is longer"));
                assert_eq!(came, got + 1 + sample.lost(), "each arrives, or is counted");
                got = came;
            }
            got > 1024
        });
        println!("{} of {got} were lost, with {grown} B more in memory", subscriber.lost());
    }
}

#[test]
fn an_exposed_gateway_says_so() {
    let domain = Domain::new("east");
    let exposed = start(&domain, &["--listen", "tcp/0.0.0.0:0"]);
    let warning = exposed.expect("warning: ");
    assert!(warning.contains("tcp/0.0.0.0:0") && warning.contains("mutual"), "{warning}");
    drop(exposed);
    let hidden = start(&domain, &["--listen", "tcp/127.0.0.1:0"]);
    let first = hidden.expect("");
    assert!(first.starts_with("listening on tcp/127.0.0.1:"), "{first}");
}

/// What it says when it ends, and whether that was a success.
fn said(arguments: &[&str]) -> (String, bool) {
    let domain = Domain::new("alone");
    let mut command = gateway(arguments);
    command.env("TIDEPOST_DIR", domain.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built");
    let mut text = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut text).expect("it is text");
    child.stderr.take().expect("it is piped").read_to_string(&mut text).expect("it is text");
    (text, child.wait().expect("it ends").success())
}

#[test]
fn what_is_wrong_is_told_with_a_remedy() {
    let domain = Domain::new("busy");
    let busy = domain.gateway(&listening());
    let in_use = busy.addresses()[0].clone();
    let file = domain.path().join("gateway.toml");
    std::fs::write(&file, "realm = \"a\"\nlisen = []\n").expect("it can be written");
    let file = file.to_str().expect("it is text");
    for (arguments, parts) in [
        (&[][..], &["--listen", "--connect"][..]),
        (&["--config", "/no/such.toml"], &["/no/such.toml"]),
        (&["--config", file], &["line 2", "lisen"]),
        (&["--listen", &in_use], &["listening on", &in_use]),
        (&["--listen", "nonsense"], &["listen", "nonsense"]),
        (&["--listen", "tcp/127.0.0.1:0", "--realm", "a/b"], &["realm", "a/b"]),
        (&["--listen", "tcp/127.0.0.1:0", "--allow", "topics/x"], &["topics/x", "no pattern of names"]),
        (&["check", "--connect", "tcp/127.0.0.1:1"], &["0 connected", "nobody is reached"]),
        (&["check", "--connect", &in_use, "--realm", "other"], &["1 connected", "no gateway of this realm"]),
    ] {
        let (text, is_success) = said(arguments);
        assert!(!is_success && parts.iter().all(|part| text.contains(part)), "{arguments:?}: {text}");
    }
    until("the gateway is active", || busy.status().is_active);
    let (text, is_success) = said(&["check", "--connect", &in_use]);
    assert!(is_success && text.contains("machine `busy`") && text.contains("its clock"), "{text}");
}
