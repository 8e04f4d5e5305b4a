//! Little-endian numbers and counted texts, written and – with every bound checked – read.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::FRAME_BYTES_MAX;
use crate::node::domain::{Channel, Name, Pattern, Role};
use crate::node::identity::{EndpointId, NodeId};

/// The longest text in a frame, in bytes; longer ones of ours are cut.
const TEXT_BYTES_MAX: usize = 1024;

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// It ends too early.
    #[error("the frame ends after {0} B, in the middle of a value")]
    Short(usize),
    /// It is of a kind that we do not know.
    #[error("frames of kind {0} are unknown")]
    Kind(u16),
    /// It has another number of descriptors than its kind needs.
    #[error("the frame came with {0} descriptors")]
    Descriptors(&'static str),
    /// A text is too long or no UTF-8.
    #[error("a text in the frame is no text of up to {TEXT_BYTES_MAX} B")]
    Text,
    /// A name is none.
    #[error("a name in the frame cannot be a name")]
    Name,
    /// A type has too many fields.
    #[error("a type has {0} fields")]
    Fields(usize),
    /// A number stands for nothing.
    #[error("{value} is no {what}")]
    Number { what: &'static str, value: u64 },
}

/// Writes a frame.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A frame of this kind, with nothing in it.
    pub(super) fn new(kind: u16) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&kind.to_le_bytes());
        Self { bytes }
    }

    /// Bytes that are no frame.
    pub(super) fn bare() -> Self {
        Self { bytes: Vec::new() }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn node(&mut self, node: NodeId) -> &mut Self {
        self.bytes.extend_from_slice(&node.bits().to_le_bytes());
        self
    }

    pub(super) fn endpoint(&mut self, id: EndpointId) -> &mut Self {
        self.node(id.node).u64(id.number)
    }

    pub(super) fn channel(&mut self, channel: &Channel) -> &mut Self {
        self.u8(channel.pattern().code()).text(channel.name())
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.u16(end as u16);
        self.bytes.extend_from_slice(&text.as_bytes()[..end]);
        self
    }
}

/// Reads a frame.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
    descriptors: std::vec::IntoIter<OwnedFd>,
    /// What stands for descriptors that did not come.
    stand_in: Option<Arc<OwnedFd>>,
    /// Descriptors that have been asked for.
    asked: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], descriptors: Vec<OwnedFd>) -> Self {
        debug_assert!(bytes.len() <= FRAME_BYTES_MAX, "the socket's buffer is no larger");
        let descriptors = descriptors.into_iter();
        Self { rest: bytes, length: bytes.len(), descriptors, stand_in: None, asked: 0 }
    }

    /// One that has this for each descriptor.
    pub(super) fn bereft(bytes: &'a [u8], stand_in: &Arc<OwnedFd>) -> Self {
        Self { stand_in: Some(Arc::clone(stand_in)), ..Self::new(bytes, Vec::new()) }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Short(self.length))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn node(&mut self) -> Result<NodeId, WireError> {
        Ok(NodeId::from_bits(u128::from_le_bytes(self.array()?)))
    }

    pub(super) fn endpoint(&mut self) -> Result<EndpointId, WireError> {
        let (node, number) = (self.node()?, self.u64()?);
        if number == 0 {
            return Err(WireError::Number { what: "endpoint", value: 0 });
        }
        Ok(EndpointId { node, number })
    }

    pub(super) fn text(&mut self) -> Result<String, WireError> {
        let length = usize::from(self.u16()?);
        let bytes = self.bytes(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| WireError::Text)?;
        if length > TEXT_BYTES_MAX { Err(WireError::Text) } else { Ok(text.to_owned()) }
    }

    pub(super) fn channel(&mut self) -> Result<Channel, WireError> {
        let pattern = self.pattern()?;
        Channel::new(pattern, &self.text()?).map_err(|_| WireError::Name)
    }

    pub(super) fn pattern(&mut self) -> Result<Pattern, WireError> {
        let code = self.u8()?;
        Pattern::of_code(code).ok_or(WireError::Number { what: "pattern", value: code.into() })
    }

    pub(super) fn role(&mut self) -> Result<Role, WireError> {
        let code = self.u8()?;
        Role::of_code(code).ok_or(WireError::Number { what: "role", value: code.into() })
    }

    pub(super) fn name(&mut self) -> Result<Name, WireError> {
        Name::new(&self.text()?).map_err(|_| WireError::Name)
    }

    pub(super) fn descriptor(&mut self) -> Result<Arc<OwnedFd>, WireError> {
        self.asked += 1;
        let descriptor = self.descriptors.next().map(Arc::new).or_else(|| self.stand_in.clone());
        descriptor.ok_or(WireError::Descriptors("too few"))
    }

    /// How many descriptors have been asked for.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// Whether everything that came along has been asked for.
    pub(super) fn finish(mut self) -> Result<(), WireError> {
        if self.descriptors.next().is_some() { Err(WireError::Descriptors("too many")) } else { Ok(()) }
    }
}
