//! How a region is made, found and attached.

use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::RegionError;
use super::handing::{Holder, Seeker, Sought};
use super::region::{Attachment, ByteRegion, ReadOnlyRegion, Region};
use super::shared::Shared;
use crate::layout::region::RESERVE_BYTES_MAX;
use crate::node::{
    Channel, Node, Pattern, Refusal, TypeDescriptor, claiming, decode_descriptor, encode_descriptor,
};
use crate::os::clock::Deadline;
use crate::os::mmap::Access;
use crate::segment::region::{FileState, Opening, RegionMemory, Shape};

/// Attachments and locking threads that a region is made for, unless more are asked for.
const PARTICIPANTS: usize = 256;
/// How long to wait for those who have a region, or are making it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that mean what the program says: what a [`ByteRegion`] holds.
#[derive(Debug)]
pub enum Bytes {}

/// A region to be made or attached, and with what options.
///
/// A named region lives as long as anybody has it attached: whoever has it hands it on, so that it outlives its maker, and goes
/// with its last user. It is made once even if many try at the same instant; who dies half-way leaves nothing.
pub struct RegionBuilder<'a, T> {
    node: &'a Node,
    name: &'a str,
    participants: usize,
    len_max: Option<u64>,
    patience: Duration,
    holds: PhantomData<fn() -> T>,
}

impl Node {
    /// A region of this name, which holds a `T`.
    ///
    /// ```
    /// # fn main() -> Result<(), tidepost::Error> {
    /// # let directory = std::env::temp_dir().join(format!("tidepost-doc-region-{}", std::process::id()));
    /// # let node = tidepost::Node::builder().directory(&directory).open()?;
    /// use tidepost::Mutex;
    ///
    /// // In each of any number of processes:
    /// let counter = node.region::<Mutex<u64>>("counter").open()?;
    /// *counter.lock()? += 1;
    /// # assert_eq!(*counter.lock()?, 1);
    /// # drop((counter, node));
    /// # std::fs::remove_dir_all(directory).expect("it is ours");
    /// # Ok(())
    /// # }
    /// ```
    pub fn region<'a, T: Shared>(&'a self, name: &'a str) -> RegionBuilder<'a, T> {
        RegionBuilder::new(self, name)
    }

    /// A region of this name, which holds bytes.
    pub fn region_bytes<'a>(&'a self, name: &'a str) -> RegionBuilder<'a, Bytes> {
        RegionBuilder::new(self, name)
    }
}

impl<T> fmt::Debug for RegionBuilder<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RegionBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What to do about a region that is there, or is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Create,
    Open,
    Attach,
}

impl<'a, T> RegionBuilder<'a, T> {
    fn new(node: &'a Node, name: &'a str) -> Self {
        Self { node, name, participants: PARTICIPANTS, len_max: None, patience: PATIENCE, holds: PhantomData }
    }

    /// For how many attachments and threads that lock it is made, all together; 256 unless chosen, 65,535 at most. Each costs 128
    /// bytes.
    pub fn participants(self, participants: usize) -> Self {
        Self { participants, ..self }
    }

    /// How long to wait for those who have it to answer, and for those who make or attach it at the moment; 5 s unless chosen.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn channel(&self) -> Result<Channel, RegionError> {
        Ok(Channel::new(Pattern::Region, self.name)?)
    }

    /// Finds the region or makes it, as wished; whoever does so at the same instant waits.
    fn obtain(
        &self,
        wish: Wish,
        descriptor: Option<&TypeDescriptor>,
        access: Access,
        make: impl FnOnce(&Arc<str>) -> Result<Arc<RegionMemory>, RegionError>,
    ) -> Result<Attachment, RegionError> {
        let channel = self.channel()?;
        let name = channel.shared();
        let unable = |source| RegionError::Endpoint { region: Arc::clone(&name), source };
        let deadline = Deadline::after(self.patience);
        let claim = claiming::claim(self.node, &channel, self.patience);
        let claim = claim.map_err(|error| RegionError::of_claim(error, &name))?;
        let seeker = Seeker::open(self.node, &channel).map_err(unable)?;
        let sought = seeker.find(deadline).map_err(unable)?;
        let memory = match (sought, wish) {
            (Sought::Found(_), Wish::Create) => return Err(RegionError::Exists { region: name }),
            (Sought::Found(memory), _) => attach(&memory, access, &name)?,
            (Sought::Nowhere, Wish::Attach) => return Err(RegionError::NotFound { region: name }),
            (Sought::Nowhere, _) => make(&name)?,
            (Sought::Refused(refusal), _) => {
                return Err(RegionError::Unusable { region: name, reason: reason_of(refusal) });
            }
            (Sought::Silence, _) => return Err(RegionError::Silent { region: name, waited: self.patience }),
        };
        let found = descriptor_of(&memory, descriptor, &name)?;
        let holder = Holder::open(self.node, &channel, found.clone(), &memory).map_err(unable)?;
        drop((seeker, claim));
        Ok(Attachment { holder: Some(holder), memory, name, descriptor: found })
    }

    /// A region that nobody knows of yet.
    fn make(
        &self,
        bytes: u64,
        descriptor: &TypeDescriptor,
        name: &Arc<str>,
    ) -> Result<Arc<RegionMemory>, RegionError> {
        if bytes == 0 {
            let (region, limit) = (Arc::clone(name), RESERVE_BYTES_MAX);
            return Err(RegionError::Limit { region, what: "bytes", value: 0, limit });
        }
        let identity = encode_descriptor(descriptor);
        let failed = |error| RegionError::of_memory(error, name);
        let shape = Shape::new(self.participants, identity.len(), self.len_max.unwrap_or(bytes).max(bytes));
        RegionMemory::create(shape.map_err(failed)?, bytes, &identity).map_err(failed)
    }

    /// Attaches a region of any type for reading alone. Who only reads takes part in handing it on all the same.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn attach_read_only(self) -> Result<ReadOnlyRegion, RegionError> {
        self.find(Access::Read).map(ReadOnlyRegion::new)
    }

    /// Takes the name away from a region of any type. Whoever has it attached keeps it, and hands it on to nobody any more, so that
    /// it goes with the last of them; the name is free for another.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn remove(self) -> Result<(), RegionError> {
        self.find(Access::ReadWrite)?.memory.remove_name();
        Ok(())
    }

    /// A region that is there, whatever it holds.
    fn find(&self, access: Access) -> Result<Attachment, RegionError> {
        let not_found = |name: &Arc<str>| Err(RegionError::NotFound { region: Arc::clone(name) });
        self.obtain(Wish::Attach, None, access, not_found)
    }

    /// The region in a file, which is made if there is none.
    fn in_file(
        &self,
        path: &Path,
        bytes: u64,
        descriptor: &TypeDescriptor,
        initialise: impl FnOnce(&RegionMemory),
    ) -> Result<Attachment, RegionError> {
        let name: Arc<str> = path.display().to_string().into();
        let failed = |error| RegionError::of_memory(error, &name);
        let opening = Opening::begin(path, true, Deadline::after(self.patience)).map_err(failed)?;
        let memory = match opening.state().map_err(failed)? {
            FileState::Made => opening.open(Access::ReadWrite).map_err(failed)?,
            FileState::Unmade => {
                let identity = encode_descriptor(descriptor);
                let reserve = self.len_max.unwrap_or(bytes).max(bytes);
                let shape = Shape::new(self.participants, identity.len(), reserve).map_err(failed)?;
                let memory = opening.make(shape, bytes, &identity).map_err(failed)?;
                initialise(&memory);
                memory.publish();
                memory.end_opening().map_err(failed)?;
                memory
            }
        };
        let found = descriptor_of(&memory, Some(descriptor), &name)?;
        Ok(Attachment { holder: None, memory, name, descriptor: found })
    }

    fn behind(&self, memory: OwnedFd, descriptor: &TypeDescriptor) -> Result<Attachment, RegionError> {
        let name: Arc<str> = "".into();
        let memory = RegionMemory::open(memory, Access::ReadWrite);
        let memory = memory.map_err(|error| RegionError::of_memory(error, &name))?;
        let found = descriptor_of(&memory, Some(descriptor), &name)?;
        Ok(Attachment { holder: None, memory, name, descriptor: found })
    }
}

impl<T: Shared> RegionBuilder<'_, T> {
    fn typed(self, wish: Wish, initialise: impl FnOnce(&mut T)) -> Result<Region<T>, RegionError> {
        let descriptor = T::descriptor();
        let attachment = self.obtain(wish, Some(&descriptor), Access::ReadWrite, |name| {
            let memory = self.make(size_of::<T>().max(1) as u64, &descriptor, name)?;
            memory.initialise(initialise);
            memory.publish();
            Ok(memory)
        })?;
        typed(attachment)
    }

    /// Makes the region; all of it is zero, which locks take for free.
    ///
    /// # Errors
    /// [`RegionError::Exists`] if there is one.
    pub fn create(self) -> Result<Region<T>, RegionError> {
        self.typed(Wish::Create, |_| ())
    }

    /// As [`create`](Self::create), with this done to the zeroed value before anybody else can see it.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_with(self, initialise: impl FnOnce(&mut T)) -> Result<Region<T>, RegionError> {
        self.typed(Wish::Create, initialise)
    }

    /// Attaches the region, or makes it if nobody has it.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open(self) -> Result<Region<T>, RegionError> {
        self.typed(Wish::Open, |_| ())
    }

    /// As [`open`](Self::open), with this done to the zeroed value if it is made.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open_with(self, initialise: impl FnOnce(&mut T)) -> Result<Region<T>, RegionError> {
        self.typed(Wish::Open, initialise)
    }

    /// Attaches the region.
    ///
    /// # Errors
    /// [`RegionError::NotFound`] if nobody has it.
    pub fn attach(self) -> Result<Region<T>, RegionError> {
        self.typed(Wish::Attach, |_| ())
    }

    /// A region that has no name, and is passed on by its descriptor alone.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn create_anonymous(self, initialise: impl FnOnce(&mut T)) -> Result<Region<T>, RegionError> {
        let (descriptor, name): (_, Arc<str>) = (T::descriptor(), "".into());
        let memory = self.make(size_of::<T>().max(1) as u64, &descriptor, &name)?;
        memory.initialise(initialise);
        memory.publish();
        typed(Attachment { holder: None, memory, name, descriptor })
    }

    /// Attaches the region behind a descriptor that was inherited or passed on. Anything else than a sealed and finished region
    /// of this type is refused.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn attach_fd(self, memory: OwnedFd) -> Result<Region<T>, RegionError> {
        self.behind(memory, &T::descriptor()).and_then(typed)
    }

    /// The region in a file of a local file system, which is made, with this done to the zeroed value, if the file is empty or
    /// not there. It outlives all processes. Who opens it waits for whoever is making it. Nobody but Tidepost is to write to the
    /// file while it is attached: who cuts it off has everybody killed who touches what was there.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open_file(
        self,
        path: impl AsRef<Path>,
        initialise: impl FnOnce(&mut T),
    ) -> Result<Region<T>, RegionError> {
        let bytes = size_of::<T>().max(1) as u64;
        let initialise = |memory: &RegionMemory| memory.initialise(initialise);
        self.in_file(path.as_ref(), bytes, &T::descriptor(), initialise).and_then(typed)
    }
}

impl RegionBuilder<'_, Bytes> {
    /// How many bytes it can ever grow to, 2^46 at most; as many as it is made with, unless chosen. Address space is taken for all
    /// of them, memory for none.
    pub fn len_max(self, bytes: usize) -> Self {
        Self { len_max: Some(bytes as u64), ..self }
    }

    fn untyped(self, wish: Wish, bytes: usize) -> Result<ByteRegion, RegionError> {
        let descriptor = bytes_descriptor();
        let attachment = self.obtain(wish, Some(&descriptor), Access::ReadWrite, |name| {
            let memory = self.make(bytes as u64, &descriptor, name)?;
            memory.publish();
            Ok(memory)
        })?;
        Ok(ByteRegion::new(attachment))
    }

    /// Makes the region, of so many zero bytes at least: they come in pages.
    ///
    /// # Errors
    /// [`RegionError::Exists`] if there is one; [`RegionError::Limit`].
    pub fn create(self, bytes: usize) -> Result<ByteRegion, RegionError> {
        self.untyped(Wish::Create, bytes)
    }

    /// Attaches the region, or makes it if nobody has it.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open(self, bytes: usize) -> Result<ByteRegion, RegionError> {
        self.untyped(Wish::Open, bytes)
    }

    /// Attaches the region.
    ///
    /// # Errors
    /// [`RegionError::NotFound`] if nobody has it.
    pub fn attach(self) -> Result<ByteRegion, RegionError> {
        self.untyped(Wish::Attach, 1)
    }

    /// Attaches the region behind a descriptor that was inherited or passed on.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn attach_fd(self, memory: OwnedFd) -> Result<ByteRegion, RegionError> {
        self.behind(memory, &bytes_descriptor()).map(ByteRegion::new)
    }

    /// The region in a file: see [`open_file`](RegionBuilder::open_file) of typed ones.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn open_file(self, path: impl AsRef<Path>, bytes: usize) -> Result<ByteRegion, RegionError> {
        self.in_file(path.as_ref(), bytes as u64, &bytes_descriptor(), |_| ()).map(ByteRegion::new)
    }
}

/// The region as one that holds this type, which it says it does.
fn typed<T: Shared>(attachment: Attachment) -> Result<Region<T>, RegionError> {
    let (region, bytes) = (Arc::clone(&attachment.name), size_of::<T>());
    let reason = || format!("the {bytes} B of its type do not lie in it");
    Region::new(attachment).ok_or_else(|| RegionError::Unusable { region, reason: reason() })
}

fn bytes_descriptor() -> TypeDescriptor {
    TypeDescriptor::of_primitive::<u8>("u8").into_slice()
}

fn attach(memory: &Arc<OwnedFd>, access: Access, name: &Arc<str>) -> Result<Arc<RegionMemory>, RegionError> {
    let again = memory.try_clone().map_err(|error| RegionError::System {
        region: Arc::clone(name),
        action: "duplicate its descriptor",
        source: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::MFILE),
    })?;
    RegionMemory::open(again, access).map_err(|error| RegionError::of_memory(error, name))
}

/// What a region holds, which must be this if it is known.
fn descriptor_of(
    memory: &RegionMemory,
    wanted: Option<&TypeDescriptor>,
    name: &Arc<str>,
) -> Result<TypeDescriptor, RegionError> {
    let identity = memory.identity().map_err(|error| RegionError::of_memory(error, name))?;
    let region = Arc::clone(name);
    let found = match decode_descriptor(&identity) {
        Ok(found) => found,
        Err(error) => return Err(RegionError::Unusable { region, reason: error.to_string() }),
    };
    if let Some(difference) = wanted.and_then(|wanted| wanted.first_difference(&found)) {
        return Err(RegionError::TypeMismatch { region, difference });
    }
    // What it says it holds must be there.
    if found.shape == crate::node::Shape::One && found.size > memory.data_bytes() as u64 {
        let reason = format!("it holds {} B, and has {}", found.size, memory.data_bytes());
        return Err(RegionError::Unusable { region, reason });
    }
    Ok(found)
}

fn reason_of(refusal: Refusal) -> String {
    match refusal {
        Refusal::Type(difference) => difference.to_string(),
        Refusal::Limit { what, limit } => format!("{what} has reached its limit of {limit}"),
        Refusal::Unusable { reason } => reason,
    }
}
