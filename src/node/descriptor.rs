//! What a message type is, as it travels in the handshake: both ends compare it before a byte is exchanged.
//!
//! A hash alone could only say "different"; the whole descriptor lets both ends name the first field that
//! differs, and lets a tool print a message whose Rust type it was not compiled with.

use std::borrow::Cow;
use std::fmt;

/// The layout of a message type: its name, size, alignment and fields, in declaration order.
///
/// `#[derive(Message)]` writes it; two endpoints connect only if theirs are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TypeDescriptor {
    /// The name both ends must agree on, such as `Pose` or `u8`.
    pub name: Cow<'static, str>,
    /// Bytes of one element.
    pub size: u64,
    /// Alignment of one element in bytes, at most [`TypeDescriptor::ALIGN_MAX`].
    pub align: u64,
    /// Whether a message is one element or a slice of them.
    pub shape: Shape,
    /// The fields of a struct, nested ones under dotted names; empty for a primitive type.
    pub fields: Vec<Field>,
}

/// One field of a message type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The field's name; a field of a nested struct is `outer.inner`.
    pub name: Cow<'static, str>,
    /// The name of the field's own type.
    pub type_name: Cow<'static, str>,
    /// Bytes from the start of the message.
    pub offset: u64,
    /// Bytes that the field takes.
    pub size: u64,
}

/// Whether a message is one element or a slice of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One element of fixed size.
    One,
    /// A slice whose length each message chooses.
    Slice,
}

/// The first point in which two message types differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs: `name`, `size`, `align`, `shape`, or the field, such as ``field `pose.x` ``.
    pub what: String,
    /// How our side has it.
    pub ours: String,
    /// How the other side has it.
    pub theirs: String,
}

impl TypeDescriptor {
    /// The largest alignment a message may ask for, in bytes: one cache line.
    pub const ALIGN_MAX: u64 = 64;
    /// The most fields a descriptor may list; a handshake frame holds them all.
    pub const FIELDS_MAX: usize = 512;

    /// The longest name of a type or a field, in bytes.
    pub const NAME_BYTES_MAX: usize = 1024;

    /// Whether a handshake can carry it whole.
    pub(crate) fn is_sendable(&self) -> bool {
        let names = self.fields.iter().flat_map(|field| [&field.name, &field.type_name]);
        self.fields.len() <= Self::FIELDS_MAX
            && names.chain([&self.name]).all(|name| name.len() <= Self::NAME_BYTES_MAX)
    }

    /// The descriptor of a primitive type, which has no fields.
    pub fn of_primitive<T>(name: impl Into<Cow<'static, str>>) -> Self {
        Self::of_struct::<T>(name, Vec::new())
    }

    /// The descriptor of the struct `T`.
    pub fn of_struct<T>(name: impl Into<Cow<'static, str>>, fields: Vec<Field>) -> Self {
        let (size, align) = (size_of::<T>() as u64, align_of::<T>() as u64);
        Self { name: name.into(), size, align, shape: Shape::One, fields }
    }

    /// The same element type, many of which make one message.
    pub fn into_slice(self) -> Self {
        Self { shape: Shape::Slice, ..self }
    }

    /// The field `name` at `offset` whose type is `of`, followed by that type's own fields under dotted names.
    pub fn nested_fields(name: &'static str, offset: usize, of: &TypeDescriptor) -> Vec<Field> {
        let offset = offset as u64;
        let whole = Field { name: name.into(), type_name: of.name.clone(), offset, size: of.size };
        let inner = of.fields.iter().map(|field| Field {
            name: format!("{name}.{}", field.name).into(),
            type_name: field.type_name.clone(),
            offset: offset + field.offset,
            size: field.size,
        });
        std::iter::once(whole).chain(inner).collect()
    }

    /// The first point in which `theirs` differs from this descriptor, if any.
    pub fn first_difference(&self, theirs: &TypeDescriptor) -> Option<Difference> {
        let differing_field = || {
            let longest = self.fields.len().max(theirs.fields.len());
            (0..longest)
                .find_map(|index| Self::field_difference(self.fields.get(index), theirs.fields.get(index)))
        };
        Difference::between("name", &self.name, &theirs.name)
            .or_else(|| Difference::between("shape", &self.shape, &theirs.shape))
            .or_else(differing_field)
            .or_else(|| Difference::between("size", &self.size, &theirs.size))
            .or_else(|| Difference::between("align", &self.align, &theirs.align))
    }

    fn field_difference(ours: Option<&Field>, theirs: Option<&Field>) -> Option<Difference> {
        if ours == theirs {
            return None;
        }
        let name = ours.or(theirs).map_or("", |field| field.name.as_ref());
        let text = |side: Option<&Field>| side.map_or_else(|| "absent".to_owned(), Field::to_string);
        Some(Difference { what: format!("field `{name}`"), ours: text(ours), theirs: text(theirs) })
    }

    /// A 64-bit digest of everything above, equal on every machine (FNV-1a over the canonical text).
    pub fn hash64(&self) -> u64 {
        const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let text = self.to_string();
        text.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
    }
}

impl Difference {
    fn between<V: PartialEq + fmt::Display>(what: &str, ours: &V, theirs: &V) -> Option<Self> {
        let differ = || Self { what: what.to_owned(), ours: ours.to_string(), theirs: theirs.to_string() };
        (ours != theirs).then(differ)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} differs: ours {}, theirs {}", self.what, self.ours, self.theirs)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::One => "one",
            Self::Slice => "slice",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} at {} of {} B", self.name, self.type_name, self.offset, self.size)
    }
}

impl fmt::Display for TypeDescriptor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}, {} B, align {})", self.name, self.shape, self.size, self.align)?;
        if self.fields.is_empty() {
            return Ok(());
        }
        formatter.write_str(" {")?;
        for field in &self.fields {
            write!(formatter, " {field};")?;
        }
        formatter.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pose(y_offset: u64) -> TypeDescriptor {
        let field = |name: &'static str, offset| Field {
            name: name.into(),
            type_name: "f64".into(),
            offset,
            size: 8,
        };
        TypeDescriptor::of_struct::<[f64; 2]>("Pose", vec![field("x", 0), field("y", y_offset)])
    }

    #[test]
    fn the_first_differing_field_is_named() {
        let difference = pose(8).first_difference(&pose(16)).expect("the offsets differ");
        assert_eq!(difference.what, "field `y`");
        assert!(difference.to_string().contains("y: f64 at 16 of 8 B"), "{difference}");
    }

    #[test]
    fn equal_types_do_not_differ_and_hash_alike() {
        assert_eq!(pose(8).first_difference(&pose(8)), None);
        assert_eq!(pose(8).hash64(), pose(8).hash64());
        assert_ne!(pose(8).hash64(), pose(16).hash64());
    }

    #[test]
    fn a_slice_is_not_one_element() {
        let difference = pose(8).first_difference(&pose(8).into_slice()).expect("the shapes differ");
        assert_eq!((difference.ours.as_str(), difference.theirs.as_str()), ("one", "slice"));
    }

    #[test]
    fn nested_fields_carry_dotted_names_and_absolute_offsets() {
        let fields = TypeDescriptor::nested_fields("pose", 32, &pose(8));
        let names: Vec<_> = fields.iter().map(|field| (field.name.as_ref(), field.offset)).collect();
        assert_eq!(names, [("pose", 32), ("pose.x", 32), ("pose.y", 40)]);
    }
}
