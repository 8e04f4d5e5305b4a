//! The locks of a region, for who only looks.

use crate::node::{Field, TypeDescriptor};
use crate::segment::region::RegionMemory;
use crate::sync::lock::{self, LockOwner, Mutex};

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
/// that somebody has. What the type says of places is not believed.
pub(super) fn locks_of(region: &RegionMemory, of: &TypeDescriptor) -> Vec<RegionLock> {
    let (name, type_name, size) = (of.name.clone(), of.name.clone(), of.size);
    let whole = Field { name, type_name, offset: 0, size };
    let readers = lock::readers(region);
    let mut locks = Vec::new();
    for field in std::iter::once(&whole).chain(&of.fields) {
        let look = |name: String, kind, offset| look(region, &readers, name, kind, offset);
        if let Some(kind) = Kind::named(&field.type_name) {
            locks.extend(look(field.name.to_string(), kind, field.offset));
        } else if let Some((kind, places)) = array_of(field, region.data_bytes() as u64) {
            let elements = places.enumerate();
            let elements =
                elements.filter_map(|(index, offset)| look(format!("{}[{index}]", field.name), kind, offset));
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

/// Where the locks of a field such as `[Mutex<u64>; 4]` lie, in a region of so many bytes; `None` if it is none, or not within.
fn array_of(field: &Field, bytes: u64) -> Option<(Kind, impl Iterator<Item = u64>)> {
    let (element, count) = field.type_name.strip_prefix('[')?.strip_suffix(']')?.rsplit_once("; ")?;
    let kind = Kind::named(element)?;
    let end = field.offset.checked_add(field.size).filter(|end| *end <= bytes)?;
    let stride = field.size.checked_div(count.parse().ok()?)?;
    (stride >= size_of::<Mutex<u8>>() as u64)
        .then(|| (kind, (field.offset..end).step_by(usize::try_from(stride).unwrap_or(usize::MAX))))
}

/// `None` if it does not lie in the region.
fn look(
    region: &RegionMemory,
    readers: &[(usize, LockOwner)],
    name: String,
    kind: Kind,
    offset: u64,
) -> Option<RegionLock> {
    let offset = usize::try_from(offset).ok()?;
    let owner = lock::owner_at(region, offset)?;
    let of_this = readers.iter().filter(|(of, _)| *of == offset && matches!(kind, Kind::RwLock));
    Some(RegionLock { name, owner, readers: of_this.map(|(_, reader)| *reader).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, offset: u64, size: u64) -> Field {
        Field { name: "locks".into(), type_name: name.to_owned().into(), offset, size }
    }

    #[test]
    fn arrays_of_locks_are_looked_for_where_they_can_be() {
        let shelves = field("[RwLock<u64>; 3]", 64, 192);
        let (kind, places) = array_of(&shelves, 4096).expect("it is one");
        assert!(matches!(kind, Kind::RwLock));
        assert_eq!(places.collect::<Vec<_>>(), [64, 128, 192]);
        for (name, offset, size) in [
            ("[Mutex<u64>; 18446744073709551615]", 0, 4096),
            ("[Mutex<u64>; 0]", 0, 4096),
            ("[Mutex<u64>; 4096]", 0, 4096),
            ("[Mutex<u64>; 2]", 4000, 128),
            ("[Mutex<u64>; 2]", u64::MAX - 1, 128),
            ("[Mutex<u64>; many]", 0, 128),
            ("[u64; 2]", 0, 128),
            ("Mutex<u64>; 2]", 0, 128),
        ] {
            assert!(array_of(&field(name, offset, size), 4096).is_none(), "{name} at {offset}");
        }
    }
}
