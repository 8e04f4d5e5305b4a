//! The frames of the control socket: what they say, and how they are written and read.
//!
//! `docs/protocol.md` has the bytes. A frame from a peer is an allegation: reading one checks every length, number
//! and text, and how many descriptors came along; it never panics and never reads beyond the frame.

mod codec;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::descriptor::{Difference, Field, Shape, TypeDescriptor};
use super::domain::Name;
use super::endpoint::{Admission, Join, Offer, Refusal, Segment};
use super::identity::{EndpointId, NodeId};
pub(crate) use codec::WireError;
use codec::{Reader, Writer};

/// The protocol that this library speaks.
pub(crate) const PROTOCOL_VERSION: u16 = 1;
/// The oldest protocol that it understands.
pub(crate) const PROTOCOL_VERSION_MIN: u16 = 1;
/// The longest frame in bytes.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 10;

/// A node introduces itself. The first frame in each direction.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) version_min: u16,
    pub(crate) version: u16,
    pub(crate) node: NodeId,
    pub(crate) name: String,
    /// For people only.
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) bell: Arc<OwnedFd>,
    /// Only from a node without control thread.
    pub(crate) eventfd: Option<Arc<OwnedFd>>,
}

/// What one node tells another.
#[derive(Clone)]
pub(crate) enum Frame {
    /// Who I am.
    Hello(Hello),
    /// I speak only these versions; the connection ends.
    Versions { version_min: u16, version: u16 },
    /// My inlet looks for outlets of this name.
    Seek { inlet: EndpointId, name: Name },
    /// My outlet, for inlets of its name.
    Offer(Offer),
    /// All that I had to say to this endpoint's `Seek` or `Offer` has been said.
    Done { endpoint: EndpointId },
    /// My inlet takes your offer up.
    Join(Join),
    /// My outlet lets your inlet in.
    Admit(Admission),
    /// One of us turned the other's endpoint away.
    Refuse { outlet: EndpointId, inlet: EndpointId, refusal: Refusal },
    /// A further pool segment of my outlet.
    Segment(Segment),
    /// My outlet has gone.
    OutletLeft { outlet: EndpointId },
    /// My inlet is done with your outlet, held samples included.
    PairLeft { outlet: EndpointId, inlet: EndpointId },
    /// I have received so many descriptors.
    Taken { count: u32 },
}

mod kind {
    pub(super) const HELLO: u16 = 1;
    pub(super) const VERSIONS: u16 = 2;
    pub(super) const SEEK: u16 = 3;
    pub(super) const OFFER: u16 = 4;
    pub(super) const DONE: u16 = 5;
    pub(super) const JOIN: u16 = 6;
    pub(super) const ADMIT: u16 = 7;
    pub(super) const REFUSE: u16 = 8;
    pub(super) const SEGMENT: u16 = 9;
    pub(super) const OUTLET_LEFT: u16 = 10;
    pub(super) const PAIR_LEFT: u16 = 11;
    pub(super) const TAKEN: u16 = 12;
}

/// A frame as it is sent: its bytes, and the descriptors that travel with it.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<Arc<OwnedFd>>,
}

impl Frame {
    /// The frame as it is sent; `None` if it is too long.
    pub(crate) fn encode(&self) -> Option<Encoded> {
        let mut writer = Writer::new(self.kind());
        let descriptors = self.write(&mut writer);
        let bytes = writer.into_bytes();
        (bytes.len() <= FRAME_BYTES_MAX).then_some(Encoded { bytes, descriptors })
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Versions { .. } => kind::VERSIONS,
            Self::Seek { .. } => kind::SEEK,
            Self::Offer(_) => kind::OFFER,
            Self::Done { .. } => kind::DONE,
            Self::Join(_) => kind::JOIN,
            Self::Admit(_) => kind::ADMIT,
            Self::Refuse { .. } => kind::REFUSE,
            Self::Segment(_) => kind::SEGMENT,
            Self::OutletLeft { .. } => kind::OUTLET_LEFT,
            Self::PairLeft { .. } => kind::PAIR_LEFT,
            Self::Taken { .. } => kind::TAKEN,
        }
    }

    fn write(&self, writer: &mut Writer) -> Vec<Arc<OwnedFd>> {
        match self {
            Self::Hello(hello) => return hello.write(writer),
            Self::Versions { version_min, version } => writer.u16(*version_min).u16(*version),
            Self::Seek { inlet, name } => writer.endpoint(*inlet).text(name.as_str()),
            Self::Offer(offer) => return write_offer(offer, writer),
            Self::Done { endpoint } => writer.endpoint(*endpoint),
            Self::Join(join) => return write_join(join, writer),
            Self::Admit(admission) => writer
                .endpoint(admission.outlet)
                .endpoint(admission.inlet)
                .u64(admission.start)
                .u32(admission.sleepers_bit),
            Self::Refuse { outlet, inlet, refusal } => {
                write_refusal(refusal, writer.endpoint(*outlet).endpoint(*inlet))
            }
            Self::Segment(segment) => {
                writer
                    .endpoint(segment.outlet)
                    .u32(segment.index)
                    .u32(segment.chunks)
                    .u64(segment.chunk_bytes);
                return vec![Arc::clone(&segment.memory)];
            }
            Self::OutletLeft { outlet } => writer.endpoint(*outlet),
            Self::PairLeft { outlet, inlet } => writer.endpoint(*outlet).endpoint(*inlet),
            Self::Taken { count } => writer.u32(*count),
        };
        Vec::new()
    }

    /// Reads a frame and the descriptors that came with it.
    pub(crate) fn decode(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes, descriptors);
        let frame = match reader.u16()? {
            kind::HELLO => Self::Hello(Hello::read(&mut reader)?),
            kind::VERSIONS => Self::Versions { version_min: reader.u16()?, version: reader.u16()? },
            kind::SEEK => Self::Seek { inlet: reader.endpoint()?, name: reader.name()? },
            kind::OFFER => Self::Offer(read_offer(&mut reader)?),
            kind::DONE => Self::Done { endpoint: reader.endpoint()? },
            kind::JOIN => Self::Join(read_join(&mut reader)?),
            kind::ADMIT => Self::Admit(Admission {
                outlet: reader.endpoint()?,
                inlet: reader.endpoint()?,
                start: reader.u64()?,
                sleepers_bit: reader.u32()?,
                segments: Vec::new(),
            }),
            kind::REFUSE => Self::Refuse {
                outlet: reader.endpoint()?,
                inlet: reader.endpoint()?,
                refusal: read_refusal(&mut reader)?,
            },
            kind::SEGMENT => Self::Segment(Segment {
                outlet: reader.endpoint()?,
                index: reader.u32()?,
                chunks: reader.u32()?,
                chunk_bytes: reader.u64()?,
                memory: reader.descriptor()?,
            }),
            kind::OUTLET_LEFT => Self::OutletLeft { outlet: reader.endpoint()? },
            kind::PAIR_LEFT => Self::PairLeft { outlet: reader.endpoint()?, inlet: reader.endpoint()? },
            kind::TAKEN => Self::Taken { count: reader.u32()? },
            other => return Err(WireError::Kind(other)),
        };
        // A later version may add to the end of a frame; descriptors that nobody asked for are an error.
        reader.finish()?;
        Ok(frame)
    }
}

impl Hello {
    fn write(&self, writer: &mut Writer) -> Vec<Arc<OwnedFd>> {
        writer.u16(self.version_min).u16(self.version).node(self.node).text(&self.name).u32(self.pid);
        writer.u8(u8::from(self.eventfd.is_some()));
        let required = [&self.pidfd, &self.bell];
        required.into_iter().chain(&self.eventfd).cloned().collect()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (version_min, version) = (reader.u16()?, reader.u16()?);
        let (node, name, pid) = (reader.node()?, reader.name()?.as_str().to_owned(), reader.u32()?);
        let has_eventfd = reader.u8()? != 0;
        let (pidfd, bell) = (reader.descriptor()?, reader.descriptor()?);
        let eventfd = if has_eventfd { Some(reader.descriptor()?) } else { None };
        Ok(Self { version_min, version, node, name, pid, pidfd, bell, eventfd })
    }

    /// Whether we and the sender of this have a version in common.
    pub(crate) fn is_understood(&self) -> bool {
        self.version_min <= PROTOCOL_VERSION && self.version >= PROTOCOL_VERSION_MIN
    }
}

fn write_offer(offer: &Offer, writer: &mut Writer) -> Vec<Arc<OwnedFd>> {
    writer.endpoint(offer.outlet).text(offer.name.as_str()).u32(offer.overflow);
    writer.u32(offer.slots).u32(offer.stride).u32(offer.payload_offset);
    writer.u32(offer.sleepers_line).u32(offer.sleeper_line);
    write_descriptor(&offer.descriptor, writer);
    vec![Arc::clone(&offer.ring)]
}

fn read_offer(reader: &mut Reader<'_>) -> Result<Offer, WireError> {
    Ok(Offer {
        outlet: reader.endpoint()?,
        name: reader.name()?,
        overflow: reader.u32()?,
        slots: reader.u32()?,
        stride: reader.u32()?,
        payload_offset: reader.u32()?,
        sleepers_line: reader.u32()?,
        sleeper_line: reader.u32()?,
        descriptor: read_descriptor(reader)?,
        ring: reader.descriptor()?,
    })
}

fn write_join(join: &Join, writer: &mut Writer) -> Vec<Arc<OwnedFd>> {
    writer.endpoint(join.outlet).endpoint(join.inlet);
    writer.u32(join.cursor_offset).u32(join.hold_limit).u32(join.sleeper_line);
    writer.u8(u8::from(join.fences_for_all));
    vec![Arc::clone(&join.cursor)]
}

fn read_join(reader: &mut Reader<'_>) -> Result<Join, WireError> {
    Ok(Join {
        outlet: reader.endpoint()?,
        inlet: reader.endpoint()?,
        cursor_offset: reader.u32()?,
        hold_limit: reader.u32()?,
        sleeper_line: reader.u32()?,
        fences_for_all: reader.u8()? != 0,
        cursor: reader.descriptor()?,
    })
}

fn write_descriptor<'w>(descriptor: &TypeDescriptor, writer: &'w mut Writer) -> &'w mut Writer {
    writer.text(&descriptor.name).u64(descriptor.size).u64(descriptor.align);
    writer.u8(u8::from(descriptor.shape == Shape::Slice)).u16(descriptor.fields.len() as u16);
    for field in &descriptor.fields {
        writer.text(&field.name).text(&field.type_name).u64(field.offset).u64(field.size);
    }
    writer
}

fn read_descriptor(reader: &mut Reader<'_>) -> Result<TypeDescriptor, WireError> {
    let (name, size, align) = (reader.text()?.into(), reader.u64()?, reader.u64()?);
    let shape = if reader.u8()? == 0 { Shape::One } else { Shape::Slice };
    let count = usize::from(reader.u16()?);
    if count > TypeDescriptor::FIELDS_MAX {
        return Err(WireError::Fields(count));
    }
    let fields = (0..count).map(|_| {
        let (name, type_name) = (reader.text()?.into(), reader.text()?.into());
        Ok(Field { name, type_name, offset: reader.u64()?, size: reader.u64()? })
    });
    let fields = fields.collect::<Result<_, WireError>>()?;
    Ok(TypeDescriptor { name, size, align, shape, fields })
}

fn write_refusal<'w>(refusal: &Refusal, writer: &'w mut Writer) -> &'w mut Writer {
    match refusal {
        Refusal::Type(difference) => {
            writer.u8(1).text(&difference.what).text(&difference.ours).text(&difference.theirs)
        }
        Refusal::Limit { what, limit } => writer.u8(2).text(what).u64(*limit),
        Refusal::Unusable { reason } => writer.u8(3).text(reason),
    }
}

/// The other side's refusal, with a difference turned round to our point of view.
fn read_refusal(reader: &mut Reader<'_>) -> Result<Refusal, WireError> {
    match reader.u8()? {
        1 => {
            let (what, theirs, ours) = (reader.text()?, reader.text()?, reader.text()?);
            Ok(Refusal::Type(Difference { what, ours, theirs }))
        }
        2 => Ok(Refusal::Limit { what: reader.text()?, limit: reader.u64()? }),
        3 => Ok(Refusal::Unusable { reason: reader.text()? }),
        other => Err(WireError::Number { what: "refusal", value: other.into() }),
    }
}

#[cfg(test)]
mod tests;
