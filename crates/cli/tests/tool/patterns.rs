//! `ls` of everything that is no topic. The fear: somebody is there who is not shown, or shown as what it is not.

use rustix::process::Signal;
use serde_json::Value as Json;

use crate::stage::{Scratch, Tool, json, until};

fn list(scratch: &Scratch) -> Json {
    json(&scratch.run(&["ls", "--json", "--timeout", "60"], b"").success())
}

/// The list, once it has this property.
fn list_with(scratch: &Scratch, has: impl Fn(&Json) -> bool) -> Json {
    until("the list to be complete", || Some(list(scratch)).filter(&has))
}

fn length(list: &Json) -> usize {
    list.as_array().map_or(0, Vec::len)
}

#[test]
fn who_is_alone_is_listed_all_the_same() {
    let scratch = Scratch::new();
    let mut pusher = scratch.start(&["push", "q", "--depth", "9"]);
    pusher.feed_and_keep(b"1\n2\n3\n");
    let _server = scratch.start(&["serve", "s", "--", "cat"]);
    let _waiter = scratch.start(&["wait", "g", "--ids", "3"]);
    let has_all = |census: &Json| {
        let producer = &census["queues"][0]["producers"][0];
        producer["waiting"] == 3 && length(&census["services"]) == 1 && length(&census["signals"]) == 1
    };
    let census = list_with(&scratch, has_all);
    let (queue, service) = (&census["queues"][0], &census["services"][0]);
    assert_eq!((&queue["name"], &service["name"]), (&"q".into(), &"s".into()));
    let producer = &queue["producers"][0];
    assert_eq!((&producer["policy"], &producer["type"]), (&"block".into(), &"[u8]".into()));
    assert_eq!((&producer["sent"], length(&producer["readers"])), (&0.into(), 0));
    let server = &service["servers"][0];
    assert_eq!((&server["takes"], &server["gives"]), (&"[u8]".into(), &"[u8]".into()));
    assert_eq!((&server["connected"], length(&service["clients"])), (&0.into(), 0));
    assert_eq!(census["signals"][0]["waiters"][0]["node"], "tidepost-wait");
    assert_eq!((length(&census["topics"]), length(&census["states"])), (0, 0));
}

#[test]
fn a_queue_shows_what_was_given_and_what_waits() {
    let scratch = Scratch::new();
    let mut pusher = scratch.start(&["push", "q"]);
    let pullers = [0; 2].map(|_| scratch.start(&["pull", "q", "--credit", "2"]));
    let is_complete = |census: &Json| length(&census["queues"][0]["producers"][0]["readers"]) == 2;
    list_with(&scratch, is_complete);
    pullers.each_ref().into_iter().for_each(Tool::stop);
    pusher.feed_and_keep(b"1\n2\n3\n4\n5\n6\n7\n");
    let waits = |census: &Json| census["queues"][0]["producers"][0]["waiting"] == 3;
    let list_now = || json(&scratch.run(&["ls", "--json", "--timeout", "0.2"], b"").success());
    let census = until("items to wait", || Some(list_now()).filter(waits));
    let producer = &census["queues"][0]["producers"][0];
    assert_eq!((&producer["sent"], length(&census["queues"][0]["producers"])), (&4.into(), 1));
    let consumers = census["queues"][0]["consumers"].as_array().expect("a list");
    assert!(
        consumers.iter().all(|consumer| consumer["lag"] == 2 && consumer["answered"] == false),
        "{census}"
    );
    // What a consumer had counts even when it has gone.
    pullers[0].signal(Signal::KILL);
    pullers[1].signal(Signal::CONT);
    let is_done = |census: &Json| census["queues"][0]["consumers"][0]["received"] == 7;
    let census = list_with(&scratch, is_done);
    let producer = &census["queues"][0]["producers"][0];
    assert_eq!((&producer["sent"], &producer["waiting"]), (&9.into(), &0.into()), "two were delivered again");
}

#[test]
fn a_service_shows_both_ends_once() {
    let scratch = Scratch::new();
    let node = scratch.node("typed");
    let mut server = node.service::<[u16; 3], f64>("s").server().expect("the service is ours");
    let other = scratch.node("asking");
    let mut calling = other.service::<[u16; 3], f64>("s").client().expect("the types agree");
    let call = calling.send(&[1, 2, 3], crate::stage::PATIENCE).expect("there is a server");
    server.recv().expect("a request comes").answer(&0.5).expect("there is room");
    assert_eq!(*calling.wait(call, crate::stage::PATIENCE).expect("it is answered"), 0.5);
    let is_complete = |census: &Json| census["services"][0]["servers"][0]["sent"] == 1;
    let census = list_with(&scratch, is_complete);
    let service = &census["services"][0];
    assert_eq!((length(&service["servers"]), length(&service["clients"])), (1, 1));
    let (server_end, client_end) = (&service["servers"][0], &service["clients"][0]);
    assert_eq!((&server_end["node"], &client_end["node"]), (&"typed".into(), &"asking".into()));
    for (end, takes, gives) in [(server_end, "[u16; 3]", "f64"), (client_end, "f64", "[u16; 3]")] {
        assert_eq!((&end["takes"], &end["gives"]), (&takes.into(), &gives.into()));
        assert_eq!((&end["sent"], &end["connected"], &end["answered"]), (&1.into(), &1.into(), &true.into()));
    }
}

#[test]
fn a_state_shows_who_keeps_what_was_left() {
    let scratch = Scratch::new();
    let mut watcher = scratch.start(&["watch", "level"]);
    let mut writer = scratch.start(&["set", "level"]);
    writer.feed_and_keep(b"1\n");
    assert_eq!(watcher.line(), "1");
    let census = list(&scratch);
    let state = &census["states"][0];
    assert_eq!((length(&state["writers"]), length(&state["keepers"])), (1, 0));
    assert_eq!(
        (&state["writers"][0]["sent"], &state["readers"][0]["node"]),
        (&1.into(), &"tidepost-watch".into())
    );
    writer.signal(Signal::KILL);
    writer.finish();
    let mut late = scratch.start(&["watch", "level"]);
    assert_eq!(late.line(), "1");
    let has_left = |census: &Json| length(&census["states"][0]["writers"]) == 0;
    let census = list_with(&scratch, has_left);
    let state = &census["states"][0];
    assert_eq!((length(&state["keepers"]), length(&state["readers"])), (1, 2));
    assert_eq!(state["keepers"][0]["pid"], watcher.pid());
}

#[test]
fn a_table_shows_its_writer_and_then_who_keeps_it() {
    let scratch = Scratch::new();
    let [writing, keeping, coming] = ["writing", "keeping", "coming"].map(|name| scratch.node(name));
    let mut writer = writing.table::<u32, f32>("boats").capacity(10).writer().expect("it is ours");
    let keeper = keeping.table::<u32, f32>("boats").reader().expect("the types agree");
    writer.wait_for_readers(1, crate::stage::PATIENCE).expect("it is there");
    (0..3).for_each(|key| writer.set(&key, &0.5).expect("there is room"));
    let is_complete = |census: &Json| census["tables"][0]["readers"][0]["publishers"] == 1;
    let census = list_with(&scratch, is_complete);
    let table = &census["tables"][0];
    assert_eq!((length(&census["tables"]), length(&table["writers"]), length(&table["keepers"])), (1, 1, 0));
    let end = &table["writers"][0];
    assert_eq!((&table["name"], &end["node"], &end["sent"]), (&"boats".into(), &"writing".into(), &3.into()));
    assert_eq!(end["readers"][0]["node"], "keeping");
    assert_eq!(table["readers"][0]["id"], keeper.id().to_string());
    drop(writer);
    until("it has left", || keeper.is_orphaned().then_some(()));
    let late = coming.table::<u32, f32>("boats").reader().expect("the types agree");
    until("it is passed on", || late.is_orphaned().then_some(()));
    let census = list_with(&scratch, |census| length(&census["tables"][0]["keepers"]) == 1);
    let table = &census["tables"][0];
    assert_eq!((length(&table["writers"]), length(&table["readers"])), (0, 2));
    assert_eq!(table["keepers"][0]["node"], "keeping");
}

#[test]
fn the_list_for_people_names_every_pattern() {
    let scratch = Scratch::new();
    let node = scratch.node("all");
    let _topic = node.topic::<u8>("tides").publisher(tidepost::Overflow::Latest).expect("it is ours");
    let _server = node.service::<u8, u16>("sum").server().expect("it is ours");
    let _client = node.service::<u8, u16>("sum").client().expect("it is ours");
    let mut producer = node.queue::<u8>("work").producer(tidepost::Overflow::Fail).expect("it is ours");
    let consumer = node.queue::<u8>("work").credit(1).consumer().expect("it is ours");
    (0..3).for_each(|number| producer.push(&number).expect("there is room"));
    let mut other = producer.try_clone().expect("it is ours");
    other.push(&3).expect("there is room");
    let mut writer = node.state::<f32>("level").writer().expect("it is ours");
    let _reader = node.state::<f32>("level").reader().expect("it is ours");
    writer.set(&1.0).expect("it is open");
    let _table = node.table::<u32, f32>("boats").writer().expect("it is ours");
    let _notifier = node.signal("gates").ids(5).notifier().expect("it is ours");
    let _waiter = node.signal("gates").ids(5).waiter().expect("it is ours");
    let text = scratch.run(&["ls", "--timeout", "60"], b"").success();
    // Each line with its words, one space apart and without those that are different each time.
    let pid = std::process::id().to_string();
    let simple: Vec<String> = text
        .lines()
        .map(|line| {
            let words = line
                .split_whitespace()
                .filter(|word| **word != *pid && !word.contains('.') && *word != "all");
            words.collect::<Vec<_>>().join(" ")
        })
        .skip(2)
        .collect();
    let head = "NODE PID ENDPOINT";
    let expected = [
        String::new(),
        "topic tides".to_owned(),
        format!("{head} TYPE POLICY SENT RECEIVED LOST LAG STATE"),
        "pub u8 latest 0".to_owned(),
        String::new(),
        "service sum".to_owned(),
        format!("{head} TAKES GIVES SENT RECEIVED LAG STATE"),
        "server u8 u16 0 0 0".to_owned(),
        "client u16 u8 0 0 0".to_owned(),
        String::new(),
        "queue work".to_owned(),
        format!("{head} TYPE POLICY SENT WAITING SETTLED HELD LOST STATE"),
        "producer u8 fail 1 2".to_owned(),
        "producer u8 fail 1 0".to_owned(),
        "consumer u8 0 2 0".to_owned(),
        String::new(),
        "state level".to_owned(),
        format!("{head} TYPE SENT RECEIVED STATE"),
        "writer f32 1".to_owned(),
        "reader f32 0".to_owned(),
        String::new(),
        "table boats".to_owned(),
        format!("{head} TYPE SENT RECEIVED STATE"),
        "writer entry 0".to_owned(),
        String::new(),
        "signal gates".to_owned(),
        format!("{head} IDS SENT RECEIVED STATE"),
        "notifier 5 0".to_owned(),
        "waiter 5 0".to_owned(),
    ];
    assert_eq!(simple, expected, "{text}");
    drop(consumer);
}
