//! A producer and a consumer with a buffer of a few places between them: the problem that Dijkstra gave semaphores for (1965).
//!
//! The consumer is this program, started a second time.

use std::error::Error;
use std::process::Command;

use tidepost::{Mutex, Node, Semaphore, Shared};

/// Places of the buffer.
const PLACES: usize = 4;
const ITEMS: u64 = 20;

#[derive(Shared)]
#[repr(C)]
struct Buffer {
    /// How many places are free, and how many filled.
    free: Semaphore,
    filled: Semaphore,
    places: Mutex<[u64; PLACES]>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let node = Node::open("buffer")?;
    if let Some(name) = std::env::args().nth(1) {
        return Ok(consume(&node, &name)?);
    }
    let name = format!("buffer/{}", std::process::id());
    let buffer = node.region::<Buffer>(&name).create()?;
    buffer.free.release(PLACES as u32);
    let mut consumer = Command::new(std::env::current_exe()?).arg(&name).spawn()?;
    for item in 0..ITEMS {
        buffer.free.acquire();
        buffer.places.lock().map_err(|error| error.to_string())?[item as usize % PLACES] = item * item;
        buffer.filled.release(1);
    }
    consumer.wait()?;
    Ok(())
}

fn consume(node: &Node, name: &str) -> Result<(), tidepost::Error> {
    let buffer = node.region::<Buffer>(name).attach()?;
    for item in 0..ITEMS {
        buffer.filled.acquire();
        let square = buffer.places.lock()?[item as usize % PLACES];
        buffer.free.release(1);
        println!("{item} squared is {square}");
    }
    Ok(())
}
