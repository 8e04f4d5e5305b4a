//! The fear: a figure that is quoted comes from a measurement that did not run, or that compared a thing with itself.
//!
//! Each command runs once with as little work as it can do. What the figures are is nobody's business here.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long one command may take on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the tool to its end.
fn run(arguments: &[&str]) -> Output {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_tidepost"));
    tool.arg("bench").args(arguments);
    run_command(tool)
}

/// Runs a command to its end, or ends it: with the tool go those whom it started.
fn run_command(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("processes can be started");
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let status = await_end(&mut child, &command);
    let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().expect("reading does not panic"));
    Output { status, stdout, stderr }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("it was asked for");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("pipes can be read");
        bytes
    })
}

fn await_end(child: &mut Child, command: &Command) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    panic!("{command:?} does not come to an end");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The rows that the command reports as JSON.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let report = report(arguments);
    let rows = report[0]["rows"].as_array().expect("it has rows");
    assert!(!rows.is_empty(), "{report}");
    rows.clone()
}

/// What the command reports as JSON.
fn report(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--quick", "--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

/// That exactly these were compared, in this figure, and the first of them is the measure of the others.
fn compared(arguments: &[&str], figure: &str, engines: &[&str]) {
    let rows = rows(arguments);
    are_compared(&rows, figure, engines);
    assert_eq!(rows[0]["ratio"]["median"], 1.0);
}

fn are_compared(rows: &[Value], figure: &str, engines: &[&str]) {
    let found: Vec<&str> = rows.iter().filter_map(|row| row["engine"].as_str()).collect();
    assert_eq!(found, engines);
    for row in rows {
        let positive = |value: &Value| value["median"].as_f64().is_some_and(|value| value > 0.0);
        assert!(positive(&row[figure]) && positive(&row["ratio"]), "{row}");
    }
    let first = &rows[0][figure]["median"];
    assert!(rows[1..].iter().any(|row| row[figure]["median"] != *first), "each was measured: {rows:?}");
}

#[test]
fn fanout_compares_a_publisher_with_one_subscriber_to_others() {
    compared(&["fanout"], "p50_ns", &["subscribers-1", "subscribers-8", "subscribers-64"]);
}

#[test]
fn many_compares_one_publisher_to_four() {
    compared(&["many"], "per_second", &["publishers-1", "publishers-4"]);
}

#[test]
fn policies_compares_block_to_those_that_lose_messages() {
    compared(&["policies"], "p50_ns", &["block", "drop-oldest", "latest"]);
}

#[test]
fn policies_takes_larger_messages_too() {
    let rows = rows(&["policies", "--sizes", "4k,64k"]);
    let sizes: Vec<u64> = rows.iter().filter_map(|row| row["bytes"].as_u64()).collect();
    assert_eq!(sizes, [4096, 4096, 4096, 65536, 65536, 65536]);
}

#[test]
fn patterns_compares_each_to_its_counterpart() {
    let report = report(&["patterns"]);
    let expected: [(&str, &[&str]); 6] = [
        ("p50_ns", &["topic", "call"]),
        ("per_second", &["topic", "queue"]),
        ("p50_ns", &["topic-drop-oldest", "topic-latest", "state"]),
        ("p50_ns", &["readers-1", "readers-8", "sleepers-8"]),
        ("p50_ns", &["topic-drop-oldest", "topic-latest", "signal"]),
        ("p50_ns", &["set-1", "set-1000"]),
    ];
    let parts = report.as_array().expect("it is a list");
    assert_eq!(parts.len(), expected.len(), "{report}");
    for (part, (figure, engines)) in parts.iter().zip(expected) {
        let rows = part["rows"].as_array().expect("it has rows");
        are_compared(rows, figure, engines);
        // All but the last are what that is measured against: the better of them.
        let measures = &rows[..engines.len() - 1];
        assert!(measures.iter().any(|row| row["ratio"]["median"] == 1.0), "{part}");
    }
}

#[test]
fn patterns_are_measured_with_short_messages() {
    let output = run(&["patterns", "--sizes", "4k"]);
    assert!(!output.status.success() && text(&output.stderr).contains("56 B"), "{}", text(&output.stderr));
}

#[test]
fn connect_takes_every_step() {
    let rows = rows(&["connect"]);
    assert_eq!(rows.len(), 5);
    let times: Vec<f64> = rows.iter().filter_map(|row| row["time_ns"]["median"].as_f64()).collect();
    assert!(times.iter().all(|time| *time > 0.0), "{rows:?}");
    assert!((times[..3].iter().sum::<f64>() - times[3]).abs() < 1.0, "the steps add up: {rows:?}");
}

#[test]
fn many_topics_share_one_connection() {
    const TOPICS: u64 = 20;
    let rows = rows(&["connect", "--topics", "20"]);
    assert_eq!(rows.iter().map(|row| row["depth"].as_u64()).collect::<Vec<_>>(), [Some(64), None]);
    for row in &rows {
        let [publishers, subscribers] =
            ["publishers_process", "subscribers_process"].map(|whose| &row[whose]);
        for process in [publishers, subscribers] {
            let figure = |key: &str| process[key]["median"].as_f64().expect("it is a number");
            assert_eq!(figure("connections"), 1.0, "{row}");
            assert!(figure("resident_bytes") > figure("private_bytes"), "{row}");
            assert!(figure("mappings") >= 2.0 * TOPICS as f64, "a ring and a cursor for each: {row}");
        }
        // Publishers keep what they offer; of the rest no descriptor is left.
        let descriptors =
            |process: &Value| process["descriptors"]["median"].as_f64().expect("it is a number");
        let (few, all) = (descriptors(subscribers), descriptors(publishers));
        assert!(few < TOPICS as f64 + 10.0 && all == few + TOPICS as f64, "{row}");
    }
}

#[test]
fn tables_name_what_the_ratios_are_to() {
    for (arguments, said) in [
        (&["fanout", "--quick"][..], "× one subscriber of the same round"),
        (&["policies", "--quick"], "× block of the same round"),
        (&["connect", "--quick"], "receive the first message"),
        (&["connect", "--quick", "--topics", "3"], "3 topics between two processes"),
    ] {
        let output = run(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(said), "{said} in {}", text(&output.stdout));
    }
}

#[test]
fn topics_belong_to_connect() {
    let output = run(&["latency", "--topics", "3"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("--topics belongs to `bench connect`"), "{}", text(&output.stderr));
}

/// The fear: whoever has too many topics is sent to look at a directory, which is in order.
#[test]
fn too_few_descriptors_are_an_error_that_says_so() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tidepost")]);
    shell.args(["bench", "connect", "--topics", "200", "--quick"]);
    let output = run_command(shell);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("raise the limit"), "{said}");
}
