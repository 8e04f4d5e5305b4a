//! Tidepost with more than one endpoint at an end: many subscribers that a publisher must not notice, and many publishers
//! whose messages one subscriber takes.

use std::path::Path;

use serde_json::{Value, json};
use tidepost::Overflow;

use crate::engine::tidepost as endpoints;
use crate::link;
use crate::measure::{Failure, Measurement};
use crate::process::{self, Partner};
use crate::scratch::Scratch;
use crate::workload::Workload;

/// The topic of all of them.
const TOPIC: &str = "crowd";

/// A publisher that notices its subscribers as little as it can: it waits for none of them.
pub fn run_subscribers<const WORDS: usize>(workload: Workload, count: u32) -> Result<Measurement, Failure> {
    run_parked::<WORDS>(workload, Overflow::DropOldest, count)
}

/// The parent publishes; the child has the subscribers, and sleeps.
pub fn run_parked<const WORDS: usize>(
    workload: Workload,
    policy: Overflow,
    count: u32,
) -> Result<Measurement, Failure> {
    let directory = Scratch::create()?;
    let node = endpoints::open(directory.path(), "bench-parent");
    let mut partner = Partner::start(workload.to_arguments(), &directory.path().to_string_lossy())?;
    let mut out = endpoints::publisher::<WORDS>(&node, TOPIC, policy, count);
    partner.line()?;
    let samples = link::publish(&mut out, workload.count);
    if out.subscribers() != count as usize {
        return Err(format!("{} of {count} subscribers stayed", out.subscribers()).into());
    }
    partner.result()?;
    Ok(Measurement::of_samples(&samples))
}

/// Subscribers that never look: all that is left of them is their memory, and the thread that serves their node.
pub fn child_subscribers<const WORDS: usize>(count: u32, directory: &Path) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-child");
    let subscribers: Vec<_> = (0..count).map(|_| endpoints::subscriber::<WORDS>(&node, TOPIC)).collect();
    process::tell("ready");
    process::await_end()?;
    drop(subscribers);
    Ok(json!({}))
}

/// The parent receives what all children publish; they share the other core.
pub fn run_publishers<const WORDS: usize>(workload: Workload, count: u32) -> Result<Measurement, Failure> {
    let directory = Scratch::create()?;
    let node = endpoints::open(directory.path(), "bench-parent");
    let mut incoming = endpoints::Busy(endpoints::subscriber::<WORDS>(&node, TOPIC));
    let share = Workload { count: workload.count / u64::from(count), ..workload };
    let start = |_| Partner::start(share.to_arguments(), &directory.path().to_string_lossy());
    let mut partners = (0..count).map(start).collect::<Result<Vec<_>, _>>()?;
    partners.iter_mut().try_for_each(|partner| partner.line().map(|_| ()))?;
    partners.iter_mut().try_for_each(Partner::go)?;
    let per_second = link::drain(&mut incoming, WORDS as u64, count.into(), share.count, 1);
    partners.into_iter().try_for_each(|partner| partner.result().map(|_| ()))?;
    Ok(Measurement { per_second, ..Measurement::default() })
}

/// One of the publishers. It starts when all are there.
pub fn child_publishers<const WORDS: usize>(workload: Workload, directory: &Path) -> Result<Value, Failure> {
    let node = endpoints::open(directory, "bench-child");
    let mut out = endpoints::publisher::<WORDS>(&node, TOPIC, Overflow::Block, 1);
    process::tell("ready");
    process::await_go()?;
    link::pour(&mut out, workload.count, 1);
    Ok(json!({}))
}
