//! Two processes for one measurement: the child is this very program, started again with a hidden command.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The hidden command under which the program becomes the child of a measurement.
pub const CHILD_COMMAND: &str = "__bench";
/// The core that the parent measures on.
pub const PARENT_CORE: usize = 0;
/// The core that the child measures on.
pub const CHILD_CORE: usize = 1;

/// Binds this thread to a core, where the machine has it.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // A machine, or a container, with one core measures on that one: slow, but not wrong.
    let _ = sched_setaffinity(None, &set);
}

/// Runs `work` bound to the parent's core, and lets the thread go again.
pub fn pinned<R>(work: impl FnOnce() -> R) -> R {
    let before = sched_getaffinity(None);
    pin(PARENT_CORE);
    let result = work();
    if let Ok(before) = before {
        let _ = sched_setaffinity(None, &before);
    }
    result
}

/// The child of a measurement. Killed and waited for when dropped.
pub struct Partner {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Partner {
    /// Starts the child with the words that tell it its part.
    pub fn start(part: impl IntoIterator<Item = String>, resource: &str) -> std::io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(CHILD_COMMAND)
            .args(part)
            .arg(resource)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("the child has no output"))?;
        Ok(Self { child, lines: BufReader::new(stdout) })
    }

    /// The child's next line.
    pub fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("the other process of the measurement ended early"));
        }
        Ok(line.trim().to_owned())
    }

    /// Lets a child go on that has stopped in [`await_go`].
    pub fn go(&mut self) -> std::io::Result<()> {
        let stdin = self.child.stdin.as_mut();
        stdin.map_or(Ok(()), |stdin| stdin.write_all(b"go\n"))
    }

    /// The child's result, a JSON value, after which it ends. A child that sits in [`await_end`] goes on.
    pub fn result(mut self) -> std::io::Result<serde_json::Value> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.lines.read_to_string(&mut text)?;
        self.child.wait()?;
        Ok(serde_json::from_str(text.trim())?)
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to the parent.
pub fn tell(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // A parent that has gone needs no answer.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Stops until the parent says that it may go on; `false` if it wants the result instead.
pub fn await_go() -> std::io::Result<bool> {
    Ok(std::io::stdin().read_line(&mut String::new())? > 0)
}

/// Stops, asleep in the kernel, until the parent wants the result.
pub fn await_end() -> std::io::Result<()> {
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).map(|_| ())
}
