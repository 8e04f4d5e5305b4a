//! A private domain for each test, and work that other threads do in time.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidepost::{Network, Node};

/// How long anything may take, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A pause in which whoever has nothing to do falls asleep.
pub const PAUSE: Duration = Duration::from_micros(300);

/// A domain in a directory of its own, removed at the end.
pub struct Domain {
    directory: PathBuf,
}

impl Domain {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidepost-patterns-{}-{number}", std::process::id());
        Self { directory: std::env::temp_dir().join(name) }
    }

    /// A node with a control thread.
    pub fn node(&self, name: &str) -> Node {
        Node::builder().name(name).directory(&self.directory).open().expect("the domain is ours")
    }

    /// A node that joins a network.
    pub fn hosting(&self, name: &str, network: impl Network + 'static) -> Node {
        let node = Node::builder().name(name).directory(&self.directory).network(network);
        node.open().expect("the domain is ours")
    }

    /// A node that passes on what it receives, and sleeps at once when it waits.
    pub fn gateway(&self, name: &str) -> Node {
        let node = Node::builder().name(name).directory(&self.directory).gateway(true).busy_wait(false);
        node.open().expect("the domain is ours")
    }

    /// A node that whoever waits has to serve.
    pub fn node_without_thread(&self, name: &str) -> Node {
        let node = Node::builder().name(name).directory(&self.directory).control_thread(false);
        node.open().expect("the domain is ours")
    }

    /// Nodes that are in it.
    pub fn nodes(&self) -> usize {
        let files = std::fs::read_dir(self.directory.join("nodes")).expect("it is there");
        files
            .filter(|file| file.as_ref().is_ok_and(|file| file.path().extension() == Some("sock".as_ref())))
            .count()
    }

    /// The files of claims that are there.
    pub fn claims(&self) -> usize {
        std::fs::read_dir(self.directory.join("claims")).expect("it is there").count()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The words that follow from a number: a message that travels in the line of its slot word.
pub type Words = [u64; 7];

/// The message with this number.
pub fn words(number: u64) -> Words {
    std::array::from_fn(|index| number.wrapping_mul(1 + 31 * index as u64))
}

/// So many bytes that follow from a number, which comes first.
pub fn bytes(number: u64, length: usize) -> Box<[u8]> {
    const SHIFTS: usize = 4093;
    const NOISE_BYTES: usize = 256 << 10;
    // Copied from one stretch of noise, as tests without optimisation are slow at anything else.
    static NOISE: LazyLock<Box<[u8]>> = LazyLock::new(|| {
        let noise = |index: usize| ((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        (0..NOISE_BYTES + SHIFTS).map(noise).collect()
    });
    let noise = &NOISE[number as usize % SHIFTS..];
    let mut bytes = vec![0; length];
    bytes.chunks_mut(NOISE_BYTES).for_each(|chunk| chunk.copy_from_slice(&noise[..chunk.len()]));
    let head = length.min(size_of::<u64>());
    bytes[..head].copy_from_slice(&number.to_ne_bytes()[..head]);
    bytes.into()
}

/// What a thread of its own does, which has to come to an end in time.
pub struct Work<R>(JoinHandle<R>);

/// Starts such a thread.
pub fn start<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Work<R> {
    Work(std::thread::spawn(work))
}

impl<R> Work<R> {
    /// Whether it has come to an end.
    pub fn has_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// What it came to.
    pub fn finish(self) -> R {
        until("a thread comes to an end", || self.has_finished());
        self.0.join().expect("it does not panic")
    }
}

/// Asks again and again until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Tries again and again until it is refused, as who has to refuse it may be slow to answer: why.
pub fn turned_down<R, E>(mut attempt: impl FnMut() -> Result<R, E>) -> E {
    let mut error = None;
    until("it is refused", || {
        error = attempt().err();
        error.is_some()
    });
    error.expect("it was refused")
}
