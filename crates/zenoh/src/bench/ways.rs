//! The ways that are measured, from this end.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tidepost::{Node, Overflow, Publisher, Subscriber};
use tidepost_zenoh::{Network, Settings, Zenoh};

use super::PART_COMMAND;
use super::engine::{self, Which};
use super::parts::{BACK, STREAM, THERE, message, read, write};
use crate::Failure;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A way to the other end and back.
pub trait Way {
    fn name(&self) -> &'static str;
    /// Sends a message, and waits until it has come back.
    fn to_and_fro(&mut self, message: &[u8]) -> Result<Duration, Failure>;
    /// Sends many, and asks how many came, and within what time.
    fn stream(&mut self, size: usize, messages: usize) -> Result<(u64, Duration), Failure>;
}

/// A process at the other end, ended when it is dropped.
pub struct Part {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// This program, on some of the processors.
fn this_program(processors: Option<&str>) -> Result<Command, Failure> {
    let this = std::env::current_exe()?;
    Ok(match processors {
        None => Command::new(this),
        Some(processors) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", processors]).arg(this);
            command
        }
    })
}

impl Part {
    /// Starts one on these processors, or any.
    pub fn start_on(processors: Option<&str>, arguments: &[&str]) -> Result<Self, Failure> {
        let mut command = this_program(processors)?;
        command.arg(PART_COMMAND).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().ok_or("its output is not piped")?);
        Ok(Self { child, stdin, stdout })
    }

    pub fn hear(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            Err("the process at the other end has ended".into())
        } else {
            Ok(line.trim().to_owned())
        }
    }

    /// What came of a stream.
    pub fn ask(&mut self) -> Result<(u64, Duration), Failure> {
        self.stdin.as_mut().ok_or("its input is closed")?.write_all(b"\n")?;
        let said = self.hear()?;
        let (received, took_ns) = said.split_once(' ').ok_or("it says no two numbers")?;
        Ok((received.parse()?, Duration::from_nanos(took_ns.parse()?)))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends with its input; what it is in the middle of is of no use to anybody.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory that goes with it.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("tidepost-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> Result<&str, Failure> {
        Ok(self.0.to_str().ok_or("the directory for temporary files is no text")?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is left in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The ways of Tidepost's.
const PROGRAMS: [&str; 3] = ["inline", "program", "gateways"];

/// The engine's two ways, and these of ours, or all, ready to be measured.
pub fn ways(chosen: &[String], there: Option<&str>) -> Result<Vec<Box<dyn Way>>, Failure> {
    if let Some(none) = chosen.iter().find(|way| !PROGRAMS.contains(&way.as_str())) {
        return Err(format!("`{none}` is no way that is measured: {}", PROGRAMS.join(", ")).into());
    }
    let mut ways: Vec<Box<dyn Way>> = vec![
        Box::new(Engine::new(Which::Bare, ("engine", "engine"), there)?),
        Box::new(Engine::new(Which::Reliable, ("reliable", "reliable-engine"), there)?),
    ];
    for name in PROGRAMS {
        if chosen.is_empty() || chosen.iter().any(|way| way == name) {
            ways.push(Box::new(match name {
                "gateways" => Programs::with_gateways(there)?,
                _ => Programs::with_networks(name, name == "inline", there)?,
            }));
        }
    }
    Ok(ways)
}

struct Engine {
    name: &'static str,
    there: engine::Sender,
    stream: engine::Sender,
    back: mpsc::Receiver<Instant>,
    part: Part,
    _receiving: engine::Receiving,
    _link: Zenoh,
}

impl Engine {
    fn new(which: Which, (name, part): (&'static str, &str), there: Option<&str>) -> Result<Self, Failure> {
        let mut part = Part::start_on(there, &[part])?;
        let connect = part.hear()?.split(' ').map(str::to_owned).collect();
        let link = Zenoh::open(&Settings { connect, ..Settings::default() })?;
        let session = link.session();
        let (came, back) = mpsc::channel();
        let receiving = engine::receive(session, which, BACK, move |message| {
            read(message);
            // Nobody waits any more if this fails.
            let _ = came.send(Instant::now());
        })?;
        let mut there = engine::Sender::new(session, which, THERE);
        let mut stream = engine::Sender::new(session, which, STREAM);
        let start = Instant::now();
        while !(there.is_matched()? && stream.is_matched()?) {
            if start.elapsed() > PATIENCE {
                return Err("the other end is not reached".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // The way back may not be known there yet.
        std::thread::sleep(Duration::from_millis(500));
        Ok(Self { name, there, stream, back, part, _receiving: receiving, _link: link })
    }
}

impl Way for Engine {
    fn name(&self) -> &'static str {
        self.name
    }

    fn to_and_fro(&mut self, message: &[u8]) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.there.send(message.to_vec())?;
        Ok(self.back.recv_timeout(PATIENCE)? - start)
    }

    fn stream(&mut self, size: usize, messages: usize) -> Result<(u64, Duration), Failure> {
        for number in 0..messages {
            self.stream.send(message(size, number as u64))?;
        }
        self.part.ask()
    }
}

/// Two programs of Tidepost's, whatever is between them.
struct Programs {
    name: &'static str,
    there: Publisher<[u8]>,
    back: Subscriber<[u8]>,
    stream: Publisher<[u8]>,
    part: Part,
    // After all that uses them.
    _node: Node,
    _gateways: Vec<Gateway>,
    _places: [Place; 2],
}

/// A gateway in a process of its own.
pub struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended if it cannot be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Gateway {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// A gateway on these processors, or any, and what it says.
    pub fn start_on(
        processors: Option<&str>,
        directory: &Path,
        machine: &str,
        arguments: &[&str],
    ) -> Result<(Self, BufReader<ChildStderr>), Failure> {
        let mut command = this_program(processors)?;
        command.args(["run", "--machine", machine, "--directory"]).arg(directory).args(arguments);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let said = child.stderr.take().ok_or("its errors are not piped")?;
        Ok((Self(child), BufReader::new(said)))
    }
}

/// What follows `begin` in the first line that begins so.
pub fn hear(lines: &mut BufReader<ChildStderr>, begin: &str) -> Result<String, Failure> {
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        if let Some(rest) = line.strip_prefix(begin) {
            return Ok(rest.trim().to_owned());
        }
        line.clear();
    }
    Err("the gateway has ended".into())
}

impl Programs {
    fn with_networks(name: &'static str, is_inline: bool, there: Option<&str>) -> Result<Self, Failure> {
        let places = [Place::new(&format!("{name}-there"))?, Place::new(&format!("{name}-here"))?];
        let mut part = Part::start_on(there, &[name, places[0].text()?])?;
        part.hear()?;
        let status = Node::builder().name("looks").directory(&places[0].0).open()?;
        let address = address_of(&status)?;
        drop(status);
        let settings = Settings { connect: vec![address], ..Settings::default() };
        let network = Network::new(settings).machine("here").inline(is_inline);
        let node = Node::builder().name("here").directory(&places[1].0).network(network).open()?;
        Self::meet(name, node, part, Vec::new(), places)
    }

    fn with_gateways(processors: Option<&str>) -> Result<Self, Failure> {
        let places = [Place::new("gateway-there")?, Place::new("gateway-here")?];
        let listen = ["--listen", "tcp/127.0.0.1:0"];
        let (there, mut said) = Gateway::start_on(processors, &places[0].0, "there", &listen)?;
        let address = hear(&mut said, "listening on ")?;
        drain(said);
        let (here, said) = Gateway::start_on(None, &places[1].0, "here", &["--connect", &address])?;
        drain(said);
        let mut part = Part::start_on(processors, &["plain-program", places[0].text()?])?;
        part.hear()?;
        let node = Node::builder().name("here").directory(&places[1].0).open()?;
        Self::meet("gateways", node, part, vec![there, here], places)
    }

    fn meet(
        name: &'static str,
        node: Node,
        part: Part,
        gateways: Vec<Gateway>,
        places: [Place; 2],
    ) -> Result<Self, Failure> {
        let mut there: Publisher<[u8]> = node.topic(THERE).publisher(Overflow::Block)?;
        let mut stream: Publisher<[u8]> = node.topic(STREAM).publisher(Overflow::Block)?;
        let mut back: Subscriber<[u8]> = node.topic(BACK).subscriber()?;
        there.wait_for_subscribers(1, PATIENCE)?;
        stream.wait_for_subscribers(1, PATIENCE)?;
        // The way back is known there when the first has come back.
        let start = Instant::now();
        loop {
            there.send(&message(56, 0))?;
            if back.recv_timeout(Duration::from_millis(100))?.is_some() {
                break;
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("{name}: nothing comes back").into());
            }
        }
        while back.recv_timeout(Duration::from_millis(300))?.is_some() {}
        Ok(Self { name, there, back, stream, part, _node: node, _gateways: gateways, _places: places })
    }
}

/// A gateway that nobody listens to stops when its pipe is full.
pub fn drain(mut said: BufReader<ChildStderr>) {
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
}

/// Where the network of a domain listens, as its state says.
fn address_of(node: &Node) -> Result<String, Failure> {
    let mut reader = node.state::<[u8]>("network/tidepost").reader()?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(value) = reader.changed(Duration::from_millis(100))? {
            let status: serde_json::Value = serde_json::from_slice(&value)?;
            if let Some(address) = status["addresses"][0].as_str() {
                return Ok(address.to_owned());
            }
        }
    }
    Err("the network at the other end says not where it listens".into())
}

impl Way for Programs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn to_and_fro(&mut self, message: &[u8]) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.there.send(message)?;
        let sample = self.back.recv_timeout(PATIENCE)?.ok_or("a message did not come back")?;
        read(&sample);
        Ok(start.elapsed())
    }

    fn stream(&mut self, size: usize, messages: usize) -> Result<(u64, Duration), Failure> {
        for number in 0..messages {
            let mut loan = self.stream.loan(size)?;
            write(&mut loan, number as u64);
            loan.send();
        }
        self.part.ask()
    }
}
