//! `tidepost pub`: lines or file chunks onto a topic.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tidepost::{Overflow, Publisher, SendError};

use crate::notices::tell_refused;
use crate::{Failure, Place, lines, text};

/// How long `--wait-subscribers` waits at most, unless told.
const WAIT_DEFAULT: &str = "60";

/// The longest chunk that is read from a pipe or a device, in bytes.
const DEVICE_CHUNK_MAX: usize = 64 << 20;

/// Options of `tidepost pub`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The topic, any text without control characters. Its messages are bytes: lines without their ends.
    topic: String,
    /// Publish this file in chunks instead of lines of standard input.
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
    /// Bytes of each chunk of the file, such as 4096, 64k or 1m.
    #[arg(long, value_name = "N", default_value = "64k", value_parser = text::parse_bytes, requires = "file")]
    chunk: usize,
    /// Stop after so many messages.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Publish so many messages a second at most.
    #[arg(long, value_name = "HZ")]
    rate: Option<f64>,
    /// What to do when a subscriber is too slow. Those that chose not to be waited for, as `sub` without `--reliable`, lose what
    /// they are too slow for in any case.
    #[arg(long, value_enum, default_value_t = OverflowChoice::Block)]
    overflow: OverflowChoice,
    /// Start once so many subscribers are there: what is published before one comes, it does not get, beyond `--history`.
    #[arg(long, value_name = "N", default_value_t = 0)]
    wait_subscribers: usize,
    /// How long to wait for them, in seconds.
    #[arg(long, value_name = "S", default_value = WAIT_DEFAULT, value_parser = text::parse_seconds)]
    wait_timeout: Duration,
    /// Keep the last so many messages for subscribers that come later, as long as this command runs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    history: usize,
    /// Send the time of sending with each message.
    #[arg(long)]
    timestamps: bool,
}

/// What becomes of what finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OverflowChoice {
    /// Wait until there is room.
    Block,
    /// Stop with an error.
    Fail,
    /// The oldest make room, and are lost.
    DropOldest,
    /// Only the newest is kept; what came before it is lost.
    Latest,
}

impl From<OverflowChoice> for Overflow {
    fn from(choice: OverflowChoice) -> Self {
        match choice {
            OverflowChoice::Block => Self::Block,
            OverflowChoice::Fail => Self::Fail,
            OverflowChoice::DropOldest => Self::DropOldest,
            OverflowChoice::Latest => Self::Latest,
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let pace = Pace::new(arguments.rate)?;
    let node = place.open("tidepost-pub")?;
    let topic = node.topic::<[u8]>(&arguments.topic).history(arguments.history);
    let topic = if arguments.timestamps { topic.timestamps() } else { topic };
    let mut publisher = topic.publisher(arguments.overflow.into())?;
    publisher.wait_for_subscribers(arguments.wait_subscribers, arguments.wait_timeout)?;
    let mut outgoing = Outgoing { publisher, pace, left: arguments.count.unwrap_or(u64::MAX), sent: 0 };
    match &arguments.file {
        Some(path) => publish_file(&mut outgoing, path, arguments.chunk)?,
        None => publish_lines(&mut outgoing)?,
    }
    outgoing.tell_refusals();
    Ok(())
}

/// A publisher with its limits.
struct Outgoing {
    publisher: Publisher<[u8]>,
    pace: Pace,
    left: u64,
    sent: u64,
}

impl Outgoing {
    /// Publishes one message; `false` once enough have been.
    fn send(&mut self, message: &[u8]) -> Result<bool, SendError> {
        if self.left == 0 {
            return Ok(false);
        }
        self.pace.wait(self.sent);
        self.publisher.send(message)?;
        self.left -= 1;
        self.sent += 1;
        self.tell_refusals();
        Ok(self.left > 0)
    }

    fn tell_refusals(&mut self) {
        tell_refused(
            "a subscriber turned this topic down",
            std::iter::from_fn(|| self.publisher.try_event()),
        );
    }
}

fn publish_lines(outgoing: &mut Outgoing) -> Result<(), Failure> {
    lines::each(|line| Ok(outgoing.send(line)?))
}

fn publish_file(outgoing: &mut Outgoing, path: &PathBuf, chunk: usize) -> Result<(), Failure> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    if chunk == 0 {
        return Err("a chunk has at least one byte".into());
    }
    let mut file = File::open(path).map_err(named)?;
    let length = file.metadata().map_err(named)?.len();
    let progress = progress_bar(length);
    // No chunk of a file is longer than the file; what is none has no length, and chunks as they come.
    let longest = usize::try_from(length).ok().filter(|length| *length > 0).unwrap_or(DEVICE_CHUNK_MAX);
    let mut buffer = vec![0; chunk.min(longest)];
    loop {
        let length = read_full(&mut file, &mut buffer).map_err(named)?;
        if length == 0 || !outgoing.send(&buffer[..length])? {
            break;
        }
        progress.inc(length as u64);
    }
    progress.finish_and_clear();
    Ok(())
}

/// Fills the buffer as far as the file goes.
fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Spaces messages evenly.
struct Pace {
    start: Instant,
    interval: Option<Duration>,
}

impl Pace {
    fn new(rate: Option<f64>) -> Result<Self, Failure> {
        let interval = rate.map(|rate| Duration::try_from_secs_f64(1.0 / rate));
        let interval =
            interval.transpose().map_err(|_| "the rate is a number of messages a second, above 0")?;
        Ok(Self { start: Instant::now(), interval })
    }

    /// Waits until it is the turn of the message with this number.
    fn wait(&self, number: u64) {
        let Some(interval) = self.interval else { return };
        let due = interval.as_secs_f64() * number as f64;
        let left = due - self.start.elapsed().as_secs_f64();
        if left > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(left));
        }
    }
}
