//! How messages, items, values and answers are written, whatever their type.

use std::io::{self, Write};

use serde_json::{Map, Value as Json};
use tidepost::{Shape, TypeDescriptor};

use crate::fields;

/// How messages are written.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Format {
    /// Write the bytes of the messages one after the other, and nothing else.
    #[arg(long)]
    raw: bool,
    /// Write each message as hexadecimal digits.
    #[arg(long)]
    hex: bool,
    /// Write each message as a JSON object: its length, its text, bytes or fields, and what else is known of it.
    #[arg(long)]
    json: bool,
    /// Write each message as a line of `name=value` pairs, one for each field.
    #[arg(long)]
    fields: bool,
}

impl Format {
    /// Writes one message; `about` adds to its JSON object what comes before the message itself.
    pub fn write(
        &self,
        output: &mut impl Write,
        (message_type, message): (&TypeDescriptor, &[u8]),
        about: impl FnOnce(&mut Map<String, Json>),
    ) -> io::Result<()> {
        if self.raw {
            return output.write_all(message);
        }
        if self.hex {
            message.iter().try_for_each(|byte| write!(output, "{byte:02x}"))?;
        } else if self.json {
            let mut object = Map::new();
            about(&mut object);
            add_message(message_type, message, &mut object);
            write!(output, "{}", Json::from(object))?;
        } else if self.fields || !is_text(message_type) {
            write!(output, "{}", fields::read(message_type, message))?;
        } else {
            output.write_all(message)?;
        }
        output.write_all(b"\n")
    }

    /// As [`Format::write`], for one message alone: a text that ends a line itself is followed by no empty one.
    pub fn write_alone(
        &self,
        output: &mut impl Write,
        (message_type, message): (&TypeDescriptor, &[u8]),
        about: impl FnOnce(&mut Map<String, Json>),
    ) -> io::Result<()> {
        let is_plain = !(self.raw || self.hex || self.json || self.fields) && is_text(message_type);
        let message = if is_plain { message.strip_suffix(b"\n").unwrap_or(message) } else { message };
        self.write(output, (message_type, message), about)
    }
}

/// Whether messages of this type are texts, or could be.
pub fn is_text(message_type: &TypeDescriptor) -> bool {
    message_type.shape == Shape::Slice && matches!(&*message_type.name, "u8" | "text")
}

fn add_message(message_type: &TypeDescriptor, message: &[u8], object: &mut Map<String, Json>) {
    object.insert("length".to_owned(), message.len().into());
    let (name, content) = match std::str::from_utf8(message) {
        _ if !is_text(message_type) => ("fields", fields::read(message_type, message).to_json()),
        Ok(text) => ("text", text.into()),
        Err(_) => ("bytes", message.into()),
    };
    object.insert(name.to_owned(), content);
}
