//! The fear: a directory that is not what it should be, or a name that is none, is used all the same, or takes the program
//! along.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tidepost::{DirectoryProblem, NameError, Node, OpenError, Overflow, TopicError};

use crate::parts::say;
use crate::stage::{PATIENCE, Stage, skip};

/// A user that is nobody's here.
const SOMEBODY_ELSE: u32 = 12_345;

fn open(directory: &Path) -> Result<Node, OpenError> {
    Node::builder().name("test").directory(directory).open()
}

fn problem(directory: &Path) -> DirectoryProblem {
    match open(directory) {
        Err(OpenError::Directory { path, problem }) => {
            assert!(
                path.starts_with(directory),
                "the error names the directory, or one in it: {}",
                path.display()
            );
            problem
        }
        other => panic!("{} must be refused, not {other:?}", directory.display()),
    }
}

fn allow(directory: &Path, mode: u32) {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(mode)).expect("it is ours");
}

fn made(stage: &Stage, name: &str) -> PathBuf {
    let path = stage.directory().join(name);
    std::fs::create_dir(&path).expect("the stage is ours");
    allow(&path, 0o700);
    path
}

fn is_root(stage: &Stage) -> bool {
    stage.directory().metadata().expect("it exists").uid() == 0
}

/// Texts that are no names, and whether this error says why.
type Case = (&'static str, String, fn(&NameError) -> bool);

fn cases() -> Vec<Case> {
    vec![
        ("empty", String::new(), |error| matches!(error, NameError::Empty)),
        ("too long", "x".repeat(201), |error| {
            matches!(error, NameError::TooLong { bytes: 201, limit: 200, .. })
        }),
        ("too long as a file", "/".repeat(100), |error| {
            matches!(error, NameError::TooLong { bytes: 300, .. })
        }),
        ("this directory", ".".into(), |error| matches!(error, NameError::Reserved { .. })),
        ("the one above", "..".into(), |error| matches!(error, NameError::Reserved { .. })),
        ("the end of a text in C", "a\0b".into(), |error| matches!(error, NameError::Control { .. })),
        ("two lines", "a\nb".into(), |error| matches!(error, NameError::Control { .. })),
    ]
}

#[test]
fn what_is_no_name_is_refused_wherever_a_name_is_given() {
    let stage = Stage::new();
    let node = stage.node();
    for (what, text, is_it) in cases() {
        let named = Node::builder().name(text.as_str()).directory(stage.directory()).open();
        assert!(matches!(&named, Err(OpenError::Name(error)) if is_it(error)), "{what}: {named:?}");
        let publisher = node.topic::<u8>(&text).publisher(Overflow::Block);
        assert!(matches!(&publisher, Err(TopicError::Name(error)) if is_it(error)), "{what}: {publisher:?}");
        let subscriber = node.topic::<u8>(&text).subscriber();
        assert!(
            matches!(&subscriber, Err(TopicError::Name(error)) if is_it(error)),
            "{what}: {subscriber:?}"
        );
        let domain = Node::builder().name("test").domain(text.as_str()).open();
        assert!(matches!(&domain, Err(OpenError::Name(error)) if is_it(error)), "{what}: {domain:?}");
    }
}

/// The longest and the strangest of them.
#[test]
fn what_is_a_name_names_a_topic() {
    let stage = Stage::new();
    let here = Node::builder().name("ein Schiff / №1").directory(stage.directory()).open();
    let (here, there) = (here.expect("it is a name"), stage.node());
    let long = "x".repeat(200);
    for name in ["a/../../b", "...", " ", "%2f", "\\", "-rf *", long.as_str()] {
        let mut subscriber = here.topic::<u8>(name).subscriber().expect("it is a name");
        let mut publisher = there.topic::<u8>(name).publisher(Overflow::Block).expect("it is a name");
        publisher.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
        publisher.send(&7).expect("there is room");
        let sample = subscriber.recv_timeout(PATIENCE).expect("receiving succeeds");
        assert_eq!(sample.as_deref(), Some(&7), "{name}");
    }
    let outside = std::fs::read_dir(stage.directory()).expect("it is ours").count();
    assert_eq!(
        outside, 3,
        "names do not climb: the domain has its directories of nodes, of names and of claims"
    );
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let stage = Stage::new();
    for mode in [0o720, 0o702, 0o770, 0o777, 0o1777] {
        let path = made(&stage, &format!("{mode:o}"));
        allow(&path, mode);
        assert_eq!(problem(&path), DirectoryProblem::Writable { mode });
        allow(&path, 0o755);
        drop(open(&path).expect("reading does no harm"));
    }
}

/// Also where somebody makes the domain's own directories before it does.
#[test]
fn a_directory_in_the_domain_that_others_may_write_is_refused() {
    let stage = Stage::new();
    let domain = made(&stage, "domain");
    drop(open(&domain).expect("it is ours"));
    let inside = std::fs::read_dir(&domain).expect("it is ours").map(|entry| entry.expect("it is").path());
    let inside: Vec<PathBuf> = inside.collect();
    assert!(!inside.is_empty());
    for path in inside {
        allow(&path, 0o777);
        let error = open(&domain).expect_err("others may write");
        let is_named = matches!(&error, OpenError::Directory { path: named, .. } if *named == path);
        assert!(is_named, "{error}");
        allow(&path, 0o700);
    }
    drop(open(&domain).expect("it is well again"));
}

#[test]
fn what_is_no_directory_is_refused() {
    let stage = Stage::new();
    let (good, file, link, dangling) = (
        made(&stage, "good"),
        stage.directory().join("file"),
        stage.directory().join("link"),
        stage.directory().join("dangling"),
    );
    std::fs::write(&file, "mine").expect("the stage is ours");
    symlink(&good, &link).expect("the stage is ours");
    symlink(stage.directory().join("nowhere"), &dangling).expect("the stage is ours");
    for path in [&file, &link, &dangling] {
        assert_eq!(problem(path), DirectoryProblem::NotADirectory, "{}", path.display());
    }
    assert_eq!(std::fs::read(&file).expect("it is still there"), b"mine");
    assert_eq!(std::fs::read_dir(&good).expect("it is ours").count(), 0, "nothing went through the link");
    assert!(!stage.directory().join("nowhere").exists());
    let below = problem(&file.join("below"));
    assert!(matches!(below, DirectoryProblem::Inaccessible(_)), "{below}");
    let impossible = problem(Path::new("/tmp/tidepost\0test"));
    assert!(matches!(impossible, DirectoryProblem::Inaccessible(_)), "{impossible}");
}

/// A path longer than an address of a socket.
#[test]
fn a_domain_may_lie_deep() {
    let stage = Stage::new();
    let deep = (0..8).fold(stage.directory().to_owned(), |path, _| path.join("x".repeat(100)));
    let (here, there) = (open(&deep).expect("it can be made"), open(&deep).expect("it is there"));
    let mut subscriber = here.topic::<u8>("deep").subscriber().expect("the types agree");
    let mut publisher = there.topic::<u8>("deep").publisher(Overflow::Block).expect("the topic is ours");
    publisher.wait_for_subscribers(1, PATIENCE).expect("it subscribed");
    publisher.send(&7).expect("there is room");
    assert_eq!(subscriber.recv_timeout(PATIENCE).expect("receiving succeeds").as_deref(), Some(&7));
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let stage = Stage::new();
    if !is_root(&stage) {
        skip("only root can give a directory away");
        return;
    }
    let path = made(&stage, "given-away");
    std::os::unix::fs::chown(&path, Some(SOMEBODY_ELSE), None).expect("root may do so");
    assert_eq!(problem(&path), DirectoryProblem::Owner { owner: SOMEBODY_ELSE, ours: 0 });
}

/// A directory of ours that we may not write; root may write anywhere.
fn check_read_only() {
    let stage = Stage::new();
    let path = made(&stage, "read-only");
    allow(&path, 0o500);
    assert_eq!(problem(&path), DirectoryProblem::Inaccessible(rustix::io::Errno::ACCESS));
    let below = problem(&path.join("below"));
    assert_eq!(below, DirectoryProblem::Inaccessible(rustix::io::Errno::ACCESS));
    allow(&path, 0o700);
    drop(open(&path).expect("it is well again"));
}

/// Goes on as another user, without the rights of root.
pub fn lose_privileges() {
    // SAFETY: no pointers; the library's wrapper changes every thread of this process.
    assert_eq!(unsafe { libc::setuid(SOMEBODY_ELSE) }, 0, "root may do so");
    check_read_only();
    say("refused");
    // The node of this part belongs to root, and its names are removed by the next that opens the domain.
    std::process::exit(0);
}

#[test]
fn a_directory_that_we_may_not_write_is_refused() {
    let stage = Stage::new();
    if !is_root(&stage) {
        return check_read_only();
    }
    let mut unprivileged = stage.start("unprivileged", "");
    unprivileged.expect("refused");
    unprivileged.ends();
}
