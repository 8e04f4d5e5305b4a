//! What all ports of a bridge share.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tidepost::{EndpointId, Node, Overflow, Pattern, StateError, StateWriter, TypeDescriptor};

use super::firsts::Firsts;
use super::remotes::Remotes;
use super::status::{Crossing, Status};
use super::{BridgeError, BridgeOptions, NODE_NAME};
use crate::check::time_key;
use crate::envelope::{DomainId, Envelope, Sender, now_ns};
use crate::link::{Frame, Kept, LinkError, OnAnswer, SharedLink, Whom, ask_one};
use crate::names;
use crate::types::{self, Declared, Named, TypeError};

/// Troubles that are remembered.
const TROUBLES_MAX: usize = 32;
/// Types of others that are remembered.
const TYPES_MAX: usize = 1024;
/// How long a type is not asked for again of which nobody has said what it is.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long a gateway may take to say what a type is.
const TYPE_TIMEOUT: Duration = Duration::from_secs(2);

/// The encoding of what gateways say of types and services.
pub(super) const JSON: &str = "application/json";

/// A bridge's nodes, its link, and what it knows.
#[derive(Debug)]
pub(crate) struct Context {
    /// What receives here what goes out.
    pub(crate) node: Node,
    pub(crate) link: SharedLink,
    pub(crate) options: BridgeOptions,
    pub(crate) domain: DomainId,
    pub(crate) remotes: Arc<Remotes>,
    pub(super) firsts: Arc<Firsts>,
    /// Types whose messages go out: their encodings, and the queryables that say what they are.
    told: Mutex<HashMap<TypeDescriptor, Told>>,
    /// Types that have come in, or of which nobody has said what they are.
    known: Mutex<HashMap<u64, Result<TypeDescriptor, Unknown>>>,
    said: Mutex<Said>,
    /// The thread that looks at the domain.
    looking: OnceLock<Thread>,
}

/// When it was asked in vain what a type is.
#[derive(Clone, Copy, Debug)]
struct Unknown {
    asked_at: Instant,
    /// Machines that had come by then.
    arrivals: u64,
}

impl Unknown {
    fn may_have_changed(self, remotes: &Remotes) -> bool {
        self.asked_at.elapsed() > ASK_AGAIN || remotes.arrivals() != self.arrivals
    }
}

/// The encoding of a type, and what says what that is, if it needs to be said.
type Told = (Arc<str>, Option<Kept>);

#[derive(Debug, Default)]
struct Said {
    is_active: bool,
    crossings: Vec<Crossing>,
    troubles: VecDeque<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub(super) fn new(node: Node, link: SharedLink, options: BridgeOptions) -> Result<Self, BridgeError> {
        let domain = domain_id(&node);
        let remotes = Arc::new(Remotes::new(domain, options.directory.clone()));
        let (firsts, told, known, said, looking) = Default::default();
        Ok(Self { node, link, options, domain, remotes, firsts, told, known, said, looking })
    }

    /// The key of a name.
    pub(crate) fn key(&self, pattern: Pattern, name: &str) -> Result<String, LinkError> {
        names::key_of(&self.options.realm, pattern, name).ok_or_else(|| LinkError::Engine {
            action: format!("{pattern} `{name}`"),
            reason: "it does not cross".to_owned(),
        })
    }

    /// It is this thread that looks at the domain.
    pub(super) fn looks_here(&self) {
        // There is one.
        let _ = self.looking.set(std::thread::current());
    }

    /// The domain is looked at now, and not only when it is time for that.
    pub(crate) fn look_now(&self) {
        if let Some(thread) = self.looking.get() {
            thread.unpark();
        }
    }

    /// The key under which a domain answers for a name, beginning with `what`.
    pub(crate) fn key_at(
        &self,
        what: &str,
        domain: &str,
        pattern: Pattern,
        name: &str,
    ) -> Result<String, LinkError> {
        // The realm is before the pattern's part of the key, and what is between is the domain's.
        let key = self.key(pattern, name)?;
        let rest = key.strip_prefix(&self.options.realm).unwrap_or(&key);
        Ok(format!("{}/{what}/{domain}{rest}", self.options.realm))
    }

    /// The claim on the domain, unless somebody else has it.
    pub(super) fn claim(&self) -> Result<Option<StateWriter<[u8]>>, BridgeError> {
        let name = format!("{NODE_NAME}/{}", self.options.realm);
        match self.node.state::<[u8]>(&name).writer() {
            Ok(writer) => Ok(Some(writer)),
            Err(StateError::Claimed { .. }) => Ok(None),
            Err(error) => Err(BridgeError::Claim(Arc::new(error))),
        }
    }

    /// Shows this bridge to others, and watches for them.
    pub(super) fn declare(&self) -> Result<Vec<Kept>, LinkError> {
        let live = format!("{}/@live", self.options.realm);
        let own = self.link.token(&format!("{live}/{}/{}", self.domain, self.options.machine))?;
        let remotes = Arc::clone(&self.remotes);
        let begin = live.len() + 1;
        let watched = self.link.watch(
            &format!("{live}/*/*"),
            Box::new(move |key, is_there| {
                let parts = key.get(begin..).and_then(|rest| rest.split_once('/'));
                if let Some((domain, machine)) = parts {
                    remotes.show(domain, machine, is_there);
                }
            }),
        )?;
        let time = || now_ns().to_le_bytes().to_vec();
        let timed = self.link.serve(
            &time_key(&self.options.realm, &self.domain.to_string()),
            Box::new(move |question| question.answer(Frame { payload: time(), ..Frame::default() })),
        )?;
        Ok(vec![own, watched, timed, self.firsts.serve(self)?])
    }

    /// Asks those who answer, in a thread of its own: the link may take its time to take the question. That it could not be asked is an end
    /// without an answer.
    pub(super) fn ask_aside(
        &self,
        whom: Whom,
        key: String,
        frame: Frame,
        timeout: Duration,
        on_answer: OnAnswer,
    ) -> std::io::Result<()> {
        let link = Arc::clone(&self.link);
        let ask = move || drop(link.ask(whom, &key, frame, timeout, on_answer));
        std::thread::Builder::new().name("tidepost-ask".to_owned()).spawn(ask).map(drop)
    }

    /// Something went wrong.
    pub(crate) fn note(&self, trouble: String) {
        let mut said = lock(&self.said);
        // What happens again and again is told once.
        if !said.troubles.contains(&trouble) {
            if said.troubles.len() == TROUBLES_MAX {
                said.troubles.pop_front();
            }
            said.troubles.push_back(trouble);
        }
    }

    pub(super) fn set_active(&self) {
        lock(&self.said).is_active = true;
    }

    pub(super) fn set_crossings(&self, crossings: impl Iterator<Item = Crossing>) {
        let crossings = crossings.collect();
        lock(&self.said).crossings = crossings;
    }

    pub(super) fn status(&self) -> Status {
        let said = lock(&self.said);
        Status {
            is_active: said.is_active,
            machine: self.options.machine.clone(),
            realm: self.options.realm.clone(),
            addresses: self.link.addresses(),
            connections: self.link.connections(),
            machines: self.remotes.machines(),
            crossings: said.crossings.clone(),
            troubles: said.troubles.iter().cloned().collect(),
        }
    }

    /// The envelope of what somebody here has sent.
    pub(crate) fn envelope(&self, sender: Sender, overflow: Overflow, sequence: u64) -> Envelope {
        let (history, is_again, domain) = (0, false, self.domain);
        Envelope { overflow, history, is_again, domain, sender, sequence, passed_on_ns: now_ns() }
    }

    /// The encoding of messages of this type, which others may ask what it is from now on.
    pub(crate) fn tell_type(&self, descriptor: &TypeDescriptor) -> Result<Arc<str>, LinkError> {
        let mut told = lock(&self.told);
        if let Some((encoding, _)) = told.get(descriptor) {
            return Ok(Arc::clone(encoding));
        }
        let encoding: Arc<str> = types::encoding_of(descriptor, None).into();
        let kept = if *descriptor == types::bytes() {
            None
        } else {
            let (payload, key) =
                (types::to_json(descriptor).into_bytes(), self.type_key(descriptor.hash64()));
            let answer = Frame { payload, encoding: JSON.into(), ..Frame::default() };
            Some(self.link.serve(&key, Box::new(move |question| question.answer(answer.clone())))?)
        };
        told.insert(descriptor.clone(), (Arc::clone(&encoding), kept));
        Ok(encoding)
    }

    /// As [`Context::tell_type`], where a header of that type comes with each message.
    pub(crate) fn tell_types(
        &self,
        message_type: &TypeDescriptor,
        header_type: Option<&TypeDescriptor>,
    ) -> Result<Arc<str>, LinkError> {
        let encoding = self.tell_type(message_type)?;
        let Some(header_type) = header_type else { return Ok(encoding) };
        self.tell_type(header_type)?;
        Ok(types::encoding_of(message_type, Some(header_type)).into())
    }

    fn type_key(&self, hash: u64) -> String {
        format!("{}/@type/{hash:016x}", self.options.realm)
    }

    /// The type that an encoding names: asked for on the network if it is not known.
    pub(crate) fn type_of(&self, encoding: &str) -> Result<TypeDescriptor, TypeError> {
        self.types_of(encoding).map(|(message_type, _)| message_type)
    }

    /// As [`Context::type_of`], and the type of the header that comes with each message.
    pub(crate) fn types_of(
        &self,
        encoding: &str,
    ) -> Result<(TypeDescriptor, Option<TypeDescriptor>), TypeError> {
        let Declared { message, header } = types::declared(encoding)?;
        let message_type = message.map_or_else(|| Ok(types::bytes()), |message| self.known_type(message))?;
        Ok((message_type, header.map(|header| self.known_type(header)).transpose()?))
    }

    fn known_type(&self, Named { name, hash }: Named) -> Result<TypeDescriptor, TypeError> {
        match lock(&self.known).get(&hash) {
            Some(Ok(known)) => return Ok(known.clone()),
            // Whoever waits for an answer holds others up.
            Some(Err(unknown)) if !unknown.may_have_changed(&self.remotes) => {
                return Err(TypeError::Unknown(name));
            }
            _ => {}
        }
        let unknown = Unknown { asked_at: Instant::now(), arrivals: self.remotes.arrivals() };
        let told = ask_one(&*self.link, &self.type_key(hash), Frame::default(), TYPE_TIMEOUT).ok().flatten();
        let descriptor = told.map(|told| types::from_json(&name, hash, &told.payload)).transpose()?;
        let mut known = lock(&self.known);
        if known.len() >= TYPES_MAX {
            // They are asked for again.
            known.clear();
        }
        known.insert(hash, descriptor.clone().ok_or(unknown));
        descriptor.ok_or(TypeError::Unknown(name))
    }
}

/// What a sender is called on the network.
pub(crate) fn sender_of(endpoint: EndpointId) -> Sender {
    Sender { node: endpoint.node().bits().to_le_bytes(), number: endpoint.number() }
}

/// The directory, on this machine since its last start: equal for all who see the same one.
fn domain_id(node: &Node) -> DomainId {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let place = fs::metadata(node.directory()).map(|data| (data.dev(), data.ino())).unwrap_or_default();
    let text = format!("{} {} {}", boot.trim(), place.0, place.1);
    // FNV-1a, of which 64 bits are too few for many machines: twice, from two beginnings.
    let hash = |basis: u64| {
        text.bytes().fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    let halves = [hash(0xcbf2_9ce4_8422_2325), hash(0x6c62_272e_07bb_0142)];
    let mut id = [0; 16];
    id[..8].copy_from_slice(&halves[0].to_le_bytes());
    id[8..].copy_from_slice(&halves[1].to_le_bytes());
    DomainId(id)
}
