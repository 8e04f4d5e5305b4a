//! Message types on the network: as the encoding of a message, and whole for whoever asks.
//!
//! Messages of plain bytes have the engine's own encoding, so that any client understands them. All others have
//! `application/x-tidepost;schema=<name>@<hash>;order=<little|big>`, where the hash is that of the whole descriptor, 16 hexadecimal
//! digits. A gateway that meets a type that it does not know asks the one that sent it for the descriptor, in JSON.

use serde::{Deserialize, Serialize};
use tidepost::{Field, Message, Shape, TypeDescriptor};

/// The encoding of plain bytes.
const BYTES: &str = "zenoh/bytes";
const MEDIA_TYPE: &str = "application/x-tidepost";
/// The order of bytes in this machine's numbers.
const ORDER: &str = if cfg!(target_endian = "little") { "little" } else { "big" };
/// The longest descriptor that is taken in, in bytes of JSON.
const JSON_BYTES_MAX: usize = 4 << 20;

/// What the encoding of a message says of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Declared {
    /// Plain bytes, or nothing that we know of.
    Bytes,
    /// A type with this hash.
    Type { name: String, hash: u64 },
}

/// Why messages of a type do not come in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TypeError {
    #[error("its numbers are {theirs}-endian and this machine's are {ORDER}-endian; send an encoded type")]
    Order { theirs: String },
    #[error("{given} B are none of the type {due}")]
    Length { given: usize, due: String },
    #[error("its encoding `{0}` names no type")]
    Malformed(String),
    #[error("the type `{0}` is not known here, and its gateway does not say what it is")]
    Unknown(String),
    #[error("what its gateway says of the type `{name}` is no such type: {reason}")]
    Description { name: String, reason: String },
}

/// The encoding of messages of this type.
pub(crate) fn encoding_of(descriptor: &TypeDescriptor) -> String {
    if *descriptor == bytes() {
        return BYTES.to_owned();
    }
    format!("{MEDIA_TYPE};schema={}@{:016x};order={ORDER}", descriptor.name, descriptor.hash64())
}

/// What an encoding says.
pub(crate) fn declared(encoding: &str) -> Result<Declared, TypeError> {
    let Some(parameters) = encoding.strip_prefix(MEDIA_TYPE) else { return Ok(Declared::Bytes) };
    let malformed = || TypeError::Malformed(encoding.chars().take(120).collect());
    // The name may hold anything, so that what follows it is looked for from behind.
    let (schema, order) = parameters
        .strip_prefix(";schema=")
        .and_then(|parameters| parameters.rsplit_once(";order="))
        .ok_or_else(malformed)?;
    let (name, hash) = schema.rsplit_once('@').filter(|(_, hash)| hash.len() == 16).ok_or_else(malformed)?;
    let hash = u64::from_str_radix(hash, 16).map_err(|_| malformed())?;
    if order != ORDER {
        return Err(TypeError::Order { theirs: order.chars().take(20).collect() });
    }
    Ok(Declared::Type { name: name.to_owned(), hash })
}

/// The type of plain bytes.
pub(crate) fn bytes() -> TypeDescriptor {
    u8::descriptor().into_slice()
}

/// Whether so many bytes are a message of this type.
pub(crate) fn check_length(due: &TypeDescriptor, given: usize) -> Result<(), TypeError> {
    let fits = match due.shape {
        Shape::One => given as u64 == due.size,
        Shape::Slice => (given as u64).is_multiple_of(due.size.max(1)),
    };
    if fits { Ok(()) } else { Err(TypeError::Length { given, due: due.to_string() }) }
}

#[derive(Serialize, Deserialize)]
struct FieldText {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    offset: u64,
    size: u64,
}

#[derive(Serialize, Deserialize)]
struct TypeText {
    name: String,
    size: u64,
    align: u64,
    is_slice: bool,
    fields: Vec<FieldText>,
}

/// A type in JSON.
pub(crate) fn to_json(descriptor: &TypeDescriptor) -> String {
    let field = |field: &Field| FieldText {
        name: field.name.to_string(),
        type_name: field.type_name.to_string(),
        offset: field.offset,
        size: field.size,
    };
    let text = TypeText {
        name: descriptor.name.to_string(),
        size: descriptor.size,
        align: descriptor.align,
        is_slice: descriptor.shape == Shape::Slice,
        fields: descriptor.fields.iter().map(field).collect(),
    };
    serde_json::to_string(&text).expect("texts and numbers are JSON")
}

/// The type that a gateway describes, which is to have this name and hash.
pub(crate) fn from_json(name: &str, hash: u64, json: &[u8]) -> Result<TypeDescriptor, TypeError> {
    let wrong = |reason: String| TypeError::Description { name: name.to_owned(), reason };
    if json.len() > JSON_BYTES_MAX {
        return Err(wrong(format!("it has {} B, and {JSON_BYTES_MAX} B is the limit", json.len())));
    }
    let text: TypeText = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    let field = |field: FieldText| Field {
        name: field.name.into(),
        type_name: field.type_name.into(),
        offset: field.offset,
        size: field.size,
    };
    let descriptor = TypeDescriptor {
        name: text.name.into(),
        size: text.size,
        align: text.align,
        shape: if text.is_slice { Shape::Slice } else { Shape::One },
        fields: text.fields.into_iter().map(field).collect(),
    };
    if descriptor.hash64() == hash { Ok(descriptor) } else { Err(wrong("its hash is another".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pose() -> TypeDescriptor {
        let x = Field { name: "x".into(), type_name: "f64".into(), offset: 0, size: 8 };
        TypeDescriptor::of_struct::<f64>("Pose;order=@", vec![x])
    }

    #[test]
    fn a_type_is_known_by_name_and_hash() {
        let (name, hash) = (pose().name.to_string(), pose().hash64());
        assert_eq!(declared(&encoding_of(&pose())), Ok(Declared::Type { name, hash }));
        assert_eq!(encoding_of(&bytes()), "zenoh/bytes");
        for encoding in ["", "zenoh/bytes", "text/plain", "application/json"] {
            assert_eq!(declared(encoding), Ok(Declared::Bytes));
        }
    }

    #[test]
    fn what_names_no_type_is_refused() {
        for rest in
            ["", ";", ";schema=x", ";schema=x@12;order=little", ";schema=x@zzzzzzzzzzzzzzzz;order=little"]
        {
            let encoding = format!("{MEDIA_TYPE}{rest}");
            assert_eq!(declared(&encoding), Err(TypeError::Malformed(encoding)));
        }
        let other = format!("{MEDIA_TYPE};schema=x@0000000000000000;order=middle");
        assert_eq!(declared(&other), Err(TypeError::Order { theirs: "middle".to_owned() }));
    }

    #[test]
    fn a_description_is_believed_if_its_hash_is_right() {
        let json = to_json(&pose());
        assert_eq!(from_json("Pose", pose().hash64(), json.as_bytes()), Ok(pose()));
        for (hash, json) in [(1, json.as_str()), (pose().hash64(), "{}"), (pose().hash64(), "[")] {
            let error = from_json("Pose", hash, json.as_bytes());
            assert!(matches!(error, Err(TypeError::Description { .. })), "{error:?}");
        }
    }
}
