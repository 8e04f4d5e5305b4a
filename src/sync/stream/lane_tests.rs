//! The fear of a lane: a consumer that writes what it likes into its notes, and a producer that does so into its slots and
//! terms. The other end goes on, or says what is wrong; nobody else's items are touched.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::layout::cursor::NOTE_SHIFT;
use crate::layout::ring::{
    KIND_SHIFT, LAP_SHIFT, LENGTH_WITHDRAWING, LENGTH_WITHDRAWN, SLOT_AGAIN, SLOTS_OFFSET, SlotHeader,
    TERMS_FENCED, TERMS_RENDEZVOUS, TERMS_TAKEN_BACK,
};
use crate::os::epoll::Wake;
use crate::sync::acks::{self, AckWords, Acks, Outcome};
use crate::sync::bell::Bell;
use crate::sync::cursor::CursorWords;
use crate::sync::door::Ordering;
use crate::sync::geometry::Geometry;
use crate::sync::ring::{CursorMemory, RingMemory};
use crate::sync::store_line::StoreWord;

const SLOTS: usize = 8;
const WINDOW: u64 = 6;

fn geometry() -> Geometry {
    Geometry::for_payload(56, 8, Some(SLOTS))
}

fn words() -> CursorMemory {
    CursorMemory::create((1, SLOTS as u32), 0).expect("a cursor fits into memory").0
}

/// Any number, or one that comes close to being right.
fn number(right: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    prop_oneof![6 => right, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn lane() -> SendingEnd {
    let retention = Retention { drops_oldest: false, history: 0 };
    let (mut end, _ring) =
        SendingEnd::create(geometry(), retention, 1, StoreWord::alone()).expect("a ring fits into memory");
    end.restrict(WINDOW);
    end
}

fn fill(end: &mut SendingEnd) {
    while end.space() > 0 {
        let item = [end.tail(); 7].map(u64::to_ne_bytes).concat();
        assert!(end.try_send_inline(&item, Marking::Needless));
    }
}

#[test]
fn what_is_settled_in_order_and_out_of_order_is_released() {
    let (mut end, words) = (lane(), words());
    let (mut acks, mut returned) = (Acks::new(SLOTS), Vec::new());
    fill(&mut end);
    acks::settle(&words, SLOTS, 1, Outcome::Acknowledged);
    acks::settle(&words, SLOTS, 4, Outcome::Returned);
    assert_eq!(acks.look(&words, end.tail(), &mut returned), Ok(true));
    assert_eq!((acks.released(), &*returned, acks.unsettled(end.tail())), (0, &[4][..], 5));
    acks::acknowledge(&words, SLOTS, 0, true);
    assert_eq!(words.cursor().load(Ordering::Relaxed), 2, "it follows over the note");
    assert_eq!(acks.look(&words, end.tail(), &mut returned), Ok(true));
    assert_eq!((acks.released(), acks.acknowledged(), returned.len()), (2, 2, 1));
    [2, 3].into_iter().for_each(|item| acks::acknowledge(&words, SLOTS, item, true));
    assert_eq!(acks.look(&words, end.tail(), &mut returned), Ok(true));
    assert_eq!((acks.released(), acks.acknowledged(), acks.unsettled(end.tail())), (5, 4, 1));
    end.release(acks.released());
    assert_eq!(end.space(), 5);
    acks::leave(&words, 6);
    assert_eq!((acks.left(&words, end.tail()), acks.open(&words, 0, end.tail()).count()), (Some(6), 1));
}

proptest! {
    #[test]
    fn a_garbled_consumer_settles_its_own_items_only(
        rounds in proptest::collection::vec(
            (number(0..30), number(0..10), number(0..30), proptest::collection::vec((number(0..30), 0u64..4), SLOTS)),
            1..40),
    ) {
        let (mut end, words) = (lane(), words());
        let (mut acks, mut returned) = (Acks::new(SLOTS), Vec::new());
        let mut before = 0;
        for (cursor, count, left, notes) in rounds {
            fill(&mut end);
            words.cursor().store(cursor, Ordering::Relaxed);
            words.returned().store(count, Ordering::Relaxed);
            words.left().store(left, Ordering::Relaxed);
            for (index, (item, what)) in notes.iter().enumerate() {
                let near = if item % 3 == 0 { before + index as u64 } else { *item };
                words.note(index).store(near << NOTE_SHIFT | what, Ordering::Relaxed);
            }
            let tail = end.tail();
            let Ok(_) = acks.look(&words, tail, &mut returned) else { break };
            prop_assert!(before <= acks.released() && acks.released() <= tail);
            before = acks.released();
            prop_assert!(acks.acknowledged() <= tail && acks.unsettled(tail) <= WINDOW);
            prop_assert!(acks.left(&words, tail).is_none_or(|left| (before..=tail).contains(&left)));
            let open: Vec<u64> = acks.open(&words, 0, tail).collect();
            prop_assert!(open.iter().all(|item| (before..tail).contains(item)), "{open:?}");
            // What is taken back is still there to be read, and is itself.
            for item in open.iter().chain(returned.iter().filter(|item| **item >= before)) {
                prop_assert_eq!(end.sent(*item), Some(&*[*item; 7].map(u64::to_ne_bytes).concat()));
            }
            end.release(acks.released());
            prop_assert!(end.space() <= WINDOW);
        }
        // Nothing is given back twice, and nothing that was never sent.
        prop_assert!(returned.iter().all(|item| *item < end.tail()));
        returned.sort_unstable();
        let count = returned.len();
        returned.dedup();
        prop_assert_eq!(count, returned.len());
    }

    #[test]
    fn a_garbled_lane_is_read_without_harm(
        slots in proptest::collection::vec((0u64..3, 0u64..4, number(0..60), any::<bool>()), SLOTS),
        terms in prop_oneof![Just(0), Just(TERMS_RENDEZVOUS), Just(TERMS_TAKEN_BACK), Just(TERMS_FENCED | TERMS_RENDEZVOUS), any::<u64>()],
        changes in proptest::collection::vec((0usize..SLOTS, prop_oneof![Just(LENGTH_WITHDRAWN), Just(LENGTH_WITHDRAWING)]), 0..4),
    ) {
        let (ring, created) = RingMemory::create(geometry()).expect("a ring fits into memory");
        let slot = |index: usize| {
            created.segment.own_range(SLOTS_OFFSET + index * geometry().stride(), size_of::<SlotHeader>(), 8)
        };
        for (index, (lap, kind, length, is_again)) in slots.iter().enumerate() {
            let again = if *is_again { SLOT_AGAIN } else { 0 };
            let word = lap << LAP_SHIFT | kind << KIND_SHIFT | (length & 0x1fff) | again;
            slot(index).word(0).store(word, Ordering::Relaxed);
        }
        changes.iter().for_each(|(index, word)| slot(*index).word(0).store(1 << LAP_SHIFT | word, Ordering::Relaxed));
        ring.terms().store(terms, Ordering::Relaxed);
        let attachment = Arc::new(tie(ring));
        let reading = Reading {
            loss: Loss::Nothing,
            lending: Lending::InPlace,
            extent: Extent::Exact(56),
            prefix: 0,
            is_settling: true,
            may_be_bare: false,
        };
        let mut end = ReceivingEnd::new(Arc::clone(&attachment), geometry(), 0, reading, None);
        let mut held = Vec::new();
        for round in 0..40 {
            if round == 30 {
                attachment.close();
            }
            match end.poll(Some(Extent::Exact(56))) {
                Ok(Poll::Ready) => {
                    prop_assert_eq!(end.take().expect("it was found").bytes().len(), 56);
                    match round % 4 {
                        0 => held.push(end.deliver()),
                        1 => prop_assert_ne!(end.give_back(), Settled::Inherited),
                        _ => prop_assert_ne!(end.acknowledge(), Settled::Inherited),
                    }
                }
                Ok(Poll::Nothing | Poll::End) => {}
                // It meets the same damage again: its owner drops it.
                Err(_) => break,
            }
        }
        drop(end);
        held.into_iter().for_each(|delivery| assert!(matches!(delivery.acknowledge(), Settled::Told | Settled::Late)));
        prop_assert!(attachment.figures().0 <= SLOTS as u64 * 3);
    }
}

fn tie(ring: RingMemory) -> Attachment {
    let bell = Arc::new(Bell::create().expect("a bell fits into memory"));
    let eventfd = Arc::clone(Wake::new().expect("eventfds are left").descriptor());
    let line = bell.line().expect("lines are free");
    let producer = bell.as_peer(eventfd).sleeper(line.number(), None).expect("the line exists");
    Attachment::new((ring, 0), words(), producer, 0, Arc::default(), Box::new(()))
}

/// How often this has been asked for decides nothing: a figure for people wraps rather than fails.
#[test]
fn asking_wraps() {
    let (ring, _created) = RingMemory::create(geometry()).expect("a ring fits into memory");
    ring.terms().store(TERMS_RENDEZVOUS, Ordering::Relaxed);
    let attachment = Arc::new(tie(ring));
    attachment.cursor.asked().store(u64::MAX, Ordering::Relaxed);
    let reading = Reading {
        loss: Loss::Nothing,
        lending: Lending::InPlace,
        extent: Extent::Exact(56),
        prefix: 0,
        is_settling: true,
        may_be_bare: false,
    };
    let mut end = ReceivingEnd::new(Arc::clone(&attachment), geometry(), 0, reading, None);
    assert_eq!(end.poll(None), Ok(Poll::Nothing));
    assert_eq!(attachment.cursor.asked().load(Ordering::Relaxed), 0);
}
