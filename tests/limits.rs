//! The fear: `docs/limits.md` promises a limit that the code does not keep, or an error that nobody gets.

use std::path::{Path, PathBuf};

use tidepost::{
    EndpointError, Field, HoldError, Node, Overflow, SendError, Topic, TopicError, TypeDescriptor,
};

const PAGE: &str = include_str!("../docs/limits.md");

/// Where the code says a number, and how the page says it.
const NUMBERS: [(&str, &str, &str); 44] = [
    ("src/layout/ring.rs", "SLOTS_MIN: usize = 8;", "power of two from 8 |"),
    ("src/layout/ring.rs", "SLOTS_MAX: usize = 8192;", "| 1 – 8,192;"),
    ("src/layout/ring.rs", "RING_BYTES_TARGET: usize = 1 << 20;", "what fits into 1 MiB"),
    ("src/layout/ring.rs", "POOLED_SLOTS: usize = 64;", "64 if messages are too long for slots"),
    ("src/layout/ring.rs", "INLINE_BYTES_MAX: usize = 1024;", "held | 1,024;"),
    ("src/layout/ring.rs", "BODY_BYTES_MAX: usize = 65536;", "and 65,536 in any case"),
    ("src/layout/ring.rs", "SLOTS_OFFSET: usize = 4096;", "4,096 + slots × stride"),
    ("src/layout/pool.rs", "CHUNKS_MAX: u32 = 64;", "chunks of a pool segment | 64;"),
    ("src/layout/pool.rs", "CHUNK_ALIGN: usize = 4096;", "multiples of 4,096 B"),
    ("src/layout/cursor.rs", "PINS_MAX: u32 = 65536;", "1 – 65,535 | 64"),
    ("src/layout/bell.rs", "BELL_BYTES: usize = 1 << 18;", "| 262,144 for its bell"),
    ("src/layout/bell.rs", "BELL_LINES: u32 = 2048;", "segments of 2,047;"),
    ("src/layout/bell.rs", "SLEEPERS_MAX: u32 = 1024;", "each further 1,024 subscribers"),
    ("src/sync/bell/memory.rs", "PARTS_MAX: u32 = 4096;", "believe 4,096 segments"),
    ("src/message/topic.rs", "SLICE_SLOT_BYTES: usize = 248;", "| 0 – 65,536 | 248 |"),
    (
        "src/message/topic.rs",
        "HISTORY_MAX: usize = SLOTS_MAX / 2;",
        "| 0 – 4,096; the ring gets twice as many",
    ),
    ("src/message/topic.rs", "LATEST_SLOTS: usize = 8;", "8 under `Latest`"),
    ("src/message/topic.rs", "POOL_LIMIT: usize = 64 << 20;", "| 64 MiB, or two messages"),
    ("src/message/service/mod.rs", "DEPTH: usize = 64;", "from 8 | 64 | `ServiceError::Option`"),
    ("src/message/service/mod.rs", "IN_FLIGHT: u32 = 1024;", "| 1 – 65,536 | 1,024 | `ServiceError"),
    ("src/message/service/core.rs", "PARTS_AHEAD: u32 = 64;", "what its client has taken | 64 |"),
    ("src/message/queue/builder.rs", "DEPTH: usize = 1024;", "policy drops | 1,024 |"),
    ("src/message/queue/builder.rs", "DEPTH_MAX: usize = 1 << 24;", "| 0 – 16,777,216;"),
    ("src/message/queue/builder.rs", "CREDIT: u32 = 256;", "| 1 – 8,192 | 256;"),
    ("src/message/queue/builder.rs", "CREDIT_GRANTED: usize = 1024;", "256; 1,024, or what fits"),
    ("src/message/table/mod.rs", "CAPACITY: u32 = 1024;", "| 1 – 1,048,576 | 1,024 |"),
    ("src/layout/board.rs", "TABLE_KEY_BYTES_MAX: u32 = 1024;", "0 – 1,024 B; 0 – 1,048,576 B"),
    ("src/layout/board.rs", "SIGNAL_IDS_MAX: u32 = 65536;", "| 1 – 65,536 | 1 |"),
    ("src/node/domain/claim.rs", "EPOCH_MAX: u64 = (1 << 22) - 1;", "| 4,194,303 |"),
    ("src/sync/board/table/reader.rs", "{ 1_000 };", "in one call | 1,000 |"),
    ("src/message/wait_set/core.rs", "FEW: usize = 16;", "up to 16 endpoints,"),
    ("src/message/wait_set/core.rs", "WAITS_UNASKED: usize = 64;", "after 64 waits or a"),
    ("src/message/prefix.rs", "HEADER_BYTES_MAX: u64 = 256;", "bytes of a header | 0 – 256"),
    ("src/message/inlet.rs", "START_MAX: u64 = 1 << 50;", "| 2^50:"),
    ("src/message/sender/room.rs", "NOTICE: Duration = Duration::from_millis(2);", "new memory | 2 ms |"),
    ("src/message/event.rs", "EVENTS_MAX: usize = 1024;", "| 1,024 | the oldest go, and `Event::Missed`"),
    (
        "src/message/refusals.rs",
        "REFUSALS_MAX: usize = 64;",
        "refusals that are remembered, of an endpoint | 64 |",
    ),
    ("src/node/connection.rs", "WAITING_MAX: usize = 4096;", "frames that wait for a peer | 4,096 |"),
    ("src/node/connection.rs", "GREETING: Duration = Duration::from_secs(2);", "for 2 s each"),
    ("src/node/control/peers.rs", "STRANGERS_MAX: usize = 64;", "have not said who they are | 64,"),
    (
        "src/node/shared.rs",
        "SETTLE: Duration = Duration::from_millis(500);",
        "those who are there | 500 ms |",
    ),
    ("src/node/shared.rs", "LINGER: Duration = Duration::from_millis(200);", "a node that closes | 200 ms |"),
    ("src/node/wire/mod.rs", "FRAME_BYTES_MAX: usize = 64 << 10;", "bytes of a frame | 65,536 |"),
    ("src/os/socket.rs", "FRAME_DESCRIPTORS_MAX: usize = 4;", "on their way to a peer | 4;"),
];

#[test]
fn the_page_and_the_code_have_the_same_numbers() {
    for (path, constant, said) in NUMBERS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let code = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(code.contains(constant), "{path} says `{constant}` no more: does docs/limits.md?");
        assert!(PAGE.contains(said), "docs/limits.md does not say `{said}`, as {path} does");
    }
}

/// A private domain with a node in it, removed at the end.
struct Domain {
    path: PathBuf,
    node: Node,
}

impl Domain {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidepost-limits-{}-{name}", std::process::id()));
        let node = Node::builder().name(name).directory(&path).open().expect("the domain is ours");
        Self { path, node }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// That an option has this range, and the error says so.
fn refused(made: Result<(), TopicError>, name: &str, range: (u64, u64)) {
    match made {
        Err(TopicError::Option { option, least, most, .. }) => {
            assert_eq!((option, (least, most)), (name, range));
        }
        other => panic!("`{name}` out of range came to {other:?}"),
    }
}

#[test]
fn options_out_of_range_are_errors_that_name_the_range() {
    let domain = Domain::new("options");
    let topic: Topic<'_, [u8]> = domain.node.topic("t");
    let publisher = |topic: Topic<'_, [u8]>| topic.publisher(Overflow::Block).map(|_| ());
    let subscriber = |topic: Topic<'_, [u8]>| topic.subscriber().map(|_| ());
    for depth in [0, 8193] {
        refused(publisher(topic.clone().depth(depth)), "depth", (1, 8192));
    }
    refused(publisher(topic.clone().slot_bytes(65_537)), "slot bytes", (0, 65_536));
    refused(publisher(topic.clone().history(4097)), "history", (0, 4096));
    refused(publisher(topic.clone().header::<[u8; 257]>()), "header bytes", (0, 256));
    for samples in [0, 65_536] {
        refused(subscriber(topic.clone().hold_limit(samples)), "hold limit", (1, 65_535));
    }
    publisher(topic.clone().depth(8192).slot_bytes(8).history(4096).header::<[u8; 256]>())
        .expect("these are the limits");
    subscriber(topic.hold_limit(65_535)).expect("this is the limit");
}

#[test]
fn names_and_types_have_limits() {
    let domain = Domain::new("names");
    let subscribe = |name: &str| domain.node.topic::<u8>(name).subscriber().map(|_| ());
    subscribe(&"x".repeat(200)).expect("this is the limit");
    for name in ["", ".", "..", "a\nb", &"x".repeat(201), &"/".repeat(86)] {
        assert!(matches!(subscribe(name), Err(TopicError::Name(_))), "{name:?}");
    }
    let of = |fields: usize, align: u64| {
        let field = |number: usize| Field {
            name: format!("f{number}").into(),
            type_name: "u8".into(),
            offset: number as u64,
            size: 1,
        };
        TypeDescriptor { align, ..TypeDescriptor::of_struct::<u64>("many", (0..fields).map(field).collect()) }
    };
    let publish = |descriptor| {
        domain.node.topic_dyn("t").message_type(descriptor).publisher(Overflow::Block).map(|_| ())
    };
    publish(of(512, 64)).expect("these are the limits");
    let too_long = publish(of(513, 8));
    assert!(
        matches!(too_long, Err(TopicError::Endpoint { source: EndpointError::DescriptorTooLong { .. }, .. })),
        "{too_long:?}"
    );
    assert!(matches!(publish(of(1, 128)), Err(TopicError::Alignment { align: 128, .. })));
}

#[test]
fn messages_that_find_no_room_are_errors_and_held_samples_are_counted() {
    let domain = Domain::new("messages");
    let topic: Topic<'_, [u8]> = domain.node.topic("t");
    let mut publisher =
        topic.clone().depth(8).pool_limit(8192).publisher(Overflow::Fail).expect("the topic is ours");
    let mut subscriber = topic.hold_limit(1).subscriber().expect("the types agree");
    assert!(matches!(publisher.send(&[1; 8193]), Err(SendError::Full { needed: 8193, limit: 8192, .. })));
    publisher.send(&[1; 2000]).expect("there is room");
    publisher.send(&[2; 2000]).expect("there is room");
    let first = subscriber.recv().expect("it was sent").hold().expect("this is the limit");
    let second = subscriber.recv().expect("it was sent").hold();
    assert!(matches!(second, Err(HoldError::Limit { limit: 1, .. })), "{second:?}");
    drop(first);
    while publisher.send(&[3; 8]).is_ok() {}
    let small = subscriber.recv().expect("it was sent").hold().expect("copies do not count");
    let another = subscriber.recv().expect("it was sent").hold().expect("copies do not count");
    assert_eq!((&*small, &*another), (&[3; 8][..], &[3; 8][..]));
}
