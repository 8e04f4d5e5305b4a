//! The processes of the demonstration: this very program, started again with a part to play.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use tidepost_bench::Scratch;

use super::parts::PART_COMMAND;
use crate::Failure;

/// A process with a part. Killed and waited for if it is dropped before it has finished.
pub struct Actor {
    part: &'static str,
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Actor {
    pub fn start(stage: &Scratch, part: &'static str, arguments: &[OsString]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([PART_COMMAND, part])
            .arg(stage.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("a new process has no output")?;
        Ok(Self { part, child, lines: BufReader::new(stdout) })
    }

    /// The next line that it says.
    pub fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(format!("the {} ended early", self.part).into());
        }
        Ok(line.trim().to_owned())
    }

    /// Two numbers, which is how every part reports.
    pub fn two_numbers(&mut self) -> Result<(u64, u64), Failure> {
        let line = self.line()?;
        let (first, second) =
            line.split_once(' ').ok_or_else(|| format!("the {} said `{line}`", self.part))?;
        Ok((first.parse()?, second.parse()?))
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the {} failed: {status}", self.part).into()) }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
