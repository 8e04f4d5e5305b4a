//! The fear: the first program that a newcomer copies does not work.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// An example, built by cargo for these tests.
fn example(name: &str) -> Command {
    let own = std::env::current_exe().expect("a process has an executable");
    let profile = own.parent().and_then(Path::parent).expect("tests lie in a directory of the profile's");
    Command::new(profile.join("examples").join(name))
}

/// A private domain, removed at the end.
struct Domain(PathBuf);

impl Domain {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tidepost-readme-{}-{name}", std::process::id())))
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_readme_shows_the_examples_as_they_are() {
    let readme = read("README.md");
    for example in ["hello_publisher", "hello_subscriber"] {
        let file = read(&format!("examples/{example}.rs"));
        let (_, source) = file.split_once("\n\n").expect("a line says what the program does");
        assert!(
            readme.contains(&format!("```rust,no_run\n{source}```")),
            "examples/{example}.rs in README.md"
        );
        let statements = source.lines().filter(|line| line.starts_with("    ")).count();
        assert!(statements <= 5, "{example} has {statements} lines");
    }
}

fn greet(order: [&str; 2]) {
    let domain = Domain::new(order[0]);
    let start = |name: &str| {
        let mut command = example(name);
        command
            .env("TIDEPOST_DIR", &domain.0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo builds the examples")
    };
    let outputs = order.map(start).map(|child| child.wait_with_output().expect("it is our child"));
    assert!(outputs.iter().all(|output| output.status.success()));
    let said: Vec<u8> = outputs.into_iter().flat_map(|output| output.stdout).collect();
    assert_eq!(String::from_utf8_lossy(&said), "hello, world\n");
}

#[test]
fn hello_world_works_with_the_publisher_first() {
    greet(["hello_publisher", "hello_subscriber"]);
}

#[test]
fn hello_world_works_with_the_subscriber_first() {
    greet(["hello_subscriber", "hello_publisher"]);
}
