//! The fear: an example that does not work, or that leaves a process behind.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long any step may take, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private domain, removed at the end.
struct Domain(PathBuf);

impl Domain {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tidepost-examples-{}-{name}", std::process::id())))
    }

    /// Starts an example, built by cargo for these tests, with pipes for a terminal.
    fn start(&self, name: &str, arguments: &[&str]) -> Example {
        let own = std::env::current_exe().expect("a process has an executable");
        let profile = own.parent().and_then(Path::parent).expect("tests lie in a directory of the profile's");
        let mut command = Command::new(profile.join("examples").join(name));
        command.args(arguments).env("TIDEPOST_DIR", &self.0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("cargo builds the examples");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        std::thread::spawn(move || {
            // It ends with the example, or with the test.
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let keyboard = child.stdin.take();
        Example { child, keyboard, lines }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An example at work, killed and waited for when it is dropped.
struct Example {
    child: Child,
    keyboard: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Example {
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line comes")
    }

    fn types(&mut self, line: &str) {
        let keyboard = self.keyboard.as_mut().expect("it is open");
        writeln!(keyboard, "{line}").expect("the example reads");
    }

    /// Ends its input and waits for its end; what else it has written.
    fn finish(mut self) -> Vec<String> {
        self.keyboard = None;
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
            assert!(start.elapsed() < PATIENCE, "it ends");
        };
        assert!(status.success(), "{status}");
        std::iter::from_fn(|| self.lines.recv_timeout(PATIENCE).ok()).collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn images_are_transformed_by_another_process() {
    let domain = Domain::new("transform");
    let lines = domain.start("transform", &[]).finish();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (number, line) in lines.iter().enumerate() {
        let expected = format!("image {number}: all 2073600 pixels came back as a negative, in ");
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[test]
fn terminals_chat() {
    let domain = Domain::new("chat");
    let mut ann = domain.start("chat", &["ann"]);
    assert_eq!(ann.line(), "* you are ann, in lobby; the end of the input ends it");
    let elsewhere = domain.start("chat", &["eve", "engine room"]);
    assert_eq!(elsewhere.line(), "* you are eve, in engine room; the end of the input ends it");
    ann.types("is anybody here?");
    let mut bob = domain.start("chat", &["bob"]);
    assert_eq!(bob.line(), "* you are bob, in lobby; the end of the input ends it");
    assert_eq!(bob.line(), "* ann is here");
    assert_eq!(bob.line(), "ann: is anybody here?", "newcomers see what was said");
    assert_eq!(ann.line(), "* bob is here");
    bob.types("me\x1b[2J");
    assert_eq!(ann.line(), "bob: me?[2J");
    ann.types("two lines\nat once");
    assert_eq!([bob.line(), bob.line()], ["ann: two lines", "ann: at once"]);
    bob.child.kill().expect("it is our child");
    assert_eq!(ann.line(), "* bob has left");
    assert!(ann.finish().is_empty());
    assert!(elsewhere.finish().is_empty(), "another room is another room");
}

#[test]
fn four_processes_count_and_without_a_lock_they_may_lose_some() {
    let domain = Domain::new("counter");
    let lines = domain.start("counter", &[]).finish();
    assert_eq!(lines[..2], ["4 processes counted 200000 times each", "with a lock:    800000"]);
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or_else(|_| panic!("{lines:?}"));
    let (careless, lost) =
        lines[2].strip_prefix("without a lock: ").and_then(|rest| rest.split_once(',')).expect("both");
    assert_eq!(number(careless) + number(lost.strip_suffix(" lost").expect("it says so")), 800_000);
}

#[test]
fn a_buffer_has_room_for_some_and_loses_nothing() {
    let domain = Domain::new("buffer");
    let squares: Vec<String> = (0..20).map(|item| format!("{item} squared is {}", item * item)).collect();
    assert_eq!(domain.start("bounded_buffer", &[]).finish(), squares);
}

#[test]
fn readers_see_lists_that_are_whole() {
    let domain = Domain::new("readers");
    let lines = domain.start("readers_writers", &[]).finish();
    assert_eq!(lines.len(), 3);
    assert!(
        lines.iter().all(|line| line.ends_with("found 0 lists torn, and the last price is 50")),
        "{lines:?}"
    );
}

#[test]
fn a_matrix_is_multiplied_by_four() {
    let domain = Domain::new("matrix");
    assert_eq!(domain.start("matrix", &[]).finish(), ["120 x 120 by 4 processes: right"]);
}
