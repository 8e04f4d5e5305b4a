//! `tidepost region`: memory that processes share.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Value as Json, json};
use tidepost::{LockOwner, Node, Pattern, ReadOnlyRegion, RegionError};

use crate::table::{Side, Table};
use crate::{Failure, Place, text};

/// Bytes that are copied at a time.
const PIECE_BYTES: usize = 1 << 20;
/// How long to wait between two looks for a region.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes in a line of a dump.
const LINE_BYTES: usize = 16;

/// What to do with a region.
#[derive(Debug, Subcommand)]
pub enum Arguments {
    /// Make a region of bytes, and keep it until interrupted; longer if others have it attached.
    Create(CreateArguments),
    /// List regions: how large, what they hold, who has them attached, who has which lock.
    Ls(ListArguments),
    /// Write bytes of a region of any type to standard output.
    Read(ReadArguments),
    /// Write standard input into a region of bytes.
    Write(WriteArguments),
    /// Print bytes of a region of any type in hexadecimal digits and as text.
    Dump(ReadArguments),
    /// Take a region's name away: whoever has it keeps it, and it goes with the last of them.
    Rm(RemoveArguments),
    /// Print the lines of a dump that change, as they do.
    Watch(WatchArguments),
}

/// Options of `tidepost region create`.
#[derive(Debug, clap::Args)]
pub struct CreateArguments {
    /// The region.
    region: String,
    /// Its size, such as 4096, 64k or 1g.
    #[arg(long, value_name = "BYTES", value_parser = text::parse_bytes)]
    size: usize,
    /// The size that it can grow to.
    #[arg(long, value_name = "BYTES", value_parser = text::parse_bytes)]
    max: Option<usize>,
    /// Keep it in this file, which outlives all processes; end at once.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Options of `tidepost region ls`.
#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Write one JSON object.
    #[arg(long)]
    json: bool,
    /// How long to wait for the nodes' answers, in seconds.
    #[arg(long, value_name = "S", default_value = "1", value_parser = text::parse_seconds)]
    timeout: Duration,
}

/// A region that somebody has.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// The region.
    region: String,
    /// Wait no longer than so many seconds for somebody to make it.
    #[arg(long, value_name = "S", default_value = "0", value_parser = text::parse_seconds)]
    timeout: Duration,
}

impl Wanted {
    /// Attaches it, once it is there.
    fn attach<R>(&self, attach: impl Fn(&str) -> Result<R, RegionError>) -> Result<R, RegionError> {
        let start = Instant::now();
        loop {
            match attach(&self.region) {
                Err(RegionError::NotFound { .. }) if start.elapsed() < self.timeout => {
                    std::thread::sleep(PAUSE);
                }
                settled => return settled,
            }
        }
    }

    fn read(&self, node: &Node) -> Result<ReadOnlyRegion, RegionError> {
        self.attach(|name| node.region_bytes(name).attach_read_only())
    }
}

/// Options of `tidepost region read` and `dump`.
#[derive(Debug, clap::Args)]
pub struct ReadArguments {
    #[command(flatten)]
    wanted: Wanted,
    /// From so many bytes after the first on.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = text::parse_bytes)]
    offset: usize,
    /// So many bytes; to the end of the region unless given.
    #[arg(long, value_name = "BYTES", value_parser = text::parse_bytes)]
    len: Option<usize>,
}

/// Options of `tidepost region write`.
#[derive(Debug, clap::Args)]
pub struct WriteArguments {
    #[command(flatten)]
    wanted: Wanted,
    /// From so many bytes after the first on.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = text::parse_bytes)]
    offset: usize,
}

/// Options of `tidepost region rm`.
#[derive(Debug, clap::Args)]
pub struct RemoveArguments {
    /// The region.
    region: String,
}

/// Options of `tidepost region watch`.
#[derive(Debug, clap::Args)]
pub struct WatchArguments {
    #[command(flatten)]
    what: ReadArguments,
    /// Look every so many seconds.
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = text::parse_seconds)]
    every: Duration,
}

/// Runs the command.
pub fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    match arguments {
        Arguments::Create(arguments) => create(arguments, &place.open("tidepost-region")?),
        Arguments::Ls(arguments) => list(arguments, &place.open("tidepost-region")?),
        Arguments::Read(arguments) => {
            let node = place.open("tidepost-region")?;
            let mut output = std::io::stdout().lock();
            each_piece(&arguments.wanted.read(&node)?, arguments, |_, piece| Ok(output.write_all(piece)?))
        }
        Arguments::Write(arguments) => write(arguments, &place.open("tidepost-region")?),
        Arguments::Dump(arguments) => {
            let node = place.open("tidepost-region")?;
            let mut output = std::io::stdout().lock();
            each_line(&arguments.wanted.read(&node)?, arguments, |offset, bytes| {
                Ok(writeln!(output, "{}", line_of(offset, bytes))?)
            })
        }
        Arguments::Rm(arguments) => {
            Ok(place.open("tidepost-region")?.region_bytes(&arguments.region).remove()?)
        }
        Arguments::Watch(arguments) => watch(arguments, &place.open("tidepost-region")?),
    }
}

fn create(arguments: &CreateArguments, node: &Node) -> Result<(), Failure> {
    let builder = node.region_bytes(&arguments.region);
    let builder = if let Some(max) = arguments.max { builder.len_max(max) } else { builder };
    if let Some(path) = &arguments.file {
        let region = builder.open_file(path, arguments.size)?;
        println!("{} B in {}", region.len(), path.display());
        return Ok(region.flush()?);
    }
    let region = builder.create(arguments.size)?;
    println!("{} B in region {}", region.len(), text::printable(&arguments.region));
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

fn write(arguments: &WriteArguments, node: &Node) -> Result<(), Failure> {
    let region = arguments.wanted.attach(|name| node.region_bytes(name).attach())?;
    let mut offset = arguments.offset;
    let mut piece = vec![0; PIECE_BYTES];
    let mut input = std::io::stdin().lock();
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                region.write_at(offset, &piece[..count])?;
                offset += count;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Calls `take` with piece after piece of what is to be read, and where it lies.
fn each_piece(
    region: &ReadOnlyRegion,
    arguments: &ReadArguments,
    mut take: impl FnMut(usize, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut left = arguments.len.unwrap_or(region.len().saturating_sub(arguments.offset));
    let mut offset = arguments.offset;
    let mut piece = vec![0; PIECE_BYTES.min(left)];
    // Also says that nothing is there to be read where that is so.
    region.read_at(offset, &mut [])?;
    while left > 0 {
        let count = piece.len().min(left);
        region.read_at(offset, &mut piece[..count])?;
        take(offset, &piece[..count])?;
        (offset, left) = (offset + count, left - count);
    }
    Ok(())
}

fn each_line(
    region: &ReadOnlyRegion,
    arguments: &ReadArguments,
    mut take: impl FnMut(usize, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    each_piece(region, arguments, |offset, piece| {
        let mut lines = piece.chunks(LINE_BYTES).enumerate();
        lines.try_for_each(|(index, bytes)| take(offset + index * LINE_BYTES, bytes))
    })
}

/// A line of a dump: offset, bytes, and what they are as text.
fn line_of(offset: usize, bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let text: String =
        bytes.iter().map(|byte| if is_plain(byte) { char::from(*byte) } else { '.' }).collect();
    format!("{offset:08x}  {:<width$}  {text}", hex.join(" "), width = 3 * LINE_BYTES - 1)
}

fn watch(arguments: &WatchArguments, node: &Node) -> Result<(), Failure> {
    let region = arguments.what.wanted.read(node)?;
    let mut output = std::io::stdout().lock();
    let mut before: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut index = 0;
        each_line(&region, &arguments.what, |offset, bytes| {
            match before.get_mut(index) {
                Some(known) if known == bytes => {}
                Some(known) => {
                    known.clear();
                    known.extend_from_slice(bytes);
                    writeln!(output, "{}", line_of(offset, bytes))?;
                }
                None => {
                    before.push(bytes.to_vec());
                    writeln!(output, "{}", line_of(offset, bytes))?;
                }
            }
            index += 1;
            Ok(())
        })?;
        output.flush()?;
        std::thread::sleep(arguments.every);
    }
}

fn list(arguments: &ListArguments, node: &Node) -> Result<(), Failure> {
    let reports = node.inspect(arguments.timeout)?;
    let holders = reports.iter().flat_map(|report| &report.publishers);
    let mut names: Vec<&str> =
        holders.filter(|of| of.pattern == Pattern::Region).map(|of| of.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut regions = Vec::new();
    for name in names {
        match node.region_bytes(name).attach_read_only() {
            Ok(region) => regions.push(region),
            // Whoever had it has gone since.
            Err(RegionError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut output = std::io::stdout().lock();
    if arguments.json {
        let regions: Vec<Json> = regions.iter().map(json_of).collect();
        writeln!(output, "{:#}", json!({ "regions": regions }))?;
        return Ok(());
    }
    let columns =
        [("REGION", Side::Left), ("BYTES", Side::Right), ("TYPE", Side::Left), ("ATTACHED BY", Side::Left)];
    let mut table = Table::new(0, &columns);
    for region in &regions {
        let pids: Vec<String> =
            region.attached().iter().map(|attached| attached.process.to_string()).collect();
        let name = text::printable(region.name());
        let of = text::type_name(region.region_type());
        table.row([name, region.len().to_string(), of, pids.join(", ")]);
    }
    write!(output, "{table}")?;
    for region in &regions {
        for lock in region.locks() {
            let readers = lock.readers.iter().map(|reader| format!("read by {reader}"));
            let who: Vec<String> =
                lock.owner.iter().map(|owner| format!("had by {owner}")).chain(readers).collect();
            let state = if who.is_empty() { "free".to_owned() } else { who.join("; ") };
            writeln!(output, "  {} of {}: {state}", lock.name, text::printable(region.name()))?;
        }
    }
    Ok(())
}

fn owner_json(owner: &LockOwner) -> Json {
    json!({
        "pid": owner.process,
        "thread": owner.thread,
        "alive": owner.is_alive,
        "seen_for_seconds": owner.seen_for.map(|seen| seen.as_secs_f64()),
    })
}

fn json_of(region: &ReadOnlyRegion) -> Json {
    let attached = region
        .attached()
        .into_iter()
        .map(|attached| json!({ "pid": attached.process, "seconds": attached.since.as_secs_f64() }));
    let locks = region.locks().into_iter().map(|lock| {
        let readers: Vec<Json> = lock.readers.iter().map(owner_json).collect();
        json!({ "name": lock.name, "owner": lock.owner.as_ref().map(owner_json), "readers": readers })
    });
    json!({
        "name": region.name(),
        "bytes": region.len(),
        "type": text::type_name(region.region_type()),
        "attached": attached.collect::<Vec<_>>(),
        "locks": locks.collect::<Vec<_>>(),
    })
}
