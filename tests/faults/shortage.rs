//! The fear: a process that has no memory left, or no descriptors, for what a peer goes on to send loses it without a word, or is
//! taken for a victim, and with it all that its peer sends.

use std::fs;
use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidepost::{
    CallError, Client, Consumer, Counterpart, Event, Node, Overflow, Producer, Publisher, ReceiveError,
    SegmentError, Server, StateReader, StateWriter, Subscriber,
};

use crate::ledger;
use crate::parts::{say, wait};
use crate::stage::{Actor, PATIENCE, Stage};

/// Bytes of address space that a starved process has left.
const LEFT: u64 = 16 << 20;
/// More than that.
pub const TOO_MANY: usize = 32 << 20;
const SENDER: u64 = 4;
/// Bytes that travel in a slot, for which no memory is needed.
const SHORT: usize = 100;
/// What a process runs out of, as its argument.
pub const MEMORY: u64 = 0;
pub const DESCRIPTORS: u64 = 1;

/// Leaves this process little more address space than it has.
pub fn starve() {
    leave_memory(LEFT);
}

fn leave_memory(left: u64) {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a process has a size");
    let kibibytes: u64 = size.trim().trim_end_matches(" kB").parse().expect("it is a number");
    let bytes = (kibibytes << 10) + left;
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::As, limit).expect("a limit can be lowered");
}

/// Leaves this process no descriptor: all below the limit are taken for good. One of a higher number that its control thread still has,
/// and closes, is none for others.
fn leave_no_descriptors() {
    let standard = std::io::stderr().as_raw_fd() as u64;
    let limit = Rlimit { current: Some(standard + 1), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).expect("a limit can be lowered");
}

pub fn run_out_of(what: u64) {
    if what == MEMORY { starve() } else { leave_no_descriptors() }
}

/// Whether this is what a process without memory, or without descriptors, is told.
fn is_due(source: &SegmentError, what: u64) -> bool {
    match source {
        SegmentError::Map { .. } => what == MEMORY,
        SegmentError::Descriptor { .. } => what == DESCRIPTORS,
        _ => false,
    }
}

/// Has no room for a long message of one topic, says so, and goes on with others.
pub fn fall_short(node: &Node, argument: u64) {
    let (what, is_observer) = (argument & 1, argument & 2 != 0);
    let topic = node.topic::<[u8]>("long");
    let topic = if is_observer { topic.observer() } else { topic };
    let mut long: Subscriber<[u8]> = topic.subscriber().expect("the types agree");
    let mut short: Subscriber<[u8]> = node.topic("short").subscriber().expect("the types agree");
    let next = |subscriber: &mut Subscriber<[u8]>| match subscriber.recv_timeout(PATIENCE) {
        Ok(sample) => Ok(ledger::read(&sample.expect("it was sent")).1),
        Err(error) => Err(error),
    };
    assert_eq!(next(&mut long), Ok(0));
    run_out_of(what);
    say("ready");
    wait();
    // What came before the message that there is no room for is received, if its publisher does not drop it.
    let mut last = 0;
    let error = loop {
        match next(&mut long) {
            Ok(number) => {
                assert!(number > last, "{number} after {last}");
                last = number;
            }
            Err(error) => break error,
        }
    };
    let ReceiveError::Segment { channel, publisher, source } = &error else { panic!("{error}") };
    assert!(is_due(source, what) && channel.name() == "long", "{error}");
    assert_eq!(&*publisher.node_name, "test");
    say(last);
    let is_told = |event: &Event| matches!(event, Event::Refused(of) if of.reason == source.to_string());
    assert!(std::iter::from_fn(|| long.try_event()).any(|event| is_told(&event)), "it is an event");
    assert_eq!(long.publishers(), 0);
    assert!(long.try_recv().expect("it is told once").is_none());
    assert_eq!(next(&mut short), Ok(1));
    say("goes on");
    wait();
    assert_eq!(next(&mut short), Ok(2));
    assert_eq!(node.violations(), (0, None));
    say("done");
    wait();
}

/// The subscriber that `publisher` refused, or was refused by.
fn refused_and_left(publisher: &mut Publisher<[u8]>) -> (String, Counterpart) {
    let (mut reason, mut left) = (None, None);
    while reason.is_none() || left.is_none() {
        match publisher.event_timeout(PATIENCE).expect("waiting succeeds").expect("it is an event") {
            Event::Refused(refused) => reason = Some(refused.reason),
            Event::Left(counterpart) => left = Some(counterpart),
            _ => {}
        }
    }
    reason.zip(left).expect("both have come")
}

#[test]
fn a_subscriber_without_room_for_growth_is_told_and_goes_on_with_others() {
    for (overflow, is_observer) in [
        (Overflow::Block, false),
        (Overflow::Block, true),
        (Overflow::Fail, false),
        (Overflow::DropOldest, false),
        (Overflow::Latest, false),
    ] {
        for what in [MEMORY, DESCRIPTORS] {
            let stage = Stage::new();
            let node = stage.node();
            let topic = node.topic::<[u8]>("long");
            let mut long = topic.publisher(overflow).expect("the topic is ours");
            let mut short: Publisher<[u8]> =
                node.topic("short").publisher(Overflow::Block).expect("the topic is ours");
            let mut starved = stage.start("falls-short", &(what + 2 * u64::from(is_observer)).to_string());
            long.wait_for_subscribers(1, PATIENCE).expect("it subscribes");
            short.wait_for_subscribers(1, PATIENCE).expect("it subscribes");
            long.send(&ledger::letter(500, SENDER, 0)).expect("there is room");
            starved.expect("ready");
            // What comes after the message that there is no room for needs further memory, too.
            for (number, length) in [(1, 500), (2, TOO_MANY), (3, 300_000), (4, 500)] {
                long.send(&ledger::letter(length, SENDER, number)).expect("there is room");
            }
            // Its node has been told of all of that before it looks.
            starved.go();
            let last: u64 = starved.hear().parse().expect("it is a number");
            let name = format!("{overflow:?}, {is_observer}, {what}");
            if overflow == Overflow::Latest {
                assert!(last == 1 || last == 4, "{name}: {last}");
            } else {
                assert_eq!(last, 1, "{name}");
            }
            let (reason, left) = refused_and_left(&mut long);
            let due =
                if what == MEMORY { "cannot map a pool segment" } else { "no descriptor is left for a pool" };
            assert!(reason.contains(due) && left.pid == starved.pid(), "{name}: {reason}, {left}");
            // Nobody is waited for any more, and the other topic is what it was.
            for number in 5..200 {
                long.send_timeout(&ledger::letter(500, SENDER, number), PATIENCE)
                    .expect("nobody is in the way");
            }
            short.send(&ledger::letter(SHORT, SENDER, 1)).expect("there is room");
            starved.expect("goes on");
            starved.go();
            short.send(&ledger::letter(SHORT, SENDER, 2)).expect("there is room");
            starved.expect("done");
            assert_eq!(node.violations(), (0, None), "{name}");
        }
    }
}

/// Both ends are in this process, which has room for one mapping of a long message and not for two.
pub fn fall_short_alone(node: &Node) {
    // Of two long messages, whatever the processor's cache has room for.
    let alone = node.topic::<[u8]>("alone").pool_limit(TOO_MANY + (4 << 20));
    let mut publisher = alone.publisher(Overflow::Block).expect("the topic is ours");
    let mut subscriber: Subscriber<[u8]> = node.topic("alone").subscriber().expect("the types agree");
    let mut other: Subscriber<[u8]> = node.topic("another").subscriber().expect("the types agree");
    let mut another: Publisher<[u8]> =
        node.topic("another").publisher(Overflow::Block).expect("the topic is ours");
    publisher.send(&ledger::letter(500, SENDER, 0)).expect("there is room");
    assert_eq!(ledger::read(&subscriber.recv().expect("it was sent")), (SENDER, 0));
    // A pool segment has two chunks then.
    let letter = ledger::letter(TOO_MANY / 2, SENDER, 1);
    leave_memory(TOO_MANY as u64 + LEFT);
    publisher.send(&letter).expect("there is room for this");
    let error = subscriber.recv().map(|sample| sample.len()).expect_err("there is no room");
    let is_due = matches!(&error, ReceiveError::Segment { source: SegmentError::Map { .. }, .. });
    assert!(is_due, "{error}");
    let (reason, _) = refused_and_left(&mut publisher);
    assert!(reason.contains("cannot map a pool segment"), "{reason}");
    assert_eq!(publisher.subscribers(), 0);
    another.send(&ledger::letter(500, SENDER, 2)).expect("there is room");
    assert_eq!(ledger::read(&other.recv().expect("it was sent")), (SENDER, 2));
    assert_eq!(node.violations(), (0, None));
    say("done");
}

#[test]
fn within_one_process_it_is_told_as_well() {
    let stage = Stage::new();
    stage.start("falls-short-alone", "").expect("done");
}

/// What a service answers to a request: as many bytes as that says.
fn answer_for(request: &[u8]) -> Vec<u8> {
    let length = request.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    vec![7; length as usize]
}

fn client(node: &Node) -> Client<[u8], [u8]> {
    let mut client = node.service("bytes").client().expect("the types agree");
    client.wait_for_servers(1, PATIENCE).expect("it is there");
    client
}

/// Calls for an answer that there is no room for.
pub fn call_for_too_much(node: &Node, what: u64) {
    let mut client = client(node);
    let length = |bytes: u64| bytes.to_le_bytes();
    assert_eq!(client.call(&length(500), PATIENCE).expect("it is short").len(), 500);
    run_out_of(what);
    let error = client.call(&length(TOO_MANY as u64), PATIENCE).map(|answer| answer.len());
    let is_told = matches!(&error, Err(CallError::Segment { source, .. }) if is_due(source, what));
    assert!(is_told, "{error:?}");
    let error = client.call(&length(1), PATIENCE).map(|answer| answer.len());
    let Err(CallError::NoServer { refused, .. }) = &error else { panic!("{error:?}") };
    assert!(!refused.is_empty(), "it says why");
    say("told");
    wait();
}

#[test]
fn a_client_without_room_for_an_answer_is_told() {
    for what in [MEMORY, DESCRIPTORS] {
        let stage = Stage::new();
        let node = stage.node();
        let mut server: Server<[u8], [u8]> = node.service("bytes").server().expect("the types agree");
        let handle = server.handle();
        let serving = std::thread::spawn(move || server.serve(|request| Ok::<_, &str>(answer_for(request))));
        stage.start("short-client", &what.to_string()).expect("told");
        // It serves others as before.
        let elsewhere = stage.node();
        let answer = client(&elsewhere).call(&9u64.to_le_bytes(), PATIENCE).map(|answer| answer.len());
        assert_eq!(answer.expect("it is short"), 9);
        handle.cancel();
        serving.join().expect("it does not panic").expect("nothing went wrong");
        assert_eq!(node.violations(), (0, None));
    }
}

/// Serves, without room for long requests.
pub fn serve_too_much(node: &Node, what: u64) {
    let mut server: Server<[u8], [u8]> = node.service("bytes").server().expect("the types agree");
    say("serves");
    let mut served = 0;
    let ended = server.serve(|_: &[u8]| {
        served += 1;
        if served == 1 {
            run_out_of(what);
        }
        Ok::<_, &str>(vec![served])
    });
    panic!("it was told to end: {ended:?}");
}

#[test]
fn a_server_without_room_for_a_request_serves_others() {
    for what in [MEMORY, DESCRIPTORS] {
        let stage = Stage::new();
        let (here, there) = (stage.node(), stage.node());
        let mut starved = stage.start("short-server", &what.to_string());
        starved.expect("serves");
        let (mut demanding, mut modest) = (client(&here), client(&there));
        let served = demanding.call(&[1; 500], PATIENCE).map(|answer| answer.to_vec());
        assert_eq!(served.expect("it serves"), [1]);
        let error = demanding.call(&vec![1; TOO_MANY], PATIENCE).map(|answer| answer.to_vec());
        assert!(matches!(error, Err(CallError::ServerLost { .. })), "{error:?}");
        let served = modest.call(&[1; SHORT], PATIENCE).map(|answer| answer.to_vec());
        assert_eq!(served.expect("it serves on"), [2]);
        let error = demanding.call(&[1], PATIENCE).map(|answer| answer.to_vec());
        let Err(CallError::NoServer { refused, .. }) = &error else { panic!("{error:?}") };
        assert!(refused.iter().any(|refused| refused.reason.contains("raise the")), "{error:?}");
        assert_eq!((here.violations(), there.violations()), ((0, None), (0, None)));
    }
}

/// Takes items until there is no room for one, and says which it acknowledged.
pub fn take_too_much(node: &Node, what: u64) {
    let mut consumer: Consumer<[u8]> = node.queue("bytes").consumer().expect("the types agree");
    let item = consumer.recv().expect("it was given");
    assert_eq!(ledger::read(&item), (SENDER, 0));
    item.ack().expect("it is ours");
    run_out_of(what);
    say("ready");
    let error = loop {
        match consumer.recv() {
            Ok(item) => item.ack().expect("it is ours"),
            Err(error) => break error,
        }
    };
    let is_told = matches!(&error, ReceiveError::Segment { source, .. } if is_due(source, what));
    assert!(is_told, "{error}");
    say("told");
    wait();
}

#[test]
fn an_item_that_a_consumer_has_no_room_for_goes_to_another() {
    for what in [MEMORY, DESCRIPTORS] {
        let stage = Stage::new();
        let node = stage.node();
        let mut producer: Producer<[u8]> =
            node.queue("bytes").producer(Overflow::Block).expect("the types agree");
        let mut starved = stage.start("short-consumer", &what.to_string());
        producer.wait_for_consumers(1, PATIENCE).expect("it takes");
        producer.push(&ledger::letter(500, SENDER, 0)).expect("there is room");
        starved.expect("ready");
        producer.push(&ledger::letter(TOO_MANY, SENDER, 1)).expect("there is room");
        starved.expect("told");
        let there = stage.node();
        let mut consumer: Consumer<[u8]> = there.queue("bytes").consumer().expect("the types agree");
        let item = consumer.recv_timeout(PATIENCE).expect("receiving succeeds").expect("it comes here");
        assert_eq!((ledger::read(&item), item.len()), ((SENDER, 1), TOO_MANY));
        item.ack().expect("it is ours");
        assert_eq!(node.violations(), (0, None));
    }
}

/// Reads a state until there is no room for a value.
pub fn read_too_much(node: &Node, what: u64) {
    let mut reader: StateReader<[u8]> = node.state("bytes").reader().expect("the types agree");
    let value = reader.wait(PATIENCE).expect("reading succeeds").expect("it was set");
    assert_eq!(ledger::read(&value), (SENDER, 0));
    run_out_of(what);
    say("ready");
    let error = reader.changed(PATIENCE).map(|value| value.map(|value| value.len()));
    let is_told = matches!(&error, Err(ReceiveError::Segment { source, .. }) if is_due(source, what));
    assert!(is_told, "{error:?}");
    // What it has read it still has.
    let value = reader.read().expect("it is told once").expect("it is known");
    assert_eq!(ledger::read(&value), (SENDER, 0));
    say("told");
    wait();
}

#[test]
fn a_reader_without_room_for_a_value_is_told() {
    for what in [MEMORY, DESCRIPTORS] {
        let stage = Stage::new();
        let (node, there) = (stage.node(), stage.node());
        let mut writer: StateWriter<[u8]> = node.state("bytes").writer().expect("it is ours");
        let mut reader: StateReader<[u8]> = there.state("bytes").reader().expect("the types agree");
        writer.set(&ledger::letter(500, SENDER, 0)).expect("there is room");
        let mut starved: Actor = stage.start("short-reader", &what.to_string());
        starved.expect("ready");
        writer.set(&ledger::letter(TOO_MANY, SENDER, 1)).expect("there is room");
        starved.expect("told");
        let value = reader.wait(PATIENCE).expect("reading succeeds").expect("it was set");
        assert_eq!((ledger::read(&value), value.len()), ((SENDER, 1), TOO_MANY));
        assert_eq!(node.violations(), (0, None));
    }
}
