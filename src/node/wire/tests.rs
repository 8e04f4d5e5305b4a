use proptest::prelude::*;

use super::*;
use crate::node::domain::Pattern;
use crate::node::report::{EndpointRole, InletReport, OutletReport, ReaderReport};

fn endpoint(number: u64) -> EndpointId {
    EndpointId { node: NodeId::from_bits(0x0102), number }
}

fn null() -> Arc<OwnedFd> {
    Arc::new(std::fs::File::open("/dev/null").expect("it is everywhere").into())
}

fn channel() -> Channel {
    Channel::new(Pattern::Topic, "t").expect("it is a name")
}

fn descriptor() -> TypeDescriptor {
    let fields = vec![Field { name: "x".into(), type_name: "f64".into(), offset: 0, size: 8 }];
    TypeDescriptor { name: "Pose".into(), size: 8, align: 8, shape: Shape::One, fields }
}

fn report_items(outlet: EndpointId, inlet: EndpointId) -> Vec<ReportItem> {
    let report = OutletReport {
        id: outlet,
        pattern: Pattern::Queue,
        name: "t".to_owned(),
        role: EndpointRole::Keeper,
        message_type: Some(descriptor()),
        policy: "latest",
        sent: 3,
        waiting: 4,
        is_blocked: true,
        history: 5,
        readers: Vec::new(),
    };
    let reader = ReaderReport { id: inlet, is_reliable: true, lag: 1, lost: 2, is_blocking: false };
    let taker = InletReport {
        id: inlet,
        pattern: Pattern::Queue,
        name: "t".to_owned(),
        role: EndpointRole::Server,
        message_type: None,
        is_observer: true,
        publishers: 1,
        received: 2,
        lost: 3,
    };
    vec![ReportItem::Outlet(report), ReportItem::Reader(reader), ReportItem::Inlet(taker)]
}

fn join(outlet: EndpointId, inlet: EndpointId) -> Join {
    Join {
        outlet,
        inlet,
        cursor_offset: 128,
        hold_limit: 64,
        notes: 32,
        sleeper_line: 7,
        fences_for_all: true,
        is_observer: true,
        history: 9,
        generation: 1,
        cursor: Some(null()),
        eventfd: Some(null()),
    }
}

/// One frame of each kind.
fn frames() -> Vec<Frame> {
    let (outlet, inlet) = (endpoint(1), endpoint(2));
    let hello = Hello {
        version_min: 1,
        version: PROTOCOL_VERSION,
        node: NodeId::from_bits(3),
        name: "n".to_owned(),
        pid: 4,
        is_gateway: true,
        pidfd: null(),
        bell: null(),
        eventfd: null(),
    };
    let offer = Offer {
        outlet,
        channel: channel(),
        form: Form::Board,
        lane: Some(Lane { to: inlet, from: outlet, accepts: Some(descriptor()) }),
        descriptor: descriptor(),
        overflow: 1,
        is_stamped: true,
        is_relayed: true,
        header: Some(descriptor()),
        slots: 8,
        stride: 64,
        payload_offset: 8,
        sleeper_line: 6,
        generation: 1,
        base: 5,
        ring: null(),
    };
    let join = join(outlet, inlet);
    let items = report_items(outlet, inlet);
    let difference = Difference { what: "size".to_owned(), ours: "8".to_owned(), theirs: "4".to_owned() };
    vec![
        Frame::Hello(hello),
        Frame::Versions { version_min: 1, version: 2 },
        Frame::Seek { inlet, role: Role::Inlet, channel: channel() },
        Frame::Offer(Box::new(offer)),
        Frame::Done { endpoint: inlet },
        Frame::Join(join),
        Frame::Admit(Admission {
            outlet,
            inlet,
            start: 9,
            sleepers_line: 5,
            sleepers_bit: 3,
            segments: Vec::new(),
            ring: None,
        }),
        Frame::Refuse { outlet, inlet, refusal: Refusal::Type(difference) },
        Frame::Refuse { outlet, inlet, refusal: Refusal::Limit { what: "w".to_owned(), limit: 5 } },
        Frame::Refuse { outlet, inlet, refusal: Refusal::Unusable { reason: "r".to_owned() } },
        Frame::Segment(Segment { outlet, index: 1, chunks: 2, chunk_bytes: 4096, memory: null() }),
        Frame::OutletLeft { outlet },
        Frame::PairLeft { outlet, inlet },
        Frame::Taken { count: 2 },
        Frame::Listen { outlet, inlet, eventfd: null() },
        Frame::Bell { index: 1, memory: null() },
        Frame::Inspect,
        Frame::Ring(NewRing { outlet, generation: 1, start: 5, memory: null() }),
        Frame::Detached { outlet, inlet },
        Frame::Report { is_last: true, items },
    ]
}

fn descriptors_of(encoded: &Encoded) -> Vec<OwnedFd> {
    encoded
        .descriptors
        .iter()
        .map(|descriptor| descriptor.try_clone().expect("descriptors are left"))
        .collect()
}

fn again(frame: &Frame) -> Frame {
    let encoded = frame.encode().expect("it is short");
    Frame::decode(&encoded.bytes, descriptors_of(&encoded)).expect("our own frames are readable")
}

#[test]
fn every_frame_survives_the_way() {
    for frame in frames() {
        let once = frame.encode().expect("it is short");
        // A refusal is turned round on each reading.
        let twice = again(&again(&frame)).encode().expect("it is short");
        assert_eq!(once.bytes, twice.bytes);
        assert_eq!(once.descriptors.len(), twice.descriptors.len());
    }
}

#[test]
fn a_difference_is_told_from_the_readers_side() {
    let difference = Difference { what: "size".to_owned(), ours: "8".to_owned(), theirs: "4".to_owned() };
    let refuse =
        Frame::Refuse { outlet: endpoint(1), inlet: endpoint(2), refusal: Refusal::Type(difference) };
    let Frame::Refuse { refusal: Refusal::Type(read), .. } = again(&refuse) else { panic!("another frame") };
    assert_eq!((read.ours.as_str(), read.theirs.as_str()), ("4", "8"));
}

#[test]
fn frames_have_these_bytes() {
    let bytes = |frame: Frame| frame.encode().expect("it is short").bytes;
    assert_eq!(bytes(Frame::Taken { count: 2 }), [12, 0, 2, 0, 0, 0]);
    assert_eq!(bytes(Frame::Versions { version_min: 1, version: 2 }), [2, 0, 1, 0, 2, 0]);
    let mut seek = vec![3, 0, 2, 1];
    seek.extend([0; 14]);
    seek.extend([2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, b't']);
    let frame = Frame::Seek { inlet: endpoint(2), role: Role::Inlet, channel: channel() };
    assert_eq!(bytes(frame), seek);
}

#[test]
fn a_frame_cut_anywhere_is_an_error() {
    for frame in frames() {
        let encoded = frame.encode().expect("it is short");
        for end in 0..encoded.bytes.len() {
            assert!(Frame::decode(&encoded.bytes[..end], descriptors_of(&encoded)).is_err());
        }
    }
}

#[test]
fn descriptors_are_counted() {
    for frame in frames() {
        let encoded = frame.encode().expect("it is short");
        let mut descriptors = descriptors_of(&encoded);
        descriptors.push(null().try_clone().expect("descriptors are left"));
        assert!(Frame::decode(&encoded.bytes, descriptors).is_err());
        if !encoded.descriptors.is_empty() {
            assert!(Frame::decode(&encoded.bytes, Vec::new()).is_err());
        }
    }
}

#[test]
fn without_its_descriptors_a_frame_still_says_what_it_is_about() {
    for frame in frames() {
        let encoded = frame.encode().expect("it is short");
        let count = encoded.descriptors.len();
        let bereft = |arrived| Frame::decode_bereft(&encoded.bytes, arrived, &null());
        for arrived in 0..count {
            let (read, needed) = bereft(arrived).expect("they are all that is missing");
            assert_eq!(needed as usize, count);
            let read = again(&read).encode().expect("it is short");
            assert!(read.bytes == encoded.bytes || matches!(frame, Frame::Refuse { .. }));
        }
        // What was sent beyond that was too much.
        assert!(bereft(count).is_err() && bereft(count + 1).is_err());
    }
}

#[test]
fn a_description_beyond_a_frame_is_not_sent() {
    let field = Field { name: "n".repeat(1000).into(), type_name: "f64".into(), offset: 0, size: 8 };
    let mut frames = frames();
    let Some(Frame::Offer(offer)) = frames.get_mut(3) else { panic!("the fourth frame is an offer") };
    offer.descriptor.fields = vec![field; 100];
    assert!(frames[3].encode().is_none());
}

proptest! {
    #[test]
    fn garbage_is_an_error_and_nothing_worse(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0u16..20) {
        let _ = Frame::decode(&bytes, Vec::new());
        let mut with_kind = kind.to_le_bytes().to_vec();
        with_kind.extend(&bytes);
        let _ = Frame::decode(&with_kind, Vec::new());
        let _ = Frame::decode_bereft(&with_kind, 0, &null());
    }
}
