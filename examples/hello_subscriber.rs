fn main() -> Result<(), tidepost::Error> {
    let node = tidepost::Node::open("ship")?;
    let mut subscriber = node.topic::<[u8]>("greeting").subscriber()?;
    Ok(println!("{}", String::from_utf8_lossy(&subscriber.recv()?)))
}
