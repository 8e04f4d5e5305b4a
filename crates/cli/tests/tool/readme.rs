//! The fear: what the README says to type does something else than the README says.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::stage::{Scratch, Tool};

/// The blocks of the README for a shell that use the tool, each with what the block after it says that they print.
fn blocks() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("it is there");
    let mut blocks = Vec::new();
    let mut parts = readme.split("```sh\n").skip(1);
    for part in parts.by_ref() {
        let (commands, rest) = part.split_once("```").expect("a block has an end");
        let output = rest.strip_prefix("\n\n```text\n").and_then(|output| output.split_once("```"));
        if let Some((output, _)) = output {
            blocks.push((commands.to_owned(), output.to_owned()));
        }
    }
    blocks
}

#[test]
fn what_the_readme_says_to_type_prints_what_it_says() {
    let blocks = blocks();
    assert!(blocks.len() >= 5, "one for each pattern: {blocks:?}");
    for (commands, output) in blocks {
        let scratch = Scratch::new();
        let tool = Path::new(env!("CARGO_BIN_EXE_tidepost")).parent().expect("it lies in a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.arg("-euc").arg(&commands).env("PATH", format!("{}:{path}", tool.display()));
        shell.env("TIDEPOST_DIR", scratch.0.join("domain")).current_dir(&scratch.0).process_group(0);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let group = Group(Tool::spawn(&mut shell));
        let outcome = group.finish();
        assert_eq!(outcome, output, "{commands}");
    }
}

/// A shell and what it has started, all of which ends with this.
struct Group(Tool);

impl Group {
    fn finish(self) -> String {
        let end = EndGroup(self.0.pid());
        let said = self.0.finish().success();
        drop(end);
        said
    }
}

struct EndGroup(u32);

impl Drop for EndGroup {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.0 as i32) {
            // Nobody is left if all went well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
