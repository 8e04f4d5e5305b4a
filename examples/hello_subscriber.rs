//! Prints the first greeting that is published.

fn main() -> Result<(), tidepost::Error> {
    let node = tidepost::Node::open("ship")?;
    let mut subscriber = node.topic::<[u8]>("greeting").subscriber()?;
    println!("{}", String::from_utf8_lossy(&subscriber.recv()?));
    Ok(())
}
