//! `call` and `serve`. The fear: a command outlives those who asked for it, or says something that nobody gets to know.

use std::path::Path;

use rustix::process::{Pid, Signal, test_kill_process};

use crate::stage::{Scratch, Tool, json, until};

fn serve(scratch: &Scratch, options: &[&str], command: &[&str]) -> Tool {
    scratch.start(&[&["serve", "s"], options, &["--"], command].concat())
}

/// Calls the service, once there is a server.
fn call(scratch: &Scratch, options: &[&str], input: &[u8]) -> crate::stage::Outcome {
    scratch.run(&[&["call", "s", "--wait"], options].concat(), input)
}

#[test]
fn a_command_answers_what_it_is_asked() {
    let scratch = Scratch::new();
    let _server = serve(&scratch, &[], &["tr", "a-z", "A-Z"]);
    assert_eq!(call(&scratch, &[], b"high water\n").success(), "HIGH WATER\n");
    assert_eq!(call(&scratch, &["low water"], b"").success(), "LOW WATER\n");
    assert_eq!(call(&scratch, &["--raw", "ebb"], b"").success(), "EBB");
    assert_eq!(call(&scratch, &["--hex"], b"ab").success(), "4142\n");
    let object = json(&call(&scratch, &["--json", "flood"], b"").success());
    assert_eq!(object, serde_json::json!({ "length": 5, "text": "FLOOD" }));
    assert_eq!(call(&scratch, &["--raw"], b"").success(), "");
}

/// The fear: one of the two waits for the other to read before it reads.
#[test]
fn megabytes_go_through_a_command_and_back() {
    let scratch = Scratch::new();
    let _server = serve(&scratch, &[], &["cat"]);
    let bytes: Vec<u8> =
        (0..5_000_003u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let outcome = call(&scratch, &["--raw"], &bytes);
    assert!(outcome.status.success() && outcome.stdout == bytes, "{}", outcome.stderr);
}

#[test]
fn a_command_that_fails_is_a_failure_with_its_status_and_its_last_words() {
    let scratch = Scratch::new();
    let _server = serve(&scratch, &[], &["sh", "-c", "yes chatter | head -c 100000 >&2; cat >&2; exit 3"]);
    let outcome = call(&scratch, &["no such buoy"], b"");
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stdout.is_empty());
    let told = outcome.stderr;
    assert!(told.starts_with("tidepost: service `s` failed: `sh` ended with exit status: 3: "), "{told}");
    assert!(told.ends_with("chatter\nno such buoy\n") && told.len() < 5000, "{told}");
}

#[test]
fn what_keeps_a_command_from_answering_is_said() {
    let failing = |command: &[&str]| {
        let scratch = Scratch::new();
        let _server = serve(&scratch, &["--max-answer", "1k"], command);
        let outcome = call(&scratch, &[], b"");
        assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
        outcome.stderr
    };
    let killed = failing(&["sh", "-c", "kill -SEGV $$"]);
    assert!(killed.contains("`sh` ended with signal: 11"), "{killed}");
    let missing = failing(&["/no/such/command"]);
    assert!(missing.contains("exit status: 127: No such file or directory"), "{missing}");
    let endless = failing(&["yes"]);
    assert!(endless.contains("`yes` answers with more than 1024 B"), "{endless}");
}

/// The process that has left its number in this file.
fn process_of(file: &Path) -> Pid {
    until("a process to leave its number", || {
        let text = std::fs::read_to_string(file).ok()?;
        Pid::from_raw(text.strip_suffix('\n')?.parse().expect("it is a number"))
    })
}

fn wait_for_end(process: Pid) {
    // One that was orphaned has to be waited for by init, in its own time.
    let is_over = || match std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z')),
        Err(_) => test_kill_process(process).is_err(),
    };
    until("a process to end", || is_over().then_some(()));
}

/// A command that writes its number into a file, and those of two processes that it starts, one with a session of its own, and
/// then sleeps.
fn sleeper(scratch: &Scratch) -> (String, [std::path::PathBuf; 3]) {
    let files = ["child", "grandchild", "runaway"].map(|name| scratch.0.join(name));
    let [child, grandchild, runaway] = files.each_ref().map(|file| file.display());
    let away = format!("setsid sh -c 'echo $$ > {runaway}; exec sleep 1000'");
    let script = format!("sleep 1000 & echo $! > {grandchild}; {away} & echo $$ > {child}; wait");
    (script, files)
}

/// The fear: what has left the command's group, and keeps its pipes, is waited for without an end, and then forgotten.
#[test]
fn a_command_is_over_when_it_ends_whatever_it_has_started() {
    let scratch = Scratch::new();
    let file = scratch.0.join("runaway");
    let shown = file.display();
    let chatter = format!("trap \"\" PIPE; echo $$ > {shown}; while :; do echo chatter >&2; done");
    let script =
        format!("setsid sh -c '{chatter}' & until [ -s {shown} ]; do :; done; echo high; exit $(cat)");
    let _server = serve(&scratch, &[], &["sh", "-c", &script]);
    assert_eq!(call(&scratch, &["0"], b"").success(), "high\n");
    wait_for_end(process_of(&file));
    // The next command waits for the next one.
    std::fs::remove_file(&file).expect("it is there");
    let failed = call(&scratch, &["3"], b"");
    assert!(failed.stderr.contains("ended with exit status: 3"), "{}", failed.stderr);
    wait_for_end(process_of(&file));
}

#[test]
fn a_call_that_times_out_kills_the_command_and_what_it_has_started() {
    let scratch = Scratch::new();
    let (script, files) = sleeper(&scratch);
    let _server = serve(&scratch, &[], &["sh", "-c", &script]);
    // However slow the machine is: a command that was not started in time is started by the next call.
    until("a command to start", || {
        let outcome = call(&scratch, &["--timeout", "0.5"], b"");
        assert_eq!(outcome.status.code(), Some(1));
        assert!(outcome.stderr.contains("0.5") || outcome.stderr.contains("500ms"), "{}", outcome.stderr);
        let has_number = |file: &std::path::PathBuf| std::fs::metadata(file).is_ok_and(|file| file.len() > 0);
        files.iter().all(has_number).then_some(())
    });
    for file in &files {
        wait_for_end(process_of(file));
    }
}

#[test]
fn a_caller_that_is_killed_takes_the_command_with_it() {
    let scratch = Scratch::new();
    let (script, files) = sleeper(&scratch);
    let mut server =
        serve(&scratch, &[], &["sh", "-c", &format!("read line; [ $line = sleep ] || exit 0; {script}")]);
    let mut caller = scratch.start(&["call", "s", "--wait"]);
    caller.feed(b"sleep\n".to_vec());
    let processes = files.each_ref().map(|file| process_of(file));
    caller.signal(Signal::KILL);
    processes.into_iter().for_each(wait_for_end);
    assert_eq!(call(&scratch, &["--raw"], b"go on\n").success(), "", "the server goes on");
    assert!(server.is_running());
}

#[test]
fn a_server_that_ends_leaves_no_command_behind() {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let scratch = Scratch::new();
        let (script, files) = sleeper(&scratch);
        let server = serve(&scratch, &[], &["sh", "-c", &script]);
        let mut caller = scratch.start(&["call", "s", "--wait"]);
        caller.feed(Vec::new());
        let processes = files.each_ref().map(|file| process_of(file));
        server.signal(signal);
        assert!(!server.finish().status.success());
        processes.into_iter().for_each(wait_for_end);
        let outcome = caller.finish();
        assert_eq!(outcome.status.code(), Some(1));
        assert!(outcome.stderr.contains("the server has gone without an answer"), "{}", outcome.stderr);
    }
}

/// The fear: jobs wait for one another.
#[test]
fn several_requests_are_answered_at_once() {
    let scratch = Scratch::new();
    let marks = scratch.0.join("marks");
    std::fs::create_dir(&marks).expect("there is room");
    let marks = marks.display();
    let script = format!("touch {marks}/$$; while [ $(ls {marks} | wc -l) -lt 3 ]; do sleep 0.01; done; cat");
    let _server = serve(&scratch, &["--jobs", "3"], &["sh", "-c", &script]);
    let callers = ["a", "b", "c"].map(|text| (text, scratch.start(&["call", "s", "--wait", text])));
    for (text, caller) in callers {
        assert_eq!(caller.finish().success(), format!("{text}\n"));
    }
}

#[test]
fn calls_without_a_server_say_so_at_once() {
    let scratch = Scratch::new();
    let outcome = scratch.run(&["call", "s"], b"");
    assert_eq!((outcome.status.code(), outcome.stdout.len()), (Some(1), 0));
    assert_eq!(outcome.stderr, "tidepost: service `s` has no server; start one\n");
    let outcome = call(&scratch, &["--timeout", "0.1"], b"");
    assert!(outcome.stderr.contains("has no server"), "{}", outcome.stderr);
    let usage = scratch.run(&["serve", "s"], b"");
    assert!(usage.stderr.contains("COMMAND"), "{}", usage.stderr);
}

#[test]
fn a_service_of_any_type_can_be_called() {
    let scratch = Scratch::new();
    let node = scratch.node("typed");
    let mut server = node.service::<[f64; 2], f64>("s").server().expect("the service is ours");
    let handle = server.handle();
    let serving = std::thread::spawn(move || {
        server.serve(|[a, b]| if *b == 0.0 { Err("division by\nzero") } else { Ok(a / b) })
    });
    let request = |a: f64, b: f64| [a.to_ne_bytes(), b.to_ne_bytes()].concat();
    assert_eq!(call(&scratch, &[], &request(1.0, 4.0)).success(), "0.25\n");
    assert_eq!(json(&call(&scratch, &["--json"], &request(1.0, 4.0)).success())["fields"], 0.25);
    let failed = call(&scratch, &[], &request(1.0, 0.0));
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(failed.stderr, "tidepost: service `s` failed: division by\nzero\n");
    // The fear: a request that is none costs the caller, or the server, its connection.
    let short = call(&scratch, &[], b"short");
    assert!(short.stderr.contains("5 B are no message of type"), "{}", short.stderr);
    assert_eq!(node.violations().0, 0);
    assert_eq!(call(&scratch, &[], &request(6.0, 2.0)).success(), "3.0\n");
    handle.cancel();
    serving.join().expect("it does not panic").expect("serving ends with a cancel");
}
