//! The fear: who dies with a lock takes it along; or somebody takes it from one who lives.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidepost::{LockError, Mutex, MutexGuard, Node, Region, RwLock, RwLockReadGuard, SeatError, Shared};

use crate::ledger::Random;
use crate::parts::{say, wait};
use crate::ptrace::{STEPS_MAX, Stepped, between_signals};
use crate::stage::{Actor, PATIENCE, Stage};

/// A lock around two numbers that are always equal, but for who changes them.
#[derive(Shared)]
#[repr(C)]
pub struct Pair {
    both: Mutex<[u64; 2]>,
    /// How often an owner was found dead.
    deaths: AtomicU64,
}

type Locked<'a> = Result<MutexGuard<'a, [u64; 2]>, LockError<MutexGuard<'a, [u64; 2]>>>;

fn pair(node: &Node) -> Region<Pair> {
    node.region::<Pair>("pair").patience(PATIENCE).open().expect("it is there or can be made")
}

/// The guard, repaired if its owner died; whether that was so.
fn repaired<'a>(locked: Locked<'a>) -> (MutexGuard<'a, [u64; 2]>, bool) {
    match locked {
        Ok(guard) => {
            assert_eq!(guard[0], guard[1], "a clean lock guards what is whole");
            (guard, false)
        }
        Err(LockError::OwnerDied(mut guard)) => {
            let most = guard[0].max(guard[1]);
            *guard = [most; 2];
            guard.mark_consistent();
            (guard, true)
        }
        Err(error) => panic!("{error}"),
    }
}

/// Takes the lock, and dies, stops or goes on with it as the test likes.
pub fn own(node: &Node) {
    let region = pair(node);
    let mut guard = region.both.lock().expect("it is free");
    guard[0] += 1;
    say("has it");
    wait();
    guard[1] += 1;
    drop(guard);
    say("gave it back");
    wait();
}

#[test]
fn who_dies_with_a_lock_is_followed_by_one_who_is_told() {
    let stage = Stage::new();
    let node = stage.node();
    let region = pair(&node);
    let mut owner = stage.start("lock-owner", "");
    owner.expect("has it");
    let error = region.both.lock_timeout(Duration::from_millis(30)).expect_err("it is had");
    let LockError::Owned { owner: named, waited } = &error else { panic!("{error}") };
    assert_eq!((named.process, named.is_alive, *waited), (owner.pid(), true, Duration::from_millis(30)));
    assert!(named.seen_for.is_some(), "we have seen it all the while");
    assert_eq!(region.both.owner().expect("we have a seat").map(|owner| owner.process), Some(owner.pid()));
    owner.kill();
    let (guard, had_died) = repaired(region.both.lock_timeout(PATIENCE));
    assert!(had_died && *guard == [1, 1]);
    drop(guard);
    assert!(!repaired(region.both.try_lock()).1, "it is repaired");
}

#[test]
fn who_does_not_repair_leaves_it_poisoned() {
    let stage = Stage::new();
    let node = stage.node();
    let region = pair(&node);
    let mut owner = stage.start("lock-owner", "");
    owner.expect("has it");
    owner.kill();
    drop(region.both.try_lock().expect_err("its owner died").into_guard());
    for _ in 0..2 {
        let error = region.both.lock().expect_err("nobody vouches for it");
        assert!(matches!(error, LockError::Poisoned(_)), "{error}");
    }
    let mut guard = region.both.lock().expect_err("nor now").into_guard().expect("it was taken");
    guard.mark_consistent();
    drop(guard);
    assert!(region.both.lock().is_ok());
    // A panic does the same.
    let panicked = std::thread::scope(|scope| {
        let work = || {
            let _guard = region.both.lock().expect("it is free");
            std::panic::resume_unwind(Box::new(()));
        };
        scope.spawn(work).join()
    });
    assert!(panicked.is_err() && matches!(region.both.lock(), Err(LockError::Poisoned(_))));
}

/// For a minute with `TIDEPOST_LONG`.
#[test]
fn who_is_stopped_keeps_it() {
    let stage = Stage::new();
    let node = stage.node();
    let region = pair(&node);
    let mut owner = stage.start("lock-owner", "");
    owner.expect("has it");
    owner.stop();
    let attempts = if std::env::var_os("TIDEPOST_LONG").is_some() { 600 } else { 3 };
    for _ in 0..attempts {
        let locked = region.both.lock_timeout(Duration::from_millis(100));
        assert!(matches!(&locked, Err(LockError::Owned { owner, .. }) if owner.is_alive), "it was robbed");
        assert!(matches!(region.both.try_lock(), Err(LockError::Owned { .. })), "it was robbed");
    }
    owner.signal(libc::SIGCONT);
    owner.go();
    owner.expect("gave it back");
    let (guard, had_died) = repaired(region.both.lock_timeout(PATIENCE));
    assert!(!had_died && *guard == [1, 1]);
}

#[test]
fn one_cannot_take_it_twice() {
    let stage = Stage::new();
    let node = stage.node();
    let region = pair(&node);
    let guard = region.both.lock().expect("it is free");
    assert!(matches!(region.both.lock(), Err(LockError::Recursive)));
    assert!(matches!(region.both.try_lock(), Err(LockError::Recursive)));
    drop(guard);
    let shelf = shelf(&node);
    let guard = shelf.write().expect("it is free");
    assert!(matches!(shelf.read(), Err(LockError::Recursive)));
    assert!(matches!(shelf.try_write(), Err(LockError::Recursive)));
    drop(guard);
}

/// Takes the shelf, then wants the pair.
pub fn lock_the_other_way(node: &Node) {
    let (region, shelf) = (pair(node), shelf(node));
    let _shelf = shelf.write().expect("it is free");
    say("has it");
    wait();
    match region.both.lock_timeout(Duration::from_millis(100)) {
        Err(LockError::Owned { owner, .. }) => say(owner.process),
        other => panic!("{other:?}"),
    }
    wait();
}

/// Two processes want what the other has: each is told who.
#[test]
fn a_deadlock_ends_with_the_names_of_the_owners() {
    let stage = Stage::new();
    let node = stage.node();
    let (region, shelf) = (pair(&node), shelf(&node));
    let _pair = region.both.lock().expect("it is free");
    let mut other = stage.start("deadlocked", "");
    other.expect("has it");
    other.go();
    let error = shelf.read_timeout(Duration::from_millis(100)).expect_err("it has it");
    assert!(matches!(&error, LockError::Owned { owner, .. } if owner.process == other.pid()), "{error}");
    assert!(error.to_string().contains(&format!("process {}", other.pid())), "{error}");
    other.expect(&std::process::id().to_string());
}

/// Forgets guards in a thread that ends, and lives on.
pub fn forget(node: &Node) {
    let (region, shelf) = (pair(node), shelf(node));
    std::thread::scope(|scope| {
        let forgetting = scope.spawn(|| {
            std::mem::forget(region.both.lock().expect("it is free"));
            std::mem::forget(shelf.read().expect("it is free"));
        });
        forgetting.join().expect("it does not panic");
    });
    say("forgot");
    wait();
}

/// Nobody can tell whether what a forgotten guard had lent is still looked at, but its process.
#[test]
fn a_thread_that_ends_and_keeps_its_guards_is_named_until_its_process_ends() {
    let stage = Stage::new();
    let node = stage.node();
    let (region, shelf) = (pair(&node), shelf(&node));
    let mut actor = stage.start("lock-forgetter", "");
    actor.expect("forgot");
    let is_named = |owner: tidepost::LockOwner| owner.process == actor.pid() && owner.is_alive;
    for _ in 0..2 {
        // Without a deadline: there is no use in waiting.
        assert!(matches!(region.both.lock(), Err(LockError::Abandoned { owner }) if is_named(owner)));
        assert!(matches!(shelf.write(), Err(LockError::Abandoned { owner }) if is_named(owner)));
    }
    assert!(matches!(region.both.try_lock(), Err(LockError::Abandoned { owner }) if is_named(owner)));
    assert!(matches!(shelf.try_write(), Err(LockError::Abandoned { owner }) if is_named(owner)));
    assert!(shelf.read().is_ok(), "it only reads");
    actor.kill();
    assert!(repaired(region.both.lock_timeout(PATIENCE)).1);
    assert!(shelf.write_timeout(PATIENCE).is_ok());
}

#[test]
fn what_a_leaked_guard_lends_is_changed_by_nobody() {
    let stage = Stage::new();
    let region: &'static _ = Box::leak(Box::new(shelf(&stage.node())));
    let lending = std::thread::spawn(|| {
        let guard: &'static RwLockReadGuard<'static, [u64; 2]> =
            Box::leak(Box::new(region.read().expect("it is free")));
        &guard[0]
    });
    let lent: &'static u64 = lending.join().expect("it does not panic");
    assert!(matches!(region.write(), Err(LockError::Abandoned { .. })));
    assert!(matches!(region.try_write(), Err(LockError::Abandoned { .. })));
    assert_eq!(*lent, 0);
}

thread_local! {
    static KEPT: RefCell<Option<MutexGuard<'static, [u64; 2]>>> = const { RefCell::new(None) };
}

#[test]
fn a_guard_that_is_the_last_thing_of_its_thread_is_given_back() {
    let stage = Stage::new();
    let region: &'static _ = Box::leak(Box::new(pair(&stage.node())));
    for _ in 0..3 {
        let thread = std::thread::spawn(|| {
            // Made before the thread's first lock, and so dropped after what the thread has for locks.
            KEPT.with(|kept| kept.borrow().is_none());
            let guard = region.both.try_lock().expect("it was given back");
            KEPT.set(Some(guard));
        });
        thread.join().expect("it does not panic");
    }
    assert!(!repaired(region.both.try_lock()).1);
}

/// Waits for a lock while signals come all the time.
pub fn wait_under_signals(node: &Node) {
    extern "C" fn ignore(_: libc::c_int) {}
    let region = pair(node);
    region.both.owner().expect("there are seats");
    let action = libc::sigaction {
        sa_sigaction: ignore as *const () as usize,
        // SAFETY: a mask of no signals is all zero.
        sa_mask: unsafe { std::mem::zeroed() },
        sa_flags: libc::SA_RESTART,
        sa_restorer: None,
    };
    // SAFETY: live local values, and a handler that does nothing.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    // SAFETY: no pointers.
    let (process, thread) = unsafe { (libc::getpid(), libc::syscall(libc::SYS_gettid)) };
    std::thread::spawn(move || {
        loop {
            // SAFETY: no pointers; to the thread that waits, which has a handler.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGALRM) };
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    say("waits");
    let had_died = repaired(region.both.lock()).1;
    say(if had_died { "told" } else { "not told" });
    wait();
}

#[test]
fn a_death_is_noticed_however_many_signals_come() {
    let stage = Stage::new();
    let mut owner = stage.start("lock-owner", "");
    owner.expect("has it");
    let mut waiter = stage.start("signalled-waiter", "");
    waiter.expect("waits");
    owner.kill();
    waiter.expect("told");
}

/// Forks while it has the lock: the child is told, and gives nothing back.
pub fn fork(node: &Node) {
    let region = pair(node);
    let guard = region.both.lock().expect("it is free");
    // SAFETY: the child touches what it inherited only through this library, and ends without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_told = matches!(region.both.lock(), Err(LockError::Seat(SeatError::Forked)))
            && matches!(region.both.try_lock(), Err(LockError::Seat(SeatError::Forked)));
        drop(guard);
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if is_told { 7 } else { 8 }) };
    }
    let mut status = 0;
    // SAFETY: the status is a live local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    say(format!("the child said {}", libc::WEXITSTATUS(status)));
    wait();
    drop(guard);
    say("gave it back");
    wait();
}

#[test]
fn a_forked_child_gives_back_nothing_of_its_parents() {
    let stage = Stage::new();
    let node = stage.node();
    let region = pair(&node);
    let mut parent = stage.start("lock-forker", "");
    parent.expect("the child said 7");
    assert!(matches!(region.both.try_lock(), Err(LockError::Owned { .. })));
    parent.go();
    parent.expect("gave it back");
    assert!(!repaired(region.both.try_lock()).1);
}

/// Forks while it has the lock, and is killed; the child lives on.
pub fn leave_a_child(node: &Node) {
    let region = pair(node);
    let guard = region.both.lock().expect("it is free");
    // SAFETY: the child makes system calls alone, and ends by itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // The test ends it, unless it has failed.
        std::thread::sleep(PATIENCE);
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(0) };
    }
    say(child);
    wait();
    drop(guard);
}

#[test]
fn a_child_that_lives_on_does_not_keep_its_parents_locks() {
    let stage = Stage::new();
    let region = pair(&stage.node());
    let mut parent = stage.start("lock-parent", "");
    let child: i32 = parent.hear().parse().expect("it is a number");
    parent.kill();
    let (_guard, had_died) = repaired(region.both.lock_timeout(PATIENCE / 2));
    assert!(had_died);
    // SAFETY: no pointers; the child of the process that we started, which waits for this, so that the number is still its own.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0, "it has lived all the while");
}

/// Takes the lock, changes what it guards, and gives it back, between two marks.
pub fn lock_stepped(node: &Node) {
    let region = pair(node);
    drop(repaired(region.both.lock()));
    between_signals(|| {
        let (mut guard, _) = repaired(region.both.lock());
        guard[0] += 1;
        guard[1] += 1;
    });
    wait();
}

/// Kills a process after so many instructions of taking, using and giving back; whether its death was told.
fn kill_after(steps: u64) -> bool {
    let stage = Stage::new();
    let node = stage.node();
    let region = pair(&node);
    let mut actor = stage.start("stepped-locker", "");
    let stepped = Stepped::new(&mut actor);
    let is_within = (0..steps).all(|_| stepped.step());
    assert!(is_within, "it has as many instructions each time, or a few more");
    actor.signal_kill();
    stepped.bury();
    actor.kill();
    let (guard, had_died) = repaired(region.both.lock_timeout(PATIENCE));
    assert!(guard[0] <= 1 && guard[0] == guard[1]);
    drop(guard);
    assert!(!repaired(region.both.try_lock()).1, "it is told once");
    had_died
}

/// The lock is free, or somebody is told; whatever the instruction. All of them with `TIDEPOST_LONG`.
#[test]
fn the_owner_may_die_at_every_instruction() {
    let stage = Stage::new();
    let _region = pair(&stage.node());
    let mut actor = stage.start("stepped-locker", "");
    let stepped = Stepped::new(&mut actor);
    let mut steps = 0;
    while stepped.step() {
        steps += 1;
        assert!(steps < STEPS_MAX, "more than {STEPS_MAX} instructions");
    }
    stepped.let_go();
    // Addresses differ from process to process, and with them a few instructions.
    let last = steps - 20;
    let stride = if std::env::var_os("TIDEPOST_LONG").is_some() { 1 } else { 1 + last / 40 };
    let told = (1..last).step_by(stride as usize).filter(|after| kill_after(*after)).count();
    println!(
        "{steps} instructions; of those that were the last, {told} left the lock to somebody who was told"
    );
    assert!(told > 2, "of {steps} instructions {told} left it locked");
}

/// Takes and gives back for ever, with both numbers changed in between.
pub fn lock_for_ever(node: &Node, seed: u64) {
    let region = pair(node);
    let mut random = Random::new(seed);
    say("locking");
    loop {
        let (mut guard, had_died) = repaired(region.both.lock());
        region.deaths.fetch_add(had_died.into(), Ordering::Relaxed);
        guard[0] += 1;
        if random.below(50) == 0 {
            std::thread::yield_now();
        }
        guard[1] += 1;
    }
}

/// Processes that lock under load are killed at any instant: never a hang, never two owners.
#[test]
fn owners_and_waiters_are_killed_at_random() {
    let kills = if std::env::var_os("TIDEPOST_LONG").is_some() { 10_000 } else { 120 };
    let stage = Stage::new();
    let node = stage.node();
    let region = pair(&node);
    let mut random = Random::new(crate::chaos::seed());
    let start = |random: &mut Random| stage.start("endless-locker", &random.next().to_string());
    let mut cast: Vec<Actor> = (0..3).map(|_| start(&mut random)).collect();
    cast.iter_mut().for_each(|actor| actor.expect("locking"));
    let mut waits = Vec::new();
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        let place = random.below(cast.len() as u64) as usize;
        std::mem::replace(&mut cast[place], start(&mut random)).kill();
        let begun = Instant::now();
        let (guard, had_died) = repaired(region.both.lock_timeout(PATIENCE));
        if had_died {
            waits.push(begun.elapsed());
        }
        drop(guard);
        region.deaths.fetch_add(had_died.into(), Ordering::Relaxed);
        cast[place].expect("locking");
        assert!(cast.iter_mut().all(|actor| !actor.has_ended()), "it finds nothing that is not whole");
    }
    let deaths = region.deaths.load(Ordering::Relaxed);
    waits.sort_unstable();
    let within =
        |part: usize| waits.get(waits.len() * part / 100).or(waits.last()).copied().unwrap_or_default();
    println!(
        "{kills} kills, {deaths} of owners; {} times it was we who had the lock next: half of them within {:?} of their end, 99 % {:?}, \
         all {:?}",
        waits.len(),
        within(50),
        within(99),
        within(100)
    );
    assert!(deaths > 0, "somebody dies with it now and then");
}

/// A value of two equal numbers that many read.
fn shelf(node: &Node) -> Region<RwLock<[u64; 2]>> {
    node.region::<RwLock<[u64; 2]>>("shelf").patience(PATIENCE).open().expect("it is there or can be made")
}

/// Reads, or writes, and holds on to the lock as long as the test likes.
pub fn share(node: &Node, writes: bool) {
    let shelf = shelf(node);
    if writes {
        let mut guard = shelf.write().expect("nobody has died");
        guard[0] += 1;
        say("has it");
        wait();
        guard[1] += 1;
    } else {
        let _guard = shelf.read().expect("nobody has died");
        say("has it");
        wait();
    }
    say("gave it back");
    wait();
}

#[test]
fn readers_share_a_writer_does_not_and_the_dead_do_not_count() {
    let stage = Stage::new();
    let node = stage.node();
    let region = shelf(&node);
    let mut readers = [(); 2].map(|()| stage.start("sharer", "0"));
    readers.iter_mut().for_each(|reader| reader.expect("has it"));
    let ours = region.read().expect("readers share");
    let again = region.try_read().expect("and may read again");
    assert!(matches!(region.try_write(), Err(LockError::Recursive)));
    drop((ours, again));
    let error = region.write_timeout(Duration::from_millis(30)).expect_err("they read");
    let pids = readers.each_ref().map(Actor::pid);
    assert!(matches!(&error, LockError::Owned { owner, .. } if pids.contains(&owner.process)), "{error}");
    assert!(matches!(region.try_write(), Err(LockError::Owned { .. })));
    // One dies, and gives its share back; the other does so itself.
    let [first, mut second] = readers;
    first.kill();
    second.go();
    second.expect("gave it back");
    *region.write_timeout(PATIENCE).expect("nobody reads") = [5, 5];
    // A writer dies: readers are warned, the next writer is told.
    let mut writer = stage.start("sharer", "1");
    writer.expect("has it");
    assert!(
        matches!(region.try_read(), Err(LockError::Owned { owner, .. }) if owner.process == writer.pid())
    );
    writer.kill();
    let guard = region.read_timeout(PATIENCE).expect_err("nobody vouches for it").into_guard();
    assert_eq!(*guard.expect("it may be looked at"), [6, 5]);
    let mut guard = region.try_write().expect_err("nobody does").into_guard().expect("it was taken");
    *guard = [6, 6];
    guard.mark_consistent();
    drop(guard);
    assert_eq!(*region.read().expect("it is repaired"), [6, 6]);
    assert_eq!(region.writer(), Ok(None));
}

#[test]
fn a_thread_shares_in_so_many_locks_at_once() {
    let stage = Stage::new();
    let node = stage.node();
    let locks = node.region::<[RwLock<u64>; 9]>("many").create().expect("it can be made");
    let guards: Vec<_> = locks[..8].iter().map(|lock| lock.read().expect("it is free")).collect();
    let error = locks[8].read().expect_err("that is one more");
    assert!(matches!(error, LockError::Shares { limit: 8 }), "{error}");
    drop(guards);
    assert!(locks[8].read().is_ok());
}

/// Reads and writes for ever.
pub fn share_for_ever(node: &Node, seed: u64) {
    let shelf = shelf(node);
    let mut random = Random::new(seed);
    say("sharing");
    loop {
        if random.below(4) > 0 {
            match shelf.read() {
                Ok(guard) => assert_eq!(guard[0], guard[1], "what nobody warned of is whole"),
                Err(LockError::Poisoned(_)) => {}
                Err(error) => panic!("{error}"),
            }
            continue;
        }
        let mut guard = match shelf.write() {
            Ok(guard) => guard,
            Err(LockError::OwnerDied(mut guard) | LockError::Poisoned(mut guard)) => {
                *guard = [guard[0].max(guard[1]); 2];
                guard.mark_consistent();
                guard
            }
            Err(error) => panic!("{error}"),
        };
        guard[0] += 1;
        if random.below(50) == 0 {
            std::thread::yield_now();
        }
        guard[1] += 1;
    }
}

#[test]
fn readers_and_writers_are_killed_at_random() {
    let kills = if std::env::var_os("TIDEPOST_LONG").is_some() { 10_000 } else { 60 };
    let stage = Stage::new();
    let region = shelf(&stage.node());
    let mut random = Random::new(crate::chaos::seed());
    let start = |random: &mut Random| stage.start("endless-sharer", &random.next().to_string());
    let mut cast: Vec<Actor> = (0..3).map(|_| start(&mut random)).collect();
    cast.iter_mut().for_each(|actor| actor.expect("sharing"));
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        let place = random.below(cast.len() as u64) as usize;
        std::mem::replace(&mut cast[place], start(&mut random)).kill();
        match region.write_timeout(PATIENCE) {
            Ok(guard) => assert_eq!(guard[0], guard[1], "what nobody warned of is whole"),
            Err(LockError::OwnerDied(mut guard) | LockError::Poisoned(mut guard)) => {
                *guard = [guard[0].max(guard[1]); 2];
                guard.mark_consistent();
            }
            Err(error) => panic!("{error}"),
        }
        cast[place].expect("sharing");
        assert!(cast.iter_mut().all(|actor| !actor.has_ended()), "it finds nothing that is not whole");
    }
}
