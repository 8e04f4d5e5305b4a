//! `tidepost-gateway bench`: what the way through Tidepost costs beside the engine alone, with the same settings, on loopback.
//!
//! Four ways, each between processes of its own, in turn in each round:
//! - **engine**: two programs that use the engine themselves, as fast as it is;
//! - **reliable**: the same, with the settings of the link, so that what is lost is sent again, and received by a thread;
//! - **program**: two programs whose nodes carry the network themselves;
//! - **gateways**: two programs that know of no network, and a gateway beside each.
//!
//! Every byte of a message is written before it is sent and read when it has come. One-way latency is half of the time to and fro, of
//! messages a millisecond apart. A stream is counted as it is received; what a slow way loses is counted, too.

mod beside;
mod engine;
mod parts;
mod scale;
mod ways;

use std::time::Duration;

use crate::Failure;
pub use parts::play;
use ways::{Way, ways};

/// The first argument of a process that plays a part.
pub const PART_COMMAND: &str = "bench-part";

/// What is measured, and how long.
#[derive(clap::Args, Clone)]
pub struct Arguments {
    /// Bytes of the messages.
    #[arg(long, value_delimiter = ',', default_values_t = [56, 4096, 1 << 20])]
    sizes: Vec<usize>,
    /// Rounds, in each of which every way has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Instead, what so many machines cost, one number after the other.
    #[arg(long, value_delimiter = ',')]
    machines: Vec<usize>,
    /// So many routers stand between those machines, in line; the machines are spread evenly over them.
    #[arg(long, default_value_t = 1)]
    routers: usize,
    /// Instead, how fast local messages are beside gateways that are busy, on processors of their own.
    #[arg(long)]
    beside: bool,
    /// Beside the engine, and the engine as the link uses it: what is measured; all unless chosen.
    #[arg(long, value_delimiter = ',')]
    ways: Vec<String>,
    /// Processors of the other end, as `taskset` has them, where this end is given others by `taskset` too: as two machines have.
    #[arg(long)]
    there: Option<String>,
    /// Microseconds between two messages to and fro.
    #[arg(long, default_value_t = 1000)]
    pause: u64,
    /// Messages to and fro in each turn; a stream has a hundred times as many of the short ones.
    #[arg(long, default_value_t = 200)]
    messages: usize,
}

/// The figures of one way and size: one of each round.
#[derive(Default)]
struct Figures {
    one_way_us: Vec<f64>,
    stream_per_s: Vec<f64>,
    lost: u64,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.machines.is_empty() {
        return scale::run(&arguments.machines, arguments.routers);
    }
    if arguments.beside {
        return beside::run(arguments.rounds);
    }
    let mut ways = ways(&arguments.ways, arguments.there.as_deref())?;
    let sizes: Vec<usize> = arguments.sizes.iter().map(|size| (*size).max(8)).collect();
    let mut figures: Vec<Vec<Figures>> =
        ways.iter().map(|_| sizes.iter().map(|_| Figures::default()).collect()).collect();
    for _ in 0..arguments.rounds {
        for (size_index, size) in sizes.iter().copied().enumerate() {
            for (way, figures) in ways.iter_mut().zip(&mut figures) {
                let figures = &mut figures[size_index];
                figures.one_way_us.push(one_way_us(&mut **way, size, arguments)?);
                let messages = if size > 1 << 16 { arguments.messages } else { 100 * arguments.messages };
                let (per_s, lost) = stream(&mut **way, size, messages)?;
                figures.stream_per_s.push(per_s);
                figures.lost += lost;
            }
        }
    }
    print(&ways, &sizes, &figures);
    Ok(())
}

/// Half of the time to and fro, the median.
fn one_way_us(way: &mut dyn Way, size: usize, arguments: &Arguments) -> Result<f64, Failure> {
    let mut times = Vec::with_capacity(arguments.messages);
    for number in 0..arguments.messages {
        if arguments.pause > 0 {
            std::thread::sleep(Duration::from_micros(arguments.pause));
        }
        times.push(way.to_and_fro(&parts::message(size, number as u64))?);
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6 / 2.0)
}

/// Messages a second that arrive, and how many do not.
fn stream(way: &mut dyn Way, size: usize, messages: usize) -> Result<(f64, u64), Failure> {
    let (received, took) = way.stream(size, messages)?;
    Ok((received as f64 / took.as_secs_f64(), messages as u64 - received))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The median of the rounds' ratios, the least and the greatest.
fn ratio(values: &[f64], reference: &[f64]) -> String {
    let mut ratios: Vec<f64> =
        values.iter().zip(reference).map(|(value, reference)| value / reference).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, greatest) = (ratios[0], ratios[ratios.len() - 1]);
    format!("{:.2} × ({least:.2}–{greatest:.2})", ratios[ratios.len() / 2])
}

fn print(ways: &[Box<dyn Way>], sizes: &[usize], figures: &[Vec<Figures>]) {
    for (index, size) in sizes.iter().enumerate() {
        println!("{size} B");
        let (bare, reliable) = (&figures[0][index], &figures[1][index]);
        for (way, figures) in ways.iter().zip(figures) {
            let figures = &figures[index];
            println!(
                "  {:<9} one way {:>7.1} µs, {} of engine, {} of reliable; stream {:>9.0} /s, {} of engine, {} of reliable; lost {}",
                way.name(),
                median(&figures.one_way_us),
                ratio(&figures.one_way_us, &bare.one_way_us),
                ratio(&figures.one_way_us, &reliable.one_way_us),
                median(&figures.stream_per_s),
                ratio(&figures.stream_per_s, &bare.stream_per_s),
                ratio(&figures.stream_per_s, &reliable.stream_per_s),
                figures.lost
            );
        }
    }
}
