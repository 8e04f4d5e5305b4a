//! A private domain, and tools that run in it. Every wait has an end, and no tool outlives its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidepost::Node;

/// How long any process may take for any step, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A private directory with a domain in it, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidepost-tool-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("the directory for temporary files is writable");
        Self(path)
    }

    pub fn tool(&self, arguments: &[&str]) -> Command {
        // Whoever runs the tests in the background has their processes ignore an interrupt.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_tidepost")]);
        command.args(arguments).env("TIDEPOST_DIR", self.0.join("domain"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(&self, arguments: &[&str]) -> Tool {
        Tool::spawn(&mut self.tool(arguments))
    }

    /// Runs to the end with this on standard input.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut tool = self.start(arguments);
        tool.feed(input.to_vec());
        tool.finish()
    }

    /// A node of this process in the domain.
    pub fn node(&self, name: &str) -> Node {
        Node::builder().name(name).directory(self.0.join("domain")).open().expect("the domain is ours")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a tool ended, and what it wrote.
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Outcome {
    /// What it wrote, if all went well.
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}", self.stderr);
        text(&self.stdout)
    }
}

/// A tool at work, killed and waited for when it is dropped.
pub struct Tool {
    child: Child,
    output: Option<Receiver<Vec<u8>>>,
    errors: Option<Receiver<Vec<u8>>>,
}

impl Tool {
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("processes can be started");
        let output = child.stdout.take().map(lines);
        let errors = child.stderr.take().map(lines);
        Self { child, output, errors }
    }

    /// Writes this to its standard input, which ends there. One that ends before it has read it has its reasons, which are in
    /// its output.
    pub fn feed(&mut self, input: Vec<u8>) {
        let mut stdin = self.child.stdin.take().expect("it was asked for");
        std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
    }

    /// Writes this to its standard input, which goes on.
    pub fn feed_and_keep(&mut self, input: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("it was asked for");
        stdin.write_all(input).expect("the tool reads");
    }

    /// The next line of its output.
    pub fn line(&mut self) -> String {
        let lines = self.output.as_ref().expect("it was asked for");
        let line = lines.recv_timeout(PATIENCE).expect("a line comes");
        text(&line).trim_end().to_owned()
    }

    /// The next line of what it tells beside its output.
    pub fn error_line(&mut self) -> String {
        let lines = self.errors.as_ref().expect("it was asked for");
        text(&lines.recv_timeout(PATIENCE).expect("a line comes"))
    }

    /// The next line of what it tells beside its output, if it has told one.
    pub fn try_error_line(&mut self) -> Option<String> {
        let lines = self.errors.as_ref().expect("it was asked for");
        lines.try_recv().ok().map(|line| text(&line))
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    /// SIGSTOP, and waits until every thread of it has stopped.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        until("a tool to stop", || self.is_stopped().then_some(()));
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it lives");
        threads.map(|thread| thread.expect("it lives").path().join("stat")).all(|stat| {
            // The name, in parentheses, may hold anything; the state comes after it. A thread that has just ended is no worry.
            let stat = std::fs::read_to_string(stat).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    }

    /// Waits for its end, and gives what it wrote since it was heard last.
    pub fn finish(mut self) -> Outcome {
        let stdout = rest(self.output.take());
        let stderr = text(&rest(self.errors.take()));
        let status = until("a tool to end", || self.child.try_wait().expect("it is our child"));
        Outcome { status, stdout, stderr }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn rest(lines: Option<Receiver<Vec<u8>>>) -> Vec<u8> {
    let mut all = Vec::new();
    let Some(lines) = lines else { return all };
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => all.extend(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return all,
            Err(error) => panic!("a tool neither writes nor ends: {error}"),
        }
    }
}

/// Asks again and again until there is an answer.
pub fn until<R>(what: &str, mut ask: impl FnMut() -> Option<R>) -> R {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One JSON value.
pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
