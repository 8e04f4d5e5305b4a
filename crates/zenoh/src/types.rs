//! Message types on the network: as the encoding of a message, and whole for whoever asks.
//!
//! Messages of plain bytes have the engine's own encoding, so that any client understands them. All others have
//! `application/x-tidepost;schema=<name>@<hash>;order=<little|big>`, where the hash is that of the whole descriptor, 16 hexadecimal
//! digits; `%` and `;` in a name are `%25` and `%3B`, and of a long one the first 64 bytes are there. If a header comes with each message, its type is there too, before the order:
//! `;header=<name>@<hash>`. A gateway that meets a type that it does not know asks the one that sent it for the descriptor, in JSON.

use serde::{Deserialize, Serialize};
use tidepost::{Field, Message, Shape, TypeDescriptor};

/// The encoding of plain bytes.
const BYTES: &str = "zenoh/bytes";
const MEDIA_TYPE: &str = "application/x-tidepost";
/// The order of bytes in this machine's numbers.
const ORDER: &str = if cfg!(target_endian = "little") { "little" } else { "big" };
/// Bytes of a type's name in an encoding, at most.
const NAME_BYTES_MAX: usize = 64;
/// The longest descriptor that is taken in, in bytes of JSON.
const JSON_BYTES_MAX: usize = 4 << 20;

/// A type as an encoding has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) hash: u64,
}

/// What the encoding of a message says of its types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// What it is; none if it is plain bytes, or nothing that we know of.
    pub(crate) message: Option<Named>,
    /// What comes with it.
    pub(crate) header: Option<Named>,
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

/// A parameter that names a type. Two of them fit into an encoding, which the engine can send up to 255 bytes of: of a long name only
/// its beginning is there, as the hash says which type it is.
fn parameter_of(what: &str, descriptor: &TypeDescriptor) -> String {
    let mut name = String::new();
    for character in descriptor.name.chars() {
        let before = name.len();
        match character {
            '%' => name.push_str("%25"),
            ';' => name.push_str("%3B"),
            other => name.push(other),
        }
        if name.len() > NAME_BYTES_MAX {
            name.truncate(before);
            break;
        }
    }
    format!(";{what}={name}@{:016x}", descriptor.hash64())
}

/// The encoding of messages of this type, which come with headers of that type.
pub(crate) fn encoding_of(message: &TypeDescriptor, header: Option<&TypeDescriptor>) -> String {
    let (media_type, schema) = if *message == bytes() {
        (BYTES, String::new())
    } else {
        (MEDIA_TYPE, parameter_of("schema", message))
    };
    let header = header.map_or_else(String::new, |header| parameter_of("header", header));
    if schema.is_empty() && header.is_empty() {
        return media_type.to_owned();
    }
    format!("{media_type}{schema}{header};order={ORDER}")
}

/// The type that a parameter names.
fn named(text: &str) -> Option<Named> {
    let (name, hash) = text.rsplit_once('@').filter(|(_, hash)| hash.len() == 16)?;
    let name = name.replace("%3B", ";").replace("%25", "%");
    Some(Named { name, hash: u64::from_str_radix(hash, 16).ok()? })
}

/// What an encoding says.
pub(crate) fn declared(encoding: &str) -> Result<Declared, TypeError> {
    let (media_type, parameters) = encoding.split_once(';').unwrap_or((encoding, ""));
    if media_type != MEDIA_TYPE && media_type != BYTES {
        return Ok(Declared::default());
    }
    let malformed = || TypeError::Malformed(encoding.chars().take(120).collect());
    let mut declared = Declared::default();
    let mut theirs = None;
    for (what, value) in parameters.split(';').filter_map(|parameter| parameter.split_once('=')) {
        match what {
            "schema" if media_type == MEDIA_TYPE => {
                declared.message = Some(named(value).ok_or_else(malformed)?);
            }
            "header" => declared.header = Some(named(value).ok_or_else(malformed)?),
            "order" => theirs = Some(value),
            // Whoever sends plain bytes, and a later version, may say more.
            _ => {}
        }
    }
    if media_type == MEDIA_TYPE && declared.message.is_none() {
        return Err(malformed());
    }
    match theirs {
        _ if declared == Declared::default() => Ok(declared),
        Some(ORDER) => Ok(declared),
        Some(theirs) => Err(TypeError::Order { theirs: theirs.chars().take(20).collect() }),
        None => Err(malformed()),
    }
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
        TypeDescriptor::of_struct::<f64>("Pose;order=@;header=%3B%253B", vec![x])
    }

    #[test]
    fn a_type_is_known_by_name_and_hash() {
        let named = Named { name: pose().name.to_string(), hash: pose().hash64() };
        let message = Some(named.clone());
        let header = Some(named);
        let declared_of = |message: &TypeDescriptor, header: Option<&TypeDescriptor>| {
            declared(&encoding_of(message, header))
        };
        assert_eq!(
            declared_of(&pose(), None),
            Ok(Declared { message: message.clone(), ..Declared::default() })
        );
        assert_eq!(
            declared_of(&bytes(), Some(&pose())),
            Ok(Declared { header: header.clone(), ..Declared::default() })
        );
        assert_eq!(declared_of(&pose(), Some(&pose())), Ok(Declared { message, header }));
        assert_eq!(encoding_of(&bytes(), None), "zenoh/bytes");
        for encoding in ["", "zenoh/bytes", "zenoh/bytes;x", "text/plain;header=x", "application/json"] {
            assert_eq!(declared(encoding), Ok(Declared::default()));
        }
    }

    #[test]
    fn the_engine_can_send_the_encodings_of_the_longest_names() {
        for part in ["x", ";", "%", "名"] {
            let long = TypeDescriptor { name: part.repeat(1024).into(), ..pose() };
            let encoding = encoding_of(&long, Some(&long));
            assert!(encoding.len() <= 255, "{} B", encoding.len());
            let Ok(Declared { message: Some(message), header: Some(header) }) = declared(&encoding) else {
                panic!("{encoding}");
            };
            assert_eq!((message.hash, &message), (long.hash64(), &header));
            assert!(message.name.len() > 15 && long.name.starts_with(&message.name), "{}", message.name);
        }
    }

    #[test]
    fn what_names_no_type_is_refused() {
        for rest in [
            "",
            ";",
            ";schema=x",
            ";schema=x@0000000000000000",
            ";schema=x@12;order=little",
            ";schema=x@zzzzzzzzzzzzzzzz;order=little",
        ] {
            let encoding = format!("{MEDIA_TYPE}{rest}");
            assert_eq!(declared(&encoding), Err(TypeError::Malformed(encoding)));
        }
        for rest in [";header=x@0000000000000000", ";header=x;order=little"] {
            let encoding = format!("{BYTES}{rest}");
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
