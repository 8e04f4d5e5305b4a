//! The tool as its users meet it: separate processes, their output, their errors.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A private directory with a domain in it, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidepost-tool-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("the directory for temporary files is writable");
        Self(path)
    }

    fn tool(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidepost"));
        command.args(arguments).env("TIDEPOST_DIR", self.0.join("domain"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.tool(arguments).spawn().expect("processes can be started")
    }

    /// Runs to the end with this on standard input.
    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.start(arguments);
        // One that ends before it reads has its reasons, which are in the output.
        let _ = child.stdin.take().expect("it was asked for").write_all(input);
        child.wait_with_output().expect("it is our child")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn output_of(child: Child) -> String {
    let output = child.wait_with_output().expect("it is our child");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Starts a subscriber with these options, publishes these bytes as lines, and returns what the subscriber wrote.
fn crossing(options: &[&str], input: &[u8]) -> String {
    let scratch = Scratch::new();
    let subscriber = scratch.start(&[&["sub", "t"], options].concat());
    let published = scratch.run(&["pub", "t", "--wait-subscribers", "1"], input);
    assert!(published.status.success(), "{}", text(&published.stderr));
    output_of(subscriber)
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
    let json = crossing(&["--count", "2", "--json"], b"hi\n\xff\n");
    let objects: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert_eq!(objects[0], serde_json::json!({ "sequence": 0, "length": 2, "text": "hi" }));
    assert_eq!(objects[1], serde_json::json!({ "sequence": 1, "length": 1, "bytes": [255] }));
}

#[test]
fn a_count_ends_both_sides() {
    let scratch = Scratch::new();
    let subscriber = scratch.start(&["sub", "t", "--until-end"]);
    let arguments = ["pub", "t", "--wait-subscribers", "1", "--count", "2", "--rate", "200"];
    assert!(scratch.run(&arguments, b"1\n2\n3\n").status.success());
    assert_eq!(output_of(subscriber), "1\n2\n");
}

#[test]
fn a_domain_keeps_to_itself() {
    let scratch = Scratch::new();
    let in_domain = |domain: &str, arguments: &[&str]| {
        let mut command = scratch.tool(arguments);
        command.env_remove("TIDEPOST_DIR").env("XDG_RUNTIME_DIR", &scratch.0).env("TIDEPOST_DOMAIN", domain);
        command.spawn().expect("processes can be started")
    };
    let (mine, other) = (
        in_domain("mine", &["sub", "t", "--until-end"]),
        in_domain("other", &["sub", "t", "--timeout", "2"]),
    );
    let mut publisher = in_domain("mine", &["pub", "t", "--wait-subscribers", "1"]);
    publisher.stdin.take().expect("it was asked for").write_all(b"only here\n").expect("the tool reads");
    assert_eq!(output_of(publisher) + &output_of(mine), "only here\n");
    let other = other.wait_with_output().expect("it is our child");
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
        let subscriber = scratch
            .tool(&["sub", "t", "--raw", "--until-end"])
            .stdout(std::fs::File::create(&copy).expect("there is room"))
            .spawn()
            .expect("processes can be started");
        let path = file.to_string_lossy();
        let published =
            scratch.run(&["pub", "t", "--wait-subscribers", "1", "--file", &path, "--chunk", chunk], b"");
        assert!(published.status.success(), "{}", text(&published.stderr));
        output_of(subscriber);
        assert!(std::fs::read(&copy).expect("it was written") == bytes, "in chunks of {chunk}");
    }
}

#[test]
fn two_subscribers_get_the_same() {
    let scratch = Scratch::new();
    let subscribers =
        [scratch.start(&["sub", "t", "--until-end"]), scratch.start(&["sub", "t", "--until-end"])];
    let lines: String = (0..10_000).map(|number| format!("{number}\n")).collect();
    assert!(scratch.run(&["pub", "t", "--wait-subscribers", "2"], lines.as_bytes()).status.success());
    subscribers.into_iter().for_each(|subscriber| assert_eq!(output_of(subscriber), lines));
}

fn refused(arguments: &[&str]) -> String {
    let output = Scratch::new().run(arguments, b"x\n");
    assert!(!output.status.success(), "it must fail");
    text(&output.stderr)
}

#[test]
fn errors_name_the_object_and_the_remedy() {
    assert!(refused(&["sub", "t", "--timeout", "0.1"]).contains("nothing came on `t` for 0.1 s"));
    let nobody = refused(&["pub", "t", "--wait-subscribers", "1", "--wait-timeout", "0.1"]);
    assert!(nobody.contains("topic `t` has 0 of 1 subscribers"), "{nobody}");
    assert!(refused(&["sub", ""]).contains("give at least one character"));
    assert!(refused(&["pub", "t", "--file", "/no/such/file"]).contains("/no/such/file"));
    assert!(refused(&["pub", "t", "--rate", "0"]).contains("above 0"));
    assert!(refused(&["bench", "latency", "--sizes", "57"]).contains("choose among"));
}

#[test]
fn a_topic_of_another_type_is_refused_with_the_difference() {
    let scratch = Scratch::new();
    let node = tidepost::Node::builder().name("typed").directory(scratch.0.join("domain")).open();
    let node = node.expect("the domain is ours");
    let _publisher = node.topic::<u64>("t").publisher(tidepost::Overflow::Block).expect("the topic is ours");
    let output = scratch.run(&["sub", "t", "--timeout", "5"], b"");
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains("name differs: ours u8, theirs u64"), "{error}");
}

#[test]
fn a_publisher_of_another_type_that_comes_later_is_told_of() {
    let scratch = Scratch::new();
    let mut subscriber = scratch.start(&["sub", "t", "--timeout", "60"]);
    while !scratch.0.join("domain/topics/t").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let node = tidepost::Node::builder().name("typed").directory(scratch.0.join("domain")).open();
    let node = node.expect("the domain is ours");
    let publisher = node.topic::<u64>("t").publisher(tidepost::Overflow::Block).expect("the topic is ours");
    let mut heard = String::new();
    let stderr = subscriber.stderr.take().expect("it was asked for");
    std::io::BufReader::new(stderr).read_line(&mut heard).expect("it is text");
    assert!(heard.contains("not heard: node `typed`: name differs: ours u8, theirs u64"), "{heard}");
    while publisher.refusals().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(publisher.refusals()[0].reason, "name differs: ours u64, theirs u8");
    subscriber.kill().expect("it is our child");
    subscriber.wait().expect("it is our child");
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
    assert!(publisher.arg(&file).output().expect("processes can be started").status.success());
    assert_eq!(output_of(subscriber), "abc\n");
    let mut demo = scratch.start(&["demo"]);
    drop(demo.stdout.take());
    let output = demo.wait_with_output().expect("it is our child");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let endless = scratch.run(&["demo", "--file", "/dev/zero"], b"");
    assert!(text(&endless.stderr).contains("no regular file"));
}

#[test]
fn the_bench_writes_json() {
    for measure in ["latency", "throughput"] {
        let output =
            Scratch::new().run(&["bench", measure, "--quick", "--sizes", "56,4k", "--json", "--kernel"], b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
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
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(report[0]["rows"].as_array().map(Vec::len), Some(2), "the limit and Tidepost");
}

#[test]
fn the_demo_checks_every_byte_of_a_file() {
    let scratch = Scratch::new();
    let file = scratch.0.join("picture");
    std::fs::write(&file, vec![7; 100_001]).expect("there is room");
    let output = scratch.run(&["demo", "--file", &file.to_string_lossy()], b"");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
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
    assert!(text(&output.stderr).contains("choose a file with something in it"));
}
