//! Three processes read a price list while one changes it: every reader sees a list that is whole, and readers do not wait for each
//! other.
//!
//! The readers are this program, started again.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use tidepost::{EventFlag, Node, RwLock, Shared};

const READERS: usize = 3;
const CHANGES: u64 = 50;

#[derive(Shared)]
#[repr(C)]
struct Shop {
    /// All prices rise together.
    prices: RwLock<[u64; 100]>,
    closed: EventFlag,
    padding: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let node = Node::open("shop")?;
    if let Some(name) = std::env::args().nth(1) {
        return Ok(read(&node, &name)?);
    }
    let name = format!("shop/{}", std::process::id());
    let shop = node.region::<Shop>(&name).create()?;
    let program = std::env::current_exe()?;
    let started = (0..READERS).map(|_| Command::new(&program).arg(&name).spawn());
    let mut readers = started.collect::<Result<Vec<_>, _>>()?;
    for _ in 0..CHANGES {
        let mut prices = shop.prices.write().map_err(|error| error.to_string())?;
        prices.iter_mut().for_each(|price| *price += 1);
        drop(prices);
        std::thread::sleep(Duration::from_millis(1));
    }
    shop.closed.set();
    for reader in &mut readers {
        reader.wait()?;
    }
    Ok(())
}

fn read(node: &Node, name: &str) -> Result<(), tidepost::Error> {
    let shop = node.region::<Shop>(name).attach()?;
    let (mut looks, mut torn) = (0u64, 0u64);
    while !shop.closed.is_set() {
        let prices = shop.prices.read()?;
        torn += u64::from(prices.iter().any(|price| *price != prices[0]));
        looks += 1;
    }
    let last = shop.prices.read()?[0];
    println!(
        "looked {}, found {torn} lists torn, and the last price is {last}",
        if looks > 0 { "often" } else { "never" }
    );
    Ok(())
}
