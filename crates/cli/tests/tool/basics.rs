//! Publishing, receiving, domains, errors, the bench and the demo.

use crate::stage::{Scratch, Tool, json};

/// Starts a subscriber with these options, publishes these bytes as lines, and returns what the subscriber wrote.
fn crossing(options: &[&str], input: &[u8]) -> String {
    let scratch = Scratch::new();
    let subscriber = scratch.start(&[&["sub", "t"], options].concat());
    scratch.run(&["pub", "t", "--wait-subscribers", "1"], input).success();
    subscriber.finish().success()
}

#[test]
fn lines_arrive_as_lines() {
    assert_eq!(crossing(&["--count", "3"], b"one\ntwo\n\n"), "one\ntwo\n\n");
    assert_eq!(
        crossing(&["--until-end", "--reliable"], b"the last has no newline"),
        "the last has no newline\n"
    );
}

#[test]
fn messages_can_be_written_raw_in_hex_and_as_json() {
    assert_eq!(crossing(&["--count", "2", "--raw"], b"ab\ncd\n"), "abcd");
    assert_eq!(crossing(&["--count", "1", "--hex"], b"\x00\xffz\n"), "00ff7a\n");
    let lines = crossing(&["--count", "2", "--json"], b"hi\n\xff\n");
    let objects: Vec<serde_json::Value> = lines.lines().map(json).collect();
    let publisher = objects[0]["publisher"].clone();
    assert!(publisher.as_str().expect("it is text").parse::<tidepost::EndpointId>().is_ok(), "{publisher}");
    let object = |mut object: serde_json::Value| {
        object["lost"] = 0.into();
        object["publisher"] = publisher.clone();
        object
    };
    assert_eq!(objects[0], object(serde_json::json!({ "sequence": 0, "length": 2, "text": "hi" })));
    assert_eq!(objects[1], object(serde_json::json!({ "sequence": 1, "length": 1, "bytes": [255] })));
}

#[test]
fn a_count_ends_both_sides() {
    let scratch = Scratch::new();
    let subscriber = scratch.start(&["sub", "t", "--until-end"]);
    let arguments = ["pub", "t", "--wait-subscribers", "1", "--count", "2", "--rate", "200"];
    scratch.run(&arguments, b"1\n2\n3\n").success();
    assert_eq!(subscriber.finish().success(), "1\n2\n");
}

/// The fear: a publisher that is gone before anybody looks is waited for without end.
#[test]
fn a_publisher_with_nothing_to_say_ends_a_subscriber_all_the_same() {
    assert_eq!(crossing(&["--until-end"], b""), "");
}

#[test]
fn a_domain_keeps_to_itself() {
    let scratch = Scratch::new();
    let in_domain = |domain: &str, arguments: &[&str]| {
        let mut command = scratch.tool(arguments);
        command.env_remove("TIDEPOST_DIR").env("XDG_RUNTIME_DIR", &scratch.0).env("TIDEPOST_DOMAIN", domain);
        Tool::spawn(&mut command)
    };
    let (mine, other) = (
        in_domain("mine", &["sub", "t", "--until-end"]),
        in_domain("other", &["sub", "t", "--timeout", "2"]),
    );
    let mut publisher = in_domain("mine", &["pub", "t", "--wait-subscribers", "1"]);
    publisher.feed(b"only here\n".to_vec());
    assert_eq!(publisher.finish().success() + &mine.finish().success(), "only here\n");
    let other = other.finish();
    assert!(!other.status.success() && other.stdout.is_empty());
    let mut domains: Vec<_> = std::fs::read_dir(scratch.0.join("tidepost"))
        .expect("it was created")
        .map(|entry| entry.expect("it is readable").file_name())
        .collect();
    domains.sort();
    assert_eq!(domains, ["mine", "other"]);
}

/// The fear: a large file arrives damaged, or not whole.
#[test]
fn a_hundred_megabytes_arrive_as_they_were() {
    let scratch = Scratch::new();
    let (file, copy) = (scratch.0.join("file"), scratch.0.join("copy"));
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let words = (0..100_000_000 / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let bytes: Vec<u8> = words.chain([1, 2, 3]).collect();
    std::fs::write(&file, &bytes).expect("there is room");
    for chunk in ["4096", "64k", "1m"] {
        let mut subscriber = scratch.tool(&["sub", "t", "--raw", "--until-end", "--reliable"]);
        let output = std::fs::File::create(&copy).expect("there is room");
        let subscriber = Tool::spawn(subscriber.stdout(output));
        let path = file.to_string_lossy();
        scratch
            .run(&["pub", "t", "--wait-subscribers", "1", "--file", &path, "--chunk", chunk], b"")
            .success();
        subscriber.finish().success();
        assert!(std::fs::read(&copy).expect("it was written") == bytes, "in chunks of {chunk}");
    }
}

/// Lines of many lengths, some beyond a slot, with bytes that are no text.
fn twenty_megabytes() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity(21_000_000);
    while bytes.len() < 20_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = (state >> 33) % 3000;
        bytes.extend((0..length).map(|index| ((state >> 20) ^ index) as u8 | 0x10));
        bytes.push(b'\n');
    }
    bytes
}

/// The fear: a pipe through two processes is no pipe.
#[test]
fn a_file_that_is_piped_through_arrives_byte_for_byte() {
    let scratch = Scratch::new();
    let subscriber = scratch.start(&["sub", "t", "--until-end", "--reliable"]);
    let bytes = twenty_megabytes();
    scratch.run(&["pub", "t", "--wait-subscribers", "1"], &bytes).success();
    let received = subscriber.finish();
    assert!(received.status.success() && received.stderr.is_empty(), "{}", received.stderr);
    assert!(received.stdout == bytes, "{} B of {}", received.stdout.len(), bytes.len());
}

#[test]
fn two_reliable_subscribers_get_every_line() {
    let scratch = Scratch::new();
    let start = || scratch.start(&["sub", "t", "--until-end", "--reliable"]);
    let subscribers = [start(), start()];
    let lines: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    scratch.run(&["pub", "t", "--wait-subscribers", "2"], lines.as_bytes()).success();
    for subscriber in subscribers {
        assert!(subscriber.finish().success() == lines, "every line arrives, once and in order");
    }
}

fn refused(arguments: &[&str]) -> String {
    let output = Scratch::new().run(arguments, b"x\n");
    assert!(!output.status.success(), "it must fail");
    output.stderr
}

#[test]
fn what_makes_no_sense_is_told_apart_from_what_fails() {
    let scratch = Scratch::new();
    for arguments in
        [&["nonsense"][..], &["sub"], &["sub", "t", "--raw", "--hex"], &["push", "q", "--depth", "x"]]
    {
        let outcome = scratch.run(arguments, b"");
        assert_eq!(
            (outcome.status.code(), outcome.stdout.len()),
            (Some(2), 0),
            "{arguments:?}: {}",
            outcome.stderr
        );
    }
    assert_eq!(scratch.run(&["sub", "t", "--timeout", "0"], b"").status.code(), Some(1));
    let help = scratch.run(&["--help"], b"").success();
    assert!(help.contains("Exit status:"), "{help}");
}

#[test]
fn errors_name_the_object_and_the_remedy() {
    assert!(refused(&["sub", "t", "--timeout", "0.1"]).contains("nothing came on `t` for 0.1 s"));
    let nobody = refused(&["pub", "t", "--wait-subscribers", "1", "--wait-timeout", "0.1"]);
    assert!(nobody.contains("topic `t` has 0 of 1 counterparts"), "{nobody}");
    assert!(refused(&["sub", ""]).contains("give at least one character"));
    assert!(refused(&["sub", "t", "--raw", "--fields"]).contains("cannot be used with"));
    assert!(refused(&["pub", "t", "--history", "5000"]).contains("history is 5000, and must be in 0..=4096"));
    assert!(refused(&["pub", "t", "--file", "/no/such/file"]).contains("/no/such/file"));
    assert!(refused(&["pub", "t", "--rate", "0"]).contains("above 0"));
    assert!(refused(&["bench", "latency", "--sizes", "57"]).contains("choose among"));
}

#[test]
fn awkward_arguments_and_readers_that_leave_are_no_panics() {
    use std::os::unix::ffi::OsStringExt;
    let scratch = Scratch::new();
    let file = scratch.0.join(std::ffi::OsString::from_vec(b"not-\xff-utf8".to_vec()));
    std::fs::write(&file, "abc").expect("there is room");
    assert!(
        refused(&["pub", "t", "--file", "f", "--chunk", "99999999999g"]).contains("more than any memory")
    );
    let subscriber = scratch.start(&["sub", "t", "--until-end"]);
    let mut publisher = scratch.tool(&["pub", "t", "--wait-subscribers", "1", "--chunk", "100g", "--file"]);
    Tool::spawn(publisher.arg(&file)).finish().success();
    assert_eq!(subscriber.finish().success(), "abc\n");
    for arguments in [
        &["demo"][..],
        &["ls"],
        &["bench", "latency", "--quick", "--sizes", "56"],
        &["bench", "connect", "--quick"],
    ] {
        let (reader, writer) = std::io::pipe().expect("there are descriptors");
        drop(reader);
        Tool::spawn(scratch.tool(arguments).stdout(writer)).finish().success();
    }
    let endless = scratch.run(&["demo", "--file", "/dev/zero"], b"");
    assert!(endless.stderr.contains("no regular file"));
}

#[test]
fn the_bench_writes_json() {
    for measure in ["latency", "throughput"] {
        let output =
            Scratch::new().run(&["bench", measure, "--quick", "--sizes", "56,4k", "--json", "--kernel"], b"");
        let report = json(&output.success());
        let rows = report[0]["rows"].as_array().expect("it has rows");
        let engines: Vec<&str> = rows.iter().filter_map(|row| row["engine"].as_str()).collect();
        for engine in ["ring", "tidepost", "pipe", "unix"] {
            assert_eq!(engines.iter().filter(|of| **of == engine).count(), 2, "{engine} in {engines:?}");
        }
        assert!(rows.iter().all(|row| row["ratio"]["median"].as_f64().is_some_and(|ratio| ratio > 0.0)));
    }
}

#[test]
fn the_bench_measures_sleeping_receivers() {
    let output = Scratch::new().run(&["bench", "latency", "--blocking", "--quick", "--json"], b"");
    let report = json(&output.success());
    assert_eq!(report[0]["rows"].as_array().map(Vec::len), Some(2), "the limit and Tidepost");
}

#[test]
fn the_demo_checks_every_byte_of_a_file() {
    let scratch = Scratch::new();
    let file = scratch.0.join("picture");
    std::fs::write(&file, vec![7; 100_001]).expect("there is room");
    let output = scratch.run(&["demo", "--file", &file.to_string_lossy()], b"");
    let said = output.success();
    for part in [
        "picture (97.7 KiB)",
        "was killed (SIGKILL)",
        "subscriber 2  received",
        "saw all 120 frames",
        "Unix socket",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let empty = scratch.0.join("empty");
    std::fs::write(&empty, "").expect("there is room");
    let output = scratch.run(&["demo", "--file", &empty.to_string_lossy()], b"");
    assert!(output.stderr.contains("choose a file with something in it"));
}

/// The fear: a command that needs another program, and does not say which.
#[test]
fn the_gateway_beside_the_tool_is_run_and_missed() {
    let alone = std::env::temp_dir().join(format!("tidepost-beside-{}", std::process::id()));
    std::fs::create_dir_all(&alone).expect("the directory for temporary files is writable");
    let tool = alone.join("tidepost");
    std::fs::copy(env!("CARGO_BIN_EXE_tidepost"), &tool).expect("the tool was built");
    let run = || {
        let mut command = std::process::Command::new(&tool);
        command
            .args(["--dir", "/some/domain", "gateway", "--listen", "tcp/127.0.0.1:0"])
            .env("PATH", "/nowhere");
        command.output().expect("it can be started")
    };
    let missed = run();
    let said = crate::stage::text(&missed.stderr);
    assert!(
        missed.status.code() == Some(1) && said.contains("cargo build --release --package tidepost-zenoh"),
        "{said}"
    );
    let beside = alone.join("tidepost-gateway");
    std::fs::write(&beside, "#!/bin/sh\necho \"$TIDEPOST_DIR $*\"\nexit 7\n").expect("it can be written");
    std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("it is ours");
    let found = run();
    assert_eq!(crate::stage::text(&found.stdout), "/some/domain --listen tcp/127.0.0.1:0\n");
    assert_eq!(found.status.code(), Some(7));
    std::fs::remove_dir_all(&alone).expect("it is ours");
}
