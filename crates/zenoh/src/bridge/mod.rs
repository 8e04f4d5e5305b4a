//! The bridge: carries what the rules allow between a domain and a link.
//!
//! A bridge takes part in the domain with nodes of its own, whose names begin with `network`: one that receives what goes out, and one
//! for each machine from which something comes in, so that whoever looks at the domain sees where it comes from. What a bridge has
//! brought in is never carried out again, by no bridge, so that no message goes in circles.
//!
//! Of all bridges of a domain into one realm, one is active: it holds the claim on the state `network/<realm>`. The others stand by.

mod call;
mod census;
mod context;
mod doubt;
mod ends;
mod firsts;
mod heard;
mod intake;
mod jobs;
mod kept;
mod outlet;
mod port;
mod queue;
mod remotes;
mod service;
mod signal;
mod state;
mod status;
mod topic;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidepost::{Host, Node, OpenError, Pattern, StateError, StateWriter};

use crate::link::{Kept, LinkError, SharedLink};
use crate::rules::{Direction, Rules};
use census::{Answers, Census, Demand};
use context::Context;
pub use port::Counts;
use port::Port;
pub use status::{Crossing, Status};

/// The names of a bridge's own nodes begin with this.
pub(crate) const NODE_NAME: &str = "network";
/// How often the domain is looked at.
const CENSUS_EVERY: Duration = Duration::from_millis(100);
/// How long the nodes of the domain may take to say what they have.
const CENSUS_TIMEOUT: Duration = Duration::from_millis(500);
/// How long something that nobody wants any more is kept, for whoever comes back.
const LINGER: Duration = Duration::from_secs(2);
/// Messages that are kept at least, however long they are.
const KEPT_MIN: usize = 8;
/// How long after a failure something is attempted again.
const RETRY: Duration = Duration::from_secs(1);

/// What a bridge carries, and how.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// The domain's directory.
    pub directory: PathBuf,
    /// What this machine is called on others.
    pub machine: String,
    /// The first part of every key. Bridges of different realms do not see each other.
    pub realm: String,
    /// What crosses.
    pub rules: Rules,
    /// Bytes of messages that wait for the network, or for the domain, for each name and direction.
    pub room_bytes: usize,
    /// Messages of each topic that are kept to be sent again after a loss.
    pub cache: usize,
    /// The node whose publishers pass on what they send, each on its own thread.
    pub inline: Option<Host>,
}

impl BridgeOptions {
    /// The realm unless another is chosen.
    pub const REALM: &'static str = "tidepost";

    /// Options with the usual limits: everything crosses, 16 MiB wait for each name and direction, and 1,024 messages are kept.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            machine: machine_name(),
            realm: Self::REALM.to_owned(),
            rules: Rules::everything(),
            room_bytes: 16 << 20,
            cache: 1024,
            inline: None,
        }
    }

    /// How many messages as long as this are kept of each topic: as many as fit into the room, but eight.
    pub fn kept(&self, length: usize) -> usize {
        (self.room_bytes / length.max(1)).max(KEPT_MIN).min(self.cache.max(1))
    }
}

/// What this machine calls itself.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "machine".to_owned() } else { name.to_owned() }
}

/// Why a bridge does not work.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The domain cannot be joined.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The claim on the domain cannot be asked for.
    #[error("the bridge's claim: {0}")]
    Claim(Arc<StateError>),
    /// The network refused something.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The realm or the machine's name is none.
    #[error(
        "the {what} `{name}` cannot be part of a key: use letters, digits, `-`, `_` and `.`, at most 64 of them"
    )]
    Name {
        /// Which of the two.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A thread could not be started.
    #[error("cannot start the bridge's thread: {0}; raise the limit on threads")]
    Thread(String),
}

/// A bridge at work. Dropping it ends it.
#[derive(Debug)]
pub struct Bridge {
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    context: Arc<Context>,
}

impl Bridge {
    /// Begins to carry. Returns at once; [`Bridge::status`] says what has become of it.
    ///
    /// # Errors
    /// [`BridgeError`]
    pub fn start(link: SharedLink, options: BridgeOptions) -> Result<Self, BridgeError> {
        check_name("realm", &options.realm)?;
        check_name("machine", &options.machine)?;
        let node = open_node(NODE_NAME, &options.directory)?;
        let context = Arc::new(Context::new(node, link, options)?);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let work = Work::new(Arc::clone(&context), Arc::clone(&is_stopping));
        let thread = std::thread::Builder::new().name("tidepost-bridge".to_owned()).spawn(move || work.run());
        let thread = Some(thread.map_err(|error| BridgeError::Thread(error.to_string()))?);
        Ok(Self { is_stopping, thread, context })
    }

    /// What it does at this moment.
    pub fn status(&self) -> Status {
        self.context.status()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It panics only on an error of ours, which has been reported by then.
            drop(thread.join());
        }
    }
}

/// A node of a bridge: what comes in by one goes out by none. Its threads leave the processor to the engine's, for which they wait.
fn open_node(name: &str, directory: &Path) -> Result<Node, OpenError> {
    Node::builder().name(name).directory(directory).gateway(true).busy_wait(false).open()
}

fn check_name(what: &'static str, name: &str) -> Result<(), BridgeError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
        Ok(())
    } else {
        Err(BridgeError::Name { what, name: name.to_owned() })
    }
}

/// One name, one direction.
type Lot = (Pattern, String, Direction);

/// A port, or what kept it from being opened.
struct Berth {
    port: Option<Box<dyn Port>>,
    wanted_at: Instant,
    failed_at: Option<Instant>,
}

/// The bridge's own thread.
struct Work {
    context: Arc<Context>,
    is_stopping: Arc<AtomicBool>,
    claim: Option<StateWriter<[u8]>>,
    declared: Vec<Kept>,
    answers: Answers,
    berths: BTreeMap<Lot, Berth>,
    /// What the state says of this bridge.
    told: String,
}

impl Work {
    fn new(context: Arc<Context>, is_stopping: Arc<AtomicBool>) -> Self {
        Self {
            context,
            is_stopping,
            claim: None,
            declared: Vec::new(),
            answers: Answers::new(),
            berths: BTreeMap::new(),
            told: String::new(),
        }
    }

    fn run(mut self) {
        self.context.looks_here();
        while !self.is_stopping.load(Ordering::Relaxed) {
            if self.claim.is_some() || self.become_active() {
                self.look();
            }
            std::thread::park_timeout(CENSUS_EVERY);
        }
        for berth in self.berths.values_mut() {
            if let Some(port) = &mut berth.port {
                port.stop();
            }
        }
    }

    /// Claims the domain, if nobody else has it.
    fn become_active(&mut self) -> bool {
        match self.context.claim() {
            Ok(None) => return false,
            Ok(Some(claim)) => self.claim = Some(claim),
            Err(error) => {
                self.context.note(error.to_string());
                return false;
            }
        }
        match self.context.declare() {
            Ok(declared) => self.declared = declared,
            Err(error) => self.context.note(error.to_string()),
        }
        self.context.set_active();
        true
    }

    /// Looks at the domain, and opens, moves on and closes ports.
    fn look(&mut self) {
        let census = match Census::take(&self.context.node, CENSUS_TIMEOUT, &mut self.answers) {
            Ok(census) => census,
            Err(error) => return self.context.note(error.to_string()),
        };
        let wanted = self.wanted(&census);
        let now = Instant::now();
        for lot in &wanted {
            let berth = self.berths.entry(lot.clone()).or_insert(Berth {
                port: None,
                wanted_at: now,
                failed_at: None,
            });
            berth.wanted_at = now;
        }
        for (lot, berth) in &mut self.berths {
            berth.move_on(&self.context, lot, &census, now);
            if berth.port.as_ref().is_some_and(|port| port.is_busy()) {
                berth.wanted_at = now;
            }
        }
        self.berths.retain(|_, berth| now.duration_since(berth.wanted_at) < LINGER);
        self.context.set_crossings(self.berths.iter().filter_map(|(lot, berth)| {
            let (pattern, name, direction) = lot.clone();
            let counts = berth.port.as_ref()?.counters().counts();
            Some(Crossing { pattern, name, direction, counts })
        }));
        let status = self.context.status().to_json();
        if let Some(claim) = &mut self.claim
            && status != self.told
        {
            // Nobody is kept waiting by a state, and who reads it is a tool.
            let _ = claim.set(status.as_bytes());
            self.told = status;
        }
    }

    /// What is to cross, as far as the domain has a part in it.
    fn wanted(&self, census: &Census) -> BTreeSet<Lot> {
        let rules = &self.context.options.rules;
        let lots = census.demands().flat_map(|(pattern, name, demand)| {
            let directions = match demand {
                Demand { gives: true, takes: true } => vec![Direction::Out, Direction::In],
                Demand { gives: true, .. } => vec![Direction::Out],
                Demand { takes: true, .. } => vec![Direction::In],
                _ => vec![],
            };
            directions.into_iter().map(move |direction| (pattern, name.to_owned(), direction))
        });
        lots.filter(|(pattern, name, direction)| rules.allow(*direction, *pattern, name)).collect()
    }
}

impl Berth {
    fn move_on(&mut self, context: &Arc<Context>, lot: &Lot, census: &Census, now: Instant) {
        if self.failed_at.is_some_and(|at| now.duration_since(at) < RETRY) {
            return;
        }
        let (pattern, name, direction) = lot;
        let moved = match &mut self.port {
            Some(port) => port.move_on(census.of(*pattern, name)),
            None => port::open(context, *pattern, name, *direction, census.of(*pattern, name))
                .map(|port| self.port = Some(port)),
        };
        self.failed_at = None;
        if let Err(error) = moved {
            context.note(format!("{pattern} `{name}`, {direction}: {error}"));
            self.failed_at = Some(now);
            self.port = None;
        }
    }
}
