//! What a reader sees of one table's memory.

use super::estate::Estate;
use super::{KEY, VALUE};
use crate::message::board::View;
use crate::message::state::Base;
use crate::node::{EndpointId, Offer, Refusal, TypeDescriptor};
use crate::sync::board::{TableMemory, TableReader, TableShape};

/// The memory of one writer.
#[derive(Clone, Debug)]
pub(super) struct TableView {
    /// The outlet that offered it.
    pub(super) writer: EndpointId,
    pub(super) reader: TableReader<TableMemory>,
    /// Somebody passes on what a writer has left.
    pub(super) is_relayed: bool,
    /// The version before anything was written on it.
    blank: u64,
    /// The version that the reader has seen.
    pub(super) seen: u64,
}

impl TableView {
    /// The version of what is on it; 0 if nothing ever was.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        let version = self.reader.version();
        if version == self.blank { 0 } else { version }
    }
}

impl View for TableView {
    type Keeper = Estate;

    fn receive(offer: &Offer) -> Result<Self, Refusal> {
        let unusable = |reason: String| Refusal::Unusable { reason };
        let bytes_of = |name: &str| {
            let size = bytes_of(&offer.descriptor, name).and_then(|size| u32::try_from(size).ok());
            size.ok_or_else(|| unusable(format!("its entries have no {name}")))
        };
        let (key, value) = (bytes_of(KEY)?, bytes_of(VALUE)?);
        let shape = TableShape::claimed(offer.slots, key, value, offer.payload_offset);
        let shape = shape.map_err(|error| unusable(error.to_string()))?;
        if shape.stride() != offer.stride as usize {
            return Err(unusable(format!(
                "its cells have {} B, and {} were due",
                offer.stride,
                shape.stride()
            )));
        }
        let memory = TableMemory::receive(&offer.ring, shape).map_err(|error| unusable(error.to_string()))?;
        let base = Base::from_bits(offer.base);
        // Somebody only passes on what has been written.
        let is_relayed = base.is_relay();
        let blank = if is_relayed { 0 } else { base.version_after(0) };
        Ok(Self { writer: offer.outlet, is_relayed, reader: TableReader::new(memory), blank, seen: blank })
    }

    #[inline]
    fn has_news(&self) -> bool {
        self.reader.version() != self.seen
    }

    fn is_passed_on(&self) -> bool {
        self.is_relayed
    }
}

fn bytes_of(descriptor: &TypeDescriptor, name: &str) -> Option<u64> {
    descriptor.fields.iter().find(|field| field.name == name).map(|field| field.size)
}
