//! One measurement: the parent's half and the child's, the same code for every engine.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use ::tidepost::Overflow;
use serde_json::{Value, json};

use crate::connect;
use crate::crowd;
use crate::engine::{Engine, Incoming, KernelLink, Outgoing, tidepost};
use crate::handover;
use crate::limit::Ring;
use crate::limit::futex::Handover;
use crate::limit::memory::{Pair, Shared, inherited};
use crate::limit::pool::Pool;
use crate::link;
use crate::patterns;
use crate::process::{self, Partner};
use crate::scratch::Scratch;
use crate::workload::{Pattern, Workload};

/// An error of a measurement.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What one measurement found. What its pattern does not measure is zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measurement {
    /// Half of the messages arrived within this time.
    pub p50_ns: f64,
    /// 99 of 100 messages arrived within this time.
    pub p99_ns: f64,
    /// Messages each second.
    pub per_second: f64,
    /// Voluntary context switches of the receiver for each message.
    pub switches: f64,
}

impl Measurement {
    pub(crate) fn of_samples(samples: &[f64]) -> Self {
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
        Self { p50_ns: at(0.5), p99_ns: at(0.99), ..Self::default() }
    }

    pub(crate) fn of_result(result: &Value) -> Self {
        let number = |key: &str| result[key].as_f64().unwrap_or(0.0);
        Self {
            p50_ns: number("p50_ns"),
            p99_ns: number("p99_ns"),
            per_second: number("per_second"),
            switches: number("switches"),
        }
    }
}

/// Runs one measurement: starts the child, does the parent's half, collects the result.
pub fn run(workload: Workload) -> Result<Measurement, Failure> {
    process::pinned(|| match workload.bytes {
        56 => run_for::<7>(workload),
        4096 => run_for::<512>(workload),
        65536 => run_for::<8192>(workload),
        1_048_576 => run_for::<131_072>(workload),
        bytes => Err(format!("messages of {bytes} B are not measured; the sizes are 56, 4k, 64k, 1m").into()),
    })
}

fn run_for<const WORDS: usize>(workload: Workload) -> Result<Measurement, Failure> {
    match workload.engine {
        Engine::Ring => run_bare::<WORDS, Ring<WORDS>>(workload),
        Engine::Pool => run_bare::<WORDS, Pool<WORDS>>(workload),
        Engine::Futex => run_futex(workload),
        Engine::Tidepost => run_tidepost::<WORDS>(workload, Overflow::Block),
        Engine::Topic(policy) if workload.pattern == Pattern::Publish => {
            crowd::run_parked::<WORDS>(workload, policy, 1)
        }
        Engine::Policy(policy) | Engine::Topic(policy) => run_tidepost::<WORDS>(workload, policy),
        Engine::Subscribers(count) => crowd::run_subscribers::<WORDS>(workload, count),
        Engine::Publishers(count) => crowd::run_publishers::<WORDS>(workload, count),
        Engine::Pipe | Engine::Unix => run_kernel::<WORDS>(workload),
        Engine::Call => patterns::run_call::<WORDS>(workload),
        Engine::Queue => patterns::run_queue::<WORDS>(workload),
        Engine::State => patterns::run_state::<WORDS>(workload, 1),
        Engine::Readers(count) | Engine::Sleepers(count) => patterns::run_state::<WORDS>(workload, count),
        Engine::Signal => patterns::run_signal(workload),
        Engine::Set(count) => patterns::run_set::<WORDS>(workload, count),
    }
}

fn run_bare<const WORDS: usize, L: Pair + Outgoing + Incoming>(
    workload: Workload,
) -> Result<Measurement, Failure> {
    let shared = Shared::create(2 * L::BYTES)?;
    let partner = Partner::start(workload.to_arguments(), &shared.number().to_string())?;
    let (out, back) = L::pair(&shared);
    parent_half::<WORDS>(workload, partner, out, back)
}

fn run_futex(workload: Workload) -> Result<Measurement, Failure> {
    let shared = Shared::create(2 * Handover::BYTES)?;
    let mut partner = Partner::start(workload.to_arguments(), &shared.number().to_string())?;
    let (out, _) = Handover::pair(&shared);
    partner.line()?;
    link::drip(|stamp| out.send(stamp), workload.count);
    Ok(Measurement::of_result(&partner.result()?))
}

fn run_tidepost<const WORDS: usize>(workload: Workload, overflow: Overflow) -> Result<Measurement, Failure> {
    let directory = Scratch::create()?;
    let node = tidepost::open(directory.path(), "bench-parent");
    let back = tidepost::subscriber::<WORDS>(&node, "back");
    let mut partner = Partner::start(workload.to_arguments(), &directory.path().to_string_lossy())?;
    let mut out = tidepost::publisher::<WORDS>(&node, "forth", overflow, 1);
    if workload.pattern != Pattern::Drip {
        return parent_half::<WORDS>(workload, partner, out, tidepost::Busy(back));
    }
    partner.line()?;
    link::drip(|stamp| Outgoing::send(&mut out, stamp), workload.count);
    Ok(Measurement::of_result(&partner.result()?))
}

fn run_kernel<const WORDS: usize>(workload: Workload) -> Result<Measurement, Failure> {
    let (ours, theirs) = if workload.engine == Engine::Pipe { pipes()? } else { sockets()? };
    let resource = format!("{},{}", theirs.0.as_raw_fd(), theirs.1.as_raw_fd());
    let partner = Partner::start(workload.to_arguments(), &resource)?;
    drop(theirs);
    let (back, out) = (KernelLink::<WORDS>::new(ours.0), KernelLink::<WORDS>::new(ours.1));
    parent_half::<WORDS>(workload, partner, out, back)
}

fn parent_half<const WORDS: usize>(
    workload: Workload,
    mut partner: Partner,
    mut out: impl Outgoing,
    mut back: impl Incoming,
) -> Result<Measurement, Failure> {
    partner.line()?;
    if let Pattern::Stream { batch } = workload.pattern {
        link::pour(&mut out, workload.count, batch);
        return Ok(Measurement::of_result(&partner.result()?));
    }
    let mut samples = link::ping(&mut out, &mut back, WORDS as u64, workload.count);
    partner.result()?;
    if workload.pattern == Pattern::PingPong {
        samples.iter_mut().for_each(|time| *time /= 2.0);
    }
    Ok(Measurement::of_samples(&samples))
}

/// The child's side of a measurement: `arguments` are what came after the hidden command.
pub fn child(arguments: &[String]) -> Result<(), Failure> {
    // A measurement that is interrupted takes its other half along.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    process::pin(process::CHILD_CORE);
    let nothing = || Failure::from("this command is for measurements only");
    let (resource, part) = arguments.split_last().ok_or_else(nothing)?;
    let special = connect::child(part, Path::new(resource));
    let result = match special.or_else(|| handover::child(part, Path::new(resource))) {
        Some(result) => result?,
        None => child_of(Workload::from_arguments(part).ok_or_else(nothing)?, resource)?,
    };
    process::tell(result);
    Ok(())
}

fn child_of(workload: Workload, resource: &str) -> Result<Value, Failure> {
    match workload.bytes {
        56 => child_for::<7>(workload, resource),
        4096 => child_for::<512>(workload, resource),
        65536 => child_for::<8192>(workload, resource),
        _ => child_for::<131_072>(workload, resource),
    }
}

fn child_for<const WORDS: usize>(workload: Workload, resource: &str) -> Result<Value, Failure> {
    match workload.engine {
        Engine::Ring => child_bare::<WORDS, Ring<WORDS>>(workload, resource),
        Engine::Pool => child_bare::<WORDS, Pool<WORDS>>(workload, resource),
        Engine::Futex => {
            let shared = Shared::inherit(resource.parse()?, 2 * Handover::BYTES)?;
            let (mut incoming, _) = Handover::pair(&shared);
            Ok(catch(|| incoming.receive(), workload.count))
        }
        Engine::Tidepost => child_tidepost::<WORDS>(workload, Overflow::Block, Path::new(resource)),
        Engine::Topic(_) if workload.pattern == Pattern::Publish => {
            crowd::child_subscribers::<WORDS>(1, Path::new(resource))
        }
        Engine::Policy(policy) | Engine::Topic(policy) => {
            child_tidepost::<WORDS>(workload, policy, Path::new(resource))
        }
        Engine::Subscribers(count) => crowd::child_subscribers::<WORDS>(count, Path::new(resource)),
        Engine::Publishers(_) => crowd::child_publishers::<WORDS>(workload, Path::new(resource)),
        Engine::Pipe | Engine::Unix => {
            let (incoming, out) = resource.split_once(',').ok_or("two descriptors are due")?;
            let incoming = KernelLink::<WORDS>::new(inherited(incoming.parse()?));
            let out = KernelLink::<WORDS>::new(inherited(out.parse()?));
            Ok(child_half::<WORDS>(workload, incoming, out))
        }
        Engine::Call => patterns::child_call::<WORDS>(workload, Path::new(resource)),
        Engine::Queue => patterns::child_queue::<WORDS>(workload, Path::new(resource)),
        Engine::State => patterns::child_state::<WORDS>(workload, 1, Path::new(resource)),
        Engine::Readers(count) => patterns::child_state::<WORDS>(workload, count, Path::new(resource)),
        Engine::Sleepers(count) => patterns::child_sleepers::<WORDS>(workload, count, Path::new(resource)),
        Engine::Signal => patterns::child_signal(workload, Path::new(resource)),
        Engine::Set(count) => patterns::child_set::<WORDS>(workload, count, Path::new(resource)),
    }
}

fn child_bare<const WORDS: usize, L: Pair + Outgoing + Incoming>(
    workload: Workload,
    resource: &str,
) -> Result<Value, Failure> {
    let shared = Shared::inherit(resource.parse()?, 2 * L::BYTES)?;
    let (incoming, back) = L::pair(&shared);
    Ok(child_half::<WORDS>(workload, incoming, back))
}

fn child_tidepost<const WORDS: usize>(
    workload: Workload,
    overflow: Overflow,
    directory: &Path,
) -> Result<Value, Failure> {
    let node = tidepost::open(directory, "bench-child");
    let incoming = tidepost::subscriber::<WORDS>(&node, "forth");
    if workload.pattern == Pattern::Drip {
        let mut incoming = tidepost::Blocking(incoming);
        return Ok(catch(|| incoming.stamp(), workload.count));
    }
    let back = tidepost::publisher::<WORDS>(&node, "back", overflow, 1);
    Ok(child_half::<WORDS>(workload, tidepost::Busy(incoming), back))
}

fn child_half<const WORDS: usize>(
    workload: Workload,
    mut incoming: impl Incoming,
    mut back: impl Outgoing,
) -> Value {
    process::tell("ready");
    if let Pattern::Stream { batch } = workload.pattern {
        return json!({ "per_second": link::drain(&mut incoming, WORDS as u64, 1, workload.count, batch) });
    }
    link::pong(&mut incoming, &mut back, WORDS as u64, workload.count);
    json!({})
}

fn catch(receive: impl FnMut() -> u64, count: u64) -> Value {
    process::tell("ready");
    let (samples, switches) = link::catch(receive, count);
    let found = Measurement::of_samples(&samples);
    json!({ "p50_ns": found.p50_ns, "p99_ns": found.p99_ns, "switches": switches })
}

/// Ours and theirs: what each side reads from, and what it writes to.
type Ends = ((OwnedFd, OwnedFd), (OwnedFd, OwnedFd));

fn pipes() -> Result<Ends, Failure> {
    let ((their_in, our_out), (our_in, their_out)) = (rustix::pipe::pipe()?, rustix::pipe::pipe()?);
    Ok(((our_in, our_out), (their_in, their_out)))
}

fn sockets() -> Result<Ends, Failure> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)?;
    Ok(((rustix::io::dup(&ours)?, ours), (rustix::io::dup(&theirs)?, theirs)))
}
