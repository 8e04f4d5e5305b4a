//! Reports as they are written and read.

use super::codec::{Reader, WireError, Writer};
use super::{read_optional_descriptor, write_optional_descriptor};
use crate::node::report::{EndpointRole, InletReport, OutletReport, ReaderReport, ReportItem};

/// The names of the policies, in the order of their codes from 0.
const POLICIES: [&str; 5] = ["unknown", "block", "fail", "drop-oldest", "latest"];

pub(super) fn write<'w>(is_last: bool, items: &[ReportItem], writer: &'w mut Writer) -> &'w mut Writer {
    writer.u8(u8::from(is_last)).u16(items.len() as u16);
    for item in items {
        match item {
            ReportItem::Outlet(outlet) => write_outlet(outlet, writer.u8(1)),
            ReportItem::Reader(reader) => write_reader(reader, writer.u8(2)),
            ReportItem::Inlet(inlet) => write_inlet(inlet, writer.u8(3)),
        };
    }
    writer
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<(bool, Vec<ReportItem>), WireError> {
    let (is_last, count) = (reader.u8()? != 0, reader.u16()?);
    let items = (0..count).map(|_| match reader.u8()? {
        1 => read_outlet(reader).map(ReportItem::Outlet),
        2 => read_reader(reader).map(ReportItem::Reader),
        3 => read_inlet(reader).map(ReportItem::Inlet),
        other => Err(WireError::Number { what: "report", value: other.into() }),
    });
    Ok((is_last, items.collect::<Result<_, _>>()?))
}

/// The policy with this code.
pub(crate) fn policy_name(code: u32) -> &'static str {
    POLICIES.get(code as usize).copied().unwrap_or(POLICIES[0])
}

fn policy_code(name: &str) -> u32 {
    POLICIES.iter().position(|policy| *policy == name).unwrap_or_default() as u32
}

fn read_role(reader: &mut Reader<'_>) -> Result<EndpointRole, WireError> {
    let code = reader.u8()?;
    EndpointRole::of_code(code).ok_or(WireError::Number { what: "role", value: code.into() })
}

fn write_outlet<'w>(outlet: &OutletReport, writer: &'w mut Writer) -> &'w mut Writer {
    writer.endpoint(outlet.id).u8(outlet.pattern.code()).text(&outlet.name).u8(outlet.role.code());
    writer.u32(policy_code(outlet.policy)).u64(outlet.sent).u64(outlet.waiting);
    writer.u8(u8::from(outlet.is_blocked)).u32(outlet.history);
    write_optional_descriptor(outlet.message_type.as_ref(), writer)
}

fn read_outlet(reader: &mut Reader<'_>) -> Result<OutletReport, WireError> {
    Ok(OutletReport {
        id: reader.endpoint()?,
        pattern: reader.pattern()?,
        name: reader.text()?,
        role: read_role(reader)?,
        policy: policy_name(reader.u32()?),
        sent: reader.u64()?,
        waiting: reader.u64()?,
        is_blocked: reader.u8()? != 0,
        history: reader.u32()?,
        message_type: read_optional_descriptor(reader)?,
        readers: Vec::new(),
    })
}

fn write_reader<'w>(report: &ReaderReport, writer: &'w mut Writer) -> &'w mut Writer {
    writer.endpoint(report.id).u8(u8::from(report.is_reliable)).u64(report.lag).u64(report.lost);
    writer.u8(u8::from(report.is_blocking))
}

fn read_reader(reader: &mut Reader<'_>) -> Result<ReaderReport, WireError> {
    Ok(ReaderReport {
        id: reader.endpoint()?,
        is_reliable: reader.u8()? != 0,
        lag: reader.u64()?,
        lost: reader.u64()?,
        is_blocking: reader.u8()? != 0,
    })
}

fn write_inlet<'w>(inlet: &InletReport, writer: &'w mut Writer) -> &'w mut Writer {
    writer.endpoint(inlet.id).u8(inlet.pattern.code()).text(&inlet.name).u8(inlet.role.code());
    writer.u8(u8::from(inlet.is_observer)).u64(inlet.publishers).u64(inlet.received).u64(inlet.lost);
    write_optional_descriptor(inlet.message_type.as_ref(), writer)
}

fn read_inlet(reader: &mut Reader<'_>) -> Result<InletReport, WireError> {
    Ok(InletReport {
        id: reader.endpoint()?,
        pattern: reader.pattern()?,
        name: reader.text()?,
        role: read_role(reader)?,
        is_observer: reader.u8()? != 0,
        publishers: reader.u64()?,
        received: reader.u64()?,
        lost: reader.u64()?,
        message_type: read_optional_descriptor(reader)?,
    })
}
