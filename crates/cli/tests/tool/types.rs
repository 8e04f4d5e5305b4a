//! Messages of any type, as the tool prints them.

use std::time::Duration;

use tidepost::{Message, Node, Overflow, Publisher};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::stage::{PATIENCE, Scratch, json, until};

#[derive(Clone, Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Position {
    latitude: f64,
    longitude: f64,
}

#[derive(Clone, Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Buoy {
    position: Position,
    waves: [f32; 3],
    number: i32,
}

fn buoy(number: i32) -> Buoy {
    Buoy { position: Position { latitude: 54.5, longitude: -7.25 }, waves: [0.5, 1.0, 1.5], number }
}

const BUOY: &str = "position.latitude=54.5 position.longitude=-7.25 waves=[0.5, 1.0, 1.5] number=-3";

fn publisher<T: tidepost::Payload + ?Sized>(node: &Node) -> Publisher<T> {
    node.topic("t").publisher(Overflow::Block).expect("the topic is ours")
}

/// What `sub` prints of messages that this process publishes.
fn printed<T: tidepost::Payload + ?Sized>(options: &[&str], messages: &[&T]) -> String {
    let scratch = Scratch::new();
    let node = scratch.node("typed");
    let mut publisher = publisher::<T>(&node);
    let subscriber = scratch.start(&[&["sub", "t", "--until-end", "--reliable"], options].concat());
    publisher.wait_for_subscribers(1, PATIENCE).expect("the subscriber comes");
    messages.iter().for_each(|message| publisher.send(message).expect("a blocking send succeeds"));
    drop(publisher);
    subscriber.finish().success()
}

#[test]
fn a_struct_is_printed_field_by_field() {
    assert_eq!(printed(&[], &[&buoy(-3), &buoy(4)]), format!("{BUOY}\n{}\n", BUOY.replace("=-3", "=4")));
}

#[test]
fn numbers_arrays_and_slices_are_printed() {
    assert_eq!(printed(&[], &[&7u64, &u64::MAX]), "7\n18446744073709551615\n");
    assert_eq!(printed(&[], &[&[1.0f64, -2.5, 1e300]]), "[1.0, -2.5, 1e300]\n");
    assert_eq!(printed::<[u16]>(&[], &[&[1, 2], &[]]), "[1, 2]\n[]\n");
    let buoys = format!("[{{{BUOY}}}, {{{BUOY}}}]\n");
    assert_eq!(printed::<[Buoy]>(&[], &[&[buoy(-3), buoy(-3)]]), buoys);
}

#[test]
fn the_format_can_be_chosen_whatever_the_type() {
    assert_eq!(printed(&["--hex"], &[&0x0102u16.to_be()]), "0102\n");
    assert_eq!(printed(&["--raw"], &[&u16::from_ne_bytes(*b"ab")]), "ab");
    assert_eq!(printed::<[u8]>(&["--fields"], &[b"ab"]), "[97, 98]\n");
    let object = json(&printed(&["--json"], &[&buoy(-3)]));
    assert_eq!(object["fields"]["position"]["longitude"], -7.25);
    assert_eq!(object["fields"]["waves"], serde_json::json!([0.5, 1.0, 1.5]));
    assert_eq!((&object["fields"]["number"], &object["length"]), (&(-3).into(), &32.into()));
    assert_eq!(object.get("text"), None);
}

#[test]
fn publishers_of_different_types_are_told_apart() {
    let scratch = Scratch::new();
    let node = scratch.node("typed");
    let mut subscriber = scratch.start(&["sub", "t", "--reliable"]);
    let (mut numbers, mut texts) = (publisher::<u64>(&node), publisher::<[u8]>(&node));
    numbers.wait_for_subscribers(1, PATIENCE).expect("the subscriber comes");
    texts.wait_for_subscribers(1, PATIENCE).expect("the subscriber comes");
    numbers.send(&5).expect("a blocking send succeeds");
    assert_eq!(subscriber.line(), "5");
    texts.send(b"five").expect("a blocking send succeeds");
    assert_eq!(subscriber.line(), "five");
}

#[test]
fn a_subscriber_of_another_type_is_told_of() {
    let scratch = Scratch::new();
    let node = scratch.node("typed");
    let subscriber = node.topic::<u64>("t").subscriber().expect("nobody is there yet");
    let output = scratch.run(&["pub", "t"], b"");
    let difference = "turned this topic down: node `typed`: name differs: ours u8, theirs u64";
    assert!(output.stderr.contains(difference), "{}", output.stderr);
    output.success();
    let refusal = until("the refusal", || subscriber.refusals().into_iter().next());
    assert_eq!(refusal.reason, "name differs: ours u64, theirs u8");
}

#[test]
fn a_message_tells_when_it_was_sent_if_the_publisher_says_so() {
    let scratch = Scratch::new();
    let mut subscriber = scratch.start(&["sub", "t", "--json", "--until-end"]);
    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the epoch is over");
    scratch.run(&["pub", "t", "--timestamps", "--wait-subscribers", "1"], b"now\n").success();
    let after = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the epoch is over");
    let stamp = json(&subscriber.line())["timestamp_ns"].as_u64().expect("it is a number");
    assert!((before..=after).contains(&Duration::from_nanos(stamp)), "{before:?} {stamp} {after:?}");
    subscriber.finish().success();
}
