//! A machine that dies as a whole – its network first, so that it says no good-bye, then its gateway and its programs at once – and one
//! that comes back.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use tidepost::{CallError, Event, Node, Overflow};

use crate::faults::{publisher, subscriber};
use crate::hosts::Hosts;
use crate::stage::{PATIENCE, until};

/// Where the program that the machine runs finds its domain.
const DOMAIN: &str = "TIDEPOST_TEST_MACHINE";

/// What runs on the machine, in a process of its own: it has an end of everything.
#[test]
#[ignore = "it is the program of another test"]
fn the_program_of_a_machine() {
    let Some(domain) = std::env::var_os(DOMAIN) else { return };
    let node = Node::builder().name("program").directory(domain).open().expect("the domain is ours");
    let mut server = node.service::<u64, u64>("s").server().expect("it is ours");
    let mut writer = node.state::<u64>("v").writer().expect("nobody else writes it");
    writer.set(&7).expect("there is room");
    let mut publisher = publisher(&node, "t");
    let mut consumer = node.queue::<u64>("q").consumer().expect("the types agree");
    let mut notifier = node.signal("n").ids(2).notifier().expect("it is ours");
    for number in 0.. {
        publisher.send(&number).expect("there is room");
        notifier.notify(1).expect("it is one of two");
        if let Some(item) = consumer.try_recv().expect("receiving succeeds") {
            item.ack().expect("it is ours");
        }
        match server.recv_timeout(Duration::from_millis(1)).expect("receiving succeeds") {
            // It is never answered.
            Some(request) if *request == u64::MAX => std::mem::forget(request),
            Some(request) => {
                let answer = *request + 1;
                request.answer(&answer).expect("whoever asked is there");
            }
            None => {}
        }
    }
}

/// How the machine starts it.
fn program(domain: &Path) -> String {
    let path = std::env::current_exe().expect("this runs");
    let (path, domain) = (path.display(), domain.display());
    format!("env {DOMAIN}={domain} {path} --exact machine::the_program_of_a_machine --ignored --nocapture")
}

#[test]
fn a_machine_that_is_killed_takes_nobody_with_it_and_comes_back() {
    let Some(mut hosts) = Hosts::start(&[]) else { return };
    let ([east, relay, _], west) = hosts.nodes();
    let run = format!("run-west {}", program(west));
    hosts.tell(&run);
    let mut values = east.state::<u64>("v").reader().expect("the types agree");
    let mut messages = subscriber(&east, "t");
    let mut waiter = east.signal("n").ids(2).waiter().expect("the numbers agree");
    let mut client = east.service::<u64, u64>("s").client().expect("the types agree");
    let mut producer = east.queue::<u64>("q").producer(Overflow::Block).expect("it is ours");
    client.wait_for_servers(1, PATIENCE).expect("the machine serves");
    // The third time, it is only looked whether everything has come back.
    for round in 0..3 {
        until("messages come", || messages.try_recv().expect("receiving succeeds").is_some());
        until("the value comes", || {
            values.wait(PATIENCE).expect("waiting succeeds").is_some_and(|value| *value == 7)
                && !values.is_orphaned()
        });
        assert!(waiter.wait_timeout(PATIENCE).expect("waiting succeeds").is_some());
        assert_eq!(*client.call(&1, PATIENCE).expect("it answers"), 2);
        if round == 2 {
            break;
        }
        let before = producer.counts().acknowledged;
        let mut missing: HashSet<u64> = (0..100).collect();
        (0..100).for_each(|item| producer.push(&item).expect("there is room"));
        until("items are acknowledged", || producer.counts().acknowledged > before);
        let call = client.send(&u64::MAX, PATIENCE).expect("it is asked");
        while messages.try_event().is_some() {}

        hosts.tell("kill-west");
        let start = Instant::now();
        let error = client.wait(call, PATIENCE).map(|answer| *answer).expect_err("nobody answers");
        assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
        println!("it is known to be unreachable after {:?}", start.elapsed());
        until("its publisher has left", || {
            // What has come is read, and that it has left is told after it.
            while messages.try_recv().expect("receiving succeeds").is_some() {}
            std::iter::from_fn(|| messages.try_event()).any(|event| matches!(event, Event::Left(_)))
        });
        until("its value has nobody who writes it", || values.is_orphaned());
        assert_eq!(values.read().expect("reading succeeds").map(|value| *value), Some(7));
        // The others go on.
        let mut beside = (publisher(&east, "beside"), subscriber(&relay, "beside"));
        crate::faults::each_arrives_once(&mut beside.0, &mut [&mut beside.1]);
        // Those that nobody has acknowledged come here, and none is lost with it.
        let due = 100 - (producer.counts().acknowledged - before);
        let mut consumer = east.queue::<u64>("q").consumer().expect("the types agree");
        until("all are acknowledged", || {
            if let Some(item) = consumer.recv_timeout(Duration::from_millis(20)).expect("receiving succeeds")
            {
                assert!(missing.remove(&*item), "each comes once");
                item.ack().expect("it is ours");
            }
            let counts = producer.counts();
            counts.backlog + counts.unacknowledged == 0
        });
        drop(consumer);
        assert_eq!(100 - missing.len() as u64, due);
        while waiter.try_wait().expect("waiting succeeds").is_some() {}
        // It comes back, and everything with it.
        hosts.tell("start-west");
        hosts.tell(&run);
        client.wait_for_servers(1, PATIENCE).expect("the machine serves again");
    }
}
