//! A private domain, and processes that join it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tidepost::Node;

/// How long any process may take for any step, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What a line of a part starts with, so that the test runner's own output is told apart.
pub const PREFIX: &str = "> ";
/// The variables that tell a process its part and its domain.
pub const PART: &str = "TIDEPOST_TEST_PART";
pub const DIRECTORY: &str = "TIDEPOST_TEST_DIRECTORY";

/// How `unshare` starts a process that is the first in a namespace of process numbers.
const APART: [&str; 6] = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"];

fn executable() -> PathBuf {
    std::env::current_exe().expect("a process has an executable")
}

/// Whether processes may have namespaces of their own here; if not, says that a test is skipped.
pub fn may_start_apart() -> bool {
    let tried = Command::new("unshare").args(APART).arg("true").status();
    let may = tried.as_ref().is_ok_and(std::process::ExitStatus::success);
    if !may {
        skip(format_args!("`unshare {} true` is refused here: {tried:?}", APART.join(" ")));
    }
    may
}

/// Says that a test is skipped, and why, past the runner, which keeps to itself what a passing test prints.
pub fn skip(reason: impl std::fmt::Display) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// A domain in a directory of its own, removed at the end.
pub struct Stage {
    root: PathBuf,
    is_ours: bool,
}

impl Stage {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("tidepost-test-{}-{number}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&root)
            .expect("the directory for temporary files is writable");
        Self { root, is_ours: true }
    }

    /// The domain of the test that started this process.
    pub fn of_part() -> Self {
        Self { root: std::env::var(DIRECTORY).expect("the test names a directory").into(), is_ours: false }
    }

    pub fn directory(&self) -> &Path {
        &self.root
    }

    /// A node of this process in the domain.
    pub fn node(&self) -> Node {
        Node::builder().name("test").directory(&self.root).open().expect("the domain is ours")
    }

    /// The names of all files in the domain.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut directories = vec![self.root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("the domain is readable") {
                let path = entry.expect("the domain is readable").path();
                if path.is_dir() { directories.push(path) } else { files.push(path) }
            }
        }
        files
    }

    /// Starts a process with a part and its arguments.
    pub fn start(&self, part: &str, arguments: &str) -> Actor {
        self.start_by(Command::new(executable()), part, arguments)
    }

    /// The same, as the first process of a namespace of process numbers, with mounts of its own. Killing the actor kills it.
    pub fn start_apart(&self, part: &str, arguments: &str) -> Actor {
        let mut unshare = Command::new("unshare");
        unshare.args(APART).arg(executable());
        self.start_by(unshare, part, arguments)
    }

    fn start_by(&self, mut command: Command, part: &str, arguments: &str) -> Actor {
        let mut child = command
            .args(["--exact", "part", "--nocapture", "--test-threads=1"])
            .env(PART, format!("{part} {arguments}"))
            .env(DIRECTORY, &self.root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("processes can be started");
        let stdin = child.stdin.take().expect("it was asked for");
        let lines = read_lines(child.stdout.take().expect("it was asked for"));
        Actor { child, stdin, lines }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The runner prints the name of the test without a newline before our first line.
            if let Some((_, said)) = line.split_once(PREFIX)
                && sender.send(said.to_owned()).is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// A process with a part, killed and waited for when it is dropped.
pub struct Actor {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Actor {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    pub fn hear(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("process {} says nothing", self.pid()))
    }

    /// The next line that it says, if it has said one.
    pub fn try_hear(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Waits for this very line.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line);
    }

    /// Everything else that it says before it ends.
    pub fn hear_out(&mut self) -> Vec<String> {
        std::iter::from_fn(|| match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("process {} does not end", self.pid()),
        })
        .collect()
    }

    /// Lets it go on.
    pub fn go(&mut self) {
        self.tell("go");
    }

    /// Says a line to it.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the process listens");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Waits for its end, which must be a good one.
    pub fn ends(&mut self) {
        let start = Instant::now();
        while !self.has_ended() {
            assert!(start.elapsed() < PATIENCE, "process {} does not end", self.pid());
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "process {}: {status}", self.pid());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: no pointers; a child that has not been waited for keeps its number.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0);
    }

    /// SIGSTOP, and waits until every thread of it has stopped.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let start = Instant::now();
        while !self.is_stopped() {
            assert!(start.elapsed() < PATIENCE, "process {} does not stop", self.pid());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it lives");
        threads.map(|thread| thread.expect("it lives").path().join("stat")).all(|stat| {
            // The name, in parentheses, may hold anything; the state comes after it. A thread that has just ended is no worry.
            let stat = std::fs::read_to_string(stat).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    }

    /// SIGKILL, without waiting for the end.
    pub fn signal_kill(&mut self) {
        self.child.kill().expect("it is our child");
    }

    /// SIGKILL, and its end.
    pub fn kill(mut self) {
        self.signal_kill();
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
