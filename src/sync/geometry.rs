//! The shape of a ring: how many slots, how far apart, and where in them the payload begins.

use crate::layout::ring::*;

/// The shape of a ring, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    slots: usize,
    stride: usize,
    payload_offset: usize,
}

/// Why three numbers are not the shape of a ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{slots} slots of {stride} B with the payload at {payload_offset} are no ring: {reason}")]
pub(crate) struct GeometryError {
    slots: u32,
    stride: u32,
    payload_offset: u32,
    reason: &'static str,
}

impl Geometry {
    /// A ring for messages of up to `payload_bytes` in the slot, aligned to `align`; about a mebibyte deep
    /// unless the depth is chosen. Payloads that a slot is not made for leave room for a header only.
    pub(crate) fn for_payload(payload_bytes: usize, align: usize, depth: Option<usize>) -> Self {
        let inline_offset = align.max(INLINE_PAYLOAD_OFFSET);
        let payload_offset =
            if payload_bytes <= INLINE_BYTES_MAX { inline_offset } else { BODY_PAYLOAD_OFFSET };
        let in_slot = if payload_bytes <= BODY_BYTES_MAX { payload_bytes } else { 0 };
        let stride = (payload_offset + in_slot).next_multiple_of(STRIDE_ALIGN);
        let default_depth =
            if in_slot == 0 && payload_bytes > 0 { POOLED_SLOTS } else { RING_BYTES_TARGET / stride };
        let slots = depth.unwrap_or(default_depth).clamp(SLOTS_MIN, SLOTS_MAX).next_power_of_two();
        Self { slots, stride, payload_offset }
    }

    /// A ring too small for real use, with few enough states for a model checker.
    #[cfg(all(loom, test))]
    pub(crate) fn for_model(slots: usize) -> Self {
        Self { slots, stride: STRIDE_ALIGN, payload_offset: INLINE_PAYLOAD_OFFSET }
    }

    /// The shape that a peer claims for its ring.
    pub(crate) fn claimed(slots: u32, stride: u32, payload_offset: u32) -> Result<Self, GeometryError> {
        let refused = |reason| Err(GeometryError { slots, stride, payload_offset, reason });
        let shape =
            Self { slots: slots as usize, stride: stride as usize, payload_offset: payload_offset as usize };
        if !shape.slots.is_power_of_two() || !(SLOTS_MIN..=SLOTS_MAX).contains(&shape.slots) {
            return refused("the number of slots is a power of two from 8 to 8192");
        }
        if shape.stride == 0 || !shape.stride.is_multiple_of(STRIDE_ALIGN) || shape.stride > STRIDE_MAX {
            return refused("the stride is a multiple of 64 up to 65600");
        }
        let places = [8, 16, 32, 64];
        if !places.contains(&payload_offset) || shape.payload_offset > shape.stride {
            return refused("the payload is at 8, 16, 32 or 64, and in the slot");
        }
        Ok(shape)
    }

    /// Slots in the ring, a power of two.
    #[inline]
    pub(crate) fn slots(self) -> usize {
        self.slots
    }

    /// Bytes from one slot to the next.
    #[inline]
    pub(crate) fn stride(self) -> usize {
        self.stride
    }

    /// Bytes from a slot's word to its payload.
    #[inline]
    pub(crate) fn payload_offset(self) -> usize {
        self.payload_offset
    }

    /// The longest payload in bytes that fits into a slot.
    #[inline]
    pub(crate) fn capacity(self) -> usize {
        let room = self.stride - self.payload_offset;
        if self.payload_offset < BODY_PAYLOAD_OFFSET { room.min(INLINE_BYTES_MAX) } else { room }
    }

    /// The slot of a sequence number.
    #[inline]
    pub(crate) fn index(self, sequence: u64) -> usize {
        sequence as usize & (self.slots - 1)
    }

    /// The lap of a sequence number, from 1.
    #[inline]
    pub(crate) fn lap(self, sequence: u64) -> u64 {
        (sequence >> self.slots.trailing_zeros()) + 1
    }

    /// Bytes of the whole ring segment.
    pub(crate) fn segment_bytes(self) -> usize {
        SLOTS_OFFSET + self.slots * self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_messages_share_a_line_with_their_word() {
        let shape = Geometry::for_payload(56, 8, None);
        assert_eq!((shape.slots(), shape.stride(), shape.payload_offset()), (8192, 64, 8));
    }

    #[test]
    fn middle_sized_messages_lie_behind_a_header_and_large_ones_elsewhere() {
        let shape = Geometry::for_payload(65536, 8, None);
        assert_eq!((shape.slots(), shape.stride(), shape.capacity()), (16, 65600, 65536));
        let shape = Geometry::for_payload(65537, 8, None);
        assert_eq!((shape.slots(), shape.stride(), shape.capacity()), (64, 64, 0));
    }

    #[test]
    fn laps_count_from_one() {
        let shape = Geometry::for_payload(56, 8, Some(8));
        assert_eq!((shape.lap(0), shape.lap(7), shape.lap(8)), (1, 1, 2));
        assert_eq!((shape.index(7), shape.index(8)), (7, 0));
    }

    #[test]
    fn claims_that_are_no_ring_are_refused() {
        for (slots, stride, offset) in
            [(0, 64, 8), (9, 64, 8), (16384, 64, 8), (8, 0, 8), (8, 65, 8), (8, 64, 7), (8, 65664, 64)]
        {
            assert!(Geometry::claimed(slots, stride, offset).is_err(), "{slots} × {stride} at {offset}");
        }
    }

    proptest! {
        #[test]
        fn every_shape_of_ours_is_accepted_as_a_claim(
            payload in 0usize..1 << 18, align in 0u32..7, depth in proptest::option::of(0usize..20000),
        ) {
            let shape = Geometry::for_payload(payload, 1 << align, depth);
            let (slots, stride, offset) = (shape.slots(), shape.stride(), shape.payload_offset());
            prop_assert_eq!(Geometry::claimed(slots as u32, stride as u32, offset as u32), Ok(shape));
        }
    }
}
