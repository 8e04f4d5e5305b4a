//! The fear: a peer that writes what it likes into its own segments. Whatever stands in a ring, a cursor or the pins, the
//! other end goes on, or says what is wrong; it never reads elsewhere, panics, or waits for ever.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::layout::cursor::{CURSOR_GONE, CURSOR_UNSET};
use crate::layout::pool::CHUNKS_OFFSET;
use crate::layout::ring::{
    KIND_SHIFT, LAP_SHIFT, LENGTH_MASK, SLOT_INLINE, SLOT_POOLED, SLOTS_OFFSET, SlotHeader,
};
use crate::os::epoll::Wake;
use crate::segment::Proven;
use crate::sync::bell::Bell;
use crate::sync::cursor::CursorWords;
use crate::sync::door::Ordering;
use crate::sync::geometry::Geometry;
use crate::sync::pool::PoolMemory;
use crate::sync::readers::{Readers, Standing};
use crate::sync::ring::{CursorMemory, RingMemory};
use crate::sync::store_line::StoreWord;

const SLOTS: usize = 8;
const CHUNK_BYTES: usize = 4096;

/// What a slot says.
#[derive(Clone, Copy, Debug)]
struct Claim {
    word: u64,
    segment: u32,
    chunk: u32,
    length: u64,
}

/// Any number, or one that comes close to being right.
fn number(right: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    prop_oneof![4 => right, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn claim() -> impl Strategy<Value = Claim> {
    let plausible = (0u64..4, 0u64..4, number(0..300))
        .prop_map(|(lap, kind, length)| lap << LAP_SHIFT | kind << KIND_SHIFT | (length & LENGTH_MASK));
    let word = prop_oneof![6 => plausible, 1 => any::<u64>()];
    (word, number(0..2), number(0..3), number(0..5000)).prop_map(|(word, segment, chunk, length)| Claim {
        word,
        segment: segment as u32,
        chunk: chunk as u32,
        length,
    })
}

fn reading() -> impl Strategy<Value = Reading> {
    let loss = prop_oneof![Just(Loss::Nothing), Just(Loss::Oldest), Just(Loss::AllButNewest)];
    let lending = prop_oneof![Just(Lending::InPlace), Just(Lending::InCopies)];
    let extent = prop_oneof![
        Just(Extent::Exact(56)),
        Just(Extent::Exact(2000)),
        Just(Extent::Multiple(1)),
        Just(Extent::Multiple(8))
    ];
    let prefix = prop_oneof![Just(0usize), Just(8), Just(300)];
    let all = (loss, lending, extent, prefix, any::<bool>());
    all.prop_map(|(loss, lending, extent, prefix, may_be_bare)| Reading {
        loss,
        lending,
        extent,
        prefix,
        may_be_bare,
        is_settling: false,
    })
}

/// Where there is room for it, messages say whose they were.
fn relaying(prefix: usize) -> Option<Relaying> {
    Some(Relaying::new(prefix.checked_sub(40)?, Arc::default()))
}

/// A ring in which every slot says what it should not, tied to a reader that knows one pool segment; and where bytes of them
/// may be.
struct Garbled {
    attachment: Arc<Attachment>,
    /// Each with the longest message in it.
    places: [(Proven, usize); 2],
}

impl Garbled {
    fn new(geometry: Geometry, claims: &[Claim]) -> Self {
        let (ring, created) = RingMemory::create(geometry).expect("a ring fits into memory");
        for (index, claim) in claims.iter().enumerate() {
            let offset = SLOTS_OFFSET + index * geometry.stride();
            let place = created.segment.own_range(offset, size_of::<SlotHeader>(), 8).start();
            let Claim { word, segment, chunk, length } = *claim;
            let header = SlotHeader { word, segment, chunk, length, reserved: [0x5a; 5] };
            // SAFETY: a slot of our own ring, which nobody reads yet.
            unsafe { place.cast::<SlotHeader>().write(header) };
        }
        let (memory, pool) = PoolMemory::create(CHUNK_BYTES, 2).expect("two chunks fit into memory");
        let attachment = Arc::new(tie(ring));
        assert!(attachment.add_segment(0, memory));
        let slots = created.segment.own_range(SLOTS_OFFSET, geometry.slots() * geometry.stride(), 8);
        let chunks = pool.segment.own_range(CHUNKS_OFFSET, 2 * CHUNK_BYTES, 8);
        Self { attachment, places: [(slots, geometry.capacity()), (chunks, CHUNK_BYTES)] }
    }

    /// Whether these bytes lie where a message of the peer's may lie, or in a copy that is no longer than any.
    fn admits(&self, bytes: &[u8], is_copy: bool) -> bool {
        let range = bytes.as_ptr_range();
        let holds = |(place, longest): &(Proven, usize)| {
            let start = place.start().as_ptr().cast_const();
            start <= range.start && range.end <= start.wrapping_add(place.bytes()) && bytes.len() <= *longest
        };
        self.places.iter().any(holds) || (is_copy && bytes.len() <= CHUNK_BYTES)
    }
}

fn tie(ring: RingMemory) -> Attachment {
    let bell = Arc::new(Bell::create().expect("a bell fits into memory"));
    let eventfd = Arc::clone(Wake::new().expect("eventfds are left").descriptor());
    let line = bell.line().expect("lines are free");
    let publisher = bell.as_peer(eventfd).sleeper(line.number(), None).expect("the line exists");
    let (cursor, ..) = CursorMemory::create((4, 0), 0).expect("a cursor fits into memory");
    Attachment::new((ring, 0), cursor, publisher, 3, Arc::default(), Box::new(()))
}

/// Reads whatever is there, touches every byte, and holds what may be held; how many messages.
fn read_all(garbled: &Garbled, end: &mut ReceivingEnd, extent: Option<Extent>, is_copying: bool) -> usize {
    let (mut held, mut keepsake, mut count) = (Vec::new(), Keepsake::new(), 0);
    let check = |bytes: &[u8]| {
        assert!(garbled.admits(bytes, is_copying), "{} B at {:p}", bytes.len(), bytes.as_ptr());
        std::hint::black_box(bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    };
    for round in 0..64 {
        match end.poll(extent) {
            Ok(Poll::Ready) if round % 3 == 2 => {
                let mut batch = end.batch();
                while let Ok(Some(bytes)) = batch.next(extent) {
                    check(bytes);
                    count += 1;
                }
            }
            Ok(Poll::Ready) => {
                let lent = end.take().expect("it was found");
                check(lent.bytes());
                check(lent.prefix());
                count += 1;
                if let Keeping::Pinned(pinned) = lent.keep() {
                    held.push(pinned);
                }
                if let Ok(Poll::Ready) = end.poll(extent) {
                    assert!(end.take_into(&mut keepsake, round % 2 == 0));
                    count += 1;
                }
            }
            Ok(Poll::Nothing | Poll::End) | Err(_) => {}
        }
    }
    held.iter().for_each(|pinned| check(pinned.bytes()));
    assert!(garbled.admits(keepsake.bytes(), true));
    keepsake.detach();
    assert!(garbled.admits(keepsake.bytes(), true));
    count
}

/// What a sender has left is a copy of its newest message, or nothing.
fn copy_relic(garbled: &Garbled, extent: Extent) {
    if let Some(relic) = Relic::of(&garbled.attachment, extent) {
        assert!(relic.length() <= CHUNK_BYTES && extent.fits(relic.length() as u64));
        let mut copy = vec![0; relic.length() + 1];
        assert!(!relic.copy_to(&mut copy) && relic.copy_to(&mut copy[1..]));
    }
}

/// That messages which are in order are read here at all.
#[test]
fn what_is_in_order_is_read() {
    let geometry = Geometry::for_payload(248, 8, Some(SLOTS));
    let word = |kind: u64, length: u64| 1 << LAP_SHIFT | kind << KIND_SHIFT | length;
    let inline = Claim { word: word(SLOT_INLINE, 56), segment: 0, chunk: 0, length: 0 };
    let pooled = Claim { word: word(SLOT_POOLED, 0), segment: 0, chunk: 1, length: 2000 };
    for loss in [Loss::Nothing, Loss::Oldest] {
        let garbled = Garbled::new(geometry, &[inline, pooled, inline]);
        let reading = Reading {
            loss,
            lending: Lending::InPlace,
            extent: Extent::Multiple(8),
            prefix: 0,
            may_be_bare: false,
            is_settling: false,
        };
        let mut end = ReceivingEnd::new(Arc::clone(&garbled.attachment), geometry, 0, reading, None);
        assert_eq!(read_all(&garbled, &mut end, None, loss != Loss::Nothing), 3);
        let relic = Relic::of(&garbled.attachment, reading.extent).expect("there are three messages");
        assert_eq!((relic.sequence(), relic.length()), (2, 56));
    }
}

/// What is copied stays as it was taken, whatever its sender writes afterwards; what is lent in place does not, which shows that
/// the sender does write it.
#[test]
fn what_is_copied_stays_whatever_its_sender_writes() {
    let geometry = Geometry::for_payload(248, 8, Some(SLOTS));
    let word = |kind: u64, length: u64| 1 << LAP_SHIFT | kind << KIND_SHIFT | length;
    let inline = Claim { word: word(SLOT_INLINE, 200), segment: 0, chunk: 0, length: 0 };
    let pooled = Claim { word: word(SLOT_POOLED, 0), segment: 0, chunk: 1, length: 2000 };
    for (claim, lending) in
        [inline, pooled].into_iter().flat_map(|claim| [(claim, Lending::InPlace), (claim, Lending::InCopies)])
    {
        let garbled = Garbled::new(geometry, &[claim]);
        let reading = Reading {
            loss: Loss::Nothing,
            lending,
            extent: Extent::Multiple(1),
            prefix: 0,
            may_be_bare: false,
            is_settling: false,
        };
        let mut end = ReceivingEnd::new(Arc::clone(&garbled.attachment), geometry, 0, reading, None);
        assert_eq!(end.poll(None), Ok(Poll::Ready));
        let lent = end.take().expect("it was found");
        let (start, length) = (lent.bytes().as_ptr(), lent.bytes().len());
        let read = || {
            // SAFETY: the bytes that are lent; volatile, as they may change.
            let byte = |index| unsafe { start.add(index).read_volatile() };
            (0..length).map(byte).collect::<Vec<u8>>()
        };
        let before = read();
        let [(slots, _), (chunks, _)] = &garbled.places;
        let payload = geometry.payload_offset();
        for (place, from, count) in [(slots, payload, 200), (chunks, 0, 2 * CHUNK_BYTES)] {
            for index in from..from + count {
                // SAFETY: within memory of our own, as a sender that breaks the rules would write it.
                unsafe { place.start().add(index).write_volatile(0xee) };
            }
        }
        assert_eq!(before == read(), lending == Lending::InCopies, "{claim:?}, {lending:?}");
    }
}

#[test]
fn a_cursor_where_no_subscriber_moves_it_is_found_out() {
    let (before, tail) = (5, 9);
    for (value, is_sound) in [
        (5, true),
        (9, true),
        (CURSOR_UNSET, true),
        (CURSOR_GONE, true),
        (4, false),
        (10, false),
        (u64::MAX - 1, false),
    ] {
        let (cursor, ..) = CursorMemory::create((4, 0), 0).expect("a cursor fits into memory");
        cursor.cursor().store(value, Ordering::Relaxed);
        let mut readers = Readers::new();
        readers.admit(cursor, Standing::Reliable, before);
        let released = readers.look(tail).released;
        assert!((before..=tail).contains(&released), "cursor {value}");
        assert_eq!(readers.remove_violators().count() == 0, is_sound, "cursor {value}");
    }
}

proptest! {
    #[test]
    fn a_garbled_ring_is_read_without_harm(
        claims in proptest::collection::vec(claim(), SLOTS),
        reading in reading(),
        payload in prop_oneof![Just(56usize), Just(248), Just(2000)],
        start in 0u64..20,
        is_typed: bool,
    ) {
        let geometry = Geometry::for_payload(payload, 8, Some(SLOTS));
        let garbled = Garbled::new(geometry, &claims);
        let mut end = ReceivingEnd::new(Arc::clone(&garbled.attachment), geometry, start, reading, relaying(reading.prefix));
        let extent = is_typed.then_some(reading.extent);
        let is_copying = reading.lending == Lending::InCopies || reading.loss != Loss::Nothing;
        read_all(&garbled, &mut end, extent, is_copying);
        garbled.attachment.close();
        read_all(&garbled, &mut end, extent, is_copying);
        copy_relic(&garbled, reading.extent);
    }

    #[test]
    fn a_garbled_cursor_is_found_out_and_holds_nobody_up(
        words in proptest::collection::vec((number(0..40), number(0..5), number(0..40)), 1..30),
        standings in proptest::collection::vec(
            prop_oneof![Just(Standing::Reliable), Just(Standing::Droppable), Just(Standing::Observer)], 1..4),
        history in prop_oneof![Just(0usize), Just(3)],
        drops_oldest: bool,
    ) {
        let geometry = Geometry::for_payload(248, 8, Some(SLOTS));
        let (mut end, _ring) =
            SendingEnd::create(geometry, Retention { drops_oldest, history }, 4, StoreWord::alone()).expect("a ring fits into memory");
        let grown = end.grow(2000, PoolLimit::Usual(1 << 20)).expect("a few chunks fit into memory");
        prop_assert!(grown.is_some());
        end.activate();
        let mut readers = Readers::new();
        for standing in &standings {
            let (cursor, ..) = CursorMemory::create((4, 0), 0).expect("a cursor fits into memory");
            readers.admit(cursor, *standing, 0);
        }
        for (round, (cursor, used, pin)) in words.into_iter().enumerate() {
            for reader in readers.iter_mut() {
                reader.cursor().store(cursor, Ordering::Relaxed);
                reader.pins_used().store(used, Ordering::Relaxed);
                reader.pin(round % 4).store(pin, Ordering::Relaxed);
            }
            end.look(&mut readers);
            end.drop_oldest(&mut readers, 2000);
            let length = if round % 2 == 0 { 56 } else { 2000 };
            if end.prepare(length, Warmth::Any, Marking::Needed).is_ok() {
                end.loan_mut().fill(round as u8);
                end.commit();
            }
        }
        // Once those who broke the rules are gone, and the others with them, everything is free again.
        drop(readers.remove_violators().collect::<Vec<_>>());
        drop(readers.remove(|_| true).collect::<Vec<_>>());
        end.look(&mut readers);
        prop_assert!(end.prepare(56, Warmth::Any, Marking::Needless).is_ok());
        prop_assert!(end.prepare(2000, Warmth::Any, Marking::Needless).is_ok());
    }
}
