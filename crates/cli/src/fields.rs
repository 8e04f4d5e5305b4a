//! Messages of any type as people read them, from the description that came with the handshake.
//!
//! The fear: a description is a claim of somebody else's. Whatever it says, nothing outside of the message is read, and what
//! does not add up is shown as the bytes that are there.

use std::fmt;

use serde_json::{Map, Value as Json};
use tidepost::{Field, Shape, TypeDescriptor};

use crate::text;

/// A message, or a part of it.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// A number, in digits.
    Number(String),
    /// What cannot be said better, in hexadecimal digits.
    Bytes(String),
    /// The elements of an array or a slice.
    List(Vec<Value>),
    /// The fields of a struct.
    Struct(Vec<(String, Value)>),
}

/// What this message says.
pub fn read(descriptor: &TypeDescriptor, message: &[u8]) -> Value {
    let part = Part { type_name: &descriptor.name, fields: &descriptor.fields, prefix: 0, base: 0 };
    match (descriptor.shape, usize::try_from(descriptor.size)) {
        (Shape::One, _) => part.read(message),
        (Shape::Slice, Ok(1..)) => {
            let elements = message.chunks(descriptor.size as usize);
            Value::List(elements.map(|element| part.read(element)).collect())
        }
        (Shape::Slice, _) => Value::List(Vec::new()),
    }
}

/// The type of a part of a message.
struct Part<'a> {
    type_name: &'a str,
    /// Its fields with what is nested in them; none if it is no struct. Those of an array are its first element's.
    fields: &'a [Field],
    /// Bytes of the fields' names that are the name of the part itself.
    prefix: usize,
    /// Where the part begins, in the offsets of its fields.
    base: u64,
}

impl Part<'_> {
    fn read(&self, bytes: &[u8]) -> Value {
        if let Some((type_name, count)) = array(self.type_name)
            && bytes.len().is_multiple_of(count.max(1))
            && (count > 0 || bytes.is_empty())
        {
            let element = Part { type_name, ..*self };
            let elements = bytes.chunks((bytes.len() / count.max(1)).max(1));
            return Value::List(elements.map(|bytes| element.read(bytes)).collect());
        }
        match number(self.type_name, bytes) {
            _ if !self.fields.is_empty() => Value::Struct(self.read_fields(bytes)),
            Some(number) => Value::Number(number),
            None => Value::Bytes(hexadecimal(bytes)),
        }
    }

    fn read_fields(&self, bytes: &[u8]) -> Vec<(String, Value)> {
        let mut values = Vec::new();
        let mut rest = self.fields;
        while let Some((field, others)) = rest.split_first() {
            let (nested, others) = others.split_at(nested_in(field, others));
            rest = others;
            let prefix = field.name.len() + 1;
            let part = Part { type_name: &field.type_name, fields: nested, prefix, base: field.offset };
            let name = text::printable(field.name.get(self.prefix..).unwrap_or(&field.name));
            let value = self.bytes_of(field, bytes).map(|bytes| part.read(bytes));
            values.push((name, value.unwrap_or_else(|| Value::Bytes(hexadecimal(&[])))));
        }
        values
    }

    fn bytes_of<'b>(&self, field: &Field, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let start = usize::try_from(field.offset.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(usize::try_from(field.size).ok()?)?;
        bytes.get(start..end)
    }
}

/// How many of the fields that follow a field lie in it.
fn nested_in(field: &Field, others: &[Field]) -> usize {
    let is_nested = |other: &Field| {
        other.name.strip_prefix(field.name.as_ref()).is_some_and(|rest| rest.starts_with('.'))
    };
    others.iter().take_while(|other| is_nested(other)).count()
}

/// Element type and length, if this is the name of an array.
fn array(type_name: &str) -> Option<(&str, usize)> {
    let (element, count) = type_name.strip_prefix('[')?.strip_suffix(']')?.rsplit_once("; ")?;
    Some((element, count.parse().ok()?))
}

/// The number in these bytes, if a number has this type and they are as many as it takes.
fn number(type_name: &str, bytes: &[u8]) -> Option<String> {
    macro_rules! read {
        ($($type:ident)*) => {
            match type_name {
                $(stringify!($type) => Some(format!("{:?}", $type::from_ne_bytes(bytes.try_into().ok()?))),)*
                _ => None,
            }
        };
    }
    read!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

impl Value {
    /// The value as JSON. A number that JSON's readers would round, or do not know, is a text.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Number(digits) => json_number(digits),
            Self::Bytes(digits) => digits.as_str().into(),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Struct(fields) => {
                let fields = fields.iter().map(|(name, value)| (name.clone(), value.to_json()));
                fields.collect::<Map<_, _>>().into()
            }
        }
    }

    /// Writes `name=value` for each field, those of a nested struct under dotted names.
    fn write_fields(&self, path: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Struct(fields) = self else { return write!(formatter, "{path}={self}") };
        for (index, (name, value)) in fields.iter().enumerate() {
            if index > 0 {
                formatter.write_str(" ")?;
            }
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            value.write_fields(&path, formatter)?;
        }
        Ok(())
    }
}

fn json_number(digits: &str) -> Json {
    if let Ok(number) = digits.parse::<u64>() {
        return number.into();
    }
    if let Ok(number) = digits.parse::<i64>() {
        return number.into();
    }
    let is_float = digits.contains(['.', 'e']);
    let number = digits.parse().ok().filter(|_| is_float).and_then(serde_json::Number::from_f64);
    number.map_or_else(|| digits.into(), Json::Number)
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = match self {
            Self::Number(digits) | Self::Bytes(digits) => return formatter.write_str(digits),
            Self::Struct(_) => return self.write_fields("", formatter),
            Self::List(values) => values,
        };
        formatter.write_str("[")?;
        for (index, value) in values.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match value {
                Self::Struct(_) => write!(formatter, "{comma}{{{value}}}")?,
                _ => write!(formatter, "{comma}{value}")?,
            }
        }
        formatter.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use tidepost::{Message, Payload};
    use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

    use super::*;

    #[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Point {
        x: f32,
        y: i16,
        padding: [u8; 2],
    }

    #[derive(Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Path {
        start: Point,
        corners: [[Point; 2]; 1],
        matrix: [[u16; 2]; 2],
        stamp: u64,
    }

    fn point(x: f32, y: i16) -> Point {
        Point { x, y, padding: [0; 2] }
    }

    fn path() -> Path {
        let corners = [[point(1.5, -1), point(f32::NAN, 2)]];
        Path { start: point(-0.1, 7), corners, matrix: [[1, 2], [3, 4]], stamp: u64::MAX }
    }

    fn descriptor<T: Payload + ?Sized>() -> TypeDescriptor {
        T::descriptor().expect("it is typed")
    }

    fn shown<T: Payload + ?Sized>(message: &T) -> String {
        read(&descriptor::<T>(), message.as_bytes()).to_string()
    }

    #[test]
    fn numbers_of_every_kind_are_written_in_digits() {
        assert_eq!(shown(&200u8), "200");
        assert_eq!(shown(&-5i8), "-5");
        assert_eq!(shown(&u128::MAX), u128::MAX.to_string());
        assert_eq!(shown(&i128::MIN), i128::MIN.to_string());
        assert_eq!(shown(&1.0f64), "1.0");
        assert_eq!(shown(&1e300f64), "1e300");
        assert_eq!(shown(&f32::NEG_INFINITY), "-inf");
    }

    #[test]
    fn arrays_and_slices_are_lists() {
        assert_eq!(shown(&[0.5f64, 2.0, -3.25]), "[0.5, 2.0, -3.25]");
        assert_eq!(shown(&[[1u16, 2], [3, 4]]), "[[1, 2], [3, 4]]");
        assert_eq!(shown::<[u32]>(&[7, 8, 9]), "[7, 8, 9]");
        assert_eq!(shown::<[u32]>(&[]), "[]");
        assert_eq!(shown(&[0u64; 0]), "[]");
    }

    #[test]
    fn a_struct_is_the_leaves_of_its_fields() {
        let start = "start.x=-0.1 start.y=7 start.padding=[0, 0]";
        let corners = "corners=[[{x=1.5 y=-1 padding=[0, 0]}, {x=NaN y=2 padding=[0, 0]}]]";
        let rest = format!("matrix=[[1, 2], [3, 4]] stamp={}", u64::MAX);
        assert_eq!(shown(&path()), format!("{start} {corners} {rest}"));
    }

    #[test]
    fn each_element_of_a_slice_of_structs_is_a_group() {
        let points = [point(1.0, 2), point(3.0, 4)];
        assert_eq!(shown::<[Point]>(&points), "[{x=1.0 y=2 padding=[0, 0]}, {x=3.0 y=4 padding=[0, 0]}]");
    }

    #[test]
    fn json_keeps_structure_and_every_digit() {
        let json = read(&descriptor::<Path>(), path().as_bytes()).to_json();
        assert_eq!(json["start"]["x"], -0.1);
        assert_eq!(json["corners"][0][0]["y"], -1);
        assert_eq!(json["corners"][0][1]["x"], "NaN");
        assert_eq!(json["stamp"], u64::MAX);
        let big = read(&descriptor::<u128>(), u128::MAX.as_bytes()).to_json();
        assert_eq!(big, u128::MAX.to_string());
    }

    #[test]
    fn an_unknown_type_is_shown_in_hexadecimal_digits() {
        let handle = TypeDescriptor::of_struct::<[u8; 4]>("Handle", Vec::new());
        assert_eq!(read(&handle, &[0, 1, 0xab, 0xff]).to_string(), "0x0001abff");
    }

    /// The fear: a description that does not fit its message reads beyond it, panics, or never ends.
    #[test]
    fn a_description_that_does_not_add_up_does_no_harm() {
        let field = |name: &'static str, type_name: &'static str, offset, size| Field {
            name: name.into(),
            type_name: type_name.into(),
            offset,
            size,
        };
        let fields = vec![
            field("far", "u8", 100, 1),
            field("endless", "u8", u64::MAX, u64::MAX),
            field("narrow", "u64", 0, 4),
            field("uneven", "[u8; 3]", 0, 4),
            field("many", "[[u8; 0]; 999999999999]", 0, 0),
            field("before", "Inner", 2, 2),
            field("before.x", "u8", 0, 1),
            field("tall\n", "u8", 1, 1),
        ];
        let odd = TypeDescriptor::of_struct::<[u8; 4]>("Odd", fields);
        let shown = read(&odd, &[1, 2, 3, 4]).to_string();
        let expected = "far=0x endless=0x narrow=0x01020304 uneven=0x01020304 many=[] before.x=0x tall?=2";
        assert_eq!(shown, expected);
        assert_eq!(read(&odd.into_slice(), &[]).to_string(), "[]");
        let nothing = TypeDescriptor::of_primitive::<[u8; 0]>("u8").into_slice();
        assert_eq!(read(&nothing, &[1]).to_string(), "[]");
    }
}
