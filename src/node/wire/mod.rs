//! The frames of the control socket: what they say, and how they are written and read.
//!
//! `docs/protocol.md` has the bytes. A frame from a peer is an allegation: reading one checks every length, number
//! and text, and how many descriptors came along; it never panics and never reads beyond the frame.

mod codec;
mod reports;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::descriptor::{Difference, Field, Shape, TypeDescriptor};
use super::domain::{Channel, Role};
use super::endpoint::{Admission, Form, Join, Lane, NewRing, Offer, Refusal, Segment};
use super::identity::{EndpointId, NodeId};
use super::report::ReportItem;
pub(crate) use codec::WireError;
use codec::{Reader, Writer};
pub(crate) use reports::policy_name;

/// The protocol that this library speaks.
pub(crate) const PROTOCOL_VERSION: u16 = 3;
/// The oldest protocol that it understands.
pub(crate) const PROTOCOL_VERSION_MIN: u16 = 3;
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
    /// Whether it passes on what it receives.
    pub(crate) is_gateway: bool,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) bell: Arc<OwnedFd>,
    /// Wakes whoever serves the node.
    pub(crate) eventfd: Arc<OwnedFd>,
}

/// What one node tells another.
#[derive(Clone)]
pub(crate) enum Frame {
    /// Who I am.
    Hello(Hello),
    /// Who I am, from somebody who speaks none of our versions. Only ever read.
    Stranger(Stranger),
    /// I speak only these versions; the connection ends.
    Versions { version_min: u16, version: u16 },
    /// My inlet, in this role, looks for outlets and hubs of its channel.
    Seek { inlet: EndpointId, role: Role, channel: Channel },
    /// My outlet, for inlets of its channel, or for one of them.
    Offer(Box<Offer>),
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
    /// My inlet, which reads from your outlet, sleeps on this descriptor from now on.
    Listen { outlet: EndpointId, inlet: EndpointId, eventfd: Arc<OwnedFd> },
    /// My outlet goes on in another ring.
    Ring(NewRing),
    /// My outlet has let go of your inlet.
    Detached { outlet: EndpointId, inlet: EndpointId },
    /// A further segment of my bell.
    Bell { index: u32, memory: Arc<OwnedFd> },
    /// What are you doing?
    Inspect,
    /// This is what I am doing, or a part of it.
    Report { is_last: bool, items: Vec<ReportItem> },
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
    pub(super) const LISTEN: u16 = 13;
    pub(super) const BELL: u16 = 14;
    pub(super) const INSPECT: u16 = 15;
    pub(super) const REPORT: u16 = 16;
    pub(super) const RING: u16 = 17;
    pub(super) const DETACHED: u16 = 18;
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
            Self::Hello(_) | Self::Stranger(_) => kind::HELLO,
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
            Self::Listen { .. } => kind::LISTEN,
            Self::Bell { .. } => kind::BELL,
            Self::Inspect => kind::INSPECT,
            Self::Report { .. } => kind::REPORT,
            Self::Ring(_) => kind::RING,
            Self::Detached { .. } => kind::DETACHED,
        }
    }

    fn write(&self, writer: &mut Writer) -> Vec<Arc<OwnedFd>> {
        match self {
            Self::Hello(hello) => return hello.write(writer),
            Self::Stranger(Stranger { version_min, version, node, name }) => {
                writer.u16(*version_min).u16(*version).node(*node).text(name)
            }
            Self::Versions { version_min, version } => writer.u16(*version_min).u16(*version),
            Self::Seek { inlet, role, channel } => writer.endpoint(*inlet).u8(role.code()).channel(channel),
            Self::Offer(offer) => return write_offer(offer, writer),
            Self::Done { endpoint } => writer.endpoint(*endpoint),
            Self::Join(join) => return write_join(join, writer),
            Self::Admit(admission) => writer
                .endpoint(admission.outlet)
                .endpoint(admission.inlet)
                .u64(admission.start)
                .u32(admission.sleepers_line)
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
            Self::Ring(ring) => {
                writer.endpoint(ring.outlet).u32(ring.generation).u64(ring.start);
                return vec![Arc::clone(&ring.memory)];
            }
            Self::OutletLeft { outlet } => writer.endpoint(*outlet),
            Self::PairLeft { outlet, inlet } | Self::Detached { outlet, inlet } => {
                writer.endpoint(*outlet).endpoint(*inlet)
            }
            Self::Taken { count } => writer.u32(*count),
            Self::Listen { outlet, inlet, eventfd } => {
                writer.endpoint(*outlet).endpoint(*inlet);
                return vec![Arc::clone(eventfd)];
            }
            Self::Bell { index, memory } => {
                writer.u32(*index);
                return vec![Arc::clone(memory)];
            }
            Self::Inspect => writer,
            Self::Report { is_last, items } => reports::write(*is_last, items, writer),
        };
        Vec::new()
    }

    /// Reads a frame and the descriptors that came with it.
    pub(crate) fn decode(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes, descriptors);
        let frame = Self::read(&mut reader)?;
        // Whatever else another version says and sends along is none of ours to judge. A later one may add to the end of a
        // frame; descriptors that nobody asked for are an error.
        if !matches!(frame, Self::Stranger(_)) {
            reader.finish()?;
        }
        Ok(frame)
    }

    /// Reads a frame whose descriptors did not all arrive, and how many it needs; `stand_in` stands for each of them. That must
    /// be more than `arrived`: whatever came beyond what it needs was cut off on purpose.
    pub(crate) fn decode_bereft(
        bytes: &[u8],
        arrived: usize,
        stand_in: &Arc<OwnedFd>,
    ) -> Result<(Self, u32), WireError> {
        let mut reader = Reader::bereft(bytes, stand_in);
        let frame = Self::read(&mut reader)?;
        match reader.asked() {
            asked if asked > arrived => Ok((frame, asked as u32)),
            _ => Err(WireError::Descriptors("too many")),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match reader.u16()? {
            kind::HELLO => match Stranger::read(reader)? {
                stranger if stranger.is_understood() => Self::Hello(Hello::read(stranger, reader)?),
                stranger => Self::Stranger(stranger),
            },
            kind::VERSIONS => Self::Versions { version_min: reader.u16()?, version: reader.u16()? },
            kind::SEEK => {
                Self::Seek { inlet: reader.endpoint()?, role: reader.role()?, channel: reader.channel()? }
            }
            kind::OFFER => Self::Offer(Box::new(read_offer(reader)?)),
            kind::DONE => Self::Done { endpoint: reader.endpoint()? },
            kind::JOIN => Self::Join(read_join(reader)?),
            kind::ADMIT => Self::Admit(Admission {
                outlet: reader.endpoint()?,
                inlet: reader.endpoint()?,
                start: reader.u64()?,
                sleepers_line: reader.u32()?,
                sleepers_bit: reader.u32()?,
                segments: Vec::new(),
                ring: None,
            }),
            kind::RING => Self::Ring(NewRing {
                outlet: reader.endpoint()?,
                generation: reader.u32()?,
                start: reader.u64()?,
                memory: reader.descriptor()?,
            }),
            kind::DETACHED => Self::Detached { outlet: reader.endpoint()?, inlet: reader.endpoint()? },
            kind::REFUSE => Self::Refuse {
                outlet: reader.endpoint()?,
                inlet: reader.endpoint()?,
                refusal: read_refusal(reader)?,
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
            kind::LISTEN => Self::Listen {
                outlet: reader.endpoint()?,
                inlet: reader.endpoint()?,
                eventfd: reader.descriptor()?,
            },
            kind::BELL => Self::Bell { index: reader.u32()?, memory: reader.descriptor()? },
            kind::INSPECT => Self::Inspect,
            kind::REPORT => {
                let (is_last, items) = reports::read(reader)?;
                Self::Report { is_last, items }
            }
            other => return Err(WireError::Kind(other)),
        })
    }
}

impl Hello {
    fn write(&self, writer: &mut Writer) -> Vec<Arc<OwnedFd>> {
        writer.u16(self.version_min).u16(self.version).node(self.node).text(&self.name).u32(self.pid);
        writer.u8(u8::from(self.is_gateway));
        [&self.pidfd, &self.bell, &self.eventfd].map(Arc::clone).into()
    }

    fn read(stranger: Stranger, reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let Stranger { version_min, version, node, name } = stranger;
        let (pid, is_gateway) = (reader.u32()?, reader.u8()? != 0);
        let (pidfd, bell, eventfd) = (reader.descriptor()?, reader.descriptor()?, reader.descriptor()?);
        Ok(Self { version_min, version, node, name, pid, is_gateway, pidfd, bell, eventfd })
    }
}

/// The beginning of every greeting, in all versions.
#[derive(Clone, Debug)]
pub(crate) struct Stranger {
    pub(crate) version_min: u16,
    pub(crate) version: u16,
    pub(crate) node: NodeId,
    pub(crate) name: String,
}

impl Stranger {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (version_min, version) = (reader.u16()?, reader.u16()?);
        let (node, name) = (reader.node()?, reader.name()?.as_str().to_owned());
        Ok(Self { version_min, version, node, name })
    }

    /// Whether we and the sender of this have a version in common.
    fn is_understood(&self) -> bool {
        self.version_min <= PROTOCOL_VERSION && self.version >= PROTOCOL_VERSION_MIN
    }
}

fn write_offer(offer: &Offer, writer: &mut Writer) -> Vec<Arc<OwnedFd>> {
    writer.endpoint(offer.outlet).channel(&offer.channel).u8(form_code(offer.form)).u32(offer.overflow);
    writer.u32(offer.slots).u32(offer.stride).u32(offer.payload_offset);
    writer.u32(offer.sleeper_line).u8(u8::from(offer.is_stamped)).u8(u8::from(offer.is_relayed));
    writer.u32(offer.generation).u64(offer.base);
    write_descriptor(&offer.descriptor, writer);
    write_optional_descriptor(offer.header.as_ref(), writer);
    writer.u8(u8::from(offer.lane.is_some()));
    if let Some(lane) = &offer.lane {
        write_optional_descriptor(lane.accepts.as_ref(), writer.endpoint(lane.to).endpoint(lane.from));
    }
    vec![Arc::clone(&offer.ring)]
}

fn read_offer(reader: &mut Reader<'_>) -> Result<Offer, WireError> {
    let offer = Offer {
        outlet: reader.endpoint()?,
        channel: reader.channel()?,
        form: read_form(reader)?,
        overflow: reader.u32()?,
        slots: reader.u32()?,
        stride: reader.u32()?,
        payload_offset: reader.u32()?,
        sleeper_line: reader.u32()?,
        is_stamped: reader.u8()? != 0,
        is_relayed: reader.u8()? != 0,
        generation: reader.u32()?,
        base: reader.u64()?,
        descriptor: read_descriptor(reader)?,
        header: read_optional_descriptor(reader)?,
        lane: None,
        ring: reader.descriptor()?,
    };
    let has_lane = reader.u8()? != 0;
    Ok(Offer { lane: if has_lane { Some(read_lane(reader)?) } else { None }, ..offer })
}

fn read_lane(reader: &mut Reader<'_>) -> Result<Lane, WireError> {
    let (to, from) = (reader.endpoint()?, reader.endpoint()?);
    Ok(Lane { to, from, accepts: read_optional_descriptor(reader)? })
}

fn form_code(form: Form) -> u8 {
    match form {
        Form::Ring => 0,
        Form::Board => 1,
        Form::Region => 2,
    }
}

fn read_form(reader: &mut Reader<'_>) -> Result<Form, WireError> {
    match reader.u8()? {
        0 => Ok(Form::Ring),
        1 => Ok(Form::Board),
        2 => Ok(Form::Region),
        other => Err(WireError::Number { what: "form", value: other.into() }),
    }
}

/// Whether an offer with these types fits into a frame.
pub(crate) fn is_offerable<'a>(descriptors: impl IntoIterator<Item = &'a TypeDescriptor>) -> bool {
    /// Bytes that are left for everything else in an offer.
    const REST_BYTES: usize = 1024;
    let mut writer = Writer::new(kind::OFFER);
    let are_sendable = descriptors.into_iter().fold(true, |are_sendable, descriptor| {
        if descriptor.is_sendable() {
            write_descriptor(descriptor, &mut writer);
        }
        are_sendable && descriptor.is_sendable()
    });
    are_sendable && writer.into_bytes().len() + REST_BYTES <= FRAME_BYTES_MAX
}

fn write_join(join: &Join, writer: &mut Writer) -> Vec<Arc<OwnedFd>> {
    writer.endpoint(join.outlet).endpoint(join.inlet);
    writer.u32(join.cursor_offset).u32(join.hold_limit).u32(join.notes).u32(join.sleeper_line);
    writer
        .u8(u8::from(join.fences_for_all))
        .u8(u8::from(join.is_observer))
        .u32(join.history)
        .u32(join.generation);
    writer.u8(u8::from(join.cursor.is_some())).u8(u8::from(join.eventfd.is_some()));
    join.cursor.iter().chain(&join.eventfd).cloned().collect()
}

fn read_join(reader: &mut Reader<'_>) -> Result<Join, WireError> {
    let join = Join {
        outlet: reader.endpoint()?,
        inlet: reader.endpoint()?,
        cursor_offset: reader.u32()?,
        hold_limit: reader.u32()?,
        notes: reader.u32()?,
        sleeper_line: reader.u32()?,
        fences_for_all: reader.u8()? != 0,
        is_observer: reader.u8()? != 0,
        history: reader.u32()?,
        generation: reader.u32()?,
        eventfd: None,
        cursor: None,
    };
    let (has_cursor, has_eventfd) = (reader.u8()? != 0, reader.u8()? != 0);
    let cursor = if has_cursor { Some(reader.descriptor()?) } else { None };
    let eventfd = if has_eventfd { Some(reader.descriptor()?) } else { None };
    Ok(Join { cursor, eventfd, ..join })
}

fn write_descriptor<'w>(descriptor: &TypeDescriptor, writer: &'w mut Writer) -> &'w mut Writer {
    writer.text(&descriptor.name).u64(descriptor.size).u64(descriptor.align);
    writer.u8(u8::from(descriptor.shape == Shape::Slice)).u16(descriptor.fields.len() as u16);
    for field in &descriptor.fields {
        writer.text(&field.name).text(&field.type_name).u64(field.offset).u64(field.size);
    }
    writer
}

fn write_optional_descriptor<'w>(
    descriptor: Option<&TypeDescriptor>,
    writer: &'w mut Writer,
) -> &'w mut Writer {
    writer.u8(u8::from(descriptor.is_some()));
    match descriptor {
        Some(descriptor) => write_descriptor(descriptor, writer),
        None => writer,
    }
}

fn read_optional_descriptor(reader: &mut Reader<'_>) -> Result<Option<TypeDescriptor>, WireError> {
    Ok(if reader.u8()? == 0 { None } else { Some(read_descriptor(reader)?) })
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

/// A descriptor as it is written into memory that is handed on.
pub(crate) fn encode_descriptor(descriptor: &TypeDescriptor) -> Vec<u8> {
    let mut writer = Writer::bare();
    write_descriptor(descriptor, &mut writer);
    writer.into_bytes()
}

/// What such bytes say.
pub(crate) fn decode_descriptor(bytes: &[u8]) -> Result<TypeDescriptor, WireError> {
    read_descriptor(&mut Reader::new(bytes, Vec::new()))
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
