//! The locks of a region, for who only looks.

use crate::node::{Field, TypeDescriptor};
use crate::segment::region::RegionMemory;
use crate::sync::lock::{self, LockOwner};

/// A lock in a region, as somebody sees it who only looks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionLock {
    /// The field that it is, such as `balance` or `rows[3]`; the type's name if the region is that lock.
    pub name: String,
    /// Who has it, there or not – of a reader-writer lock, who writes; `None` if nobody does.
    pub owner: Option<LockOwner>,
    /// Who reads, of a reader-writer lock. One that has died does not.
    pub readers: Vec<LockOwner>,
}

impl RegionLock {
    /// Whether nobody has it, nor reads.
    pub fn is_free(&self) -> bool {
        self.owner.is_none() && self.readers.is_empty()
    }
}

/// The locks that the type of a region names: each field that is one, and each element of a field that is an array of them and
/// that somebody has.
pub(super) fn locks_of(region: &RegionMemory, of: &TypeDescriptor) -> Vec<RegionLock> {
    let (name, type_name, size) = (of.name.clone(), of.name.clone(), of.size);
    let whole = Field { name, type_name, offset: 0, size };
    let mut locks = Vec::new();
    for field in std::iter::once(&whole).chain(&of.fields) {
        if let Some(kind) = Kind::named(&field.type_name) {
            locks.extend(look(region, field.name.to_string(), kind, field.offset));
        } else if let Some((kind, count)) = array_of(&field.type_name)
            && let Some(stride) = field.size.checked_div(count)
        {
            let elements = (0..count).filter_map(|index| {
                look(region, format!("{}[{index}]", field.name), kind, field.offset + index * stride)
            });
            locks.extend(elements.filter(|lock| !lock.is_free()));
        }
    }
    locks
}

#[derive(Clone, Copy)]
enum Kind {
    Mutex,
    RwLock,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        if name.starts_with("Mutex<") {
            return Some(Self::Mutex);
        }
        name.starts_with("RwLock<").then_some(Self::RwLock)
    }
}

/// What `[Mutex<u64>; 4]` says.
fn array_of(name: &str) -> Option<(Kind, u64)> {
    let (element, count) = name.strip_prefix('[')?.strip_suffix(']')?.rsplit_once("; ")?;
    Some((Kind::named(element)?, count.parse().ok()?))
}

/// `None` if it does not lie in the region, whatever its type says.
fn look(region: &RegionMemory, name: String, kind: Kind, offset: u64) -> Option<RegionLock> {
    let offset = usize::try_from(offset).ok()?;
    let owner = lock::owner_at(region, offset)?;
    let readers = match kind {
        Kind::Mutex => Vec::new(),
        Kind::RwLock => lock::readers_at(region, offset),
    };
    Some(RegionLock { name, owner, readers })
}
