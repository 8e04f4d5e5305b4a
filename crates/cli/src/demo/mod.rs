//! `tidepost demo`: separate processes, real data, every byte checked, one participant killed half-way.

mod cast;
mod parts;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tidepost_bench::Scratch;
use tidepost_bench::engine::Engine;
use tidepost_bench::report::{self, Contest, Plan, Round};
use tidepost_bench::workload::{Effort, Pattern};

use crate::{Failure, text};
use cast::Actor;
pub use parts::{PART_COMMAND, play_part};

/// Video frames that are sent.
const FRAMES: u64 = 120;
/// Bytes that the file is repeated up to, so that half-way is some way.
const FILE_BYTES_LEAST: u64 = 100 << 20;

/// Prints a line; a reader that has gone ends the demonstration, and not with a panic.
macro_rules! say {
    ($($text:tt)*) => { writeln!(std::io::stdout(), $($text)*)? };
}

/// Options of `tidepost demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file to send; the tool's own executable unless given.
    #[arg(long, value_name = "F")]
    file: Option<PathBuf>,
}

/// Runs the demonstration.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let stage = Scratch::create()?;
    let file = arguments.file.clone().map_or_else(std::env::current_exe, Ok)?;
    say!(
        "Tidepost: one process publishes, others subscribe. Every byte is checked by those who receive it.\n"
    );
    send_file(&stage, &file)?;
    send_frames(&stage)?;
    compare()?;
    say!(
        "\nNext: `tidepost bench latency` and `tidepost bench throughput` measure with care; see README.md."
    );
    Ok(())
}

fn send_file(stage: &Scratch, file: &Path) -> Result<(), Failure> {
    let named = |error: std::io::Error| format!("{}: {error}", file.display());
    if !std::fs::metadata(file).map_err(named)?.is_file() {
        return Err(format!("{} is no regular file; choose one that is", file.display()).into());
    }
    let bytes = std::fs::read(file).map_err(named)?;
    if bytes.is_empty() {
        return Err(format!("{} is empty; choose a file with something in it", file.display()).into());
    }
    let rounds = FILE_BYTES_LEAST.div_ceil(bytes.len() as u64);
    let total = bytes.len() as u64 * rounds;
    say!(
        "1. A file for three subscribers: {} ({}), {rounds} times, in messages of 64 KiB",
        file.file_name().unwrap_or(file.as_os_str()).to_string_lossy(),
        text::bytes(bytes.len() as u64)
    );
    let expected = parts::checksum_of_rounds(&bytes, rounds);
    let mut readers =
        vec![Actor::start(stage, "file-reader", &[])?, Actor::start(stage, "file-reader", &[])?];
    let mut victim = Actor::start(stage, "file-victim", &[(total / 2).to_string().into()])?;
    let start = Instant::now();
    let publisher = Actor::start(stage, "file-publisher", &[file.into(), rounds.to_string().into()])?;
    victim.line()?;
    let killed = Instant::now();
    victim.kill()?;
    say!("   subscriber 3  stopped reading half-way, held the others up, and was killed (SIGKILL)");
    for (number, reader) in readers.iter_mut().enumerate() {
        let (received, checksum) = reader.two_numbers()?;
        if (received, checksum) != (total, expected) {
            return Err(format!(
                "subscriber {} received {received} B with checksum {checksum:016x}",
                number + 1
            )
            .into());
        }
        say!(
            "   subscriber {}  received {} with checksum {checksum:016x}: intact",
            number + 1,
            text::bytes(total)
        );
    }
    publisher.finish()?;
    readers.into_iter().try_for_each(Actor::finish)?;
    let (all, rest) = (start.elapsed().as_secs_f64(), killed.elapsed().as_secs_f64());
    say!("   {:.2} s in all, {rest:.2} s from the kill to the end\n", all);
    Ok(())
}

fn send_frames(stage: &Scratch) -> Result<(), Failure> {
    say!(
        "2. Video: {FRAMES} frames of 1920 × 1080 RGB ({} each), drawn and read in place",
        text::bytes(parts::FRAME_BYTES as u64)
    );
    let mut viewers = vec![Actor::start(stage, "viewer", &[])?, Actor::start(stage, "viewer", &[])?];
    let camera = Actor::start(stage, "camera", &[FRAMES.to_string().into()])?;
    for (number, viewer) in viewers.iter_mut().enumerate() {
        let (frames, elapsed_us) = viewer.two_numbers()?;
        if frames != FRAMES {
            return Err(format!("viewer {} saw {frames} of {FRAMES} frames intact", number + 1).into());
        }
        let rate = (frames - 1) as f64 / (elapsed_us as f64 / 1e6);
        say!("   viewer {}  saw all {frames} frames intact, {rate:.0} a second", number + 1);
    }
    camera.finish()?;
    viewers.into_iter().try_for_each(Actor::finish)?;
    say!("");
    Ok(())
}

fn compare() -> Result<(), Failure> {
    say!(
        "3. What it costs, beside what the kernel offers (two processes, busy, every byte written and read)\n"
    );
    let contest = Contest::Limits { with_kernel: true };
    let plan = |pattern, sizes| Plan { contest, pattern, sizes, rounds: 1, effort: Effort::Quick };
    let latency = report::measure(&plan(Pattern::PingPong, vec![56, 1 << 20]), |_, _| ())?;
    let stream = report::measure(&plan(Pattern::Stream { batch: 1 }, vec![56, 1 << 20]), |_, _| ())?;
    say!("   {:14}{:>12}{:>12}{:>16}{:>12}", "", "one 56 B", "one 1 MiB", "56 B messages", "1 MiB");
    say!("   {:14}{:>12}{:>12}{:>16}{:>12}", "", "takes", "takes", "a second", "a second");
    for (engine, name) in
        [(Engine::Tidepost, "Tidepost"), (Engine::Pipe, "pipe"), (Engine::Unix, "Unix socket")]
    {
        let of = |rounds: &[Round], index: usize| {
            rounds.get(index).and_then(|round| round.of(engine)).unwrap_or_default()
        };
        let takes = |index| text::nanoseconds(of(&latency, index).p50_ns);
        let rate = |index| text::rate(of(&stream, index).per_second);
        say!("   {name:14}{:>12}{:>12}{:>16}{:>12}", takes(0), takes(1), rate(0), rate(1));
    }
    let limit = |rounds: &[Round], index: usize| rounds.get(index).map(Round::limit).unwrap_or_default();
    say!(
        "   {:14}{:>12}{:>12}{:>16}{:>12}",
        "(the machine)",
        text::nanoseconds(limit(&latency, 0).p50_ns),
        text::nanoseconds(limit(&latency, 1).p50_ns),
        text::rate(limit(&stream, 0).per_second),
        text::rate(limit(&stream, 1).per_second)
    );
    Ok(())
}
