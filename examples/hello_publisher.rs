//! Publishes a greeting to the first subscriber that comes.

fn main() -> Result<(), tidepost::Error> {
    let node = tidepost::Node::open("harbour")?;
    let mut publisher = node.topic::<[u8]>("greeting").publisher(tidepost::Overflow::Block)?;
    publisher.wait_for_subscribers(1, std::time::Duration::MAX)?;
    Ok(publisher.send(b"hello, world")?)
}
