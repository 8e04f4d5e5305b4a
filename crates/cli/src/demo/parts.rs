//! What each process of the demonstration does.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use tidepost::{Message, Node, Overflow, Publisher, Subscriber};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Failure;

/// The hidden command under which this program plays a part.
pub const PART_COMMAND: &str = "__demo";
/// How long the processes may take to find each other.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of a message with a piece of the file.
const CHUNK_BYTES: usize = 64 << 10;
const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
/// Bytes of a frame's pixels.
pub const FRAME_BYTES: usize = WIDTH * HEIGHT * 3;

/// A video frame.
#[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    number: u64,
    checksum: u64,
    pixels: [[[u8; 3]; WIDTH]; HEIGHT],
}

/// Plays the part that the arguments name: a part, the domain's directory, and what else the part needs.
pub fn play_part(arguments: &[OsString]) -> Result<(), Failure> {
    let [part, directory, rest @ ..] = arguments else {
        return Err("this command is for the demo only".into());
    };
    // A demonstration that is interrupted takes its processes along.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let part = part.to_string_lossy();
    let node = Node::builder().name(part.as_ref()).directory(Path::new(directory)).open()?;
    let number =
        |index: usize| rest.get(index).map(|text| text.to_string_lossy()).unwrap_or_default().parse();
    match part.as_ref() {
        "file-publisher" => {
            publish_file(&node, rest.first().map(Path::new).unwrap_or(Path::new("")), number(1)?)
        }
        "file-reader" => read_file(&node, u64::MAX),
        "file-victim" => read_file(&node, number(0)?),
        "camera" => film(&node, number(0)?),
        "viewer" => view(&node),
        other => Err(format!("there is no part `{other}`").into()),
    }
}

fn publish_file(node: &Node, path: &Path, rounds: u64) -> Result<(), Failure> {
    let bytes = std::fs::read(path)?;
    let mut publisher: Publisher<[u8]> =
        node.topic("file").slot_bytes(CHUNK_BYTES).publisher(Overflow::Block)?;
    publisher.wait_for_subscribers(3, CONNECT)?;
    for _ in 0..rounds {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            publisher.send(chunk)?;
        }
    }
    publisher.send(&[])?;
    Ok(())
}

/// Reads until the end, or until `stop_at` bytes, and then says so and reads no more.
fn read_file(node: &Node, stop_at: u64) -> Result<(), Failure> {
    let mut subscriber: Subscriber<[u8]> = node.topic("file").subscriber()?;
    let (mut received, mut checksum) = (0, Checksum::default());
    loop {
        let chunk = subscriber.recv()?;
        if chunk.is_empty() {
            break;
        }
        checksum.add(&chunk);
        received += chunk.len() as u64;
        if received >= stop_at {
            println!("half-way");
            loop {
                std::thread::park();
            }
        }
    }
    println!("{received} {}", checksum.value());
    Ok(())
}

fn film(node: &Node, frames: u64) -> Result<(), Failure> {
    let mut publisher: Publisher<Frame> = node.topic("video").publisher(Overflow::Block)?;
    publisher.wait_for_subscribers(2, CONNECT)?;
    for number in 0..frames {
        let mut frame = publisher.loan()?;
        frame.number = number;
        for (y, row) in frame.pixels.iter_mut().enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = [x as u8 ^ number as u8, y as u8, number as u8];
            }
        }
        frame.checksum = checksum_of(frame.pixels.as_bytes());
        frame.send();
    }
    // A last frame out of line ends the film.
    let mut end = publisher.loan()?;
    end.number = u64::MAX;
    end.send();
    Ok(())
}

fn view(node: &Node) -> Result<(), Failure> {
    let mut subscriber: Subscriber<Frame> = node.topic("video").subscriber()?;
    let (mut intact, mut start) = (0, None);
    loop {
        let frame = subscriber.recv()?;
        let start = start.get_or_insert_with(Instant::now);
        if frame.number == u64::MAX {
            println!("{intact} {}", start.elapsed().as_micros());
            return Ok(());
        }
        intact += u64::from(frame.number == intact && frame.checksum == checksum_of(frame.pixels.as_bytes()));
    }
}

/// A 64-bit checksum over all bytes in their order, word by word (FNV-1a with words for bytes).
struct Checksum {
    hash: u64,
    pending: Vec<u8>,
}

impl Default for Checksum {
    fn default() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, pending: Vec::with_capacity(8) }
    }
}

impl Checksum {
    fn add(&mut self, mut bytes: &[u8]) {
        if !self.pending.is_empty() {
            let missing = (8 - self.pending.len()).min(bytes.len());
            self.pending.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.pending.len() < 8 {
                return;
            }
            let word = std::mem::take(&mut self.pending);
            self.add_words(&word);
        }
        let (words, rest) = bytes.split_at(bytes.len() / 8 * 8);
        self.add_words(words);
        self.pending.extend_from_slice(rest);
    }

    fn add_words(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        for word in bytes.chunks_exact(8) {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            self.hash = (self.hash ^ word).wrapping_mul(PRIME).rotate_left(29);
        }
    }

    fn value(mut self) -> u64 {
        let length = self.pending.len() as u8;
        self.pending.resize(7, 0);
        self.pending.push(length);
        let last = std::mem::take(&mut self.pending);
        self.add_words(&last);
        self.hash
    }
}

fn checksum_of(bytes: &[u8]) -> u64 {
    checksum_of_rounds(bytes, 1)
}

/// The checksum of the same bytes so many times.
pub fn checksum_of_rounds(bytes: &[u8], rounds: u64) -> u64 {
    let mut checksum = Checksum::default();
    (0..rounds).for_each(|_| checksum.add(bytes));
    checksum.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_does_not_depend_on_how_the_bytes_are_cut() {
        let bytes: Vec<u8> = (0..100).collect();
        for cut in 0..100 {
            let mut checksum = Checksum::default();
            checksum.add(&bytes[..cut]);
            checksum.add(&bytes[cut..]);
            assert_eq!(checksum.value(), checksum_of(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn a_checksum_notices_a_changed_byte_and_a_missing_one() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut changed = bytes.clone();
        changed[57] ^= 1;
        assert_ne!(checksum_of(&bytes), checksum_of(&changed));
        assert_ne!(checksum_of(&[0, 0]), checksum_of(&[0, 0, 0]));
    }
}
