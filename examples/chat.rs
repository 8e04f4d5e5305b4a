//! A chat between terminals: `chat NICK [ROOM]` in each of them.
//!
//! A room is a topic, on which everybody publishes and to which everybody listens. Who is there, the topic tells.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use tidepost::{Event, Interest, Key, Node, Overflow, Publisher, Subscriber, WaitSet};

/// Lines of everybody that newcomers get to see.
const HISTORY: usize = 10;
/// How often to look who comes and goes.
const LOOK: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let nick = arguments.next().ok_or("usage: chat NICK [ROOM]")?;
    let room = arguments.next().unwrap_or_else(|| "lobby".to_owned());

    let node = Node::open(&nick)?;
    let name = format!("chat/{room}");
    let topic = node.topic::<[u8]>(&name).history(HISTORY);
    // Nobody waits for a terminal that is stopped.
    let mut publisher = topic.clone().publisher(Overflow::DropOldest)?;

    let mut set = WaitSet::new()?;
    let ear = set.add(topic.subscriber()?)?;
    let keyboard = set.add_fd(File::from(std::io::stdin().as_fd().try_clone_to_owned()?), Interest::Read)?;
    set.every(LOOK)?;
    let mut typed = Vec::new();
    println!("* you are {nick}, in {room}; the end of the input ends it");
    loop {
        let ready = set.wait()?;
        if ready == keyboard && !say(&mut set[keyboard], &mut typed, &mut publisher)? {
            return Ok(());
        }
        listen(&mut set, ear, &publisher)?;
    }
}

/// Publishes the lines that have been typed; `false` at the end.
fn say(
    keyboard: &mut File,
    typed: &mut Vec<u8>,
    publisher: &mut Publisher<[u8]>,
) -> Result<bool, Box<dyn Error>> {
    let mut chunk = [0; 4096];
    let count = keyboard.read(&mut chunk)?;
    typed.extend(&chunk[..count]);
    while let Some(end) = typed.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = typed.drain(..=end).collect();
        publisher.send(line.trim_ascii())?;
    }
    Ok(count > 0)
}

/// Shows who has come and gone, and what the others say.
fn listen(
    set: &mut WaitSet,
    ear: Key<Subscriber<[u8]>>,
    publisher: &Publisher<[u8]>,
) -> Result<(), Box<dyn Error>> {
    let mut screen = std::io::stdout().lock();
    while let Some(event) = set[ear].try_event() {
        match event {
            Event::Joined(other) if other.id != publisher.id() => {
                writeln!(screen, "* {} is here", printable(&other.node_name))?;
            }
            Event::Left(other) => writeln!(screen, "* {} has left", printable(&other.node_name))?,
            Event::Gap { lost, .. } => writeln!(screen, "* {lost} lines were lost")?,
            _ => {}
        }
    }
    while let Some(line) = set[ear].try_recv()? {
        if line.publisher() != publisher.id() {
            let text = String::from_utf8_lossy(&line);
            writeln!(screen, "{}: {}", printable(line.publisher_node()), printable(&text))?;
        }
    }
    screen.flush()?;
    Ok(())
}

/// Somebody else's text, without what would steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}
