//! A command that answers one request.
//!
//! The fear: the command outlives those who wanted it, or what it has started does. So it runs under a **keeper**, this very
//! program: see [`keeper`].

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::pipe::fcntl_getpipe_size;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open};

use crate::{keeper, text};

/// How often a job looks whether its answer is still wanted.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes of a command's standard error that its failure shows, the last ones.
const ERROR_BYTES: usize = 4096;
/// Bytes that are read or written at once.
const CHUNK: usize = 64 << 10;
/// How long a keeper has to end what its command has started.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a job came out.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(Vec<u8>),
    Failure(String),
    /// Nobody wants the answer any more.
    Unwanted,
}

/// Runs a command with this on its standard input, until it ends, its answer is longer than `longest` or not wanted any more.
/// Nothing of it is left then.
pub fn run(command: &[OsString], request: &[u8], longest: usize, is_over: impl Fn() -> bool) -> Outcome {
    if is_over() {
        return Outcome::Unwanted;
    }
    let name = text::printable(&command.first().map(|name| name.to_string_lossy()).unwrap_or_default());
    let failed = |error: io::Error| Outcome::Failure(format!("`{name}` cannot be run: {error}"));
    let mut job = match Job::start(command) {
        Ok(job) => job,
        Err(error) => return failed(error),
    };
    match job.attend(request, longest, is_over) {
        Ok(Ended::Unwanted) => Outcome::Unwanted,
        Ok(Ended::TooLong) => Outcome::Failure(format!("`{name}` answers with more than {longest} B")),
        Ok(Ended::Over(status)) if status.success() => Outcome::Answer(std::mem::take(&mut job.answer)),
        Ok(Ended::Over(status)) => Outcome::Failure(job.failure(&name, status)),
        Err(error) => failed(error),
    }
}

/// Why a job need not be attended to any more.
enum Ended {
    Over(ExitStatus),
    TooLong,
    Unwanted,
}

/// A keeper at work. When this is dropped, nothing is left of it and of what it has started.
struct Job {
    keeper: Child,
    pidfd: OwnedFd,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    answer: Vec<u8>,
    /// The end of its standard error.
    errors: Vec<u8>,
    has_ended: bool,
}

impl Job {
    fn start(command: &[OsString]) -> io::Result<Self> {
        let mut keeper = Command::new("/proc/self/exe");
        keeper.arg0("tidepost").arg(keeper::COMMAND).arg(getpid().as_raw_nonzero().to_string()).args(command);
        keeper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = keeper.spawn()?;
        let streams = (keeper.stdin.take(), keeper.stdout.take(), keeper.stderr.take());
        let pidfd = pidfd_open(Pid::from_child(&keeper), PidfdFlags::empty());
        let pidfd = pidfd.inspect_err(|_| _ = end_group(&mut keeper))?;
        let (stdin, stdout, stderr) = streams;
        let (answer, errors) = (Vec::new(), Vec::new());
        let job = Self { keeper, pidfd, stdin, stdout, stderr, answer, errors, has_ended: false };
        let streams = [
            job.stdin.as_ref().map(AsFd::as_fd),
            job.stdout.as_ref().map(AsFd::as_fd),
            job.stderr.as_ref().map(AsFd::as_fd),
        ];
        streams.into_iter().flatten().try_for_each(|stream| ioctl_fionbio(stream, true))?;
        Ok(job)
    }

    /// Writes, reads and waits.
    fn attend(&mut self, request: &[u8], longest: usize, is_over: impl Fn() -> bool) -> io::Result<Ended> {
        let mut left = request;
        loop {
            self.write(&mut left);
            if self.wait()? {
                return self.conclude(longest);
            }
            read(&mut self.stdout, &mut self.answer, longest.saturating_add(1), CHUNK)?;
            read(&mut self.stderr, &mut self.errors, usize::MAX, CHUNK)?;
            self.cut_errors();
            if self.answer.len() > longest {
                return Ok(Ended::TooLong);
            }
            if is_over() {
                return Ok(Ended::Unwanted);
            }
        }
    }

    /// The command is over: what is in its pipes is the rest of what it has said. Somebody may have got away and go on writing.
    fn conclude(&mut self, longest: usize) -> io::Result<Ended> {
        let status = self.end()?;
        let (answer_bytes, error_bytes) = (pipe_bytes(&self.stdout)?, pipe_bytes(&self.stderr)?);
        read(&mut self.stdout, &mut self.answer, longest.saturating_add(1), answer_bytes)?;
        read(&mut self.stderr, &mut self.errors, usize::MAX, error_bytes)?;
        self.cut_errors();
        Ok(if self.answer.len() > longest { Ended::TooLong } else { Ended::Over(status) })
    }

    /// Cut where it is read, so that a chatty command does not fill our memory.
    fn cut_errors(&mut self) {
        let too_many = self.errors.len().saturating_sub(ERROR_BYTES);
        self.errors.drain(..too_many);
    }

    /// Writes what the command takes now, and closes its input after the last of it.
    fn write(&mut self, left: &mut &[u8]) {
        while let Some(stdin) = &mut self.stdin {
            if left.is_empty() {
                self.stdin = None;
                break;
            }
            match stdin.write(&left[..left.len().min(CHUNK)]) {
                Ok(written) => *left = &left[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It need not read what it has no use for.
                Err(_) => self.stdin = None,
            }
        }
    }

    /// Waits a moment for something to happen. Whether the keeper has ended.
    fn wait(&self) -> io::Result<bool> {
        let mut watched = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        watched.extend(self.stdin.as_ref().map(|stream| PollFd::new(stream, PollFlags::OUT)));
        watched.extend(self.stdout.as_ref().map(|stream| PollFd::new(stream, PollFlags::IN)));
        watched.extend(self.stderr.as_ref().map(|stream| PollFd::new(stream, PollFlags::IN)));
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as _ };
        match poll(&mut watched, Some(&look)) {
            Ok(_) => Ok(!watched[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends everything that is left; how the keeper ended.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.has_ended = true;
        end_group(&mut self.keeper)
    }

    /// Has the keeper end what the command has started, which it does when nobody hears it any more.
    fn abandon(&mut self) {
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
        let patience = Timespec { tv_sec: FAREWELL.as_secs() as _, tv_nsec: 0 };
        // One that cannot, as it is stopped for instance, is killed all the same.
        let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&patience));
        let _ = self.end();
    }

    fn failure(&self, name: &str, status: ExitStatus) -> String {
        let errors = String::from_utf8_lossy(&self.errors);
        match errors.trim_end() {
            "" => format!("`{name}` ended with {status}"),
            errors => format!("`{name}` ended with {status}: {errors}"),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.has_ended {
            self.abandon();
        }
    }
}

/// Kills what is left of the keeper's group, and the keeper; how it ended.
fn end_group(keeper: &mut Child) -> io::Result<ExitStatus> {
    // Its number is its own until it has been waited for.
    let _ = kill_process_group(Pid::from_child(keeper), Signal::KILL);
    keeper.wait()
}

/// How much may lie in a pipe.
fn pipe_bytes(stream: &Option<impl AsFd>) -> io::Result<usize> {
    Ok(stream.as_ref().map_or(Ok(0), fcntl_getpipe_size)?)
}

/// Reads what is there: up to so many bytes now, and up to `most` in all.
fn read(stream: &mut Option<impl Read>, into: &mut Vec<u8>, most: usize, now: usize) -> io::Result<()> {
    let most = most.min(into.len().saturating_add(now));
    let mut chunk = vec![0; CHUNK];
    while let Some(open) = stream
        && into.len() < most
    {
        let room = CHUNK.min(most - into.len());
        match open.read(&mut chunk[..room]) {
            Ok(0) => *stream = None,
            Ok(count) => into.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_has_bounds() {
        let mut stream = Some(io::Cursor::new(vec![7; 100]));
        let mut into = Vec::new();
        read(&mut stream, &mut into, 10, usize::MAX).expect("memory can be read");
        assert_eq!((into.len(), stream.is_some()), (10, true));
        read(&mut stream, &mut into, usize::MAX, 20).expect("memory can be read");
        assert_eq!((into.len(), stream.is_some()), (30, true));
        read(&mut stream, &mut into, usize::MAX, usize::MAX).expect("memory can be read");
        assert_eq!((into.len(), stream.is_some()), (100, false));
    }
}
