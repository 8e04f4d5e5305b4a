//! Four processes count together, once without a lock and once with one. Without, they lose each other's updates.
//!
//! The processes are this program, started again.

use std::error::Error;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use tidepost::{Mutex, Node, Shared};

const PROCESSES: u64 = 4;
/// How often each of them counts.
const ROUNDS: u64 = 200_000;

#[derive(Shared)]
#[repr(C)]
struct Counts {
    /// Read, and written one higher: two steps.
    careless: AtomicU64,
    locked: Mutex<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(name) = std::env::args().nth(1) {
        return Ok(count(&name)?);
    }
    let name = format!("counts/{}", std::process::id());
    let node = Node::open("counter")?;
    let counts = node.region::<Counts>(&name).create()?;
    let program = std::env::current_exe()?;
    let started = (0..PROCESSES).map(|_| Command::new(&program).arg(&name).spawn());
    let mut processes = started.collect::<Result<Vec<_>, _>>()?;
    for process in &mut processes {
        process.wait()?;
    }
    let (careless, locked) =
        (counts.careless.load(Ordering::Relaxed), *counts.locked.lock().map_err(|error| error.to_string())?);
    println!("{PROCESSES} processes counted {ROUNDS} times each");
    println!("with a lock:    {locked}");
    println!("without a lock: {careless}, {} lost", locked.saturating_sub(careless));
    Ok(())
}

fn count(name: &str) -> Result<(), tidepost::Error> {
    let node = Node::open("counter")?;
    let counts = node.region::<Counts>(name).attach()?;
    for _ in 0..ROUNDS {
        let seen = counts.careless.load(Ordering::Relaxed);
        counts.careless.store(seen + 1, Ordering::Relaxed);
        *counts.locked.lock()? += 1;
    }
    Ok(())
}
