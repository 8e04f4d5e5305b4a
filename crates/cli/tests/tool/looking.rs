//! The fear: who is held up cannot see by whom, and who looks becomes part of the trouble.

use rustix::process::Signal;
use serde_json::Value as Json;

use crate::observers::{MANY, stopped_meanwhile, wait_for_pair};
use crate::stage::{Scratch, Tool, json, until};

fn list(scratch: &Scratch, timeout: &str) -> Json {
    json(&scratch.run(&["ls", "--json", "--timeout", timeout], b"").success())
}

/// A publisher and a reliable subscriber that have exchanged three messages, and stay.
fn pair(scratch: &Scratch) -> (Tool, Tool) {
    let mut subscriber = scratch.start(&["sub", "t", "--reliable"]);
    let mut publisher = scratch.start(&["pub", "t", "--wait-subscribers", "1"]);
    publisher.feed_and_keep(b"1\n2\n3\n");
    assert_eq!([subscriber.line(), subscriber.line(), subscriber.line()], ["1", "2", "3"]);
    (publisher, subscriber)
}

#[test]
fn everybody_is_listed_but_who_looks() {
    let scratch = Scratch::new();
    let (publisher, subscriber) = pair(&scratch);
    let find = |census: Json| (census["topics"][0]["subscribers"][0]["received"] == 3).then_some(census);
    let census = until("the subscriber to say what it received", || find(list(&scratch, "60")));
    let nodes = census["nodes"].as_array().expect("it is a list");
    let names: Vec<&str> = nodes.iter().filter_map(|node| node["name"].as_str()).collect();
    assert_eq!(names, ["tidepost-pub", "tidepost-sub"]);
    assert_eq!(nodes[1]["pid"], subscriber.pid());
    assert!(nodes[1]["command"].as_str().is_some_and(|line| line.ends_with("tidepost sub t --reliable")));
    assert!(nodes.iter().all(|node| node["answered"] == true));
    let topic = &census["topics"][0];
    let (sender, reader) = (&topic["publishers"][0], &topic["subscribers"][0]);
    assert_eq!(
        (&topic["name"], &sender["type"], &sender["policy"]),
        (&"t".into(), &"[u8]".into(), &"block".into())
    );
    assert_eq!(
        (&sender["sent"], &sender["blocked"], &sender["pid"]),
        (&3.into(), &false.into(), &publisher.pid().into())
    );
    assert_eq!(
        (&reader["standing"], &reader["lost"], &reader["lag"]),
        (&"reliable".into(), &0.into(), &0.into())
    );
    assert_eq!(sender["readers"][0]["id"], reader["id"]);
    assert_eq!((&reader["type"], &reader["publishers"]), (&Json::Null, &1.into()));
}

#[test]
fn the_list_for_people_has_columns() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run(&["ls"], b"").success(), "nobody is here\n");
    let (publisher, subscriber) = pair(&scratch);
    let text = scratch.run(&["ls", "--timeout", "60"], b"").success();
    let lines: Vec<&str> = text.lines().collect();
    let [head, first, second, "", "topic t", columns, sender, reader] = lines[..] else { panic!("{text}") };
    let column = |line: &str, word: &str| line.find(word).unwrap_or_else(|| panic!("{word} in {text}"));
    assert_eq!(column(head, "NODE"), column(first, "tidepost-pub"));
    assert_eq!(column(head, "COMMAND"), column(second, env!("CARGO_BIN_EXE_tidepost")));
    assert_eq!(column(columns, "NODE"), column(sender, "tidepost-pub"));
    assert_eq!(column(columns, "TYPE"), column(reader, "any"));
    assert_eq!(column(columns, "POLICY"), column(sender, "block"));
    assert_eq!(column(columns, "SENT") + "SENT".len(), sender.len(), "numbers stand on the right");
    for (line, tool) in [(sender, &publisher), (reader, &subscriber)] {
        let pid = tool.pid().to_string();
        assert!(line.split_whitespace().any(|word| word == pid), "{pid} in {line}");
    }
}

/// The fear: the one that holds all the others up is the one that nothing is known of.
#[test]
fn who_blocks_is_named_even_if_it_is_stopped() {
    let scratch = Scratch::new();
    let subscriber = scratch.start(&["sub", "t", "--reliable", "--until-end"]);
    let mut publisher = scratch.start(&["pub", "t", "--wait-subscribers", "1"]);
    wait_for_pair(&scratch);
    subscriber.stop();
    let lines: String = (0..MANY).map(|number| format!("{number}\n")).collect();
    publisher.feed(lines.clone().into_bytes());
    let find = |census: Json| {
        let reader = &census["topics"][0]["publishers"][0]["readers"][0];
        (reader["blocking"] == true).then(|| census.clone())
    };
    let census = until("the publisher to wait", || find(list(&scratch, "0.2")));
    let topic = &census["topics"][0];
    let (sender, reader) = (&topic["publishers"][0], &topic["subscribers"][0]);
    assert_eq!((&sender["blocked"], &sender["readers"][0]["pid"]), (&true.into(), &subscriber.pid().into()));
    assert_eq!((&reader["node"], &reader["answered"]), (&"tidepost-sub".into(), &false.into()));
    assert_eq!(
        (&reader["received"], &reader["blocking"], &reader["lag"]),
        (&Json::Null, &true.into(), &sender["sent"])
    );
    let silent: Vec<&Json> =
        census["nodes"].as_array().expect("a list").iter().filter(|node| node["answered"] == false).collect();
    assert_eq!((silent.len(), &silent[0]["pid"]), (1, &subscriber.pid().into()));
    let text = scratch.run(&["ls", "--timeout", "0.2"], b"").success();
    let blocked = format!("blocked by tidepost-sub (process {})", subscriber.pid());
    assert!(text.contains(&blocked) && text.contains("blocking, no answer"), "{text}");
    subscriber.signal(Signal::CONT);
    publisher.finish().success();
    assert!(subscriber.finish().success() == lines, "nothing is lost");
}

#[test]
fn a_rate_is_measured_by_an_observer_whom_nobody_waits_for() {
    let scratch = Scratch::new();
    let mut tool = stopped_meanwhile(&scratch, &["hz", "t", "--json"]);
    let (mut messages, mut lost, mut bytes) = (0, 0, 0);
    until("everything to be counted", || {
        let line = json(&tool.line());
        messages += line["messages"].as_u64().expect("it is a number");
        lost += line["lost"].as_u64().expect("it is a number");
        bytes += line["bytes"].as_u64().expect("it is a number");
        if line["messages"] != 0 {
            let latency = &line["latency_ns"];
            let of = |name: &str| latency[name].as_u64().unwrap_or_else(|| panic!("{name} in {line}"));
            assert!(of("least") <= of("mean") && of("mean") <= of("most"), "{line}");
        }
        (messages + lost == MANY).then_some(())
    });
    assert!(messages > 0 && lost > 0, "{messages} messages, {lost} lost");
    assert!(bytes > messages, "the last numbers have five digits");
}

#[test]
fn a_rate_for_people_ends_after_so_many_lines() {
    let scratch = Scratch::new();
    let tool = scratch.start(&["hz", "t", "--count", "2", "--window", "5"]);
    let mut publisher =
        scratch.start(&["pub", "t", "--timestamps", "--rate", "500", "--wait-subscribers", "1"]);
    publisher.feed("x\n".repeat(10_000).into_bytes());
    let said = tool.finish().success();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines[1].contains("/s  lost 0  latency "), "{said}");
}
