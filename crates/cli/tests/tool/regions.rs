//! The fear: what one tool writes another does not read; or a region looks free whose owner is there.

use tidepost::{Mutex, RwLock, Shared};

use crate::stage::{Scratch, json, until};

#[derive(Shared)]
#[repr(C)]
struct Account {
    opened: u64,
    balance: Mutex<i64>,
}

#[test]
fn what_one_writes_the_others_read() {
    let scratch = Scratch::new();
    let mut keeper = scratch.start(&["region", "create", "box", "--size", "1m"]);
    assert_eq!(keeper.line(), "1048576 B in region box");
    let letter: Vec<u8> = (0..300_000u32).map(|index| (index * 7) as u8).collect();
    scratch.run(&["region", "write", "box", "--offset", "100"], &letter).success();
    let read = scratch.run(&["region", "read", "box", "--offset", "100", "--len", "300000"], b"");
    assert!(read.status.success() && read.stdout == letter, "{}", read.stderr);
    scratch.run(&["region", "write", "box", "--offset", "16"], b"Hello\n").success();
    let dump = scratch.run(&["region", "dump", "box", "--offset", "16", "--len", "16"], b"").success();
    let zeros = ["00"; 10].join(" ");
    assert_eq!(dump, format!("00000010  48 65 6c 6c 6f 0a {zeros}  Hello...........\n"));
    let refused = |arguments: &[&str]| {
        let outcome = scratch.run(arguments, b"x");
        assert_eq!(outcome.status.code(), Some(1), "{arguments:?}");
        outcome.stderr
    };
    assert!(
        refused(&["region", "read", "box", "--offset", "1048570", "--len", "10"]).contains("do not lie in")
    );
    assert!(refused(&["region", "write", "box", "--offset", "1048576"]).contains("do not lie in"));
    assert!(refused(&["region", "create", "box", "--size", "1"]).contains("exists"));
    assert!(refused(&["region", "create", "nothing", "--size", "0"]).contains("there can be 1 to"));
    drop(keeper);
    assert!(refused(&["region", "dump", "box"]).contains("does not exist"));
}

#[test]
fn a_lock_that_is_had_is_listed_with_its_owner() {
    let scratch = Scratch::new();
    let node = scratch.node("bank");
    let account = node.region::<Account>("account").create_with(|account| account.opened = 7);
    let account = account.expect("it can be made");
    assert_eq!(account.opened, 7);
    let listed = |what: &str| {
        let text = scratch.run(&["region", "ls", "--json"], b"").success();
        let regions = json(&text)["regions"].clone();
        assert_eq!(
            (regions[0]["name"].as_str(), regions[0]["type"].as_str()),
            (Some("account"), Some("Account"))
        );
        assert_eq!(regions[0]["attached"][0]["pid"], std::process::id());
        assert_eq!(regions[0]["locks"][0]["name"], "balance", "{what}");
        regions[0]["locks"][0]["owner"].clone()
    };
    assert!(listed("free").is_null());
    let guard = account.balance.lock().expect("it is free");
    let owner = listed("had");
    assert_eq!((&owner["pid"], &owner["alive"]), (&json(&std::process::id().to_string()), &json("true")));
    let text = scratch.run(&["region", "ls"], b"").success();
    assert!(text.contains(&format!("balance of account: had by process {}", std::process::id())), "{text}");
    let lists = scratch.run(&["ls"], b"").success();
    assert!(lists.contains("region account") && lists.contains("holder"), "{lists}");
    drop(guard);
    assert!(listed("free again").is_null());
}

#[test]
fn changes_are_watched_and_a_file_stays() {
    let scratch = Scratch::new();
    let path = scratch.0.join("kept");
    let path = path.to_str().expect("it is text");
    let made = scratch.run(&["region", "create", "kept", "--size", "4k", "--file", path], b"").success();
    assert_eq!(made, format!("4096 B in {path}\n"));
    let node = scratch.node("writer");
    let region = node.region_bytes("").open_file(path, 1).expect("it is there");
    assert_eq!(region.len(), 4096);
    let box_ = node.region_bytes("box").create(64).expect("it can be made");
    let mut watch = scratch.start(&["region", "watch", "box", "--len", "32", "--every", "0.01"]);
    assert!(watch.line().starts_with("00000000  00 00") && watch.line().starts_with("00000010  00 00"));
    box_.write_at(16, b"news").expect("it is as long");
    assert!(watch.line().starts_with("00000010  6e 65 77 73"));
    drop(box_);
    until("the watcher has it alone", || node.region_bytes("box").attach().ok());
}

#[derive(Shared)]
#[repr(C)]
struct Library {
    shelf: RwLock<u64>,
    desks: [Mutex<u64>; 3],
}

#[test]
fn readers_and_locks_in_arrays_are_listed() {
    let scratch = Scratch::new();
    let node = scratch.node("library");
    let library = node.region::<Library>("library").create().expect("it can be made");
    let listed = || scratch.run(&["region", "ls"], b"").success();
    assert!(listed().contains("shelf of library: free") && !listed().contains("desks"), "{}", listed());
    let pid = std::process::id();
    let reader = library.shelf.read().expect("it is free");
    let desk = library.desks[2].lock().expect("it is free");
    let text = listed();
    assert!(text.contains(&format!("shelf of library: read by process {pid}")), "{text}");
    assert!(text.contains(&format!("desks[2] of library: had by process {pid}")), "{text}");
    assert!(!text.contains("desks[0]"), "{text}");
    let locks = json(&scratch.run(&["region", "ls", "--json"], b"").success())["regions"][0]["locks"].clone();
    assert_eq!(
        (&locks[0]["readers"][0]["pid"], &locks[0]["owner"]),
        (&json(&pid.to_string()), &json("null"))
    );
    drop((reader, desk));
    assert!(listed().contains("shelf of library: free"));
}

#[test]
fn a_region_is_removed() {
    let scratch = Scratch::new();
    let mut keeper = scratch.start(&["region", "create", "box", "--size", "4k"]);
    keeper.line();
    scratch.run(&["region", "rm", "box"], b"").success();
    let outcome = scratch.run(&["region", "rm", "box"], b"");
    assert!(
        outcome.status.code() == Some(1) && outcome.stderr.contains("does not exist"),
        "{}",
        outcome.stderr
    );
    let mut next = scratch.start(&["region", "create", "box", "--size", "8k"]);
    assert_eq!(next.line(), "8192 B in region box");
    let listed = scratch.run(&["region", "ls"], b"").success();
    assert!(listed.contains("8192") && !listed.contains("4096"), "{listed}");
}
