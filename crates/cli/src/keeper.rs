//! The keeper of a command that answers a request: it ends when the command does, or nobody wants the answer, and nothing that
//! the command has started outlives it.
//!
//! It leads a process group with the command in it, so that whoever has started the keeper can kill them both. And it is the
//! one to whom processes below it fall when their parents end (`PR_SET_CHILD_SUBREAPER`), so that it also finds those that have
//! left the group.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getpid, getppid, kill_process, pidfd_open,
    set_child_subreaper, setrlimit, wait,
};

use crate::Failure;

/// The word with which this program is told that it is a keeper.
pub const COMMAND: &str = "__keep";

/// The exit status of a keeper that could not start its command, as a shell's is.
const NOT_STARTED: i32 = 127;

/// Plays the keeper: arguments are the process that it serves, and the command.
pub fn keep(arguments: &[OsString]) -> Result<(), Failure> {
    let [served, name, rest @ ..] = arguments else { return Err("a keeper is started by `serve`".into()) };
    let served = served.to_str().and_then(|served| Pid::from_raw(served.parse().ok()?));
    let served = served.ok_or("a keeper is started by `serve`")?;
    let life = pidfd_open(served, PidfdFlags::empty());
    // What was opened is ours to watch if that is still our parent.
    let life = life.ok().filter(|_| getppid() == Some(served)).ok_or("`serve` is over")?;
    set_child_subreaper(Some(getpid()))?;
    let mut child = match Command::new(name).args(rest).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(NOT_STARTED);
        }
    };
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let pidfd = pidfd.inspect_err(|_| end_all())?;
    let output = std::io::stdout();
    loop {
        // An output that nobody reads any more is an error without being asked for.
        let mut watched = [
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(&life, PollFlags::IN),
            PollFd::new(&output, PollFlags::empty()),
        ];
        match poll(&mut watched, None) {
            Err(Errno::INTR) => {}
            Ok(_) if !watched[0].revents().is_empty() => {
                let status = child.wait()?;
                end_all();
                end_as(status);
            }
            _ => {
                end_all();
                return Ok(());
            }
        }
    }
}

/// Ends as the command did.
fn end_as(status: ExitStatus) -> ! {
    if let Some(signal) = status.signal().and_then(Signal::from_named_raw) {
        // Its memory, not ours, would be of interest.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        // The first may only take away a handler of the standard library's.
        (0..2).for_each(|_| _ = kill_process(getpid(), signal));
    }
    std::process::exit(status.code().unwrap_or(1))
}

/// Kills our children, and theirs as they fall to us, until there are none.
fn end_all() {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            // A program of another user may be out of our reach.
            Ok(None) if kill_children() == 0 => return,
            Ok(None) => _ = wait(WaitOptions::empty()),
            Err(_) => return,
        }
    }
}

/// How many there were to kill.
fn kill_children() -> usize {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let children = numbers.filter(|process| parent(*process) == Some(getpid()));
    children.filter(|child| kill_process(*child, Signal::KILL).is_ok()).count()
}

fn parent(process: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    // The name, in parentheses, may hold anything; behind it come the state and the parent.
    let stat = String::from_utf8_lossy(&stat);
    let (_, behind) = stat.rsplit_once(") ")?;
    Pid::from_raw(behind.split(' ').nth(1)?.parse().ok()?)
}
